"""What the client connections of a worker share (see clients.pxd)."""
cimport cython
from cpython.object cimport PyObject
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.string cimport memcmp, memcpy

from gwfast import limits

from gwfast.engine.address cimport Networks, raw_address
from gwfast.exchange.exchange cimport Downstream, Gateway
from gwfast.engine.loop cimport Peer
from gwfast.engine.sys cimport *
from gwfast.table.layout cimport SECTION_BINDS, Bind, Image, bind_at, count_of

cdef enum:
    DRAIN_IDLE_MS = 1000   # limits.DRAIN_IDLE
    PRESSED_MS = 5000      # limits.IDLE_TIMEOUT_PRESSED
    LINES = 10             # limits.HANDSHAKE_LINES


@cython.final
@cython.no_gc
cdef class Clients:
    def __init__(self, Gateway gateway not None, options):
        self.gateway = gateway
        self.acceptors = []
        self.most = options.connections
        self.per_address = options.connections_per_address
        self.addresses = {} if self.per_address else None
        self.head_ms = round(options.head_timeout * 1000)
        self.idle_ms = round(options.idle_timeout * 1000)
        self.body_ms = round(options.body_timeout * 1000)
        self.send_ms = round(options.send_timeout * 1000)
        self.tcp_idle_ms = round(options.tcp_idle_timeout * 1000)
        self.keepalive_requests = options.keepalive_requests
        self.keepalive_age_ms = round(limits.KEEPALIVE_AGE * 1000)
        self.trusted = gateway.trusted = Networks(options.trusted_proxies)
        self.certificates = options.forward_client_cert

    cdef bint admit(self, Client client, bytes key) noexcept:
        count = self.addresses.get(key, 0)
        if count >= self.per_address:
            return False
        self.addresses[key] = count + 1
        client.address_key = key
        return True

    cdef int enter(self, Client client) noexcept:
        cdef Gateway gateway = self.gateway
        if gateway.loop.add(client, EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET) < 0:
            if client.address_key is not None:
                self.leave(client.address_key)
            return -1              # freed with its last reference, which closes the descriptor
        gateway.counters.totals.connections += 1
        gateway.counters.totals.connections_open += 1
        client.older = self.first
        if self.first != NULL:
            (<Client>self.first).newer = <PyObject *>client
        self.first = <PyObject *>client
        self.open += 1
        client.born_ms = gateway.loop.now_ms
        client.readable = True
        return 0

    cdef void replace(self, Client before, Client client) noexcept:
        client.loop, client.gateway, client.clients = before.loop, before.gateway, self
        client.bind_id, client.port, client.transport = before.bind_id, before.port, before.transport
        client.listener_id, client.certificate = before.listener_id, before.certificate
        client.born_ms = before.born_ms
        client.address_key, before.address_key = before.address_key, None
        memcpy(client.address, before.address, sizeof(client.address))
        client.address_n, client.trusted, client.https = before.address_n, before.trusted, before.https
        client.newer, client.older = before.newer, before.older
        if client.newer != NULL:
            (<Client>client.newer).older = <PyObject *>client
        else:
            self.first = <PyObject *>client
        if client.older != NULL:
            (<Client>client.older).newer = <PyObject *>client
        before.newer = before.older = NULL
        self.gateway.loop.replace(before, client, EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET)

    cdef void forget(self, Client client) noexcept:
        if client.newer != NULL:
            (<Client>client.newer).older = client.older
        else:
            self.first = client.older
        if client.older != NULL:
            (<Client>client.older).newer = client.newer
        client.newer = client.older = NULL
        invariant(self.open > 0)
        self.open -= 1
        self.gateway.counters.totals.connections_open -= 1
        if client.address_key is not None:
            self.leave(client.address_key)
        if self.paused and self.open < self.most - self.most // 64:
            self.pause(False)

    cdef void leave(self, bytes key) noexcept:
        count = self.addresses.get(key, 1)
        if count > 1:
            self.addresses[key] = count - 1
        else:
            self.addresses.pop(key, None)

    cdef void pause(self, bint paused) noexcept:
        """Stop or go on accepting: connections wait in the kernel's queue meanwhile."""
        cdef Peer acceptor
        self.paused = paused
        for acceptor in self.acceptors:
            self.gateway.loop.watch(acceptor, 0 if paused else EPOLLIN)

    cdef uint64_t idle_for(self) noexcept:
        if self.gateway.draining:
            return DRAIN_IDLE_MS
        if self.open > self.most - self.most // 8 and self.idle_ms > PRESSED_MS:
            return PRESSED_MS
        return self.idle_ms

    cdef bint may_tell(self) noexcept:
        cdef uint64_t now_s = self.gateway.loop.now_ms // 1000
        if self.tell is None:
            return False
        if now_s != self.told_s:
            self.told_s = now_s
            self.told = 0
        if self.told >= LINES:
            self.untold += 1
            return False
        self.told += 1
        return True

    def drain(self):
        """Tell every idle connection that its time is over soon; the others when they answer or have sent what waits."""
        cdef PyObject *at = self.first
        cdef Client client
        self.gateway.loop.clock()
        while at != NULL:
            client = <Client>at
            at = client.older
            client.drain()
        self.gateway.loop.settle()

    def close_all(self):
        """Close every connection now."""
        while self.first != NULL:
            (<Client>self.first).cut()
        self.gateway.loop.settle()


@cython.no_gc
cdef class Client(Downstream):
    cdef const Bind *bind(self) noexcept:
        """The bind that serves this connection; where a change took it away (its Gateway moved to another address), the one
        of the same port that covers the address it came to."""
        cdef const Image *image
        cdef const Bind *other
        cdef const Bind *found = NULL
        cdef sockaddr_storage address
        cdef socklen_t n = sizeof(address)
        cdef uint8_t raw[16]
        cdef uint32_t i
        if self.gateway.table is None:
            return NULL
        found = self.gateway.table.bind(self.bind_id)
        if found != NULL:          # another table may say otherwise what is spoken there
            return found if found.transport == self.transport else NULL
        if getsockname(self.fd, <sockaddr *>&address, &n) < 0:
            return NULL
        raw_address(&address, raw)
        image = self.gateway.table.image
        for i in range(count_of(image, SECTION_BINDS)):
            other = bind_at(image, i)
            if other.port == self.port and other.transport == self.transport:
                if memcmp(other.address, raw, 16) == 0:
                    return other
                if memcmp(other.address, b"\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0", 16) == 0:
                    found = other
        return found

    cdef void start(self) noexcept:
        pass

    cdef void drain(self) noexcept:
        pass

    cdef void cut(self) noexcept:
        self.close()

    cdef void close(self) noexcept:
        if not self.closed:
            self.clients.forget(self)
            Peer.close(self)
