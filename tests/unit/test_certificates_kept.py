"""Certificates and authorities that serve all the same: what has expired, and what was good before its Secret broke."""
import time
from types import SimpleNamespace

import msgspec
from support import pki
import pytest
from graph_cases import EVERYTHING, check, resources

from gwfast.config.model import Key
from gwfast.graph.attach import Attacher
from gwfast.graph.conditions import problems

CONFIGURATION = """
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: g}
spec:
  gatewayClassName: any
  tls:
    backend: {clientCertificateRef: {name: ours}}
    frontend:
      default: {}
      perPort: [{port: 444, tls: {validation: {caCertificateRefs: [{group: "", kind: ConfigMap, name: clients}]}}}]
  listeners:
  - {name: a, protocol: HTTPS, port: 443, tls: {certificateRefs: [{name: a}]}}
  - {name: asks, protocol: HTTPS, port: 444, tls: {certificateRefs: [{name: a}]}}
  - {name: far, protocol: HTTPS, port: 445, tls: {certificateRefs: [{name: b, namespace: other}]}}
---
apiVersion: gateway.networking.k8s.io/v1beta1
kind: ReferenceGrant
metadata: {name: grant, namespace: other}
spec: {from: [{group: gateway.networking.k8s.io, kind: Gateway, namespace: default}], to: [{group: "", kind: Secret}]}
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: r}
spec: {parentRefs: [{name: g}], rules: [{backendRefs: [{name: s, port: 80}]}]}
---
apiVersion: v1
kind: Service
metadata: {name: s}
spec: {ports: [{port: 80}]}
---
apiVersion: gateway.networking.k8s.io/v1
kind: BackendTLSPolicy
metadata: {name: p}
spec:
  targetRefs: [{group: "", kind: Service, name: s}]
  validation: {hostname: s.test, caCertificateRefs: [{group: "", kind: ConfigMap, name: backends}]}
"""
A, B, OURS = (Key("Secret", namespace, name) for namespace, name in (("default", "a"), ("other", "b"), ("default", "ours")))
CLIENTS, BACKENDS = (Key("ConfigMap", "default", name) for name in ("clients", "backends"))
GATEWAY, ROUTE, GRANT, POLICY = (Key(kind, namespace, name) for kind, namespace, name in (
    ("Gateway", "default", "g"), ("HTTPRoute", "default", "r"), ("ReferenceGrant", "other", "grant"), ("BackendTLSPolicy", "default", "p")))
BROKEN = {
    "gone": None,
    "empty": {},
    "no certificate": {"tls.crt": b"x", "tls.key": b"y"},
    "no key": {"tls.crt": pki.pair("a.test")[0], "tls.key": b"y"},
    "the key of another": {"tls.crt": pki.pair("a.test")[0], "tls.key": pki.pair("b.test")[1]},
}


class World:
    """A configuration that changes, as a gateway follows it."""

    def __init__(self, **more):
        self.attacher = Attacher(EVERYTHING, **{"keeps": True} | more)
        self.resources = resources(CONFIGURATION)
        for one in (pki.secret("default", "a", "a.test"), pki.secret("other", "b", "b.test"), pki.secret("default", "ours", "us.test"),
                    pki.authority("default", "clients", "clients"), pki.authority("default", "backends", "backends")):
            self.resources[one.key] = one
        self.graph = self.attacher.attach(self.resources)

    def put(self, key: Key, change: dict | None, field: str = "data") -> None:
        """Change a field, or take the resource away."""
        if change is None:
            self.gone = self.resources.pop(key)
        else:
            self.resources[key] = msgspec.structs.replace(self.resources[key], **{field: change})
        self.graph = self.attacher.attach(self.resources, [key])

    def touch(self, key: Key) -> None:
        """The same once more, as a new generation."""
        self.put(key, msgspec.structs.replace(self.resources[key].metadata, generation=2), "metadata")

    def chain(self, listener: str) -> bytes:
        return b"".join(one.chain for one in self.graph.listeners[f"default/g/{listener}"].tls.certificates)

    def told(self) -> list[str]:
        return [one.message for one in problems(self.graph) if one.severity == "error"]


@pytest.mark.parametrize("name", BROKEN)
def test_the_last_good_certificate_serves_on(name):
    world = World()
    before = world.graph.listeners["default/g/a"].tls
    assert world.told() == [] and world.graph.doubts == {}
    world.put(A, BROKEN[name])
    for _ in range(3):             # whatever else changes
        assert world.graph.listeners["default/g/a"].tls.certificates == before.certificates
        assert world.graph.listeners["default/g/asks"].tls.client_ca
        check(world.graph, "Gateway/default/g Accepted=True Programmed=True",
              "Gateway/default/g#a Accepted=True Programmed=True ResolvedRefs=False/InvalidCertificateRef")
        assert all(message.endswith("; what was there before serves on") for message in world.told()) and len(world.told()) == 2
        assert world.graph.doubts == {A: "kept"}
        world.touch(ROUTE)
        world.touch(GATEWAY)
    good = pki.secret("default", "a", "new.test")
    world.resources[A] = good
    world.graph = world.attacher.attach(world.resources, [A])
    assert world.chain("a") == pki.pair("new.test")[0] and world.told() == [] and world.graph.doubts == {}
    world.put(A, BROKEN[name])
    assert world.chain("a") == pki.pair("new.test")[0], "the last one"


@pytest.mark.parametrize("name", BROKEN)
def test_without_a_good_one_nothing_serves(name):
    """At the start; and where nobody referred to it any more in between."""
    world = World()
    world.resources.pop(A)
    fresh = Attacher(EVERYTHING, keeps=True).attach(world.resources)
    check(fresh, "Gateway/default/g#a Programmed=False ResolvedRefs=False/InvalidCertificateRef")
    world = World()
    spec = world.resources[GATEWAY].spec
    world.put(GATEWAY, msgspec.structs.replace(spec, listeners=spec.listeners[2:]), "spec")
    world.put(A, BROKEN[name])
    world.put(GATEWAY, spec, "spec")
    check(world.graph, "Gateway/default/g#a Programmed=False ResolvedRefs=False/InvalidCertificateRef")
    assert not world.chain("a") and world.graph.doubts == {}


def test_one_attachment_alone_keeps_nothing():
    """What `check` says depends on the files, not on what was there before."""
    world = World(keeps=False)
    world.put(A, {})
    check(world.graph, "Gateway/default/g#a Programmed=False ResolvedRefs=False/InvalidCertificateRef")


def test_what_is_not_permitted_any_more_is_closed_at_once():
    world = World()
    world.put(B, {})
    assert world.chain("far") == pki.pair("b.test")[0]
    world.put(GRANT, None)
    check(world.graph, "Gateway/default/g#far Programmed=False ResolvedRefs=False/RefNotPermitted")
    world.resources[GRANT] = world.gone
    world.graph = world.attacher.attach(world.resources, [GRANT])
    check(world.graph, "Gateway/default/g#far Programmed=False ResolvedRefs=False/InvalidCertificateRef")


def test_the_certificate_that_backends_are_shown():
    world = World()
    world.put(OURS, BROKEN["the key of another"])
    assert world.graph.listeners["default/g/a"].client_certificate.chain == pki.pair("us.test")[0]
    check(world.graph, "Gateway/default/g Programmed=True ResolvedRefs=False/InvalidClientCertificateRef")
    assert world.graph.doubts == {OURS: "kept"} and len(world.told()) == 1


def test_authorities_for_clients_that_break_are_kept_and_never_more_than_they_were():
    world = World()
    before = world.graph.listeners["default/g/asks"].tls
    world.put(CLIENTS, {"ca.crt": "x"})
    assert world.graph.listeners["default/g/asks"].tls == before
    check(world.graph, "Gateway/default/g#asks Accepted=True Programmed=True ResolvedRefs=False/InvalidCACertificateRef")
    assert world.graph.doubts == {CLIENTS: "kept"}


def test_authorities_for_clients_that_are_gone_let_nobody_in():
    world = World()
    world.put(CLIENTS, None)
    check(world.graph, "Gateway/default/g#asks Accepted=False/NoValidCACertificate ResolvedRefs=False/InvalidCACertificateRef")
    world.resources[CLIENTS] = msgspec.structs.replace(world.gone, data={"ca.crt": "x"})
    world.graph = world.attacher.attach(world.resources, [CLIENTS])
    check(world.graph, "Gateway/default/g#asks Accepted=False/NoValidCACertificate ResolvedRefs=False/InvalidCACertificateRef")


@pytest.mark.parametrize("data", [{"ca.crt": "x"}, {"ca.crt": ""}, {}, None], ids=["no PEM", "empty", "nothing", "gone"])
def test_authorities_for_backends_that_break_are_not_kept(data):
    world = World()
    before, = (target for target in world.graph.targets if "@" in target)
    world.put(BACKENDS, data)
    check(world.graph, "BackendTLSPolicy/default/p Accepted=False/NoValidCACertificate ResolvedRefs=False/InvalidCACertificateRef")
    world.touch(ROUTE)
    world.touch(POLICY)
    assert before not in world.graph.targets and world.graph.doubts == {}


# -- time ------------------------------------------------------------------------------------------------------------------


@pytest.fixture
def clock(monkeypatch):
    """A clock that the test sets."""
    clock = SimpleNamespace(now=time.time(), strftime=time.strftime, gmtime=time.gmtime)
    clock.time = lambda: clock.now
    for module in ("certificates", "attach"):
        monkeypatch.setattr(f"gwfast.graph.{module}.time", clock)
    return clock


@pytest.mark.parametrize("keeps", [True, False])
def test_a_certificate_serves_before_and_after_its_time(clock, keeps):
    """Nothing has to be written for a condition to come and to go; the certificate is the same all the while."""
    begin, end = pki.START.timestamp(), pki.END.timestamp()
    clock.now = begin - 1
    world = World(keeps=keeps)
    tls = world.graph.listeners["default/g/a"].tls
    assert len(tls.certificates) == 1
    for now, doubt, words, turn in ((begin - 1, "not_yet_valid", "is not valid before 2020-01-01", begin), (begin, "", "", end),
                                    (end - 1, "", "", end), (end, "expired", "expired on 2120-01-01", float("inf"))):
        clock.now = now
        world.graph = world.attacher.attach(world.resources, [])
        assert world.graph.listeners["default/g/a"].tls == tls
        assert world.graph.doubts == (dict.fromkeys((A, B, OURS), doubt) if doubt else {})
        assert world.graph.turns_at == turn
        assert all(f"tls.crt {words}; it is served all the same" in message for message in world.told())
        resolved = "False/InvalidCertificateRef" if doubt else "True"
        check(world.graph, "Gateway/default/g Accepted=True Programmed=True",
              f"Gateway/default/g#a Accepted=True Programmed=True ResolvedRefs={resolved}")
    world.put(A, {"tls.crt": pki.pair("a.test")[0], "tls.key": pki.pair("b.test")[1]})
    assert (len(world.graph.listeners["default/g/a"].tls.certificates) == 1) == keeps
    assert world.graph.doubts.get(A) == ("kept" if keeps else None)


def test_of_two_for_one_name_the_one_that_is_good_comes_first(clock):
    world = World()
    spec = world.resources[GATEWAY].spec
    one = spec.listeners[0]
    refs = [msgspec.structs.replace(one.tls.certificate_refs[0], name=name) for name in ("old", "a")]
    old = msgspec.structs.replace(pki.secret("default", "old"), data={
        "tls.crt": pki.pair("a.test", until=pki.EXPIRED)[0], "tls.key": pki.pair("a.test")[1]})
    world.resources[old.key] = old
    world.attacher.attach(world.resources, [old.key])
    listener = msgspec.structs.replace(one, tls=msgspec.structs.replace(one.tls, certificate_refs=tuple(refs)))
    world.put(GATEWAY, msgspec.structs.replace(spec, listeners=(listener, *spec.listeners[1:])), "spec")
    assert [each.secret.name for each in world.graph.listeners["default/g/a"].tls.certificates] == ["a", "old"]
    assert world.graph.doubts == {old.key: "expired"}
