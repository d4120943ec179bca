"""Filters in Python through a whole gateway: what they may do, and that what they do wrong is theirs alone."""
import json
import re
import socket
import struct
import subprocess
import time
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from support.backend import Backend
from support.gateway import Gateway, free_port, gateway, resource, route, rule, service, until, write
from support.tls import HOST, authority, https, needs, plain_environment, secret, shell
from support.python_filters import FILTERS, Noisy, extension, python_filter
from support.waiting import elapse

CLASSES = ("Nothing", "Plain", "Facts", "Changes", "Posts", "Body", "NewBody", "Chooses", "Raises", "Exits", "Late", "Smuggles", "Sets",
           "Replies", "Upper", "Breaks", "ExitsLater", "BreaksLater", "Once", "Moves", "BadReply")


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    folder = tmp_path_factory.mktemp("python") / "conf"
    folder.mkdir()
    (folder / "filters.py").write_text(FILTERS)
    backends = Backend("one"), Backend("two")
    rules = [rule("one", path=f"/{name}", filters=extension(name)) for name in CLASSES]
    for one in rules:
        one["backendRefs"] = [{"name": "one", "port": 80, "weight": 1}, {"name": "two", "port": 80, "weight": 0}]
    both = rule("one", path="/both", filters=[*extension("Plain"), {
        "type": "RequestHeaderModifier", "requestHeaderModifier": {"set": [{"name": "X-Plain", "value": "later"}]}}, *extension("Replies", "Upper")])
    loose = rule("one", path="/open", filters=extension("open", "late-open", "bad-reply-open"))
    moved = []
    for path, new in (("/moved", "/new"), ("/moved/on", "/"), ("/moved%20on", "/new")):
        rewrite = {"type": "URLRewrite", "urlRewrite": {"path": {"type": "ReplacePrefixMatch", "replacePrefixMatch": new}}}
        moved.append(rule("one", path=path, filters=[*extension("Moves"), rewrite]))
    moved.append(rule("one", path="/redirected", filters=[*extension("Moves"), {"type": "RequestRedirect", "requestRedirect": {
        "path": {"type": "ReplacePrefixMatch", "replacePrefixMatch": "/there"}}}]))
    del moved[-1]["backendRefs"]
    plain = {"backendRefs": [{"name": "one", "port": 80, "weight": 0},
                             {"name": "two", "port": 80, "weight": 1, "filters": extension("Plain", "Facts")}]}
    chosen = [rule("one", path="/chosen-facts") | plain]
    for name in ("Chooses-too", "Changes", "NewBody", "Replies"):
        chosen.append(rule("one", path=f"/chosen-{name}") | {
            "backendRefs": [{"name": "two", "port": 80, "filters": extension(name)}]})
    write(folder, "all.yaml", gateway(free_port()), service("one", backends[0]), service("two", backends[1]),
          [python_filter(name, timeout="300ms", maxBody=100_000) for name in CLASSES],
          python_filter("chooses-too", class_="Chooses"),
          python_filter("open", class_="Raises", failure="Open"),
          python_filter("late-open", class_="Late", failure="Open", timeout="50ms"),
          python_filter("bad-reply-open", class_="BadReply", failure="Open"),
          route("all", *rules[:8]), route("more", *rules[8:], both, loose),
          route("chosen", *chosen, *moved))
    running = Noisy(folder, "--drain-timeout", "2s")
    yield running, backends, folder
    running.stop()
    for each in backends:
        each.close()


@pytest.fixture
def ask(world):
    """Send one request: a Message, with what the backend saw of it as JSON in `seen`."""
    running, _, _ = world

    def send(path: str, body: bytes = b"", method: str = "GET", **fields: str):
        stream = running.connect()
        lines = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in fields.items())
        length = f"Content-Length: {len(body)}\r\n" if body or method == "POST" else ""
        stream.send(f"{method} {path} HTTP/1.1\r\nHost: any.example\r\n{lines}{length}\r\n".encode() + body)
        try:
            return stream.response(method)
        finally:
            stream.close()
    return send


def seen(message) -> dict:
    return json.loads(message.body)


def test_an_empty_filter_changes_nothing(ask, world):
    answer = ask("/Nothing?a=b", b"hello", "POST", X_Test="1")
    assert answer.status == 200
    got = seen(answer)
    assert got["target"] == "/Nothing?a=b" and got["body"] == "hello"


def test_a_class_needs_no_base(ask):
    assert ["1"] == [value for name, value in seen(ask("/Plain"))["fields"] if name.lower() == "x-plain"]


def test_what_a_filter_is_told_and_that_it_may_answer(ask):
    answer = ask("/Facts/a%20b?c=d&e", X_Two="2")
    assert answer.status == 299 and answer.fields.get("x-facts") == "yes"
    assert answer.body.decode().splitlines() == [
        "GET", "/Facts/a%20b", "c=d&e", "any.example", "127.0.0.1", "None", "default/all", "default/one:80,default/two:80", "2", "['2']"]


def test_what_a_filter_may_change(ask):
    got = seen(ask("/Changes", X_Gone="1", X_Stays="1"))
    assert (got["method"], got["target"]) == ("PUT", "/changed?q=1")
    fields = {(name.lower(), value) for name, value in got["fields"]}
    assert {("host", "other.example"), ("x-new", "1"), ("x-new", "2"), ("x-stays", "1")} <= fields and ("x-gone", "1") not in fields


def test_what_a_message_has_once_it_has_once(ask):
    answer = ask("/Once", Cookie="a=1", Content_Type="text/html", User_Agent="client")
    got = [(name.lower(), value) for name, value in seen(answer)["fields"]]
    assert [value for name, value in got if name == "cookie"] == ["a=1; b=2; c=3"]
    assert [value for name, value in got if name == "content-type"] == ["a/b"]
    assert [value for name, value in got if name == "user-agent"] == ["last"]
    assert answer.fields.all("date") == ["Tue, 01 Jan 2030 00:00:00 GMT"] and answer.fields.all("content-type") == ["c/d"]


# What is asked for, where the filter leads it, what the backend is asked for
MOVED = {
    "nowhere else": ("/moved/a/b?q=1", "/moved/a/b", "/new/a/b?q=1"),
    "below the prefix": ("/moved/a", "/moved/x/y/z", "/new/x/y/z"),
    "to the prefix": ("/moved/a", "/moved", "/new"),
    "to a longer name": ("/moved/a", "/movedmore/x", "/movedmore/x"),
    "to a shorter path": ("/moved/a", "/m", "/m"),
    "elsewhere": ("/moved/a", "/other/place/a", "/other/place/a"),
    "to the root": ("/moved/a", "/", "/"),
    "spelled otherwise": ("/moved/a", "/x/..//mo%76ed/./b%2Fc", "/new/./b%2Fc"),
    "out of it by dots": ("/moved/a", "/moved/../other", "/moved/../other"),
    "of two elements": ("/moved/on/a", "/moved/on/b", "/b"),
    "up one element": ("/moved/on/a", "/moved/off", "/moved/off"),
    "of an escape": ("/moved%20on/a", "/moved%20on/b", "/new/b"),
}


@pytest.mark.parametrize("case", MOVED.values(), ids=MOVED)
def test_a_prefix_is_replaced_where_the_path_still_has_it(ask, case):
    asked, moved, target = case
    assert seen(ask(asked, X_Path=moved))["target"] == target


@pytest.mark.parametrize(("moved", "location"), [("/redirected/a", "/there/a"), ("/else/where", "/else/where")])
def test_a_redirect_too(ask, moved, location):
    assert urlsplit(ask("/redirected/x", X_Path=moved).fields.get("location")).path == location


def test_what_a_filter_made_a_post_is_not_sent_twice(world):
    """The backend closes a connection of the pool as the request arrives (RFC 9110 9.2.2)."""
    running, (backend, _), _ = world

    def handler(stream, request) -> bool:
        if request.target.endswith("?cut"):
            return False
        stream.send(backend.echo(request))
        return True
    backend.handlers["/Posts"] = handler
    stream = running.connect()
    for query, status in (("fine", 200), ("cut", 502)):
        stream.send(f"GET /Posts?{query} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
        assert stream.response().status == status
    assert [request.target for request in backend.seen("/Posts")] == ["/Posts?fine", "/Posts?cut"]
    stream.close()


@pytest.mark.parametrize("size", [0, 1, 40_000, 100_000])
def test_a_body_is_read_if_asked_for(ask, size):
    got = seen(ask("/Body", b"x" * size, "POST"))
    assert got["size"] == size and got["body"] == "x" * min(size, 4096)
    assert ("x-length", str(size)) in [(name.lower(), value) for name, value in got["fields"]]


def test_a_body_that_is_too_long_is_413(ask):
    assert ask("/Body", b"x" * 100_001, "POST").status == 413


def test_a_body_may_be_replaced(ask):
    assert seen(ask("/NewBody", b"abc", "POST"))["body"] == "ABCABC"


def test_a_body_in_chunks_may_be_replaced(world):
    running, _, _ = world
    stream = running.connect()
    stream.send(b"POST /NewBody HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n")
    elapse(0.05)
    stream.send(b"3\r\ndef\r\n0\r\nX-Trailer: 1\r\n\r\n")
    got = seen(stream.response())
    assert got["body"] == "ABCDEFABCDEF"
    stream.close()


@pytest.mark.parametrize(("to", "backend"), [("one", 0), ("two", 1), ("default/two", 1), ("default/two:80", 1)])
def test_a_backend_may_be_chosen_whatever_its_weight(ask, world, to, backend):
    before = len(world[1][backend].requests)
    assert ask("/Chooses", X_To=to).status == 200
    assert len(world[1][backend].requests) == before + 1


def test_a_backend_that_is_none_of_the_rules_is_500(ask):
    assert ask("/Chooses", X_To="three").status == 500


def test_a_filter_of_a_backend_runs_once_that_is_chosen(ask, world):
    assert ask("/chosen-facts", X_Two="2").body.decode().splitlines()[6:8] == ["default/chosen", ""]      # no backends to choose from
    before = len(world[1][1].requests)
    got = seen(ask("/chosen-Changes", X_Gone="1"))
    assert (got["backend"], got["method"], got["target"]) == ("two", "PUT", "/changed?q=1")
    assert seen(ask("/chosen-NewBody", b"abc", "POST"))["body"] == "ABCABC"
    assert ask("/chosen-Replies").status == 203
    assert len(world[1][1].requests) == before + 3


def test_a_filter_of_a_backend_cannot_choose_another(ask, world):
    assert ask("/chosen-Chooses-too", X_To="one").status == 500
    until(lambda: "backend 'one' cannot be chosen" in world[0].errors())


@pytest.mark.parametrize("what", ["name", "value", "length", "path", "method", "host", "status", "answer"])
def test_nothing_is_smuggled(ask, world, what):
    before = sum(len(each.requests) for each in world[1])
    answer = ask("/Smuggles", X_What=what)
    assert answer.status == 500 and sum(len(each.requests) for each in world[1]) == before


def test_what_is_no_string_is_told_with_the_line_that_set_it(ask, world):
    assert ask("/Sets", X_What="value").status == 500
    number = 1 + FILTERS.splitlines().index('        request.headers["x-user"] = None          # the line that is told')
    told = until(lambda: "the value of the field 'x-user' is a str, not NoneType" in world[0].errors() and world[0].errors())
    assert f'filters.py", line {number}, in on_request' in told.replace('\\"', '"')
    for what in ("answer", "piece"):
        assert ask("/Sets", X_What=what).status == 500
    assert world[0].metrics()['gwfast_python_filter_failures_total{filter="default/sets",reason="invalid"}'] == 3


@pytest.mark.parametrize("name", ["Raises", "Exits", "Late"])
def test_a_failure_is_500_and_told_with_its_traceback(ask, world, name):
    began = time.monotonic()
    assert ask(f"/{name}").status == 500
    assert time.monotonic() - began < 5
    until(lambda: f"PythonFilter default/{name.lower()} failed" in world[0].errors())
    assert "Traceback" in world[0].errors()
    assert ask("/Nothing").status == 200
    assert [n for sample, n in world[0].metrics().items() if '"extension"' in sample] > [0]


def test_open_filters_let_pass(ask):
    assert seen(ask("/open", b"body", "POST"))["body"] == "body"


def test_a_response_may_be_changed(ask):
    answer = ask("/Replies")
    assert (answer.status, answer.fields.get("x-status"), answer.fields.get("x-asked")) == (203, "200", "/Replies")
    assert seen(answer)["target"] == "/Replies"


def test_a_head_has_no_body_whatever_a_filter_says(ask):
    answer = ask("/Upper", method="HEAD")
    assert answer.status == 200 and answer.body == b""


def test_a_body_may_be_transformed(ask):
    answer = ask("/Upper")
    body, _, size = answer.body.rpartition(b"!")
    assert body == body.upper() and len(body) == int(size) and b'"TARGET"' in body


def test_filters_run_in_the_order_they_are_written(ask):
    answer = ask("/both")
    assert answer.status == 203 and b'"later"' not in answer.body and b"LATER" in answer.body


@pytest.mark.parametrize("name", ["Breaks", "ExitsLater"])
def test_a_transform_that_raises_at_once_is_500(world, name):
    stream = world[0].connect()
    stream.send(f"GET /{name} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
    assert stream.response().status == 500      # it was the first piece: nothing had been sent
    stream.close()


def test_a_transform_that_raises_in_the_middle_cuts_the_response(world):
    def trickle(stream) -> None:
        for _ in range(5):
            stream.send(b"piece")
            elapse(0.05)
    world[1][0].on("/BreaksLater", b"HTTP/1.1 200 OK\r\nContent-Length: 25\r\n\r\n", trickle)
    stream = world[0].connect()
    stream.send(b"GET /BreaksLater HTTP/1.1\r\nHost: a\r\n\r\n")
    got = stream.rest()
    assert got.startswith(b"HTTP/1.1 200") and b"\r\n0\r\n\r\n" not in got


def test_a_failure_on_the_response_is_500(ask):
    assert ask("/BadReply").status == 500


def test_a_client_that_leaves_cancels_its_filter(ask, world):
    for _ in range(20):
        connection = socket.create_connection(("127.0.0.1", world[0].port))
        connection.sendall(b"GET /Late HTTP/1.1\r\nHost: a\r\n\r\n")
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        connection.close()
    assert ask("/Nothing").status == 200


@needs("curl")
@pytest.mark.parametrize("path", ["/Changes", "/NewBody", "/Upper", "/Replies", "/Facts"])
def test_http2(world, path):
    body = [] if path == "/Facts" else ["-d", "abc"]       # curl 7.88 takes an answer that comes before its body for an error
    done = subprocess.run(["curl", "-s", "--http2-prior-knowledge", *body, "-H", "X-Gone: 1",
                           f"http://127.0.0.1:{world[0].port}{path}"], capture_output=True, env=plain_environment(), timeout=20)
    assert done.returncode == 0 and done.stdout
    if path == "/NewBody":
        assert json.loads(done.stdout)["body"] == "ABCABC"


def test_a_file_that_changes_is_loaded_again_and_one_that_is_broken_is_not(backend, tmp_path: Path):
    folder = tmp_path / "conf"
    folder.mkdir()

    def version(text: str) -> None:
        new = tmp_path / "new.py"
        new.write_text(text)
        new.replace(folder / "v.py")
    code = 'from gwfast.filters import Filter, Response\nclass V(Filter):\n    async def on_request(self, request):\n        return Response(200, [], b"%s")\n'
    version(code % "1")
    write(folder, "all.yaml", gateway(free_port()), service("one", backend("one")), python_filter("v", "v.py", "V"),
          route("all", rule("one", filters=extension("v"))))
    running = Noisy(folder)
    try:
        assert running.get().body == b"1"
        version(code % "2")
        until(lambda: running.get().body == b"2")
        version("this is no Python")
        until(lambda: "cannot be loaded" in running.errors())
        assert running.get().body == b"2"
        version(code % "3")
        until(lambda: running.get().body == b"3")
    finally:
        running.stop()


def test_code_of_a_configmap_is_loaded_again_and_what_is_broken_is_not(backend, tmp_path: Path):
    def version(text: str) -> None:
        new = tmp_path / "new.yaml"
        new.write_text(json.dumps(resource("ConfigMap", "code", api="v1") | {"data": {"filter.py": text}}))
        new.replace(folder / "code.yaml")
    folder = tmp_path / "conf"
    folder.mkdir()
    code = 'from gwfast.filters import Filter, Response\nclass V(Filter):\n    async def on_request(self, request):\n        return Response(200, [], b"%s")\n'
    version(code % "1")
    write(folder, "all.yaml", gateway(free_port()), service("one", backend("one")),
          resource("PythonFilter", "v", {"configMap": {"name": "code"}, "class": "V"}, api="gwfast.dev/v1alpha1"),
          route("all", rule("one", filters=extension("v"))))
    running = Noisy(folder)
    try:
        assert running.get().body == b"1"
        version(code % "2")
        until(lambda: running.get().body == b"2")
        version("this is no Python")
        until(lambda: "cannot be loaded" in running.errors())
        assert "<ConfigMap default/code filter.py>" in running.errors() and "this is no Python" in running.errors()  # the line
        assert running.get().body == b"2"
        version(code % "3")
        until(lambda: running.get().body == b"3")
    finally:
        running.stop()


def test_a_failure_in_code_of_a_configmap_is_told_with_its_line(backend, tmp_path: Path):
    code = {"filter.py": "class V:\n    def __init__(self, config): pass\n    async def on_request(self, request):\n        raise ValueError('it')\n"}
    write(tmp_path, "all.yaml", gateway(free_port()), service("one", backend("one")),
          resource("ConfigMap", "code", api="v1") | {"data": code},
          resource("PythonFilter", "v", {"configMap": {"name": "code"}, "class": "V"}, api="gwfast.dev/v1alpha1"),
          route("all", rule("one", filters=extension("v"))))
    running = Noisy(tmp_path)
    try:
        assert running.get().status == 500
        told = until(lambda: "ValueError: it" in running.errors() and running.errors()).replace('\\"', '"')
        assert 'File "<ConfigMap default/code filter.py>", line 4, in on_request' in told and "raise ValueError('it')" in told
    finally:
        running.stop()


def test_a_filter_that_no_table_names_is_stopped(backend, tmp_path: Path):
    """Also the one that it was before its definition changed."""
    folder, log = tmp_path / "conf", tmp_path / "log"
    folder.mkdir()
    (folder / "s.py").write_text(f"""from gwfast.filters import Filter
class S(Filter):
    def __init__(self, config):
        self.name = config["name"]
    def say(self, what):
        with open({str(log)!r}, "a") as file:
            file.write(f"{{what}} {{self.name}}\\n")
    async def start(self):
        self.say("start")
    async def stop(self):
        self.say("stop")
""")
    common = gateway(free_port()), service("one", backend("one"))

    def named(name: str, filters: list) -> None:
        write(folder, "all.yaml", *common, python_filter("s", "s.py", "S", config={"name": name}), route("all", rule("one", filters=filters)))
    named("a", extension("s"))
    running = Noisy(folder)
    try:
        until(lambda: log.exists() and log.read_text() == "start a\n")
        named("b", extension("s"))
        until(lambda: sorted(log.read_text().splitlines()) == ["start a", "start b", "stop a"])
        named("b", [])
        until(lambda: log.read_text().splitlines()[3:] == ["stop b"])
        named("b", extension("s"))
        until(lambda: log.read_text().splitlines()[4:] == ["start b"])
    finally:
        running.stop()


def test_a_filter_that_cannot_be_loaded_is_500_and_others_serve(backend, tmp_path: Path):
    folder = tmp_path / "conf"
    folder.mkdir()
    write(folder, "all.yaml", gateway(free_port()), service("one", backend("one")), python_filter("gone", "gone.py", "Gone"),
          resource("PythonFilter", "module", {"module": "no.such.module", "class": "X", "failure": "Open"}, "gwfast.dev/v1alpha1"),
          route("all", rule("one", path="/gone", filters=extension("gone")), rule("one", path="/open", filters=extension("module")),
                rule("one", path="/missing", filters=extension("missing")), rule("one", path="/fine")))
    running = Noisy(folder)
    try:
        assert [running.get(path).status for path in ("/gone", "/open", "/missing", "/fine")] == [500, 200, 500, 200]
        assert "PythonFilter default/gone cannot be loaded" in running.errors()
    finally:
        running.stop()


@needs("curl")
@pytest.mark.parametrize("version", ["--http1.1", "--http2"])
def test_a_filter_is_told_of_tls(backend, tmp_path: Path, version):
    folder, port = tmp_path / "conf", free_port()
    folder.mkdir()
    (folder / "filters.py").write_text(FILTERS)
    (tmp_path / "ca.crt").write_bytes(authority().pem)
    write(folder, "all.yaml", gateway(https(port)), secret(HOST, *authority().certificate(HOST)), service("one", backend("one")),
          python_filter("Facts"), route("all", rule("one", filters=extension("Facts"))))
    running = Noisy(folder)
    try:
        told = shell("curl", "-s", version, "-H", "X-Two: 2", "--cacert", str(tmp_path / "ca.crt"), "--resolve", f"{HOST}:{port}:127.0.0.1",
                     f"https://{HOST}:{port}/").splitlines()
        assert len(told) == 10, running.errors()
        assert re.fullmatch(rf"TLS\(certificate='', version='TLSv1.3', cipher='TLS_[A-Z0-9_]+', name='{HOST}'\)", told[5])
    finally:
        running.stop()


WHO = """
from gwfast.filters import Filter


class Who(Filter):
    async def on_request(self, request):
        said = ",".join(f"{name}={value}" for name, value in request.headers.items() if name.lower().startswith("x-forwarded-"))
        request.headers["x-seen"] = f"{request.peer} {request.tls is not None} {said.lower()}"
        request.headers["X-Forwarded-User"] = "ada"
"""
OWN = "x-forwarded-for=127.0.0.1,x-forwarded-proto=http,x-forwarded-host=any.example"


@pytest.mark.parametrize(("options", "expected"), [
    ((), f"127.0.0.1 False {OWN}"),
    (("--trusted-proxies", "127.0.0.0/8"), "192.0.2.1 True x-forwarded-proto=https,x-forwarded-user=root,x-forwarded-for=192.0.2.1, "
                                           "127.0.0.1,x-forwarded-host=any.example"),
], ids=["stranger", "trusted"])
def test_who_asks_is_what_backends_are_told(tmp_path, backend, options, expected):
    """What a filter says itself stays, whoever the peer is."""
    folder = tmp_path / "conf"
    folder.mkdir()
    (folder / "who.py").write_text(WHO)
    write(folder, "all.yaml", gateway(free_port()), service("one", backend("one")), python_filter("Who", "who.py"),
          route("r", rule("one", filters=extension("Who"))))
    running = Gateway(folder, *options)
    answer = running.get("/", host="any.example", x_forwarded_for="192.0.2.1", x_forwarded_proto="https", x_forwarded_user="root")
    fields = {name.lower(): value for name, value in seen(answer)["fields"]}
    assert fields["x-seen"] == expected and fields["x-forwarded-user"] == "ada"
    assert [name.lower() for name, _ in seen(answer)["fields"]].count("x-forwarded-user") == 1
    running.stop()
