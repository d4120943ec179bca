"""The ends of connections (see socket_state.pxd)."""
from libc.errno cimport ECONNRESET, EPIPE

from gwfast.engine.loop cimport READ, READ_AGAIN, waiting
from gwfast.engine.sys cimport *


cdef bint is_quiet(Peer peer) noexcept:
    peer.readable = True           # an event that says so may not have been looked at yet
    return peer.read(peer.loop.reply, READ) == READ_AGAIN


cdef bint was_made(Peer peer) noexcept:
    cdef int error = 0
    cdef socklen_t n = sizeof(error)
    return peer.fd >= 0 and getsockopt(peer.fd, SOL_SOCKET, SO_ERROR, &error, &n) == 0 and error == ECONNRESET


cdef bint has_unread(Peer peer, bint reset, uint64_t given) noexcept:
    cdef int left = 0
    return ((not reset or errno == EPIPE) and ioctl(peer.fd, SIOCOUTQ, &left) == 0
            and <uint32_t>left + waiting(&peer.out) == given)
