"""Connections to backends (see pool.pxd)."""
cimport cython
from cpython.object cimport PyObject
from cpython.ref cimport Py_INCREF, Py_XDECREF
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free, realloc
from libc.string cimport memcpy, memset, strlen

from gwfast.http.body cimport body_parts, parts_size, trailer_parts
from gwfast.http.fault cimport FAULT_CONNECT, FAULT_INTERNAL, FAULT_UPSTREAM_NAME, FAULT_UPSTREAM_TLS, fault_of_tls
from gwfast.http.header_writer cimport Out, put_number, say
from gwfast.engine.loop cimport READ_AGAIN, RECORDS, one_of, release
from gwfast.engine.sys cimport *
from gwfast.table.layout cimport NO_BACKEND, Backend, Endpoint, Image, endpoint_at
from gwfast.tls.records cimport CHOSEN_H2, Session, Setting, Ticket, dial as begin_tls
from gwfast.engine.socket_state cimport is_quiet

cdef enum:
    POOL_REQUESTS = 100000 # limits.POOL_REQUESTS


@cython.no_gc
cdef class Waiter:
    cdef void upstream_open(self) noexcept:
        pass

    cdef void upstream_readable(self) noexcept:
        pass

    cdef void upstream_drained(self) noexcept:
        pass

    cdef void upstream_failed(self, int fault) noexcept:
        pass

    cdef void upstream_late(self) noexcept:
        pass

    cdef void upstream_reply(self, const char *at, size_t n, bint end) noexcept:
        pass

    cdef void upstream_data(self, const char *at, size_t n, bint end) noexcept:
        pass

    cdef void upstream_trailers(self, const char *at, size_t n) noexcept:
        pass

    cdef void upstream_reset(self, bint refused) noexcept:
        pass

    cdef void upstream_bad(self) noexcept:
        pass

    cdef bint upstream_wanted(self) noexcept:
        return True

    cdef bint upstream_moves(self) noexcept:
        return False

    cdef void upstream_moved(self, Upstream upstream) noexcept:
        pass

    cdef int turn(self) noexcept:
        return 0

    cdef void turned_away(self) noexcept:
        pass


@cython.no_gc
cdef class Upstream(Peer):
    cdef void on_events(self, uint32_t events) noexcept:
        cdef Waiter waiter = self.waiter
        cdef int fault
        cdef bint has_input = events & (EPOLLIN | EPOLLRDHUP | EPOLLHUP | EPOLLERR) != 0
        if events & EPOLLRDHUP:
            self.hangup = True
        if self.status == IDLE:
            if has_input and not is_quiet(self):
                self.close()   # nobody asked: it was closed, or says what it should not
            return
        if has_input:
            self.readable = True
        if self.status == CONNECTING:
            if events & (EPOLLERR | EPOLLHUP):
                waiter.upstream_failed(FAULT_CONNECT)
                return
            if self.tls is not None:
                if self.out.base != NULL:
                    self.flush()
                self.shake()
                return
            if not events & EPOLLOUT:
                return
            if self.state.tls:
                fault = self.secure()
                if fault:
                    waiter.upstream_failed(fault)
                else:
                    self.shake()
                return
            self.status = BUSY
            self.loop.arm(self, 0)
            waiter.upstream_open()
        elif events & EPOLLOUT and self.out.base != NULL:
            if self.flush() == 1:
                waiter.upstream_drained()
            # a broken pipe shows when the answer is read: it may have been sent before the break
        if has_input and self.waiter is waiter and not self.closed:
            waiter.upstream_readable()

    cdef int secure(self) noexcept:
        cdef Session session
        cdef Setting setting
        cdef Ticket ticket = None
        cdef bytes name
        cdef const char *sni = NULL
        try:
            setting, name = self.home.certs.client(self.state.tls)
            if name:
                sni = name
            if self.state.ticket != NULL:
                ticket = <Ticket>self.state.ticket
            session = begin_tls(setting, sni, ticket)
        except Exception:          # its certificate or authorities cannot be used
            return FAULT_UPSTREAM_TLS
        return FAULT_INTERNAL if session is None or self.loop.secure(self, session) < 0 else 0

    cdef void shake(self) noexcept:
        cdef Session tls = self.tls
        cdef Waiter waiter = self.waiter
        cdef ssize_t n
        cdef int result
        while True:
            result = tls.handshake()
            if self.post() < 0:
                result = -1
            if result != 0:
                break
            n = self.receive(self.loop.records, RECORDS) if self.readable else READ_AGAIN
            if n == READ_AGAIN:
                return
            if n <= 0 or tls.feed(self.loop.records, n) < 0:
                result = -1
                break
        if result < 0:
            waiter.upstream_failed(fault_of_tls(tls.verdict()))
            return
        if not self.is_right():
            waiter.upstream_failed(FAULT_UPSTREAM_NAME)
            return
        self.loop.counters.totals.upstream_tls_handshakes += 1
        if tls.resumed():
            self.loop.counters.totals.upstream_tls_resumed += 1
        self.loop.arm(self, 0)
        if tls.holds():
            self.readable = True   # no event will announce it
        if tls.chosen() == CHOSEN_H2 and waiter.upstream_moves():
            if self.home.adopt(self) < 0:
                waiter.upstream_failed(FAULT_INTERNAL)
            return
        self.status = BUSY
        waiter.upstream_open()
        if self.readable and self.waiter is waiter and not self.closed:
            waiter.upstream_readable()

    cdef bint is_right(self) noexcept:
        """Whether the certificate, which is a good one, is that of this backend."""
        try:
            return not self.home.certs.accepts(self.state.tls, self.tls.peer_certificate()[0])
        except Exception:
            return False

    cdef void on_deadline(self) noexcept:
        if self.status == IDLE:
            self.close()
        elif self.waiter is not None:
            self.waiter.upstream_late()

    cdef int send_request(self, const char *head, size_t head_n, bint chunked, const char *at, size_t n, bint end) noexcept:
        cdef char line[18]
        cdef iovec parts[4]
        cdef int count = 1
        self.chunked, self.mark = chunked, self.posted
        if n == 0 and not (end and chunked):
            return self.send(head, head_n)
        parts[0].iov_base = <void *>head
        parts[0].iov_len = head_n
        count += body_parts(parts + 1, line, chunked, at, n, end)
        return self.sendv(parts, count, parts_size(parts, count))

    cdef int send_body(self, const char *at, size_t n, bint end) noexcept:
        cdef char line[18]
        cdef iovec parts[3]
        cdef int count = body_parts(parts, line, self.chunked, at, n, end)
        return self.sendv(parts, count, parts_size(parts, count)) if count else 0

    cdef int send_trailers(self, const char *at, size_t n) noexcept:
        cdef iovec parts[3]
        cdef int count
        if not self.chunked:       # behind a length HTTP/1.1 has none: these bytes would be the next request
            return 0
        count = trailer_parts(parts, at, n)
        return self.sendv(parts, count, parts_size(parts, count))

    cdef void pull(self) noexcept:
        if self.readable and self.status != CONNECTING:
            self.waiter.upstream_readable()

    cdef void park(self) noexcept:
        cdef State *state = self.state
        invariant(state != NULL and self.status == BUSY)
        release(&self.loop.pool, &self.input)
        self.waiter = None
        self.requests += 1
        if self.requests == 1 and self.tls is not None:
            keep_ticket(state, self.tls)
        if (self.closed or self.hangup or self.readable or self.out.base != NULL or state.retired
                or state.idles >= self.home.pool_size):
            self.close()
            return
        self.status = IDLE
        self.under = state.idle
        state.idle = <PyObject *>self
        state.idles += 1
        self.loop.counters.totals.upstream_idle += 1
        self.loop.arm(self, self.loop.now_ms + self.home.pool_idle_ms)

    cdef void abort(self) noexcept:
        cdef linger hard = linger(1, 0)
        self.torn = True
        setsockopt(self.fd, SOL_SOCKET, SO_LINGER, &hard, sizeof(hard))
        self.close()

    cdef void close(self) noexcept:
        if self.closed:
            return
        self.home.loop.counters.totals.upstream_open -= 1
        if self.status == IDLE:
            unlink(self)
        invariant(self.state != NULL and self.state.connections > 0)
        release(&self.loop.pool, &self.input)
        self.waiter = None
        self.state.connections -= 1
        if self.state.retired and self.state.connections == 0 and self.state.outstanding == 0:
            discard(self.state)
        self.state = NULL
        Peer.close(self)


cdef void keep_ticket(State *state, Session tls) noexcept:
    """What the backend gave is for the next connection to it (TLS 1.3 gives it behind the handshake)."""
    cdef Ticket ticket = tls.ticket()
    if ticket is not None:
        Py_INCREF(ticket)
        Py_XDECREF(state.ticket)
        state.ticket = <PyObject *>ticket


cdef void discard(State *state) noexcept:
    Py_XDECREF(state.ticket)
    free(state)


cdef void unlink(Upstream upstream) noexcept:
    """Take a connection out of its endpoint's idle list (which is short, or it is on top)."""
    cdef PyObject **at = &upstream.state.idle
    while at[0] != NULL:
        if at[0] == <PyObject *>upstream:
            at[0] = upstream.under
            upstream.under = NULL
            upstream.state.idles -= 1
            upstream.home.loop.counters.totals.upstream_idle -= 1
            upstream.status = BUSY
            return
        at = &(<Upstream>at[0]).under
    invariant(False)               # idle, but in nobody's list


@cython.no_gc
cdef class Upstreams:
    def __cinit__(self, Loop loop not None):
        self.loop = loop

    def __dealloc__(self):
        cdef uint32_t i
        for i in range(self.size):
            if self.states[i] != NULL:
                discard(self.states[i])
        free(self.states)

    cdef int grow(self, uint32_t slots) except -1:
        """Make room for so many endpoint slots: called when a table comes, never per request."""
        cdef State **states
        if slots <= self.size:
            return 0
        states = <State **>realloc(self.states, slots * sizeof(State *))
        if states == NULL:
            raise MemoryError
        memset(states + self.size, 0, (slots - self.size) * sizeof(State *))
        self.states = states
        self.size = slots
        return 0

    cdef State *state(self, const Endpoint *endpoint, const Backend *backend) noexcept:
        cdef State *state = self.states[endpoint.slot]
        return state if state != NULL and state.generation == endpoint.generation else self.renew(endpoint, backend)

    cdef State *renew(self, const Endpoint *endpoint, const Backend *backend) noexcept:
        cdef State *state = self.states[endpoint.slot]
        cdef sockaddr_in *v4
        cdef sockaddr_in6 *v6
        cdef Out out
        if state != NULL:
            self.retire(state)
        state = <State *>calloc(1, sizeof(State))
        self.states[endpoint.slot] = state
        if state == NULL:
            return NULL
        state.generation, state.slot = endpoint.generation, endpoint.slot
        state.protocol, state.tls = backend.protocol, backend.tls
        out.at = state.name
        out.end = state.name + sizeof(state.name)
        out.full = False
        if endpoint.family == 4:
            v4 = <sockaddr_in *>state.address
            v4.sin_family = AF_INET
            v4.sin_port = htons(endpoint.port)
            memcpy(&v4.sin_addr, endpoint.address, 4)
            state.address_n = sizeof(sockaddr_in)
            inet_ntop(AF_INET, endpoint.address, state.name, sizeof(state.name))
            out.at += strlen(state.name)
        else:
            v6 = <sockaddr_in6 *>state.address
            v6.sin6_family = AF_INET6
            v6.sin6_port = htons(endpoint.port)
            memcpy(&v6.sin6_addr, endpoint.address, 16)
            v6.sin6_scope_id = endpoint.scope
            state.address_n = sizeof(sockaddr_in6)
            say(&out, b"[")
            inet_ntop(AF_INET6, endpoint.address, out.at, <socklen_t>(out.end - out.at))
            out.at += strlen(out.at)
            say(&out, b"]")
        say(&out, b":")
        put_number(&out, endpoint.port)
        state.name_n = <uint8_t>(out.at - state.name)
        return state

    cdef void retire(self, State *state) noexcept:
        """The slot goes to another endpoint: what is idle ends now, what is busy when it is done."""
        cdef Upstream upstream
        state.retired = state.special = True
        state.connections += 1     # keep it through the loop
        while state.idle != NULL:
            upstream = <Upstream>state.idle
            upstream.close()
        state.connections -= 1
        if state.connections == 0 and state.outstanding == 0:
            discard(state)

    cdef const Endpoint *choose(self, const Image *image, const Backend *backend, uint32_t avoid, uint32_t *chosen) noexcept:
        """Power of two choices on outstanding requests; `avoid` (an index, or NO_BACKEND) just failed."""
        cdef uint32_t a, b, n = backend.endpoints.count
        cdef State *first
        cdef State *second
        cdef uint64_t bits
        if backend.flags and n:
            return self.choose_well(image, backend, avoid, chosen)
        if n < 2:
            if n == 0:
                return NULL
            a = 0
        elif avoid != NO_BACKEND:
            a = (avoid + 1) % n
        else:
            bits = self.loop.random()
            a = one_of(n, bits)
            b = one_of(n - 1, bits << 32)
            b += b >= a
            first = self.state(endpoint_at(image, backend.endpoints.first + a), backend)
            second = self.state(endpoint_at(image, backend.endpoints.first + b), backend)
            if first == NULL or second == NULL:
                return NULL
            if self.load(second) < self.load(first):
                a = b
        chosen[0] = a
        return endpoint_at(image, backend.endpoints.first + a)

    cdef bint may_retry(self, const Image *image, const Backend *backend, uint32_t chosen) noexcept:
        return False               # Pools can, as what follows

    cdef const Endpoint *choose_well(self, const Image *image, const Backend *backend, uint32_t avoid, uint32_t *chosen) noexcept:
        return NULL

    cdef void failed(self, State *state, const Image *image, const Backend *backend) noexcept:
        pass

    cdef void suspect(self, State *state) noexcept:
        self.loop.counters.totals.upstream_connect_errors += 1
        state.suspect_until = self.loop.now_ms + SUSPECT_MS

    cdef void done(self, State *state) noexcept:
        invariant(state.outstanding > 0)
        state.outstanding -= 1
        if state.special:
            self.done_special(state)

    cdef void done_special(self, State *state) noexcept:
        if state.retired and state.connections == 0 and state.outstanding == 0:
            discard(state)

    cdef bint serves(self, const Image *image, const Backend *backend, uint32_t i) noexcept:
        return True

    cdef const Endpoint *choose_now(self, const Image *image, const Backend *backend, uint32_t avoid, uint32_t *chosen) noexcept:
        return self.choose(image, backend, avoid, chosen)

    cdef bint is_before(self, const Backend *backend, bint session) noexcept:
        return False

    cdef bint enter(self, const Image *image, const Backend *backend, uint32_t i) noexcept:
        return True

    cdef int wait(self, Waiter waiter, const Backend *backend, bint session) noexcept:
        return -1

    cdef void leave(self, Waiter waiter) noexcept:
        pass

    cdef uint64_t load(self, State *state) noexcept:
        return state.outstanding + (<uint64_t>1 << 32 if state.suspect_until > self.loop.now_ms else 0)

    cdef Upstream take(self, State *state, bint fresh, bint once):
        cdef Upstream upstream = None
        if not fresh:
            upstream = self.idle(state, once)
        if upstream is None:
            return self.dial(state)
        upstream.reused = True
        return upstream

    cdef Upstream idle(self, State *state, bint once):
        cdef Upstream upstream
        while state.idle != NULL:
            upstream = <Upstream>state.idle
            unlink(upstream)
            if (self.loop.now_ms - upstream.born_ms > self.pool_age_ms or upstream.requests >= POOL_REQUESTS
                    or once and not is_quiet(upstream)):
                upstream.close()
                continue
            upstream.deadline = 0
            self.loop.counters.totals.upstream_reused += 1
            return upstream
        return None

    cdef Upstream dial(self, State *state):
        cdef Upstream upstream
        cdef int on = 1
        cdef int family = AF_INET if state.address_n == sizeof(sockaddr_in) else AF_INET6
        cdef int fd = socket(family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0)
        if fd < 0 and errno == EMFILE and self.shed():
            fd = socket(family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0)
        if fd < 0:
            return None
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on))
        if connect(fd, <sockaddr *>state.address, state.address_n) < 0 and errno != EINPROGRESS:
            close(fd)
            return None
        upstream = Upstream.__new__(Upstream)
        upstream.loop = self.loop
        upstream.home = self
        upstream.fd = fd
        upstream.state = state
        upstream.status = CONNECTING
        upstream.born_ms = self.loop.now_ms
        if self.loop.add(upstream, EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET) < 0:
            upstream.closed = True     # never in the set: freed by its last reference, which closes the descriptor
            return None
        state.connections += 1
        self.loop.counters.totals.upstream_connects += 1
        self.loop.counters.totals.upstream_open += 1
        self.loop.arm(upstream, self.loop.now_ms + self.connect_ms)
        return upstream

    cdef int adopt(self, Upstream upstream) noexcept:
        return -1

    cdef bint shed(self) noexcept:
        """Close an idle connection, where there is one, for its descriptor."""
        cdef uint32_t i
        if self.loop.counters.totals.upstream_idle:
            for i in range(self.size):
                if self.states[i] != NULL and self.states[i].idle != NULL:
                    (<Upstream>self.states[i].idle).close()
                    return True
        return False
