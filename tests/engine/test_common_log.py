"""The access log in the combined form of the common log format, line by line."""
import re

from support.scripted import head, rest

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


def test_common_log(start, backend, tmp_path):
    with open(tmp_path / "log", "wb") as file:
        engine = start([("127.0.0.1", backend.port)], access_log="common", access_log_fd=file.fileno())
        client = engine.connect()
        client.sendall(b'GET /a?b="c HTTP/1.1\r\nHost: a\r\nReferer: /from\r\nUser-Agent: "q\\\xff"\r\n\r\n')
        upstream = backend.accept()
        head(upstream)
        upstream.sendall(OK)
        head(client)
        assert client.recv(2) == b"ok"
        old = engine.connect()
        old.sendall(b"POST / HTTP/1.0\r\nContent-Length: 3\r\n\r\nabc")
        head(upstream)
        upstream.sendall(OK)
        rest(old)
        client.sendall(b"BAD\r\n\r\n")
        rest(client)
        with engine.lock:
            engine.engine.tick()
    lines = (tmp_path / "log").read_bytes().splitlines()
    time = rb"\[\d\d/[A-Z][a-z]{2}/\d{4}:\d\d:\d\d:\d\d \+0000\]"
    assert [re.sub(time, b"[@]", line) for line in lines] == [
        rb'127.0.0.1 - - [@] "GET /a?b=\x22c HTTP/1.1" 200 2 "/from" "\x22q\x5c\xff\x22"',
        b'127.0.0.1 - - [@] "POST / HTTP/1.0" 200 2 "-" "-"',
        b'127.0.0.1 - - [@] "" 400 16 "-" "-"',
    ]
