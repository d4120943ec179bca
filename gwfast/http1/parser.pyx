"""Heads of HTTP/1.1 messages (RFC 9112 2 to 6).

Rules: one strict grammar, no lenient modes. Lines end with CRLF. A byte that cannot be where it is ends the parse at
once; a line that cannot be what it is ends it with the line; only what needs the whole head (a missing Host, say)
waits for the end. So every prefix of a message gives PARTIAL or the verdict of the whole, however it was cut.
"""
import time

from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memchr, memcpy
from gwfast.http.bytes cimport CHAR_TOKEN, gw_value_end_in, is_a, same
from gwfast.http.fields cimport field_line
from gwfast.http.framing cimport Notes, clear, mark_named, note, wants_upgrade, why_noted
from gwfast.http.head cimport (BAD_EXPECTATION, BAD_FIELDS_LARGE, BAD_METHOD, BAD_REQUEST, BAD_RESPONSE, BAD_TARGET_LONG,
                               BAD_VERSION, COUNT_MOST, FIELD_CONTENT_LENGTH, FIELD_COOKIE, FIELD_EXPECT, FIELD_HOP, FIELD_HOST,
                               FIELD_OTHER, FRAMING_CHUNKED, FRAMING_CLOSE, FRAMING_LENGTH, FRAMING_NONE, FRAMING_TUNNEL, Field,
                               FIELD_MOST, HEAD_MOST, HeadLimits, METHOD_CONNECT, METHOD_DELETE, METHOD_GET, METHOD_HEAD,
                               METHOD_OPTIONS, METHOD_OTHER, METHOD_PATCH, METHOD_POST, METHOD_PUT, METHOD_TRACE, PARTIAL,
                               RequestHead, ResponseHead, Slice, WHY_FOLDED, WHY_HOST, WHY_HOST_CONFLICT, WHY_HOST_MISSING,
                               WHY_HOST_TWICE, WHY_LINE_END, WHY_METHOD, WHY_NAME, WHY_TARGET, WHY_VALUE, WHY_VERSION,
                               forget_request, forget_response, refused, room_for_request, room_for_response)
from gwfast.http.target cimport resolve_host, resolve_target, scan_target

cdef extern from "string.h" nogil:
    const void *memrchr(const void *at, int c, size_t n)


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


cdef inline uint64_t word(const char *at) noexcept nogil:
    cdef uint64_t value
    memcpy(&value, at, 8)
    return value


# 'HTTP/' DIGIT '.' DIGIT of which 1.0 and 1.1 are served: 8, PARTIAL where bytes are missing, BAD_VERSION for others.
cdef inline int version(const char *at, const char *stop, uint8_t *minor) noexcept nogil:
    if stop - at >= 8 and word(at) == word(b"HTTP/1.1"):
        minor[0] = 1
        return 8
    return other_version(at, stop, minor)


cdef int other_version(const char *at, const char *stop, uint8_t *minor) noexcept nogil:
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
    if stop - line >= 4 and is_word(line, b"GET ", 4):
        p += 3
    while p < stop and is_a(p[0], CHAR_TOKEN):
        p += 1
        if p - line > METHOD_BYTES:
            return refused(head, BAD_REQUEST, WHY_METHOD)
    if p == stop:
        return missing
    if p[0] != b' ' or p == line:
        return refused(head, BAD_REQUEST, WHY_METHOD)
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
        return refused(head, n, WHY_TARGET)
    p += n
    if p == stop:
        return missing
    if p[0] != b' ':
        return refused(head, BAD_REQUEST, WHY_VERSION if p[0] == b'\r' or p[0] == b'\n' else WHY_TARGET)
    n = resolve_target(head)
    if n < 0:
        return refused(head, n, WHY_TARGET)
    p += 1
    n = version(p, stop, &head.minor)
    if n <= 0:
        return refused(head, n, WHY_VERSION) if n else missing
    p += n
    if p == stop:
        return missing
    if p[0] != b'\r':
        return refused(head, BAD_REQUEST, WHY_LINE_END)
    if p + 1 == stop:
        return missing
    return <int>(p + 2 - line) if p[1] == b'\n' else refused(head, BAD_REQUEST, WHY_LINE_END)


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
        return refused(head, BAD_REQUEST, WHY_HOST_TWICE)
    notes.has_host = 1
    if resolve_host(&value, head) < 0:
        return refused(head, BAD_REQUEST, WHY_HOST_CONFLICT if head.absolute else WHY_HOST)
    return 0


cdef int finish_request(RequestHead *head, Notes *notes) noexcept nogil:
    if not notes.has_host and notes.minor:
        return refused(head, BAD_REQUEST, WHY_HOST_MISSING)
    if notes.named:
        mark_named(head.fields, head.count)
    head.content_length = notes.content_length
    head.framing = FRAMING_CHUNKED if notes.chunked else FRAMING_LENGTH if notes.has_length else FRAMING_NONE
    head.keep_alive = not notes.close and (notes.minor or notes.keep_alive)
    head.trailers = notes.trailers
    head.stated = 0
    # RFC 9110 7.8 lets the body come first; nobody sends one, and a tunnel must not begin inside it.
    head.upgrade = not notes.chunked and notes.content_length == 0 and wants_upgrade(notes)
    head.expect = notes.expect and (notes.chunked or notes.content_length > 0)
    return 0


# Why this is no field line: asked once it is known that it is none.
cdef uint8_t why_field(const char *line, const char *end) noexcept nogil:
    cdef const char *p = line
    if p[0] == b' ' or p[0] == b'\t':
        return WHY_FOLDED
    while p < end and is_a(p[0], CHAR_TOKEN):
        p += 1
    if p == line or p == end or p[0] != b':':
        return WHY_NAME
    p = gw_value_end_in(line, p + 1, end)
    return WHY_LINE_END if p < end and (p[0] == b'\r' or p[0] == b'\n') else WHY_VALUE


cdef int request(const char *at, const char *end, const HeadLimits *limits, RequestHead *head) noexcept nogil:
    cdef const char *p = at
    cdef uint32_t line = limits.line
    cdef uint32_t most = min(limits.count, <uint32_t>head.most)
    cdef Notes notes
    cdef Field *field
    cdef int n
    if p < end and p[0] == b'\r':   # one empty line before a request (RFC 9112 2.2)
        if p + 1 == end:
            return PARTIAL
        if p[1] != b'\n':
            return refused(head, BAD_REQUEST, WHY_LINE_END)
        p += 2
    n = request_line(p, end, line, head)
    if n <= 0:
        return n
    p += n
    clear(&notes)
    notes.minor = head.minor
    head.count = 0
    head.ids = 0
    head.cookies = 0
    while True:
        if p == end:
            return PARTIAL
        if p[0] == b'\r':
            if p + 1 == end:
                return PARTIAL
            if p[1] != b'\n':
                return refused(head, BAD_REQUEST, WHY_LINE_END)
            head.head_len = <uint32_t>(p + 2 - at)
            n = finish_request(head, &notes)
            return n if n else <int>head.head_len
        if head.count == most:
            return BAD_FIELDS_LARGE
        field = &head.fields[head.count]
        n = field_line(p, end, line, field)
        if n <= 0:
            return refused(head, n, why_field(p, end)) if n else n
        p += n
        head.count += 1
        if field.id != FIELD_OTHER:
            head.ids |= <uint32_t>1 << field.id
            if field.id == FIELD_COOKIE:
                head.cookies += head.cookies < 2
            elif field.id == FIELD_HOST:
                n = note_host(field, &notes, head)
            elif field.id == FIELD_EXPECT:
                n = note_expect(field, &notes)
            else:
                n = note(field, &notes)
                if n < 0:
                    return refused(head, n, why_noted(field, &notes))
            if n < 0:
                return n


# The start of a field line that had begun when `seen` bytes were there and has not ended since, or NULL: then only
# this line is new, and a head that arrives byte by byte costs no more than its lines.
cdef const char *open_line(const char *at, uint32_t n, uint32_t seen) noexcept nogil:
    cdef const char *line
    if seen >= n or memchr(at + seen, b'\n', n - seen) is not NULL:
        return NULL
    line = <const char *>memrchr(at, b'\n', seen)
    if line is NULL or line + 1 >= at + seen or line[1] == b'\r' or line == at + 1:
        return NULL
    return line + 1


cdef int judge_line(const char *line, const char *end, const HeadLimits *limits) noexcept nogil:
    cdef Field scratch
    return field_line(line, end, limits.line, &scratch)


cdef int parse_request(const char *at, uint32_t n, uint32_t seen, const HeadLimits *limits,
                       RequestHead *head) noexcept nogil:
    cdef uint32_t m = min(n, limits.head)
    cdef const char *line = open_line(at, m, seen) if seen else NULL
    cdef int result
    if line is not NULL:
        result = judge_line(line, at + m, limits)
        if result < 0:
            head.why = why_field(line, at + m)
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
    for _ in range(3):
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
    last = gw_value_end_in(line, p, stop)
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
    cdef uint32_t line = limits.line
    cdef uint32_t most = min(limits.count, <uint32_t>head.most)
    cdef Notes notes
    cdef Field *field
    cdef int n = status_line(p, end, line, head)
    if n <= 0:
        return n
    p += n
    clear(&notes)
    notes.minor = head.minor
    head.count = 0
    head.ids = 0
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
            head.ids |= <uint32_t>1 << field.id
            n = note(field, &notes)
            if n < 0:
                return n


cdef int parse_response(const char *at, uint32_t n, uint32_t seen, const HeadLimits *limits, uint8_t method_id,
                        ResponseHead *head) noexcept nogil:
    cdef uint32_t m = min(n, limits.head)
    cdef const char *line = open_line(at, m, seen) if seen else NULL
    cdef int result
    if line is not NULL:
        result = judge_line(line, at + m, limits)
    else:
        result = response(at, at + m, limits, method_id, head)
    return BAD_RESPONSE if result < 0 or (result == PARTIAL and n >= limits.head) else result


# ---- doors for Python: tests and tools, never the hot path -----------------------------------------------------------

cdef bytes text(Slice slice):
    return slice.at[:slice.n] if slice.at is not NULL else None


cdef list field_list(const Field *fields, uint32_t count):
    return [(fields[i].name[:fields[i].name_len], fields[i].value[:fields[i].value_len], fields[i].id,
             fields[i].flags, fields[i].hash, fields[i].line_len) for i in range(count)]


def request_at(size_t address, uint32_t n, *, uint32_t seen=0, uint32_t head=HEAD_MOST, uint32_t line=FIELD_MOST,
               uint32_t count=COUNT_MOST):
    """Parse a request head that lies at an address: a dict of its parts, or the int that refuses it (0: partial)."""
    cdef HeadLimits limits = HeadLimits(head, line, count)
    cdef RequestHead parsed
    try:
        if room_for_request(&parsed, &limits) < 0:
            raise MemoryError
        result = parse_request(<const char *>address, n, seen, &limits, &parsed)
        return result if result <= 0 else request_parts(&parsed)
    finally:
        forget_request(&parsed)


cdef dict request_parts(const RequestHead *parsed):
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


def response_at(size_t address, uint32_t n, *, uint32_t seen=0, uint32_t head=HEAD_MOST, uint32_t line=FIELD_MOST,
                uint32_t count=COUNT_MOST, uint8_t method=METHOD_GET):
    """Parse a response head that lies at an address: a dict of its parts, or the int that refuses it (0: partial)."""
    cdef HeadLimits limits = HeadLimits(head, line, count)
    cdef ResponseHead parsed
    try:
        if room_for_response(&parsed, &limits) < 0:
            raise MemoryError
        result = parse_response(<const char *>address, n, seen, &limits, method, &parsed)
        return result if result <= 0 else response_parts(&parsed)
    finally:
        forget_response(&parsed)


cdef dict response_parts(const ResponseHead *parsed):
    return {
        "reason": text(parsed.reason), "status": parsed.status, "content_length": parsed.content_length,
        "minor": parsed.minor, "framing": parsed.framing, "keep_alive": parsed.keep_alive, "upgrade": parsed.upgrade,
        "head_len": parsed.head_len, "fields": field_list(parsed.fields, parsed.count),
    }


def response_of(data: bytes, **options):
    """Parse a response head: as response_at()."""
    return response_at(<size_t><const char *>data, <uint32_t>len(data), **options)


def spin(data: bytes, bint response, uint32_t times) -> tuple[int, int]:
    """Parse a head many times, for measurements: its length as the last time gave it, and nanoseconds in all."""
    cdef HeadLimits limits = HeadLimits(HEAD_MOST, FIELD_MOST, COUNT_MOST)
    cdef RequestHead asked
    cdef ResponseHead answered
    answered.fields = NULL
    cdef const char *at = data
    cdef uint32_t n = <uint32_t>len(data)
    cdef int result = 0
    try:
        if room_for_request(&asked, &limits) < 0 or room_for_response(&answered, &limits) < 0:
            raise MemoryError
        begin = time.perf_counter_ns()
        for _ in range(times):
            if response:
                result = parse_response(at, n, 0, &limits, METHOD_GET, &answered)
            else:
                result = parse_request(at, n, 0, &limits, &asked)
        return result, time.perf_counter_ns() - begin
    finally:
        forget_request(&asked)
        forget_response(&answered)
