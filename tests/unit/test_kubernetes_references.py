"""Which Secrets and ConfigMaps are read: those that something of ours refers to, and no other."""
from hypothesis import given
from hypothesis import strategies as st

from gwfast.config import model as m
from gwfast.kubernetes.references import References

OURS = "gwfast.dev/gateway-controller"


def klass(name, controller=OURS):
    return m.GatewayClass(metadata=m.ObjectMeta(name=name), spec=m.GatewayClassSpec(controller_name=controller))


def listener(name, *secrets):
    refs = tuple(m.SecretObjectReference(name=secret, namespace=namespace) for namespace, secret in secrets)
    return m.Listener(name=name, protocol="HTTPS", port=443, tls=m.ListenerTLSConfig(certificate_refs=refs))


def gateway(name, klass, *secrets, tls=None):
    return m.Gateway(metadata=m.ObjectMeta(name=name, namespace="n"), spec=m.GatewaySpec(
        gateway_class_name=klass, listeners=(listener("a", *secrets),), tls=tls))


def listener_set(name, parent, *secrets):
    return m.ListenerSet(metadata=m.ObjectMeta(name=name, namespace="n"), spec=m.ListenerSetSpec(
        parent_ref=m.ParentGatewayReference(name=parent), listeners=(listener("a", *secrets),)))


def policy(name, *config_maps):
    refs = tuple(m.LocalObjectReference(group="", kind="ConfigMap", name=each) for each in config_maps)
    return m.BackendTLSPolicy(metadata=m.ObjectMeta(name=name, namespace="n"), spec=m.BackendTLSPolicySpec(
        target_refs=(m.LocalPolicyTargetReferenceWithSectionName(group="", kind="Service", name="s"),),
        validation=m.BackendTLSPolicyValidation(hostname="a.test", ca_certificate_refs=refs)))


def wanted(*resources, controller=OURS):
    references, by_key = References(controller), {each.key: each for each in resources}
    references.update(by_key, by_key)
    return {str(key) for key in references.wanted}


def test_everything_that_refers():
    authorities = (m.ObjectReference(group="", kind="ConfigMap", name="clients", namespace="ca"),)
    port_authorities = (m.ObjectReference(group="", kind="ConfigMap", name="others"),)

    def trusting(refs):
        return m.TLSConfig(validation=m.FrontendTLSValidation(ca_certificate_refs=refs))
    tls = m.GatewayTLSConfig(
        backend=m.GatewayBackendTLS(client_certificate_ref=m.SecretObjectReference(name="me")),
        frontend=m.FrontendTLSConfig(default=trusting(authorities),
                                     per_port=(m.TLSPortConfig(port=443, tls=trusting(port_authorities)),)))
    assert wanted(klass("gwfast"), gateway("gw", "gwfast", (None, "web"), ("other", "web"), tls=tls),
                  listener_set("set", "gw", (None, "more")), policy("p", "backends")) == {
        "Secret n/web", "Secret other/web", "Secret n/me", "ConfigMap ca/clients", "ConfigMap n/others", "Secret n/more",
        "ConfigMap n/backends"}


def test_what_others_serve_is_not_read():
    others = gateway("theirs", "nginx", (None, "secret"))
    assert wanted(klass("gwfast"), klass("nginx", "example.net/nginx"), others, listener_set("set", "theirs", (None, "x"))) == set()
    assert wanted(others, gateway("orphan", "nowhere", (None, "x"))) == set()
    assert wanted(others, controller="") == {"Secret n/secret"}


def test_what_is_no_secret_is_not_asked_for():
    odd = m.Listener(name="a", protocol="HTTPS", port=443, tls=m.ListenerTLSConfig(certificate_refs=(
        m.SecretObjectReference(group="vault.example", kind="Secret", name="x"),
        m.SecretObjectReference(kind="Certificate", name="x"))))
    one = m.Gateway(metadata=m.ObjectMeta(name="gw", namespace="n"), spec=m.GatewaySpec(gateway_class_name="gwfast", listeners=(odd,)))
    assert wanted(klass("gwfast"), one) == set()


NAMES = st.sampled_from(["a", "b"])
SECRETS = st.lists(st.tuples(st.sampled_from([None, "other"]), NAMES), max_size=2)
RESOURCES = st.one_of(
    st.builds(klass, NAMES, st.sampled_from([OURS, "example.net/nginx"])),
    st.builds(lambda name, of, secrets: gateway(name, of, *secrets), NAMES, NAMES, SECRETS),
    st.builds(lambda name, of, secrets: listener_set(name, of, *secrets), NAMES, NAMES, SECRETS),
    st.builds(lambda name, maps: policy(name, *maps), NAMES, st.lists(NAMES, max_size=2)))


@given(st.lists(st.lists(st.tuples(RESOURCES, st.booleans()), max_size=4), max_size=5))
def test_change_by_change_is_all_at_once(rounds):
    references, resources = References(OURS), {}
    for changes in rounds:
        for resource, there in changes:
            if there:
                resources[resource.key] = resource
            else:
                resources.pop(resource.key, None)
        references.update({resource.key for resource, _ in changes}, resources)
    fresh = References(OURS)
    fresh.update(resources, resources)
    assert references.wanted == fresh.wanted


def test_code_of_a_filter_in_python_is_a_configmap_of_its_namespace():
    def filters(**spec):
        return m.PythonFilter(metadata=m.ObjectMeta(name="f", namespace="n"), spec=m.PythonFilterSpec(class_="F", **spec))
    assert wanted(filters(config_map=m.ConfigMapKeySelector(name="code"))) == {"ConfigMap n/code"}
    assert wanted(filters(module="m")) == set()


def test_what_it_fails_on_refers_to_what_it_did(monkeypatch):
    bugs, real = [], References._refs
    references = References(OURS, lambda key, error: bugs.append(key))
    there = {each.key: each for each in (klass("c"), gateway("bad", "c", (None, "one")), gateway("good", "c", (None, "two")))}
    references.update(there, there)
    assert {each.name for each in references.wanted} == {"one", "two"}
    poison = m.Key("Gateway", "n", "bad")
    there |= {each.key: each for each in (gateway("bad", "c", (None, "three")), gateway("good", "c", (None, "four")))}

    def fail(self, resource, resources):
        if resource.key == poison:
            raise ZeroDivisionError
        return real(self, resource, resources)
    monkeypatch.setattr(References, "_refs", fail)
    references.update(there, there)
    assert {each.name for each in references.wanted} == {"one", "four"} and set(bugs) == {poison}
