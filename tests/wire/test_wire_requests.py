"""Request heads: what is served, what is refused, and with which answer."""
import pytest
from replay import check_request

from gwfast import limits
from gwfast.http1.parser import request_at, request_of

BAD, LONG, LARGE, VERSION, METHOD, EXPECTATION = -1, -2, -3, -4, -5, -6
NONE, LENGTH, CHUNKED = 0, 1, 2
HOP, UNDERSCORE = 1, 2


def get(target: str = "/", *fields: str, method="GET", version="HTTP/1.1", host: str | None = "a") -> bytes:
    lines = [f"{method} {target} {version}", *([f"Host: {host}"] if host is not None else []), *fields, "", ""]
    return "\r\n".join(lines).encode("latin-1")


SERVED = {
    "plain": (get(), {"method": b"GET", "method_id": 1, "target": b"/", "path": b"/", "query": None, "minor": 1,
                      "match_path": b"/", "slash_path": None, "host": b"a", "authority": b"a", "framing": NONE,
                      "keep_alive": 1, "upgrade": 0, "expect": 0, "absolute": 0, "trailers": 0}),
    "empty line before": (b"\r\n" + get(), {"method": b"GET"}),
    "http/1.0 without host": (get(version="HTTP/1.0", host=None), {"host": b"", "minor": 0, "keep_alive": 0}),
    "http/1.0 keep-alive": (get("/", "Connection: Keep-Alive", version="HTTP/1.0"), {"keep_alive": 1}),
    "http/1.0 close wins": (get("/", "Connection: keep-alive, close", version="HTTP/1.0"), {"keep_alive": 0}),
    "close": (get("/", "Connection: close"), {"keep_alive": 0, "flags": {b"connection": HOP}}),
    "close in capitals": (get("/", "CONNECTION: x,CLOSE"), {"keep_alive": 0}),
    "proxy-connection does not count": (get("/", "Proxy-Connection: close"), {"keep_alive": 1}),
    "own method": (get(method="-BLARGH"), {"method": b"-BLARGH", "method_id": 0}),
    "method has case": (get(method="get"), {"method_id": 0}),
    "post": (get("/", "Content-Length: 5", method="POST"), {"framing": LENGTH, "content_length": 5, "method_id": 3}),
    "length 0": (get("/", "content-length:0", method="PUT"), {"framing": LENGTH, "content_length": 0}),
    "length with zeros before": (get("/", "Content-Length: 005"), {"content_length": 5}),
    "length, the longest": (get("/", "Content-Length: 9223372036854775807"), {"content_length": 2**63 - 1}),
    "length, white space": (get("/", "Content-Length: \t 42 \t"), {"content_length": 42}),
    "chunked": (get("/", "Transfer-Encoding: chunked", method="POST"),
                {"framing": CHUNKED, "flags": {b"transfer-encoding": HOP}}),
    "chunked in capitals": (get("/", "Transfer-Encoding: CHUNKED"), {"framing": CHUNKED}),
    "query": (get("/a?b=c&d"), {"path": b"/a", "query": b"b=c&d", "target": b"/a?b=c&d"}),
    "empty query": (get("/a?"), {"path": b"/a", "query": b""}),
    "query keeps everything": (get("/?a/../b?c%zz//%00\\|\"<>"),
                               {"query": b"a/../b?c%zz//%00\\|\"<>", "match_path": b"/"}),
    "path as browsers send it": (get("/[a]|{b}^`\"<>"), {"match_path": b"/[a]|{b}^`\"<>"}),
    "path with dots": (get("/a/./b/../c"), {"path": b"/a/./b/../c", "match_path": b"/a/c"}),
    "path with dots at the end": (get("/a/b/.."), {"match_path": b"/a/"}),
    "path with a dot at the end": (get("/a/."), {"match_path": b"/a/"}),
    "path with slashes": (get("///a//b//"), {"path": b"///a//b//", "match_path": b"/a/b/"}),
    "path with names of dots": (get("/.a/..b/..."), {"match_path": b"/.a/..b/..."}),
    "unreserved escapes": (get("/%61%2D%2e%5f%7E%41%39"), {"match_path": b"/a-._~A9"}),
    "escapes in upper case": (get("/%c3%a4%20"), {"path": b"/%c3%a4%20", "match_path": b"/%C3%A4%20"}),
    "escaped dots": (get("/a/%2e%2E/b"), {"match_path": b"/b"}),
    "escaped control": (get("/a%0d%0A%09"), {"match_path": b"/a%0D%0A%09"}),
    "escape of an escape": (get("/%252f"), {"match_path": b"/%252f", "slash_path": None}),
    "escaped slash": (get("/a%2Fb"), {"match_path": b"/a%2Fb", "slash_path": b"/a/b"}),
    "escaped slash and dots": (get("/a/b%2f../c"), {"match_path": b"/a/b%2F../c", "slash_path": b"/a/c"}),
    "escaped slashes at the end": (get("/a%2f%2F"), {"match_path": b"/a%2F%2F", "slash_path": b"/a/"}),
    "asterisk": (get("*", method="OPTIONS"), {"path": b"*", "match_path": b"*"}),
    "absolute": (get("http://a/b?c"), {"absolute": 1, "path": b"/b", "query": b"c", "host": b"a", "authority": b"a",
                                       "target": b"http://a/b?c"}),
    "absolute without path": (get("http://a"), {"path": b"/", "match_path": b"/", "host": b"a"}),
    "absolute with query alone": (get("http://a?b"), {"path": b"/", "query": b"b"}),
    "absolute options": (get("http://a", method="OPTIONS"), {"path": b"*"}),
    "absolute, usual port": (get("HTTP://A.:80/", host="a"), {"host": b"a", "authority": b"A.:80"}),
    "absolute, https": (get("https://a/", host="a:443"), {"host": b"a"}),
    "absolute in http/1.0": (get("http://b:81/", version="HTTP/1.0", host=None), {"host": b"b", "authority": b"b:81"}),
    "host in capitals": (get(host="WWW.Example.COM"), {"host": b"www.example.com", "authority": b"WWW.Example.COM"}),
    "host with dot": (get(host="a.b."), {"host": b"a.b"}),
    "host with port": (get(host="a.b.:8080"), {"host": b"a.b", "authority": b"a.b.:8080"}),
    "host with empty port": (get(host="a:"), {"host": b"a"}),
    "host ipv4": (get(host="127.0.0.1:1"), {"host": b"127.0.0.1"}),
    "host ipv6": (get(host="[2001:DB8::1]:65535"), {"host": b"[2001:db8::1]"}),
    "host ipv6 in full": (get(host="[1:2:3:4:5:6:7:8]"), {"host": b"[1:2:3:4:5:6:7:8]"}),
    "host ipv6 with ipv4": (get(host="[::ffff:1.2.3.4]"), {"host": b"[::ffff:1.2.3.4]"}),
    "host with sub-delims": (get(host="0.0.0.0=5000"), {"host": b"0.0.0.0=5000"}),
    "host with underscore": (get(host="a_b"), {"host": b"a_b"}),
    "host with white space": (get(host=" \ta\t "), {"host": b"a", "authority": b"a"}),
    "empty value": (get("/", "X:"), {"names": [b"Host", b"X"]}),
    "obs-text": (get("/", "X: caf\xe9\xff"), {"names": [b"Host", b"X"]}),
    "tab in value": (get("/", "X: a\tb"), {"names": [b"Host", b"X"]}),
    "every token character": (get("/", "!#$%&'*+-.^`|~09azAZ: x"), {"names": [b"Host", b"!#$%&'*+-.^`|~09azAZ"]}),
    "underscore": (get("/", "Content_Length: 9", "a_: 1"), {"flags": {b"content_length": UNDERSCORE, b"a_": UNDERSCORE},
                                                           "framing": NONE}),
    "hop-by-hop": (get("/", "Keep-Alive: 1", "Proxy-Connection: x", "TE: trailers", "Trailer: x", "Upgrade: x",
                       "HTTP2-Settings: x", "Proxy-Authenticate: x", "Proxy-Authorization: x", "Via: x"),
                   {"flags": dict.fromkeys([b"keep-alive", b"proxy-connection", b"te", b"trailer", b"upgrade",
                                            b"http2-settings", b"proxy-authenticate", b"proxy-authorization"], HOP),
                    "trailers": 1, "upgrade": 0}),
    "te without trailers": (get("/", "TE: gzip, trailersx"), {"trailers": 0}),
    "named by connection": (get("/", "x-a: 1", "Connection: X-A,, x-b ,keep-alive", "X-B: 2", "x-c: 3"),
                            {"flags": {b"x-a": HOP, b"x-b": HOP, b"connection": HOP}, "keep_alive": 1}),
    "named twice": (get("/", "Connection: a", "Connection: b", "a: 1", "b: 1"),
                    {"flags": {b"a": HOP, b"b": HOP, b"connection": HOP}}),
    "upgrade": (get("/", "Connection: Upgrade", "Upgrade: websocket"), {"upgrade": 1, "keep_alive": 1}),
    "upgrade, among others": (get("/", "Connection: keep-alive, upgrade", "upgrade: a/1, b", "Content-Length: 0"),
                              {"upgrade": 1}),
    "upgrade not asked for by connection": (get("/", "Upgrade: websocket"), {"upgrade": 0}),
    "upgrade without field": (get("/", "Connection: upgrade"), {"upgrade": 0}),
    "upgrade, empty": (get("/", "Connection: upgrade", "Upgrade: ,"), {"upgrade": 0}),
    "upgrade, twice": (get("/", "Connection: upgrade", "Upgrade: a", "Upgrade: b"), {"upgrade": 0}),
    "upgrade with a body": (get("/", "Connection: upgrade", "Upgrade: a", "Content-Length: 1"), {"upgrade": 0}),
    "upgrade with chunks": (get("/", "Connection: upgrade", "Upgrade: a", "Transfer-Encoding: chunked"),
                            {"upgrade": 0}),
    "upgrade to h2c": (get("/", "Connection: upgrade, http2-settings", "Upgrade: websocket, H2C", "HTTP2-Settings: x"),
                       {"upgrade": 0}),
    "upgrade in http/1.0": (get("/", "Connection: upgrade", "Upgrade: a", version="HTTP/1.0"), {"upgrade": 0}),
    "expect": (get("/", "Expect: 100-Continue", "Content-Length: 3"), {"expect": 1}),
    "expect without body": (get("/", "Expect: 100-continue"), {"expect": 0}),
    "expect in http/1.0": (get("/", "Expect: 100-continue", "Content-Length: 3", version="HTTP/1.0"), {"expect": 0}),
    "the most fields": (get("/", *(f"f{i}: {i}" for i in range(99))), {"host": b"a"}),
}

REFUSED = {
    # the request line
    "empty lines before": (b"\r\n\r\n" + get(), BAD),
    "bare LF before": (b"\n" + get(), BAD),
    "CR before": (b"\rGET / HTTP/1.1\r\n", BAD),
    "TLS": (b"\x16\x03\x01", BAD),
    "HTTP/2 preface": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", BAD),
    "space before": (b" GET / HTTP/1.1\r\n", BAD),
    "method with colon": (b"GET: / HTTP/1.1\r\n", BAD),
    "method with NUL": (b"G\x00T / HTTP/1.1\r\n", BAD),
    "method with 8 bits": (b"G\xc3\x9fT / HTTP/1.1\r\n", BAD),
    "method, endless": (b"A" * 100, BAD),
    "method alone": (b"GET\r\n", BAD),
    "tab behind method": (b"GET\t/ HTTP/1.1\r\n", BAD),
    "two spaces": (b"GET  / HTTP/1.1\r\n", BAD),
    "no target": (b"GET HTTP/1.1\r\n", BAD),
    "no version": (b"GET /\r\n", BAD),
    "space behind version": (b"GET / HTTP/1.1 \r\n", BAD),
    "space in target": (b"GET /a b HTTP/1.1\r\n", BAD),
    "bare LF": (b"GET / HTTP/1.1\nHost: a\r\n\r\n", BAD),
    "bare CR": (b"GET / HTTP/1.1\rHost: a\r\n\r\n", BAD),
    "version in small letters": (b"GET / http/1.1\r\n", BAD),
    "version with zeros": (b"GET / HTTP/01.1\r\n", BAD),
    "version with space": (b"GET / HTTP/ 1.1\r\n", BAD),
    "version, long": (b"GET / HTTP/1.11\r\n", BAD),
    "version, other protocol": (b"GET / ICE/1.0\r\n", BAD),
    "version 0.9": (b"GET / HTTP/0.9\r\n", VERSION),
    "version 1.2": (b"GET / HTTP/1.2\r\n", VERSION),
    "version 2.0": (b"GET / HTTP/2.0\r\n", VERSION),
    "version 9.9": (b"GET / HTTP/9.9\r\n", VERSION),
    "connect": (b"CONNECT a:443 HTTP/1.1\r\n", METHOD),
    "trace": (b"TRACE / HTTP/1.1\r\n", METHOD),
    # the target
    "fragment": (b"GET /a#b HTTP/1.1\r\n", BAD),
    "fragment behind query": (b"GET /a?b#c HTTP/1.1\r\n", BAD),
    "8 bits": (b"GET /\xc3\xa4 HTTP/1.1\r\n", BAD),
    "8 bits in query": (b"GET /?\xa0 HTTP/1.1\r\n", BAD),
    "NUL": (b"GET /\x00 HTTP/1.1\r\n", BAD),
    "DEL": (b"GET /\x7f HTTP/1.1\r\n", BAD),
    "backslash": (b"GET /a\\b HTTP/1.1\r\n", BAD),
    "escaped backslash": (b"GET /a%5cb HTTP/1.1\r\n", BAD),
    "escaped NUL": (b"GET /a%00 HTTP/1.1\r\n", BAD),
    "broken escape": (b"GET /a%zz HTTP/1.1\r\n", BAD),
    "short escape": (b"GET /a%2 HTTP/1.1\r\n", BAD),
    "above the root": (b"GET /.. HTTP/1.1\r\n", BAD),
    "above the root, later": (b"GET /a/../../b HTTP/1.1\r\n", BAD),
    "above the root, escaped": (b"GET /%2e%2e/b HTTP/1.1\r\n", BAD),
    "above the root, by slashes": (b"GET /a//../../b HTTP/1.1\r\n", BAD),
    "above the root, by escaped slashes": (b"GET /a/..%2F..%2fb HTTP/1.1\r\n", BAD),
    "asterisk for get": (b"GET * HTTP/1.1\r\n", BAD),
    "asterisk and more": (b"OPTIONS */a HTTP/1.1\r\n", BAD),
    "authority": (b"GET a:80 HTTP/1.1\r\n", BAD),
    "relative": (b"GET a/b HTTP/1.1\r\n", BAD),
    "other scheme": (b"GET ftp://a/ HTTP/1.1\r\n", BAD),
    "scheme, almost": (b"GET https:/a HTTP/1.1\r\n", BAD),
    "absolute without authority": (b"GET http:/// HTTP/1.1\r\n", BAD),
    "absolute with userinfo": (b"GET http://u:p@a/ HTTP/1.1\r\n", BAD),
    "absolute unlike host": (get("http://b/"), BAD),
    "absolute, other port": (get("http://a:81/"), BAD),
    "absolute, port of the other scheme": (get("https://a/", host="a:80"), BAD),
    "absolute without host": (get("http://a/", host=None), BAD),
    # host
    "no host": (get(host=None), BAD),
    "two hosts": (b"GET / HTTP/1.1\r\nHost: a\r\nhost: a\r\n", BAD),
    "empty host": (b"GET / HTTP/1.1\r\nHost:\r\n", BAD),
    "host list": (b"GET / HTTP/1.1\r\nHost: a, b\r\n", BAD),
    "host with userinfo": (b"GET / HTTP/1.1\r\nHost: u@a\r\n", BAD),
    "host with path": (b"GET / HTTP/1.1\r\nHost: a/b\r\n", BAD),
    "host with query": (b"GET / HTTP/1.1\r\nHost: a?b\r\n", BAD),
    "host with escape": (b"GET / HTTP/1.1\r\nHost: %61\r\n", BAD),
    "host with 8 bits": (b"GET / HTTP/1.1\r\nHost: \xe4\r\n", BAD),
    "host with space": (b"GET / HTTP/1.1\r\nHost: a b\r\n", BAD),
    "host, empty label": (b"GET / HTTP/1.1\r\nHost: a..b\r\n", BAD),
    "host, dot before": (b"GET / HTTP/1.1\r\nHost: .a\r\n", BAD),
    "host, dot alone": (b"GET / HTTP/1.1\r\nHost: .\r\n", BAD),
    "host, port alone": (b"GET / HTTP/1.1\r\nHost: :80\r\n", BAD),
    "host, port of letters": (b"GET / HTTP/1.1\r\nHost: a:b\r\n", BAD),
    "host, port 0": (b"GET / HTTP/1.1\r\nHost: a:0\r\n", BAD),
    "host, port too high": (b"GET / HTTP/1.1\r\nHost: a:65536\r\n", BAD),
    "host, port too long": (b"GET / HTTP/1.1\r\nHost: a:000080\r\n", BAD),
    "host, two ports": (b"GET / HTTP/1.1\r\nHost: a:80:80\r\n", BAD),
    "host too long": (b"GET / HTTP/1.1\r\nHost: " + b"a" * 256 + b"\r\n", BAD),
    "host, open bracket": (b"GET / HTTP/1.1\r\nHost: [::1\r\n", BAD),
    "host, no ipv6": (b"GET / HTTP/1.1\r\nHost: [a.b]\r\n", BAD),
    "host, short ipv6": (b"GET / HTTP/1.1\r\nHost: [1:2:3]\r\n", BAD),
    "host, long ipv6": (b"GET / HTTP/1.1\r\nHost: [1:2:3:4:5:6:7:8:9]\r\n", BAD),
    "host, two gaps": (b"GET / HTTP/1.1\r\nHost: [1::2::3]\r\n", BAD),
    "host, wide group": (b"GET / HTTP/1.1\r\nHost: [::12345]\r\n", BAD),
    "host, zone": (b"GET / HTTP/1.1\r\nHost: [fe80::1%25eth0]\r\n", BAD),
    "host, ipv6 and more": (b"GET / HTTP/1.1\r\nHost: [::1]a\r\n", BAD),
    "host, ipv6 with bad ipv4": (b"GET / HTTP/1.1\r\nHost: [::1.2.3.256]\r\n", BAD),
    # field lines
    "obs-fold": (b"GET / HTTP/1.1\r\nHost: a\r\nX: a\r\n b\r\n\r\n", BAD),
    "space before first field": (b"GET / HTTP/1.1\r\n Host: a\r\n", BAD),
    "space before colon": (b"GET / HTTP/1.1\r\nHost : a\r\n", BAD),
    "tab before colon": (b"GET / HTTP/1.1\r\nHost\t: a\r\n", BAD),
    "no colon": (b"GET / HTTP/1.1\r\nHost\r\n", BAD),
    "no name": (b"GET / HTTP/1.1\r\n: a\r\n", BAD),
    "name with 8 bits": (b"GET / HTTP/1.1\r\nX\xe4: a\r\n", BAD),
    "name with NUL": (b"GET / HTTP/1.1\r\nX\x00: a\r\n", BAD),
    "name with slash": (b"GET / HTTP/1.1\r\nX/: a\r\n", BAD),
    "bare LF behind value": (b"GET / HTTP/1.1\r\nX: a\n", BAD),
    "bare CR in value": (b"GET / HTTP/1.1\r\nX: a\rb\r\n", BAD),
    "two CR": (b"GET / HTTP/1.1\r\nX: a\r\r\n", BAD),
    "NUL in value": (b"GET / HTTP/1.1\r\nX: a\x00\r\n", BAD),
    "DEL in value": (b"GET / HTTP/1.1\r\nX: a\x7f\r\n", BAD),
    "bell in value": (b"GET / HTTP/1.1\r\nX: " + b"a" * 40 + b"\x07\r\n", BAD),
    "bare LF at the end": (b"GET / HTTP/1.1\r\nHost: a\r\n\n", BAD),
    "CR and no LF at the end": (b"GET / HTTP/1.1\r\nHost: a\r\n\rX", BAD),
    # framing
    "length and coding": (get("/", "Content-Length: 1", "Transfer-Encoding: chunked")[:-2], BAD),
    "coding and length": (get("/", "Transfer-Encoding: chunked", "Content-Length: 1")[:-2], BAD),
    "lengths": (get("/", "Content-Length: 1", "Content-Length: 2")[:-2], BAD),
    "equal lengths": (get("/", "Content-Length: 1", "Content-Length: 1")[:-2], BAD),
    **{f"length {value!r}": (get("/", f"Content-Length: {value}")[:-2], BAD) for value in (
        "", "+1", "-1", "-0", "0x1", "0o5", "1 0", "1,1", "1, 1", "1_0", "1.0", "1e1", "abc", "9223372036854775808",
        "18446744073709551616", "00000000000000000001", "\xb2")},
    **{f"coding {value!r}": (get("/", f"Transfer-Encoding: {value}")[:-2], BAD) for value in (
        "", "xchunked", "identity", "gzip", "gzip, chunked", "chunked, gzip", "chunked,", ",chunked", ", chunked",
        "chunked, chunked", "\"chunked\"", "chunked;a=b", "chunke", "chunked\xa0", "ch unked")},
    "coding with VT": (b"GET / HTTP/1.1\r\nTransfer-Encoding: \x0bchunked\r\n", BAD),
    "codings": (get("/", "Transfer-Encoding: chunked", "Transfer-Encoding: chunked")[:-2], BAD),
    "coding in http/1.0": (get("/", "Transfer-Encoding: chunked", version="HTTP/1.0")[:-2], BAD),
    # connection
    **{f"connection names {name}": (get("/", f"Connection: close, {name}")[:-2], BAD) for name in (
        "Host", "content-length", "Transfer-Encoding", "AUTHORIZATION", "Cookie", "X-Forwarded-For", "x-forwarded-x",
        "Forwarded", "X-Real-IP")},
    "connection is no list": (get("/", "Connection: a b")[:-2], BAD),
    "connection, too many options": (get("/", "Connection: " + "a," * 33)[:-2], LARGE),
    "expectation": (get("/", "Expect: 200-ok")[:-2], EXPECTATION),
    "expectation, empty": (get("/", "Expect:")[:-2], EXPECTATION),
    "expectations": (get("/", "Expect: 100-continue, 100-continue")[:-2], EXPECTATION),
    # limits
    "one field too many": (get("/", *(f"f{i}: {i}" for i in range(199)))[:-2] + b"f", LARGE),
}

PARTIAL = {
    "nothing": b"",
    "CR": b"\r",
    "empty line": b"\r\n",
    "method": b"GET",
    "target": b"GET /a/../..",
    "scheme": b"GET htt",
    "authority": b"GET http://a:",
    "version": b"GET / HTTP/1.",
    "name": b"GET / HTTP/1.1\r\nHost",
    "value": b"GET / HTTP/1.1\r\nHost: ..",
    "end": b"GET / HTTP/1.1\r\n\r",
}


@pytest.mark.parametrize("data, expected", SERVED.values(), ids=SERVED)
def test_served(guard, data, expected):
    check_request(guard, data, expected)


@pytest.mark.parametrize("data, expected", REFUSED.values(), ids=REFUSED)
def test_refused(guard, data, expected):
    check_request(guard, data, expected)


@pytest.mark.parametrize("data", PARTIAL.values(), ids=PARTIAL)
def test_partial(guard, data):
    check_request(guard, data, 0)


def test_refused_as_early_as_possible():
    """The cases of REFUSED end where the verdict can fall: all but their last line's end is PARTIAL or part of it."""
    late = [name for name, (data, _) in REFUSED.items() if request_of(data[:data.rfind(b"\r\n", 0, -2) + 2]) not in (
        0, request_of(data))]
    assert late == []


def line_of(n: int) -> bytes:
    return b"GET /" + b"a" * (n - 16) + b" HTTP/1.1\r\n"


LIMITS = {
    "request line fits": (line_of(64) + b"Host: a\r\n\r\n", {"line": 64}, {"host": b"a"}),
    "request line too long": (line_of(65), {"line": 64}, LONG),
    "bad byte behind the limit": (b"GET /" + b"a" * 60 + b"\x00", {"line": 64}, LONG),
    "bad byte before the limit": (b"GET /" + b"a" * 58 + b"\x00", {"line": 64}, BAD),
    "field line fits": (b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"a" * 59 + b"\r\n\r\n", {"line": 64}, {"host": b"a"}),
    "field line too long": (b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"a" * 60 + b"\r\n\r\n", {"line": 64}, LARGE),
    "field name too long": (b"GET / HTTP/1.1\r\n" + b"a" * 64, {"line": 64}, LARGE),
    "head fits": (get("/", "X: abc"), {"head": 35}, {"host": b"a"}),
    "head too long": (get("/", "X: abcd"), {"head": 35}, LARGE),
    "head too long, later bad": (get("/", "X: abcde", "\x00"), {"head": 35}, LARGE),
    "fields fit": (get("/", "X: a"), {"count": 2}, {"host": b"a"}),
    "too many fields": (get("/", "X: a", "Y: b"), {"count": 2}, LARGE),
}


@pytest.mark.parametrize("data, options, expected", LIMITS.values(), ids=LIMITS)
def test_limits(guard, data, options, expected):
    check_request(guard, data, expected, **options)


def test_the_longest_head(guard):
    """A head of HEAD_BYTES in lines of FIELD_BYTES with a path that is written anew, also the largest; then one byte more."""
    for most, longest in ((limits.HEAD_BYTES, limits.FIELD_BYTES), (limits.HEAD_BYTES_MOST, limits.FIELD_BYTES_MOST)):
        n, rest = divmod(longest - 16, 5)
        line = b"GET /" + b"./%2F" * n + b"x" * rest + b" HTTP/1.1\r\n"
        head = line + b"Host: a\r\n"
        while len(head) + longest < most:
            head += b"X: " + b"y" * (longest - 5) + b"\r\n"
        head += b"Z: " + b"z" * (most - len(head) - 7) + b"\r\n\r\n"
        parsed = request_at(guard.at(head), len(head), head=most, line=longest)
        assert (len(line), parsed["head_len"]) == (longest, most)
        assert parsed["match_path"] == b"/" + b"%2F./" * (n - 1) + b"%2F" + b"x" * rest
        assert parsed["slash_path"] == b"/" + b"x" * rest
        assert request_of(head.replace(b"Z: ", b"Z: z"), head=most, line=longest) == LARGE
