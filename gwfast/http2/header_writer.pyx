"""The heads that leave for clients of HTTP/2 (see header_writer.pxd)."""
from libc.stdint cimport int32_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcpy, strlen
from gwfast.http.bytes cimport same
from gwfast.http.fault cimport reason_phrase
from gwfast.http.fields cimport field_id, field_line
from gwfast.http.header_writer cimport Ops, Out, is_left, nth, overridden, overriding, put_number, total
from gwfast.http.head cimport (FIELD_CONTENT_LENGTH, FIELD_DATE, FIELD_HOP, FIELD_LOCATION, FIELD_OTHER,
                               FIELD_TRANSFER_ENCODING, Field, ResponseHead, name_hash)
from gwfast.http2.hpack_encoder cimport Encoding, hpack_begin, hpack_encode, hpack_status
from gwfast.table.layout cimport OP_CORS, OP_RESPONSE_ADD, OP_RESPONSE_SET, OP_SESSION, Op, text

# A block in the making.
cdef struct Block:
    Encoding *encoding
    uint8_t *at
    uint8_t *end
    bint full


cdef void begin(Block *block, Encoding *encoding, uint8_t *to, uint8_t *end) noexcept nogil:
    block.encoding, block.at, block.end, block.full = encoding, to, end, False
    advance(block, hpack_begin(encoding, to, end))


cdef inline void advance(Block *block, int32_t n) noexcept nogil:
    if n < 0:
        block.full = True
    else:
        block.at += n


cdef inline void add(Block *block, const Field *field) noexcept nogil:
    if not block.full:
        advance(block, hpack_encode(block.encoding, field, block.at, block.end))


cdef void add_words(Block *block, const char *name, const char *value, uint32_t n, uint16_t id) noexcept nogil:
    cdef Field field
    field.name, field.name_len = name, <uint32_t>strlen(name)
    field.value, field.value_len = value, n
    field.hash = name_hash(name, field.name_len)
    field.id, field.flags = id, 0
    add(block, &field)


cdef void add_number(Block *block, const char *name, uint64_t value, uint16_t id) noexcept nogil:
    cdef char digits[20]
    cdef Out out
    out.at, out.end, out.full = digits, digits + sizeof(digits), False
    put_number(&out, value)
    add_words(block, name, digits, <uint32_t>(out.at - digits), id)


cdef void add_lines(Block *block, const char *at, uint32_t n) noexcept nogil:
    cdef const char *stop = at + n
    cdef Field field
    cdef int used
    while at < stop:
        used = field_line(at, stop, 0xffffffff, &field)
        if used <= 0:
            block.full = True
            return
        add(block, &field)
        at += used


cdef void add_ops(Block *block, const Ops *ops, uint64_t named) noexcept nogil:
    cdef const Op *op
    cdef Field field
    cdef uint32_t i
    cdef bint said = False
    for i in range(total(ops)):
        op = nth(ops, i)
        if (op.kind == OP_CORS or op.kind == OP_SESSION) and not said:
            add_lines(block, ops.added, ops.added_n)
            said = True
        if op.kind != OP_RESPONSE_SET and op.kind != OP_RESPONSE_ADD:
            continue
        field.name, field.name_len = text(ops.image, op.name), op.name.n
        if named >> (op.hash & 63) & 1 and overridden(ops, i + 1, True, op.hash, field.name, field.name_len):
            continue
        field.value, field.value_len = text(ops.image, op.value), op.value.n
        field.hash, field.id, field.flags = op.hash, field_id(field.name, field.name_len), 0
        add(block, &field)


cdef inline int32_t finished(const Block *block, const uint8_t *to) noexcept nogil:
    return -1 if block.full else <int32_t>(block.at - to)


cdef int32_t encode_response(Encoding *encoding, const Ops *ops, const ResponseHead *head, uint32_t status,
                             const char *date, bint drop_length, uint8_t *to, uint8_t *end) noexcept nogil:
    cdef uint64_t named = overriding(ops, True)
    cdef uint32_t drop = 1 << FIELD_TRANSFER_ENCODING
    cdef const Field *field
    cdef Block block
    cdef uint32_t i
    if drop_length:
        drop |= 1 << FIELD_CONTENT_LENGTH
    begin(&block, encoding, to, end)
    advance(&block, hpack_status(encoding, status, block.at, end))
    for i in range(head.count):
        field = &head.fields[i]
        if field.flags & FIELD_HOP or (drop >> field.id) & 1:
            continue
        if head.status == 101 and field.name_len == 20 and same(field.name, b"sec-websocket-accept", 20):
            continue               # of a handshake that HTTP/2 does not have (RFC 8441 5)
        if not (named >> (field.hash & 63) & 1
                and overridden(ops, 0, True, field.hash, field.name, field.name_len)):
            add(&block, field)
    add_ops(&block, ops, named)
    if not head.ids >> FIELD_DATE & 1 and status >= 200 and is_left(ops, named, b"date", 4):
        add_words(&block, b"date", date, 29, FIELD_DATE)
    return finished(&block, to)


cdef int32_t encode_answer(Encoding *encoding, const Ops *ops, int status, const char *date, const char *location,
                           uint32_t n, uint32_t length, int grpc, uint8_t *to, uint8_t *end) noexcept nogil:
    cdef const char *phrase = reason_phrase(status)
    cdef uint64_t named = overriding(ops, True) if ops != NULL else 0
    cdef Block block
    begin(&block, encoding, to, end)
    advance(&block, hpack_status(encoding, 200 if grpc >= 0 else status, block.at, end))
    if is_left(ops, named, b"date", 4):
        add_words(&block, b"date", date, 29, FIELD_DATE)
    if ops != NULL:
        add_ops(&block, ops, named)
    if grpc >= 0:
        add_words(&block, b"content-type", b"application/grpc", 16, FIELD_OTHER)
        add_number(&block, b"grpc-status", grpc, FIELD_OTHER)
        add_words(&block, b"grpc-message", phrase, <uint32_t>strlen(phrase), FIELD_OTHER)
        return finished(&block, to)
    if status == 405:
        add_words(&block, b"allow", b"GET, HEAD, POST, PUT, DELETE, OPTIONS, PATCH", 44, FIELD_OTHER)
    if location != NULL and n and is_left(ops, named, b"location", 8):
        add_words(&block, b"location", location, n, FIELD_LOCATION)
    elif location == NULL and is_left(ops, named, b"content-type", 12):
        add_words(&block, b"content-type", b"text/plain", 10, FIELD_OTHER)
    add_number(&block, b"content-length", length, FIELD_CONTENT_LENGTH)
    return finished(&block, to)


cdef int32_t encode_status(Encoding *encoding, uint32_t status, uint8_t *to, uint8_t *end) noexcept nogil:
    cdef Block block
    begin(&block, encoding, to, end)
    advance(&block, hpack_status(encoding, status, block.at, end))
    return finished(&block, to)


cdef int32_t encode_trailers(Encoding *encoding, const char *at, uint32_t n, uint8_t *to, uint8_t *end) noexcept nogil:
    cdef Block block
    begin(&block, encoding, to, end)
    add_lines(&block, at, n)
    return finished(&block, to)


cdef int grpc_status(int status) noexcept nogil:
    if status == 404:
        return 12                  # UNIMPLEMENTED
    if status == 401:
        return 16                  # UNAUTHENTICATED
    if status == 403:
        return 7                   # PERMISSION_DENIED
    if status == 504 or status == 408:
        return 4                   # DEADLINE_EXCEEDED
    if status == 429 or status >= 500:
        return 14                  # UNAVAILABLE
    return 13 if status == 400 or status == 431 else 2


cdef void answer_body(char *to, int status, uint32_t size) noexcept nogil:
    to[0], to[1], to[2], to[3] = <char>(48 + status // 100), <char>(48 + status // 10 % 10), <char>(48 + status % 10), c" "
    memcpy(to + 4, reason_phrase(status), size - 5)
    to[size - 1] = c"\n"
