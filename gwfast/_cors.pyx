"""CORS: which origins are allowed, and what responses to them say (see _cors.pxd).

Rules
- An origin is echoed, never '*': so it holds with and without credentials, and every response says `Vary: Origin`.
- What is asked for is echoed where everything is allowed; without credentials and without a question that is '*'.
- An origin that is not allowed gets no field but Vary.
"""
from libc.stdint cimport uint16_t, uint32_t
from libc.string cimport strlen

from gwfast._bytes cimport alike, same
from gwfast._filter cimport Out, put, put_text, say
from gwfast._head cimport FIELD_ORIGIN, METHOD_OPTIONS, Field
from gwfast._table cimport (CORS_ANY_HEADER, CORS_ANY_METHOD, CORS_ANY_ORIGIN, CORS_CREDENTIALS, Cors, Image, Origin, Text,
                            origin_at, text)


cdef inline bint named(const Field *field, const char *lower) noexcept nogil:
    return field.name_len == strlen(lower) and same(field.name, lower, field.name_len)


cdef void read_asking(Asking *asking, const RequestHead *head) noexcept nogil:
    cdef int i
    asking.origin = asking.method = asking.headers = -1
    if not head.ids >> FIELD_ORIGIN & 1:
        return
    for i in range(head.count):
        if head.fields[i].id == FIELD_ORIGIN:
            asking.origin = i
        elif head.method_id != METHOD_OPTIONS:
            continue
        elif named(&head.fields[i], b"access-control-request-method"):
            asking.method = i
        elif named(&head.fields[i], b"access-control-request-headers"):
            asking.headers = i


cdef bint is_preflight(const Asking *asking, const RequestHead *head) noexcept nogil:
    return head.method_id == METHOD_OPTIONS and asking.origin >= 0 and asking.method >= 0


# Reads 'scheme://host[:port]': False for 'null' and whatever else can only be allowed by '*'.
cdef bint read_origin(Origin *out, const char **host, uint32_t *host_n, const char *at, uint32_t n) noexcept nogil:
    cdef uint32_t i, port = 0
    if n > 8 and same(at, b"https://", 8):
        out.https, out.port = 1, 443
        i = 8
    elif n > 7 and same(at, b"http://", 7):
        out.https, out.port = 0, 80
        i = 7
    else:
        return False
    host[0] = at + i
    while i < n and at[i] != c":":
        i += 1
    host_n[0] = <uint32_t>(at + i - host[0])
    if i == n:
        return host_n[0] > 0
    for i in range(i + 1, n):
        if not c"0" <= at[i] <= c"9" or port > 65535:
            return False
        port = port * 10 + <uint32_t>(at[i] - c"0")
    out.port = <uint16_t>port
    return host_n[0] > 0 and 0 < port <= 65535


cdef bint allowed(const Image *image, const Cors *cors, const char *origin, uint32_t n) noexcept nogil:
    cdef const Origin *one
    cdef Origin given
    cdef const char *host
    cdef uint32_t i, host_n = 0
    if cors.flags & CORS_ANY_ORIGIN:
        return n > 0
    if not read_origin(&given, &host, &host_n, origin, n):
        return False
    for i in range(cors.first, cors.first + cors.count):
        one = origin_at(image, i)
        if one.port != given.port or one.https != given.https or one.host.n > host_n or (
                not one.wild and one.host.n != host_n) or (one.wild and one.host.n == host_n):
            continue
        if one.host.n == 0 or alike(text(image, one.host), host + host_n - one.host.n, one.host.n):
            return True
    return False


cdef uint32_t cors_room(const Cors *cors, const Asking *asking, const RequestHead *head) noexcept nogil:
    cdef uint32_t room = 256 + cors.preflight.n + cors.actual.n + cors.methods.n + cors.headers.n
    room += head.fields[asking.origin].value_len if asking.origin >= 0 else 0
    room += head.fields[asking.method].value_len if asking.method >= 0 else 0
    room += head.fields[asking.headers].value_len if asking.headers >= 0 else 0
    return room


cdef inline void put_line(Out *out, const char *name, const Field *field) noexcept nogil:
    say(out, name)
    put(out, field.value, field.value_len)
    say(out, b"\r\n")


# What a preflight may do: as it is configured, or as it was asked.
cdef void put_allowed(Out *out, const Image *image, const char *name, Text value, bint any, bint credentials,
                      const Field *asked) noexcept nogil:
    if any and asked != NULL:
        put_line(out, name, asked)
    elif value.n and not (any and credentials):
        say(out, name)
        put_text(out, image, value)
        say(out, b"\r\n")


cdef void write_cors(Out *out, const Image *image, const Cors *cors, const Asking *asking,
                     const RequestHead *head) noexcept nogil:
    cdef bint credentials = (cors.flags & CORS_CREDENTIALS) != 0
    cdef const Field *headers = NULL
    say(out, b"Vary: Origin\r\n")
    if asking.origin < 0 or not allowed(image, cors, head.fields[asking.origin].value,
                                        head.fields[asking.origin].value_len):
        return
    put_line(out, b"Access-Control-Allow-Origin: ", &head.fields[asking.origin])
    if not is_preflight(asking, head):
        put_text(out, image, cors.actual)
        return
    if asking.headers >= 0:
        headers = &head.fields[asking.headers]
    put_allowed(out, image, b"Access-Control-Allow-Methods: ", cors.methods, cors.flags & CORS_ANY_METHOD, credentials,
                &head.fields[asking.method])
    put_allowed(out, image, b"Access-Control-Allow-Headers: ", cors.headers, cors.flags & CORS_ANY_HEADER, credentials,
                headers)
    put_text(out, image, cors.preflight)
