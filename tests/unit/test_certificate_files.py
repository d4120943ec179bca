"""CertificateFiles: what is in the files is what a Secret would hold, as it is now; and they are refused in a cluster."""
import os

from support import pki
import pytest

from gwfast import limits
from gwfast.config.load import Loader
from gwfast.config.model import Key
from gwfast.graph.attach import Attacher
from gwfast.graph.conditions import problems
from gwfast.graph.model import GraphOptions

CONFIGURATION = """
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: g}
spec:
  gatewayClassName: any
  tls:
    backend: {clientCertificateRef: {group: gwfast.dev, kind: CertificateFile, name: shop}}
    frontend:
      default: {validation: {caCertificateRefs: [{group: gwfast.dev, kind: CertificateFile, name: clients}]}}
  listeners:
  - {name: a, protocol: HTTPS, port: 443, tls: {certificateRefs: [{group: gwfast.dev, kind: CertificateFile, name: shop}]}}
---
apiVersion: gwfast.dev/v1alpha1
kind: CertificateFile
metadata: {name: shop}
spec: {certificate: tls/shop.crt, key: tls/shop.key}
---
apiVersion: gwfast.dev/v1alpha1
kind: CertificateFile
metadata: {name: clients}
spec: {ca: tls/ca.crt}
"""
GATEWAY, SHOP, CLIENTS = (Key(kind, "default", name) for kind, name in (("Gateway", "g"), ("CertificateFile", "shop"), ("CertificateFile", "clients")))
CHAIN, KEY = pki.pair("shop.test")
OTHER, OTHERS_KEY = pki.pair("other.test")


class World:
    """A folder with a Gateway, and the stages that look at it again and again."""

    def __init__(self, folder, text=CONFIGURATION, options=None):
        self.tls = folder / "tls"
        self.tls.mkdir()
        self.write("shop.crt", CHAIN)
        self.write("shop.key", KEY)
        self.write("ca.crt", OTHER)
        (folder / "all.yaml").write_text(text)
        self.loader = Loader([str(folder)])
        self.attacher = Attacher(options or GraphOptions(), keeps=True)

    def write(self, name, content):
        (self.tls / name).write_bytes(content)
        return str(self.tls / name)

    def look(self, *changed):
        """What is loaded now, and the listener."""
        self.loaded = self.loader.load(set(changed) if changed else None)
        self.graph = self.attacher.attach(self.loaded.resources, self.loaded.added | self.loaded.changed | self.loaded.removed)
        return self.graph.listeners["default/g/a"]

    def said(self):
        return [str(each) for each in [*self.loaded.problems, *problems(self.graph)]]


@pytest.fixture
def world(tmp_path):
    return World(tmp_path)


def test_files_are_what_a_secret_would_be(world):
    node = world.look()
    assert [(one.chain, one.key, one.names) for one in node.tls.certificates] == [(CHAIN, KEY, ("shop.test",))]
    assert node.tls.client_ca == (OTHER,) and node.client_certificate.chain == CHAIN
    assert (node.served, world.said()) == (True, [])
    assert world.loaded.named == {str(world.tls / name) for name in ("shop.crt", "shop.key", "ca.crt")}


def test_only_what_is_another_certificate_is_a_change(world):
    world.look()
    world.look(world.write("shop.crt", CHAIN))
    assert not world.loaded.changed
    chain, key = pki.pair("new.test")
    world.write("shop.key", key)
    node = world.look(world.write("shop.crt", chain))
    assert world.loaded.changed == {SHOP} and [one.chain for one in node.tls.certificates] == [chain]
    world.look()
    assert not world.loaded.changed


def test_a_link_that_leads_elsewhere_is_a_change(world):
    for name, content in (("1.crt", CHAIN), ("2.crt", OTHER)):
        world.write(name, content)
    (world.tls / "ca.crt").unlink()
    (world.tls / "ca.crt").symlink_to("1.crt")
    assert world.look().tls.client_ca == (CHAIN,)
    (world.tls / "new").symlink_to("2.crt")
    (world.tls / "new").rename(world.tls / "ca.crt")
    assert world.look(str(world.tls / "ca.crt")).tls.client_ca == (OTHER,)


def test_a_folder_that_is_exchanged_is_a_change(world):
    world.look()
    world.write("ca.crt", CHAIN)
    assert world.look(str(world.tls)).tls.client_ca == (CHAIN,)


BROKEN = {
    "gone": (None, "shop.key cannot be read: No such file or directory"),
    "empty": (b"", "shop.key is empty"),
    "no key": (b"x", "the key tls/shop.key is not an unencrypted PEM private key"),
    "another's": (OTHERS_KEY, "the key tls/shop.key does not belong to the certificate tls/shop.crt"),
    "large": (b"x" * (limits.PEM_FILE_BYTES + 1), "shop.key has more than 1 MiB, which no certificate has"),
}


def breaks(world, content):
    path = world.tls / "shop.key"
    path.unlink()
    if content is not None:
        path.write_bytes(content)
    return str(path)


@pytest.mark.parametrize("content, words", BROKEN.values(), ids=BROKEN)
def test_what_was_good_serves_on(world, content, words):
    world.look()
    node = world.look(breaks(world, content))
    assert [one.key for one in node.tls.certificates] == [KEY]
    condition = next(each for each in node.conditions if each.type == "ResolvedRefs")
    assert (condition.status, condition.reason) == ("False", "InvalidCertificateRef")
    assert condition.message.endswith(f"{words}; what was there before serves on"), condition.message
    node = world.look(world.write("shop.key", KEY))
    assert world.said() == [] and [one.key for one in node.tls.certificates] == [KEY]


@pytest.mark.parametrize("content, words", BROKEN.values(), ids=BROKEN)
def test_what_was_never_good_serves_nobody(world, content, words):
    breaks(world, content)
    node = world.look()
    assert not node.served
    assert any(words in each and "InvalidCertificateRef" in each for each in world.said()), world.said()


def test_what_cannot_be_read_is_told_where_it_is_named_and_looked_at_again(world):
    (world.tls / "shop.key").unlink()
    world.look()
    line = CONFIGURATION.splitlines().index("metadata: {name: shop}")
    [(problem)] = world.loaded.problems
    assert (problem.resource, problem.field, problem.reason, problem.severity) == (str(SHOP), "spec.key", "Unreadable", "error")
    assert problem.source.line == line - 1 and str(world.tls / "shop.key") in problem.message
    assert world.loaded.unreadable == ((str(world.tls / "shop.key"), "No such file or directory"),) and world.loaded.failed == 1
    world.look()
    assert world.loaded.failed == 0  # it is known
    world.look(world.write("shop.key", KEY))
    assert world.loaded.problems == [] and world.loaded.unreadable == ()


@pytest.mark.skipif(os.geteuid() != 0, reason="who may not become another user has no file of another user's")
def test_a_file_that_may_not_be_read_names_the_user(world):
    os.chown(world.tls, 0, 0)
    os.chmod(world.tls, 0o700)
    pid = os.fork()
    if not pid:  # a worker of pytest that is another user could not come back
        os.seteuid(65534)
        from gwfast.config.pem import _read
        os._exit(_read(str(world.tls / "shop.key")) != f"{world.tls / 'shop.key'} cannot be read: Permission denied (gwfast runs as user 65534)")
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


def test_a_reference_that_asks_for_what_is_not_named_says_so(tmp_path):
    world = World(tmp_path, CONFIGURATION.replace("CertificateFile, name: clients", "CertificateFile, name: shop"))
    assert not world.look().served and "CertificateFile default/shop: it names no ca" in "".join(world.said())
    (tmp_path / "all.yaml").write_text(CONFIGURATION.replace("CertificateFile, name: shop", "CertificateFile, name: clients"))
    world.look()
    assert "CertificateFile default/clients: it names no certificate and key, only a ca" in "".join(world.said())


def test_another_namespace_asks_for_a_grant(tmp_path):
    elsewhere = CONFIGURATION.replace("metadata: {name: shop}", "metadata: {name: shop, namespace: tls}").replace("name: shop}]", "name: shop, namespace: tls}]")
    grant = """---
apiVersion: gateway.networking.k8s.io/v1beta1
kind: ReferenceGrant
metadata: {name: grant, namespace: tls}
spec: {from: [{group: gateway.networking.k8s.io, kind: Gateway, namespace: default}], to: [{group: GROUP, kind: KIND}]}
"""
    world = World(tmp_path, elsewhere)
    for group, kind, permitted in (("gwfast.dev", "CertificateFile", True), ('""', "Secret", False)):
        (tmp_path / "grant.yaml").write_text(grant.replace("GROUP", group).replace("KIND", kind))
        assert bool(world.look().tls.certificates) == permitted, world.said()
    assert any("RefNotPermitted" in each for each in world.said())


def test_a_resource_that_goes_is_watched_no_more(world, tmp_path):
    world.look()
    (tmp_path / "all.yaml").write_text(CONFIGURATION.partition("---")[0])
    world.look()
    assert world.loaded.removed == {SHOP, CLIENTS} and world.loaded.named == frozenset()


def test_text_that_moves_is_no_change(world, tmp_path):
    world.look()
    (tmp_path / "all.yaml").write_text("\n\n" + CONFIGURATION)
    world.look()
    assert not world.loaded.changed
    assert world.loaded.resources[SHOP].source.line == CONFIGURATION.splitlines().index("metadata: {name: shop}") + 1


@pytest.mark.parametrize("options", [GraphOptions(filters_by_class=True), GraphOptions(data_plane=True)], ids=["cluster", "data plane"])
def test_in_a_cluster_nobody_reads_the_pods_files(tmp_path, options):
    world = World(tmp_path, options=options)
    node = world.look()
    assert not node.served and node.tls.certificates == node.tls.client_ca == () and node.client_certificate is None
    assert "in a cluster certificates are in Secrets" in "".join(each.message for each in node.conditions)


def test_a_policy_believes_the_authorities_of_a_file_as_it_is_now(tmp_path):
    world = World(tmp_path, CONFIGURATION + """---
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
  validation: {hostname: s.test, caCertificateRefs: [{group: gwfast.dev, kind: CertificateFile, name: clients}]}
""")
    world.look()
    assert [one.tls.ca for one in world.graph.targets.values()] == [(OTHER,)]
    world.look(world.write("ca.crt", CHAIN))
    assert [one.tls.ca for one in world.graph.targets.values()] == [(CHAIN,)]
    world.look(world.write("ca.crt", b"x"))
    policy = world.graph.policies[Key("BackendTLSPolicy", "default", "p")]
    assert not policy.accepted and "the ca tls/ca.crt is not a PEM certificate" in "".join(world.said())
