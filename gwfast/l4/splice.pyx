"""splice(2) from peer to peer (see splice.pxd)."""
from libc.errno cimport EPIPE

from gwfast.engine.loop cimport READ_AGAIN, READ_BROKEN, READ_END, Peer
from gwfast.engine.sys cimport *

cdef extern from * nogil:
    """
    #include <fcntl.h>
    #include <unistd.h>
    """
    ssize_t splice(int source, void *at, int sink, void *to, size_t n, unsigned flags)
    int pipe2(int *ends, int flags)

cdef enum:
    MOVE = 3                   # SPLICE_F_MOVE | SPLICE_F_NONBLOCK


cdef bint joined(Peer source, Peer sink) noexcept:
    cdef int *pipe = source.loop.pipe
    if source.fd < 0 or sink.fd < 0 or source.tls is not None or sink.tls is not None:
        return False
    if pipe[0] == 0 and pipe2(pipe, SOCK_NONBLOCK | SOCK_CLOEXEC) < 0:
        pipe[0] = 0
    return pipe[0] != 0


cdef ssize_t carry(Peer source, Peer sink, size_t n) noexcept:
    cdef int *pipe = source.loop.pipe
    cdef ssize_t came = splice(source.fd, NULL, pipe[1], NULL, n, MOVE)
    cdef ssize_t left = came, sent
    invariant(sink.out.base == NULL and n <= TAKE)
    if came <= 0:
        source.readable = False
        return READ_END if came == 0 else READ_AGAIN if errno == EAGAIN else READ_BROKEN
    while left:
        sent = splice(pipe[0], NULL, sink.fd, NULL, left, MOVE)
        if sent > 0:
            left -= sent
            continue
        left = read_file(pipe[0], source.loop.output, left)    # at most TAKE: it is all there, and the pipe empty then
        if sink.send(source.loop.output, left) < 0:
            return SINK_ENDED if errno == EPIPE else SINK_BROKEN
        break
    return came
