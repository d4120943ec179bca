"""Whether a request may be sent once more, and when (see retry.pxd). The functions here are for tests alone."""
from libc.string cimport memset


def resends(*, refused: bool = False, lost: bool = False, received: bool = False, idempotent: bool = True, once: bool = False,
            reused: bool = False, reset: bool = False, by_rule: bool = False, late: bool = False, resent: int = 0) -> str:
    """Say whether a request whose attempt ended so is sent again unnoticed: 'never', 'now' or 'in budget'."""
    cdef EndedAttempt ended
    ended.refused, ended.lost, ended.received, ended.idempotent, ended.once = refused, lost, received, idempotent, once
    ended.reused, ended.reset, ended.by_rule, ended.late, ended.resent = reused, reset, by_rule, late, resent
    return {RESEND_NEVER: "never", RESEND_NOW: "now", RESEND_IN_BUDGET: "in budget"}[may_resend(&ended)]


def retries(codes: list[int], status: int) -> bool:
    """Say whether a rule with these codes tries a response with this status again."""
    cdef Policy policy
    memset(&policy, 0, sizeof(policy))
    for code in codes:
        policy.codes[(code - 400) // 64] |= <uint64_t>1 << ((code - 400) % 64)
    return retries_status(&policy, status)


def backoff(base_ms: int, behind: int, random: int) -> int:
    """Return the milliseconds before the next attempt, behind so many retries."""
    cdef Policy policy
    memset(&policy, 0, sizeof(policy))
    policy.backoff_ms = base_ms
    return backoff_ms(&policy, behind, random)
