# Requests that wait for an endpoint which takes one more (BackendPolicy, circuitBreaker): one queue for each backend of a
# worker that is full, first come first served.
#
#   a request ends, of this worker   its queues are looked at when the round is over
#   one of another worker            that worker calls: one eventfd for all of them, which nobody reads, wakes whoever watches it.
#                                    What nobody called for is seen within POLL_MS
#   whoever has waited too long      is turned away; whoever ends otherwise leaves, from wherever it stands
#
# Who wants one endpoint alone (its session's) is passed by where that is full, and nobody else is. Whoever comes while somebody
# waits takes a place behind, even where one is free: whose turn it is is looked at when the round is over.
from cpython.object cimport PyObject
from libc.stdint cimport uint32_t, uint64_t
from gwfast.engine.loop cimport Loop, Peer
from gwfast.table.layout cimport Backend
from gwfast.engine.timer cimport Timer
from gwfast.upstream.pool cimport Waiter

cdef enum:
    POLL_MS = 8

cdef class Queue(Peer):
    cdef Queues home
    cdef Queue next
    cdef uint64_t key          # of its backend; free to be another's where nobody waits
    cdef PyObject *first       # Waiter, borrowed: whoever waits leaves before it ends
    cdef PyObject *last
    cdef uint32_t count
    cdef uint32_t sessions     # of them, those that want one endpoint alone

    cdef void serve(self) noexcept
    cdef void again(self) noexcept     # at which time it is looked at, whatever happens

cdef class Queues:
    cdef Loop loop
    cdef Timer timer
    cdef int fd                # to call the other workers; -1: there are none
    cdef bint serving          # those that wait are asked now
    cdef bint impatient        # who asks now takes a place whoever else wants one: it cannot wait, or nobody called for long
    cdef Queue first           # every queue that there ever was: as many as backends that were full at one time

    cdef Queue of(self, const Backend *backend)    # None: nobody waits
    cdef bint is_before(self, const Backend *backend, bint session) noexcept
    cdef int enter(self, Waiter waiter, const Backend *backend, bint session) noexcept       # -1: too many wait already
    cdef void leave(self, Waiter waiter) noexcept
    cdef void look(self) noexcept      # a request is over
    cdef void call(self) noexcept      # the others: one that they may want to know of
    cdef void forget(self) noexcept    # every queue: they refer to this

cdef class Called(Peer):
    cdef Queues queues
