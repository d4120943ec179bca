# The head for a backend: what the rule's filters make of the client's, with what the gateway says of the client. And the answers
# that need a request's head: a redirect, a preflight of CORS.
from libc.stdint cimport uint32_t
from gwfast._match cimport Found
from gwfast.exchange.exchange cimport Exchange
from gwfast.http.head cimport RequestHead
from gwfast.http.header_writer cimport Ops
from gwfast.table.layout cimport Bind, Op

# Write the head with these filters applied to exchange.request. -1: there is no room.
cdef int prepare(Exchange exchange, const RequestHead *head, const Ops *ops, const Found *found) noexcept
# Say of the client, among the fields of the head, what a backend would be told: rules match on it. -1: there is no room.
cdef int state_client(Exchange exchange, RequestHead *head) noexcept
# Both as Exchange.begin(). The filter is an OP_REDIRECT or OP_ANSWER.
cdef int apply_cors(Exchange exchange, const RequestHead *head, const Op *ops, uint32_t count) noexcept
cdef void answer_op(Exchange exchange, const RequestHead *head, const Op *op, const Found *found, const Bind *bind) noexcept
