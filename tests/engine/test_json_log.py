"""The access log in JSON: whatever bytes a request has, and wherever, a line is JSON and says them."""
import json

import pytest
from support.scripted import head

ODD = [b'"', b"\\", b"\t", b"\x80", b"\xff", b"~", b" ", b"u"]


@pytest.mark.parametrize("odd", ODD, ids=repr)
def test_an_odd_byte_anywhere(start, tmp_path, odd):
    """Lengths about those of machine words: one byte among others, at each place."""
    values = [b"a" * before + odd + b"b" * (n - before - 1) for n in (*range(3, 20), 31, 32, 33, 47, 48) for before in range(1, n - 1)]
    with open(tmp_path / "log", "wb") as file:
        engine = start([], access_log="json", access_log_fd=file.fileno())
        client = engine.connect()
        for value in values:
            client.sendall(b"GET /x HTTP/1.1\r\nHost: a\r\nReferer: plain\r\nUser-Agent: %b\r\n\r\n" % value)
            answer = head(client)
            length = int(answer.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
            while length:
                length -= len(client.recv(length))
        with engine.lock:
            engine.engine.tick()
    lines = [json.loads(line) for line in (tmp_path / "log").read_bytes().splitlines()]
    assert [line["user_agent"].encode("latin-1") for line in lines] == values
    assert {(line["method"], line["target"], line["host"], line["referer"]) for line in lines} == {("GET", "/x", "a", "plain")}
