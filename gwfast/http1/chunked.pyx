"""Chunked bodies and their trailers (RFC 9112 7.1, RFC 9110 6.5).

Rules: chunks are read and written anew, never passed on as they are; extensions are checked and dropped; a byte that
cannot be where it is ends the message.
"""
from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memmove
from gwfast.http.bytes cimport CHAR_HEX, CHAR_QUOTED, CHAR_TOKEN, hex_value, is_a, same
from gwfast.http.fields cimport field_line
from gwfast.http.framing cimport is_guarded, is_hop
from gwfast.http.head cimport (BAD_FIELDS_LARGE, BAD_REQUEST, COUNT_MOST, FIELD_EXPECT, FIELD_HOP, FIELD_VIA, Field, HEAD_MOST,
                               HeadLimits, PARTIAL, Slice)

cdef enum:
    DOOR_FIELDS = 256          # that tests may ask for


# chunk = chunk-size [ chunk-ext ] CRLF chunk-data CRLF (RFC 9112 7.1)
cdef enum ChunkStep:
    AT_SIZE = 0
    AT_NAME            # behind ';': chunk-ext = *( BWS ";" BWS name [ BWS "=" BWS value ] )
    IN_NAME
    BEHIND_NAME        # BWS: '=' or ';' must follow
    AT_VALUE
    IN_VALUE
    IN_QUOTES
    ESCAPED
    BEHIND_QUOTES
    BEHIND_VALUE       # BWS: ';' must follow
    AT_LF              # of the chunk line
    IN_DATA
    AT_DATA_CR
    AT_DATA_LF
    AT_LAST            # 0: the last chunk line was read
    BROKEN


cdef void chunk_start(ChunkState *state, bint lenient) noexcept nogil:
    state.left = 0
    state.extension = 0
    state.state = AT_SIZE
    state.digits = 0
    state.lenient = lenient


# The step behind one byte of a chunk extension.
cdef uint8_t extension_step(uint8_t step, char c) noexcept nogil:
    cdef bint blank = c == b' ' or c == b'\t'
    if step == IN_QUOTES:
        if c == b'"':
            return BEHIND_QUOTES
        if c == b'\\':
            return ESCAPED
        return IN_QUOTES if is_a(c, CHAR_QUOTED) else BROKEN
    if step == ESCAPED:
        return IN_QUOTES if is_a(c, CHAR_QUOTED) or c == b'"' else BROKEN
    if step == AT_NAME:
        return IN_NAME if is_a(c, CHAR_TOKEN) else AT_NAME if blank else BROKEN
    if step == AT_VALUE:
        if c == b'"':
            return IN_QUOTES
        return IN_VALUE if is_a(c, CHAR_TOKEN) else AT_VALUE if blank else BROKEN
    if c == b';':
        return AT_NAME
    if step == IN_NAME or step == BEHIND_NAME:
        if c == b'=':
            return AT_VALUE
        if blank:
            return BEHIND_NAME
    elif blank:
        return BEHIND_VALUE
    if step == BEHIND_NAME or step == BEHIND_VALUE:
        return BROKEN
    if c == b'\r':
        return AT_LF
    return step if step != BEHIND_QUOTES and is_a(c, CHAR_TOKEN) else BROKEN


# The step behind one byte that is not data.
cdef uint8_t chunk_step(ChunkState *state, char c) noexcept nogil:
    if state.state == AT_SIZE:
        if is_a(c, CHAR_HEX):
            state.digits += 1
            state.left = state.left << 4 | hex_value(c)
            return AT_SIZE if state.digits <= 16 and not state.left >> 63 else BROKEN
        if state.digits == 0:
            return BROKEN
        state.extension = 0
        if state.lenient and (c == b' ' or c == b'\t'):
            return BEHIND_VALUE
        return AT_LF if c == b'\r' else AT_NAME if c == b';' else BROKEN
    if state.state == AT_LF:
        state.digits = 0
        return BROKEN if c != b'\n' else IN_DATA if state.left else AT_LAST
    if state.state == AT_DATA_CR:
        return AT_DATA_LF if c == b'\r' else BROKEN
    if state.state == AT_DATA_LF:
        return AT_SIZE if c == b'\n' else BROKEN
    if state.state >= AT_LAST:
        return BROKEN
    state.extension += 1
    if c == b'\r' and state.lenient and (state.state == BEHIND_NAME or state.state == BEHIND_VALUE):
        return AT_LF
    return extension_step(state.state, c) if state.extension <= CHUNK_EXTENSION_BYTES else BROKEN


cdef int chunk_next(ChunkState *state, const char *at, size_t n, size_t *used, Slice *data) noexcept nogil:
    cdef size_t i = 0
    data.at = at
    data.n = 0
    while i < n:
        if state.state == IN_DATA:
            data.at = at + i
            data.n = <uint32_t>min(min(<uint64_t>(n - i), state.left), <uint64_t>0x40000000)
            state.left -= data.n
            if state.left == 0:
                state.state = AT_DATA_CR
            used[0] = i + data.n
            return CHUNK_DATA
        state.state = chunk_step(state, at[i])
        i += 1
        if state.state >= AT_LAST:
            used[0] = i
            return CHUNK_END if state.state == AT_LAST else CHUNK_BAD
    used[0] = i
    return CHUNK_MORE if state.state < AT_LAST else CHUNK_BAD


# ---- trailers -----------------------------------------------------------------------------------------------------

# What nobody may say behind the body, because a reader that merged it would be misled: framing, routing,
# authentication, conditions, and who the client is (RFC 9110 6.5.1).
cdef bint is_barred(const Field *field) noexcept nogil:
    cdef const char *name = field.name
    cdef uint32_t n = field.name_len
    if is_hop(field.id) or is_guarded(name, n):
        return True
    if field.id == FIELD_EXPECT or field.id == FIELD_VIA:
        return True
    if n > 3 and same(name, b"if-", 3):
        return True
    if n == 5:
        return same(name, b"range", 5)
    if n == 10:
        return same(name, b"set-cookie", 10)
    if n == 12:
        return same(name, b"max-forwards", 12)
    if n == 13:
        return same(name, b"cache-control", 13)
    return n == 16 and same(name, b"www-authenticate", 16)


# What does not belong there either and misleads nobody once it is dropped: control and format of the response.
cdef bint is_misplaced(const Field *field) noexcept nogil:
    cdef const char *name = field.name
    cdef uint32_t n = field.name_len
    if n == 3:
        return same(name, b"age", 3)
    if n == 4:
        return same(name, b"vary", 4) or same(name, b"date", 4)
    if n == 6:
        return same(name, b"pragma", 6)
    if n == 7:
        return same(name, b"expires", 7) or same(name, b"warning", 7)
    if n == 8:
        return same(name, b"location", 8)
    if n == 11:
        return same(name, b"retry-after", 11)
    if n == 12:
        return same(name, b"content-type", 12)
    if n == 13:
        return same(name, b"content-range", 13)
    return n == 16 and same(name, b"content-encoding", 16)


cdef int parse_trailers(const char *at, uint32_t n, const HeadLimits *limits, Field *fields, uint32_t *count) noexcept nogil:
    cdef const char *p = at
    cdef const char *end = at + min(n, limits.head)
    cdef int missing = BAD_FIELDS_LARGE if n >= limits.head else PARTIAL
    cdef int used
    count[0] = 0
    while True:
        if p == end:
            return missing
        if p[0] == b'\r':
            if p + 1 == end:
                return missing
            return <int>(p + 2 - at) if p[1] == b'\n' else BAD_REQUEST
        if count[0] == limits.count:
            return BAD_FIELDS_LARGE
        used = field_line(p, end, limits.line, &fields[count[0]])
        if used == PARTIAL:
            return missing
        if used < 0:
            return used
        if is_barred(&fields[count[0]]):
            return BAD_REQUEST
        if is_misplaced(&fields[count[0]]):
            fields[count[0]].flags |= FIELD_HOP
        p += used
        count[0] += 1


cdef bint may_trail(const Field *field) noexcept nogil:
    return not is_barred(field) and not is_misplaced(field)


cdef int sift_trailers(char *at, uint32_t n, const HeadLimits *limits, uint32_t *kept) noexcept nogil:
    cdef const char *p = at
    cdef const char *end = at + min(n, limits.head)
    cdef int missing = BAD_FIELDS_LARGE if n >= limits.head else PARTIAL
    cdef uint32_t count = 0
    cdef Field field
    cdef int used
    kept[0] = 0
    while p < end and p[0] != b'\r':
        if count == limits.count:
            return BAD_FIELDS_LARGE
        used = field_line(p, end, limits.line, &field)
        if used <= 0:
            return used if used < 0 else missing
        p += used
        count += 1
    if end - p < 2:
        return missing
    if p[1] != b'\n':
        return BAD_REQUEST
    end, p = p, at
    while p < end:
        used = field_line(p, end, limits.line, &field)
        if may_trail(&field):
            memmove(at + kept[0], p, used)
            kept[0] += used
        p += used
    return <int>(end + 2 - at)


cdef uint32_t keep_trailers(char *at, const Field *fields, uint32_t count, uint16_t flags) noexcept nogil:
    cdef uint32_t n = 0
    cdef uint32_t i
    for i in range(count):
        if not fields[i].flags & flags:
            memmove(at + n, fields[i].name, fields[i].line_len)
            n += fields[i].line_len
    return n


# ---- doors for Python: tests and tools, never the hot path -----------------------------------------------------------

cdef list field_list(const Field *fields, uint32_t count):
    return [(fields[i].name[:fields[i].name_len], fields[i].value[:fields[i].value_len], fields[i].id,
             fields[i].flags, fields[i].hash, fields[i].line_len) for i in range(count)]


def chunks_at(size_t address, size_t n, cuts=(), bint lenient=False):
    """Decode a chunked body that arrives cut at these offsets: (data, bytes used, last result). lenient: a response's."""
    cdef ChunkState state
    cdef Slice data
    cdef size_t at = 0
    cdef size_t used = 0
    cdef size_t end
    cdef int result = CHUNK_MORE
    body = bytearray()
    chunk_start(&state, lenient)
    for end in [*cuts, n]:
        while at < end:
            result = chunk_next(&state, <const char *>address + at, end - at, &used, &data)
            at += used
            if result == CHUNK_DATA:
                body += data.at[:data.n]
            elif result != CHUNK_MORE:
                return bytes(body), at, result
    return bytes(body), at, CHUNK_MORE


def chunks_of(data: bytes, cuts=(), bint lenient=False):
    """Decode a chunked body: as chunks_at()."""
    return chunks_at(<size_t><const char *>data, len(data), cuts, lenient)


def trailers_at(size_t address, uint32_t n, *, uint32_t limit=HEAD_MOST, uint32_t room=DOOR_FIELDS):
    """Parse a trailer section at an address: (its length, fields), or the int that refuses it (0: partial)."""
    cdef Field fields[DOOR_FIELDS]
    cdef HeadLimits limits = HeadLimits(limit, limit, min(room, <uint32_t>DOOR_FIELDS))
    cdef uint32_t count = 0
    result = parse_trailers(<const char *>address, n, &limits, fields, &count)
    return (result, field_list(fields, count)) if result > 0 else result


def trailers_of(data: bytes, **options):
    """Parse a trailer section: as trailers_at()."""
    return trailers_at(<size_t><const char *>data, <uint32_t>len(data), **options)


def sifted(data: bytes, uint32_t limit=HEAD_MOST, uint32_t room=COUNT_MOST) -> tuple[int, bytes] | int:
    """Read the trailer section of a response: its length and the lines that stay, or the int that refuses it (0: partial)."""
    cdef HeadLimits limits = HeadLimits(limit, limit, room)
    cdef uint32_t n = 0
    section = bytearray(data)
    result = sift_trailers(section, <uint32_t>len(section), &limits, &n)
    return (result, bytes(section[:n])) if result > 0 else result


def kept(data: bytes, uint16_t flags) -> bytes:
    """Return the lines of a trailer section whose fields have none of these flags."""
    cdef Field fields[DOOR_FIELDS]
    cdef HeadLimits limits = HeadLimits(HEAD_MOST, HEAD_MOST, DOOR_FIELDS)
    cdef uint32_t count = 0
    section = bytearray(data)
    assert parse_trailers(section, <uint32_t>len(section), &limits, fields, &count) > 0
    return bytes(section[:keep_trailers(section, fields, count, flags)])


EXTENSION_BYTES = CHUNK_EXTENSION_BYTES
