"""Decodes the field blocks of HTTP/2 (RFC 7541): see hpack.pxd.

Rules: whatever a peer sends is either decoded in the one way that the RFC describes or ends the connection; what is too
much is left out, but the table stays what the peer thinks it is. Names and values are judged once, when they arrive as
literals; entries of the table keep the verdict, the name's hash and its id.
"""
import time

import cython
from libc.stdint cimport int64_t, uint8_t, uint32_t
from libc.stdlib cimport free, malloc
from libc.string cimport memcpy, memmove
from gwfast.http.bytes cimport gw_name_end, gw_value_end_in, same_name
from gwfast.http.head cimport FIELD_COOKIE, FIELD_OTHER, FIELD_UNDERSCORE, Field, name_hash
from gwfast.http2.hpack_table cimport *
from gwfast.http2.huffman cimport HUFFMAN_BAD, huffman_decode

cdef enum:
    BAD = -1               # what reading a part returns instead of its length
    MISSING = 0
    INTEGER_OCTETS = 5     # prefix included: 28 bits and more, whatever zeros are in front (RFC 7541 5.1)
    LEFT_OUT = 1           # FieldBlock.large
    FLOOD = 2


# ---- decoding -------------------------------------------------------------------------------------------------------

# An integer whose prefix fills `mask` (RFC 7541 5.1): its octets, MISSING or BAD.
cdef inline int integer(const uint8_t *p, const uint8_t *end, uint32_t mask, uint32_t *value) noexcept nogil:
    value[0] = p[0] & mask
    return 1 if value[0] < mask else long_integer(p, end, value)


cdef int long_integer(const uint8_t *p, const uint8_t *end, uint32_t *value) noexcept nogil:
    cdef int i
    for i in range(1, INTEGER_OCTETS):
        if p + i >= end:
            return MISSING
        value[0] += <uint32_t>(p[i] & 127) << (7 * (i - 1))
        if p[i] < 128:
            return i + 1
    return BAD


# A string that was not decoded yet (RFC 7541 5.2).
cdef struct Coded:
    const uint8_t *at
    uint32_t n
    bint huffman


# Octets of a string literal with its length, MISSING or BAD.
cdef inline int64_t coded(const uint8_t *p, const uint8_t *end, Coded *string) noexcept nogil:
    cdef int used
    if p >= end:
        return MISSING
    used = integer(p, end, 127, &string.n)
    if used <= 0:
        return used
    string.huffman = p[0] >> 7
    string.at = p + used
    return used + <int64_t>string.n if end - string.at >= string.n else MISSING


# Writes a string of at most `room` bytes: its length, BAD, or room + 1 where it is longer.
cdef inline int64_t decoded(const Coded *string, char *to, uint32_t room) noexcept nogil:
    cdef int64_t n
    if string.huffman:
        n = huffman_decode(string.at, string.n, <uint8_t *>to, room)
        return n if n >= HUFFMAN_BAD else <int64_t>room + 1
    if string.n > room:
        return <int64_t>room + 1
    memcpy(to, string.at, string.n)
    return string.n


# The entry with this index, and its line; NULL where there is none.
cdef inline const Entry *entry_at(const DynamicTable *table, uint32_t index, const char **line) noexcept nogil:
    cdef const Entry *entry
    if index > STATIC_ENTRIES:
        if index - STATIC_ENTRIES > table.count:
            return NULL
        entry = entries_of(table) + (index - STATIC_ENTRIES - 1)
        line[0] = line_of(table, entry)
        return entry
    if index == 0:
        return NULL
    entry = static_entries() + (index - 1)
    line[0] = static_lines() + entry.at
    return entry


# Leaves a field out that has this size, and all that follow it.
cdef void leave_out(FieldBlock *block, uint32_t size) noexcept nogil:
    block.left = 0
    block.large = max(block.large, <uint8_t>(LEFT_OUT if size <= block.spare else FLOOD))
    block.spare -= min(size, block.spare)


cdef inline uint32_t field_size(const Field *field) noexcept nogil:
    return field.name_len + field.value_len + ENTRY_OVERHEAD


# Whether another field may be handed out; if not, none will be any more.
cdef inline bint take(FieldBlock *block, uint32_t name_len, uint32_t value_len) noexcept nogil:
    cdef uint32_t size = name_len + value_len + ENTRY_OVERHEAD
    if size > block.left or block.count == block.room:
        leave_out(block, size)
        return False
    block.left -= size
    block.count += 1
    return True


cdef inline bint is_crumb(const FieldBlock *block, uint16_t id) noexcept nogil:
    return id == FIELD_COOKIE and block.join and block.count > 0 and block.fields[block.count - 1].id == FIELD_COOKIE


# A crumb behind the cookie that ends where the next line would begin; it may lie there already. Empty ones say nothing.
cdef void add_crumb(FieldBlock *block, const char *value, uint32_t n, uint16_t flags) noexcept nogil:
    cdef Field *cookie = &block.fields[block.count - 1]
    cdef uint32_t more = n + 2 if n and cookie.value_len else n
    cookie.flags |= flags
    if more > block.left:
        leave_out(block, more)
        return
    memmove(block.at - 2 + (more - n), value, n)
    if more > n:
        memcpy(block.at - 2, b"; ", 2)
    block.left -= more
    block.at += more
    memcpy(block.at - 2, b"\r\n", 2)
    cookie.value_len += more
    cookie.line_len += more


cdef inline void hand_out(FieldBlock *block, const Entry *entry, const char *line) noexcept nogil:
    if is_crumb(block, entry.id):
        add_crumb(block, line + entry.name_len + 2, entry.value_len, entry.flags)
    elif take(block, entry.name_len, entry.value_len):
        set_field(&block.fields[block.count - 1], entry, block.at, entry.flags)
        copy_line(block.at, line, line_length(entry.name_len, entry.value_len))
        block.at += line_length(entry.name_len, entry.value_len)


# Hash, id and flags of a name that arrived as a literal (RFC 9113 8.2.1, RFC 9110 5.1).
cdef void judge_name(Field *field) noexcept nogil:
    cdef const char *stop = field.name + field.name_len
    cdef bint pseudo = field.name_len > 1 and field.name[0] == b':'
    cdef int underscore = 0
    field.hash = name_hash(field.name, field.name_len)
    field.id = FIELD_OTHER
    if field.name_len and gw_name_end(field.name + pseudo, stop, &underscore) == stop \
            and same_name(field.name, field.name, field.name_len):   # it is its own lower case
        field.id = name_id(field.name, field.name_len)
    else:
        field.flags |= FIELD_BAD_NAME
    if underscore:
        field.flags |= FIELD_UNDERSCORE


cdef inline bint is_blank(char c) noexcept nogil:
    return c == b' ' or c == b'\t'


cdef inline void judge_value(Field *field) noexcept nogil:
    cdef const char *end = field.value + field.value_len
    if field.value_len == 0:
        return
    if is_blank(field.value[0]) or is_blank((end - 1)[0]) or gw_value_end_in(field.name, field.value, end) != end:
        field.flags |= FIELD_BAD_VALUE


# Writes the line of a literal where the next one goes, and fills in its field: 1, 0 where it is of no use because it has
# more than `most` bytes, or BAD.
cdef int write_line(const DynamicTable *table, uint32_t index, const Coded *name, const Coded *value, char *line, int64_t most,
                    Field *field) noexcept nogil:
    cdef const Entry *entry
    cdef const char *known = NULL
    cdef int64_t n
    field.flags = 0
    field.id = FIELD_OTHER
    field.name = line
    if index:
        entry = entry_at(table, index, &known)
        if entry is NULL:
            return BAD
        n = entry.name_len
        copy_line(line, known, <uint32_t>n)
        field.hash = entry.hash
        field.id = entry.id
        field.flags = entry.flags & FIELD_OF_NAME
    else:
        n = decoded(name, line, <uint32_t>most if most > 0 else 0)
        if n == BAD:
            return BAD
    field.name_len = <uint32_t>n
    if n > most:
        return 0
    if not index:
        judge_name(field)
    line += n
    line[0] = b':'
    line[1] = b' '
    field.value = line + 2
    n = decoded(value, line + 2, <uint32_t>(most - n))
    if n == BAD or n > most - field.name_len:
        return BAD if n == BAD else 0
    field.value_len = <uint32_t>n
    judge_value(field)
    line += 2 + n
    line[0] = b'\r'
    line[1] = b'\n'
    field.line_len = line_length(field.name_len, field.value_len)
    return 1


cdef void remember(DynamicTable *table, const Field *field) noexcept nogil:
    cdef Entry *entry = table_add(table, field.name_len, field.value_len)
    if entry is not NULL:
        entry.hash = field.hash
        entry.id = field.id
        entry.flags = field.flags
        copy_line(line_of(table, entry), field.name, field.line_len)


# A literal field (RFC 7541 6.2): its octets, MISSING or BAD. Nothing is done before all of it is there.
cdef int64_t literal(DynamicTable *table, const uint8_t *p, const uint8_t *end, FieldBlock *block) noexcept nogil:
    cdef bint indexing = p[0] & 64
    cdef uint32_t index = 0
    cdef uint32_t most = max(block.left, table.max) if indexing else block.left
    cdef Coded name = Coded(NULL, 0, False)
    cdef Coded value
    cdef Field field
    cdef int64_t used = integer(p, end, 63 if indexing else 15, &index)
    cdef int64_t n
    cdef int written
    if used <= 0:
        return used
    if index == 0:
        n = coded(p + used, end, &name)
        if n <= 0:
            return n
        used += n
    n = coded(p + used, end, &value)
    if n <= 0:
        return n
    written = write_line(table, index, &name, &value, block.at, <int64_t>most - ENTRY_OVERHEAD, &field)
    if written == BAD:
        return BAD
    if field.id == PSEUDO_PATH and not block.large and (written == 0 or field_size(&field) > block.left):
        block.path = 1
    if written == 0:
        leave_out(block, field.name_len if index else 0)   # a name from a table is copied for an octet or two
        if indexing:
            table_add(table, table.max, 0)   # larger than the table: empties it
        return used + n
    if indexing:
        remember(table, &field)
    elif p[0] & 16:
        field.flags |= FIELD_NEVER_INDEXED
    if is_crumb(block, field.id):
        add_crumb(block, field.value, field.value_len, field.flags)
    elif take(block, field.name_len, field.value_len):
        block.fields[block.count - 1] = field
        block.at += field.line_len
    return used + n


# Dynamic table size updates, which only a block's beginning has (RFC 7541 4.2, 6.3): their octets or BAD.
cdef int64_t size_updates(DynamicTable *table, const uint8_t *at, const uint8_t *end) noexcept nogil:
    cdef const uint8_t *p = at
    cdef uint32_t max = 0
    cdef int used
    while p < end and p[0] & 0xe0 == 0x20:
        used = integer(p, end, 31, &max)
        if used == MISSING:
            break
        if used == BAD or max > table.most:
            return BAD
        table_resize(table, max)
        table.must_update = 0
        p += used
    return p - at


cdef int hpack_decode(DynamicTable *table, const uint8_t *at, uint32_t n, bint last, FieldBlock *block,
                      uint32_t *used) noexcept nogil:
    cdef const uint8_t *p = at
    cdef const uint8_t *end = at + n
    cdef const Entry *entry
    cdef const char *line = NULL
    cdef uint32_t index = 0
    cdef int64_t step
    used[0] = 0
    if not block.begun:
        step = size_updates(table, p, end)
        if step == BAD:
            return HPACK_BAD
        p += step
        block.begun = p < end and p[0] & 0xe0 != 0x20
        if block.begun and table.must_update:
            return HPACK_BAD
    while p < end and block.begun:
        if p[0] & 128:
            step = integer(p, end, 127, &index)
            if step > 0:
                entry = entry_at(table, index, &line)
                if entry is NULL:
                    return HPACK_BAD
                hand_out(block, entry, line)
        else:
            step = literal(table, p, end, block) if p[0] & 0xe0 != 0x20 else BAD
        if step == BAD or block.large == FLOOD:
            return HPACK_BAD if step == BAD else HPACK_CALM
        if step == MISSING:
            break
        p += step
    used[0] = <uint32_t>(p - at)
    if not last:
        return HPACK_MORE
    return HPACK_BAD if p < end else HPACK_LARGE if block.large else HPACK_OK


cdef void hpack_limit(DynamicTable *table, uint32_t most) noexcept nogil:
    table.most = most
    table.must_update = table.max > most


# ---- doors for Python: tests and tools, never the hot path -----------------------------------------------------------

cdef list field_list(const Field *fields, uint32_t count):
    return [(fields[i].name[:fields[i].name_len], fields[i].value[:fields[i].value_len], fields[i].id,
             fields[i].flags, fields[i].hash) for i in range(count)]


@cython.final
cdef class Decoder:
    """A decoder with a dynamic table of at most so many bytes."""

    cdef DynamicTable *table
    cdef uint32_t most
    cdef FieldBlock block
    cdef char *arena

    def __cinit__(self, uint32_t most=4096):
        if most > TABLE_MOST:
            raise ValueError(f"a table has at most {TABLE_MOST} bytes")
        self.most = most
        self.table = <DynamicTable *>malloc(table_bytes(most))
        if self.table is NULL:
            raise MemoryError
        table_start(self.table, most)

    def __dealloc__(self):
        free(self.table)
        free(self.arena)
        free(self.block.fields)

    @property
    def entries(self):
        """The dynamic table, newest entry first: [(name, value)...]."""
        return entries_list(self.table)

    @property
    def size(self):
        """(size of the dynamic table, its maximum), as RFC 7541 4.1 counts."""
        return self.table.size, self.table.max

    def limit(self, uint32_t most):
        """Set SETTINGS_HEADER_TABLE_SIZE, as if it had just been acknowledged."""
        if most > self.most:
            raise ValueError(f"the table was made for {self.most} bytes")
        hpack_limit(self.table, most)

    def begin(self, *, uint32_t fields=100, uint32_t left=32768, uint32_t spare=32768, bint join=False):
        """Begin a field block of at most so many fields and bytes (RFC 9113 6.5.2), and as many bytes that are left out.

        join: crumbs of a cookie that follow each other become one field.
        """
        free(self.arena)
        free(self.block.fields)
        self.arena = <char *>malloc(arena_bytes(left, self.most))
        self.block.fields = <Field *>malloc(max(fields, 1) * sizeof(Field))
        if self.arena is NULL or self.block.fields is NULL:
            raise MemoryError
        block_start(&self.block, self.block.fields, fields, self.arena, left, spare, join)

    def part_at(self, size_t address, uint32_t n, bint last=True):
        """Read a part of a field block that lies at an address: (HPACK_* as an int, bytes used)."""
        cdef uint32_t used = 0
        result = hpack_decode(self.table, <const uint8_t *>address, n, last, &self.block, &used)
        return result, used

    @property
    def fields(self):
        """What the block holds so far: [(name, value, id, flags, hash)...]."""
        return field_list(self.block.fields, self.block.count)

    @property
    def lines(self):
        """The same as lines of HTTP/1.1."""
        return self.arena[:self.block.at - self.arena]

    def decode(self, data: bytes, **limits):
        """Read a whole field block: `fields`, or the int that refuses it (HPACK_LARGE, HPACK_BAD, HPACK_CALM)."""
        self.begin(**limits)
        result, _ = self.part_at(<size_t><const char *>data, <uint32_t>len(data))
        return self.fields if result == HPACK_OK else result

    def spin(self, data: bytes, uint32_t times):
        """Read a block many times, for measurements: the last result, and nanoseconds in all."""
        cdef const uint8_t *at = <const uint8_t *><const char *>data
        cdef uint32_t n = <uint32_t>len(data)
        cdef uint32_t used = 0
        cdef int result = HPACK_OK
        self.begin()
        begin = time.perf_counter_ns()
        for _ in range(times):
            self.block.at, self.block.left = self.arena, 32768
            self.block.count = self.block.begun = self.block.large = 0
            result = hpack_decode(self.table, at, n, True, &self.block, &used)
        return result, time.perf_counter_ns() - begin
