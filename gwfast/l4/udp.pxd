# UDPRoute: datagrams between clients and backends.
#
#   UdpSocket    a bind's socket, one in each worker: finds the session of who sent a datagram, by address
#   UdpSession   one client address: a socket connected to its backend, until it is idle
#   UdpClient    a socket of our port that is connected to one client, once others read the bind's
#
# Sessions are in a table of chains and, by when they were used last, in a list: the idlest is first.
from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from cpython.object cimport PyObject
from gwfast.engine.clients cimport Clients
from gwfast.engine.loop cimport Peer
from gwfast.l4.flow cimport Flow

cdef enum:
    LOCAL = 24             # bytes that say at which of our addresses a datagram came

# One datagram's other end: the client's address, and ours.
cdef struct Ends:
    uint8_t client[28]     # a sockaddr
    uint32_t client_n
    uint8_t local[LOCAL]   # family and address, as the kernel told them

cdef class UdpSocket(Peer):
    cdef Clients clients
    cdef uint32_t bind_id
    cdef uint32_t count
    cdef uint32_t most
    cdef uint64_t idle_ms
    cdef uint64_t seed     # of the table's hash: nobody can choose addresses that share a chain
    cdef bint draining     # no new sessions
    cdef PyObject **table
    cdef PyObject *idlest  # borrowed: the loop owns peers
    cdef PyObject *latest

    cdef int begin(self) noexcept
    cdef uint32_t chain(self, const Ends *ends) noexcept
    cdef UdpSession find(self, const Ends *ends)
    cdef UdpSession admit(self, const Ends *ends)
    cdef void used(self, UdpSession session) noexcept
    cdef void forget(self, UdpSession session) noexcept
    cdef void unlist(self, UdpSession session) noexcept
    cdef void drain(self) noexcept
    cdef void end_all(self) noexcept
    cdef void take(self, const Ends *ends, size_t n) noexcept
    cdef void part(self) noexcept

cdef class UdpClient(Peer):
    cdef UdpSession session

cdef class UdpSession(Peer):
    cdef UdpSocket home
    cdef UdpClient apart       # None: its client's datagrams come by `home`
    cdef Flow flow
    cdef Ends ends
    cdef uint32_t hash
    cdef PyObject *next        # in its chain
    cdef PyObject *later_used
    cdef PyObject *sooner_used
    cdef char address[46]
    cdef uint8_t address_n

    cdef uint64_t look_ms      # when it is asked again whether its client should be elsewhere, while its endpoint is out

    cdef int connect(self) noexcept
    cdef void part(self) noexcept
    cdef bint is_right(self) noexcept
    cdef bint moves(self) noexcept
    cdef void refused(self) noexcept
    cdef void finish(self, int fault) noexcept
