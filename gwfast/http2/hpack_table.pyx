"""The tables of HPACK: the static one, made when this module is imported, and what adds to and evicts from a dynamic one."""
from libc.stdint cimport uint8_t, uint16_t, uint32_t
from libc.string cimport memcmp, memcpy, memmove
from gwfast.http.bytes cimport same_name
from gwfast.http.fields cimport field_id
from gwfast.http.head cimport name_hash

# RFC 7541 Appendix A.
cdef tuple STATIC = (
    (":authority", ""), (":method", "GET"), (":method", "POST"), (":path", "/"), (":path", "/index.html"),
    (":scheme", "http"), (":scheme", "https"), (":status", "200"), (":status", "204"), (":status", "206"),
    (":status", "304"), (":status", "400"), (":status", "404"), (":status", "500"), ("accept-charset", ""),
    ("accept-encoding", "gzip, deflate"), ("accept-language", ""), ("accept-ranges", ""), ("accept", ""),
    ("access-control-allow-origin", ""), ("age", ""), ("allow", ""), ("authorization", ""), ("cache-control", ""),
    ("content-disposition", ""), ("content-encoding", ""), ("content-language", ""), ("content-length", ""),
    ("content-location", ""), ("content-range", ""), ("content-type", ""), ("cookie", ""), ("date", ""), ("etag", ""),
    ("expect", ""), ("expires", ""), ("from", ""), ("host", ""), ("if-match", ""), ("if-modified-since", ""),
    ("if-none-match", ""), ("if-range", ""), ("if-unmodified-since", ""), ("last-modified", ""), ("link", ""),
    ("location", ""), ("max-forwards", ""), ("proxy-authenticate", ""), ("proxy-authorization", ""), ("range", ""),
    ("referer", ""), ("refresh", ""), ("retry-after", ""), ("server", ""), ("set-cookie", ""),
    ("strict-transport-security", ""), ("transfer-encoding", ""), ("user-agent", ""), ("vary", ""), ("via", ""),
    ("www-authenticate", ""))

cdef enum:
    LINES_ROOM = 2048
    SLOTS = 256                # of the names by their hash; each is looked for from its own slot on
    GAP = 16                   # that copy_line() may write behind a line

cdef Entry entries[STATIC_ENTRIES]
cdef char lines[LINES_ROOM]
cdef uint8_t slots[SLOTS]


cdef uint16_t name_id(const char *name, uint32_t n) noexcept nogil:
    if n == 0 or name[0] != b':':
        return field_id(name, n)
    if n == 5:
        return PSEUDO_PATH if memcmp(name, b":path", 5) == 0 else PSEUDO_OTHER
    if n == 7:
        if memcmp(name, b":method", 7) == 0:
            return PSEUDO_METHOD
        if memcmp(name, b":scheme", 7) == 0:
            return PSEUDO_SCHEME
        return PSEUDO_STATUS if memcmp(name, b":status", 7) == 0 else PSEUDO_OTHER
    if n == 9:
        return PSEUDO_PROTOCOL if memcmp(name, b":protocol", 9) == 0 else PSEUDO_OTHER
    return PSEUDO_AUTHORITY if n == 10 and memcmp(name, b":authority", 10) == 0 else PSEUDO_OTHER


cdef int make_static() except -1:
    cdef uint32_t at = 0
    cdef uint32_t i, slot
    cdef Entry *entry
    for i, (name, value) in enumerate(STATIC):
        line = f"{name}: {value}\r\n".encode()
        assert at + len(line) + GAP <= LINES_ROOM
        memcpy(lines + at, <const char *>line, len(line))
        entry = &entries[i]
        entry.at = at
        entry.name_len = <uint16_t>len(name)
        entry.value_len = <uint16_t>len(value)
        entry.hash = name_hash(lines + at, entry.name_len)
        entry.id = name_id(lines + at, entry.name_len)
        at += <uint32_t>len(line)
        if i == 0 or entry.hash != entries[i - 1].hash:
            slot = entry.hash % SLOTS
            while slots[slot]:
                slot = (slot + 1) % SLOTS
            slots[slot] = <uint8_t>(i + 1)
    return 0


make_static()


cdef const Entry *static_entries() noexcept nogil:
    return entries


cdef const char *static_lines() noexcept nogil:
    return lines


cdef uint32_t static_name(const char *name, uint32_t n, uint32_t hash) noexcept nogil:
    cdef uint32_t slot = hash % SLOTS
    cdef const Entry *entry
    while slots[slot]:
        entry = &entries[slots[slot] - 1]
        if entry.hash == hash and entry.name_len == n and same_name(lines + entry.at, name, n):
            return slots[slot]
        slot = (slot + 1) % SLOTS
    return 0


# ---- dynamic tables -------------------------------------------------------------------------------------------------

# Half as much again as the table's size: a table that is full is packed once for each of many entries that pass through.
cdef inline uint32_t room_of(uint32_t most) noexcept nogil:
    return most + (most // 2 & ~<uint32_t>7) + GAP + 8 - most % 8


cdef size_t table_bytes(uint32_t most) noexcept nogil:
    return sizeof(DynamicTable) + room_of(most)


cdef void table_start(DynamicTable *table, uint32_t most) noexcept nogil:
    table.most = table.max = most
    table.size = table.count = table.head = table.base = 0
    table.room = <uint16_t>room_of(most)
    table.low = table.room
    table.must_update = 0


cdef inline void evict_to(DynamicTable *table, uint32_t size) noexcept nogil:
    cdef const Entry *newest = entries_of(table)
    while table.size > size:
        table.count -= 1
        table.size -= newest[table.count].name_len + newest[table.count].value_len + ENTRY_OVERHEAD


cdef void table_resize(DynamicTable *table, uint32_t max) noexcept nogil:
    table.max = max
    evict_to(table, max)


# Moves the lines that are alive to the block's beginning, and their entries to its end.
cdef void pack(DynamicTable *table) noexcept nogil:
    cdef char *block = block_of(table)
    cdef uint32_t low = table.room - table.count * <uint32_t>sizeof(Entry)
    cdef uint32_t first = table.head
    if table.count:
        first = entries_of(table)[table.count - 1].at - table.base
    memmove(block, block + first, table.head - first)
    memmove(block + low, block + table.low, table.count * sizeof(Entry))
    table.head -= first
    table.base += first
    table.low = low


cdef size_t table_fold(DynamicTable *table) noexcept nogil:
    cdef char *block = block_of(table)
    cdef uint32_t n = table.count * <uint32_t>sizeof(Entry)
    cdef uint32_t low
    pack(table)
    low = (table.head + 7) & ~<uint32_t>7
    memmove(block + low, block + table.low, n)
    table.low = low
    table.room = <uint16_t>(low + n)
    return sizeof(DynamicTable) + table.room


cdef void table_unfold(DynamicTable *table) noexcept nogil:
    cdef char *block = block_of(table)
    cdef uint32_t n = table.count * <uint32_t>sizeof(Entry)
    cdef uint32_t low = room_of(table.most) - n
    memmove(block + low, block + table.low, n)
    table.low = low
    table.room = <uint16_t>room_of(table.most)


cdef Entry *table_add(DynamicTable *table, uint32_t name_len, uint32_t value_len) noexcept nogil:
    cdef uint32_t size = name_len + value_len + ENTRY_OVERHEAD
    cdef Entry *entry
    if size > table.max:
        evict_to(table, 0)
        return NULL
    evict_to(table, table.max - size)
    if table.head + line_length(name_len, value_len) + GAP + sizeof(Entry) > table.low:
        pack(table)
    table.low -= <uint32_t>sizeof(Entry)
    table.size += size
    table.count += 1
    entry = entries_of(table)
    entry.at = table.base + table.head
    entry.name_len = <uint16_t>name_len
    entry.value_len = <uint16_t>value_len
    table.head += line_length(name_len, value_len)
    return entry


# For the doors of the decoder and the encoder: the entries, newest first.
cdef list entries_list(const DynamicTable *table):
    cdef const Entry *entries = entries_of(table)
    cdef const char *line
    found = []
    for i in range(table.count):
        line = line_of(table, &entries[i])
        found.append((line[:entries[i].name_len],
                      line[entries[i].name_len + 2:entries[i].name_len + 2 + entries[i].value_len]))
    return found
