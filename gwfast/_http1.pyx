"""HTTP/1.1 grammar (RFC 9112): heads, chunks, trailers.

Rules: one strict grammar, no lenient modes. Lines end with CRLF. A byte that cannot be where it is ends the parse at
once; a line that cannot be what it is ends it with the line; only what needs the whole head (a missing Host, say)
waits for the end. So every prefix of a message gives PARTIAL or the verdict of the whole, however it was cut.

Reading ends at `stop`, which is where the bytes or the line's limit end, whichever comes first; `missing` is what
running out of bytes there means:

    line             stop            end
    |---- read ------|- not there ---|      bytes ran out:   missing = PARTIAL
    |---- read ------|- too long ----|      the limit did:   missing = BAD_TARGET_LONG or BAD_FIELDS_LARGE
"""
from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memchr
from gwfast._bytes cimport CHAR_HEX, CHAR_QUOTED, CHAR_TOKEN, CHAR_VALUE, gw_value_end, hex_value, is_a, same
from gwfast._head cimport (
    BAD_EXPECTATION, BAD_FIELDS_LARGE, BAD_METHOD, BAD_REQUEST, BAD_RESPONSE, BAD_TARGET_LONG, BAD_VERSION,
    FIELD_AUTHORIZATION, FIELD_CONNECTION, FIELD_CONTENT_LENGTH, FIELD_COOKIE, FIELD_DATE, FIELD_EXPECT,
    FIELD_FORWARDED, FIELD_HOP, FIELD_HOST, FIELD_HTTP2_SETTINGS, FIELD_KEEP_ALIVE, FIELD_LOCATION, FIELD_ORIGIN,
    FIELD_OTHER, FIELD_PROXY_AUTHENTICATE, FIELD_PROXY_AUTHORIZATION, FIELD_PROXY_CONNECTION, FIELD_REFERER,
    FIELD_SERVER, FIELD_TE, FIELD_TRAILER, FIELD_TRANSFER_ENCODING, FIELD_UNDERSCORE, FIELD_UPGRADE,
    FIELD_USER_AGENT, FIELD_VIA, FIELD_X_FORWARDED_FOR, FIELD_X_FORWARDED_HOST, FIELD_X_FORWARDED_PORT,
    FIELD_X_FORWARDED_PROTO, FIELD_X_REAL_IP, FIELD_X_REQUEST_ID,
    FRAMING_CHUNKED, FRAMING_CLOSE, FRAMING_LENGTH, FRAMING_NONE, FRAMING_TUNNEL,
    Field, HeadLimits, MAX_FIELDS, MAX_LINE,
    METHOD_CONNECT, METHOD_DELETE, METHOD_GET, METHOD_HEAD, METHOD_OPTIONS, METHOD_OTHER, METHOD_PATCH, METHOD_POST,
    METHOD_PUT, METHOD_TRACE, PARTIAL, RequestHead, ResponseHead, Slice, name_hash)
from gwfast._target cimport resolve_host, resolve_target, scan_target

cdef extern from "string.h" nogil:
    const void *memrchr(const void *at, int c, size_t n)

# What the fields seen so far say about framing and the connection (requests and responses).
cdef struct Notes:
    uint64_t content_length
    uint8_t minor
    uint8_t has_host
    uint8_t has_length
    uint8_t chunked
    uint8_t close
    uint8_t keep_alive
    uint8_t wants_upgrade      # Connection: upgrade
    uint8_t upgrades           # Upgrade fields
    uint8_t named              # Connection names other fields
    uint8_t expect
    uint8_t trailers
    Slice upgrade
    uint32_t options


# ---- one field line ----------------------------------------------------------------------------------------------

# Where the bytes from `at` to `end` end without white space behind them.
cdef inline const char *trim(const char *at, const char *end) noexcept nogil:
    while end > at and ((end - 1)[0] == b' ' or (end - 1)[0] == b'\t'):
        end -= 1
    return end


# Length of the line, its CRLF included, PARTIAL or BAD_*. field-line = field-name ":" OWS field-value OWS (9112 5)
cdef inline int field_line(const char *line, const char *end, uint32_t limit, Field *field) noexcept nogil:
    cdef const char *stop = end
    cdef int missing = PARTIAL
    cdef const char *p = line
    cdef const char *last
    cdef uint32_t h = 2166136261u
    cdef uint8_t c
    if end - line >= limit:
        stop = line + limit
        missing = BAD_FIELDS_LARGE
    field.flags = 0
    while p < stop and is_a(p[0], CHAR_TOKEN):
        c = <uint8_t>p[0]
        if 65 <= c <= 90:
            c |= 32
        elif c == b'_':
            field.flags = FIELD_UNDERSCORE
        h = (h ^ c) * 16777619u
        p += 1
    if p == stop:
        return missing
    if p[0] != b':' or p == line:
        return BAD_REQUEST
    field.name = line
    field.name_len = <uint32_t>(p - line)
    field.hash = h
    p += 1
    while p < stop and (p[0] == b' ' or p[0] == b'\t'):
        p += 1
    last = gw_value_end(p, stop)
    if last == stop:
        return missing
    if last[0] != b'\r':
        return BAD_REQUEST
    if last + 1 == stop:
        return missing
    if last[1] != b'\n':
        return BAD_REQUEST
    field.line_len = <uint32_t>(last + 2 - line)
    field.value = p
    field.value_len = <uint32_t>(trim(p, last) - p)
    field.id = field_id(field.name, field.name_len)
    return <int>field.line_len


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
        return FIELD_X_REQUEST_ID if same(name, b"x-request-id", 12) else FIELD_OTHER
    if n == 13:
        return FIELD_AUTHORIZATION if same(name, b"authorization", 13) else FIELD_OTHER
    if n == 14:
        if same(name, b"content-length", 14):
            return FIELD_CONTENT_LENGTH
        return FIELD_HTTP2_SETTINGS if same(name, b"http2-settings", 14) else FIELD_OTHER
    if n == 15:
        return FIELD_X_FORWARDED_FOR if same(name, b"x-forwarded-for", 15) else FIELD_OTHER
    if n == 16:
        if same(name, b"x-forwarded-host", 16):
            return FIELD_X_FORWARDED_HOST
        if same(name, b"x-forwarded-port", 16):
            return FIELD_X_FORWARDED_PORT
        return FIELD_PROXY_CONNECTION if same(name, b"proxy-connection", 16) else FIELD_OTHER
    if n == 17:
        if same(name, b"transfer-encoding", 17):
            return FIELD_TRANSFER_ENCODING
        return FIELD_X_FORWARDED_PROTO if same(name, b"x-forwarded-proto", 17) else FIELD_OTHER
    if n == 18:
        return FIELD_PROXY_AUTHENTICATE if same(name, b"proxy-authenticate", 18) else FIELD_OTHER
    if n == 19:
        return FIELD_PROXY_AUTHORIZATION if same(name, b"proxy-authorization", 19) else FIELD_OTHER
    return FIELD_OTHER


# ---- what fields mean ---------------------------------------------------------------------------------------------

# Never forwarded as received (RFC 9110 7.6.1). Proxy-Authenticate and Proxy-Authorization concern the next proxy and a
# gateway is none (11.7; Go's ReverseProxy drops them as well); Trailer is written anew where trailers are sent.
cdef inline bint is_hop(uint16_t id) noexcept nogil:
    return (id == FIELD_CONNECTION or id == FIELD_KEEP_ALIVE or id == FIELD_PROXY_CONNECTION or id == FIELD_TE
            or id == FIELD_TRAILER or id == FIELD_TRANSFER_ENCODING or id == FIELD_UPGRADE
            or id == FIELD_HTTP2_SETTINGS or id == FIELD_PROXY_AUTHENTICATE or id == FIELD_PROXY_AUTHORIZATION)


# The next member of a comma list, without white space around it; empty members are skipped (RFC 9110 5.6.1).
cdef bint next_member(Slice *rest, Slice *member) noexcept nogil:
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


cdef bint is_token(const Slice *word) noexcept nogil:
    cdef uint32_t i
    for i in range(word.n):
        if not is_a(word.at[i], CHAR_TOKEN):
            return False
    return word.n > 0


# What Connection must not name: stripping it would change who asks what of whom, and how long it is.
cdef bint is_guarded(const Slice *name) noexcept nogil:
    cdef uint16_t id = field_id(name.at, name.n)
    return (id == FIELD_HOST or id == FIELD_CONTENT_LENGTH or id == FIELD_TRANSFER_ENCODING
            or id == FIELD_AUTHORIZATION or id == FIELD_COOKIE or id == FIELD_FORWARDED or id == FIELD_X_REAL_IP
            or (name.n > 12 and same(name.at, b"x-forwarded-", 12)))


cdef int note_connection(const Field *field, Notes *notes) noexcept nogil:
    cdef Slice rest
    cdef Slice option
    rest.at = field.value
    rest.n = field.value_len
    while next_member(&rest, &option):
        if not is_token(&option):
            return BAD_REQUEST
        notes.options += 1
        if notes.options > CONNECTION_OPTIONS:
            return BAD_FIELDS_LARGE
        if option.n == 5 and same(option.at, b"close", 5):
            notes.close = 1
        elif option.n == 10 and same(option.at, b"keep-alive", 10):
            notes.keep_alive = 1
        elif option.n == 7 and same(option.at, b"upgrade", 7):
            notes.wants_upgrade = 1
        elif is_guarded(&option):
            return BAD_REQUEST
        else:
            notes.named = 1
    return 0


# Content-Length = 1*DIGIT, once, and at most 2^63 - 1 (RFC 9110 8.6).
cdef int note_length(const Field *field, Notes *notes) noexcept nogil:
    cdef uint64_t value = 0
    cdef uint32_t i
    if notes.has_length or notes.chunked or field.value_len == 0 or field.value_len > 19:
        return BAD_REQUEST
    for i in range(field.value_len):
        if not 48 <= field.value[i] <= 57:
            return BAD_REQUEST
        value = value * 10 + <uint64_t>(field.value[i] - 48)
    if value >> 63:
        return BAD_REQUEST
    notes.content_length = value
    notes.has_length = 1
    return 0


# Exactly one 'chunked', in HTTP/1.1, without Content-Length (RFC 9112 6.1).
cdef int note_coding(const Field *field, Notes *notes) noexcept nogil:
    cdef Slice value
    value.at = field.value
    value.n = field.value_len
    if notes.chunked or notes.has_length or notes.minor == 0 or value.n != 7:
        return BAD_REQUEST
    if not same(value.at, b"chunked", 7):
        return BAD_REQUEST
    notes.chunked = 1
    return 0


cdef void note_te(const Field *field, Notes *notes) noexcept nogil:
    cdef Slice rest
    cdef Slice member
    rest.at = field.value
    rest.n = field.value_len
    while next_member(&rest, &member):
        if member.n == 8 and is_token(&member) and same(member.at, b"trailers", 8):
            notes.trailers = 1


# Judges a field that the gateway acts on, in requests and responses. 0 or BAD_*.
cdef int note(Field *field, Notes *notes) noexcept nogil:
    if field.id == FIELD_CONTENT_LENGTH:
        return note_length(field, notes)
    if field.id == FIELD_TRANSFER_ENCODING:
        field.flags |= FIELD_HOP
        return note_coding(field, notes)
    if field.id == FIELD_CONNECTION:
        field.flags |= FIELD_HOP
        return note_connection(field, notes)
    if is_hop(field.id):
        field.flags |= FIELD_HOP
        if field.id == FIELD_TE:
            note_te(field, notes)
        elif field.id == FIELD_UPGRADE:
            notes.upgrades += notes.upgrades < 2
            notes.upgrade.at = field.value
            notes.upgrade.n = field.value_len
    return 0


# Marks the fields that Connection names, once all are known (RFC 9110 7.6.1).
cdef void mark_named(Field *fields, uint32_t count) noexcept nogil:
    cdef uint32_t i
    cdef Slice rest
    cdef Slice option
    for i in range(count):
        if fields[i].id == FIELD_CONNECTION:
            rest.at = fields[i].value
            rest.n = fields[i].value_len
            while next_member(&rest, &option):
                mark(fields, count, &option)


cdef void mark(Field *fields, uint32_t count, const Slice *option) noexcept nogil:
    cdef uint32_t h = name_hash(option.at, option.n)
    cdef uint32_t i
    for i in range(count):
        if fields[i].hash == h and fields[i].name_len == option.n and same_name(fields[i].name, option.at, option.n):
            fields[i].flags |= FIELD_HOP


cdef bint same_name(const char *a, const char *b, uint32_t n) noexcept nogil:
    cdef uint32_t i
    for i in range(n):
        if a[i] != b[i] and ((a[i] ^ b[i]) != 32 or not 97 <= (a[i] | 32) <= 122):
            return False
    return True


# One Upgrade field, asked for by Connection, in HTTP/1.1 (RFC 9110 7.8). h2c would let a client speak to the upstream
# behind the gateway's back, and RFC 9113 took it out: it is no upgrade.
cdef bint wants_upgrade(const Notes *notes) noexcept nogil:
    cdef Slice rest = notes.upgrade
    cdef Slice member
    if not notes.wants_upgrade or notes.upgrades != 1 or notes.minor == 0 or not next_member(&rest, &member):
        return False
    rest = notes.upgrade
    while next_member(&rest, &member):
        if member.n >= 3 and same(member.at, b"h2c", 3):
            return False
    return True


cdef void clear(Notes *notes) noexcept nogil:
    notes.content_length = 0
    notes.minor = 0
    notes.has_host = 0
    notes.has_length = 0
    notes.chunked = 0
    notes.close = 0
    notes.keep_alive = 0
    notes.wants_upgrade = 0
    notes.upgrades = 0
    notes.named = 0
    notes.expect = 0
    notes.trailers = 0
    notes.upgrade.at = NULL
    notes.upgrade.n = 0
    notes.options = 0


# ---- requests -----------------------------------------------------------------------------------------------------

cdef uint8_t method_id(const char *at, uint32_t n) noexcept nogil:
    if n == 3:
        if at[0] == b'G' and at[1] == b'E' and at[2] == b'T':
            return METHOD_GET
        return METHOD_PUT if at[0] == b'P' and at[1] == b'U' and at[2] == b'T' else METHOD_OTHER
    if n == 4:
        if is_word(at, b"POST", 4):
            return METHOD_POST
        return METHOD_HEAD if is_word(at, b"HEAD", 4) else METHOD_OTHER
    if n == 5:
        if is_word(at, b"PATCH", 5):
            return METHOD_PATCH
        return METHOD_TRACE if is_word(at, b"TRACE", 5) else METHOD_OTHER
    if n == 6:
        return METHOD_DELETE if is_word(at, b"DELETE", 6) else METHOD_OTHER
    if n == 7:
        if is_word(at, b"OPTIONS", 7):
            return METHOD_OPTIONS
        return METHOD_CONNECT if is_word(at, b"CONNECT", 7) else METHOD_OTHER
    return METHOD_OTHER


cdef inline bint is_word(const char *at, const char *word, uint32_t n) noexcept nogil:
    cdef uint32_t i
    for i in range(n):
        if at[i] != word[i]:
            return False
    return True


# 'HTTP/' DIGIT '.' DIGIT of which 1.0 and 1.1 are served: 8, PARTIAL where bytes are missing, BAD_VERSION for others.
cdef int version(const char *at, const char *stop, uint8_t *minor) noexcept nogil:
    cdef const char *form = b"HTTP/0.0"
    cdef uint32_t i
    for i in range(8):
        if at + i == stop:
            return PARTIAL
        if at[i] != form[i] and not (form[i] == b'0' and 48 <= at[i] <= 57):
            return BAD_REQUEST
    if at[5] != b'1' or at[7] > b'1':
        return BAD_VERSION
    minor[0] = <uint8_t>(at[7] - 48)
    return 8


# request-line = method SP request-target SP HTTP-version CRLF (RFC 9112 3)
cdef int request_line(const char *line, const char *end, uint32_t limit, RequestHead *head) noexcept nogil:
    cdef const char *stop = end
    cdef int missing = PARTIAL
    cdef const char *p = line
    cdef int n
    if end - line >= limit:
        stop = line + limit
        missing = BAD_TARGET_LONG
    while p < stop and is_a(p[0], CHAR_TOKEN):
        p += 1
    if p == stop:
        return missing
    if p[0] != b' ' or p == line:
        return BAD_REQUEST
    head.method.at = line
    head.method.n = <uint32_t>(p - line)
    head.method_id = method_id(line, head.method.n)
    if head.method_id == METHOD_CONNECT or head.method_id == METHOD_TRACE:
        return BAD_METHOD
    p += 1
    if p == stop:
        return missing
    n = scan_target(p, <uint32_t>(stop - p), head)
    if n < 0:
        return n
    p += n
    if p == stop:
        return missing
    if p[0] != b' ':
        return BAD_REQUEST
    n = resolve_target(head)
    if n < 0:
        return n
    p += 1
    n = version(p, stop, &head.minor)
    if n <= 0:
        return n if n else missing
    p += n
    if p == stop:
        return missing
    if p[0] != b'\r':
        return BAD_REQUEST
    if p + 1 == stop:
        return missing
    return <int>(p + 2 - line) if p[1] == b'\n' else BAD_REQUEST


# Expect = "100-continue", which HTTP/1.0 does not know (RFC 9110 10.1.1).
cdef int note_expect(const Field *field, Notes *notes) noexcept nogil:
    if notes.minor == 0:
        return 0
    if field.value_len != 12 or not same(field.value, b"100-continue", 12):
        return BAD_EXPECTATION
    notes.expect = 1
    return 0


cdef int note_host(const Field *field, Notes *notes, RequestHead *head) noexcept nogil:
    cdef Slice value
    value.at = field.value
    value.n = field.value_len
    if notes.has_host:
        return BAD_REQUEST
    notes.has_host = 1
    return resolve_host(&value, head)


cdef int finish_request(RequestHead *head, Notes *notes) noexcept nogil:
    if not notes.has_host and notes.minor:
        return BAD_REQUEST
    if notes.named:
        mark_named(head.fields, head.count)
    head.content_length = notes.content_length
    head.framing = FRAMING_CHUNKED if notes.chunked else FRAMING_LENGTH if notes.has_length else FRAMING_NONE
    head.keep_alive = not notes.close and (notes.minor or notes.keep_alive)
    head.trailers = notes.trailers
    # RFC 9110 7.8 lets the body come first; nobody sends one, and a tunnel must not begin inside it.
    head.upgrade = not notes.chunked and notes.content_length == 0 and wants_upgrade(notes)
    head.expect = notes.expect and (notes.chunked or notes.content_length > 0)
    return 0


cdef int request(const char *at, const char *end, const HeadLimits *limits, RequestHead *head) noexcept nogil:
    cdef const char *p = at
    cdef uint32_t line = min(limits.line, <uint32_t>MAX_LINE)
    cdef uint32_t most = min(limits.count, <uint32_t>MAX_FIELDS)
    cdef Notes notes
    cdef Field *field
    cdef int n
    if p < end and p[0] == b'\r':   # one empty line before a request (RFC 9112 2.2)
        if p + 1 == end:
            return PARTIAL
        if p[1] != b'\n':
            return BAD_REQUEST
        p += 2
    n = request_line(p, end, line, head)
    if n <= 0:
        return n
    p += n
    clear(&notes)
    notes.minor = head.minor
    head.count = 0
    while True:
        if p == end:
            return PARTIAL
        if p[0] == b'\r':
            if p + 1 == end:
                return PARTIAL
            if p[1] != b'\n':
                return BAD_REQUEST
            head.head_len = <uint32_t>(p + 2 - at)
            n = finish_request(head, &notes)
            return n if n else <int>head.head_len
        if head.count == most:
            return BAD_FIELDS_LARGE
        field = &head.fields[head.count]
        n = field_line(p, end, line, field)
        if n <= 0:
            return n
        p += n
        head.count += 1
        if field.id != FIELD_OTHER:
            if field.id == FIELD_HOST:
                n = note_host(field, &notes, head)
            elif field.id == FIELD_EXPECT:
                n = note_expect(field, &notes)
            else:
                n = note(field, &notes)
            if n < 0:
                return n


# The start of a field line that had begun when `seen` bytes were there and has not ended since, or NULL: then only
# this line is new, and a head that arrives byte by byte costs no more than its lines.
cdef const char *open_line(const char *at, uint32_t n, uint32_t seen) noexcept nogil:
    cdef const char *line
    if seen == 0 or seen >= n or memchr(at + seen, b'\n', n - seen) is not NULL:
        return NULL
    line = <const char *>memrchr(at, b'\n', seen)
    if line is NULL or line + 1 >= at + seen or line[1] == b'\r' or line == at + 1:
        return NULL
    return line + 1


cdef int parse_request(const char *at, uint32_t n, uint32_t seen, const HeadLimits *limits,
                       RequestHead *head) noexcept nogil:
    cdef uint32_t m = min(n, limits.head)
    cdef const char *line = open_line(at, m, seen)
    cdef Field scratch
    cdef int result
    if line is not NULL:
        result = field_line(line, at + m, min(limits.line, <uint32_t>MAX_LINE), &scratch)
    else:
        result = request(at, at + m, limits, head)
    return BAD_FIELDS_LARGE if result == PARTIAL and n >= limits.head else result


# ---- responses ----------------------------------------------------------------------------------------------------

# status-line = HTTP-version SP status-code SP [ reason-phrase ] CRLF (RFC 9112 4). The second SP is often left out with
# the reason, and nothing else can be meant.
cdef int status_line(const char *line, const char *end, uint32_t limit, ResponseHead *head) noexcept nogil:
    cdef const char *stop = end if end - line < limit else line + limit
    cdef int missing = PARTIAL if end - line < limit else BAD_RESPONSE
    cdef const char *p = line
    cdef const char *last
    cdef uint32_t i
    cdef int n = version(line, stop, &head.minor)
    if n <= 0:
        return n if n else missing
    p += n
    if p == stop:
        return missing
    if p[0] != b' ':
        return BAD_RESPONSE
    p += 1
    head.status = 0
    for i in range(3):
        if p == stop:
            return missing
        if not 48 <= p[0] <= 57:
            return BAD_RESPONSE
        head.status = head.status * 10 + <uint16_t>(p[0] - 48)
        p += 1
    if not 100 <= head.status <= 599:
        return BAD_RESPONSE
    if p == stop:
        return missing
    if p[0] == b' ':
        p += 1
    elif p[0] != b'\r':
        return BAD_RESPONSE
    last = gw_value_end(p, stop)
    if last == stop or last + 1 == stop:
        return missing if last == stop or last[0] == b'\r' else BAD_RESPONSE
    head.reason.at = p
    head.reason.n = <uint32_t>(last - p)
    return <int>(last + 2 - line) if last[0] == b'\r' and last[1] == b'\n' else BAD_RESPONSE


# Message body length (RFC 9112 6.3). What a bodiless response says about length is not believed: where that could mean
# bytes behind its head, the connection is not used again.
cdef int finish_response(ResponseHead *head, Notes *notes, uint8_t method) noexcept nogil:
    cdef bint bodiless = head.status < 200 or head.status == 204
    cdef uint32_t i
    if notes.named:
        mark_named(head.fields, head.count)
    head.content_length = notes.content_length
    head.keep_alive = not notes.close and (notes.minor or notes.keep_alive)
    head.upgrade = wants_upgrade(notes)
    if head.status == 101:
        if not head.upgrade:
            return BAD_RESPONSE
        head.framing = FRAMING_TUNNEL
    elif bodiless or head.status == 304 or method == METHOD_HEAD:
        head.framing = FRAMING_NONE
    elif notes.chunked:
        head.framing = FRAMING_CHUNKED
    elif notes.has_length:
        head.framing = FRAMING_LENGTH
    else:
        head.framing = FRAMING_CLOSE
        head.keep_alive = 0
    if bodiless and (notes.chunked or notes.has_length):   # RFC 9112 6.1, RFC 9110 8.6: must not be sent
        for i in range(head.count):
            if head.fields[i].id == FIELD_CONTENT_LENGTH:
                head.fields[i].flags |= FIELD_HOP
        if notes.chunked or notes.content_length:
            head.keep_alive = 0
        head.content_length = 0
    return 0


cdef int response(const char *at, const char *end, const HeadLimits *limits, uint8_t method,
                  ResponseHead *head) noexcept nogil:
    cdef const char *p = at
    cdef uint32_t line = min(limits.line, <uint32_t>MAX_LINE)
    cdef uint32_t most = min(limits.count, <uint32_t>MAX_FIELDS)
    cdef Notes notes
    cdef Field *field
    cdef int n = status_line(p, end, line, head)
    if n <= 0:
        return n
    p += n
    clear(&notes)
    notes.minor = head.minor
    head.count = 0
    while True:
        if p == end:
            return PARTIAL
        if p[0] == b'\r':
            if p + 1 == end:
                return PARTIAL
            if p[1] != b'\n':
                return BAD_RESPONSE
            head.head_len = <uint32_t>(p + 2 - at)
            n = finish_response(head, &notes, method)
            return n if n else <int>head.head_len
        if head.count == most:
            return BAD_RESPONSE
        field = &head.fields[head.count]
        n = field_line(p, end, line, field)
        if n <= 0:
            return n
        p += n
        head.count += 1
        if field.id != FIELD_OTHER:
            n = note(field, &notes)
            if n < 0:
                return n


cdef int parse_response(const char *at, uint32_t n, uint32_t seen, const HeadLimits *limits, uint8_t method_id,
                        ResponseHead *head) noexcept nogil:
    cdef uint32_t m = min(n, limits.head)
    cdef const char *line = open_line(at, m, seen)
    cdef Field scratch
    cdef int result
    if line is not NULL:
        result = field_line(line, at + m, min(limits.line, <uint32_t>MAX_LINE), &scratch)
    else:
        result = response(at, at + m, limits, method_id, head)
    return BAD_RESPONSE if result < 0 or (result == PARTIAL and n >= limits.head) else result


# ---- chunks -------------------------------------------------------------------------------------------------------

# chunk = chunk-size [ chunk-ext ] CRLF chunk-data CRLF (RFC 9112 7.1)
cdef enum ChunkStep:
    AT_SIZE = 0
    AT_NAME            # behind ';': chunk-ext = *( BWS ";" BWS name [ BWS "=" BWS value ] )
    IN_NAME
    BEHIND_NAME        # BWS: '=' or ';' must follow
    AT_VALUE
    IN_VALUE
    IN_QUOTES
    ESCAPED
    BEHIND_QUOTES
    BEHIND_VALUE       # BWS: ';' must follow
    AT_LF              # of the chunk line
    IN_DATA
    AT_DATA_CR
    AT_DATA_LF
    AT_LAST            # 0: the last chunk line was read
    BROKEN


cdef void chunk_start(ChunkState *state) noexcept nogil:
    state.left = 0
    state.extension = 0
    state.state = AT_SIZE
    state.digits = 0


# The step behind one byte of a chunk extension.
cdef uint8_t extension_step(uint8_t step, char c) noexcept nogil:
    cdef bint blank = c == b' ' or c == b'\t'
    if step == IN_QUOTES:
        if c == b'"':
            return BEHIND_QUOTES
        if c == b'\\':
            return ESCAPED
        return IN_QUOTES if is_a(c, CHAR_QUOTED) else BROKEN
    if step == ESCAPED:
        return IN_QUOTES if is_a(c, CHAR_QUOTED) or c == b'"' else BROKEN
    if step == AT_NAME:
        return IN_NAME if is_a(c, CHAR_TOKEN) else AT_NAME if blank else BROKEN
    if step == AT_VALUE:
        if c == b'"':
            return IN_QUOTES
        return IN_VALUE if is_a(c, CHAR_TOKEN) else AT_VALUE if blank else BROKEN
    if c == b';':
        return AT_NAME
    if step == IN_NAME or step == BEHIND_NAME:
        if c == b'=':
            return AT_VALUE
        if blank:
            return BEHIND_NAME
    elif blank:
        return BEHIND_VALUE
    if step == BEHIND_NAME or step == BEHIND_VALUE:
        return BROKEN
    if c == b'\r':
        return AT_LF
    return step if step != BEHIND_QUOTES and is_a(c, CHAR_TOKEN) else BROKEN


# The step behind one byte that is not data.
cdef uint8_t chunk_step(ChunkState *state, char c) noexcept nogil:
    if state.state == AT_SIZE:
        if is_a(c, CHAR_HEX):
            state.digits += 1
            state.left = state.left << 4 | hex_value(c)
            return AT_SIZE if state.digits <= 16 and not state.left >> 63 else BROKEN
        if state.digits == 0:
            return BROKEN
        state.extension = 0
        return AT_LF if c == b'\r' else AT_NAME if c == b';' else BROKEN
    if state.state == AT_LF:
        state.digits = 0
        return BROKEN if c != b'\n' else IN_DATA if state.left else AT_LAST
    if state.state == AT_DATA_CR:
        return AT_DATA_LF if c == b'\r' else BROKEN
    if state.state == AT_DATA_LF:
        return AT_SIZE if c == b'\n' else BROKEN
    if state.state >= AT_LAST:
        return BROKEN
    state.extension += 1
    return extension_step(state.state, c) if state.extension <= CHUNK_EXTENSION_BYTES else BROKEN


cdef int chunk_next(ChunkState *state, const char *at, size_t n, size_t *used, Slice *data) noexcept nogil:
    cdef size_t i = 0
    data.at = at
    data.n = 0
    while i < n:
        if state.state == IN_DATA:
            data.at = at + i
            data.n = <uint32_t>min(min(<uint64_t>(n - i), state.left), <uint64_t>0x40000000)
            state.left -= data.n
            if state.left == 0:
                state.state = AT_DATA_CR
            used[0] = i + data.n
            return CHUNK_DATA
        state.state = chunk_step(state, at[i])
        i += 1
        if state.state >= AT_LAST:
            used[0] = i
            return CHUNK_END if state.state == AT_LAST else CHUNK_BAD
    used[0] = i
    return CHUNK_MORE if state.state < AT_LAST else CHUNK_BAD


# ---- trailers -----------------------------------------------------------------------------------------------------

# What must not be in trailers: framing, routing, authentication, request and response control, content format, and who
# the client is (RFC 9110 6.5.1).
cdef bint is_barred(const Field *field) noexcept nogil:
    cdef const char *name = field.name
    cdef uint32_t n = field.name_len
    if field.id != FIELD_OTHER and field.id != FIELD_X_REQUEST_ID and field.id != FIELD_SERVER:
        return True
    if n > 12 and same(name, b"x-forwarded-", 12):
        return True
    if n > 3 and same(name, b"if-", 3):
        return True
    if n == 3:
        return same(name, b"age", 3)
    if n == 4:
        return same(name, b"vary", 4)
    if n == 5:
        return same(name, b"range", 5)
    if n == 6:
        return same(name, b"pragma", 6)
    if n == 7:
        return same(name, b"expires", 7) or same(name, b"warning", 7)
    if n == 10:
        return same(name, b"set-cookie", 10)
    if n == 11:
        return same(name, b"retry-after", 11)
    if n == 12:
        return same(name, b"content-type", 12) or same(name, b"max-forwards", 12)
    if n == 13:
        return same(name, b"cache-control", 13) or same(name, b"content-range", 13)
    if n == 16:
        return same(name, b"content-encoding", 16) or same(name, b"www-authenticate", 16)
    return False


cdef int parse_trailers(const char *at, uint32_t n, uint32_t limit, Field *fields, uint32_t room,
                        uint32_t *count) noexcept nogil:
    cdef const char *p = at
    cdef const char *end = at + min(n, limit)
    cdef int missing = BAD_REQUEST if n >= limit else PARTIAL
    cdef int used
    count[0] = 0
    while True:
        if p == end:
            return missing
        if p[0] == b'\r':
            if p + 1 == end:
                return missing
            return <int>(p + 2 - at) if p[1] == b'\n' else BAD_REQUEST
        if count[0] == room:
            return BAD_REQUEST
        used = field_line(p, end, MAX_LINE, &fields[count[0]])
        if used == PARTIAL:
            return missing
        if used < 0 or is_barred(&fields[count[0]]):
            return BAD_REQUEST
        p += used
        count[0] += 1


# ---- doors for Python: tests and tools, never the hot path -----------------------------------------------------------

cdef bytes text(Slice slice):
    return slice.at[:slice.n] if slice.at is not NULL else None


cdef list field_list(const Field *fields, uint32_t count):
    return [(fields[i].name[:fields[i].name_len], fields[i].value[:fields[i].value_len], fields[i].id,
             fields[i].flags, fields[i].hash, fields[i].line_len) for i in range(count)]


def request_at(size_t address, uint32_t n, *, uint32_t seen=0, uint32_t head=32768, uint32_t line=8192,
               uint32_t count=100):
    """Parse a request head that lies at an address: a dict of its parts, or the int that refuses it (0: partial)."""
    cdef HeadLimits limits
    cdef RequestHead parsed
    limits.head, limits.line, limits.count = head, line, count
    result = parse_request(<const char *>address, n, seen, &limits, &parsed)
    if result <= 0:
        return result
    return {
        "method": text(parsed.method), "target": text(parsed.target), "path": text(parsed.path),
        "query": text(parsed.query), "match_path": text(parsed.match_path), "slash_path": text(parsed.slash_path),
        "authority": text(parsed.authority), "host": text(parsed.host), "content_length": parsed.content_length,
        "method_id": parsed.method_id, "minor": parsed.minor, "framing": parsed.framing,
        "keep_alive": parsed.keep_alive, "upgrade": parsed.upgrade, "expect": parsed.expect,
        "absolute": parsed.absolute, "trailers": parsed.trailers, "head_len": parsed.head_len,
        "fields": field_list(parsed.fields, parsed.count),
    }


def request_of(data: bytes, **options):
    """Parse a request head: as request_at()."""
    return request_at(<size_t><const char *>data, <uint32_t>len(data), **options)


def response_at(size_t address, uint32_t n, *, uint32_t seen=0, uint32_t head=32768, uint32_t line=8192,
                uint32_t count=100, uint8_t method=METHOD_GET):
    """Parse a response head that lies at an address: a dict of its parts, or the int that refuses it (0: partial)."""
    cdef HeadLimits limits
    cdef ResponseHead parsed
    limits.head, limits.line, limits.count = head, line, count
    result = parse_response(<const char *>address, n, seen, &limits, method, &parsed)
    if result <= 0:
        return result
    return {
        "reason": text(parsed.reason), "status": parsed.status, "content_length": parsed.content_length,
        "minor": parsed.minor, "framing": parsed.framing, "keep_alive": parsed.keep_alive, "upgrade": parsed.upgrade,
        "head_len": parsed.head_len, "fields": field_list(parsed.fields, parsed.count),
    }


def response_of(data: bytes, **options):
    """Parse a response head: as response_at()."""
    return response_at(<size_t><const char *>data, <uint32_t>len(data), **options)


def chunks_at(size_t address, size_t n, cuts=()):
    """Decode a chunked body that arrives cut at these offsets: (data, bytes used, last result)."""
    cdef ChunkState state
    cdef Slice data
    cdef size_t at = 0
    cdef size_t used = 0
    cdef size_t end
    cdef int result = CHUNK_MORE
    body = bytearray()
    chunk_start(&state)
    for end in [*cuts, n]:
        while at < end:
            result = chunk_next(&state, <const char *>address + at, end - at, &used, &data)
            at += used
            if result == CHUNK_DATA:
                body += data.at[:data.n]
            elif result != CHUNK_MORE:
                return bytes(body), at, result
    return bytes(body), at, CHUNK_MORE


def chunks_of(data: bytes, cuts=()):
    """Decode a chunked body: as chunks_at()."""
    return chunks_at(<size_t><const char *>data, len(data), cuts)


def trailers_at(size_t address, uint32_t n, *, uint32_t limit=8192, uint32_t room=MAX_FIELDS):
    """Parse a trailer section that lies at an address: (its length, fields), or the int that refuses it (0: partial)."""
    cdef Field fields[MAX_FIELDS]
    cdef uint32_t count = 0
    result = parse_trailers(<const char *>address, n, limit, fields, min(room, <uint32_t>MAX_FIELDS), &count)
    return (result, field_list(fields, count)) if result > 0 else result


def trailers_of(data: bytes, **options):
    """Parse a trailer section: as trailers_at()."""
    return trailers_at(<size_t><const char *>data, <uint32_t>len(data), **options)
