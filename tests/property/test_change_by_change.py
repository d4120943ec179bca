"""Any sequence of changes to resources of every kind that is served: the plan, the problems and the table that are made
from the ones before say and do what those from nothing do.

Pieces of shared sequences are cut to a few items, so that few routes are enough for many pieces.
"""
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gwfast import sharing
from table_inspect import rules
from table_verify import verify
from gwfast._match import Table
from gwfast.config import model as m
from gwfast.endpoints.registry import Registry
from gwfast.graph import conditions
from gwfast.graph.attach import Attacher
from gwfast.plan import ir, regex
from gwfast.plan.build import Builder, build
from gwfast.plan.dump import to_builtins
from gwfast.plan.image import Images
from gwfast.plan.order import Order
from gwfast.plan.problems import problems

HOSTS = ["", "a.test", "b.test", "*.test", "*.a.test", "x.a.test"]
PATHS = ["/", "/a", "/a/b", "/b", "/c", "/a/b/c"]
PATTERNS = ["/a/.*", "/[ab]", "/b/x+", "/.*c"]


@pytest.fixture(autouse=True, scope="module")
def short_pieces():
    known, sharing.PIECE = sharing.PIECE, 2
    yield
    sharing.PIECE = known


def meta(name, namespace="ns", **more):
    return m.ObjectMeta(name=name, namespace=namespace, generation=1, **more)


def gateway(name, port, hostname, sets=False):
    allowed = m.AllowedListeners(namespaces=m.ListenerNamespaces(from_="All")) if sets else None
    listeners = (m.Listener(name="any", port=port, protocol="HTTP"),
                 m.Listener(name="named", port=port, protocol="HTTP", hostname=hostname))
    return m.Gateway(metadata=meta(name), spec=m.GatewaySpec(
        gateway_class_name="c", listeners=listeners, allowed_listeners=allowed))


def listener_set(name, hostname, to):
    return m.ListenerSet(metadata=meta(name), spec=m.ListenerSetSpec(
        parent_ref=m.ParentGatewayReference(name=to),
        listeners=(m.Listener(name="own", port=80, protocol="HTTP", hostname=hostname),)))


def grant(allowed):
    return m.ReferenceGrant(metadata=meta("grant", "away"), spec=m.ReferenceGrantSpec(
        from_=(m.ReferenceGrantFrom(group=m.GATEWAY_GROUP, kind="HTTPRoute", namespace=allowed),),
        to=(m.ReferenceGrantTo(group="", kind="Service"),)))


def service(name, port):
    return m.Service(metadata=meta(name), spec=m.ServiceSpec(ports=(m.ServicePort(port=port),)))


def endpoints(name, ips):
    labels = {"kubernetes.io/service-name": name}
    return m.EndpointSlice(
        metadata=meta(f"{name}-1", labels=labels), address_type="IPv4", ports=(m.EndpointPort(port=8080),),
        endpoints=tuple(m.Endpoint(addresses=(f"10.0.0.{ip}",)) for ip in sorted(ips)))


def header_filter(name):
    modifier = m.HTTPHeaderFilter(set=(m.HTTPHeader(name="X-Set", value=name),))
    return m.HTTPRouteFilter(type="RequestHeaderModifier", request_header_modifier=modifier)


REFUSED = m.HTTPRouteFilter(type="CORS", cors=m.HTTPCORSFilter())
plain = st.builds(lambda kind, path: m.HTTPPathMatch(type=kind, value=path),
                  st.sampled_from(["Exact", "PathPrefix", "PathPrefix"]), st.sampled_from(PATHS))
patterns = st.sampled_from(PATTERNS).map(lambda path: m.HTTPPathMatch(type="RegularExpression", value=path))
matches = st.builds(
    lambda path, method, header, query: m.HTTPRouteMatch(
        path=path, method=method,
        headers=tuple(m.HTTPHeaderMatch(name="x-h", value=value) for value in header),
        query_params=tuple(m.HTTPQueryParamMatch(name="q", value=value) for value in query)),
    st.one_of(plain, plain, plain, patterns), st.sampled_from([None, None, "GET", "POST"]),
    st.lists(st.sampled_from("1234567890"), max_size=1), st.lists(st.sampled_from("12"), max_size=1))
backends = st.builds(
    lambda name, weight, namespace: m.HTTPBackendRef(name=name, port=80, weight=weight, namespace=namespace),
    st.sampled_from(["s1", "s2", "s3"]), st.sampled_from([0, 1, 1, 5]), st.sampled_from([None, None, None, "away"]))
rule = st.builds(
    lambda matches, backends, filters: m.HTTPRouteRule(
        matches=tuple(matches), backend_refs=tuple(backends), filters=tuple(filters)),
    st.lists(matches, min_size=1, max_size=3), st.lists(backends, max_size=2),
    st.lists(st.sampled_from([header_filter("1"), header_filter("2"), REFUSED]), max_size=1))
parents = st.sampled_from([("Gateway", "one", None), ("Gateway", "one", "named"), ("Gateway", "two", None),
                           ("ListenerSet", "set", None)])
routes = st.builds(
    lambda name, parents, hostnames, rules: m.HTTPRoute(metadata=meta(name), spec=m.HTTPRouteSpec(
        parent_refs=tuple(m.ParentReference(kind=kind, name=to, section_name=section)
                          for kind, to, section in parents),
        hostnames=tuple(filter(None, hostnames)), rules=tuple(rules))),
    st.integers(0, 14).map("r{}".format), st.lists(parents, min_size=1, max_size=2, unique=True),
    st.lists(st.sampled_from(HOSTS), max_size=2, unique=True), st.lists(rule, min_size=1, max_size=2))
others = st.one_of(
    st.builds(gateway, st.just("one"), st.sampled_from([80, 81]), st.sampled_from(["*.test", "a.test"]), st.booleans()),
    st.builds(gateway, st.just("two"), st.just(82), st.just("*.a.test")),
    st.builds(listener_set, st.just("set"), st.sampled_from(["x.test", "*.x.test"]), st.sampled_from(["one", "two"])),
    st.builds(service, st.sampled_from(["s1", "s2"]), st.sampled_from([80, 81])),
    st.builds(endpoints, st.sampled_from(["s1", "s2", "s3"]), st.sets(st.integers(1, 3), max_size=2)),
    st.sampled_from(["ns", "none"]).map(grant))
steps = st.lists(st.tuples(st.sampled_from(["put", "put", "put", "remove"]),
                           st.lists(st.one_of(routes, routes, others), min_size=1, max_size=4)), min_size=4, max_size=14)


def start():
    found = [gateway("one", 80, "*.test", True), gateway("two", 82, "*.a.test"), service("s1", 80), grant("ns"),
             endpoints("s1", {1}), listener_set("set", "x.test", "one")]
    return {resource.key: resource for resource in found}


class Kept:
    """Every stage, with what it remembers."""

    def __init__(self):
        self.attacher, self.builder, self.registry = Attacher(refuse_regex=regex.check), Builder(), Registry()
        self.images, self.generation = Images(self.registry), 0

    def made(self, resources, changed):
        self.generation += 1
        graph = self.attacher.attach(resources, changed)
        return graph, self.builder.build(graph)

    def table(self, plan):
        return self.images.build(plan, ids(plan), self.generation)


def ids(plan):
    return {bind.key: bind.port for bind in plan.binds}


def told(graph, plan):
    found = conditions.problems(graph)
    return sorted(map(str, found + problems(plan, found)))


def done(image):
    """What the rules of an image do, without the numbers that depend on what was before."""
    found = {}
    for name, one in rules(image).items():
        choices = [choice | {"endpoints": [endpoint[:2] for endpoint in choice["endpoints"]]}
                   for choice in one["choices"]]
        found[name] = one | {"choices": choices, "pick": None, "counter": None}
    return found


REQUESTS = [(method, path + query, [("host", host), *headers])
            for host in ("a.test", "x.a.test", "y.test", "x.test", "other") for path in (*PATHS, "/b/x", "/z/c")
            for method, query, headers in (("GET", "", []), ("POST", "?q=1", [("x-h", "3")]), ("GET", "?q=2", [("X-H", "7")]))]


@settings(max_examples=40, deadline=None)
@given(steps)
def test_what_comes_of_changes_is_what_comes_of_nothing(steps):
    kept, resources = Kept(), start()
    kept.table(kept.made(resources, None)[1])
    for what, step in steps:
        resources = dict(resources)
        for resource in step:
            if what == "put":
                resources[resource.key] = resource
            else:
                resources.pop(resource.key, None)
        graph, plan = kept.made(resources, {resource.key for resource in step})
        fresh_graph = Attacher(refuse_regex=regex.check).attach(resources)
        fresh = build(fresh_graph)
        assert to_builtins(plan) == to_builtins(fresh)
        assert told(graph, plan) == told(fresh_graph, fresh)
        assert kept.builder.entries == sum(len(host.entries) for bind in plan.binds for listener in bind.listeners
                                           for host in listener.hosts)
        check_table(kept.table(plan), Images(Registry()).build(fresh, ids(fresh)), plan)


def check_table(image, fresh, plan):
    assert verify(image) is None
    assert done(image) == done(fresh)
    mine, theirs = Table(image), Table(fresh)
    for bind in plan.binds:
        for request in REQUESTS:
            assert mine.find(bind.port, *request) == theirs.find(bind.port, *request), request


def test_the_requests_find_rules():
    resources = start()
    for i, path in enumerate(PATHS):
        match = m.HTTPRouteMatch(path=m.HTTPPathMatch(type="PathPrefix", value=path))
        route = m.HTTPRoute(metadata=meta(f"r{i}"), spec=m.HTTPRouteSpec(
            parent_refs=(m.ParentReference(name="one"),), rules=(m.HTTPRouteRule(
                matches=(match,), backend_refs=(m.HTTPBackendRef(name="s1", port=80),)),)))
        resources[route.key] = route
    plan = build(Attacher(refuse_regex=regex.check).attach(resources))
    table = Table(Images(Registry()).build(plan, ids(plan)))
    found = sum(table.find(80, *request) is not None for request in REQUESTS)
    assert found == len(REQUESTS) * 4 // 5  # x.test belongs to the ListenerSet alone


# ---- What the image writer does in place

NAMES = [f"h{n}.test" for n in range(12)] + ["*.wild.test", ""]
ROUTES = [f"/{n}" for n in range(12)] + ["/1/2", "/"]
places = st.tuples(st.sampled_from(NAMES), st.sampled_from(ROUTES), st.sampled_from(["Exact", "PathPrefix"]))
edits = st.lists(st.lists(st.tuples(st.booleans(), places), min_size=1, max_size=3), min_size=10, max_size=60)


@settings(max_examples=40, deadline=None)
@given(st.sets(places, max_size=80), edits)
def test_paths_and_hosts_come_and_go(first, steps):
    order, images, known, number = Order(), Images(Registry()), {}, 0
    for step in [[(True, place) for place in sorted(first)], *steps]:
        gone, come = {}, {}
        for put, place in dict((place, (put, place)) for put, place in step).values():
            if place in known:
                gone.setdefault(place[0], []).append(known.pop(place))
            if put:
                number += 1
                known[place] = entry(place, number)
                come.setdefault(place[0], []).append(known[place])
        order.change(gone, come)
        listener = ir.Listener(id="l", hosts=order.hosts)
        image = images.build(ir.Plan(binds=(ir.Bind(address="", port=80, listeners=(listener,)),)), {"[]:80": 1})
        assert verify(image) is None
        assert {one for one in rules(image)} == {one.rule.id for one in known.values()}
        check_places(Table(image), known)


def entry(place, number):
    _, path, kind = place
    return ir.Entry(match=ir.Match(path_type=kind, path=path),
                    rule=ir.Rule(kind="HTTPRoute", namespace="n", route=f"r{number}", index=0))


def check_places(table, known):
    for host in NAMES:
        for path in ROUTES:
            found = table.find(1, "GET", path, [("host", host.replace("*", "x"))])
            assert (found and found[1]) == expected(known, host, path), (host, path)


def expected(known, host, path):
    """The rule of a path on a host, else on any host: exact, then the longest prefix."""
    tries = [(path, "Exact"), (path, "PathPrefix"), (path[:path.rfind("/")] or "/", "PathPrefix"), ("/", "PathPrefix")]
    return next((known[name, *one].rule.id for name in (host, "") for one in tries if (name, *one) in known), None)
