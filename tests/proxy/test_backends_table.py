"""Every sentence of the specification about backends, status codes, timeouts, retries, mirrors, authorizers and grants (5.4, 5.5).

A case is (rule, requests, outcome). Requests are `[N*]PATH [NAME:VALUE ...] [body=N]`. The first word of the outcome counts the statuses of
these requests: `200`, `30x200,10x500`; what follows are checks: those of conformance_cases.py, of the last request, and

    seen=N        as many requests of this case came to the backends that mirrors and authorizers are not
    copies=N      as many came to the mirrors
    asked:...     the authorizer was asked: one more such check, of what it got
    asked-body=N  with so many bytes of body
    after=S       at least S seconds went by, within=S: at most S

What a backend does is in the path (SCRIPTS); the host of a request is its case's own.
"""
import json
import time
from collections import Counter
from collections.abc import Iterator
from itertools import count

import pytest
from support.backend import Backend
from support.gateway import Gateway, free_port, gateway, resource, route, rule, service, until, write
from support.wire import Message
from support.conformance import holds
from support.waiting import elapse

from gwfast.config.model import EXPERIMENTAL_GROUP


def ref(name: str = "good", **more: object) -> dict:
    return {"name": name, "port": 80, **more}


def mirror(name: str = "mirror", namespace: str = "", **share: object) -> dict:
    where = ref(name, **({"namespace": namespace} if namespace else {}))
    return {"type": "RequestMirror", "requestMirror": {"backendRef": where, **share}}


def authorized(name: str = "auth", namespace: str = "", body: int = 0, **http: object) -> dict:
    where = ref(name, **({"namespace": namespace} if namespace else {}))
    return {"type": "ExternalAuth", "externalAuth": {"protocol": "HTTP", "http": http, "backendRef": where,
                                                     **({"forwardBody": {"maxSize": body}} if body else {})}}


def grant(name: str, kind: str = "HTTPRoute", to: str = "", source: str = "default") -> dict:
    """The grant of namespace `name`."""
    return resource("ReferenceGrant", name, {"from": [{"group": "gateway.networking.k8s.io", "kind": kind, "namespace": source}],
                                             "to": [{"group": "", "kind": "Service", **({"name": to} if to else {})}]}, namespace=name)


def retried(*codes: int, attempts: int | None = 2, backoff: str = "1ms", timeouts: dict | None = None, backend: str = "shaky") -> dict:
    retry = {"codes": [*codes], "backoff": backoff} | ({} if attempts is None else {"attempts": attempts})
    return rule(backend) | {"retry": retry, **({"timeouts": timeouts} if timeouts else {})}


def timed(**timeouts: str) -> dict:
    return rule("shaky") | {"timeouts": timeouts}


UNKNOWN = {"type": "ExtensionRef", "extensionRef": {"group": "x.example", "kind": "Thing", "name": "thing"}}
REWRITE = {"type": "URLRewrite", "urlRewrite": {"hostname": "b.example"}}
REDIRECT = {"type": "RequestRedirect", "requestRedirect": {"hostname": "b.example"}}
PREFIX = {"type": "URLRewrite", "urlRewrite": {"path": {"type": "ReplacePrefixMatch", "replacePrefixMatch": "/x"}}}
ELSEWHERE = ref(namespace="elsewhere")

CASES = {
    # 5.4: backends and status codes
    "no rule matches": (rule("good", exact="/only"), "/", "404"),
    "no backendRefs": (rule(), "/", "500"),
    "no backendRefs but a redirect": (rule(filters=[REDIRECT]), "/", "302"),
    "all backendRefs are invalid": (rule("odd", ELSEWHERE), "4*/", "4x500"),
    "some are: their share": (rule(ref(weight=3), ELSEWHERE), "40*/", "30x200,10x500"),
    "no traffic for weight 0": (rule("good", ref("mirror", weight=0)), "20*/", "20x200 seen=20 copies=0"),
    "nor for an invalid one": (rule("good", ELSEWHERE | {"weight": 0}), "20*/", "20x200"),
    "a weight is a share of them all": (rule(ref(weight=7), ref("mirror", weight=3)), "20*/", "20x200 seen=14 copies=6"),
    "all weights 0": (rule(ref(weight=0)), "/", "500"),
    "all of several": (rule(ref(weight=0), ref("mirror", weight=0), ref("empty", weight=0)), "4*/", "4x500 seen=0 copies=0"),
    "a Service that is in no file, nor in DNS": (rule("missing"), "/", "503"),
    "RefNotPermitted": (rule(ELSEWHERE), "/", "500"),
    "InvalidKind": (rule(ref(group="x.example", kind="Thing")), "/", "500"),
    "UnsupportedProtocol": (rule("odd"), "/", "500"),
    "a port that the Service does not have": (rule({"name": "good", "port": 81}), "/", "500"),
    "a Service without endpoints": (rule("empty"), "/", "503"),
    "a Service without ready endpoints": (rule("unready"), "/", "503"),
    "its share is not another's": (rule("good", "unready"), "20*/", "10x200,10x503"),
    "to each its own": (rule("good", ELSEWHERE, "empty"), "30*/", "10x200,10x500,10x503"),
    "an endpoint where nobody listens": (rule("refusing"), "/", "503"),
    "an unknown filter is not skipped": (rule("good", filters=[UNKNOWN]), "/", "500 seen=0"),
    "that of a backendRef neither": (rule(ref(filters=[UNKNOWN]), "good"), "20*/", "10x200,10x500"),
    "a rewrite and a redirect": (rule("good", filters=[REWRITE, REDIRECT]), "/", "404"),
    "a filter twice": (rule("good", filters=[REWRITE, REWRITE]), "/", "404"),
    "a prefix is replaced, but a path matched": (rule("good", exact="/only", filters=[PREFIX]), "/only", "404"),
    "a prefix that ends in / is replaced": (rule("good", path="/only/", filters=[PREFIX]), "/only/a", "200 path=/x/a"),
    "also where the path does not": (rule("good", path="/only/", filters=[PREFIX]), "/only", "200 path=/x"),
    "filters of one backendRef": (rule(ref(filters=[REWRITE])), "/", "200 host=b.example"),
    # 5.5: RequestMirror
    "mirror": (rule("good", filters=[mirror()]), "4*/", "4x200 seen=4 copies=4"),
    "one endpoint gets the copy": (rule("good", filters=[mirror("mirrors")]), "8*/", "8x200 copies=8"),
    "its responses are ignored": (rule("good", filters=[mirror()]), "/503", "200 seen=1 copies=1"),
    "percent": (rule("good", filters=[mirror(percent=25)]), "40*/", "40x200 copies=10"),
    "percent 0": (rule("good", filters=[mirror(percent=0)]), "10*/", "10x200 copies=0"),
    "percent 100": (rule("good", filters=[mirror(percent=100)]), "10*/", "10x200 copies=10"),
    "a fraction of 100": (rule("good", filters=[mirror(fraction={"numerator": 10})]), "20*/", "20x200 copies=2"),
    "a fraction": (rule("good", filters=[mirror(fraction={"numerator": 1, "denominator": 4})]), "20*/", "20x200 copies=5"),
    "several mirrors": (rule("good", filters=[mirror(), mirror("mirrors")]), "4*/", "4x200 copies=8"),
    "an invalid mirror is dropped": (rule("good", filters=[mirror("missing"), mirror()]), "4*/", "4x200 seen=4 copies=4"),
    "a mirror that is not granted": (rule("good", filters=[mirror(namespace="elsewhere")]), "4*/", "4x200 seen=4 copies=0"),
    "a mirror that is granted": (rule("good", filters=[mirror(namespace="open")]), "4*/", "4x200 copies=4"),
    "a mirror where nobody listens": (rule("good", filters=[mirror("refusing")]), "4*/", "4x200 seen=4"),
    # 5.5: ExternalAuth
    "200 authorises": (rule("good", filters=[authorized()]), "/", "200 seen=1"),
    **{f"{status} does not": (rule("good", filters=[authorized()]), f"/{status}", f"{answer} seen=0")
       for status, answer in ((204, 403), (401, 401), (403, 403), (503, 503))},
    "an authorizer that is not there": (rule("good", filters=[authorized("refusing")]), "/", "403 seen=0"),
    "one that is not granted": (rule("good", filters=[authorized(namespace="elsewhere")]), "/", "500 seen=0"),
    "one that is granted": (rule("good", filters=[authorized(namespace="open")]), "/", "200 seen=1"),
    "what it is always asked": (rule("good", filters=[authorized()]), "/x?q=1 Authorization:me X-A:1 X-B:2",
                                "200 asked:path=/x?q=1 asked:Host=HOST asked:Content-Length=0 asked:Authorization=me asked:-X-A"),
    "allowedHeaders": (rule("good", filters=[authorized(allowedHeaders=["X-A"])]), "/ Authorization:me X-A:1 X-B:2",
                       "200 asked:X-A=1 asked:Authorization=me asked:-X-B"),
    "a path before its own": (rule("good", filters=[authorized(path="/check")]), "/x", "200 asked:path=/check/x path=/x"),
    "allowedResponseHeaders": (rule("good", filters=[authorized(allowedResponseHeaders=["X-User"])]), "/", "200 X-User=ann -X-Group"),
    "no body of its own": (rule("good", filters=[authorized()]), "/ body=10", "200 asked:Content-Length=0 asked-body=0"),
    "forwardBody": (rule("good", filters=[authorized(body=16)]), "/ body=10", "200 asked:Content-Length=10 asked-body=10 Content-Length=10"),
    "a body of maxSize": (rule("good", filters=[authorized(body=16)]), "/ body=16", "200 asked:Content-Length=16 asked-body=16"),
    "a body that is larger": (rule("good", filters=[authorized(body=16)]), "/ body=17", "413 seen=0"),
    "no body": (rule("good", filters=[authorized(body=16)]), "/", "200 asked:Content-Length=0"),
    "all of them": (rule("good", filters=[authorized()]), "/", "200 X-User=ann X-Group=staff Host=HOST"),
    # 5.5: timeouts
    "request": (timed(request="200ms"), "/slow", "504 within=0.9"),
    "backendRequest": (timed(backendRequest="200ms"), "/slow", "504 within=0.9"),
    "0s is none": (timed(request="0s"), "/slow", "200 after=0.9"),
    "0s of each attempt is none": (timed(backendRequest="0s"), "/slow", "200 after=0.9"),
    "backendRequest where request is none": (timed(request="0s", backendRequest="200ms"), "/slow", "504 within=0.9"),
    "nothing said": (rule("shaky"), "/slow", "504"),
    "longer than the answer takes": (timed(request="1m30s500ms"), "/slow", "200 after=0.9"),
    "backendRequest of each attempt": (retried(504, timeouts={"request": "5s", "backendRequest": "200ms"}), "/slow-1", "200 seen=2"),
    "request of them all": (retried(504, attempts=9, timeouts={"request": "500ms", "backendRequest": "200ms"}), "/slow",
                            "504 seen=3 after=0.4 within=0.9"),
    "backendRequest is not longer": (timed(request="1s", backendRequest="2s"), "/", "404"),
    "no duration": (timed(request="1.5s"), "/", "404"),
    # 5.5: retry
    "not without a stanza": (rule("shaky"), "/503", "503 seen=1"),
    **{f"code {code}": (retried(code), f"/{code}-1", "200 seen=2") for code in (500, 502, 503, 504)},
    "attempts come after the first try": (retried(503, attempts=2), "/503", "503 seen=3"),
    "the last of them counts": (retried(503, attempts=2), "/503-2", "200 seen=3"),
    "attempts: 0 is none": (retried(503, attempts=0), "/503-1", "503 seen=1"),
    "nor where a connection ends": (retried(503, attempts=0), "/cut-1", "502 seen=1"),
    "one that nobody says": (retried(503, attempts=None), "/503", "503 seen=2"),
    "a code that is not listed": (retried(500, 502, 504), "/503", "503 seen=1"),
    "a connection that ends": (retried(503), "/cut-1", "200 seen=2"),
    "nobody listens": (retried(503, backend="refusing"), "/", "503 seen=0"),
    "backoff is the least": (retried(503, attempts=2, backoff="150ms"), "/503", "503 seen=3 after=0.3"),
    "no backoff that is longer than what is left": (
        retried(503, attempts=9, backoff="100ms", timeouts={"request": "350ms"}), "/503", "503 after=0.1 within=0.4"),
    # 5.5: ReferenceGrant
    "granted to all Services": (rule(ref(namespace="open")), "/", "200"),
    "granted to this one": (rule(ref(namespace="named")), "/", "200"),
    "granted to another one": (rule(ref("shaky", namespace="named")), "/", "500"),
    "granted to another kind": (rule(ref(namespace="kind")), "/", "500"),
    "granted to another namespace": (rule(ref(namespace="source")), "/", "500"),
    "not granted": (rule(ELSEWHERE), "/", "500"),
}
# The budget of a Service is not what these cases are about.
BUDGET = resource("XBackendTrafficPolicy", "shaky", {
    "targetRefs": [{"group": "", "kind": "Service", "name": "shaky"}],
    "retryConstraint": {"budget": {"percent": 100}, "minRetryRate": {"count": 1000, "interval": "1s"}}}, api=f"{EXPERIMENTAL_GROUP}/v1alpha1")
GRANTED = [grant("open"), grant("named", to="good"), grant("kind", "GRPCRoute"), grant("source", source="other")]
HOSTS = {case: f"case-{n}.example" for n, case in enumerate(CASES)}


class Scripted(Backend):
    """Does what the path says: /503 answers that status, /slow takes a second, /cut ends the connection; each with -N
    the first N times for its host."""

    def one(self, stream) -> bool:
        request = stream.request()
        self.requests.append(request)
        what, _, times = request.target.lstrip("/").partition("?")[0].partition("-")
        if what.isdigit() or what in ("slow", "cut"):
            if not times or len(self.of(request.fields.get("Host"))) <= int(times):
                if what == "cut":
                    return False
                if what == "slow":
                    elapse(1)
                else:
                    stream.send(b"HTTP/1.1 %s X\r\n%s\r\n" % (what.encode(), b"" if what == "204" else b"Content-Length: 0\r\n"))
                    return True
        stream.send(self.echo(request))
        return True

    def of(self, host: str | None) -> list[Message]:
        return [request for request in self.requests if request.fields.get("Host") == host]


class Authorizer(Scripted):
    """Says who it was, and a Host that is nobody's."""

    def echo(self, request: Message) -> bytes:
        return b"HTTP/1.1 200 OK\r\nX-User: ann\r\nX-Group: staff\r\nHost: auth.example\r\nContent-Length: 0\r\n\r\n"


class Refusing:
    """An endpoint where nobody listens."""

    address = "127.0.0.1"

    def __init__(self) -> None:
        self.port = free_port()


class World:
    """Every case behind one gateway, a route for each."""

    def __init__(self, folder) -> None:
        self.backends = {"good": Backend("good"), "shaky": Scripted("shaky"), "auth": Authorizer("auth"),
                         "mirror": Scripted("mirror"), "mirror-2": Scripted("mirror-2")}
        good, mirrors = self.backends["good"], [self.backends["mirror"], self.backends["mirror-2"]]
        unready, odd = service("unready", good), service("odd", good)
        unready[1]["endpoints"][0]["conditions"] = {"ready": False}
        odd[0]["spec"]["ports"][0]["appProtocol"] = "example.net/odd"
        empty = service("empty", good)
        empty[1]["endpoints"] = []
        write(folder, "all.yaml", gateway(free_port()), *(service(name, one) for name, one in self.backends.items()),
              service("mirrors", *mirrors), unready, odd, empty, service("refusing", Refusing()),
              *self.elsewhere(), *GRANTED, BUDGET, *(route(f"case-{n}", each, hostnames=[HOSTS[case]])
                                             for n, (case, (each, _, _)) in enumerate(CASES.items())))
        self.gateway = Gateway(folder, "--access-log", "off", "--response-timeout", "600ms", "--dns-template", "{name}.invalid")

    def elsewhere(self) -> list[list[dict]]:
        """The same Services in other namespaces."""
        return [service(name, one, namespace=namespace) for namespace in ("open", "named", "kind", "source", "elsewhere")
                for name, one in self.backends.items()]

    def count(self, host: str, *names: str) -> int:
        return sum(request.fields.get("Host") == host for name in names for request in self.backends[name].requests)

    def close(self) -> None:
        self.gateway.stop()
        for one in self.backends.values():
            one.close()
            assert not one.dirty


@pytest.fixture(scope="module")
def world(tmp_path_factory) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("backends") / "conf"
    folder.mkdir()
    made = World(folder)
    yield made
    made.close()


@pytest.mark.parametrize("case", CASES)
def test_case(world: World, case: str) -> None:
    _, requests, outcome = CASES[case]
    host, (request, *words) = HOSTS[case], requests.split()
    times, _, target = request.rpartition("*")
    fields = dict(word.split(":", 1) for word in words if ":" in word)
    body = b"".join(b"x" * int(word.removeprefix("body=")) for word in words if ":" not in word)
    began = time.monotonic()
    answers = [world.gateway.get(target, host, "POST" if body else "GET", body=body, **fields) for _ in range(int(times or 1))]
    took = time.monotonic() - began
    statuses, *checks = outcome.replace("HOST", host).split()
    expected = {int(status): int(n or 1) for n, _, status in (each.rpartition("x") for each in statuses.split(","))}
    assert Counter(answer.status for answer in answers) == expected, answers[-1].raw
    got = json.loads(answers[-1].body) if answers[-1].fields.get("X-Backend") else {}
    for check in checks:
        name, _, value = check.partition("=")
        match name:
            case "seen":
                assert world.count(host, "good", "shaky") == int(value)
            case "copies":
                until(lambda n=int(value): world.count(host, "mirror", "mirror-2") >= n)
                elapse(0.2)    # one too many may be on its way
                assert world.count(host, "mirror", "mirror-2") == int(value)
            case "after":
                assert took >= float(value)
            case "within":
                assert took <= float(value)
            case "asked-body":
                assert world.backends["auth"].of(host)[-1].body == b"x" * int(value)
            case _ if name.startswith("asked:"):
                asked = world.backends["auth"].of(host)[-1]
                assert holds(check[6:], {"target": asked.target, "fields": asked.fields}, answers[-1]), asked.raw
            case _:
                assert holds(check, got, answers[-1]), (check, got, answers[-1].raw)


GRANTED_TO = {"a backend": (rule(ELSEWHERE), 500), "an authorizer": (rule("good", filters=[authorized(namespace="elsewhere")]), 500),
              "a mirror": (rule("good", filters=[mirror("good", namespace="elsewhere")]), 200)}


@pytest.mark.parametrize("what", GRANTED_TO)
def test_a_grant_that_is_taken_away(run, backend, what: str) -> None:
    """referencegrant_types.go: removing one revokes, also for connections that are open."""
    each, without = GRANTED_TO[what]
    good, far = backend("good"), backend("far")
    gw = run(gateway(free_port()), service("good", good), service("good", far, namespace="elsewhere"),
             service("auth", far, namespace="elsewhere"), route("r", each))
    numbers = count()

    def reaches(target: str = "") -> bool:
        target = target or f"/{next(numbers)}"
        status = gw.get(target).status
        elapse(0.05)               # a copy may be on its way
        reached = any(one.target == target for one in far.requests)
        assert status == (200 if reached else without)
        return reached

    assert not reaches()
    gw.write("grant.yaml", grant("elsewhere"))
    until(reaches)
    stream = gw.connect()
    stream.send(b"GET /open HTTP/1.1\r\nHost: a\r\n\r\n")
    assert stream.response().status == 200
    (gw.folder / "grant.yaml").unlink()
    until(lambda: not reaches())
    for _ in range(5):
        stream.send(b"GET /new HTTP/1.1\r\nHost: a\r\n\r\n")
        assert stream.response().status == without
    stream.close()
    assert not reaches("/new")
