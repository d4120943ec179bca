# The Huffman code of HPACK (RFC 7541 5.2 and Appendix B). Pure: bytes in, bytes out, nothing allocated.
from libc.stdint cimport int64_t, uint8_t, uint32_t

cdef enum:
    HUFFMAN_BAD = -1       # EOS, or padding that is longer than 7 bits or not of ones
    HUFFMAN_LONG = -2      # more than `room` bytes

# Decodes n bytes from `at` to `to`: how many bytes that made, or HUFFMAN_*. Nothing is written behind `to + room`.
cdef int64_t huffman_decode(const uint8_t *at, uint32_t n, uint8_t *to, uint32_t room) noexcept nogil

# Encodes n bytes to `to`, which has room for n + 4: how many bytes that made, or 0 where they would not be fewer than n.
# A `name` is encoded in lower case; it consists of token characters and ':'.
cdef uint32_t huffman_encode(const uint8_t *at, uint32_t n, bint name, uint8_t *to) noexcept nogil
# The same length without the bytes.
cdef uint32_t huffman_length(const uint8_t *at, uint32_t n, bint name) noexcept nogil
