# Chooses the backend of a rule: the smooth selector (each backend within one request of its exact share).
from libc.stdint cimport uint32_t, uint64_t
from gwfast.table.layout cimport Choice, Image, Mirror, Rule

cdef struct PickState:     # a worker's, `slots` elements; slot rule.pick_at holds the step, then one count a choice
    uint64_t *slots
    uint32_t size

# Whether this request is one of those that a mirror gets: spread evenly, exact over every `denominator` of them.
cdef bint shares(const Mirror *mirror, PickState *state) noexcept nogil
# Index into the rule's choices. rule.choices.count must be > 0 and rule.total > 0.
cdef uint32_t pick(const Image *image, const Rule *rule, PickState *state) noexcept nogil
