"""One request from its head to its answer's last byte: the class that acts (see exchange.pxd).

Rules
- finish() is the last thing that happens to an exchange, and whatever is called may come to it: behind a call nothing of the
  exchange is touched, unless `serial` and `upstream` are the same as before.
- What plain requests never need is not here: they ask once whether there are `extras`, and go on.
"""
cimport cython
from cpython.object cimport PyObject
from cpython.ref cimport Py_DECREF, Py_INCREF
from libc.errno cimport ECONNRESET, EPIPE
from libc.stdint cimport uint8_t, uint32_t

from gwfast._match cimport AMBIGUOUS, FOUND, UNSTATED, Found, find
from gwfast._pick cimport pick
from gwfast.engine.counters cimport NO_ROW, Counters
from gwfast.engine.loop cimport READ, READ_AGAIN, READ_BROKEN, READS, Loop, Peer, append, consume, release, waiting
from gwfast.engine.socket_state cimport has_unread, was_made
from gwfast.engine.sys cimport *
from gwfast.exchange.access_record cimport keep_facts, log_exchange
from gwfast.exchange.deadlines cimport DUE_ATTEMPT, DUE_REQUEST, DUE_RETRY, what_is_due
from gwfast.exchange.exchange cimport (NONE, Downstream, Exchange, Extras, Gateway, await_more, endpoints_to_try,
                                       has_response_filters, is_paused, need_extras, policy_of)
from gwfast.exchange.mirrors cimport drop_mirrors, mirror_body
from gwfast.exchange.placement cimport begin_attempt, line_up, look_again, renew_session, session_place
from gwfast.exchange.policy cimport awaits_another, begin_policy, end_policy, retry, schedule
from gwfast.exchange.request_filters cimport (apply_ops, apply_until, ask, backend_chosen, filter_first, next_filter,
                                              skip_ops)
from gwfast.exchange.request_head cimport answer_op, apply_cors, prepare, state_client
from gwfast.exchange.response_filters cimport (ask_response_filter, drop_response_filters, end_body_filters, filter_body,
                                               response_filters_wait)
from gwfast.exchange.retry cimport RESEND_IN_BUDGET, RESEND_NEVER, EndedAttempt, may_resend, tries_again
from gwfast.exchange.session cimport remember
from gwfast.http.body cimport BODY_BAD, BODY_END, BODY_TRAILERS, body_next, body_start
from gwfast.http.bytes cimport same
from gwfast.http.fault cimport *
from gwfast.http.forwarded cimport read_source
from gwfast.http.head cimport *
from gwfast.http.header_writer cimport Ops, answer_size, answering, set_ops, total
from gwfast.http1.chunked cimport sift_trailers
from gwfast.http1.parser cimport parse_response
from gwfast.l4.splice cimport TAKE, carry, joined
from gwfast.table.layout cimport *
from gwfast.upstream.endpoint_state cimport health_succeeded
from gwfast.upstream.pool cimport CONNECTING, SUSPECT_MS, Upstream, Upstreams

cdef extern from "netinet/tcp.h" nogil:
    enum:
        TCP_INFO
        TCP_CLOSE_WAIT
    struct tcp_info:
        uint8_t tcpi_state

cdef enum:
    INFORMED = 16          # limits.INFORMATIONAL_RESPONSES
    RETRY_BODY = 65536     # limits.RETRY_BODY_BYTES
    EXTRA_FLAGS = RULE_POLICY | RULE_REQUEST_FILTERS | RULE_CORS | RULE_MIRRORS | RULE_SESSIONS     # a rule that needs Extras
    GOOD_MS = 2000         # who answered so lately and refuses connections has just gone: who replaces it may be told of soon


@cython.no_gc
cdef class ForwardingGateway(Gateway):
    cdef Exchange exchange(self):
        cdef Exchange exchange
        if self.spare == NULL:
            exchange = ForwardedExchange.__new__(ForwardedExchange)
            exchange.gateway = self
        else:
            exchange = <Exchange>self.spare
            self.spare = exchange.next_spare
            Py_DECREF(exchange)        # the list's
        return exchange


# Whether a connection over TLS ended with a FIN alone, as many peers do that have said all in their own protocol: no reset.
cdef bint ended_by_fin(Peer peer) noexcept:
    cdef tcp_info now
    cdef socklen_t n = sizeof(now)
    return peer.fd >= 0 and peer.tls is not None and (
        getsockopt(peer.fd, IPPROTO_TCP, TCP_INFO, &now, &n) == 0 and now.tcpi_state == TCP_CLOSE_WAIT)


# Not methods: those are never inlined, and every request comes through all three.
cdef inline int pick_choice(ForwardedExchange self, const Found *found, uint32_t prefer) noexcept:
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


cdef inline int find_backend(ForwardedExchange self, RequestHead *head, const Found *found, const Bind *bind, uint32_t since,
                             uint32_t prefer) noexcept:
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
        if pick_choice(self, found, prefer) != 0:
            return 1
        if self.choice.ops.count:
            self.ops.first[1] = rest.first[1] = op_at(image, self.choice.ops.first)
            self.ops.count[1] = rest.count[1] = self.choice.ops.count
            if found.rule.flags & RULE_CORS and apply_cors(self, head, self.ops.first[1], self.ops.count[1]) != 0:
                return 1
    if op == NULL and self.ops.count[1]:
        if found.rule.flags & RULE_REQUEST_FILTERS and next_filter(&self.ops, since) < total(&self.ops):
            return apply_until(self, head, next_filter(&self.ops, since), found, bind, since)
        op = answering(ops)
    if op != NULL:
        answer_op(self, head, op, found, bind)
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
    if prepare(self, head, ops, found) < 0:
        self.fail(FAULT_INTERNAL)
        return 1
    return 0


cdef inline int enter_rule(ForwardedExchange self, RequestHead *head, const Found *found, const Bind *bind, int result) noexcept:
    """Go the way of the rule that was found; `result` is find()'s. As begin()."""
    cdef const Image *image = self.table.image
    cdef uint32_t prefer = NONE
    if result != FOUND:
        set_ops(&self.ops, image, 0, 0)
        self.fail(FAULT_AMBIGUOUS if result == AMBIGUOUS else FAULT_FIELDS_LARGE if result == UNSTATED else FAULT_NO_RULE)
        return 1
    self.rule = found.rule
    set_ops(&self.ops, image, found.rule.ops.first, found.rule.ops.count)
    if found.rule.flags & EXTRA_FLAGS:
        self.ops.added_n = 0
        if need_extras(self) < 0:
            self.fail(FAULT_INTERNAL)
            return 1
        if found.rule.flags & RULE_POLICY:
            begin_policy(self)
        if found.rule.flags & RULE_CORS and apply_cors(self, head, self.ops.first[0], self.ops.count[0]) != 0:
            return 1
        if found.rule.flags & RULE_SESSIONS:
            prefer = self.extras.prefer = remember(&self.extras.session, image, found.rule, head, self.gateway.session_key,
                                                   &self.gateway.loop.pool)
        if found.rule.flags & RULE_REQUEST_FILTERS:
            self.extras.found, self.extras.bound = found[0], bind
            return apply_ops(self, head, found, bind, 0)
    if find_backend(self, head, found, bind, 0, prefer) != 0:
        return 1
    if found.rule.flags & (RULE_SESSIONS | RULE_MIRRORS):
        backend_chosen(self, head, found)
    return 0


# Whether it is lost where its connection turns out to have ended: an idle one is better looked at before.
cdef inline bint is_sent_once(ForwardedExchange self) noexcept:
    return not self.requested or (self.state.tls != 0 and not idempotent(self.method_id))


cdef inline void await_reply(ForwardedExchange self) noexcept:
    """The whole request is on its way: what comes next is the upstream's, and timed."""
    if self.replied:
        await_more(self)
    else:
        self.gateway.loop.arm(self.upstream, self.gateway.loop.now_ms + self.response_ms)


@cython.final
@cython.no_gc
cdef class ForwardedExchange(Exchange):
    # -- begin ---------------------------------------------------------------------------------------------------------

    cdef int begin(self, Downstream client, const Bind *bind, RequestHead *head) noexcept:
        cdef Gateway gateway = self.gateway
        cdef const Image *image
        cdef Found found
        cdef int result
        invariant(self.client is None and client.exchange is None)
        self.client = client
        client.exchange = self
        self.table = gateway.table
        self.started_us = gateway.loop.now_us
        self.method_id = head.method_id
        self.minor = head.minor
        self.upgrade = head.upgrade
        self.chunked = head.framing == FRAMING_CHUNKED
        self.requested = head.framing != FRAMING_CHUNKED and head.content_length == 0
        self.response_ms = gateway.response_ms
        gateway.counters.totals.requests += 1
        gateway.counters.totals.requests_open += 1
        if gateway.log.format:
            keep_facts(self, head)
        if client.trusted:
            read_source(&self.source, head, gateway.trusted, client.https)
        self.image = image = self.table.image
        result = find(image, bind, head, &found)
        if result == UNSTATED and state_client(self, head) == 0:
            result = find(image, bind, head, &found)
        self.listener = found.listener
        if client.listener_id and found.listener != NULL and found.listener.identity != client.listener_id:
            set_ops(&self.ops, image, 0, 0)
            self.fail(FAULT_MISDIRECTED)       # another listener's, to be asked for with its own TLS (RFC 9110 7.4)
            return 1
        if found.listener != NULL and found.listener.front:
            if need_extras(self) < 0:
                set_ops(&self.ops, image, 0, 0)
                self.fail(FAULT_INTERNAL)
                return 1
            return filter_first(self, head, &found, bind)
        return enter_rule(self, head, &found, bind, result)

    cdef int enter(self, RequestHead *head, const Found *found, const Bind *bind, int result) noexcept:
        return enter_rule(self, head, found, bind, result)

    cdef int choose_backend(self, RequestHead *head, const Found *found, const Bind *bind, uint32_t since,
                            uint32_t prefer) noexcept:
        return find_backend(self, head, found, bind, since, prefer)

    # -- the request's body --------------------------------------------------------------------------------------------

    cdef bint wants(self) noexcept:
        if not self.launched:
            return waiting(&self.early) < (self.extras.keep if self.extras is not None else <uint32_t>READ)
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
            if self.extras is not None and self.extras.request_filter is not None:
                self.extras.request_filter.more()
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
        if self.extras is not None and self.extras.mirrors is not None:
            mirror_body(self, at, n, end, False)
        if self.upstream is not None:
            self.upstream.send_body(at, n, end)
            if (end or self.replied) and self.upstream is not None:
                await_reply(self)

    cdef bint carries(self, Peer source) noexcept:
        """Whether the rest of a body with a length may go to the upstream by request_carried()."""
        return (self.launched and not self.keeping and (self.extras is None or self.extras.mirrors is None)
                and self.upstream is not None and joined(source, self.upstream))

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
            if self.extras is not None and self.extras.request_filter is not None:
                self.extras.request_filter.more()
            return
        if not self.keeping or self.replied or append(&self.gateway.loop.pool, &self.early, at, n) < 0:
            self.streamed = True
        if self.extras is not None and self.extras.mirrors is not None:
            mirror_body(self, at, n, True, True)
        if self.upstream is not None:
            self.upstream.send_trailers(at, n)
            if self.upstream is not None:
                await_reply(self)

    # -- the upstream --------------------------------------------------------------------------------------------------

    cdef void launch(self) noexcept:
        if self.extras is not None and self.extras.filter_at != NONE:
            ask(self)
            return
        self.launched = True
        self.attempt()

    cdef void attempt(self) noexcept:
        """Choose an endpoint and take or open a connection to it."""
        cdef Upstreams upstreams = self.gateway.upstreams
        cdef const Endpoint *endpoint = NULL
        cdef Upstream upstream
        while not self.attempts or (self.attempts < endpoints_to_try(self) and self.attempts < self.backend.endpoints.count):
            if self.extras is not None:
                endpoint = begin_attempt(self)
                if self.extras.waits_for_session:
                    line_up(self)
                    return
            if endpoint == NULL:
                endpoint = upstreams.choose(self.image, self.backend, self.avoid, &self.chosen)
                if endpoint == NULL:
                    if self.backend.flags & BACKEND_LIMITED:
                        line_up(self)
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
        if not awaits_another(self):
            self.fail(self.connect_fault if self.connect_fault else FAULT_CONNECT)

    cdef void refused(self) noexcept:
        """Its endpoint takes no connections."""
        if self.gateway.loop.now_ms - self.state.good_ms < GOOD_MS:
            self.was_good = True
        self.gateway.upstreams.suspect(self.state)

    cdef void late(self) noexcept:
        cdef Extras extras = self.extras
        cdef int due = what_is_due(&extras.deadlines, self.gateway.loop.now_ms)
        if due == DUE_REQUEST:
            self.fail(FAULT_REQUEST_TIMEOUT)
        elif due == DUE_RETRY:
            extras.deadlines.retry = 0
            schedule(self)
            look_again(self)
            self.attempt()
        elif due == DUE_ATTEMPT:
            extras.deadlines.attempt = 0
            self.fail(FAULT_UPSTREAM_TIMEOUT)
        else:
            schedule(self)

    cdef int turn(self) noexcept:
        cdef Extras extras = self.extras
        cdef Upstreams upstreams = self.gateway.upstreams
        extras.granted = session_place(self)
        if extras.waits_for_session:
            return -1
        if extras.granted == NULL:
            extras.granted = upstreams.choose(self.image, self.backend, self.avoid, &self.chosen)
        if extras.granted == NULL:
            return 0
        upstreams.leave(self)
        self.attempt()
        return 1

    cdef void turned_away(self) noexcept:
        self.fail(FAULT_QUEUE_TIMEOUT)

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
            self.keeping = True
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
        cdef bint made = (fault == FAULT_CONNECT and self.backend.endpoints.count < 2 and endpoints_to_try(self) > 1
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
        look_again(self)
        self.attempt()

    cdef void upstream_late(self) noexcept:
        if self.upstream.status == CONNECTING:
            if self.attempts >= self.backend.endpoints.count or self.attempts >= endpoints_to_try(self):
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
        cdef const Policy *policy = policy_of(self)
        cdef Upstream upstream = self.upstream
        cdef EndedAttempt ended
        cdef int result
        ended.refused = refused
        ended.lost = self.streamed or self.informed != 0
        ended.received = upstream.input.base != NULL
        ended.idempotent = idempotent(self.method_id)
        ended.once = endpoints_to_try(self) < 2
        ended.reused = upstream.reused
        ended.reset = upstream.fd < 0 and not upstream.hangup
        ended.by_rule = policy != NULL and policy.attempts != 0
        ended.late = self.gateway.loop.now_us - self.started_us >= self.response_ms * 1000
        ended.resent = self.resent
        result = may_resend(&ended)
        if result != RESEND_IN_BUDGET or self.backend.budget_ms == 0:
            return result != RESEND_NEVER
        return self.gateway.upstreams.may_retry(self.image, self.backend, self.chosen)

    cdef void resend(self, bint refused) noexcept:
        """On a connection of its own: at another endpoint, where that says nothing against a session's, or who refused it may be
        asked once more."""
        cdef bint sticks = refused or (self.extras is not None and self.extras.session.known)
        cdef bint first = self.resent == 0
        cdef bint stale = refused or self.upstream.reused
        if not stale:
            self.state.suspect_until = self.gateway.loop.now_ms + SUSPECT_MS
            if self.backend.flags:
                self.gateway.upstreams.failed(self.state, self.image, self.backend)
        self.resent += 1
        self.gateway.counters.totals.upstream_retries += 1
        self.avoid = NO_BACKEND if first and stale and sticks else self.chosen
        self.fresh = first or not refused or self.backend.endpoints.count < 2
        self.attempts = 0
        self.drop_upstream()
        look_again(self)
        self.attempt()

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
        return self.client.out.base == NULL and not is_paused(self)

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
        while upstream.readable and self.client.out.base == NULL and not is_paused(self):
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
                if n == READ and self.body.left > TAKE and self.carry_reply(&reads) < 0:
                    return

    cdef int carry_reply(self, int *reads) noexcept:
        """A body fills whole reads: let the rest go to the client past us, as long as it may. -1: the connection has no more."""
        cdef Upstream upstream = self.upstream
        cdef ssize_t n
        if self.tunnel or self.body.framing != FRAMING_LENGTH or has_response_filters(self):
            return 0
        while (self.body.left > TAKE and upstream.readable and self.client.out.base == NULL and reads[0] < READS
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
        return self.take_body(NULL, at, n)

    cdef size_t take_head(self, char *at, size_t n) noexcept:
        cdef const Policy *policy = policy_of(self)
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
            if not self.inform(head):
                return n
        if self.upgrade and self.opens_nothing(head):
            self.fail(FAULT_UPSTREAM_BAD)
            return n
        if policy != NULL and tries_again(policy, head.status) and retry(self, head.status, False):
            return n
        if head.status == 101:
            self.switch(head, at + used, n - used)
            return n
        body_start(&self.body, head.framing, head.content_length, True)
        self.keep_upstream = head.keep_alive and head.framing != FRAMING_CLOSE
        if has_response_filters(self) and response_filters_wait(self, head):
            return used            # the rest waits with the upstream
        return used + self.take_body(head, at + used, n - used)

    cdef bint opens_nothing(self, const ResponseHead *head) noexcept:
        """Whether this response would be taken for a tunnel that is none: to an extended CONNECT any 2xx says that there is one
        (RFC 8441 5), and of HTTP/1.1 only a 101 to this protocol opens it."""
        cdef uint32_t i
        if not self.upgrade or self.client.fd >= 0:
            return False
        if head.status != 101:
            return 200 <= head.status < 300
        for i in range(head.count):
            if head.fields[i].id == FIELD_UPGRADE:
                return head.fields[i].value_len != 9 or not same(head.fields[i].value, b"websocket", 9)
        return True

    cdef bint inform(self, const ResponseHead *head) noexcept:
        """Pass a 1xx on; False where that ended the exchange."""
        self.informed += 1
        if self.informed > INFORMED:
            self.fail(FAULT_UPSTREAM_BAD)
            return False
        if self.minor and self.client.inform(head) < 0:
            self.client_gone()
            return False
        return True

    cdef void switch(self, const ResponseHead *head, const char *at, size_t n) noexcept:
        """The response is a 101: from here on bytes go both ways; n have come already."""
        self.status = head.status
        self.replied_us = self.gateway.loop.now_us
        self.tunnel = self.replied = True
        if self.extras is not None:
            if self.extras.session.by != NULL:
                renew_session(self)
            if self.extras.policy != NULL:
                end_policy(self)       # they are of requests and their answers
        release(&self.gateway.loop.pool, &self.request)    # never sent again; a tunnel is long
        release(&self.gateway.loop.pool, &self.early)
        self.gateway.counters.totals.tunnels += 1
        if self.client.respond(head, &self.ops, at, n, False) < 0:
            self.client_gone()
        else:
            self.bytes_out += n
            await_more(self)
            self.client.resume()

    cdef int pass_reply(self, const ResponseHead *head, const char *at, size_t n, bint end) noexcept:
        cdef const char *left
        cdef size_t left_n
        cdef int result = 0
        if self.extras is not None:
            if head != NULL and self.extras.session.by != NULL:
                renew_session(self)
            if self.extras.response_filters is not None:
                left, left_n = at, n
                if filter_body(self, &left, &left_n, end) < 0:
                    self.fail(FAULT_EXTENSION)
                    return -1
                at, n = left, left_n
        self.bytes_out += n
        if head != NULL:
            self.status = head.status
            self.replied_us = self.gateway.loop.now_us
            self.replied = True
            result = self.client.respond(head, &self.ops, at, n, end)
        elif n or end:
            result = self.client.data(at, n, end)
        if result < 0:
            self.client_gone()
        return result

    cdef void upstream_reply(self, const char *at, size_t n, bint end) noexcept:
        cdef const Policy *policy = policy_of(self)
        cdef const ResponseHead *head = &self.gateway.reply
        if self.upgrade and self.opens_nothing(head):
            self.fail(FAULT_UPSTREAM_BAD)
        elif head.status == 101:
            self.switch(head, at, n)
        elif head.status < 200:
            self.inform(head)
        elif policy == NULL or not tries_again(policy, head.status) or not retry(self, head.status, False):
            self.keep_upstream = True
            if has_response_filters(self):
                self.extras.kept_end = end
                if append(&self.gateway.loop.pool, &self.extras.kept, at, n) < 0:
                    self.fail(FAULT_INTERNAL)
                else:
                    ask_response_filter(self, head)
            elif self.pass_reply(head, at, n, end) == 0:
                self.reply_goes_on(end)

    cdef void upstream_data(self, const char *at, size_t n, bint end) noexcept:
        if self.tunnel:
            if n:
                await_more(self)
                self.take_reply(<char *>at, n)
            if end and self.client is not None:
                self.upstream_eof(False)
        elif self.pass_reply(NULL, at, n, end) == 0:
            self.reply_goes_on(end)

    cdef void upstream_trailers(self, const char *at, size_t n) noexcept:
        if has_response_filters(self) and end_body_filters(self) < 0:
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

    cdef size_t take_body(self, const ResponseHead *head, char *at, size_t n) noexcept:
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
        if self.pass_reply(head, data, payload, end) < 0:
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
        if has_response_filters(self) and end_body_filters(self) < 0:
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
            if self.replied and not is_paused(self):
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
        if (row.retried != RETRIED_NEVER and policy_of(self) != NULL and self.launched
                and retry(self, row.status, row.retried == RETRIED_UNANSWERED)):
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
        cdef Gateway gateway = self.gateway
        cdef Downstream client = self.client
        cdef Counters counters = gateway.counters
        Py_INCREF(self)                # the reference of the client may be the last one; this is the list of spare ones'
        invariant(client is not None and client.exchange is self and counters.totals.requests_open > 0)
        counters.totals.requests_open -= 1
        if self.fault:
            counters.totals.faults[self.fault] += 1
        # a response that begins in the round of its request took a microsecond: 0 says that there was none
        counters.count(self.rule.counter if self.rule != NULL else 1,
                       self.backend.counter if self.backend != NULL else NO_ROW, self.status, self.bytes_in, self.bytes_out,
                       gateway.loop.now_us - self.started_us, self.replied_us - self.started_us | 1 if self.replied_us else 0)
        if gateway.log.format:
            log_exchange(self)
        if self.extras is not None:
            self.give_back()
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
        self.table = None
        if self.newer is not None:
            self.newer = None
        self.reset()
        self.next_spare = gateway.spare
        gateway.spare = <PyObject *>self
        client.done(keep)

    cdef void judge(self) noexcept:
        cdef bint bad = self.status >= 500
        if self.fault:
            bad = fault_row(self.fault).side == SIDE_UPSTREAM or (self.fault == FAULT_REQUEST_TIMEOUT and self.requested)
        if bad:
            self.gateway.upstreams.failed(self.state, self.image, self.backend)
        elif not self.fault:
            health_succeeded(self.state.health)

    cdef void give_back(self) noexcept:
        """Let go of all that its rule asked for, and of the Extras, which are as new then."""
        cdef Gateway gateway = self.gateway
        cdef Extras extras = self.extras
        if self.queue != NULL:
            gateway.upstreams.leave(self)
        if extras.mirrors is not None:
            drop_mirrors(self)
        if extras.request_filter is not None:
            extras.request_filter.drop()
            extras.request_filter = None
        if extras.policy != NULL or extras.replaced_until:
            end_policy(self)
        release(&gateway.loop.pool, &extras.added)
        if extras.session.by != NULL:
            release(&gateway.loop.pool, &extras.session.others)
            extras.session.by, extras.session.known = NULL, False
        if extras.response_filters is not None:
            drop_response_filters(self)
        extras.granted = NULL
        extras.waits_for_session = extras.prerouting = False
        extras.filter_at = extras.prefer = NONE
        extras.keep = READ
        extras.next_spare = gateway.spare_extras
        gateway.spare_extras = <PyObject *>extras
        Py_INCREF(extras)
        self.extras = None

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
        self.requested = self.streamed = self.launched = self.replied = self.fresh = self.keeping = self.was_good = False
        self.keep_upstream = self.tunnel = self.client_ended = self.upstream_ended = False
