# The sockets that accept client connections.
from libc.stdint cimport uint8_t, uint16_t, uint32_t
from gwfast.engine.clients cimport Clients
from gwfast.engine.loop cimport Peer
from gwfast.engine.sys cimport sockaddr_storage

cdef class Acceptor(Peer):
    cdef Clients clients
    cdef uint32_t bind_id
    cdef uint16_t port     # the spec's, of its bind; 0: none was there
    cdef uint8_t transport # Transport, of the same
    cdef int accept_all(self, uint32_t most) noexcept
    cdef void welcome(self, int fd, const sockaddr_storage *address) noexcept
