# The tables of HPACK (RFC 7541 2.3): the static one, and a dynamic one for each direction of a connection.
#
# A field lies in a table as the line that HTTP/1.1 has for it, so that a head which is decoded can leave as it is. A
# dynamic table is one block: its owner allocates table_bytes(most) of it, and frees it; nothing else is allocated.
#
#     | DynamicTable | oldest line ... newest line | >>>      free      <<< | newest Entry ... oldest Entry |
#             0                             head                    low                           room
#
# What is evicted is only forgotten; when the two ends meet, what is alive is moved apart. The 32 bytes by which RFC 7541
# 4.1 counts an entry larger than its name and value are more than what it takes here beyond them.
from libc.stdint cimport uint8_t, uint16_t, uint32_t
from libc.string cimport memcpy
from gwfast.http.head cimport FIELD_UNDERSCORE, Field

cdef enum:
    STATIC_ENTRIES = 61
    ENTRY_OVERHEAD = 32        # RFC 7541 4.1
    TABLE_MOST = 32768         # a table's size; more would not fit the numbers of an Entry

# Flags of a field that was decoded, beside those of http/head.
cdef enum:
    FIELD_NEVER_INDEXED = 4    # must stay a literal wherever it goes (RFC 7541 6.2.3)
    FIELD_BAD_NAME = 8         # bytes that RFC 9113 8.2.1 or RFC 9110 5.1 forbids: the message is malformed
    FIELD_BAD_VALUE = 16       # the same of RFC 9110 5.5, and white space at its ends
    FIELD_OF_NAME = FIELD_UNDERSCORE | FIELD_BAD_NAME

# Ids of pseudo-header fields (RFC 9113 8.3, RFC 8441 4): above every FieldId.
cdef enum Pseudo:
    PSEUDO_OTHER = 64          # any other name that begins with ':'
    PSEUDO_AUTHORITY
    PSEUDO_METHOD
    PSEUDO_PATH
    PSEUDO_SCHEME
    PSEUDO_STATUS
    PSEUDO_PROTOCOL

cdef struct Entry:
    uint32_t at                # of its line, counted from the first line that the table ever had
    uint32_t hash              # name_hash()
    uint32_t mark              # of name and value; where a table is searched
    uint16_t name_len
    uint16_t value_len
    uint16_t id                # FieldId or Pseudo
    uint16_t flags
    uint16_t older_name        # searched tables: numbers of the entries before it in the two chains it is in
    uint16_t older_mark

cdef struct DynamicTable:
    uint32_t most              # what `max` may be: SETTINGS_HEADER_TABLE_SIZE
    uint32_t max               # the maximum that the encoder chose (RFC 7541 4.2)
    uint32_t size              # as RFC 7541 4.1 counts it
    uint32_t count
    uint32_t low
    uint32_t head
    uint32_t base              # Entry.at of what lies at 0
    uint16_t room
    uint8_t must_update        # `most` fell below `max`: the next block must begin with a size update

# Bytes of a block for a table of at most this size.
cdef size_t table_bytes(uint32_t most) noexcept nogil
# Makes an empty table of a block; `most` is also its first maximum.
cdef void table_start(DynamicTable *table, uint32_t most) noexcept nogil
# Folds a table to what is in it: how many bytes of its block it needs until it is unfolded, which a block of table_bytes(most)
# has room for again. Between the two nothing is asked of it.
cdef size_t table_fold(DynamicTable *table) noexcept nogil
cdef void table_unfold(DynamicTable *table) noexcept nogil
# Changes the maximum to `max`, which is at most `most`; evicts what has no room.
cdef void table_resize(DynamicTable *table, uint32_t max) noexcept nogil
# Adds an entry for a name and a value, evicting others; the caller writes their line to line_of(). NULL where it is larger
# than the table, which is empty then (RFC 7541 4.4).
cdef Entry *table_add(DynamicTable *table, uint32_t name_len, uint32_t value_len) noexcept nogil

cdef const Entry *static_entries() noexcept nogil
cdef const char *static_lines() noexcept nogil
# Index of the first static entry with this name (given in lower case or not), or 0.
cdef uint32_t static_name(const char *name, uint32_t n, uint32_t hash) noexcept nogil

# FieldId or Pseudo of a name in lower case.
cdef uint16_t name_id(const char *name, uint32_t n) noexcept nogil

cdef inline char *block_of(const DynamicTable *table) noexcept nogil:
    return <char *>(table + 1)

# The newest first: entry i has index STATIC_ENTRIES + 1 + i.
cdef inline Entry *entries_of(const DynamicTable *table) noexcept nogil:
    return <Entry *>(block_of(table) + table.low)

cdef inline char *line_of(const DynamicTable *table, const Entry *entry) noexcept nogil:
    return block_of(table) + <uint32_t>(entry.at - table.base)

cdef inline uint32_t line_length(uint32_t name_len, uint32_t value_len) noexcept nogil:
    return name_len + value_len + 4

cdef extern from *:
    """
    /* n bytes and up to 15 behind them, which both sides have. */
    static inline void gw_copy_line(char *to, const char *at, uint32_t n)
    {
        uint32_t i;
        for (i = 0; i < n; i += 16) __builtin_memcpy(to + i, at + i, 16);
    }
    """
    void copy_line "gw_copy_line"(char *to, const char *at, uint32_t n) noexcept nogil

# Fills in a field whose line lies at `line`.
cdef inline void set_field(Field *field, const Entry *entry, const char *line, uint16_t flags) noexcept nogil:
    field.name = line
    field.value = line + entry.name_len + 2
    field.name_len = entry.name_len
    field.value_len = entry.value_len
    field.line_len = line_length(entry.name_len, entry.value_len)
    field.hash = entry.hash
    field.id = entry.id
    field.flags = flags

cdef list entries_list(const DynamicTable *table)      # for the doors: [(name, value)...]
