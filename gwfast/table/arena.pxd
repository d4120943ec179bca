# Memory that grows, for what is written piece by piece; what was written stays at its offset.
#
# Offsets count from `base`, which may be moved for a while: so what is written as if it were alone lands at its place in the
# whole.
from libc.stdlib cimport free, realloc
from libc.string cimport memset

cdef struct Arena:         # all zeros: empty
    char *at               # of the base; NULL: there is no memory yet
    size_t used            # bytes from the base on
    size_t room
    size_t base

cdef inline void rebase(Arena *arena, size_t base) noexcept nogil:
    if arena.at != NULL:
        arena.at = arena.at - arena.base + base
    arena.used = arena.used + arena.base - base
    arena.room = arena.room + arena.base - base
    arena.base = base

cdef inline void discard(Arena *arena) noexcept nogil:
    rebase(arena, 0)
    free(arena.at)
    memset(arena, 0, sizeof(Arena))

# Has room for n more bytes; pointers into the arena are good until the next call.
cdef inline int reserve(Arena *arena, size_t n) except -1:
    if arena.used + n <= arena.room:
        return 0
    cdef size_t room = max(arena.room * 2, arena.used + n, <size_t>256)
    cdef char *at = <char *>realloc(NULL if arena.at == NULL else arena.at - arena.base, room + arena.base)
    if at == NULL:
        raise MemoryError
    arena.at = at + arena.base
    arena.room = room
    return 0

# The offset of n zeroed bytes.
cdef inline ssize_t push(Arena *arena, size_t n) except -1:
    cdef ssize_t at = arena.used
    reserve(arena, n)
    if n:                  # an empty arena has no memory yet
        memset(arena.at + at, 0, n)
    arena.used += n
    return at

# The same, n rounded up to a multiple of 8.
cdef inline ssize_t take(Arena *arena, size_t n) except -1:
    return push(arena, (n + 7) & ~<size_t>7)
