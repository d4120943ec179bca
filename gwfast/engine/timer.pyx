"""Deadlines that are exact (see timer.pxd)."""
cimport cython
from libc.stdint cimport uint32_t, uint64_t
from libc.string cimport memset

from gwfast.engine.loop cimport SLOT_MS, SLOTS, Peer
from gwfast.engine.sys cimport *

cdef enum:
    AHEAD_MS = 240             # more than two ticks of a worker


@cython.final
@cython.no_gc
cdef class Timer(Peer):
    cdef int begin(self) noexcept:
        self.fd = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC)
        return self.loop.add(self, EPOLLIN) if self.fd >= 0 else -1

    cdef void arm(self, Peer peer, uint64_t deadline_ms) noexcept:
        self.loop.arm(peer, deadline_ms)
        if deadline_ms > self.until:
            self.until = deadline_ms
        if deadline_ms < self.loop.now_ms + AHEAD_MS:
            self.wake((deadline_ms // SLOT_MS + 1) * SLOT_MS)

    cdef void wake(self, uint64_t at) noexcept:
        cdef itimerspec when
        if self.at and self.at <= at:
            return
        memset(&when, 0, sizeof(when))
        when.it_value.tv_sec = at // 1000
        when.it_value.tv_nsec = at % 1000 * 1000000
        if timerfd_settime(self.fd, TFD_TIMER_ABSTIME, &when, NULL) == 0:
            self.at = at

    cdef void look_ahead(self) noexcept:
        cdef uint64_t slot
        if self.until + SLOT_MS < self.loop.now_ms:
            return
        for slot in range(self.loop.wheel_at, self.loop.wheel_at + AHEAD_MS // SLOT_MS):
            if self.loop.wheel[slot & (SLOTS - 1)] != NULL:
                self.wake(slot * SLOT_MS)
                return

    cdef void on_events(self, uint32_t events) noexcept:
        cdef uint64_t times
        if read_file(self.fd, &times, sizeof(times)) > 0:
            self.at = 0
            self.loop.expire()
            self.look_ahead()
