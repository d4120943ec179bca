"""The stream between a controller and its data planes, over real TLS: what arrives, what does not, and what is refused."""
import asyncio
import itertools
import json

import h11
import pytest
from stream_world import (
    DEADLINE,
    GATEWAY,
    Controller,
    DataPlane,
    Log,
    alone,
    credentials,
    dial,
    gateway,
    lines_until_sync,
    run,
    service,
    to,
)

from gwfast import limits
from gwfast.controller import wire
from gwfast.controller.link import Link, NoLink, link
from gwfast.controller.stream import StreamServer, _Stream
from gwfast.controller.track import KEYS_LEAST, Track
from gwfast.controller.wire import Problem


@run
async def test_what_is_said_arrives_and_is_answered(pki, tmp_path, monkeypatch):
    monkeypatch.setattr(limits, "STREAM_LINGER", 0.01)
    controller = Controller(pki)
    await controller.start()
    controller.say(gateway(), service("one"))
    async with DataPlane(tmp_path, controller.port, ca=pki["ca.crt"]) as plane:
        await plane.has(controller)
        assert plane.last.bundle == "1.7.0"
        await controller.standing(ready=True, serving=1)
        controller.say(service("two"), gone=[service("one").key])
        await plane.has(controller)
        controller.say(service("two", 81))
        await plane.has(controller)
    await controller.standing(ready=False, serving=0)
    await controller.server.close()


@run
async def test_a_gateway_is_ready_where_it_is_served_as_it_is_now(pki, tmp_path):
    controller = Controller(pki)
    await controller.start()
    controller.say(gateway())
    async with DataPlane(tmp_path, controller.port, ca=pki["ca.crt"]) as plane:
        await controller.standing(ready=True)
        plane.hold.clear()
        controller.say(service("one"))  # the Gateway does not wait for it
        assert controller.server.standing()[GATEWAY].ready
        controller.say(gateway(2))
        assert not controller.server.standing()[GATEWAY].ready and controller.server.standing()[GATEWAY].behind == 1
        plane.hold.set()
        await controller.standing(ready=True)
    await controller.server.close()


@run
async def test_what_has_gone_and_come_back_is_served_once_that_is_said(pki, tmp_path):
    """It has the version that it had. What was said of that one before is no answer, and the same words are one."""
    for event in ("rest", "hold"):  # it has not looked at what goes, or does not serve that yet
        controller = Controller(pki)
        await controller.start()
        controller.say(gateway())
        async with DataPlane(tmp_path, controller.port, ca=pki["ca.crt"]) as plane:
            await controller.standing(ready=True)
            getattr(plane, event).clear()
            before = controller.feed.version
            controller.say(gone=[GATEWAY])
            await plane.told(controller)
            controller.say(gateway())
            await plane.told(controller)
            assert controller.feed.version == before and not controller.server.standing()[GATEWAY].ready
            getattr(plane, event).set()
            await controller.standing(ready=True)
        await controller.server.close()


@run
async def test_a_pod_that_does_not_listen_at_this_moment_has_not_acknowledged(pki, tmp_path):
    controller = Controller(pki)
    await controller.start()
    controller.say(gateway())
    async with DataPlane(tmp_path, controller.port, ca=pki["ca.crt"], token=controller.reviews.of_pod("one")):
        await controller.standing(ready=True)
        assert controller.server.serves("ns/fleet", GATEWAY) and controller.server.serves("ns/fleet", GATEWAY, ["uid-of-one"])
        assert not controller.server.serves("ns/fleet", GATEWAY, ["uid-of-one", "uid-of-two"])
        assert not controller.server.serves("ns/other", GATEWAY) and not controller.server.serves("ns/fleet", GATEWAY._replace(name="h"))
    await controller.server.close()


@run
async def test_what_comes_back_before_anybody_was_told_of_its_end_is_asked_for_anew(pki, tmp_path):
    controller = Controller(pki)
    await controller.start()
    controller.say(gateway())
    async with DataPlane(tmp_path, controller.port, ca=pki["ca.crt"]):
        await controller.standing(ready=True)
        controller.say(gone=[GATEWAY])
        controller.say(gateway())
        assert not controller.server.standing()[GATEWAY].ready
        await controller.standing(ready=True)
    await controller.server.close()


@run
async def test_a_data_plane_that_is_on_its_way_back_counts(pki, tmp_path):
    controller = Controller(pki)
    await controller.start()
    controller.say(gateway())
    async with DataPlane(tmp_path, controller.port, ca=pki["ca.crt"]):
        await controller.standing(ready=True)
        for stream in list(controller.server._streams):
            stream._writer.transport.abort()
        async with asyncio.timeout(DEADLINE):
            while controller.server.peers:
                assert controller.server.standing()[GATEWAY].ready
                await asyncio.sleep(0)
        assert controller.server.standing()[GATEWAY].ready
        controller.say(gateway(2))  # what it served then is not what there is now
        await controller.standing(ready=True)
    await controller.server.close()


@run
async def test_what_a_data_plane_cannot_serve_is_told(pki, tmp_path):
    controller = Controller(pki)
    await controller.start()
    controller.say(gateway())
    async with DataPlane(tmp_path, controller.port, ca=pki["ca.crt"]) as plane:
        await controller.standing(ready=True)
        plane.source.serves([Problem(message="the port is taken", gateway="ns/g")])
        standing = await controller.standing(ready=False)
        assert standing.message.endswith("the port is taken")
        plane.source.serves([])
        await controller.standing(ready=True)
        plane.source.serves([Problem(message="\N{SNOWMAN}" * 10_000, gateway="ns/g", resource="r" * 600)] * 1000)  # fits into a line
        standing = await controller.standing(ready=False)
        assert standing.message.endswith("\N{SNOWMAN}" * 100)
    await controller.server.close()


@run
async def test_a_data_plane_that_comes_back_is_told_the_restalone(pki, tmp_path):
    controller = Controller(pki)
    await controller.start()
    controller.say(gateway(), *(service(f"s{at}") for at in range(50)))
    async with DataPlane(tmp_path, controller.port, ca=pki["ca.crt"]) as plane:
        await plane.has(controller)
        for stream in list(controller.server._streams):
            stream._writer.transport.abort()
        controller.say(service("s1", 81), gone=[service("s2").key])
        sent = []
        news = controller.server._tracks["ns/fleet"].news
        controller.server._tracks["ns/fleet"].news = lambda version: [sent.append(one) or one for one in news(version)]
        await plane.has(controller)
        lines = [json.loads(line) for line in b"".join(sent).splitlines()]
        assert [line["type"] for line in lines if line["type"] in ("PUT", "GONE", "SNAPSHOT")] in (["PUT", "GONE"], ["GONE", "PUT"])
        await controller.standing(ready=True)
    await controller.server.close()


@run
async def test_another_controller_that_knows_the_same_has_nothing_to_say(pki, tmp_path, monkeypatch):
    monkeypatch.setattr(limits, "STREAM_LINGER", 0.01)
    first, second = Controller(pki), Controller(pki)
    for one in (first, second):
        await one.start()
        one.say(gateway())
        one.say(service("one"))
    async with DataPlane(tmp_path, first.port, ca=pki["ca.crt"]) as plane:
        await first.standing(ready=True)
        sent = []
        news = second.server._tracks["ns/fleet"].news
        second.server._tracks["ns/fleet"].news = lambda version: [sent.append(one) or one for one in news(version)]
        first.server.lead(f"127.0.0.1:{second.port}")
        await second.standing(ready=True)  # without a change
        await first.standing(serving=0)
        assert [json.loads(line)["type"] for line in b"".join(sent).splitlines()] == ["SYNC"]
        rounds = plane.rounds
        second.say(service("two"))
        await plane.has(second)
        assert plane.rounds == rounds + 1
    for one in (first, second):
        await one.server.close()


@run
async def test_the_link_stays_until_who_leads_answers(pki, tmp_path):
    first, second = Controller(pki), Controller(pki)
    await first.start()
    first.say(gateway())
    async with DataPlane(tmp_path, first.port, ca=pki["ca.crt"]) as plane:
        await first.standing(ready=True)
        await second.start()
        port = second.port
        await second.server.close()
        first.server.lead(f"127.0.0.1:{port}")  # nobody listens there
        first.say(service("one"))
        await plane.has(first)
        assert first.server.standing()[GATEWAY].serving == 1
        second = Controller(pki)
        await second.start(port)
        second.say(gateway(), service("other"))
        await plane.has(second)
    for one in (first, second):
        await one.server.close()


@run
async def test_a_slow_data_plane_is_told_what_is_newest(pki, tmp_path):
    controller = Controller(pki)
    await controller.start()
    controller.say(gateway(), *(service(f"s{at}") for at in range(20)))
    made = await link(to(tmp_path, controller.port, pki), "", "slow")
    await lines_until_sync(made)
    controller.server._tracks["ns/fleet"].rest()
    for at in range(2000):  # far more than a history remembers, and nobody reads
        controller.say(service(f"s{at % 20}", 1 + at))
    assert len(controller.server._tracks["ns/fleet"]._past) <= KEYS_LEAST
    last = {}
    async for text in made.lines():
        line = json.loads(text)
        if line["type"] == "PUT" and line["kind"] == "Service":
            last[line["name"]] = line["object"]["spec"]["ports"][0]["port"]
        if line["type"] == "SYNC" and line["version"] == controller.feed.version:
            break
    assert last == {f"s{at % 20}": 1 + at for at in range(1980, 2000)}
    made.close()
    await controller.server.close()


# ---- Who does not get in


@pytest.mark.parametrize("token, words", [
    ("wrong", "401: the token is none, not for this audience, or over"), ("forged", "401: the token is nobody's"),
    ("stranger", "403: ServiceAccount ns/nobody has no data planes here"), ("other", "403: ServiceAccount ns/other")])
@run
async def test_a_token_of_somebody_else_is_refused_with_words(pki, tmp_path, token, words):
    controller = Controller(pki)
    await controller.start()
    controller.say(gateway())
    with pytest.raises(NoLink, match=words):
        await link(to(tmp_path, controller.port, pki, token), "", "pod")
    assert controller.server.refused == 1 and controller.log.said("refused")[0][2]["status"] == int(words[:3])
    assert controller.reviews.asked == (["forged"] if token == "forged" else []), "the API server is not asked about what cannot be"
    assert not any(token and token in str(line) for line in controller.log.lines if token == "wrong")
    await controller.server.close()


@pytest.mark.parametrize("token", ["", "a b", "a\x00b", "\xe9"])
@run
async def test_what_is_no_token_is_not_sent(pki, tmp_path, token):
    with pytest.raises(NoLink, match="it is no token"):
        await link(to(tmp_path, 1, pki, token), "", "pod")


@run
async def test_before_anything_is_known_nobody_is_told_that_nothing_is_theirs(pki, tmp_path):
    controller = Controller(pki)
    await controller.start()
    with pytest.raises(NoLink, match="503"):
        await link(to(tmp_path, controller.port, pki), "", "pod")
    controller.say(gateway())
    controller.reviews.away = True
    with pytest.raises(NoLink, match="503: the token cannot be reviewed"):
        await link(to(tmp_path, controller.port, pki), "", "pod")
    await controller.server.close()


@pytest.mark.parametrize("what, words", [("authority", "self-signed|unable to get|certificate verify"), ("name", "hostname mismatch"),
                                         ("no file", "No such file"), ("no certificates", "no certificates")])
@run
async def test_a_controller_that_cannot_be_believed_is_not(pki, tmp_path, what, words):
    controller = Controller(pki)
    await controller.start()
    controller.say(gateway())
    there = to(tmp_path, controller.port, pki, name="another.test" if what == "name" else "controller.test")
    if what == "authority":
        (tmp_path / "ca.crt").write_bytes(credentials()["ca.crt"])
    elif what == "no file":
        (tmp_path / "ca.crt").unlink()
    elif what == "no certificates":
        (tmp_path / "ca.crt").write_text("nothing")
    with pytest.raises(NoLink, match=words):
        await link(there, "", "pod")
    assert controller.server.peers == []
    await controller.server.close()


@run
async def test_authorities_and_tokens_are_read_again(pki, tmp_path):
    controller, log = Controller(pki), Log()
    await controller.start()
    controller.say(gateway())
    async with DataPlane(tmp_path, controller.port, ca=credentials()["ca.crt"], token="wrong", log=log) as plane:
        async with asyncio.timeout(DEADLINE):
            while not log.said("cannot be followed"):
                await asyncio.sleep(0.01)
        (tmp_path / "ca.crt").write_bytes(pki["ca.crt"])
        (tmp_path / "token").write_text("good\n")
        await plane.has(controller)
        assert log.said("followed again")
        new = credentials()
        (tmp_path / "ca.crt").write_bytes(pki["ca.crt"] + new["ca.crt"])
        controller.server.use(new["tls.crt"], new["tls.key"])
        for stream in list(controller.server._streams):
            stream._writer.transport.abort()
        controller.say(service("one"))
        await plane.has(controller)
    await controller.server.close()


@run
async def test_a_fleet_that_is_no_more_is_told_nothing_more(pki, tmp_path):
    controller = Controller(pki)
    await controller.start()
    controller.say(gateway())
    made = await link(to(tmp_path, controller.port, pki), "", "pod")
    await lines_until_sync(made)
    controller.server.publish({"ns/fleet": None})
    assert [text async for text in made.lines()] == []
    with pytest.raises(NoLink, match="403"):
        await link(to(tmp_path, controller.port, pki), "", "pod")
    made.close()
    await controller.server.close()


@run
async def test_a_controller_that_may_be_behind_sends_data_planes_to_another_one(pki, tmp_path):
    old = Controller(pki)
    await old.start()
    old.say(gateway())
    async with DataPlane(tmp_path, old.port, ca=pki["ca.crt"]) as plane:
        await plane.has(old)
        old.server.withdraw(True)
        async with asyncio.timeout(DEADLINE):
            while not plane.log.said("cannot be followed"):
                await asyncio.sleep(0.01)
        assert plane.log.said("cannot be followed")[0][2]["error"].startswith("503: this controller cannot reach the API server")
        assert GATEWAY in plane.resources  # what it said last serves
        old.server.withdraw(False)
        old.say(service("one"))
        await plane.has(old)
    await old.server.close()


# ---- What strangers and broken peers do


@pytest.mark.parametrize("sent, status", [
    (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", b"404"), (b"GET /v1/feed HTTP/1.1\r\nHost: x\r\n\r\n", b"405"),
    (b"POST /v1/feed HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n", b"401"),
    (b"POST /v1/feed HTTP/1.1\r\nHost: x\r\nAuthorization: Basic eA==\r\nContent-Length: 0\r\n\r\n", b"401"),
    (b"nonsense\r\n\r\n", b""), (b"GET / HTTP/1.1\r\nX: " + b"x" * 40_000 + b"\r\n\r\n", b""), (b"", b"")])
@run
async def test_what_is_no_request_of_ours_gets_no_stream(pki, sent, status):
    controller = Controller(pki)
    await controller.start()
    controller.say(gateway())
    reader, writer = await dial(controller.port)
    writer.write(sent)
    if not sent:
        writer.close()
    answer = await reader.read()
    assert answer.partition(b" ")[2][:3] == status
    writer.transport.abort()
    await alone(controller)
    await controller.server.close()


@run
async def test_who_is_silent_is_left_and_who_has_nothing_to_say_says_so(pki, monkeypatch, tmp_path):
    monkeypatch.setattr(limits, "STREAM_PING", 0.01)
    monkeypatch.setattr(limits, "STREAM_SILENT", 3600.0)
    controller = Controller(pki)
    await controller.start()
    controller.say(gateway())
    made = await link(to(tmp_path, controller.port, pki), "", "pod")
    types, lines = [], made.lines()
    while types.count("PING") < 3:
        types.append(json.loads(await anext(lines))["type"])
    assert types[0] == "SNAPSHOT"
    monkeypatch.setattr(limits, "STREAM_SILENT", 0.05)
    await made.say(wire.PING)  # the last that it says: what is read after it is waited for so long
    await alone(controller)
    made.close()
    monkeypatch.setattr(limits, "STREAM_SILENT", 3600.0)
    async with DataPlane(tmp_path, controller.port, ca=pki["ca.crt"]) as plane:
        await plane.has(controller)
        (stream,) = controller.server._streams
        heard, take = [], stream._take
        stream._take = lambda text: (heard.append(wire.parse(text).type), take(text))
        async with asyncio.timeout(DEADLINE):
            while heard.count("PING") < 3:
                await asyncio.sleep(0.001)
    await alone(controller)
    await controller.server.close()


@run
async def test_streams_end_and_begin_again_unnoticed(pki, monkeypatch, tmp_path):
    monkeypatch.setattr(limits, "STREAM_AGE", 0.05)
    controller = Controller(pki)
    await controller.start()
    controller.say(gateway())
    async with DataPlane(tmp_path, controller.port, ca=pki["ca.crt"]) as plane:
        for at in range(5):
            controller.say(service(f"s{at}"))
            await plane.has(controller)
        assert not plane.log.said("cannot be followed")
    await controller.server.close()


@run
async def test_what_a_data_plane_says_is_bounded_and_nonsense_is_passed_over(pki, tmp_path):
    controller = Controller(pki)
    await controller.start()
    controller.say(gateway())
    made = await link(to(tmp_path, controller.port, pki), "", "pod")
    await lines_until_sync(made)
    for line in (b"nonsense\n", b"{}\n", b'{"type":"SERVED","version":7}\n', b'{"type":"NEWER","x":[1]}\n',
                 b'{"type":"SERVED","version":"unknown"}\n'):
        await made.say(line)
    await made.say(f'{{"type":"SERVED","version":"{controller.feed.version}"}}\n'.encode())
    await controller.standing(ready=True)
    with pytest.raises(NoLink):
        while True:
            await made.say(b"x" * (1 << 20))
            await asyncio.sleep(0)  # a write that finds room lets nobody else run
    made.close()
    await alone(controller)
    await controller.server.close()


class _Crumbs:
    """A reader that has everything there already, in chunks of one byte."""

    def __init__(self, piece=b"1\r\nx\r\n" * 1000, head=b""):
        self.pieces = itertools.chain([head] if head else [], itertools.repeat(piece))
        self.reads = 0

    async def read(self, most=0):
        self.reads += 1
        return next(self.pieces)


async def _turns_beside(work):
    """Return what came of it, and how often others ran meanwhile."""
    turns = 0

    async def other():
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)
    task = asyncio.ensure_future(other())
    try:
        return await work, turns
    finally:
        task.cancel()


@run
async def test_who_sends_crumbs_keeps_nobody_waiting_and_has_no_more_than_a_line(pki):
    connection = h11.Connection(h11.SERVER)
    connection.receive_data(b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
    connection.next_event()
    crumbs = _Crumbs()
    stream = _Stream(StreamServer(None, Log()), connection, crumbs, None, None, Track())
    _, turns = await _turns_beside(stream._listen())
    assert crumbs.reads == limits.STREAM_SAID_BYTES // 1000 + 1
    assert turns > limits.STREAM_SAID_BYTES // 1000  # each read has some


@run
async def test_many_lines_in_one_piece_keep_nobody_waiting(pki):
    connection = h11.Connection(h11.SERVER)
    connection.receive_data(b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
    connection.next_event()
    crumbs = _Crumbs()
    crumbs.pieces = iter([b"8000\r\n" + b"\n" * 0x8000 + b"\r\n", b""])
    stream = _Stream(StreamServer(None, Log()), connection, crumbs, None, None, Track())
    _, turns = await _turns_beside(stream._listen())
    assert turns > 100


@run
async def test_a_controller_that_sends_crumbs_keeps_nobody_waiting(pki, monkeypatch):
    monkeypatch.setattr(limits, "STREAM_LINE_BYTES", 100_000)
    connection = h11.Connection(h11.CLIENT)
    connection.send(h11.Request(method="GET", target="/", headers=[("Host", "x")]))
    crumbs = _Crumbs(head=b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    made = Link(connection, crumbs)
    await made._event()

    async def all_lines():
        with pytest.raises(NoLink, match="without an end"):
            async for _ in made.lines():
                pass
    _, turns = await _turns_beside(all_lines())
    assert turns > 100
