"""What an authorizer is asked over gRPC (see check_request.pxd).

Rules
- A string of protobuf is UTF-8: each byte of a field or target that is none is shown as '!' (as Envoy does).
- Fields of one name are shown as one, its values between commas, those of Cookie between semicolons (RFC 9110 5.3, 9113 8.2.3).
"""
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.stdlib cimport free, malloc
from libc.string cimport memcpy, memset, strlen

from gwfast.http.bytes cimport alike, lower
from gwfast.http.fields cimport next_member
from gwfast.http.head cimport (FIELD_COOKIE, FIELD_HOP, FIELD_HOST, FIELD_TRANSFER_ENCODING, Field, HeadLimits, RequestHead,
                               Slice, forget_request, room_for_request)
from gwfast.http1.parser cimport parse_request

cdef enum:
    VARINT = 0
    BYTES = 2
    MORE = 0x80                # of a byte of a varint: another follows


# ---- writing, from the end --------------------------------------------------------------------------------------------

cdef struct Back:
    char *start
    char *at                   # what is written begins here
    bint full


cdef inline void put(Back *out, const char *at, size_t n) noexcept nogil:
    if <size_t>(out.at - out.start) < n:
        out.full = True
    elif n:
        out.at -= n
        memcpy(out.at, at, n)


cdef void put_varint(Back *out, uint64_t value) noexcept nogil:
    cdef char made[10]
    cdef uint32_t n = 0
    while value >= MORE:
        made[n] = <char>(value & 0x7f | MORE)
        value >>= 7
        n += 1
    made[n] = <char>value
    put(out, made, n + 1)


cdef inline void put_number(Back *out, uint32_t field, uint64_t value) noexcept nogil:
    if value:
        put_varint(out, value)
        put_varint(out, field << 3 | VARINT)


# What was written since `end` is one field.
cdef inline void close(Back *out, uint32_t field, const char *end) noexcept nogil:
    put_varint(out, end - out.at)
    put_varint(out, field << 3 | BYTES)


# How many bytes the UTF-8 sequence at `p` has; 0: it is none (RFC 3629 4).
cdef uint32_t sequence(const uint8_t *p, const uint8_t *end) noexcept nogil:
    cdef uint8_t low = 0x80, high = 0xbf
    cdef uint32_t n, i
    if p[0] < 0x80:
        return 1
    if p[0] < 0xc2 or p[0] > 0xf4:
        return 0
    n = 2 if p[0] < 0xe0 else 3 if p[0] < 0xf0 else 4
    if end - p < n:
        return 0
    if p[0] == 0xe0:
        low = 0xa0
    elif p[0] == 0xed:
        high = 0x9f
    elif p[0] == 0xf0:
        low = 0x90
    elif p[0] == 0xf4:
        high = 0x8f
    if not low <= p[1] <= high:
        return 0
    for i in range(2, n):
        if not 0x80 <= p[i] <= 0xbf:
            return 0
    return n


cdef void put_text(Back *out, const char *at, uint32_t n) noexcept nogil:
    cdef const uint8_t *p
    cdef const uint8_t *end
    cdef uint32_t used
    put(out, at, n)
    if out.full:
        return
    p = <const uint8_t *>out.at
    end = p + n
    while p < end:
        used = sequence(p, end)
        if used == 0:
            out.at[p - <const uint8_t *>out.at] = c'!'
            used = 1
        p += used


cdef inline void put_string(Back *out, uint32_t field, const char *at, uint32_t n) noexcept nogil:
    cdef char *end = out.at
    if n:
        put_text(out, at, n)
        close(out, field, end)


cdef bint listed(const Slice *names, const Field *field) noexcept nogil:
    cdef Slice rest = names[0]
    cdef Slice member
    while next_member(&rest, &member):
        if member.n == field.name_len and alike(member.at, field.name, member.n):
            return True
    return False


cdef bint is_shown(const CheckRequest *asked, const Field *field) noexcept nogil:
    if field.flags & FIELD_HOP or field.id == FIELD_TRANSFER_ENCODING:
        return False
    if asked.names.n == 0:
        return field.id != FIELD_HOST      # it is ':authority'
    return listed(&asked.names, field)


cdef inline bint same_field(const Field *a, const Field *b) noexcept nogil:
    return a.hash == b.hash and a.name_len == b.name_len and alike(a.name, b.name, a.name_len)


cdef void put_entry(Back *out, const char *name, const char *value, uint32_t n) noexcept nogil:
    cdef char *end = out.at
    put_string(out, 2, value, n)
    put_string(out, 1, name, <uint32_t>strlen(name))
    close(out, 3, end)


# The field at `i` and all of its name before it.
cdef void put_field(Back *out, const RequestHead *head, uint32_t i) noexcept nogil:
    cdef const Field *field = &head.fields[i]
    cdef char *end = out.at
    cdef char *value_end = out.at
    cdef uint32_t k
    put_text(out, field.value, field.value_len)
    for k in range(i, 0, -1):
        if same_field(&head.fields[k - 1], field):
            if field.id == FIELD_COOKIE:
                put(out, b"; ", 2)
            else:
                put(out, b",", 1)
            put_text(out, head.fields[k - 1].value, head.fields[k - 1].value_len)
    close(out, 2, value_end)
    value_end = out.at
    put(out, field.name, field.name_len)
    if not out.full:
        for k in range(field.name_len):
            out.at[k] = lower(out.at[k])
    close(out, 1, value_end)
    close(out, 3, end)


cdef void put_fields(Back *out, const CheckRequest *asked) noexcept nogil:
    cdef const RequestHead *head = asked.head
    cdef bint last
    cdef uint32_t i, k
    for i in range(head.count, 0, -1):
        last = is_shown(asked, &head.fields[i - 1])
        for k in range(i, head.count):
            if last and same_field(&head.fields[k], &head.fields[i - 1]):
                last = False
        if last:
            put_field(out, head, i - 1)
    if asked.names.n == 0:
        put_entry(out, b":scheme", asked.scheme.at, asked.scheme.n)
        put_entry(out, b":path", head.target.at, head.target.n)
        put_entry(out, b":method", head.method.at, head.method.n)
        put_entry(out, b":authority", head.authority.at, head.authority.n)


cdef void put_peer(Back *out, uint32_t field, const Slice *address, uint32_t port) noexcept nogil:
    cdef char *end = out.at
    put_number(out, 3, port)
    put_string(out, 2, address.at, address.n)
    close(out, 1, end)
    close(out, 1, end)
    close(out, field, end)


cdef void put_http(Back *out, const CheckRequest *asked) noexcept nogil:
    cdef char *end = out.at
    if asked.body.n:
        put(out, asked.body.at, asked.body.n)
        close(out, 12, end)
    put_string(out, 10, asked.protocol.at, asked.protocol.n)
    put_number(out, 9, <uint64_t>asked.size)
    put_string(out, 6, asked.scheme.at, asked.scheme.n)
    put_string(out, 5, asked.head.authority.at, asked.head.authority.n)
    put_string(out, 4, asked.head.target.at, asked.head.target.n)
    put_fields(out, asked)
    put_string(out, 2, asked.head.method.at, asked.head.method.n)
    put_string(out, 1, asked.id.at, asked.id.n)
    close(out, 2, end)


cdef uint32_t check_room(const CheckRequest *asked) noexcept nogil:
    # the head twice (pseudo-header fields), a tag and a length for each of what is in it, and what is around
    return (2 * asked.head.head_len + asked.body.n + asked.client.n + asked.server.n + asked.id.n + 2 * asked.scheme.n
            + 24 * asked.head.count + 512)


cdef char *write_check(char *start, char *end, const CheckRequest *asked) noexcept nogil:
    cdef char prefix[GRPC_PREFIX]
    cdef uint32_t n, i
    cdef char *time_end
    cdef Back out
    out.start, out.at, out.full = start, end, False
    put_http(&out, asked)
    time_end = out.at
    put_number(&out, 2, asked.nanos)
    put_number(&out, 1, asked.seconds)
    close(&out, 1, time_end)
    close(&out, 4, end)
    put_peer(&out, 2, &asked.server, asked.port)
    put_peer(&out, 1, &asked.client, 0)
    close(&out, 1, end)
    n = <uint32_t>(end - out.at)
    prefix[0] = 0
    for i in range(4):
        prefix[1 + i] = <char>(n >> (24 - 8 * i) & 0xff)
    put(&out, prefix, GRPC_PREFIX)
    return NULL if out.full else out.at


# ---- Python's side ----------------------------------------------------------------------------------------------------

def check(bytes head not None, bytes body not None=b"", bytes names not None=b"", bytes client not None=b"",
          bytes server not None=b"", int port=0, int64_t size=0, bint https=False, bytes id not None=b"",
          bytes protocol not None=b"", when=(0, 0)):
    """Return the question for a request with this head (HTTP/1.1, whole), in its frame; None where there is no head."""
    cdef RequestHead *parsed = <RequestHead *>malloc(sizeof(RequestHead))
    cdef HeadLimits most = HeadLimits(<uint32_t>len(head) + 1, <uint32_t>len(head) + 1, 1000)
    cdef CheckRequest asked
    cdef char *room = NULL
    cdef char *at
    if parsed == NULL:
        raise MemoryError
    try:
        if room_for_request(parsed, &most) < 0:
            raise MemoryError
        if parse_request(head, <uint32_t>len(head), 0, &most, parsed) != <int>len(head):
            return None
        memset(&asked, 0, sizeof(CheckRequest))
        asked.head, asked.port, asked.size, asked.seconds, asked.nanos = parsed, <uint32_t>port, size, when[0], when[1]
        asked.names.at, asked.names.n = names, <uint32_t>len(names)
        asked.client.at, asked.client.n = client, <uint32_t>len(client)
        asked.server.at, asked.server.n = server, <uint32_t>len(server)
        asked.id.at, asked.id.n = id, <uint32_t>len(id)
        asked.body.at, asked.body.n = body, <uint32_t>len(body)
        asked.protocol.at, asked.protocol.n = protocol, <uint32_t>len(protocol)
        asked.scheme.at, asked.scheme.n = (b"https", 5) if https else (b"http", 4)
        room = <char *>malloc(check_room(&asked))
        if room == NULL:
            raise MemoryError
        at = write_check(room, room + check_room(&asked), &asked)
        return at[:room + check_room(&asked) - at] if at != NULL else b""
    finally:
        forget_request(parsed)
        free(parsed)
        free(room)
