# A client's HTTP/1.1 connection.
#
#   HEAD -> [BODY] -> WAIT -> HEAD ...       one exchange at a time; pipelined requests wait in `input`
#     |        |        |---> TUNNEL         after 101
#     '--------'--------'---> LINGER         answered and closing: what still comes is thrown away
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from gwfast.http.body cimport Body
from gwfast.engine.clients cimport Client
from gwfast.engine.loop cimport Buf

cdef enum Phase:
    HEAD
    BODY
    WAIT
    TUNNEL
    LINGER

cdef class Http1Connection(Client):
    cdef Buf input
    cdef Body body
    cdef uint32_t seen     # bytes of a partial head that were looked at
    cdef uint32_t requests
    cdef uint64_t since_ms # of the phase's clock: the head's first byte, the body's last read
    cdef uint64_t window_ms
    cdef uint64_t window_bytes     # of a client that has parted: what it had been sent
    cdef uint8_t phase
    cdef uint8_t minor
    cdef bint keep         # the request allows the connection to go on
    cdef bint last         # the client said that it asks nothing more (RFC 9112 9.6)
    cdef bint closing      # the client was told that it ends
    cdef bint chunked      # the response's body leaves in chunks
    cdef bint head_only    # no body is sent to this request
    cdef bint pumping
    cdef bint ended        # the client sent its last byte, and still takes what comes

    cdef void pump(self) noexcept
    cdef int carry(self, int reads) noexcept
    cdef bint blocked(self) noexcept
    cdef size_t process(self, char *at, size_t n) noexcept
    cdef size_t take_head(self, char *at, size_t n) noexcept
    cdef size_t take_no_head(self, char *at, size_t n, int result) noexcept
    cdef size_t become_http2(self, char *at, size_t n) noexcept
    cdef size_t take_body(self, char *at, size_t n) noexcept
    cdef void refuse(self, int fault) noexcept
    cdef void eof(self) noexcept
    cdef void part(self) noexcept
    cdef uint64_t taken(self) noexcept
    cdef void body_late(self) noexcept
    cdef void gone(self) noexcept
    cdef bint arrived(self) noexcept
    cdef void linger(self) noexcept
    cdef int sent(self, int result) noexcept
    cdef void idle(self) noexcept
    cdef void body_clock(self) noexcept
    cdef void body_ended(self) noexcept
    cdef int body_out(self, const char *head, size_t head_n, const char *at, size_t n, bint end) noexcept
