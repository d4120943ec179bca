# The health of endpoints: one cell for each slot, in the memory of the counters, which every worker maps.
#
#   failures -> (as many in a row as the policy says, whoever saw them) -> ejected_until -> it is back by itself
#
# Rules
# - A cell belongs to the endpoint whose generation it carries. Generations grow: who comes with a newer one takes the cell over,
#   who comes with an older one (a table of before) leaves it alone.
# - Failures are counted atomically by all workers. Who ejects holds the lock, so that the share of a backend's endpoints
#   that is out never exceeds what its policy allows; who does not get the lock tries again with the next failure. A lock
#   that a dead worker left is taken over.
# - The supervisor marks whom its probes found unhealthy (endpoints.probes), and nobody else does. A mark is a generation, so it
#   holds for no other endpoint that comes into the slot, and no worker has to take it away.
# - An endpoint is ejected for ejection_ms times how often that happened; each ejection_ms that it then serves makes it one
#   less.
# - Requests that are under way at an endpoint whose number a policy limits are counted in its cell, by all workers together.
#   Each writes down beside it how many are its own, before it counts one more and after it counted one less: the supervisor
#   takes away what a dead worker had (places_forgotten). Where the two differ then, the count is too low until it is 0 again.
# - Who finds no place says when that was. As long as somebody else wants one, nobody takes two in a row: without that a worker
#   that has them all would keep them, since it is the first to know when one of them is free.
# - Times are milliseconds of CLOCK_MONOTONIC, which is the same for all processes.
from libc.stdint cimport uint32_t, uint64_t
from gwfast.table.layout cimport Backend, Image

cdef enum:
    HEALTH_SLOTS = 262144       # limits.HEALTH_SLOTS
    EJECTION_MOST_MS = 300000   # limits.EJECTION_MOST
    LOCK_MS = 1000              # after which whoever held it is dead
    WARM = 1024
    WANTS_MS = 40               # after which whoever wanted a place has one, or has gone
    SLOWEST = 102               # a tenth (Envoy)

cdef struct Health:        # a cache line
    uint32_t generation          # of its endpoint
    uint32_t failures      # in a row
    uint64_t ejected_until # ms; over: it serves
    uint32_t ejections     # less those that are forgiven
    uint32_t total         # ejections ever
    uint32_t unhealthy     # the generation of whom probes found so; 0: nobody
    uint32_t busy          # requests under way, of whom a policy limits
    uint32_t last          # 1 + the worker that took the last place
    uint64_t since         # ms: when it came, or probes found it healthy again
    uint64_t pad[2]

cdef struct Places:        # of an endpoint's `busy`, one worker's
    uint32_t generation
    uint32_t count
    uint64_t wanted        # ms: when it last found that there was none

cdef struct HealthFile:    # the cells follow, and behind them for each worker as many Places
    uint64_t lock          # ms of when it was taken; 0: free
    uint64_t pad[7]

cdef inline size_t health_size(uint32_t workers) noexcept nogil:
    return sizeof(HealthFile) + <size_t>HEALTH_SLOTS * (sizeof(Health) + workers * sizeof(Places))

cdef inline Places *places_of(HealthFile *file, uint32_t worker) noexcept nogil:
    return <Places *>(<Health *>(file + 1) + HEALTH_SLOTS) + <size_t>worker * HEALTH_SLOTS

cdef Health *health_of(HealthFile *file, uint32_t slot, uint32_t generation) noexcept nogil     # NULL: has none
cdef void health_mark(HealthFile *file, uint32_t slot, uint32_t generation, bint unhealthy) noexcept nogil
# One more failure: whether that ejected it.
cdef bint health_failed(HealthFile *file, Health *health, const Image *image, const Backend *backend,
                        uint64_t now) noexcept nogil

# Count one more request, where no more than `most` are under way then: whether it was counted.
cdef bint place_taken(Health *health, Places *places, uint32_t most) noexcept nogil
cdef bint others_want(HealthFile *file, uint32_t worker, uint32_t workers, uint32_t slot, uint64_t now) noexcept nogil
cdef void places_added(Health *health, Places *places, uint32_t n) noexcept nogil      # whatever the limit is
cdef void places_left(Health *health, Places *places, uint32_t n) noexcept nogil
# It is dead, and had these HEALTH_SLOTS: a copy, since what is only looked at in shared memory takes memory.
cdef void places_forgotten(HealthFile *file, uint32_t worker, const Places *had) noexcept nogil

# How much of a share of requests an endpoint gets that has served for less than `window` ms: SLOWEST to WARM.
cdef uint32_t warmth(const Health *health, uint64_t window, uint64_t now) noexcept nogil

cdef inline bint is_out(const Health *health, uint64_t now) noexcept nogil:
    return health != NULL and (health.ejected_until > now or health.unhealthy == health.generation)

cdef inline void health_succeeded(Health *health) noexcept nogil:
    if health != NULL and health.failures:     # read first: the line stays shared while all is well
        health.failures = 0
