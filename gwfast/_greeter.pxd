# A client's connection until it is known what it speaks and for which listener; then another takes its descriptor.
#
#   PROXY -> HELLO -> HANDSHAKE -> Conn, Http2
#     |        '-> Relay                          passed through to a backend
#     '-> Conn, Relay                             in clear
#
# A handshake that fails with an alert goes to LINGER: what the client still sends is read and dropped, for a while, so that an
# RST does not overtake the alert (RFC 8446 6.2; the client of TLS 1.3 may have sent its request by then).
from libc.stdint cimport uint8_t
from gwfast._clients cimport Client
from gwfast._hello cimport Hello
from gwfast._loop cimport Buf
from gwfast._table cimport Listener

cdef enum Stage:
    STAGE_PROXY
    STAGE_HELLO
    STAGE_HANDSHAKE
    STAGE_LINGER

cdef class Greeter(Client):
    cdef Buf input         # what was read and is not used yet
    cdef Buf name          # that its ClientHello asks for
    cdef uint8_t stage
    cdef uint8_t mode      # ListenerMode

    cdef void pump(self) noexcept
    cdef void take_proxy_line(self) noexcept
    cdef void take_hello(self) noexcept
    cdef bint secure(self, const Listener *listener, const Hello *hello) noexcept
    cdef void shake(self) noexcept
    cdef void note_certificate(self) noexcept
    cdef void fail(self, bint answered) noexcept # the handshake; answered: an alert is on its way
    cdef void discard(self) noexcept
    cdef void refuse(self, int fault, int why) noexcept  # HandshakeEnd; HANDSHAKE_ENDS: that is not about TLS
    cdef void count(self, int fault, int why) noexcept
    cdef void become_http1(self) noexcept
    cdef void become_http2(self) noexcept
    cdef void become_relay(self) noexcept
