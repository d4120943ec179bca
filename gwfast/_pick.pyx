# Chooses the backend of a rule: the smooth selector.
#
# After any number of picks each backend has been chosen within one of its exact share (the chairman assignment problem,
# Tijdeman 1980). The m-th request of a backend of weight w, of W in all, must be picked in the steps
# [floor(m*W/w), ceil((m+1)*W/w)); such a schedule exists, and the earliest deadline among the requests that may be
# picked now finds it, since all take one step. Multiplied out there is no division: (m+1)/w orders as the deadlines
# do, and m*W < (step+1)*w says that the window is open.
#
#     slots[pick_at]        generation << 32 | step
#     slots[pick_at + 1..]  how often each choice was picked in this round of W steps
#
# Products stay below 2**63: weights reach 1,000,000, choices 16 (spec 5.4); the writer refuses a total of 2**32.
import time

from libc.stdint cimport uint32_t, uint64_t
from libc.stdlib cimport calloc, free
from libc.string cimport memset

from gwfast.table.layout cimport Choice, Image, Mirror, Rule, choice_at


cdef uint32_t pick(const Image *image, const Rule *rule, PickState *state) noexcept nogil:
    cdef uint32_t count = rule.choices.count
    cdef uint64_t *slots
    if count <= 1 or <uint64_t>rule.pick_at + count >= state.size:
        return 0
    slots = state.slots + rule.pick_at
    if slots[0] >> 32 != rule.pick_generation:
        memset(slots, 0, (count + 1) * sizeof(uint64_t))
        slots[0] = <uint64_t>rule.pick_generation << 32
    return step(choice_at(image, rule.choices.first), count, rule.total, slots)


cdef inline uint32_t step(const Choice *choice, uint32_t count, uint64_t total, uint64_t *slots) noexcept nogil:
    cdef uint64_t now = (slots[0] & 0xFFFFFFFFu) + 1
    cdef uint64_t *picked = slots + 1
    cdef uint32_t best = 0
    cdef uint32_t i
    cdef bint any = False
    for i in range(count):
        if picked[i] * total >= now * choice[i].weight:
            continue
        if not any or (picked[i] + 1) * choice[best].weight < (picked[best] + 1) * choice[i].weight:
            best = i
            any = True
    if now == total:                       # the round is complete: everyone has got exactly its weight
        memset(picked, 0, count * sizeof(uint64_t))
        slots[0] &= <uint64_t>0xFFFFFFFFu << 32
    else:
        picked[best] += 1
        slots[0] += 1
    return best


cdef bint shares(const Mirror *mirror, PickState *state) noexcept nogil:
    cdef uint64_t gathered = mirror.numerator
    cdef uint64_t *slot
    cdef bint whole
    if mirror.numerator == mirror.denominator or mirror.pick_at >= state.size:
        return True
    slot = state.slots + mirror.pick_at
    if slot[0] >> 32 == mirror.pick_generation:
        gathered += slot[0] & 0xFFFFFFFFu
    whole = gathered >= mirror.denominator
    slot[0] = <uint64_t>mirror.pick_generation << 32 | (gathered - mirror.denominator if whole else gathered)
    return whole


def sequence(weights, uint32_t n):
    """Return the first `n` picks (indexes into `weights`, all > 0) of a fresh selector."""
    cdef uint32_t count = <uint32_t>len(weights)
    cdef Choice *choices = <Choice *>calloc(count, sizeof(Choice))
    cdef uint64_t *slots = <uint64_t *>calloc(count + 1, sizeof(uint64_t))
    cdef uint64_t total = sum(weights)
    cdef uint32_t i
    try:
        for i in range(count):
            choices[i].weight = weights[i]
        return [step(choices, count, total, slots) for _ in range(n)]
    finally:
        free(choices)
        free(slots)


def spin(weights, uint32_t n) -> tuple[int, int]:
    """Pick many times from a fresh selector, for measurements: the last pick, and nanoseconds in all."""
    cdef uint32_t count = <uint32_t>len(weights)
    cdef Choice *choices = <Choice *>calloc(count, sizeof(Choice))
    cdef uint64_t *slots = <uint64_t *>calloc(count + 1, sizeof(uint64_t))
    cdef uint64_t total = sum(weights)
    cdef uint32_t i, last = 0
    try:
        for i in range(count):
            choices[i].weight = weights[i]
        begin = time.perf_counter_ns()
        for _ in range(n):
            last = step(choices, count, total, slots)
        return last, time.perf_counter_ns() - begin
    finally:
        free(choices)
        free(slots)
