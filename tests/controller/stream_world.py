"""Controllers and data planes of the tests of streams: real sockets and TLS, tokens that a table knows."""
import asyncio
import contextlib
import datetime
import inspect
import json
import ssl

from gwfast.config import model as m
from gwfast.config.model import Key
from gwfast.controller import authority
from gwfast.controller.feed import EMPTY, Feed
from gwfast.controller.link import where
from gwfast.controller.review import Caller, Unavailable
from gwfast.controller.source import Answers, ControllerSource
from gwfast.controller.stream import StreamServer
from gwfast.controller.token import Account
from gwfast.controller.wire import encode
from gwfast.graph.model import Graph

NAME = "controller.test"
DEADLINE = 60.0  # for what has to happen, on a machine that is busy with other things
GATEWAY = Key("Gateway", "ns", "g")
NOTHING = Graph(classes={}, gateways={}, listener_sets={}, listeners={}, routes={}, targets={}, policies={})


class Log:
    """Keeps what is told."""

    def __init__(self):
        self.lines = []

    def __getattr__(self, level):
        return lambda msg, *rest, **fields: self.lines.append((level, msg, fields))

    def said(self, words):
        return [line for line in self.lines if words in line[1]]


class Reviews:
    """Knows tokens by table: whose one says that it is, and whose it is. `asked`: those that the API server was asked about."""

    def __init__(self):
        self.tokens = {"good": Caller(Account("ns", "fleet")), "stranger": Caller(Account("ns", "nobody")),
                       "other": Caller(Account("ns", "other"))}
        self.claims = {"forged": Account("ns", "fleet")}
        self.away = False
        self.asked = []

    def claimed(self, token):
        return self.claims.get(token) or (self.tokens[token].account if token in self.tokens else None)

    async def caller(self, token, address):
        self.asked.append(token)
        if self.away:
            raise Unavailable("no API server")
        return self.tokens.get(token)

    def of_pod(self, pod, fleet="fleet"):
        """Return a token that is bound to a Pod."""
        self.tokens[f"{fleet}/{pod}"] = Caller(Account("ns", fleet), pod, f"uid-of-{pod}")
        return f"{fleet}/{pod}"


def credentials(names=(NAME, "localhost")):
    return authority.renewed({}, names, datetime.datetime.now(datetime.UTC))


class Controller:
    """A stream server, and the feed of one fleet, that tests make."""

    def __init__(self, pki, log=None):
        self.log = log or Log()
        self.reviews = Reviews()
        self.changes = 0
        self.server = StreamServer(self.reviews, self.log, self._changed)
        self.server.use(pki["tls.crt"], pki["tls.key"])
        self.port = 0
        self.feed = EMPTY
        self.moved = asyncio.Event()

    def _changed(self):
        self.changes += 1
        self.moved.set()

    async def start(self, port=0):
        self.port = await self.server.start("127.0.0.1", port)

    def say(self, *resources, gone=()):
        """Change the feed."""
        edits = {one.key: one for one in resources} | dict.fromkeys(gone)
        objects = self.feed.objects.changed(edits)
        number = self.feed.number + 1
        marks = {key: number if key in edits else self.feed.marks[key] for key in objects if key.kind == "Gateway"}
        version = f"{sum(hash(encode(one)) for one in objects.values()) % (1 << 64):064x}"
        self.feed = Feed(version, "1.7.0", number, objects, tuple(edits), marks)
        self.server.publish({"ns/fleet": self.feed})

    async def standing(self, **wanted):
        """Wait until the Gateway stands so."""
        async with asyncio.timeout(DEADLINE):
            while True:
                self.moved.clear()
                found = self.server.standing().get(GATEWAY)
                if found is not None and all(getattr(found, name) == value for name, value in wanted.items()):
                    return found
                await self.moved.wait()


class DataPlane:
    """A source, and rounds as a supervisor makes them."""

    def __init__(self, folder, port, *, state="", token="good", ca=None, log=None, name=NAME):
        (folder / "token").write_text(token)
        if ca is not None:
            (folder / "ca.crt").write_bytes(ca)
        self.log = log or Log()
        to = where(f"https://{name}:{port}", str(folder / "token"), str(folder / "ca.crt"))
        self.source = ControllerSource(to, state_dir=state, log=self.log)
        self.answers = Answers(self.source)
        self.asked = asyncio.Event()
        self.rounds = 0
        self.resources = {}
        self.last = None
        self.round_done = asyncio.Event()
        self.hold = asyncio.Event()
        self.hold.set()
        self.rest = asyncio.Event()  # before it loads
        self.rest.set()
        self.unbound = ()

    async def __aenter__(self):
        loop = asyncio.get_running_loop()
        self.source.watch(loop, lambda _: self.asked.set(), self.log.warning)
        self.task = loop.create_task(self._rounds(loop))
        return self

    async def __aexit__(self, *_):
        self.source.close()
        self.task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self.task

    async def _rounds(self, loop):
        while True:
            self.last = await loop.run_in_executor(None, self.source.load, None)
            self.resources = self.last.resources
            if self.source._pending is None:  # what was asked for is what this load waited for
                self.asked.clear()
            await self.hold.wait()
            self.answers.follow(NOTHING, self.unbound)
            self.rounds += 1
            self.round_done.set()
            await self.asked.wait()
            self.asked.clear()
            await self.rest.wait()

    async def until(self, wanted):
        """Wait until `wanted` is true of the resources."""
        async with asyncio.timeout(DEADLINE):
            while not wanted(self.resources):
                self.round_done.clear()
                await self.round_done.wait()

    async def told(self, controller):
        """Wait until all that a controller says now has come."""
        async with asyncio.timeout(DEADLINE):
            while max(self.source._number, getattr(self.source._pending, "number", 0)) != controller.feed.number:
                await asyncio.sleep(0.001)

    async def has(self, controller):
        """Wait until it has what a controller says now."""
        feed = controller.feed
        await self.until(lambda found: {key: encode(one) for key, one in found.items()} == {
            key: encode(one) for key, one in feed.objects.items()})


def service(name, port=80):
    return m.Service(metadata=m.ObjectMeta(name=name, namespace="ns"), spec=m.ServiceSpec(ports=(m.ServicePort(port=port),)))


def gateway(generation=1):
    return m.Gateway(metadata=m.ObjectMeta(name="g", namespace="ns", generation=generation), spec=m.GatewaySpec(
        gateway_class_name="c", listeners=(m.Listener(name="web", port=80, protocol="HTTP"),)))


def to(folder, port, pki, token="good", name=NAME):
    """Where a controller is, as a data plane with this token is told."""
    (folder / "token").write_text(token)
    (folder / "ca.crt").write_bytes(pki["ca.crt"])
    return where(f"https://{name}:{port}", str(folder / "token"), str(folder / "ca.crt"))


async def lines_until_sync(made):
    found = []
    async for text in made.lines():
        found.append(json.loads(text))
        if found[-1]["type"] == "SYNC":
            return found
    return found


async def dial(port, source="127.0.0.1"):
    """Connect over TLS, from an address of this machine, and say nothing."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return await asyncio.open_connection("127.0.0.1", port, ssl=context, server_hostname="x", local_addr=(source, 0))


async def alone(controller):
    """Wait until nobody is connected."""
    async with asyncio.timeout(DEADLINE):
        while controller.server._door.connections:
            await asyncio.sleep(0.01)
    assert controller.server._door.strangers == 0 and controller.server.peers == []


def run(test, on=asyncio.run):
    """Run a coroutine function as a test, with a deadline for all of it."""
    def wrapped(*args, **kwargs):
        async def bounded():
            async with asyncio.timeout(3 * DEADLINE):
                await test(*args, **kwargs)
        on(bounded())
    wrapped.__name__, wrapped.__doc__ = test.__name__, test.__doc__
    wrapped.__signature__ = inspect.signature(test)
    return wrapped
