"""The way of what is not HTTP (see flow.pxd)."""
cimport cython
from libc.stdint cimport uint8_t, uint32_t
from libc.string cimport memcmp, memset

from gwfast.engine.counters cimport NO_ROW
from gwfast.http.fault cimport FAULT_NO_BACKEND, FAULT_NO_ENDPOINT, FAULT_NO_RULE, fault_row
from gwfast.upstream.endpoint_state cimport is_out
from gwfast.engine.access_log cimport Record, say_tls
from gwfast._match cimport FOUND, Found, find_route
from gwfast._pick cimport pick
from gwfast.engine.sys cimport *
from gwfast.table.layout cimport NO_BACKEND, Choice, Endpoint, Span, backend_at, choice_at, endpoint_at, text
from gwfast.upstream.pool cimport Upstreams

cdef enum:
    ATTEMPTS = 3               # limits.CONNECT_ATTEMPTS


cdef bint is_at(const State *state, const Endpoint *endpoint) noexcept nogil:
    """Whether this is the state's address and port."""
    cdef const sockaddr_in *v4 = <const sockaddr_in *>state.address
    cdef const sockaddr_in6 *v6 = <const sockaddr_in6 *>state.address
    if v4.sin_family == AF_INET:
        return (endpoint.family == 4 and v4.sin_port == htons(endpoint.port)
                and memcmp(&v4.sin_addr, endpoint.address, 4) == 0)
    return (endpoint.family == 6 and v6.sin6_port == htons(endpoint.port) and v6.sin6_scope_id == endpoint.scope
            and memcmp(&v6.sin6_addr, endpoint.address, 16) == 0)


@cython.final
@cython.no_gc
cdef class Flow:
    cdef int find(self, const Bind *bind, const char *name, uint32_t n) noexcept:
        cdef const Choice *choice
        cdef Found found
        self.started_us = self.gateway.loop.now_us
        self.table = self.gateway.table
        if bind == NULL:
            return FAULT_NO_RULE
        if find_route(self.table.image, bind, name, n, &found) != FOUND:
            self.listener = found.listener
            return FAULT_NO_RULE
        self.listener, self.rule = found.listener, found.rule
        if found.rule.total == 0:
            return FAULT_NO_BACKEND
        choice = choice_at(self.table.image, found.rule.choices.first
                           + (pick(self.table.image, found.rule, &self.gateway.picks) if found.rule.choices.count > 1 else 0))
        if choice.backend == NO_BACKEND:
            return FAULT_NO_BACKEND
        self.backend = backend_at(self.table.image, choice.backend)
        return FAULT_NO_ENDPOINT if self.backend.endpoints.count == 0 else 0

    cdef State *next(self) noexcept:
        cdef Upstreams upstreams = self.gateway.upstreams
        cdef const Endpoint *endpoint
        self.leave()
        if self.attempts >= self.backend.endpoints.count or self.attempts >= ATTEMPTS:
            return NULL
        endpoint = upstreams.choose_now(self.table.image, self.backend, self.chosen if self.attempts else NO_BACKEND,
                                        &self.chosen)
        self.attempts += 1
        self.state = upstreams.state(endpoint, self.backend) if endpoint != NULL else NULL
        if self.state != NULL:
            self.state.outstanding += 1
        return self.state

    cdef void leave(self) noexcept:
        if self.state != NULL:
            self.gateway.upstreams.done(self.state)
            self.state = NULL

    cdef bint renew(self, const Bind *bind) noexcept:
        cdef MappedTable table = self.gateway.table
        cdef const Backend *backend = NULL
        cdef const Choice *choice
        cdef Found found
        cdef uint32_t i, at, chosen = 0
        if bind == NULL or find_route(table.image, bind, NULL, 0, &found) != FOUND or found.rule.total == 0:
            return False
        for i in range(found.rule.choices.count):      # without those of weight 0, which follow them
            choice = choice_at(table.image, found.rule.choices.first + i)
            at = self.place_in(table.image, choice.backend) if choice.backend != NO_BACKEND else NO_BACKEND
            if at != NO_BACKEND:
                backend, chosen = backend_at(table.image, choice.backend), at
                if backend.id == self.backend.id:      # of two with this endpoint, the one that was picked
                    break
        if backend == NULL:
            return False
        if not self.enter(endpoint_at(table.image, backend.endpoints.first + chosen), backend):
            return False
        if backend.flags:
            self.gateway.upstreams.serves(table.image, backend, chosen)        # its state knows its health then
        self.table, self.listener, self.rule, self.backend, self.chosen = table, found.listener, found.rule, backend, chosen
        return True

    cdef uint32_t place_in(self, const Image *image, uint32_t backend) noexcept:
        """Where the endpoint is among this backend's; NO_BACKEND: it is not."""
        cdef Span endpoints = backend_at(image, backend).endpoints
        cdef const Endpoint *endpoint = endpoint_at(image, endpoints.first)
        cdef uint32_t i
        for i in range(endpoints.count):
            if is_at(self.state, endpoint + i):
                return i
        return NO_BACKEND

    cdef bint enter(self, const Endpoint *endpoint, const Backend *backend) noexcept:
        """Count where the endpoint is counted now: one that went and came back has another slot or generation."""
        cdef State *state = self.state
        if state.slot == endpoint.slot and state.generation == endpoint.generation:
            return True
        state = self.gateway.upstreams.state(endpoint, backend)
        if state == NULL:
            return False
        state.outstanding += 1
        self.leave()
        self.state = state
        return True

    cdef bint may_move(self) noexcept:
        cdef uint32_t i
        if not is_out(self.state.health, self.gateway.loop.now_ms):
            return False
        for i in range(self.backend.endpoints.count):
            if self.gateway.upstreams.serves(self.table.image, self.backend, i):
                return True
        return False

    cdef void end(self, const char *client, uint8_t client_n, const char *name, uint32_t n, Session tls) noexcept:
        cdef Record record
        if self.fault:
            self.gateway.counters.totals.faults[self.fault] += 1
        self.gateway.counters.count(self.rule.counter if self.rule != NULL else 1,
                                    self.backend.counter if self.backend != NULL else NO_ROW, 0, self.bytes_in,
                                    self.bytes_out, self.gateway.loop.now_us - self.started_us, 0)
        if self.gateway.log.format:
            memset(&record, 0, sizeof(record))
            record.client.at, record.client.n = client, client_n
            record.host.at, record.host.n = name, n
            record.flags = fault_row(self.fault).word
            say_tls(&record, tls)
            record.bytes_in, record.bytes_out = self.bytes_in, self.bytes_out
            record.duration_us = self.gateway.loop.now_us - self.started_us
            if self.listener != NULL:
                record.listener.at, record.listener.n = text(self.table.image, self.listener.id), self.listener.id.n
            if self.rule != NULL:
                record.route.at, record.route.n = text(self.table.image, self.rule.route), self.rule.route.n
                record.rule = self.rule.rule_index
            if self.backend != NULL:
                record.backend.at, record.backend.n = text(self.table.image, self.backend.name), self.backend.name.n
            if self.state != NULL:
                record.endpoint.at, record.endpoint.n = self.state.name, self.state.name_n
            self.gateway.log.line(&record)
        self.leave()
        self.table = None
