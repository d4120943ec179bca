# The chain of those who are asked before a request goes on: filters of the listener, of the rule, of the backendRef.
#
#   begin -> apply_ops: the ops before the next filter are applied, and the head for it is written
#   launch -> ask: the filter decides, now or later        -> filter_passed -> apply_ops ...
from libc.stdint cimport uint32_t
from gwfast._match cimport Found
from gwfast.exchange.exchange cimport NONE, SEND_MIRRORS, Exchange
from gwfast.http.head cimport RequestHead
from gwfast.http.header_writer cimport Ops
from gwfast.table.layout cimport RULE_MIRRORS, RULE_SESSIONS, Bind

# The first op from `since` on that is a request filter, or how many ops there are.
cdef uint32_t next_filter(const Ops *ops, uint32_t since) noexcept nogil
cdef void skip_ops(Ops *ops, uint32_t n) noexcept nogil       # leaves out the first `n`

# Each as Exchange.begin(), of an exchange with Extras.
cdef int apply_ops(Exchange exchange, RequestHead *head, const Found *found, const Bind *bind, uint32_t since) noexcept
cdef int apply_until(Exchange exchange, RequestHead *head, uint32_t until, const Found *found, const Bind *bind,
                     uint32_t since) noexcept
cdef int filter_first(Exchange exchange, RequestHead *head, Found *found, const Bind *bind) noexcept

cdef void look_for_session(Exchange exchange, const RequestHead *head) noexcept      # of the choice that was made

# A backend was chosen, and may have a session of its own; there may be mirrors, whose turn is behind the last filter.
cdef inline void backend_chosen(Exchange exchange, const RequestHead *head, const Found *found) noexcept:
    if found.rule.flags & RULE_SESSIONS:
        look_for_session(exchange, head)
    if found.rule.flags & RULE_MIRRORS and exchange.extras.filter_at == NONE and not exchange.upgrade:
        exchange.extras.filter_at = SEND_MIRRORS

cdef void ask(Exchange exchange) noexcept     # the next filter; or, behind the last one, the mirrors get their copies
cdef void filter_passed(Exchange exchange) noexcept   # by its filter: the request goes on, as it is in exchange.request
