"""A client's HTTP/1.1 connection (see connection.pxd).

Rules
- Bytes are parsed where they were received; only what cannot be used yet is copied to `input`.
- Nothing is read while nothing could be done with it: a pipelined request waits in the kernel, and so does a body whose
  upstream is slow. Events are edge-triggered, so `readable` remembers what was left.
- A request that cannot be understood is answered and the connection ends, because its bytes cannot be told apart any more.
"""
cimport cython
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.string cimport memchr, memset

from gwfast.http.body cimport BODY_BAD, BODY_END, body_next, body_parts, body_start, parts_size, trailer_parts
from gwfast.engine.counters cimport NO_ROW
from gwfast.exchange.exchange cimport Exchange, Gateway
from gwfast.http.fault cimport *
from gwfast.http.header_writer cimport Ops, Out, answer_size, put, write_answer, write_response
from gwfast.http.head cimport *
from gwfast.http2.frames cimport FRAME_BAD, PREFACE, read_preface
from gwfast.http2.connection cimport Http2Connection
from gwfast.http1.parser cimport keep_trailers, parse_request, parse_trailers
from gwfast.engine.linger cimport let_arrive
from gwfast.engine.loop cimport READ, READ_AGAIN, READ_END, READS, SLOT_MS, Peer, append, consume, release, waiting
from gwfast.l4.splice cimport TAKE
from gwfast.engine.sys cimport *
from gwfast.table.layout cimport Bind

cdef enum:
    SMALL_BODY = 8192      # a body this small is copied behind its head: one plain send
    LINGER_MS = 2000       # limits.LINGER_TIMEOUT
    DRAIN_IDLE_MS = 1000   # limits.DRAIN_IDLE
    REST_MS = 1000         # limits.IDLE_REST
    MINIMUM_RATE = 240     # limits.BODY_MINIMUM_RATE
    SOON_MS = 100          # limits.HALF_CLOSE_SOON
    HALF_CLOSE_MS = 1000   # limits.HALF_CLOSE_TIMEOUT


@cython.final
@cython.no_gc
cdef class Http1Connection(Client):
    # -- events --------------------------------------------------------------------------------------------------------

    cdef void on_events(self, uint32_t events) noexcept:
        if events & EPOLLERR:
            self.gone()
            return
        if events & (EPOLLRDHUP | EPOLLHUP):
            self.hangup = True
        if events & EPOLLOUT and self.out.base != NULL:
            if self.sent(self.flush()) < 0:
                return
        if events & (EPOLLIN | EPOLLRDHUP | EPOLLHUP):
            self.readable = True
            self.pump()

    cdef int sent(self, int result) noexcept:
        """After a flush: tell whoever waits for room, close where nothing more is to come. -1: closed."""
        if result < 0:
            self.gone()
            return -1
        if self.out.base != NULL:
            self.loop.arm(self, self.loop.now_ms + self.clients.send_ms)
            return 0
        if self.exchange is not None:
            if self.phase == BODY:
                self.body_clock()
            else:
                self.ended |= self.hangup      # it took what waited
                self.loop.arm(self, 0)
            self.exchange.client_drained()
        elif self.phase == LINGER:
            self.linger()
        elif self.phase == HEAD:
            self.idle()
            self.pump()            # requests that waited for room
        return -1 if self.closed else 0

    cdef void on_deadline(self) noexcept:
        cdef Exchange exchange = self.exchange
        cdef uint64_t now = self.loop.now_ms
        if self.out.base != NULL:  # an RST: what is missing shows, and the kernel keeps nothing for a client that is not there
            if exchange is not None:
                exchange.fail(FAULT_SEND_TIMEOUT)
            else:
                self.abort()
        elif self.phase == HEAD and self.input.base == NULL and self.arrived():
            self.readable = True   # a request came in the last moment: it is served
            self.pump()
        elif self.tls is not None and self.requests and self.phase == HEAD and self.input.base == NULL and (
                now - self.since_ms < self.clients.idle_for() - SLOT_MS):
            self.rest()            # it really is idle
            self.loop.arm(self, self.since_ms + self.clients.idle_for())
        elif self.phase == HEAD and self.input.base != NULL:
            self.refuse(FAULT_HEAD_TIMEOUT)
        elif exchange is not None and self.phase == BODY:
            self.body_late()
        elif exchange is not None and self.phase == WAIT:
            if self.taken() == self.window_bytes:
                self.gone()
            else:
                self.ended = True
        elif self.phase == TUNNEL:
            pass                   # the upstream is timed instead
        else:
            self.close()

    cdef void body_late(self) noexcept:
        cdef Exchange exchange = self.exchange
        cdef uint64_t now = self.loop.now_ms
        if exchange.replied:
            return                 # from here on the exchange is timed as a whole
        if not exchange.wants():
            if now - self.since_ms >= 2 * self.clients.body_ms:
                exchange.fail(FAULT_UPSTREAM_TIMEOUT)
            else:                  # that time is the upstream's: it does not count for the client's rate
                self.window_ms = now
                self.window_bytes = 0
                self.loop.arm(self, now + self.clients.body_ms)
        elif now - self.since_ms >= self.clients.body_ms or self.window_bytes < MINIMUM_RATE * (now - self.window_ms) // 1000:
            exchange.fail(FAULT_BODY_TIMEOUT)
        else:
            self.window_ms = now
            self.window_bytes = 0
            self.loop.arm(self, self.since_ms + self.clients.body_ms)

    cdef void part(self) noexcept:
        """The client has ended its direction. While it waits or listens that says that it is gone, as far as anybody can tell: a
        FIN is all that is seen of one that closed. Where it comes at once behind the request, it may still take the answer."""
        cdef uint64_t now = self.loop.now_ms
        if self.phase != WAIT or self.exchange is None or self.ended or self.deadline:
            return
        if now - max(self.since_ms, self.exchange.started_us // 1000) > SOON_MS:
            self.gone()
            return
        self.window_bytes = self.taken()
        self.loop.arm(self, now + HALF_CLOSE_MS)

    cdef uint64_t taken(self) noexcept:
        """What the client was sent of its response: one that has closed answers any of it with an RST."""
        return self.exchange.bytes_out + self.exchange.replied

    cdef void gone(self) noexcept:
        if self.exchange is not None:
            self.exchange.client_gone()
        if not self.closed and self.tls is not None and self.tls.alerts():
            release(&self.loop.pool, &self.input)
            let_arrive(self)
        else:
            self.close()

    cdef bint arrived(self) noexcept:
        cdef char byte
        return recv(self.fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT) > 0

    cdef void start(self) noexcept:
        self.since_ms = self.loop.now_ms
        self.loop.arm(self, self.loop.now_ms + self.clients.head_ms)
        self.pump()

    cdef void drain(self) noexcept:
        if self.exchange is None and self.phase == HEAD and self.input.base == NULL and self.out.base == NULL:
            self.loop.arm(self, self.loop.now_ms + DRAIN_IDLE_MS)

    cdef void cut(self) noexcept:
        if self.exchange is not None:
            self.exchange.fail(FAULT_DRAINING)
        if self.out.base != NULL:
            self.abort()           # what is cut must not look whole
        self.close()

    cdef void close(self) noexcept:
        if not self.closed:
            release(&self.loop.pool, &self.input)
            Client.close(self)

    # -- reading -------------------------------------------------------------------------------------------------------

    cdef bint blocked(self) noexcept:
        """Whether nothing could be done with more bytes now."""
        if self.phase == WAIT:     # a client over TLS may say goodbye without a FIN: what it says behind its request is looked at
            return self.tls is None or self.input.base != NULL
        if self.phase == BODY or self.phase == TUNNEL:
            return self.exchange is None or not self.exchange.wants()
        # a response that the client does not take holds back the next request
        return self.out.base != NULL and self.phase == HEAD

    cdef void pump(self) noexcept:
        """Use the bytes that are there: first those that waited, then the socket's."""
        cdef ssize_t n
        cdef size_t used
        cdef int reads
        cdef char *at
        if self.pumping:
            return
        self.pumping = True
        reads = 0
        while not self.closed:
            if self.input.base != NULL and self.seen == 0:
                used = self.process(self.input.base + self.input.start, waiting(&self.input))
                if self.closed:
                    break
                if self.input.base != NULL:    # else the phase let go of it
                    consume(&self.loop.pool, &self.input, <uint32_t>used)
                    if used and self.input.base != NULL:
                        continue
            if not self.readable:
                break
            if self.blocked():
                if self.hangup:
                    self.part()
                break
            reads += 1
            if reads > READS:      # others want their turn: the kernel announces the rest again
                self.loop.watch(self, EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET)
                break
            at = self.loop.input
            n = self.read(at, READ)
            if n <= 0:
                if n == READ_END:
                    self.eof()
                elif n != READ_AGAIN:
                    self.gone()
                break
            if self.input.base != NULL:        # it grows by what came, not by what may come: many hold a few bytes
                if append(&self.loop.pool, &self.input, at, n) < 0:
                    self.gone()
                    break
                used = self.process(self.input.base + self.input.start, waiting(&self.input))
                if not self.closed and self.input.base != NULL:
                    consume(&self.loop.pool, &self.input, <uint32_t>used)
            else:
                used = self.process(at, n)
                if not self.closed and used < <size_t>n:
                    if append(&self.loop.pool, &self.input, at + used, n - used) < 0:
                        self.gone()
                if n == READ:
                    reads = self.carry(reads)
        self.pumping = False

    cdef int carry(self, int reads) noexcept:
        """A body fills whole reads: let the rest go to the upstream past us, as long as it may. As reads are counted."""
        cdef ssize_t n
        while (self.phase == BODY and self.body.framing == FRAMING_LENGTH and self.body.left > TAKE and self.exchange is not None
               and self.input.base == NULL and self.readable and not self.blocked() and reads < READS
               and self.exchange.carries(self)):
            reads += 1
            n = self.exchange.request_carried(self)
            if n <= 0:
                if n == READ_END:
                    self.eof()
                elif n != READ_AGAIN:
                    self.gone()
                break
            self.body.left -= n
            self.since_ms = self.loop.now_ms
            self.window_bytes += n
        return reads

    cdef size_t process(self, char *at, size_t n) noexcept:
        """Use bytes as far as the phase allows; return how many were used."""
        cdef size_t used = 0, step
        while used < n and not self.closed:
            if self.phase == HEAD:
                if self.out.base != NULL:
                    break
                step = self.take_head(at + used, n - used)
            elif self.phase == BODY:
                step = self.take_body(at + used, n - used)
            elif self.phase == TUNNEL:
                if self.exchange is None or not self.exchange.wants():
                    break
                self.exchange.tunnel_data(at + used, n - used)
                return n
            elif self.phase == LINGER:
                return n
            else:
                break
            if step == 0:
                break
            used += step
        return used

    cdef size_t take_head(self, char *at, size_t n) noexcept:
        """Parse a head and begin its exchange; the part of the body that came with it goes along."""
        cdef Gateway gateway = self.gateway
        cdef RequestHead *head = &gateway.head
        cdef Exchange exchange
        cdef const Bind *bind
        cdef size_t used
        cdef uint32_t serial
        cdef int result = parse_request(at, <uint32_t>n, self.seen, &gateway.limits, head)
        if result == PARTIAL:
            if self.seen == 0:
                self.since_ms = self.loop.now_ms
                self.loop.arm(self, self.loop.now_ms + self.clients.head_ms)
            self.seen = <uint32_t>n
            return 0
        self.seen = 0
        if result < 0:
            return self.take_no_head(at, n, result)
        used = result
        self.requests += 1
        self.minor = head.minor
        self.head_only = head.method_id == METHOD_HEAD
        self.last = not head.keep_alive
        self.keep = (head.keep_alive and not gateway.draining and self.requests < self.clients.keepalive_requests
                     and self.loop.now_ms - self.born_ms < self.clients.keepalive_age_ms)
        self.chunked = False
        self.loop.arm(self, 0)
        body_start(&self.body, head.framing, head.content_length, False)
        bind = self.bind()
        if bind == NULL:
            self.refuse(FAULT_NO_RULE)
            return n
        self.phase = WAIT if self.body.done else BODY
        exchange = gateway.exchange()
        serial = exchange.serial
        if exchange.begin(self, bind, head) != 0:
            return used
        if head.expect and self.phase == BODY and n == used:
            if self.send(b"HTTP/1.1 100 Continue\r\n\r\n", 25) < 0:
                exchange.client_gone()
                return n
        while self.phase == BODY and used < n:
            result = <int>self.take_body(at + used, n - used)
            if result == 0 or exchange.serial != serial:
                break
            used += result
        if exchange.serial == serial:
            if self.phase == BODY:
                self.since_ms = self.window_ms = self.loop.now_ms
                self.window_bytes = 0
                self.loop.arm(self, self.loop.now_ms + self.clients.body_ms)
            exchange.launch()
        return used

    cdef size_t take_no_head(self, char *at, size_t n, int result) noexcept:
        """What came is no request: that of another protocol, or one that is refused."""
        if self.requests == 0 and self.tls is None and read_preface(<uint8_t *>at, <uint32_t>n) != FRAME_BAD:
            return self.become_http2(at, n)
        if self.requests == 0 and result == BAD_REQUEST and not is_http(at, n):
            self.close()
            return n
        self.minor = 1
        self.head_only = False
        self.refuse(fault_of_parse(result))
        return n

    cdef size_t become_http2(self, char *at, size_t n) noexcept:
        """These bytes are the preface of HTTP/2, or as much of it (prior knowledge, RFC 9113 3.3)."""
        cdef Http2Connection connection
        if n < PREFACE:
            return 0
        connection = Http2Connection.__new__(Http2Connection)
        self.clients.replace(self, connection)
        connection.take_over(at, n)
        release(&self.loop.pool, &self.input)
        connection.start()
        return n

    cdef size_t take_body(self, char *at, size_t n) noexcept:
        """Pass a part of the request's body on; return the bytes used."""
        cdef Exchange exchange = self.exchange
        cdef Field *fields = self.gateway.head.fields
        cdef uint32_t count
        cdef size_t used, payload
        cdef char *data
        cdef int result
        if exchange is None or not exchange.wants():
            return 0
        if self.body.trailing:
            result = parse_trailers(at, <uint32_t>n, &self.gateway.limits, fields, &count)
            if result == PARTIAL:
                return 0
            if result < 0:
                exchange.fail(FAULT_FIELDS_LARGE if result == BAD_FIELDS_LARGE else FAULT_BAD_TRAILER)
                return n
            self.body_ended()
            if result > 2:
                exchange.request_trailers(at, keep_trailers(at, fields, count, FIELD_HOP | FIELD_UNDERSCORE))
            else:
                exchange.request_data(NULL, 0, True)
            return result
        result = body_next(&self.body, at, n, &used, &data, &payload)
        if result == BODY_BAD:
            exchange.fail(FAULT_BAD_CHUNK)
            return n
        self.since_ms = self.loop.now_ms
        self.window_bytes += payload
        if result == BODY_END:
            self.body_ended()
        exchange.request_data(data, payload, result == BODY_END)
        return used

    cdef void body_ended(self) noexcept:
        self.phase = WAIT
        if self.out.base == NULL:
            self.loop.arm(self, 0)

    cdef void body_clock(self) noexcept:
        self.since_ms = self.loop.now_ms
        self.loop.arm(self, self.loop.now_ms + self.clients.body_ms)

    cdef void eof(self) noexcept:
        """The client sent its last byte: an answer that is under way still goes to it."""
        if self.phase == WAIT and self.exchange is not None:
            self.readable = True   # it is read again behind the answer
            self.part()
            return
        self.ended = True
        if self.phase == TUNNEL:
            self.exchange.tunnel_end()
        elif self.phase == BODY and self.exchange is not None:
            self.exchange.client_gone()
            self.close()
        elif self.phase == LINGER and self.out.base != NULL:
            pass
        else:
            self.close()

    # -- sending: whatever the socket does not take is timed -----------------------------------------------------------

    cdef int send(self, const char *at, size_t n) noexcept:
        cdef int result = Peer.send(self, at, n)
        if self.out.base != NULL:
            self.loop.arm(self, self.loop.now_ms + self.clients.send_ms)
        return result

    cdef int sendv(self, iovec *parts, int count, size_t n) noexcept:
        cdef int result = Peer.sendv(self, parts, count, n)
        if self.out.base != NULL:
            self.loop.arm(self, self.loop.now_ms + self.clients.send_ms)
        return result

    # -- the response (Downstream) -------------------------------------------------------------------------------------

    cdef int respond(self, const ResponseHead *head, const Ops *ops, const char *at, size_t n, bint end) noexcept:
        cdef Out out
        cdef bint bodiless, sized
        if head.status == 101:
            self.phase = TUNNEL
            self.keep = self.head_only = False
        elif self.gateway.draining or not self.exchange.requested:
            self.keep = False      # an early answer: the rest of the request will not be read
        bodiless = self.head_only or head.status == 204 or head.status == 304
        sized = head.framing == FRAMING_LENGTH or bodiless
        self.chunked = not sized and self.minor > 0 and head.status != 101
        if not sized and not self.chunked:
            self.keep = False      # HTTP/1.0: the end of the connection ends the body
        if bodiless:
            n = 0
        self.closing = not self.keep
        out.at = self.loop.output
        out.end = self.loop.output + self.loop.scratch - SMALL_BODY
        out.full = False
        write_response(&out, ops, head, self.loop.date, 1 if self.closing else 0 if self.minor else 2, self.chunked,
                       head.status == 204 or head.framing == FRAMING_CHUNKED)
        if out.full:
            return -1
        if self.chunked or n > SMALL_BODY:
            return self.body_out(self.loop.output, out.at - self.loop.output, at, n, end)
        out.end += SMALL_BODY
        put(&out, at, n)
        return self.send(self.loop.output, out.at - self.loop.output)

    cdef int data(self, const char *at, size_t n, bint end) noexcept:
        if self.head_only:
            n = 0
        if n == 0 and not (end and self.chunked):
            return 0
        return self.body_out(NULL, 0, at, n, end)

    cdef int body_out(self, const char *head, size_t head_n, const char *at, size_t n, bint end) noexcept:
        """Send the head, if any, then n bytes of body in the framing of this response."""
        cdef char line[18]
        cdef iovec parts[4]
        cdef int count = 1 if head_n else 0
        parts[0].iov_base = <void *>head
        parts[0].iov_len = head_n
        count += body_parts(parts + count, line, self.chunked, at, n, end)
        return self.sendv(parts, count, parts_size(parts, count))

    cdef int trailers(self, const char *at, size_t n) noexcept:
        cdef iovec parts[3]
        cdef int count
        if not self.chunked:
            return 0
        count = trailer_parts(parts, at, n)
        return self.sendv(parts, count, parts_size(parts, count))

    cdef int inform(self, const ResponseHead *head) noexcept:
        cdef Out out
        cdef Ops none
        memset(&none, 0, sizeof(none))
        out.at = self.loop.output
        out.end = self.loop.output + self.loop.scratch
        out.full = False
        write_response(&out, &none, head, self.loop.date, 0, False, True)
        return -1 if out.full else self.send(self.loop.output, out.at - self.loop.output)

    cdef int answer(self, int status, const Ops *ops, const char *location, size_t n) noexcept:
        """Answer ourselves: a line of text, or a redirect."""
        cdef Out out
        if self.phase == BODY or self.gateway.draining:
            self.keep = False      # the rest of the request will not be read
        self.closing = not self.keep
        out.at = self.loop.output
        out.end = self.loop.output + self.loop.scratch
        out.full = False
        write_answer(&out, ops, status, self.loop.date, 1 if self.closing else 0 if self.minor else 2, location, n,
                     self.head_only)
        return -1 if out.full else self.send(self.loop.output, out.at - self.loop.output)

    cdef void refuse(self, int fault) noexcept:
        """Answer bytes that are no request, and end the connection."""
        self.keep = False
        self.gateway.counters.totals.requests += 1
        self.gateway.counters.totals.faults[fault] += 1
        self.gateway.counters.count(1, NO_ROW, fault_row(fault).status, 0, answer_size(fault_row(fault).status), 0, 0)
        self.gateway.log.refusal(self.address, self.address_n, self.tls, 0, fault, self.gateway.head.why, fault_row(fault).status)
        if self.answer(fault_row(fault).status, NULL, NULL, 0) < 0:
            self.close()
        else:
            self.linger()

    cdef void resume(self) noexcept:
        self.pump()

    cdef void done(self, bint keep) noexcept:
        """The exchange is over: go on with the next request, or end."""
        if self.closed:
            return
        if not keep or self.closing or self.phase == TUNNEL:
            if self.phase == TUNNEL or (not keep and not self.closing):
                self.close()
            else:
                self.linger()
            return
        self.phase = HEAD
        self.idle()
        if self.input.base != NULL or self.readable:
            self.pump()

    cdef void idle(self) noexcept:
        cdef uint64_t most = self.clients.idle_for()
        if self.out.base == NULL:
            self.since_ms = self.loop.now_ms
            self.loop.arm(self, self.since_ms + (REST_MS if self.tls is not None and most > REST_MS else most))

    cdef void linger(self) noexcept:
        """End the connection so that what was sent arrives: bytes that still come must not provoke an RST (RFC 9112 9.6)."""
        self.phase = LINGER
        self.seen = 0
        release(&self.loop.pool, &self.input)
        if self.out.base != NULL:
            return                 # sent() comes back here
        if self.ended or self.last and self.body.done and not self.readable:
            self.close()           # nothing more can come: the kernel sends what it has
            return
        self.half_close()
        self.loop.arm(self, self.loop.now_ms + LINGER_MS)

    cdef void abort(self) noexcept:
        """Cut the response off visibly: with an RST where the end of the connection would look like its end."""
        cdef linger hard
        if self.closed:
            return
        self.torn = True
        hard.l_onoff = 1
        hard.l_linger = 0
        setsockopt(self.fd, SOL_SOCKET, SO_LINGER, &hard, sizeof(hard))
        self.close()


cdef bint is_http(const char *line, size_t n) noexcept nogil:
    """Whether somebody who speaks HTTP/1.x may have begun so. What names neither a path nor a version is the preface of another
    protocol, whose speaker could not read an answer (RFC 9113 3.4)."""
    cdef const char *end = <const char *>memchr(line, c"\r", n)
    cdef const char *at = line
    cdef int spaces = 0
    if end == NULL or memchr(line, c"/", end - line) != NULL or memchr(line, c":", end - line) != NULL:
        return True
    while at < end:
        spaces += at[0] == c" "
        at += 1
    return spaces != 2
