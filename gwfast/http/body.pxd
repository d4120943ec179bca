# What is still to come of a body, in either direction. Pure.
from libc.stdint cimport uint8_t, uint64_t
from gwfast.http1.parser cimport ChunkState
from gwfast.engine.sys cimport iovec

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

cdef void body_start(Body *body, uint8_t framing, uint64_t length, bint lenient) noexcept nogil      # lenient: of a response
# Reads from `at` and leaves the payload in one piece at data[0:payload]: chunks are moved together in place.
cdef int body_next(Body *body, char *at, size_t n, size_t *used, char **data, size_t *payload) noexcept nogil

# The other way: parts to send. `line` has room for 18 and lives as long as the parts. Each returns how many there are.
cdef int body_parts(iovec *parts, char *line, bint chunked, const char *at, size_t n, bint end) noexcept nogil   # at most 3
cdef int trailer_parts(iovec *parts, const char *at, size_t n) noexcept nogil      # 3: end a body in chunks with raw lines
cdef size_t parts_size(const iovec *parts, int count) noexcept nogil
