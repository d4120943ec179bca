# How many of a backend's requests may be retries, so that they cannot melt it (GEP-3388): a share of what was sent to its
# endpoints in an interval, and in any case so many a second. Counted for each endpoint and worker, added up when asked. Pure.
from libc.stdint cimport uint32_t, uint64_t

cdef struct Spent:             # of one endpoint; a window begins anew when somebody looks after its end
    uint32_t retried           # ever
    uint32_t sent_then         # when the interval began
    uint32_t retried_then
    uint32_t retried_second    # when the second began
    uint64_t since_ms
    uint64_t second_ms

cdef struct Spending:          # of a backend
    uint64_t sent              # in the interval
    uint64_t retried
    uint64_t just              # retries in this second

cdef void budget_add(Spending *all, Spent *spent, uint32_t sent, uint64_t now_ms) noexcept nogil
cdef bint budget_allows(const Spending *all) noexcept nogil
