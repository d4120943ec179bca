"""What handshakes begin with: written by the supervisor, found by a worker, tried in memory."""
import os
import re
from contextlib import closing
from pathlib import Path

import pytest

pytest.importorskip("OpenSSL", reason="TLS is not installed")

from support import issuer
from support.issuer import Issuer, again, client, meet
from OpenSSL import SSL, _util

from gwfast import limits

from gwfast.tls import records
from gwfast.identity import identity
from gwfast.plan.credentials import Credentials
from gwfast.plan.ir import Backend, BackendTLS, Bind, Certificate, Listener, Plan, ServerTLS
from gwfast.serve.certs import Certs

L, M = identity("default/g/l"), identity("default/g/m")
VERSIONS = [SSL.TLS1_2_VERSION, SSL.TLS1_3_VERSION]
both = pytest.mark.parametrize("version", VERSIONS, ids=["1.2", "1.3"])


@pytest.fixture(scope="module")
def ca():
    return Issuer()


def plan(backends=(), **listeners):
    """A plan of listeners default/g/NAME with these settings, and of backends."""
    made = tuple(Listener(id=f"default/g/{name}", mode="https", tls=tls) for name, tls in listeners.items())
    return Plan(binds=(Bind(address="", port=443, transport="tls", listeners=made),) if made else (),
                backends=tuple(Backend(namespace="default", name=f"b{n}", port=443, tls=tls) for n, tls in enumerate(backends)))


def serving(*certificates, **more):
    return ServerTLS(certificates=certificates, **more)


def published(*backends, **listeners) -> int:
    """A descriptor of these credentials."""
    with closing(Credentials()) as writer:
        return writer.publish(plan(backends, **listeners))


def certs(*backends, before=None, **listeners):
    return Certs(published(*backends, **listeners), before)


def seen(found, ca, name, sign=L, **more):
    """The common name of the certificate that a client sees who asks for a name."""
    connection = client(ca, name=name, **more)
    meet(found.server(sign, name.encode()), connection)
    return issuer.common_name(connection)


# -- which certificate -------------------------------------------------------------------------------------------------------


def test_the_longest_name_chooses_the_certificate(ca):
    found = certs(l=serving(ca.issue("first.test", common="first"), ca.issue("*.a.test", common="wildcard"),
                            ca.issue("b.a.test", "c.a.test", common="exact")),
                  m=serving(ca.issue("*.test", common="other")))
    for name, who in (("first.test", "first"), ("b.a.test", "exact"), ("c.a.test", "exact"), ("x.a.test", "wildcard"),
                      ("x.y.a.test", "first"), ("a.test", "first"), ("unknown", "first")):
        assert seen(found, ca, name) == who, name
    assert seen(found, ca, "a.test", M) == "other"


def test_nobody_is_named(ca):
    found = certs(l=serving(ca.issue("first.test", common="first"), ca.issue("b.test", common="b")))
    connection = client(ca)
    meet(found.server(L, b""), connection)
    assert issuer.common_name(connection) == "first"


def test_certificates_of_both_kinds_stand_side_by_side(ca):
    found = certs(l=serving(ca.issue("a.test", kind="rsa", common="rsa"), ca.issue("a.test", common="ec")))
    for kind in ("RSA", "ECDSA"):
        who = "rsa" if kind == "RSA" else "ec"
        assert seen(found, ca, "a.test", version=SSL.TLS1_2_VERSION, ciphers=f"ECDHE-{kind}-AES128-GCM-SHA256") == who
        assert seen(found, ca, "else.test", version=SSL.TLS1_2_VERSION, ciphers=f"ECDHE-{kind}-AES128-GCM-SHA256") == who


def test_the_first_of_one_kind_is_used(ca):
    found = certs(l=serving(ca.issue("a.test", common="one"), ca.issue("a.test", "b.test", common="two")))
    assert seen(found, ca, "a.test") == "one"
    assert seen(found, ca, "b.test") == "two"


def test_what_openssl_refuses_leaves_the_other(ca):
    broken = Certificate(chain=b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", key=b"", names=("a.test",))
    assert seen(certs(l=serving(broken, ca.issue("a.test", common="good"))), ca, "a.test") == "good"


def test_the_chain_is_sent(ca):
    between = Issuer("between", ca)
    leaf = between.issue("a.test", common="leaf")
    whole = Certificate(chain=leaf.chain + between.ca, key=leaf.key, names=leaf.names)
    assert seen(certs(l=serving(whole, ca.issue("a.test", kind="rsa"))), ca, "a.test") == "leaf"


def test_what_is_not_there_is_a_key_error(ca):
    found = certs(l=serving(ca.issue("a.test")))
    with pytest.raises(KeyError):
        found.server(M, b"a.test")
    with pytest.raises(KeyError):
        found.client(7)
    with pytest.raises(ValueError):
        fd = os.memfd_create("nonsense")
        os.write(fd, bytes(4096))
        Certs(fd)


# -- how -----------------------------------------------------------------------------------------------------------------------


def test_the_lowest_version(ca):
    one = ca.issue("a.test")
    found = certs(l=serving(one), m=serving(one, min_version="1.3"))
    for sign, version, well in ((L, SSL.TLS1_2_VERSION, True), (L, SSL.TLS1_3_VERSION, True), (M, SSL.TLS1_3_VERSION, True),
                                (L, SSL.TLS1_1_VERSION, False), (M, SSL.TLS1_2_VERSION, False)):
        connection = client(version=version, ciphers="ALL:@SECLEVEL=0")
        if well:
            meet(found.server(sign, b"a.test"), connection)
        else:
            with pytest.raises((ConnectionError, SSL.Error)):
                meet(found.server(sign, b"a.test"), connection)


def test_ciphers_are_the_servers_choice(ca):
    wanted = "ECDHE-ECDSA-AES256-GCM-SHA384:ECDHE-ECDSA-AES128-GCM-SHA256"
    found = certs(l=serving(ca.issue("a.test"), ciphers=wanted))
    offered = "ECDHE-ECDSA-CHACHA20-POLY1305:ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-ECDSA-AES256-GCM-SHA384"
    connection = client(version=SSL.TLS1_2_VERSION, ciphers=offered)
    meet(found.server(L, b"a.test"), connection)
    assert connection.get_cipher_name() == "ECDHE-ECDSA-AES256-GCM-SHA384"
    with pytest.raises((ConnectionError, SSL.Error)):
        meet(found.server(L, b"a.test"), client(version=SSL.TLS1_2_VERSION, ciphers="ECDHE-ECDSA-CHACHA20-POLY1305"))


SERVED = {"ECDHE-ECDSA-AES128-GCM-SHA256", "ECDHE-RSA-AES128-GCM-SHA256", "ECDHE-ECDSA-AES256-GCM-SHA384",
          "ECDHE-RSA-AES256-GCM-SHA384", "ECDHE-ECDSA-CHACHA20-POLY1305", "ECDHE-RSA-CHACHA20-POLY1305"}


def shakes(setting, connection) -> bool:
    try:
        return bool(meet(setting, connection))
    except (ConnectionError, SSL.Error):
        return False


def test_ciphers_are_authenticated_and_keep_old_secrets(ca):
    """Of all that OpenSSL has for TLS 1.2 those of Mozilla's intermediate list, whatever the client likes best."""
    known = SSL.Connection(client(ciphers="ALL:COMPLEMENTOFALL:@SECLEVEL=0").get_context(), None).get_cipher_list()
    setting = certs(l=serving(ca.issue("a.test"), ca.issue("a.test", kind="rsa"))).server(L, b"a.test")
    taken = {name for name in known if not name.startswith("TLS_") and shakes(
        setting, client(version=SSL.TLS1_2_VERSION, ciphers=f"{name}:@SECLEVEL=0"))}
    assert taken == SERVED and len(known) > 30


@pytest.mark.parametrize(("offered", "chosen"), [
    ("AES256-GCM-SHA384:ECDHE-ECDSA-AES256-GCM-SHA384:ECDHE-ECDSA-AES128-GCM-SHA256", "ECDHE-ECDSA-AES128-GCM-SHA256"),
    ("ECDHE-ECDSA-AES256-GCM-SHA384:ECDHE-ECDSA-CHACHA20-POLY1305", "ECDHE-ECDSA-AES256-GCM-SHA384"),
    ("ECDHE-ECDSA-CHACHA20-POLY1305:ECDHE-ECDSA-AES128-GCM-SHA256", "ECDHE-ECDSA-CHACHA20-POLY1305")])
def test_who_has_no_aes_in_hardware_is_listened_to(ca, offered, chosen):
    connection = client(version=SSL.TLS1_2_VERSION, ciphers=offered)
    meet(certs(l=serving(ca.issue("a.test"))).server(L, b"a.test"), connection)
    assert connection.get_cipher_name() == chosen


def test_suites_of_tls_1_3(ca):
    setting = certs(l=serving(ca.issue("a.test"))).server(L, b"a.test")
    for suite in ("TLS_AES_128_GCM_SHA256", "TLS_AES_256_GCM_SHA384", "TLS_CHACHA20_POLY1305_SHA256", "TLS_AES_128_CCM_SHA256",
                  "TLS_AES_128_CCM_8_SHA256"):
        assert shakes(setting, client(version=SSL.TLS1_3_VERSION, suites=suite)) == ("CCM" not in suite)


# A '*' is before those of which a client sends a share; the others are only named.
@pytest.mark.parametrize(("offered", "chosen"), [
    ("", "X25519MLKEM768"), ("*X25519:*X25519MLKEM768", "X25519MLKEM768"), ("*X25519:X25519MLKEM768", "X25519MLKEM768"),
    ("*P-256:SecP256r1MLKEM768:X25519", "SecP256r1MLKEM768"), ("X25519", "x25519"), ("*P-384:X25519", "x25519"),
    ("P-256", "secp256r1"), ("P-384", "secp384r1"), ("P-521", "secp521r1"), ("X448", None), ("ffdhe2048", None)])
def test_the_group_that_outlives_a_quantum_computer_is_chosen(ca, offered, chosen):
    setting = certs(l=serving(ca.issue("a.test"))).server(L, b"a.test")
    connection = client(ca, version=SSL.TLS1_3_VERSION, groups=offered)
    if chosen is None:
        assert not shakes(setting, connection)
    else:
        meet(setting, connection)
        assert issuer.group(connection) == chosen


def test_groups_of_tls_1_2(ca):
    setting = certs(l=serving(ca.issue("a.test", kind="rsa"))).server(L, b"a.test")
    for group in ("X25519", "P-256", "P-384"):
        assert shakes(setting, client(ca, version=SSL.TLS1_2_VERSION, groups=group)), group


def test_an_openssl_that_knows_no_such_group_has_those_before(ca, monkeypatch):
    monkeypatch.setattr("gwfast.serve.certs.GROUPS", ("unheard/of", "P-384"))
    monkeypatch.setattr("gwfast.serve.certs._roots", {})
    connection = client(ca)
    meet(certs(l=serving(ca.issue("a.test"))).server(L, b"a.test"), connection)
    assert issuer.group(connection) == "secp384r1"
    assert _util.lib.ERR_peek_error() == 0


def test_backends_are_offered_it_too(ca):
    """What a ClientHello of ours has: a share of it, and one for those who do not know it."""
    tls = BackendTLS(hostname="b.test", ca=(ca.ca,))
    setting, name = certs(tls).client(tls.id)
    sent = records.Tap(setting, client=True, name=name + b"\0").handshake(b"")[1]
    shares = sent[sent.index(b"\x00\x33", 200):]
    assert shares[6:8] == b"\x11\xec" and b"\x00\x1d\x00\x20" in shares[8 + 1216:8 + 1216 + 8]


def test_protocols_are_offered_where_http_is_spoken(ca):
    one = ca.issue("a.test")
    found = certs(l=serving(one), m=serving(one, alpn=False))
    assert meet(found.server(L, b"a.test"), client(alpn=(b"http/1.1", b"h2"))).facts["chosen"] == "h2"
    assert meet(found.server(M, b"a.test"), client(alpn=(b"http/1.1", b"h2"))).facts["chosen"] == ""


# -- certificates of clients ---------------------------------------------------------------------------------------------------


@both
def test_clients_are_looked_at(ca, version):
    theirs, others = Issuer("clients"), Issuer("others")
    known, unknown = theirs.issue(common="known"), others.issue(common="unknown")
    found = certs(l=serving(ca.issue("a.test"), client_ca=(theirs.ca,)),
                  m=serving(ca.issue("a.test"), client_ca=(theirs.ca,), client_mode="AllowInsecureFallback"))

    def tried(sign, certificate):
        return meet(found.server(sign, b"a.test"), client(version=version, certificate=certificate)).session.peer_certificate()
    for sign in (L, M):
        assert tried(sign, known)[1]
    for wrong in (None, unknown):
        with pytest.raises(ConnectionError):
            tried(L, wrong)
    assert tried(M, None) == (b"", False)
    shown, valid = tried(M, unknown)
    assert shown and not valid


def test_an_authority_need_not_be_a_root(ca):
    between = Issuer("between", Issuer("root"))
    found = certs(l=serving(ca.issue("a.test"), client_ca=(between.ca,)))
    assert meet(found.server(L, b"a.test"), client(certificate=between.issue())).session.peer_certificate()[1]


# -- tickets -------------------------------------------------------------------------------------------------------------------


def resumed(setting, before):
    return meet(setting, again(before)).facts["resumed"]


def first(setting, version, **more):
    connection = client(version=version, **more)
    assert not meet(setting, connection).facts["resumed"]
    return connection


@both
def test_a_ticket_is_good_after_a_reload_and_for_another_certificate(ca, version):
    one = certs(l=serving(ca.issue("a.test")))
    two = certs(before=one, l=serving(ca.issue("a.test")))
    before = first(one.server(L, b"a.test"), version)
    assert resumed(one.server(L, b"a.test"), before)
    assert resumed(two.server(L, b"a.test"), first(one.server(L, b"a.test"), version))


@both
@pytest.mark.parametrize("change", [
    {"client_ca": 1}, {"client_ca": 2}, {"client_ca": 1, "client_mode": "AllowInsecureFallback"}], ids=["ca", "both", "lenient"])
def test_a_ticket_is_not_good_where_clients_are_looked_at_otherwise(ca, version, change):
    """CVE-2025-23419: neither from another listener nor from what this one was before."""
    one, authorities = ca.issue("a.test"), (Issuer("x").ca, Issuer("y").ca)
    change = change | {"client_ca": authorities[:change["client_ca"]]}
    found = certs(l=serving(one), m=serving(one, **change))
    before = first(found.server(L, b"a.test"), version)
    changed = certs(before=found, l=serving(one, **change))
    for setting in (found.server(M, b"a.test"), changed.server(L, b"a.test")):
        try:
            assert not resumed(setting, before)
        except ConnectionError as error:
            assert "peer did not return a certificate" in str(error)
        else:
            assert change.get("client_mode") == "AllowInsecureFallback"


@both
def test_a_ticket_of_one_listener_is_not_good_on_another(ca, version):
    one = ca.issue("a.test")
    found = certs(l=serving(one), m=serving(one))
    before = first(found.server(L, b"a.test"), version)
    assert not resumed(found.server(M, b"a.test"), before)


@both
def test_who_showed_a_certificate_is_known_when_it_resumes(ca, version):
    theirs = Issuer("clients")
    found = certs(l=serving(ca.issue("a.test"), client_ca=(theirs.ca,)))
    known = theirs.issue()
    before = first(found.server(L, b"a.test"), version, certificate=known)
    tap = meet(found.server(L, b"a.test"), again(before))
    assert tap.facts["resumed"] and tap.session.peer_certificate()[1]


@both
def test_a_ticket_is_good_in_every_process_that_was_forked_with_the_roots(ca, version):
    fd = published(l=serving(ca.issue("a.test")))
    before = first(Certs(os.dup(fd)).server(L, b"a.test"), version)
    for _ in range(2):
        read, write = os.pipe()
        pid = os.fork()
        if not pid:
            try:
                os.write(write, b"%d" % resumed(Certs(fd).server(L, b"a.test"), before))
            finally:
                os._exit(0)
        os.close(write)
        assert os.read(read, 1) == b"1"
        os.close(read)
        os.waitpid(pid, 0)
    os.close(fd)


# -- ten thousand ------------------------------------------------------------------------------------------------------------------


def many(ca, number):
    """So many certificates, each different and for a name of its own."""
    one = ca.issue("a.test")
    return tuple(Certificate(chain=one.chain + b"# %d\n" % n, key=one.key, names=(f"n{n}.test",)) for n in range(number))


def mapped() -> tuple[int, int]:
    """KiB of credentials that are mapped here, and those of them that were touched."""
    text = Path("/proc/self/smaps").read_text()
    found = re.findall(r"memfd:gwfast-credentials.*?\nSize:\s+(\d+) kB.*?\nRss:\s+(\d+) kB", text, re.DOTALL)
    return sum(int(size) for size, _ in found), sum(int(rss) for _, rss in found)


def resident() -> int:
    return int(re.search(r"VmRSS:\s+(\d+)", Path("/proc/self/status").read_text())[1])


def test_of_ten_thousand_certificates_only_those_asked_for_are_read(ca):
    size, touched = mapped()
    found = certs(l=serving(*many(ca, 10_000)))
    for n in (0, 5000, 9999):
        assert seen(found, None, f"n{n}.test") == "subject"
    after = mapped()
    assert after[0] - size > 5000
    assert after[1] - touched < (after[0] - size) / 5


def test_contexts_that_are_long_not_asked_for_are_dropped(ca, monkeypatch):
    monkeypatch.setattr(limits, "TLS_CONTEXTS", 16)
    found = certs(l=serving(*many(ca, 2000)))
    for n in range(100):
        found.server(L, b"n%d.test" % n)
    before, first = resident(), found.server(L, b"n0.test")
    assert found.server(L, b"n0.test") is first
    for n in range(2000):
        found.server(L, b"n%d.test" % n)
        assert found.server(L, b"n0.test") is not None
    assert resident() - before < 10_000, "2000 contexts are 40 MB"
    assert found.server(L, b"n1.test") is not None


# -- one generation after the other ----------------------------------------------------------------------------------------------


def test_the_same_credentials_are_the_same_memfd(ca):
    one, two = ca.issue("a.test"), ca.issue("a.test")
    writer = Credentials()
    fds = [writer.publish(plan(l=serving(each))) for each in (one, one, two)] + [writer.publish(plan())]
    files = [os.fstat(fd).st_ino for fd in fds[:3]]
    assert files[0] == files[1] != files[2]
    assert fds[3] == -1 and writer.size == 0
    found = Certs(os.dup(fds[0]))
    assert found.same(fds[1]) and not found.same(fds[2])
    writer.close()
    for fd in fds[:3]:
        os.close(fd)


def test_none_of_them_is_left_open(ca):
    one = ca.issue("a.test")
    certs(l=serving(one))                              # what is imported by then stays
    before = os.listdir("/proc/self/fd")
    found = certs(l=serving(one))
    after = certs(before=found, l=serving(one, ca.issue("b.test")))
    for each in (found, after):
        assert each.server(L, b"a.test") is not None
    del found, after, each
    assert os.listdir("/proc/self/fd") == before


def test_nobody_can_write_to_them(ca):
    fd = published(l=serving(ca.issue("a.test")))
    with pytest.raises(PermissionError):
        os.write(fd, b"x")
    os.close(fd)


def test_what_is_the_same_after_a_reload_keeps_its_context(ca):
    one, two, three = (ca.issue(f"{name}.test") for name in ("a", "b", "b"))
    before = certs(l=serving(one, two))
    first, second = before.server(L, b"a.test"), before.server(L, b"b.test")
    after = certs(before=before, l=serving(one, three))
    assert after.server(L, b"a.test") is first
    assert after.server(L, b"b.test") is not second


def test_what_is_printed_has_no_key(ca):
    assert "PRIVATE" not in repr(plan(l=serving(ca.issue("a.test"))))


# -- backends ------------------------------------------------------------------------------------------------------------------------


def dial(found, tls, server, *names):
    """A gateway's handshake with a backend whose Setting is `server`: both ends."""
    setting, name = found.client(tls)
    ours, theirs = records.Tap(setting, client=True, name=name), records.Tap(server)
    result, sent = ours.handshake(b"")
    for _ in range(5):
        far, answer = theirs.handshake(sent)
        result, sent = ours.handshake(answer)
        if result < 0:
            raise ConnectionError(ours.session.reason())
        if far < 0:
            raise ConnectionError(theirs.session.reason())
        if result == 1 and far == 1:
            return ours, theirs
    raise ConnectionError("it does not end")


def backend(*certificates, **more):
    return certs(l=serving(*certificates, **more)).server(L, b"")


@pytest.mark.parametrize("names, well", [
    (("b.x.test",), True), (("*.x.test",), True), (("other.test",), False), (("b*.x.test",), False), (("*.test",), False),
    ((), False)])
def test_a_backend_has_to_have_the_name(ca, names, well):
    tls = BackendTLS(ca=(ca.ca,), hostname="b.x.test")
    server = backend(ca.issue(*names, common="b.x.test"))
    if well:
        assert dial(certs(tls), tls.id, server)[0].facts["done"]
    else:
        with pytest.raises(ConnectionError, match="hostname mismatch"):
            dial(certs(tls), tls.id, server)


def test_the_systems_authorities_are_believed_where_that_is_said(ca, monkeypatch, tmp_path):
    file = tmp_path / "authorities.pem"
    file.write_bytes(Issuer("of the system").ca + ca.ca)
    monkeypatch.setenv("SSL_CERT_FILE", str(file))
    server = backend(ca.issue("b.test", "c.test"))
    for name in ("b.test", "c.test"):
        tls = BackendTLS(system=True, ca=(Issuer("one more").ca,), hostname=name)
        assert dial(certs(tls), tls.id, server)[0].facts["done"]


def test_a_set_of_authorities_is_in_memory_once(ca):
    many = b"".join(Issuer(str(n)).ca for n in range(200)) + ca.ca
    targets = [BackendTLS(ca=(many,), hostname=f"n{n}.test") for n in range(200)]
    found = certs(*targets)
    found.client(targets[0].id)
    before = resident()
    for each in targets:
        found.client(each.id)
    assert resident() - before < 40_000, "200 stores of 200 are 100 MB"


def test_a_backend_has_to_be_believed(ca):
    tls = BackendTLS(ca=(ca.ca,), hostname="b.test")
    system = BackendTLS(system=True, hostname="b.test")
    for each in (tls, system):
        with pytest.raises(ConnectionError, match="certificate verify failed"):
            dial(certs(each), each.id, backend(Issuer("else").issue("b.test")))


@pytest.mark.parametrize("sans, well", [
    ((("Hostname", "x.test"),), True), ((("Hostname", "y.x.test"), ("URI", "spiffe://a/b")), True),
    ((("Hostname", "w.z.test"),), True), ((("URI", "spiffe://a/c"),), False), ((("Hostname", "b.test"),), False),
    ((("Hostname", "v.w.z.test"),), False), ((("URI", "x.test"),), False)])
def test_names_that_are_asked_for_stand_in_for_the_hostname(ca, sans, well):
    tls = BackendTLS(ca=(ca.ca,), hostname="b.test", sans=sans)
    found = certs(tls)
    ours, _ = dial(found, tls.id, backend(ca.issue("x.test", "*.z.test", uris=("spiffe://a/b",))))
    certificate, valid = ours.session.peer_certificate()
    assert valid
    assert (found.accepts(tls.id, certificate) == "") is well


def test_a_backend_sees_the_gateways_certificate_its_name_and_what_it_speaks(ca):
    ours = Issuer("gateways")
    tls = BackendTLS(ca=(ca.ca,), hostname="b.test", certificate=ours.issue(common="gateway"), alpn=("h2", "http/1.1"))
    found = certs(tls)
    near, far = dial(found, tls.id, backend(ca.issue("b.test"), client_ca=(ours.ca,)))
    assert far.session.peer_certificate()[1]
    assert near.facts["chosen"] == "h2"
    assert found.client(tls.id)[1] == b"b.test"
    assert found.client(tls.id)[0] is found.client(tls.id)[0]
