"""TCPRoute and UDPRoute through a whole gateway: reloads, drains, options, the log, metrics."""
import contextlib
import socket
import socketserver
import threading
from collections.abc import Iterator

import pytest
from support.gateway import Gateway, free_port, gateway, listener, resource, until


class Echo(socketserver.ThreadingTCPServer):
    allow_reuse_address = daemon_threads = True

    class RequestHandlerClass(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            with contextlib.suppress(ConnectionError):
                while data := self.request.recv(65536):
                    self.request.sendall(data)

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), self.RequestHandlerClass)


class UdpEcho(socketserver.UDPServer):
    max_packet_size = 65536

    class RequestHandlerClass(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            data, answer = self.request
            answer.sendto(data, self.client_address)

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), self.RequestHandlerClass)


@pytest.fixture
def echo() -> Iterator[dict[str, int]]:
    """Ports of an echo service, by protocol."""
    servers = {"TCP": Echo(), "UDP": UdpEcho()}
    for server in servers.values():
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    yield {protocol: server.server_address[1] for protocol, server in servers.items()}
    for server in servers.values():
        server.shutdown()
        server.server_close()


def documents(port: int, backend: dict[str, int], protocols=("TCP", "UDP")) -> list[dict]:
    """A listener and a route for each protocol, on one port number, to one Service."""
    made = [gateway(*(listener(port, protocol.lower(), protocol=protocol) for protocol in protocols))]
    for protocol in protocols:
        name = f"echo-{protocol.lower()}"
        made += [
            resource("Service", name, {"ports": [{"port": 7, "protocol": protocol}]}, "v1"),
            {**resource("EndpointSlice", name, api="discovery.k8s.io/v1", labels={"kubernetes.io/service-name": name}),
             "addressType": "IPv4", "ports": [{"port": backend[protocol], "protocol": protocol}],
             "endpoints": [{"addresses": ["127.0.0.1"]}]},
            resource(f"{protocol}Route", name, {"parentRefs": [{"name": "gw", "sectionName": protocol.lower()}],
                                                "rules": [{"backendRefs": [{"name": name, "port": 7}]}]})]
    return made


def udp(gw: Gateway) -> socket.socket:
    client = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    client.settimeout(10)
    client.connect(("127.0.0.1", gw.port))
    return client


def test_both_on_one_port(run, echo) -> None:
    gw = run(*documents(free_port(), echo), options=("--access-log", "json", "--udp-idle-timeout", "300ms"))
    stream = gw.connect()
    stream.send(bytes(1000) * 1000)
    assert stream.exactly(1000 * 1000) == bytes(1000) * 1000
    with udp(gw) as client:
        client.send(b"datagram")
        assert client.recv(100) == b"datagram"
    stream.half_close()
    assert stream.rest() == b""
    stream.close()
    lines = {line["route"]: line for line in until(lambda: len(gw.log()) == 2 and gw.log())}
    for name, n in (("default/echo-tcp", 1000 * 1000), ("default/echo-udp", 8)):
        line = lines[name]
        assert (line["bytes_in"], line["bytes_out"], line["flags"], line["client"]) == (n, n, "-", "127.0.0.1")
        assert line["backend"].startswith(name) and line["endpoint"].startswith("127.0.0.1:")
    metrics = gw.metrics()
    assert metrics['gwfast_route_bytes_out_total{kind="TCPRoute",route="default/echo-tcp"}'] == 1000 * 1000
    assert metrics['gwfast_route_bytes_in_total{kind="UDPRoute",route="default/echo-udp"}'] == 8


def test_reloads_leave_connections_and_sessions_alone(run, echo) -> None:
    port = free_port()
    gw = run(*documents(port, echo))
    stream = gw.connect()
    with udp(gw) as client:
        for n in range(5):
            stream.send(b"%d" % n)
            assert stream.exactly(1) == b"%d" % n
            client.send(b"%d" % n)
            assert client.recv(10) == b"%d" % n
            reloads = gw.metrics()["gwfast_reloads_total"]
            gw.write("all.yaml", *documents(port, echo), *[resource("Service", f"more-{n}", {"ports": [{"port": 1}]}, "v1")])
            until(lambda before=reloads: gw.metrics()["gwfast_reloads_total"] > before)
    assert gw.metrics()["gwfast_udp_sessions_total"] == 1
    stream.close()


def not_ready(one: list[dict], other: int) -> list[dict]:
    """The endpoints go away, of UDP another one comes."""
    slices = [each for each in one if each["kind"] == "EndpointSlice"]
    for each in slices:
        each["endpoints"][0]["conditions"] = {"ready": False}
    return [*one, {**slices[1], "metadata": {**slices[1]["metadata"], "name": "more"},
                   "endpoints": [{"addresses": ["127.0.0.1"]}], "ports": [{"port": other, "protocol": "UDP"}]}]


def other_route(one: list[dict], other: int) -> list[dict]:
    """The routes are gone, of UDP another one comes, to another Service."""
    more = documents(0, {"UDP": other}, ("UDP",))[1:]
    for each in more:
        each["metadata"]["name"] = "more"
        each["metadata"].get("labels", {}).update({"kubernetes.io/service-name": "more"})
    more[-1]["spec"]["rules"][0]["backendRefs"][0]["name"] = "more"
    return [each for each in one if not each["kind"].endswith("Route")] + more


@pytest.mark.parametrize("change", [not_ready, other_route])
def test_a_client_of_datagrams_moves_at_once_and_a_connection_stays(run, echo, change) -> None:
    port = free_port()
    gw = run(*documents(port, echo), options=("--workers", "1"))
    stream = gw.connect()
    stream.send(b"1")
    assert stream.exactly(1) == b"1"
    with udp(gw) as client, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
        client.send(b"2")
        assert client.recv(10) == b"2"
        other.bind(("127.0.0.1", 0))
        other.settimeout(0.05)
        gw.write("all.yaml", *change(documents(port, echo), other.getsockname()[1]))

        def moved() -> bool:
            client.send(b"3")
            with contextlib.suppress(TimeoutError):
                return other.recv(10) == b"3"
            return False
        until(moved)
    stream.send(b"4")
    assert stream.exactly(1) == b"4"
    assert gw.metrics()["gwfast_udp_moved_total"] == 1
    stream.close()


def test_idle_connections_end(run, echo) -> None:
    gw = run(*documents(free_port(), echo, ("TCP",)), options=("--tcp-idle-timeout", "200ms"))
    with socket.create_connection(("127.0.0.1", gw.port), 10) as client, contextlib.suppress(ConnectionResetError):
        assert client.recv(1) == b""
    until(lambda: gw.metrics()['gwfast_faults_total{fault="idle"}'] == 1)


def test_a_drain_waits_for_connections(run, echo) -> None:
    gw = run(*documents(free_port(), echo, ("TCP",)), options=("--drain-timeout", "20s"))
    stream = gw.connect()
    stream.send(b"a")
    assert stream.exactly(1) == b"a"
    gw.process.terminate()
    until(lambda: "draining" in gw.errors())
    stream.send(b"b")
    assert stream.exactly(1) == b"b"
    stream.close()
    assert gw.process.wait(15) == 0
