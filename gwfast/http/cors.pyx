"""CORS: which origins are allowed, and what responses to them say (see cors.pxd).

Rules
- An origin is echoed, never '*': so it holds with and without credentials, and every response says `Vary: Origin`.
- What is asked for is echoed where everything is allowed; without credentials and without a question that is '*'.
- An origin that is not allowed gets no field but Vary. What is no serialized origin is allowed nowhere, not by '*' either.
- The '*' of a pattern is one or more whole labels (httproute_types.go: it matches to the left, periods included).
"""
from libc.stdint cimport uint32_t
from libc.string cimport memcmp, strlen

from gwfast.http.bytes cimport alike, same
from gwfast.http.header_writer cimport Out, put, put_text, say
from gwfast.http.head cimport FIELD_ORIGIN, METHOD_OPTIONS, Field
from gwfast.table.layout cimport (CORS_ANY_HEADER, CORS_ANY_METHOD, CORS_ANY_ORIGIN, CORS_CREDENTIALS, Cors, Image, Origin,
                                  Text, origin_at, text)


cdef inline bint named(const Field *field, const char *lower) noexcept nogil:
    return field.name_len == strlen(lower) and same(field.name, lower, field.name_len)


cdef void read_asking(CorsRequest *asking, const RequestHead *head) noexcept nogil:
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


cdef bint is_preflight(const CorsRequest *asking, const RequestHead *head) noexcept nogil:
    return head.method_id == METHOD_OPTIONS and asking.origin >= 0 and asking.method >= 0


# ---- origins ----------------------------------------------------------------------------------------------------------

cdef struct Given:         # the parts of a serialized origin (RFC 6454 6.2)
    uint32_t scheme_n
    const char *host
    uint32_t host_n
    uint32_t port          # 0: none


cdef inline bint is_letter(char c) noexcept nogil:
    return c"a" <= (c | 32) <= c"z"


cdef inline bint is_digit(char c) noexcept nogil:
    return c"0" <= c <= c"9"


# Bytes of the host that begins there: a name of whole labels, or an address in brackets. 0: there is none.
cdef uint32_t host_length(const char *at, uint32_t n) noexcept nogil:
    cdef uint32_t i = 0
    if n and at[0] == c"[":
        i = 1
        while i < n and (is_digit(at[i]) or c"a" <= (at[i] | 32) <= c"f" or at[i] == c":" or at[i] == c"."):
            i += 1
        return i + 1 if 2 < i < n and at[i] == c"]" else 0
    while i < n:
        if at[i] == c".":
            if i == 0 or at[i - 1] == c".":
                return 0           # a label is empty
        elif not (is_letter(at[i]) or is_digit(at[i]) or at[i] == c"-" or at[i] == c"_"):
            break
        i += 1
    return i


# Reads scheme "://" host [ ":" port ], which is all there may be: what has a path, white space, a user or anything else behind
# it is no origin of any browser's, and a pattern that looked at its end alone would be led astray.
cdef bint read_origin(Given *out, const char *at, uint32_t n) noexcept nogil:
    cdef uint32_t i = 0
    cdef uint32_t digits = 0
    while i < n and (is_letter(at[i]) or (i and (is_digit(at[i]) or at[i] == c"+" or at[i] == c"-" or at[i] == c"."))):
        i += 1
    if i == 0 or n - i < 4 or at[i] != c":" or at[i + 1] != c"/" or at[i + 2] != c"/":
        return False
    out.scheme_n = i
    i += 3
    out.host = at + i
    out.host_n = host_length(at + i, n - i)
    out.port = 0
    i += out.host_n
    if i == n or out.host_n == 0:
        return out.host_n > 0
    if at[i] != c":":
        return False
    i += 1
    while i < n and is_digit(at[i]) and digits < 5:
        out.port = out.port * 10 + <uint32_t>(at[i] - c"0")
        digits += 1
        i += 1
    return i == n and 0 < out.port <= 65535


cdef bint allowed(const Image *image, const Cors *cors, const char *origin, uint32_t n) noexcept nogil:
    cdef const Origin *one
    cdef Given given
    cdef uint32_t i, port
    cdef bint https
    if not read_origin(&given, origin, n):     # 'null' is an origin that only '*' allows
        return cors.flags & CORS_ANY_ORIGIN and n == 4 and memcmp(origin, b"null", 4) == 0
    if cors.flags & CORS_ANY_ORIGIN:
        return True
    https = given.scheme_n == 5 and same(origin, b"https", 5)
    if not https and not (given.scheme_n == 4 and same(origin, b"http", 4)):
        return False
    port = given.port if given.port else 443 if https else 80
    for i in range(cors.first, cors.first + cors.count):
        one = origin_at(image, i)
        if one.port != port or one.https != https or one.host.n > given.host_n or (
                one.host.n == given.host_n if one.wild else one.host.n != given.host_n):
            continue
        if one.host.n == 0 or alike(text(image, one.host), given.host + given.host_n - one.host.n, one.host.n):
            return True
    return False


cdef uint32_t cors_room(const Cors *cors, const CorsRequest *asking, const RequestHead *head) noexcept nogil:
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


cdef void write_cors(Out *out, const Image *image, const Cors *cors, const CorsRequest *asking,
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
