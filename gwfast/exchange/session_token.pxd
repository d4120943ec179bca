# Tokens of sessions (GEP-1619): what a client hands back so that it comes to the same endpoint again. 48 bytes, 64 characters:
#
#   +--------------+-----------------------------------------------------------+
#   | tag 16       | body 32: backend 8, address 16, port 2, issued (ms) 6     |   base64url, no padding (RFC 4648 5)
#   +--------------+-----------------------------------------------------------+
#     SipHash-2-4 of 128 bits, under k0, of the rule's identity and the body
#                    and the body XOR SipHash(k1, tag + counter): a synthetic IV (as RFC 5297), so nothing random is needed
#
# The rule is authenticated but not carried: a token is of no use to another rule. All numbers are little-endian, except the
# port, which is as on the wire. The key is 32 bytes, k0 and k1.
from libc.stdint cimport uint8_t, uint64_t

cdef enum:
    TOKEN_KEY = 32
    TOKEN_BYTES = 48
    TOKEN_TEXT = 64
    TOKEN_PLACE = 18           # an address and its port

cdef struct Token:
    uint64_t backend
    uint8_t place[TOKEN_PLACE]
    uint64_t issued_ms         # since the epoch; 48 bits are kept

cdef void siphash128(const uint8_t *key, const uint8_t *data, size_t n, uint8_t *out) noexcept nogil
cdef void token_write(const uint8_t *key, uint64_t rule, const Token *token, char *text) noexcept nogil
cdef bint token_like(const char *text) noexcept nogil      # TOKEN_TEXT characters that can be one
cdef bint token_read(const uint8_t *key, uint64_t rule, const char *text, size_t n, Token *token) noexcept nogil
