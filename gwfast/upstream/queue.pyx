"""Requests that wait for an endpoint (see queue.pxd)."""
cimport cython
from cpython.object cimport PyObject
from libc.stdint cimport uint64_t

from gwfast.engine.sys cimport write_file


@cython.final
@cython.no_gc
cdef class Queue(Peer):
    def __dealloc__(self):
        if self.loop is not None:
            self.loop.unfile(self)

    cdef void on_later(self) noexcept:
        self.serve()

    cdef void on_deadline(self) noexcept:
        cdef Waiter waiter
        while self.first != NULL and (<Waiter>self.first).waits_until <= self.loop.now_ms:
            waiter = <Waiter>self.first
            self.home.leave(waiter)
            waiter.turned_away()
        self.home.impatient = True
        self.serve()
        self.home.impatient = False

    cdef void serve(self) noexcept:
        cdef PyObject *at = self.first
        cdef Waiter waiter
        cdef int turn
        self.home.serving = True
        while at != NULL:
            waiter = <Waiter>at
            turn = waiter.turn()
            if turn == 0:
                break
            at = self.first if turn > 0 else waiter.behind     # whose turn it was may have ended others
        self.home.serving = False
        self.again()

    cdef void again(self) noexcept:
        if self.first != NULL:
            self.home.timer.arm(self, min(self.loop.now_ms + POLL_MS, (<Waiter>self.first).waits_until))
        else:
            self.loop.arm(self, 0)


cdef inline uint64_t key_of(const Backend *backend) noexcept nogil:
    return backend.id ^ backend.tls ^ backend.protocol


@cython.final
@cython.no_gc
cdef class Queues:
    cdef Queue of(self, const Backend *backend):
        cdef uint64_t key = key_of(backend)
        cdef Queue queue = self.first
        while queue is not None and (queue.key != key or queue.first == NULL):
            queue = queue.next
        return queue

    cdef bint is_before(self, const Backend *backend, bint session) noexcept:
        cdef Queue queue = self.of(backend)
        return queue is not None and (session or queue.count > queue.sessions)

    cdef int enter(self, Waiter waiter, const Backend *backend, bint session) noexcept:
        cdef Queue queue = self.of(backend)
        if (queue.count if queue is not None else 0) >= backend.pending:
            return -1
        if queue is None:          # one where nobody waits
            queue = self.first
            while queue is not None and queue.first != NULL:
                queue = queue.next
        if queue is None:
            queue = Queue.__new__(Queue)
            queue.loop, queue.home = self.loop, self
            queue.next, self.first = self.first, queue
        queue.key = key_of(backend)
        waiter.queue, waiter.ahead, waiter.behind = <PyObject *>queue, queue.last, NULL
        waiter.waits_until = self.loop.now_ms + backend.pending_ms
        if queue.last != NULL:
            (<Waiter>queue.last).behind = <PyObject *>waiter
        else:
            queue.first = <PyObject *>waiter
        queue.last = <PyObject *>waiter
        queue.count += 1
        queue.sessions += session
        waiter.waits_for_one = session
        self.loop.counters.totals.requests_waiting += 1
        self.loop.counters.totals.requests_waited += 1
        self.loop.later(queue)     # it may be its turn
        return 0

    cdef void leave(self, Waiter waiter) noexcept:
        cdef Queue queue = <Queue>waiter.queue
        if waiter.ahead != NULL:
            (<Waiter>waiter.ahead).behind = waiter.behind
        else:
            queue.first = waiter.behind
        if waiter.behind != NULL:
            (<Waiter>waiter.behind).ahead = waiter.ahead
        else:
            queue.last = waiter.ahead
        waiter.queue = waiter.ahead = waiter.behind = NULL
        queue.count -= 1
        queue.sessions -= waiter.waits_for_one
        self.loop.counters.totals.requests_waiting -= 1

    cdef void look(self) noexcept:
        cdef Queue queue = self.first
        while queue is not None:
            if queue.first != NULL:
                self.loop.later(queue)
            queue = queue.next

    cdef void call(self) noexcept:
        cdef uint64_t one = 1
        if self.fd >= 0:
            write_file(self.fd, &one, sizeof(one))

    cdef void forget(self) noexcept:
        cdef Queue queue
        while self.first is not None:
            queue = self.first
            self.first = queue.next
            queue.next = queue.home = None
            self.loop.arm(queue, 0)


@cython.final
@cython.no_gc
cdef class Called(Peer):
    cdef void on_events(self, uint32_t events) noexcept:
        self.queues.look()
