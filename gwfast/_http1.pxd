# HTTP/1.1 grammar (RFC 9112), strict. Pure: bytes in, slices out, an int returned, nothing allocated.
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from gwfast._head cimport Field, HeadLimits, RequestHead, ResponseHead, Slice

# Length of the head (> 0), PARTIAL, or BAD_*. `seen` bytes were there at the last call that returned PARTIAL (0 at
# first): what they held is not judged twice. The answer depends on the bytes, never on how they arrived.
cdef int parse_request(const char *at, uint32_t n, uint32_t seen, const HeadLimits *limits,
                       RequestHead *head) noexcept nogil
# The same for a response to a request with this method (HEAD has no body, and so on). 1xx heads are returned like any
# other: status tells.
cdef int parse_response(const char *at, uint32_t n, uint32_t seen, const HeadLimits *limits, uint8_t method_id,
                        ResponseHead *head) noexcept nogil

cdef struct ChunkState:
    uint64_t left          # bytes left of the current chunk's data
    uint32_t extension     # bytes of extension seen in this chunk line
    uint8_t state
    uint8_t digits

cdef enum:
    CHUNK_MORE = 0         # all of the input was used, no data in it
    CHUNK_DATA = 1         # `data` is a slice of the input
    CHUNK_END = 2          # the last chunk line was read: what follows `used` is the trailer section
    CHUNK_BAD = -1

cdef enum:
    CHUNK_EXTENSION_BYTES = 256   # of one chunk (limits.CHUNK_EXTENSION_BYTES)
    CONNECTION_OPTIONS = 32       # of one head: each is looked for among all fields

cdef void chunk_start(ChunkState *state) noexcept nogil
# Reads from `at`; sets `used` (bytes consumed, data included) and `data`. Call again with the rest until CHUNK_MORE.
cdef int chunk_next(ChunkState *state, const char *at, size_t n, size_t *used, Slice *data) noexcept nogil

# The trailer section, from behind the last chunk line to its empty line. Length (> 0), PARTIAL or BAD_REQUEST. Fields that
# must not be in trailers (RFC 9110 6.5.1) are refused.
cdef int parse_trailers(const char *at, uint32_t n, uint32_t limit, Field *fields, uint32_t room,
                        uint32_t *count) noexcept nogil
