# A connection whose bytes go to a backend as they are: TCPRoute, TLSRoute passed through, and TLSRoute whose TLS ended here.
#
#   client  <-> Relay <-> Leg <->  Upstream
#
# Each side is read while nothing waits for the other one. The end of one direction is passed on when everything before it
# was (half-close); a reset is passed on as one.
from libc.stdint cimport uint8_t, uint32_t
from gwfast.engine.clients cimport Client
from gwfast.engine.loop cimport Buf, Peer
from gwfast.upstream.pool cimport Upstream, Waiter
from gwfast.l4.flow cimport Flow

cdef class Leg(Waiter):        # the backend's side
    cdef Relay relay

cdef class Relay(Client):
    cdef Flow flow
    cdef Leg leg
    cdef Upstream upstream
    cdef Buf name              # of SNI, for the log
    cdef Buf first             # what came before the backend was connected to
    cdef bint ready            # the backend is connected to
    cdef bint pumping
    cdef bint client_ended
    cdef bint upstream_ended

    # Begin: for this name, with what was read already. After Clients.replace, or Clients.enter.
    cdef void begin(self, const char *name, uint32_t name_n, const char *at, size_t n) noexcept
    cdef void attempt(self) noexcept
    cdef void suspect(self) noexcept
    cdef void opened(self) noexcept
    cdef void pump(self) noexcept              # client -> backend
    cdef void pump_back(self) noexcept         # backend -> client
    cdef void deaf(self, bint ended) noexcept
    cdef void close_half(self) noexcept
    cdef void busy(self) noexcept
    cdef void finish(self, int fault, bint reset) noexcept
