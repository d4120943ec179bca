"""ReplacePrefixMatch changes the prefix and nothing else: what is behind it goes on as it was sent, and `explain` says the same."""
import pytest
from support.scripted import head
from support.exchanges import ask

from gwfast.plan import ir
from gwfast.plan.explain import explain, read_request

PATHS = {  # prefix, replacement, what is asked for, what the backend gets
    "as it is": ("/strip", "/new", "/strip/a/b", "/new/a/b"),
    "empty segments": ("/strip", "/", "/strip/a//b", "/a//b"),
    "empty segments to a prefix": ("/strip", "/new", "/strip/a///b//", "/new/a///b//"),
    "behind the prefix at once": ("/strip", "/new", "/strip//b", "/new//b"),
    "in the prefix": ("/a/b", "/new", "//a//b//c", "/new//c"),
    "dot segments behind it": ("/strip", "/new", "/strip/a/../b", "/new/a/../b"),
    "a dot behind it": ("/strip", "/new", "/strip/./b/.", "/new/./b/."),
    "dot segments before it": ("/strip", "/new", "/x/../strip/a", "/new/a"),
    "dot segments through it": ("/strip", "/new", "/strip/a/../../strip/b", "/new/b"),
    "out of it and back": ("/a/b", "/new", "/a/b/../b//c", "/new//c"),
    "escaped dots": ("/strip", "/new", "/x/%2e%2E/strip/a//b", "/new/a//b"),
    "an escaped prefix": ("/strip", "/new", "/%73trip/%61//b", "/new/%61//b"),
    "escapes behind it": ("/strip", "/new", "/strip/%7euser/%2d", "/new/%7euser/%2d"),
    "an escaped slash": ("/strip", "/new", "/strip/a%2fb//c", "/new/a%2fb//c"),
    "parameters of segments": ("/strip", "/new", "/strip/a;v=1//b;w", "/new/a;v=1//b;w"),
    "three dots are a name": ("/strip", "/new", "/strip/.../..a//.b", "/new/.../..a//.b"),
    "the whole of it": ("/strip", "/new", "/strip", "/new"),
    "the whole of it, to nothing": ("/strip", "/", "/strip", "/"),
    "a trailing slash": ("/strip", "/new", "/strip/", "/new/"),
    "two trailing slashes": ("/strip", "/new", "/strip//", "/new//"),
    "a trailing slash, to nothing": ("/strip", "/", "/strip/", "/"),
    "the root": ("/", "/new", "/a//b", "/new/a//b"),
    "a query": ("/strip", "/new", "/strip/a//b?c=//d&e=%2e%2e", "/new/a//b?c=//d&e=%2e%2e"),
    "a query behind the prefix": ("/strip", "/new", "/strip?//", "/new?//"),
}


def plan_of(prefix: str, *filters):
    backend = ir.Backend(namespace="default", name="echo", port=80)
    rule = ir.Rule(kind="HTTPRoute", namespace="default", route="all", index=0, filters=filters,
                   backends=(ir.WeightedBackend(backend=backend),))
    entry = ir.Entry(match=ir.Match(path=prefix), rule=rule)
    listener = ir.Listener(id="default/gateway/web", hosts=(ir.Host(hostname="", entries=(entry,)),))
    return lambda addresses: ir.Plan(
        binds=(ir.Bind(address="", port=80, listeners=(listener,)),), backends=(backend,),
        endpoints=(ir.Endpoints(key=backend.key, addresses=tuple(addresses)),))


@pytest.mark.parametrize("version", ["http1", "http2"])
@pytest.mark.parametrize("case", PATHS.values(), ids=PATHS)
def test_a_rewrite_changes_the_prefix_alone(start, backend, case, version):
    prefix, replacement, path, expected = case
    plan = plan_of(prefix, ir.RewriteFilter(path=ir.PathModifier(type="ReplacePrefixMatch", value=replacement)))
    engine = start([("127.0.0.1", backend.port)], plan)
    ask(engine, version, path=path)
    assert head(backend.accept()).split(b" ")[1].decode() == expected
    told = explain(plan([]).binds[0], read_request("GET", f"http://a{path}", []))
    assert told.shares[0].target == expected


@pytest.mark.parametrize("case", PATHS.values(), ids=PATHS)
def test_a_redirect_changes_the_prefix_alone(start, case):
    prefix, replacement, path, expected = case
    plan = plan_of(prefix, ir.RedirectFilter(hostname="b", path=ir.PathModifier(type="ReplacePrefixMatch", value=replacement)))
    assert ask(start([], plan), "http1", path=path)() == (302, f"http://b{expected}")
    told = explain(plan([]).binds[0], read_request("GET", f"http://a{path}", []))
    assert told.shares[0].location == f"http://b{expected}"
