# Connections to backends: pools, and the state of endpoints that outlives a table.
#
#   Upstreams      a worker's: endpoint slot -> State
#   State          one endpoint: address, requests outstanding, idle connections (last in, first out)
#   Upstream       what one request is sent on: connecting -> busy <-> idle -> closed. It is an HTTP/1.1 connection here;
#                  a stream of an HTTP/2 connection is another (upstream/requests)
#   Waiter         whoever a busy one works for (an exchange, a relay): told when it opens, can be read, drains, fails
#
# A request is given in the words of HTTP/1.1: send_request() takes the head as we wrote it and what there is of the body,
# send_body() and send_trailers() the rest; each Upstream frames it its own way. `out` is what waits, for the socket or
# for a window: who sends waits until there is none. A response comes the way of its protocol: the bytes of an
# HTTP/1.1 connection are read by the Waiter (upstream_readable), a stream is read by its connection, which tells the
# Waiter what came (upstream_reply and the two that follow it).
#
# A State lives as long as its slot's generation stays the same or a connection refers to it.
from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from cpython.object cimport PyObject
from gwfast.upstream.retry_budget cimport Spent
from gwfast.http.head cimport ResponseHead
from gwfast.upstream.endpoint_state cimport Health, Places
from gwfast.engine.loop cimport Buf, Loop, Peer
from gwfast.table.layout cimport Backend, Endpoint, Image
from gwfast.tls.records cimport Session

cdef struct State:
    PyObject *idle         # Upstream, linked through `under`; borrowed (the loop owns peers)
    PyObject *http2        # UpstreamHttp2Connections (requests), linked through `under`: those that take streams; borrowed
    uint64_t tls           # id of its TLS settings; 0: in clear
    PyObject *ticket       # Ticket of its last TLS session, owned; NULL: none
    uint32_t idles         # connections without a request, of any protocol
    uint32_t streams       # that it allows on one HTTP/2 connection, as far as known; 0: not yet
    uint32_t connections   # open, idle ones included
    uint32_t outstanding   # requests
    uint32_t sent          # requests that this endpoint was chosen for, ever
    Spent spent            # of them, those that were retries
    uint32_t counted       # of `outstanding`, those that are in its cell's `busy`
    Places *places         # of the worker, beside its cell
    uint32_t calls         # those of them that are the gateway's own (extend/subrequest)
    uint32_t generation
    uint32_t slot
    Health *health         # its cell, once a backend with a policy has it; NULL: none
    uint64_t good_ms       # when it last answered; 0: never
    uint64_t suspect_until # ms; a connect failed: others are preferred until then
    uint32_t address_n
    uint8_t address[28]    # a sockaddr
    uint8_t protocol       # Protocol of its backend
    uint8_t multiplexes    # its last TLS connection spoke HTTP/2: the next one is dialled for many requests
    uint8_t retired        # its slot belongs to another endpoint now
    uint8_t limited        # by a policy: what is outstanding is counted for all workers
    uint8_t special        # one of the two: the end of a request is more than a number
    uint8_t name_n
    char name[54]          # 'ip:port' for the log

cdef enum:
    SUSPECT_MS = 1000      # an endpoint that refused a connection, or ended one, is second choice this long

cdef enum UpstreamState:
    CONNECTING
    BUSY
    IDLE

cdef class Waiter:
    cdef PyObject *queue   # Queue that it waits in (borrowed), and its neighbours there
    cdef PyObject *ahead
    cdef PyObject *behind
    cdef uint64_t waits_until      # ms
    cdef bint waits_for_one        # endpoint alone

    cdef void upstream_open(self) noexcept
    cdef void upstream_readable(self) noexcept    # a connection: there are bytes to read, or its end
    cdef void upstream_drained(self) noexcept
    cdef void upstream_failed(self, int fault) noexcept   # could not connect
    cdef void upstream_late(self) noexcept        # its deadline passed
    # A stream: the head is in home.reply (a 1xx too), with the first part of the body; at most one end.
    cdef void upstream_reply(self, const char *at, size_t n, bint end) noexcept
    cdef void upstream_data(self, const char *at, size_t n, bint end) noexcept
    cdef void upstream_trailers(self, const char *at, size_t n) noexcept   # lines as HTTP/1.1 has them; ends the body
    # A stream ended before its response did (`hangup`: so did its connection). refused: the backend has not looked at the request
    # (RFC 9113 8.7).
    cdef void upstream_reset(self, bint refused) noexcept
    cdef void upstream_bad(self) noexcept         # its response is malformed (RFC 9113 8.1.1)
    cdef bint upstream_wanted(self) noexcept      # more of the body may come; if not, pull() will ask for it
    cdef bint upstream_moves(self) noexcept       # whether it may be moved to a stream: its connection speaks HTTP/2
    cdef void upstream_moved(self, Upstream upstream) noexcept     # it is this one now, and about to open
    # Of those in a Queue: an endpoint may take one more. 1: it was this one's turn; 0: there is none; -1: none for it alone.
    cdef int turn(self) noexcept
    cdef void turned_away(self) noexcept          # it has waited long enough

cdef class Upstream(Peer):
    cdef Upstreams home
    cdef Waiter waiter
    cdef State *state
    cdef PyObject *under   # the idle list
    cdef Buf input         # a head or a trailer section that is not whole yet
    cdef uint64_t born_ms
    cdef uint32_t requests # served by this connection
    cdef uint8_t status    # UpstreamState
    cdef bint reused       # taken from the pool: it may have ended meanwhile
    cdef bint chunked      # the body that is sent goes in chunks
    cdef uint64_t mark     # over TLS, what was `posted` before the request

    # Each: 0, or -1 where the connection is broken. `end`: the request is complete.
    cdef int send_request(self, const char *head, size_t head_n, bint chunked, const char *at, size_t n, bint end) noexcept
    cdef int send_body(self, const char *at, size_t n, bint end) noexcept
    cdef int send_trailers(self, const char *at, size_t n) noexcept    # raw lines; ends a body in chunks
    cdef bint is_right(self) noexcept
    cdef int secure(self) noexcept         # begins TLS: 0, or the fault
    cdef void shake(self) noexcept         # goes on with its handshake
    cdef void pull(self) noexcept          # the client takes more: go on with the response
    cdef void abort(self) noexcept         # closes it so that what it was sent does not look whole
    cdef void park(self) noexcept          # the response is complete: keep it for the next request, or close it

cdef class Upstreams:
    cdef Loop loop
    cdef ResponseHead *reply       # where heads of responses are read to: the gateway's
    cdef object certs              # serve.certs.Certs, asked once a handshake; None: no TLS
    cdef State **states
    cdef uint32_t size
    cdef uint32_t pool_size
    cdef uint64_t pool_idle_ms
    cdef uint64_t pool_age_ms
    cdef uint64_t connect_ms

    cdef State *renew(self, const Endpoint *endpoint, const Backend *backend) noexcept
    cdef void retire(self, State *state) noexcept
    cdef uint64_t load(self, State *state) noexcept
    cdef void suspect(self, State *state) noexcept    # it could not be connected to
    cdef void failed(self, State *state, const Image *image, const Backend *backend) noexcept    # as its policy counts
    cdef void done(self, State *state) noexcept   # a request that this endpoint was chosen for is over
    cdef void done_special(self, State *state) noexcept
    # Of a backend with a policy: whether endpoint i is there and not out.
    cdef bint serves(self, const Image *image, const Backend *backend, uint32_t i) noexcept
    # As choose(), for those that cannot wait for a turn: whatever place there is is theirs.
    cdef const Endpoint *choose_now(self, const Image *image, const Backend *backend, uint32_t avoid, uint32_t *chosen) noexcept
    # Of a backend with a limit: whether others have waited longer for it than who asks (session: for one endpoint alone).
    cdef bint is_before(self, const Backend *backend, bint session) noexcept
    # Of a backend with a limit: whether endpoint i takes one more request, which is counted then.
    cdef bint enter(self, const Image *image, const Backend *backend, uint32_t i) noexcept
    cdef int wait(self, Waiter waiter, const Backend *backend, bint session) noexcept    # for its turn(); -1: too many do
    cdef void leave(self, Waiter waiter) noexcept
    cdef int grow(self, uint32_t slots) except -1
    cdef State *state(self, const Endpoint *endpoint, const Backend *backend) noexcept
    # For a request, which is then counted as outstanding by whoever asked. NULL: there is none, or (of a backend with a limit)
    # none takes one more.
    cdef const Endpoint *choose(self, const Image *image, const Backend *backend, uint32_t avoid,
                                uint32_t *chosen) noexcept
    cdef const Endpoint *choose_well(self, const Image *image, const Backend *backend, uint32_t avoid,
                                     uint32_t *chosen) noexcept
    # For one request: from the pool (`fresh`: not), or connecting; None: cannot be. once: it cannot be sent again, so one from
    # the pool is looked at before.
    cdef Upstream take(self, State *state, bint fresh, bint once)
    cdef Upstream idle(self, State *state, bint once)     # an open connection, or None
    cdef Upstream dial(self, State *state)        # a new one that is connecting, or None
    cdef bint shed(self) noexcept                 # frees a descriptor
    # Whether this backend's budget allows a retry, which is counted then; `chosen`: the endpoint that failed.
    cdef bint may_retry(self, const Image *image, const Backend *backend, uint32_t chosen) noexcept
    # A connection that has just opened speaks HTTP/2 (ALPN): its waiter goes on with a stream. -1: it cannot.
    cdef int adopt(self, Upstream upstream) noexcept

cdef void keep_ticket(State *state, Session tls) noexcept      # for its next connection
cdef void discard(State *state) noexcept      # frees it: it is retired, and nothing refers to it
