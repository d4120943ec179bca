"""Tokens of sessions (see session_token.pxd).

Rules:
- whatever bytes a client sends, reading them takes so many steps at most; only a token that was made with this key for this
  rule is one
- a tag is compared as a whole: how long that takes says nothing of how much of it was right
- what is not exactly the text that would be written is no token: there is one text for each
"""
from libc.stdint cimport int8_t, uint8_t, uint32_t, uint64_t
from libc.string cimport memcpy

cdef extern from *:
    """
    static const char gw_base64[65] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    """
    const char gw_base64[65]

cdef enum:
    BODY = 32


cdef inline uint64_t little(const uint8_t *data, int n) noexcept nogil:
    cdef uint64_t value = 0
    cdef int i
    for i in range(n):
        value |= <uint64_t>data[i] << (8 * i)
    return value


cdef inline void put_little(uint8_t *out, uint64_t value, int n) noexcept nogil:
    cdef int i
    for i in range(n):
        out[i] = <uint8_t>(value >> (8 * i))


cdef inline uint64_t rotated(uint64_t value, int by) noexcept nogil:
    return value << by | value >> (64 - by)


cdef inline void rounds(uint64_t *v, int times) noexcept nogil:
    cdef int _round
    for _round in range(times):
        v[0] += v[1]
        v[1] = rotated(v[1], 13) ^ v[0]
        v[0] = rotated(v[0], 32)
        v[2] += v[3]
        v[3] = rotated(v[3], 16) ^ v[2]
        v[0] += v[3]
        v[3] = rotated(v[3], 21) ^ v[0]
        v[2] += v[1]
        v[1] = rotated(v[1], 17) ^ v[2]
        v[2] = rotated(v[2], 32)


cdef void siphash128(const uint8_t *key, const uint8_t *data, size_t n, uint8_t *out) noexcept nogil:
    cdef uint64_t v[4]
    cdef uint64_t k0 = little(key, 8), k1 = little(key + 8, 8), word
    cdef size_t at = 0
    v[0] = k0 ^ 0x736f6d6570736575ULL
    v[1] = k1 ^ 0x646f72616e646f6dULL ^ 0xee
    v[2] = k0 ^ 0x6c7967656e657261ULL
    v[3] = k1 ^ 0x7465646279746573ULL
    while n - at >= 8:
        word = little(data + at, 8)
        v[3] ^= word
        rounds(v, 2)
        v[0] ^= word
        at += 8
    word = little(data + at, <int>(n - at)) | <uint64_t>(n & 255) << 56
    v[3] ^= word
    rounds(v, 2)
    v[0] ^= word
    v[2] ^= 0xee
    rounds(v, 4)
    put_little(out, v[0] ^ v[1] ^ v[2] ^ v[3], 8)
    v[1] ^= 0xdd
    rounds(v, 4)
    put_little(out + 8, v[0] ^ v[1] ^ v[2] ^ v[3], 8)


cdef void tag_of(const uint8_t *key, uint64_t rule, const uint8_t *body, uint8_t *tag) noexcept nogil:
    cdef uint8_t said[8 + BODY]
    put_little(said, rule, 8)
    memcpy(said + 8, body, BODY)
    siphash128(key, said, 8 + BODY, tag)


cdef void hide(const uint8_t *key, const uint8_t *tag, uint8_t *body) noexcept nogil:
    """XOR the body with what its tag says: the same again shows it."""
    cdef uint8_t said[24]
    cdef uint8_t stream[BODY]
    cdef int i
    memcpy(said, tag, 16)
    for i in range(2):
        put_little(said + 16, i, 8)
        siphash128(key + 16, said, 24, stream + 16 * i)
    for i in range(BODY):
        body[i] ^= stream[i]


cdef void token_write(const uint8_t *key, uint64_t rule, const Token *token, char *text) noexcept nogil:
    cdef uint8_t raw[TOKEN_BYTES]
    cdef uint32_t three
    cdef int i
    put_little(raw + 16, token.backend, 8)
    memcpy(raw + 24, token.place, TOKEN_PLACE)
    put_little(raw + 42, token.issued_ms, 6)
    tag_of(key, rule, raw + 16, raw)
    hide(key, raw, raw + 16)
    for i in range(16):
        three = <uint32_t>raw[3 * i] << 16 | <uint32_t>raw[3 * i + 1] << 8 | raw[3 * i + 2]
        text[4 * i] = gw_base64[three >> 18]
        text[4 * i + 1] = gw_base64[three >> 12 & 63]
        text[4 * i + 2] = gw_base64[three >> 6 & 63]
        text[4 * i + 3] = gw_base64[three & 63]


cdef inline int8_t six(char c) noexcept nogil:
    if c'A' <= c <= c'Z':
        return c - c'A'
    if c'a' <= c <= c'z':
        return c - c'a' + 26
    if c'0' <= c <= c'9':
        return c - c'0' + 52
    return 62 if c == c'-' else 63 if c == c'_' else -1


cdef bint token_like(const char *text) noexcept nogil:
    cdef int i
    for i in range(TOKEN_TEXT):
        if six(text[i]) < 0:
            return False
    return True


cdef bint token_read(const uint8_t *key, uint64_t rule, const char *text, size_t n, Token *token) noexcept nogil:
    cdef uint8_t raw[TOKEN_BYTES]
    cdef uint8_t tag[16]
    cdef uint8_t wrong = 0
    cdef uint32_t three = 0
    cdef int8_t value
    cdef int i
    if n != TOKEN_TEXT:
        return False
    for i in range(TOKEN_TEXT):
        value = six(text[i])
        if value < 0:
            return False
        three = three << 6 | <uint8_t>value
        if i & 3 == 3:
            raw[i // 4 * 3] = three >> 16 & 255
            raw[i // 4 * 3 + 1] = three >> 8 & 255
            raw[i // 4 * 3 + 2] = three & 255
    hide(key, raw, raw + 16)
    tag_of(key, rule, raw + 16, tag)
    for i in range(16):
        wrong |= raw[i] ^ tag[i]
    if wrong:
        return False
    token.backend = little(raw + 16, 8)
    memcpy(token.place, raw + 24, TOKEN_PLACE)
    token.issued_ms = little(raw + 42, 6)
    return True


def siphash(bytes key not None, bytes data not None):
    """Return SipHash-2-4-128 of `data` under a key of 16 bytes."""
    cdef uint8_t out[16]
    if len(key) != 16:
        raise ValueError("the key has 16 bytes")
    siphash128(<const uint8_t *><const char *>key, <const uint8_t *><const char *>data, len(data), out)
    return (<const char *>out)[:16]


def write(bytes key not None, uint64_t rule, uint64_t backend, bytes place not None, uint64_t issued_ms):
    """Return a token's text. key: 32 bytes; place: 18, an address and its port."""
    cdef Token token
    cdef char text[TOKEN_TEXT]
    if len(key) != TOKEN_KEY or len(place) != TOKEN_PLACE:
        raise ValueError("a key has 32 bytes, a place 18")
    token.backend, token.issued_ms = backend, issued_ms
    memcpy(token.place, <const char *>place, TOKEN_PLACE)
    token_write(<const uint8_t *><const char *>key, rule, &token, text)
    return text[:TOKEN_TEXT]


def read(bytes key not None, uint64_t rule, bytes text not None):
    """Return (backend, place, issued_ms) of a token that was made with this key for this rule; None for anything else."""
    cdef Token token
    if len(key) != TOKEN_KEY:
        raise ValueError("a key has 32 bytes")
    if not token_read(<const uint8_t *><const char *>key, rule, text, len(text), &token):
        return None
    return token.backend, (<const char *>token.place)[:TOKEN_PLACE], token.issued_ms
