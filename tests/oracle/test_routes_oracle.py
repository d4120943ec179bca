"""Which route gets a request: the words of the API, read from the resources, against the table that is made of them.

The oracle has no key: it goes through the sentences on precedence in turn, and each leaves those that it prefers.
"""
from datetime import UTC, datetime

import matcher
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gwfast._match import Table
from table_verify import verify
from gwfast.config import model
from gwfast.endpoints.registry import Registry
from gwfast.graph.attach import attach
from gwfast.plan import ir
from gwfast.plan.build import build
from gwfast.plan.explain import Request, explain
from gwfast.plan.image import Images

LISTENERS = ["", "*.test", "*.a.test", "*.b.a.test", "a.test", "b.a.test", "c.b.a.test"]
HOSTNAMES = ["*.test", "*.a.test", "*.b.a.test", "*.c.b.a.test", "a.test", "b.a.test", "c.b.a.test", "x.test", "y.other"]
NAMES = ["test", "a.test", "b.a.test", "c.b.a.test", "d.c.b.a.test", "x.test", "y.other"]
PATHS = [("PathPrefix", "/"), ("PathPrefix", "/a"), ("PathPrefix", "/a/b"), ("Exact", "/a"), ("Exact", "/a/b")]


def serving(listeners, routes, host, path):
    """Return the place of the listener and the name of the route that serve a request, None for none."""
    fitting = [i for i, hostname in enumerate(listeners) if matcher.covers(hostname, host)]
    listener = max(fitting, key=lambda i: matcher.specificity(listeners[i]), default=None)
    if listener is None:
        return None
    found = []
    for i, (hostnames, kind, value, created) in enumerate(routes):
        matching = [name for name in hostnames if matcher.covers(name, host)]
        if (matching or not hostnames) and (kind is None or matcher.path_matches(ir.Match(path_type=kind, path=value), path)):
            found.append((i, matching, kind, value, created))
    for sentence in SENTENCES:
        best = max(map(sentence, found), default=None)
        found = [each for each in found if sentence(each) == best]
    return listener, f"r{found[0][0]}" if found else None


SENTENCES = [  # httproute_types.go:104-112, 184-201
    lambda each: max((len(name) for name in each[1] if not name.startswith("*.")), default=0),
    # "the largest number of characters in a matching non-wildcard hostname", then
    lambda each: max(map(len, each[1]), default=0),                   # "characters in a matching hostname"
    lambda each: each[2] == "Exact",                                  # "'Exact' path match"
    lambda each: len(each[3]) if each[2] == "PathPrefix" else 0,      # "'Prefix' path match with largest number of characters"
    lambda each: -each[4],                                            # "the oldest Route"
    lambda each: -each[0],                                            # "first in alphabetical order"
]


METHODS = {("PathPrefix", "/"): None, ("PathPrefix", "/a"): ("a", None), ("Exact", "/a/b"): ("a", "b")}


def resources(kind, listeners, routes):
    """Return a Gateway and its routes as they would be read."""
    about = {"protocol": "HTTP"} if kind != "TLSRoute" else {
        "protocol": "TLS", "tls": model.ListenerTLSConfig(mode="Passthrough")}
    names = [model.Listener(name=f"l{i}", port=80, hostname=hostname or None, **about) for i, hostname in enumerate(listeners)]
    made = [model.Gateway(metadata=model.ObjectMeta(name="g", namespace="ns"),
                          spec=model.GatewaySpec(gateway_class_name="any", listeners=tuple(names)))]
    for i, (hostnames, path_type, value, created) in enumerate(routes):
        metadata = model.ObjectMeta(name=f"r{i}", namespace="ns", creation_timestamp=datetime(2026, 1, created, tzinfo=UTC))
        route, spec, rule = KINDS[kind]
        made.append(route(metadata=metadata, spec=spec(parent_refs=(model.ParentReference(name="g"),), hostnames=hostnames,
                                                       rules=(rule(path_type, value),))))
    return made


def http_rule(path_type, value):
    refs = (model.HTTPBackendRef(name="s", port=80),)
    path = model.HTTPPathMatch(type=path_type, value=value)
    return model.HTTPRouteRule(matches=(model.HTTPRouteMatch(path=path),), backend_refs=refs)


def grpc_rule(path_type, value):
    refs = (model.GRPCBackendRef(name="s", port=80),)
    named = METHODS[path_type, value]
    matches = () if named is None else (model.GRPCRouteMatch(method=model.GRPCMethodMatch(service=named[0], method=named[1])),)
    return model.GRPCRouteRule(matches=matches, backend_refs=refs)


def tls_rule(path_type, value):
    return model.TLSRouteRule(backend_refs=(model.BackendRef(name="s", port=80),))


KINDS = {
    "HTTPRoute": (model.HTTPRoute, model.HTTPRouteSpec, http_rule),
    "GRPCRoute": (model.GRPCRoute, model.GRPCRouteSpec, grpc_rule),
    "TLSRoute": (model.TLSRoute, model.TLSRouteSpec, tls_rule),
}
DRAWN = {"HTTPRoute": PATHS, "GRPCRoute": [*METHODS], "TLSRoute": [(None, "")]}


def routes(kind):
    hostnames = st.lists(st.sampled_from(HOSTNAMES), min_size=kind == "TLSRoute", max_size=3, unique=True).map(tuple)
    return st.lists(st.builds(lambda names, path, created: (names, *path, created), hostnames, st.sampled_from(DRAWN[kind]),
                              st.integers(1, 2)), min_size=1, max_size=6)


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=150)
@given(st.data())
def test_the_route_whose_own_hostname_is_more_specific_comes_first(kind, data):
    listeners = data.draw(st.lists(st.sampled_from(LISTENERS), min_size=1, max_size=3, unique=True))
    drawn = data.draw(routes(kind))
    plan = build(attach(resources(kind, listeners, drawn)))
    image = Images(Registry()).build(plan, {"[]:80": 1})
    table = Table(image)
    assert verify(image) is None
    for host in NAMES:
        for path in ["/"] if kind == "TLSRoute" else ["/", "/a", "/a/b", "/c/d"]:
            wanted = serving(listeners, drawn, host, path)
            said = wanted and (f"ns/g/l{wanted[0]}", wanted[1] and f"{kind}/ns/{wanted[1]}/0")
            if kind == "TLSRoute":
                assert table.route(1, host) == said
                continue
            found = table.find(1, "POST", path, [("host", host)])
            assert found == (said and said[1] and (*said, found[2])), (host, path)
            told = explain(plan.binds[0], Request(method="POST", scheme="http", address="", port=80, host=host, path=path))
            assert (told.entry and told.entry.rule.id) == (said and said[1])
