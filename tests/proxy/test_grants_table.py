"""ReferenceGrant (5.5): each kind of reference into another namespace is served while there is a grant, and no longer.

A case is (kind from, kind to, listener, what is configured besides, what asks: True where it is served).
"""
import contextlib
import os
import socket
import ssl
from collections.abc import Callable

import pytest

os.environ.setdefault("GRPC_VERBOSITY", "NONE")
import grpc  # noqa: E402
from support.gateway import Gateway, free_port, gateway, listener, resource, route, rule, service, until  # noqa: E402
from support.tls import HOST, authority, config_map, https, secret, trusting  # noqa: E402
from support.wire import TIMEOUT, Closed, Stream  # noqa: E402
from support.grpc_backend import Backend as GrpcBackend  # noqa: E402
from support.grpc_backend import service as grpc_service  # noqa: E402

FAR = {"name": "far", "port": 80, "namespace": "elsewhere"}
CHAIN, KEY = authority().certificate(HOST)
NEAR = [secret(HOST, CHAIN, KEY), route("r", rule("near"))]


def elsewhere(document: dict) -> dict:
    return document | {"metadata": document["metadata"] | {"namespace": "elsewhere"}}


def routed(kind: str, **more: object) -> dict:
    return resource(kind, "r", {"parentRefs": [{"name": "gw"}], "rules": [{"backendRefs": [FAR]}], **more})


def certified(port: int) -> dict:
    made = https(port)
    made["tls"]["certificateRefs"][0]["namespace"] = "elsewhere"
    return made


def plain(protocol: str, **more: object) -> Callable[[int], dict]:
    return lambda port: listener(port, protocol=protocol, **more)


def answers(gw: Gateway, context: ssl.SSLContext | None = None) -> bool:
    with contextlib.suppress(OSError, Closed), socket.create_connection(("127.0.0.1", gw.port), TIMEOUT) as sock:
        stream = Stream(context.wrap_socket(sock, server_hostname=HOST) if context else sock)
        stream.send(f"GET / HTTP/1.1\r\nHost: {HOST}\r\n\r\n".encode())
        status = stream.response().status
        stream.close()
        assert status in (200, 404, 500)   # 404: the connection is older than the table
        return status == 200
    return False


def answers_tls(gw: Gateway) -> bool:
    return answers(gw, trusting(authority().pem))


def answers_known(gw: Gateway) -> bool:
    """To a client with a certificate."""
    context, both = trusting(authority().pem), gw.folder.parent / "client.pem"
    both.write_bytes(KEY + CHAIN)
    context.load_cert_chain(both)
    return answers(gw, context)


def answers_call(gw: Gateway) -> bool:
    with grpc.insecure_channel(f"127.0.0.1:{gw.port}", [("grpc.use_local_subchannel_pool", 1), ("grpc.enable_retries", 0)]) as channel:
        try:
            return channel.unary_unary("/test.Echo/Say")(b"x", timeout=10) == b"x"
        except grpc.RpcError as error:
            assert error.code() is grpc.StatusCode.UNAVAILABLE
            return False


CLIENTS = {"tls": {"frontend": {"default": {"validation": {"caCertificateRefs": [
    {"group": "", "kind": "ConfigMap", "name": "authority", "namespace": "elsewhere"}]}}}}}
TERMINATE = {"mode": "Terminate", "certificateRefs": [{"name": HOST}]}
CASES = {
    "a backend of an HTTPRoute": ("HTTPRoute", "Service", listener, {}, [routed("HTTPRoute")], answers),
    "of a GRPCRoute": ("GRPCRoute", "Service", listener, {}, [routed("GRPCRoute")], answers_call),
    "of a TCPRoute": ("TCPRoute", "Service", plain("TCP"), {}, [routed("TCPRoute")], answers),
    "of a TLSRoute": ("TLSRoute", "Service", plain("TLS", tls=TERMINATE), {}, [NEAR[0], routed("TLSRoute", hostnames=[HOST])], answers_tls),
    "a certificate": ("Gateway", "Secret", certified, {}, NEAR, answers_tls),
    "an authority for clients": ("Gateway", "ConfigMap", https, CLIENTS, NEAR, answers_known),
}


def grant(kind: str, to: str, name: str = "grant") -> dict:
    return resource("ReferenceGrant", name, {"from": [{"group": "gateway.networking.k8s.io", "kind": kind, "namespace": "default"}],
                                             "to": [{"group": "", "kind": to}]}, namespace="elsewhere")


@pytest.mark.parametrize("case", CASES)
def test_case(run, backend, case: str) -> None:
    kind, to, made, spec, documents, served = CASES[case]
    near, calls = backend("near"), GrpcBackend("far") if kind == "GRPCRoute" else None
    far = grpc_service("far", calls.port) if calls else service("far", near)
    gw = run(gateway(made(free_port()), **spec), service("near", near), *(elsewhere(one) for one in far),
             elsewhere(secret(HOST, CHAIN, KEY)), elsewhere(config_map("authority", authority().pem)),
             grant("UDPRoute", to, "of-another"), grant(kind, "Pod", "to-another"), *documents, serves=False)
    assert not served(gw)
    for _ in range(2):
        gw.write("grant.yaml", grant(kind, to))
        until(lambda: served(gw))
        (gw.folder / "grant.yaml").unlink()
        until(lambda: not served(gw))
        assert not any(served(gw) for _ in range(5))
    if calls:
        calls.close()
