"""The sockets that accept client connections (see accept.pxd)."""
cimport cython
from libc.stdint cimport uint8_t, uint32_t

from gwfast.engine.address cimport address_text, raw_address
from gwfast.engine.clients cimport Client
from gwfast.http1.connection cimport Http1Connection
from gwfast.exchange.exchange cimport Gateway
from gwfast.engine.handshake cimport Handshake
from gwfast.l4.relay cimport Relay
from gwfast.engine.sys cimport *
from gwfast.table.layout cimport BIND_TCP, BIND_TLS, Bind

cdef enum:
    ACCEPTS = 64           # connections taken in one event
    ACCEPT_AGAIN_MS = 100  # after the system had no room for one


@cython.final
@cython.no_gc
cdef class Acceptor(Peer):
    """A listening socket."""

    cdef void on_events(self, uint32_t events) noexcept:
        self.accept_all(ACCEPTS)

    cdef void on_deadline(self) noexcept:
        if self.clients.open < self.clients.most:
            self.clients.pause(False)

    cdef int accept_all(self, uint32_t most) noexcept:
        """Take what waits in the queue, at most so many; return how many came."""
        cdef sockaddr_storage address
        cdef socklen_t n
        cdef uint32_t came
        cdef int fd
        for came in range(most):
            if self.clients.open >= self.clients.most:
                self.clients.pause(True)
                return came
            n = sizeof(address)
            fd = accept4(self.fd, <sockaddr *>&address, &n, SOCK_NONBLOCK | SOCK_CLOEXEC)
            if fd < 0:
                if errno == ECONNABORTED or errno == EINTR:
                    continue
                if errno == EINVAL:        # it listens no more: its port was taken away while this worker did not answer
                    return came
                if errno != EAGAIN and not self.clients.gateway.upstreams.shed():
                    self.clients.pause(True)       # no descriptors, no memory: tried again soon
                    self.loop.arm(self, self.loop.now_ms + ACCEPT_AGAIN_MS)
                return came
            self.welcome(fd, &address)
        return most

    cdef void welcome(self, int fd, const sockaddr_storage *address) noexcept:
        """Begin to serve an accepted connection, or close it where its address has too many."""
        cdef Gateway gateway = self.clients.gateway
        cdef const Bind *bind = NULL
        cdef Client client
        cdef uint8_t raw[16]
        if gateway.table is not None:
            bind = gateway.table.bind(self.bind_id)
        if bind != NULL:           # another table may say otherwise what is spoken here
            self.port, self.transport = bind.port, bind.transport
        if bind != NULL and bind.proxy_protocol or self.transport == BIND_TLS:
            client = Handshake.__new__(Handshake)
        elif self.transport == BIND_TCP:
            client = Relay.__new__(Relay)
        else:
            client = Http1Connection.__new__(Http1Connection)
        client.fd = fd
        client.loop = self.loop
        client.gateway = gateway
        client.clients = self.clients
        client.bind_id = self.bind_id
        client.port, client.transport = self.port, self.transport
        raw_address(address, raw)
        address_text(raw, client.address, &client.address_n)
        client.trusted = self.clients.trusted.has(raw)
        if self.clients.addresses is not None and not self.clients.admit(client, raw[:16]):
            gateway.counters.totals.connections_refused += 1
            close(fd)
            client.fd = -1
        elif self.clients.enter(client) == 0:
            client.start()
