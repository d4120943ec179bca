"""Requests to backends of either protocol (see requests.pxd)."""
cimport cython
from cpython.object cimport PyObject
from libc.stdint cimport uint32_t, uint64_t
from libc.string cimport memset

from gwfast.upstream.retry_budget cimport RetryBudget, Spending, budget_add, budget_allows, budget_read
from gwfast.http.fault cimport FAULT_CONNECT, FAULT_CONNECT_TIMEOUT
from gwfast.http2.frames cimport WINDOW_MOST
from gwfast.upstream.endpoint_state cimport (WARM, health_failed, health_of, is_out, others_want, place_taken, places_added,
                                             places_left, warmth)
from gwfast.engine.loop cimport one_of
from gwfast.table.layout cimport BACKEND_LIMITED, NO_BACKEND, PROTO_H2C, Backend, Endpoint, Image, endpoint_at
from gwfast.tls.records cimport CHOSEN_H2

cdef enum:
    POOL_REQUESTS = 100000     # limits.POOL_REQUESTS
    DRAWS = 4                  # at random before all are looked at


@cython.final
@cython.no_gc
cdef class Pools(UpstreamHttp2Connections):
    cdef Upstream take(self, State *state, bint fresh, bint once):
        cdef UpstreamHttp2Connection connection
        if state.protocol != PROTO_H2C and not state.multiplexes:
            return Upstreams.take(self, state, fresh, once)
        connection = self.roomy(state, fresh)
        if connection is None:
            connection = self.connect(state)
        return connection.enter() if connection is not None else None

    cdef UpstreamHttp2Connection roomy(self, State *state, bint fresh):
        """`fresh`: one that no request was sent on yet."""
        cdef PyObject *at = state.http2
        cdef UpstreamHttp2Connection connection
        while at != NULL:
            connection = <UpstreamHttp2Connection>at
            at = connection.under
            if (self.loop.now_ms - connection.born_ms > self.pool_age_ms or connection.requests >= POOL_REQUESTS
                    or connection.next_id >= WINDOW_MOST):
                connection.leave()
                connection.rest_or_end()
            elif connection.hangup or (connection.idle and has_ended(connection)):
                continue
            elif (connection.count + connection.queued + connection.cancelled < connection.most
                    and not (fresh and connection.opened)):
                return connection
        return None

    cdef UpstreamHttp2Connection connect(self, State *state):
        cdef UpstreamHttp2Connection connection = UpstreamHttp2Connection.__new__(UpstreamHttp2Connection)
        cdef Dial dial
        cdef Upstream link = self.dial(state)
        if link is None:
            return None
        if connection.prepare(self, state) < 0:
            link.close()
            return None
        dial = Dial.__new__(Dial)
        dial.connection = connection
        connection.link = link
        link.waiter = dial
        return connection

    cdef const Endpoint *choose_well(self, const Image *image, const Backend *backend, uint32_t avoid,
                                     uint32_t *chosen) noexcept:
        cdef uint32_t a
        if backend.flags & BACKEND_LIMITED and self.is_before(backend, False):
            return NULL
        a = self.better(image, backend, avoid)
        if a < backend.endpoints.count and backend.flags & BACKEND_LIMITED and not self.enter(image, backend, a):
            a = self.roomy_one(image, backend, a, avoid)
        if a >= backend.endpoints.count:
            return NULL
        chosen[0] = a
        return endpoint_at(image, backend.endpoints.first + a)

    cdef uint32_t better(self, const Image *image, const Backend *backend, uint32_t avoid) noexcept:
        """Of two that serve; where none does, any: a guess is better than a certain failure. endpoints.count: no memory."""
        cdef uint32_t n = backend.endpoints.count
        cdef uint32_t a = 0, b
        cdef uint64_t bits
        if n > 1:
            if avoid == NO_BACKEND and not backend.slow_ms:        # the first two mostly serve
                bits = self.loop.random()
                a = one_of(n, bits)
                b = one_of(n - 1, bits << 32)
                b += b >= a
                if self.serves(image, backend, a) and self.serves(image, backend, b):
                    return self.lesser(image, backend, a, b)
            a = self.draw(image, backend, avoid, WARM, True)
            if a < n:
                b = n
                if avoid == NO_BACKEND:
                    b = self.draw(image, backend, a, self.warm(image, backend, a), not backend.slow_ms)
                return a if b == n else self.lesser(image, backend, a, b)
            a = one_of(n, self.loop.random())
            if a == avoid:
                a = (a + 1) % n
        self.serves(image, backend, a)         # out or not, as long as there is memory for it
        return n if self.known(image, backend, a) == NULL else a

    cdef uint32_t lesser(self, const Image *image, const Backend *backend, uint32_t a, uint32_t b) noexcept:
        """Of the two, the one with less to do."""
        return b if self.load(self.known(image, backend, b)) < self.load(self.known(image, backend, a)) else a

    cdef State *known(self, const Image *image, const Backend *backend, uint32_t i) noexcept:
        return self.states[endpoint_at(image, backend.endpoints.first + i).slot]

    cdef uint32_t roomy_one(self, const Image *image, const Backend *backend, uint32_t full, uint32_t avoid) noexcept:
        """Another that serves and takes one more (where none serves: any), which is counted then. endpoints.count: none."""
        cdef uint32_t n = backend.endpoints.count
        cdef uint32_t start = one_of(n, self.loop.random())
        cdef uint32_t i, at
        cdef bint served = self.serves(image, backend, full)
        for i in range(n):
            at = (start + i) % n
            if at != full and at != avoid and self.serves(image, backend, at):
                served = True
                if self.enter(image, backend, at):
                    return at
        if not served:
            for i in range(n):
                at = (start + i) % n
                if at != full and at != avoid and self.enter(image, backend, at):
                    return at
        return n

    cdef bint serves(self, const Image *image, const Backend *backend, uint32_t i) noexcept:
        cdef const Endpoint *endpoint = endpoint_at(image, backend.endpoints.first + i)
        cdef State *state = self.state(endpoint, backend)
        if state == NULL:
            return False
        if state.health == NULL or state.health.generation != state.generation:
            state.health = health_of(self.loop.counters.health, endpoint.slot, state.generation)
            state.places = self.loop.counters.places + endpoint.slot
        return not is_out(state.health, self.loop.now_ms)

    cdef uint32_t warm(self, const Image *image, const Backend *backend, uint32_t i) noexcept:
        if not backend.slow_ms:
            return WARM
        return warmth(self.known(image, backend, i).health, backend.slow_ms, self.loop.now_ms)

    cdef uint32_t draw(self, const Image *image, const Backend *backend, uint32_t other, uint32_t beside, bint must) noexcept:
        """One that serves and is not `other`: at random, those that are new the less often the colder they are (`beside`: how
        warm that one is), and in a row only where most are out and it must be one. endpoints.count: none."""
        cdef uint32_t n = backend.endpoints.count
        cdef uint32_t _, at = 0
        for _ in range(DRAWS):
            at = one_of(n, self.loop.random())
            if at != other and self.serves(image, backend, at) and (
                    not backend.slow_ms or self.warm(image, backend, at) > one_of(beside, self.loop.random())):
                return at
        if not must:
            return n
        for _ in range(n):
            at = at + 1 if at + 1 < n else 0
            if at != other and self.serves(image, backend, at):
                return at
        return n

    # -- places: requests at endpoints of which a policy says how many -------------------------------------------------

    cdef bint enter(self, const Image *image, const Backend *backend, uint32_t i) noexcept:
        cdef State *state
        self.serves(image, backend, i)
        state = self.known(image, backend, i)
        if state == NULL:
            return False
        state.limited = state.special = True
        self.recount(state)
        if state.health == NULL or state.health.generation != state.generation:
            return True            # beyond what can be counted (limits.HEALTH_SLOTS)
        if (not self.queues.impatient and state.health.last == self.worker + 1 and self.others(state)) or (
                not place_taken(state.health, state.places, backend.parallel)):
            if self.queues.serving:
                state.places.wanted = self.loop.now_ms
            return False
        state.health.last = self.worker + 1
        state.counted += 1
        return True

    cdef bint others(self, State *state) noexcept:
        """Whether other workers want a place at this endpoint."""
        return self.workers > 1 and state.health != NULL and others_want(
            self.loop.counters.health, self.worker, self.workers, state.slot, self.loop.now_ms)

    cdef void recount(self, State *state) noexcept:
        """Count what is outstanding as it is now: others may lead to this endpoint, without a limit."""
        if state.health != NULL and state.health.generation == state.generation:
            if state.outstanding > state.counted:
                places_added(state.health, state.places, state.outstanding - state.counted)
            elif state.outstanding < state.counted:
                places_left(state.health, state.places, state.counted - state.outstanding)
        state.counted = state.outstanding

    cdef void done_special(self, State *state) noexcept:
        if state.limited:
            self.recount(state)
            self.queues.look()
            if self.others(state):
                self.queues.call()
        Upstreams.done_special(self, state)

    cdef const Endpoint *choose_now(self, const Image *image, const Backend *backend, uint32_t avoid, uint32_t *chosen) noexcept:
        cdef const Endpoint *endpoint
        self.queues.impatient = True
        endpoint = self.choose(image, backend, avoid, chosen)
        self.queues.impatient = False
        return endpoint

    cdef bint is_before(self, const Backend *backend, bint session) noexcept:
        return not (self.queues.serving or self.queues.impatient) and self.queues.is_before(backend, session)

    cdef int wait(self, Waiter waiter, const Backend *backend, bint session) noexcept:
        return self.queues.enter(waiter, backend, session)

    cdef void leave(self, Waiter waiter) noexcept:
        self.queues.leave(waiter)

    cdef bint may_retry(self, const Image *image, const Backend *backend, uint32_t chosen) noexcept:
        cdef Spending spending
        cdef RetryBudget budget
        cdef State *state
        cdef uint32_t i
        budget_read(&budget, backend)
        memset(&spending, 0, sizeof(spending))
        for i in range(backend.endpoints.count):
            state = self.state(endpoint_at(image, backend.endpoints.first + i), backend)
            if state != NULL:
                budget_add(&budget, &spending, &state.spent, state.sent, self.loop.now_ms)
        state = self.state(endpoint_at(image, backend.endpoints.first + chosen), backend)
        if state == NULL or not budget_allows(&budget, &spending):
            return False
        state.spent.retried += 1
        return True

    cdef void failed(self, State *state, const Image *image, const Backend *backend) noexcept:
        if health_failed(self.loop.counters.health, state.health, image, backend, self.loop.now_ms):
            self.loop.counters.totals.endpoint_ejections += 1

    cdef int place(self, UpstreamStream stream, State *state) noexcept:
        cdef UpstreamHttp2Connection connection = self.roomy(state, True)
        if connection is None:
            connection = self.connect(state)
        if connection is None:
            return -1
        connection.queue_up(stream)
        return 0

    cdef int adopt(self, Upstream upstream) noexcept:
        cdef Waiter waiter = upstream.waiter
        cdef UpstreamHttp2Connection connection = UpstreamHttp2Connection.__new__(UpstreamHttp2Connection)
        cdef UpstreamStream stream
        if connection.prepare(self, upstream.state) < 0:
            return -1
        connection.state.multiplexes = True
        stream = connection.enter()
        connection.take_over(upstream)
        waiter.upstream_moved(stream)
        connection.connected()
        return 0

    cdef void retire(self, State *state) noexcept:
        cdef UpstreamHttp2Connection connection
        state.retired = state.special = True
        state.connections += 1     # keep it through the loop
        while state.http2 != NULL:
            connection = <UpstreamHttp2Connection>state.http2
            connection.leave()
            connection.rest_or_end()
        state.connections -= 1
        Upstreams.retire(self, state)

    cdef bint shed(self) noexcept:
        cdef PyObject *at
        cdef uint32_t i
        if Upstreams.shed(self):
            return True
        if self.loop.counters.totals.upstream_idle:
            for i in range(self.size):
                at = self.states[i].http2 if self.states[i] != NULL else NULL
                while at != NULL:
                    if (<UpstreamHttp2Connection>at).idle:
                        (<UpstreamHttp2Connection>at).close()
                        return True
                    at = (<UpstreamHttp2Connection>at).under
        return False


cdef bint has_ended(UpstreamHttp2Connection connection) noexcept:
    """Whether an idle connection takes no more: what says so may have come, and no event of it been looked at yet."""
    connection.readable = True
    connection.pump()
    return connection.leaving


@cython.final
@cython.no_gc
cdef class Dial(Waiter):
    cdef void upstream_open(self) noexcept:
        cdef UpstreamHttp2Connection connection = self.connection
        cdef Upstream link = connection.link
        if link.tls is not None and link.tls.chosen() != CHOSEN_H2:
            if connection.state.protocol != PROTO_H2C:
                connection.state.multiplexes = False
                connection.requeue()
            self.upstream_failed(FAULT_CONNECT)
            return
        connection.take_over(link)
        connection.connected()

    cdef void upstream_failed(self, int fault) noexcept:
        cdef UpstreamHttp2Connection connection = self.connection
        connection.leave()
        connection.fail_queued(fault)
        connection.close()

    cdef void upstream_late(self) noexcept:
        self.upstream_failed(FAULT_CONNECT_TIMEOUT)
