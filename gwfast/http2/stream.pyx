"""An HTTP/2 connection of a client: what leaves, and the streams (see stream.pxd).

Rules
- Frames are gathered and leave together when the round is over, or when enough of them are there.
- Payload goes out as far as both windows and the socket take it; the rest waits in its stream, and streams that wait get
  a frame each in turn.
- A head leaves in the moment that it is encoded: the peer's table follows the order of the heads.
"""
cimport cython
from cpython.object cimport PyObject
from libc.stdint cimport int32_t, int64_t, uint8_t, uint32_t, uint64_t
from libc.string cimport memcpy, memset

from gwfast.engine.counters cimport NO_ROW
from gwfast.exchange.exchange cimport Exchange
from gwfast.http.fault cimport *
from gwfast.http.header_writer cimport Ops, answer_size
from gwfast.http2.header_writer cimport answer_body, encode_answer, encode_response, encode_status, encode_trailers, grpc_status
from gwfast.http2.frames cimport *
from gwfast.http.head cimport *
from gwfast.engine.loop cimport READ, append, consume, release, reserve, waiting
from gwfast.http2.recent cimport recent_mark
from gwfast.engine.sys cimport *
from gwfast.tls.records cimport Session

cdef enum:
    STREAM_WINDOW = 65536      # limits.STREAM_WINDOW
    WINDOW = 1048576           # limits.CONNECTION_WINDOW
    GATHER = 32768             # sent at once when so much is there
    MINIMUM_RATE = 240         # limits.BODY_MINIMUM_RATE
    UPDATES_EARNED = 10        # limits.WINDOW_UPDATES_PER_DATA


@cython.no_gc
cdef class Http2Output(Client):
    cdef void fail(self, uint32_t code) noexcept:
        pass

    cdef void remove(self, ClientStream stream) noexcept:
        pass

    cdef void rearm(self) noexcept:
        pass

    cdef void pend(self, ClientStream stream) noexcept:
        stream.pending = True
        stream.queue_next = NULL
        if self.pending != NULL:
            (<ClientStream>self.pending_last).queue_next = <PyObject *>stream
        else:
            self.pending = <PyObject *>stream
        self.pending_last = <PyObject *>stream

    cdef void launch_pending(self) noexcept:
        """Let the streams that were begun go to their backends, with what has come of their bodies."""
        cdef ClientStream stream
        while self.pending != NULL:
            stream = <ClientStream>self.pending
            self.forget_pending(stream)
            if stream.exchange is not None:
                stream.exchange.launch()

    cdef void forget_pending(self, ClientStream stream) noexcept:
        cdef PyObject *before = NULL
        cdef PyObject *at = self.pending
        if not stream.pending:
            return
        while at != <PyObject *>stream:
            before, at = at, (<ClientStream>at).queue_next
        if before != NULL:
            (<ClientStream>before).queue_next = stream.queue_next
        else:
            self.pending = stream.queue_next
        if self.pending_last == at:
            self.pending_last = before
        stream.pending = False
        stream.queue_next = NULL

    cdef void fail_later(self) noexcept:
        """A head could not be written: the peer's table is not ours any more, and nothing else is sent."""
        self.failing = True
        self.loop.later(self)

    cdef int room(self, uint32_t n) noexcept:
        """See to it that n more bytes can be gathered, and are sent. -1: the connection is over."""
        if self.closed or self.lingering or self.failing:
            return -1
        if reserve(&self.loop.pool, &self.gather, n) < 0:
            return self.break_off()
        self.loop.later(self)
        return 0

    cdef int push(self) noexcept:
        """Send what was gathered."""
        cdef int result
        if self.gather.base == NULL:
            return 0
        result = self.send(self.gather.base + self.gather.start, waiting(&self.gather))
        release(&self.loop.pool, &self.gather)
        if self.out.base != NULL:
            self.rearm()
        return result

    cdef void put_frame(self, uint8_t type, uint8_t flags, uint32_t stream, const char *at, uint32_t n) noexcept:
        cdef char *p
        if self.room(FRAME_HEAD + n) < 0:
            return
        p = self.gather.base + self.gather.end
        put_head(<uint8_t *>p, n, type, flags, stream)
        if n:
            memcpy(p + FRAME_HEAD, at, n)
        self.gather.end += FRAME_HEAD + n

    cdef void put_block(self, uint32_t stream, const char *at, uint32_t n, bint ended) noexcept:
        """HEADERS, and CONTINUATION as long as the peer's frames are too small."""
        cdef uint32_t step = min(n, self.peer.frame)
        cdef uint8_t type = FRAME_HEADERS
        cdef uint8_t flags = FLAG_END_STREAM if ended else 0
        while True:
            self.put_frame(type, flags | (FLAG_END_HEADERS if step == n else 0), stream, at, step)
            if step == n:
                return
            at, n = at + step, n - step
            step = min(n, self.peer.frame)
            type, flags = FRAME_CONTINUATION, 0

    cdef size_t put_data(self, ClientStream stream, const char *at, size_t n, bint end) noexcept:
        """Frame as much of it as the windows and the socket take: how much that was."""
        cdef size_t sent = 0
        cdef int64_t step
        cdef bint last
        if n == 0:
            self.put_frame(FRAME_DATA, FLAG_END_STREAM, stream.id, NULL, 0)
            stream.local_ended = True
        while sent < n and self.out.base == NULL:
            step = min(<int64_t>(n - sent), <int64_t>MAX_FRAME, self.window, stream.window)
            if step <= 0:
                break
            last = end and sent + <size_t>step == n
            self.put_frame(FRAME_DATA, FLAG_END_STREAM if last else 0, stream.id, at + sent, <uint32_t>step)
            self.window -= step
            stream.window -= step
            stream.local_ended = last
            sent += <size_t>step
            earn(&self.updates, UPDATES_EARNED)
            earn(&self.glitches, 1)
            if waiting(&self.gather) >= GATHER and self.push() < 0:
                break              # its end is announced
        return sent

    cdef void put_reset(self, uint32_t stream, uint32_t code) noexcept:
        cdef uint8_t *p
        recent_mark(&self.recent, stream)
        if self.room(13) == 0:
            p = <uint8_t *>self.gather.base + self.gather.end
            self.gather.end += <uint32_t>(put_rst_stream(p, stream, code) - p)

    cdef void enqueue(self, ClientStream stream) noexcept:
        if stream.queued:
            return
        stream.queued = True
        stream.queue_next = NULL
        if self.queue_last != NULL:
            (<ClientStream>self.queue_last).queue_next = <PyObject *>stream
        else:
            self.queue_first = <PyObject *>stream
        self.queue_last = <PyObject *>stream

    cdef void unqueue(self, ClientStream stream) noexcept:
        cdef PyObject *before = NULL
        cdef PyObject *at = self.queue_first
        if not stream.queued:
            return
        while at != <PyObject *>stream:
            before, at = at, (<ClientStream>at).queue_next
        if before != NULL:
            (<ClientStream>before).queue_next = stream.queue_next
        else:
            self.queue_first = stream.queue_next
        if self.queue_last == at:
            self.queue_last = before
        stream.queued = False
        stream.queue_next = NULL

    cdef void pump_queue(self) noexcept:
        """Give each stream that waits a frame, in turn, while there is room."""
        cdef ClientStream stream
        cdef uint32_t step
        cdef size_t sent
        while self.queue_first != NULL and self.out.base == NULL and self.window > 0 and not self.closed:
            stream = <ClientStream>self.queue_first
            self.unqueue(stream)
            if stream.out.base == NULL or stream.window <= 0:
                continue
            step = min(waiting(&stream.out), <uint32_t>MAX_FRAME)
            sent = self.put_data(stream, stream.out.base + stream.out.start, step,
                                 stream.end_waits and step == waiting(&stream.out) and stream.behind.base == NULL)
            consume(&self.loop.pool, &stream.out, <uint32_t>sent)
            if stream.out.base != NULL:
                self.loop.arm(stream, self.loop.now_ms + self.clients.send_ms)
                if stream.window > 0:
                    self.enqueue(stream)
                continue
            stream.body_clock()
            if stream.behind.base != NULL:
                stream.put_trailers(stream.behind.base + stream.behind.start, waiting(&stream.behind))
                release(&self.loop.pool, &stream.behind)
            if stream.exchange is not None:
                stream.exchange.client_drained()
            if not stream.closed:
                stream.settle()

    cdef void owe(self, ClientStream stream, uint32_t n) noexcept:
        """Give the client back what was used of its windows, half a window at once."""
        cdef uint8_t *p
        self.owed += n
        if self.owed >= WINDOW // 2 and self.room(13) == 0:
            p = <uint8_t *>self.gather.base + self.gather.end
            self.gather.end += <uint32_t>(put_window_update(p, 0, self.owed) - p)
            self.credit += self.owed
            self.owed = 0
        if stream is None or stream.remote_ended or stream.closed:
            return
        stream.owed += n
        if stream.owed >= STREAM_WINDOW // 2 and self.room(13) == 0:
            p = <uint8_t *>self.gather.base + self.gather.end
            self.gather.end += <uint32_t>(put_window_update(p, stream.id, stream.owed) - p)
            stream.credit += stream.owed
            stream.owed = 0


@cython.final
@cython.no_gc
cdef class ClientStream(Downstream):
    # -- the request's body --------------------------------------------------------------------------------------------

    cdef bint wants(self) noexcept:
        cdef Exchange exchange = self.exchange
        if self.upgrade and not exchange.tunnel:
            return False
        return exchange.wants()

    cdef void take_data(self, char *at, uint32_t n, bint end) noexcept:
        """Payload that came, and with it the end (behind which `trailing` may lie)."""
        cdef Http2Output conn = self.conn
        self.remote_ended = end
        if self.exchange is None:      # it was answered: nobody asks for the rest
            conn.owe(self, n)
            self.settle()
            return
        self.since_ms = self.loop.now_ms
        self.window_bytes += n
        if end and self.out.base == NULL:
            self.loop.arm(self, 0)
        if self.input.base == NULL and self.wants():
            self.pass_on(at, n, end)
        elif append(&self.loop.pool, &self.input, at, n) < 0:
            self.reset(INTERNAL_ERROR)

    cdef void pass_on(self, const char *at, size_t n, bint end) noexcept:
        cdef Exchange exchange = self.exchange
        if n:
            self.conn.owe(self, <uint32_t>n)
        if exchange.tunnel:
            if n:
                exchange.tunnel_data(at, n)
            if end and self.exchange is exchange:
                exchange.tunnel_end()
        elif exchange.requested:
            pass                       # a length of nothing, and then the end
        elif end and self.trailing.base != NULL:
            if n:
                exchange.request_data(at, n, False)
            if self.exchange is exchange:
                exchange.request_trailers(self.trailing.base + self.trailing.start, waiting(&self.trailing))
        else:
            exchange.request_data(at, n, end)

    cdef int descriptor(self) noexcept:
        return self.conn.fd if self.conn is not None else -1

    cdef Session session(self):
        return self.conn.tls if self.conn is not None else None

    cdef void resume(self) noexcept:
        cdef uint32_t n
        cdef bint last
        while self.exchange is not None and self.wants() and (self.input.base != NULL or self.remote_ended):
            n = min(waiting(&self.input), <uint32_t>READ)
            last = self.remote_ended and n == waiting(&self.input)
            if self.input.base == NULL and (self.exchange.requested or self.exchange.client_ended):
                return                 # all of it was passed on
            self.pass_on(self.input.base + self.input.start if n else NULL, n, last)
            if self.input.base != NULL:
                consume(&self.loop.pool, &self.input, n)
            if last:
                return

    cdef void body_clock(self) noexcept:
        if self.remote_ended or self.exchange is None or self.upgrade:
            self.loop.arm(self, 0)
        else:
            self.since_ms = self.window_ms = self.loop.now_ms
            self.window_bytes = 0
            self.loop.arm(self, self.loop.now_ms + self.conn.clients.body_ms)

    cdef void on_deadline(self) noexcept:
        cdef uint64_t now = self.loop.now_ms
        cdef uint64_t most = self.conn.clients.body_ms
        if self.out.base != NULL:
            if self.exchange is not None:
                self.exchange.fail(FAULT_SEND_TIMEOUT)
            else:
                self.reset(CANCEL)
        elif self.exchange is None or self.remote_ended or self.exchange.replied:
            pass                       # a stream that is answered is timed as a whole, by its exchange
        elif not self.wants():
            if now - self.since_ms >= 2 * most:
                self.exchange.fail(FAULT_UPSTREAM_TIMEOUT)
            else:
                self.window_ms, self.window_bytes = now, 0
                self.loop.arm(self, now + most)
        elif now - self.since_ms >= most or self.window_bytes < MINIMUM_RATE * (now - self.window_ms) // 1000:
            self.exchange.fail(FAULT_BODY_TIMEOUT)
        else:
            self.window_ms, self.window_bytes = now, 0
            self.loop.arm(self, self.since_ms + most)

    # -- the response (Downstream) -------------------------------------------------------------------------------------

    cdef int emit(self, const char *at, size_t n, bint end) noexcept:
        """Send a part of the body, or keep what neither windows nor socket take."""
        cdef size_t sent = 0
        if self.closed:
            return -1
        if n == 0 and not end:
            return 0
        if self.out.base == NULL:
            sent = self.conn.put_data(self, at, n, end)
            if sent == n:
                return 0
        self.end_waits = end
        if append(&self.loop.pool, &self.out, at + sent, n - sent) < 0:
            return self.conn.break_off()
        self.conn.enqueue(self)
        self.loop.arm(self, self.loop.now_ms + self.conn.clients.send_ms)
        return 0

    cdef int respond(self, const ResponseHead *head, const Ops *ops, const char *at, size_t n, bint end) noexcept:
        cdef uint8_t *to = <uint8_t *>self.loop.output
        cdef bint switched = head.status == 101
        cdef bint bodiless = self.head_only or head.status == 204 or head.status == 304
        cdef bint ends = end and (bodiless or n == 0) and not switched
        cdef int32_t length
        if self.closed:
            return -1
        length = encode_response(self.conn.encoder, ops, head, 200 if switched else head.status, self.loop.date,
                                 head.status == 204 or head.framing == FRAMING_CHUNKED or switched, to, to + self.loop.scratch)
        if self.put_block(to, length, ends) < 0:
            return -1
        earn(&self.conn.resets, 1)     # a backend did its work for it
        if ends:
            return 0
        if bodiless:
            n = 0
        return self.emit(at, n, end and not switched)

    cdef int data(self, const char *at, size_t n, bint end) noexcept:
        if self.local_ended:
            return 0
        return self.emit(at, 0 if self.head_only else n, end)

    cdef int send(self, const char *at, size_t n) noexcept:
        return self.emit(at, n, False)     # of a tunnel

    cdef void half_close(self) noexcept:
        if not self.local_ended and not self.end_waits:
            self.emit(NULL, 0, True)

    cdef int trailers(self, const char *at, size_t n) noexcept:
        if self.closed:
            return -1
        if n == 0:
            return self.emit(NULL, 0, True)
        if self.out.base == NULL:
            return self.put_trailers(at, n)
        self.end_waits = True          # they must not overtake the body
        return 0 if append(&self.loop.pool, &self.behind, at, n) == 0 else self.conn.break_off()

    cdef int put_trailers(self, const char *at, size_t n) noexcept:
        cdef uint8_t *to = <uint8_t *>self.loop.output
        cdef int32_t length = encode_trailers(self.conn.encoder, at, <uint32_t>n, to, to + self.loop.scratch)
        return self.put_block(to, length, True)

    cdef int put_block(self, const uint8_t *at, int32_t n, bint ends) noexcept:
        """Send a block that was encoded; n < 0: it could not be."""
        if n < 0:
            self.conn.fail_later()
            return -1
        self.conn.put_block(self.id, <char *>at, n, ends)
        self.local_ended = ends
        return 0

    cdef void send_continue(self) noexcept:    # 100 (Continue)
        cdef uint8_t *to = <uint8_t *>self.loop.output
        cdef int32_t length = encode_status(self.conn.encoder, 100, to, to + self.loop.scratch)
        self.put_block(to, length, False)

    cdef int inform(self, const ResponseHead *head) noexcept:
        cdef uint8_t *to = <uint8_t *>self.loop.output
        cdef int32_t length
        cdef Ops none
        if self.closed:
            return -1
        memset(&none, 0, sizeof(none))
        length = encode_response(self.conn.encoder, &none, head, head.status, self.loop.date, True, to, to + self.loop.scratch)
        return self.put_block(to, length, False)

    cdef int answer(self, int status, const Ops *ops, const char *location, size_t n) noexcept:
        cdef uint8_t *to = <uint8_t *>self.loop.output
        cdef uint32_t size = 0 if location != NULL else <uint32_t>answer_size(status)
        cdef int grpc = grpc_status(status) if self.grpc and location == NULL else -1
        cdef bint ends = self.head_only or size == 0 or grpc >= 0
        cdef char body[64]
        cdef int32_t length
        if self.closed:
            return -1
        length = encode_answer(self.conn.encoder, ops, status, self.loop.date, location, <uint32_t>n, size, grpc, to,
                               to + self.loop.scratch)
        if self.put_block(to, length, ends) < 0:
            return -1
        if ends:
            return 0
        answer_body(body, status, size)
        return self.emit(body, size, True)

    cdef void refuse(self, int fault) noexcept:
        """Answer a head that is no request."""
        cdef int status = fault_row(fault).status
        self.gateway.counters.totals.requests += 1
        self.gateway.counters.totals.faults[fault] += 1
        self.gateway.counters.count(1, NO_ROW, status, 0, answer_size(status), 0, 0)
        self.gateway.log.refusal(self.address, self.address_n, self.conn.tls, 2, fault, self.gateway.head.why, status)
        self.answer(status, NULL, NULL, 0)
        if not self.closed:
            self.settle()

    cdef void done(self, bint keep) noexcept:
        """The exchange is over."""
        if self.closed:
            return
        if self.out.base == NULL:
            self.loop.arm(self, 0)
        if not self.local_ended and not self.end_waits:
            if keep or self.upgrade:
                self.emit(NULL, 0, True)
            else:
                self.reset(CANCEL)
                return
        if not self.closed:
            self.settle()

    cdef void settle(self) noexcept:
        """Let go of the stream when nothing more has to be sent."""
        cdef Http2Output conn = self.conn
        if self.exchange is not None or not self.local_ended or self.out.base != NULL:
            return
        if not self.remote_ended:
            conn.put_reset(self.id, NO_ERROR)  # RFC 9113 8.1: the rest of the request is not needed
        conn.remove(self)

    cdef void reset(self, uint32_t code) noexcept:
        if not self.closed:
            self.conn.put_reset(self.id, code)
            self.drop()

    cdef void refuse_body(self) noexcept:
        """What came of its body is malformed (RFC 9113 8.1.1)."""
        if not self.closed:
            self.conn.put_reset(self.id, PROTOCOL_ERROR)
            self.local_ended = self.remote_ended = True
            if self.exchange is not None:
                self.exchange.client_wrong(FAULT_BAD_BODY)
            if not self.closed:
                self.conn.remove(self)

    cdef void drop(self) noexcept:
        """Let go of the stream, and of what its backend does for it."""
        self.local_ended = self.remote_ended = True    # nothing more is said of it
        if self.exchange is not None:
            self.exchange.client_gone()
        if not self.closed:
            self.conn.remove(self)

    cdef void abort(self) noexcept:
        """Cut the response off visibly."""
        if not self.closed:
            self.conn.put_reset(self.id, INTERNAL_ERROR)
            self.conn.remove(self)
