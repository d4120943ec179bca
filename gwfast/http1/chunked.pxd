# Chunked bodies and their trailers (RFC 9112 7.1). Pure: bytes in, slices out, nothing allocated.
from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from gwfast.http.head cimport Field, HeadLimits, Slice

cdef struct ChunkState:
    uint64_t left          # bytes left of the current chunk's data
    uint32_t extension     # bytes of extension seen in this chunk line
    uint8_t state
    uint8_t digits
    uint8_t lenient        # blanks may stand before the end of a chunk line, as nginx and HAProxy take them of backends

cdef enum:
    CHUNK_MORE = 0         # all of the input was used, no data in it
    CHUNK_DATA = 1         # `data` is a slice of the input
    CHUNK_END = 2          # the last chunk line was read: what follows `used` is the trailer section
    CHUNK_BAD = -1

cdef enum:
    CHUNK_EXTENSION_BYTES = 256   # of one chunk (limits.CHUNK_EXTENSION_BYTES)

cdef void chunk_start(ChunkState *state, bint lenient) noexcept nogil
# Reads from `at`; sets `used` (bytes consumed, data included) and `data`. Call again with the rest until CHUNK_MORE.
cdef int chunk_next(ChunkState *state, const char *at, size_t n, size_t *used, Slice *data) noexcept nogil

# The trailer section, from behind the last chunk line to its empty line: as large as a head may be. Length (> 0), PARTIAL,
# BAD_FIELDS_LARGE or BAD_REQUEST. Fields that must not be in trailers (RFC 9110 6.5.1) are refused, or flagged FIELD_HOP where
# dropping them is enough.
cdef int parse_trailers(const char *at, uint32_t n, const HeadLimits *limits, Field *fields, uint32_t *count) noexcept nogil

# The same of a response, which is not cut for a field that does not belong there: it is left out. `kept`: bytes of the lines that
# stay, moved together to `at`. Length (> 0), PARTIAL (nothing has changed), BAD_FIELDS_LARGE or BAD_REQUEST: no fields at all.
cdef int sift_trailers(char *at, uint32_t n, const HeadLimits *limits, uint32_t *kept) noexcept nogil
# Whether a field may be in trailers (RFC 9110 6.5.1).
cdef bint may_trail(const Field *field) noexcept nogil

# Moves the lines of a parsed section that have none of these flags together, to where it begins; their length in all.
cdef uint32_t keep_trailers(char *at, const Field *fields, uint32_t count, uint16_t flags) noexcept nogil
