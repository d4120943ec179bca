"""The HTTP/2 clients that people try first: curl and h2load, in clear with prior knowledge and over TLS."""
import json
import re
import socket
from collections.abc import Iterator

import pytest
from support.backend import Backend
from support.gateway import Gateway, free_port, gateway, route, rule, service, write
from support.tls import HOST, authority, https, needs, secret, shell

MEGABYTES = 5_000_000


@pytest.fixture(scope="module")
def world(tmp_path_factory) -> Iterator[tuple[Gateway, int, int, str]]:
    """A gateway that serves the same backend in clear and over TLS, and the authority's file."""
    backend, clear, secure = Backend("one"), free_port(), free_port()
    folder = tmp_path_factory.mktemp("h2") / "conf"
    folder.mkdir()
    body = b"x" * MEGABYTES
    backend.handlers["/large"] = lambda stream, request: stream.send(
        b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)) or True
    ca = folder.parent / "ca.crt"
    ca.write_bytes(authority().pem)
    write(folder, "all.yaml", gateway(clear, https(secure)), secret(HOST, *authority().certificate(HOST)), service("one", backend),
          route("all", rule("one")))
    running = Gateway(folder, "--access-log", "off")
    yield running, clear, secure, str(ca)
    running.stop()
    backend.close()


@pytest.fixture(params=["clear", "tls"])
def url(world, request) -> tuple[str, list[str]]:
    """Where to ask, and what curl needs for it."""
    _, clear, secure, ca = world
    if request.param == "clear":
        return f"http://127.0.0.1:{clear}", ["--http2-prior-knowledge"]
    return f"https://{HOST}:{secure}", ["--http2", "--cacert", ca, "--resolve", f"{HOST}:{secure}:127.0.0.1"]


@needs("curl")
def test_curl_gets(url) -> None:
    where, options = url
    text = shell("curl", "-si", *options, "-H", "X-Test: a", f"{where}/a?b=c")
    head, _, body = text.partition("\n\n")
    told = json.loads(body)
    assert head.startswith("HTTP/2 200") and told["target"] == "/a?b=c"
    assert ["X-Test", "a"] in [[k.title(), v] for k, v in told["fields"]]


@needs("curl")
def test_curl_posts_and_downloads(url) -> None:
    where, options = url
    sent = shell("curl", "-s", *options, "--data-binary", "@-", f"{where}/upload", stdin=b"y" * MEGABYTES)
    assert json.loads(sent)["size"] == MEGABYTES
    assert shell("curl", "-s", *options, "-o", "/dev/null", "-w", "%{http_version} %{size_download}", f"{where}/large") == f"2 {MEGABYTES}"


@needs("curl")
def test_curl_asks_for_a_head(url) -> None:
    assert shell("curl", "-sI", *url[1], f"{url[0]}/").startswith("HTTP/2 200")


@needs("curl")
def test_curl_gets_fifty_on_one_connection(world) -> None:
    _, _, secure, ca = world
    wanted = [x for n in range(50) for x in ("-o", "/dev/null", f"https://{HOST}:{secure}/{n}")]
    text = shell("curl", "-s", "--http2", "--cacert", ca, "--resolve", f"{HOST}:{secure}:127.0.0.1", "-w",
                 "%{http_code} %{http_version} %{num_connects}\n", *wanted)
    assert text == "200 2 1\n" + "200 2 0\n" * 49


@needs("curl")
def test_curl_offers_an_upgrade(world) -> None:
    """h2c by Upgrade is no more (RFC 9113 3.1): the answer is one of HTTP/1.1."""
    assert shell("curl", "-si", "--http2", f"http://127.0.0.1:{world[1]}/").startswith("HTTP/1.1 200 OK")


@needs("curl")
@pytest.mark.parametrize("option, version", [("--http1.1", "1.1"), ("--http2", "2")])
def test_alpn_chooses(world, option: str, version: str) -> None:
    _, _, secure, ca = world
    assert shell("curl", "-s", option, "--cacert", ca, "--resolve", f"{HOST}:{secure}:127.0.0.1", "-o", "/dev/null", "-w",
                 "%{http_version}", f"https://{HOST}:{secure}/") == version


@needs("h2load")
@pytest.mark.parametrize("clients, streams", [(1, 1), (8, 32), (1, 100)])
def test_h2load(world, url, clients: int, streams: int) -> None:
    where, options = url
    secure = where.startswith("https:")
    more = [f"--connect-to=127.0.0.1:{world[2]}"] if secure else []
    text = shell("h2load", "-n", "3000", "-c", str(clients), "-m", str(streams), *more, f"{where}/load", seconds=60)
    done = re.search(r"requests: 3000 total, 3000 started, 3000 done, (\d+) succeeded, (\d+) failed", text)
    assert done and (done[1], done[2]) == ("3000", "0"), text
    assert ("Application protocol: h2\n" if secure else "h2c") in text


@needs("h2load")
def test_h2load_with_bodies(world, url, tmp_path) -> None:
    where, _ = url
    body = tmp_path / "body"
    body.write_bytes(b"z" * 100_000)
    more = [f"--connect-to=127.0.0.1:{world[2]}"] if where.startswith("https:") else []
    text = shell("h2load", "-n", "300", "-c", "4", "-m", "10", "-d", str(body), *more, f"{where}/post", seconds=60)
    assert "300 succeeded, 0 failed, 0 errored" in text


def test_both_protocols_on_one_port(world) -> None:
    running, clear, _, _ = world
    assert running.get("/one").status == 200
    with socket.create_connection(("127.0.0.1", clear), 10) as sock:
        sock.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0\4\0\0\0\0\0")
        head = sock.recv(9)
        assert head[3:5] == b"\4\0", "the server's SETTINGS come first"
