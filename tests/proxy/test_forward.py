"""What a request and its response become on their way: framing, fields, bodies, order, the end of connections."""
import json
import threading

import pytest
from support.backend import drain, half_close, trickle, wait
from support.wire import chunked

GET = b"GET %s HTTP/1.1\r\nHost: any.example\r\n\r\n"


def post(path: bytes, body: bytes, *fields: bytes) -> bytes:
    return b"\r\n".join([b"POST %s HTTP/1.1" % path, b"Host: any.example", *fields, b"", body])


# Framing of requests: what is sent, and the body and trailers that the backend must read.
REQUESTS = {
    "no body": (GET % b"/r", b"", []),
    "length": (post(b"/r", b"hello", b"Content-Length: 5"), b"hello", []),
    "length 0": (post(b"/r", b"", b"Content-Length: 0"), b"", []),
    "chunked": (post(b"/r", chunked(b"hel", b"lo"), b"Transfer-Encoding: chunked"), b"hello", []),
    "chunked, empty": (post(b"/r", chunked(), b"Transfer-Encoding: chunked"), b"", []),
    "chunked, upper case and zeros": (post(b"/r", b"0A\r\n0123456789\r\n000\r\n\r\n", b"Transfer-Encoding: Chunked"),
                                      b"0123456789", []),
    "chunk extensions are dropped": (post(b"/r", b"5;a=b;c=\"d\"\r\nhello\r\n0;last\r\n\r\n", b"Transfer-Encoding: chunked"),
                                     b"hello", []),
    "trailers": (post(b"/r", chunked(b"hello", trailers=b"X-Sum: 1\r\nX-More: 2\r\n"), b"Transfer-Encoding: chunked",
                      b"Trailer: X-Sum, X-More"), b"hello", [("X-Sum", "1"), ("X-More", "2")]),
    "delete with a body": (b"DELETE /r HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi", b"hi", []),
    "get with a body": (b"GET /r HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi", b"hi", []),
    "unknown method": (b"BREW /r HTTP/1.1\r\nHost: a\r\n\r\n", b"", []),
    "an empty line before the request": (b"\r\n" + GET % b"/r", b"", []),
    "absolute form": (b"GET http://any.example/r HTTP/1.1\r\nHost: any.example\r\n\r\n", b"", []),
}


@pytest.mark.parametrize("whole", [True, False], ids=["whole", "bytewise"])
@pytest.mark.parametrize("case", REQUESTS)
def test_request(proxy, case: str, whole: bool) -> None:
    gateway, backend = proxy
    data, body, trailers = REQUESTS[case]
    stream = gateway.connect()
    if whole:
        stream.send(data)
    else:
        trickle(data)(stream)
    assert stream.response().status == 200
    request, = backend.seen("/r")
    assert (request.body, list(request.trailers)) == (body, trailers)
    assert request.minor == 1
    stream.send(GET % b"/again")
    assert stream.response().status == 200, "the connection goes on"
    stream.close()


# Framing of responses: what the backend sends, then status, body, trailers, and whether the connection can go on.
RESPONSES = {
    "length": (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", 200, b"hello", []),
    "length 0": (b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", 200, b"", []),
    "chunked": (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + chunked(b"hel", b"lo"), 200, b"hello", []),
    "chunked with trailers": (b"HTTP/1.1 200 OK\r\nTrailer: X-Sum\r\nTransfer-Encoding: chunked\r\n\r\n"
                              + chunked(b"hello", trailers=b"X-Sum: 1\r\n"), 200, b"hello", [("X-Sum", "1")]),
    "until close": (b"HTTP/1.1 200 OK\r\n\r\nhello", 200, b"hello", []),
    "HTTP/1.0 until close": (b"HTTP/1.0 200 OK\r\n\r\nhello", 200, b"hello", []),
    "HTTP/1.0 with length": (b"HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\nhello", 200, b"hello", []),
    "204": (b"HTTP/1.1 204 No Content\r\nX-A: b\r\n\r\n", 204, b"", []),
    "304 with the length of what is not sent": (b"HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n", 304, b"", []),
    "no reason": (b"HTTP/1.1 200 \r\nContent-Length: 2\r\n\r\nhi", 200, b"hi", []),
    "unknown status": (b"HTTP/1.1 299 Odd\r\nContent-Length: 2\r\n\r\nhi", 299, b"hi", []),
    "an error is the backend's": (b"HTTP/1.1 500 Mine\r\nContent-Length: 2\r\n\r\nhi", 500, b"hi", []),
}


@pytest.mark.parametrize("whole", [True, False], ids=["whole", "bytewise"])
@pytest.mark.parametrize("case", RESPONSES)
def test_response(proxy, case: str, whole: bool) -> None:
    gateway, backend = proxy
    data, status, body, trailers = RESPONSES[case]
    backend.on("/r", data if whole else trickle(data), close="until close" in case or "HTTP/1.0" in case)
    stream = gateway.connect()
    stream.send(GET % b"/r")
    response = stream.response()
    assert (response.status, response.body, list(response.trailers)) == (status, body, trailers)
    assert response.minor == 1
    if "until close" not in case:
        stream.send(GET % b"/again")
        assert stream.response().status == 200, "the connection goes on"
    stream.close()


def test_response_until_close_reaches_http_1_0_client(proxy) -> None:
    gateway, backend = proxy
    backend.on("/r", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + chunked(b"hel", b"lo"), close=False)
    got = gateway.send(b"GET /r HTTP/1.0\r\nHost: a\r\n\r\n")
    assert got.startswith(b"HTTP/1.1 200 ") and got.endswith(b"\r\n\r\nhello")
    assert b"transfer-encoding" not in got.lower()


def test_head_has_no_body(proxy) -> None:
    gateway, backend = proxy
    backend.on("/r", b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", close=False)
    stream = gateway.connect()
    for _ in range(2):
        stream.send(b"HEAD /r HTTP/1.1\r\nHost: a\r\n\r\n")
        assert stream.response("HEAD").fields.get("Content-Length") == "5"
    stream.close()


def test_requests_in_a_row_are_answered_in_order(proxy) -> None:
    gateway, backend = proxy
    stream = gateway.connect()
    stream.send(b"".join(GET % b"/pipelined/%d" % n for n in range(50)))
    targets = [json.loads(stream.response().body)["target"] for _ in range(50)]
    assert targets == [f"/pipelined/{n}" for n in range(50)]
    stream.close()


def test_pipelined_behind_a_body(proxy) -> None:
    gateway, backend = proxy
    stream = gateway.connect()
    stream.send(post(b"/one", b"hello", b"Content-Length: 5") + post(b"/two", chunked(b"you"), b"Transfer-Encoding: chunked")
                + GET % b"/three")
    got = [json.loads(stream.response().body) for _ in range(3)]
    assert [(g["target"], g["body"]) for g in got] == [("/one", "hello"), ("/two", "you"), ("/three", "")]
    stream.close()


HOP_BY_HOP = ["Connection: close, X-Named, keep-alive", "X-Named: 1", "Keep-Alive: timeout=5", "Proxy-Connection: x",
              "TE: trailers, deflate", "Proxy-Authorization: secret"]


def test_hop_by_hop_fields_of_requests_end_here(proxy) -> None:
    gateway, backend = proxy
    gateway.send("\r\n".join(["GET /hop HTTP/1.1", "Host: a", *HOP_BY_HOP, "X-Kept: 1", "", ""]).encode())
    request, = backend.seen("/hop")
    names = {name.lower() for name, _ in request.fields}
    assert "x-kept" in names
    assert not names & {"x-named", "keep-alive", "proxy-connection", "proxy-authorization", "upgrade"}
    assert request.fields.get("TE") in (None, "trailers")
    assert "close" not in (request.fields.get("Connection") or ""), "the backend's connection is ours to keep"


def test_hop_by_hop_fields_of_responses_end_here(proxy) -> None:
    gateway, backend = proxy
    backend.on("/hop", b"HTTP/1.1 200 OK\r\nConnection: X-Named, close\r\nX-Named: 1\r\nKeep-Alive: timeout=5\r\n"
                       b"Proxy-Authenticate: Basic\r\nUpgrade: h2c\r\nX-Kept: 1\r\nContent-Length: 0\r\n\r\n")
    stream = gateway.connect()
    stream.send(GET % b"/hop")
    names = {name.lower() for name, _ in stream.response().fields}
    assert "x-kept" in names
    assert not names & {"x-named", "keep-alive", "proxy-authenticate", "upgrade"}
    stream.send(GET % b"/again")
    assert stream.response().status == 200, "the backend's close is not the client's"
    stream.close()


@pytest.mark.parametrize("field", ["X_Underscore: 1", "Content_Length: 5", "X-A_B: 2"])
def test_underscores_in_names_are_dropped(proxy, field: str) -> None:
    gateway, backend = proxy
    gateway.send(f"GET /under HTTP/1.1\r\nHost: a\r\n{field}\r\nConnection: close\r\n\r\n".encode())
    request, = backend.seen("/under")
    assert not [name for name, _ in request.fields if "_" in name]


def test_fields_are_forwarded_as_they_are(proxy) -> None:
    gateway, backend = proxy
    fields = ["X-Empty:", "x-LoWeR: a", "Cookie: a=1; b=2", "Set-Thing: one", "Set-Thing: two", "X-Obs: \xe9\xff",
              "Accept: text/html, */*;q=0.1", "User-Agent: \"odd\" (x)", "Authorization: Basic eA=="]
    gateway.send("\r\n".join(["GET /as?it=is&a=%20%2F HTTP/1.1", "Host: A.example:80", *fields, "Connection: close", "", ""])
                 .encode("latin-1"))
    request, = backend.seen("/as")
    assert request.target == "/as?it=is&a=%20%2F"
    assert request.fields.get("Host") == "A.example:80"
    sent = [tuple(part.strip() for part in field.split(":", 1)) for field in fields]
    assert [pair for pair in request.fields if pair in sent] == sent


@pytest.mark.parametrize("target", ["/a//b/../c/./d", "/%7Euser", "/a%2Fb", "/*", "/?", "/a?b?c/../d", "/;p=1", "/a:b@c"])
def test_path_is_forwarded_as_it_was_sent(proxy, target: str) -> None:
    gateway, backend = proxy
    assert gateway.get(target).status == 200
    assert backend.requests[-1].target == target


def test_http_1_0_is_closed_unless_kept(proxy) -> None:
    gateway, _ = proxy
    assert gateway.send(b"GET / HTTP/1.0\r\nHost: a\r\n\r\n").startswith(b"HTTP/1.1 200 ")
    stream = gateway.connect()
    for _ in range(2):
        stream.send(b"GET / HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\n\r\n")
        response = stream.response()
        assert (response.status, response.fields.get("Connection")) == (200, "keep-alive")
    stream.close()


def test_connection_close_is_answered_and_done(proxy) -> None:
    gateway, _ = proxy
    stream = gateway.connect()
    stream.send(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n" + GET % b"/never")
    response = stream.response()
    assert (response.status, response.fields.get("Connection")) == (200, "close")
    assert stream.at_end()
    assert not proxy[1].seen("/never")


def test_client_that_half_closes_gets_its_answer(proxy) -> None:
    gateway, backend = proxy
    stream = gateway.connect()
    stream.send(post(b"/half", b"hello", b"Content-Length: 5"))
    stream.half_close()
    assert stream.response().status == 200
    assert stream.at_end()


def test_backend_that_half_closes_early_gets_no_second_request(proxy) -> None:
    gateway, backend = proxy
    backend.on("/half", b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi", half_close, drain)
    stream = gateway.connect()
    for _ in range(3):
        stream.send(GET % b"/half")
        assert stream.response().body == b"hi"
    stream.close()


def test_continue_is_the_backends_or_ours(proxy) -> None:
    """Expect: 100-continue gets 100 before the client sends its body, and exactly one final response."""
    gateway, backend = proxy
    assert gateway.get("/warm").status == 200      # a POST is not sent again where a test before left a connection that just ended
    stream = gateway.connect()
    stream.send(post(b"/expect", b"", b"Content-Length: 5", b"Expect: 100-continue"))
    line = stream.line()
    assert line.startswith(b"HTTP/1.1 100")
    assert stream.line() == b""
    stream.send(b"hello")
    response = stream.response()
    assert (response.status, json.loads(response.body)["body"]) == (200, "hello")
    stream.close()


def test_refused_expectation_ends_without_the_body(proxy) -> None:
    """A final answer instead of 100: the client has not sent the body, so the connection cannot go on."""
    gateway, backend = proxy

    def refuse(stream, message) -> None:
        stream.send(b"HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        stream.close()
    backend.before_body["/expect"] = refuse
    stream = gateway.connect()
    stream.send(post(b"/expect", b"", b"Content-Length: 500000", b"Expect: 100-continue"))
    response = stream.response()
    assert response.status == 413
    stream.close()


def test_interim_responses_are_forwarded(proxy) -> None:
    gateway, backend = proxy
    backend.on("/hints", b"HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\n\r\n" * 2
               + b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi", close=False)
    response = gateway.get("/hints")
    assert response.body == b"hi"
    assert [(i.status, i.fields.get("Link")) for i in response.interim] == [(103, "</a.css>")] * 2


def test_interim_responses_are_not_for_http_1_0(proxy) -> None:
    gateway, backend = proxy
    backend.on("/hints", b"HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi", close=False)
    got = gateway.send(b"GET /hints HTTP/1.0\r\nHost: a\r\n\r\n")
    assert got.startswith(b"HTTP/1.1 200 ") and b" 103 " not in got


def test_early_response_to_a_large_upload(proxy) -> None:
    """The answer arrives although the upload never ends; both connections end."""
    gateway, backend = proxy

    def refuse(stream, message) -> None:
        stream.send(b"HTTP/1.1 403 No\r\nContent-Length: 2\r\n\r\nno")
    backend.before_body["/early"] = refuse
    stream = gateway.connect()
    stream.send(post(b"/early", b"x" * 1000, b"Content-Length: 50000000"))
    response = stream.response()
    assert (response.status, response.body) == (403, b"no")
    stream.close()


MB = 1 << 20


@pytest.mark.parametrize("form", ["length", "chunked"])
def test_large_request_body(proxy, form: str) -> None:
    gateway, backend = proxy
    backend.keep_bodies = False
    head = b"Content-Length: %d" % (32 * MB) if form == "length" else b"Transfer-Encoding: chunked"
    block = b"x" * MB if form == "length" else b"%x\r\n%s\r\n" % (MB, b"x" * MB)
    before = rss(gateway)
    try:
        stream = gateway.connect()
        stream.send(post(b"/large", b"", head))
        for _ in range(32):
            stream.send(block)
        if form == "chunked":
            stream.send(b"0\r\n\r\n")
        assert json.loads(stream.response().body)["size"] == 32 * MB
        stream.close()
    finally:
        backend.keep_bodies = True
    assert rss(gateway) - before < 4 * MB


@pytest.mark.parametrize("form", ["length", "chunked", "until close"])
def test_large_response_body_that_is_read_slowly(proxy, form: str) -> None:
    """A client that pauses holds its backend back; the gateway holds next to nothing."""
    gateway, backend = proxy
    head = {"length": b"Content-Length: %d\r\n" % (32 * MB), "chunked": b"Transfer-Encoding: chunked\r\n",
            "until close": b""}[form]
    block = b"x" * MB if form != "chunked" else b"%x\r\n%s\r\n" % (MB, b"x" * MB)
    sent = threading.Event()

    def answer(stream, request) -> bool:
        stream.send(b"HTTP/1.1 200 OK\r\n" + head + b"\r\n")
        for _ in range(32):
            stream.send(block)
        if form == "chunked":
            stream.send(b"0\r\n\r\n")
        sent.set()
        return form != "until close"
    backend.handlers["/large"] = answer
    before = rss(gateway)
    stream = gateway.connect()
    stream.send(GET % b"/large")
    stream.fill()
    assert not sent.wait(0.5), "32 MiB fit nowhere on the way: the backend has to wait"
    assert rss(gateway) - before < 4 * MB
    assert stream.response(keep=form != "length").size == 32 * MB
    assert rss(gateway) - before < 4 * MB
    stream.close()


def rss(gateway) -> int:
    """Resident bytes of the one worker."""
    worker, = gateway.workers()
    with open(f"/proc/{worker}/statm") as file:
        return int(file.read().split()[1]) * 4096


def test_streams_before_the_body_is_complete(proxy) -> None:
    """Each piece of a response reaches the client while the backend still has more to send."""
    gateway, backend = proxy
    go_on = threading.Event()
    backend.on("/stream", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nfirst\r\n", wait(go_on),
               b"6\r\nsecond\r\n0\r\n\r\n", close=False)
    stream = gateway.connect()
    stream.send(GET % b"/stream")
    while b"first" not in stream.buffer:
        assert stream.fill()
    assert b"second" not in stream.buffer
    go_on.set()
    assert stream.response().body == b"firstsecond"
    stream.close()


def test_streams_the_request_before_it_is_complete(proxy) -> None:
    gateway, backend = proxy
    seen = threading.Event()
    backend.before_body["/upload"] = lambda stream, message: seen.set()
    stream = gateway.connect()
    stream.send(post(b"/upload", b"first", b"Content-Length: 11"))
    assert seen.wait(10), "the head reaches the backend before the body is there"
    stream.send(b"second")
    assert json.loads(stream.response().body)["body"] == "firstsecond"
    stream.close()


@pytest.mark.parametrize("sent,expected", [
    (b"Date: Tue, 15 Nov 1994 08:12:31 GMT\r\n", ["Tue, 15 Nov 1994 08:12:31 GMT"]), (b"", 1)], ids=["kept", "added"])
def test_one_date(proxy, sent: bytes, expected) -> None:
    """RFC 9110 6.6.1: a recipient with a clock adds Date where it is missing; what the backend said stays."""
    gateway, backend = proxy
    backend.on("/date", b"HTTP/1.1 200 OK\r\n" + sent + b"Content-Length: 0\r\n\r\n", close=False)
    dates = gateway.get("/date").fields.all("Date")
    assert dates == expected or (expected == 1 and len(dates) == 1)


def test_fields_of_responses_are_forwarded_as_they_are(proxy) -> None:
    gateway, backend = proxy
    fields = ["Server: one/1 (two)", "Set-Cookie: a=1; Path=/", "Set-Cookie: b=2", "X-Empty:", "x_under: kept", "X-Obs: \xe9",
              "Vary: *", "Content-Type: application/json"]
    backend.on("/fields", ("HTTP/1.1 200 OK\r\n" + "".join(f"{f}\r\n" for f in fields) + "Content-Length: 2\r\n\r\n{}").encode("latin-1"),
               close=False)
    sent = [tuple(part.strip() for part in field.split(":", 1)) for field in fields]
    assert [pair for pair in gateway.get("/fields").fields if pair in sent] == sent
