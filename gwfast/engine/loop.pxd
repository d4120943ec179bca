# One worker's event loop, nested in uvloop: an epoll set of its own, a timing wheel, buffers.
#
#   Loop    drained by uvloop when the epoll descriptor is readable; owns every Peer that is open
#   Peer    something with a descriptor in the set: a listening socket, a client, an upstream; with a Session it speaks TLS
#   Buf     bytes that wait: base == NULL where nothing does, so that an idle peer costs no buffer
#
# Ownership: Loop.add takes a reference to the peer, Peer.close gives it to the graveyard, which is emptied when the
# round of events is over; so a pointer in the events of this round is never stale. Close takes the descriptor off the set, so one
# of a later round is not either where others have the same open file (the supervisor, a child that a filter in Python forked).
# Wheel links are borrowed: close takes the peer off the wheel. So are those of `later`: what it names is open, or in the
# graveyard until they were followed.
# A peer without a descriptor (a stream) is its connection's, and goes to the graveyard as well.
#
# Calling out. Whoever is called may end the caller: a response that is passed on may be the last one of its stream, a request
# that is answered the last one of its connection. So every edge class keeps one of these, and says which where it is not plain:
# - A Peer is there until the round is over, whatever becomes of it: behind a call it looks at `closed` before it goes on.
# - What is no Peer (exchanges, calls, authorizations) is listed by somebody as long as it is under way, and kept to be used again
#   when it is over: behind a call it compares `serial`, or what it works for. A list like that owns what it names.
# - Anybody else holds a reference of its own, or touches nothing behind the call.
# - What answers a caller with -1 has told nobody else: Downstream and Upstream never end an exchange that is sending to them.
from libc.stdint cimport int32_t, uint8_t, uint32_t, uint64_t
from cpython.object cimport PyObject
from gwfast.engine.pages cimport Blocks
from gwfast.engine.counters cimport Counters
from gwfast.engine.sys cimport epoll_event, iovec
from gwfast.tls.records cimport Session

cdef enum:
    ROUND = 256            # events taken at once
    ROUNDS = 16            # then Python tasks get their turn
    SCRATCH = 131072       # each of input, reply and output, at least
    RECORDS = 65536        # of TLS records taken from a socket or sent to it at once
    READ = 32768           # limits.BUFFER_BYTES: taken from a socket at once, what one direction may have to keep
    READS = 32             # reads of one connection in one turn
    SMALL = 4096           # the two sizes of pooled buffers
    LARGE = 40960
    SLOT_MS = 4            # the wheel: 16384 x 4 ms = 65 s; later deadlines are filed again
    SLOTS = 16384

cdef enum:                 # what Peer.read() returns where it returns no length
    READ_END = 0           # the other side has ended
    READ_AGAIN = -1        # nothing is there now
    READ_BROKEN = -2

cdef struct Buf:
    char *base
    uint32_t cap
    uint32_t start
    uint32_t end

cdef struct Pool:
    void *small
    void *large
    uint32_t smalls
    uint32_t larges

cdef inline uint32_t one_of(uint32_t n, uint64_t random) noexcept nogil:   # 0 to n - 1
    return <uint32_t>(((random >> 32) * n) >> 32)

cdef inline uint32_t waiting(const Buf *buf) noexcept nogil:
    return buf.end - buf.start

# For tests: n more buffers are had, the next one is not, then all are again; n < 0: all are. What was left of n before: -1 where
# that one was asked for, -2 in a release build, which has none of this.
cdef long fail_buffer(long n) noexcept
cdef int reserve(Pool *pool, Buf *buf, uint32_t n) noexcept nogil      # room for n more bytes behind end; -1: no memory
cdef int append(Pool *pool, Buf *buf, const char *at, size_t n) noexcept nogil
cdef void consume(Pool *pool, Buf *buf, uint32_t n) noexcept nogil     # gives the buffer back when it gets empty
cdef void release(Pool *pool, Buf *buf) noexcept nogil

cdef class Loop:
    cdef int epoll
    cdef uint64_t now_us   # CLOCK_MONOTONIC, read once a round and where a duration matters
    cdef uint64_t now_ms
    cdef uint64_t wheel_at # the slot number that comes next
    cdef uint64_t random_state[2]
    cdef uint64_t date_at  # Unix time, in seconds, of what follows
    cdef uint64_t wall_us  # what makes Unix time of now_us, as far as that second goes
    cdef char date[32]     # IMF-fixdate of this second
    cdef char stamp[32]    # RFC 3339 of this second, for the log
    cdef char clf[32]      # common log format of this second
    cdef char *input       # what a client sent
    cdef char *reply       # what an upstream sent
    cdef char *output      # heads that leave
    cdef size_t scratch    # bytes of each of these
    cdef char *records     # of TLS, in and out; NULL until there is any
    cdef int pipe[2]       # what is spliced goes through it (l4/splice); 0: not yet
    cdef Pool pool
    cdef Blocks blocks     # of the tables of HTTP/2
    cdef list graveyard
    cdef PyObject *later_first     # who asked for a turn at the end of this round
    cdef readonly Counters counters
    cdef epoll_event events[ROUND]
    cdef PyObject *wheel[SLOTS]
    cdef uint32_t filed    # peers on it

    cdef int add(self, Peer peer, uint32_t events) noexcept
    cdef int secure(self, Peer peer, Session tls) noexcept # from here on it speaks TLS; -1: no memory
    cdef int watch(self, Peer peer, uint32_t events) noexcept
    cdef void replace(self, Peer before, Peer peer, uint32_t events) noexcept  # on the same descriptor, with what waits
    cdef void bury(self, Peer peer) noexcept
    cdef void later(self, Peer peer) noexcept      # on_later() when the round is over; once, however often it is asked
    cdef void settle(self) noexcept                # ends a round
    cdef void clock(self) noexcept
    cdef void arm(self, Peer peer, uint64_t deadline_ms) noexcept
    cdef void unfile(self, Peer peer) noexcept
    cdef void file(self, Peer peer) noexcept
    cdef void turn(self) noexcept
    cdef void expire(self) noexcept        # turn() in the middle of a round: its clock, its graveyard
    cdef void run(self) noexcept
    cdef uint64_t random(self) noexcept

cdef class Peer:
    cdef Loop loop
    cdef int fd
    cdef int32_t slot      # on the wheel; -1: not
    cdef PyObject *after
    cdef PyObject *before
    cdef uint64_t deadline # ms; 0: none. May move later without touching the wheel.
    cdef Session tls       # None: in clear
    cdef Buf out           # bytes that the socket did not take yet; records where there is TLS
    cdef uint64_t posted   # bytes of records that went there, or to the socket
    cdef PyObject *later_next
    cdef bint is_later
    cdef bint closed
    cdef bint half_closed  # by us, once `out` is sent
    cdef bint torn         # its end must not look like one: no close_notify
    cdef bint readable     # there may be bytes to read that no event will announce again
    cdef bint hangup       # EPOLLRDHUP was seen: read until the end

    cdef void on_events(self, uint32_t events) noexcept
    cdef void on_deadline(self) noexcept
    cdef void on_later(self) noexcept
    cdef ssize_t read(self, char *at, size_t n) noexcept
    cdef ssize_t receive(self, char *at, size_t n) noexcept    # recv(2) and what it says of `readable`
    cdef ssize_t open(self, char *at, size_t n) noexcept
    cdef int seal(self, iovec *parts, int count) noexcept
    cdef int post(self) noexcept           # sends the records that a Session has made; 0 or -1
    cdef int send(self, const char *at, size_t n) noexcept
    cdef int sendv(self, iovec *parts, int count, size_t n) noexcept
    cdef int flush(self) noexcept
    cdef int break_off(self) noexcept            # no memory for what it should be sent: -1
    cdef void half_close(self) noexcept    # nothing more is sent than what waits
    cdef void rest(self) noexcept          # nothing is under way: gives memory back
    cdef void close(self) noexcept
