"""Budgets of retries (see retry_budget.pxd)."""
from libc.stdint cimport uint32_t, uint64_t

from gwfast.table.layout cimport Backend

cdef enum:
    INTERVAL_MS = 10000        # limits.RETRY_BUDGET_INTERVAL
    PERCENT = 20               # limits.RETRY_BUDGET
    RATE = 10                  # limits.RETRY_BUDGET_RATE


cdef void budget_read(RetryBudget *budget, const Backend *backend) noexcept nogil:
    if backend.budget_ms:
        budget.interval_ms, budget.percent = backend.budget_ms, backend.budget_percent
        budget.minimum, budget.minimum_ms = backend.budget_minimum, backend.minimum_ms
    else:
        budget.interval_ms, budget.percent, budget.minimum, budget.minimum_ms = INTERVAL_MS, PERCENT, RATE, 1000


cdef void budget_add(const RetryBudget *budget, Spending *all, Spent *spent, uint32_t sent, uint64_t now_ms) noexcept nogil:
    if now_ms - spent.since_ms >= budget.interval_ms:
        spent.since_ms = now_ms
        spent.sent_then = sent
        spent.retried_then = spent.retried
    if now_ms - spent.just_ms >= budget.minimum_ms:
        spent.just_ms = now_ms
        spent.retried_just = spent.retried
    all.sent += <uint32_t>(sent - spent.sent_then)
    all.retried += <uint32_t>(spent.retried - spent.retried_then)
    all.just += <uint32_t>(spent.retried - spent.retried_just)


cdef bint budget_allows(const RetryBudget *budget, const Spending *all) noexcept nogil:
    return all.just < budget.minimum or (all.retried + 1) * 100 <= all.sent * budget.percent
