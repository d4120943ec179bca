"""Plans for benchmarks of the table, and the requests that are asked of them."""
import random
from collections.abc import Iterator

from gwfast.endpoints.registry import Registry
from gwfast.plan import ir
from gwfast.plan.image import Images

BIND = {"[]:80": 1}
HOST = ("Host", "shop.example.com")
CURL = [("User-Agent", "curl/8.5.0"), ("Accept", "*/*")]

Request = tuple[str, list[tuple[str, str]]]


def rule(number: int, version: int = 0) -> ir.Rule:
    """The rule of one route with a backend of its own; another version is another name."""
    backend = ir.Backend(namespace="bench", name=f"service-{number}", port=80)
    return ir.Rule(kind="HTTPRoute", namespace="bench", route=f"route-{number}", index=0, name=f"v{version}",
                   backends=(ir.WeightedBackend(backend=backend),))


def plan(*hosts: ir.Host) -> ir.Plan:
    """One listener with these hosts, and two endpoints for every backend."""
    backends = {one.backend.key: one.backend for host in hosts for entry in host.entries
                for one in entry.rule.backends}
    endpoints = tuple(
        ir.Endpoints(key=key, addresses=tuple((f"10.{net}.{n >> 8 & 255}.{n & 255}", 80) for net in (0, 1)))
        for n, key in enumerate(backends))
    listener = ir.Listener(id="bench/gateway/web", hosts=hosts)
    return ir.Plan(binds=(ir.Bind(address="", port=80, listeners=(listener,)),), backends=tuple(backends.values()),
                   endpoints=endpoints)


def prefixes(count: int) -> ir.Plan:
    """`count` routes with a prefix each, on one host."""
    return plan(ir.Host(hostname="*.example.com", entries=tuple(
        ir.Entry(match=ir.Match(path=f"/api/service-{n:06}"), rule=rule(n)) for n in range(count))))


def hosts(count: int) -> ir.Plan:
    """`count` routes with a hostname each."""
    return plan(*(ir.Host(hostname=f"host-{n:06}.example.com",
                          entries=(ir.Entry(match=ir.Match(path="/"), rule=rule(n)),)) for n in range(count)))


def headers(count: int) -> ir.Plan:
    """`count` matches of one path, told apart by a header."""
    return plan(ir.Host(hostname="*.example.com", entries=tuple(
        ir.Entry(match=ir.Match(path="/", headers=(ir.ValueMatch(name="x-tenant", value=f"tenant-{n:06}"),)),
                 rule=rule(n)) for n in range(count))))


def patterns(count: int) -> ir.Plan:
    """`count` routes with a regular expression each, below a literal element of their own."""
    return plan(ir.Host(hostname="*.example.com", entries=tuple(
        ir.Entry(match=ir.Match(path_type="RegularExpression", path=f"/service-{n:06}/v[0-9]+/[a-z]*"), rule=rule(n))
        for n in range(count))))


def alike(count: int) -> ir.Plan:
    """`count` routes with a regular expression each, which have no literal beginning."""
    return plan(ir.Host(hostname="*.example.com", entries=tuple(
        ir.Entry(match=ir.Match(path_type="RegularExpression", path=f"/.*/service-{n:06}/.*"), rule=rule(n))
        for n in range(count))))


def image(made: ir.Plan):
    return Images(Registry()).build(made, BIND)


def changed(made: ir.Plan, number: int, version: int) -> ir.Plan:
    """The same plan, but one route of it is new; what did not change is the same object."""
    (bind,) = made.binds
    (listener,) = bind.listeners
    new = list(listener.hosts)
    at, place = (0, number) if len(new) == 1 else (number, 0)
    entries = list(new[at].entries)
    entries[place] = ir.Entry(match=entries[place].match, rule=rule(number, version))
    new[at] = ir.Host(hostname=new[at].hostname, entries=tuple(entries))
    listener = ir.Listener(id=listener.id, hosts=tuple(new))
    return ir.Plan(binds=(ir.Bind(address="", port=80, listeners=(listener,)),), backends=made.backends,
                   endpoints=made.endpoints)


def lookups(count: int) -> Iterator[tuple[str, ir.Plan, list[Request]]]:
    """What find() is asked: a name, the plan, requests for its first, its middle and its last route, and none."""
    numbers = (0, count // 2, count - 1, count)
    yield "prefix", prefixes(count), [(f"/api/service-{n:06}/x", [HOST, *CURL]) for n in numbers]
    yield "host", hosts(count), [("/index.html", [("Host", f"host-{n:06}.example.com"), *CURL]) for n in numbers]
    few = min(count, 10_000)
    numbers = (0, few // 2, few - 1, few)
    yield "header", headers(few), [("/", [HOST, *CURL, ("X-Tenant", f"tenant-{n:06}")]) for n in numbers]
    few = min(count, 1_000)
    numbers = (0, few // 2, few - 1, few)
    yield "pattern", patterns(few), [(f"/service-{n:06}/v1/list", [HOST, *CURL]) for n in numbers]
    yield "patterns alike", alike(few), [(f"/v1/service-{n:06}/list", [HOST, *CURL]) for n in numbers]


def anywhere(count: int, paths: int) -> list[str]:
    """Paths for routes of `prefixes(count)`, drawn at random: most miss the processor's caches."""
    drawn = random.Random(1)
    return [f"/api/service-{drawn.randrange(count):06}/x" for _ in range(paths)]


WHICH = ("first", "middle", "last", "none")
