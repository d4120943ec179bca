"""Filters in Python, and gateways that are to be told of their failures."""
import signal

from support.gateway import Gateway, resource

FILTERS = '''
import asyncio
from gwfast.filters import Filter, Request, Response


class Nothing(Filter):
    pass


class Plain:                       # no subclass is needed
    def __init__(self, config):
        pass

    async def on_request(self, request):
        request.headers["x-plain"] = "1"


class Facts(Filter):
    async def on_request(self, request):
        facts = [request.method, request.path, request.query, request.host, request.peer, str(request.tls), request.route,
                 ",".join(request.backends), request.headers.get("X-Two"), str(request.headers.get_all("x-two"))]
        return Response(299, [("x-facts", "yes")], "\\n".join(facts).encode())


class Changes(Filter):
    async def on_request(self, request):
        request.method, request.path, request.query, request.host = "PUT", "/changed", "q=1", "other.example"
        del request.headers["x-gone"]
        request.headers.add("x-new", "1")
        request.headers.add("x-new", "2")


class Posts(Filter):
    async def on_request(self, request):
        request.method = "POST"


class Body(Filter):
    async def on_request(self, request):
        request.headers["x-length"] = str(len(await request.body()))


class NewBody(Filter):
    async def on_request(self, request):
        request.replace_body((await request.body()).upper() * 2)


class Chooses(Filter):
    async def on_request(self, request):
        request.backend = request.headers["x-to"]


class Raises(Filter):
    async def on_request(self, request):
        raise RuntimeError("on purpose")


class Exits(Filter):
    async def on_request(self, request):
        raise SystemExit("on purpose")


class Late(Filter):
    async def on_request(self, request):
        await asyncio.sleep(3600)


class Smuggles(Filter):
    async def on_request(self, request):
        what = request.headers["x-what"]
        if what == "name":
            request.headers["x: y\\r\\nz"] = "1"
        elif what == "value":
            request.headers["x"] = "1\\r\\nContent-Length: 5"
        elif what == "length":
            request.headers["content-length"] = "5"
        elif what == "path":
            request.path = "/a b HTTP/1.1\\r\\nx: y"
        elif what == "method":
            request.method = "HEAD"
        elif what == "host":
            request.host = "a\\r\\nx: y"
        elif what == "status":
            return Response(99)
        elif what == "answer":
            return Response(200, [("x", "1\\r\\n\\r\\nHTTP/1.1 200 OK")])


class Sets(Filter):
    async def on_request(self, request):
        if request.headers["x-what"] == "answer":
            return "text"
        if request.headers["x-what"] == "piece":
            return
        request.headers["x-user"] = None          # the line that is told

    async def on_response(self, request, response):
        response.transform(lambda piece, last: "text")


class Replies(Filter):
    async def on_response(self, request, response):
        response.headers["x-status"] = str(response.status)
        response.headers["x-asked"] = request.path
        response.status = 203


class Upper(Filter):
    async def on_response(self, request, response):
        pieces = []
        response.observe(lambda piece, last: pieces.append(piece))
        response.transform(lambda piece, last: piece.upper() + (b"!%d" % sum(map(len, pieces)) if last else b""))


class Breaks(Filter):
    async def on_response(self, request, response):
        def change(piece, last):
            raise RuntimeError("in the middle")
        response.transform(change)


class ExitsLater(Filter):
    async def on_response(self, request, response):
        def change(piece, last):
            raise SystemExit(3)
        response.transform(change)


class BreaksLater(Filter):
    async def on_response(self, request, response):
        def change(piece, last):
            if len(pieces) == 2:
                raise RuntimeError("in the middle")
            pieces.append(piece)
            return piece
        pieces = []
        response.transform(change)


class Once(Filter):
    async def on_request(self, request):
        request.headers.add("cookie", "b=2")
        request.headers.add("Cookie", "c=3")
        request.headers.add("content-type", "a/b")
        request.headers.extend([("User-Agent", "first"), ("user-agent", "last")])

    async def on_response(self, request, response):
        response.headers.add("date", "Tue, 01 Jan 2030 00:00:00 GMT")
        response.headers.add("content-type", "c/d")


class Moves(Filter):
    async def on_request(self, request):
        request.path = request.headers["x-path"]


class BadReply(Filter):
    async def on_response(self, request, response):
        raise RuntimeError("of a response")
'''


class Noisy(Gateway):
    """One whose filters leave tracebacks in its log, as they should."""

    def stop(self, expected: int | None = 0) -> None:
        self.ended = True
        self.process.send_signal(signal.SIGTERM)
        assert self.process.wait(15) == 0, self.errors()
        for unwanted in ("AddressSanitizer", "runtime error:", "Segmentation"):
            assert unwanted not in self.errors(), self.errors()


def python_filter(name: str, file: str = "filters.py", class_: str = "", **more) -> dict:
    return resource("PythonFilter", name.lower(), {"file": file, "class": class_ or name, **more}, "gwfast.dev/v1alpha1")


def extension(*names: str) -> list[dict]:
    return [{"type": "ExtensionRef", "extensionRef": {"group": "gwfast.dev", "kind": "PythonFilter", "name": name.lower()}}
            for name in names]
