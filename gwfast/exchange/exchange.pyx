"""One request from its head to its answer's last byte (see exchange.pxd)."""
import os

cimport cython
from libc.errno cimport ECONNRESET, EPIPE
from libc.stdint cimport uint8_t, uint32_t
from libc.stdlib cimport calloc, free
from libc.string cimport memset

from gwfast.http.body cimport BODY_BAD, BODY_END, BODY_TRAILERS, body_next, body_start
from gwfast.http.bytes cimport same
from gwfast.http1.chunked cimport sift_trailers
from gwfast.engine.counters cimport NO_ROW
from gwfast.http.cors cimport CorsRequest, cors_room, is_preflight, read_asking, write_cors
from gwfast.http.fault cimport *
from gwfast.http.header_writer cimport (Forward, Front, Out, answer_size, answering, nth, ops_room, put_id, set_ops, state,
                                        total, write_location, write_request)
from gwfast.http.forwarded cimport forwarded_host, read_source
from gwfast.http.head cimport *
from gwfast.upstream.endpoint_state cimport health_succeeded
from gwfast.http1.parser cimport parse_request, parse_response
from gwfast.engine.access_log cimport say_tls
from gwfast.engine.loop cimport (LARGE, READ, Peer, Pool, READ_AGAIN, READ_BROKEN, READS, append, consume, release, reserve,
                                 waiting)
from gwfast._match cimport AMBIGUOUS, FOUND, UNSTATED, check, find
from gwfast.exchange.session cimport NO_CHOICE, endpoint_of, look_for, remember, say_session
from gwfast._pick cimport pick, shares
from gwfast.l4.splice cimport TAKE, carry, joined
from gwfast.engine.sys cimport *
from gwfast.table.layout cimport *
from gwfast.engine.socket_state cimport has_unread, was_made
from gwfast.upstream.pool cimport CONNECTING, SUSPECT_MS

cdef extern from "netinet/tcp.h" nogil:
    enum:
        TCP_INFO
        TCP_CLOSE_WAIT
    struct tcp_info:
        uint8_t tcpi_state

cdef enum:
    ATTEMPTS = 3           # limits.CONNECT_ATTEMPTS
    INFORMED = 16          # limits.INFORMATIONAL_RESPONSES
    RESENT = 2             # limits.REFUSALS
    RETRY_BODY = 65536     # limits.RETRY_BODY_BYTES
    GROWTH = 10            # limits.RETRY_BACKOFF_GROWTH
    LOGGED = 2048          # limits.LOGGED_BYTES
    GOOD_MS = 2000         # who answered so lately and refuses connections has just gone: who replaces it may be told of soon
    REPLACED_MS = 1000     # so long that is waited for: EndpointSlices are at most some hundred milliseconds behind Pods
    LOOK_MS = 50           # between two looks for it


@cython.final
@cython.no_gc
cdef class MappedTable:
    """A table image, mapped from a descriptor; raises ValueError where it is not one."""

    def __cinit__(self, int fd):
        cdef uint32_t i, id
        cdef void *base
        self.size = os.fstat(fd).st_size
        if self.size < sizeof(Image):
            raise ValueError("not a table image: too short")
        # private: before Linux 6.7 a sealed memfd cannot be mapped shared; the pages are the same ones
        base = mmap(NULL, self.size, PROT_READ, MAP_PRIVATE, fd, 0)
        if base == MAP_FAILED:
            raise OSError(errno, "cannot map the table image")
        self.image = <const Image *>base
        if check(self.image, self.size) != 0:
            raise ValueError("not a table image of this version")
        for i in range(count_of(self.image, SECTION_BINDS)):
            self.ids = max(self.ids, bind_at(self.image, i).id + 1)
        if self.ids > 1 << 20:
            raise ValueError("not a table image: a bind's number is out of range")
        self.index = <uint32_t *>calloc(self.ids + 1, sizeof(uint32_t))
        if self.index == NULL:
            raise MemoryError
        for i in range(count_of(self.image, SECTION_BINDS)):
            id = bind_at(self.image, i).id
            self.index[id] = i + 1

    def __dealloc__(self):
        free(self.index)
        if self.image != NULL:
            munmap(<void *>self.image, self.size)

    cdef const Bind *bind(self, uint32_t bind_id) noexcept:
        if bind_id >= self.ids or self.index[bind_id] == 0:
            return NULL
        return bind_at(self.image, self.index[bind_id] - 1)


@cython.no_gc
cdef class Gateway:
    def __cinit__(self, uint32_t head, uint32_t line, uint32_t count):
        self.limits = HeadLimits(head, line, count)
        if room_for_request(&self.head, &self.limits) < 0 or room_for_response(&self.reply, &self.limits) < 0:
            raise MemoryError

    def __dealloc__(self):
        forget_request(&self.head)
        forget_response(&self.reply)

    cdef Exchange exchange(self):
        cdef Exchange exchange = self.spare
        if exchange is None:
            exchange = Exchange.__new__(Exchange)
            exchange.gateway = self
        else:
            self.spare = exchange.next_spare
            exchange.next_spare = None
        return exchange


@cython.no_gc
cdef class Downstream(Peer):
    cdef int respond(self, const ResponseHead *head, const Ops *ops, const char *at, size_t n, bint end) noexcept:
        return -1

    cdef int inform(self, const ResponseHead *head) noexcept:
        return -1

    cdef int data(self, const char *at, size_t n, bint end) noexcept:
        return -1

    cdef int trailers(self, const char *at, size_t n) noexcept:
        return -1

    cdef int answer(self, int status, const Ops *ops, const char *location, size_t n) noexcept:
        return -1

    cdef int descriptor(self) noexcept:
        return self.fd

    cdef Session session(self):
        return self.tls

    cdef void resume(self) noexcept:
        pass

    cdef void done(self, bint keep) noexcept:
        pass

    cdef void abort(self) noexcept:
        pass


# The first op from `since` on that is a request filter (RequestFilter), or how many there are.
cdef uint32_t next_filter(const Ops *ops, uint32_t since) noexcept nogil:
    while since < total(ops) and nth(ops, since).kind != OP_AUTHORIZE and nth(ops, since).kind != OP_EXTENSION:
        since += 1
    return since


# Leave out the first `n`.
cdef void skip_ops(Ops *ops, uint32_t n) noexcept nogil:
    cdef uint32_t of_rule = min(n, ops.count[0])
    ops.first[0] += n
    ops.count[0] -= of_rule
    ops.first[1] += n - of_rule
    ops.count[1] -= n - of_rule


@cython.final
@cython.no_gc
cdef class Alarm(Peer):
    def __dealloc__(self):
        if self.loop is not None:
            self.loop.unfile(self)

    cdef void on_deadline(self) noexcept:
        if self.exchange is not None:
            self.exchange.late()


@cython.no_gc
cdef class RequestFilter:
    cdef void start(self) noexcept:
        pass

    cdef void more(self) noexcept:
        pass

    cdef void drop(self) noexcept:
        self.exchange = None

    cdef void on_response(self) noexcept:
        pass

    cdef int body_part(self, const char **at, size_t *n, bint end) noexcept:
        return 0


@cython.no_gc
cdef class RequestFilters:
    cdef RequestFilter filter(self, Exchange exchange, const Op *op):
        return None


# Whether a connection over TLS ended with a FIN alone, as many peers do that have said all in their own protocol: no reset.
cdef bint ended_by_fin(Peer peer) noexcept:
    cdef tcp_info now
    cdef socklen_t n = sizeof(now)
    return peer.fd >= 0 and peer.tls is not None and (
        getsockopt(peer.fd, IPPROTO_TCP, TCP_INFO, &now, &n) == 0 and now.tcpi_state == TCP_CLOSE_WAIT)


# Not methods: those are never inlined, and every request comes through both.
cdef inline int choose(Exchange self, const Found *found, uint32_t prefer) noexcept:
    """Pick one of the rule's choices. As begin()."""
    cdef uint32_t chosen = 0
    if found.rule.total == 0 and prefer >= found.rule.idle:
        self.answer(found.rule.empty_status, FAULT_NO_BACKEND, NULL, 0)
        return 1
    if prefer != NONE and prefer < found.rule.choices.count + found.rule.idle:
        chosen = prefer
    elif found.rule.choices.count > 1:
        chosen = pick(self.table.image, found.rule, &self.gateway.picks)
    self.choice = choice_at(self.table.image, found.rule.choices.first + chosen)
    return 0


cdef inline int choose_backend(Exchange self, const Found *found, const Bind *bind, uint32_t since, uint32_t prefer) noexcept:
    """Behind the rule's first ops, `since` of them: choose a backend (NONE: pick it) and write the head for it. As begin()."""
    cdef const Image *image = self.table.image
    cdef Ops rest
    cdef const Ops *ops = &self.ops
    cdef const Op *op
    if since:
        rest = self.ops
        skip_ops(&rest, since)
        ops = &rest
    op = answering(ops) if found.rule.flags & RULE_ANSWERS and since <= self.ops.count[0] else NULL
    if op == NULL and since <= self.ops.count[0]:
        if choose(self, found, prefer) != 0:
            return 1
        if self.choice.ops.count:
            self.ops.first[1] = rest.first[1] = op_at(image, self.choice.ops.first)
            self.ops.count[1] = rest.count[1] = self.choice.ops.count
            if found.rule.flags & RULE_CORS and self.apply_cors(self.ops.first[1], self.ops.count[1]) != 0:
                return 1
    if op == NULL and self.ops.count[1]:
        if found.rule.flags & RULE_REQUEST_FILTERS and next_filter(&self.ops, since) < total(&self.ops):
            return self.apply_until(next_filter(&self.ops, since), found, bind, since)
        op = answering(ops)
    if op != NULL:
        self.answer_op(op, found, bind)
        return 1
    if self.choice.backend == NO_BACKEND:
        self.answer(self.choice.status, FAULT_NO_BACKEND, NULL, 0)
        return 1
    self.backend = backend_at(image, self.choice.backend)
    if self.backend.endpoints.count == 0:
        self.fail(FAULT_NO_ENDPOINT)
        return 1
    if self.backend.protocol > PROTO_WS:
        self.answer(500, FAULT_NO_BACKEND, NULL, 0)
        return 1
    if self.prepare(ops, found) < 0:
        self.fail(FAULT_INTERNAL)
        return 1
    return 0


cdef inline int enter(Exchange self, const Found *found, const Bind *bind, int result) noexcept:
    """Go the way of the rule that was found; `result` is find()'s. As begin()."""
    cdef const Image *image = self.table.image
    if result != FOUND:
        set_ops(&self.ops, image, 0, 0)
        self.fail(FAULT_AMBIGUOUS if result == AMBIGUOUS else FAULT_FIELDS_LARGE if result == UNSTATED else FAULT_NO_RULE)
        return 1
    self.rule = found.rule
    set_ops(&self.ops, image, found.rule.ops.first, found.rule.ops.count)
    if found.rule.flags & (RULE_POLICY | RULE_REQUEST_FILTERS | RULE_CORS | RULE_MIRRORS | RULE_SESSIONS):
        self.ops.added_n = 0
        if found.rule.flags & RULE_POLICY:
            self.begin_policy()
        if found.rule.flags & RULE_CORS and self.apply_cors(self.ops.first[0], self.ops.count[0]) != 0:
            return 1
        if found.rule.flags & RULE_REQUEST_FILTERS:
            self.found, self.bound = found[0], bind
        if found.rule.flags & RULE_SESSIONS:
            self.prefer = remember(&self.session, image, found.rule, &self.gateway.head, self.gateway.session_key,
                                   &self.gateway.loop.pool)
        return self.apply_ops(found, bind, 0)
    return choose_backend(self, found, bind, 0, NONE)


cdef inline void await_more(Exchange self) noexcept:
    """The response has begun and bytes went either way: from here on only silence both ways is timed, where the rule does not
    say itself how long a response may take."""
    cdef uint64_t most = self.gateway.tunnel_ms if self.tunnel else self.gateway.stream_ms
    if self.policy != NULL and self.policy.timed:
        most = FOREVER_MS
    self.gateway.loop.arm(self.upstream, self.gateway.loop.now_ms + most)


# How many endpoints may be tried: what an `attempts: 0` says is that of all that is tried again, unnoticed or not.
cdef inline uint32_t most(Exchange self) noexcept:
    return 1 if self.policy != NULL and self.policy.once else ATTEMPTS


# How many bytes beyond the head's that may take.
cdef inline uint32_t say_client(Exchange self, Forward *forward) noexcept:
    cdef Gateway gateway = self.gateway
    cdef Downstream client = self.client
    memset(forward, 0, sizeof(Forward))
    forward.client.at, forward.client.n = client.address, client.address_n
    forward.trusted, forward.https, forward.request_id = client.trusted, client.https, gateway.request_id
    if client.certificate is not None:
        forward.certificate.at, forward.certificate.n = client.certificate, <uint32_t>len(client.certificate)
    if gateway.via is not None:
        forward.via.at, forward.via.n = gateway.via, <uint32_t>len(gateway.via)
    return forward.certificate.n + forward.via.n + 32


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


# Whether it is lost where its connection turns out to have ended: an idle one is better looked at before.
cdef inline bint is_sent_once(Exchange self) noexcept:
    return not self.requested or (self.state.tls != 0 and not idempotent(self.method_id))


cdef inline void await_reply(Exchange self) noexcept:
    """The whole request is on its way: what comes next is the upstream's, and timed."""
    if self.replied:
        await_more(self)
    else:
        self.gateway.loop.arm(self.upstream, self.gateway.loop.now_ms + self.response_ms)


@cython.final
@cython.no_gc
cdef class Exchange(Waiter):
    def __cinit__(self):
        self.filter_at = self.prefer = NONE
        self.chosen = self.avoid = NO_BACKEND
        self.keep = READ

    # -- begin ---------------------------------------------------------------------------------------------------------

    cdef int begin(self, Downstream client, const Bind *bind) noexcept:
        """Find the rule for gateway.head and write the upstream's head. 0: collect and launch; 1: it is over already."""
        cdef Gateway gateway = self.gateway
        cdef const Image *image
        cdef Found found
        cdef int result
        invariant(self.client is None and client.exchange is None)
        self.client = client
        client.exchange = self
        self.table = gateway.table
        self.started_us = gateway.loop.now_us
        self.method_id = gateway.head.method_id
        self.minor = gateway.head.minor
        self.upgrade = gateway.head.upgrade
        self.chunked = gateway.head.framing == FRAMING_CHUNKED
        self.requested = gateway.head.framing != FRAMING_CHUNKED and gateway.head.content_length == 0
        self.response_ms = gateway.response_ms
        gateway.counters.totals.requests += 1
        gateway.counters.totals.requests_open += 1
        if gateway.log.format:
            self.keep_facts()
        if client.trusted:
            read_source(&self.source, &gateway.head, gateway.trusted, client.https)
        self.image = image = self.table.image
        result = find(image, bind, &gateway.head, &found)
        if result == UNSTATED and self.state_client() == 0:
            result = find(image, bind, &gateway.head, &found)
        self.listener = found.listener
        if client.listener_id and found.listener != NULL and found.listener.identity != client.listener_id:
            set_ops(&self.ops, image, 0, 0)
            self.fail(FAULT_MISDIRECTED)       # another listener's, to be asked for with its own TLS (RFC 9110 7.4)
            return 1
        if found.listener != NULL and found.listener.front:
            return self.filter_first(&found, bind)
        return enter(self, &found, bind, result)

    cdef int apply_cors(self, const Op *ops, uint32_t count) noexcept:
        """Where there is an OP_CORS among these: keep what it says to the request for the response; a preflight is
        answered, unless the rule has an answer of its own. As begin()."""
        cdef Gateway gateway = self.gateway
        cdef const Op *own
        cdef const Cors *cors
        cdef CorsRequest asking
        cdef Out out
        if count == 0 or ops[count - 1].kind != OP_CORS:
            return 0
        cors = cors_at(self.table.image, ops[count - 1].hash)
        read_asking(&asking, &gateway.head)
        self.extended = True
        self.added.start = self.added.end = 0
        if reserve(&gateway.loop.pool, &self.added, cors_room(cors, &asking, &gateway.head)) < 0:
            self.ops.added_n = 0
            self.fail(FAULT_INTERNAL)
            return 1
        out.at = self.added.base
        out.end = out.at + self.added.cap
        out.full = False
        write_cors(&out, self.table.image, cors, &asking, &gateway.head)
        self.ops.added = self.added.base
        self.ops.added_n = self.added.end = <uint32_t>(out.at - self.added.base)
        if not is_preflight(&asking, &gateway.head):
            return 0
        own = answering(&self.ops)
        if own != NULL and own.kind == OP_ANSWER:
            return 0
        self.answer(200, FAULT_NONE, gateway.loop.reply, 0)
        return 1

    cdef void answer_op(self, const Op *op, const Found *found, const Bind *bind) noexcept:
        cdef Gateway gateway = self.gateway
        cdef const Image *image = self.table.image
        cdef Front front
        cdef Out out
        if op.kind == OP_ANSWER:
            self.answer(op.hash, FAULT_FILTER, NULL, 0)
            return
        out.at = gateway.loop.reply
        out.end = out.at + 2 * LARGE
        out.full = False
        self.find_front(&front, bind)
        write_location(&out, image, redirect_at(image, op.hash), &gateway.head, found, &front)
        self.answer(redirect_at(image, op.hash).status, FAULT_NONE, gateway.loop.reply, out.at - gateway.loop.reply)

    # -- who it is from ------------------------------------------------------------------------------------------------

    cdef Slice client_address(self) noexcept:
        cdef Slice address
        address.at, address.n = self.client.address, self.client.address_n
        if self.client.trusted and self.source.address_n:
            address.at, address.n = self.source.address, self.source.address_n
        return address

    cdef bint secure(self) noexcept:
        return self.source.https if self.client.trusted else self.client.https

    cdef int state_client(self) noexcept:
        cdef Gateway gateway = self.gateway
        cdef Forward forward
        cdef uint32_t room = gateway.head.head_len + 512 + say_client(self, &forward)
        if gateway.request_id:
            forward.id[0] = self.id[0] = gateway.loop.random()
            forward.id[1] = self.id[1] = gateway.loop.random()
        gateway.stated.start = gateway.stated.end = 0
        if reserve(&gateway.loop.pool, &gateway.stated, room) < 0:
            return -1
        return state(&gateway.head, &forward, gateway.stated.base, gateway.stated.base + gateway.stated.cap)

    cdef void find_front(self, Front *front, const Bind *bind) noexcept:
        front.https, front.port, front.host = bind.transport == BIND_TLS, bind.port, self.gateway.head.host
        if self.client.trusted:
            front.https = self.source.https
            front.port = self.source.port if self.source.port else bind.port
            forwarded_host(&self.gateway.head, &front.host)

    cdef int prepare(self, const Ops *ops, const Found *found) noexcept:
        cdef Gateway gateway = self.gateway
        cdef Forward forward
        cdef Out out
        cdef Text name
        # every byte of the head at most twice (authority in Host and X-Forwarded-Host, path before and after a rewrite)
        cdef uint32_t room = 2 * gateway.head.head_len + ops_room(ops) + 512
        name.at = name.n = 0
        if self.backend != NULL:
            name = self.backend.name
        room += name.n + say_client(self, &forward)
        forward.again = ops.first[0] != self.ops.first[0] or gateway.head.stated
        if gateway.request_id and not forward.again:
            forward.id[0] = self.id[0] = gateway.loop.random()
            forward.id[1] = self.id[1] = gateway.loop.random()
        if gateway.head.authority.n == 0:
            forward.fallback_host.at = text(self.table.image, name)    # 'namespace/name:port': from behind the '/'
            while name.n and forward.fallback_host.at[0] != c"/":
                forward.fallback_host.at += 1
                name.n -= 1
            if name.n:
                forward.fallback_host.at += 1
                forward.fallback_host.n = name.n - 1
        if reserve(&gateway.loop.pool, &self.request, room) < 0:
            return -1
        out.at = self.request.base
        out.end = out.at + self.request.cap
        out.full = False
        write_request(&out, ops, &gateway.head, found, &forward)
        if out.full:
            return -1
        self.request.end = <uint32_t>(out.at - self.request.base)
        return 0

    cdef void keep_facts(self) noexcept:
        """Copy what the log will need of the head."""
        cdef RequestHead *head = &self.gateway.head
        cdef Slice parts[FACTS]
        cdef uint32_t i
        memset(parts, 0, sizeof(parts))
        parts[0] = head.method
        parts[1] = head.target
        parts[2] = head.authority
        for i in range(head.count):
            if head.fields[i].id == FIELD_USER_AGENT:
                parts[3].at = head.fields[i].value
                parts[3].n = min(head.fields[i].value_len, <uint32_t>LOGGED)
            elif head.fields[i].id == FIELD_REFERER:
                parts[4].at = head.fields[i].value
                parts[4].n = min(head.fields[i].value_len, <uint32_t>LOGGED)
            elif head.fields[i].id == FIELD_X_REQUEST_ID and self.client.trusted:
                parts[5].at = head.fields[i].value
                parts[5].n = min(head.fields[i].value_len, <uint32_t>LOGGED)
        for i in range(FACTS):
            self.facts_n[i] = 0
            if append(&self.gateway.loop.pool, &self.facts, parts[i].at, parts[i].n) == 0:
                self.facts_n[i] = parts[i].n

    # -- request filters -----------------------------------------------------------------------------------------------

    cdef int apply_ops(self, const Found *found, const Bind *bind, uint32_t since) noexcept:
        """Apply the ops from `since` to the next request filter, or to the end. As begin()."""
        cdef uint32_t until = next_filter(&self.ops, since)
        self.extended = True
        if until < self.ops.count[0]:
            return self.apply_until(until, found, bind, since)
        if self.prerouting:
            return self.route(bind, since)
        self.filter_at = NONE
        if choose_backend(self, found, bind, since, self.prefer) != 0:
            return 1
        if found.rule.flags & RULE_SESSIONS and self.choice.persistence and (
                self.session.by != persistence_at(self.table.image, self.choice.persistence - 1)):
            look_for(&self.session, self.table.image, persistence_at(self.table.image, self.choice.persistence - 1),
                     &self.gateway.head, self.gateway.session_key, &self.gateway.loop.pool)
        if self.filter_at == NONE and found.rule.flags & RULE_MIRRORS and not self.upgrade:
            self.filter_at = SEND_MIRRORS
        return 0

    cdef int filter_first(self, Found *found, const Bind *bind) noexcept:
        """Ask the filters of the listener, whatever rule there is. As begin()."""
        cdef const Image *image = self.table.image
        self.rule = found.rule = rule_at(image, found.listener.front - 1)
        found.prefix_len = found.prefix = 0
        self.ops.added_n = 0
        set_ops(&self.ops, image, self.rule.ops.first, self.rule.ops.count)
        self.found, self.bound = found[0], bind
        self.prerouting = True
        return self.apply_ops(found, bind, 0)

    cdef int route(self, const Bind *bind, uint32_t since) noexcept:
        """They let it pass, the ops from `since` on are left: choose a rule for the request in gateway.head. As begin()."""
        cdef Ops rest = self.ops
        cdef const Op *op
        cdef Found found
        skip_ops(&rest, since)
        op = answering(&rest)
        if op != NULL:
            self.answer_op(op, &self.found, bind)
            return 1
        self.prerouting = False
        self.filter_at = NONE
        self.rule = NULL
        self.gateway.head.stated = True        # what the gateway says of the client was written before they were asked
        return enter(self, &found, bind, find(self.table.image, bind, &self.gateway.head, &found))

    cdef int apply_until(self, uint32_t until, const Found *found, const Bind *bind, uint32_t since) noexcept:
        """Apply the ops from `since` up to the next request filter. As begin()."""
        cdef Ops part = self.ops
        cdef const Op *op
        part.count[0] = min(until, part.count[0])
        part.count[1] = until - part.count[0]
        skip_ops(&part, since)
        op = answering(&part)
        if op != NULL:
            self.answer_op(op, found, bind)
            return 1
        if self.prepare(&part, found) < 0:
            self.fail(FAULT_INTERNAL)
            return 1
        self.filter_at = until
        return 0

    cdef void ask(self) noexcept:
        if self.filter_at == SEND_MIRRORS:
            self.filter_at = NONE
            self.send_mirrors()
            self.launch()
            return
        self.ask_filter()

    cdef void ask_filter(self) noexcept:
        cdef const Op *op = nth(&self.ops, self.filter_at)
        cdef RequestFilters filters = self.gateway.authorizers if op.kind == OP_AUTHORIZE else self.gateway.extensions
        cdef RequestFilter filter = None if filters is None else filters.filter(self, op)
        if filter is None:
            self.answer(500, FAULT_FILTER, NULL, 0)
            return
        self.request_filter = filter
        self.extended = True
        filter.start()

    cdef void filter_passed(self) noexcept:
        cdef Gateway gateway = self.gateway
        cdef RequestHead *head = &gateway.head
        cdef Buf written = self.request
        cdef HeadLimits most = any_head(waiting(&written))
        cdef int result
        self.request_filter = None
        memset(&self.request, 0, sizeof(Buf))
        if parse_request(written.base + written.start, waiting(&written), 0, &most, head) == <int>waiting(&written):
            self.chunked = head.framing == FRAMING_CHUNKED
            self.method_id = head.method_id    # HEAD is never made, nor unmade: the client's request says the same of bodies
            result = self.apply_ops(&self.found, self.bound, self.filter_at + 1)
        else:
            self.fail(FAULT_INTERNAL)
            result = 1
        release(&gateway.loop.pool, &written)
        if result == 0:
            self.launch()

    cdef void send_mirrors(self) noexcept:
        cdef const Image *image = self.table.image
        cdef uint32_t trailers = waiting(&self.early) - self.early_body
        cdef const Mirror *one
        cdef Subrequest call
        cdef uint32_t i
        for i in range(total(&self.ops)):
            if nth(&self.ops, i).kind != OP_MIRROR:
                continue
            one = mirror_at(image, nth(&self.ops, i).hash)
            if not shares(one, &self.gateway.picks):
                continue
            call = self.gateway.calls.call()
            call.next = self.mirrors
            self.mirrors = call
            self.extended = True
            if call.begin(self.table, image, backend_at(image, one.backend), &self.request, self.method_id, self.chunked) == 0:
                call.start(self.early.base + self.early.start, self.early_body, trailers, self.requested)

    cdef void mirror_body(self, const char *at, size_t n, bint end, bint trailers) noexcept:
        """A part of the body, or its trailers, for the mirrors too."""
        cdef Subrequest call = self.mirrors
        while call is not None:
            if trailers:
                call.trailers(at, n)
            else:
                call.more(at, n, end)
            call = call.next

    cdef int read_reply(self, const char *head, size_t n) noexcept:
        cdef HeadLimits most = any_head(<uint32_t>n + 1)
        return 0 if parse_response(head, <uint32_t>n, 0, &most, self.method_id, &self.gateway.reply) == <int>n else -1

    cdef void add_response_filter(self, RequestFilter filter) noexcept:
        try:
            if self.response_filters is None:
                self.response_filters = []
            self.response_filters.append(filter)
            self.extended = True
        except MemoryError:
            pass

    cdef void ask_response_filter(self) noexcept:
        """Ask the response filter that is next; the response's head is gateway.reply."""
        cdef Py_ssize_t last = len(self.response_filters) - 1
        # a reference of its own: the list may go while it is asked
        cdef RequestFilter filter = <RequestFilter>self.response_filters[last - self.response_filters_asked]
        self.paused = True
        self.gateway.loop.arm(self.upstream, 0)
        filter.on_response()

    cdef void response_filtered(self, RequestFilter filter, const char *head, size_t n) noexcept:
        release(&self.gateway.loop.pool, &self.answer_head)
        if append(&self.gateway.loop.pool, &self.answer_head, head, n) < 0 or self.read_reply(self.answer_head.base, n) < 0 or (
                self.opens_nothing()):
            self.fail(FAULT_EXTENSION)
            return
        self.response_filters_asked += 1
        if self.response_filters_asked < <uint32_t>len(self.response_filters):
            self.ask_response_filter()
        elif self.at_once:
            self.paused = False
            await_more(self)
        else:
            self.resume_reply()

    cdef bint response_filters_wait(self) noexcept:
        """Ask the response filters, in the middle of a read: whether they take their time, or have ended it."""
        cdef uint32_t serial = self.serial
        self.at_once = True
        self.ask_response_filter()
        if self.serial != serial:
            return True
        self.at_once = False
        return self.paused

    cdef void resume_reply(self) noexcept:
        cdef Upstream upstream = self.upstream
        cdef Pool *pool = &self.gateway.loop.pool
        cdef uint32_t serial = self.serial
        cdef Buf kept = self.kept
        cdef size_t used
        self.paused = False
        if upstream.fd < 0:        # a stream
            memset(&self.kept, 0, sizeof(Buf))
            if self.pass_reply(True, kept.base + kept.start if kept.base != NULL else self.gateway.loop.reply, waiting(&kept),
                               self.kept_end) == 0:
                self.reply_goes_on(self.kept_end)
            release(pool, &kept)
        else:
            used = self.take_body(upstream.input.base + upstream.input.start if upstream.input.base != NULL
                                  else self.gateway.loop.reply, waiting(&upstream.input), True)
            if self.serial == serial and self.upstream is upstream:
                if used:
                    consume(pool, &upstream.input, <uint32_t>used)
                await_more(self)
        if self.serial == serial and self.upstream is upstream:
            upstream.pull()

    cdef int filter_body(self, const char **at, size_t *n, bint end) noexcept:
        cdef Py_ssize_t i
        for i in range(len(self.response_filters) - 1, -1, -1):
            if (<RequestFilter>self.response_filters[i]).body_part(at, n, end) < 0:
                return -1
        return 0

    cdef void reply_with(self, const char *at, size_t n) noexcept:
        if self.opens_nothing():
            self.answer(500, FAULT_EXTENSION, NULL, 0)
        elif self.pass_reply(True, at, n, True) == 0:
            self.finish(self.requested)

    # -- the request's body --------------------------------------------------------------------------------------------

    cdef bint wants(self) noexcept:
        if not self.launched:
            return waiting(&self.early) < self.keep
        return self.upstream is not None and self.upstream.status != CONNECTING and self.upstream.out.base == NULL

    cdef void request_data(self, const char *at, size_t n, bint end) noexcept:
        """Take part of the request's body; `end` where it is complete (without trailers)."""
        self.bytes_in += n
        if end:
            self.requested = True
        if not self.launched:
            if append(&self.gateway.loop.pool, &self.early, at, n) < 0:
                self.fail(FAULT_INTERNAL)
                return
            self.early_body = waiting(&self.early)
            if self.request_filter is not None:
                self.request_filter.more()
            return
        if (self.keeping and not self.replied and self.early_body + n <= RETRY_BODY
                and append(&self.gateway.loop.pool, &self.early, at, n) == 0):
            self.early_body += <uint32_t>n
        else:
            if self.keeping:
                self.keeping = False
                self.early_body = 0
                release(&self.gateway.loop.pool, &self.early)
            self.streamed = True
        # A broken pipe is not the end: the upstream may have answered before it closed, and its end is announced.
        if self.mirrors is not None:
            self.mirror_body(at, n, end, False)
        if self.upstream is not None:
            self.upstream.send_body(at, n, end)
            if (end or self.replied) and self.upstream is not None:
                await_reply(self)

    cdef bint carries(self, Peer source) noexcept:
        """Whether the rest of a body with a length may go to the upstream by request_carried()."""
        return (self.launched and not self.keeping and self.mirrors is None and self.upstream is not None
                and joined(source, self.upstream))

    cdef ssize_t request_carried(self, Peer source) noexcept:
        """Take a part of the request's body, which is not its last, from its socket: how many bytes, or READ_*."""
        cdef ssize_t n = carry(source, self.upstream, TAKE)
        self.streamed = True
        if n < READ_BROKEN:        # as in request_data(): the upstream's end is announced
            return READ_AGAIN
        if n > 0:
            self.bytes_in += n
            if self.replied:
                await_more(self)
        return n

    cdef void request_trailers(self, const char *at, size_t n) noexcept:
        """End a body without a length with these trailer lines (raw, checked)."""
        self.requested = True
        if not self.launched:
            if append(&self.gateway.loop.pool, &self.early, at, n) < 0:
                self.fail(FAULT_INTERNAL)
                return
            if self.request_filter is not None:
                self.request_filter.more()
            return
        if not self.keeping or self.replied or append(&self.gateway.loop.pool, &self.early, at, n) < 0:
            self.streamed = True
        if self.mirrors is not None:
            self.mirror_body(at, n, True, True)
        if self.upstream is not None:
            self.upstream.send_trailers(at, n)
            if self.upstream is not None:
                await_reply(self)

    # -- the upstream --------------------------------------------------------------------------------------------------

    # -- what its rule says of time, and of trying again ---------------------------------------------------------------

    cdef void begin_policy(self) noexcept:
        self.extended = True
        self.policy = policy_at(self.table.image, self.rule.policy)
        self.keeping = self.policy.attempts > 0
        self.set_alarm()
        if self.policy.timed:
            self.response_ms = FOREVER_MS      # the rule's own limits hold
        if self.policy.request_ms:
            self.request_until = self.started_us // 1000 + self.policy.request_ms
            self.schedule()

    cdef void set_alarm(self) noexcept:
        if self.alarm is None:
            self.alarm = Alarm.__new__(Alarm)
            self.alarm.loop = self.gateway.loop
        self.alarm.exchange = self

    cdef void end_policy(self) noexcept:
        self.gateway.loop.arm(self.alarm, 0)
        self.alarm.exchange = None
        self.policy = NULL
        self.request_until = self.attempt_until = self.retry_at = self.replaced_until = 0
        self.retries = 0
        self.keeping = False

    cdef void schedule(self) noexcept:
        cdef uint64_t at = self.request_until
        if self.attempt_until and (at == 0 or self.attempt_until < at):
            at = self.attempt_until
        if self.retry_at and (at == 0 or self.retry_at < at):
            at = self.retry_at
        if at:
            self.gateway.timer.arm(self.alarm, at)
        else:
            self.gateway.loop.arm(self.alarm, 0)

    cdef void late(self) noexcept:
        cdef uint64_t now = self.gateway.loop.now_ms
        if self.request_until and now >= self.request_until:
            self.fail(FAULT_REQUEST_TIMEOUT)
        elif self.retry_at and now >= self.retry_at:
            self.retry_at = 0
            self.schedule()
            self.look_again()
            self.attempt()
        elif self.attempt_until and now >= self.attempt_until:
            self.attempt_until = 0
            self.fail(FAULT_UPSTREAM_TIMEOUT)
        else:
            self.schedule()

    cdef bint retry(self, int status, bint unanswered) noexcept:
        cdef const Policy *policy = self.policy
        cdef uint32_t code = <uint32_t>(status - 400)
        cdef uint64_t wait
        if self.retries >= policy.attempts or self.replied or self.informed or self.streamed:
            return False
        if not unanswered and not (code < CODES and policy.codes[code // 64] >> code % 64 & 1):
            return False
        # Twice as long each time, half as much again by chance: those that failed together do not come back together.
        wait = <uint64_t>policy.backoff_ms * min(<uint64_t>1 << min(self.retries, 8), <uint64_t>GROWTH)
        wait += (self.gateway.loop.random() & 0xFFFF) * (wait // 2 + 1) >> 16
        if self.request_until and self.gateway.loop.now_ms + wait >= self.request_until:
            return False           # it could not be answered in time: this is the answer
        if self.chosen == NO_BACKEND:
            return False           # no endpoint was tried: there is none to be spared
        if not self.gateway.upstreams.may_retry(self.image, self.backend, self.chosen):
            if self.backend.budget_ms:         # of a policy, whose clients are told so (backendtrafficpolicy_types.go)
                self.answer(503, FAULT_RETRY_BUDGET, NULL, 0)
                return True
            return False
        if self.state != NULL and self.backend.flags and (unanswered or status >= 500):
            self.gateway.upstreams.failed(self.state, self.image, self.backend)
        self.retries += 1
        self.gateway.counters.totals.upstream_retries += 1
        self.drop_upstream()
        self.avoid, self.fresh = self.chosen, False
        self.connect_fault = 0
        self.attempts = self.seen = 0
        self.attempt_until = 0
        self.retry_at = self.gateway.loop.now_ms + wait
        self.schedule()
        return True

    cdef void launch(self) noexcept:
        if self.filter_at != NONE:
            self.ask()
            return
        self.launched = True
        self.attempt()

    cdef void attempt(self) noexcept:
        """Choose an endpoint and take or open a connection to it."""
        cdef Upstreams upstreams = self.gateway.upstreams
        cdef const Endpoint *endpoint = NULL
        cdef Upstream upstream
        while not self.attempts or (self.attempts < most(self) and self.attempts < self.backend.endpoints.count):
            if self.extended:
                endpoint = self.begin_attempt()
                if self.waits_for_session:
                    self.line_up()
                    return
            if endpoint == NULL:
                endpoint = upstreams.choose(self.image, self.backend, self.avoid, &self.chosen)
                if endpoint == NULL:
                    if self.backend.flags & BACKEND_LIMITED:
                        self.line_up()
                        return
                    break
            self.attempts += 1
            self.tried += 1
            self.state = upstreams.state(endpoint, self.backend)
            if self.state == NULL:
                break
            invariant(self.upstream is None)
            self.state.outstanding += 1
            self.state.sent += 1
            upstream = upstreams.take(self.state, self.fresh, is_sent_once(self))
            if upstream is not None:
                self.upstream = upstream
                invariant(upstream.waiter is None and not upstream.closed)
                upstream.waiter = self
                if upstream.status != CONNECTING:
                    self.transmit()
                return
            self.avoid = self.chosen
            self.refused()
            if self.backend.flags:
                upstreams.failed(self.state, self.image, self.backend)
            upstreams.done(self.state)
            self.state = endpoint = NULL
        if not self.awaits_another():
            self.fail(self.connect_fault if self.connect_fault else FAULT_CONNECT)

    cdef void refused(self) noexcept:
        """Its endpoint takes no connections."""
        if self.gateway.loop.now_ms - self.state.good_ms < GOOD_MS:
            self.was_good = True
        self.gateway.upstreams.suspect(self.state)

    cdef bint awaits_another(self) noexcept:
        """No endpoint takes a connection. Where one has just gone, wait for the table that says who replaces it, or for it."""
        cdef uint64_t now = self.gateway.loop.now_ms
        cdef uint64_t until = self.replaced_until if self.replaced_until else now + REPLACED_MS
        if not self.was_good or most(self) < 2 or now >= until or (
                self.request_until and now + LOOK_MS >= self.request_until):
            return False
        self.replaced_until, self.extended = until, True
        self.set_alarm()
        self.avoid = NO_BACKEND
        self.attempts = 0
        self.attempt_until = 0
        self.retry_at = now + LOOK_MS
        self.schedule()
        return True

    cdef const Endpoint *begin_attempt(self) noexcept:
        """Its time runs. The endpoint that it was given in a queue, or that its session wants; NULL: to be chosen."""
        cdef const Endpoint *granted = self.granted
        self.granted = NULL
        if self.policy != NULL and self.policy.backend_ms:
            self.attempt_until = self.gateway.loop.now_ms + self.policy.backend_ms
            self.schedule()
        return granted if granted != NULL else self.session_place()

    cdef const Endpoint *session_place(self) noexcept:
        """Its session's endpoint, or NULL: it has none, or (waits_for_session) that one takes no more."""
        cdef const Endpoint *endpoint = self.session_endpoint() if self.session.known else NULL
        self.waits_for_session = False
        return endpoint if endpoint == NULL or not self.backend.flags & BACKEND_LIMITED or self.enter_session() else NULL

    cdef bint enter_session(self) noexcept:
        """Whether its session's endpoint takes one more, and nobody waits for it."""
        cdef Upstreams upstreams = self.gateway.upstreams
        self.waits_for_session = upstreams.is_before(self.backend, True) or not upstreams.enter(
            self.image, self.backend, self.chosen)
        if self.waits_for_session:
            self.chosen = NO_BACKEND
        return not self.waits_for_session

    cdef void line_up(self) noexcept:
        """Every endpoint has as many requests as its policy allows: wait for a turn."""
        if self.attempt_until:
            self.attempt_until = 0
            self.schedule()
        self.extended = True
        if self.gateway.upstreams.wait(self, self.backend, self.waits_for_session) < 0:
            self.fail(FAULT_QUEUE_FULL)

    cdef int turn(self) noexcept:
        cdef Upstreams upstreams = self.gateway.upstreams
        self.granted = self.session_place()
        if self.waits_for_session:
            return -1
        if self.granted == NULL:
            self.granted = upstreams.choose(self.image, self.backend, self.avoid, &self.chosen)
        if self.granted == NULL:
            return 0
        upstreams.leave(self)
        self.attempt()
        return 1

    cdef void turned_away(self) noexcept:
        self.fail(FAULT_QUEUE_TIMEOUT)

    cdef const Endpoint *session_endpoint(self) noexcept:
        cdef const Image *image = self.image
        cdef uint32_t at
        if self.retries or self.avoid != NO_BACKEND or (
                self.choice.persistence == 0 or self.session.token.backend != self.backend.id):
            return NULL
        at = endpoint_of(&self.session, image, self.backend)
        if at == NO_CHOICE:
            return NULL
        if self.backend.flags and not self.gateway.upstreams.serves(image, self.backend, at):
            return NULL
        self.chosen = at
        return endpoint_at(image, self.backend.endpoints.first + at)

    cdef void renew_session(self) noexcept:
        cdef const Image *image = self.image
        cdef Gateway gateway = self.gateway
        if self.state == NULL or self.choice.persistence == 0:
            return
        if self.session.known and self.session.token.backend == self.backend.id and (
                endpoint_of(&self.session, image, self.backend) == self.chosen):
            return
        if say_session(&self.session, self.table.image, self.backend,
                       endpoint_at(image, self.backend.endpoints.first + self.chosen), self.secure(), gateway.session_key,
                       &gateway.loop.pool, &self.added) == 0:
            self.ops.added = self.added.base
            self.ops.added_n = waiting(&self.added)

    cdef void transmit(self) noexcept:
        cdef Upstream upstream = self.upstream
        cdef uint32_t trailers = waiting(&self.early) - self.early_body
        if upstream.send_request(self.request.base + self.request.start, waiting(&self.request), self.chunked,
                                 self.early.base + self.early.start, self.early_body,
                                 self.requested and not trailers) < 0:
            # in clear a socket that is broken has taken nothing of it
            self.upstream_reset(upstream.fd >= 0 and upstream.tls is None and (errno == EPIPE or errno == ECONNRESET))
            return
        if trailers and upstream.send_trailers(self.early.base + self.early.start + self.early_body, trailers) < 0:
            self.broken()
            return
        if self.requested:
            await_reply(self)
            return
        # Half sent, a backend of HTTP/2 may say that it has not looked at it (RFC 9113 8.7), and any connection may end.
        if upstream.fd < 0 or idempotent(self.method_id):
            self.keeping = self.extended = True
        self.client.resume()

    cdef void upstream_open(self) noexcept:
        self.transmit()

    cdef void upstream_drained(self) noexcept:
        if self.tunnel:
            self.close_half()
        if self.upstream is not None and (self.tunnel or not self.requested):
            if self.replied:
                await_more(self)
            self.client.resume()

    cdef void upstream_failed(self, int fault) noexcept:
        """A connection could not be made: nothing was sent, so any other endpoint will do; and the only one again, where it was
        made and reset at once."""
        cdef bint made = (fault == FAULT_CONNECT and self.backend.endpoints.count < 2 and most(self) > 1
                          and was_made(self.upstream))
        self.connect_fault = fault
        self.refused()
        if self.backend.flags:
            self.gateway.upstreams.failed(self.state, self.image, self.backend)
        if made and self.again(True):
            self.resend(True)
            return
        self.avoid = self.chosen
        self.drop_upstream()
        self.look_again()
        self.attempt()

    cdef void upstream_late(self) noexcept:
        if self.upstream.status == CONNECTING:
            if self.attempts >= self.backend.endpoints.count or self.attempts >= most(self):
                self.fail(FAULT_CONNECT_TIMEOUT)
            else:
                self.upstream_failed(FAULT_CONNECT_TIMEOUT)
        elif self.client.out.base != NULL or not (self.requested or self.replied):
            await_reply(self)      # it is the client that is slow, and timed on its own
        elif self.tunnel:
            self.finish(False)
        else:
            self.fail(FAULT_STREAM_IDLE if self.replied else FAULT_UPSTREAM_TIMEOUT)

    cdef void drop_upstream(self) noexcept:
        cdef Upstream upstream = self.upstream
        if upstream is not None:
            self.upstream = None
            if self.tunnel and self.fault and not ended_by_fin(self.client):
                upstream.abort()   # what was cut stays cut on the other side (RFC 9113 8.5)
            else:
                upstream.close()
        if self.state != NULL:
            self.gateway.upstreams.done(self.state)
            self.state = NULL

    cdef bint again(self, bint refused) noexcept:
        """Whether the request may be sent once more (see exchange.pxd). refused: nobody has looked at it."""
        cdef Upstream upstream = self.upstream
        if self.streamed or self.informed or self.resent >= RESENT:
            return False
        if refused:
            return True
        if upstream.input.base != NULL or not idempotent(self.method_id) or most(self) < 2:
            return False
        if upstream.reused and self.resent == 0:
            return True
        if upstream.fd < 0 and not upstream.hangup:
            return False           # a stream that was reset by a backend that is there: that is its answer
        if self.policy != NULL and self.policy.attempts:
            return False           # its rule says how often, and how soon
        if self.gateway.loop.now_us - self.started_us >= self.response_ms * 1000:
            return False
        return self.backend.budget_ms == 0 or self.gateway.upstreams.may_retry(self.image, self.backend, self.chosen)

    cdef void resend(self, bint refused) noexcept:
        """On a connection of its own: at another endpoint, where that says nothing against a session's, or who refused it may be
        asked once more."""
        cdef bint first = self.resent == 0
        cdef bint stale = refused or self.upstream.reused
        if not stale:
            self.state.suspect_until = self.gateway.loop.now_ms + SUSPECT_MS
            if self.backend.flags:
                self.gateway.upstreams.failed(self.state, self.image, self.backend)
        self.resent += 1
        self.gateway.counters.totals.upstream_retries += 1
        self.avoid = NO_BACKEND if first and stale and (refused or self.session.known) else self.chosen
        self.fresh = first or not refused or self.backend.endpoints.count < 2
        self.attempts = 0
        self.drop_upstream()
        self.look_again()
        self.attempt()

    cdef void look_again(self) noexcept:
        """Before another attempt: the endpoints are those of the table of now, which may have replaced what failed."""
        cdef MappedTable table = self.gateway.table
        cdef const Backend *backend
        cdef const Endpoint *failed = NULL
        if table is self.table or table is self.newer or most(self) < 2:
            return
        backend = backend_of(table.image, self.backend.id)
        if backend == NULL or backend.endpoints.count == 0 or backend.protocol > PROTO_WS:
            return
        if self.avoid != NO_BACKEND:
            failed = endpoint_at(self.image, self.backend.endpoints.first + self.avoid)
        self.chosen = self.avoid = place_of(table.image, backend, failed)
        self.image, self.backend, self.newer = table.image, backend, table     # `failed` may have gone with the one before
        self.attempts = 0
        self.extended = True

    cdef bint came_too_late(self, bint reset) noexcept:
        """Whether the connection had been ended before the request came, so that nobody has looked at it."""
        cdef Upstream upstream = self.upstream
        if not self.requested or upstream.input.base != NULL or upstream.fd < 0:
            return False
        if upstream.tls is not None:
            return has_unread(upstream, reset, upstream.posted - upstream.mark)
        return not self.chunked and has_unread(upstream, reset, waiting(&self.request) + self.early_body)

    cdef void broken(self) noexcept:
        """The connection ended before the head of the response."""
        self.upstream_reset(False)

    cdef void upstream_reset(self, bint refused) noexcept:
        if self.tunnel or self.replied:
            self.fail(FAULT_UPSTREAM_CUT)
        elif self.again(refused):
            self.resend(refused)
        else:
            self.fail(FAULT_UPSTREAM_RESET)

    cdef void upstream_bad(self) noexcept:
        self.fail(FAULT_UPSTREAM_BAD)

    cdef bint upstream_wanted(self) noexcept:
        return self.client.out.base == NULL and not self.paused

    cdef bint upstream_moves(self) noexcept:
        return True

    cdef void upstream_moved(self, Upstream upstream) noexcept:
        self.upstream = upstream
        upstream.waiter = self

    # -- the response --------------------------------------------------------------------------------------------------

    cdef void upstream_readable(self) noexcept:
        cdef Upstream upstream = self.upstream
        cdef Loop loop = self.gateway.loop
        cdef uint32_t serial = self.serial
        cdef size_t used
        cdef ssize_t n
        cdef char *at
        cdef int reads = 0
        while upstream.readable and self.client.out.base == NULL and not self.paused:
            reads += 1
            if reads > READS:          # others want their turn: the kernel announces the rest again
                loop.watch(upstream, EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET)
                return
            at = loop.reply
            n = upstream.read(at, READ)
            if n <= 0:
                if n != READ_AGAIN:
                    self.upstream_eof(n == READ_BROKEN)
                return
            if upstream.input.base != NULL:
                if append(&loop.pool, &upstream.input, at, n) < 0:
                    self.fail(FAULT_INTERNAL)
                    return
                used = self.take_reply(upstream.input.base + upstream.input.start, waiting(&upstream.input))
                if self.serial != serial or self.upstream is not upstream:
                    return
                consume(&loop.pool, &upstream.input, <uint32_t>used)
            else:
                used = self.take_reply(at, n)
                if self.serial != serial or self.upstream is not upstream:
                    return
                if used < <size_t>n and append(&loop.pool, &upstream.input, at + used, n - used) < 0:
                    self.fail(FAULT_INTERNAL)
                    return
            if self.replied:
                await_more(self)
                if n == READ and self.carry_reply(&reads) < 0:
                    return

    cdef int carry_reply(self, int *reads) noexcept:
        """A body fills whole reads: let the rest go to the client past us, as long as it may. -1: the connection has no more."""
        cdef Upstream upstream = self.upstream
        cdef ssize_t n
        while (self.body.left > TAKE and not self.tunnel and self.body.framing == FRAMING_LENGTH
               and self.response_filters is None and upstream.readable and self.client.out.base == NULL and reads[0] < READS
               and joined(upstream, self.client)):
            reads[0] += 1
            n = carry(upstream, self.client, TAKE)
            if n <= 0:
                if n < READ_BROKEN:
                    self.client_gone()
                elif n != READ_AGAIN:
                    self.upstream_eof(n == READ_BROKEN)
                return -1
            self.body.left -= n
            self.bytes_out += n
            await_more(self)
        return 0

    cdef void upstream_eof(self, bint reset) noexcept:
        if self.tunnel and reset and ended_by_fin(self.upstream):
            self.fault = FAULT_UPSTREAM_CUT
            self.finish(False)
        elif self.tunnel and reset:
            self.fail(FAULT_UPSTREAM_CUT)
        elif self.tunnel:
            self.upstream_ended = True
            self.close_half()
        elif not self.replied:
            self.upstream_reset(self.came_too_late(reset))
        elif self.body.framing == FRAMING_CLOSE and not reset:
            self.keep_upstream = False
            if self.client.data(NULL, 0, True) < 0:
                self.client_gone()
            else:
                self.reply_ended()
        else:
            self.fail(FAULT_UPSTREAM_CUT)

    cdef size_t take_reply(self, char *at, size_t n) noexcept:
        """Use what the upstream sent; return how many bytes were used. May end the exchange."""
        if self.tunnel:
            self.bytes_out += n
            if self.client.send(at, n) < 0:
                self.client_gone()
            return n
        if not self.replied:
            return self.take_head(at, n)
        if self.body.trailing:
            return self.take_trailers(at, n)
        return self.take_body(at, n, False)

    cdef size_t take_head(self, char *at, size_t n) noexcept:
        cdef ResponseHead *head = &self.gateway.reply
        cdef size_t used = 0
        cdef int result
        while True:
            result = parse_response(at + used, <uint32_t>(n - used), self.seen, &self.gateway.limits, self.method_id, head)
            if result == PARTIAL:
                self.seen = <uint32_t>(n - used)
                return used
            self.seen = 0
            if result < 0 or (head.status == 101 and not (self.upgrade and head.upgrade)):
                self.fail(FAULT_UPSTREAM_BAD)
                return n
            used += result
            if head.status == 101 or head.status >= 200:
                break
            if not self.inform():
                return n
        if self.extended:
            if self.opens_nothing():
                self.fail(FAULT_UPSTREAM_BAD)
                return n
            if self.policy != NULL and self.retry(head.status, False):
                return n
        if head.status == 101:
            self.switch(at + used, n - used)
            return n
        body_start(&self.body, head.framing, head.content_length, True)
        self.keep_upstream = head.keep_alive and head.framing != FRAMING_CLOSE
        if self.extended and self.response_filters is not None and self.response_filters_wait():
            return used            # the rest waits with the upstream
        return used + self.take_body(at + used, n - used, True)

    cdef bint opens_nothing(self) noexcept:
        """Whether the response in gateway.reply would be taken for a tunnel that is none: to an extended CONNECT any 2xx says
        that there is one (RFC 8441 5), and of HTTP/1.1 only a 101 to this protocol opens it."""
        cdef ResponseHead *head = &self.gateway.reply
        cdef uint32_t i
        if not self.upgrade or self.client.fd >= 0:
            return False
        if head.status != 101:
            return 200 <= head.status < 300
        for i in range(head.count):
            if head.fields[i].id == FIELD_UPGRADE:
                return head.fields[i].value_len != 9 or not same(head.fields[i].value, b"websocket", 9)
        return True

    cdef bint inform(self) noexcept:
        """Pass a 1xx on; False where that ended the exchange."""
        self.informed += 1
        if self.informed > INFORMED:
            self.fail(FAULT_UPSTREAM_BAD)
            return False
        if self.minor and self.client.inform(&self.gateway.reply) < 0:
            self.client_gone()
            return False
        return True

    cdef void switch(self, const char *at, size_t n) noexcept:
        """The response is a 101: from here on bytes go both ways; n have come already."""
        self.status = self.gateway.reply.status
        self.replied_us = self.gateway.loop.now_us
        self.tunnel = self.replied = True
        if self.session.by != NULL:
            self.renew_session()
        if self.policy != NULL:
            self.end_policy()      # they are of requests and their answers
        release(&self.gateway.loop.pool, &self.request)    # never sent again; a tunnel is long
        release(&self.gateway.loop.pool, &self.early)
        self.gateway.counters.totals.tunnels += 1
        if self.client.respond(&self.gateway.reply, &self.ops, at, n, False) < 0:
            self.client_gone()
        else:
            self.bytes_out += n
            await_more(self)
            self.client.resume()

    cdef int pass_reply(self, bint first, const char *at, size_t n, bint end) noexcept:
        """Give the client the head, if it is the first time, and a part of the body. -1: that ended the exchange."""
        cdef const char *left
        cdef size_t left_n
        cdef int result = 0
        if self.extended:
            if first and self.session.by != NULL:
                self.renew_session()
            if self.response_filters is not None:
                left, left_n = at, n
                if self.filter_body(&left, &left_n, end) < 0:
                    self.fail(FAULT_EXTENSION)
                    return -1
                at, n = left, left_n
        self.bytes_out += n
        if first:
            self.status = self.gateway.reply.status
            self.replied_us = self.gateway.loop.now_us
            self.replied = True
            result = self.client.respond(&self.gateway.reply, &self.ops, at, n, end)
        elif n or end:
            result = self.client.data(at, n, end)
        if result < 0:
            self.client_gone()
        return result

    cdef void upstream_reply(self, const char *at, size_t n, bint end) noexcept:
        if self.extended and self.opens_nothing():
            self.fail(FAULT_UPSTREAM_BAD)
        elif self.gateway.reply.status == 101:
            self.switch(at, n)
        elif self.gateway.reply.status < 200:
            self.inform()
        elif self.policy == NULL or not self.retry(self.gateway.reply.status, False):
            self.keep_upstream = True
            if self.response_filters is not None:
                self.kept_end = end
                if append(&self.gateway.loop.pool, &self.kept, at, n) < 0:
                    self.fail(FAULT_INTERNAL)
                else:
                    self.ask_response_filter()
            elif self.pass_reply(True, at, n, end) == 0:
                self.reply_goes_on(end)

    cdef void upstream_data(self, const char *at, size_t n, bint end) noexcept:
        if self.tunnel:
            if n:
                await_more(self)
                self.take_reply(<char *>at, n)
            if end and self.client is not None:
                self.upstream_eof(False)
        elif self.pass_reply(False, at, n, end) == 0:
            self.reply_goes_on(end)

    cdef int end_body_filters(self) noexcept:
        """Trailers come: the body is over, and those that watch it may have a last word."""
        cdef const char *last = NULL
        cdef size_t n = 0
        if self.response_filters is None:
            return 0
        if self.filter_body(&last, &n, True) < 0:
            self.fail(FAULT_EXTENSION)
            return -1
        if n and self.client.data(last, n, False) < 0:
            self.client_gone()
            return -1
        return 0

    cdef void upstream_trailers(self, const char *at, size_t n) noexcept:
        if self.end_body_filters() < 0:
            return
        if self.client.trailers(at, n) < 0:
            self.client_gone()
        else:
            self.reply_ended()

    cdef void reply_goes_on(self, bint end) noexcept:
        if end:
            self.reply_ended()
        else:
            await_more(self)

    cdef size_t take_body(self, char *at, size_t n, bint first) noexcept:
        cdef size_t used, payload
        cdef char *data
        cdef bint end
        cdef int result = body_next(&self.body, at, n, &used, &data, &payload)
        if result == BODY_BAD:
            self.fail(FAULT_UPSTREAM_BAD)
            return n
        if result == BODY_TRAILERS and n - used >= 2 and at[used] == 13 and at[used + 1] == 10:
            used += 2          # no trailers: the usual end, in one piece with the rest
            result = BODY_END
        end = result == BODY_END
        if end and used < n:
            self.keep_upstream = False     # bytes that nobody asked for: nobody else may see them
        if self.pass_reply(first, data, payload, end) < 0:
            return n
        if end:
            self.reply_ended()
            return n
        if self.body.trailing:
            return used + self.take_trailers(at + used, n - used)
        return used

    cdef size_t take_trailers(self, char *at, size_t n) noexcept:
        cdef uint32_t kept
        cdef int result = sift_trailers(at, <uint32_t>n, &self.gateway.limits, &kept)
        if result == PARTIAL:
            return 0
        if result < 0:
            self.fail(FAULT_UPSTREAM_TRAILERS if result == BAD_FIELDS_LARGE else FAULT_UPSTREAM_BAD)
            return n
        if <size_t>result < n:
            self.keep_upstream = False
        if self.end_body_filters() < 0:
            return n
        if self.client.trailers(at, kept) < 0:
            self.client_gone()
        else:
            self.reply_ended()
        return n

    cdef void reply_ended(self) noexcept:
        cdef Upstream upstream = self.upstream
        if self.keep_upstream and self.requested and upstream.out.base == NULL:
            self.upstream = None
            upstream.park()
        self.finish(self.requested)

    # -- tunnels -------------------------------------------------------------------------------------------------------

    cdef void tunnel_data(self, const char *at, size_t n) noexcept:
        self.bytes_in += n
        if self.upstream.send(at, n) < 0:
            self.finish(False)
            return
        await_more(self)

    cdef void tunnel_end(self) noexcept:
        """The client sent its last byte."""
        self.client_ended = True
        self.close_half()

    cdef void close_half(self) noexcept:
        """Pass the end of one direction on when everything before it was."""
        if self.client_ended and self.upstream.out.base == NULL:
            self.upstream.half_close()
        if self.upstream_ended and self.client.out.base == NULL:
            self.client.half_close()
        if (self.client_ended and self.upstream_ended and self.upstream.out.base == NULL
                and self.client.out.base == NULL):
            self.finish(False)

    # -- the end -------------------------------------------------------------------------------------------------------

    cdef void client_drained(self) noexcept:
        """Everything that waited for the client was sent: read on."""
        if self.tunnel:
            self.close_half()
        if self.upstream is not None:
            if self.replied and not self.paused:
                await_more(self)
            self.upstream.pull()

    cdef void client_wrong(self, int fault) noexcept:
        self.fault = <uint8_t>fault
        self.finish(False)

    cdef void client_gone(self) noexcept:
        self.fault = FAULT_CLIENT_GONE
        self.finish(False)

    cdef void fail(self, int fault) noexcept:
        cdef const FaultRow *row = fault_row(fault)
        if (row.retried != RETRIED_NEVER and self.policy != NULL and self.launched
                and self.retry(row.status, row.retried == RETRIED_UNANSWERED)):
            return
        if self.replied or row.status == 0:
            self.fault = fault
            self.client.abort()
            self.finish(False)
        else:
            self.answer(row.status, fault, NULL, 0)

    cdef void answer(self, int status, int fault, const char *location, size_t n) noexcept:
        """Answer instead of an upstream."""
        self.status = status
        self.fault = fault
        if location == NULL and self.method_id != METHOD_HEAD:
            self.bytes_out = answer_size(status)
        if self.gateway.loop.now_us == self.started_us:
            self.gateway.loop.clock()      # answered in the round that it came in: the round's time says nothing
        self.finish(self.client.answer(status, &self.ops, location, n) == 0)

    cdef void finish(self, bint keep) noexcept:
        cdef Exchange alive = self     # the client's reference may be the last one
        cdef Gateway gateway = self.gateway
        cdef Downstream client = self.client
        cdef Counters counters = gateway.counters
        invariant(client is not None and client.exchange is self and counters.totals.requests_open > 0)
        counters.totals.requests_open -= 1
        if self.fault:
            counters.totals.faults[self.fault] += 1
        # a response that begins in the round of its request took a microsecond: 0 says that there was none
        counters.count(self.rule.counter if self.rule != NULL else 1,
                       self.backend.counter if self.backend != NULL else NO_ROW, self.status, self.bytes_in, self.bytes_out,
                       gateway.loop.now_us - self.started_us, self.replied_us - self.started_us | 1 if self.replied_us else 0)
        if gateway.log.format:
            self.record()
        if self.extended:
            self.settle()
        if self.state != NULL:
            if self.replied:
                self.state.good_ms = gateway.loop.now_ms
            if self.backend.flags:
                self.judge()
            if self.upstream is not None:
                self.drop_upstream()
            else:                  # the usual end: it is parked
                gateway.upstreams.done(self.state)
                self.state = NULL
        release(&gateway.loop.pool, &self.request)
        if self.early.base != NULL:
            release(&gateway.loop.pool, &self.early)
        if self.facts.base != NULL:
            release(&gateway.loop.pool, &self.facts)
        client.exchange = None
        self.client = None
        self.table = self.newer = None
        self.reset()
        self.next_spare = gateway.spare
        gateway.spare = alive
        client.done(keep)

    cdef void judge(self) noexcept:
        cdef bint bad = self.status >= 500
        if self.fault:
            bad = fault_row(self.fault).side == SIDE_UPSTREAM or (self.fault == FAULT_REQUEST_TIMEOUT and self.requested)
        if bad:
            self.gateway.upstreams.failed(self.state, self.image, self.backend)
        elif not self.fault:
            health_succeeded(self.state.health)

    cdef void settle(self) noexcept:
        cdef Subrequest call
        self.extended = self.waits_for_session = self.keeping = self.prerouting = False
        self.granted = NULL
        if self.queue != NULL:
            self.gateway.upstreams.leave(self)
        self.filter_at = self.prefer = NONE
        self.keep = READ
        while self.mirrors is not None:
            call = self.mirrors
            self.mirrors = call.next
            call.let_go()
        if self.request_filter is not None:
            self.request_filter.drop()
            self.request_filter = None
        if self.policy != NULL or self.replaced_until:
            self.end_policy()
        release(&self.gateway.loop.pool, &self.added)
        if self.session.by != NULL:
            release(&self.gateway.loop.pool, &self.session.others)
            self.session.by, self.session.known = NULL, False
        if self.response_filters is not None:
            for filter in self.response_filters:
                (<RequestFilter>filter).drop()
            self.response_filters = None
            release(&self.gateway.loop.pool, &self.answer_head)
            release(&self.gateway.loop.pool, &self.kept)
            self.response_filters_asked = 0
            self.paused = self.at_once = False

    cdef void reset(self) noexcept:
        self.serial += 1
        self.rule = NULL
        self.listener = NULL
        self.choice = NULL
        self.backend = NULL
        self.seen = self.attempts = self.informed = self.early_body = 0
        self.chosen = self.avoid = NO_BACKEND
        self.bytes_in = self.bytes_out = self.replied_us = self.id[0] = self.id[1] = 0
        self.status = 0
        self.fault = self.connect_fault = self.resent = self.tried = 0
        self.requested = self.streamed = self.launched = self.extended = self.replied = self.fresh = False
        self.was_good = False
        self.keep_upstream = self.tunnel = self.client_ended = self.upstream_ended = False

    cdef void record(self) noexcept:
        cdef Record record
        cdef const Image *image = self.table.image
        cdef Slice *parts[FACTS]
        cdef uint32_t i, at = 0
        cdef char id[36]
        cdef Out out
        memset(&record, 0, sizeof(record))
        parts[0] = &record.method
        parts[1] = &record.target
        parts[2] = &record.host
        parts[3] = &record.agent
        parts[4] = &record.referer
        parts[5] = &record.request_id
        for i in range(FACTS):
            parts[i].at = self.facts.base + at
            parts[i].n = self.facts_n[i]
            at += self.facts_n[i]
        if self.id[0] and record.request_id.n == 0:
            out.at = id
            out.end = id + sizeof(id)
            out.full = False
            put_id(&out, self.id)
            record.request_id.at = id
            record.request_id.n = sizeof(id)
        record.client = self.client_address()
        say_tls(&record, self.client.session())
        record.minor = self.minor
        record.status = self.status
        record.flags = fault_row(self.fault).word
        record.attempts = self.tried
        record.bytes_in = self.bytes_in
        record.bytes_out = self.bytes_out
        record.duration_us = self.gateway.loop.now_us - self.started_us
        record.upstream_us = self.replied_us - self.started_us if self.replied_us else 0
        if self.listener != NULL:
            record.listener.at = text(image, self.listener.id)
            record.listener.n = self.listener.id.n
        if self.rule != NULL:
            record.route.at = text(image, self.rule.route)
            record.route.n = self.rule.route.n
            record.rule = self.rule.rule_index
        if self.backend != NULL:
            record.backend.at = text(self.image, self.backend.name)
            record.backend.n = self.backend.name.n
        if self.state != NULL:
            record.endpoint.at = self.state.name
            record.endpoint.n = self.state.name_n
        self.gateway.log.line(&record)
