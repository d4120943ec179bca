"""Upgrade: the backend's 101 makes a tunnel; until then it is HTTP like everything else."""
import pytest
from support.backend import drain

UPGRADE = (b"GET /up HTTP/1.1\r\nHost: any.example\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
           b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n")
SWITCHED = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: x\r\n\r\n"


def mirror(stream, request) -> None:
    """Send back whatever comes until the other side ends."""
    stream.send(SWITCHED)
    if stream.buffer:
        stream.send(bytes(stream.buffer))
    while some := stream.sock.recv(65536):
        stream.send(some)


def tunnel(gateway, early: bytes = b""):
    stream = gateway.connect()
    stream.send(UPGRADE + early)
    response = stream.response()
    assert response.status == 101
    assert response.fields.get("Upgrade") == "websocket"
    assert (response.fields.get("Connection") or "").lower() == "upgrade"
    return stream


def test_tunnel_both_ways(proxy) -> None:
    gateway, backend = proxy
    backend.handlers["/up"] = mirror
    stream = tunnel(gateway)
    request, = backend.seen("/up")
    assert request.fields.get("Upgrade") == "websocket" and request.fields.get("Connection").lower() == "upgrade"
    for data in (b"\x81\x00", b"HTTP/1.1 400 no\r\n\r\n", bytes(range(256)) * 4000, b"end"):
        stream.send(data)
        assert stream.exactly(len(data)) == data
    stream.half_close()
    assert stream.rest() == b""
    stream.close()


def test_bytes_behind_the_101_arrive(proxy) -> None:
    gateway, backend = proxy
    backend.on("/up", SWITCHED + b"first words", drain)
    stream = tunnel(gateway)
    assert stream.exactly(11) == b"first words"
    stream.close()


def test_backend_ends_the_tunnel(proxy) -> None:
    gateway, backend = proxy
    backend.on("/up", SWITCHED + b"bye")
    stream = tunnel(gateway)
    assert stream.rest() == b"bye"
    stream.close()


@pytest.mark.parametrize("answer", [
    b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nno", b"HTTP/1.1 403 No\r\nContent-Length: 2\r\n\r\nno"])
def test_refused_upgrade_is_an_answer(proxy, answer: bytes) -> None:
    gateway, backend = proxy
    backend.on("/up", answer, close=False)
    stream = gateway.connect()
    stream.send(UPGRADE)
    response = stream.response()
    assert (response.status, response.body) == (int(answer[9:12]), b"no")
    if response.fields.get("Connection") != "close":
        stream.send(b"GET /next HTTP/1.1\r\nHost: a\r\n\r\n")
        assert stream.response().status == 200
    stream.close()


def test_nothing_is_tunnelled_before_the_101(proxy) -> None:
    """What follows an upgrade request is a request until the backend has switched."""
    gateway, backend = proxy
    backend.on("/up", b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nno", close=False)
    got = gateway.send(UPGRADE + b"GET /smuggled HTTP/1.1\r\nHost: a\r\nBad Field: x\r\n\r\n")
    assert got.startswith(b"HTTP/1.1 200 ")
    assert not backend.seen("/smuggled")


def test_upgrade_with_a_body_is_no_upgrade(proxy) -> None:
    gateway, backend = proxy
    stream = gateway.connect()
    stream.send(UPGRADE.replace(b"GET", b"POST").replace(b"\r\n\r\n", b"\r\nContent-Length: 5\r\n\r\nhello"))
    response = stream.response()
    if response.status == 400:
        assert not backend.requests
    else:
        request, = backend.seen("/up")
        assert not request.fields.get("Upgrade")
    stream.close()


def test_upgrade_of_http_1_0_is_no_upgrade(proxy) -> None:
    gateway, backend = proxy
    assert gateway.send(UPGRADE.replace(b"HTTP/1.1", b"HTTP/1.0")).startswith(b"HTTP/1.1 200 ")
    request, = backend.seen("/up")
    assert not request.fields.get("Upgrade")


def test_h2c_upgrade_is_not_forwarded_blindly(proxy) -> None:
    """RFC 9113 3.1: Upgrade: h2c is obsolete; HTTP2-Settings is connection-specific and ends here."""
    gateway, backend = proxy
    gateway.send(b"GET /up HTTP/1.1\r\nHost: a\r\nConnection: Upgrade, HTTP2-Settings, close\r\nUpgrade: h2c\r\n"
                 b"HTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA\r\n\r\n")
    request, = backend.seen("/up")
    assert not request.fields.get("HTTP2-Settings")
