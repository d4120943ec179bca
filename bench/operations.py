"""What is counted: an operation is a line here (see watched.py for the kinds).

    "find one of many paths, last": find(plans.prefixes, MANY, -1),
"""
import socket
from collections.abc import Callable
from functools import cache
from pathlib import Path

from bench import plans, wire
from bench.watched import Client, Decode, Encode, Exchange, Find, Job, Parse, Pick
from gwfast.http2.hpack_encoder import Encoder
from gwfast.graph.model import Passive, TargetPolicy
from gwfast.plan import ir
from gwfast.plan.credentials import credentials

MANY = 10_000

Make = Callable[["Desk"], Job]

HEADS = {
    "wrk": b"GET / HTTP/1.1\r\nHost: 127.0.0.1:8080\r\n\r\n",
    "curl": b"GET /api/v1/items/42?x=1 HTTP/1.1\r\nHost: www.example.com:8080\r\nUser-Agent: curl/8.5.0\r\n"
            b"Accept: */*\r\n\r\n",
    "browser": b"GET /search/results/page?q=gateway+api&lang=en HTTP/1.1\r\nHost: www.example.com\r\n"
               b"Connection: keep-alive\r\nCache-Control: max-age=0\r\n"
               b"sec-ch-ua: \"Chromium\";v=\"128\", \"Not;A=Brand\";v=\"24\"\r\nsec-ch-ua-mobile: ?0\r\n"
               b"Upgrade-Insecure-Requests: 1\r\nUser-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 "
               b"(KHTML, like Gecko) Chrome/128.0.0.0 Safari/537.36\r\nAccept: text/html,application/xhtml+xml,"
               b"application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8\r\nSec-Fetch-Site: none\r\n"
               b"Accept-Encoding: gzip, deflate, br\r\nAccept-Language: en-US,en;q=0.9\r\n"
               b"Cookie: session=0123456789abcdef0123456789abcdef; theme=dark\r\n\r\n",
    "odd path": b"GET /a/./b//c/%7Euser/../%2e%2e/caf%c3%a9 HTTP/1.1\r\nHost: a\r\n\r\n",
    "response": b"HTTP/1.1 200 OK\r\nServer: nginx/1.22.1\r\nDate: Mon, 23 Nov 2026 02:00:00 GMT\r\n"
                b"Content-Type: text/plain\r\nContent-Length: 35\r\nConnection: keep-alive\r\n\r\n",
}
FILTERS = (
    ir.HeaderFilter(on="request", add=(("X-Tenant", "shop"),), set=(("User-Agent", "gateway"),), remove=("accept",)),
    ir.HeaderFilter(on="response", add=(("X-Served-By", "gwfast"),), remove=("server",)),
    ir.RewriteFilter(hostname="shop.internal", path=ir.PathModifier(type="ReplacePrefixMatch", value="/v2")),
)
SIDE = ir.Backend(namespace="bench", name="beside", port=80)
MIRROR = ir.MirrorFilter(backend=SIDE)
AUTHORIZE = ir.AuthorizeFilter(backend=SIDE, headers=("authorization",), answers=("x-user",))
PYTHON = {name: ir.ExtensionFilter(name=f"bench/{name.lower()}", module="bench.filters", class_name=name)
          for name in ("Empty", "Tenant")}
CORS = ir.CorsFilter(origins=("https://www.example.com",), methods=("GET", "PUT"), headers=("Content-Type",), max_age=600)
TIMEOUTS = ir.Timeouts(request=30.0, backend_request=10.0)
RETRY = ir.Retry(codes=(502, 503), attempts=2, backoff=0.1)
HEALTH = TargetPolicy(name="bench/service", passive=Passive(failures=5, ejection_ms=30_000, percent=50))
PLAIN = HEADS["response"] + b"0123456789012345678901234567890123\n"
LARGE = HEADS["response"].replace(b"35", b"65536") + b"x" * 65535 + b"\n"
EMPTY = HEADS["response"].replace(b"35", b"0")
CHUNKED = HEADS["response"].replace(b"Content-Length: 35", b"Transfer-Encoding: chunked") + \
    b"10\r\n0123456789abcdef\r\n" * 4 + b"0\r\n\r\n"


class Desk:
    """Where jobs are made ready: a folder for images, and the sockets of backends, which the images of exchanges name."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.images: dict[object, str] = {}
        self.backends = [socket.create_server(("127.0.0.1", 0)) for _ in range(2)]

    def image(self, key: object, make: Callable[[], ir.Plan]) -> str:
        """The file with this plan's image, written once."""
        if key not in self.images:
            path = self.folder / f"image.{len(self.images)}"
            path.write_bytes(plans.image(make()))
            self.images[key] = str(path)
        return self.images[key]


    def credentials(self, plan: ir.Plan) -> str:
        """The file with what a plan needs for TLS, for one reader."""
        path = self.folder / f"credentials.{len(list(self.folder.iterdir()))}"
        path.write_bytes(credentials(plan))
        return str(path)


def find(by: str, which: str, routes: int = MANY) -> Make:
    """A lookup among many routes (plans.lookups)."""
    def make(desk: Desk) -> Job:
        plan, requests = next((plan, requests) for name, plan, requests in plans.lookups(routes) if name == by)
        path, headers = requests[plans.WHICH.index(which)]
        return Find(desk.image((by, routes), lambda: plan), path, headers)
    return make


def parse(head: str) -> Make:
    return lambda desk: Parse(HEADS[head])


def pick(count: int) -> Make:
    return lambda desk: Pick([1_000_000 - n for n in range(count)])


def decode(warm: bool) -> Make:
    """What a browser sends with its first request, or with one of its next."""
    def make(desk: Desk) -> Job:
        lines = HEADS["browser"].replace(b"Connection: keep-alive\r\n", b"").split(b"\r\n")[2:-2]
        fields = [(b":method", b"GET"), (b":authority", b"www.example.com"), (b":scheme", b"https"),
                  (b":path", b"/search/results/page?q=gateway+api&lang=en"), *named(lines)]
        encoder = Encoder()
        blocks = [encoder.encode(fields), encoder.encode(fields)]
        return Decode(blocks if warm else blocks[:1])
    return make


def encode(desk: Desk) -> Job:
    return Encode(named([*HEADS["response"].replace(b"Connection: keep-alive\r\n", b"").split(b"\r\n")[1:-2],
                         b"cache-control: private, max-age=0", b"etag: W/\"5fc-1a2b3c4d5e\"", b"vary: Accept-Encoding",
                         b"strict-transport-security: max-age=31536000; includeSubDomains"]))


def named(lines: list[bytes]) -> list[tuple[bytes, bytes]]:
    return [(name.lower(), value) for name, _, value in (line.partition(b": ") for line in lines)]


def exchange(answer: bytes = PLAIN, head: str = "curl", filters: tuple[ir.Filter, ...] = (), new: bool = False,
             endpoints: int = 1, health: TargetPolicy | None = None, client: Client = "http1", beside: bytes = b"",
             loop: bool = False, log: bool = False, **policy: ir.Timeouts | ir.Retry | ir.SessionPersistence) -> Make:
    """A request through the engine to a backend that gives this answer; `policy`: more of its rule. `beside`: what another
    backend answers, which a filter asks (SIDE)."""
    tls = client in ("tls", "http2 over tls")

    def plan(ports: list[int]) -> ir.Plan:
        services = [ir.Backend(namespace="bench", name="service", port=80), *([SIDE] if beside else [])]
        rule = ir.Rule(kind="HTTPRoute", namespace="bench", route="all", index=0, filters=filters,
                       backends=(ir.WeightedBackend(backend=services[0]),), **policy)
        entry = ir.Entry(match=ir.Match(path="/api" if filters else "/"), rule=rule)
        listener = ir.Listener(id="bench/gateway/web", mode="https" if tls else "http",
                               tls=ir.ServerTLS(certificates=(certificate(),)) if tls else None,
                               hosts=(ir.Host(hostname="", entries=(entry,)),))
        addresses = tuple(("127.0.0.1", port) for port in ports)
        where = [ir.Endpoints(key=services[0].key, addresses=addresses[:endpoints], policy=health),
                 *(ir.Endpoints(key=each.key, addresses=addresses[endpoints:]) for each in services[1:])]
        bind = ir.Bind(address="", port=80, transport="tls" if tls else "http", listeners=(listener,))
        return ir.Plan(binds=(bind,), backends=tuple(services), endpoints=tuple(where))

    def make(desk: Desk) -> Job:
        backends = desk.backends[:endpoints + bool(beside)]
        made = plan([each.getsockname()[1] for each in backends])
        image = desk.image(("exchange", filters, endpoints, health, tls, *policy.items()), lambda: made)
        return Exchange(image, [each.fileno() for each in backends], [answer] * endpoints + [beside] * bool(beside), HEADS[head],
                        answer[-5:], new, client, desk.credentials(made) if tls else "", 1 + bool(beside), "session" in policy,
                        loop, log)
    return make


@cache
def certificate() -> ir.Certificate:
    chain, key = wire.certificate()
    return ir.Certificate(chain=chain, key=key, names=(wire.HOST,))


OPERATIONS: dict[str, Make] = {
    **{f"find by {by}, {which}": find(by, which) for by in ("prefix", "host", "header") for which in ("first", "last")},
    "find by pattern, last": find("pattern", "last", 1000),
    "find by patterns alike, last": find("patterns alike", "last", 1000),
    **{f"pick of {count}": pick(count) for count in (2, 16)},
    **{f"parse {head}": parse(head) for head in HEADS},
    "hpack decode, first": decode(warm=False),
    "hpack decode, warm": decode(warm=True),
    "hpack encode, warm": encode,
    "exchange": exchange(),
    "exchange, browser": exchange(head="browser"),
    "exchange, filters": exchange(filters=FILTERS),
    "exchange, CORS": exchange(filters=(CORS,)),
    "exchange, filters and CORS": exchange(filters=(*FILTERS, CORS)),
    "exchange, timeouts": exchange(timeouts=TIMEOUTS),
    "exchange, retry": exchange(retry=RETRY),
    "exchange, timeouts and retry": exchange(timeouts=TIMEOUTS, retry=RETRY),
    "exchange, health": exchange(health=HEALTH),
    "exchange, two endpoints": exchange(endpoints=2),
    "exchange, two endpoints and health": exchange(endpoints=2, health=HEALTH),
    "exchange, chunks": exchange(CHUNKED),
    "exchange, 64 KB": exchange(LARGE),
    "exchange, JSON log": exchange(log=True),
    "exchange, browser, JSON log": exchange(head="browser", log=True),
    "exchange, new connection": exchange(new=True),
    "exchange, HTTP/2": exchange(client="http2"),
    "exchange, TLS": exchange(client="tls"),
    "exchange, HTTP/2 over TLS": exchange(client="http2 over tls"),
    "exchange, mirror": exchange(filters=(MIRROR,), beside=PLAIN),
    "exchange, authorizer": exchange(filters=(AUTHORIZE,), beside=EMPTY),
    "exchange, session": exchange(session=ir.SessionPersistence(name="session")),
}

# What an event loop runs in Python is counted whole, client and backend included: what the first takes beyond the second.
BEYOND: dict[str, tuple[Make, Make]] = {
    "exchange, empty filter in Python": (exchange(filters=(PYTHON["Empty"],), loop=True), exchange(loop=True)),
    "exchange, filter in Python that reads and sets": (exchange(filters=(PYTHON["Tenant"],), loop=True), exchange(loop=True)),
}
