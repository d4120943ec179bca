"""WebSockets of clients of HTTP/2 (RFC 8441) to backends that make no tunnel: a 2xx of theirs must not open one."""

import pytest
from support.http2_client import Http2
from support.scripted import head, one_rule, rest

from gwfast.plan import ir

TUNNELS = {8: 1}
PAGE = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"


def dial(engine) -> tuple[Http2, int]:
    client = Http2(engine.connect(), lenient=True)
    stream = client.protocol.get_next_available_stream_id()
    client.protocol.send_headers(stream, [(":method", "CONNECT"), (":protocol", "websocket"), (":scheme", "http"), (":authority", "a"),
                                          (":path", "/"), ("sec-websocket-version", "13")])
    client.flush()
    return client, stream


SAID = {
    "page": (PAGE, b"502"),
    "chunks": (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n", b"502"),
    "until the end": (b"HTTP/1.1 200 OK\r\n\r\nhello", b"502"),
    "204": (b"HTTP/1.1 204 No Content\r\n\r\n", b"502"),
    "another protocol": (b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: other\r\n\r\n", b"502"),
    "redirect": (b"HTTP/1.1 302 Found\r\nLocation: /\r\nContent-Length: 0\r\n\r\n", b"302"),
    "refusal": (b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n", b"403"),
    "tunnel": (b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: WebSocket\r\n\r\n", b"200"),
}


@pytest.mark.parametrize(("said", "status"), SAID.values(), ids=SAID)
def test_what_http1_says_to_an_upgrade(start, backend, said, status):
    engine = start([("127.0.0.1", backend.port)])
    client, stream = dial(engine)
    upstream = backend.accept()
    head(upstream)
    upstream.sendall(said)
    assert client.head(stream)[b":status"] == status
    if status == b"502":
        assert rest(upstream) in (b"", b"<RST>")
        assert engine.count("upstream_malformed") == 1


def test_a_client_of_http1_gets_the_page(start, backend):
    """Where Upgrade may be ignored (RFC 9110 7.8)."""
    client = start([("127.0.0.1", backend.port)]).connect()
    client.sendall(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n")
    upstream = backend.accept()
    head(upstream)
    upstream.sendall(PAGE)
    assert head(client).startswith(b"HTTP/1.1 200 ")


@pytest.mark.parametrize(("settings", "ends"), [({}, False), ({}, True), (TUNNELS, True)],
                         ids=["knows no tunnels", "knows no tunnels, at once", "ends at once"])
def test_a_backend_of_http2_that_makes_no_tunnel(start_http2, settings, ends):
    async def handler(request):
        await request.head(200, end=ends)
        if not ends:
            await request.data(b"hello", end=True)

    engine, _ = start_http2(handler, settings)
    client, stream = dial(engine)
    assert client.head(stream)[b":status"] == b"502"
    assert client.over(stream) == "ended"


def test_an_authorizer_that_says_no_with_a_page(start, backend, other):
    """Its answer is 403 in any case; what it says of a 2xx is no tunnel either."""
    auth = ir.Backend(namespace="default", name="auth", port=80)

    def plan(addresses) -> ir.Plan:
        made = one_rule(addresses, filters=(ir.AuthorizeFilter(backend=auth),))
        return ir.Plan(binds=made.binds, backends=(*made.backends, auth), endpoints=(
            *made.endpoints, ir.Endpoints(key=auth.key, addresses=(("127.0.0.1", other.port),))))
    engine = start([("127.0.0.1", backend.port)], plan)
    client, stream = dial(engine)
    asked = other.accept()
    head(asked)
    asked.sendall(b"HTTP/1.1 201 Created\r\nContent-Length: 0\r\n\r\n")
    assert client.head(stream)[b":status"] == b"403"
