"""An engine in this process, with a plan made by hand and a backend that does what a test says, byte by byte."""
import contextlib
import functools
import os
import selectors
import socket
import ssl
import threading

from gwfast.engine import counters
from gwfast.engine.engine import Engine
from gwfast.endpoints.registry import Registry
from gwfast.plan import ir
from gwfast.plan.credentials import Credentials
from gwfast.plan.image import Images, publish
from gwfast.serve.certs import Certs
from gwfast.serve.options import EngineOptions


class Backend:
    """A listening socket; `accept()` gives the test the next connection that the engine opens."""

    def __init__(self):
        self.socket = socket.create_server(("127.0.0.1", 0), backlog=512)
        self.socket.settimeout(5)
        self.port = self.socket.getsockname()[1]
        self.accepted = []

    def accept(self) -> socket.socket:
        connection, _ = self.socket.accept()
        connection.settimeout(5)
        self.accepted.append(connection)
        return connection

    def close(self):
        for connection in (*self.accepted, self.socket):
            connection.close()


def head(connection) -> bytes:
    """Read up to and with the empty line."""
    got = b""
    while not got.endswith(b"\r\n\r\n"):
        byte = connection.recv(1)
        if not byte:
            raise EOFError(got)
        got += byte
    return got


def readable(*connections: socket.socket, seconds: float = 0) -> list[socket.socket]:
    """Wait until one of them can be read; which can. As select(), of which descriptors above 1023 cannot be asked."""
    with selectors.PollSelector() as selector:
        for each in connections:
            selector.register(each, selectors.EVENT_READ)
        return [key.fileobj for key, _ in selector.select(seconds)]


def rest(connection) -> bytes:
    """Read until the other side ends; what an RST cuts off counts as ended, marked."""
    got = b""
    try:
        while data := connection.recv(65536):
            got += data
    except ConnectionResetError:
        got += b"<RST>"
    return got


class Running:
    """An engine driven by a thread, one bind on a free port."""

    def __init__(self, make_plan, addresses, log=None, **options):
        self.registry = Registry()
        self.images = Images(self.registry)
        self.counters = counters.create(1, 64)
        self.engine = Engine(worker=0, workers=1, counters_fd=self.counters,
                             options=EngineOptions(**({"access_log_fd": log, "access_log": "json"} if log else {}),
                                                   **options))
        self.generation = 0
        self.lock = threading.Lock()
        self.apply(make_plan(addresses))
        listening = socket.create_server(("127.0.0.1", 0), backlog=512)
        self.port = listening.getsockname()[1]
        self.engine.listen(listening.detach(), 0)
        self.stopping = False
        self.clients = []
        self.thread = threading.Thread(target=self.drive, daemon=True)
        self.thread.start()

    def apply(self, plan, bind_id=0):
        self.generation += 1
        fd = publish(self.images.build(plan, {bind.key: bind_id for bind in plan.binds}, self.generation))
        with self.lock:
            self.engine.swap(fd)
            if any(listener.tls for bind in plan.binds for listener in bind.listeners):
                with contextlib.closing(Credentials()) as writer:
                    self.engine.secure(Certs(writer.publish(plan)))
        os.close(fd)

    def drive(self):
        with selectors.DefaultSelector() as selector:
            selector.register(self.engine.epoll_fd, selectors.EVENT_READ)
            while not self.stopping:
                selector.select(0.01)
                with self.lock:
                    self.engine.drain()
                    self.engine.tick()

    def connect(self) -> socket.socket:
        connection = socket.create_connection(("127.0.0.1", self.port))
        connection.settimeout(5)
        self.clients.append(connection)
        return connection

    def connect_tls(self, alpn="h2") -> ssl.SSLSocket:
        """A client of a plan with `front_tls`, which does not look at the certificate."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        context.set_alpn_protocols([alpn])
        self.clients.append(context.wrap_socket(self.connect(), server_hostname="a.test"))
        return self.clients[-1]

    def count(self, name) -> int:
        counts = counters.read(self.counters)
        if name.startswith("mirror_"):
            return counts["mirrors"][name.removeprefix("mirror_")]
        return counts["global"].get(name, counts["faults"].get(name))

    def wait(self, name, value):
        """Wait until a counter has this value."""
        for _ in range(1000):
            if self.count(name) == value:
                return
            threading.Event().wait(0.005)
        raise AssertionError(f"{name} is {self.count(name)}, not {value}")

    def close(self):
        self.stopping = True
        self.thread.join()
        self.engine.abort()
        for client in self.clients:
            client.close()
        os.close(self.counters)


@functools.cache
def front() -> ir.ServerTLS:
    from support.issuer import Issuer
    return ir.ServerTLS(certificates=(Issuer().issue("a.test"),))


def one_rule(addresses, protocol="http", tls=None, front_tls=False, **rule) -> ir.Plan:
    """Everything to one backend with these addresses. front_tls: clients come over TLS."""
    backend = ir.Backend(namespace="default", name="echo", port=80, protocol=protocol, tls=tls)
    rule = {"backends": (ir.WeightedBackend(backend=backend),), **rule}
    entry = ir.Entry(match=ir.Match(), rule=ir.Rule(kind="HTTPRoute", namespace="default", route="all", index=0, **rule))
    listener = ir.Listener(id="default/gateway/web", mode="https" if front_tls else "http", tls=front() if front_tls else None,
                           hosts=(ir.Host(hostname="", entries=(entry,)),))
    bind = ir.Bind(address="", port=80, transport="tls" if front_tls else "http", listeners=(listener,))
    return ir.Plan(binds=(bind,), backends=(backend,),
                   endpoints=(ir.Endpoints(key=backend.key, addresses=tuple(addresses)),))


def shadowed(addresses, shadows, protocol="http", **rule) -> ir.Plan:
    """The same, and a copy of each request to a mirror with the addresses `shadows`, which speaks `protocol`."""
    shadow = ir.Backend(namespace="default", name="shadow", port=80, protocol=protocol)
    made = one_rule(addresses, filters=(ir.MirrorFilter(backend=shadow),), **rule)
    return ir.Plan(binds=made.binds, backends=(*made.backends, shadow),
                   endpoints=(*made.endpoints, ir.Endpoints(key=shadow.key, addresses=tuple(shadows))))
