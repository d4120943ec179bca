"""gRPC with the client and server that most people use (grpcio), through GRPCRoutes, in clear and over TLS."""
import json
import os
import threading
import time
from collections.abc import Iterator
from itertools import repeat

import pytest

os.environ.setdefault("GRPC_VERBOSITY", "NONE")
import grpc  # noqa: E402
from support.gateway import Gateway, free_port, gateway, resource, until, write  # noqa: E402
from support.tls import HOST, authority, backend_tls, config_map, https, secret  # noqa: E402
from support.grpc_backend import Backend, Code, OPTIONS, service

LARGE = 8 << 20


def grpc_rule(backend: str, headers: dict[str, str] | None = None, **method: str) -> dict:
    match = {**({"method": method} if method else {}),
             **({"headers": [{"name": k, "value": v} for k, v in headers.items()]} if headers else {})}
    return {**({"matches": [match]} if match else {}), "backendRefs": [{"name": backend, "port": 80}]}


@pytest.fixture(scope="module")
def world(tmp_path_factory) -> Iterator[tuple[Gateway, dict[str, Backend], dict[str, grpc.Channel]]]:
    """Two backends, one that nobody serves, one that does not exist; channels in clear and over TLS."""
    chain, key = authority().certificate("backend.example")
    backends = {name: Backend(name) for name in ("one", "two")}
    backends["secure"] = Backend("secure", grpc.ssl_server_credentials([(key, chain)]))
    clear, secure, folder = free_port(), free_port(), tmp_path_factory.mktemp("grpc") / "conf"
    folder.mkdir()
    rules = [grpc_rule("one", service="test.Echo"), grpc_rule("two", service="test.Echo", method="Many"),
             grpc_rule("two", {"x-canary": "yes"}, service="test.Echo"),
             grpc_rule("two", type="RegularExpression", service=r"test\.v[0-9]+", method="S.*"),
             grpc_rule("secure", service="test.Secure"), grpc_rule("down", service="test.Down"), grpc_rule("missing", service="test.Missing")]
    write(folder, "all.yaml", gateway(clear, https(secure)), secret(HOST, *authority().certificate(HOST)),
          service("one", backends["one"].port), service("two", backends["two"].port), service("down", free_port()),
          service("secure", backends["secure"].port), backend_tls("secure", "backend.example"), config_map("authority", authority().pem),
          resource("GRPCRoute", "all", {"parentRefs": [{"name": "gw"}], "rules": rules}))
    running = Gateway(folder)
    trust = grpc.ssl_channel_credentials(authority().pem)
    channels = {"clear": grpc.insecure_channel(f"127.0.0.1:{clear}", OPTIONS),
                "tls": grpc.secure_channel(f"127.0.0.1:{secure}", trust, [*OPTIONS, ("grpc.ssl_target_name_override", HOST)])}
    yield running, backends, channels
    for channel in channels.values():
        channel.close()
    for one in backends.values():
        one.close()
    running.stop()


@pytest.fixture(params=["clear", "tls"])
def channel(world, request) -> grpc.Channel:
    return world[2][request.param]


def status(call, *arguments, **more) -> grpc.RpcError:
    """The error that a call ends with."""
    with pytest.raises(grpc.RpcError) as raised:
        result = call(*arguments, timeout=more.pop("timeout", 10), **more)
        if hasattr(result, "__next__"):
            list(result)
    return raised.value


def test_unary(channel) -> None:
    message, call = channel.unary_unary("/test.Echo/Say").with_call(
        b"hello", timeout=10, metadata=[("x-one", "1"), ("x-two", "a, b"), ("x-some-bin", b"\0\xff")])
    assert message == b"hello"
    first = dict(call.initial_metadata())
    assert {key: first.get(key) for key in ("backend", "x-one", "x-two", "x-some-bin")} == {
        "backend": "one", "x-one": "1", "x-two": "a, b", "x-some-bin": b"\0\xff"}
    last = dict(call.trailing_metadata())
    assert (last["last-words"], last["some-bin"]) == ("bye", bytes(range(256)))
    assert call.code() is Code.OK


def test_server_streams(channel) -> None:
    assert list(channel.unary_stream("/test.Echo/Many")(b"1000", timeout=20)) == [b"%d" % n for n in range(1000)]


def test_client_streams(channel) -> None:
    assert channel.stream_unary("/test.Echo/Sum")(repeat(b"x" * 1000, 1000), timeout=20) == b"1000000"
    assert channel.stream_unary("/test.Echo/Sum")(iter(()), timeout=20) == b"0"


def test_both_stream_by_turns(channel) -> None:
    """Each answer is waited for before the next message is sent."""
    turn, messages = threading.Event(), [b"a", b"b" * 100_000, b"", b"d"]

    def spoken() -> Iterator[bytes]:
        for message in messages:
            yield message
            assert turn.wait(10)
            turn.clear()
    heard = []
    for answer in channel.stream_stream("/test.Echo/Chat")(spoken(), timeout=20):
        heard.append(answer)
        turn.set()
    assert heard == [message.upper() for message in messages]


def test_large_messages(channel) -> None:
    message = os.urandom(LARGE)
    assert channel.unary_unary("/test.Echo/Say")(message, timeout=60) == message


def test_a_hundred_calls_at_once(channel) -> None:
    say = channel.unary_unary("/test.Echo/Say")
    calls = [say.future(b"%d" % n * 100, timeout=30) for n in range(100)]
    assert [call.result() for call in calls] == [b"%d" % n * 100 for n in range(100)]


@pytest.mark.parametrize("method, metadata, backend", [
    ("/test.Echo/Say", [], "one"), ("/test.Echo/Say", [("x-canary", "yes")], "two"), ("/test.v2/Say", [], "two")])
def test_by_method_and_header(channel, method: str, metadata: list, backend: str) -> None:
    _, call = channel.unary_unary(method).with_call(b"", timeout=10, metadata=metadata)
    assert dict(call.initial_metadata())["backend"] == backend


def test_to_a_backend_over_tls(channel) -> None:
    message, call = channel.unary_unary("/test.Secure/Say").with_call(b"hello", timeout=10)
    assert message == b"hello" and dict(call.initial_metadata())["backend"] == "secure"
    assert list(channel.unary_stream("/test.Secure/Many")(b"100", timeout=20)) == [b"%d" % n for n in range(100)]
    assert [*channel.stream_stream("/test.Secure/Chat")(iter([b"a", b"b" * LARGE]), timeout=60)] == [b"A", b"B" * LARGE]


@pytest.mark.parametrize("method", ["/test.Other/Say", "/test.v2/Run", "/test.v/Say"])
def test_no_rule_is_unimplemented(channel, method: str) -> None:
    assert status(channel.unary_unary(method), b"").code() is Code.UNIMPLEMENTED
    assert status(channel.stream_stream(method), iter([b"x"] * 3)).code() is Code.UNIMPLEMENTED


@pytest.mark.parametrize("method", ["/test.Down/Say", "/test.Missing/Say"])
def test_no_backend_is_unavailable(channel, method: str) -> None:
    assert status(channel.unary_unary(method), b"x" * 100_000).code() is Code.UNAVAILABLE
    assert status(channel.stream_stream(method), iter([b"x"] * 3)).code() is Code.UNAVAILABLE


def test_the_backends_own_errors_arrive(channel) -> None:
    error = status(channel.unary_unary("/test.Echo/Fail"), b"")
    assert (error.code(), error.details()) == (Code.PERMISSION_DENIED, "not tödäy: 100 %\n")
    assert dict(error.trailing_metadata())["why"] == "rules"
    assert status(channel.unary_unary("/test.Echo/Nothing"), b"").code() is Code.UNIMPLEMENTED


def test_an_error_behind_messages(channel) -> None:
    got, call = [], channel.unary_stream("/test.Echo/Half")(b"", timeout=10)
    with pytest.raises(grpc.RpcError):
        for message in call:
            got.append(message)
    assert (got, call.code(), call.details()) == ([b"one", b"two"], Code.DATA_LOSS, "that was it")


def test_a_deadline_ends_the_call_at_the_backend(world, channel) -> None:
    backend = world[1]["one"]
    backend.ended.clear()
    begun = time.monotonic()
    assert status(channel.unary_unary("/test.Echo/Slow"), b"", timeout=0.5).code() is Code.DEADLINE_EXCEEDED
    assert time.monotonic() - begun < 5
    until(lambda: backend.ended, 5)
    assert "grpc-timeout" not in backend.seen[-1], "grpcio takes it out itself"


def test_a_cancelled_call_ends_at_the_backend(world, channel) -> None:
    backend = world[1]["one"]
    backend.ended.clear()
    begun = len(backend.begun)
    call = channel.unary_unary("/test.Echo/Slow").future(b"", timeout=10)
    until(lambda: len(backend.begun) > begun, 5)
    assert call.cancel()
    until(lambda: backend.ended, 5)
    assert call.code() is Code.CANCELLED


def test_calls_are_in_the_log(world) -> None:
    running, _, channels = world
    channels["clear"].unary_unary("/test.Echo/Say")(b"logged", timeout=10)
    entry = until(lambda: next((e for e in reversed(running.log()) if e["target"] == "/test.Echo/Say"), None), 5)
    assert (entry["method"], entry["status"]) == ("POST", 200)


def test_a_host_of_http_and_grpc(run, backend) -> None:
    """Calls go to the GRPCRoute, everything else to the HTTPRoute; a call that neither takes is UNIMPLEMENTED."""
    calls, site, port = Backend("calls"), backend("site"), free_port()
    try:
        gw = run(gateway(port), service("calls", calls.port), service("site", site.port, "http"),
                 resource("HTTPRoute", "site", {"parentRefs": [{"name": "gw"}], "rules": [grpc_rule("site")]}),
                 resource("GRPCRoute", "calls", {"parentRefs": [{"name": "gw"}], "rules": [grpc_rule("calls")]}))
        with grpc.insecure_channel(f"127.0.0.1:{port}", OPTIONS) as channel:
            _, call = channel.unary_unary("/test.Echo/Say").with_call(b"hello", timeout=10)
            assert dict(call.initial_metadata())["backend"] == "calls"
            assert json.loads(gw.get("/test.Echo/Say", method="POST", body=b"x").body)["backend"] == "site"
            gw.write("all.yaml", gateway(port), service("calls", calls.port), service("site", site.port, "http"),
                     resource("HTTPRoute", "site", {"parentRefs": [{"name": "gw"}], "rules": [
                         {"matches": [{"path": {"value": "/web"}}], "backendRefs": [{"name": "site", "port": 80}]}]}),
                     resource("GRPCRoute", "calls", {"parentRefs": [{"name": "gw"}], "rules": [grpc_rule("calls", service="test.Echo")]}))
            until(lambda: gw.get("/").status == 404)
            assert status(channel.unary_unary("/test.Other/Say"), b"").code() is Code.UNIMPLEMENTED
            assert channel.unary_unary("/test.Echo/Say")(b"hello", timeout=10) == b"hello"
            assert gw.get("/web").status == 200
    finally:
        calls.close()
