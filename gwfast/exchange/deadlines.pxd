# When an exchange that has a time limit is to be looked at again, and what is due then. Pure: numbers in, a number out.
from libc.stdint cimport uint64_t

cdef struct Deadlines:     # milliseconds of the loop's clock; 0: there is none
    uint64_t request       # the whole request (GEP-1742: timeouts.request)
    uint64_t attempt       # this attempt (timeouts.backendRequest)
    uint64_t retry         # not a limit: when the next attempt begins

cdef enum Due:
    DUE_NOTHING
    DUE_REQUEST
    DUE_RETRY
    DUE_ATTEMPT

# The first of them; 0: there is none.
cdef inline uint64_t first_deadline(const Deadlines *at) noexcept nogil:
    cdef uint64_t first = at.request
    if at.attempt and (first == 0 or at.attempt < first):
        first = at.attempt
    if at.retry and (first == 0 or at.retry < first):
        first = at.retry
    return first

# What is due: the end of the request before all else, since nothing comes after it.
cdef inline int what_is_due(const Deadlines *at, uint64_t now) noexcept nogil:
    if at.request and now >= at.request:
        return DUE_REQUEST
    if at.retry and now >= at.retry:
        return DUE_RETRY
    if at.attempt and now >= at.attempt:
        return DUE_ATTEMPT
    return DUE_NOTHING
