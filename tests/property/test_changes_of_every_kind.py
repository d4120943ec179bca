"""Any sequence of changes to listeners of every protocol, their certificates, routes of every kind and policies:
what is made from what was before says and does what is made from nothing.
"""
import mmap
import os
from datetime import UTC, datetime

from support import pki
from hypothesis import example, given, settings
from hypothesis import strategies as st

from table_inspect import binds, rules
from table_verify import verify
from gwfast._match import Table
from gwfast.config import model as m
from gwfast.config.source import Loaded
from gwfast.endpoints.registry import Registry
from gwfast.errors import Source
from gwfast.graph import conditions
from gwfast.graph.attach import Attacher
from gwfast.graph.conditions import conditions as statuses
from gwfast.plan import regex
from gwfast.plan.build import Builder, build
from gwfast.plan.dump import to_builtins
from gwfast.plan.image import Images
from gwfast.plan.problems import problems
from gwfast.serve.generation import Pipeline
from gwfast.serve.options import ServeOptions

NAMES = ["", "a.test", "x.term.test", "term.test", "y.pass.test", "a.b.pass.test", "other"]
SERVICES = ["s1", "s2"]


days = st.sampled_from([None, 1, 2])


def meta(name, **more):
    return m.ObjectMeta(name=name, namespace="ns", generation=1, **more)


def born(day):
    return day and datetime(2026, 1, day, tzinfo=UTC)


def tls(secret="", mode="Terminate", options=()):
    refs = (m.SecretObjectReference(name=secret),) if secret else ()
    return m.ListenerTLSConfig(mode=mode, certificate_refs=refs, options=dict(options))


def listener(name, protocol, port, hostname=None, config=None):
    return m.Listener(name=name, protocol=protocol, port=port, hostname=hostname, tls=config)


OPTIONS = [(), (("gwfast.dev/tls-min-version", "1.3"),), (("example.com/a", "b"),)]
LISTENERS = {
    "http": st.just(listener("http", "HTTP", 80)),
    "https": st.builds(lambda *args: listener("https", "HTTPS", 443, "a.test", tls(*args)), st.sampled_from(["c1", "c2"]),
                       st.just("Terminate"), st.sampled_from(OPTIONS)),
    "term": st.builds(lambda mode: listener("term", "TLS", 443, "*.term.test", tls("c1", mode)),
                      st.sampled_from(["Terminate", "Passthrough"])),
    "pass": st.sampled_from([listener("pass", "TLS", 443, name, tls(mode="Passthrough"))
                             for name in ("*.pass.test", "*.b.pass.test", "a.test")]),
    "tcp": st.sampled_from([listener("tcp", "TCP", 90), listener("tcp", "TCP", 91)]),
    "udp": st.just(listener("udp", "UDP", 90)),
}


def gateway(name, listeners, client, authority):
    frontend = m.FrontendTLSConfig(default=m.TLSConfig(validation=m.FrontendTLSValidation(
        ca_certificate_refs=(m.ObjectReference(group="", kind="ConfigMap", name=authority),)))) if authority else None
    backend = m.GatewayBackendTLS(client_certificate_ref=m.SecretObjectReference(name=client)) if client else None
    shift = 0 if name == "one" else 1000
    moved = tuple(m.Listener(name=one.name, protocol=one.protocol, port=one.port + shift, hostname=one.hostname, tls=one.tls)
                  for one in listeners)
    return m.Gateway(metadata=meta(name), spec=m.GatewaySpec(
        gateway_class_name="c", listeners=moved, tls=m.GatewayTLSConfig(frontend=frontend, backend=backend)))


gateways = st.builds(
    gateway, st.sampled_from(["one", "two"]),
    st.sets(st.sampled_from(sorted(LISTENERS)), min_size=2).flatmap(lambda names: st.tuples(*map(LISTENERS.get, sorted(names)))),
    st.sampled_from(["", "c1", "c2"]), st.sampled_from(["", "", "ca"]))


def secret(name, what):
    broken = {"broken": b"x", "expired": pki.pair("a.test", until=pki.EXPIRED)[0]}
    data = {"tls.crt": broken.get(what) or pki.pair(what)[0], "tls.key": pki.pair("a.test" if what in broken else what)[1]}
    return m.Secret(metadata=meta(name), data=data)


def policy(name, service, section, authority, created):
    validation = m.BackendTLSPolicyValidation(
        hostname=f"{name}.test", well_known_ca_certificates=None if authority else "System",
        ca_certificate_refs=(m.LocalObjectReference(group="", kind="ConfigMap", name=authority),) if authority else ())
    ref = m.LocalPolicyTargetReferenceWithSectionName(group="", kind="Service", name=service, section_name=section)
    return m.BackendTLSPolicy(metadata=meta(name, creation_timestamp=born(created)), spec=m.BackendTLSPolicySpec(
        target_refs=(ref,), validation=validation))


def traffic(name, services, percent, created):
    refs = tuple(m.LocalPolicyTargetReference(group="", kind="Service", name=one) for one in sorted(services))
    retry = None if percent is None else m.RetryConstraint(budget=m.BudgetDetails(percent=percent))
    return m.XBackendTrafficPolicy(metadata=meta(name, creation_timestamp=born(created)), spec=m.XBackendTrafficPolicySpec(
        target_refs=refs, retry_constraint=retry))


def health(name, services, failures, interval, created):
    passive = m.PassiveHealthCheck(consecutive_failures=failures) if failures else None
    active = m.ActiveHealthCheck(type="TCP", interval=interval) if interval else None
    refs = tuple(m.LocalPolicyTargetReferenceWithSectionName(group="", kind="Service", name=one) for one in sorted(services))
    return m.BackendPolicy(metadata=meta(name, creation_timestamp=born(created)), spec=m.BackendPolicySpec(
        target_refs=refs, health_check=m.HealthCheck(passive=passive, active=active)))


def service(name, app_protocol):
    ports = (m.ServicePort(name="web", port=80, app_protocol=app_protocol), m.ServicePort(name="raw", port=90),
             m.ServicePort(name="dns", port=90, protocol="UDP"))
    return m.Service(metadata=meta(name), spec=m.ServiceSpec(ports=ports))


def endpoints(name, ips):
    return m.EndpointSlice(
        metadata=meta(f"{name}-1", labels={"kubernetes.io/service-name": name}), address_type="IPv4",
        ports=(m.EndpointPort(name="web", port=8080), m.EndpointPort(name="raw", port=9090)),
        endpoints=tuple(m.Endpoint(addresses=(f"10.0.0.{ip}",)) for ip in sorted(ips)))


def refs(kind, chosen):
    port = 80 if kind is m.HTTPBackendRef or kind is m.GRPCBackendRef else 90
    return tuple(kind(name=name, port=port, weight=weight) for name, weight in chosen)


chosen = st.lists(st.tuples(st.sampled_from([*SERVICES, "s3"]), st.sampled_from([0, 1, 5])), min_size=1, max_size=2)
parents = st.lists(st.builds(lambda name, section: m.ParentReference(name=name, section_name=section),
                             st.sampled_from(["one", "two"]), st.sampled_from([None, None, "http", "term"])),
                   min_size=1, max_size=2, unique=True).map(tuple)
hostnames = st.lists(st.sampled_from(["a.test", "*.term.test", "x.term.test", "*.pass.test", "b.test"]),
                     min_size=1, max_size=2, unique=True).map(tuple)
methods = st.sampled_from([None, m.GRPCMethodMatch(service="s", method="m"), m.GRPCMethodMatch(service="s"),
                           m.GRPCMethodMatch(method="m"), m.GRPCMethodMatch(type="RegularExpression", service="s.*")])
calls = st.builds(lambda found: tuple(m.GRPCRouteMatch(method=one) for one in found), st.lists(methods, max_size=3))


def route(kind, spec, rule, ref):
    def make(name, parents, hostnames, chosen, calls, created):
        made = {"backend_refs": refs(ref, chosen)} | ({"matches": calls} if kind is m.GRPCRoute else {})
        hosts = {"hostnames": hostnames} if hasattr(spec, "hostnames") else {}
        metadata = meta(name, creation_timestamp=born(created))
        return kind(metadata=metadata, spec=spec(parent_refs=parents, rules=(rule(**made),), **hosts))
    return st.builds(make, st.integers(0, 3).map("r{}".format), parents, hostnames, chosen, calls, days)


routes = st.one_of(
    route(m.HTTPRoute, m.HTTPRouteSpec, m.HTTPRouteRule, m.HTTPBackendRef),
    route(m.GRPCRoute, m.GRPCRouteSpec, m.GRPCRouteRule, m.GRPCBackendRef),
    route(m.TLSRoute, m.TLSRouteSpec, m.TLSRouteRule, m.BackendRef),
    route(m.TCPRoute, m.TCPRouteSpec, m.TCPRouteRule, m.BackendRef),
    route(m.UDPRoute, m.UDPRouteSpec, m.UDPRouteRule, m.BackendRef))
others = st.one_of(
    gateways,
    st.builds(endpoints, st.sampled_from(SERVICES), st.sets(st.integers(1, 3), max_size=2)),
    st.builds(secret, st.sampled_from(["c1", "c2"]), st.sampled_from(["a.test", "x.term.test", "broken", "expired"])),
    st.builds(lambda *names: pki.authority("ns", "ca", *names), st.sampled_from(["one.ca", "two.ca"])),
    st.builds(policy, st.sampled_from(["p1", "p2", "p3"]), st.sampled_from(SERVICES), st.sampled_from([None, "web", "raw"]),
              st.sampled_from(["", "ca", "none"]), days),
    st.builds(traffic, st.sampled_from(["t1", "t2"]), st.sets(st.sampled_from(SERVICES), min_size=1),
              st.sampled_from([None, 0, 20]), days),
    st.builds(health, st.sampled_from(["h1", "h2"]), st.sets(st.sampled_from(SERVICES), min_size=1),
              st.sampled_from([0, 3, 5]), st.sampled_from(["", "3s"]), days),
    st.builds(service, st.sampled_from(SERVICES), st.sampled_from([None, "https", "kubernetes.io/h2c", "kubernetes.io/ws"])))
steps = st.lists(st.tuples(st.sampled_from(["put", "put", "put", "remove"]),
                           st.lists(st.one_of(routes, routes, others), min_size=1, max_size=4)), min_size=3, max_size=10)


# Two Secrets with the same certificate make one and the same backend, whichever the Gateway names.
ANOTHER_NAME = [
    ("put", [m.HTTPRoute(metadata=meta("r0"), spec=m.HTTPRouteSpec(
        parent_refs=(m.ParentReference(name="one"),),
        rules=(m.HTTPRouteRule(backend_refs=(m.HTTPBackendRef(name="s1", port=80),)),)))]),
    ("put", [secret("c1", "x.term.test"), gateway(
        "one", (listener("http", "HTTP", 80), listener("https", "HTTPS", 443, "a.test", tls("c1"))), "c1", "")])]


def start():
    found = [gateway("one", [listener("http", "HTTP", 80), listener("https", "HTTPS", 443, "a.test", tls("c1")),
                             listener("term", "TLS", 443, "*.term.test", tls("c1")), listener("tcp", "TCP", 90),
                             listener("pass", "TLS", 443, "*.pass.test", tls(mode="Passthrough")),
                             listener("udp", "UDP", 90)], "c2", ""),
             gateway("two", [listener("http", "HTTP", 80), listener("term", "TLS", 443, "*.term.test", tls("c1"))], "", ""),
             secret("c1", "a.test"), secret("c2", "x.term.test"), service("s1", None),
             policy("p1", "s1", None, "ca", None), pki.authority("ns", "ca", "one.ca")]
    return {resource.key: resource for resource in found}


class Kept:
    """Every stage, with what it remembers."""

    def __init__(self):
        self.attacher, self.builder = Attacher(refuse_regex=regex.check), Builder()
        self.registry = Registry()
        self.images = Images(self.registry)


def ids(plan):
    return {bind.key: number for number, bind in enumerate(plan.binds, 1)}


def told(graph, plan):
    found = conditions.problems(graph)
    return sorted(map(str, found + problems(plan, found)))


def done(image):
    """What the rules of an image do, without the numbers that depend on what was before: of two that do the same one may be there."""
    found = set()
    for name, one in rules(image).items():
        choices = [choice | {"endpoints": [endpoint[:2] for endpoint in choice["endpoints"]]} for choice in one["choices"]]
        found.add(repr((name.partition("#")[0], one | {"choices": choices, "pick": None, "counter": None})))
    return sorted(found)


def check_table(image, fresh, plan):
    assert verify(image) is None
    assert (done(image), binds(image)) == (done(fresh), binds(fresh))
    mine, theirs = Table(image), Table(fresh)
    for number in ids(plan).values():
        for name in NAMES:
            assert mine.route(number, name) == theirs.route(number, name), name
            for path in ("/", "/s/m", "/s/n", "/t/m"):
                assert mine.find(number, "POST", path, [("host", name)]) == theirs.find(number, "POST", path, [("host", name)])


@settings(max_examples=60)
@given(steps)
@example(ANOTHER_NAME)
def test_what_comes_of_changes_is_what_comes_of_nothing(steps):
    kept, resources = Kept(), start()
    plan = kept.builder.build(kept.attacher.attach(resources, None))
    kept.images.build(plan, ids(plan))
    for what, step in steps:
        resources = dict(resources)
        for resource in step:
            if what == "put":
                resources[resource.key] = resource
            else:
                resources.pop(resource.key, None)
        graph = kept.attacher.attach(resources, {resource.key for resource in step})
        plan = kept.builder.build(graph)
        fresh_graph = Attacher(refuse_regex=regex.check).attach(resources)
        fresh = build(fresh_graph)
        assert to_builtins(plan) == to_builtins(fresh)
        assert told(graph, plan) == told(fresh_graph, fresh)
        assert statuses(graph) == statuses(fresh_graph)
        check_table(kept.images.build(plan, ids(plan)), Images(Registry()).build(fresh, ids(fresh)), plan)
        assert kept.builder.build(kept.attacher.attach(resources, set())) is plan
    check_nothing_is_left(kept)


class Said:
    """A source that says what it was given."""

    place = Source("said", 0)

    def __init__(self, resources):
        self.resources = resources
        self.before = {}

    def load(self, changed):
        before, self.before = self.before, dict(self.resources)
        both = before.keys() & self.before.keys()
        return Loaded(resources=self.before, problems=[], added=frozenset(self.before.keys() - before.keys()),
                      removed=frozenset(before.keys() - self.before.keys()),
                      changed=frozenset(key for key in both if before[key] is not self.before[key]))


def looked_up(plan):
    return {each.key: (("10.9.9.9", 80),) for each in plan.endpoints if each.named}


def needed(plan):
    ports = [(bind.key, bind.transport) for bind in plan.binds]
    return ports, [(each.key, each.hosts, each.host_port, each.names, each.addresses) for each in plan.endpoints if each.named]


class Serving:
    """A pipeline, and what a supervisor does with it."""

    def __init__(self, resources):
        self.pipeline = Pipeline(Said(resources), ServeOptions())
        self.plan = None
        self.table = b""

    def advance(self):
        """Take what changed; return whether the table was written in one go."""
        given = (ids(self.plan), looked_up(self.plan)) if self.plan else ({}, {})
        reading, table = self.pipeline.advance({"something"}, self.plan, *given, 1)
        self.publish(reading.plan, table)
        self.pipeline.prepare()
        return table is not None

    def go_step_by_step(self):
        """Take what changed, with nothing at hand."""
        self.pipeline._looked_after = None
        self.publish(self.pipeline.read({"something"}).plan, None)

    def publish(self, plan, table):
        if plan is not self.plan:
            descriptors, size = table or self.pipeline.image(plan, ids(plan), looked_up(plan), 1)
            self.table = mmap.mmap(descriptors[0], size, mmap.MAP_PRIVATE, mmap.PROT_READ)
            for fd in descriptors:
                os.close(fd)
        self.plan = plan

    @property
    def looked_after(self):
        """Which endpoints are watched and probed, without the numbers that depend on what was before."""
        return ({key: sorted(places) for key, places in self.pipeline.watched.items()},
                {subject: len(places) for subject, places in self.pipeline.probed.items()})


def share(weight):
    """A route with so much for one Service: what has none has no endpoints in the table."""
    return m.TCPRoute(metadata=meta("r0"), spec=m.TCPRouteSpec(parent_refs=(m.ParentReference(name="one"),), rules=(
        m.TCPRouteRule(backend_refs=refs(m.BackendRef, [("s1", weight)])),)))


@settings(max_examples=60)
@given(steps)
@example([("put", [share(0)]), ("put", [share(0), health("h1", {"s1"}, 0, "3s", None)]), ("put", [share(1)])])
def test_a_table_in_one_go_is_that_of_one_step_after_the_other(steps):
    resources = start()
    serving, other = Serving(resources), Serving(resources)
    assert not serving.advance()
    other.go_step_by_step()
    for what, step in steps:
        for resource in step:
            if what == "put":
                resources[resource.key] = resource
            else:
                resources.pop(resource.key, None)
        before = serving.plan
        at_once = serving.advance()
        other.go_step_by_step()
        assert to_builtins(serving.plan) == to_builtins(other.plan)
        assert at_once == (serving.plan is not before and needed(serving.plan) == needed(before))
        check_table(serving.table, other.table, serving.plan)
        assert serving.looked_after == other.looked_after


def check_nothing_is_left(kept):
    empty = kept.builder.build(kept.attacher.attach({}))
    kept.images.build(empty, {})
    assert (kept.registry.endpoints, kept.registry.counters, empty.backends) == ({}, {}, ())


def test_the_names_find_routes():
    resources = start()
    for kind, spec, rule, hosts in ((m.TLSRoute, m.TLSRouteSpec, m.TLSRouteRule, ("*.term.test", "*.pass.test")),
                                    (m.TCPRoute, m.TCPRouteSpec, m.TCPRouteRule, ())):
        made = kind(metadata=meta("r"), spec=spec(
            parent_refs=(m.ParentReference(name="one"),), rules=(rule(backend_refs=refs(m.BackendRef, [("s1", 1)])),),
            **({"hostnames": hosts} if hosts else {})))
        resources[made.key] = made
    plan = build(Attacher(refuse_regex=regex.check).attach(resources))
    table = Table(Images(Registry()).build(plan, ids(plan)))
    tls_bind = next(number for key, number in ids(plan).items() if key == "[]:443")
    assert [table.route(tls_bind, name) for name in NAMES] == [
        None, ("ns/one/https", None), ("ns/one/term", "TLSRoute/ns/r/0"), None, ("ns/one/pass", "TLSRoute/ns/r/0"),
        ("ns/one/pass", "TLSRoute/ns/r/0"), None]
    assert [table.route(ids(plan)[key], "")[1] for key in ("[]:90", "udp[]:90")] == ["TCPRoute/ns/r/0", None]
