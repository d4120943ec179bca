"""The engine of a worker: what Python sees of the hot path.

    loop.add_reader(engine.epoll_fd, engine.drain)   traffic
    engine.tick() about every 100 ms                 timers, the log's batches; less often while it is idle, see rest
    engine.listen / unlisten / swap / finish         what the supervisor tells

Nothing here runs per request.
"""
import os
import resource

cimport cython
from libc.stdint cimport uint32_t, uint64_t
from libc.stdlib cimport free, realloc
from libc.string cimport memset

from gwfast import limits

from gwfast.engine.accept cimport Acceptor
from gwfast.extend.ext_authz cimport Authorizers
from gwfast.extend.subrequest cimport Subrequests
from gwfast.engine.clients cimport Clients
from gwfast.engine.counters cimport Counters
from gwfast.exchange.exchange cimport FOREVER_MS, Gateway
from gwfast.exchange.forwarding cimport ForwardingGateway
from gwfast.exchange.mapped_table cimport MappedTable
from gwfast.extend.python_filter cimport PythonFilters
from gwfast.http.head cimport scratch_bytes
from gwfast.engine.access_log cimport AccessLog
from gwfast.engine.loop cimport Loop, fail_buffer
from gwfast.upstream.queue cimport Called, Queues
from gwfast.engine.sys cimport *
from gwfast.table.layout cimport BIND_UDP, SECTION_EXTENSIONS, Bind, Image, Text, count_of, extension_at, text
from gwfast.engine.timer cimport Timer
from gwfast.exchange.session_token cimport TOKEN_KEY
from gwfast.l4.udp cimport UdpSocket
from gwfast.upstream.requests cimport Pools

cdef enum:
    QUEUED = 65536         # connections taken from a queue before its socket is closed


@cython.final
cdef class Engine:
    """Serve traffic with a table image, nested in an event loop that watches `epoll_fd`.

    `options` is a serve.options.EngineOptions; call_fd: an eventfd that all workers share, the engine's from then on. Raises
    OSError and ValueError from the constructor, `listen` and `swap`; `drain` and `tick` never raise.
    """
    cdef Loop loop
    cdef Gateway gateway
    cdef Clients clients
    cdef Called called     # when other workers do; None: there are none
    cdef dict acceptors    # bind id -> Acceptor
    cdef dict datagrams    # bind id -> UdpSocket
    cdef uint64_t udp_idle_ms
    cdef object wake       # to be called at the next event; None: nobody rests

    def __init__(self, *, int worker, int workers, int counters_fd, options, int call_fd=-1):
        cdef Pools upstreams
        cdef Authorizers authorizers
        cdef PythonFilters extensions
        self.gateway = ForwardingGateway(options.max_header_bytes, options.max_field_bytes, options.max_fields)
        self.loop = Loop(Counters(counters_fd, worker), scratch_bytes(&self.gateway.limits))
        upstreams = Pools(self.loop)
        upstreams.pool_size = options.pool_size
        upstreams.pool_idle_ms = round(options.pool_idle * 1000)
        upstreams.pool_age_ms = round(options.pool_age * 1000)
        upstreams.connect_ms = round(options.connect_timeout * 1000)
        upstreams.begin(&self.gateway.reply, &self.gateway.limits)
        self.gateway.loop = self.loop
        self.gateway.timer = Timer.__new__(Timer)
        self.gateway.timer.loop = self.loop
        if self.gateway.timer.begin() < 0:
            raise OSError(errno, "cannot make a timer")
        upstreams.queues = Queues()
        upstreams.queues.loop, upstreams.queues.timer, upstreams.queues.fd = self.loop, self.gateway.timer, call_fd
        upstreams.worker, upstreams.workers = worker, workers
        if call_fd >= 0:
            self.hear(call_fd, upstreams.queues)
        self.gateway.counters = self.loop.counters
        self.gateway.upstreams = upstreams
        self.gateway.log = AccessLog(self.loop, options.access_log_fd, options.access_log)
        self.gateway.calls = Subrequests()
        self.gateway.calls.upstreams = upstreams
        self.gateway.calls.limits = self.gateway.limits
        authorizers = Authorizers()
        authorizers.calls = Subrequests()
        authorizers.calls.upstreams = upstreams
        authorizers.calls.limits = self.gateway.limits
        authorizers.calls.most = 0xFFFFFFFF    # each is a request that a client waits for
        self.gateway.authorizers = authorizers
        extensions = PythonFilters()
        extensions.gateway = self.gateway
        self.gateway.extensions = extensions
        self.gateway.session_key = options.session_key or os.urandom(TOKEN_KEY)
        if len(self.gateway.session_key) != TOKEN_KEY:
            raise ValueError(f"the key of sessions has {TOKEN_KEY} bytes")
        self.gateway.via = options.via.encode("ascii") if options.via else None
        self.gateway.request_id = options.request_id
        self.gateway.response_ms = round(options.response_timeout * 1000)
        self.gateway.stream_ms = round(options.stream_idle_timeout * 1000) or FOREVER_MS
        self.gateway.tunnel_ms = round(options.tunnel_idle_timeout * 1000)
        self.clients = Clients(self.gateway, options)
        self.clients.most = options.connections or resource.getrlimit(resource.RLIMIT_NOFILE)[0] // 2
        self.acceptors = {}
        self.datagrams = {}
        self.udp_idle_ms = round(options.udp_idle_timeout * 1000)

    cdef int hear(self, int fd, Queues queues) except -1:
        self.called = Called.__new__(Called)
        self.called.loop, self.called.fd, self.called.queues = self.loop, fd, queues
        if self.loop.add(self.called, EPOLLIN | EPOLLET) < 0:
            raise OSError(errno, "cannot watch what other workers call with")
        return 0

    @property
    def epoll_fd(self) -> int:
        """The descriptor to watch for reading."""
        return self.loop.epoll

    @property
    def counters(self) -> Counters:
        """What this worker counts in."""
        return self.loop.counters

    @property
    def connections(self) -> int:
        """How many clients are connected, or have a session of UDP."""
        return self.clients.open + self.loop.counters.totals.udp_sessions_open

    @property
    def requests(self) -> int:
        """How many requests are in flight."""
        return self.loop.counters.totals.requests_open

    @property
    def idle(self) -> bool:
        """Whether nothing is connected, timed or to be logged: until the next event a tick has nothing to do."""
        return not self.connections and not self.loop.filed and not self.gateway.log.n

    def rest(self, wake) -> None:
        """Call `wake` when the next event is there: until then ticks come less often."""
        self.wake = wake

    def drain(self) -> None:
        """Take the events that are there, bounded, so that the loop's other tasks get their turn."""
        if self.wake is not None:
            wake, self.wake = self.wake, None
            wake()
        self.loop.run()

    def tick(self) -> None:
        """Let deadlines happen, write the log's batch, and show that the loop turns."""
        self.loop.counters.totals.beats += 1
        self.loop.turn()
        self.gateway.timer.look_ahead()
        self.gateway.log.flush()

    def listen(self, int fd, int bind_id) -> None:
        """Accept on this socket, which becomes the engine's, for the bind with this id."""
        cdef Acceptor acceptor = Acceptor.__new__(Acceptor)
        cdef const Bind *bind
        cdef int on = 1
        if bind_id in self.acceptors or bind_id in self.datagrams:
            self.unlisten(bind_id)
        acceptor.fd = fd
        acceptor.loop = self.loop
        acceptor.clients = self.clients
        acceptor.bind_id = bind_id
        bind = self.gateway.table.bind(bind_id) if self.gateway.table is not None else NULL
        if bind != NULL and bind.transport == BIND_UDP:
            acceptor.fd = -1
            self.take_datagrams(fd, bind_id)
            return
        if bind != NULL:
            acceptor.port, acceptor.transport = bind.port, bind.transport
        os.set_blocking(fd, False)
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on))    # what it accepts inherits this
        # level-triggered: what one event leaves in the queue is announced again
        if self.loop.add(acceptor, 0 if self.clients.paused else EPOLLIN) < 0:
            acceptor.closed = True
            raise OSError(errno, "cannot watch the listening socket")
        self.acceptors[bind_id] = acceptor
        self.clients.acceptors.append(acceptor)

    def take(self, int fd, int bind_id) -> None:
        """Serve a connection of this bind, the engine's from now on, that was accepted in the place of a worker that does not."""
        cdef Acceptor acceptor = self.acceptors.get(bind_id)
        cdef sockaddr_storage address
        cdef socklen_t n = sizeof(address)
        if acceptor is None or getpeername(fd, <sockaddr *>&address, &n) < 0:
            close(fd)
            return
        if self.clients.open >= self.clients.most:
            self.loop.counters.totals.connections_refused += 1
            close(fd)
            return
        os.set_blocking(fd, False)
        self.loop.clock()
        acceptor.welcome(fd, &address)
        self.loop.settle()

    cdef int take_datagrams(self, int fd, int bind_id) except -1:
        cdef UdpSocket datagrams = UdpSocket.__new__(UdpSocket)
        datagrams.fd, datagrams.loop, datagrams.clients = fd, self.loop, self.clients
        datagrams.bind_id, datagrams.most, datagrams.idle_ms = bind_id, limits.UDP_SESSIONS, self.udp_idle_ms
        os.set_blocking(fd, False)
        if datagrams.begin() < 0:
            datagrams.closed = True
            raise OSError(errno, "cannot watch the socket")
        self.datagrams[bind_id] = datagrams
        return 0

    cdef void leave_datagrams(self, UdpSocket datagrams) noexcept:
        datagrams.end_all()
        datagrams.close()
        self.loop.settle()

    def unlisten(self, int bind_id) -> None:
        """Serve what waits in this bind's queue and close its socket; sessions of UDP end."""
        if bind_id in self.datagrams:
            self.leave_datagrams(self.datagrams.pop(bind_id))
        else:
            self.let_go(bind_id, QUEUED)

    cdef int let_go(self, int bind_id, uint32_t most) except -1:
        """Serve at most so many connections that wait in this bind's queue and close our copy of its socket."""
        cdef Acceptor acceptor = self.acceptors.pop(bind_id, None)
        if acceptor is None:
            return 0
        self.loop.clock()
        acceptor.accept_all(most)
        self.clients.acceptors.remove(acceptor)
        acceptor.close()
        if self.clients.paused and self.clients.open < self.clients.most:
            self.clients.pause(False)      # it may have been the one that was to try again
        self.loop.settle()
        return 0

    def swap(self, int fd) -> None:
        """Use this table image (a descriptor, which stays the caller's) from the next request on."""
        cdef MappedTable table = MappedTable(fd)
        cdef Gateway gateway = self.gateway
        cdef uint64_t *slots
        gateway.upstreams.grow(table.image.endpoint_slots)
        if table.image.pick_slots > gateway.picks.size:
            slots = <uint64_t *>realloc(gateway.picks.slots, table.image.pick_slots * sizeof(uint64_t))
            if slots == NULL:
                raise MemoryError
            memset(slots + gateway.picks.size, 0, (table.image.pick_slots - gateway.picks.size) * sizeof(uint64_t))
            gateway.picks.slots = slots
            gateway.picks.size = table.image.pick_slots
        gateway.table = table
        self.loop.counters.totals.table_generation = table.image.generation
        self.loop.counters.totals.tables_swapped += 1

    def extensions(self) -> list[tuple[int, bytes]]:
        """Return (id, definition) of every filter in Python that the table names; a definition is JSON of an ExtensionFilter."""
        cdef const Image *image = self.gateway.table.image
        cdef Text definition
        cdef uint32_t i
        found = {}
        for i in range(count_of(image, SECTION_EXTENSIONS)):
            definition = extension_at(image, i).definition
            if definition.n:
                found[extension_at(image, i).id] = text(image, definition)[:definition.n]
        return list(found.items())

    def extend(self, host) -> None:
        """Ask `host` (serve.extensions.Host) to run the filters in Python."""
        (<PythonFilters>self.gateway.extensions).host = host

    def secure(self, certs) -> None:
        """Ask `certs` (serve.certs.Certs) for what handshakes need, from the next one on."""
        self.clients.certs = self.gateway.upstreams.certs = certs

    def tell(self, told) -> None:
        """Subrequest `told(address, reason, detail, untold)` of handshakes with clients that fail, of so many a second
        (limits.HANDSHAKE_LINES); untold: of how many it was not called since the last time."""
        self.clients.tell = told

    def part(self) -> None:
        """Keep what clients of UDP send that have a session, though others are to read the sockets as well from now on."""
        cdef UdpSocket datagrams
        self.loop.clock()
        for datagrams in self.datagrams.values():
            datagrams.part()

    def finish(self, handed_over: bool = False) -> None:
        """Stop accepting; answer what is in flight with 'Connection: close'; idle connections end soon. handed_over: others
        have the sockets and take what waits there, and the datagrams that come."""
        self.gateway.draining = True
        cdef UdpSocket datagrams
        for bind_id in list(self.acceptors):
            self.let_go(bind_id, 0 if handed_over else QUEUED)
        for datagrams in self.datagrams.values():
            if handed_over:
                datagrams.part()           # those that are new since part()
                self.loop.watch(datagrams, 0)
            else:
                datagrams.drain()
        self.clients.drain()

    def abort(self) -> None:
        """Close everything now."""
        self.wake = None
        self.finish()
        for bind_id in list(self.datagrams):
            self.unlisten(bind_id)
        self.clients.close_all()
        self.gateway.timer.close()
        if self.called is not None:
            self.called.close()
        while self.gateway.upstreams.shed():
            pass
        self.gateway.calls.forget()
        (<Authorizers>self.gateway.authorizers).forget()
        (<PythonFilters>self.gateway.extensions).host = None
        (<PythonFilters>self.gateway.extensions).gateway = None
        self.gateway.forget_spares()
        self.loop.settle()
        (<Pools>self.gateway.upstreams).queues.forget()     # what was to be done in this round is

    def fail_buffer(self, long n) -> int:
        """Let the buffer after the next n not be had, in a debug build (see loop.pxd). Of every engine of this process."""
        return fail_buffer(n)

    def __dealloc__(self):
        if self.gateway is not None:
            free(self.gateway.picks.slots)
            self.gateway.picks.slots = NULL
