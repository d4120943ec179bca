"""Backends of TCPRoute, TLSRoute and GRPCRoute that are invalid or have no endpoint (5.4): their share is refused, all the others are served.

A case is (backendRefs, how many of 20 are served).
"""
import os
import socket
import ssl
from collections import Counter
from collections.abc import Iterator

import pytest

os.environ.setdefault("GRPC_VERBOSITY", "NONE")
import grpc  # noqa: E402
from support.backend import Backend  # noqa: E402
from support.gateway import free_port, gateway, listener, resource, service  # noqa: E402
from support.tls import HOST, authority, secret, trusting  # noqa: E402
from support.wire import Closed, Stream  # noqa: E402
from support.secure_backend import Secure  # noqa: E402
from support.grpc_backend import Backend as GrpcBackend  # noqa: E402
from support.grpc_backend import service as grpc_service  # noqa: E402

GOOD = {"name": "good", "port": 80}
ELSEWHERE, EMPTY = GOOD | {"namespace": "elsewhere"}, {"name": "empty", "port": 80}
SHARES = {
    "not granted": ([GOOD | {"weight": 3}, ELSEWHERE], 15),
    "another kind": ([GOOD | {"weight": 3}, GOOD | {"group": "x.example", "kind": "Thing"}], 15),
    "another port": ([GOOD | {"weight": 3}, GOOD | {"port": 81}], 15),
    "no endpoint": ([GOOD | {"weight": 3}, EMPTY], 15),
    "weights of both kinds": ([GOOD, ELSEWHERE | {"weight": 2}, EMPTY | {"weight": 2}], 4),
    "weight 0 of what is invalid": ([GOOD, ELSEWHERE | {"weight": 0}, EMPTY | {"weight": 0}], 20),
    "weight 0 of what is not": ([GOOD | {"weight": 0}, ELSEWHERE], 0),
    "all weights 0": ([GOOD | {"weight": 0}, GOOD | {"weight": 0}], 0),
    "all invalid": ([ELSEWHERE], 0),
    "no endpoint at all": ([EMPTY], 0),
}


@pytest.fixture
def calls() -> Iterator[GrpcBackend]:
    backend = GrpcBackend("good")
    yield backend
    backend.close()


@pytest.mark.parametrize(("refs", "served"), SHARES.values(), ids=SHARES)
def test_tcp(run, backend, refs, served) -> None:
    empty = service("empty", backend("empty"))
    empty[1]["endpoints"] = []
    good: Backend = backend("good")
    gw = run(gateway(listener(free_port(), protocol="TCP")), service("good", good), empty, resource(
        "TCPRoute", "r", {"parentRefs": [{"name": "gw"}], "rules": [{"backendRefs": refs}]}))
    answers: Counter = Counter()
    for _ in range(20):
        try:
            answers[gw.send(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")[:12]] += 1
        except ConnectionError:        # refused at once
            answers[b""] += 1
    assert answers == Counter({b"HTTP/1.1 200": served, b"": 20 - served})


@pytest.mark.parametrize("mode", ["Passthrough", "Terminate"])
@pytest.mark.parametrize(("refs", "served"), SHARES.values(), ids=SHARES)
def test_tls(run, backend, tmp_path, refs, served, mode) -> None:
    chain, key = authority().certificate(HOST)
    (tmp_path / "both.pem").write_bytes(key + chain)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(tmp_path / "both.pem")
    good = Secure("good", context) if mode == "Passthrough" else backend("good")
    empty = service("empty", good)
    empty[1]["endpoints"] = []
    tls = {"mode": mode} if mode == "Passthrough" else {"mode": mode, "certificateRefs": [{"name": HOST}]}
    gw = run(gateway(listener(free_port(), protocol="TLS", tls=tls)), secret(HOST, chain, key), service("good", good), empty, resource(
        "TLSRoute", "r", {"parentRefs": [{"name": "gw"}], "hostnames": [HOST],
                          "rules": [{"backendRefs": refs}]}))
    answers: Counter = Counter()
    for _ in range(20):
        try:
            with socket.create_connection(("127.0.0.1", gw.port), timeout=10) as sock:
                stream = Stream(trusting(authority().pem).wrap_socket(sock, server_hostname=HOST))
                stream.send(f"GET / HTTP/1.1\r\nHost: {HOST}\r\n\r\n".encode())
                answers[stream.response().status] += 1
                stream.close()
        except (OSError, Closed):      # hung up on, wherever that was noticed
            answers[0] += 1
    assert answers == Counter({200: served, 0: 20 - served})
    if mode == "Passthrough":
        good.close()


def test_a_port_that_ends_no_tls_ends_the_connection_of_a_name_that_it_does_not_have(run, backend) -> None:
    """Without an alert, which would come from a TLS server: there is none (TLSRouteHostnameIntersection of the official suite).
    Where another listener of the port ends TLS it is one, and says what is wrong."""
    chain, key = authority().certificate(HOST)
    passed, ended = {"mode": "Passthrough"}, {"mode": "Terminate", "certificateRefs": [{"name": HOST}]}
    ports = free_port(), free_port()
    run(gateway(listener(ports[0], "alone", protocol="TLS", hostname="alone.test", tls=passed),
                listener(ports[1], "passed", protocol="TLS", hostname="passed.test", tls=passed),
                listener(ports[1], "ended", protocol="TLS", hostname=HOST, tls=ended)),
        secret(HOST, chain, key), service("good", backend("good")), *(
            resource("TLSRoute", name, {"parentRefs": [{"name": "gw", "sectionName": name}], "hostnames": [host],
                                        "rules": [{"backendRefs": [{"name": "good", "port": 80}]}]})
            for name, host in (("alone", "alone.test"), ("passed", "passed.test"), ("ended", HOST))))
    for port, refused in zip(ports, ((ConnectionResetError, ssl.SSLEOFError, ssl.SSLZeroReturnError), ssl.SSLError), strict=True):
        with socket.create_connection(("127.0.0.1", port), timeout=10) as sock, pytest.raises(refused) as found:
            trusting(authority().pem).wrap_socket(sock, server_hostname="other.test")
        assert ("UNRECOGNIZED_NAME" in str(found.value)) == (port == ports[1])


@pytest.mark.parametrize(("refs", "served"), SHARES.values(), ids=SHARES)
def test_grpc(run, calls, refs, served) -> None:
    empty = grpc_service("empty", 1)
    empty[1]["endpoints"] = []
    gw = run(gateway(free_port()), grpc_service("good", calls.port), empty, resource(
        "GRPCRoute", "r", {"parentRefs": [{"name": "gw"}], "rules": [{"backendRefs": refs}]}))
    codes: Counter = Counter()
    with grpc.insecure_channel(f"127.0.0.1:{gw.port}", [("grpc.use_local_subchannel_pool", 1), ("grpc.enable_retries", 0)]) as channel:
        for _ in range(20):
            try:
                channel.unary_unary("/test.Echo/Say")(b"x", timeout=10)
                codes["OK"] += 1
            except grpc.RpcError as error:
                codes[error.code().name] += 1
    assert codes == Counter({"OK": served, "UNAVAILABLE": 20 - served})
