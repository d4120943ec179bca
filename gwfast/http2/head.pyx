"""A request's head from the field block of HTTP/2 (see head.pxd).

Rules
- What RFC 9113 8.2 and 8.3 call malformed is; what HTTP/1.1 would refuse is refused with the same status.
- Nothing here can be read as two requests, another target or another length once it is a head of HTTP/1.1: values
  have no CR, LF or NUL (flags of http2/hpack), the target goes through http/target, the length is written anew.
"""
from libc.stdint cimport uint16_t, uint32_t
from libc.string cimport memcpy, memmove
from gwfast.http.bytes cimport CHAR_TOKEN, alike, is_a, same
from gwfast.http1.chunked cimport may_trail
from gwfast.http.fields cimport field_id
from gwfast.http.framing cimport Notes, clear, is_guarded, is_hop, note, why_noted
from gwfast.http.head cimport *
from gwfast.http2.hpack_table cimport (FIELD_BAD_NAME, FIELD_BAD_VALUE, PSEUDO_AUTHORITY, PSEUDO_METHOD, PSEUDO_OTHER,
                                       PSEUDO_PATH, PSEUDO_PROTOCOL, PSEUDO_SCHEME)
from gwfast.http1.parser cimport METHOD_BYTES, method_id
from gwfast.http.target cimport resolve_host, resolve_target, scan_target

cdef enum:
    UNFIT = FIELD_BAD_NAME | FIELD_BAD_VALUE

# The pseudo-header fields of one request; at == NULL: it has none.
cdef struct Pseudos:
    Slice method
    Slice scheme
    Slice path
    Slice authority
    Slice protocol


cdef bint set_once(Slice *slice, const Field *field) noexcept nogil:
    if slice.at != NULL:
        return False
    slice.at = field.value
    slice.n = field.value_len
    return True


cdef bint take_pseudo(Pseudos *known, const Field *field) noexcept nogil:
    if field.id == PSEUDO_METHOD:
        return set_once(&known.method, field)
    if field.id == PSEUDO_SCHEME:
        return set_once(&known.scheme, field)
    if field.id == PSEUDO_PATH:
        return set_once(&known.path, field)
    if field.id == PSEUDO_AUTHORITY:
        return set_once(&known.authority, field)
    return field.id == PSEUDO_PROTOCOL and set_once(&known.protocol, field)


# How many fields are pseudo-header fields, all of them first (RFC 9113 8.3), or MALFORMED.
cdef int take_pseudos(RequestHead *head, uint32_t count, Pseudos *known) noexcept nogil:
    cdef const Field *fields = head.fields
    cdef uint32_t i, pseudos = 0
    for i in range(count):
        if fields[i].flags & UNFIT:
            return refused(head, MALFORMED, WHY_NAME if fields[i].flags & FIELD_BAD_NAME else WHY_VALUE)
        if fields[i].id < PSEUDO_OTHER:
            continue
        if i != pseudos or not take_pseudo(known, &fields[i]):
            return refused(head, MALFORMED, WHY_PSEUDO)
        pseudos += 1
    return <int>pseudos


# A field that is about a connection of HTTP/1.1 (RFC 9113 8.2.2); TE may say trailers.
cdef bint is_of_connection(const Field *field) noexcept nogil:
    if field.id == FIELD_TE:
        return field.value_len != 8 or not same(field.value, b"trailers", 8)
    return (field.id == FIELD_CONNECTION or field.id == FIELD_KEEP_ALIVE or field.id == FIELD_PROXY_CONNECTION
            or field.id == FIELD_TRANSFER_ENCODING or field.id == FIELD_UPGRADE)


cdef int take_fields(RequestHead *head, Notes *notes, const Field **host, uint32_t *cookies) noexcept nogil:
    cdef Field *field
    cdef uint32_t i
    head.ids = head.cookies = 0
    for i in range(head.count):
        field = &head.fields[i]
        if field.id == FIELD_OTHER:
            continue
        head.ids |= <uint32_t>1 << field.id
        if is_of_connection(field):
            return refused(head, MALFORMED, WHY_OF_CONNECTION)
        if field.id == FIELD_HOST:
            if host[0] != NULL:
                return refused(head, MALFORMED, WHY_HOST_TWICE)
            host[0] = field
        elif field.id == FIELD_COOKIE:
            cookies[0] += 1
        elif field.id == FIELD_EXPECT:
            if field.value_len != 12 or not same(field.value, b"100-continue", 12):
                return BAD_EXPECTATION
            notes.expect = 1
        elif note(field, notes) < 0:
            return refused(head, MALFORMED, why_noted(field, notes))
    return 0


# The crumbs of one cookie field (RFC 9113 8.2.3), put together behind the lines.
cdef char *join_cookies(RequestHead *head, char *end) noexcept nogil:
    cdef Field *first = NULL
    cdef Field *field
    cdef char *at = end
    cdef char *crumbs = end
    cdef uint32_t i
    for i in range(head.count):
        field = &head.fields[i]
        if field.id != FIELD_COOKIE:
            continue
        if first == NULL:
            first = field
            memcpy(at, field.name, field.name_len + 2)
            at += field.name_len + 2
            crumbs = at
        else:
            if at > crumbs and field.value_len:
                memcpy(at, b"; ", 2)
                at += 2
            field.flags |= FIELD_HOP
        memcpy(at, field.value, field.value_len)
        at += field.value_len
    first.name = end
    first.value = end + first.name_len + 2
    first.value_len = <uint32_t>(at - first.value)
    memcpy(at, b"\r\n", 2)
    first.line_len = <uint32_t>(at + 2 - end)
    return at + 2


# Whether it would be within the limits as a head of HTTP/1.1: 'GET /path HTTP/1.1', 'host: name', its lines, an empty one.
cdef int measure(const RequestHead *head, const Pseudos *known, const Field *host, uint32_t cookies,
                 const HeadLimits *limits) noexcept nogil:
    cdef const Field *field
    cdef uint32_t count = head.count
    cdef uint64_t size = known.method.n + known.path.n + 12 + 2
    cdef uint32_t i
    if host == NULL:
        count += 1
        size += known.authority.n + 8
    if cookies:
        count -= cookies - 1
    for i in range(head.count):
        field = &head.fields[i]
        if field.flags & FIELD_HOP and field.id == FIELD_COOKIE:
            continue                       # a crumb that went into the first
        if field.line_len > limits.line:
            return BAD_FIELDS_LARGE
        size += field.line_len
    return BAD_FIELDS_LARGE if count > limits.count or size > limits.head else 0


cdef int take_target(RequestHead *head, const Pseudos *known, const HeadLimits *limits) noexcept nogil:
    cdef int n
    if known.path.at == NULL or known.path.n == 0:
        return refused(head, MALFORMED, WHY_PSEUDO)
    if known.method.n + known.path.n + 12 > limits.line:
        return BAD_TARGET_LONG
    n = scan_target(known.path.at, known.path.n, head)
    if n < 0 or <uint32_t>n != known.path.n or head.absolute:
        return refused(head, BAD_REQUEST, WHY_TARGET)
    return 0 if resolve_target(head) == 0 else refused(head, BAD_REQUEST, WHY_TARGET)


# Who is asked: ':authority', which Host must not contradict, or Host alone (RFC 9113 8.3.1).
cdef int take_authority(RequestHead *head, const Pseudos *known, const Field *host) noexcept nogil:
    cdef Slice value = known.authority
    if host != NULL:
        if value.at != NULL and (value.n != host.value_len or not alike(host.value, value.at, value.n)):
            return refused(head, MALFORMED, WHY_HOST_CONFLICT)
        if value.at == NULL:
            value.at = host.value
            value.n = host.value_len
    if value.at == NULL or value.n == 0:
        return refused(head, MALFORMED, WHY_HOST_MISSING)
    return 0 if resolve_host(&value, head) == 0 else refused(head, BAD_REQUEST, WHY_HOST)


cdef int take_method(RequestHead *head, const Pseudos *known) noexcept nogil:
    cdef uint32_t i
    if known.method.at == NULL or known.method.n == 0:
        return refused(head, MALFORMED, WHY_PSEUDO)
    for i in range(known.method.n):
        if not is_a(known.method.at[i], CHAR_TOKEN):
            return refused(head, MALFORMED, WHY_METHOD)
    if known.method.n > METHOD_BYTES:
        return refused(head, BAD_REQUEST, WHY_METHOD)
    head.method = known.method
    head.method_id = method_id(known.method.at, known.method.n)
    if head.method_id == METHOD_CONNECT and known.protocol.at != NULL:
        return 0
    if known.protocol.at != NULL:
        return refused(head, MALFORMED, WHY_PROTOCOL)      # RFC 8441 4
    return BAD_METHOD if head.method_id == METHOD_CONNECT or head.method_id == METHOD_TRACE else 0


cdef bint is_scheme(const Slice *scheme) noexcept nogil:
    return scheme.at != NULL and (scheme.n == 4 and same(scheme.at, b"http", 4)
                                  or scheme.n == 5 and same(scheme.at, b"https", 5))


# A line of ours behind the others.
cdef char *add_line(RequestHead *head, char *end, const char *name, uint32_t name_n, const char *value, uint32_t n,
                    uint16_t flags) noexcept nogil:
    cdef Field *field = &head.fields[head.count]
    head.count += 1
    field.name = end
    memcpy(end, name, name_n)
    memcpy(end + name_n, b": ", 2)
    field.value = end + name_n + 2
    memcpy(end + name_n + 2, value, n)
    memcpy(end + name_n + 2 + n, b"\r\n", 2)
    field.name_len, field.value_len, field.line_len = name_n, n, name_n + n + 4
    field.hash = name_hash(name, name_n)
    field.id = field_id(name, name_n)
    field.flags = flags
    return end + field.line_len


# An extended CONNECT as the upgrade that a backend of HTTP/1.1 knows (RFC 8441 5, RFC 6455 4.1).
cdef int become_upgrade(RequestHead *head, const Pseudos *known, char *end, const char *key) noexcept nogil:
    cdef uint32_t i
    if known.protocol.n != 9 or not same(known.protocol.at, b"websocket", 9):
        return refused(head, BAD_REQUEST, WHY_PROTOCOL)
    if head.count + 2 > head.most:
        return BAD_FIELDS_LARGE
    for i in range(head.count):
        if head.fields[i].name_len == 17 and same(head.fields[i].name, b"sec-websocket-key", 17):
            head.fields[i].flags |= FIELD_HOP
    end = add_line(head, end, b"upgrade", 7, b"websocket", 9, FIELD_HOP)
    add_line(head, end, b"sec-websocket-key", 17, key, 24, 0)
    head.ids |= 1 << FIELD_UPGRADE
    head.method.at = b"GET"
    head.method.n = 3
    head.method_id = METHOD_GET
    head.upgrade = 1
    return 0


cdef int take_framing(RequestHead *head, const Notes *notes, bint ended) noexcept nogil:
    if ended and notes.content_length:
        return refused(head, MALFORMED, WHY_LENGTH_MISMATCH)       # RFC 9113 8.1.1
    head.content_length = notes.content_length
    head.framing = FRAMING_LENGTH if notes.has_length else FRAMING_NONE if ended else FRAMING_CHUNKED
    head.expect = notes.expect and not ended
    return 0


cdef int read_http2_head(RequestHead *head, uint32_t count, const HeadLimits *limits, const char *lines, char *end, bint ended,
                    const char *key) noexcept nogil:
    cdef Pseudos known = Pseudos(Slice(NULL, 0), Slice(NULL, 0), Slice(NULL, 0), Slice(NULL, 0), Slice(NULL, 0))
    cdef Notes notes
    cdef const Field *host = NULL
    cdef uint32_t cookies = 0
    cdef int method
    cdef int result = take_pseudos(head, count, &known)
    if result < 0:
        return result
    head.count = <uint16_t>(count - <uint32_t>result)
    memmove(head.fields, head.fields + result, head.count * sizeof(Field))
    clear(&notes)
    notes.minor = head.minor = 2
    head.keep_alive, head.upgrade, head.absolute = 1, 0, 0
    head.method_id = METHOD_OTHER
    method = take_method(head, &known)
    if method == MALFORMED:
        return MALFORMED
    result = take_fields(head, &notes, &host, &cookies)
    if result == MALFORMED:
        return MALFORMED
    if method < 0:
        result = method
    if result == BAD_METHOD and known.protocol.at == NULL and head.method_id == METHOD_CONNECT:
        if known.path.at == NULL and known.scheme.at == NULL and known.authority.at != NULL:
            return BAD_METHOD
        return refused(head, MALFORMED, WHY_PSEUDO)
    if not is_scheme(&known.scheme):
        return refused(head, MALFORMED, WHY_PSEUDO)
    if result < 0:
        return result
    result = take_target(head, &known, limits)
    if result == 0:
        result = take_authority(head, &known, host)
    if cookies > 1:
        end = join_cookies(head, end)
    if result == 0:
        result = measure(head, &known, host, cookies, limits)
    if result == 0:
        result = take_framing(head, &notes, ended)
    if result < 0:
        return result
    head.trailers = notes.trailers
    head.stated = 0
    if known.protocol.at != NULL:
        result = become_upgrade(head, &known, end, key) if not ended and not notes.has_length else (
            refused(head, BAD_REQUEST, WHY_PROTOCOL))
        head.framing = FRAMING_NONE
        end += WEBSOCKET_LINES
    head.head_len = <uint32_t>(end - lines)
    return result


cdef bint read_http2_trailers(Field *fields, uint32_t count) noexcept nogil:
    cdef uint32_t i
    for i in range(count):
        if fields[i].flags & UNFIT or fields[i].id >= PSEUDO_OTHER:
            return False
        if is_hop(fields[i].id) or is_guarded(fields[i].name, fields[i].name_len):
            return False
    return True


cdef bint sift_http2_trailers(Field *fields, uint32_t count) noexcept nogil:
    cdef uint32_t i
    for i in range(count):
        if fields[i].flags & UNFIT or fields[i].id >= PSEUDO_OTHER or is_of_connection(&fields[i]):
            return False
        if not may_trail(&fields[i]):
            fields[i].flags |= FIELD_HOP
    return True
