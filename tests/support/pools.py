"""Whom a pool of connections serves."""
from support.scripted import head

GET = b"GET /%d HTTP/1.1\r\nHost: a\r\n\r\n"
NOTHING = b"HTTP/1.1 204 No Content\r\n\r\n"


def served(engine, backend):
    """A client and the upstream that has answered its first request and is idle now."""
    client = engine.connect()
    client.sendall(GET % 0)
    upstream = backend.accept()
    head(upstream)
    upstream.sendall(NOTHING)
    assert head(client).startswith(b"HTTP/1.1 204 ")
    return client, upstream
