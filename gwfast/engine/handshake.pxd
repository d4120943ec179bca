# A client's connection until it is known what it speaks and for which listener; then another takes its descriptor.
#
#   PROXY -> HELLO -> HANDSHAKE -> Http1Connection, Http2Connection
#     |        |         '-> Linger                with an alert
#     |        |-> Linger                          with an alert, or an answer in clear
#     |        '-> Relay                           passed through to a backend
#     '-> Http1Connection, Relay                              in clear
from libc.stdint cimport uint8_t, uint16_t
from gwfast.engine.clients cimport Client
from gwfast.tls.client_hello cimport Hello
from gwfast.engine.loop cimport Buf
from gwfast.table.layout cimport Listener

cdef enum Stage:
    STAGE_PROXY
    STAGE_HELLO
    STAGE_HANDSHAKE

cdef class Handshake(Client):
    cdef Buf input         # what was read and is not used yet
    cdef Buf name          # that its ClientHello asks for
    cdef uint8_t stage
    cdef uint8_t mode      # ListenerMode

    cdef void pump(self) noexcept
    cdef void take_proxy_line(self) noexcept
    cdef void take_hello(self) noexcept
    cdef void take_no_hello(self, int alert) noexcept
    cdef bint secure(self, const Listener *listener, const Hello *hello) noexcept
    cdef void shake(self) noexcept
    cdef void note_certificate(self) noexcept
    cdef void fail(self, bint answered) noexcept # the handshake; answered: an alert is on its way
    cdef void abandoned(self) noexcept
    cdef void refuse(self, int fault, int why) noexcept  # HandshakeEnd; HANDSHAKE_ENDS: that is not about TLS
    cdef void decline(self, int fault, int why, int alert, uint16_t version) noexcept    # with an Alert, before TLS has begun
    cdef void part(self, const uint8_t *at, size_t n) noexcept   # says this in clear, and lingers
    cdef void count(self, int fault, int why, int alert) noexcept    # alert: 0 where OpenSSL knows better
    cdef void become_http1(self) noexcept
    cdef void become_http2(self) noexcept
    cdef void become_relay(self) noexcept
