"""The Huffman code of HPACK (RFC 7541 5.2 and Appendix B).

Rules: the code is canonical, so the lengths say all of it: among codes of one length the symbols ascend, and each length
goes on where the shorter one ended. The tables below are made of them once, when the module is imported, and only read
from then on. Decoding looks at 12 bits at a time, which often hold two symbols:

    bits      |  first   |  second  | ... |      12 bits of the input are the index
    pairs[]   |  count   |  bits    |  second symbol  |  first symbol  |      a byte each; 0: the first is longer
"""
from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from gwfast.http.bytes cimport gw_token

cdef extern from *:
    """
    #include <stdint.h>
    /* 64 bits as they follow each other in the input, the first one on top. */
    static inline uint64_t gw_load_bits(const uint8_t *at)
    {
        uint64_t x;
        __builtin_memcpy(&x, at, 8);
    #if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
        x = __builtin_bswap64(x);
    #endif
        return x;
    }
    static inline void gw_store_bits(uint8_t *to, uint32_t x)
    {
    #if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
        x = __builtin_bswap32(x);
    #endif
        __builtin_memcpy(to, &x, 4);
    }
    """
    uint64_t load_bits "gw_load_bits"(const uint8_t *at) noexcept nogil
    void store_bits "gw_store_bits"(uint8_t *to, uint32_t x) noexcept nogil

cdef enum:
    EOS = 256
    SYMBOLS = 257
    LONGEST = 30
    PEEK = 12

# Bits of the code of each byte, and of EOS (RFC 7541 Appendix B).
cdef tuple LENGTHS = (
    13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28,
    28, 28, 28, 28, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 28,
    6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6,
    5, 5, 5, 6, 6, 6, 6, 6, 6, 6, 7, 8, 15, 6, 12, 10,
    13, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7,
    7, 7, 7, 7, 7, 7, 7, 7, 8, 7, 8, 13, 19, 13, 14, 6,
    15, 5, 6, 5, 6, 5, 6, 6, 6, 5, 7, 7, 6, 6, 6, 5,
    6, 7, 6, 5, 5, 6, 7, 7, 7, 7, 7, 15, 11, 14, 13, 28,
    20, 22, 20, 20, 22, 22, 22, 23, 22, 23, 23, 23, 23, 23, 24, 23,
    24, 24, 22, 23, 24, 23, 23, 23, 23, 21, 22, 23, 22, 23, 23, 24,
    22, 21, 20, 22, 22, 23, 23, 21, 23, 22, 22, 24, 21, 22, 23, 23,
    21, 21, 22, 21, 23, 22, 23, 23, 20, 22, 22, 22, 23, 22, 22, 23,
    26, 26, 20, 19, 22, 23, 22, 25, 26, 26, 26, 27, 27, 26, 24, 25,
    19, 21, 26, 27, 27, 26, 27, 24, 21, 21, 26, 26, 28, 27, 27, 27,
    20, 24, 20, 21, 22, 21, 21, 23, 22, 22, 25, 25, 24, 24, 26, 23,
    26, 27, 26, 26, 27, 27, 27, 27, 27, 28, 27, 27, 27, 27, 27, 26,
    30)

cdef uint32_t codes[SYMBOLS]
cdef uint8_t lengths[SYMBOLS]
cdef uint16_t symbols[SYMBOLS]         # by length, then by value: that is by code
cdef uint64_t behind[LONGEST + 1]      # the first code that is longer, as 32 bits, the code on top
cdef uint32_t first_code[LONGEST + 1]
cdef uint16_t first_symbol[LONGEST + 1]
cdef uint32_t pairs[1 << PEEK]


cdef int make_codes() except -1:
    cdef uint32_t code = 0
    cdef uint32_t i = 0
    cdef int length, symbol
    for length in range(1, LONGEST + 1):
        code <<= 1
        first_code[length] = code
        first_symbol[length] = <uint16_t>i
        for symbol in range(SYMBOLS):
            if LENGTHS[symbol] == length:
                symbols[i] = <uint16_t>symbol
                lengths[symbol] = <uint8_t>length
                codes[symbol] = code
                code += 1
                i += 1
        behind[length] = <uint64_t>code << (32 - length)
    return 0


# The symbol that 32 bits begin with; how many of them it takes.
cdef uint32_t symbol_at(uint32_t bits, uint32_t *symbol) noexcept nogil:
    cdef uint32_t length = 5
    while bits >= behind[length]:
        length += 1
        if length == LONGEST:
            break
    symbol[0] = symbols[first_symbol[length] + (bits >> (32 - length)) - first_code[length]]
    return length


cdef void make_pairs() noexcept:
    cdef uint32_t index, one, two, first, second
    for index in range(1 << PEEK):
        one = symbol_at(index << (32 - PEEK), &first)
        if one > PEEK:
            continue
        two = symbol_at(<uint32_t>(<uint64_t>index << (32 - PEEK + one)), &second)
        if one + two <= PEEK:
            pairs[index] = 2 << 24 | (one + two) << 16 | second << 8 | first
        else:
            pairs[index] = 1 << 24 | one << 16 | first


make_codes()
make_pairs()


# The bits from `position` on: 57 of them at least, or all there are and ones behind them.
cdef inline uint64_t window(const uint8_t *at, uint32_t n, uint64_t position) noexcept nogil:
    cdef uint32_t left = <uint32_t>(8 * <uint64_t>n - position)
    cdef uint64_t bits
    cdef uint32_t i
    if left >= 57:
        return load_bits(at + (position >> 3)) << (position & 7)
    if n >= 8:
        bits = load_bits(at + n - 8) << (64 - left)
    else:
        bits = 0
        for i in range(n):
            bits = bits << 8 | at[i]
        bits <<= 64 - left
    return bits | ~<uint64_t>0 >> left


cdef int64_t huffman_decode(const uint8_t *at, uint32_t n, uint8_t *to, uint32_t room) noexcept nogil:
    cdef uint64_t total = <uint64_t>n * 8
    cdef uint64_t position = 0
    cdef uint8_t *out = to
    cdef uint8_t *stop = to + room
    cdef uint64_t bits
    cdef uint32_t pair, symbol, used, left
    while position < total:
        bits = window(at, n, position)
        left = <uint32_t>min(total - position, <uint64_t>57)
        while stop - out >= 2:
            pair = pairs[bits >> (64 - PEEK)]
            used = pair >> 16 & 15
            if pair == 0 or used > left:
                break
            out[0] = <uint8_t>pair
            out[1] = <uint8_t>(pair >> 8)
            out += pair >> 24
            bits <<= used
            left -= used
            position += used
        # One symbol with care: it is long, or the last one, or the bits above end in it.
        if position == total:
            break
        bits = window(at, n, position)
        if total - position < 8 and bits == ~<uint64_t>0:
            break
        used = symbol_at(<uint32_t>(bits >> 32), &symbol)
        if used > total - position or symbol == EOS:
            return HUFFMAN_BAD
        if out == stop:
            return HUFFMAN_LONG
        out[0] = <uint8_t>symbol
        out += 1
        position += used
    return out - to


cdef inline uint8_t byte_of(uint8_t c, bint name) noexcept nogil:
    return gw_token[c] if name and c != b':' else c


cdef inline uint32_t encode(const uint8_t *at, uint32_t n, bint name, uint8_t *to) noexcept nogil:
    cdef uint64_t bits = 0
    cdef uint32_t count = 0
    cdef uint32_t used = 0
    cdef uint32_t i
    cdef uint8_t c
    for i in range(n):
        c = byte_of(at[i], name)
        bits = bits << lengths[c] | codes[c]
        count += lengths[c]
        if count >= 32:
            count -= 32
            store_bits(to + used, <uint32_t>(bits >> count))
            used += 4
            if used >= n:
                return 0
    if used + (count + 7) // 8 >= n:
        return 0
    bits = bits << (32 - count) | ((<uint64_t>1 << (32 - count)) - 1)   # padding: the first bits of EOS
    store_bits(to + used, <uint32_t>bits)
    return used + (count + 7) // 8


cdef uint32_t huffman_encode(const uint8_t *at, uint32_t n, bint name, uint8_t *to) noexcept nogil:
    return encode(at, n, True, to) if name else encode(at, n, False, to)


cdef uint32_t huffman_length(const uint8_t *at, uint32_t n, bint name) noexcept nogil:
    cdef uint64_t bits = 0
    cdef uint32_t i
    for i in range(n):
        bits += lengths[byte_of(at[i], name)]
    bits = (bits + 7) // 8
    return <uint32_t>bits if bits < n else 0
