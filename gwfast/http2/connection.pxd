# A client's HTTP/2 connection (RFC 9113): what comes. Frames in their order, windows, settings, field blocks, and what a
# peer may not do; what leaves is in http2/stream. Streams are found by a small table that is there while there are any.
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from cpython.object cimport PyObject
from gwfast.http2.frames cimport TokenBucket, Frame, FrameState
from gwfast.http2.hpack cimport DynamicTable
from gwfast.http.head cimport Field
from gwfast.engine.loop cimport Buf
from gwfast.http2.stream cimport Http2Output, ClientStream

cdef enum:
    BUCKETS = 32           # of streams, by their number

cdef class Http2Connection(Http2Output):
    cdef Buf input         # a frame that is not whole yet
    cdef Buf block         # a field block that is not whole yet
    cdef FrameState frames
    cdef void *tables          # the block that decoder and encoder lie in; NULL while it rests
    cdef DynamicTable *decoder        # folded, and a block of its own, while it rests
    cdef PyObject **streams    # BUCKETS chains of open streams; NULL: none
    cdef uint32_t count        # of them
    cdef uint32_t served       # requests
    cdef uint32_t block_stream
    cdef uint8_t block_flags
    cdef uint32_t block_error
    cdef uint64_t since_ms     # of what is timed: the greeting, a field block, being idle
    cdef uint64_t drain_ms     # when the first GOAWAY left; 0: none has
    cdef bint greeted          # the preface was read
    cdef bint acknowledged     # our SETTINGS were
    cdef uint32_t promised     # what the last GOAWAY named
    cdef bint leaving          # the last GOAWAY was sent: no new streams
    cdef bint pumping

    cdef void take_over(self, const char *at, size_t n) noexcept   # bytes that were read already; after Clients.replace
    cdef void pump(self) noexcept
    cdef void take_input(self) noexcept
    cdef size_t take(self, char *at, size_t n) noexcept
    cdef void on_frame(self, Frame *frame) noexcept
    cdef void on_data(self, Frame *frame) noexcept
    cdef void on_headers(self, Frame *frame) noexcept
    cdef void on_bad_priority(self, Frame *frame) noexcept
    cdef void on_settings(self, Frame *frame) noexcept
    cdef void on_window_update(self, Frame *frame) noexcept
    cdef void on_reset(self, Frame *frame) noexcept
    cdef bint is_rash(self, ClientStream stream) noexcept
    cdef void take_block(self, uint32_t id, const uint8_t *at, uint32_t n, bint ended) noexcept
    cdef void open_stream(self, uint32_t id, int result, uint32_t count, char *end, bint ended) noexcept
    cdef ClientStream admit(self, uint32_t id, bint ended)
    cdef void begin(self, ClientStream stream) noexcept
    cdef void take_trailers(self, ClientStream stream, Field *fields, uint32_t count) noexcept
    cdef ClientStream find(self, uint32_t id)
    cdef void spend(self, TokenBucket *budget, uint32_t burst, uint32_t rate) noexcept
    cdef void spend_glitch(self) noexcept
    cdef void spend_reset(self) noexcept
    cdef void say_goodbye(self, uint32_t last, uint32_t code) noexcept
    cdef void leave(self) noexcept
    cdef void gone(self) noexcept
    cdef void end_streams(self) noexcept
    cdef void forget_input(self) noexcept  # and what was not sent
    cdef int codecs(self) noexcept
