# HTTP/2 towards a backend: the sending half of a connection, and its streams.
#
#   UpstreamHttp2Output   gathers frames, keeps windows, has streams; the other half (http2_connection) is told to fail and
#                         to leave
#   UpstreamStream        one request: an Upstream without a descriptor. `out` is payload that waits for a window or for the
#                         socket, `input` payload of the response that the client does not take yet, with the trailers behind it
#
#   streams of requests -> queue (until open) -> chains by number -> frames of a round -> gather -> (on_later) one send
#
# A queue and a chain have a reference to each of their streams; exchanges have their own.
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from cpython.object cimport PyObject
from gwfast.http2.frames cimport TokenBucket, Frame, Settings
from gwfast.http.head cimport ResponseHead
from gwfast.http2.hpack_encoder cimport Encoding
from gwfast.engine.loop cimport Buf, Peer
from gwfast.upstream.transcode cimport SentRequest
from gwfast.upstream.pool cimport Upstream

cdef enum:
    BUCKETS = 32               # of streams, by their number
    STREAM_WINDOW = 65536      # limits.STREAM_WINDOW
    NOTHING = 0xFFFFFFFFFFFFFFFF   # of bytes: none of them

cdef class UpstreamStream(Upstream)

cdef class UpstreamHttp2Output(Peer):
    cdef PyObject *queue       # streams that wait until it is open, in turn
    cdef PyObject *streams[BUCKETS]
    cdef UpstreamStream run        # whose head or payload was read, and not handed over: more of it may be in the same read
    cdef Settings peer
    cdef Encoding *encoder
    cdef Buf gather        # frames that leave when the round is over
    cdef int64_t window    # bytes that the peer takes
    cdef uint64_t received_ms      # when its peer last sent anything
    cdef uint64_t given    # bytes that left `gather`
    cdef uint64_t unread   # once it has ended: what was sent from this byte on nobody has looked at
    cdef uint32_t next_id
    cdef uint32_t count    # streams, but for those in the queue
    cdef uint32_t most     # streams at once
    cdef uint32_t queued
    cdef uint32_t cancelled    # streams whose RST_STREAM is not sent yet: they count
    cdef uint32_t stalled  # streams with something in `out`
    cdef uint32_t turn     # where feeding them begins
    cdef uint32_t answers  # to PING and SETTINGS that are not sent yet
    cdef TokenBucket glitches   # frames that carried nothing, and that no DATA explains

    # streams
    cdef void queue_up(self, UpstreamStream stream) noexcept
    cdef UpstreamStream unqueue(self)
    cdef UpstreamStream find(self, uint32_t id)
    cdef UpstreamStream any_above(self, uint32_t bucket, uint32_t id, bint waits)
    cdef bint is_idle_number(self, uint32_t id) noexcept
    cdef void chain(self, UpstreamStream stream) noexcept
    cdef void detach(self, UpstreamStream stream) noexcept
    cdef void forget(self, UpstreamStream stream) noexcept
    cdef void bad(self, UpstreamStream stream, uint32_t code) noexcept
    cdef int widen(self, int64_t more) noexcept
    cdef void on_window_update(self, Frame *frame) noexcept
    cdef void on_reset(self, Frame *frame) noexcept
    cdef void on_goaway(self, Frame *frame) noexcept
    # frames
    cdef uint8_t *gather_room(self, uint32_t n) noexcept
    cdef void put_block(self, uint32_t id, const uint8_t *at, uint32_t n, bint end) noexcept
    cdef size_t put_data(self, UpstreamStream stream, const char *at, size_t n, bint end) noexcept
    cdef int put_trailers(self, UpstreamStream stream, const char *at, size_t n) noexcept
    cdef void put_reset(self, uint32_t id, uint32_t code) noexcept
    cdef void put_credit(self, uint32_t id, uint32_t n) noexcept
    cdef void answer(self, uint32_t n) noexcept
    cdef int push(self) noexcept
    cdef uint64_t first_unread(self, bint reset) noexcept
    cdef void feed(self) noexcept
    # the other half's
    cdef void rest_or_end(self) noexcept   # a stream less
    cdef void leave(self) noexcept         # no more streams
    cdef void fail(self, uint32_t code) noexcept
    cdef void gone(self) noexcept

cdef class UpstreamStream(Upstream):
    cdef UpstreamHttp2Output connection           # None: it has ended, or its connection has
    cdef PyObject *next        # in its chain or queue
    cdef uint32_t id           # 0: nothing was sent
    cdef int64_t window
    cdef int64_t credit
    cdef uint64_t left         # of content-length
    cdef uint64_t asked_ms
    cdef uint64_t begins       # which byte of its connection its first is
    cdef uint32_t kept         # bytes of `input` that are body
    cdef Buf tail              # trailers of the request, behind `out`
    cdef SentRequest asked
    cdef bint sized
    cdef bint bodiless
    cdef bint replied          # the final head came
    cdef bint ended            # END_STREAM came
    cdef bint ending           # the request is complete
    cdef bint sent_end         # END_STREAM was sent

    cdef void deliver(self, bint head, const char *at, size_t n, bint end) noexcept
    cdef void repay(self) noexcept
    cdef void feed(self) noexcept
    cdef void switch(self, ResponseHead *head, char *at) noexcept
