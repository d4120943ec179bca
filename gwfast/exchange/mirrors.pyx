"""Mirrors of a request (see mirrors.pxd)."""
from libc.stdint cimport uint32_t

from gwfast._pick cimport shares
from gwfast.engine.loop cimport waiting
from gwfast.exchange.exchange cimport Exchange
from gwfast.extend.subrequest cimport Subrequest
from gwfast.http.header_writer cimport nth, total
from gwfast.table.layout cimport OP_MIRROR, Image, Mirror, backend_at, mirror_at


cdef void send_mirrors(Exchange exchange) noexcept:
    cdef const Image *image = exchange.table.image
    cdef uint32_t trailers = waiting(&exchange.early) - exchange.early_body
    cdef const Mirror *one
    cdef Subrequest call
    cdef uint32_t i
    for i in range(total(&exchange.ops)):
        if nth(&exchange.ops, i).kind != OP_MIRROR:
            continue
        one = mirror_at(image, nth(&exchange.ops, i).hash)
        if not shares(one, &exchange.gateway.picks):
            continue
        call = exchange.gateway.calls.call()
        call.next = exchange.extras.mirrors
        exchange.extras.mirrors = call
        if call.begin(exchange.table, image, backend_at(image, one.backend), &exchange.request, exchange.method_id,
                      exchange.chunked) == 0:
            call.start(exchange.early.base + exchange.early.start, exchange.early_body, trailers, exchange.requested)


cdef void mirror_body(Exchange exchange, const char *at, size_t n, bint end, bint trailers) noexcept:
    cdef Subrequest call = exchange.extras.mirrors
    while call is not None:
        if trailers:
            call.trailers(at, n)
        else:
            call.more(at, n, end)
        call = call.next


cdef void drop_mirrors(Exchange exchange) noexcept:
    cdef Subrequest call
    while exchange.extras.mirrors is not None:
        call = exchange.extras.mirrors
        exchange.extras.mirrors = call.next
        call.let_go()
