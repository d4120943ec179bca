"""Response filters (see response_filters.pxd).

Rules
- Who is asked may end the exchange within the call: behind it `serial` says whether it is the same, and only then is anything
  of it touched.
- While they are asked nothing is read of the response (`paused`): the rest waits with the upstream, of a stream in `kept`.
"""
from libc.stdint cimport uint32_t
from libc.string cimport memset

from gwfast.engine.loop cimport Buf, Pool, append, consume, release, waiting
from gwfast.exchange.exchange cimport Exchange, Extras, RequestFilter, await_more
from gwfast.http.fault cimport FAULT_EXTENSION
from gwfast.http.head cimport HeadLimits, ResponseHead, any_head
from gwfast.http1.parser cimport parse_response
from gwfast.upstream.pool cimport Upstream


cdef int read_reply(Exchange exchange, const char *at, size_t n, ResponseHead *head) noexcept:
    cdef HeadLimits most = any_head(<uint32_t>n + 1)
    return 0 if parse_response(at, <uint32_t>n, 0, &most, exchange.method_id, head) == <int>n else -1


cdef void add_response_filter(Exchange exchange, RequestFilter filter) noexcept:
    cdef Extras extras = exchange.extras
    try:
        if extras.response_filters is None:
            extras.response_filters = []
        extras.response_filters.append(filter)
    except MemoryError:
        pass


cdef void ask_response_filter(Exchange exchange, const ResponseHead *head) noexcept:
    cdef Extras extras = exchange.extras
    cdef Py_ssize_t last = len(extras.response_filters) - 1
    # a reference of its own: the list may go while it is asked
    cdef RequestFilter filter = <RequestFilter>extras.response_filters[last - extras.response_filters_asked]
    extras.paused = True
    exchange.gateway.loop.arm(exchange.upstream, 0)
    filter.on_response(head)


cdef void response_filtered(Exchange exchange, RequestFilter filter, const char *head, size_t n) noexcept:
    cdef Extras extras = exchange.extras
    cdef ResponseHead *reply = &exchange.gateway.reply     # to be read once more
    release(&exchange.gateway.loop.pool, &extras.filtered_head)
    if append(&exchange.gateway.loop.pool, &extras.filtered_head, head, n) < 0 or (
            read_reply(exchange, extras.filtered_head.base, n, reply) < 0 or exchange.opens_nothing(reply)):
        exchange.fail(FAULT_EXTENSION)
        return
    extras.response_filters_asked += 1
    if extras.response_filters_asked < <uint32_t>len(extras.response_filters):
        ask_response_filter(exchange, reply)
    elif extras.at_once:
        extras.paused = False
        await_more(exchange)
    else:
        resume_reply(exchange, reply)


cdef bint response_filters_wait(Exchange exchange, const ResponseHead *head) noexcept:
    cdef Extras extras = exchange.extras
    cdef uint32_t serial = exchange.serial
    extras.at_once = True
    ask_response_filter(exchange, head)
    if exchange.serial != serial:
        return True
    extras.at_once = False
    return extras.paused


cdef void resume_reply(Exchange exchange, const ResponseHead *head) noexcept:
    cdef Extras extras = exchange.extras
    cdef Upstream upstream = exchange.upstream
    cdef Pool *pool = &exchange.gateway.loop.pool
    cdef uint32_t serial = exchange.serial
    cdef Buf kept = extras.kept
    cdef size_t used
    extras.paused = False
    if upstream.fd < 0:        # a stream
        memset(&extras.kept, 0, sizeof(Buf))
        if exchange.pass_reply(head, kept.base + kept.start if kept.base != NULL else exchange.gateway.loop.reply, waiting(&kept),
                               extras.kept_end) == 0:
            exchange.reply_goes_on(extras.kept_end)
        release(pool, &kept)
    else:
        used = exchange.take_body(head, upstream.input.base + upstream.input.start if upstream.input.base != NULL
                                  else exchange.gateway.loop.reply, waiting(&upstream.input))
        if exchange.serial == serial and exchange.upstream is upstream:
            if used:
                consume(pool, &upstream.input, <uint32_t>used)
            await_more(exchange)
    if exchange.serial == serial and exchange.upstream is upstream:
        upstream.pull()


cdef int filter_body(Exchange exchange, const char **at, size_t *n, bint end) noexcept:
    cdef Py_ssize_t i
    for i in range(len(exchange.extras.response_filters) - 1, -1, -1):
        if (<RequestFilter>exchange.extras.response_filters[i]).body_part(at, n, end) < 0:
            return -1
    return 0


cdef int end_body_filters(Exchange exchange) noexcept:
    cdef const char *last = NULL
    cdef size_t n = 0
    if exchange.extras.response_filters is None:
        return 0
    if filter_body(exchange, &last, &n, True) < 0:
        exchange.fail(FAULT_EXTENSION)
        return -1
    if n and exchange.client.data(last, n, False) < 0:
        exchange.client_gone()
        return -1
    return 0


cdef void reply_with(Exchange exchange, const ResponseHead *head, const char *at, size_t n) noexcept:
    if exchange.opens_nothing(head):
        exchange.answer(500, FAULT_EXTENSION, NULL, 0)
    elif exchange.pass_reply(head, at, n, True) == 0:
        exchange.finish(exchange.requested)


cdef void drop_response_filters(Exchange exchange) noexcept:
    cdef Extras extras = exchange.extras
    for filter in extras.response_filters:
        (<RequestFilter>filter).drop()
    extras.response_filters = None
    release(&exchange.gateway.loop.pool, &extras.filtered_head)
    release(&exchange.gateway.loop.pool, &extras.kept)
    extras.response_filters_asked = 0
    extras.paused = extras.at_once = False
