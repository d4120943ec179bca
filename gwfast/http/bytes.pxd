# Bytes and their classes: the alphabet of RFC 9110, 9112 and 3986, and the loops that see most bytes of a head.
#
# Rules: nothing here reads at or behind `stop`; a class is a bit of one table, so that each byte is looked up once.
# Where the processor has it, 16 bytes are looked at together: what is not of the common kind there is left to the table.
from libc.stdint cimport uint8_t, uint32_t, uint64_t

cdef extern from *:
    """
    #include <stdint.h>
    #if defined(__SSE2__) && !defined(GWFAST_PORTABLE)
    #define GW_SSE2
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

    #ifdef GW_SSE2
    /* Of 16 bytes, a bit for each that a field value may not have. */
    static inline uint32_t gw_no_value(const char *at)
    {
        __m128i x = _mm_loadu_si128((const __m128i *)at);
        __m128i low = _mm_cmpeq_epi8(_mm_min_epu8(x, _mm_set1_epi8(0x1f)), x);
        return (uint32_t)_mm_movemask_epi8(_mm_or_si128(_mm_andnot_si128(_mm_cmpeq_epi8(x, _mm_set1_epi8('\\t')), low),
                                                        _mm_cmpeq_epi8(x, _mm_set1_epi8(0x7f))));
    }
    #endif

    /* The first byte at or behind p that a field value may not have, or stop. The bytes from `line` on may be read. */
    static inline const char *gw_value_end_in(const char *line, const char *p, const char *stop)
    {
    #ifdef GW_SSE2
        uint32_t bad;
        while (stop - p >= 16) {
            bad = gw_no_value(p);
            if (bad) return p + __builtin_ctz(bad);
            p += 16;
        }
        if (stop - line >= 16) {       /* the last ones once more, with some before */
            bad = gw_no_value(stop - 16) >> (16 - (stop - p));
            return bad ? p + __builtin_ctz(bad) : stop;
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

    static inline const char *gw_value_end(const char *p, const char *stop) { return gw_value_end_in(p, p, stop); }

    /* ---- 16 bytes at a time ---- */

    static inline uint64_t gw_load(const char *at) { uint64_t x; __builtin_memcpy(&x, at, 8); return x; }

    #ifdef GW_SSE2
    #define GW_IS(x, c) _mm_cmpeq_epi8(x, _mm_set1_epi8(c))
    #define GW_MASK(x) ((uint32_t)_mm_movemask_epi8(x))

    /* Bytes from..from + count - 1, where count < 128. */
    static inline __m128i gw_among(__m128i x, char from, char count)
    {
        return _mm_cmplt_epi8(_mm_add_epi8(x, _mm_set1_epi8((char)(-128 - from))), _mm_set1_epi8((char)(-128 + count)));
    }

    static inline __m128i gw_alphanumeric(__m128i x)
    {
        return _mm_or_si128(gw_among(_mm_or_si128(x, _mm_set1_epi8(0x20)), 'a', 26), gw_among(x, '0', 10));
    }
    #endif

    /* Of the next 16 of n bytes, a bit for each that is c (not 0). */
    static inline uint32_t gw_places(const char *at, uint32_t n, char c)
    {
        uint32_t mask = 0, i;
    #ifdef GW_SSE2
        if (n >= 16) return GW_MASK(GW_IS(_mm_loadu_si128((const __m128i *)at), c));
        if (n >= 8)
            return GW_MASK(GW_IS(_mm_loadl_epi64((const __m128i *)at), c))
                | GW_MASK(GW_IS(_mm_loadl_epi64((const __m128i *)(at + n - 8)), c)) << (n - 8);
    #endif
        for (i = 0; i < n && i < 16; i++) mask |= (uint32_t)(at[i] == c) << i;
        return mask;
    }

    #ifdef GW_SSE2
    /* A bit for each that is neither letter nor digit nor '-'. */
    static inline uint32_t gw_no_name(__m128i x)
    {
        return GW_MASK(_mm_or_si128(gw_alphanumeric(x), GW_IS(x, '-'))) ^ 0xffff;
    }
    #endif

    /* The first byte at or behind p that a field name may not have, or stop; sets `underscore` where it passes one. */
    static inline const char *gw_name_end(const char *p, const char *stop, int *underscore)
    {
        uint8_t c;
    #ifdef GW_SSE2
        while (stop - p >= 16) {
            uint32_t other = gw_no_name(_mm_loadu_si128((const __m128i *)p));
            if (other) {
                p += __builtin_ctz(other);
                if (*p == ':') return p;
                break;
            }
            p += 16;
        }
    #endif
        while (p < stop && (c = gw_token[(uint8_t)*p]) != 0) {
            *underscore |= c == '_';
            p++;
        }
        return p;
    }

    /* The first byte at or behind p that a path may not have, or stop. `unnormal` is set where normalising could change what
       it passes: an escape, a '/' before another or before a dot. */
    static inline const char *gw_path_end(const char *p, const char *stop, int *unnormal)
    {
        uint32_t slash = 0;    /* whether the byte before p is a '/' */
    #ifdef GW_SSE2
        while (stop - p >= 16) {
            __m128i x = _mm_loadu_si128((const __m128i *)p);
            __m128i slashes = GW_IS(x, '/');
            uint32_t bad = GW_MASK(_mm_or_si128(
                _mm_or_si128(_mm_cmplt_epi8(x, _mm_set1_epi8(0x21)), GW_IS(x, '?')),
                _mm_or_si128(GW_IS(x, '#'), _mm_or_si128(GW_IS(x, '\\\\'), GW_IS(x, 0x7f)))));
            uint32_t before = GW_MASK(slashes) << 1 | slash;
            uint32_t twice = GW_MASK(_mm_or_si128(slashes, GW_IS(x, '.'))) & before;
            uint32_t strange = GW_MASK(GW_IS(x, '%')) | twice;
            if (bad) {
                *unnormal |= (strange & (bad ^ (bad - 1))) != 0;    /* up to the first bad one, which is none of those */
                return p + __builtin_ctz(bad);
            }
            *unnormal |= strange != 0;
            slash = before >> 16;
            p += 16;
        }
    #endif
        while (p < stop && (gw_char[(uint8_t)*p] & CHAR_PATH)) {
            *unnormal |= *p == '%' || (slash && (*p == '/' || *p == '.'));
            slash = *p == '/';
            p++;
        }
        return p;
    }

    /* The first byte at or behind p that a query may not have, or stop. */
    static inline const char *gw_query_end(const char *p, const char *stop)
    {
    #ifdef GW_SSE2
        while (stop - p >= 16) {
            __m128i x = _mm_loadu_si128((const __m128i *)p);
            uint32_t bad = GW_MASK(_mm_or_si128(_mm_cmplt_epi8(x, _mm_set1_epi8(0x21)),
                                                _mm_or_si128(GW_IS(x, '#'), GW_IS(x, 0x7f))));
            if (bad) return p + __builtin_ctz(bad);
            p += 16;
        }
    #endif
        while (p < stop && (gw_char[(uint8_t)*p] & CHAR_QUERY)) p++;
        return p;
    }

    /* Of up to 16 of n bytes those that lead and are letters, digits, '-' or '.': how many; written to room (which has 16
       bytes) in lower case. `dots`: a bit for each that is a dot. */
    static inline uint32_t gw_host_run(const char *at, uint32_t n, char *room, uint32_t *dots)
    {
        uint32_t i = 0, c;
    #ifdef GW_SSE2
        if (n >= 8) {
            __m128i x, dot;
            uint32_t other;
            if (n >= 16) {
                n = 16;
                x = _mm_loadu_si128((const __m128i *)at);
            } else     /* the last bytes behind the first, without reading one more */
                x = _mm_set_epi64x((int64_t)(gw_load(at + n - 8) >> 1 >> (8 * (16 - n) - 1)), (int64_t)gw_load(at));
            dot = GW_IS(x, '.');
            other = GW_MASK(_mm_or_si128(_mm_or_si128(gw_alphanumeric(x), dot), GW_IS(x, '-'))) ^ 0xffff;
            if (other && (uint32_t)__builtin_ctz(other) < n) n = (uint32_t)__builtin_ctz(other);
            _mm_storeu_si128((__m128i *)room, _mm_or_si128(x, _mm_set1_epi8(0x20)));
            *dots = GW_MASK(dot) & ((1u << n) - 1);
            return n;
        }
    #endif
        *dots = 0;
        for (; i < n && i < 16; i++) {
            c = (uint8_t)at[i];
            if (!((c | 32) - 'a' < 26u || c - '0' < 10u || c == '-' || c == '.')) break;
            room[i] = (char)(c | 32);
            *dots |= (uint32_t)(c == '.') << i;
        }
        return i;
    }

    /* ---- Names, 8 bytes at a time ---- */

    /* Eight bytes in lower case. */
    static inline uint64_t gw_lower8(uint64_t x)
    {
        uint64_t tops = 0x8080808080808080ull, ones = 0x0101010101010101ull, low = x & ~tops;
        return x | ((((low + ones * (0x80 - 'A')) ^ (low + ones * (0x7f - 'Z'))) & ~x & tops) >> 2);
    }

    /* Less than 8 bytes, the same ones at the same places. */
    static inline uint64_t gw_load_few(const char *at, uint32_t n)
    {
        uint64_t x = 0;
        uint32_t a, b;
        if (n >= 4) {
            __builtin_memcpy(&a, at, 4);
            __builtin_memcpy(&b, at + n - 4, 4);
            return a | (uint64_t)b << 32;
        }
        while (n--) x = x << 8 | (uint8_t)at[n];
        return x;
    }

    /* Whether n bytes in lower case are these in any case. */
    static inline int gw_same_name(const char *lower, const char *at, uint32_t n)
    {
        if (n < 8) return gw_lower8(gw_load_few(at, n)) == gw_load_few(lower, n);
        for (; n > 8; n -= 8, at += 8, lower += 8) {
            if (gw_lower8(gw_load(at)) != gw_load(lower)) return 0;
            if (n < 16) return gw_lower8(gw_load(at + n - 8)) == gw_load(lower + n - 8);
        }
        return gw_lower8(gw_load(at)) == gw_load(lower);
    }

    /* Whether both are the same but for their case. */
    static inline int gw_alike(const char *a, const char *b, uint32_t n)
    {
        if (n < 8) return gw_lower8(gw_load_few(a, n)) == gw_lower8(gw_load_few(b, n));
        for (; n > 8; n -= 8, a += 8, b += 8) {
            if (gw_lower8(gw_load(a)) != gw_lower8(gw_load(b))) return 0;
            if (n < 16) return gw_lower8(gw_load(a + n - 8)) == gw_lower8(gw_load(b + n - 8));
        }
        return gw_lower8(gw_load(a)) == gw_lower8(gw_load(b));
    }

    /* ---- Hashes: 8 bytes at a time, the last 8 perhaps once more ---- */

    static inline uint64_t gw_mix(uint64_t h, uint64_t x)
    {
        unsigned __int128 product = (unsigned __int128)(h ^ x) * 0x9E3779B97F4A7C15ull;
        return (uint64_t)product ^ (uint64_t)(product >> 64);
    }

    /* Of n bytes behind what `h` is of; `cases` are bits that all of them are given. */
    static inline __attribute__((always_inline)) uint64_t gw_hash(uint64_t h, const char *at, uint32_t n, uint8_t cases)
    {
        const uint64_t bits = cases * 0x0101010101010101ull;
        uint64_t x;
        uint32_t a, b, i;
        h += n;
        if (n >= 8) {
            for (i = 0; i + 8 < n; i += 8) h = gw_mix(h, gw_load(at + i) | bits);
            return gw_mix(h, gw_load(at + n - 8) | bits);
        }
        if (n >= 4) {
            __builtin_memcpy(&a, at, 4);
            __builtin_memcpy(&b, at + n - 4, 4);
            x = a | (uint64_t)b << 32;
        } else
            x = n ? (uint8_t)at[0] | (uint32_t)(uint8_t)at[n >> 1] << 8 | (uint32_t)(uint8_t)at[n - 1] << 16 : 0;
        return gw_mix(h, x | bits);
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
    const char *gw_value_end_in(const char *line, const char *p, const char *stop) noexcept nogil
    const char *gw_name_end(const char *p, const char *stop, int *underscore) noexcept nogil
    const char *gw_path_end(const char *p, const char *stop, int *unnormal) noexcept nogil
    const char *gw_query_end(const char *p, const char *stop) noexcept nogil
    uint32_t gw_host_run(const char *at, uint32_t n, char *room, uint32_t *dots) noexcept nogil
    uint32_t gw_places(const char *at, uint32_t n, char c) noexcept nogil
    bint same_name "gw_same_name"(const char *lower, const char *at, uint32_t n) noexcept nogil
    bint alike "gw_alike"(const char *a, const char *b, uint32_t n) noexcept nogil
    int lowest "__builtin_ctz"(uint32_t bits) noexcept nogil
    uint64_t gw_hash(uint64_t h, const char *at, uint32_t n, uint8_t cases) noexcept nogil

cdef inline bint is_a(char c, int classes) noexcept nogil:
    return (gw_char[<uint8_t>c] & classes) != 0

cdef inline char lower(char c) noexcept nogil:
    return c | 32 if 65 <= c <= 90 else c

# Value of a hexadecimal digit that was checked to be one.
cdef inline uint32_t hex_value(char c) noexcept nogil:
    return c - 48 if c <= 57 else (c | 32) - 87
