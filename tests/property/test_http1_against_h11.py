"""h11 as the oracle of the parser: what gwfast accepts, h11 reads in the same way.

Where gwfast is stricter is listed in STRICTER, one rule by one, each with its own check in plain Python: a request that
h11 accepts and gwfast refuses must break one of them, and a request that breaks none must be accepted by both.
h11 is stricter in one: it takes no empty line before a request (RFC 9112 2.2 asks for it), so it is not shown that one.
"""
import ipaddress
import re

import h11
from hypothesis import given
from hypothesis import strategies as st

from gwfast.http1.chunked import chunks_of
from gwfast.http1.parser import request_of, response_of
from gwfast.http.target import normalised
from gwfast.plan.paths import normal_path

NAMES = st.sampled_from([
    b"Host", b"Content-Length", b"Transfer-Encoding", b"Connection", b"Expect", b"Upgrade", b"TE", b"X-A", b"x_b",
    b"Cookie"])
VALUES = {
    b"host": [b"a", b"A.example:80", b"a.b.", b"[::1]:8", b"[::g]", b"a,b", b"u@a", b"", b"a b", b"a:b", b"a..b",
              b"%61"],
    b"content-length": [b"0", b"5", b"5 ", b"05", b"+5", b"5,5", b"", b"99999999999999999999", b"9" * 19, b"0x1"],
    b"transfer-encoding": [b"chunked", b"Chunked", b"gzip", b"chunked, chunked", b"", b"identity"],
    b"connection": [b"close", b"keep-alive", b"upgrade, x-a", b"host", b"cookie", b"a b", b",", b"Keep-Alive,close"],
    b"expect": [b"100-continue", b"100-Continue", b"x", b""],
}
OTHERS = st.sampled_from([b"", b"a", b"a \t b", b"websocket", b"\xff\x80", b"trailers", b"a\x00b", b"a\x7f", b" a "])
METHODS = st.sampled_from([b"GET", b"POST", b"HEAD", b"OPTIONS", b"CONNECT", b"TRACE", b"get", b"M-X", b"G:T",
                           b"A" * 65])
SEGMENTS = st.lists(st.sampled_from([
    b"a", b"b.c", b".", b"..", b"", b"%2e", b"%2E%2e", b"%2f", b"%41", b"%5c", b"%00", b"%", b"%4", b"~!$", b"|\"",
    b"\\", b"#", b"\xe4", b"%c3%a4", b"x" * 20]), max_size=6)
PATHS = SEGMENTS.map(lambda segments: b"/" + b"/".join(segments))
QUERIES = st.sampled_from([b"", b"?", b"?a=b", b"?../%zz\\", b"?a#b", b"?a?b", b"?\x80"])
TARGETS = st.one_of(
    st.builds(bytes.__add__, PATHS, QUERIES),
    st.builds(lambda head, path, query: head + path + query,
              st.sampled_from([b"http://a", b"https://a:443", b"HTTP://A.example", b"ftp://a", b"http://",
                               b"http://u@a"]),
              st.one_of(PATHS, st.just(b"")), QUERIES),
    st.sampled_from([b"*", b"a", b"a:80", b"http:/a", b"*/"]))
VERSIONS = st.sampled_from([b"HTTP/1.1"] * 8 + [b"HTTP/1.0"] * 2 + [b"HTTP/1.2", b"HTTP/2.0", b"http/1.1",
                                                                               b"HTTP/1.1 "])
ENDS = st.sampled_from([b"\r\n"] * 20 + [b"\n", b"\r\n ", b"\r"])


@st.composite
def fields(draw, host: bool = True):
    names = draw(st.lists(NAMES, max_size=5)) + ([b"Host"] if host and draw(st.integers(0, 9)) else [])
    lines = []
    for name in draw(st.permutations(names)):
        values = st.sampled_from(VALUES[name.lower()]) if name.lower() in VALUES else OTHERS
        # mostly the first value, so that most heads have but one peculiarity
        value = VALUES[name.lower()][0] if name.lower() in VALUES and draw(st.integers(0, 2)) else draw(values)
        colon = draw(st.sampled_from([b":", b":\t", b" :"])) if not draw(st.integers(0, 9)) else b": "
        lines.append(name + colon + value + draw(ENDS))
    return b"".join(lines)


@st.composite
def requests(draw):
    plain = draw(st.integers(0, 2)) == 0
    line = b"GET / HTTP/1.1" if plain else b" ".join([draw(METHODS), draw(TARGETS), draw(VERSIONS)])
    before = draw(st.sampled_from([b""] * 18 + [b"\r\n", b"\r\n\r\n"]))
    return before + line + draw(ENDS) + draw(fields()) + b"\r\n"


def read_by_h11(role, data: bytes, *sent):
    """Return h11's first event, or None where it refuses or waits."""
    connection = h11.Connection(role)
    for event in sent:
        connection.send(event)
    connection.receive_data(data)
    try:
        event = connection.next_event()
    except h11.RemoteProtocolError:
        return None
    return event if isinstance(event, h11.Request | h11.Response | h11.InformationalResponse) else None


# ---- where gwfast is stricter ----------------------------------------------------------------------------------------

def path_of(target: bytes) -> bytes:
    target = re.sub(rb"^(?i:https?)://[^/?]*", b"", target)
    return target.split(b"?")[0]


def resolved(path: bytes, slashes: bool = False) -> bytes | None:
    """Normalise a path in plain Python (RFC 3986 6.2.2), or None for one that is refused."""
    if re.search(rb"%(?![0-9A-Fa-f]{2})|%00|%5[Cc]|\\|#|[^\x21-\x7e]", path) or not path.startswith(b"/"):
        return None

    def octet(match):
        char = bytes([int(match[1], 16)])
        if slashes and char == b"/":
            return char
        return char if re.fullmatch(rb"[A-Za-z0-9\-._~]", char) else match[0].upper()

    segments = re.sub(rb"%(..)", octet, path).split(b"/")[1:]
    kept = []
    for segment in segments:
        if segment == b"..":
            if not kept:
                return None
            kept.pop()
        elif segment not in (b"", b"."):
            kept.append(segment)
    ends_open = segments[-1] in (b"", b".", b"..") and kept
    return b"/" + b"/".join(kept) + (b"/" if ends_open else b"")


def is_host(value: bytes) -> bool:
    match = re.fullmatch(rb"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9\-._~!$&'()*+;=]+)(?::(\d{0,5}))?", value)
    if not match or int(match[2] or 1) not in range(1, 65536):
        return False
    if match[1].startswith(b"["):
        try:
            return bool(ipaddress.IPv6Address(match[1][1:-1].decode()))
        except ValueError:
            return False
    return not match[1].startswith(b".") and b".." not in match[1]


def same_authority(target: bytes, host: bytes) -> bool:
    scheme, _, rest = target.partition(b"://")
    usual = b"443" if scheme.lower() == b"https" else b"80"

    def parts(authority):
        name, _, port = authority.partition(b":") if not authority.startswith(b"[") else authority.rpartition(b":")
        return name.lower().rstrip(b"."), port or usual

    return parts(re.split(rb"[/?]", rest)[0]) == parts(host)


GUARDED = re.compile(
    rb"host|content-length|transfer-encoding|authorization|cookie|forwarded|x-forwarded-.*|x-real-ip", re.I)
TOKEN = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]*")


class Read:
    """A request as h11 read it, and its bytes."""

    def __init__(self, data: bytes, request: h11.Request) -> None:
        self.data, self.method, self.target = data, request.method, request.target
        self.version = request.http_version
        self.lines = data.lstrip(b"\r\n").splitlines(keepends=True)

    def all(self, name: bytes) -> list[bytes]:
        return [line.split(b":", 1)[1].strip(b" \t\r\n") for line in self.lines[1:]
                if line.split(b":", 1)[0].strip().lower() == name]

    @property
    def absolute(self) -> bool:
        return re.match(rb"(?i)https?://", self.target) is not None

    @property
    def options(self) -> list[bytes]:
        return [option.strip(b" \t") for value in self.all(b"connection") for option in value.split(b",")]


STRICTER = {
    "lines end with CRLF": lambda r: re.search(rb"(?<!\r)\n", r.data),
    "no obs-fold": lambda r: re.search(rb"\n[ \t]", r.data),
    "no DEL in values": lambda r: b"\x7f" in r.data,
    "CONNECT, TRACE": lambda r: r.method in (b"CONNECT", b"TRACE"),
    "long methods": lambda r: len(r.method) > 64,
    "version 1.0 or 1.1": lambda r: r.version not in (b"1.0", b"1.1"),
    "no fragment": lambda r: b"#" in r.target,
    "form of the target": lambda r: not (r.target.startswith(b"/") or r.absolute
                                         or (r.target == b"*" and r.method == b"OPTIONS")),
    "what a path means": lambda r: path_of(r.target) not in (b"", b"*") and (
        resolved(path_of(r.target)) is None or resolved(path_of(r.target), slashes=True) is None),
    "authority of the target": lambda r: r.absolute and not is_host(re.split(rb"[/?]", r.target)[2]),
    "host": lambda r: any(not is_host(value) for value in r.all(b"host")),
    "host and target": lambda r: r.absolute and any(not same_authority(r.target, host) for host in r.all(b"host")),
    "length once": lambda r: len(r.all(b"content-length")) > 1 or any(b"," in v for v in r.all(b"content-length")),
    "length below 2^63": lambda r: any(len(value) > 19 for value in r.all(b"content-length")) or any(
        int(value) >= 2**63 for value in r.all(b"content-length") if value.isdigit()),
    "length or coding": lambda r: r.all(b"content-length") and r.all(b"transfer-encoding"),
    "no coding in 1.0": lambda r: r.version == b"1.0" and r.all(b"transfer-encoding"),
    "connection is tokens": lambda r: any(not TOKEN.fullmatch(option) for option in r.options),
    "connection names no guarded field": lambda r: any(GUARDED.fullmatch(option) for option in r.options),
    "expectations": lambda r: r.version == b"1.1" and any(v.lower() != b"100-continue" for v in r.all(b"expect")),
}


def read_fields(head: dict) -> list:
    """The fields as h11 shows them: names in lower case, and the value of Transfer-Encoding too."""
    pairs = [(name.lower(), value) for name, value, *_ in head["fields"]]
    return [(name, value.lower() if name == b"transfer-encoding" else value) for name, value in pairs]


@given(requests())
def test_requests(data):
    mine = request_of(data)
    data = data.removeprefix(b"\r\n")
    oracle = read_by_h11(h11.SERVER, data)
    broken = [name for name, rule in STRICTER.items() if oracle and rule(Read(data, oracle))]
    if isinstance(mine, int):
        assert oracle is None or broken, mine
        return
    assert oracle is not None
    assert broken == []
    assert (mine["method"], mine["target"]) == (oracle.method, oracle.target)
    assert b"1.%d" % mine["minor"] == oracle.http_version
    assert read_fields(mine) == list(oracle.headers)
    if mine["content_length"] < 100:
        assert body_by_h11(data, mine) == {0: b"", 1: b"x" * mine["content_length"], 2: b"hello"}[mine["framing"]]


def body_by_h11(data: bytes, mine: dict) -> bytes:
    """Read the body that we expect behind a head; h11 must find its end there, and keep the connection as we do."""
    server = h11.Connection(h11.SERVER)
    server.receive_data(data + (b"5\r\nhello\r\n0\r\n\r\n" if mine["framing"] == 2 else b"x" * mine["content_length"]))
    server.next_event()
    body = b""
    while isinstance(event := server.next_event(), h11.Data):
        body += event.data
    assert isinstance(event, h11.EndOfMessage)
    if mine["minor"] == 1 and server.their_state is not h11.MIGHT_SWITCH_PROTOCOL:   # h11 keeps no HTTP/1.0 connection
        assert mine["keep_alive"] == (server.their_state is not h11.MUST_CLOSE)
    return body


@given(PATHS)
def test_paths(path):
    assert normalised(path) == resolved(path)
    head = request_of(b"GET " + path + b" HTTP/1.1\r\nHost: a\r\n\r\n")
    slashed = resolved(path, slashes=True)
    if resolved(path) is not None:   # requests are matched in the form that routes are written in
        assert normal_path(path.decode()) == resolved(path).decode()
    if resolved(path) is None or slashed is None:
        assert isinstance(head, int)
    else:
        assert head["match_path"] == resolved(path)
        assert head["slash_path"] == (slashed if re.search(rb"%2[Ff]", path) else None)
        assert normalised(head["match_path"]) == head["match_path"]


CHUNK_PARTS = st.lists(st.sampled_from([
    b"5\r\nhello\r\n", b"A\r\n0123456789\r\n", b"0\r\n", b"000\r\n", b"1;a=b\r\nx\r\n", b"1;a=\"\\\"\"\r\nx\r\n",
    b"1 \r\nx\r\n", b"0x1\r\nx\r\n", b"1\nx\n", b"1\r\nxx\r\n", b"1;\r\nx\r\n", b"+1\r\nx\r\n", b"1;\x01\r\nx\r\n",
    b"\r\n"]), max_size=6)


@given(CHUNK_PARTS, st.lists(st.integers(0, 60), max_size=4))
def test_chunks(parts, cuts):
    data = b"".join(parts)
    body, used, result = chunks_of(data)
    assert chunks_of(data, sorted(cut for cut in cuts if cut < len(data))) == (body, used, result)
    if result == 2:
        server = h11.Connection(h11.SERVER)
        head = b"GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
        server.receive_data(head + data[:used] + b"\r\nTAIL")
        server.next_event()
        read = b""
        while isinstance(event := server.next_event(), h11.Data):
            read += event.data
        assert isinstance(event, h11.EndOfMessage)
        assert (read, server.trailing_data[0]) == (body, b"TAIL")


STATUSES = st.sampled_from([b"200 OK", b"200 ", b"200", b"204 No Content", b"304 x", b"100 Continue", b"599 x",
                            b"600 x", b"99 x", b"404 \xff", b"200 \x00", b"500\tx"])


@given(st.sampled_from([b"HTTP/1.1", b"HTTP/1.0", b"HTTP/1.2", b"HTTP/2"]), STATUSES, ENDS, fields(host=False),
       st.sampled_from([b"GET", b"HEAD"]))
def test_responses(version, status, end, lines, method):
    data = version + b" " + status + end + lines + b"\r\n"
    mine = response_of(data, method={b"GET": 1, b"HEAD": 2}[method])
    if isinstance(mine, int):
        return
    asked = h11.Request(method=method, target="/", headers=[("host", "a")])
    client = h11.Connection(h11.CLIENT)
    client.send(asked)
    client.send(h11.EndOfMessage())
    client.receive_data(data)
    oracle = client.next_event()
    assert (mine["status"], mine["reason"]) == (oracle.status_code, oracle.reason)
    assert read_fields(mine) == list(oracle.headers)
    if mine["status"] < 200:
        return
    bodies = {0: b"", 1: b"x" * min(mine["content_length"], 9), 2: b"1\r\nx\r\n0\r\n\r\n", 3: b"xyz"}
    client.receive_data(bodies[mine["framing"]])
    if mine["framing"] == 3:
        client.receive_data(b"")
    read = b""
    while isinstance(event := client.next_event(), h11.Data):
        read += event.data
    if not (mine["framing"] == 1 and mine["content_length"] > 9):
        assert isinstance(event, h11.EndOfMessage)
        assert len(read) == {0: 0, 1: mine["content_length"], 2: 1, 3: 3}[mine["framing"]]
