"""A connection whose bytes go to a backend as they are (see relay.pxd).

Bytes are copied through buffers of the worker: a read and a send for each direction and up to 64 KiB. Where a read fills its
buffer and neither side is TLS, what follows in that turn goes by splice(2) through one pipe of the worker, and is copied only
when the other socket gets full. A GiB over loopback, CPU time of this engine: buffers alone 0.71 s; so 0.43 to 0.53 s.
"""
cimport cython
from libc.errno cimport EPIPE
from libc.stdint cimport uint8_t, uint32_t

from gwfast.http.fault cimport (FAULT_CLIENT_GONE, FAULT_CONNECT, FAULT_CONNECT_TIMEOUT, FAULT_DRAINING, FAULT_IDLE,
                                FAULT_INTERNAL, FAULT_NONE, FAULT_UPSTREAM_CUT)
from gwfast.upstream.endpoint_state cimport health_succeeded
from gwfast.engine.linger cimport let_arrive
from gwfast.engine.loop cimport READ_AGAIN, READ_END, READS, Peer, append, release, waiting
from gwfast.l4.splice cimport SINK_BROKEN, SINK_ENDED, TAKE, carry, joined
from gwfast.engine.sys cimport *
from gwfast.upstream.pool cimport CONNECTING, State


@cython.final
@cython.no_gc
cdef class Leg(Waiter):
    cdef void upstream_open(self) noexcept:
        self.relay.opened()

    cdef void upstream_readable(self) noexcept:
        self.relay.pump_back()

    cdef void upstream_drained(self) noexcept:
        self.relay.close_half()
        if self.relay is not None:
            self.relay.pump()

    cdef void upstream_failed(self, int fault) noexcept:
        cdef Relay relay = self.relay
        cdef Upstream upstream = relay.upstream
        relay.suspect()
        relay.flow.fault = <uint8_t>fault
        relay.upstream = None
        upstream.close()
        relay.attempt()

    cdef void upstream_late(self) noexcept:
        if self.relay.upstream.status == CONNECTING:
            self.upstream_failed(FAULT_CONNECT_TIMEOUT)


@cython.final
@cython.no_gc
cdef class Relay(Client):
    cdef void start(self) noexcept:
        self.begin(NULL, 0, NULL, 0)

    cdef void begin(self, const char *name, uint32_t name_n, const char *at, size_t n) noexcept:
        cdef int fault
        self.flow = Flow.__new__(Flow)
        self.flow.gateway = self.gateway
        self.leg = Leg.__new__(Leg)
        self.leg.relay = self
        if append(&self.loop.pool, &self.name, name, name_n) < 0 or append(&self.loop.pool, &self.first, at, n) < 0:
            self.finish(FAULT_INTERNAL, True)
            return
        self.flow.bytes_in = n
        fault = self.flow.find(self.bind(), name, name_n)
        if fault:
            self.finish(fault, False)
        else:
            self.attempt()

    cdef void attempt(self) noexcept:
        """Connect to an endpoint, and to another one where that fails at once."""
        cdef State *state
        while True:
            state = self.flow.next()
            if state == NULL:
                self.finish(self.flow.fault if self.flow.fault else FAULT_CONNECT, False)
                return
            self.upstream = self.gateway.upstreams.dial(state)
            if self.upstream is not None:
                self.upstream.waiter = self.leg
                return
            self.suspect()

    cdef void suspect(self) noexcept:
        self.gateway.upstreams.suspect(self.flow.state)
        if self.flow.backend.flags:
            self.gateway.upstreams.failed(self.flow.state, self.flow.table.image, self.flow.backend)

    cdef void opened(self) noexcept:
        self.ready = True
        if self.flow.backend.flags:
            health_succeeded(self.flow.state.health)
        self.flow.fault = FAULT_NONE
        if self.first.base != NULL:
            if self.upstream.send(self.first.base + self.first.start, waiting(&self.first)) < 0:
                self.deaf(errno == EPIPE)
                return
            release(&self.loop.pool, &self.first)
        self.gateway.counters.totals.tunnels += 1
        self.busy()
        self.readable = True
        self.pump()

    # -- both directions -----------------------------------------------------------------------------------------------

    cdef void busy(self) noexcept:
        self.loop.arm(self, self.loop.now_ms + self.clients.tcp_idle_ms)

    cdef void on_events(self, uint32_t events) noexcept:
        if events & EPOLLERR:
            self.finish(FAULT_CLIENT_GONE, True)
            return
        if events & (EPOLLRDHUP | EPOLLHUP):
            self.hangup = True
        if events & EPOLLOUT and self.out.base != NULL:
            if self.flush() < 0:
                self.finish(FAULT_CLIENT_GONE, True)
                return
            if self.ready:
                self.busy()
            if self.out.base == NULL:
                self.close_half()
                if not self.closed:
                    self.upstream.pull()
        if events & (EPOLLIN | EPOLLRDHUP | EPOLLHUP) and not self.closed:
            self.readable = True
            self.pump()

    cdef void pump(self) noexcept:
        cdef Upstream upstream = self.upstream
        cdef ssize_t n
        cdef int reads = 0
        cdef bint bulk = False
        if self.pumping or not self.ready:
            return
        self.pumping = True
        while not self.closed and self.readable and not self.client_ended and upstream.out.base == NULL:
            reads += 1
            if reads > READS:          # others want their turn: the kernel announces the rest again
                self.loop.watch(self, EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET)
                break
            n = carry(self, upstream, TAKE) if bulk else self.read(self.loop.input, TAKE)
            if n > 0:
                self.flow.bytes_in += n
                self.busy()
                if not bulk and upstream.send(self.loop.input, n) < 0:
                    self.deaf(errno == EPIPE)
                elif n == TAKE:
                    bulk = joined(self, upstream)
            elif n == SINK_ENDED or n == SINK_BROKEN:
                self.deaf(n == SINK_ENDED)
            elif n == READ_END:
                self.client_ended = True
                self.close_half()
            elif n == READ_AGAIN:
                break
            else:
                self.finish(FAULT_CLIENT_GONE, True)
        self.pumping = False

    cdef void deaf(self, bint ended) noexcept:
        """The backend takes no more. Where it had ended (EPIPE) what it said before is passed on, then its end."""
        if not ended:
            self.finish(FAULT_UPSTREAM_CUT, True)
            return
        self.client_ended = True
        self.upstream.readable = True
        self.pump_back()

    cdef void pump_back(self) noexcept:
        cdef Upstream upstream = self.upstream
        cdef ssize_t n
        cdef int reads = 0
        cdef bint bulk = False
        while not self.closed and upstream.readable and not self.upstream_ended and self.out.base == NULL:
            reads += 1
            if reads > READS:
                self.loop.watch(upstream, EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET)
                return
            n = carry(upstream, self, TAKE) if bulk else upstream.read(self.loop.reply, TAKE)
            if n > 0:
                self.flow.bytes_out += n
                self.busy()
                if not bulk and self.send(self.loop.reply, n) < 0:
                    self.finish(FAULT_CLIENT_GONE, True)
                elif n == TAKE:
                    bulk = joined(upstream, self)
            elif n == SINK_ENDED or n == SINK_BROKEN:
                self.finish(FAULT_CLIENT_GONE, True)
            elif n == READ_END:
                self.upstream_ended = True
                self.close_half()
            elif n == READ_AGAIN:
                return
            else:
                self.finish(FAULT_UPSTREAM_CUT, True)

    cdef void close_half(self) noexcept:
        """Pass the end of a direction on when everything before it was."""
        cdef bint sent = self.client_ended and self.upstream.out.base == NULL
        cdef bint back = self.upstream_ended and self.out.base == NULL
        if sent and back:
            self.finish(FAULT_NONE, False)
        elif sent:
            self.upstream.half_close()
        elif back:
            self.half_close()

    # -- the end -------------------------------------------------------------------------------------------------------

    cdef void on_deadline(self) noexcept:
        self.finish(FAULT_IDLE, False)

    cdef void cut(self) noexcept:
        self.finish(FAULT_DRAINING, True)

    cdef void finish(self, int fault, bint reset) noexcept:
        """End both sides, with an RST where what was sent must not look whole."""
        cdef Upstream upstream = self.upstream
        if self.closed:
            return
        self.flow.fault = <uint8_t>fault
        self.upstream = None
        self.leg.relay = None
        if upstream is not None:
            if reset:
                hard(upstream)
            upstream.close()
        self.flow.end(self.address, self.address_n, self.name.base + self.name.start if self.name.base != NULL else NULL,
                     waiting(&self.name), self.tls)
        release(&self.loop.pool, &self.name)
        release(&self.loop.pool, &self.first)
        if self.tls is not None and self.tls.alerts():
            let_arrive(self)           # which says that what was sent is not whole
            return
        if reset or fault:
            hard(self)
        self.close()


cdef void hard(Peer peer) noexcept:
    cdef linger now
    now.l_onoff, now.l_linger = 1, 0
    peer.torn = True
    setsockopt(peer.fd, SOL_SOCKET, SO_LINGER, &now, sizeof(now))
