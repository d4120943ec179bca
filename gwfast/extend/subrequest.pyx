"""Requests of the gateway's own (see subrequest.pxd)."""
cimport cython
from cpython.object cimport PyObject
from cpython.ref cimport Py_DECREF, Py_INCREF
from libc.string cimport memset

from gwfast.http.body cimport BODY_BAD, BODY_END, BODY_TRAILERS, body_next, body_start
from gwfast.http.head cimport FRAMING_CLOSE, PARTIAL, ResponseHead, idempotent
from gwfast.upstream.endpoint_state cimport health_succeeded
from gwfast.http1.parser cimport parse_response
from gwfast.engine.loop cimport READ, READ_AGAIN, READS, Loop, append, consume, release, waiting
from gwfast.engine.sys cimport *
from gwfast.table.layout cimport NO_BACKEND, Endpoint
from gwfast.upstream.pool cimport CONNECTING, SUSPECT_MS

cdef enum:
    INFORMED = 16          # limits.INFORMATIONAL_RESPONSES
    MIRROR_BYTES = 65536   # limits.MIRROR_BYTES
    ATTEMPTS = 3           # limits.CONNECT_ATTEMPTS
    RESENT = 2             # limits.REFUSALS
    MIRROR_CALLS = 256     # limits.MIRROR_CALLS
    MIRROR_MS = 10000      # limits.MIRROR_TIMEOUT


@cython.final
@cython.no_gc
cdef class Subrequests:
    def __cinit__(self):
        self.most = MIRROR_CALLS

    cdef Subrequest call(self):
        cdef Subrequest call = self.spare
        if call is None:
            call = Subrequest.__new__(Subrequest)
            call.home = self
        else:
            self.spare = call.next
            call.next = None
        return call

    cdef void forget(self) noexcept:
        cdef Subrequest call
        while self.first != NULL:
            call = <Subrequest>self.first
            call.over(CALL_FAILED)
        while self.spare is not None:      # one by one: they refer to each other too
            call = self.spare
            self.spare = call.next
            call.next = None

    cdef void count(self, int end) noexcept:
        self.upstreams.loop.counters.totals.mirrors[end] += 1


@cython.no_gc
cdef class Subrequest(Waiter):
    # -- the request ---------------------------------------------------------------------------------------------------

    cdef int begin(self, object table, const Image *image, const Backend *backend, const Buf *head, uint8_t method_id,
                   bint chunked) noexcept:
        invariant(self.state == NULL and self.upstream is None and not self.held)
        self.held = True
        self.table, self.image, self.backend = table, image, backend
        self.chunked, self.method_id, self.repeats = chunked, method_id, idempotent(method_id)
        self.most, self.within_ms = MIRROR_BYTES, MIRROR_MS
        self.seen = self.informed = self.queued = self.attempts = self.resent = 0
        self.until_ms = 0
        self.complete = self.sent = self.handed = self.streamed = self.replied = self.keep = self.ends = self.bad = False
        if not self.choose(NO_BACKEND):
            self.table = None
            self.ended(CALL_FAILED)
            return -1
        self.after, self.before = self.home.first, NULL
        if self.after != NULL:
            (<Subrequest>self.after).before = <PyObject *>self
        self.home.first = <PyObject *>self
        Py_INCREF(self)
        if self.state.calls > self.home.most:
            self.over(CALL_BUSY)
            return -1
        if append(&self.home.upstreams.loop.pool, &self.request, head.base + head.start, waiting(head)) < 0:
            self.over(CALL_FAILED)
            return -1
        return 0

    cdef bint choose(self, uint32_t avoid) noexcept:
        """Take an endpoint, not `avoid`, in the place of the one that it has, where there is one."""
        cdef Upstreams upstreams = self.home.upstreams
        cdef const Endpoint *endpoint = upstreams.choose_now(self.image, self.backend, avoid, &self.chosen)
        cdef State *state = upstreams.state(endpoint, self.backend) if endpoint != NULL else NULL
        if state == NULL:
            return False
        state.outstanding += 1
        state.calls += 1
        self.leave()
        self.state = state
        self.attempts += 1
        return True

    cdef void leave(self) noexcept:
        cdef State *state = self.state
        if state != NULL:
            self.state = NULL
            state.calls -= 1
            self.home.upstreams.done(state)

    cdef void start(self, const char *at, uint32_t n, uint32_t trailers, bint complete) noexcept:
        """n bytes of body and then `trailers` of raw lines have come; `complete`: that is all."""
        self.complete = complete
        self.queued = n
        if n + trailers and append(&self.home.upstreams.loop.pool, &self.queue, at, n + trailers) < 0:
            self.over(CALL_FAILED)
            return
        self.dial(False)

    cdef void dial(self, bint fresh) noexcept:
        cdef Upstream upstream = self.home.upstreams.take(self.state, fresh, not (self.complete and self.repeats))
        if upstream is None:
            self.elsewhere()
            return
        self.upstream = upstream
        invariant(upstream.waiter is None and not upstream.closed)
        upstream.waiter = self
        if upstream.status != CONNECTING:
            self.transmit()

    cdef void elsewhere(self) noexcept:
        """A connection could not be made: nothing was sent, so any other endpoint will do."""
        cdef Upstreams upstreams = self.home.upstreams
        cdef Upstream upstream = self.upstream
        cdef bint fresh = self.resent > 0
        upstreams.suspect(self.state)
        if self.backend.flags:
            upstreams.failed(self.state, self.image, self.backend)
        self.upstream = None
        if upstream is not None:
            upstream.close()
        if self.attempts >= self.backend.endpoints.count or self.attempts >= ATTEMPTS or not self.choose(self.chosen):
            self.over(CALL_FAILED)
        elif self.state.calls > self.home.most:
            self.over(CALL_BUSY)
        else:
            self.dial(fresh)

    cdef void transmit(self) noexcept:
        cdef Upstream upstream = self.upstream
        cdef const char *at = self.queue.base + self.queue.start
        cdef uint32_t trailers = waiting(&self.queue) - self.queued
        self.sent = True
        if upstream.send_request(self.request.base + self.request.start, waiting(&self.request), self.chunked, at, self.queued,
                                 self.complete and not trailers) < 0 or (
                trailers and upstream.send_trailers(at + self.queued, trailers) < 0):
            self.upstream_reset(False)
        elif self.complete:
            self.finished()

    cdef void finished(self) noexcept:
        """The request is complete, or what is left of it waits: from here on it has its time, however often it is sent."""
        cdef Loop loop = self.home.upstreams.loop
        if self.until_ms == 0:
            self.until_ms = loop.now_ms + self.within_ms
        loop.arm(self.upstream, self.until_ms)

    cdef void more(self, const char *at, size_t n, bint end) noexcept:
        cdef Upstream upstream = self.upstream
        if upstream is None or self.complete:
            return
        self.complete = end
        if self.sent and not self.handed:
            self.hand_over()
        self.keep_more(at, n, True)
        if not self.sent or upstream.out.base != NULL:
            if self.queued + n > self.most:
                self.over(CALL_SLOW)
                return
            if append(&upstream.loop.pool, &self.queue, at, n) < 0:
                self.over(CALL_FAILED)
                return
            self.queued += <uint32_t>n
            self.ends = end
        elif upstream.send_body(at, n, end) < 0:
            self.over(CALL_FAILED)
            return
        if end and self.sent:
            self.finished()

    cdef void hand_over(self) noexcept:
        """What is in the queue was sent. A stream may be refused nevertheless: then it is wanted once more."""
        self.handed = True
        self.streamed = self.upstream.fd >= 0 and not self.repeats
        if self.streamed:
            release(&self.upstream.loop.pool, &self.queue)
        self.kept, self.kept_body = self.queue, self.queued
        memset(&self.queue, 0, sizeof(Buf))
        self.queued = 0

    cdef void keep_more(self, const char *at, size_t n, bint body) noexcept:
        if not self.handed or self.streamed:
            return
        if self.replied or self.kept_body + n > self.most or append(&self.upstream.loop.pool, &self.kept, at, n) < 0:
            self.streamed = True
            release(&self.upstream.loop.pool, &self.kept)
        elif body:
            self.kept_body += <uint32_t>n

    cdef void trailers(self, const char *at, size_t n) noexcept:
        cdef Upstream upstream = self.upstream
        if upstream is None or self.complete:
            return
        self.more(NULL, 0, n == 0)
        if n == 0 or self.upstream is not upstream:
            return
        self.complete = True
        self.keep_more(at, n, False)
        if not self.sent or upstream.out.base != NULL:
            if append(&upstream.loop.pool, &self.queue, at, n) < 0:
                self.over(CALL_FAILED)
                return
        elif upstream.send_trailers(at, n) < 0:
            self.over(CALL_FAILED)
            return
        if self.sent:
            self.finished()

    cdef int flush(self) noexcept:
        """Send what waited while the connection took nothing."""
        cdef Buf queue = self.queue
        cdef uint32_t body = self.queued
        cdef uint32_t trailers = waiting(&queue) - body
        cdef int result = 0
        memset(&self.queue, 0, sizeof(Buf))
        self.queued = 0
        self.ends = False
        if body or (self.complete and not trailers):
            result = self.upstream.send_body(queue.base + queue.start, body, self.complete and not trailers)
        if trailers and result == 0:
            result = self.upstream.send_trailers(queue.base + queue.start + body, trailers)
        release(&self.home.upstreams.loop.pool, &queue)
        return result

    cdef void let_go(self) noexcept:
        """Whoever began it needs it no more; what is not complete by now never will be."""
        self.held = False
        if self.state == NULL:
            self.store()
        elif not self.complete:
            self.over(CALL_FAILED)

    # -- the upstream (Waiter) -----------------------------------------------------------------------------------------

    cdef void upstream_open(self) noexcept:
        self.transmit()

    cdef void upstream_drained(self) noexcept:
        if self.handed and (self.ends or self.queue.base != NULL) and self.flush() < 0:
            self.over(CALL_FAILED)

    cdef void upstream_failed(self, int fault) noexcept:
        self.elsewhere()

    cdef void upstream_late(self) noexcept:
        if self.upstream.status == CONNECTING:
            self.elsewhere()
        else:
            self.bad = True
            self.over(CALL_LATE)

    cdef bint again(self, bint refused) noexcept:
        """Whether it may be sent once more, as Exchange.again()."""
        cdef Upstream upstream = self.upstream
        if self.replied or self.streamed or self.informed or self.resent >= RESENT:
            return False
        return refused or (self.repeats and upstream.input.base == NULL and (
            (upstream.reused and self.resent == 0) or upstream.fd >= 0 or upstream.hangup))

    cdef void upstream_reset(self, bint refused) noexcept:
        """Once more, if that may be: on another connection, and at another endpoint where this one is not just out of date."""
        cdef Upstreams upstreams = self.home.upstreams
        cdef Upstream upstream = self.upstream
        cdef bint stale = refused or upstream.reused
        if not self.again(refused):
            self.broken()
            return
        if not stale:
            self.state.suspect_until = upstreams.loop.now_ms + SUSPECT_MS
            if self.backend.flags:
                upstreams.failed(self.state, self.image, self.backend)
        if self.handed:
            release(&upstream.loop.pool, &self.queue)
            self.queue, self.queued = self.kept, self.kept_body
            memset(&self.kept, 0, sizeof(Buf))
            self.handed = self.ends = False
        self.resent += 1
        self.sent = False
        self.seen = 0
        self.upstream = None
        upstream.close()
        if (self.resent > 1 or not stale) and self.backend.endpoints.count > 1:
            self.choose(self.chosen)
        self.attempts = 1
        if self.state.calls > self.home.most:
            self.over(CALL_BUSY)
        else:
            self.dial(True)

    cdef void upstream_bad(self) noexcept:
        self.broken()

    cdef void broken(self) noexcept:
        """By the endpoint: its health is told."""
        self.bad = True
        self.over(CALL_FAILED)

    cdef bint upstream_moves(self) noexcept:
        return True

    cdef void upstream_moved(self, Upstream upstream) noexcept:
        self.upstream = upstream
        upstream.waiter = self

    # -- the response --------------------------------------------------------------------------------------------------

    cdef void upstream_reply(self, const char *at, size_t n, bint end) noexcept:
        if self.home.upstreams.reply.status < 200:
            return
        self.replied = self.keep = True
        self.bad = self.home.upstreams.reply.status >= 500
        self.got_head()
        self.upstream_data(at, n, end)

    cdef void upstream_data(self, const char *at, size_t n, bint end) noexcept:
        if n:
            self.got(at, n)
        if end and self.state != NULL:
            self.over(CALL_ANSWERED)

    cdef void upstream_trailers(self, const char *at, size_t n) noexcept:
        self.got_trailers(at, n)
        self.over(CALL_ANSWERED)

    cdef void upstream_readable(self) noexcept:
        cdef Upstream upstream = self.upstream
        cdef Loop loop = upstream.loop
        cdef char *at = loop.reply
        cdef size_t used
        cdef ssize_t n
        cdef int reads = 0
        while upstream.readable:
            reads += 1
            if reads > READS:              # others want their turn: the kernel announces the rest again
                loop.watch(upstream, EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET)
                return
            n = upstream.read(at, READ)
            if n == READ_AGAIN:
                return
            if n <= 0:
                if self.replied and self.body.framing == FRAMING_CLOSE and n == 0:
                    self.over(CALL_ANSWERED)
                elif self.replied:
                    self.broken()
                else:
                    self.upstream_reset(False)
                return
            if upstream.input.base == NULL:
                used = self.take(at, n)
                if (self.upstream is upstream and used < <size_t>n
                        and append(&loop.pool, &upstream.input, at + used, n - used) < 0):
                    self.over(CALL_FAILED)
            elif append(&loop.pool, &upstream.input, at, n) < 0:
                self.over(CALL_FAILED)
            else:
                used = self.take(upstream.input.base + upstream.input.start, waiting(&upstream.input))
                if self.upstream is upstream:
                    consume(&loop.pool, &upstream.input, <uint32_t>used)
            if self.upstream is not upstream:
                return

    cdef size_t take(self, char *at, size_t n) noexcept:
        """Use what came; return how many bytes were used. May end the call."""
        cdef ResponseHead *head = self.home.upstreams.reply
        cdef size_t used = 0
        cdef int result
        while not self.replied:
            result = parse_response(at + used, <uint32_t>(n - used), self.seen, &self.home.limits, self.method_id, head)
            if result == PARTIAL:
                self.seen = <uint32_t>(n - used)
                return used
            self.seen = 0
            used += max(result, 0)
            self.informed += 1
            if result < 0 or head.status == 101 or self.informed > INFORMED:
                self.broken()
                return n
            if head.status >= 200:
                body_start(&self.body, head.framing, head.content_length, True)
                self.keep = head.keep_alive and head.framing != FRAMING_CLOSE
                self.replied = True
                self.bad = head.status >= 500
                self.got_head()
                if self.state == NULL:
                    return n
        return used + self.take_body(at + used, n - used)

    cdef size_t take_body(self, char *at, size_t n) noexcept:
        cdef size_t used, payload
        cdef char *data
        cdef int result = body_next(&self.body, at, n, &used, &data, &payload)
        if result == BODY_BAD:
            self.broken()
            return n
        if payload:
            self.got(data, payload)
        if self.state == NULL:
            return n
        if result == BODY_TRAILERS:
            if n - used < 2:
                return used
            if at[used] != 13 or at[used + 1] != 10:
                self.keep = False          # nobody reads trailers here
            else:
                used += 2
            result = BODY_END
        if result == BODY_END:
            self.keep = self.keep and used == n
            self.over(CALL_ANSWERED)
            return n
        return used

    cdef void over(self, int end) noexcept:
        cdef Subrequest alive = self             # the list's reference may be the last one
        cdef Upstreams upstreams = self.home.upstreams
        cdef Upstream upstream = self.upstream
        invariant(self.state != NULL)
        if self.backend.flags:
            if self.bad:
                upstreams.failed(self.state, self.image, self.backend)
            elif end == CALL_ANSWERED:
                health_succeeded(self.state.health)
        self.upstream = None
        if self.before != NULL:
            (<Subrequest>self.before).after = self.after
        else:
            self.home.first = self.after
        if self.after != NULL:
            (<Subrequest>self.after).before = self.before
        Py_DECREF(self)
        if upstream is not None:
            if end == CALL_ANSWERED and self.keep and self.complete and upstream.out.base == NULL:
                upstream.park()
            else:
                upstream.close()
        self.leave()
        self.table = None
        release(&upstreams.loop.pool, &self.request)
        release(&upstreams.loop.pool, &self.queue)
        release(&upstreams.loop.pool, &self.kept)
        self.ended(end)
        if not self.held:
            alive.store()

    cdef void store(self) noexcept:
        self.next = self.home.spare
        self.home.spare = self

    cdef void got_head(self) noexcept:
        pass

    cdef void got(self, const char *at, size_t n) noexcept:
        pass

    cdef void got_trailers(self, const char *at, size_t n) noexcept:
        pass

    cdef void ended(self, int end) noexcept:
        self.home.count(end)
