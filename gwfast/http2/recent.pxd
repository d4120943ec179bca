# Which streams of an HTTP/2 connection were marked, of the RECENT newest: their client may not know it yet (RFC 9113 5.1).
# A bit for each, found by its number. Pure. All zeros: there was no stream.
from libc.stdint cimport uint32_t, uint64_t

cdef enum:
    RECENT = 512               # streams: five times as many as there may be at once
    RECENT_WORDS = 8           # of 64 each

cdef struct Recent:
    uint32_t last              # the highest number of a stream
    uint64_t marks[RECENT_WORDS]

# A stream with a higher number than all before: what was known of those whose places it and the skipped ones take is forgotten.
cdef inline void recent_enter(Recent *recent, uint32_t id) noexcept nogil:
    cdef uint32_t at = recent.last // 2 + 1
    cdef uint32_t end = id // 2 + 1
    recent.last = id
    if end - at > RECENT:
        at = end - RECENT
    while at < end:
        recent.marks[at % RECENT // 64] &= ~(<uint64_t>1 << (at & 63))
        at += 1

cdef inline void recent_mark(Recent *recent, uint32_t id) noexcept nogil:
    if id // 2 + RECENT > recent.last // 2:
        recent.marks[id // 2 % RECENT // 64] |= <uint64_t>1 << (id // 2 & 63)

cdef inline bint recent_is_marked(const Recent *recent, uint32_t id) noexcept nogil:
    return id // 2 + RECENT > recent.last // 2 and recent.marks[id // 2 % RECENT // 64] >> (id // 2 & 63) & 1
