"""Fields that a message has once: what filters set or add is never beside what the gateway or the backend says."""
import pytest
from support.http2_client import Http2
from support.scripted import head, one_rule

from gwfast.config.model import HTTPHeader, HTTPHeaderFilter, HTTPRouteFilter
from gwfast.grammar import FRAMING, SINGLE
from gwfast.plan import ir
from gwfast.plan.filters import plan_filters

THEN = "Tue, 01 Jan 2030 00:00:00 GMT"
ITS = "Wed, 02 Jan 2030 00:00:00 GMT"


def on(what: str, **ops) -> ir.Filter:
    """A header modifier as a route says it."""
    lists = {name: value if name == "remove" else tuple(HTTPHeader(name=key, value=each) for key, each in value)
             for name, value in ops.items()}
    body = {f"{what}_header_modifier": HTTPHeaderFilter(**lists)}
    return plan_filters((HTTPRouteFilter(type=f"{what.title()}HeaderModifier", **body),))[0]


RESPONSES = {  # filters, fields of the backend, a name, its values for the client (None: the gateway's own, one)
    "set Date": ((on("response", set=(("Date", THEN),)),), [("Date", ITS)], "date", [THEN]),
    "set Date that the backend does not say": ((on("response", set=(("date", THEN),)),), [], "date", [THEN]),
    "add Date": ((on("response", add=(("Date", THEN),)),), [("Date", ITS)], "date", [THEN]),
    "add Date that the backend does not say": ((on("response", add=(("DATE", THEN),)),), [], "date", [THEN]),
    "remove Date": ((on("response", remove=("Date",)),), [("Date", ITS)], "date", []),
    "remove Date that the backend does not say": ((on("response", remove=("Date",)),), [], "date", []),
    "removed, then set": ((on("response", remove=("Date",)), on("response", set=(("Date", THEN),))), [], "date", [THEN]),
    "set, then removed": ((on("response", set=(("Date", THEN),)), on("response", remove=("Date",))), [("Date", ITS)], "date", []),
    "no word of Date": ((), [("Date", ITS)], "date", [ITS]), "nobody says Date": ((), [], "date", None),
    "set Server": ((on("response", set=(("Server", "edge"),)),), [("Server", "app")], "server", ["edge"]),
    "add Server": ((on("response", add=(("Server", "edge"),)),), [("Server", "app")], "server", ["edge"]),
    "set Via": ((on("response", set=(("Via", "1.1 edge"),)),), [("Via", "1.1 app")], "via", ["1.1 edge"]),
    "add Via, which is a list": ((on("response", add=(("Via", "1.1 edge"),)),), [("Via", "1.1 app")], "via", ["1.1 app", "1.1 edge"]),
    "set Content-Type": ((on("response", set=(("Content-Type", "a/b"),)),), [("Content-Type", "c/d")], "content-type", ["a/b"]),
    "add Content-Type": ((on("response", add=(("Content-Type", "a/b"),)),), [("Content-Type", "c/d")], "content-type", ["a/b"]),
    "add ETag": ((on("response", add=(("ETag", '"1"'),)),), [("ETag", '"2"')], "etag", ['"1"']),
    "add Set-Cookie": ((on("response", add=(("Set-Cookie", "a=1"),)),), [("Set-Cookie", "b=2")], "set-cookie", ["b=2", "a=1"]),
}
OWN = {  # filters of a rule that is answered by the gateway, a name, its values (None: the gateway's own, one)
    "set Date": ((on("response", set=(("Date", THEN),)),), "date", [THEN]),
    "add Date": ((on("response", add=(("Date", THEN),)),), "date", [THEN]),
    "remove Date": ((on("response", remove=("Date",)),), "date", []),
    "set Content-Type": ((on("response", set=(("Content-Type", "text/html"),)),), "content-type", ["text/html"]),
    "add Content-Type": ((on("response", add=(("Content-Type", "text/html"),)),), "content-type", ["text/html"]),
    "nothing": ((), "content-type", ["text/plain"]), "no word of Date": ((), "date", None),
    "set Server": ((on("response", set=(("Server", "edge"),)),), "server", ["edge"]),
    "redirect": ((on("response", set=(("Date", THEN),)), ir.RedirectFilter(hostname="b")), "date", [THEN]),
    "set Location": ((on("response", set=(("Location", "/there"),)), ir.RedirectFilter(hostname="b")), "location", ["/there"]),
    "a Location": ((ir.RedirectFilter(hostname="b"),), "location", ["http://b/"]),
}


def values(engine, version: str, name: str, answer=lambda: None) -> list[str]:
    """Ask, let the backend answer, and return what the client gets of this field."""
    client = engine.connect()
    if version == "http1":
        client.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        answer()
        lines = [line.partition(": ") for line in head(client).decode().split("\r\n")[1:-2]]
        return [value for key, _, value in lines if key.lower() == name]
    h2 = Http2(client)
    stream = h2.ask()
    answer()
    h2.head(stream)
    event = next(event for event in h2.events if getattr(event, "headers", None))
    return [value.decode() for key, value in event.headers if key.decode() == name]


@pytest.mark.parametrize("version", ["http1", "http2"])
@pytest.mark.parametrize("case", RESPONSES.values(), ids=RESPONSES)
def test_a_response_has_it_once(start, backend, case, version):
    filters, fields, name, expected = case
    engine = start([("127.0.0.1", backend.port)], lambda addresses: one_rule(addresses, filters=filters))

    def answer():
        upstream = backend.accept()
        head(upstream)
        lines = "".join(f"{key}: {value}\r\n" for key, value in fields)
        upstream.sendall(f"HTTP/1.1 200 OK\r\n{lines}Content-Length: 0\r\n\r\n".encode())
    got = values(engine, version, name, answer)
    assert got == expected if expected is not None else len(got) == 1


@pytest.mark.parametrize("version", ["http1", "http2"])
@pytest.mark.parametrize("case", OWN.values(), ids=OWN)
def test_an_answer_of_our_own_has_it_once(start, case, version):
    filters, name, expected = case
    got = values(start([], lambda addresses: one_rule(addresses, filters=filters)), version, name)
    assert got == expected if expected is not None else len(got) == 1


@pytest.mark.parametrize("name", sorted(FRAMING))
@pytest.mark.parametrize("what", ["request", "response"])
@pytest.mark.parametrize("action", ["set", "add", "remove"])
def test_what_frames_a_message_is_never_changed(name, what, action):
    assert isinstance(on(what, **{action: (name,) if action == "remove" else ((name.title(), "1"),)}), ir.AnswerFilter)


def test_what_is_there_once_is_set():
    assert not SINGLE & FRAMING and "cookie" not in SINGLE and "set-cookie" not in SINGLE
    assert on("request", add=(("Authorization", "x"), ("X-A", "1"))) != on("request", add=(("X-A", "1"),))
    made = on("request", set=(("X-B", "2"),), add=(("Authorization", "x"), ("X-A", "1")))
    assert made.set == (("x-b", "2"), ("authorization", "x")) and made.add == (("x-a", "1"),)


# ---- Cookie, the one list that has semicolons

COOKIES = {  # filters of the rule, of the backendRef, Cookie fields of the client, what the backend gets
    "none": ((), (), ["a=1"], ["a=1"]),
    "two": ((), (), ["a=1", "b=2"], ["a=1; b=2"]),
    "some of them empty": ((), (), ["", "a=1", "", "b=2"], ["a=1; b=2"]),
    "two, removed": ((on("request", remove=("cookie",)),), (), ["a=1", "b=2"], []),
    "two, set": ((), (on("request", set=(("Cookie", "c=3"),)),), ["a=1", "b=2"], ["c=3"]),
    "two, and others changed": ((on("request", set=(("x-a", "1"),), remove=("x-b",)),), (), ["a=1", "b=2"], ["a=1; b=2"]),
    "added": ((on("request", add=(("Cookie", "b=2"),)),), (), ["a=1"], ["a=1; b=2"]),
    "added to none": ((on("request", add=(("cookie", "b=2"),)),), (), [], ["b=2"]),
    "added to an empty one": ((on("request", add=(("cookie", "b=2"),)),), (), [""], ["b=2"]),
    "added to two": ((on("request", add=(("COOKIE", "c=3"),)),), (), ["a=1", "b=2"], ["a=1; b=2; c=3"]),
    "added twice": ((on("request", add=(("cookie", "b=2"),)), on("request", add=(("Cookie", "c=3"),))), (), ["a=1"], ["a=1; b=2; c=3"]),
    "by both": ((on("request", add=(("cookie", "b=2"),)),), (on("request", add=(("Cookie", "c=3"),)),), ["a=1"], ["a=1; b=2; c=3"]),
    "added, then set": ((on("request", add=(("cookie", "b=2"),)), on("request", set=(("Cookie", "c=3"),))), (), ["a=1"], ["c=3"]),
    "set, then added": ((on("request", set=(("cookie", "b=2"),)), on("request", add=(("Cookie", "c=3"),))), (), ["a=1"], ["b=2; c=3"]),
    "removed, then added": ((on("request", remove=("cookie",)), on("request", add=(("Cookie", "c=3"),))), (), ["a=1"], ["c=3"]),
    "added, then removed": ((on("request", add=(("cookie", "b=2"),)), on("request", remove=("Cookie",))), (), ["a=1"], []),
    "added, set, added": ((on("request", add=(("cookie", "b=2"),)), on("request", set=(("Cookie", "c=3"),))),
                          (on("request", add=(("cookie", "d=4"),)),), ["a=1"], ["c=3; d=4"]),
    "among others": ((on("request", set=(("x-a", "1"),), add=(("x-b", "2"), ("cookie", "b=2")), remove=("x-c",)),), (), ["a=1"], ["a=1; b=2"]),
    "that of another": ((on("request", add=(("x-cookie", "b=2"),)),), (), ["a=1"], ["a=1"]),
}


@pytest.mark.parametrize("version", ["http1", "http2"])
@pytest.mark.parametrize("case", COOKIES.values(), ids=COOKIES)
def test_a_request_has_one_cookie_field(start, backend, case, version):
    of_rule, of_backend, cookies, expected = case

    def plan(addresses):
        base = one_rule(addresses, filters=of_rule)
        weighted = (ir.WeightedBackend(backend=base.backends[0], filters=of_backend),)
        return one_rule(addresses, filters=of_rule, backends=weighted)
    engine = start([("127.0.0.1", backend.port)], plan)
    client = engine.connect()
    if version == "http1":
        client.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n" + b"".join(b"Cookie: %s\r\n" % each.encode() for each in cookies) + b"\r\n")
    else:
        Http2(client).ask(fields=[("cookie", each) for each in cookies])
    lines = [line.partition(": ") for line in head(backend.accept()).decode().split("\r\n")[1:-2]]
    assert [value for key, _, value in lines if key.lower() == "cookie"] == expected


def test_via_is_said_once(start, backend):
    engine = start([("127.0.0.1", backend.port)], lambda addresses: one_rule(
        addresses, filters=(on("request", set=(("Via", "1.1 mine"),)),)), via="edge")
    engine.connect().sendall(b"GET / HTTP/1.1\r\nHost: a\r\nVia: 1.0 fred\r\n\r\n")
    assert head(backend.accept()).lower().count(b"via:") == 1
