"""A filter in Python that does not wait runs in the engine's call: what it may do there is what it may do anywhere."""
import ast
import json
import threading
from pathlib import Path

import pytest
from support.gateway import free_port, gateway, route, rule, service, until, write
from support.python_filters import Noisy, extension, python_filter

FILTERS = '''
import asyncio
import contextlib
import contextvars
import sys
from gwfast.filters import BodyTooLarge, Filter, Request, Response

VARIABLE = sys.__dict__.setdefault("of_a_test", contextvars.ContextVar("VARIABLE", default="unset"))  # each filter has its module
KEPT = []


class AtOnce(Filter):
    """Each of these begins in the first step."""
    async def on_request(self, request):
        task = asyncio.current_task()
        match request.path:
            case "/AtOnce/timeout":
                async with asyncio.timeout(3600):
                    pass
            case "/AtOnce/expires":
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(0.001):
                        await asyncio.sleep(3600)
            case "/AtOnce/wait_for":
                assert await asyncio.wait_for(asyncio.sleep(0, 5), 3600) == 5
            case "/AtOnce/gather":
                assert await asyncio.gather(asyncio.sleep(0, 1), asyncio.sleep(0.001, 2)) == [1, 2]
            case "/AtOnce/group":
                async with asyncio.TaskGroup() as group:
                    made = group.create_task(asyncio.sleep(0, 7))
                assert made.result() == 7
            case "/AtOnce/created":
                await asyncio.create_task(asyncio.sleep(0.001))
        assert task is not None and asyncio.current_task() is task
        request.headers["x-fine"] = "1"

    async def on_response(self, request, response):
        task = asyncio.current_task()
        if request.path == "/AtOnce/timeout":
            await asyncio.sleep(0)
        assert task is not None and asyncio.current_task() is task
        response.headers["x-reply"] = "1"


class Sets(Filter):
    async def on_request(self, request):
        request.headers["x-before"] = VARIABLE.get()
        VARIABLE.set("set")


class SetsLater(Sets):
    async def on_request(self, request):
        await asyncio.sleep(0)
        await super().on_request(request)


class Gets(Filter):
    async def on_request(self, request):
        request.headers["x-got"] = VARIABLE.get()


class Cancels(Filter):
    async def on_request(self, request):
        raise asyncio.CancelledError("by itself")


class CancelsLater(Filter):
    async def on_request(self, request):
        await asyncio.sleep(0)
        raise asyncio.CancelledError("by itself")


class Keeps(Filter):
    """What it keeps says the same when its exchange is over."""
    async def on_request(self, request):
        if request.path == "/Keeps/all":
            said = [[each.path, each.query, each.host, each.peer, each.route, list(each.backends), each.headers.get("x-n")]
                    for each in KEPT]
            return Response(200, [], repr(said).encode())
        KEPT.append(request)


class Listens(Filter):
    """It looks at its request only in the response, by when that has been written anew for the backend."""
    async def on_response(self, request, response):
        response.headers["x-asked"] = f"{request.method} {request.path} {request.query} {request.headers.get('x-n')} {request.route}"


class Drops(Filter):
    async def on_request(self, request):
        request.replace_body(b"other")


class Reads(Filter):
    async def on_request(self, request):
        try:
            request.headers["x-read"] = str(len(await request.body()))
        except BodyTooLarge:
            return Response(299)


class Path(Filter):
    async def on_request(self, request):
        request.path = "/other"


class Same(Filter):
    async def on_request(self, request):
        request.path, request.headers["x-n"] = request.path, request.headers.get("x-n")
        request.headers = [*request.headers.items()]
'''
CLASSES = ("AtOnce", "Sets", "SetsLater", "Gets", "Cancels", "CancelsLater", "Keeps", "Listens", "Drops", "Reads", "Path", "Same")


@pytest.fixture
def world(backend, tmp_path: Path):
    folder = tmp_path / "conf"
    folder.mkdir()
    (folder / "filters.py").write_text(FILTERS)
    rewrite = {"type": "URLRewrite", "urlRewrite": {"path": {"type": "ReplaceFullPath", "replaceFullPath": "/rewritten"}}}
    rules = [rule("one", path=f"/{name}", filters=extension(name)) for name in CLASSES]
    rules[CLASSES.index("Listens")]["filters"].append(rewrite)
    more = [rule("one", path="/both", filters=extension("Sets", "Gets")), rule("one", path="/later", filters=extension("SetsLater", "Gets")),
            rule("one", path="/four", filters=extension("Gets", "Path", "Same", "AtOnce"))]
    write(folder, "all.yaml", gateway(free_port()), service("one", backend("one")),
          [python_filter(name, timeout="20s", maxBody=100_000) for name in CLASSES],
          route("all", *rules[:8]), route("more", *rules[8:], *more))
    running = Noisy(folder)
    yield running
    running.stop()


def seen(message) -> dict[str, str]:
    return {name.lower(): value for name, value in json.loads(message.body)["fields"]}


@pytest.mark.parametrize("what", ["nothing", "timeout", "expires", "wait_for", "gather", "group", "created"])
def test_what_asyncio_has_works_in_the_first_step(world, what):
    for _ in range(5):      # a task of its own, and the one that is used again
        answer = world.get(f"/AtOnce/{what}")
        assert answer.status == 200, world.errors()
        assert seen(answer)["x-fine"] == "1" and answer.fields.get("x-reply") == "1"


@pytest.mark.parametrize(("path", "known"), [("/both", "set"), ("/later", "set"), ("/Gets", "unset")])
def test_a_variable_is_the_requests(world, path, known):
    """What one filter sets the next one of the request sees, and no other request."""
    for _ in range(5):
        got = seen(world.get(path))
        assert got["x-got"] == known and got.get("x-before", "unset") == "unset"
        assert seen(world.get("/Gets"))["x-got"] == "unset"


@pytest.mark.parametrize("path", ["/Cancels", "/CancelsLater"])
def test_one_that_cancels_itself_has_failed(world, path):
    for times in range(1, 4):
        assert world.get(path).status == 500
        name = path.lower().strip("/")
        until(lambda: world.metrics().get(f'gwfast_python_filter_failures_total{{filter="default/{name}",reason="exception"}}') == times)  # noqa: B023


def test_what_a_filter_keeps_says_the_same_later(world):
    for n in range(3):
        assert world.get(f"/Keeps/{n}?q={n}", host="kept.example", x_n=str(n)).status == 200
    said = ast.literal_eval(world.get("/Keeps/all").body.decode())
    assert said == [[f"/Keeps/{n}", f"q={n}", "kept.example", "127.0.0.1", "default/all", ["default/one:80"], str(n)] for n in range(3)]


def test_a_response_is_shown_with_the_request_that_came(world):
    for n in range(3):
        answer = world.get(f"/Listens/a?b={n}", x_n=str(n))
        assert json.loads(answer.body)["target"].startswith("/rewritten")
        assert answer.fields.get("x-asked") == f"GET /Listens/a b={n} {n} default/all"


def test_a_body_that_came_or_did_not_is_read(world):
    for body in (b"", b"some", b"x" * 90_000):
        assert seen(world.get("/Reads", body=body, method="POST"))["x-read"] == str(len(body))
    stream = world.connect()
    for _ in range(2):
        stream.send(b"POST /Reads HTTP/1.1\r\nHost: a\r\nContent-Length: 6\r\n\r\n")
        timer = threading.Timer(0.05, stream.send, [b"abcdef"])
        timer.start()
        assert seen(stream.response())["x-read"] == "6"
        timer.join()
    stream.close()
    assert world.get("/Reads", body=b"x" * 100_001, method="POST").status == 299


def test_filters_follow_each_other_within_one_call(world):
    got = world.get("/four/a", x_n="1")
    assert json.loads(got.body)["target"] == "/other" and seen(got) | {"x-got": "unset", "x-fine": "1", "x-n": "1"} == seen(got)


def test_requests_that_came_together_are_answered_in_their_order(world):
    stream = world.connect()
    paths = ["/Path", "/AtOnce/nothing", "/AtOnce/gather", "/Same", "/Drops"] * 4
    stream.send(b"".join(b"GET %s HTTP/1.1\r\nHost: a\r\nX-N: 1\r\n\r\n" % path.encode() for path in paths))
    for path in paths:
        answer = json.loads(stream.response().body)
        assert answer["target"] == {"/Path": "/other"}.get(path, path)
        assert answer["body"] == ("other" if path == "/Drops" else "")
    stream.close()
