"""What a backend is told of a request, and what is answered in its place (see request_head.pxd)."""
from libc.stdint cimport uint32_t
from libc.string cimport memset

from gwfast._match cimport Found
from gwfast.engine.loop cimport LARGE, reserve
from gwfast.exchange.exchange cimport Downstream, Exchange, Gateway
from gwfast.http.cors cimport CorsRequest, cors_room, is_preflight, read_asking, write_cors
from gwfast.http.fault cimport FAULT_FILTER, FAULT_INTERNAL, FAULT_NONE
from gwfast.http.forwarded cimport forwarded_host
from gwfast.http.head cimport RequestHead
from gwfast.http.header_writer cimport Forward, Front, Ops, Out, answering, ops_room, state, write_location, write_request
from gwfast.table.layout cimport (BIND_TLS, OP_ANSWER, OP_CORS, Bind, Cors, Image, Op, Text, cors_at, redirect_at, text)


cdef inline uint32_t tell_client(Exchange exchange, Forward *forward) noexcept:
    """What the backend is told of the client, into `forward`; return how many bytes beyond the head's that may take."""
    cdef Gateway gateway = exchange.gateway
    cdef Downstream client = exchange.client
    memset(forward, 0, sizeof(Forward))
    forward.client.at, forward.client.n = client.address, client.address_n
    forward.trusted, forward.https, forward.request_id = client.trusted, client.https, gateway.request_id
    if client.certificate is not None:
        forward.certificate.at, forward.certificate.n = client.certificate, <uint32_t>len(client.certificate)
    if gateway.via is not None:
        forward.via.at, forward.via.n = gateway.via, <uint32_t>len(gateway.via)
    return forward.certificate.n + forward.via.n + 32


cdef int apply_cors(Exchange exchange, const RequestHead *head, const Op *ops, uint32_t count) noexcept:
    """Where there is an OP_CORS among these: keep what it says to the request for the response; a preflight is
    answered, unless the rule has an answer of its own. As begin()."""
    cdef Gateway gateway = exchange.gateway
    cdef const Op *own
    cdef const Cors *cors
    cdef CorsRequest asking
    cdef Out out
    if count == 0 or ops[count - 1].kind != OP_CORS:
        return 0
    cors = cors_at(exchange.table.image, ops[count - 1].hash)
    read_asking(&asking, head)
    exchange.extras.added.start = exchange.extras.added.end = 0
    if reserve(&gateway.loop.pool, &exchange.extras.added, cors_room(cors, &asking, head)) < 0:
        exchange.ops.added_n = 0
        exchange.fail(FAULT_INTERNAL)
        return 1
    out.at = exchange.extras.added.base
    out.end = out.at + exchange.extras.added.cap
    out.full = False
    write_cors(&out, exchange.table.image, cors, &asking, head)
    exchange.ops.added = exchange.extras.added.base
    exchange.ops.added_n = exchange.extras.added.end = <uint32_t>(out.at - exchange.extras.added.base)
    if not is_preflight(&asking, head):
        return 0
    own = answering(&exchange.ops)
    if own != NULL and own.kind == OP_ANSWER:
        return 0
    exchange.answer(200, FAULT_NONE, gateway.loop.reply, 0)
    return 1


cdef void answer_op(Exchange exchange, const RequestHead *head, const Op *op, const Found *found, const Bind *bind) noexcept:
    cdef Gateway gateway = exchange.gateway
    cdef const Image *image = exchange.table.image
    cdef Front front
    cdef Out out
    if op.kind == OP_ANSWER:
        exchange.answer(op.hash, FAULT_FILTER, NULL, 0)
        return
    out.at = gateway.loop.reply
    out.end = out.at + 2 * LARGE
    out.full = False
    find_front(exchange, head, &front, bind)
    write_location(&out, image, redirect_at(image, op.hash), head, found, &front)
    exchange.answer(redirect_at(image, op.hash).status, FAULT_NONE, gateway.loop.reply, out.at - gateway.loop.reply)


cdef int state_client(Exchange exchange, RequestHead *head) noexcept:
    cdef Gateway gateway = exchange.gateway
    cdef Forward forward
    cdef uint32_t room = head.head_len + 512 + tell_client(exchange, &forward)
    if gateway.request_id:
        forward.id[0] = exchange.id[0] = gateway.loop.random()
        forward.id[1] = exchange.id[1] = gateway.loop.random()
    gateway.stated.start = gateway.stated.end = 0
    if reserve(&gateway.loop.pool, &gateway.stated, room) < 0:
        return -1
    return state(head, &forward, gateway.stated.base, gateway.stated.base + gateway.stated.cap)


cdef void find_front(Exchange exchange, const RequestHead *head, Front *front, const Bind *bind) noexcept:
    front.https, front.port, front.host = bind.transport == BIND_TLS, bind.port, head.host
    if exchange.client.trusted:
        front.https = exchange.source.https
        front.port = exchange.source.port if exchange.source.port else bind.port
        forwarded_host(head, &front.host)


cdef int prepare(Exchange exchange, const RequestHead *head, const Ops *ops, const Found *found) noexcept:
    cdef Gateway gateway = exchange.gateway
    cdef Forward forward
    cdef Out out
    cdef Text name
    # every byte of the head at most twice (authority in Host and X-Forwarded-Host, path before and after a rewrite)
    cdef uint32_t room = 2 * head.head_len + ops_room(ops) + 512
    name.at = name.n = 0
    if exchange.backend != NULL:
        name = exchange.backend.name
    room += name.n + tell_client(exchange, &forward)
    forward.again = ops.first[0] != exchange.ops.first[0] or head.stated
    if gateway.request_id and not forward.again:
        forward.id[0] = exchange.id[0] = gateway.loop.random()
        forward.id[1] = exchange.id[1] = gateway.loop.random()
    if head.authority.n == 0:
        forward.fallback_host.at = text(exchange.table.image, name)    # 'namespace/name:port': from behind the '/'
        while name.n and forward.fallback_host.at[0] != c"/":
            forward.fallback_host.at += 1
            name.n -= 1
        if name.n:
            forward.fallback_host.at += 1
            forward.fallback_host.n = name.n - 1
    if reserve(&gateway.loop.pool, &exchange.request, room) < 0:
        return -1
    out.at = exchange.request.base
    out.end = out.at + exchange.request.cap
    out.full = False
    write_request(&out, ops, head, found, &forward)
    if out.full:
        return -1
    exchange.request.end = <uint32_t>(out.at - exchange.request.base)
    return 0
