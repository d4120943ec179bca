"""Requests to backends of either protocol (see _upstream2.pxd)."""
cimport cython
from cpython.object cimport PyObject
from libc.stdint cimport uint32_t

from gwfast._fault cimport FAULT_CONNECT, FAULT_CONNECT_TIMEOUT
from gwfast._frames cimport WINDOW_MOST
from gwfast._health cimport health_failed, health_of, is_out
from gwfast._table cimport NO_BACKEND, PROTO_H2C, Backend, Endpoint, Image, endpoint_at
from gwfast._tls cimport CHOSEN_H2

cdef enum:
    POOL_REQUESTS = 100000     # limits.POOL_REQUESTS
    DRAWS = 4                  # at random before all are looked at


@cython.final
@cython.no_gc
cdef class Pools(Muxes):
    cdef Upstream take(self, State *state, bint fresh):
        cdef Mux mux
        if state.protocol != PROTO_H2C and not state.multiplexes:
            return Upstreams.take(self, state, fresh)
        mux = self.roomy(state, fresh)
        if mux is None:
            mux = self.connect(state)
        return mux.enter() if mux is not None else None

    cdef Mux roomy(self, State *state, bint fresh):
        """`fresh`: one that no request was sent on yet."""
        cdef PyObject *at = state.muxes
        cdef Mux mux
        while at != NULL:
            mux = <Mux>at
            at = mux.under
            if (self.loop.now_ms - mux.born_ms > self.pool_age_ms or mux.requests >= POOL_REQUESTS
                    or mux.next_id >= WINDOW_MOST):
                mux.leave()
                mux.rest_or_end()
            elif mux.count + mux.queued + mux.cancelled < mux.most and not (fresh and mux.opened):
                return mux
        return None

    cdef Mux connect(self, State *state):
        cdef Mux mux = Mux.__new__(Mux)
        cdef Dial dial
        cdef Upstream link = self.dial(state)
        if link is None:
            return None
        if mux.prepare(self, state) < 0:
            link.close()
            return None
        dial = Dial.__new__(Dial)
        dial.mux = mux
        mux.link = link
        link.waiter = dial
        return mux

    cdef const Endpoint *choose_well(self, const Image *image, const Backend *backend, uint32_t avoid,
                                     uint32_t *chosen) noexcept:
        """The same among those that serve; where none does, among all: a guess is better than a certain failure."""
        cdef uint32_t n = backend.endpoints.count
        cdef uint32_t a = self.draw(image, backend, avoid)
        cdef uint32_t b = n
        if a == n:
            a = <uint32_t>(((self.loop.random() & 0xFFFFFFFF) * n) >> 32)
            if a == avoid:
                a = (a + 1) % n
            self.serves(image, backend, a)
        elif avoid == NO_BACKEND:
            b = self.draw(image, backend, a)
        if self.states[endpoint_at(image, backend.endpoints.first + a).slot] == NULL:
            return NULL
        if b < n and (self.load(self.states[endpoint_at(image, backend.endpoints.first + b).slot])
                      < self.load(self.states[endpoint_at(image, backend.endpoints.first + a).slot])):
            a = b
        chosen[0] = a
        return endpoint_at(image, backend.endpoints.first + a)

    cdef bint serves(self, const Image *image, const Backend *backend, uint32_t i) noexcept:
        cdef const Endpoint *endpoint = endpoint_at(image, backend.endpoints.first + i)
        cdef State *state = self.state(endpoint, backend)
        if state == NULL:
            return False
        if state.health == NULL or state.health.sign != state.sign:
            state.health = health_of(self.loop.counters.health, endpoint.slot, state.sign)
        return not is_out(state.health, self.loop.now_ms)

    cdef uint32_t draw(self, const Image *image, const Backend *backend, uint32_t other) noexcept:
        """One that serves and is not `other`: at random, and in a row only where most are out. endpoints.count: none."""
        cdef uint32_t n = backend.endpoints.count
        cdef uint32_t _, at = 0
        for _ in range(DRAWS):
            at = <uint32_t>(((self.loop.random() & 0xFFFFFFFF) * n) >> 32)
            if at != other and self.serves(image, backend, at):
                return at
        for _ in range(n):
            at = at + 1 if at + 1 < n else 0
            if at != other and self.serves(image, backend, at):
                return at
        return n

    cdef void failed(self, State *state, const Image *image, const Backend *backend) noexcept:
        if health_failed(self.loop.counters.health, state.health, image, backend, self.loop.now_ms):
            self.loop.counters.totals.endpoint_ejections += 1

    cdef int place(self, Stream stream, State *state) noexcept:
        cdef Mux mux = self.roomy(state, True)
        if mux is None:
            mux = self.connect(state)
        if mux is None:
            return -1
        mux.queue_up(stream)
        return 0

    cdef int adopt(self, Upstream upstream) noexcept:
        cdef Waiter waiter = upstream.waiter
        cdef Mux mux = Mux.__new__(Mux)
        cdef Stream stream
        if mux.prepare(self, upstream.state) < 0:
            return -1
        mux.state.multiplexes = True
        stream = mux.enter()
        mux.take_over(upstream)
        waiter.upstream_moved(stream)
        mux.connected()
        return 0

    cdef void retire(self, State *state) noexcept:
        cdef Mux mux
        state.retired = True
        state.connections += 1     # keep it through the loop
        while state.muxes != NULL:
            mux = <Mux>state.muxes
            mux.leave()
            mux.rest_or_end()
        state.connections -= 1
        Upstreams.retire(self, state)

    cdef bint shed(self) noexcept:
        cdef PyObject *at
        cdef uint32_t i
        if Upstreams.shed(self):
            return True
        if self.loop.counters.totals.upstream_idle:
            for i in range(self.size):
                at = self.states[i].muxes if self.states[i] != NULL else NULL
                while at != NULL:
                    if (<Mux>at).idle:
                        (<Mux>at).close()
                        return True
                    at = (<Mux>at).under
        return False


@cython.final
@cython.no_gc
cdef class Dial(Waiter):
    cdef void upstream_open(self) noexcept:
        cdef Mux mux = self.mux
        cdef Upstream link = mux.link
        if link.tls is not None and link.tls.chosen() != CHOSEN_H2:
            if mux.state.protocol != PROTO_H2C:
                mux.state.multiplexes = False
                mux.requeue()
            self.upstream_failed(FAULT_CONNECT)
            return
        mux.take_over(link)
        mux.connected()

    cdef void upstream_failed(self, int fault) noexcept:
        cdef Mux mux = self.mux
        mux.leave()
        mux.fail_queued(fault)
        mux.close()

    cdef void upstream_late(self) noexcept:
        self.upstream_failed(FAULT_CONNECT_TIMEOUT)
