"""Which endpoint a request goes to, where more than a choice says so (see placement.pxd)."""
from libc.stdint cimport uint32_t, uint64_t

from gwfast.engine.loop cimport waiting
from gwfast.exchange.exchange cimport Exchange, Extras, Gateway, endpoints_to_try, need_extras
from gwfast.exchange.mapped_table cimport MappedTable
from gwfast.exchange.policy cimport schedule
from gwfast.exchange.session cimport NO_CHOICE, endpoint_of, say_session
from gwfast.http.fault cimport FAULT_INTERNAL, FAULT_QUEUE_FULL
from gwfast.table.layout cimport (BACKEND_LIMITED, NO_BACKEND, PROTO_WS, SECTION_BACKENDS, Backend, Endpoint, Image, backend_at,
                                  count_of, endpoint_at)
from gwfast.upstream.pool cimport Upstreams


cdef const Backend *backend_of(const Image *image, uint64_t id) noexcept nogil:
    cdef uint32_t i
    for i in range(count_of(image, SECTION_BACKENDS)):
        if backend_at(image, i).id == id:
            return backend_at(image, i)
    return NULL


# Which of its backend's endpoints this one is; NO_BACKEND: none, or it is NULL.
cdef uint32_t place_of(const Image *image, const Backend *backend, const Endpoint *endpoint) noexcept nogil:
    cdef const Endpoint *first = endpoint_at(image, backend.endpoints.first)
    cdef uint32_t i
    for i in range(backend.endpoints.count):
        if endpoint != NULL and first[i].slot == endpoint.slot and first[i].generation == endpoint.generation:
            return i
    return NO_BACKEND


cdef const Endpoint *begin_attempt(Exchange exchange) noexcept:
    cdef const Endpoint *granted = exchange.extras.granted
    exchange.extras.granted = NULL
    if exchange.extras.policy != NULL and exchange.extras.policy.backend_ms:
        exchange.extras.deadlines.attempt = exchange.gateway.loop.now_ms + exchange.extras.policy.backend_ms
        schedule(exchange)
    if granted != NULL or exchange.extras.session.known:
        return granted if granted != NULL else session_place(exchange)
    exchange.extras.waits_for_session = False
    return NULL


cdef const Endpoint *session_place(Exchange exchange) noexcept:
    cdef const Endpoint *endpoint = session_endpoint(exchange) if exchange.extras.session.known else NULL
    exchange.extras.waits_for_session = False
    return endpoint if endpoint == NULL or not exchange.backend.flags & BACKEND_LIMITED or enter_session(exchange) else NULL


cdef bint enter_session(Exchange exchange) noexcept:
    """Whether its session's endpoint takes one more, and nobody waits for it."""
    cdef Upstreams upstreams = exchange.gateway.upstreams
    exchange.extras.waits_for_session = upstreams.is_before(exchange.backend, True) or not upstreams.enter(
        exchange.image, exchange.backend, exchange.chosen)
    if exchange.extras.waits_for_session:
        exchange.chosen = NO_BACKEND
    return not exchange.extras.waits_for_session


cdef void line_up(Exchange exchange) noexcept:
    cdef Extras extras
    if need_extras(exchange) < 0:
        exchange.fail(FAULT_INTERNAL)
        return
    extras = exchange.extras
    if extras.deadlines.attempt:
        extras.deadlines.attempt = 0
        schedule(exchange)
    if exchange.gateway.upstreams.wait(exchange, exchange.backend, extras.waits_for_session) < 0:
        exchange.fail(FAULT_QUEUE_FULL)


cdef const Endpoint *session_endpoint(Exchange exchange) noexcept:
    """Where its session wants it; NULL: anywhere."""
    cdef const Image *image = exchange.image
    cdef uint32_t at
    if exchange.extras.retries or exchange.avoid != NO_BACKEND or (
            exchange.choice.persistence == 0 or exchange.extras.session.token.backend != exchange.backend.id):
        return NULL
    at = endpoint_of(&exchange.extras.session, image, exchange.backend)
    if at == NO_CHOICE:
        return NULL
    if exchange.backend.flags and not exchange.gateway.upstreams.serves(image, exchange.backend, at):
        return NULL
    exchange.chosen = at
    return endpoint_at(image, exchange.backend.endpoints.first + at)


cdef void renew_session(Exchange exchange) noexcept:
    cdef const Image *image = exchange.image
    cdef Gateway gateway = exchange.gateway
    if exchange.state == NULL or exchange.choice.persistence == 0:
        return
    if exchange.extras.session.known and exchange.extras.session.token.backend == exchange.backend.id and (
            endpoint_of(&exchange.extras.session, image, exchange.backend) == exchange.chosen):
        return
    if say_session(&exchange.extras.session, exchange.table.image, exchange.backend,
                   endpoint_at(image, exchange.backend.endpoints.first + exchange.chosen), exchange.secure(), gateway.session_key,
                   &gateway.loop.pool, &exchange.extras.added) == 0:
        exchange.ops.added = exchange.extras.added.base
        exchange.ops.added_n = waiting(&exchange.extras.added)


cdef void look_again(Exchange exchange) noexcept:
    cdef MappedTable table = exchange.gateway.table
    cdef const Backend *backend
    cdef const Endpoint *failed = NULL
    if table is exchange.table or table is exchange.newer or endpoints_to_try(exchange) < 2:
        return
    backend = backend_of(table.image, exchange.backend.id)
    if backend == NULL or backend.endpoints.count == 0 or backend.protocol > PROTO_WS:
        return
    if exchange.avoid != NO_BACKEND:
        failed = endpoint_at(exchange.image, exchange.backend.endpoints.first + exchange.avoid)
    exchange.chosen = exchange.avoid = place_of(table.image, backend, failed)
    # `failed` may have gone with the table before
    exchange.image, exchange.backend, exchange.newer = table.image, backend, table
    exchange.attempts = 0
