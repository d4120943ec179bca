"""HTTP in clear where TLS is expected (see cleartext.pxd): nginx says so in the same words, with the same status.

Rules
- Only what names its version is answered in HTTP: who speaks another protocol could not read it, and gets an alert.
- The line is read from its start again when more bytes came, and LINE_MOST bounds it.
- Of the request nothing is used but whether it is HEAD, whose answer has no body (RFC 9110 9.3.2).
"""
from libc.stdint cimport uint8_t, uint32_t
from libc.string cimport memcmp, memcpy, strlen

from gwfast.http2.frames cimport (FRAME_BAD, FRAME_GOAWAY, FRAME_PARTIAL, FRAME_SETTINGS, INADEQUATE_SECURITY, put_32, put_head,
                                  read_preface)

cdef enum:
    METHOD_MOST = 32           # of characters; the longest that is registered has 17 (UPDATEREDIRECTREF)
    VERSION = 8                # HTTP/1.1

cdef extern from * nogil:
    """
    static const char gwfast_clear_text[] = "The plain HTTP request was sent to HTTPS port";
    static const char gwfast_clear_fields[] =
        "\\r\\nContent-Type: text/plain\\r\\nContent-Length: 46\\r\\nConnection: close\\r\\n\\r\\n";
    static const char gwfast_clear_version[] = "HTTP/1.";
    """
    const char *gwfast_clear_text
    const char *gwfast_clear_fields
    const char *gwfast_clear_version


cdef Clear clear_peek(const uint8_t *at, uint32_t n) noexcept nogil:
    cdef int preface = read_preface(at, n)
    if preface != FRAME_BAD:
        return CLEAR_PARTIAL if preface == FRAME_PARTIAL else CLEAR_HTTP2
    return peek_line(at, n)


# method SP target SP HTTP/1.x CRLF (RFC 9112 3); a bare LF ends a line as well (2.2).
cdef Clear peek_line(const uint8_t *at, uint32_t n) noexcept nogil:
    cdef uint32_t i = 0
    cdef uint32_t target, version
    while i < n and is_token(at[i]):
        i += 1
        if i > METHOD_MOST:
            return CLEAR_NONE
    if i == n:
        return CLEAR_PARTIAL
    if i == 0 or at[i] != b' ':
        return CLEAR_NONE
    i += 1
    target = i
    while i < n and at[i] > 32 and at[i] != 127:
        i += 1
        if i > LINE_MOST:
            return CLEAR_HTTP1
    if i == n:
        return CLEAR_PARTIAL
    if i == target or at[i] != b' ':
        return CLEAR_NONE
    version = i + 1
    return peek_version(at + version, n - version)


cdef Clear peek_version(const uint8_t *at, uint32_t n) noexcept nogil:
    if memcmp(at, gwfast_clear_version, min(n, <uint32_t>(VERSION - 1))) != 0:
        return CLEAR_NONE
    if n < VERSION:
        return CLEAR_PARTIAL
    if not b'0' <= at[VERSION - 1] <= b'9':
        return CLEAR_NONE
    if n == VERSION:
        return CLEAR_PARTIAL
    if at[VERSION] == b'\n':
        return CLEAR_HTTP1
    if at[VERSION] != b'\r':
        return CLEAR_NONE
    if n == VERSION + 1:
        return CLEAR_PARTIAL
    return CLEAR_HTTP1 if at[VERSION + 1] == b'\n' else CLEAR_NONE


cdef inline bint is_token(uint8_t c) noexcept nogil:
    return b'A' <= c <= b'Z' or b'a' <= c <= b'z' or b'0' <= c <= b'9' or c == b'-' or c == b'_'


cdef inline uint8_t *put(uint8_t *to, const char *text) noexcept nogil:
    cdef size_t n = strlen(text)
    memcpy(to, text, n)
    return to + n


cdef uint8_t *clear_answer(Clear what, const uint8_t *at, const char *date, uint8_t *to) noexcept nogil:
    cdef uint32_t n = <uint32_t>strlen(gwfast_clear_text)
    if what == CLEAR_HTTP2:        # a server's preface, then why it says no more (RFC 9113 3.4, 9.2)
        to = put_head(to, 0, FRAME_SETTINGS, 0, 0)
        to = put_32(put_32(put_head(to, 8 + n, FRAME_GOAWAY, 0, 0), 0), INADEQUATE_SECURITY)
        return put(to, gwfast_clear_text)
    to = put(put(put(to, b"HTTP/1.1 400 Bad Request\r\nDate: "), date), gwfast_clear_fields)
    if memcmp(at, b"HEAD ", 5) == 0:
        return to
    return put(put(to, gwfast_clear_text), b"\n")


def clear_of(data: bytes):
    """Say what the first bytes of a connection are ('partial', 'none', 'http1', 'http2'), and the answer, if there is one."""
    cdef uint8_t room[CLEAR_BYTES]
    cdef const uint8_t *at = <const uint8_t *><const char *>data
    cdef Clear what = clear_peek(at, <uint32_t>len(data))
    answer = b""
    if what == CLEAR_HTTP1 or what == CLEAR_HTTP2:
        answer = room[:clear_answer(what, at, b"Thu, 01 Jan 1970 00:00:00 GMT", room) - room]
    return ("partial", "none", "http1", "http2")[what], answer
