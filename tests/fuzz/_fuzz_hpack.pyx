"""What must hold for every field block of HTTP/2. libFuzzer calls fuzz_one(); see ci/fuzz.

Rules: the first byte chooses the size of the table, the second what a list may have, the third how blocks are cut. Each
block has a byte for its length in front. It is read from copies of its exact size: whole by one decoder, in parts by
another; what was read is encoded and decoded again.
"""
from libc.stdint cimport int32_t, uint8_t, uint32_t
from libc.stdio cimport fprintf, stderr
from libc.stdlib cimport abort, free, malloc
from libc.string cimport memcmp, memcpy
from gwfast.http.head cimport Field, name_hash
from gwfast.http2.hpack cimport *
from gwfast.http2.hpack_encoder cimport HPACK_FIELD_ROOM
from gwfast.http2.hpack_table cimport Entry, entries_of, line_of

cdef enum:
    ROOM = 100


cdef struct Side:              # a decoder, and the block that it reads
    DynamicTable *table
    FieldBlock block
    Field fields[ROOM]
    char *arena


cdef void must(bint holds, const char *what) noexcept nogil:
    if not holds:
        fprintf(stderr, b"broken: %s\n", what)
        abort()


cdef void start(Side *side, uint32_t most) noexcept nogil:
    side.table = <DynamicTable *>malloc(table_bytes(most))
    table_start(side.table, most)
    side.arena = NULL


cdef void begin(Side *side, uint32_t left, uint32_t most) noexcept nogil:
    free(side.arena)
    side.arena = <char *>malloc(arena_bytes(left, most))
    block_start(&side.block, side.fields, ROOM, side.arena, left, left, False)


cdef void end(Side *side) noexcept nogil:
    free(side.table)
    free(side.arena)


cdef int part(Side *side, const uint8_t *at, uint32_t n, bint last, uint32_t *used) noexcept nogil:
    cdef uint8_t *exact = <uint8_t *>malloc(n)
    cdef int result
    memcpy(exact, at, n)
    result = hpack_decode(side.table, exact, n, last, &side.block, used)
    must(used[0] <= n, b"used")
    free(exact)
    return result


cdef int in_parts(Side *side, const uint8_t *at, uint32_t n, uint32_t size) noexcept nogil:
    cdef uint32_t begun = 0
    cdef uint32_t till = 0
    cdef uint32_t used = 0
    cdef int result
    while True:
        till = min(till + size, n)
        result = part(side, at + begun, till - begun, till == n, &used)
        begun += used
        if result != HPACK_MORE:
            return result
        must(till < n, b"a last part gives a result")


cdef void check_table(const DynamicTable *table) noexcept nogil:
    cdef uint32_t size = 0
    cdef uint32_t i
    cdef const Entry *entry
    for i in range(table.count):
        entry = entries_of(table) + i
        size += entry.name_len + entry.value_len + 32
        must(entry.hash == name_hash(line_of(table, entry), entry.name_len), b"hash of an entry")
    must(size == table.size and size <= table.max and table.max <= table.most, b"size of the table")


cdef void check_same(const Side *a, const Side *b) noexcept nogil:
    cdef uint32_t i
    must(a.block.count == b.block.count and a.block.at - a.arena == b.block.at - b.arena, b"as many fields")
    must(memcmp(a.arena, b.arena, a.block.at - a.arena) == 0, b"lines")
    for i in range(a.block.count):
        must(a.fields[i].id == b.fields[i].id and a.fields[i].hash == b.fields[i].hash, b"id and hash")
        must(a.fields[i].name_len == b.fields[i].name_len and a.fields[i].value_len == b.fields[i].value_len, b"lengths")
        must(a.fields[i].flags == b.fields[i].flags, b"flags")


cdef void check_list(const Side *side, uint32_t left) noexcept nogil:
    cdef const char *at = side.arena
    cdef uint32_t size = 0
    cdef uint32_t i
    cdef const Field *field
    for i in range(side.block.count):
        field = &side.fields[i]
        size += field.name_len + field.value_len + 32
        must(field.name == at and field.value == at + field.name_len + 2, b"lines one behind the other")
        must(field.line_len == field.name_len + field.value_len + 4, b"line_len")
        must(field.hash == name_hash(field.name, field.name_len), b"hash")
        at += field.line_len
        must((at - 2)[0] == b'\r' and (at - 1)[0] == b'\n', b"end of a line")
    must(at == side.block.at and size <= left, b"size of the list")


# Encodes what was read, decodes that, and finds the same but for names that are never forwarded.
cdef void replay(Encoding *encoding, const Side *read, Side *again) noexcept nogil:
    cdef uint32_t kept = 0
    cdef uint32_t used, i
    cdef uint32_t room = <uint32_t>(read.block.at - read.arena) + read.block.count * HPACK_FIELD_ROOM + 10
    cdef uint8_t *code = <uint8_t *>malloc(room)
    cdef uint8_t *at = code
    cdef int32_t n = hpack_begin(encoding, at, code + room)
    must(n >= 0, b"room to begin")
    at += n
    for i in range(read.block.count):
        if not read.fields[i].flags & FIELD_BAD_NAME:
            n = hpack_encode(encoding, &read.fields[i], at, code + room)
            must(n > 0, b"room for a field")
            at += n
    must(part(again, code, <uint32_t>(at - code), True, &used) == HPACK_OK, b"ours is read")
    for i in range(read.block.count):
        if not read.fields[i].flags & FIELD_BAD_NAME:
            must(again.fields[kept].line_len == read.fields[i].line_len, b"length comes back")
            must(memcmp(again.fields[kept].name, read.fields[i].name, read.fields[i].line_len) == 0, b"line comes back")
            must(not read.fields[i].flags & FIELD_NEVER_INDEXED or again.fields[kept].flags & FIELD_NEVER_INDEXED != 0, b"never indexed")
            kept += 1
    must(kept == again.block.count, b"as many come back")
    free(code)


cdef void blocks(const uint8_t *at, uint32_t n, uint32_t most, uint32_t left, uint32_t size) noexcept nogil:
    cdef Side one, other, again
    cdef Encoding *encoding = <Encoding *>malloc(encoding_bytes(most))
    cdef uint32_t length
    cdef uint32_t used = 0
    cdef int result = HPACK_OK
    start(&one, most)
    start(&other, most)
    start(&again, most)
    encoding_start(encoding, most)
    while n > 1 and result >= 0:
        length = min(<uint32_t>at[0] * 4, n - 1)
        begin(&one, left, most)
        begin(&other, left, most)
        result = part(&one, at + 1, length, True, &used)
        must(HPACK_CALM <= result <= HPACK_LARGE, b"result")
        must(in_parts(&other, at + 1, length, size) == result, b"parts come to the same")
        if result >= 0:
            must(used == length, b"all of it")
            check_list(&one, left)
            check_same(&one, &other)
            check_table(one.table)
            check_table(other.table)
            begin(&again, left, most)
            replay(encoding, &one, &again)
            check_table(again.table)
        at += length + 1
        n -= length + 1
    end(&one)
    end(&other)
    end(&again)
    free(encoding)


cdef int fuzz_one(const uint8_t *data, size_t size) noexcept nogil:
    if size > 3:
        blocks(data + 3, <uint32_t>(size - 3), (data[0] & 15) * (data[0] >> 4) * 18, <uint32_t>data[1] * 16,
               1 + (data[2] & 63))
    return 0


target = <size_t>&fuzz_one
