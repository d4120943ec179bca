# What the client connections of a worker share, and what each of them has whatever it speaks.
#
#     Client ─> Http1Connection (HTTP/1.1), Http2Connection, ...   one replaces the other on the same descriptor: Clients.replace
from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from cpython.object cimport PyObject
from gwfast.engine.address cimport Networks
from gwfast.exchange.exchange cimport Downstream, Gateway
from gwfast.engine.loop cimport Peer
from gwfast.table.layout cimport Bind

cdef class Clients:
    cdef Gateway gateway
    cdef PyObject *first   # every open connection, linked; borrowed
    cdef uint32_t open
    cdef uint32_t most
    cdef uint32_t per_address
    cdef dict addresses    # connections of each address; only where there is a cap
    cdef list acceptors    # listening sockets (Peers)
    cdef bint paused
    cdef object certs      # serve.certs.Certs, asked once a handshake; None: no TLS
    cdef object tell       # is called with what a failed handshake was: address, reason, detail, how many were not told; None
    cdef uint64_t told_s   # the second of the last
    cdef uint32_t told     # within it
    cdef uint32_t untold
    cdef Networks trusted
    cdef bint certificates # backends are told of those that clients show
    cdef uint64_t head_ms
    cdef uint64_t idle_ms
    cdef uint64_t body_ms
    cdef uint64_t send_ms
    cdef uint64_t tcp_idle_ms
    cdef uint32_t keepalive_requests
    cdef uint64_t keepalive_age_ms

    cdef bint admit(self, Client client, bytes key) noexcept
    cdef int enter(self, Client client) noexcept       # begins to watch it; -1: cannot be
    cdef void replace(self, Client before, Client client) noexcept     # on the same descriptor, with what waits to be sent
    cdef void forget(self, Client client) noexcept
    cdef void leave(self, bytes key) noexcept
    cdef void pause(self, bint paused) noexcept
    cdef uint64_t idle_for(self) noexcept
    cdef bint may_tell(self) noexcept

cdef class Client(Downstream):
    cdef Clients clients
    cdef PyObject *newer
    cdef PyObject *older
    cdef uint32_t bind_id
    cdef uint16_t port     # the spec's, of its bind; 0: none was there
    cdef uint8_t transport # Transport of its bind
    cdef uint64_t born_ms
    cdef object address_key

    cdef const Bind *bind(self) noexcept
    cdef void start(self) noexcept     # it is in the set, and there may be bytes
    cdef void drain(self) noexcept     # the worker ends: so does this connection, as soon as nothing is lost by it
    cdef void cut(self) noexcept       # now
