"""One worker's event loop, nested in uvloop (see loop.pxd)."""
import os

cimport cython
from cpython.object cimport PyObject
from cpython.ref cimport Py_DECREF, Py_INCREF
from libc.errno cimport EPIPE
from libc.stdint cimport uint32_t, uint64_t
from libc.stdlib cimport free, malloc
from libc.string cimport memcpy, memmove, memset

from gwfast.engine.pages cimport blocks_free
from gwfast.http.dates cimport dates
from gwfast.engine.sys cimport *
from gwfast.tls.records cimport OPEN_END, OPEN_MORE, Session

cdef enum:
    POOLED = 512           # buffers of one size kept for reuse


cdef extern from * nogil:
    """
    #ifdef NDEBUG
    #define gw_short() 0
    #define gw_fail_after(n) ((void)(n), -2L)
    #else
    static long gw_left = -1;
    static int gw_short(void) { return gw_left >= 0 && gw_left-- == 0; }
    static long gw_fail_after(long n) { long was = gw_left; gw_left = n; return was; }
    #endif
    """
    bint is_short "gw_short" ()            # a test wants this buffer not to be had
    long fail_after "gw_fail_after" (long n)


cdef long fail_buffer(long n) noexcept:
    return fail_after(n)


cdef char *take(Pool *pool, uint32_t *cap) noexcept nogil:
    cdef void *at
    if is_short():
        return NULL
    if cap[0] <= SMALL:
        cap[0] = SMALL
        if pool.small != NULL:
            at = pool.small
            pool.small = (<void **>at)[0]
            pool.smalls -= 1
            return <char *>at
    elif cap[0] <= LARGE:
        cap[0] = LARGE
        if pool.large != NULL:
            at = pool.large
            pool.large = (<void **>at)[0]
            pool.larges -= 1
            return <char *>at
    return <char *>malloc(cap[0])


cdef void give(Pool *pool, char *at, uint32_t cap) noexcept nogil:
    if cap == SMALL and pool.smalls < POOLED:
        (<void **>at)[0] = pool.small
        pool.small = at
        pool.smalls += 1
    elif cap == LARGE and pool.larges < POOLED // 8:
        (<void **>at)[0] = pool.large
        pool.large = at
        pool.larges += 1
    else:
        free(at)


cdef int reserve(Pool *pool, Buf *buf, uint32_t n) noexcept nogil:
    cdef uint32_t have = buf.end - buf.start
    cdef uint32_t cap = have + n
    cdef char *at
    invariant(buf.start <= buf.end and buf.end <= buf.cap)
    if buf.base != NULL:
        if buf.cap - buf.end >= n:
            return 0
        if buf.cap >= cap:
            memmove(buf.base, buf.base + buf.start, have)
            buf.start = 0
            buf.end = have
            return 0
    if buf.base != NULL and cap > LARGE:   # what comes byte by byte is not copied for each of them
        cap = max(cap, buf.cap + buf.cap // 2)
    at = take(pool, &cap)
    if at == NULL:
        return -1
    if buf.base != NULL:
        memcpy(at, buf.base + buf.start, have)
        give(pool, buf.base, buf.cap)
    buf.base, buf.cap, buf.start, buf.end = at, cap, 0, have
    return 0


cdef int append(Pool *pool, Buf *buf, const char *at, size_t n) noexcept nogil:
    if n == 0:
        return 0
    if n > 0x40000000 or reserve(pool, buf, <uint32_t>n) < 0:
        return -1
    invariant(buf.cap - buf.end >= n)
    memcpy(buf.base + buf.end, at, n)
    buf.end += <uint32_t>n
    return 0


cdef void consume(Pool *pool, Buf *buf, uint32_t n) noexcept nogil:
    invariant(n <= waiting(buf))
    buf.start += n
    if buf.start == buf.end:
        release(pool, buf)


cdef void release(Pool *pool, Buf *buf) noexcept nogil:
    if buf.base != NULL:
        give(pool, buf.base, buf.cap)
    memset(buf, 0, sizeof(Buf))


@cython.no_gc
cdef class Loop:
    def __cinit__(self, Counters counters not None, size_t scratch=SCRATCH):
        self.epoll, self.counters = -1, counters
        self.graveyard = []
        cdef size_t n = max(scratch, <size_t>SCRATCH)
        self.input, self.output, self.reply, self.scratch = <char *>malloc(n), <char *>malloc(n), <char *>malloc(n), n
        if self.input == NULL or self.output == NULL or self.reply == NULL:
            raise MemoryError
        self.epoll = epoll_create1(EPOLL_CLOEXEC)
        if self.epoll < 0:
            raise OSError(errno, "epoll_create1")
        seed = os.urandom(16)
        memcpy(self.random_state, <char *>seed, 16)
        self.random_state[0] |= 1
        self.clock()
        self.wheel_at = self.now_ms // SLOT_MS

    def __dealloc__(self):
        if self.epoll >= 0:
            close(self.epoll)
        free(self.input)
        free(self.output)
        free(self.reply)
        free(self.records)
        if self.pipe[0]:
            close(self.pipe[0])
            close(self.pipe[1])
        empty(self.pool.small)
        empty(self.pool.large)
        blocks_free(&self.blocks)

    cdef int secure(self, Peer peer, Session tls) noexcept:
        if self.records == NULL:
            self.records = <char *>malloc(RECORDS)
            if self.records == NULL:
                return -1
        peer.tls = tls
        return 0

    cdef int add(self, Peer peer, uint32_t events) noexcept:
        cdef epoll_event event
        invariant(peer.fd >= 0 and not peer.closed)
        event.events, event.data.ptr = events, <void *>peer
        if epoll_ctl(self.epoll, EPOLL_CTL_ADD, peer.fd, &event) < 0:
            return -1
        Py_INCREF(peer)
        return 0

    cdef int watch(self, Peer peer, uint32_t events) noexcept:
        cdef epoll_event event
        event.events, event.data.ptr = events, <void *>peer
        return epoll_ctl(self.epoll, EPOLL_CTL_MOD, peer.fd, &event)

    cdef void replace(self, Peer before, Peer peer, uint32_t events) noexcept:
        invariant(before.fd >= 0 and peer.fd < 0 and not before.closed)
        peer.fd, before.fd = before.fd, -1
        peer.out = before.out
        memset(&before.out, 0, sizeof(Buf))
        peer.readable, peer.hangup = before.readable, before.hangup
        peer.tls, before.tls = before.tls, None
        self.unfile(before)
        before.closed = True
        Py_INCREF(peer)
        self.watch(peer, events)
        self.bury(before)

    cdef void later(self, Peer peer) noexcept:
        if not peer.is_later:
            peer.is_later = True
            peer.later_next = self.later_first
            self.later_first = <PyObject *>peer

    cdef void settle(self) noexcept:
        cdef Peer peer
        while self.later_first != NULL:
            peer = <Peer>self.later_first
            self.later_first = peer.later_next
            peer.later_next = NULL
            peer.is_later = False
            if not peer.closed:
                peer.on_later()
        peer = None
        if len(self.graveyard):
            self.graveyard.clear()

    cdef void bury(self, Peer peer) noexcept:
        # the reference that add() took goes to the graveyard
        try:
            self.graveyard.append(peer)
            Py_DECREF(peer)
        except MemoryError:
            pass           # leak one peer rather than free it under an event

    cdef void clock(self) noexcept:
        cdef timespec t
        clock_gettime(CLOCK_MONOTONIC, &t)
        self.now_us = <uint64_t>t.tv_sec * 1000000 + t.tv_nsec // 1000
        self.now_ms = self.now_us // 1000
        if (self.now_us + self.wall_us) // 1000000 != self.date_at:
            clock_gettime(CLOCK_REALTIME, &t)
            self.date_at = t.tv_sec
            self.wall_us = <uint64_t>t.tv_sec * 1000000 + t.tv_nsec // 1000 - self.now_us
            dates(t.tv_sec, self.date, self.stamp, self.clf)

    cdef void arm(self, Peer peer, uint64_t deadline_ms) noexcept:
        # A later deadline stays filed where it is and is filed again when its slot comes: no list is touched per request.
        peer.deadline = deadline_ms
        if deadline_ms == 0:
            return
        if peer.slot >= 0:
            if ((<uint64_t>peer.slot - self.wheel_at) & (SLOTS - 1)) + self.wheel_at <= deadline_ms // SLOT_MS:
                return
            self.unfile(peer)
        self.file(peer)

    cdef void file(self, Peer peer) noexcept:
        cdef uint64_t at = peer.deadline // SLOT_MS + 1
        cdef int slot
        invariant(peer.slot < 0 and not peer.closed)
        if at < self.wheel_at:
            at = self.wheel_at
        elif at > self.wheel_at + SLOTS - 2:     # the slot before this one may be the one that is being emptied
            at = self.wheel_at + SLOTS - 2
        slot = <int>(at & (SLOTS - 1))
        peer.slot = slot
        peer.before = NULL
        peer.after = self.wheel[slot]
        if peer.after != NULL:
            (<Peer>peer.after).before = <PyObject *>peer
        self.wheel[slot], self.filed = <PyObject *>peer, self.filed + 1

    cdef void unfile(self, Peer peer) noexcept:
        if peer.slot < 0:
            return
        invariant(peer.before != NULL or self.wheel[peer.slot] == <PyObject *>peer)
        if peer.before != NULL:
            (<Peer>peer.before).after = peer.after
        else:
            self.wheel[peer.slot] = peer.after
        if peer.after != NULL:
            (<Peer>peer.after).before = peer.before
        peer.before = peer.after = NULL
        peer.slot, self.filed = -1, self.filed - 1

    cdef void turn(self) noexcept:
        """Let every deadline that has passed happen."""
        self.clock()
        self.expire()
        self.settle()

    cdef void expire(self) noexcept:
        cdef uint64_t until
        cdef int slot
        cdef Peer peer
        cdef PyObject *head
        until = self.now_ms // SLOT_MS
        if until > self.wheel_at + SLOTS:
            until = self.wheel_at + SLOTS
        while self.wheel_at <= until:
            slot = <int>(self.wheel_at & (SLOTS - 1))
            self.wheel_at += 1     # first, so that a peer filed again never lands in the slot that is being emptied
            while True:
                head = self.wheel[slot]
                if head == NULL:
                    break
                peer = <Peer>head
                self.unfile(peer)
                if peer.deadline == 0:
                    continue
                if peer.deadline <= self.now_ms:
                    peer.deadline = 0
                    peer.on_deadline()
                else:
                    self.file(peer)

    cdef void run(self) noexcept:
        cdef int n, i, _
        cdef Peer peer
        for _ in range(ROUNDS):
            n = epoll_wait(self.epoll, self.events, ROUND, 0)
            if n <= 0:
                break
            self.clock()
            self.counters.totals.drains += 1
            self.counters.totals.events += n
            for i in range(n):
                peer = <Peer>self.events[i].data.ptr
                if peer.closed:
                    continue
                if peer.tls is not None and peer.readable:     # what a Session holds no event announces
                    self.events[i].events |= EPOLLIN
                peer.on_events(self.events[i].events)
            if self.later_first != NULL or len(self.graveyard):
                peer = None
                self.settle()
            if n < ROUND // 8:
                break      # what came meanwhile makes the descriptor readable again

    cdef uint64_t random(self) noexcept:
        # xorshift128+: identifiers and choices, nothing secret
        cdef uint64_t a = self.random_state[0], b = self.random_state[1]
        self.random_state[0] = b
        a ^= a << 23
        self.random_state[1] = a ^ b ^ (a >> 17) ^ (b >> 26)
        return self.random_state[1] + b


cdef void empty(void *free_list) noexcept nogil:
    cdef void *after
    while free_list != NULL:
        after = (<void **>free_list)[0]
        free(free_list)
        free_list = after


@cython.no_gc
cdef class Peer:
    def __cinit__(self):
        self.fd = -1
        self.slot = -1

    def __dealloc__(self):
        # only where close() never ran: the loop was dropped with peers in it
        if self.out.base != NULL:
            free(self.out.base)
        if self.fd >= 0:
            close(self.fd)

    cdef void on_events(self, uint32_t events) noexcept:
        pass

    cdef void on_deadline(self) noexcept:
        pass

    cdef void on_later(self) noexcept:
        pass

    @cython.final
    cdef ssize_t receive(self, char *at, size_t n) noexcept:
        global errno
        cdef ssize_t got
        while True:
            got = recv(self.fd, at, n, 0)
            if got > 0:
                if got < <ssize_t>n and not self.hangup:
                    self.readable = False      # edge-triggered: what comes later is announced
                return got
            if got == 0:
                self.readable, errno = False, EPIPE    # what is sent now leads to that (engine/socket_state)
                return READ_END
            if errno != EINTR:
                self.readable = False
                return READ_AGAIN if errno == EAGAIN else READ_BROKEN

    @cython.final
    cdef ssize_t read(self, char *at, size_t n) noexcept:
        """Take at most n bytes: how many, or READ_*. Afterwards `readable` says whether there may be more."""
        return self.receive(at, n) if self.tls is None else self.open(at, n)

    @cython.final
    cdef ssize_t open(self, char *at, size_t n) noexcept:
        """The same through TLS: records are fed until there is plain text."""
        cdef Session tls = self.tls
        cdef ssize_t came, got = tls.open(at, n) if tls.holds() else OPEN_MORE
        if tls.answering and self.post() < 0:
            return READ_BROKEN
        while got == OPEN_MORE:
            came = self.receive(self.loop.records, RECORDS) if self.readable else READ_AGAIN
            if came == READ_AGAIN:
                return READ_AGAIN
            # An end without close_notify may be anybody's (RFC 8446 6.1).
            if came <= 0 or tls.feed(self.loop.records, came) < 0:
                return READ_BROKEN
            got = tls.open(at, n)
            if tls.answering and self.post() < 0:
                return READ_BROKEN
        if got > 0:
            if tls.holds():
                self.readable = True   # no event will announce it
            return got
        self.readable = False
        return READ_END if got == OPEN_END else READ_BROKEN

    @cython.final
    cdef int seal(self, iovec *parts, int count) noexcept:
        if self.tls.sealv(parts, count, self.loop.records) < 0:
            return self.break_off()
        return self.post()

    @cython.final
    cdef int post(self) noexcept:
        cdef char *at = self.loop.records
        cdef ssize_t sent
        cdef size_t n
        while True:
            n = self.tls.sealed(at, RECORDS)
            if n == 0:
                return 0
            self.posted += n
            sent = 0
            if self.out.base == NULL:
                sent = send(self.fd, at, n, MSG_NOSIGNAL)
                if sent < 0:
                    if errno != EAGAIN and errno != EINTR:
                        return -1
                    sent = 0
            if append(&self.loop.pool, &self.out, at + sent, n - sent) < 0:
                return self.break_off()

    cdef int send(self, const char *at, size_t n) noexcept:
        """Send now what the socket takes and keep the rest. 0, or -1 where the connection is broken."""
        cdef iovec part
        cdef ssize_t sent = 0
        if self.tls is not None:
            part.iov_base = <void *>at
            part.iov_len = n
            return self.seal(&part, 1)
        if self.out.base == NULL:
            sent = send(self.fd, at, n, MSG_NOSIGNAL)
            if sent == <ssize_t>n:
                return 0
            if sent < 0:
                if errno != EAGAIN and errno != EINTR:
                    return -1
                sent = 0
        return 0 if append(&self.loop.pool, &self.out, at + sent, n - sent) == 0 else self.break_off()

    cdef int sendv(self, iovec *parts, int count, size_t n) noexcept:
        """The same for several parts, n bytes together; parts may be changed."""
        cdef msghdr message
        cdef ssize_t sent = 0
        cdef int i
        if self.tls is not None:
            return self.seal(parts, count)
        if self.out.base == NULL:
            memset(&message, 0, sizeof(message))
            message.msg_iov = parts
            message.msg_iovlen = count
            sent = sendmsg(self.fd, &message, MSG_NOSIGNAL)
            if sent == <ssize_t>n:
                return 0
            if sent < 0:
                if errno != EAGAIN and errno != EINTR:
                    return -1
                sent = 0
        for i in range(count):
            if <size_t>sent >= parts[i].iov_len:
                sent -= parts[i].iov_len
                continue
            if append(&self.loop.pool, &self.out, <char *>parts[i].iov_base + sent, parts[i].iov_len - sent) < 0:
                return self.break_off()
            sent = 0
        return 0

    cdef int break_off(self) noexcept:
        """End the connection both ways: what it was sent has a gap, and nothing may follow that. It shows as the other side's
        end would, also to callers who do not look at what send() returns."""
        if self.fd >= 0:
            shutdown(self.fd, SHUT_RDWR)
        return -1

    cdef int flush(self) noexcept:
        """1: nothing waits any more; 0: the socket is full; -1: broken."""
        cdef ssize_t sent
        while self.out.base != NULL:
            sent = send(self.fd, self.out.base + self.out.start, waiting(&self.out), MSG_NOSIGNAL)
            if sent < 0:
                if errno == EINTR:
                    continue
                return 0 if errno == EAGAIN else -1
            consume(&self.loop.pool, &self.out, <uint32_t>sent)
        if self.half_closed:
            shutdown(self.fd, SHUT_WR)
        return 1

    cdef void half_close(self) noexcept:
        if self.half_closed:
            return
        if self.tls is not None and self.tls.goodbye() == 0:
            self.post()
        self.half_closed = True
        if self.out.base == NULL:
            shutdown(self.fd, SHUT_WR)

    cdef void rest(self) noexcept:
        if self.tls is not None:
            self.tls.rest()

    cdef void close(self) noexcept:
        """Close the descriptor, leave the wheel, and be freed after this round."""
        if self.closed:
            return
        self.closed = True
        self.loop.unfile(self)
        if self.fd >= 0:
            if (self.tls is not None and not self.torn and not self.half_closed and self.out.base == NULL
                    and self.tls.goodbye() == 0):
                self.post()
            epoll_ctl(self.loop.epoll, EPOLL_CTL_DEL, self.fd, NULL)   # the set knows open files, which others may have too
            close(self.fd)
            self.fd = -1
        else:
            Py_INCREF(self)        # in the place of add()'s: a stream was never in the set
        self.loop.bury(self)
        release(&self.loop.pool, &self.out)
