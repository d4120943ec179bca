"""Options of `gwfast run` that only a running gateway can show."""
import json
import socket
import subprocess

import pytest
import yaml
from support.gateway import PROGRAM, Gateway, free_port, gateway, listener, resource, route, rule, service, until
from support.tls import HOST, authority, https, needs, secret, shell

LARGE = {"GWFAST_MAX_HEADER_BYTES": "256k", "GWFAST_MAX_FIELD_BYTES": "64k", "GWFAST_MAX_FIELDS": "1000"}


def flat(*documents) -> list[dict]:
    return [one for some in documents for one in (some if isinstance(some, list) else [some])]


def status(gw: Gateway) -> dict:
    return json.loads(gw.ask("/status")[1])


def test_standard_input(backend) -> None:
    port, admin = free_port(), free_port()
    text = yaml.safe_dump_all(flat(gateway(port), service("one", backend("one")), route("r", rule("one"))))
    process = subprocess.Popen([*PROGRAM, "run", "-", "--admin", f"127.0.0.1:{admin}", "--workers", "1"], text=True,
                               stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    process.stdin.write(text)
    process.stdin.close()

    def answered() -> bytes:
        try:
            with socket.create_connection(("127.0.0.1", port), 5) as sock:
                sock.sendall(b"GET / HTTP/1.0\r\nHost: a\r\n\r\n")
                return sock.recv(4096)
        except OSError:
            return b""
    assert until(answered).startswith(b"HTTP/1.1 200 ")
    process.terminate()
    assert process.wait(15) == 0
    assert "Traceback" not in process.stderr.read()
    process.stderr.close()


def test_ports_are_mapped_also_to_free_ones(run, backend) -> None:
    gw = run(gateway(listener(80, "web")), service("one", backend("one")), route("r", rule("one")),
             options=("--port-map", "80:0"))
    found, = status(gw)["ports"]
    assert (found["spec_port"], found["port"] != 80) == (80, True)
    assert gw.get(port=found["port"]).status == 200


def test_environment(run, backend) -> None:
    mapped = free_port()
    gw = run(gateway(listener(80, "web")), service("one", backend("one")), route("r", rule("one")),
             env={"GWFAST_PORT_MAP": f"80:{mapped}", "GWFAST_ACCESS_LOG": "off", "GWFAST_VIA": "edge"})
    fields = dict(json.loads(gw.get(port=mapped).body)["fields"])
    assert fields["Via"] == "1.1 edge"
    assert gw.out.read_text() == ""


@pytest.mark.parametrize("option,served", [("--gateway=a", "a"), ("--gateway=default/b", "b"), ("--gateway-class=other", "b")])
def test_only_some_gateways(run, backend, option: str, served: str) -> None:
    ports = {"a": free_port(), "b": free_port()}
    a, b = (gateway(ports[name], name=name) for name in "ab")
    b["spec"]["gatewayClassName"] = "other"
    shared = resource("HTTPRoute", "r", {"parentRefs": [{"name": "a"}, {"name": "b"}], "rules": [rule("one")]})
    gw = run(a, b, service("one", backend("one")), shared, options=tuple(option.split("=")))
    assert [p["spec_port"] for p in status(gw)["ports"]] == [ports[served]]
    assert gw.get(port=ports[served]).status == 200


@needs("curl")
@pytest.mark.parametrize("version", ["--http1.1", "--http2"])
@pytest.mark.parametrize("secure", [False, True], ids=["clear", "tls"])
@pytest.mark.parametrize(("size", "given", "expected"), [(16_000, {}, "200"), (17_000, {}, "431"), (60_000, LARGE, "200")])
def test_larger_heads_are_an_option(run, backend, version, secure, size, given, expected) -> None:
    """A Kerberos ticket, whatever the version, in clear and over TLS; what the backend got is in its answer."""
    port, tls = free_port(), free_port()
    gw = run(gateway(listener(port, "web"), https(tls)), secret(HOST, *authority().certificate(HOST)), service("one", backend("one")),
             route("r", rule("one")), env=given)
    ticket, ca = gw.folder.parent / "ticket", gw.folder.parent / "ca.crt"
    ticket.write_text("Authorization: Negotiate " + "k" * size + "\n")
    ca.write_bytes(authority().pem)
    how = [version if secure or version == "--http1.1" else "--http2-prior-knowledge"]
    where = f"http://127.0.0.1:{port}/"
    if secure:
        where, how = f"https://{HOST}:{tls}/", [*how, "--cacert", str(ca), "--resolve", f"{HOST}:{tls}:127.0.0.1"]
    body, _, status = shell("curl", "-s", *how, "-H", f"@{ticket}", "-w", "\n%{http_code}", where).rpartition("\n")
    assert status == expected
    if status == "200":
        assert {name.lower(): value for name, value in json.loads(body)["fields"]}["authorization"] == "Negotiate " + "k" * size


def test_bind_and_addresses(run, backend) -> None:
    """--bind is for Gateways that name no address; those that do get theirs."""
    port = free_port()
    named, unnamed = gateway(port, name="named"), gateway(port, name="unnamed")
    named["spec"]["addresses"] = [{"type": "IPAddress", "value": "127.0.0.3"}]
    del unnamed["spec"]["addresses"]
    gw = run(named, unnamed, service("one", backend("one")), route("r", rule("one"), parent="unnamed"),
             options=("--bind", "127.0.0.2"))

    def first_line(address: str) -> bytes:
        with socket.create_connection((address, port), 5) as sock:
            sock.sendall(b"GET / HTTP/1.0\r\nHost: a\r\n\r\n")
            return sock.recv(12)
    assert (first_line("127.0.0.2"), first_line("127.0.0.3")) == (b"HTTP/1.1 200", b"HTTP/1.1 404")
    with pytest.raises(ConnectionRefusedError):
        gw.connect(port)
