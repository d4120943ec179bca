"""What is still to come of a body (see body.pxd)."""
from libc.stdint cimport uint8_t, uint64_t
from libc.string cimport memmove

from gwfast.http.head cimport FRAMING_CHUNKED, FRAMING_CLOSE, FRAMING_LENGTH, Slice
from gwfast.http1.parser cimport CHUNK_DATA, CHUNK_END, CHUNK_MORE, chunk_next, chunk_start


cdef void body_start(Body *body, uint8_t framing, uint64_t length, bint lenient) noexcept nogil:
    body.framing = framing
    body.left = length if framing == FRAMING_LENGTH else 0
    body.trailing = False
    body.done = framing != FRAMING_CHUNKED and framing != FRAMING_CLOSE and body.left == 0
    if framing == FRAMING_CHUNKED:
        chunk_start(&body.chunk, lenient)


cdef int body_next(Body *body, char *at, size_t n, size_t *used, char **data, size_t *payload) noexcept nogil:
    cdef size_t step = 0, total = 0, at_byte = 0
    cdef Slice piece
    cdef int result
    data[0] = at
    payload[0] = 0
    used[0] = 0
    if body.done:
        return BODY_END
    if body.framing == FRAMING_CLOSE:
        payload[0] = used[0] = n
        return BODY_MORE
    if body.framing == FRAMING_LENGTH:
        step = n if n < body.left else <size_t>body.left
        body.left -= step
        payload[0] = used[0] = step
        body.done = body.left == 0
        return BODY_END if body.done else BODY_MORE
    while True:
        result = chunk_next(&body.chunk, at + at_byte, n - at_byte, &step, &piece)
        at_byte += step
        if result == CHUNK_DATA:
            if total == 0:
                data[0] = <char *>piece.at
            else:
                memmove(data[0] + total, piece.at, piece.n)
            total += piece.n
            continue
        payload[0] = total
        used[0] = at_byte
        if result == CHUNK_MORE:
            return BODY_MORE
        if result == CHUNK_END:
            body.trailing = True
            return BODY_TRAILERS
        return BODY_BAD


cdef inline int hex_line(char *line, size_t n) noexcept nogil:
    """A chunk's first line (RFC 9112 7.1); its length."""
    cdef int digits = 1, i, digit
    while n >> (4 * digits) and digits < 16:
        digits += 1
    for i in range(digits):
        digit = (n >> (4 * (digits - 1 - i))) & 15
        line[i] = <char>(digit + (48 if digit < 10 else 87))
    line[digits] = 13
    line[digits + 1] = 10
    return digits + 2


cdef inline void part(iovec *out, const char *at, size_t n) noexcept nogil:
    out.iov_base = <void *>at
    out.iov_len = n


cdef int body_parts(iovec *parts, char *line, bint chunked, const char *at, size_t n, bint end) noexcept nogil:
    if not chunked:
        part(parts, at, n)
        return 1 if n else 0
    if n == 0:
        part(parts, b"0\r\n\r\n", 5)
        return 1 if end else 0
    part(parts, line, hex_line(line, n))
    part(parts + 1, at, n)
    if end:
        part(parts + 2, b"\r\n0\r\n\r\n", 7)
    else:
        part(parts + 2, b"\r\n", 2)
    return 3


cdef int trailer_parts(iovec *parts, const char *at, size_t n) noexcept nogil:
    part(parts, b"0\r\n", 3)
    part(parts + 1, at, n)
    part(parts + 2, b"\r\n", 2)
    return 3


cdef size_t parts_size(const iovec *parts, int count) noexcept nogil:
    cdef size_t total = 0
    cdef int i
    for i in range(count):
        total += parts[i].iov_len
    return total
