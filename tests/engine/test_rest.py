"""When there is nothing for an engine to look after, and that it says when something comes."""

import pytest
from support.scripted import head
from support.pools import served
from support.waiting import until

DEADLINE = 60.0  # for what has to happen, on a machine that is busy with other things


def test_nothing_is_connected_timed_or_to_be_logged(start, backend, tmp_path):
    with (tmp_path / "log").open("wb") as log:
        engine = start([("127.0.0.1", backend.port)], log=log.fileno())
        assert engine.engine.idle
        client, upstream = served(engine, backend)
        assert not engine.engine.idle, "a client is connected"
        client.close()
        until(lambda: not engine.engine.connections)
        assert not engine.engine.idle, "a connection to a backend is kept for a while"
        upstream.close()
        until(lambda: engine.engine.idle)


def test_who_rests_is_called_once(start, backend):
    engine, woken = start([("127.0.0.1", backend.port)]), []
    with engine.lock:
        engine.engine.rest(lambda: woken.append(1))
        engine.engine.drain()
        engine.engine.drain()
        assert woken == [1]
        engine.engine.rest(lambda: woken.append(2))
        engine.engine.rest(None)
        engine.engine.drain()
        assert woken == [1]


@pytest.mark.parametrize("sent", [b"", b"GET / HTTP/1.1\r\n"])
def test_a_connection_that_says_nothing_is_looked_after(start, backend, sent):
    engine = start([("127.0.0.1", backend.port)], head_timeout=0.3)
    client = engine.connect()
    client.sendall(sent)
    until(lambda: not engine.engine.idle)
    assert head(client)[9:12] == b"408" if sent else client.recv(100) == b""
    client.close()
    until(lambda: engine.engine.idle)
