# Whether a request may be sent once more, and when. Pure: the facts are a struct, the answer is a number.
#
#   resend     unnoticed by the client, at once, by the gateway itself: RFC 9110 9.2.2, RFC 9113 8.7
#   retry      what the rule's `retry` says (GEP-1731): attempts, codes, backoff
from libc.stdint cimport uint32_t, uint64_t
from gwfast.table.layout cimport CODES, Policy

cdef enum:
    RESENT = 2             # limits.REFUSALS
    GROWTH = 10            # limits.RETRY_BACKOFF_GROWTH

cdef struct EndedAttempt:  # one that ended before the head of its response came
    bint refused           # nobody has looked at the request
    bint lost              # a part of it was not kept, or a part of a response went to the client
    bint received          # bytes of a response came
    bint idempotent        # its method
    bint once              # its rule allows no other attempt
    bint reused            # its connection came from the pool, and may have ended meanwhile
    bint reset             # by a backend that is there: a stream, whose connection goes on
    bint by_rule           # its rule says how often it is tried again
    bint late              # as much time went by as its answer may take
    uint32_t resent        # how often it was sent again unnoticed

cdef enum Resend:
    RESEND_NEVER
    RESEND_NOW
    RESEND_IN_BUDGET       # where the retry budget of its backend allows it

cdef inline int may_resend(const EndedAttempt *ended) noexcept nogil:
    if ended.lost or ended.resent >= RESENT:
        return RESEND_NEVER
    if ended.refused:
        return RESEND_NOW
    if ended.received or not ended.idempotent or ended.once:
        return RESEND_NEVER
    if ended.reused and ended.resent == 0:
        return RESEND_NOW      # it says nothing of the endpoint
    if ended.reset or ended.by_rule or ended.late:
        return RESEND_NEVER    # the reset is its answer; the rule says how often, and how soon; nobody waits for it any more
    return RESEND_IN_BUDGET

# Whether the rule tries a response with this status again: whether it says so, and whether it tries anything again.
cdef inline bint retries_status(const Policy *policy, int status) noexcept nogil:
    cdef uint32_t code = <uint32_t>(status - 400)
    return code < CODES and (policy.codes[code // 64] >> code % 64 & 1) != 0

cdef inline bint tries_again(const Policy *policy, int status) noexcept nogil:
    return policy.attempts and retries_status(policy, status)

# Milliseconds before the next attempt, behind `retries` of them. Twice as long each time, half as much again by chance (16 bits
# of `random`): those that failed together do not come back together.
cdef inline uint64_t backoff_ms(const Policy *policy, uint32_t retries, uint64_t random) noexcept nogil:
    cdef uint64_t wait = <uint64_t>policy.backoff_ms * min(<uint64_t>1 << min(retries, <uint32_t>8), <uint64_t>GROWTH)
    return wait + ((random & 0xFFFF) * (wait // 2 + 1) >> 16)
