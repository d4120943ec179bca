"""Request filters (see request_filters.pxd).

Rules
- Whoever is asked may end the exchange, or let it go on at once: nothing of it, nor of its Extras, is touched behind the call.
- What a filter made of the head is parsed again, and only then is the next filter asked, or a backend chosen for it.
"""
from libc.stdint cimport uint32_t
from libc.string cimport memset

from gwfast._match cimport Found, find
from gwfast.engine.loop cimport Buf, release, waiting
from gwfast.exchange.exchange cimport NONE, SEND_MIRRORS, Exchange, Extras, Gateway, RequestFilter, RequestFilters
from gwfast.exchange.mirrors cimport send_mirrors
from gwfast.exchange.request_head cimport answer_op, prepare
from gwfast.exchange.session cimport look_for
from gwfast.http.fault cimport FAULT_FILTER, FAULT_INTERNAL
from gwfast.http.head cimport FRAMING_CHUNKED, HeadLimits, RequestHead, any_head
from gwfast.http.header_writer cimport Ops, answering, nth, set_ops, total
from gwfast.http1.parser cimport parse_request
from gwfast.table.layout cimport (OP_AUTHORIZE, OP_EXTENSION, Bind, Image, Op, persistence_at,
                                  rule_at)


cdef uint32_t next_filter(const Ops *ops, uint32_t since) noexcept nogil:
    while since < total(ops) and nth(ops, since).kind != OP_AUTHORIZE and nth(ops, since).kind != OP_EXTENSION:
        since += 1
    return since


cdef void skip_ops(Ops *ops, uint32_t n) noexcept nogil:
    cdef uint32_t of_rule = min(n, ops.count[0])
    ops.first[0] += n
    ops.count[0] -= of_rule
    ops.first[1] += n - of_rule
    ops.count[1] -= n - of_rule


cdef int apply_ops(Exchange exchange, RequestHead *head, const Found *found, const Bind *bind, uint32_t since) noexcept:
    """Apply the ops from `since` to the next request filter, or to the end. As begin()."""
    cdef uint32_t until = next_filter(&exchange.ops, since)
    if until < exchange.ops.count[0]:
        return apply_until(exchange, head, until, found, bind, since)
    if exchange.extras.prerouting:
        return route(exchange, head, bind, since)
    exchange.extras.filter_at = NONE
    if exchange.choose_backend(head, found, bind, since, exchange.extras.prefer) != 0:
        return 1
    backend_chosen(exchange, head, found)
    return 0


cdef void look_for_session(Exchange exchange, const RequestHead *head) noexcept:
    cdef const Image *image = exchange.table.image
    cdef uint32_t by = exchange.choice.persistence
    if by and exchange.extras.session.by != persistence_at(image, by - 1):
        look_for(&exchange.extras.session, image, persistence_at(image, by - 1), head, exchange.gateway.session_key,
                 &exchange.gateway.loop.pool)


cdef int filter_first(Exchange exchange, RequestHead *head, Found *found, const Bind *bind) noexcept:
    """Ask the filters of the listener, whatever rule there is. As begin()."""
    cdef Extras extras = exchange.extras
    cdef const Image *image = exchange.table.image
    exchange.rule = found.rule = rule_at(image, found.listener.front - 1)
    found.prefix_len = found.prefix = 0
    exchange.ops.added_n = 0
    set_ops(&exchange.ops, image, exchange.rule.ops.first, exchange.rule.ops.count)
    extras.found, extras.bound = found[0], bind
    extras.prerouting = True
    return apply_ops(exchange, head, found, bind, 0)


cdef int route(Exchange exchange, RequestHead *head, const Bind *bind, uint32_t since) noexcept:
    """They let it pass, the ops from `since` on are left: choose a rule for the request. As begin()."""
    cdef Extras extras = exchange.extras
    cdef Ops rest = exchange.ops
    cdef const Op *op
    cdef Found found
    skip_ops(&rest, since)
    op = answering(&rest)
    if op != NULL:
        answer_op(exchange, head, op, &extras.found, bind)
        return 1
    extras.prerouting = False
    extras.filter_at = NONE
    exchange.rule = NULL
    head.stated = True         # what the gateway says of the client was written before they were asked
    return exchange.enter(head, &found, bind, find(exchange.table.image, bind, head, &found))


cdef int apply_until(Exchange exchange, RequestHead *head, uint32_t until, const Found *found, const Bind *bind,
                     uint32_t since) noexcept:
    """Apply the ops from `since` up to the next request filter. As begin()."""
    cdef Ops part = exchange.ops
    cdef const Op *op
    part.count[0] = min(until, part.count[0])
    part.count[1] = until - part.count[0]
    skip_ops(&part, since)
    op = answering(&part)
    if op != NULL:
        answer_op(exchange, head, op, found, bind)
        return 1
    if prepare(exchange, head, &part, found) < 0:
        exchange.fail(FAULT_INTERNAL)
        return 1
    exchange.extras.filter_at = until
    return 0


cdef void ask(Exchange exchange) noexcept:
    if exchange.extras.filter_at == SEND_MIRRORS:
        exchange.extras.filter_at = NONE
        send_mirrors(exchange)
        exchange.launch()
        return
    ask_filter(exchange)


cdef void ask_filter(Exchange exchange) noexcept:
    cdef const Op *op = nth(&exchange.ops, exchange.extras.filter_at)
    cdef RequestFilters filters = exchange.gateway.authorizers if op.kind == OP_AUTHORIZE else exchange.gateway.extensions
    cdef RequestFilter filter = None if filters is None else filters.filter(exchange, op)
    if filter is None:
        exchange.answer(500, FAULT_FILTER, NULL, 0)
        return
    exchange.extras.request_filter = filter
    filter.start()


cdef void filter_passed(Exchange exchange) noexcept:
    cdef Extras extras = exchange.extras
    cdef Gateway gateway = exchange.gateway
    cdef RequestHead *head = &gateway.head
    cdef Buf written = exchange.request
    cdef HeadLimits most = any_head(waiting(&written))
    cdef int result
    extras.request_filter = None
    memset(&exchange.request, 0, sizeof(Buf))
    if parse_request(written.base + written.start, waiting(&written), 0, &most, head) == <int>waiting(&written):
        exchange.chunked = head.framing == FRAMING_CHUNKED
        exchange.method_id = head.method_id    # HEAD is never made, nor unmade: the client's request says the same of bodies
        result = apply_ops(exchange, head, &extras.found, extras.bound, extras.filter_at + 1)
    else:
        exchange.fail(FAULT_INTERNAL)
        result = 1
    release(&gateway.loop.pool, &written)
    if result == 0:
        exchange.launch()
