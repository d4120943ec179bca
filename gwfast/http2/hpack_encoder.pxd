# Encodes field blocks for HTTP/2 (RFC 7541). Pure: fields in, bytes out, nothing allocated.
from libc.stdint cimport int32_t, uint8_t, uint16_t, uint32_t
from gwfast.http.head cimport Field

cdef enum:
    HPACK_BUCKETS = 64
    HPACK_FIELD_ROOM = 24  # that a field may take beside its name and value

# What an encoder knows; its table lies behind it. Entries are found by two chains that run from the newest one back: those
# of a name, and those of a name and value. They go by numbers, which are given in turn.
cdef struct Encoding:
    uint16_t newest        # number of the newest entry
    uint8_t announce       # the next block begins with the size
    uint32_t lowest        # of the sizes since the last block
    uint16_t names[HPACK_BUCKETS]
    uint16_t marks[HPACK_BUCKETS]

cdef size_t encoding_bytes(uint32_t most) noexcept nogil
# Makes an encoder of a block of that many bytes; its table has at most this size, whatever the peer allows.
cdef void encoding_start(Encoding *encoding, uint32_t most) noexcept nogil
# The peer's SETTINGS_HEADER_TABLE_SIZE.
cdef void encoding_limit(Encoding *encoding, uint32_t most) noexcept nogil

# Each writes at most to `end` and returns how many bytes that were, or -1 where there is no room (nothing has changed).
# A field block begins with hpack_begin().
cdef int32_t hpack_begin(Encoding *encoding, uint8_t *to, uint8_t *end) noexcept nogil
cdef int32_t hpack_status(Encoding *encoding, uint32_t status, uint8_t *to, uint8_t *end) noexcept nogil
# A field with name, value, hash, id and flags; the name in any case, of token characters.
cdef int32_t hpack_encode(Encoding *encoding, const Field *field, uint8_t *to, uint8_t *end) noexcept nogil
# A pseudo-header field that requests have (Pseudo).
cdef int32_t hpack_pseudo(Encoding *encoding, uint16_t id, const char *value, uint32_t n, uint8_t *to,
                          uint8_t *end) noexcept nogil
