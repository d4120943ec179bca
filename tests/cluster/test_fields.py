"""What the fields of routes promise and the official suite does not ask: authorizers, sessions, mirrors of calls, regular expressions,
redirects and rewrites of a backendRef. Applied with `kubectl`, as the suite does it, and asked until what they say is so.
"""
import json
from collections.abc import Iterator
from typing import Any

import h2.config
import h2.connection
import h2.events
import pytest
import yaml
from support.traffic import ADMIN, GATEWAY, World, served

from cluster import Cluster, Response


@pytest.fixture
def world(cluster: Cluster, namespace: str) -> Iterator[World]:
    yield from served(cluster, namespace)


def rules(*written: str, kind: str = "HTTPRoute") -> str:
    """A route of these rules, YAML each."""
    return yaml.safe_dump({
        "apiVersion": "gateway.networking.k8s.io/v1", "kind": kind, "metadata": {"name": "r"},
        "spec": {"parentRefs": [{"name": "gw"}], "rules": [yaml.safe_load(each) for each in written]}})


def ask(world: World, path: str, **headers: str) -> tuple[Response, dict[str, Any]]:
    """Ask, and return the answer and what the backend told of the request."""
    answer = world.cluster.http("127.0.0.1", 8000, path, headers={"Host": "x.test", **{
        name.replace("_", "-"): value for name, value in headers.items()}})
    told = answer.body and answer.headers.get("content-type", "") == "application/json" and json.loads(answer.body)
    return answer, told or {}


def call(world: World, path: str) -> tuple[str, bytes]:
    """Make a gRPC call with one empty message; return grpc-status and the data of the answer."""
    sock = world.cluster.connect("127.0.0.1", 8000)
    http2 = h2.connection.H2Connection(h2.config.H2Configuration(header_encoding="utf-8"))
    http2.initiate_connection()
    http2.send_headers(1, [(":method", "POST"), (":scheme", "http"), (":authority", "x.test"), (":path", path),
                           ("content-type", "application/grpc"), ("te", "trailers")])
    http2.send_data(1, b"\0\0\0\0\0", end_stream=True)
    status, data, ended = "", b"", False
    with sock:
        while not ended:
            sock.sendall(http2.data_to_send())
            came = sock.recv(65536)
            assert came, "the gateway ended the connection"
            for event in http2.receive_data(came):
                if isinstance(event, h2.events.ResponseReceived | h2.events.TrailersReceived):
                    status = dict(event.headers).get("grpc-status", status)
                elif isinstance(event, h2.events.DataReceived):
                    data += event.data
                ended |= isinstance(event, h2.events.StreamEnded)
    return status, data


def copies(world: World) -> float:
    """How many copies of requests mirrors have answered."""
    text = world.cluster.http("127.0.0.1", ADMIN, "/metrics").body.decode()
    return sum(float(line.rsplit(" ", 1)[1]) for line in text.splitlines() if line.startswith("gwfast_mirror_requests_total{"))


def test_an_authorizer_is_asked_first(world: World) -> None:
    """spec 5.5: what it refuses is its answer; of what it lets pass the named fields go on."""
    world.apply(GATEWAY, rules("""
        filters:
        - type: ExternalAuth
          externalAuth:
            protocol: HTTP
            backendRef: {name: b, port: 80}
            http: {allowedHeaders: [x-echo-set-header], allowedResponseHeaders: [x-user]}
        backendRefs: [{name: a, port: 80}]"""))
    world.until("a", "/in")
    _, told = ask(world, "/in", X_Echo_Set_Header="x-user:ada, x-other:no", X_User="forged")
    assert told["service"] == "a" and told["headers"]["X-User"] == ["ada"] and "X-Other" not in told["headers"]
    answer, told = ask(world, "/status/403")
    assert answer.status == 403 and told["service"] == "b"  # the authorizer's own answer
    world.delete("service", "b")
    world.until("500", "/in")


def test_a_session_stays_where_it_began(world: World) -> None:
    world.apply(GATEWAY, rules("""
        sessionPersistence: {sessionName: place, type: Cookie}
        backendRefs: [{name: a, port: 80}, {name: b, port: 80}]"""))
    world.cluster.wait_for(lambda: world.get() in "ab", "the route to be served")
    found: set[str] = set()

    def began() -> set[str]:
        answer, told = ask(world, "/")
        cookie = answer.headers["set-cookie"].partition(";")[0]
        assert cookie.startswith("place=")
        assert {ask(world, "/", Cookie=cookie)[1]["service"] for _ in range(4)} == {told["service"]}
        found.add(told["service"])
        return found
    world.cluster.comes_to(began, {"a", "b"}, "sessions with both backends")


def test_calls_are_mirrored(world: World) -> None:
    world.apply(GATEWAY, rules("""
        filters: [{type: RequestMirror, requestMirror: {backendRef: {name: b, port: 80}}}]
        backendRefs: [{name: a, port: 80}]""", kind="GRPCRoute"))
    world.cluster.wait_for(lambda: call(world, "/shop.Cart/Add")[0] == "0", "the call to be answered")
    assert call(world, "/shop.Cart/Add") == ("0", b"\0\0\0\0\0")
    world.cluster.wait_for(lambda: copies(world) >= 2, "the copies of both to be answered")


def test_regular_expressions_match_whole_values(world: World) -> None:
    world.apply(GATEWAY, rules(
        "{matches: [{path: {type: RegularExpression, value: '/v[0-9]+/items(/.*)?'}}], backendRefs: [{name: a, port: 80}]}",
        "{matches: [{headers: [{type: RegularExpression, name: x-team, value: 'a|b+'}]}], backendRefs: [{name: b, port: 80}]}",
        "{matches: [{queryParams: [{type: RegularExpression, name: id, value: '[0-9]{3}'}]}], backendRefs: [{name: b, port: 80}]}"))
    world.until("a", "/v1/items")
    assert [world.get(path) for path in ("/v12/items/4", "/v1/itemsx", "/vx/items", "/x/v1/items", "/?id=123", "/?id=1234")] == [
        "a", "404", "404", "404", "b", "404"]
    assert [ask(world, "/", X_Team=team)[0].status for team in ("a", "bbb", "ab", "c")] == [200, 200, 404, 404]


def test_filters_of_a_backend(world: World) -> None:
    """Of the backendRef that is chosen, and of no other."""
    world.apply(GATEWAY, rules("""
        matches: [{path: {value: /old}}]
        backendRefs:
        - name: a
          port: 80
          filters:
          - type: URLRewrite
            urlRewrite: {hostname: inner.test, path: {type: ReplacePrefixMatch, replacePrefixMatch: /new}}
        - name: b
          port: 80
          filters: [{type: RequestHeaderModifier, requestHeaderModifier: {set: [{name: x-way, value: b}]}}]""", """
        matches: [{path: {value: /moved}}]
        backendRefs:
        - name: a
          port: 80
          filters: [{type: RequestRedirect, requestRedirect: {hostname: elsewhere.test, statusCode: 301}}]"""))
    world.cluster.wait_for(lambda: world.get("/old") in "ab", "the route to be served")
    seen = {}
    for _ in range(40):
        _, told = ask(world, "/old/1")
        seen[told["service"]] = (told["path"], told["host"], told["headers"].get("X-Way"))
    assert seen == {"a": ("/new/1", "inner.test", None), "b": ("/old/1", "x.test", ["b"])}
    answer, _ = ask(world, "/moved/1")
    assert (answer.status, answer.headers["location"]) == (301, "http://elsewhere.test:8000/moved/1")
