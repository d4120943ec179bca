# What the access log says of an exchange: facts of its head, kept until its end, and what became of it.
from gwfast.exchange.exchange cimport Exchange
from gwfast.http.head cimport RequestHead

cdef void keep_facts(Exchange exchange, const RequestHead *head) noexcept     # what the log will need of it
cdef void log_exchange(Exchange exchange) noexcept
