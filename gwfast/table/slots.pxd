# Open addressing, the same for every table of the index: slots of one width, as many as a power of two; a key is at the place
# that its hash says or, where that is taken, behind. A slot begins with bits of the hash; the word behind is 0 where it is free.
from libc.stdint cimport uint32_t, uint64_t
from libc.string cimport memcpy, memset

cdef struct Slots:
    char *at
    uint32_t width         # bytes of a slot
    uint32_t mask          # slots - 1

ctypedef bint (*Same)(const void *slot, const void *key) noexcept nogil        # whether a slot is of this key
ctypedef uint64_t (*Home)(const void *slot, const void *about) noexcept nogil  # the hash of a slot's key

# Slots - 1 of a table for n keys: at most half of it is used.
cdef inline uint32_t table_mask(uint32_t n) noexcept nogil:
    cdef uint32_t slots = 2
    while slots < n * 2:
        slots *= 2
    return slots - 1

cdef inline Slots slots_of(void *at, uint32_t width, uint32_t mask) noexcept nogil:
    cdef Slots slots
    slots.at = <char *>at
    slots.width = width
    slots.mask = mask
    return slots

cdef inline void *slot_at(const Slots *slots, uint32_t i) noexcept nogil:
    return slots.at + <size_t>i * slots.width

cdef inline bint is_taken(const Slots *slots, uint32_t i) noexcept nogil:
    return (<const uint32_t *>slot_at(slots, i))[1] != 0

# The first free slot for a hash.
cdef inline uint32_t free_slot(const Slots *slots, uint64_t hash) noexcept nogil:
    cdef uint32_t i = <uint32_t>hash & slots.mask
    while is_taken(slots, i):
        i = (i + 1) & slots.mask
    return i

# The slot of a key, or the free one where it would be.
cdef inline uint32_t find_slot(const Slots *slots, uint64_t hash, Same same, const void *key) noexcept nogil:
    cdef uint32_t i = <uint32_t>hash & slots.mask
    while is_taken(slots, i) and not same(slot_at(slots, i), key):
        i = (i + 1) & slots.mask
    return i

# Empties a slot; those behind it that could not be nearer to their place move up.
cdef inline void empty_slot(const Slots *slots, uint32_t i, Home home, const void *about) noexcept nogil:
    cdef uint32_t j = (i + 1) & slots.mask
    cdef uint32_t wanted
    while is_taken(slots, j):
        wanted = <uint32_t>home(slot_at(slots, j), about) & slots.mask
        if ((j - wanted) & slots.mask) >= ((j - i) & slots.mask):
            memcpy(slot_at(slots, i), slot_at(slots, j), slots.width)
            i = j
        j = (j + 1) & slots.mask
    memset(slot_at(slots, i), 0, slots.width)
