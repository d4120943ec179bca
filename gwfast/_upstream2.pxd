# HTTP/2 connections to backends (RFC 9113) and their streams.
#
#   Pools      Upstreams of both protocols: a request gets an HTTP/1.1 connection, or a stream of a Mux that has room
#   Mux        one connection: connecting (link) -> greeting (until the peer's SETTINGS) -> open -> leaving -> closed
#   Stream     one request: an Upstream without a descriptor. `out` is payload that waits for a window or for the socket,
#              `input` payload of the response that the client does not take yet, with the trailers behind it
#   Dial       the Waiter of the connection that a Mux begins as
#
#   streams of requests -> queue (until open) -> streams -> frames of a round -> gather -> (on_later) one send
#
# Counters: upstream_connects, _open and _idle count connections of either protocol; upstream_reused counts requests on a
# connection that served one before.
#
# Ownership: a queue and a chain have a reference to each of their streams; exchanges have their own. A Mux is its link's
# (through the Dial) while it connects, then the loop's.
#
# A Mux begins as an Upstream that dial() makes, and takes its descriptor (and its Session) over when that one opens. So TLS
# needs nothing here: whoever finishes a handshake calls the waiter's upstream_open(), and Dial looks at what ALPN chose; a
# connection that was dialled for one request and turns out to speak HTTP/2 is handed to Pools.adopt().
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from cpython.object cimport PyObject
from gwfast._frames cimport Frame, FrameState, Settings
from gwfast._hpack cimport Table
from gwfast._hpack_encode cimport Encoding
from gwfast._head cimport ResponseHead
from gwfast._loop cimport Buf, Peer
from gwfast._transcode cimport Asked
from gwfast._upstream cimport State, Upstream, Upstreams, Waiter

cdef enum:
    BUCKETS = 32           # of streams, by their number

cdef class Pools(Upstreams):
    cdef char *room        # what a Mux reads
    cdef char *arena       # lines of the field block that was decoded

    cdef Mux roomy(self, State *state, bint fresh)     # one that takes another stream, or None
    cdef Mux connect(self, State *state)               # a new one, or None
    cdef int place(self, Stream stream, State *state) noexcept     # gives it to another Mux; -1: there is none
    # The connection of `upstream`, which has just opened and speaks HTTP/2, becomes a Mux; its waiter goes on with a stream
    # of it: upstream_moved(), and upstream_open() when the backend's SETTINGS have come. -1: no memory; it is closed.
    cdef int adopt(self, Upstream upstream) noexcept

cdef class Dial(Waiter):
    cdef Mux mux

cdef class Mux(Peer):
    cdef Pools home
    cdef State *state
    cdef Upstream link         # the connection while it is being made
    cdef PyObject *under       # in its endpoint's list
    cdef PyObject *queue       # streams that wait until it is open, in turn
    cdef PyObject *streams[BUCKETS]
    cdef FrameState frames
    cdef Settings peer
    cdef Table *decoder
    cdef Encoding *encoder
    cdef Buf input         # a frame that is not whole yet
    cdef Buf block         # a field block that is not whole yet
    cdef Buf gather        # frames that leave when the round is over
    cdef uint64_t born_ms
    cdef uint64_t heard_ms
    cdef int64_t window    # bytes that the peer takes
    cdef int64_t credit    # bytes that it may still send
    cdef uint32_t count    # streams, but for those in the queue
    cdef uint32_t queued
    cdef uint32_t cancelled    # streams whose RST_STREAM is not sent yet: they count
    cdef uint32_t most     # streams at once
    cdef uint32_t next_id
    cdef uint32_t requests # that it was given
    cdef uint32_t stalled  # streams with something in `out`
    cdef uint32_t turn     # where feeding them begins
    cdef uint32_t answers  # to PING and SETTINGS that are not sent yet
    cdef uint32_t glitches
    cdef uint64_t glitches_ms
    cdef uint32_t block_stream
    cdef uint32_t block_error
    cdef uint8_t block_flags
    cdef Stream run        # whose head or payload was read, and not handed over: more of it may be in the same read
    cdef char *run_at
    cdef size_t run_n
    cdef bint run_head
    cdef bint run_end
    cdef bint opened       # the peer's SETTINGS came
    cdef bint linked       # in its endpoint's list
    cdef bint leaving      # takes no more streams
    cdef bint idle

    cdef int prepare(self, Pools home, State *state) noexcept
    cdef Stream enter(self)
    cdef void queue_up(self, Stream stream) noexcept
    cdef Stream unqueue(self)
    cdef void connected(self) noexcept
    cdef void take_over(self, Upstream upstream) noexcept
    cdef void open_queued(self) noexcept
    cdef void fail_queued(self, int fault) noexcept
    cdef void pump(self) noexcept
    cdef size_t take(self, char *at, size_t n) noexcept
    cdef void hand_over(self) noexcept
    cdef void on_frame(self, Frame *frame) noexcept
    cdef void on_data(self, Frame *frame) noexcept
    cdef void on_headers(self, Frame *frame) noexcept
    cdef void on_settings(self, Frame *frame) noexcept
    cdef void on_window_update(self, Frame *frame) noexcept
    cdef void on_reset(self, Frame *frame) noexcept
    cdef void on_goaway(self, Frame *frame) noexcept
    cdef void take_block(self, const uint8_t *at, uint32_t n) noexcept
    cdef void take_head(self, Stream stream, uint32_t count, bint end) noexcept
    cdef void take_trailers(self, Stream stream, uint32_t count) noexcept
    cdef bint is_idle_number(self, uint32_t id) noexcept
    cdef uint8_t *gather_room(self, uint32_t n) noexcept
    cdef void put_block(self, uint32_t id, const uint8_t *at, uint32_t n, bint end) noexcept
    cdef size_t put_data(self, Stream stream, const char *at, size_t n, bint end) noexcept
    cdef int put_trailers(self, Stream stream, const char *at, size_t n) noexcept
    cdef void put_reset(self, uint32_t id, uint32_t code) noexcept
    cdef void put_credit(self, uint32_t id, uint32_t n) noexcept
    cdef void answer(self, uint32_t n) noexcept
    cdef int push(self) noexcept
    cdef void feed(self) noexcept
    cdef Stream find(self, uint32_t id)
    cdef Stream any_above(self, uint32_t bucket, uint32_t id, bint waits)
    cdef void chain(self, Stream stream) noexcept
    cdef void detach(self, Stream stream) noexcept
    cdef void forget(self, Stream stream) noexcept
    cdef void bad(self, Stream stream, uint32_t code) noexcept
    cdef void rest_or_end(self) noexcept
    cdef void leave(self) noexcept
    cdef void fail(self, uint32_t code) noexcept
    cdef void gone(self) noexcept

cdef class Stream(Upstream):
    cdef Mux mux               # None: it has ended, or its connection has
    cdef PyObject *next        # in its chain or queue
    cdef uint32_t id           # 0: nothing was sent
    cdef int64_t window
    cdef int64_t credit
    cdef uint64_t left         # of content-length
    cdef uint64_t asked_ms
    cdef uint32_t kept         # bytes of `input` that are body
    cdef Buf tail              # trailers of the request, behind `out`
    cdef Asked asked
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
