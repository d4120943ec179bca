"""The end of a connection that has to arrive (see linger.pxd)."""
cimport cython
from libc.stdint cimport uint32_t

from gwfast.engine.clients cimport Client
from gwfast.engine.loop cimport READ_AGAIN, READS, SCRATCH
from gwfast.engine.sys cimport *

cdef enum:
    LINGER_MS = 2000       # limits.LINGER_TIMEOUT


@cython.final
@cython.no_gc
cdef class Linger(Client):
    cdef void start(self) noexcept:
        self.half_close()
        self.tls = None        # nothing is read or written any more
        self.loop.arm(self, self.loop.now_ms + LINGER_MS)
        self.discard()

    cdef void on_events(self, uint32_t events) noexcept:
        if events & EPOLLERR or events & EPOLLOUT and self.out.base != NULL and self.flush() < 0:
            self.close()
            return
        if events & (EPOLLRDHUP | EPOLLHUP):
            self.hangup = True
        if events & (EPOLLIN | EPOLLRDHUP | EPOLLHUP):
            self.readable = True
            self.discard()

    cdef void on_deadline(self) noexcept:
        self.close()

    cdef void discard(self) noexcept:
        cdef int left = READS
        cdef ssize_t n
        while left:
            if not self.readable:
                return
            left -= 1
            n = self.receive(self.loop.input, SCRATCH)
            if n == READ_AGAIN:
                return
            if n <= 0:
                break
        self.close()               # it has ended, or sends without end


cdef void let_arrive(Client before) noexcept:
    cdef Linger last = Linger.__new__(Linger)
    before.clients.replace(before, last)
    last.start()
