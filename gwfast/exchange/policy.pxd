# What a rule says of time and of other attempts (`timeouts`, `retry`), done: the alarm that rings, the attempt that is put off.
from gwfast.exchange.exchange cimport Exchange

# Each of an exchange with Extras, but awaits_another.
cdef void begin_policy(Exchange exchange) noexcept
cdef void end_policy(Exchange exchange) noexcept
cdef void schedule(Exchange exchange) noexcept       # the alarm, for the first of its deadlines
# True: it will be tried again, or has been answered in the place of what came. unanswered: nobody answered.
cdef bint retry(Exchange exchange, int status, bint unanswered) noexcept
# No endpoint takes a connection. Where one has just gone, wait for the table that says who replaces it, or for it. Whether it
# waits.
cdef bint awaits_another(Exchange exchange) noexcept
