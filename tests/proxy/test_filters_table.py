"""Every sentence of the specification about filters (5.4 and 5.5) as a case: where filters stand, a request, its outcome.

A case is (filters of the rule, filters of the backendRef or None where there is none, request, outcome and checks); what is in
front of the colon of a filter is its type. Requests go to a host of the case's own. Checks are those of conformance_cases.py: NAME=VALUE and -NAME of what
the backend got, path= and host=, <NAME=VALUE and <-NAME of the response, to= its Location.
"""
import json
import os
from collections.abc import Iterator

import pytest
import yaml

os.environ.setdefault("GRPC_VERBOSITY", "NONE")
import grpc  # noqa: E402
from support.backend import Backend  # noqa: E402
from support.gateway import Gateway, free_port, gateway, resource, route, service, write  # noqa: E402
from support.conformance import holds  # noqa: E402
from support.grpc_backend import Backend as GrpcBackend  # noqa: E402
from support.grpc_backend import service as grpc_service  # noqa: E402

ADD = "RequestHeaderModifier: {add: [{name: X-A, value: one}]}"
SET = "RequestHeaderModifier: {set: [{name: X-A, value: two}]}"
REMOVE = "RequestHeaderModifier: {remove: [x-a]}"
SAY = "ResponseHeaderModifier: {set: [{name: X-B, value: one}], add: [{name: X-C, value: one}], remove: [X-D]}"
SAY_TOO = "ResponseHeaderModifier: {set: [{name: x-b, value: two}], add: [{name: x-c, value: two}]}"
HOST = "URLRewrite: {hostname: new.example}"
FULL = "URLRewrite: {path: {type: ReplaceFullPath, replaceFullPath: /full}}"
REDIRECT = "RequestRedirect: {hostname: other.example, statusCode: 301}"
CORS = "CORS: {allowOrigins: ['https://a.example'], allowMethods: [PUT]}"
EVERYTHING = "allowOrigins: ['*'], allowMethods: ['*'], allowHeaders: ['*'], exposeHeaders: ['*']"
ANYONE, ANYONE_KNOWN = f"CORS: {{{EVERYTHING}}}", f"CORS: {{{EVERYTHING}, allowCredentials: true}}"
LISTS = "CORS: {allowOrigins: ['https://a.example'], allowHeaders: [X-1, X-2], exposeHeaders: [X-3], allowCredentials: true, maxAge: 600}"
ORIGIN, METHOD = "Origin:https://a.example", "Access-Control-Request-Method:PUT"
ALLOW = "<Access-Control-Allow"
NOBODY = "ExtensionRef: {group: example.net, kind: Filter, name: nobody}"


def prefix(value: str) -> str:
    return f"URLRewrite: {{path: {{type: ReplacePrefixMatch, replacePrefixMatch: '{value}'}}}}"


def to(**more: object) -> str:
    return f"RequestRedirect: {json.dumps(more)}"


def path(value: str, kind: str = "ReplaceFullPath") -> dict:
    return {"type": kind, kind[0].lower() + kind[1:]: value}


# Rules match PathPrefix /foo. A port is written as 80 where it is the listener's.
CASES = {
    "set overwrites": ([SET], [], "/foo X-A:mine", "200 X-A=two"),
    "add appends": ([ADD], [], "/foo X-A:mine", "200 X-A=mine,one"),
    "remove is case-insensitive": ([REMOVE], [], "/foo X-A:mine", "200 -X-A"),
    "set of the response": ([SAY], [], "/foo X-Echo-Set-Header:X-B:mine;X-C:mine;X-D:mine", "200 <X-B=one <X-C=mine,one <-X-D"),
    "set on the backendRef": ([], [SET], "/foo X-A:mine", "200 X-A=two"),
    "add on the backendRef": ([], [ADD], "/foo X-A:mine", "200 X-A=mine,one"),
    "remove on the backendRef": ([], [REMOVE], "/foo X-A:mine", "200 -X-A"),
    "response on the backendRef": ([], [SAY], "/foo X-Echo-Set-Header:X-B:mine;X-C:mine;X-D:mine", "200 <X-B=one <X-C=mine,one <-X-D"),
    "the rule's come before the backendRef's": ([ADD], [SET], "/foo X-A:mine", "200 X-A=two"),
    "the backendRef's add to the rule's": ([SET], [ADD], "/foo X-A:mine", "200 X-A=two,one"),
    "the response's in that order too": ([SAY], [SAY_TOO], "/foo X-Echo-Set-Header:X-B:mine", "200 <X-B=two <X-C=one,two"),
    "both kinds": ([ADD, SAY], [REMOVE, SAY_TOO], "/foo", "200 -X-A <X-B=two"),
    "hostname replaces Host": ([HOST], [], "/foo?q=1", "200 host=new.example path=/foo?q=1"),
    "the whole path": ([FULL], [], "/foo/bar?q=1", "200 path=/full?q=1"),
    "hostname on the backendRef": ([], [HOST], "/foo", "200 host=new.example"),
    "the whole path on the backendRef": ([], [FULL], "/foo/bar?q=1", "200 path=/full?q=1"),
    "the backendRef's rewrite counts": ([HOST, ADD], [FULL, SET], "/foo", "200 host=new.example path=/full X-A=two"),
    **{f"prefix {given} by {value!r}{' on the backendRef' * inner}": (
        [] if inner else [prefix(value)], [prefix(value)] if inner else [], given, f"200 path={expected}")
       for inner in (False, True) for given, value, expected in (
           ("/foo/bar", "/xyz", "/xyz/bar"), ("/foo/bar", "/xyz/", "/xyz/bar"), ("/foo", "/xyz", "/xyz"),
           ("/foo/", "/xyz", "/xyz/"), ("/foo/bar", "", "/bar"), ("/foo/bar", "/", "/bar"), ("/foo", "/", "/"),
           ("/foo/", "/", "/"), ("/foo/bar?q=/foo", "/xyz", "/xyz/bar?q=/foo"))},
    "302 is the default": ([to(scheme="https")], None, "/foo?q=1", "302 to=https://HOST/foo?q=1"),
    **{f"{status} is said": ([to(hostname="b", statusCode=status)], None, "/foo", f"{status} to=http://b:80/foo")
       for status in (301, 302, 303, 307, 308)},
    "the given port": ([to(port=8443)], None, "/foo", "302 to=http://HOST:8443/foo"),
    "no port of a scheme": ([to(scheme="https", port=443)], None, "/foo", "302 to=https://HOST/foo"),
    "no port 80 of http": ([to(scheme="http", port=80)], None, "/foo", "302 to=http://HOST/foo"),
    "the scheme's port": ([to(scheme="http")], None, "/foo", "302 to=http://HOST/foo"),
    "the listener's port": ([to(hostname="b")], None, "/foo", "302 to=http://b:80/foo"),
    "a path": ([to(scheme="https", path=path("/new"))], None, "/foo/bar?q=1", "302 to=https://HOST/new?q=1"),
    "a prefix": ([to(scheme="https", path=path("/new", "ReplacePrefixMatch"))], None, "/foo/bar", "302 to=https://HOST/new/bar"),
    "redirect on the backendRef": ([], [REDIRECT], "/foo?q=1", "301 to=http://other.example:80/foo?q=1"),
    "a prefix on the backendRef": ([], [to(scheme="https", path=path("/new", "ReplacePrefixMatch"))], "/foo/bar",
                                   "302 to=https://HOST/new/bar"),
    "redirects have the response's fields": ([REDIRECT, SAY], None, "/foo", "301 <X-B=one"),
    "redirect without a backend": ([REDIRECT], None, "/foo", "301"),
    "no backend": ([SET], None, "/foo", "500"),
    "an unknown filter is not skipped": ([NOBODY], [], "/foo", "500"),
    "an unknown filter behind others": ([SET, NOBODY], [], "/foo", "500"),
    "an unknown filter on the backendRef": ([SET], [NOBODY], "/foo", "500"),
    "an unknown filter before a redirect": ([NOBODY, REDIRECT], None, "/foo", "500"),
    "a redirect before an unknown filter": ([REDIRECT, NOBODY], None, "/foo", "301"),
    "its errors have the response's fields": ([SAY, NOBODY], [], "/foo", "500 <X-B=one"),
    "CORS": ([CORS, SET], [], "/foo Origin:https://a.example", "200 X-A=two <Access-Control-Allow-Origin=https://a.example"),
    "CORS on the backendRef": ([SET], [CORS], "/foo Origin:https://a.example", "200 <Access-Control-Allow-Origin=https://a.example"),
    "CORS on an error": ([CORS, NOBODY], [], "/foo Origin:https://a.example", "500 <Access-Control-Allow-Origin=https://a.example"),
    "CORS of another origin": ([CORS], [], "/foo Origin:https://b.example", "200 <-Access-Control-Allow-Origin <Vary=Origin"),
    **{f"origin {origin} {'is' if allowed else 'is not'} {pattern}": (
        [f"CORS: {{allowOrigins: ['{pattern}']}}"], [], f"/foo Origin:{origin}",
        f"200 {ALLOW}-Origin={origin}" if allowed else "200 <-Access-Control-Allow-Origin")
       for pattern, origin, allowed in (
           ("*", "http://b.example:81", True), ("https://*.example", "https://a.example", True),
           ("https://*.example", "https://c.b.a.example", True), ("https://*.example", "https://example", False),
           ("https://*.example", "http://a.example", False), ("https://*.a.example", "https://b.example", False),
           ("https://a.example", "https://a.example:443", True), ("https://a.example:443", "https://a.example", True),
           ("http://a.example", "http://a.example:80", True), ("http://a.example:80", "http://a.example", True),
           ("https://a.example", "https://a.example:80", False), ("https://a.example", "https://a.example:8443", False),
           ("https://a.example", "null", False), ("*", "null", True), ("https://*.example", "https://a.example:443", True),
           ("https://*.example", "https://a.example:8443", False), ("https://*.example:8443", "https://b.a.example:8443", True),
           ("https://*.example:8443", "https://a.example", False), ("https://*", "https://a.example", True),
           ("https://*", "http://a.example", False))},
    "everybody": ([ANYONE], [], f"/foo {ORIGIN}",
                  f"200 {ALLOW}-Origin=https://a.example <-Access-Control-Allow-Credentials <Access-Control-Expose-Headers=*"),
    "everybody, with credentials": (
        [ANYONE_KNOWN], [], f"/foo {ORIGIN}",
        f"200 {ALLOW}-Origin=https://a.example {ALLOW}-Credentials=true <-Access-Control-Expose-Headers"),
    "preflight of everybody": ([ANYONE], [], f"OPTIONS /foo {ORIGIN} {METHOD} Access-Control-Request-Headers:X-9",
                               f"200 {ALLOW}-Methods=PUT {ALLOW}-Headers=X-9"),
    "with credentials what is asked for is echoed": (
        [ANYONE_KNOWN], [], f"OPTIONS /foo {ORIGIN} {METHOD} Access-Control-Request-Headers:X-9",
        f"200 {ALLOW}-Origin=https://a.example {ALLOW}-Methods=PUT {ALLOW}-Headers=X-9 {ALLOW}-Credentials=true"),
    "and is not said where nothing is asked for": (
        [ANYONE_KNOWN], [], f"OPTIONS /foo {ORIGIN} {METHOD}", f"200 {ALLOW}-Origin=https://a.example <-Access-Control-Allow-Headers"),
    "nor a method": ([ANYONE_KNOWN], [], f"OPTIONS /foo {ORIGIN}",
                     f"200 {ALLOW}-Origin=https://a.example <-Access-Control-Allow-Methods <-Access-Control-Max-Age"),
    "credentials that are not allowed are not spoken of": (
        ["CORS: {allowOrigins: ['https://a.example'], allowCredentials: false}"], [], f"OPTIONS /foo {ORIGIN} {METHOD}",
        f"200 {ALLOW}-Origin=https://a.example <-Access-Control-Allow-Credentials"),
    "the lists, the credentials, the age": ([LISTS], [], f"OPTIONS /foo {ORIGIN} {METHOD}",
        f"200 {ALLOW}-Headers=X-1,X-2 {ALLOW}-Credentials=true <Access-Control-Max-Age=600"),
    "what scripts may see": ([LISTS], [], f"/foo {ORIGIN}", f"200 <Access-Control-Expose-Headers=X-3 {ALLOW}-Credentials=true"),
    "preflight of another origin": ([CORS], [], f"OPTIONS /foo Origin:https://b.example {METHOD}",
                                    "200 <-Access-Control-Allow-Origin <-Access-Control-Allow-Methods"),
    "preflight": ([CORS], [], "OPTIONS /foo Origin:https://a.example Access-Control-Request-Method:PUT",
                  "200 <Access-Control-Allow-Methods=PUT <Access-Control-Max-Age=5"),
    "preflight on the backendRef": ([], [CORS], "OPTIONS /foo Origin:https://a.example Access-Control-Request-Method:PUT",
                                    "200 <Access-Control-Allow-Methods=PUT <Access-Control-Max-Age=5"),
}

GRPC_CASES = {
    "set": ([SET, SAY], [], {"x-a": "two"}, {"x-b": "one"}),
    "add": ([ADD], [], {"x-a": "mine, one"}, {}),
    "remove": ([REMOVE], [], {"x-a": None}, {}),
    "set on the backendRef": ([], [SET, SAY], {"x-a": "two"}, {"x-b": "one"}),
    "add on the backendRef": ([], [ADD], {"x-a": "mine, one"}, {}),
    "remove on the backendRef": ([], [REMOVE], {"x-a": None}, {}),
    "both": ([SET, SAY], [REMOVE, SAY_TOO], {"x-a": None}, {"x-b": "two", "x-c": "one, two"}),
}


def written(filters: list[str]) -> list[dict]:
    made = []
    for each in filters:
        kind, _, body = each.partition(": ")
        field = {"CORS": "cors", "URLRewrite": "urlRewrite"}.get(kind, kind[0].lower() + kind[1:])
        made.append({"type": kind, field: yaml.safe_load(body)})
    return made


def host(case: str) -> str:
    return f"case-{[*CASES].index(case)}.example"


def rule(filters: list[str], on_backend: list[str] | None, backend: str, match: dict) -> dict:
    refs = [] if on_backend is None else [{"name": backend, "port": 80, "filters": written(on_backend)}]
    return {"matches": [match], "filters": written(filters), "backendRefs": refs}


@pytest.fixture(scope="module")
def world(tmp_path_factory) -> Iterator[tuple[Gateway, GrpcBackend]]:
    """Each case is a route of its own; calls are told apart by their service."""
    folder, port, backend, calls = tmp_path_factory.mktemp("filters") / "conf", free_port(), Backend("a"), GrpcBackend("g")
    folder.mkdir()
    routes = [route(f"case-{i}", rule(filters, inner, "a", {"path": {"type": "PathPrefix", "value": "/foo"}}),
                    hostnames=[f"case-{i}.example"]) for i, (filters, inner, _, _) in enumerate(CASES.values())]
    rules = [rule(filters, inner, "g", {"method": {"service": f"test.Case{i}"}})
             for i, (filters, inner, _, _) in enumerate(GRPC_CASES.values())]
    write(folder, "all.yaml", gateway(port), service("a", backend), grpc_service("g", calls.port), *routes,
          resource("GRPCRoute", "calls", {"parentRefs": [{"name": "gw"}], "hostnames": ["grpc.example"], "rules": rules}))
    running = Gateway(folder, "--access-log", "off")
    yield running, calls
    running.stop()
    backend.close()
    calls.close()
    assert not backend.dirty


@pytest.mark.parametrize("case", CASES)
def test_http(world, case: str) -> None:
    running, _ = world
    _, _, request, outcome = CASES[case]
    method, *words = request.split() if request[0] != "/" else ("GET", *request.split())
    fields = dict(word.split(":", 1) for word in words[1:])
    response = running.get(words[0], host(case), method, **fields)
    status, *checks = outcome.replace("HOST", host(case)).replace(":80/", f":{running.port}/").split()
    got = json.loads(response.body) if response.fields.get("X-Backend") else {}
    assert response.status == int(status), response.raw
    assert not [check for check in checks if not holds(check, got, response)], (response.raw, got)


@pytest.mark.parametrize("case", GRPC_CASES)
def test_grpc(world, case: str) -> None:
    running, _ = world
    _, _, sent, said = GRPC_CASES[case]
    with grpc.insecure_channel(f"127.0.0.1:{running.port}", [("grpc.default_authority", "grpc.example"),
                                                              ("grpc.use_local_subchannel_pool", 1)]) as channel:
        method = channel.unary_unary(f"/test.Case{[*GRPC_CASES].index(case)}/Say")
        message, call = method.with_call(b"hello", timeout=10, metadata=[("x-a", "mine"), ("x-d", "mine")])
    heard: dict[str, str] = {}
    for name, value in call.initial_metadata():
        heard[name] = f"{heard[name]}, {value}" if name in heard else value
    assert message == b"hello"
    assert {name: heard.get(name) for name in {**sent, **said}} == {**sent, **said}
