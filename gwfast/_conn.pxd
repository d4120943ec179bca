# A client's HTTP/1.1 connection, and the sockets that accept them.
#
#   PROXY_LINE -> HEAD -> [BODY] -> WAIT -> HEAD ...       one exchange at a time; pipelined requests wait in `input`
#                   |        |        |---> TUNNEL         after 101
#                   '--------'--------'---> LINGER         answered and closing: what still comes is thrown away
from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from cpython.object cimport PyObject
from gwfast._address cimport Networks
from gwfast._body cimport Body
from gwfast._exchange cimport Downstream, Gateway
from gwfast._filter cimport Ops
from gwfast._head cimport ResponseHead
from gwfast._loop cimport Buf, Peer
from gwfast._table cimport Bind
from gwfast._sys cimport iovec, sockaddr_storage

cdef enum Phase:
    PROXY_LINE
    HEAD
    BODY
    WAIT
    TUNNEL
    LINGER

cdef class Clients:        # what the client connections of a worker share
    cdef Gateway gateway
    cdef PyObject *first   # every open connection, linked; borrowed
    cdef uint32_t open
    cdef uint32_t most
    cdef uint32_t per_address
    cdef dict addresses    # connections of each address; only where there is a cap
    cdef list acceptors
    cdef bint paused
    cdef Networks trusted
    cdef uint64_t head_ms
    cdef uint64_t idle_ms
    cdef uint64_t body_ms
    cdef uint64_t send_ms
    cdef uint32_t keepalive_requests
    cdef uint64_t keepalive_age_ms

    cdef bint admit(self, Conn conn, bytes key) noexcept
    cdef void leave(self, bytes key) noexcept
    cdef void welcome(self, int fd, const sockaddr_storage *address, Acceptor acceptor) noexcept
    cdef void pause(self, bint paused) noexcept
    cdef void forget(self, Conn conn) noexcept
    cdef uint64_t idle_for(self) noexcept

cdef class Acceptor(Peer):
    cdef Clients clients
    cdef uint32_t bind_id
    cdef uint16_t port     # the spec's, of its bind; 0: none was there
    cdef int accept_all(self, uint32_t most) noexcept

cdef class Conn(Downstream):
    cdef Clients clients
    cdef PyObject *newer
    cdef PyObject *older
    cdef Buf input
    cdef Body body
    cdef uint32_t bind_id
    cdef uint16_t port
    cdef uint32_t seen     # bytes of a partial head that were looked at
    cdef uint32_t requests
    cdef uint64_t born_ms
    cdef uint64_t since_ms # of the phase's clock: the head's first byte, the body's last read
    cdef uint64_t window_ms
    cdef uint64_t window_bytes
    cdef uint8_t phase
    cdef uint8_t minor
    cdef bint keep         # the request allows the connection to go on
    cdef bint last         # the client said that it asks nothing more (RFC 9112 9.6)
    cdef bint closing      # the client was told that it ends
    cdef bint chunked      # the response's body leaves in chunks
    cdef bint head_only    # no body is sent to this request
    cdef bint pumping
    cdef bint ended        # the client sent its last byte
    cdef object address_key

    cdef const Bind *bind(self) noexcept
    cdef void pump(self) noexcept
    cdef bint blocked(self) noexcept
    cdef size_t process(self, char *at, size_t n) noexcept
    cdef size_t take_head(self, char *at, size_t n) noexcept
    cdef size_t take_body(self, char *at, size_t n) noexcept
    cdef size_t take_proxy_line(self, char *at, size_t n) noexcept
    cdef void refuse(self, int fault) noexcept
    cdef void eof(self) noexcept
    cdef void gone(self) noexcept
    cdef bint arrived(self) noexcept
    cdef void linger(self) noexcept
    cdef int sent(self, int result) noexcept
    cdef void idle(self) noexcept
    cdef void body_clock(self) noexcept
    cdef void body_ended(self) noexcept
    cdef void log_refusal(self, int fault) noexcept
    cdef int body_out(self, const char *head, size_t head_n, const char *at, size_t n, bint end) noexcept
