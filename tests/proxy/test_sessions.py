"""Sessions (spec 5.5, GEP-1619): clients come to the endpoint that they came to before, whoever serves them, and only there."""
import os
import re
import signal

import pytest
from support.gateway import free_port, gateway, resource, route, rule, service, until
from support.tls import HOST, authority, https, needs, secret, shell

API = "gateway.networking.x-k8s.io/v1alpha1"
TOKEN = re.compile(r"[A-Za-z0-9_-]{64}(\.[A-Za-z0-9_-]{64}){0,7}")
WORKERS = ("--workers", "2")


def sticky(*backends, said: dict | None = None, **more) -> dict:
    return rule(*backends, **more) | {"sessionPersistence": {"sessionName": "sid"} | (said or {})}


def policy(target: str, **session) -> dict:
    return resource("XBackendTrafficPolicy", f"of-{target}", {"targetRefs": [{"group": "", "kind": "Service", "name": target}],
                                                              "sessionPersistence": session}, API)


def weighted(name: str, weight: int) -> dict:
    return {"name": name, "port": 80, "weight": weight}


def named(*backends) -> None:
    """Let backends answer with their name."""
    for each in backends:
        text = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\nSet-Cookie: own=1\r\n\r\n%s" % (len(each.name), each.name.encode())
        for path in ("/", "/a", "/b"):
            each.handlers[path] = lambda stream, request, text=text: stream.send(text) or True


def three(backend) -> list:
    made = [backend(name) for name in ("one", "two", "three")]
    named(*made)
    return made


def token(answer, name: str = "sid") -> str | None:
    """What a response says of the session; None where it says nothing."""
    said = [value for value in answer.fields.all("set-cookie") if value.startswith(f"{name}=")]
    assert len(said) < 2
    return said[0].partition("=")[2].partition(";")[0] if said else None


def begin(gw, target: str = "/", name: str = "sid", **fields) -> tuple[str, str]:
    """(token, endpoint) of a new session."""
    answer = gw.get(target, **fields)
    given = token(answer, name)
    assert answer.status == 200 and given and TOKEN.fullmatch(given)
    return given, answer.body.decode()


def follow(gw, given: str, times: int = 30, target: str = "/", name: str = "sid") -> set[str]:
    """Where a session leads, each time on another connection; nothing new may be said of it."""
    answers = [gw.get(target, cookie=f"a=1; {name}={given}; b=2") for _ in range(times)]
    assert {answer.status for answer in answers} == {200} and {token(answer, name) for answer in answers} == {None}
    return {answer.body.decode() for answer in answers}


def test_every_worker_knows_them(run, backend) -> None:
    gw = run(gateway(free_port()), service("svc", *three(backend)), route("r", sticky("svc")), options=WORKERS)
    seen = set()
    for _ in range(12):
        given, endpoint = begin(gw)
        assert follow(gw, given, 10) == {endpoint}
        seen.add(endpoint)
    assert len(seen) > 1       # sessions are spread


def test_a_cookie_is_the_gateways_and_says_what_it_has_to(run, backend) -> None:
    gw = run(gateway(free_port()), service("svc", *three(backend)), route(
        "r", sticky("svc"), sticky("svc", path="/a", said={"absoluteTimeout": "90s", "cookieConfig": {"lifetimeType": "Permanent"}}),
        rule("svc", path="/b") | {"sessionPersistence": {"cookie": {}}},
        rule("svc", path="/c") | {"sessionPersistence": {"cookie": {"name": "new", "path": "/c"}}}))
    plain, permanent, unnamed = (gw.get(target).fields.all("set-cookie") for target in ("/", "/a", "/b"))
    named_anew, = gw.get("/c").fields.all("set-cookie")
    assert re.fullmatch(r"new=[\w-]{64}; Path=/c; HttpOnly; SameSite=Lax", named_anew)
    assert "own=1" in plain and len(plain) == 2        # the backend's stays
    assert re.fullmatch(r"sid=[\w-]{64}; Path=/; HttpOnly; SameSite=Lax", plain[1])
    assert re.fullmatch(r"sid=[\w-]{64}; Path=/; Max-Age=90; HttpOnly; SameSite=Lax", permanent[1])
    assert re.fullmatch(r"gwfast-[0-9a-f]{16}=[\w-]{64}; Path=/; HttpOnly; SameSite=Lax", unnamed[1])


def test_they_outlive_reloads_and_workers(run, backend) -> None:
    gw = run(gateway(free_port()), service("svc", *three(backend)), route("r", sticky("svc")), options=WORKERS)
    given, endpoint = begin(gw)
    gw.write("more.yaml", service("more", backend("more")), route("more", rule("more", path="/more")))
    gw.serves("/more")
    assert follow(gw, given) == {endpoint}
    before = gw.workers()
    os.kill(before[0], signal.SIGKILL)
    until(lambda: len(gw.workers()) == 2 and before[0] not in gw.workers() and gw.ready())
    assert follow(gw, given) == {endpoint}


def test_a_key_makes_them_outlive_the_gateway(run, backend, tmp_path) -> None:
    key, other = tmp_path / "key", tmp_path / "other"
    key.write_bytes(b"k" * 32)
    other.write_bytes(b"o" * 32)
    documents = [service("svc", *three(backend)), route("r", sticky("svc"))]
    first, second, third = (run(gateway(free_port()), *documents, options=("--session-key-file", str(file)))
                            for file in (key, key, other))
    given, endpoint = begin(first)
    assert follow(second, given) == {endpoint}
    assert token(third.get(cookie=f"sid={given}"))     # another key: nobody's token


@pytest.mark.parametrize("forge", [
    lambda given: "", lambda given: given[:-1], lambda given: given + "A", lambda given: given[1:] + given[:1],
    lambda given: given[:-1] + ("A" if given[-1] != "A" else "B"), lambda given: "A" * 64, lambda given: f'"{given}"',
    lambda given: ".".join(["B" * 64] * 8 + [given]),
], ids=("empty", "short", "long", "turned", "changed", "made up", "quoted", "behind too many"))
def test_what_was_not_given_out_is_nobodys(run, backend, forge) -> None:
    gw = run(gateway(free_port()), service("svc", *three(backend)), route("r", sticky("svc")))
    given, _ = begin(gw)
    assert {answer.body for answer in (gw.get(cookie=f"sid={forge(given)}") for _ in range(40))} == {b"one", b"two", b"three"}
    fresh = token(gw.get(cookie=f"sid={forge(given)}"))
    assert fresh and TOKEN.fullmatch(fresh) and not fresh.startswith(given)


def test_weights_are_for_new_ones(run, backend) -> None:
    a, b = backend("a"), backend("b")
    named(a, b)
    port = free_port()
    split = sticky(weighted("a", 9), weighted("b", 1))
    gw = run(gateway(port), service("a", a), service("b", b), route("r", split))
    new = [begin(gw) for _ in range(100)]
    assert 85 <= [endpoint for _, endpoint in new].count("a") <= 95
    given = {endpoint: token for token, endpoint in new}
    assert follow(gw, given["b"]) == {"b"}
    gw.write("all.yaml", gateway(port), service("a", a), service("b", b), route("r", sticky(weighted("a", 1), weighted("b", 0))))
    until(lambda: gw.metrics()["gwfast_generation"] > 1)
    assert {endpoint for _, endpoint in (begin(gw) for _ in range(20))} == {"a"}
    assert follow(gw, given["b"]) == {"b"} and follow(gw, given["a"]) == {"a"}
    gw.write("all.yaml", gateway(port), service("a", a), service("b", b), route("r", sticky(weighted("a", 0), weighted("b", 0))))
    until(lambda: gw.metrics()["gwfast_generation"] > 2)
    assert follow(gw, given["b"]) == {"b"} and gw.get().status == 500


def test_rules_have_none_in_common(run, backend) -> None:
    gw = run(gateway(free_port()), service("svc", *three(backend)), route("r", sticky("svc", path="/a"), sticky("svc", path="/b")))
    a, at_a = begin(gw, "/a")
    fresh = [token(gw.get("/b", cookie=f"sid={a}")) for _ in range(10)]
    assert all(fresh)                                  # of no use to the other rule
    both = fresh[0]
    assert both.endswith(f".{a}") and len(both) == 129  # but it stays beside its own: browsers have one cookie
    assert follow(gw, both, target="/a") == {at_a} and len(follow(gw, both, target="/b")) == 1
    assert gw.get("/a", cookie="sid=1; sid=x.y").status == 200


def test_two_cookies_of_a_name_are_both_looked_at(run, backend) -> None:
    gw = run(gateway(free_port()), service("svc", *three(backend)), route("r", sticky("svc")))
    given, endpoint = begin(gw)
    for cookie in (f"sid=stale; sid={given}", f"sid={given}; sid=stale", f"xsid={'C' * 64}; sid={given}", f"sid={given};", f";;sid={given}"):
        answers = [gw.get(cookie=cookie) for _ in range(10)]
        assert {answer.body.decode() for answer in answers} == {endpoint} and {token(answer) for answer in answers} == {None}


def test_where_the_endpoint_is_gone_another_takes_over(run, backend) -> None:
    made, port = three(backend), free_port()
    gw = run(gateway(port), service("svc", *made), route("r", sticky("svc")))
    given, endpoint = begin(gw)
    left = [one for one in made if one.name != endpoint]
    gw.write("all.yaml", gateway(port), service("svc", *left), route("r", sticky("svc")))
    until(lambda: gw.metrics()["gwfast_generation"] > 1)
    answer = gw.get(cookie=f"sid={given}")
    assert answer.body.decode() != endpoint and follow(gw, token(answer)) == {answer.body.decode()}


def test_where_the_endpoint_takes_no_connections_another_takes_over(run, backend) -> None:
    made = three(backend)
    gw = run(gateway(free_port()), service("svc", *made), route("r", sticky("svc")))
    given, endpoint = begin(gw)
    next(one for one in made if one.name == endpoint).close()
    answer = gw.get(cookie=f"sid={given}")
    assert answer.status == 200 and answer.body.decode() != endpoint and follow(gw, token(answer)) == {answer.body.decode()}


def test_an_endpoint_that_is_out_is_not_used(run, backend) -> None:
    made = three(backend)
    gw = run(gateway(free_port()), service("svc", *made), route("r", sticky("svc")), resource(
        "BackendPolicy", "health", {"targetRefs": [{"group": "", "kind": "Service", "name": "svc"}], "healthCheck": {"passive": {
            "consecutiveFailures": 1, "baseEjectionTime": "60s", "maxEjectionPercent": 50}}}, "gwfast.dev/v1alpha1"))
    given, endpoint = begin(gw)
    next(one for one in made if one.name == endpoint).on("/", b"HTTP/1.1 503 No\r\nContent-Length: 0\r\n\r\n", close=False)
    assert gw.get(cookie=f"sid={given}").status == 503
    answer = gw.get(cookie=f"sid={given}")
    assert answer.status == 200 and follow(gw, token(answer)) == {answer.body.decode()}


def test_they_end_with_their_time(run, backend) -> None:
    gw = run(gateway(free_port()), service("svc", *three(backend)), route("r", sticky("svc", said={"absoluteTimeout": "1s"})))
    given, endpoint = begin(gw)
    assert gw.get(cookie=f"sid={given}").body.decode() == endpoint
    until(lambda: token(gw.get(cookie=f"sid={given}")), every=0.1)


def test_by_a_header(run, backend) -> None:
    made = three(backend)
    for one in made:           # what the backend says under that name is replaced, not doubled
        one.on("/a", b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\nX-Session: theirs\r\n\r\n%s" % (len(one.name), one.name.encode()), close=False)
    gw = run(gateway(free_port()), service("svc", *made), route("r", sticky("svc", said={"type": "Header", "sessionName": "X-Session"})))
    first = gw.get("/a")
    given = first.fields.all("x-session")
    assert len(given) == 1 and TOKEN.fullmatch(given[0]) and not first.fields.all("set-cookie")
    again = [gw.get("/a", x_session=given[0]) for _ in range(20)]
    assert {answer.body for answer in again} == {first.body} and {answer.fields.get("x-session") for answer in again} == {"theirs"}


def test_of_a_service(run, backend) -> None:
    """What XBackendTrafficPolicies say: sessions with the Service that has one, another name for each rule, the rule's first."""
    a, b = [backend("a1"), backend("a2")], backend("b")
    named(*a, b)
    gw = run(gateway(free_port()), service("a", *a), service("b", b), policy("a", sessionName="of-a"),
             route("r", rule(weighted("a", 1), weighted("b", 1)), rule("a", path="/a"), sticky("a", path="/b")))
    answers = [gw.get() for _ in range(20)]
    assert {(answer.body == b"b", token(answer, "of-a") is None) for answer in answers} == {(True, True), (False, False)}
    given = next(token(answer, "of-a") for answer in answers if answer.body != b"b")
    endpoint = next(answer.body.decode() for answer in answers if answer.body != b"b")
    assert follow(gw, given, name="of-a") == {endpoint}                # whatever the weights are
    assert token(gw.get("/a", cookie=f"of-a={given}"), "of-a").endswith(given)
    assert token(gw.get("/b")) and token(gw.get("/b"), "of-a") is None


def test_a_filter_that_removes_cookies_does_not_end_them(run, backend) -> None:
    filters = [{"type": "RequestHeaderModifier", "requestHeaderModifier": {"remove": ["Cookie"]}},
               {"type": "ResponseHeaderModifier", "responseHeaderModifier": {"remove": ["Set-Cookie"]}},
               {"type": "CORS", "cors": {"allowOrigins": ["https://site.example"]}}]
    gw = run(gateway(free_port()), service("svc", *three(backend)), route("r", sticky("svc", filters=filters)))
    answer = gw.get(origin="https://site.example")
    assert answer.fields.all("set-cookie")[0].startswith("sid=") and len(answer.fields.all("set-cookie")) == 1
    assert answer.fields.get("access-control-allow-origin") == "https://site.example"
    assert follow(gw, token(answer)) == {answer.body.decode()}


def test_retries_leave_them(run, backend) -> None:
    made = three(backend)
    gw = run(gateway(free_port()), service("svc", *made),
             route("r", sticky("svc") | {"retry": {"codes": [503], "attempts": 3, "backoff": "1ms"}}))
    given, endpoint = begin(gw)
    next(one for one in made if one.name == endpoint).on("/", b"HTTP/1.1 503 No\r\nContent-Length: 0\r\n\r\n", close=False)
    answer = gw.get(cookie=f"sid={given}")
    assert answer.status == 200 and token(answer) and answer.body.decode() != endpoint


def test_a_connection_that_ended_meanwhile_is_made_again_to_the_same(run, backend) -> None:
    made = three(backend)
    for one in made:
        one.on("/", b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(one.name), one.name.encode()))      # and closes
    gw = run(gateway(free_port()), service("svc", *made), route("r", sticky("svc")))
    given, endpoint = begin(gw)
    assert follow(gw, given, 60) == {endpoint}


@needs("curl")
@pytest.mark.parametrize("version", ["--http1.1", "--http2"])
def test_over_tls_with_a_client_that_keeps_cookies(run, backend, tmp_path, version) -> None:
    port, ca, jar = free_port(), tmp_path / "ca.crt", tmp_path / "jar"
    ca.write_bytes(authority().pem)
    run(gateway(https(port)), secret(HOST, *authority().certificate(HOST)), service("svc", *three(backend)), route("r", sticky("svc")),
        options=WORKERS)
    ask = ["curl", "-si", version, "--cacert", str(ca), "--resolve", f"{HOST}:{port}:127.0.0.1", "-b", str(jar), "-c", str(jar),
           f"https://{HOST}:{port}/"]
    first = shell(*ask)
    assert re.search(r"(?i)^set-cookie: sid=[\w-]{64}; Path=/; HttpOnly; SameSite=Lax; Secure$", first, re.M)
    again = [shell(*ask) for _ in range(15)]
    assert {text.rpartition("\n")[2] for text in again} == {first.rpartition("\n")[2]} and "sid=" not in "".join(again)


def test_a_websocket_begins_one(run, backend) -> None:
    made = three(backend)
    for one in made:
        one.on("/", b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
               b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n" + one.name.encode())
    gw = run(gateway(free_port()), service("svc", *made), route("r", sticky("svc")))
    ask = (b"GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
           b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n%s\r\n")
    first = gw.send(ask % b"")
    given = re.search(rb"sid=([\w-]{64})", first)[1]
    again = [gw.send(ask % b"Cookie: sid=%s\r\n" % given) for _ in range(15)]
    assert {text.rpartition(b"\r\n\r\n")[2] for text in again} == {first.rpartition(b"\r\n\r\n")[2]}
