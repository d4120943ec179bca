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
        /* RFC 3986 3.3 and 3.4, and the printable ASCII that clients send unescaped though it forbids it: nobody on
           the way reads those in two ways. Not so '#', and the backslash in a path. */
        CHAR_PATH = 2,
        CHAR_QUERY = 4,
        CHAR_HEX = 8,
        CHAR_PLAIN = 16,  /* unreserved */
        CHAR_VALUE = 32,  /* field-value: VCHAR, obs-text, SP, HTAB (RFC 9110 5.5) */
        CHAR_QUOTED = 64  /* qdtext in ASCII, and the backslash of quoted-pair */
    };

    #define GW_PLAIN (CHAR_TOKEN | CHAR_PATH | CHAR_QUERY | CHAR_PLAIN | CHAR_VALUE | CHAR_QUOTED)
    #define GW_VALUE (CHAR_VALUE | CHAR_QUOTED)
    #define GW_TARGET (CHAR_PATH | CHAR_QUERY | CHAR_VALUE | CHAR_QUOTED)
    static const uint8_t gw_char[256] __attribute__((unused)) = {
        ['0' ... '9'] = GW_PLAIN | CHAR_HEX, ['a' ... 'f'] = GW_PLAIN | CHAR_HEX, ['A' ... 'F'] = GW_PLAIN | CHAR_HEX,
        ['g' ... 'z'] = GW_PLAIN, ['G' ... 'Z'] = GW_PLAIN,
        ['-'] = GW_PLAIN, ['.'] = GW_PLAIN, ['_'] = GW_PLAIN, ['~'] = GW_PLAIN,
        ['!'] = CHAR_TOKEN | GW_TARGET, ['$'] = CHAR_TOKEN | GW_TARGET, ['&'] = CHAR_TOKEN | GW_TARGET,
        ['\\''] = CHAR_TOKEN | GW_TARGET, ['*'] = CHAR_TOKEN | GW_TARGET, ['+'] = CHAR_TOKEN | GW_TARGET,
        ['"'] = CHAR_PATH | CHAR_QUERY | CHAR_VALUE,
        ['#'] = CHAR_TOKEN | GW_VALUE,
        ['%'] = CHAR_TOKEN | GW_TARGET, ['^'] = CHAR_TOKEN | GW_TARGET, ['`'] = CHAR_TOKEN | GW_TARGET,
        ['|'] = CHAR_TOKEN | GW_TARGET,
        ['('] = GW_TARGET, [')'] = GW_TARGET, [';'] = GW_TARGET, ['='] = GW_TARGET,
        [','] = GW_TARGET, ['/'] = GW_TARGET, [':'] = GW_TARGET, ['<'] = GW_TARGET,
        ['>'] = GW_TARGET, ['@'] = GW_TARGET, ['['] = GW_TARGET, [']'] = GW_TARGET,
        ['{'] = GW_TARGET, ['}'] = GW_TARGET,
        ['?'] = CHAR_QUERY | GW_VALUE, ['\\\\'] = CHAR_QUERY | GW_VALUE,
        [' '] = GW_VALUE, ['\\t'] = GW_VALUE,
        [0x80 ... 0xff] = CHAR_VALUE,
    };

    /* In lower case, 0 for all others: token characters; and those of a host: reg-name without pct-encoded, and without
       the comma of lists. */
    #define GW_ROW(upper, lower) [upper] = lower, [lower] = lower
    #define GW_LETTERS \\
        GW_ROW('A', 'a'), GW_ROW('B', 'b'), GW_ROW('C', 'c'), GW_ROW('D', 'd'), GW_ROW('E', 'e'), GW_ROW('F', 'f'), \\
        GW_ROW('G', 'g'), GW_ROW('H', 'h'), GW_ROW('I', 'i'), GW_ROW('J', 'j'), GW_ROW('K', 'k'), GW_ROW('L', 'l'), \\
        GW_ROW('M', 'm'), GW_ROW('N', 'n'), GW_ROW('O', 'o'), GW_ROW('P', 'p'), GW_ROW('Q', 'q'), GW_ROW('R', 'r'), \\
        GW_ROW('S', 's'), GW_ROW('T', 't'), GW_ROW('U', 'u'), GW_ROW('V', 'v'), GW_ROW('W', 'w'), GW_ROW('X', 'x'), \\
        GW_ROW('Y', 'y'), GW_ROW('Z', 'z'), \\
        ['0'] = '0', ['1'] = '1', ['2'] = '2', ['3'] = '3', ['4'] = '4', ['5'] = '5', ['6'] = '6', ['7'] = '7', \\
        ['8'] = '8', ['9'] = '9', ['!'] = '!', ['$'] = '$', ['&'] = '&', ['\\''] = '\\'', ['*'] = '*', ['+'] = '+', \\
        ['-'] = '-', ['.'] = '.', ['_'] = '_', ['~'] = '~'
    static const uint8_t gw_token[256] __attribute__((unused)) = {
        GW_LETTERS, ['#'] = '#', ['%'] = '%', ['^'] = '^', ['`'] = '`', ['|'] = '|',
    };
    static const uint8_t gw_host[256] __attribute__((unused)) = {
        GW_LETTERS, ['('] = '(', [')'] = ')', [';'] = ';', ['='] = '=',
    };

    /* Whether n token characters are this word, which is in lower case and has only letters, digits and '-'. With a
       constant word two comparisons of machine words. */
    static inline __attribute__((always_inline)) int gw_same(const char *at, const char *word, uint32_t n)
    {
        if (n >= 8) {
            uint64_t a, b, x, y, cases = 0x2020202020202020ull;
            uint32_t i;
            for (i = 0; i + 8 < n; i += 8) {
                __builtin_memcpy(&a, at + i, 8);
                __builtin_memcpy(&x, word + i, 8);
                if ((a | cases) != x) return 0;
            }
            __builtin_memcpy(&b, at + n - 8, 8);
            __builtin_memcpy(&y, word + n - 8, 8);
            return (b | cases) == y;
        }
        if (n >= 4) {
            uint32_t a, b, x, y, cases = 0x20202020u;
            __builtin_memcpy(&a, at, 4);
            __builtin_memcpy(&x, word, 4);
            __builtin_memcpy(&b, at + n - 4, 4);
            __builtin_memcpy(&y, word + n - 4, 4);
            return (a | cases) == x && (b | cases) == y;
        }
        while (n--) if ((at[n] | 32) != word[n]) return 0;
        return 1;
    }

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
        CHAR_HEX
        CHAR_PLAIN
        CHAR_VALUE
        CHAR_QUOTED
    const uint8_t gw_char[256]
    const uint8_t gw_token[256]
    const uint8_t gw_host[256]
    bint same "gw_same"(const char *at, const char *word, uint32_t n) noexcept nogil
    const char *gw_value_end(const char *p, const char *stop) noexcept nogil

cdef inline bint is_a(char c, int classes) noexcept nogil:
    return (gw_char[<uint8_t>c] & classes) != 0

cdef inline char lower(char c) noexcept nogil:
    return c | 32 if 65 <= c <= 90 else c

# Value of a hexadecimal digit that was checked to be one.
cdef inline uint32_t hex_value(char c) noexcept nogil:
    return c - 48 if c <= 57 else (c | 32) - 87
