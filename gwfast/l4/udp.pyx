"""UDPRoute: datagrams between clients and backends (see udp.pxd).

Rules
- A client is its address and port. It keeps its backend while it sends or is answered (limits.UDP_IDLE_TIMEOUT), also over a
  reload; the backend sees a port of ours of its own, so that answers find their way.
- Where its route does not lead to its endpoint any more (the endpoint, the backend's weight or the route is gone), or it is
  out and another one serves, the client's next datagram begins a new session, as kube-proxy flushes such flows. That is asked
  once for each table and session, never of each datagram.
- Each worker has a socket of its own on a port, and the kernel sends the datagrams of one client to one of them. When the
  number of workers changes it may choose another: the client's session then begins anew.
- Where another gateway takes this one's place, it reads the binds' sockets, but a client that has a session keeps it here: it
  gets a socket of its own, connected to it, which the kernel prefers. Where that cannot be (no descriptors, a port that needs
  privileges), its next datagram begins a session there.
- An answer leaves from the address that the client sent to, whatever addresses this machine has.
- Nothing is kept: what a socket does not take is lost, as it would be on the way. There are so many sessions at most;
  a new one takes the place of the idlest.
"""
cimport cython
from cpython.object cimport PyObject
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free
from libc.string cimport memcmp

from gwfast.engine.address cimport address_text, raw_address
from gwfast.http.bytes cimport gw_hash
from gwfast.exchange.exchange cimport Gateway
from gwfast.http.fault cimport FAULT_CONNECT, FAULT_NONE
from gwfast.upstream.endpoint_state cimport is_out
from gwfast.engine.sys cimport *
from gwfast.upstream.pool cimport State

cdef extern from * nogil:
    """
    #ifndef _GNU_SOURCE
    #define _GNU_SOURCE
    #endif
    #include <netinet/in.h>
    #include <stdint.h>
    #include <string.h>
    #include <sys/socket.h>
    #include <unistd.h>
    union gw_control {
        char room[CMSG_SPACE(sizeof(struct in6_pktinfo))];
        struct cmsghdr align;
    };
    /* local: 4 or 6, 3 bytes of nothing, then the address in network byte order. */
    static ssize_t gw_datagram(int fd, void *at, size_t n, uint8_t *client, uint32_t *client_n, uint8_t *local)
    {
        union gw_control control;
        struct iovec part = {at, n};
        struct msghdr message = {client, 28, &part, 1, control.room, sizeof control.room, 0};
        struct cmsghdr *each;
        ssize_t got = recvmsg(fd, &message, MSG_DONTWAIT);
        memset(local, 0, 24);
        if (got < 0) return got;
        *client_n = message.msg_namelen;
        if (message.msg_flags & MSG_TRUNC) return -2;
        for (each = CMSG_FIRSTHDR(&message); each; each = CMSG_NXTHDR(&message, each)) {
            if (each->cmsg_level == IPPROTO_IP && each->cmsg_type == IP_PKTINFO) {
                local[0] = 4;
                memcpy(local + 4, &((struct in_pktinfo *)CMSG_DATA(each))->ipi_addr, 4);
            } else if (each->cmsg_level == IPPROTO_IPV6 && each->cmsg_type == IPV6_PKTINFO) {
                local[0] = 6;
                memcpy(local + 4, &((struct in6_pktinfo *)CMSG_DATA(each))->ipi6_addr, 16);
            }
        }
        return got;
    }
    static ssize_t gw_answer(int fd, void *at, size_t n, uint8_t *client, uint32_t client_n, const uint8_t *local)
    {
        union gw_control control;
        struct iovec part = {at, n};
        struct msghdr message = {client, client_n, &part, 1, NULL, 0, 0};
        struct cmsghdr *head = &control.align;
        memset(&control, 0, sizeof control);
        if (local[0] == 4) {
            struct in_pktinfo info = {0};
            memcpy(&info.ipi_spec_dst, local + 4, 4);
            head->cmsg_level = IPPROTO_IP, head->cmsg_type = IP_PKTINFO, head->cmsg_len = CMSG_LEN(sizeof info);
            memcpy(CMSG_DATA(head), &info, sizeof info);
            message.msg_control = control.room, message.msg_controllen = CMSG_SPACE(sizeof info);
        } else if (local[0] == 6) {
            struct in6_pktinfo info = {0};
            memcpy(&info.ipi6_addr, local + 4, 16);
            head->cmsg_level = IPPROTO_IPV6, head->cmsg_type = IPV6_PKTINFO, head->cmsg_len = CMSG_LEN(sizeof info);
            memcpy(CMSG_DATA(head), &info, sizeof info);
            message.msg_control = control.room, message.msg_controllen = CMSG_SPACE(sizeof info);
        }
        return sendmsg(fd, &message, MSG_DONTWAIT | MSG_NOSIGNAL);
    }
    /* A socket beside fd, on its port and the local address that a datagram came to, for one client. */
    static int gw_connected(int fd, const uint8_t *client, uint32_t client_n, const uint8_t *local)
    {
        struct sockaddr_storage at;
        socklen_t n = sizeof at, on_n = sizeof(int);
        int made, on = 1, only = 0;
        if (getsockname(fd, (struct sockaddr *)&at, &n) < 0) return -1;
        if (at.ss_family == AF_INET && local[0] == 4)
            memcpy(&((struct sockaddr_in *)&at)->sin_addr, local + 4, 4);
        else if (at.ss_family == AF_INET6 && local[0] == 6)
            memcpy(&((struct sockaddr_in6 *)&at)->sin6_addr, local + 4, 16);
        else
            return -1;
        made = socket(at.ss_family, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
        if (made < 0) return -1;
        if (at.ss_family == AF_INET6 && (getsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &only, &on_n) < 0
                                         || setsockopt(made, IPPROTO_IPV6, IPV6_V6ONLY, &only, sizeof only) < 0)) goto failed;
        if (setsockopt(made, SOL_SOCKET, SO_REUSEPORT, &on, sizeof on) < 0) goto failed;
        if (bind(made, (struct sockaddr *)&at, n) < 0) goto failed;
        if (connect(made, (const struct sockaddr *)client, client_n) < 0) goto failed;
        return made;
    failed:
        close(made);
        return -1;
    }
    static int gw_tell_local(int fd)
    {
        int on = 1, family = 0;
        socklen_t n = sizeof family;
        if (getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &family, &n) < 0) return -1;
        return family == AF_INET6 ? setsockopt(fd, IPPROTO_IPV6, IPV6_RECVPKTINFO, &on, sizeof on)
                                  : setsockopt(fd, IPPROTO_IP, IP_PKTINFO, &on, sizeof on);
    }
    """
    ssize_t gw_datagram(int fd, void *at, size_t n, uint8_t *client, uint32_t *client_n, uint8_t *local)
    ssize_t gw_answer(int fd, void *at, size_t n, uint8_t *client, uint32_t client_n, const uint8_t *local)
    int gw_connected(int fd, const uint8_t *client, uint32_t client_n, const uint8_t *local)
    int gw_tell_local(int fd)
    int SOCK_DGRAM

cdef enum:
    CHAINS = 4096
    DATAGRAM = 65536           # no datagram has more
    DRAIN_IDLE_MS = 1000       # limits.DRAIN_IDLE
    TURN = 64                  # datagrams of one socket in one turn
    LOOK_MS = 1000             # where all endpoints are out, a client is not moved with every datagram


@cython.final
@cython.no_gc
cdef class UdpSocket(Peer):
    def __dealloc__(self):
        free(self.table)

    cdef int begin(self) noexcept:
        """Begin to take datagrams; -1: cannot be."""
        self.seed = self.loop.random()
        self.table = <PyObject **>calloc(CHAINS, sizeof(PyObject *))
        if self.table == NULL or gw_tell_local(self.fd) < 0:
            return -1
        return self.loop.add(self, EPOLLIN)    # level-triggered: what one turn leaves is announced again

    cdef void on_events(self, uint32_t events) noexcept:
        take_all(self, self)

    cdef void take(self, const Ends *ends, size_t n) noexcept:
        """Pass a datagram on, which is in the loop's input."""
        cdef UdpSession session = self.find(ends)
        if session is None or session.moves():
            session = self.admit(ends)
            if session is None:
                return
        session.flow.bytes_in += n
        self.used(session)
        if send(session.fd, self.loop.input, n, MSG_DONTWAIT | MSG_NOSIGNAL) < 0 and errno == ECONNREFUSED:
            session.refused()

    cdef uint32_t chain(self, const Ends *ends) noexcept:
        return <uint32_t>(gw_hash(self.seed, <const char *>ends.client, ends.client_n, 0) % CHAINS)

    cdef UdpSession find(self, const Ends *ends):
        cdef PyObject *at = self.table[self.chain(ends)]
        cdef UdpSession session
        while at != NULL:
            session = <UdpSession>at
            if session.ends.client_n == ends.client_n and memcmp(session.ends.client, ends.client, ends.client_n) == 0:
                return session
            at = session.next
        return None

    cdef UdpSession admit(self, const Ends *ends):
        """A session for a client that is new; None: there is nobody to send to."""
        cdef Gateway gateway = self.clients.gateway
        cdef UdpSession session
        cdef uint8_t raw[16]
        cdef int fault
        if self.draining or gateway.table is None:
            return None
        if self.count >= self.most:
            (<UdpSession>self.idlest).finish(FAULT_NONE)
            gateway.counters.totals.udp_evicted += 1
        session = UdpSession.__new__(UdpSession)
        session.home, session.loop, session.ends = self, self.loop, ends[0]
        raw_address(<sockaddr_storage *>ends.client, raw)
        address_text(raw, session.address, &session.address_n)
        session.flow = Flow.__new__(Flow)
        session.flow.gateway = gateway
        fault = session.flow.find(gateway.table.bind(self.bind_id), NULL, 0)
        if fault == 0 and session.connect() < 0:
            fault = FAULT_CONNECT
        if fault:
            session.flow.fault = <uint8_t>fault
            session.flow.end(session.address, session.address_n, NULL, 0, None)
            return None
        session.hash = self.chain(ends)
        session.next = self.table[session.hash]
        self.table[session.hash] = <PyObject *>session
        self.count += 1
        gateway.counters.totals.udp_sessions += 1
        gateway.counters.totals.udp_sessions_open += 1
        self.used(session)
        return session

    cdef void unlist(self, UdpSession session) noexcept:
        if session.sooner_used != NULL:
            (<UdpSession>session.sooner_used).later_used = session.later_used
        elif self.idlest == <PyObject *>session:
            self.idlest = session.later_used
        if session.later_used != NULL:
            (<UdpSession>session.later_used).sooner_used = session.sooner_used
        elif self.latest == <PyObject *>session:
            self.latest = session.sooner_used
        session.sooner_used = session.later_used = NULL

    cdef void used(self, UdpSession session) noexcept:
        if self.latest != <PyObject *>session:
            self.unlist(session)
            session.sooner_used = self.latest
            if self.latest != NULL:
                (<UdpSession>self.latest).later_used = <PyObject *>session
            else:
                self.idlest = <PyObject *>session
            self.latest = <PyObject *>session
        self.loop.arm(session, self.loop.now_ms + self.idle_ms)

    cdef void forget(self, UdpSession session) noexcept:
        cdef PyObject **at = &self.table[session.hash]
        while at[0] != <PyObject *>session:
            at = &(<UdpSession>at[0]).next
        at[0] = session.next
        self.unlist(session)
        self.count -= 1
        self.clients.gateway.counters.totals.udp_sessions_open -= 1

    cdef void drain(self) noexcept:
        """Nobody new; who is there is answered until nothing has come for a moment."""
        cdef PyObject *at = self.idlest
        self.draining = True
        self.idle_ms = min(self.idle_ms, <uint64_t>DRAIN_IDLE_MS)
        while at != NULL:
            self.loop.arm(<UdpSession>at, self.loop.now_ms + self.idle_ms)
            at = (<UdpSession>at).later_used

    cdef void part(self) noexcept:
        """Give every client that has a session a socket of its own: from now on others may read this one."""
        cdef PyObject *at = self.idlest
        while at != NULL:
            (<UdpSession>at).part()
            at = (<UdpSession>at).later_used

    cdef void end_all(self) noexcept:
        while self.idlest != NULL:
            (<UdpSession>self.idlest).finish(FAULT_NONE)


cdef void take_all(Peer where, UdpSocket home) noexcept:
    """Take what a socket has, bounded."""
    cdef Ends ends
    cdef ssize_t n
    for _ in range(TURN):
        if where.closed:
            return
        n = gw_datagram(where.fd, home.loop.input, DATAGRAM, ends.client, &ends.client_n, ends.local)
        if n >= 0:
            home.take(&ends, n)
        elif n == -1 and (errno == EAGAIN or errno == EINTR):
            return                     # else an ICMP error of an answer, or what was cut


@cython.final
@cython.no_gc
cdef class UdpClient(Peer):
    cdef void on_events(self, uint32_t events) noexcept:
        take_all(self, self.session.home)    # what came before it was connected may be others'


@cython.final
@cython.no_gc
cdef class UdpSession(Peer):
    cdef int connect(self) noexcept:
        """A socket of our own to an endpoint; another one where that cannot be. -1: none."""
        cdef State *state
        while True:
            state = self.flow.next()
            if state == NULL:
                return -1
            self.fd = socket(AF_INET if state.address_n == sizeof(sockaddr_in) else AF_INET6,
                             SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0)
            if self.fd < 0:
                return -1
            if connect(self.fd, <sockaddr *>state.address, state.address_n) == 0 and self.loop.add(self, EPOLLIN) == 0:
                return 0
            close(self.fd)
            self.fd = -1

    cdef void part(self) noexcept:
        """Have a socket that its client's datagrams come to, whoever reads the bind's; without one where that cannot be."""
        cdef UdpClient apart
        cdef int fd
        if self.apart is not None:
            return
        fd = gw_connected(self.home.fd, self.ends.client, self.ends.client_n, self.ends.local)
        if fd < 0:
            return
        apart = UdpClient.__new__(UdpClient)
        apart.fd, apart.loop, apart.session = fd, self.loop, self
        if gw_tell_local(fd) == 0 and self.loop.add(apart, EPOLLIN) == 0:
            self.apart = apart
        else:
            close(fd)
            apart.fd = -1

    cdef bint is_right(self) noexcept:
        """Whether its client is still led to its endpoint: asked once for each table."""
        cdef Gateway gateway = self.flow.gateway
        return self.flow.table is gateway.table or self.flow.renew(gateway.table.bind(self.home.bind_id))

    cdef bint moves(self) noexcept:
        """Whether what its client sends belongs elsewhere; it is over then."""
        cdef uint64_t now = self.loop.now_ms
        if self.is_right():
            if not self.flow.backend.flags or now < self.look_ms or not is_out(self.flow.state.health, now):
                return False
            self.look_ms = now + LOOK_MS
            if not self.flow.may_move():
                return False
        self.home.clients.gateway.counters.totals.udp_moved += 1
        self.finish(FAULT_NONE)
        return True

    cdef void on_events(self, uint32_t events) noexcept:
        cdef ssize_t n
        cdef bint right = self.is_right()
        for _ in range(TURN):
            n = recv(self.fd, self.loop.reply, DATAGRAM, MSG_DONTWAIT)
            if n < 0:
                if errno != EAGAIN and errno != EINTR:
                    self.refused()
                return
            self.flow.bytes_out += n
            if right:              # what an endpoint still says that is gone arrives, and keeps nobody there
                self.home.used(self)
            gw_answer(self.home.fd, self.loop.reply, n, self.ends.client, self.ends.client_n, self.ends.local)

    cdef void refused(self) noexcept:
        """Nobody listens there (ICMP): the client's next datagram begins anew, if it can at another endpoint."""
        self.home.clients.gateway.upstreams.suspect(self.flow.state)
        self.finish(FAULT_CONNECT)

    cdef void on_deadline(self) noexcept:
        self.finish(FAULT_NONE)

    cdef void finish(self, int fault) noexcept:
        if self.closed:
            return
        self.flow.fault = <uint8_t>fault
        self.flow.end(self.address, self.address_n, NULL, 0, None)
        self.home.forget(self)
        if self.apart is not None:
            self.apart.close()
            self.apart = None
        self.close()
