# A client's connection on which all was said: what still comes is read and dropped for a while, so that an RST does not overtake
# what was sent last: an alert (RFC 8446 6.2; a client of TLS 1.3 may have sent its request by then), or an answer.
#
#   Handshake, Http1Connection, Http2Connection, Relay ─> Linger
from gwfast.engine.clients cimport Client

cdef class Linger(Client):
    cdef void discard(self) noexcept

cdef void let_arrive(Client before) noexcept   # takes its place, with what waits to be sent; nothing of `before` is left to touch
