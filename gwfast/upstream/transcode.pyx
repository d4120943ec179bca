"""Between the words of HTTP/1.1 and the field blocks of HTTP/2, towards backends (see transcode.pxd).

Rules
- What goes out was written by http/header_writer: it is well formed. Fields that are about a connection of HTTP/1.1 stay behind
  (RFC 9113 8.2.2), and Host becomes ':authority'.
- What comes in is judged as strictly as a head of HTTP/1.1: one ':status', no other pseudo-header field, no field of a
  connection, one length that the body must have.
"""
from libc.stdint cimport int32_t, uint8_t, uint32_t
from libc.string cimport memchr, memcmp, memcpy, memmove, strlen
from gwfast.http.bytes cimport same
from gwfast.http.fault cimport reason_phrase
from gwfast.http.fields cimport field_line
from gwfast.http.framing cimport Notes, clear, note
from gwfast.http.head cimport *
from gwfast.http2.head cimport MALFORMED
from gwfast.http2.hpack_encoder cimport Encoding, hpack_begin, hpack_encode, hpack_pseudo
from gwfast.http2.hpack_table cimport (FIELD_BAD_NAME, FIELD_BAD_VALUE, PSEUDO_AUTHORITY, PSEUDO_METHOD, PSEUDO_OTHER,
                                       PSEUDO_PATH, PSEUDO_PROTOCOL, PSEUDO_SCHEME, PSEUDO_STATUS)

cdef enum:
    UNFIT = FIELD_BAD_NAME | FIELD_BAD_VALUE
    # as bits of FieldId: what a request does not have in HTTP/2, and what a response must not have
    OF_CONNECTION = ((1 << FIELD_CONNECTION) | (1 << FIELD_KEEP_ALIVE) | (1 << FIELD_PROXY_CONNECTION)
                     | (1 << FIELD_TRANSFER_ENCODING) | (1 << FIELD_UPGRADE))
    LEFT_BEHIND = OF_CONNECTION | (1 << FIELD_HOST) | (1 << FIELD_HTTP2_SETTINGS)


# ---- requests -------------------------------------------------------------------------------------------------------

cdef struct Writer:
    Encoding *encoding
    uint8_t *at
    uint8_t *end
    bint full


cdef inline void pseudo(Writer *out, uint16_t id, const char *value, uint32_t n) noexcept nogil:
    cdef int32_t used = -1 if out.full else hpack_pseudo(out.encoding, id, value, n, out.at, out.end)
    if used < 0:
        out.full = True
    else:
        out.at += used


# Whether the last field is the Upgrade that http/header_writer wrote there, and to what.
cdef bint is_websocket(const char *head, const char *end) noexcept nogil:
    cdef const char *line = end - 22       # 'Upgrade: websocket' and two line ends
    return line > head and memcmp(line, b"Upgrade: ", 9) == 0 and same(line + 9, b"websocket", 9)


cdef bint is_left_behind(const Field *field, SentRequest *asked) noexcept nogil:
    if field.id == FIELD_OTHER:
        if asked.websocket and field.name_len == 17 and same(field.name, b"sec-websocket-key", 17):
            if field.value_len == KEY:
                memcpy(asked.key, field.value, KEY)
            return True
        return False
    if field.id == FIELD_TE:
        return field.value_len != 8 or not same(field.value, b"trailers", 8)
    return LEFT_BEHIND >> field.id & 1


cdef int32_t encode_request(Encoding *encoding, const char *head, uint32_t n, bint https, bint tunnels, SentRequest *asked,
                            uint8_t *to, uint8_t *end) noexcept nogil:
    cdef const char *stop = head + n
    cdef const char *method_end = <const char *>memchr(head, b' ', n)
    cdef const char *target = method_end + 1
    cdef const char *p
    cdef Writer out
    cdef Field field
    cdef int32_t used = hpack_begin(encoding, to, end)
    if method_end == NULL or used < 0:
        return -1
    p = <const char *>memchr(target, b' ', stop - target)
    if p == NULL:
        return -1
    out.encoding, out.at, out.end, out.full = encoding, to + used, end, False
    asked.head_only = method_end - head == 4 and memcmp(head, b"HEAD", 4) == 0
    asked.websocket = tunnels and memcmp(head, b"GET ", 4) == 0 and is_websocket(p, stop)
    if asked.websocket:
        pseudo(&out, PSEUDO_METHOD, b"CONNECT", 7)
        pseudo(&out, PSEUDO_PROTOCOL, b"websocket", 9)
    else:
        pseudo(&out, PSEUDO_METHOD, head, <uint32_t>(method_end - head))
    pseudo(&out, PSEUDO_SCHEME, b"https", 5 if https else 4)
    pseudo(&out, PSEUDO_PATH, target, <uint32_t>(p - target))
    p += 11                                # ' HTTP/1.1' and its line end
    used = field_line(p, stop, 0xffffffff, &field)
    if used <= 0 or field.id != FIELD_HOST:
        return -1
    if field.value_len:
        pseudo(&out, PSEUDO_AUTHORITY, field.value, field.value_len)
    p += used
    while stop - p > 2 and not out.full:
        used = field_line(p, stop, 0xffffffff, &field)
        if used <= 0:
            return -1
        p += used
        if is_left_behind(&field, asked):
            continue
        used = hpack_encode(encoding, &field, out.at, end)
        if used < 0:
            return -1
        out.at += used
    return -1 if out.full else <int32_t>(out.at - to)


# ---- responses ------------------------------------------------------------------------------------------------------

# ':status', three digits, first of all.
cdef int take_status(ResponseHead *head, uint32_t count) noexcept nogil:
    cdef const Field *field = &head.fields[0]
    cdef uint32_t i
    head.status = 0
    if count == 0 or field.id != PSEUDO_STATUS or field.value_len != 3:
        return MALFORMED
    for i in range(3):
        if not 48 <= field.value[i] <= 57:
            return MALFORMED
        head.status = head.status * 10 + <uint16_t>(field.value[i] - 48)
    return 0 if 100 <= head.status <= 599 and head.status != 101 else MALFORMED    # RFC 9113 8.6


# How long the body is (RFC 9113 8.1.1). What a response without one says of its length is about another.
cdef int take_framing(ResponseHead *head, const Notes *notes, bint head_only, bint ended) noexcept nogil:
    cdef uint32_t i
    cdef bint bodiless = head.status < 200 or head.status == 204
    head.content_length = notes.content_length
    if bodiless or head.status == 304 or head_only:
        head.framing = FRAMING_NONE
    elif notes.has_length:
        head.framing = FRAMING_LENGTH
        if ended and head.content_length:
            return MALFORMED
    else:
        head.framing = FRAMING_CHUNKED
    if bodiless and notes.has_length:      # RFC 9110 8.6: must not be sent
        for i in range(head.count):
            if head.fields[i].id == FIELD_CONTENT_LENGTH:
                head.fields[i].flags |= FIELD_HOP
        head.content_length = 0
    return MALFORMED if ended and head.status < 200 else 0


# Whether it would be within the limits as a head of HTTP/1.1: 'HTTP/1.1 200 OK', its lines, an empty one.
cdef bint is_within(const ResponseHead *head, const HeadLimits *limits) noexcept nogil:
    cdef uint64_t size = 17 + 2
    cdef uint32_t i
    for i in range(head.count):
        if head.fields[i].line_len > limits.line:
            return False
        size += head.fields[i].line_len
    return head.count <= limits.count and size <= limits.head


cdef int read_http2_response(ResponseHead *head, uint32_t count, const HeadLimits *limits, bint head_only,
                             bint ended) noexcept nogil:
    cdef Notes notes
    cdef Field *field
    cdef uint32_t i
    if take_status(head, count) < 0:
        return MALFORMED
    for i in range(count):
        if head.fields[i].flags & UNFIT:
            return MALFORMED
    head.count = <uint16_t>(count - 1)
    memmove(head.fields, head.fields + 1, head.count * sizeof(Field))
    if not is_within(head, limits):
        return BAD_FIELDS_LARGE
    clear(&notes)
    notes.minor = 1
    head.ids = 0
    for i in range(head.count):
        field = &head.fields[i]
        if field.id == FIELD_OTHER:
            continue
        if field.id >= PSEUDO_OTHER or OF_CONNECTION >> field.id & 1 or note(field, &notes) < 0:
            return MALFORMED
        head.ids |= <uint32_t>1 << field.id
    head.reason.at = reason_phrase(head.status)    # which HTTP/2 does not have, and some readers of HTTP/1.1 miss
    head.reason.n = <uint32_t>strlen(head.reason.at)
    head.minor, head.keep_alive, head.upgrade = 1, 1, 0
    return take_framing(head, &notes, head_only, ended)
