"""What must hold for every input of the HTTP/1.1 parsers. libFuzzer calls fuzz_one(); see ci/fuzz.

Rules: the first byte of an input chooses the parser, the second a split, the rest is what is parsed. Every piece is
parsed from a copy of its exact size, so that the address sanitizer sees one byte read too many.
"""
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.stdio cimport fprintf, stderr
from libc.stdlib cimport abort, free, malloc
from libc.string cimport memcpy
from gwfast.http1.chunked cimport (CHUNK_BAD, CHUNK_DATA, CHUNK_END, CHUNK_MORE, ChunkState, chunk_next, chunk_start,
                                   parse_trailers)
from gwfast.http.head cimport (BAD_EXPECTATION, BAD_FIELDS_LARGE, BAD_RESPONSE, COUNT_MOST, FIELD_HOST, FIELD_MOST,
                               FRAMING_CHUNKED, FRAMING_CLOSE, FRAMING_LENGTH, FRAMING_TUNNEL, Field, HEAD_MOST, HeadLimits,
                               MAX_HOST, RequestHead, ResponseHead, Slice, forget_request, forget_response, name_hash,
                               room_for_request, room_for_response)
from gwfast.http1.parser cimport parse_request, parse_response


cdef void must(bint holds, const char *what) noexcept nogil:
    if not holds:
        fprintf(stderr, b"broken: %s\n", what)
        abort()


cdef char *copy(const char *at, size_t n) noexcept nogil:
    cdef char *to = <char *>malloc(n)
    memcpy(to, at, n)
    return to


cdef bint within(const Slice *slice, const char *at, size_t n) noexcept nogil:
    return slice.at >= at and slice.at + slice.n <= at + n


cdef bint is_clean(const char *at, uint32_t n) noexcept nogil:
    cdef uint32_t i
    for i in range(n):
        if at[i] == b'\r' or at[i] == b'\n' or at[i] == 0:
            return False
    return True


# Lines lie one behind the other up to the end of the head; names and values lie in them, and hold no line's end.
cdef void check_fields(const Field *fields, uint32_t count, const char *end) noexcept nogil:
    cdef uint32_t i
    cdef const Field *field
    must(count <= COUNT_MOST, b"count")
    for i in range(count):
        field = &fields[i]
        must(field.name_len > 0 and is_clean(field.name, field.name_len), b"name")
        must(is_clean(field.value, field.value_len), b"value")
        must(field.name + field.name_len < field.value, b"name before value")
        must(field.value + field.value_len + 2 <= field.name + field.line_len, b"value within line")
        must(field.name + field.line_len == (fields[i + 1].name if i + 1 < count else end - 2), b"line_len")
        must(field.hash == name_hash(field.name, field.name_len), b"hash")


cdef void check_path(const Slice *path) noexcept nogil:
    cdef uint32_t i
    must(path.n > 0, b"match_path")
    if path.n == 1 and path.at[0] == b'*':
        return
    must(path.at[0] == b'/', b"match_path from the root")
    for i in range(path.n):
        must(0x20 < path.at[i] < 0x7f, b"path byte")
        must(path.at[i] != b'\\' and path.at[i] != b'#' and path.at[i] != b'?', b"path byte")
        if path.at[i] == b'/' and i + 1 < path.n:
            must(path.at[i + 1] != b'/', b"'//' in match_path")
            if path.at[i + 1] == b'.':
                must(i + 2 < path.n and path.at[i + 2] != b'/', b"'/.' in match_path")
                must(path.at[i + 2] != b'.' or (i + 3 < path.n and path.at[i + 3] != b'/'), b"'/..' in match_path")


cdef void check_request(const RequestHead *head, const char *at, uint32_t n) noexcept nogil:
    cdef uint32_t i
    cdef uint32_t hosts = 0
    must(head.head_len <= n and at[head.head_len - 1] == b'\n', b"head_len")
    must(within(&head.method, at, n) and within(&head.target, at, n), b"request line")
    must(within(&head.path, at, n) or head.absolute, b"path")
    must(head.query.at is NULL or within(&head.query, at, n), b"query")
    must(head.authority.n == 0 or within(&head.authority, at, n), b"authority")
    must(within(&head.host, head.host_room, MAX_HOST) and head.host.n < MAX_HOST, b"host")
    must(within(&head.match_path, at, n) or within(&head.match_path, head.room, 3 * head.longest)
         or head.absolute, b"match_path")
    must(head.slash_path.n == 0 or within(&head.slash_path, head.room, 3 * head.longest), b"slash_path")
    must(is_clean(head.target.at, head.target.n) and is_clean(head.method.at, head.method.n), b"request line bytes")
    check_path(&head.match_path)
    if head.slash_path.n:
        check_path(&head.slash_path)
    check_fields(head.fields, head.count, at + head.head_len)
    for i in range(head.count):
        hosts += head.fields[i].id == FIELD_HOST
    must(hosts == 1 or (hosts == 0 and head.minor == 0), b"one Host")
    must(head.framing <= FRAMING_CHUNKED, b"framing")
    must(head.framing == FRAMING_LENGTH or head.content_length == 0, b"content_length")
    must(not head.upgrade or (head.minor == 1 and head.content_length == 0), b"upgrade")


cdef void check_response(const ResponseHead *head, const char *at, uint32_t n) noexcept nogil:
    must(head.head_len <= n and at[head.head_len - 1] == b'\n', b"head_len")
    must(100 <= head.status <= 599, b"status")
    must(within(&head.reason, at, n) and is_clean(head.reason.at, head.reason.n), b"reason")
    check_fields(head.fields, head.count, at + head.head_len)
    must(head.framing != FRAMING_CLOSE or not head.keep_alive, b"close")
    must((head.framing == FRAMING_TUNNEL) == (head.status == 101), b"tunnel")


cdef int request(const char *at, uint32_t n, uint32_t seen, uint32_t narrow) noexcept nogil:
    cdef HeadLimits limits
    cdef RequestHead head
    cdef int result
    cdef char *exact = copy(at, n)
    limits.head, limits.line, limits.count = HEAD_MOST >> narrow, FIELD_MOST >> narrow, COUNT_MOST >> narrow
    must(room_for_request(&head, &limits) == 0, b"memory")
    result = parse_request(exact, n, seen, &limits, &head)
    must(result >= BAD_EXPECTATION and (result <= 0 or <uint32_t>result <= n), b"result")
    if result > 0:
        check_request(&head, exact, n)
    forget_request(&head)
    free(exact)
    return result


cdef int response(const char *at, uint32_t n, uint32_t seen, uint32_t method) noexcept nogil:
    cdef HeadLimits limits
    cdef ResponseHead head
    cdef int result
    cdef char *exact = copy(at, n)
    limits.head, limits.line, limits.count = HEAD_MOST, FIELD_MOST, COUNT_MOST
    must(room_for_response(&head, &limits) == 0, b"memory")
    result = parse_response(exact, n, seen, &limits, <uint8_t>method, &head)
    must(result == BAD_RESPONSE or result == 0 or (result > 0 and <uint32_t>result <= n), b"result")
    if result > 0:
        check_response(&head, exact, n)
    forget_response(&head)
    free(exact)
    return result


cdef int trailers(const char *at, uint32_t n, uint32_t limit) noexcept nogil:
    cdef Field fields[COUNT_MOST]
    cdef uint32_t count = 0
    cdef char *exact = copy(at, n)
    cdef HeadLimits limits = HeadLimits(limit, limit, COUNT_MOST)
    cdef int result = parse_trailers(exact, n, &limits, fields, &count)
    must((result >= -1 or result == BAD_FIELDS_LARGE) and (result <= 0 or <uint32_t>result <= n), b"result")
    if result > 0:
        check_fields(fields, count, exact + result)
    free(exact)
    return result


# A hash of what was decoded, of where it ended and how, from input that is cut at one point.
cdef uint64_t chunks(const char *at, size_t n, size_t cut) noexcept nogil:
    cdef ChunkState state
    cdef Slice data
    cdef uint64_t h = 14695981039346656037u
    cdef size_t done = 0
    cdef size_t used = 0
    cdef size_t end = cut
    cdef size_t i
    cdef int result = CHUNK_MORE
    cdef char *exact
    chunk_start(&state, False)
    while done < n and (result == CHUNK_MORE or result == CHUNK_DATA):
        if done == end:
            end = n
        exact = copy(at + done, end - done)
        result = chunk_next(&state, exact, end - done, &used, &data)
        must(used <= end - done and (used > 0 or result == CHUNK_BAD), b"used")
        if result == CHUNK_DATA:
            must(within(&data, exact, used) and data.n > 0, b"data")
            for i in range(data.n):
                h = (h ^ <uint8_t>data.at[i]) * 1099511628211u
        else:
            must(data.n == 0 and (result != CHUNK_MORE or used == end - done), b"more")
        free(exact)
        done += used
    if result == CHUNK_DATA:
        result = CHUNK_MORE
    must(result == CHUNK_MORE or result == CHUNK_END or result == CHUNK_BAD, b"result")
    return (h ^ <uint64_t>done) * 1099511628211u ^ <uint64_t>(result + 2)


# A prefix gives PARTIAL or the verdict of the whole; what was seen before does not change it.
cdef void replay(uint8_t kind, const char *at, uint32_t n, uint32_t cut, uint32_t option) noexcept nogil:
    cdef int whole
    cdef int first
    if kind == 0:
        whole, first = request(at, n, 0, option & 3), request(at, cut, 0, option & 3)
        must(first == whole if first else request(at, n, cut, option & 3) == whole, b"split of a request")
    elif kind == 1:
        whole, first = response(at, n, 0, option & 3), response(at, cut, 0, option & 3)
        must(first == whole if first else response(at, n, cut, option & 3) == whole, b"split of a response")
    elif kind == 2:
        must(chunks(at, n, n) == chunks(at, n, cut), b"split of chunks")
    else:
        whole, first = trailers(at, n, 8192 >> (option & 7)), trailers(at, cut, 8192 >> (option & 7))
        must(not first or first == whole, b"split of trailers")


cdef int fuzz_one(const uint8_t *data, size_t size) noexcept nogil:
    cdef const char *at = <const char *>data + 2
    cdef uint32_t n
    if size < 2:
        return 0
    n = <uint32_t>(size - 2)
    replay(data[0] & 3, at, n, <uint32_t>(<uint64_t>data[1] * n // 255), data[0] >> 2)
    return 0


target = <size_t>&fuzz_one
