# HTTP/1.1 grammar (RFC 9112), strict. Pure: bytes in, slices out, an int returned, nothing allocated.
from libc.stdint cimport uint8_t, uint32_t
from gwfast.http1.chunked cimport (CHUNK_BAD, CHUNK_DATA, CHUNK_END, CHUNK_MORE, ChunkState, chunk_next, chunk_start,
                                   keep_trailers, parse_trailers)
from gwfast.http.head cimport HeadLimits, RequestHead, ResponseHead

cdef enum:
    METHOD_BYTES = 64          # of a method; the longest registered one has 17

cdef uint8_t method_id(const char *at, uint32_t n) noexcept nogil

# Length of the head (> 0), PARTIAL, or BAD_*. `seen` bytes were there at the last call that returned PARTIAL (0 at
# first): what they held is not judged twice. The answer depends on the bytes, never on how they arrived.
cdef int parse_request(const char *at, uint32_t n, uint32_t seen, const HeadLimits *limits,
                       RequestHead *head) noexcept nogil
# The same for a response to a request with this method (HEAD has no body, and so on). 1xx heads are returned like any
# other: status tells.
cdef int parse_response(const char *at, uint32_t n, uint32_t seen, const HeadLimits *limits, uint8_t method_id,
                        ResponseHead *head) noexcept nogil
