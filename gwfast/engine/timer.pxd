# Deadlines that are exact. The wheel turns when its worker ticks, every 100 ms: close enough for clients that are slow and for
# what is idle. What a route promises is not to wait for a tick: a timerfd in the loop's set wakes it when a slot of the wheel
# that has somebody comes before the next tick does. While nobody wants that, nothing here costs anything.
from libc.stdint cimport uint64_t
from gwfast.engine.loop cimport Peer

cdef class Timer(Peer):
    cdef uint64_t until    # ms: the latest of the deadlines that are to be exact
    cdef uint64_t at       # ms: when the descriptor will be readable; 0: never

    cdef int begin(self) noexcept                                      # after `loop` was set: -1: no descriptor
    cdef void arm(self, Peer peer, uint64_t deadline_ms) noexcept      # Loop.arm, late by SLOT_MS at most
    cdef void wake(self, uint64_t at) noexcept
    cdef void look_ahead(self) noexcept                                # after every turn of the wheel
