"""Encodes the field blocks of HTTP/2 (RFC 7541): see hpack_encoder.pxd.

Rules: what the tables have is an index of one or two octets; what they have not is a literal that is added unless it tells
a secret or would only push out what comes again. A block is written forwards, once, into what the caller has room for.
"""
import time

import cython
from libc.stdint cimport int32_t, int64_t, uint8_t, uint16_t, uint32_t
from libc.stdlib cimport free, malloc
from libc.string cimport memcmp, memcpy, memset
from gwfast.http.bytes cimport gw_hash, lower, same_name
from gwfast.http.head cimport FIELD_X_REQUEST_ID, Field, name_hash
from gwfast.http2.hpack_table cimport *
from gwfast.http2.huffman cimport huffman_encode, huffman_length

# Of a name and a value.
cdef inline uint32_t mark_of(const Field *field) noexcept nogil:
    return <uint32_t>(gw_hash(field.hash, field.value, field.value_len, 0) >> 32)


# How a literal is written (RFC 7541 6.2).
cdef enum Indexing:
    INDEXING = 0x40
    WITHOUT = 0
    NEVER = 0x10


cdef inline DynamicTable *table_of(Encoding *encoding) noexcept nogil:
    return <DynamicTable *>(encoding + 1)


cdef size_t encoding_bytes(uint32_t most) noexcept nogil:
    return sizeof(Encoding) + table_bytes(most)


cdef void encoding_start(Encoding *encoding, uint32_t most) noexcept nogil:
    memset(encoding, 0, sizeof(Encoding))
    table_start(table_of(encoding), most)
    if most > 4096:                   # until the peer allows more (RFC 9113 6.5.2)
        table_of(encoding).max = 4096
    encoding.lowest = table_of(encoding).max
    encoding.announce = most < 4096


cdef void encoding_limit(Encoding *encoding, uint32_t most) noexcept nogil:
    cdef DynamicTable *table = table_of(encoding)
    cdef uint32_t max = min(most, table.most)
    if max != table.max:
        encoding.lowest = min(encoding.lowest if encoding.announce else max, max)
        encoding.announce = 1
        table_resize(table, max)


# Writes an integer whose prefix fills `mask`, under the bits above it: how many octets.
cdef inline uint32_t put_integer(uint8_t *to, uint8_t bits, uint32_t mask, uint32_t value) noexcept nogil:
    cdef uint32_t n = 1
    if value < mask:
        to[0] = <uint8_t>(bits | value)
        return 1
    to[0] = <uint8_t>(bits | mask)
    value -= mask
    while value >= 128:
        to[n] = <uint8_t>(value | 128)
        value >>= 7
        n += 1
    to[n] = <uint8_t>value
    return n + 1


# Writes a string, as Huffman code where that is shorter.
cdef uint32_t put_string(uint8_t *to, const char *at, uint32_t n, bint name) noexcept nogil:
    cdef uint32_t length, used, i
    if n < 128:   # the length takes one octet whatever the code makes of it
        length = huffman_encode(<const uint8_t *>at, n, name, to + 1)
        if length:
            to[0] = <uint8_t>(128 | length)
            return length + 1
    else:
        length = huffman_length(<const uint8_t *>at, n, name)
        if length:
            used = put_integer(to, 128, 127, length)
            return used + huffman_encode(<const uint8_t *>at, n, name, to + used)
    used = put_integer(to, 0, 127, n)
    memcpy(to + used, at, n)
    if name:
        for i in range(used, used + n):
            to[i] = <uint8_t>lower(<char>to[i])
    return used + n


# How a literal is indexed. What tells a secret is never indexed, short cookies too, since they could be guessed by trial
# (RFC 7541 7.1.3); what is new each time would only push out what is not (as in nghttp2 and Firefox).
cdef Indexing indexing_of(const DynamicTable *table, const Field *field, uint32_t known) noexcept nogil:
    if field.flags & FIELD_NEVER_INDEXED:
        return NEVER
    if known:
        if known == 23 or known == 49 or known == 55:   # authorization, proxy-authorization, set-cookie
            return NEVER
        if known == 32 and field.value_len < 20:        # cookie
            return NEVER
        # :path, age, content-length, content-range, etag, if-*, location
        if known == 4 or known == 21 or known == 28 or known == 30 or known == 34 or 39 <= known <= 43 or known == 46:
            return WITHOUT
    elif field.id == FIELD_X_REQUEST_ID:
        return WITHOUT
    return INDEXING if (field.name_len + field.value_len + ENTRY_OVERHEAD) * 4 <= table.max * 3 else WITHOUT


# How long ago an entry was added: its place among the entries, if it is still there.
cdef inline uint32_t age_of(const Encoding *encoding, uint16_t number) noexcept nogil:
    return <uint16_t>(encoding.newest - number)


# Index of the entry that is this field, or 0.
cdef uint32_t find_field(Encoding *encoding, const Field *field, uint32_t mark) noexcept nogil:
    cdef const DynamicTable *table = table_of(encoding)
    cdef const Entry *entries = entries_of(table)
    cdef const Entry *entry
    cdef const char *line
    cdef uint32_t age = age_of(encoding, encoding.marks[mark % HPACK_BUCKETS])
    cdef uint32_t last
    while age < table.count:
        entry = entries + age
        if entry.mark == mark and entry.hash == field.hash and entry.value_len == field.value_len \
                and entry.name_len == field.name_len:
            line = line_of(table, entry)
            if memcmp(line + entry.name_len + 2, field.value, field.value_len) == 0 \
                    and same_name(line, field.name, field.name_len):
                return STATIC_ENTRIES + 1 + age
        last = age
        age = age_of(encoding, entry.older_mark)
        if age <= last:   # numbers come again; entries do not grow younger
            break
    return 0


# Index of the newest entry with the name of this field, or 0.
cdef uint32_t find_name(Encoding *encoding, const Field *field) noexcept nogil:
    cdef const DynamicTable *table = table_of(encoding)
    cdef const Entry *entries = entries_of(table)
    cdef const Entry *entry
    cdef uint32_t age = age_of(encoding, encoding.names[field.hash % HPACK_BUCKETS])
    cdef uint32_t last
    while age < table.count:
        entry = entries + age
        if entry.hash == field.hash and entry.name_len == field.name_len \
                and same_name(line_of(table, entry), field.name, field.name_len):
            return STATIC_ENTRIES + 1 + age
        last = age
        age = age_of(encoding, entry.older_name)
        if age <= last:
            break
    return 0


# Index of the static entry that is this field, from the first one with its name on, or 0.
cdef inline uint32_t find_static(uint32_t known, const Field *field) noexcept nogil:
    cdef const Entry *entries = static_entries()
    cdef const Entry *entry
    while known <= STATIC_ENTRIES and entries[known - 1].hash == field.hash:
        entry = &entries[known - 1]
        if entry.value_len == field.value_len and memcmp(static_lines() + entry.at + entry.name_len + 2, field.value,
                                                         field.value_len) == 0:
            return known
        known += 1
    return 0


cdef void keep(Encoding *encoding, const Field *field, uint32_t mark) noexcept nogil:
    cdef DynamicTable *table = table_of(encoding)
    cdef Entry *entry = table_add(table, field.name_len, field.value_len)
    cdef char *line
    cdef uint32_t i
    if entry is NULL:
        return
    line = line_of(table, entry)
    for i in range(field.name_len):
        line[i] = lower(field.name[i])
    memcpy(line + field.name_len + 2, field.value, field.value_len)
    encoding.newest += 1
    entry.hash = field.hash
    entry.mark = mark
    entry.older_name = encoding.names[field.hash % HPACK_BUCKETS]
    entry.older_mark = encoding.marks[mark % HPACK_BUCKETS]
    encoding.names[field.hash % HPACK_BUCKETS] = encoding.newest
    encoding.marks[mark % HPACK_BUCKETS] = encoding.newest


# Writes a field that is in no table, whose name may be in the static one.
cdef uint32_t put_literal(Encoding *encoding, const Field *field, uint32_t known, uint32_t mark, uint8_t *to) noexcept nogil:
    cdef Indexing indexing = indexing_of(table_of(encoding), field, known)
    cdef uint32_t index = known if known else find_name(encoding, field)
    cdef uint32_t used = put_integer(to, indexing, 63 if indexing == INDEXING else 15, index)
    if index == 0:
        used += put_string(to + used, field.name, field.name_len, True)
    used += put_string(to + used, field.value, field.value_len, False)
    if indexing == INDEXING:
        keep(encoding, field, mark)
    return used


cdef int32_t hpack_encode(Encoding *encoding, const Field *field, uint8_t *to, uint8_t *end) noexcept nogil:
    cdef uint32_t mark = 0
    cdef uint32_t index = 0
    cdef uint32_t known
    if end - to < <int64_t>field.name_len + field.value_len + HPACK_FIELD_ROOM:
        return -1
    if not field.flags & FIELD_NEVER_INDEXED:
        mark = mark_of(field)
        index = find_field(encoding, field, mark)
    if index == 0:
        known = static_name(field.name, field.name_len, field.hash)
        if known and not field.flags & FIELD_NEVER_INDEXED:
            index = find_static(known, field)
        if index == 0:
            return <int32_t>put_literal(encoding, field, known, mark, to)
    return <int32_t>put_integer(to, 128, 127, index)


cdef int32_t hpack_pseudo(Encoding *encoding, uint16_t id, const char *value, uint32_t n, uint8_t *to,
                          uint8_t *end) noexcept nogil:
    cdef uint32_t i = (2 if id == PSEUDO_METHOD else 4 if id == PSEUDO_PATH else 6 if id == PSEUDO_SCHEME
                       else 8 if id == PSEUDO_STATUS else 1)
    cdef const Entry *entry = static_entries() + (i - 1)
    cdef Field field
    field.name = static_lines() + entry.at
    field.name_len = entry.name_len
    field.hash = entry.hash
    if id == PSEUDO_PROTOCOL:
        field.name = b":protocol"
        field.name_len = 9
        field.hash = name_hash(field.name, 9)
    field.id = id
    field.flags = 0
    field.value = value
    field.value_len = n
    return hpack_encode(encoding, &field, to, end)


cdef int32_t hpack_status(Encoding *encoding, uint32_t status, uint8_t *to, uint8_t *end) noexcept nogil:
    cdef char digits[3]
    if status == 200 and to < end:
        to[0] = 128 | 8
        return 1
    digits[0] = <char>(48 + status // 100 % 10)
    digits[1] = <char>(48 + status // 10 % 10)
    digits[2] = <char>(48 + status % 10)
    return hpack_pseudo(encoding, PSEUDO_STATUS, digits, 3, to, end)


cdef int32_t hpack_begin(Encoding *encoding, uint8_t *to, uint8_t *end) noexcept nogil:
    cdef const DynamicTable *table = table_of(encoding)
    cdef uint32_t n = 0
    if not encoding.announce:
        return 0
    if end - to < 10:
        return -1
    if encoding.lowest < table.max:
        n = put_integer(to, 32, 31, encoding.lowest)
    n += put_integer(to + n, 32, 31, table.max)
    encoding.announce = 0
    return <int32_t>n


# ---- doors for Python: tests and tools, never the hot path -----------------------------------------------------------

@cython.final
cdef class Encoder:
    """An encoder with a dynamic table of at most so many bytes."""

    cdef Encoding *encoding

    def __cinit__(self, uint32_t most=4096):
        if most > TABLE_MOST:
            raise ValueError(f"a table has at most {TABLE_MOST} bytes")
        self.encoding = <Encoding *>malloc(encoding_bytes(most))
        if self.encoding is NULL:
            raise MemoryError
        encoding_start(self.encoding, most)

    def __dealloc__(self):
        free(self.encoding)

    @property
    def entries(self):
        """The dynamic table, newest entry first: [(name, value)...]."""
        return entries_list(table_of(self.encoding))

    @property
    def size(self):
        """(size of the dynamic table, its maximum), as RFC 7541 4.1 counts."""
        return table_of(self.encoding).size, table_of(self.encoding).max

    def limit(self, uint32_t most):
        """Take the peer's SETTINGS_HEADER_TABLE_SIZE."""
        encoding_limit(self.encoding, most)

    cdef int32_t put(self, tuple given, uint8_t *to, uint8_t *end) except? -1:
        cdef Field field
        name, value, flags = given if len(given) == 3 else (*given, 0)
        field.name, field.name_len = name, <uint32_t>len(name)
        field.value, field.value_len = value, <uint32_t>len(value)
        field.hash = name_hash(field.name, field.name_len)
        field.id, field.flags = name_id(field.name, field.name_len), flags
        if field.id == PSEUDO_STATUS and len(value) == 3 and value.isdigit():
            return hpack_status(self.encoding, int(value), to, end)
        if field.id > PSEUDO_OTHER:
            return hpack_pseudo(self.encoding, field.id, field.value, field.value_len, to, end)
        return hpack_encode(self.encoding, &field, to, end)

    def encode_at(self, fields, size_t address, uint32_t room):
        """Write a field block of (name, value) or (name, value, flags) to an address: its length, or -1: no room."""
        cdef uint8_t *at = <uint8_t *>address
        cdef uint8_t *end = at + room
        cdef int32_t n = hpack_begin(self.encoding, at, end)
        for field in fields:
            if n >= 0:
                at += n
                n = self.put(field, at, end)
        return n if n < 0 else at + n - <uint8_t *>address

    def encode(self, fields):
        """Write a field block: its bytes."""
        room = bytearray(16 + sum(len(field[0]) + len(field[1]) + HPACK_FIELD_ROOM for field in fields))
        return bytes(room[:self.encode_at(fields, <size_t><char *>room, <uint32_t>len(room))])

    def spin(self, list fields, uint32_t times):
        """Write a block of (name, value) many times, for measurements: its last length, and nanoseconds in all."""
        cdef Field *parsed = <Field *>malloc(len(fields) * sizeof(Field))
        cdef uint8_t to[4096]
        cdef uint32_t count = <uint32_t>len(fields)
        cdef uint32_t i
        cdef int32_t n = 0
        for i, (name, value) in enumerate(fields):
            parsed[i].name, parsed[i].name_len = name, <uint32_t>len(name)
            parsed[i].value, parsed[i].value_len = value, <uint32_t>len(value)
            parsed[i].hash = name_hash(parsed[i].name, parsed[i].name_len)
            parsed[i].id, parsed[i].flags = name_id(parsed[i].name, parsed[i].name_len), 0
        begin = time.perf_counter_ns()
        for _ in range(times):
            n = encode_fields(self.encoding, parsed, count, to, to + 4096)
        took = time.perf_counter_ns() - begin
        free(parsed)
        return n, took


# A response's block, status 200.
cdef int32_t encode_fields(Encoding *encoding, const Field *fields, uint32_t count, uint8_t *to, uint8_t *end) noexcept nogil:
    cdef uint8_t *at = to
    cdef uint32_t i
    cdef int32_t n = hpack_begin(encoding, at, end)
    if n >= 0:
        at += n
        n = hpack_status(encoding, 200, at, end)
    for i in range(count):
        if n < 0:
            return n
        at += n
        n = hpack_encode(encoding, &fields[i], at, end)
    return n if n < 0 else <int32_t>(at + n - to)
