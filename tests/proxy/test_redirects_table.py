"""The scheme and the port of a redirect (5.5): each scheme and port that a filter names, or leaves open, on each kind of listener."""
import socket
from collections.abc import Iterator
from itertools import product

import pytest
from support.gateway import Gateway, free_port, gateway, listener, route, rule, write
from support.tls import HOST, authority, https, secret, trusting
from support.wire import TIMEOUT, Stream

PORTS, SCHEMES = (None, 80, 443, 8443), (None, "http", "https")
# Where Location begins, for each of PORTS. A scheme that is named has its own port, whatever the listener's is.
NAMED = {"http": ("http://a", "http://a", "http://a:443", "http://a:8443"), "https": ("https://a", "https://a:80", "https://a", "https://a:8443")}
# The listener's port, where neither is named.
OPEN = {("HTTP", 80): ("http://a", *NAMED["http"][1:]), ("HTTP", 443): ("http://a:443", *NAMED["http"][1:]),
        ("HTTP", 8080): ("http://a:8080", *NAMED["http"][1:]), ("HTTPS", 443): ("https://a", *NAMED["https"][1:]),
        ("HTTPS", 80): ("https://a:80", *NAMED["https"][1:]), ("HTTPS", 8080): ("https://a:8080", *NAMED["https"][1:])}
CASES = {f"{protocol} {number}, {scheme or 'no scheme'}, {port or 'no port'}": (protocol, number, scheme, port, begins)
         for (protocol, number), scheme in product(OPEN, SCHEMES)
         for port, begins in zip(PORTS, NAMED[scheme] if scheme else OPEN[protocol, number], strict=True)}
ADDRESSES = {"HTTP": "127.0.0.1", "HTTPS": "127.0.0.2"}


def redirect(scheme: str | None, port: int | None) -> dict:
    said = {name: value for name, value in (("scheme", scheme), ("port", port)) if value}
    return rule(path=f"/{scheme}/{port}", filters=[{"type": "RequestRedirect", "requestRedirect": said or {"statusCode": 302}}])


@pytest.fixture(scope="module")
def world(tmp_path_factory) -> Iterator[dict[int, int]]:
    """The ports where the listeners' are."""
    folder, real = tmp_path_factory.mktemp("redirects") / "conf", {number: free_port() for _, number in OPEN}
    folder.mkdir()
    makers = {"HTTP": listener, "HTTPS": https}
    gateways = [gateway(*(makers[protocol](number) for each, number in OPEN if each == protocol), name=protocol.lower(),
                        addresses=[{"type": "IPAddress", "value": address}]) for protocol, address in ADDRESSES.items()]
    rules = [redirect(scheme, port) for scheme, port in product(SCHEMES, PORTS)]
    write(folder, "all.yaml", *gateways, secret(HOST, *authority().certificate(HOST)),
          route("r", *rules, parentRefs=[{"name": one["metadata"]["name"]} for one in gateways]))
    running = Gateway(folder, "--access-log", "off", "--port-map", ",".join(f"{number}:{port}" for number, port in real.items()))
    yield real
    running.stop()


@pytest.mark.parametrize("case", CASES)
def test_case(world: dict[int, int], case: str) -> None:
    """The port of the Host field is nobody's (H:62-66)."""
    protocol, number, scheme, port, begins = CASES[case]
    host = HOST if protocol == "HTTPS" else "a.example"
    with socket.create_connection((ADDRESSES[protocol], world[number]), TIMEOUT) as sock:
        stream = Stream(trusting(authority().pem).wrap_socket(sock, server_hostname=HOST) if protocol == "HTTPS" else sock)
        stream.send(f"GET /{scheme}/{port}/x HTTP/1.1\r\nHost: {host}:9999\r\n\r\n".encode())
        answer = stream.response()
        stream.close()
    assert (answer.status, answer.fields.get("Location")) == (302, f"{begins.replace('//a', f'//{host}')}/{scheme}/{port}/x")
