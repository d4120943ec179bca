# Connections to backends: pools, and the state of endpoints that outlives a table.
#
#   Upstreams      a worker's: endpoint slot -> State
#   State          one endpoint: address, requests outstanding, idle connections (last in, first out)
#   Upstream       one connection: connecting -> busy <-> idle -> closed
#   Waiter         whoever a busy connection works for (an exchange): told when it connects, can be read, drains, fails
#
# A State lives as long as its slot's sign stays the same or a connection refers to it.
from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from cpython.object cimport PyObject
from gwfast._loop cimport Buf, Loop, Peer
from gwfast._table cimport Backend, Endpoint, Image

cdef struct State:
    PyObject *idle         # Upstream, linked through `under`; borrowed (the loop owns peers)
    uint32_t idles
    uint32_t connections   # open, idle ones included
    uint32_t outstanding   # requests
    uint32_t sign
    uint64_t suspect_until # ms; a connect failed: others are preferred until then
    uint32_t address_n
    uint8_t address[28]    # a sockaddr
    uint8_t retired        # its slot belongs to another endpoint now
    uint8_t name_n
    char name[54]          # 'ip:port' for the log

cdef enum UpstreamState:
    CONNECTING
    BUSY
    IDLE

cdef class Waiter:
    cdef void upstream_open(self) noexcept
    cdef void upstream_readable(self) noexcept
    cdef void upstream_drained(self) noexcept
    cdef void upstream_failed(self) noexcept      # could not connect, or broke
    cdef void upstream_late(self) noexcept        # its deadline passed

cdef class Upstream(Peer):
    cdef Upstreams home
    cdef Waiter waiter
    cdef State *state
    cdef PyObject *under   # the idle list
    cdef Buf input         # a head or a trailer section that is not whole yet
    cdef uint64_t born_ms
    cdef uint32_t requests # served by this connection
    cdef uint8_t status    # UpstreamState

cdef class Upstreams:
    cdef Loop loop
    cdef State **states
    cdef uint32_t size
    cdef uint32_t pool_size
    cdef uint64_t pool_idle_ms
    cdef uint64_t pool_age_ms
    cdef uint64_t connect_ms

    cdef State *renew(self, const Endpoint *endpoint) noexcept
    cdef void retire(self, State *state) noexcept
    cdef uint64_t load(self, State *state) noexcept
    cdef void suspect(self, State *state) noexcept    # it could not be connected to
    cdef void done(self, State *state) noexcept   # a request that this endpoint was chosen for is over
    cdef int grow(self, uint32_t slots) except -1
    cdef State *state(self, const Endpoint *endpoint) noexcept
    cdef const Endpoint *choose(self, const Image *image, const Backend *backend, uint32_t avoid,
                                uint32_t *chosen) noexcept
    cdef Upstream idle(self, State *state)        # an open connection, or None
    cdef Upstream dial(self, State *state)        # a new one that is connecting, or None
    cdef bint shed(self) noexcept                 # frees a descriptor
    cdef void park(self, Upstream upstream) noexcept
