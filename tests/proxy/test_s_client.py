"""openssl s_client against a whole gateway: SNI, ALPN, versions, resumption across workers, client certificates; and a certificate that
is replaced while requests run."""
import os
import re
import signal
import socket
import ssl
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from cryptography import x509
from support.backend import Backend
from support.gateway import Gateway, free_port, gateway, resource, route, rule, service, until, write
from support.tls import HOST, Authority, authority, config_map, https, needs, secret, shell, trusting
from support.waiting import elapse

pytestmark = needs("openssl")
GET = f"GET / HTTP/1.1\r\nHost: {HOST}\r\nConnection: close\r\n\r\n"
WORKERS, CONNECTIONS = 3, 120


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("s_client")


@pytest.fixture(scope="module")
def ports() -> dict[str, int]:
    return {"tls": free_port(), "required": free_port(), "optional": free_port()}


def validation(mode: str = "") -> dict:
    return {"tls": {"validation": {"caCertificateRefs": [{"group": "", "kind": "ConfigMap", "name": "clients"}],
                                   **({"mode": mode} if mode else {})}}}


@pytest.fixture(scope="module")
def world(folder: Path, ports) -> Iterator[Gateway]:
    """Several names with certificates of their own on one port; clients' certificates required on one and optional on another."""
    backend, conf = Backend("one"), folder / "conf"
    conf.mkdir()
    made = authority().certificate
    rsa, ecdsa = made("both.example", kind="rsa"), made("both.example")
    strict = https(ports["tls"], "strict", "strict", hostname="strict.example",
                   tls={"options": {"gwfast.dev/tls-min-version": "1.3"}})
    both = https(ports["tls"], "both", "ecdsa", hostname="both.example")
    both["tls"]["certificateRefs"].append({"name": "rsa"})
    listeners = [https(ports["tls"], "shop", HOST, hostname=HOST), https(ports["tls"], "wild", "wild", hostname="*.apps.example"),
                 https(ports["tls"], "exact", "exact", hostname="exact.apps.example"), strict, both,
                 https(ports["required"], "required", HOST), https(ports["optional"], "optional", HOST)]
    frontend = {"default": validation("AllowInsecureFallback")["tls"], "perPort": [{"port": ports["required"], **validation()}]}
    gw = gateway(*listeners, tls={"frontend": frontend})
    write(conf, "all.yaml", gw, config_map("clients", authority().pem), secret(HOST, *made(HOST)), secret("wild", *made("*.apps.example")),
          secret("exact", *made("exact.apps.example")), secret("strict", *made("strict.example")), secret("rsa", *rsa),
          secret("ecdsa", *ecdsa), service("one", backend), route("all", rule("one")))
    for name, (chain, key) in {"client": made("client.example"), "stranger": Authority("other").certificate("client.example")}.items():
        (folder / f"{name}.crt").write_bytes(chain)
        (folder / f"{name}.key").write_bytes(key)
    (folder / "ca.crt").write_bytes(authority().pem)
    running = Gateway(conf, "--workers", str(WORKERS), "--access-log", "off")
    yield running
    running.stop()
    backend.close()


def s_client(folder: Path, port: int, *options: str, name: str = HOST, stdin: str = "", status: int | None = 0) -> str:
    sni = ["-servername", name] if name else ["-noservername"]
    return shell("openssl", "s_client", "-connect", f"127.0.0.1:{port}", *sni, "-CAfile", str(folder / "ca.crt"), *options,
                 stdin=stdin, status=status)


def subject(text: str) -> str:
    return re.search(r"^subject=\s*CN ?= ?(.*)$", text, re.M)[1]


@pytest.mark.parametrize("name, certificate", [
    (HOST, HOST), (HOST.upper(), HOST), ("one.apps.example", "*.apps.example"), ("exact.apps.example", "exact.apps.example"),
    ("strict.example", "strict.example"), ("both.example", "both.example")])
def test_the_name_chooses_the_certificate(world, folder, ports, name: str, certificate: str) -> None:
    text = s_client(folder, ports["tls"], "-verify_return_error", name=name)
    assert subject(text) == certificate and "Verify return code: 0 (ok)" in text


@pytest.mark.parametrize("name, alert", [("other.example", "unrecognized name"), ("a.b.apps.example.org", "unrecognized name"),
                                         ("", "missing extension")])
def test_a_name_of_no_listener_gets_no_certificate(world, folder, ports, name: str, alert: str) -> None:
    text = s_client(folder, ports["tls"], name=name, status=1)
    assert "no peer certificate available" in text and alert in text


@pytest.mark.parametrize("offered, chosen", [("h2", "h2"), ("http/1.1", "http/1.1"), ("h2,http/1.1", "h2"), ("http/1.1,h2", "h2")])
def test_alpn(world, folder, ports, offered: str, chosen: str) -> None:
    assert f"ALPN protocol: {chosen}\n" in s_client(folder, ports["tls"], "-alpn", offered)


def test_without_alpn_it_is_http11(world, folder, ports) -> None:
    text = s_client(folder, ports["tls"], "-quiet", "-ign_eof", stdin=GET)
    assert "HTTP/1.1 200 OK" in text


@pytest.mark.parametrize("name, option, version", [
    (HOST, "-tls1_2", "TLSv1.2"), (HOST, "-tls1_3", "TLSv1.3"), ("strict.example", "-tls1_3", "TLSv1.3")])
def test_versions(world, folder, ports, name: str, option: str, version: str) -> None:
    assert f"New, {version}, Cipher is" in s_client(folder, ports["tls"], option, name=name)


@pytest.mark.parametrize("name, options", [
    (HOST, ["-tls1_1", "-cipher", "DEFAULT:@SECLEVEL=0"]), ("strict.example", ["-tls1_2"])])
def test_versions_that_are_refused(world, folder, ports, name: str, options: list[str]) -> None:
    text = s_client(folder, ports["tls"], *options, name=name, status=1)
    assert "alert protocol version" in text


@pytest.mark.parametrize("cipher", ["ECDHE-ECDSA-AES128-SHA256", "ECDHE-RSA-AES256-SHA", "AES128-GCM-SHA256", "AES256-SHA", "ECDHE-ECDSA-AES128-CCM"])
def test_ciphers_that_are_refused(world, folder, ports, cipher: str) -> None:
    """CBC, no forward secrecy, and what no list names."""
    text = s_client(folder, ports["tls"], "-tls1_2", "-cipher", f"{cipher}:@SECLEVEL=0", name="both.example", status=1)
    assert "alert handshake failure" in text


def test_nothing_is_renegotiated_and_nothing_compressed(world, folder, ports) -> None:
    text = s_client(folder, ports["tls"], "-tls1_2", "-comp", stdin="R\n", status=None)
    assert "RENEGOTIATING" in text and "no renegotiation" in text and "Compression: NONE" in text


@pytest.mark.parametrize("options, kind", [
    (["-tls1_2", "-cipher", "ECDHE-RSA-AES128-GCM-SHA256"], "RSA"), (["-tls1_2", "-cipher", "ECDHE-ECDSA-AES128-GCM-SHA256"], "ECDSA"),
    (["-tls1_3", "-sigalgs", "rsa_pss_rsae_sha256"], "RSA"), (["-tls1_3", "-sigalgs", "ecdsa_secp256r1_sha256"], "ECDSA")])
def test_both_kinds_of_key_side_by_side(world, folder, ports, options: list[str], kind: str) -> None:
    text = s_client(folder, ports["tls"], *options, name="both.example")
    assert f"Server public key is {'2048' if kind == 'RSA' else '256'} bit" in text


# ---- resumption


@pytest.mark.parametrize("version", ["-tls1_2", "-tls1_3"])
def test_a_session_is_resumed_by_every_worker(world, folder, ports, version: str, tmp_path: Path) -> None:
    """One ticket, many connections: the kernel spreads them over the workers."""
    session = tmp_path / "session"
    # In TLS 1.3 tickets come behind the handshake: a response is waited for.
    s_client(folder, ports["tls"], version, "-sess_out", str(session), "-quiet", "-ign_eof", stdin=GET)
    before, resumed, tries = world.metrics(), 0, 30
    for _ in range(tries):
        text = s_client(folder, ports["tls"], version, "-sess_in", str(session))
        resumed += "Reused, TLSv1." in text
    assert resumed >= 0.95 * tries
    after = world.metrics()
    grown = {name: after[name] - before.get(name, 0) for name in after if name.startswith("gwfast_tls_")}
    assert [name for name, n in grown.items() if "resum" in name and n == resumed], grown


def test_the_share_of_resumed_handshakes(world, ports) -> None:
    """Python's client with the session of the connection before, over all workers and a reload."""
    context, resumed, session = trusting(authority().pem, "http/1.1"), 0, None
    context.maximum_version = ssl.TLSVersion.TLSv1_2  # of which the ssl module gives sessions without ado
    generation = generation_of(world)
    for n in range(CONNECTIONS):
        if n == CONNECTIONS // 2:
            world.write("more.yaml", resource("HTTPRoute", "more", {"parentRefs": [{"name": "gw"}], "rules": [rule("one", path="/more")]}))
            until(lambda: generation_of(world) > generation)
        with socket.create_connection(("127.0.0.1", ports["tls"]), 10) as raw:
            with context.wrap_socket(raw, server_hostname=HOST, session=session) as sock:
                resumed += bool(sock.session_reused)
                session = sock.session
    assert resumed >= 0.95 * (CONNECTIONS - 1), f"{resumed} of {CONNECTIONS - 1}"


def generation_of(running: Gateway) -> float:
    return next(value for name, value in running.metrics().items() if "generation" in name)


# ---- clients' certificates


def as_client(folder: Path, name: str) -> list[str]:
    return ["-cert", str(folder / f"{name}.crt"), "-key", str(folder / f"{name}.key")]


@pytest.mark.parametrize("version", ["-tls1_2", "-tls1_3"])
@pytest.mark.parametrize("port, who, answered", [
    ("required", "client", True), ("required", "", False), ("required", "stranger", False),
    ("optional", "client", True), ("optional", "", True), ("optional", "stranger", True), ("tls", "stranger", True)])
def test_client_certificates(world, folder, ports, version: str, port: str, who: str, answered: bool) -> None:
    # The alert of TLS 1.3 comes behind the handshake: something has to be read.
    text = s_client(folder, ports[port], version, "-quiet", "-ign_eof", *(as_client(folder, who) if who else []), stdin=GET, status=None)
    assert ("HTTP/1.1 200 OK" in text) is answered, text
    if not answered:
        assert "alert" in text and "errno" not in text, text


def test_the_authorities_are_named(world, folder, ports) -> None:
    assert "CN = gwfast tests" in s_client(folder, ports["required"], "-tls1_2", status=None).partition("Acceptable client certificate CA names")[2]


# ---- a certificate that is replaced


class Load:
    """Requests on connections that stay open and on new ones, until stopped; counts answers, failures and certificates by serial."""

    def __init__(self, port: int) -> None:
        self.port, self.stop = port, threading.Event()
        self.answered, self.failed, self.serials = 0, [], set()
        self.context = trusting(authority().pem, "http/1.1")
        self.threads = [threading.Thread(target=self.run, args=(requests,), daemon=True) for requests in (1, 1, 10_000, 10_000)]
        for thread in self.threads:
            thread.start()

    def run(self, requests: int) -> None:
        while not self.stop.is_set():
            try:
                with socket.create_connection(("127.0.0.1", self.port), 10) as raw, self.context.wrap_socket(raw, server_hostname=HOST) as sock:
                    self.serials.add(sock.getpeercert()["serialNumber"])
                    for _ in range(requests):
                        if self.stop.is_set():
                            break
                        sock.sendall(f"GET / HTTP/1.1\r\nHost: {HOST}\r\n\r\n".encode())
                        answer = sock.recv(65536)
                        assert answer.startswith(b"HTTP/1.1 200 OK"), answer
                        self.answered += 1
            except (OSError, AssertionError) as error:
                self.failed.append(repr(error))

    def end(self) -> None:
        self.stop.set()
        for thread in self.threads:
            thread.join(20)


def test_a_certificate_is_swapped_under_load(run, backend) -> None:
    port, pairs = free_port(), [authority().certificate(HOST) for _ in range(4)]
    rest = [gateway(https(port)), service("one", backend("one")), route("all", rule("one"))]
    running = run(*rest, secret(HOST, *pairs[0]), options=("--workers", "2", "--access-log", "off"))
    load = Load(port)
    for n, pair in enumerate(pairs[1:], 1):
        elapse(0.5)
        running.write("all.yaml", *rest, secret(HOST, *pair))
        until(lambda n=n: len(load.serials) > n, 10)
    elapse(0.3)
    load.end()
    assert not load.failed and load.answered > 500, (load.failed[:3], load.answered)
    assert len(load.serials) == len(pairs), "each was served, none twice made"


def doubts(running) -> dict[str, float]:
    begin = 'gwfast_certificates_in_doubt{reason="'
    return {name.removeprefix(begin)[:-2]: n for name, n in running.metrics().items() if name.startswith(begin) and n}


def test_a_secret_that_breaks_changes_nothing_that_serves(run, backend, folder) -> None:
    port, made = free_port(), authority().certificate
    one = backend("one")
    listeners = [https(port, "a", "a", hostname="a.example"), https(port, "b", "b", hostname="b.example")]
    rest = [gateway(*listeners), service("one", one), route("all", rule("one")), secret("a", *made("a.example"))]
    good = made("b.example")
    running = run(*rest, secret("b", *good), options=("--access-log", "off"))
    (folder / "ca.crt").write_bytes(authority().pem)

    def serial() -> int:
        return x509.load_pem_x509_certificate(re.search(
            r"-----BEGIN.*?END CERTIFICATE-----\n", s_client(folder, port, name="b.example"), re.S)[0].encode()).serial_number

    first = x509.load_pem_x509_certificate(good[0]).serial_number
    assert serial() == first
    for broken in ([secret("b", made("b.example")[0], good[1])], [secret("b", b"x", b"y")], []):     # another key; no PEM; gone
        running.write("all.yaml", *rest, *broken)
        until(lambda: doubts(running) == {"kept": 1})
        assert serial() == first and subject(s_client(folder, port, name="a.example")) == "a.example"
    assert "what was there before serves on" in running.errors()
    worker, = running.workers()
    os.kill(worker, signal.SIGKILL)
    until(lambda: running.workers() not in ([], [worker]) and running.metrics()["gwfast_workers_running"] == 1)
    running.write("more.yaml", route("more", rule("one")))
    until(lambda: "more" in running.ask("/config")[1])
    assert serial() == first, "a new worker and another table have it as well"
    last = made("b.example")
    running.write("all.yaml", *rest, secret("b", *last))
    until(lambda: serial() == x509.load_pem_x509_certificate(last[0]).serial_number)
    until(lambda: doubts(running) == {})


def test_a_certificate_expires_while_it_serves(run, backend, folder) -> None:
    """It is told when it happens, though nothing changes, and clients decide what it is worth to them."""
    port = free_port()
    chain, key = authority().certificate("a.example", days=5 / 86400)
    end = x509.load_pem_x509_certificate(chain).not_valid_after_utc
    running = run(gateway(https(port, "a", "a")), service("one", backend("one")), route("all", rule("one")), secret("a", chain, key),
                  options=("--access-log", "off"))
    (folder / "ca.crt").write_bytes(authority().pem)
    until(lambda: doubts(running) == {"expired": 1})
    assert datetime.now(UTC) >= end and f"tls.crt expired on {end:%Y-%m-%d}; it is served all the same" in running.errors()
    assert "certificate has expired" in s_client(folder, port, name="a.example")
    running.write("more.yaml", route("more", rule("one")))
    until(lambda: "more" in running.ask("/config")[1])
    assert "certificate has expired" in s_client(folder, port, name="a.example")
