"""The access log says of each request that is refused why it is, and its line has a time to the millisecond, referer and reason."""
import json
import time
from datetime import datetime

import pytest
from support.http2_client import Http2, raw_frame
from support.scripted import head, rest
from support.waiting import elapse

from gwfast.http import fault

GET = b"GET / HTTP/1.1\r\n"
POST = b"POST / HTTP/1.1\r\nHost: a\r\n"
# What is sent over HTTP/1.1 -> the reason of its 400
HTTP1 = [
    (b"G@T / HTTP/1.1\r\nHost: a\r\n\r\n", "bad_method"),
    (b"A" * 300 + b" / HTTP/1.1\r\nHost: a\r\n\r\n", "bad_method"),
    (b"GET /a\xe9b HTTP/1.1\r\nHost: a\r\n\r\n", "bad_target"),
    (b"GET /../.. HTTP/1.1\r\nHost: a\r\n\r\n", "bad_target"),
    (b"GET /%00 HTTP/1.1\r\nHost: a\r\n\r\n", "bad_target"),
    (b"GET /%zz HTTP/1.1\r\nHost: a\r\n\r\n", "bad_target"),
    (b"GET http://u@a/ HTTP/1.1\r\nHost: a\r\n\r\n", "bad_target"),
    (b"GET /\r\n\r\n", "bad_version"),
    (b"GET / HTTP/1.x\r\nHost: a\r\n\r\n", "bad_version"),
    (b"GET / HTTP/1.1\nHost: a\n\n", "bad_line_end"),
    (b"GET / HTTP/1.1 \r\nHost: a\r\n\r\n", "bad_line_end"),
    (GET + b"Host: a\nX: 1\r\n\r\n", "bad_line_end"),
    (GET + b"Host: a\r\nX: 1\rY: 2\r\n\r\n", "bad_line_end"),
    (GET + b"Host: a\r\n\rX", "bad_line_end"),
    (GET + b"Host: a\r\nX y: 1\r\n\r\n", "bad_header_name"),
    (GET + b"Host : a\r\n\r\n", "bad_header_name"),
    (GET + b"Host: a\r\n: 1\r\n\r\n", "bad_header_name"),
    (GET + b"Host: a\r\nno colon\r\n\r\n", "bad_header_name"),
    (GET + b"Host: a\r\nX: \x00\r\n\r\n", "bad_header_value"),
    (GET + b"Host: a\r\nX: \x7f\r\n\r\n", "bad_header_value"),
    (GET + b"Host: a\r\nX: 1\r\n folded\r\n\r\n", "folded_header"),
    (GET + b"Host: a b\r\n\r\n", "bad_host"),
    (GET + b"Host: a,b\r\n\r\n", "bad_host"),
    (GET + b"\r\n", "missing_host"),
    (GET + b"Host: a\r\nHost: a\r\n\r\n", "duplicate_host"),
    (b"GET http://a/ HTTP/1.1\r\nHost: b\r\n\r\n", "host_conflict"),
    (POST + b"Content-Length: +5\r\n\r\n", "bad_content_length"),
    (POST + b"Content-Length: \r\n\r\n", "bad_content_length"),
    (POST + b"Content-Length: 9999999999999999999\r\n\r\n", "bad_content_length"),
    (POST + b"Content-Length: 5\r\nContent-Length: 5\r\n\r\n", "content_length_conflict"),
    (POST + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n", "content_length_conflict"),
    (POST + b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n", "content_length_conflict"),
    (POST + b"Transfer-Encoding: gzip\r\n\r\n", "bad_transfer_encoding"),
    (POST + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n", "bad_transfer_encoding"),
    (b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n", "bad_transfer_encoding"),
    (GET + b"Host: a\r\nConnection: host\r\n\r\n", "bad_connection"),
    (GET + b"Host: a\r\nConnection: a b\r\n\r\n", "bad_connection"),
]
PSEUDO = [(":method", "GET"), (":scheme", "http"), (":authority", "a"), (":path", "/")]


def without(name: str, *more) -> list:
    return [pair for pair in PSEUDO if pair[0] != name] + list(more)


# What is sent over HTTP/2 -> the reason, and the status (0: the stream is reset).
HTTP2 = [
    (without(":path", (":path", "/a b")), "bad_target", 400),
    (without(":authority", (":authority", "a b")), "bad_host", 400),
    ([*PSEUDO, ("x y", "1")], "bad_header_name", 0),
    ([*PSEUDO, ("X", "1")], "bad_header_name", 0),
    ([*PSEUDO, ("x", "1\r\n2")], "bad_header_value", 0),
    (without(":path"), "bad_pseudo_header", 0),
    (without(":method"), "bad_pseudo_header", 0),
    (without(":scheme"), "bad_pseudo_header", 0),
    ([*PSEUDO, (":path", "/")], "bad_pseudo_header", 0),
    ([*PSEUDO, ("x", "1"), (":odd", "1")], "bad_pseudo_header", 0),
    (without(":method", (":method", "G T")), "bad_method", 0),
    (without(":authority"), "missing_host", 0),
    ([*PSEUDO, ("host", "b")], "host_conflict", 0),
    ([*PSEUDO, ("host", "a"), ("host", "a")], "duplicate_host", 0),
    ([*PSEUDO, ("connection", "close")], "connection_header", 0),
    ([*PSEUDO, ("transfer-encoding", "chunked")], "connection_header", 0),
    ([*PSEUDO, ("content-length", "x")], "bad_content_length", 0),
    ([*PSEUDO, ("content-length", "0"), ("content-length", "0")], "content_length_conflict", 0),
    ([*PSEUDO, ("content-length", "5")], "content_length_mismatch", 0),
    ([*PSEUDO, (":protocol", "websocket")], "bad_protocol", 0),
]


@pytest.fixture
def logged(start, backend, tmp_path):
    """An engine, and the lines of its log."""
    with open(tmp_path / "log", "wb") as file:
        engine = start([("127.0.0.1", backend.port)], access_log="json", access_log_fd=file.fileno())

        def lines() -> list[dict]:
            with engine.lock:
                engine.engine.tick()
            return [json.loads(line) for line in (tmp_path / "log").read_bytes().splitlines()]
        yield engine, lines


def test_each_kind_of_a_bad_request_has_its_reason(logged):
    engine, lines = logged
    for data, _ in HTTP1:
        client = engine.connect()
        client.sendall(data)
        assert rest(client).startswith(b"HTTP/1.1 400 "), data
    assert [(line["status"], line["flags"], line["reason"]) for line in lines()] == [(400, "bad_request", reason) for _, reason in HTTP1]


def test_the_reason_is_the_same_however_it_is_cut(logged):
    engine, lines = logged
    cut = [pair for pair in HTTP1 if not pair[0].startswith(b"A")]
    for data, _ in cut:
        client = engine.connect()
        for at in range(len(data)):
            with engine.lock:
                client.sendall(data[at:at + 1])
                engine.engine.drain()
        assert rest(client).startswith(b"HTTP/1.1 400 "), data
    assert [line["reason"] for line in lines()] == [reason for _, reason in cut]


def test_each_kind_of_a_malformed_request_over_http2_has_its_reason(logged):
    engine, lines = logged
    for fields, _, status in HTTP2:
        client = Http2(engine.connect(), lenient=True)
        stream = client.protocol.get_next_available_stream_id()
        block = client.protocol.encoder.encode([(name.encode(), value.encode()) for name, value in fields])
        client.protocol.data_to_send()
        client.socket.sendall(raw_frame(1, 5, stream, block))
        got = b""
        while len(got) < 9 or not any(kind in (1, 3) for kind in kinds(got)):
            data = client.socket.recv(65536)
            assert data
            got += data
        assert (1 if status else 3) in kinds(got), fields
        client.socket.close()
    assert [(line["status"], line["flags"], line.get("reason")) for line in lines() if line["flags"] == "bad_request"] == [
        (status, "bad_request", reason) for _, reason, status in HTTP2]


def kinds(data: bytes) -> list[int]:
    """Types of the whole frames."""
    found = []
    while len(data) >= 9 and len(data) >= 9 + int.from_bytes(data[:3], "big"):
        found.append(data[3])
        data = data[9 + int.from_bytes(data[:3], "big"):]
    return found


@pytest.mark.parametrize(("body", "word"), [(b"x\r\n", "bad_chunk"), (b"2\r\nokk\r\n", "bad_chunk"), (b"0\r\nHost: b\r\n\r\n", "bad_trailer"),
                                            (b"0\r\nX y: b\r\n\r\n", "bad_trailer")])
def test_a_body_that_is_refused_says_which_part_of_it(logged, body, word):
    engine, lines = logged
    client = engine.connect()
    client.sendall(POST + b"Transfer-Encoding: chunked\r\n\r\n" + body)
    assert rest(client).startswith(b"HTTP/1.1 400 ")
    assert [(line["status"], line["flags"], line.get("reason")) for line in lines()] == [(400, word, None)]
    assert engine.count(word) == 1


def test_a_body_of_another_length_over_http2_is_no_client_that_went(logged, backend):
    engine, lines = logged
    client = Http2(engine.connect(), lenient=True)
    stream = client.ask(method="POST", fields=[("content-length", "5")], end=False)
    client.flush()
    head(backend.accept())
    client.socket.sendall(raw_frame(0, 1, stream, b"abc"))
    assert client.over(stream) == 1                    # PROTOCOL_ERROR
    assert [(line["flags"], line["method"]) for line in lines()] == [("bad_body", "POST")]
    assert (engine.count("bad_body"), engine.count("client_gone")) == (1, 0)


def test_reasons_are_words_of_their_own():
    words = fault.reasons()
    assert len(set(words)) == len(words) and not set(words) & {word for word, *_ in fault.table()}
    assert {reason for _, reason in HTTP1} | {reason for _, reason, _ in HTTP2} == set(words)


def test_a_line_has_milliseconds_and_a_referer(logged, backend):
    engine, lines = logged
    before = time.time()
    for n in range(30):                                # over the border of a second
        client = engine.connect()
        client.sendall(b'GET / HTTP/1.1\r\nHost: a\r\nReferer: /from"%d\r\n\r\n' % n)
        upstream = backend.accept()
        head(upstream)
        upstream.sendall(b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n")
        head(client)
        upstream.close()
        client.close()
        engine.wait("requests_open", 0)
        elapse(0.04)
    after = time.time()
    got = lines()
    assert [line["referer"] for line in got] == [f'/from"{n}' for n in range(30)]
    times = [datetime.fromisoformat(line["time"]).timestamp() for line in got]
    assert all(len(line["time"]) == len("2026-01-02T03:04:05.678Z") for line in got)
    assert times == sorted(times) and before - 0.011 <= times[0] and times[-1] <= after + 0.011
