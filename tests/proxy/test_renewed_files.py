"""A certificate in PEM files: every way in which such files are renewed, without a connection that fails meanwhile."""
import os
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support.gateway import Gateway, free_port, gateway, resource, route, rule, service, until, write
from support.tls import HOST, Authority, trusting

AUTHORITY = Authority("files")
REF = {"group": "gwfast.dev", "kind": "CertificateFile", "name": "shop"}


class Shop:
    """A gateway whose certificate is in `live`, and what it shows."""

    def __init__(self, folder: Path, backend, live: Path) -> None:
        conf = folder / "conf"
        conf.mkdir()
        self.port = free_port()
        listener = {"name": "https", "protocol": "HTTPS", "port": self.port, "tls": {"certificateRefs": [REF]}}
        spec = {"certificate": str(live / "fullchain.pem"), "key": str(live / "privkey.pem")}
        write(conf, "all.yaml", gateway(listener), resource("CertificateFile", "shop", spec, "gwfast.dev/v1alpha1"),
              service("plain", backend), route("all", rule("plain")))
        self.gateway = Gateway(conf, "--workers", "2")

    def shown(self) -> bytes:
        """The certificate that a new connection is shown (DER), after a request that was answered."""
        with socket.create_connection(("127.0.0.1", self.port), 30) as raw:
            with trusting(AUTHORITY.pem).wrap_socket(raw, server_hostname=HOST) as sock:
                sock.sendall(b"GET / HTTP/1.1\r\nHost: shop.example\r\nConnection: close\r\n\r\n")
                assert sock.recv(65536).startswith(b"HTTP/1.1 200")
                return sock.getpeercert(binary_form=True)

    def metric(self, name: str) -> float:
        return self.gateway.metrics()[name]


def pair() -> tuple[bytes, bytes]:
    return AUTHORITY.certificate(HOST)


def put(folder: Path, made: tuple[bytes, bytes], number: str = "") -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in zip((f"fullchain{number}.pem", f"privkey{number}.pem"), made, strict=True):
        (folder / name).write_bytes(content)


def over(link: Path, to: str) -> None:
    """Put a link in the place of another one at once."""
    new = link.with_name(".new")
    new.symlink_to(to)
    os.replace(new, link)


def written(live: Path) -> Callable:
    put(live, pair())
    return lambda made: put(live, made)


def renamed(live: Path) -> Callable:
    put(live, pair())

    def renew(made: tuple[bytes, bytes]) -> None:
        put(live.parent / "new", made)
        for name in ("privkey.pem", "fullchain.pem"):
            os.replace(live.parent / "new" / name, live / name)
    return renew


def certbot(live: Path) -> Callable:
    """live/ has links into archive/, which are exchanged one by one."""
    archive, number = live.parent / "archive", 1
    put(archive, pair(), "1")
    live.mkdir()
    for name in ("fullchain", "privkey"):
        (live / f"{name}.pem").symlink_to(f"../archive/{name}1.pem")

    def renew(made: tuple[bytes, bytes]) -> None:
        nonlocal number
        number += 1
        put(archive, made, str(number))
        for name in ("privkey", "fullchain"):
            over(live / f"{name}.pem", f"../archive/{name}{number}.pem")
    return renew


def mounted(live: Path) -> Callable:
    """`..data` leads to a folder with both, as in a Secret that is mounted or of cert-manager's CSI driver."""
    number = 1
    put(live / "..1", pair())
    (live / "..data").symlink_to("..1")
    for name in ("fullchain.pem", "privkey.pem"):
        (live / name).symlink_to(f"..data/{name}")

    def renew(made: tuple[bytes, bytes]) -> None:
        nonlocal number
        number += 1
        put(live / f"..{number}", made)
        over(live / "..data", f"..{number}")
    return renew


@pytest.fixture(params=[written, renamed, certbot, mounted], ids=lambda way: way.__name__)
def shop(request, tmp_path: Path, plain_backend) -> Iterator[tuple[Shop, Callable]]:
    renew = request.param(tmp_path / "tls/live")
    one = Shop(tmp_path, plain_backend, tmp_path / "tls/live")
    yield one, renew
    one.gateway.stop()


def test_what_is_renewed_is_what_the_next_handshake_gets(shop: tuple[Shop, Callable]) -> None:
    one, renew = shop
    failures: list[Exception] = []
    ended = threading.Event()

    def ask() -> None:
        while not ended.is_set():
            try:
                one.shown()
            except Exception as error:
                failures.append(error)
    asking = threading.Thread(target=ask)
    asking.start()
    try:
        for _ in range(3):
            before, made = one.shown(), pair()
            renew(made)
            until(lambda before=before: one.shown() != before, 60)
    finally:
        ended.set()
        asking.join()
    assert not failures
    until(lambda: one.metric('gwfast_certificates_in_doubt{reason="kept"}') == 0, 60)


def test_a_pair_that_breaks_serves_on_and_is_told(tmp_path: Path, plain_backend) -> None:
    live = tmp_path / "tls/live"
    renew = written(live)
    one = Shop(tmp_path, plain_backend, live)
    try:
        before = one.shown()
        (live / "privkey.pem").unlink()
        until(lambda: one.metric("gwfast_config_unreadable") == 1, 60)
        until(lambda: one.metric('gwfast_certificates_in_doubt{reason="kept"}') == 1, 60)
        assert one.shown() == before
        until(lambda: "privkey.pem cannot be read: No such file or directory" in one.gateway.errors(), 60)
        put(live, (pair()[0], pair()[1]))     # of another key
        until(lambda: f"the key {live}/privkey.pem does not belong to the certificate {live}/fullchain.pem" in one.gateway.errors(), 60)
        assert one.shown() == before
        renew(pair())
        until(lambda: one.shown() != before, 60)
        until(lambda: one.metric("gwfast_config_unreadable") == one.metric('gwfast_certificates_in_doubt{reason="kept"}') == 0, 60)
    finally:
        one.gateway.stop()
