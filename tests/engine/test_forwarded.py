"""Who says who the client is: what an untrusted peer says of it is the gateway's or gone, and rules, redirects, logs, authorizers and
filters see what backends see."""
import json
import os

import pytest
from support.scripted import head, readable

from gwfast import limits
from gwfast.plan import ir
from support.exchanges import ask

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
TRUSTED = {"trusted_proxies": ("127.0.0.0/8", "10.0.0.0/8", "2001:db8::/32")}
NAMES = ["-User", "-Email", "-Groups", "-Preferred-Username", "-Ssl", "-Scheme", "-Uri", "-Method", "-Access-Token", "-Prefix", "-Port",
         "-Client-Cert", "-By", "-Server", "-Path", "-Protocol", "-Tls-Client-Cert-Info", "-A", "-"]
CLIENTS = ["http1", "http2"]


def seen(upstream) -> list[tuple[str, str]]:
    """The fields that a backend got, names in lower case."""
    lines = head(upstream).decode().split("\r\n")[1:-2]
    return [(name.lower(), value) for name, _, value in (line.partition(": ") for line in lines)]


def told(fields) -> dict[str, list[str]]:
    """Of these what is said of the client."""
    found: dict[str, list[str]] = {}
    for name, value in fields:
        if name.startswith("x-forwarded") or name in ("forwarded", "x-real-ip"):
            found.setdefault(name, []).append(value)
    return found


# ---- what goes on

@pytest.mark.parametrize("version", CLIENTS)
@pytest.mark.parametrize("spelled", [str, str.upper, str.lower], ids=["as usual", "upper case", "lower case"])
def test_no_stranger_says_who_the_client_is(start, backend, version, spelled):
    engine = start([("127.0.0.1", backend.port)])
    ask(engine, version, *((spelled(f"X-Forwarded{name}"), "evil") for name in NAMES), ("X-Forwarded", "mine"), ("X-Forward", "mine"))
    fields = seen(backend.accept())
    assert told(fields) == {"x-forwarded-for": ["127.0.0.1"], "x-forwarded-proto": ["http"], "x-forwarded-host": ["a"],
                            "x-forwarded": ["mine"]}
    assert ("x-forward", "mine") in fields


@pytest.mark.parametrize("version", CLIENTS)
def test_a_trusted_peer_says_it(start, backend, version):
    engine = start([("127.0.0.1", backend.port)], **TRUSTED)
    ask(engine, version, *((f"X-Forwarded{name}", "mine") for name in NAMES if name != "-Client-Cert"))
    assert told(seen(backend.accept())) == {f"x-forwarded{name.lower()}": ["mine"] for name in NAMES if name != "-Client-Cert"} | {
        "x-forwarded-for": ["127.0.0.1"], "x-forwarded-proto": ["http"], "x-forwarded-host": ["a"]}


@pytest.mark.parametrize("matches", [False, True], ids=["plain", "with a rule on such a field"])
def test_a_header_modifier_may_say_it(start, backend, matches):
    modifier = ir.HeaderFilter(on="request", set=(("x-forwarded-user", "ada"),), add=(("x-forwarded-prefix", "/shop"),),
                               remove=("x-forwarded-proto",))
    more = [rule("x-forwarded-user", "nobody")] if matches else []
    engine = start([("127.0.0.1", backend.port)], several(*more, ((), (modifier,))))
    ask(engine, "http1", ("X-Forwarded-User", "evil"), ("X-Forwarded-Prefix", "/evil"))
    assert told(seen(backend.accept())) == {"x-forwarded-for": ["127.0.0.1"], "x-forwarded-host": ["a"], "x-forwarded-user": ["ada"],
                                            "x-forwarded-prefix": ["/shop"]}


# ---- what rules see

def rule(name: str, value: str, regex: bool = False):
    """A rule that matches this field; backends are told so."""
    return ((ir.ValueMatch(name=name, value=value, regex=regex),), (ir.HeaderFilter(on="request", set=(("x-rule", name),)),))


def several(*rules):
    """A plan of (headers, filters) in order."""
    def plan(addresses) -> ir.Plan:
        backend = ir.Backend(namespace="default", name="echo", port=80)
        entries = tuple(ir.Entry(match=ir.Match(headers=headers), rule=ir.Rule(
            kind="HTTPRoute", namespace="default", route="all", index=i, filters=filters,
            backends=(ir.WeightedBackend(backend=backend),))) for i, (headers, filters) in enumerate(rules))
        listener = ir.Listener(id="default/gateway/web", hosts=(ir.Host(hostname="", entries=entries),))
        return ir.Plan(binds=(ir.Bind(address="", port=80, listeners=(listener,)),), backends=(backend,),
                       endpoints=(ir.Endpoints(key=backend.key, addresses=tuple(addresses)),))
    return plan


DEFAULT = ((), ())
FORGED = [("X-Forwarded-For", "10.1.1.1"), ("X-Forwarded-Proto", "https"), ("X-Forwarded-Host", "inner"), ("X-Forwarded-User", "root"),
          ("Forwarded", "for=10.1.1.1"), ("X-Real-IP", "10.1.1.1"), ("X_Forwarded_User", "root")]
MATCHES = {  # a rule, the fields of a request, whether a stranger's matches, whether a trusted peer's does
    "proto": (rule("x-forwarded-proto", "http"), [], True, True),
    "another proto": (rule("x-forwarded-proto", "https"), FORGED, False, True),
    "the proto of a stranger": (rule("x-forwarded-proto", "http"), FORGED, True, False),
    "address": (rule("x-forwarded-for", "127.0.0.1"), [], True, True),
    "a forged address": (rule("x-forwarded-for", "10[.].*", True), FORGED, False, True),
    "the whole way": (rule("x-forwarded-for", "10.1.1.1, 127.0.0.1"), FORGED, False, True),
    "several lines": (rule("x-forwarded-for", "1.1.1.1, 2.2.2.2, 127.0.0.1"),
                      [("X-Forwarded-For", "1.1.1.1"), ("X-Forwarded-For", "2.2.2.2")], False, True),
    "host": (rule("x-forwarded-host", "a"), FORGED, True, False),
    "a forged host": (rule("x-forwarded-host", "inner"), FORGED, False, True),
    "user": (rule("x-forwarded-user", "root"), FORGED, False, True),
    "any user": (rule("x-forwarded-user", ".*", True), FORGED, False, True),
    "forwarded": (rule("forwarded", ".+", True), FORGED, False, True),
    "x-real-ip": (rule("x-real-ip", "10.1.1.1"), FORGED, False, True),
    "the gateway's id": (rule("x-request-id", "[0-9a-f-]{36}", True), [], True, True),
    "a client's id": (rule("x-request-id", "mine"), [("X-Request-Id", "mine")], False, True),
    "a certificate that nobody showed": (rule("x-forwarded-client-cert", ".*", True), [("X-Forwarded-Client-Cert", "x")], False, False),
    "no such field": (rule("x-other", "1"), [*FORGED, ("X-Other", "1")], True, True),
}


@pytest.mark.parametrize("version", CLIENTS)
@pytest.mark.parametrize("trusted", [False, True], ids=["stranger", "trusted"])
@pytest.mark.parametrize("case", MATCHES.values(), ids=MATCHES)
def test_rules_match_what_backends_see(start, backend, case, trusted, version):
    matching, fields, *expected = case
    engine = start([("127.0.0.1", backend.port)], several(matching, DEFAULT), **(TRUSTED if trusted else {}))
    ask(engine, version, *fields)
    got = seen(backend.accept())
    assert dict(got).get("x-rule") == (matching[0][0].name if expected[trusted] else None)
    values: dict[str, list[str]] = {}
    for name, value in got:
        values.setdefault(name, []).append(value)
    if not matching[0][0].regex:
        assert (", ".join(values.get(matching[0][0].name, [])) == matching[0][0].value) is expected[trusted]
    assert "x_forwarded_user" not in values and all(len(values.get(name, [""])) == 1 for name in ("x-forwarded-for", "x-request-id"))


def test_a_rule_that_asks_comes_and_goes(start, backend):
    """A change of the table changes what is looked at, on connections that are open too."""
    addresses = [("127.0.0.1", backend.port)]
    engine = start(addresses, several(DEFAULT))
    client = engine.connect()
    for plan, expected in ((several(DEFAULT), None), (several(rule("x-forwarded-proto", "http"), DEFAULT), "x-forwarded-proto"),
                           (several(DEFAULT), None), (several(rule("x-other", "1"), DEFAULT), None)):
        engine.apply(plan(addresses))
        client.sendall(b"GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-Proto: https\r\n\r\n")
        upstream = backend.accepted[0] if backend.accepted else backend.accept()
        assert dict(seen(upstream)).get("x-rule") == expected
        upstream.sendall(OK)
        assert head(client).startswith(b"HTTP/1.1 200 ") and client.recv(2) == b"ok"


def test_a_head_with_as_many_fields_as_may_be(start, backend):
    """Where the gateway's own have no room beside them it is refused, never matched without them."""
    engine = start([("127.0.0.1", backend.port)], several(rule("x-forwarded-proto", "http"), DEFAULT))
    client = engine.connect()
    client.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n" + b"X-A: 1\r\n" * (limits.FIELD_COUNT - 1) + b"\r\n")
    if client in readable(client, backend.socket, seconds=5):
        assert head(client).startswith(b"HTTP/1.1 431 ")
    else:
        assert ("x-rule", "x-forwarded-proto") in seen(backend.accept())


# ---- redirects

def to(**given):
    return ir.RedirectFilter(**given)


PROXIED = [("X-Forwarded-Proto", "https")]
REDIRECTS = {  # the filter, the fields, Location for a stranger, and for a trusted peer
    "https": (to(status=301, hostname="b"), PROXIED, "http://b/x?q", "https://b/x?q"),
    "the host": (to(), [*PROXIED, ("X-Forwarded-Host", "shop.example")], "http://a/x?q", "https://shop.example/x?q"),
    "a host with a port": (to(), [*PROXIED, ("X-Forwarded-Host", "shop.example:8443")], "http://a/x?q", "https://shop.example:8443/x?q"),
    "a port": (to(), [*PROXIED, ("X-Forwarded-Port", "8443")], "http://a/x?q", "https://a:8443/x?q"),
    "the port of the scheme": (to(), [*PROXIED, ("X-Forwarded-Port", "443")], "http://a/x?q", "https://a/x?q"),
    "a port is more than the host's": (to(), [*PROXIED, ("X-Forwarded-Host", "b:1"), ("X-Forwarded-Port", "2")], "http://a/x?q", "https://b:2/x?q"),
    "http": (to(), [("X-Forwarded-Proto", "http"), ("X-Forwarded-Port", "8080")], "http://a/x?q", "http://a:8080/x?q"),
    "the filter's own": (to(scheme="http", hostname="b", port=81), [*PROXIED, ("X-Forwarded-Port", "8443")], "http://b:81/x?q", "http://b:81/x?q"),
    "the filter's scheme": (to(scheme="https"), [("X-Forwarded-Port", "8443")], "https://a/x?q", "https://a/x?q"),
    "several": (to(), [("X-Forwarded-Proto", "https, http"), ("X-Forwarded-Host", "b, c")], "http://a/x?q", "https://b/x?q"),
    "of an address": (to(), [*PROXIED, ("X-Forwarded-Host", "[2001:db8::1]:8443")], "http://a/x?q", "https://[2001:db8::1]:8443/x?q"),
    "nonsense": (to(), [("X-Forwarded-Proto", "gopher"), ("X-Forwarded-Host", "b/c@d"), ("X-Forwarded-Port", "99999")], "http://a/x?q", "http://a/x?q"),
    "upper case": (to(), [("X-Forwarded-Proto", "HTTPS")], "http://a/x?q", "https://a/x?q"),
}


@pytest.mark.parametrize("version", CLIENTS)
@pytest.mark.parametrize("trusted", [False, True], ids=["stranger", "trusted"])
@pytest.mark.parametrize("asks", [False, True], ids=["plain", "with a rule on such a field"])
@pytest.mark.parametrize("case", REDIRECTS.values(), ids=REDIRECTS)
def test_a_redirect_leads_where_the_client_is(start, case, asks, trusted, version):
    redirect, fields, *expected = case
    more = [rule("x-forwarded-user", "nobody")] if asks else []
    engine = start([], several(*more, ((), (redirect,))), **(TRUSTED if trusted else {}))
    assert ask(engine, version, *fields, path="/x?q")() == (redirect.status, expected[trusted])


# ---- the client's address

WALKS = {  # lines of X-Forwarded-For -> whom the request is from, where the peer (127.0.0.1) is trusted
    "none": ([], "127.0.0.1"),
    "one": (["192.0.2.1"], "192.0.2.1"),
    "of its own making": (["6.6.6.6, 192.0.2.1"], "192.0.2.1"),
    "behind two proxies": (["6.6.6.6, 192.0.2.1, 10.0.0.7"], "192.0.2.1"),
    "lines are one list": (["6.6.6.6", "192.0.2.1, 10.0.0.7", "10.0.0.8"], "192.0.2.1"),
    "all of them trusted": (["10.0.0.1, 10.0.0.2"], "10.0.0.1"),
    "a port": (["192.0.2.1:4711"], "192.0.2.1"),
    "IPv6": (["2001:4860::1"], "2001:4860::1"),
    "IPv6 in brackets": (["[2001:4860::1]"], "2001:4860::1"),
    "IPv6 with a port": (["[2001:4860::1]:4711, [2001:db8::7]:1"], "2001:4860::1"),
    "IPv4 as IPv6": (["::ffff:192.0.2.1, ::ffff:10.0.0.1"], "192.0.2.1"),
    "white space and empty members": (["192.0.2.1 ,, \t10.0.0.7 ,"], "192.0.2.1"),
    "unknown": (["192.0.2.1, unknown, 10.0.0.7"], "10.0.0.7"),
    "unknown alone": (["unknown"], "127.0.0.1"),
    "an obfuscated one": (["192.0.2.1, _hidden, 10.0.0.7"], "10.0.0.7"),
    "malformed ends the walk": (["192.0.2.1, 10.0.0.256, 10.0.0.7"], "10.0.0.7"),
    "of another line too": (["192.0.2.1", "nonsense"], "127.0.0.1"),
    "a bad port": (["192.0.2.1:x"], "127.0.0.1"), "a great port": (["192.0.2.1:65536"], "127.0.0.1"),
    "half a bracket": (["[2001:4860::1"], "127.0.0.1"), "a name": (["example.org"], "127.0.0.1"),
    "a zone": (["fe80::1%eth0"], "127.0.0.1"), "brackets around IPv4": (["[192.0.2.1]"], "127.0.0.1"),
    "behind the bracket": (["[2001:4860::1]x"], "127.0.0.1"), "long": (["1" * 100], "127.0.0.1"), "short IPv4": (["10.1"], "127.0.0.1"),
}


@pytest.fixture
def log(tmp_path):
    fd = os.open(tmp_path / "log", os.O_CREAT | os.O_RDWR | os.O_APPEND)
    yield fd
    os.close(fd)


@pytest.mark.parametrize("trusted", [False, True], ids=["stranger", "trusted"])
def test_the_log_names_the_client(start, log, trusted):
    engine = start([], several(((), (to(hostname="b"),))), log=log, **(TRUSTED if trusted else {}))
    for version in CLIENTS:
        for lines, _ in WALKS.values():
            ask(engine, version, *(("X-Forwarded-For", line) for line in lines))()
    with engine.lock:
        engine.engine.tick()
    logged = [json.loads(line)["client"] for line in os.pread(log, 1 << 20, 0).splitlines()]
    expected = [client if trusted else "127.0.0.1" for _, client in WALKS.values()]
    assert dict(zip(WALKS, logged, strict=False)) == dict(zip(WALKS, expected, strict=True)) and logged == expected * 2


@pytest.mark.parametrize("case", WALKS.values(), ids=WALKS)
def test_backends_are_told_the_whole_way(start, backend, case):
    engine = start([("127.0.0.1", backend.port)], **TRUSTED)
    ask(engine, "http1", *(("X-Forwarded-For", line) for line in case[0]))
    (way,) = told(seen(backend.accept()))["x-forwarded-for"]
    assert way == ", ".join([*(line.strip() for line in case[0]), "127.0.0.1"])
