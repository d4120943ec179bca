# HTTP/2 towards a backend: the reading half of a connection, and its life.
#
#   UpstreamHttp2Connection        connecting (link) -> greeting (until the peer's SETTINGS) -> open <-> idle -> leaving -> closed
#   UpstreamHttp2Connections      what they share: room for what is read, and for the lines of the field block that was decoded
#
# A UpstreamHttp2Connection is its link's while it connects (through the Dial of upstream/requests), then the loop's.
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from cpython.object cimport PyObject
from gwfast.http2.frames cimport Frame, FrameState
from gwfast.http.head cimport HeadLimits, ResponseHead
from gwfast.http2.hpack cimport DynamicTable
from gwfast.engine.loop cimport Buf
from gwfast.upstream.http2_stream cimport STREAM_WINDOW, BUCKETS, UpstreamHttp2Output, UpstreamStream
from gwfast.upstream.pool cimport State, Upstream, Upstreams, discard

cdef class UpstreamHttp2Connections(Upstreams):
    cdef char *room
    cdef char *arena
    cdef const HeadLimits *limits  # of responses: the gateway's
    cdef int begin(self, ResponseHead *reply, const HeadLimits *limits) except -1
    cdef int place(self, UpstreamStream stream, State *state) noexcept     # gives it to another connection; -1: there is none

cdef class UpstreamHttp2Connection(UpstreamHttp2Output):
    cdef UpstreamHttp2Connections home
    cdef State *state
    cdef Upstream link         # the connection while it is being made
    cdef PyObject *under       # in its endpoint's list
    cdef FrameState frames
    cdef DynamicTable *decoder
    cdef Buf input         # a frame that is not whole yet
    cdef Buf block         # a field block that is not whole yet
    cdef uint64_t born_ms
    cdef int64_t credit    # bytes that the peer may still send
    cdef uint32_t requests # that it was given
    cdef uint32_t block_stream
    cdef uint32_t block_error
    cdef uint8_t block_flags
    cdef char *run_at      # of the stream in `run`
    cdef size_t run_n
    cdef bint run_head
    cdef bint run_end
    cdef bint opened       # the peer's SETTINGS came
    cdef bint linked       # in its endpoint's list
    cdef bint leaving      # takes no more streams
    cdef bint idle

    cdef int prepare(self, UpstreamHttp2Connections home, State *state) noexcept
    cdef UpstreamStream enter(self)
    cdef void take_over(self, Upstream upstream) noexcept
    cdef void connected(self) noexcept
    cdef void open_queued(self) noexcept
    cdef void fail_queued(self, int fault) noexcept
    cdef void requeue(self) noexcept       # what waits begins anew: its endpoint speaks HTTP/1.1
    cdef void pump(self) noexcept
    cdef size_t take(self, char *at, size_t n) noexcept
    cdef void hand_over(self) noexcept
    cdef void on_frame(self, Frame *frame) noexcept
    cdef void on_data(self, Frame *frame) noexcept
    cdef void on_headers(self, Frame *frame) noexcept
    cdef void on_settings(self, Frame *frame) noexcept
    cdef void take_block(self, const uint8_t *at, uint32_t n) noexcept
    cdef void take_head(self, UpstreamStream stream, bint end) noexcept
    cdef void take_trailers(self, UpstreamStream stream, uint32_t count) noexcept
