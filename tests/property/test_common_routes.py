"""Routes of common shapes take shorter ways through the stages. What comes of them is what the long way makes of them."""
import msgspec
from hypothesis import given
from hypothesis import strategies as st

from gwfast.config import model as m
from gwfast.config.model.http_route import check_http_route, is_plain
from gwfast.config.read import read
from gwfast.graph.attach import attach
from gwfast.graph.hostnames import covers, matching
from gwfast.plan.build import build

PATHS = ["/", "", "/a", "/a/", "a", "//", "/a//b", "/.", "/a/../b", "/a/..", "/%2f", "/%41", "/#", "/a b", "/a.b/c", "/é"]
NAMES = ["", "a.example", "b.example", "*.example", "x.a.example", "*.a.example", "example"]
MODIFIER = {"type": "RequestHeaderModifier", "requestHeaderModifier": {"set": [{"name": "a", "value": "1"}]}}
REDIRECT = {"type": "RequestRedirect", "requestRedirect": {"port": 80}}
backends = st.fixed_dictionaries({"name": st.sampled_from(["one", "two", "none"])}, optional={
    "port": st.sampled_from([80, 81]), "namespace": st.sampled_from(["a", "b"]), "weight": st.sampled_from([0, 1, 2]),
    "kind": st.sampled_from(["Service", "XBackend"]), "group": st.sampled_from(["", "gateway.networking.x-k8s.io"]),
    "filters": st.lists(st.sampled_from([MODIFIER, REDIRECT]), max_size=2)})
matches = st.fixed_dictionaries({}, optional={
    "path": st.fixed_dictionaries({"type": st.sampled_from(["PathPrefix", "Exact", "RegularExpression"]),
                                   "value": st.sampled_from(PATHS)}),
    "headers": st.lists(st.sampled_from([{"name": "a", "value": "1"}, {"name": "b", "value": "2"}]), max_size=2),
    "method": st.just("GET")})
rules = st.fixed_dictionaries({}, optional={
    "matches": st.lists(matches, max_size=2), "backendRefs": st.lists(backends, max_size=2),
    "filters": st.lists(st.sampled_from([MODIFIER, REDIRECT]), max_size=2),
    "timeouts": st.sampled_from([{"request": "1s", "backendRequest": "2s"}, {"request": "2s"}]),
    "retry": st.sampled_from([{"codes": [500, 500]}, {"attempts": 2}])})
specs = st.fixed_dictionaries({
    "parentRefs": st.lists(st.sampled_from([{"name": "web", "namespace": "a"}, {"name": "web", "namespace": "a", "port": 80}]),
                           min_size=1, max_size=2),
    "rules": st.lists(rules, min_size=1, max_size=2)},
    optional={"hostnames": st.lists(st.sampled_from(NAMES[1:]), max_size=3)})


def resource(kind: str, namespace: str, name: str, spec: dict, version: str = "gateway.networking.k8s.io/v1") -> dict:
    return {"apiVersion": version, "kind": kind, "metadata": {"namespace": namespace, "name": name}, "spec": spec}


def loaded(*written: dict) -> list[m.Resource]:
    text = msgspec.json.encode({"apiVersion": "v1", "kind": "List", "items": written})
    return [item.resource for item in read(text, {}) if item.resource is not None]


OTHERS = [
    resource("Gateway", "a", "web", {"gatewayClassName": "gwfast", "listeners": [
        {"name": "web", "port": 80, "protocol": "HTTP", "allowedRoutes": {"namespaces": {"from": "All"}}},
        {"name": "named", "port": 80, "protocol": "HTTP", "hostname": "*.example"}]}),
    resource("Service", "a", "one", {"ports": [{"port": 80}]}, "v1"),
    resource("Service", "b", "one", {"ports": [{"port": 80, "appProtocol": "kubernetes.io/h2c"}]}, "v1"),
    resource("Service", "b", "two", {"ports": [{"port": 81}]}, "v1"),
    resource("ReferenceGrant", "b", "some", {"from": [{"group": "gateway.networking.k8s.io", "kind": "HTTPRoute", "namespace": "a"}],
                                             "to": [{"group": "", "kind": "Service", "name": "two"}]},
             "gateway.networking.k8s.io/v1beta1"),
]


@given(specs)
def test_nothing_is_wrong_with_a_plain_route(spec):
    try:
        route = msgspec.convert(resource("HTTPRoute", "a", "r", spec), m.HTTPRoute)
    except msgspec.ValidationError:
        return
    if is_plain(route.spec):
        assert not [*check_http_route(route.spec, m.NEWEST)]


@given(st.lists(st.tuples(st.sampled_from(["a", "b"]), specs), min_size=1, max_size=6))
def test_routes_together_are_what_each_is_alone(written):
    """What routes share (the answers about their references, their nodes, what the plan makes of these) is nobody else's."""
    routes = loaded(*(resource("HTTPRoute", namespace, f"r{n}", spec) for n, (namespace, spec) in enumerate(written)))
    others = loaded(*OTHERS)
    together = attach([*others, *routes])
    planned = rules_of(build(together))
    for route in routes:
        alone = attach([*others, route])
        key = route.key
        assert repr(together.routes[key]) == repr(alone.routes[key])
        assert planned.get((key.namespace, key.name)) == rules_of(build(alone)).get((key.namespace, key.name))


def rules_of(plan) -> dict[tuple[str, str], set[str]]:
    found: dict[tuple[str, str], set[str]] = {}
    for listener in (each for bind in plan.binds for each in bind.listeners):
        for host in listener.hosts:
            for entry in host.entries:
                said = f"{listener.id} {host.hostname} {entry!r}"
                found.setdefault((entry.rule.namespace, entry.rule.route), set()).add(said)
    return found


@given(st.sampled_from(NAMES), st.lists(st.sampled_from(NAMES[1:]), min_size=1, max_size=3))
def test_hostnames_in_common(listener, hostnames):
    """As matching() says it of any number of hostnames, also where it looks at one only."""
    found = matching(listener, tuple(hostnames))
    above = [name for name in hostnames if covers(name, listener)]
    most = max(above, key=lambda name: (name[:2] != "*.", len(name)), default=None)
    assert found == tuple(dict.fromkeys(
        name for name in hostnames if name == most or covers(listener, name) and not covers(name, listener)))
