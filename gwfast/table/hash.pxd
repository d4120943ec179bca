# How keys of an image's index are hashed: who writes it and who reads it agree here.
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from gwfast.http.bytes cimport gw_hash

cdef enum:
    HASH_SEED = 0x2545F491

# Of the values of fields and parameters: one step a byte, because a value may lie in several lines.
cdef inline uint64_t hash_step(uint64_t h, uint8_t c) noexcept nogil:
    return (h ^ c) * 0x9E3779B97F4A7C15u

cdef inline uint64_t hash_end(uint64_t h) noexcept nogil:
    h = (h ^ (h >> 29)) * 0xBF58476D1CE4E5B9u
    return h ^ (h >> 32)

cdef inline uint64_t hash_bytes(const char *at, uint32_t n) noexcept nogil:
    cdef uint64_t h = HASH_SEED
    cdef uint32_t i
    for i in range(n):
        h = hash_step(h, <uint8_t>at[i])
    return hash_end(h)

cdef inline uint64_t hash_name(const char *at, uint32_t n) noexcept nogil:
    return gw_hash(HASH_SEED, at, n, 0)

# Of a path element by element, so that the hashes of all prefixes cost one pass: that of '/a/b' is hash_element() of 'b'
# behind '/a', which is that of 'a' behind HASH_SEED.
cdef inline uint64_t hash_element(uint64_t h, const char *at, uint32_t n) noexcept nogil:
    return gw_hash(h, at, n, 0)

cdef inline uint64_t hash_path(const char *at, uint32_t n) noexcept nogil:
    cdef uint64_t h = HASH_SEED
    cdef uint32_t i, begin = 1
    for i in range(1, n):
        if at[i] == b'/':
            h = hash_element(h, at + begin, i - begin)
            begin = i + 1
    return hash_element(h, at + begin, n - begin) if n else h
