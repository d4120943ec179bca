"""Of whom a trusted peer speaks (see forwarded.pxd).

Rules
- X-Forwarded-For is read from the right: each proxy adds the address that it saw. Addresses of trusted proxies are skipped, the
  first other one is the client's: what stands further left is only what that client says (as in nginx with real_ip_recursive, and
  in Envoy). Where a member is no address (`unknown`, RFC 7239 6.3) nobody vouches for what is left of it: the walk ends.
- Of -Proto, -Host and -Port the first member is of the client's own connection.
- The port is that of -Port, else of -Host; where only -Proto is said, that of its scheme: the client did not ask the listener's.
"""
from libc.stdint cimport uint8_t, uint16_t, uint32_t
from libc.string cimport memchr, memcpy

from gwfast.engine.address cimport address_text, text_address
from gwfast.http.bytes cimport same
from gwfast.http.fields cimport next_member, trim
from gwfast.http.head cimport (FIELD_X_FORWARDED_FOR, FIELD_X_FORWARDED_HOST, FIELD_X_FORWARDED_PORT, FIELD_X_FORWARDED_PROTO,
                               Field, RequestHead, Slice)


# ---- one address ------------------------------------------------------------------------------------------------------

# A port as a number; 0: it is none.
cdef uint16_t read_port(const char *at, uint32_t n) noexcept nogil:
    cdef uint32_t i, value = 0
    if n == 0 or n > 5:
        return 0
    for i in range(n):
        if not c"0" <= at[i] <= c"9":
            return 0
        value = value * 10 + <uint32_t>(at[i] - c"0")
    return <uint16_t>value if value <= 65535 else 0


cdef inline bint is_zero(const uint8_t *raw) noexcept nogil:
    cdef uint32_t i
    for i in range(16):
        if raw[i]:
            return False
    return True


# 'ADDRESS', 'IPV4:PORT', '[IPV6]' or '[IPV6]:PORT'. False: it is none of these.
cdef bint read_address(const char *at, uint32_t n, uint8_t *raw) noexcept nogil:
    cdef char room[ADDRESS_TEXT]
    cdef const char *end = at + n
    cdef const char *colon = <const char *>memchr(at, c":", n)
    cdef bint bracketed = at[0] == c"["
    if bracketed:
        at += 1
        end = <const char *>memchr(at, c"]", end - at)
        if end == NULL or colon == NULL:
            return False
        n -= <uint32_t>(end + 2 - at)      # behind the bracket
        if n and (end[1] != c":" or read_port(end + 2, n - 1) == 0):
            return False
    elif colon != NULL and memchr(colon + 1, c":", end - colon - 1) == NULL:
        if read_port(colon + 1, <uint32_t>(end - colon - 1)) == 0:
            return False
        end = colon
    if end == at or end - at >= ADDRESS_TEXT:
        return False
    memcpy(room, at, end - at)
    room[end - at] = 0
    if bracketed and memchr(at, c":", end - at) == NULL:
        return False
    text_address(room, raw)
    return not is_zero(raw)


# ---- the walk ---------------------------------------------------------------------------------------------------------

# Walks one line of X-Forwarded-For. True: the walk goes on.
cdef bint walk(Source *source, const Field *field, Networks trusted) noexcept:
    cdef const char *stop = field.value + field.value_len
    cdef const char *at
    cdef const char *end
    cdef uint8_t raw[16]
    while stop > field.value:
        at = stop
        while at > field.value and (at - 1)[0] != c",":
            at -= 1
        end = trim(at, stop)
        stop = at - 1              # before the comma
        while at < end and (at[0] == c" " or at[0] == c"\t"):
            at += 1
        if at == end:
            continue               # RFC 9110 5.6.1
        if not read_address(at, <uint32_t>(end - at), raw):
            return False
        address_text(raw, source.address, &source.address_n)
        if not trusted.has(raw):
            return False
    return True


# The first member of the first line of a field; n == 0: there is none.
cdef Slice first_member(const RequestHead *head, uint16_t id) noexcept nogil:
    cdef Slice rest, member
    cdef uint32_t i
    member.at, member.n = NULL, 0
    for i in range(head.count):
        if head.fields[i].id == id:
            rest.at, rest.n = head.fields[i].value, head.fields[i].value_len
            if next_member(&rest, &member):
                break
            member.n = 0
    return member


cdef inline bint is_name(char c) noexcept nogil:
    return (c"a" <= c | 32 <= c"z") or c"0" <= c <= c"9" or c == c"-" or c == c"." or c == c"_"


# Splits 'HOST', 'HOST:PORT', '[IPV6]' or '[IPV6]:PORT'. False: it is none of these.
cdef bint read_host(const Slice *from_, Slice *host, uint16_t *port) noexcept nogil:
    cdef uint32_t i = 0
    cdef uint8_t raw[16]
    host.at, port[0] = from_.at, 0
    if from_.n and from_.at[0] == c"[":
        while i < from_.n and from_.at[i] != c"]":
            i += 1
        i += 1
        if i > from_.n or not read_address(from_.at, i, raw):
            return False
    else:
        while i < from_.n and is_name(from_.at[i]):
            i += 1
    host.n = i
    if i == from_.n:
        return i > 0
    if from_.at[i] != c":":
        return False
    port[0] = read_port(from_.at + i + 1, from_.n - i - 1)
    return i > 0 and port[0] > 0


cdef void forwarded_host(const RequestHead *head, Slice *host) noexcept nogil:
    cdef Slice given = first_member(head, FIELD_X_FORWARDED_HOST)
    cdef Slice found
    cdef uint16_t port
    if given.n and read_host(&given, &found, &port):
        host[0] = found


cdef void read_source(Source *source, const RequestHead *head, Networks trusted, bint https) noexcept:
    cdef Slice proto = first_member(head, FIELD_X_FORWARDED_PROTO)
    cdef Slice port = first_member(head, FIELD_X_FORWARDED_PORT)
    cdef Slice authority = first_member(head, FIELD_X_FORWARDED_HOST)
    cdef Slice host
    cdef int i
    source.address_n, source.https, source.port = 0, https, 0
    for i in range(head.count - 1, -1, -1):
        if head.fields[i].id == FIELD_X_FORWARDED_FOR and not walk(source, &head.fields[i], trusted):
            break
    if proto.n == 5 and same(proto.at, b"https", 5):
        source.https, source.port = 1, 443
    elif proto.n == 4 and same(proto.at, b"http", 4):
        source.https, source.port = 0, 80
    cdef uint16_t said = read_port(port.at, port.n)
    if said == 0 and authority.n:
        read_host(&authority, &host, &said)
    if said:
        source.port = said
