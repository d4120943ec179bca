"""Budgets of retries (see _budget.pxd)."""
from libc.stdint cimport uint32_t, uint64_t

cdef enum:
    INTERVAL_MS = 10000        # limits.RETRY_BUDGET_INTERVAL
    PERCENT = 20               # limits.RETRY_BUDGET
    RATE = 10                  # limits.RETRY_BUDGET_RATE


cdef void budget_add(Spending *all, Spent *spent, uint32_t sent, uint64_t now_ms) noexcept nogil:
    if now_ms - spent.since_ms >= INTERVAL_MS:
        spent.since_ms = now_ms
        spent.sent_then = sent
        spent.retried_then = spent.retried
    if now_ms - spent.second_ms >= 1000:
        spent.second_ms = now_ms
        spent.retried_second = spent.retried
    all.sent += <uint32_t>(sent - spent.sent_then)
    all.retried += <uint32_t>(spent.retried - spent.retried_then)
    all.just += <uint32_t>(spent.retried - spent.retried_second)


cdef bint budget_allows(const Spending *all) noexcept nogil:
    return all.just < RATE or (all.retried + 1) * 100 <= all.sent * PERCENT
