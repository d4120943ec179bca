# Bytes and their classes: the alphabet of RFC 9110, 9112 and 3986, and the two loops that see most bytes of a head.
#
# Rules: nothing here reads at or behind `stop`; a class is a bit of one table, so that each byte is looked up once.
from libc.stdint cimport uint8_t, uint32_t

cdef extern from *:
    """
    #include <stdint.h>
    #if defined(__SSE2__) && !defined(GWFAST_PORTABLE)
    #include <emmintrin.h>
    #endif

    enum {
        CHAR_TOKEN = 1,   /* RFC 9110 5.6.2 */
        /* RFC 3986 3.3 and 3.4, and the printable ASCII that clients send unescaped though it forbids it: nobody on the way
           reads those in two ways. Not so '#', and the backslash in a path. */
        CHAR_PATH = 2,
        CHAR_QUERY = 4,
        CHAR_HOST = 8,    /* reg-name without pct-encoded, and without the comma of lists */
        CHAR_HEX = 16,
        CHAR_PLAIN = 32,  /* unreserved */
        CHAR_VALUE = 64,  /* field-value: VCHAR, obs-text, SP, HTAB (RFC 9110 5.5) */
        CHAR_QUOTED = 128 /* qdtext in ASCII, and the backslash of quoted-pair */
    };

    #define GW_PLAIN (CHAR_TOKEN | CHAR_PATH | CHAR_QUERY | CHAR_HOST | CHAR_PLAIN | CHAR_VALUE | CHAR_QUOTED)
    #define GW_VALUE (CHAR_VALUE | CHAR_QUOTED)
    #define GW_TARGET (CHAR_PATH | CHAR_QUERY | CHAR_VALUE | CHAR_QUOTED)
    static const uint8_t gw_char[256] __attribute__((unused)) = {
        ['0' ... '9'] = GW_PLAIN | CHAR_HEX, ['a' ... 'f'] = GW_PLAIN | CHAR_HEX, ['A' ... 'F'] = GW_PLAIN | CHAR_HEX,
        ['g' ... 'z'] = GW_PLAIN, ['G' ... 'Z'] = GW_PLAIN,
        ['-'] = GW_PLAIN, ['.'] = GW_PLAIN, ['_'] = GW_PLAIN, ['~'] = GW_PLAIN,
        ['!'] = CHAR_TOKEN | CHAR_HOST | GW_TARGET, ['$'] = CHAR_TOKEN | CHAR_HOST | GW_TARGET,
        ['&'] = CHAR_TOKEN | CHAR_HOST | GW_TARGET, ['\\''] = CHAR_TOKEN | CHAR_HOST | GW_TARGET,
        ['*'] = CHAR_TOKEN | CHAR_HOST | GW_TARGET, ['+'] = CHAR_TOKEN | CHAR_HOST | GW_TARGET,
        ['"'] = CHAR_PATH | CHAR_QUERY | CHAR_VALUE,
        ['#'] = CHAR_TOKEN | GW_VALUE,
        ['%'] = CHAR_TOKEN | GW_TARGET, ['^'] = CHAR_TOKEN | GW_TARGET, ['`'] = CHAR_TOKEN | GW_TARGET,
        ['|'] = CHAR_TOKEN | GW_TARGET,
        ['('] = CHAR_HOST | GW_TARGET, [')'] = CHAR_HOST | GW_TARGET, [';'] = CHAR_HOST | GW_TARGET,
        ['='] = CHAR_HOST | GW_TARGET,
        [','] = GW_TARGET, ['/'] = GW_TARGET, [':'] = GW_TARGET, ['<'] = GW_TARGET,
        ['>'] = GW_TARGET, ['@'] = GW_TARGET, ['['] = GW_TARGET, [']'] = GW_TARGET,
        ['{'] = GW_TARGET, ['}'] = GW_TARGET,
        ['?'] = CHAR_QUERY | GW_VALUE, ['\\\\'] = CHAR_QUERY | GW_VALUE,
        [' '] = GW_VALUE, ['\\t'] = GW_VALUE,
        [0x80 ... 0xff] = CHAR_VALUE,
    };

    /* The first byte at or behind p that a field value may not have, or stop. */
    static inline const char *gw_value_end(const char *p, const char *stop)
    {
    #if defined(__SSE2__) && !defined(GWFAST_PORTABLE)
        const __m128i ctl = _mm_set1_epi8(0x1f), tab = _mm_set1_epi8('\\t'), del = _mm_set1_epi8(0x7f);
        while (stop - p >= 16) {
            __m128i x = _mm_loadu_si128((const __m128i *)p);
            __m128i low = _mm_cmpeq_epi8(_mm_min_epu8(x, ctl), x);
            __m128i bad = _mm_or_si128(_mm_andnot_si128(_mm_cmpeq_epi8(x, tab), low), _mm_cmpeq_epi8(x, del));
            unsigned mask = (unsigned)_mm_movemask_epi8(bad);
            if (mask) return p + __builtin_ctz(mask);
            p += 16;
        }
    #else
        while (stop - p >= 8) {
            uint64_t x, ones = 0x0101010101010101ull, tops = 0x8080808080808080ull, del;
            __builtin_memcpy(&x, p, 8);
            del = x ^ (ones * 0x7f);
            /* a byte below 0x20 or DEL, or a false alarm (HTAB): the loop below looks closer */
            if ((((x - ones * 0x20) & ~x) | ((del - ones) & ~del)) & tops) break;
            p += 8;
        }
        while (stop - p >= 8) {
            int i;
            for (i = 0; i < 8; i++) if (!(gw_char[(uint8_t)p[i]] & CHAR_VALUE)) return p + i;
            p += 8;
        }
    #endif
        while (p < stop && (gw_char[(uint8_t)*p] & CHAR_VALUE)) p++;
        return p;
    }
    """
    enum:
        CHAR_TOKEN
        CHAR_PATH
        CHAR_QUERY
        CHAR_HOST
        CHAR_HEX
        CHAR_PLAIN
        CHAR_VALUE
        CHAR_QUOTED
    const uint8_t gw_char[256]
    const char *gw_value_end(const char *p, const char *stop) noexcept nogil

cdef inline bint is_a(char c, int classes) noexcept nogil:
    return (gw_char[<uint8_t>c] & classes) != 0

cdef inline char lower(char c) noexcept nogil:
    return c | 32 if 65 <= c <= 90 else c

# Value of a hexadecimal digit that was checked to be one.
cdef inline uint32_t hex_value(char c) noexcept nogil:
    return c - 48 if c <= 57 else (c | 32) - 87

# Whether the bytes are these in lower case: `word` has only letters, digits and '-', `at` only token characters.
cdef inline bint same(const char *at, const char *word, uint32_t n) noexcept nogil:
    cdef uint32_t i
    for i in range(n):
        if (at[i] | 32) != word[i]:
            return False
    return True
