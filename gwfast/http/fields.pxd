# One field line, and the names and lists in it (RFC 9110 5, RFC 9112 5). Inline: here a head's bytes are read.
#
# Rules: reading ends at `stop`, where the bytes or the line's limit end, whichever comes first; `missing` is what
# running out of bytes there means:
#
#     line             stop            end
#     |---- read ------|- not there ---|      the bytes ran out:   missing = PARTIAL
#     |---- read ------|- too long ----|      the limit did:       missing = BAD_FIELDS_LARGE (request line:
#                                                                  BAD_TARGET_LONG)
from libc.stdint cimport uint8_t, uint16_t, uint32_t
from gwfast.http.bytes cimport gw_name_end, gw_value_end_in, same
from gwfast.http.head cimport (BAD_FIELDS_LARGE, BAD_REQUEST, FIELD_AUTHORIZATION, FIELD_CONNECTION, FIELD_CONTENT_LENGTH,
                               FIELD_COOKIE, FIELD_DATE, FIELD_EXPECT, FIELD_FORWARDED, FIELD_HOST, FIELD_HTTP2_SETTINGS,
                               FIELD_KEEP_ALIVE, FIELD_LOCATION, FIELD_ORIGIN, FIELD_OTHER, FIELD_PROXY_AUTHENTICATE,
                               FIELD_PROXY_AUTHORIZATION, FIELD_PROXY_CONNECTION, FIELD_REFERER, FIELD_SERVER, FIELD_TE,
                               FIELD_TRAILER, FIELD_TRANSFER_ENCODING, FIELD_UNDERSCORE, FIELD_UPGRADE, FIELD_USER_AGENT,
                               FIELD_VIA, FIELD_X_FORWARDED, FIELD_X_FORWARDED_CLIENT_CERT, FIELD_X_FORWARDED_FOR,
                               FIELD_X_FORWARDED_HOST, FIELD_X_FORWARDED_PORT, FIELD_X_FORWARDED_PROTO, FIELD_X_REAL_IP,
                               FIELD_X_REQUEST_ID, Field, PARTIAL, Slice, name_hash)

# Where the bytes from `at` to `end` end without white space behind them.
cdef inline const char *trim(const char *at, const char *end) noexcept nogil:
    while end > at and ((end - 1)[0] == b' ' or (end - 1)[0] == b'\t'):
        end -= 1
    return end


# Any other X-Forwarded-*: who the client is, as the proxy before a gateway says it. The list of names has no end (-User, -Email,
# -Groups, -Ssl, -Uri, ...): whoever believes one believes its prefix.
cdef inline uint16_t other_id(const char *name, uint32_t n) noexcept nogil:
    return FIELD_X_FORWARDED if n > 11 and same(name, b"x-forwarded-", 12) else FIELD_OTHER


# FieldId of a name made of token characters.
cdef inline uint16_t field_id(const char *name, uint32_t n) noexcept nogil:
    if n == 2:
        return FIELD_TE if same(name, b"te", 2) else FIELD_OTHER
    if n == 3:
        return FIELD_VIA if same(name, b"via", 3) else FIELD_OTHER
    if n == 4:
        if same(name, b"host", 4):
            return FIELD_HOST
        return FIELD_DATE if same(name, b"date", 4) else FIELD_OTHER
    if n == 6:
        if same(name, b"cookie", 6):
            return FIELD_COOKIE
        if same(name, b"expect", 6):
            return FIELD_EXPECT
        if same(name, b"origin", 6):
            return FIELD_ORIGIN
        return FIELD_SERVER if same(name, b"server", 6) else FIELD_OTHER
    if n == 7:
        if same(name, b"referer", 7):
            return FIELD_REFERER
        if same(name, b"upgrade", 7):
            return FIELD_UPGRADE
        return FIELD_TRAILER if same(name, b"trailer", 7) else FIELD_OTHER
    if n == 8:
        return FIELD_LOCATION if same(name, b"location", 8) else FIELD_OTHER
    if n == 9:
        if same(name, b"forwarded", 9):
            return FIELD_FORWARDED
        return FIELD_X_REAL_IP if same(name, b"x-real-ip", 9) else FIELD_OTHER
    if n == 10:
        if same(name, b"connection", 10):
            return FIELD_CONNECTION
        if same(name, b"user-agent", 10):
            return FIELD_USER_AGENT
        return FIELD_KEEP_ALIVE if same(name, b"keep-alive", 10) else FIELD_OTHER
    if n == 12:
        return FIELD_X_REQUEST_ID if same(name, b"x-request-id", 12) else other_id(name, n)
    if n == 13:
        return FIELD_AUTHORIZATION if same(name, b"authorization", 13) else other_id(name, n)
    if n == 14:
        if same(name, b"content-length", 14):
            return FIELD_CONTENT_LENGTH
        return FIELD_HTTP2_SETTINGS if same(name, b"http2-settings", 14) else other_id(name, n)
    if n == 15:
        return FIELD_X_FORWARDED_FOR if same(name, b"x-forwarded-for", 15) else other_id(name, n)
    if n == 16:
        if same(name, b"x-forwarded-host", 16):
            return FIELD_X_FORWARDED_HOST
        if same(name, b"x-forwarded-port", 16):
            return FIELD_X_FORWARDED_PORT
        return FIELD_PROXY_CONNECTION if same(name, b"proxy-connection", 16) else other_id(name, n)
    if n == 17:
        if same(name, b"transfer-encoding", 17):
            return FIELD_TRANSFER_ENCODING
        return FIELD_X_FORWARDED_PROTO if same(name, b"x-forwarded-proto", 17) else other_id(name, n)
    if n == 18:
        return FIELD_PROXY_AUTHENTICATE if same(name, b"proxy-authenticate", 18) else other_id(name, n)
    if n == 19:
        return FIELD_PROXY_AUTHORIZATION if same(name, b"proxy-authorization", 19) else other_id(name, n)
    if n == 23:
        return FIELD_X_FORWARDED_CLIENT_CERT if same(name, b"x-forwarded-client-cert", 23) else other_id(name, n)
    return other_id(name, n)

# Length of the line, its CRLF included, PARTIAL or BAD_*. field-line = field-name ":" OWS field-value OWS (9112 5)
cdef inline int field_line(const char *line, const char *end, uint32_t limit, Field *field) noexcept nogil:
    cdef const char *stop = end
    cdef int missing = PARTIAL
    cdef const char *p
    cdef const char *last
    cdef int underscore = 0
    if end - line >= limit:
        stop = line + limit
        missing = BAD_FIELDS_LARGE
    p = gw_name_end(line, stop, &underscore)
    if p == stop:
        return missing
    if p[0] != b':' or p == line:
        return BAD_REQUEST
    field.name = line
    field.name_len = <uint32_t>(p - line)
    field.hash = name_hash(line, field.name_len)
    field.flags = FIELD_UNDERSCORE if underscore else 0
    p += 1
    while p < stop and (p[0] == b' ' or p[0] == b'\t'):
        p += 1
    last = gw_value_end_in(line, p, stop)
    if stop - last < 2 or last[0] != b'\r' or last[1] != b'\n':
        return missing if last == stop or (last + 1 == stop and last[0] == b'\r') else BAD_REQUEST
    field.line_len = <uint32_t>(last + 2 - line)
    field.value = p
    field.value_len = <uint32_t>(trim(p, last) - p)
    field.id = field_id(field.name, field.name_len)
    return <int>field.line_len


# The next member of a comma list, without white space around it; empty members are skipped (RFC 9110 5.6.1).
cdef inline bint next_member(Slice *rest, Slice *member) noexcept nogil:
    cdef const char *p = rest.at
    cdef const char *end = rest.at + rest.n
    while p < end and (p[0] == b',' or p[0] == b' ' or p[0] == b'\t'):
        p += 1
    member.at = p
    while p < end and p[0] != b',':
        p += 1
    member.n = <uint32_t>(trim(member.at, p) - member.at)
    rest.at = p
    rest.n = <uint32_t>(end - p)
    return member.n > 0
