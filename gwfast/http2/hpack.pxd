# Header compression for HTTP/2 (RFC 7541). Pure: bytes in, fields out, and back; nothing is raised, and nothing allocated
# but what the caller allocates once: a table for each direction of a connection.
#
# What arrives is decoded into lines, one behind the other, as HTTP/1.1 has them; the fields are slices of those:
#
#     :method: GET CRLF :path: /a CRLF ... accept: */* CRLF user-agent: ... CRLF |  free  |
#     ^ pseudo-header fields come first    ^ fields[i].name            ^ next: at
from libc.stdint cimport uint8_t, uint32_t
from gwfast.http.head cimport Field
from gwfast.http2.hpack_encoder cimport (Encoding, encoding_bytes, encoding_limit, encoding_start, hpack_begin, hpack_encode,
                                         hpack_pseudo, hpack_status)
from gwfast.http2.hpack_table cimport (FIELD_BAD_NAME, FIELD_BAD_VALUE, FIELD_NEVER_INDEXED, PSEUDO_AUTHORITY, PSEUDO_METHOD,
                                       PSEUDO_OTHER, PSEUDO_PATH, PSEUDO_PROTOCOL, PSEUDO_SCHEME, PSEUDO_STATUS, DynamicTable,
                                       table_bytes, table_fold, table_start, table_unfold)

cdef enum:
    HPACK_OK = 0           # the whole block was read
    HPACK_LARGE = 1        # the same, but its fields are more or larger than allowed: those beyond are left out. The table
                           # is right and the connection may go on; this message is refused (431)
    HPACK_MORE = 2         # not the last part: what is behind `used` is to be given again, before what follows it
    HPACK_BAD = -1         # COMPRESSION_ERROR: the connection ends
    HPACK_CALM = -2        # ENHANCE_YOUR_CALM: what would be left out is more than `spare` as well; the connection ends

cdef enum:
    HEADER_TABLE_BYTES = 4096      # of a table (limits.HEADER_TABLE_BYTES)

# A field block while it is read.
cdef struct FieldBlock:
    Field *fields
    uint32_t room          # how many fields there may be (limits.FIELD_COUNT)
    uint32_t count
    char *at               # behind the last line; there is room for arena_bytes(left, table.most) from the first on
    uint32_t left          # bytes that the list may still have, as RFC 9113 6.5.2 counts them (limits.HEAD_BYTES)
    uint32_t spare         # the same of what is left out: the table wants it read, but not without end (limits.HEAD_BYTES)
    uint8_t begun          # 0 at first
    uint8_t large          # 0 at first
    uint8_t path           # 0 at first: the first field that was left out is ':path'
    uint8_t join           # crumbs of a cookie that follow each other become one field at once (RFC 9113 8.2.3)

# For a list of at most so many bytes, from this arena.
cdef inline void block_start(FieldBlock *block, Field *fields, uint32_t room, char *at, uint32_t left, uint32_t spare,
                             bint join) noexcept nogil:
    block.fields, block.room, block.count = fields, room, 0
    block.at, block.left, block.spare = at, left, spare
    block.begun = block.large = block.path = 0
    block.join = join

cdef inline size_t arena_bytes(uint32_t left, uint32_t most) noexcept nogil:
    return <size_t>left + most + 64

# Reads a part of a field block: whole fields of it, and says how many bytes those were. The result of a block does not
# depend on how it was cut. The time is in proportion to the bytes read, and to `left` and `spare`.
cdef int hpack_decode(DynamicTable *table, const uint8_t *at, uint32_t n, bint last, FieldBlock *block,
                      uint32_t *used) noexcept nogil
# Our SETTINGS_HEADER_TABLE_SIZE, once it is acknowledged: at most what the table was made for.
cdef void hpack_limit(DynamicTable *table, uint32_t most) noexcept nogil
