# What is still to come of a body, in either direction. Pure.
from libc.stdint cimport uint8_t, uint64_t
from gwfast._http1 cimport ChunkState

cdef struct Body:
    uint64_t left          # FRAMING_LENGTH: bytes still to come
    ChunkState chunk
    uint8_t framing        # Framing
    uint8_t trailing       # the last chunk was read: the trailer section comes
    uint8_t done

cdef enum:
    BODY_MORE = 0          # all of the input was used
    BODY_END = 1           # the body is complete; what follows `used` is not of it
    BODY_TRAILERS = 2      # the trailer section begins at `used`
    BODY_BAD = -1

cdef void body_start(Body *body, uint8_t framing, uint64_t length) noexcept nogil
# Reads from `at` and leaves the payload in one piece at data[0:payload]: chunks are moved together in place.
cdef int body_next(Body *body, char *at, size_t n, size_t *used, char **data, size_t *payload) noexcept nogil

cdef inline int hex_line(char *line, size_t n) noexcept nogil:
    """A chunk's first line (RFC 9112 7.1); its length. `line` has room for 18."""
    cdef int digits = 1, i
    while n >> (4 * digits) and digits < 16:
        digits += 1
    for i in range(digits):
        line[i] = b"0123456789abcdef"[(n >> (4 * (digits - 1 - i))) & 15]
    line[digits] = 13
    line[digits + 1] = 10
    return digits + 2
