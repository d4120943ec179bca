# What can be known of a connection that ended, or is about to: whether it says anything, and whether anybody has read what it
# was sent.
from libc.stdint cimport uint64_t
from gwfast.engine.loop cimport Peer

# Whether a connection that nobody has asked anything is still open and silent. What is TLS's own (NewSessionTicket, RFC 8446
# 4.6.1) is read; what else came, or its end, makes it useless.
cdef bint is_quiet(Peer peer) noexcept
# Whether one that failed before anything was sent had been made: it was reset, where others are refused or never answered.
cdef bint was_made(Peer peer) noexcept
# Of one whose end was read (`reset`: as READ_BROKEN), right after that: whether nobody has looked at the last `given` bytes
# that it was to send, which are all since it was last asked. A FIN acknowledges what the other side had by then, and an RST
# that makes EPIPE comes behind one; any other may hide that the bytes were read.
cdef bint has_unread(Peer peer, bint reset, uint64_t given) noexcept
