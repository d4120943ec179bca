"""What must hold for every field list of HTTP/2 that becomes a RequestHead. libFuzzer calls fuzz_one(); see ci/fuzz.

Rules: of the first byte, bit 0 says that no body follows, bit 1 that the rest is a field block; else it is text, a field on
each line, its name and value with a tab between, and is coded first. The lines lie in a block of the exact size that
read_http2_head() may use. What is taken is written as HTTP/1.1, which our parser of that must read as the same single request.
"""
from libc.stdint cimport uint8_t, uint32_t
from libc.stdio cimport fprintf, snprintf, stderr
from libc.stdlib cimport abort, free, malloc
from libc.string cimport memchr, memcmp, memcpy
from gwfast.http.head cimport *
from gwfast.http2.head cimport MALFORMED, WEBSOCKET_LINES, list_most, read_http2_head, read_http2_trailers
from gwfast.http2.hpack cimport *
from gwfast.http1.parser cimport parse_request


cdef void must(bint holds, const char *what) noexcept nogil:
    if not holds:
        fprintf(stderr, b"broken: %s\n", what)
        abort()


cdef bint is_clean(const char *at, uint32_t n) noexcept nogil:
    cdef uint32_t i
    for i in range(n):
        if at[i] == b'\r' or at[i] == b'\n' or at[i] == 0:
            return False
    return True


cdef bint within(const Slice *slice, const char *at, size_t n) noexcept nogil:
    return slice.at >= at and slice.at + slice.n <= at + n


# A string literal without Huffman's code (RFC 7541 5.2); there is room.
cdef uint8_t *put_string(uint8_t *to, const uint8_t *at, uint32_t n) noexcept nogil:
    cdef uint32_t left = n
    if n < 127:
        to[0] = <uint8_t>n
        to += 1
    else:
        to[0] = 127
        left -= 127
        to += 1
        while left >= 128:
            to[0] = <uint8_t>(128 | left & 127)
            left >>= 7
            to += 1
        to[0] = <uint8_t>left
        to += 1
    if n:
        memcpy(to, at, n)
    return to + n


# The field block of text; `to` has 12 bytes for each of the text's, and is what is returned less its length.
cdef uint32_t put_text(uint8_t *to, const uint8_t *at, uint32_t n) noexcept nogil:
    cdef uint8_t *start = to
    cdef const uint8_t *end = at + n
    cdef const uint8_t *line
    cdef const uint8_t *tab
    while at < end:
        line = <const uint8_t *>memchr(at, b'\n', end - at)
        if line == NULL:
            line = end
        tab = <const uint8_t *>memchr(at, b'\t', line - at)
        if tab == NULL:
            tab = line
        to[0] = 0
        to = put_string(to + 1, at, <uint32_t>(tab - at))
        to = put_string(to, tab + 1, <uint32_t>(line - tab - 1)) if tab < line else put_string(to, tab, 0)
        at = line + 1
    return <uint32_t>(to - start)


cdef void check_fields(const RequestHead *head, const char *lines, size_t room) noexcept nogil:
    cdef uint32_t i, ids = 0, hosts = 0, cookies = 0
    cdef const Field *field
    must(head.count <= head.most, b"count")
    for i in range(head.count):
        field = &head.fields[i]
        must(field.name >= lines and field.name + field.line_len <= lines + room, b"line in the block")
        must(field.name_len > 0 and is_clean(field.name, field.name_len) and field.name[0] != b':', b"name")
        must(is_clean(field.value, field.value_len), b"value")
        must(field.value == field.name + field.name_len + 2 and memcmp(field.value - 2, b": ", 2) == 0, b"between them")
        must(field.line_len == field.name_len + field.value_len + 4, b"line_len")
        must(memcmp(field.value + field.value_len, b"\r\n", 2) == 0, b"end of a line")
        must(field.hash == name_hash(field.name, field.name_len), b"hash")
        must(field.id < 32, b"no pseudo-header field")
        must(field.id != FIELD_CONNECTION and field.id != FIELD_TRANSFER_ENCODING and field.id != FIELD_KEEP_ALIVE, b"of a connection")
        must(field.id != FIELD_UPGRADE or head.upgrade and field.flags & FIELD_HOP, b"upgrade")
        ids |= <uint32_t>1 << field.id if field.id else 0
        hosts += field.id == FIELD_HOST
        cookies += field.id == FIELD_COOKIE and not field.flags & FIELD_HOP
    must(ids == head.ids and hosts <= 1 and cookies <= 1, b"ids")


cdef void check_head(const RequestHead *head, const char *lines, size_t room, bint ended) noexcept nogil:
    must(head.minor == 2 and head.keep_alive and not head.absolute, b"version")
    must(head.upgrade or within(&head.method, lines, room), b"method")
    must(within(&head.target, lines, room) and is_clean(head.target.at, head.target.n), b"target")
    must(within(&head.path, lines, room) and (head.query.at == NULL or within(&head.query, lines, room)), b"path and query")
    must(head.authority.n and within(&head.authority, lines, room), b"authority")
    must(head.host.n and head.host.n < MAX_HOST and within(&head.host, head.host_room, MAX_HOST), b"host")
    must(within(&head.match_path, lines, room) or within(&head.match_path, head.room, 3 * head.longest), b"match_path")
    must(head.match_path.n > 0 and (head.match_path.at[0] == b'/' or head.match_path.n == 1), b"match_path from the root")
    must(head.slash_path.n == 0 or within(&head.slash_path, head.room, 3 * head.longest), b"slash_path")
    must(head.framing <= FRAMING_CHUNKED and not (ended and head.framing == FRAMING_CHUNKED), b"framing")
    must(head.framing == FRAMING_LENGTH or head.content_length == 0, b"content_length")
    must(not ended or head.content_length == 0 and not head.expect and not head.upgrade, b"no body")
    must(head.head_len <= room, b"head_len")


cdef bint alike(const Slice *a, const Slice *b) noexcept nogil:
    return a.n == b.n and (a.n == 0 or memcmp(a.at, b.at, a.n) == 0)


cdef char *put(char *to, const char *at, size_t n) noexcept nogil:
    memcpy(to, at, n)
    return to + n


# As it goes to a backend of HTTP/1.1; `to` has room.
cdef uint32_t as_http1(const RequestHead *head, char *to) noexcept nogil:
    cdef char *at = to
    cdef uint32_t i
    cdef const Field *field
    at = put(put(at, head.method.at, head.method.n), b" ", 1)
    at = put(put(at, head.target.at, head.target.n), b" HTTP/1.1\r\nHost: ", 17)
    at = put(put(at, head.authority.at, head.authority.n), b"\r\n", 2)
    for i in range(head.count):
        field = &head.fields[i]
        if not field.flags & FIELD_HOP and field.id != FIELD_HOST and field.id != FIELD_CONTENT_LENGTH and field.id != FIELD_EXPECT:
            at = put(at, field.name, field.line_len)
    if head.framing == FRAMING_CHUNKED:
        at = put(at, b"Transfer-Encoding: chunked\r\n", 28)
    elif head.framing == FRAMING_LENGTH:
        at += snprintf(at, 64, b"Content-Length: %llu\r\n", <unsigned long long>head.content_length)
    return <uint32_t>(put(at, b"\r\n", 2) - to)


cdef void check_same(const RequestHead *head, size_t room) noexcept nogil:
    cdef RequestHead again
    cdef HeadLimits most
    cdef char *written
    cdef char *exact
    cdef uint32_t n
    if head.count + 2 > COUNT_MOST:
        return
    most.head = most.line = 1 << 20
    most.count = COUNT_MOST
    must(room_for_request(&again, &most) == 0, b"memory")
    written = <char *>malloc(room + head.authority.n + 256)
    n = as_http1(head, written)
    exact = <char *>malloc(n)
    memcpy(exact, written, n)
    must(parse_request(exact, n, 0, &most, &again) == <int>n, b"HTTP/1.1 reads it, to its end")
    must(alike(&again.method, &head.method) and again.method_id == head.method_id, b"the same method")
    must(alike(&again.target, &head.target) and alike(&again.match_path, &head.match_path), b"the same target")
    must(alike(&again.slash_path, &head.slash_path), b"the same path with slashes")
    must(alike(&again.query, &head.query) and (again.query.at == NULL) == (head.query.at == NULL), b"the same query")
    must(alike(&again.host, &head.host), b"the same host")
    must(again.framing == head.framing and again.content_length == head.content_length, b"the same length")
    must(again.keep_alive and not again.upgrade and not again.expect, b"nothing about the connection")
    forget_request(&again)
    free(exact)
    free(written)


# Moves the lines, and the fields that are in them, to a block of the exact size.
cdef char *settle(RequestHead *head, uint32_t count, const char *arena, size_t n, size_t room) noexcept nogil:
    cdef char *lines = <char *>malloc(room)
    cdef uint32_t i
    memcpy(lines, arena, n)
    for i in range(count):
        head.fields[i].name = lines + (head.fields[i].name - arena)
        head.fields[i].value = lines + (head.fields[i].value - arena)
    return lines


cdef void take(const uint8_t *code, uint32_t n, bint ended) noexcept nogil:
    cdef RequestHead head
    cdef FieldBlock block
    cdef DynamicTable *table = <DynamicTable *>malloc(table_bytes(HEADER_TABLE_BYTES))
    cdef HeadLimits limits = HeadLimits(HEAD_MOST, FIELD_MOST, COUNT_MOST)
    cdef char *arena = <char *>malloc(arena_bytes(list_most(&limits), HEADER_TABLE_BYTES))
    cdef char *lines
    cdef size_t held, room
    cdef uint32_t used
    cdef int result
    table_start(table, HEADER_TABLE_BYTES)
    must(room_for_request(&head, &limits) == 0, b"memory")
    block_start(&block, head.fields, head.most, arena, list_most(&limits), HEAD_MOST, True)
    if hpack_decode(table, code, n, True, &block, &used) == HPACK_OK:
        held = block.at - arena
        room = 2 * held + WEBSOCKET_LINES
        lines = settle(&head, block.count, arena, held, room)
        read_http2_trailers(head.fields, block.count)
        result = read_http2_head(&head, block.count, &limits, lines, lines + held, ended, b"AAAAAAAAAAAAAAAAAAAAAA==")
        must(BAD_EXPECTATION <= result <= 0 or result == MALFORMED, b"result")
        if result == 0:
            check_fields(&head, lines, room)
            check_head(&head, lines, room, ended)
            check_same(&head, room)
        free(lines)
    forget_request(&head)
    free(arena)
    free(table)


cdef int fuzz_one(const uint8_t *data, size_t size) noexcept nogil:
    cdef uint8_t *code
    if size < 2:
        return 0
    code = <uint8_t *>malloc(12 * size)
    if data[0] & 2:
        memcpy(code, data + 1, size - 1)
        take(code, <uint32_t>(size - 1), data[0] & 1)
    else:
        take(code, put_text(code, data + 1, <uint32_t>(size - 1)), data[0] & 1)
    free(code)
    return 0


target = <size_t>&fuzz_one
