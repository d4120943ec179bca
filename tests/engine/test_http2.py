"""HTTP/2 clients in clear: what a backend of HTTP/1.1 sees of their requests, and what they see of its answers."""
import h2.events
import h2.settings
import pytest
from support.http2_client import Http2, raw_frame
from support.scripted import head

PRIORITY, RST_STREAM = 2, 3
PROTOCOL_ERROR, INTERNAL_ERROR, FRAME_SIZE_ERROR, CANCEL = 1, 2, 6, 8
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi"


@pytest.fixture
def world(backend, start):
    running = start([("127.0.0.1", backend.port)])
    return running, lambda **options: Http2(running.connect(), **options)


def exactly(connection, n) -> bytes:
    got = b""
    while len(got) < n:
        data = connection.recv(n - len(got))
        assert data, got
        got += data
    return got


def test_a_request_and_its_answer(world, backend):
    client = world[1]()
    stream = client.ask("/a?b", fields=[("cookie", "a=1"), ("x-a", ""), ("cookie", "b=2")])
    upstream = backend.accept()
    lines = head(upstream).split(b"\r\n")
    assert lines[0] == b"GET /a?b HTTP/1.1"
    assert b"cookie: a=1; b=2" in lines
    assert [line for line in lines if line.lower().startswith(b"host:")] == [b"Host: a"]
    upstream.sendall(b"HTTP/1.1 200 OK\r\nX-UP: 1\r\nConnection: x-hop\r\nX-Hop: 1\r\nContent-Length: 2\r\n\r\nhi")
    fields = client.head(stream)
    assert fields[b":status"] == b"200"
    assert fields[b"x-up"] == b"1"
    assert b"date" in fields
    assert not {b"connection", b"x-hop"} & fields.keys()
    assert client.over(stream) == "ended"
    assert client.body(stream) == b"hi"


def test_trailers_go_both_ways_in_chunks(world, backend):
    client = world[1]()
    stream = client.ask(method="POST", fields=[("te", "trailers")], end=False, body=b"abc")
    client.protocol.send_headers(stream, [("x-sum", "1")], end_stream=True)
    client.flush()
    upstream = backend.accept()
    assert b"\r\nte: trailers\r\n" in head(upstream).lower()
    assert exactly(upstream, 23) == b"3\r\nabc\r\n0\r\nx-sum: 1\r\n\r\n"
    upstream.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\nX-Status: 0\r\n\r\n")
    assert client.over(stream) == "ended"
    assert client.body(stream) == b"hi"
    assert client.until(h2.events.TrailersReceived, stream).headers == [(b"x-status", b"0")]


@pytest.mark.parametrize("together", [True, False], ids=["in one read", "later"])
def test_trailers_behind_a_length_are_no_second_request(world, backend, together):
    client = world[1]()
    stream = client.ask(method="POST", fields=[("content-length", "3")], end=False,
                        body=b"abc" if together else b"", flush=not together)
    if not together:
        upstream = backend.accept()
        asked = head(upstream)
        client.protocol.send_data(stream, b"abc")
    client.protocol.send_headers(stream, [("x-sum", "1")], end_stream=True)
    client.flush()
    if together:
        upstream = backend.accept()
        asked = head(upstream)
    assert b"content-length: 3" in asked.lower()
    assert exactly(upstream, 3) == b"abc"
    upstream.sendall(OK)
    assert client.over(stream) == "ended"
    second = client.ask("/second")
    assert head(upstream).startswith(b"GET /second ")
    upstream.sendall(OK)
    assert client.over(second) == "ended"


@pytest.mark.parametrize(("length", "body"), [(5, b"abc"), (2, b"abc"), (0, b"a")])
def test_another_length_than_was_said(world, backend, length, body):
    client = world[1](lenient=True)
    stream = client.ask(method="POST", fields=[("content-length", str(length))], end=False)
    upstream = backend.accept()
    head(upstream)
    client.socket.sendall(raw_frame(0, 1, stream, body))
    assert client.over(stream) == PROTOCOL_ERROR
    assert len(upstream.recv(100)) < max(length, 1)    # what came before it was known, then the end
    assert upstream.recv(100) == b""


def test_no_content_for_head_and_for_304(world, backend):
    client = world[1]()
    first = client.ask(method="HEAD")
    upstream = backend.accept()
    head(upstream)
    upstream.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\n")
    assert client.head(first)[b"content-length"] == b"7"
    assert client.over(first) == "ended"
    second = client.ask()
    head(upstream)
    upstream.sendall(b"HTTP/1.1 304 Not Modified\r\nContent-Length: 7\r\nETag: a\r\n\r\n")
    assert client.over(second) == "ended"
    assert client.body(first) == client.body(second) == b""
    refused = client.ask("/%00", method="HEAD")
    assert client.over(refused) == "ended"
    assert client.head(refused)[b":status"] == b"400"
    assert client.body(refused) == b""


def test_informational_responses(world, backend):
    client = world[1](settings={h2.settings.SettingCodes.HEADER_TABLE_SIZE: 0})
    stream = client.ask(method="POST", fields=[("expect", "100-continue"), ("content-length", "1")], end=False)
    assert client.until(h2.events.InformationalResponseReceived, stream).headers[0] == (b":status", b"100")
    client.protocol.send_data(stream, b"x", end_stream=True)
    client.flush()
    upstream = backend.accept()
    assert b"expect" not in head(upstream).lower()
    assert exactly(upstream, 1) == b"x"
    upstream.sendall(b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" + OK)
    assert client.over(stream) == "ended"
    hints = [event for event in client.events if isinstance(event, h2.events.InformationalResponseReceived)]
    assert dict(hints[1].headers)[b"link"] == b"</a>"


def test_a_response_that_is_cut_is_reset(world, backend):
    client = world[1]()
    stream = client.ask()
    upstream = backend.accept()
    head(upstream)
    upstream.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\nabc")
    client.until(h2.events.DataReceived, stream)
    upstream.close()
    assert client.over(stream) == INTERNAL_ERROR
    assert client.over(client.ask("/%00")) == "ended"  # the connection goes on


def test_an_early_answer_ends_the_upload(world, backend):
    client = world[1]()
    stream = client.ask(method="POST", end=False, body=b"x")
    upstream = backend.accept()
    head(upstream)
    upstream.sendall(b"HTTP/1.1 413 No\r\nContent-Length: 0\r\n\r\n")
    assert client.until(h2.events.StreamReset, stream).error_code == 0
    assert client.head(stream)[b":status"] == b"413"


def test_a_reset_cancels_the_upstream(world, backend):
    running, connect = world
    client = connect()
    stream = client.ask()
    upstream = backend.accept()
    head(upstream)
    client.protocol.reset_stream(stream, CANCEL)
    client.flush()
    assert upstream.recv(1) == b""
    running.wait("requests_open", 0)
    assert running.count("http2_resets") == 1


def test_a_short_priority_behind_the_answer_is_an_error_as_well(world, backend):
    """RFC 9113 6.3: of the stream, however fast it was over."""
    client = world[1]()
    stream = client.ask()
    upstream = backend.accept()
    head(upstream)
    upstream.sendall(OK)
    assert client.over(stream) == "ended"
    client.socket.sendall(raw_frame(PRIORITY, 0, stream, bytes(4)))
    got = b""
    while raw_frame(RST_STREAM, 0, stream, FRAME_SIZE_ERROR.to_bytes(4, "big")) not in got:
        got += exactly(client.socket, 1)


def test_windows_hold_a_response_back(world, backend):
    client = world[1](settings={h2.settings.SettingCodes.INITIAL_WINDOW_SIZE: 5}, acknowledge=False)
    stream = client.ask()
    upstream = backend.accept()
    head(upstream)
    upstream.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n0123456789")
    client.until(h2.events.DataReceived, stream)
    assert client.body(stream) == b"01234"
    client.protocol.update_settings({h2.settings.SettingCodes.INITIAL_WINDOW_SIZE: 2})     # now it is negative
    client.protocol.increment_flow_control_window(4, stream)
    client.flush()
    while client.body(stream) != b"012345":
        client.turn()
    client.protocol.update_settings({h2.settings.SettingCodes.INITIAL_WINDOW_SIZE: 100})
    client.flush()
    assert client.over(stream) == "ended"
    assert client.body(stream) == b"0123456789"


def test_a_slow_backend_holds_the_client_back(world, backend):
    client = world[1]()
    stream = client.ask(method="POST", end=False)
    upstream = backend.accept()
    head(upstream)
    sent = 0
    client.socket.settimeout(1)
    with pytest.raises(TimeoutError):
        while sent < 64 << 20:
            while client.protocol.local_flow_control_window(stream) == 0:
                client.turn()
            n = min(16384, client.protocol.local_flow_control_window(stream))
            client.protocol.send_data(stream, bytes(n))
            client.flush()
            sent += n
    assert sent < 32 << 20


def test_both_goaways_and_then_the_end(world, backend):
    running, connect = world
    client = connect()
    stream = client.ask()
    upstream = backend.accept()
    head(upstream)
    with running.lock:
        running.engine.finish()
    client.socket.settimeout(5)
    got = client.socket.recv(65536)
    while got.count(b"\x00\x00\x08\x07\x00") < 2:
        got += client.socket.recv(65536)
    first, second = (got.index(b"\x00\x00\x08\x07\x00", at) for at in (0, got.index(b"\x00\x00\x08\x07\x00") + 1))
    assert got[first + 9:first + 17] == b"\x7f\xff\xff\xff" + bytes(4)
    assert got[second + 9:second + 17] == stream.to_bytes(4, "big") + bytes(4)
    upstream.sendall(OK)
    rest = b""
    while data := client.socket.recv(65536):
        rest += data
    assert rest.endswith(b"hi") or rest[-9:] == raw_frame(0, 1, stream)
