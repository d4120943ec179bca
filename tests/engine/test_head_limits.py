"""One limit for heads, whatever the version on either side: what is refused over HTTP/2 is refused over HTTP/1.1, to the byte."""
import contextlib
import functools
import socket
import threading

import h2.settings
import hpack
import pytest
from support.http2_backend import Http2Backend
from support.http2_client import Ended, Frames, Http2
from support.scripted import head, one_rule

from gwfast import limits

DEFAULTS = (limits.HEAD_BYTES, limits.FIELD_BYTES, limits.FIELD_COUNT)
LARGEST = (limits.HEAD_BYTES_MOST, limits.FIELD_BYTES_MOST, limits.FIELD_COUNT_MOST)
SMALL = (8192, 2048, 40)
NEAR = (-1, 0, 1, 300)
Pairs = list[tuple[str, str]]


class Servers:
    """Backends of both versions that answer with what they were asked, or with the fields that a test put here."""

    def __init__(self):
        self.fields: Pairs = []
        self.got: list[Pairs] = []
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        threading.Thread(target=self.accept, daemon=True).start()
        self.other = Http2Backend(self.answer_http2)
        self.ports = {"http": self.listener.getsockname()[1], "h2c": self.other.port}

    def accept(self):
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self.serve, args=(connection,), daemon=True).start()

    def serve(self, connection):
        got = b""
        with connection, contextlib.suppress(ConnectionResetError):
            while data := connection.recv(1 << 16):
                got += data
                while b"\r\n\r\n" in got:
                    asked, _, got = got.partition(b"\r\n\r\n")
                    lines = asked.decode("latin-1").split("\r\n")
                    self.got.append([(name.lower(), value) for name, _, value in (line.partition(": ") for line in lines[1:])])
                    connection.sendall(b"HTTP/1.1 200 OK\r\n" + lines_of(self.fields) + b"content-length: 0\r\n\r\n")

    async def answer_http2(self, request):
        encoder = request.connection.h2.encoder        # which takes seconds for what it codes by Huffman
        encoder.encode = functools.partial(hpack.Encoder.encode, encoder, huffman=False)
        self.got.append([(name.decode("latin-1"), value.decode("latin-1")) for name, value in request.pairs])
        await request.answer(b"", 200, *[(name.encode("latin-1"), value.encode("latin-1")) for name, value in self.fields])

    def close(self):
        self.listener.close()
        self.other.close()


def lines_of(fields: Pairs) -> bytes:
    return b"".join(f"{name}: {value}\r\n".encode("latin-1") for name, value in fields)


@pytest.fixture(scope="module")
def servers():
    made = Servers()
    yield made
    made.close()


@pytest.fixture(params=[DEFAULTS, LARGEST, SMALL], ids=["default", "largest", "small"])
def most(request):
    return request.param


@pytest.fixture(params=["http", "h2c"])
def engine(request, servers, most, start):
    servers.fields, servers.got[:] = [], []
    names = ("max_header_bytes", "max_field_bytes", "max_fields")
    return start([("127.0.0.1", servers.ports[request.param])], functools.partial(one_rule, protocol=request.param),
                 **dict(zip(names, most, strict=True)))


def ask_http1(engine, path: str, fields: Pairs) -> tuple[int, Pairs]:
    """Status and fields of the response, over HTTP/1.1."""
    connection = engine.connect()
    crumbs = [value for name, value in fields if name == "cookie"]
    fields = [pair for pair in fields if pair[0] != "cookie"] + ([("cookie", "; ".join(crumbs))] if crumbs else [])
    connection.sendall(f"GET {path} HTTP/1.1\r\nhost: a\r\n".encode() + lines_of(fields) + b"\r\n")
    got = b""
    while b"\r\n\r\n" not in got:
        data = connection.recv(1 << 18)
        assert data, got
        got += data
    lines = got.partition(b"\r\n\r\n")[0].decode("latin-1").split("\r\n")
    return int(lines[0].split()[1]), [tuple(line.lower().split(": ", 1)) for line in lines[1:]]


def ask_http2(engine, path: str, fields: Pairs) -> tuple[int | str, Pairs]:
    client = Frames(engine.connect())
    got = client.reply(client.ask(path=path, fields=fields))
    status = got[0][1]
    return int(status) if status.isdigit() else status, got[1:]


def request_line(most, delta) -> tuple[str, Pairs]:
    return "/" + "p" * (most[1] - len("GET / HTTP/1.1\r\n") + delta), []


def a_field(most, delta) -> tuple[str, Pairs]:
    return "/", [("x-a", "v" * (most[1] - len("x-a: \r\n") + delta))]


def a_cookie(most, delta) -> tuple[str, Pairs]:
    """Crumbs as browsers send them, as large together as a field may be."""
    left, crumbs = most[1] - len("cookie: \r\n") + delta, []
    while left > 60:
        crumbs.append(("cookie", f"{len(crumbs)}=" + "v" * 20))
        left -= len(crumbs[-1][1]) + 2
    return "/", [*crumbs, ("cookie", "c" * left)]


def many_crumbs(most, delta) -> tuple[str, Pairs]:
    """As many fields as there may be, with other fields between the crumbs of one; deltas that large are fields."""
    count = most[2] - 2 + (delta if abs(delta) < 2 else delta // 30)
    return "/", [pair for i in range(count) for pair in ((f"x{i}", ""), ("cookie", f"{i % 7}"))]


def fields_in_all(most, delta) -> tuple[str, Pairs]:
    return "/", [(f"x{i}", "") for i in range(most[2] - 1 + (delta if abs(delta) < 2 else delta // 30))]


def bytes_in_all(most, delta) -> tuple[str, Pairs]:
    """Of a head of fields that are small, the request line and Host included."""
    return "/p", filled(most[0] - len("GET /p HTTP/1.1\r\nhost: a\r\n\r\n") + delta, most)


def filled(left: int, most) -> Pairs:
    """Fields whose lines have so many bytes."""
    each, fields = max(most[0] // (most[2] // 2), 100), []
    while left > 2 * each:
        fields.append((f"x{len(fields)}", "v" * (each - len(f"x{len(fields)}: \r\n"))))
        left -= each
    return [*fields, ("last", "v" * (left - len("last: \r\n")))]


REQUESTS = {request_line: 414, a_field: 431, a_cookie: 431, many_crumbs: 431, fields_in_all: 431, bytes_in_all: 431}


@pytest.mark.parametrize("ask", [ask_http1, ask_http2], ids=["HTTP/1.1", "HTTP/2"])
@pytest.mark.parametrize("kind", REQUESTS, ids=lambda kind: kind.__name__)
def test_requests(engine, servers, most, kind, ask):
    for delta in NEAR:
        path, fields = kind(most, delta)
        status, _ = ask(engine, path, fields)
        assert status == (200 if delta <= 0 else REQUESTS[kind]), delta
        if delta > 0:
            continue
        got = servers.got[-1]
        sent = [pair for pair in fields if pair[0] != "cookie"]
        assert [pair for pair in got if pair[0] in dict(sent)] == sent
        crumbs = [value for name, value in fields if name == "cookie"]
        assert "; ".join(value for name, value in got if name == "cookie") == "; ".join(crumbs)


def response_of_a_field(most, delta) -> Pairs:
    return a_field(most, delta)[1]


def response_of_fields(most, delta) -> Pairs:
    return [("set-cookie", f"c{i}=v") for i in range(most[2] - 1 + (delta if abs(delta) < 2 else delta // 30))]


def response_of_bytes(most, delta) -> Pairs:
    return filled(most[0] - len("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n") + delta, most)


@pytest.mark.parametrize("ask", [ask_http1, ask_http2], ids=["HTTP/1.1", "HTTP/2"])
@pytest.mark.parametrize("kind", [response_of_a_field, response_of_fields, response_of_bytes], ids=lambda kind: kind.__name__)
def test_responses(engine, servers, most, kind, ask):
    for delta in NEAR:
        servers.fields = kind(most, delta)
        status, fields = ask(engine, "/", [])
        assert status == (200 if delta <= 0 else 502), delta
        if delta <= 0:
            assert [pair for pair in fields if pair[0] in {name for name, _ in servers.fields}] == servers.fields


@pytest.mark.parametrize("most", [DEFAULTS, LARGEST, SMALL], indirect=True, ids=["default", "largest", "small"])
@pytest.mark.parametrize("engine", ["http"], indirect=True)
def test_the_setting_is_true(engine, most):
    """What SETTINGS_MAX_HEADER_LIST_SIZE allows, as RFC 9113 6.5.2 counts, is never too large."""
    client = Http2(engine.connect())
    client.until(h2.events.RemoteSettingsChanged)
    said = client.protocol.remote_settings.max_header_list_size
    assert said == most[0]
    pseudo = sum(len(name) + len(value) + 32 for name, value in ((":method", "GET"), (":scheme", "http"), (":authority", "a"),
                                                                 (":path", "/")))
    for count in (most[0] // most[1] + 1, most[2] // 2, most[2] - 1):
        each = min((said - pseudo) // count - 32, most[1] - 4)
        fields = [(f"x{i:04}", "v" * (each - 5)) for i in range(count)]
        assert pseudo + sum(len(name) + len(value) + 32 for name, value in fields) <= said
        assert ask_http2(engine, "/", fields)[0] == 200
    assert int(client.head(client.ask("/", fields=[(f"x{i}", "v" * 500) for i in range(said // 500 + 1)]))[b":status"]) == 431


def test_a_browser_with_many_cookies(engine, most):
    """Each is a field of its own over HTTP/2, and an entry of the table when it is sent again."""
    if most == SMALL:
        pytest.skip("fewer fields than a browser has")
    client = Http2(engine.connect())
    fields = [("user-agent", "Mozilla/5.0"), *[("cookie", f"c{i}=v{i}") for i in range(180)], ("accept", "*/*"),
              *[("cookie", f"d{i}=") for i in range(180)]]
    for _ in range(3):
        stream = client.ask("/", fields=fields)
        assert client.head(stream)[b":status"] == b"200"
        assert client.over(stream) == "ended"


@pytest.mark.parametrize("engine", ["http"], indirect=True)
@pytest.mark.parametrize("most", [DEFAULTS], indirect=True, ids=["default"])
@pytest.mark.parametrize(("crumbs", "cookie"), [
    (["a=1", "", "b=2"], "a=1; b=2"), (["", "a=1"], "a=1"), (["a=1", ""], "a=1"), (["", ""], ""), (["a=1; b=2", "c"], "a=1; b=2; c"),
])
@pytest.mark.parametrize("between", [[], [("x", "y")]], ids=["together", "apart"])
def test_crumbs_become_one_field(engine, servers, crumbs, cookie, between):
    fields = [pair for crumb in crumbs for pair in (("cookie", crumb), *between)]
    assert ask_http2(engine, "/", fields)[0] == 200
    assert [value for name, value in servers.got[-1] if name == "cookie"] == [cookie]


@pytest.mark.parametrize("engine", ["http"], indirect=True)
@pytest.mark.parametrize("most", [DEFAULTS], indirect=True, ids=["default"])
@pytest.mark.parametrize("crumb", [" a", "a ", "a\r\nx: y", "a\0"], ids=repr)
def test_a_crumb_that_is_malformed(engine, crumb):
    client = Frames(engine.connect())
    assert client.reply(client.ask(fields=[("cookie", "a=1"), ("cookie", crumb)])) == [(":status", "reset 1")]


@pytest.mark.parametrize("engine", ["http"], indirect=True)
@pytest.mark.parametrize("most", [DEFAULTS, LARGEST], indirect=True, ids=["default", "largest"])
@pytest.mark.parametrize("longer", [1.01, 1.5, 2.5])
@pytest.mark.parametrize("ask", [ask_http1, ask_http2], ids=["HTTP/1.1", "HTTP/2"])
def test_a_target_that_is_far_too_long_is_414(engine, most, longer, ask):
    assert ask(engine, "/" + "p" * int(most[1] * longer), [("x", "y")])[0] == 414


def overlong(most, times) -> Pairs:
    """So many times what a head may have, some of it for the table."""
    return [("x-kept", "one"), *filled(int(most[0] * times), most), ("x-late", "two")]


@pytest.mark.parametrize("engine", ["http"], indirect=True)
@pytest.mark.parametrize("times", [1.5, 2.5, 3.7])
def test_a_request_that_is_much_too_large_ends_nothing_else(engine, servers, most, times):
    """431 on its own stream; the table knows what it said."""
    client, coder = Frames(engine.connect()), hpack.Encoder()
    short = [("x-kept", "one"), ("x-late", "two")]
    for fields, status in [(short, "200"), (overlong(most, times), "431"), (short, "200")] * 2:
        assert client.reply(client.ask(path="/", fields=fields, coder=coder))[0] == (":status", status)
        if fields is short:
            assert set(short) <= set(servers.got[-1])


@pytest.mark.parametrize("engine", ["http"], indirect=True)
@pytest.mark.parametrize("most", [DEFAULTS, LARGEST], indirect=True, ids=["default", "largest"])
def test_a_request_without_an_end_ends_the_connection(engine, most):
    client = Frames(engine.connect())
    with pytest.raises(Ended) as ended:
        client.reply(client.ask(path="/", fields=overlong(most, 5)))
    assert ended.value.args == (11,)   # ENHANCE_YOUR_CALM


@pytest.mark.parametrize("engine", ["h2c"], indirect=True)
@pytest.mark.parametrize("times", [1.5, 2.5, 3.7])
def test_a_response_that_is_much_too_large_ends_nothing_else(engine, servers, most, times):
    for _ in range(2):
        servers.fields = overlong(most, times)
        assert ask_http1(engine, "/", [])[0] == 502
        servers.fields = [("x-kept", "one"), ("x-late", "two")]
        status, fields = ask_http1(engine, "/", [])
        assert status == 200 and set(servers.fields) <= set(fields)
    assert engine.count("upstream_connects") == 1


@pytest.mark.parametrize("engine", ["http"], indirect=True)
@pytest.mark.parametrize("most", [LARGEST], indirect=True, ids=["largest"])
def test_a_large_head_byte_by_byte(engine, servers):
    """It takes no longer than its bytes: what there is of it is not copied for each of them."""
    _, fields = a_field(LARGEST, 0)
    connection = engine.connect()
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    data = b"GET / HTTP/1.1\r\nhost: a\r\n" + lines_of(fields * 3) + b"\r\n"
    for at in range(0, len(data), 100):
        connection.sendall(data[at:at + 100])
    assert head(connection).startswith(b"HTTP/1.1 200")
