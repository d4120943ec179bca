# HTTP/2 towards a client: the sending half of a connection, and its streams.
#
#   Http2Output    gathers frames, keeps windows, lets streams take turns; the other half (connection) is told to fail and to
#                  remove
#   ClientStream   one request: a Downstream without a descriptor. `out` is payload of its response that waits for a
#                  window or for the socket; while there is some its exchange reads no more
#
#   frames of a round -> gather -> (on_later) one send
#
# A stream belongs to its connection from its HEADERS on until both sides have ended it or one has reset it, and its exchange
# is done.
from libc.stdint cimport int32_t, int64_t, uint8_t, uint32_t, uint64_t
from cpython.object cimport PyObject
from gwfast.engine.clients cimport Client
from gwfast.exchange.exchange cimport Downstream
from gwfast.http2.frames cimport TokenBucket, Settings
from gwfast.http2.hpack_encoder cimport Encoding
from gwfast.engine.loop cimport Buf
from gwfast.http2.recent cimport Recent

cdef class ClientStream(Downstream)

cdef class Http2Output(Client):
    cdef Buf gather        # frames that leave when the round is over
    cdef Settings peer
    cdef Encoding *encoder     # its owner's; NULL while it rests
    cdef PyObject *queue_first     # streams with something to send, in turn; borrowed
    cdef PyObject *queue_last
    cdef PyObject *pending     # streams that were begun and not launched: what is behind them in the same read may be their
    cdef PyObject *pending_last    # body, or end them; borrowed
    cdef int64_t window        # bytes that the peer takes
    cdef int64_t credit        # bytes that it may still send
    cdef uint32_t owed         # bytes that were used, and not given back to it
    cdef Recent recent     # marked: reset by us, so frames of theirs may still be on their way
    cdef TokenBucket updates
    cdef TokenBucket resets
    cdef TokenBucket glitches
    cdef bint lingering        # only what was sent has to arrive
    cdef bint failing          # as soon as the round is over

    cdef void pend(self, ClientStream stream) noexcept
    cdef void launch_pending(self) noexcept
    cdef void forget_pending(self, ClientStream stream) noexcept
    cdef void fail_later(self) noexcept
    cdef int room(self, uint32_t n) noexcept
    cdef void put_frame(self, uint8_t type, uint8_t flags, uint32_t stream, const char *at, uint32_t n) noexcept
    cdef void put_block(self, uint32_t stream, const char *at, uint32_t n, bint ended) noexcept
    cdef size_t put_data(self, ClientStream stream, const char *at, size_t n, bint end) noexcept
    cdef void put_reset(self, uint32_t stream, uint32_t code) noexcept
    cdef int push(self) noexcept
    cdef void owe(self, ClientStream stream, uint32_t n) noexcept
    cdef void enqueue(self, ClientStream stream) noexcept
    cdef void unqueue(self, ClientStream stream) noexcept
    cdef void pump_queue(self) noexcept
    cdef void remove(self, ClientStream stream) noexcept
    cdef void fail(self, uint32_t code) noexcept
    cdef void rearm(self) noexcept

cdef class ClientStream(Downstream):
    cdef Http2Output conn
    cdef PyObject *next        # in its chain
    cdef PyObject *queue_next  # in the queue, or of those that are pending
    cdef uint32_t id
    cdef int64_t window
    cdef int64_t credit
    cdef uint32_t owed
    cdef Buf input             # payload that its exchange does not take yet
    cdef Buf trailing          # and the trailers behind it
    cdef Buf behind            # trailers of the response, behind `out`
    cdef uint64_t left         # of content-length
    cdef uint64_t born_ms
    cdef uint64_t since_ms     # of the body's clock
    cdef uint64_t window_ms
    cdef uint64_t window_bytes
    cdef bint sized
    cdef bint queued
    cdef bint pending
    cdef bint head_only
    cdef bint upgrade          # an extended CONNECT
    cdef bint grpc
    cdef bint remote_ended     # END_STREAM came
    cdef bint local_ended      # END_STREAM was sent
    cdef bint end_waits        # behind `out`

    cdef void take_data(self, char *at, uint32_t n, bint end) noexcept
    cdef bint wants(self) noexcept
    cdef void pass_on(self, const char *at, size_t n, bint end) noexcept
    cdef int emit(self, const char *at, size_t n, bint end) noexcept
    cdef void send_continue(self) noexcept
    cdef int put_trailers(self, const char *at, size_t n) noexcept
    cdef int put_block(self, const uint8_t *at, int32_t n, bint ends) noexcept
    cdef void reset(self, uint32_t code) noexcept
    cdef void refuse_body(self) noexcept
    cdef void drop(self) noexcept
    cdef void settle(self) noexcept
    cdef void body_clock(self) noexcept
    cdef void refuse(self, int fault) noexcept
