"""What must hold for every answer of an authorizer over gRPC, and for every question. libFuzzer calls fuzz_one(); see ci/fuzz.

Rules: the first byte of an input says what the rest is: an answer whole, a message that is put in its frame here, or a head that
is asked about, with a body from where the second byte says. Everything is read from copies of their exact size. What an answer
changes is written into exactly the room that it asked for, and read again as the head that it is part of; a question is read
again as protobuf.
"""
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.stdio cimport fprintf, stderr
from libc.stdlib cimport abort, free, malloc
from libc.string cimport memcmp, memcpy, memset, strlen
from gwfast.http.bytes cimport CHAR_TOKEN, is_a
from gwfast.extend.check_request cimport GRPC_PREFIX, CheckRequest, check_room, write_check
from gwfast.http.header_writer cimport Out, put, say
from gwfast.http.head cimport (COUNT_MOST, FIELD_TRANSFER_ENCODING, HeadLimits, METHOD_GET, RequestHead, ResponseHead, Slice,
                               forget_request, forget_response, room_for_request, room_for_response)
from gwfast.http1.parser cimport parse_request, parse_response
from gwfast.extend.check_response cimport (ACTION_IF_PRESENT, CHANGES, PLACE_DENIAL, PLACE_REMOVE, PLACE_REQUEST,
                                           PLACE_RESPONSE, CheckResponse, changes_response, changes_room, put_changes,
                                           read_check_response)

cdef enum:
    MODES = 3
    ANSWER = 0
    MESSAGE = 1
    ROOM = 16384
    NEARLY = 90                # above it a head may have more fields than one may have

cdef const char *REQUEST = b"GET / HTTP/1.1\r\nHost: a\r\nAuthorization: me\r\nX-A: 1\r\nx-a: 2\r\nCookie: c\r\nContent-Length: 5\r\n\r\n"
cdef const char *RESPONSE = b"HTTP/1.1 200 OK\r\nX-A: 1\r\nSet-Cookie: a\r\nset-cookie: b\r\nContent-Length: 5\r\n\r\n"


cdef void must(bint holds, const char *what) noexcept nogil:
    if not holds:
        fprintf(stderr, b"broken: %s\n", what)
        abort()


cdef bint within(const Slice *slice, const char *at, size_t n) noexcept nogil:
    return slice.at >= at and slice.at + slice.n <= at + n


# ---- answers ----------------------------------------------------------------------------------------------------------

cdef void check(const CheckResponse *verdict, const char *at, uint32_t n) noexcept nogil:
    cdef uint32_t i, k
    must(within(&verdict.body, at, n) and verdict.count <= CHANGES, b"body and count")
    for i in range(verdict.count):
        must(within(&verdict.changes[i].name, at, n) and within(&verdict.changes[i].value, at, n), b"slices")
        must(PLACE_REQUEST <= verdict.changes[i].place <= PLACE_DENIAL, b"place")
        must(0 <= verdict.changes[i].action <= ACTION_IF_PRESENT, b"action")
        must(verdict.changes[i].name.n > 0, b"a name")
        must(verdict.changes[i].place != PLACE_REMOVE or verdict.changes[i].value.n == 0, b"what is removed has no value")
        for k in range(verdict.changes[i].name.n):
            must(is_a(verdict.changes[i].name.at[k], CHAR_TOKEN), b"a token")
        for k in range(verdict.changes[i].value.n):
            must(verdict.changes[i].value.at[k] == c'\t' or <uint8_t>verdict.changes[i].value.at[k] >= 0x20, b"a value")
    for i in range(verdict.count):
        if verdict.changes[i].place == PLACE_RESPONSE:
            must(changes_response(verdict), b"of the response")


# These fields as an answer changes them: written into the room that is said, and where it ends.
cdef char *change(const CheckResponse *verdict, int place, const char *line, const char *fields, uint32_t n, RequestHead *request,
                  ResponseHead *response, uint32_t *end) noexcept nogil:
    cdef uint32_t room = <uint32_t>(n + changes_room(verdict))
    cdef char *to = <char *>malloc(64 + room + 2)
    cdef Out out
    out.at, out.end, out.full = to, to + 64, False
    say(&out, line)
    out.end = out.at + room
    if request != NULL:
        put_changes(&out, verdict, place, request.fields, request.count)
    else:
        put_changes(&out, verdict, place, response.fields, response.count)
    must(not out.full, b"room for what changes")
    out.end += 2
    put(&out, b"\r\n", 2)
    must(not out.full, b"room for the end")
    end[0] = <uint32_t>(out.at - to)
    return to


cdef void check_request(const CheckResponse *verdict, RequestHead *head) noexcept nogil:
    cdef const char *given = REQUEST
    cdef uint32_t n = <uint32_t>strlen(given), end
    cdef HeadLimits most
    cdef char *made
    cdef int result
    most.head = most.line = ROOM
    most.count = COUNT_MOST
    must(parse_request(given, n, 0, &most, head) == <int>n, b"the request that is changed")
    made = change(verdict, PLACE_REQUEST, b"GET / HTTP/1.1\r\n", given, n, head, NULL, &end)
    result = parse_request(made, end, 0, &most, head)
    if result > 0 or verdict.count < NEARLY:
        must(end > ROOM or result == <int>end, b"what is made is a head")
    if result > 0:
        must(head.content_length == 5 and head.authority.n == 1 and head.authority.at[0] == c'a' and head.keep_alive, b"its frame stays")
        must(not head.ids >> FIELD_TRANSFER_ENCODING & 1 and not head.upgrade and not head.expect, b"no other frame")
    free(made)


cdef void check_response(const CheckResponse *verdict, int place, ResponseHead *head) noexcept nogil:
    cdef const char *given = RESPONSE
    cdef uint32_t n = <uint32_t>strlen(given), end
    cdef HeadLimits most
    cdef char *made
    cdef int result
    most.head = most.line = ROOM
    most.count = COUNT_MOST
    must(parse_response(given, n, 0, &most, METHOD_GET, head) == <int>n, b"the response that is changed")
    made = change(verdict, place, b"HTTP/1.1 200 OK\r\n", given, n, NULL, head, &end)
    result = parse_response(made, end, 0, &most, METHOD_GET, head)
    if result > 0 or verdict.count < NEARLY:
        must(end > ROOM or result == <int>end, b"what is made is a response's head")
    if result > 0:
        must(head.content_length == 5 and head.keep_alive and not head.upgrade, b"the response's frame stays")
        must(not head.ids >> FIELD_TRANSFER_ENCODING & 1, b"no other frame of the response")
    free(made)


cdef void answer(const char *at, uint32_t n, RequestHead *request, ResponseHead *response) noexcept nogil:
    cdef CheckResponse *verdict = <CheckResponse *>malloc(sizeof(CheckResponse))
    memset(verdict, 0xa5, sizeof(CheckResponse))
    if read_check_response(verdict, at, n) == 0:
        check(verdict, at, n)
        check_request(verdict, request)
        check_response(verdict, PLACE_RESPONSE, response)
        check_response(verdict, PLACE_DENIAL, response)
        if n > GRPC_PREFIX:
            must(read_check_response(verdict, at, n - 1) < 0, b"half an answer is none")
    free(verdict)


# ---- questions --------------------------------------------------------------------------------------------------------

cdef struct Item:
    uint32_t field
    uint64_t number
    Slice bytes


cdef uint64_t number(Slice *rest) noexcept nogil:
    cdef uint64_t value = 0
    cdef uint32_t i
    for i in range(10):
        must(rest.n > 0, b"a varint ends")
        value |= <uint64_t>(rest.at[0] & 0x7f) << (7 * i)
        rest.at += 1
        rest.n -= 1
        if not (rest.at - 1)[0] & 0x80:
            return value
    must(False, b"a varint is short")
    return 0


cdef bint next_item(Slice *rest, Item *item) noexcept nogil:
    cdef uint64_t tag, n
    if rest.n == 0:
        return False
    tag = number(rest)
    must((tag & 7 == 0 or tag & 7 == 2) and 1 <= tag >> 3 <= 12, b"a tag")
    item.field = <uint32_t>(tag >> 3)
    n = number(rest)
    item.number = n
    item.bytes.at, item.bytes.n = rest.at, 0
    if tag & 7 == 2:
        must(n <= rest.n, b"a length fits")
        item.bytes.n = <uint32_t>n
        rest.at += n
        rest.n -= <uint32_t>n
    return True


# The only item of a message that has this field.
cdef Slice part(Slice message, uint32_t field) noexcept nogil:
    cdef Item item
    cdef Slice found
    found.at, found.n = NULL, 0
    while next_item(&message, &item):
        if item.field == field:
            must(found.at == NULL, b"one of a field")
            found = item.bytes
    must(found.at != NULL, b"a field is there")
    return found


cdef uint32_t check_http(Slice message, const RequestHead *head, const char *body, uint32_t n) noexcept nogil:
    """How many fields it shows."""
    cdef uint32_t shown = 0, i
    cdef Slice key
    cdef Item item
    while next_item(&message, &item):
        if item.field == 2:
            must(item.bytes.n == head.method.n and memcmp(item.bytes.at, head.method.at, head.method.n) == 0, b"the method")
        elif item.field == 4:
            must(item.bytes.n == head.target.n, b"the target")
        elif item.field == 12:
            must(item.bytes.n == n and memcmp(item.bytes.at, body, n) == 0, b"the body")
        elif item.field == 3:
            key = part(item.bytes, 1)
            must(key.n > 0, b"a field's name")
            for i in range(key.n):
                must(not c'A' <= key.at[i] <= c'Z', b"a name in lower case")
            shown += 1
    return shown


cdef void question(const char *at, uint32_t n, uint32_t split, RequestHead *head) noexcept nogil:
    cdef HeadLimits most
    cdef CheckRequest asked
    cdef Slice whole
    cdef char *room
    cdef char *made
    cdef uint32_t size, i, length = 0
    cdef int result
    most.head = most.line = ROOM
    most.count = COUNT_MOST
    result = parse_request(at, n, 0, &most, head)
    if result <= 0:
        return
    memset(&asked, 0, sizeof(CheckRequest))
    asked.head = head
    asked.body.at, asked.body.n = at + result, min(n - <uint32_t>result, split)
    asked.size = -1 if split & 1 else <int>n
    asked.client.at, asked.client.n = b"192.0.2.1", 9
    asked.scheme.at, asked.scheme.n = b"https", 5
    asked.protocol.at, asked.protocol.n = b"HTTP/1.1", 8
    asked.port, asked.seconds = split, <uint64_t>1 << 40
    if split & 2:
        asked.names.at, asked.names.n = b"x-a,cookie", 10
    size = check_room(&asked)
    room = <char *>malloc(size)
    made = write_check(room, room + size, &asked)
    must(made != NULL, b"room for a question")
    for i in range(4):
        length = length << 8 | <uint8_t>made[1 + i]
    must(made[0] == 0 and length == room + size - made - GRPC_PREFIX, b"its frame")
    whole.at, whole.n = made + GRPC_PREFIX, length
    size = check_http(part(part(part(whole, 1), 4), 2), head, asked.body.at, asked.body.n)
    must(size <= head.count + 4u, b"no field twice")
    must(asked.names.n or size >= 3, b"the pseudo-header fields are shown")
    free(room)


cdef int fuzz_one(const uint8_t *data, size_t size) noexcept nogil:
    cdef uint32_t n
    cdef char *exact
    cdef RequestHead *request
    cdef ResponseHead *response
    cdef HeadLimits limits = HeadLimits(ROOM, ROOM, COUNT_MOST)
    if size < 2:
        return 0
    n = <uint32_t>(size - 2)
    request, response = <RequestHead *>malloc(sizeof(RequestHead)), <ResponseHead *>malloc(sizeof(ResponseHead))
    must(room_for_request(request, &limits) == 0 and room_for_response(response, &limits) == 0, b"memory")
    if data[0] % MODES == MESSAGE:
        exact = <char *>malloc(GRPC_PREFIX + n)
        exact[0] = 0
        exact[1], exact[2], exact[3], exact[4] = <char>(n >> 24), <char>(n >> 16), <char>(n >> 8), <char>n
        memcpy(exact + GRPC_PREFIX, data + 2, n)
        answer(exact, GRPC_PREFIX + n, request, response)
    else:
        exact = <char *>malloc(n)
        memcpy(exact, data + 2, n)
        if data[0] % MODES == ANSWER:
            answer(exact, n, request, response)
        else:
            question(exact, n, data[1], request)
    free(exact)
    forget_request(request)
    forget_response(response)
    free(request)
    free(response)
    return 0


target = <size_t>&fuzz_one
