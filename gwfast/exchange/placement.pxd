# Which endpoint a request goes to, where more than a choice says so: a session, a turn in a queue, a newer table.
from gwfast.exchange.exchange cimport Exchange
from gwfast.table.layout cimport Endpoint

# Each of an exchange with Extras, but line_up and look_again.
# An attempt begins, and its time runs. The endpoint that it was given in a queue, or that its session wants; NULL: to be chosen,
# or (waits_for_session) that one takes no more.
cdef const Endpoint *begin_attempt(Exchange exchange) noexcept
# Its session's endpoint, or NULL: it has none, or (waits_for_session) that one takes no more.
cdef const Endpoint *session_place(Exchange exchange) noexcept
cdef void line_up(Exchange exchange) noexcept         # every endpoint has as many requests as its policy allows: waits for a turn
cdef void renew_session(Exchange exchange) noexcept   # the response says where it came to, where that is another endpoint
# Before another attempt: the endpoints are those of the table of now, which may have replaced what failed.
cdef void look_again(Exchange exchange) noexcept
