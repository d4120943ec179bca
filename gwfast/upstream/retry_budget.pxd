# How many of a backend's requests may be retries, so that they cannot melt it (GEP-3388): a share of what was sent to its
# endpoints in an interval, and in any case so many in a shorter one. Counted for each endpoint and worker, added up when asked.
from libc.stdint cimport uint32_t, uint64_t
from gwfast.table.layout cimport Backend

cdef struct Spent:             # of one endpoint; a window begins anew when somebody looks after its end
    uint32_t retried           # ever
    uint32_t sent_then         # when the interval began
    uint32_t retried_then
    uint32_t retried_just      # when the shorter one began
    uint64_t since_ms
    uint64_t just_ms

cdef struct RetryBudget:            # of a backend
    uint32_t interval_ms
    uint32_t percent
    uint32_t minimum           # in each minimum_ms, whatever the share comes to
    uint32_t minimum_ms

cdef struct Spending:          # of a backend
    uint64_t sent              # in the interval
    uint64_t retried
    uint64_t just              # in the shorter one

cdef void budget_read(RetryBudget *budget, const Backend *backend) noexcept nogil      # the default where it has none
cdef void budget_add(const RetryBudget *budget, Spending *all, Spent *spent, uint32_t sent, uint64_t now_ms) noexcept nogil
cdef bint budget_allows(const RetryBudget *budget, const Spending *all) noexcept nogil
