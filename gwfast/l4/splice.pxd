# Bytes from one socket to another without a copy: splice(2) through one pipe of the worker, which is empty whenever a call
# returns. For bulk alone: a pipe costs two system calls for each read's one.
from gwfast.engine.loop cimport Peer

cdef enum:
    TAKE = 65536           # limits.RELAY_BYTES: carried at once
    SINK_ENDED = -3        # what carry() returns beside READ_*: the sink had ended (EPIPE)
    SINK_BROKEN = -4

# Whether bytes can be carried between them: two sockets, neither of which speaks TLS.
cdef bint joined(Peer source, Peer sink) noexcept
# Carry at most n bytes (TAKE at most) to a sink where nothing waits: how many, READ_* or SINK_*. What its socket does not take
# the sink keeps.
cdef ssize_t carry(Peer source, Peer sink, size_t n) noexcept
