"""A certificate that is replaced while h2load and wrk ask: no request fails, connections go on, new handshakes get the new one."""
import re
import socket
import ssl
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography import x509
from support.gateway import Gateway, free_port, gateway, route, rule, service, until
from support.tls import HOST, authority, https, needs, plain_environment, secret, trusting
from support.wire import TIMEOUT

SWAPS = 5
REQUESTS = 40_000
CONNECTIONS = 16
SECONDS = 4             # of wrk, which cannot be told a number of requests
SLOW = 120              # seconds; enough wherever the tests run


@pytest.fixture
def gw(run, backend) -> Gateway:
    made = run(gateway(https(free_port())), service("one", backend("one")), route("all", rule("one")),
               options=("--workers", "2", "--access-log", "off"), serves=False)
    replace(made)
    return made


def replace(gw: Gateway) -> None:
    """Put a new certificate in the place of the old one, and wait until new handshakes get it."""
    chain, key = authority().certificate(HOST)
    wanted = x509.load_pem_x509_certificate(chain).serial_number
    gw.write("secret.yaml", secret(HOST, chain, key))
    until(lambda: all(shown(gw) == wanted for _ in range(8)), every=0.05)   # of both workers, as far as chance goes


def shown(gw: Gateway) -> int | None:
    """The serial number that a full handshake of a client gets; None: no certificate is there yet."""
    try:
        with opened(gw) as stream:
            return x509.load_der_x509_certificate(stream.getpeercert(True)).serial_number
    except OSError:
        return None


def opened(gw: Gateway) -> ssl.SSLSocket:
    plain = socket.create_connection(("127.0.0.1", gw.port), TIMEOUT)
    return trusting(authority().pem).wrap_socket(plain, server_hostname=HOST)


def asked(stream: ssl.SSLSocket) -> bool:
    stream.sendall(b"GET / HTTP/1.1\r\nHost: %s\r\n\r\n" % HOST.encode())
    return stream.recv(65536).startswith(b"HTTP/1.1 200 ")


def while_replaced(gw: Gateway, command: list[str], folder: Path) -> str:
    """Run a client and replace the certificate meanwhile; what the client said."""
    with (folder / "said").open("wb") as said:
        client = subprocess.Popen(command, stdout=said, stderr=subprocess.STDOUT, env=plain_environment())
    swapped = 0
    try:
        while swapped < SWAPS and client.poll() is None:
            replace(gw)
            swapped += 1
        assert client.wait(SLOW) == 0, (folder / "said").read_text()
    finally:
        client.kill()
        client.wait()
    assert swapped > 1, "the client was done before the certificate was replaced"
    return (folder / "said").read_text()


def h2load(gw: Gateway, *options: str) -> list[str]:
    return ["h2load", "-n", str(REQUESTS), "-c", str(CONNECTIONS), f"--connect-to=127.0.0.1:{gw.port}", *options, f"https://{HOST}/"]


@pytest.mark.parametrize("command, protocol", [
    pytest.param(lambda gw: h2load(gw, "-m", "8"), "h2", marks=needs("h2load"), id="h2load-h2"),
    pytest.param(lambda gw: h2load(gw, "--h1"), "http/1.1", marks=needs("h2load"), id="h2load-http1"),
    pytest.param(lambda gw: ["wrk", "-t1", f"-c{CONNECTIONS}", f"-d{SECONDS}s", f"https://localhost:{gw.port}/"], "", marks=needs("wrk"),
                 id="wrk"),
])
def test_no_request_fails_while_a_certificate_is_replaced(gw, tmp_path, command: Callable, protocol: str) -> None:
    with opened(gw) as kept:
        assert asked(kept)
        before = gw.metrics()
        text = while_replaced(gw, command(gw), tmp_path)
        assert asked(kept), "a connection goes on with the certificate that it began with"
        after = gw.metrics()
    if protocol:
        assert re.search(rf"{REQUESTS} total, {REQUESTS} started, {REQUESTS} done, {REQUESTS} succeeded, 0 failed, 0 errored", text), text
        assert f"Application protocol: {protocol}\n" in text
    else:
        assert "requests in" in text and "Non-2xx" not in text and "Socket errors" not in text, text
    assert after["gwfast_reloads_total"] - before["gwfast_reloads_total"] > 1
    assert after["gwfast_tls_failures_total"] == before["gwfast_tls_failures_total"]
