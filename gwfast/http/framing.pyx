"""What the fields of a head say together about the body's length and the connection.

Rules: one length, said once, in one way; whatever could be read in two ways is refused (RFC 9112 6.3, 11.2). Fields
between neighbours are flagged here and forwarded by nobody.
"""
from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memset
from gwfast.http.bytes cimport CHAR_TOKEN, alike, is_a, same
from gwfast.http.fields cimport field_id, next_member
from gwfast.http.head cimport (BAD_FIELDS_LARGE, BAD_REQUEST, FIELD_AUTHORIZATION, FIELD_CONNECTION, FIELD_CONTENT_LENGTH,
                               FIELD_COOKIE, FIELD_FORWARDED, FIELD_HOP, FIELD_HOST, FIELD_HTTP2_SETTINGS, FIELD_KEEP_ALIVE,
                               FIELD_PROXY_AUTHENTICATE, FIELD_PROXY_AUTHORIZATION, FIELD_PROXY_CONNECTION, FIELD_TE,
                               FIELD_TRAILER, FIELD_TRANSFER_ENCODING, FIELD_UPGRADE, FIELD_X_REAL_IP, Field, Slice, WHY_CODING,
                               WHY_CONNECTION, WHY_LENGTH, WHY_LENGTH_CONFLICT, name_hash)


# Never forwarded as received (RFC 9110 7.6.1). Proxy-Authenticate and Proxy-Authorization concern the next proxy and a
# gateway is none (11.7; Go's ReverseProxy drops them as well); Trailer is written anew where trailers are sent.
cdef bint is_hop(uint16_t id) noexcept nogil:
    return (id == FIELD_CONNECTION or id == FIELD_KEEP_ALIVE or id == FIELD_PROXY_CONNECTION or id == FIELD_TE
            or id == FIELD_TRAILER or id == FIELD_TRANSFER_ENCODING or id == FIELD_UPGRADE
            or id == FIELD_HTTP2_SETTINGS or id == FIELD_PROXY_AUTHENTICATE or id == FIELD_PROXY_AUTHORIZATION)


cdef bint is_token(const Slice *word) noexcept nogil:
    cdef uint32_t i
    for i in range(word.n):
        if not is_a(word.at[i], CHAR_TOKEN):
            return False
    return word.n > 0


cdef bint is_guarded(const char *name, uint32_t n) noexcept nogil:
    cdef uint16_t id = field_id(name, n)
    return (id == FIELD_HOST or id == FIELD_CONTENT_LENGTH or id == FIELD_TRANSFER_ENCODING
            or id == FIELD_AUTHORIZATION or id == FIELD_COOKIE or id == FIELD_FORWARDED or id == FIELD_X_REAL_IP
            or (n > 12 and same(name, b"x-forwarded-", 12)))


cdef int note_connection(const Field *field, Notes *notes) noexcept nogil:
    cdef Slice rest
    cdef Slice option
    if field.value_len == 10 and same(field.value, b"keep-alive", 10):     # what nearly everybody says
        notes.keep_alive = 1
        notes.options += 1
        return 0 if notes.options <= CONNECTION_OPTIONS else BAD_FIELDS_LARGE
    rest.at = field.value
    rest.n = field.value_len
    while next_member(&rest, &option):
        if not is_token(&option):
            return BAD_REQUEST
        notes.options += 1
        if notes.options > CONNECTION_OPTIONS:
            return BAD_FIELDS_LARGE
        if option.n == 5 and same(option.at, b"close", 5):
            notes.close = 1
        elif option.n == 10 and same(option.at, b"keep-alive", 10):
            notes.keep_alive = 1
        elif option.n == 7 and same(option.at, b"upgrade", 7):
            notes.wants_upgrade = 1
        elif is_guarded(option.at, option.n):
            return BAD_REQUEST
        else:
            notes.named = 1
    return 0


# Content-Length = 1*DIGIT, once, and at most 2^63 - 1 (RFC 9110 8.6).
cdef int note_length(const Field *field, Notes *notes) noexcept nogil:
    cdef uint64_t value = 0
    cdef uint32_t i
    if notes.has_length or notes.chunked or field.value_len == 0 or field.value_len > 19:
        return BAD_REQUEST
    for i in range(field.value_len):
        if not 48 <= field.value[i] <= 57:
            return BAD_REQUEST
        value = value * 10 + <uint64_t>(field.value[i] - 48)
    if value >> 63:
        return BAD_REQUEST
    notes.content_length = value
    notes.has_length = 1
    return 0


# Exactly one 'chunked', in HTTP/1.1, without Content-Length (RFC 9112 6.1).
cdef int note_coding(const Field *field, Notes *notes) noexcept nogil:
    cdef Slice value
    value.at = field.value
    value.n = field.value_len
    if notes.chunked or notes.has_length or notes.minor == 0 or value.n != 7:
        return BAD_REQUEST
    if not same(value.at, b"chunked", 7):
        return BAD_REQUEST
    notes.chunked = 1
    return 0


cdef void note_te(const Field *field, Notes *notes) noexcept nogil:
    cdef Slice rest
    cdef Slice member
    rest.at = field.value
    rest.n = field.value_len
    while next_member(&rest, &member):
        if member.n == 8 and is_token(&member) and same(member.at, b"trailers", 8):
            notes.trailers = 1


# Judges a field that the gateway acts on, in requests and responses. 0 or BAD_*.
cdef int note(Field *field, Notes *notes) noexcept nogil:
    if field.id == FIELD_CONTENT_LENGTH:
        return note_length(field, notes)
    if field.id == FIELD_TRANSFER_ENCODING:
        field.flags |= FIELD_HOP
        return note_coding(field, notes)
    if field.id == FIELD_CONNECTION:
        field.flags |= FIELD_HOP
        return note_connection(field, notes)
    if is_hop(field.id):
        field.flags |= FIELD_HOP
        if field.id == FIELD_TE:
            note_te(field, notes)
        elif field.id == FIELD_UPGRADE:
            notes.upgrades += notes.upgrades < 2
            notes.upgrade.at = field.value
            notes.upgrade.n = field.value_len
    return 0


cdef uint8_t why_noted(const Field *field, const Notes *notes) noexcept nogil:
    if field.id == FIELD_CONTENT_LENGTH:
        return WHY_LENGTH_CONFLICT if notes.has_length or notes.chunked else WHY_LENGTH
    if field.id == FIELD_TRANSFER_ENCODING:
        return WHY_LENGTH_CONFLICT if notes.has_length else WHY_CODING
    return WHY_CONNECTION


# Marks the fields that Connection names, once all are known (RFC 9110 7.6.1).
cdef void mark_named(Field *fields, uint32_t count) noexcept nogil:
    cdef uint32_t i
    cdef Slice rest
    cdef Slice option
    for i in range(count):
        if fields[i].id == FIELD_CONNECTION:
            rest.at = fields[i].value
            rest.n = fields[i].value_len
            while next_member(&rest, &option):
                mark(fields, count, &option)


cdef void mark(Field *fields, uint32_t count, const Slice *option) noexcept nogil:
    cdef uint32_t h = name_hash(option.at, option.n)
    cdef uint32_t i
    for i in range(count):
        if fields[i].hash == h and fields[i].name_len == option.n and alike(fields[i].name, option.at, option.n):
            fields[i].flags |= FIELD_HOP


# One Upgrade field, asked for by Connection, in HTTP/1.1 (RFC 9110 7.8). h2c would let a client speak to the upstream
# behind the gateway's back, and RFC 9113 took it out: it is no upgrade.
cdef bint wants_upgrade(const Notes *notes) noexcept nogil:
    cdef Slice rest = notes.upgrade
    cdef Slice member
    if not notes.wants_upgrade or notes.upgrades != 1 or notes.minor == 0 or not next_member(&rest, &member):
        return False
    rest = notes.upgrade
    while next_member(&rest, &member):
        if member.n >= 3 and same(member.at, b"h2c", 3):
            return False
    return True


cdef void clear(Notes *notes) noexcept nogil:
    memset(notes, 0, sizeof(Notes))
