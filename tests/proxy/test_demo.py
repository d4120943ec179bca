"""`make demo`: its configuration has no problem and the lines that it prints do what they say."""
import json
import re
import shutil
import signal
import socket
import ssl
import subprocess
import sys
from pathlib import Path

import pytest
from support.gateway import PROGRAM, Gateway, free_port
from support.network import listening, own_network
from support.tls import ROOT, make, needs, shell, trusting

DEMO = ROOT / "examples" / "demo"
PORTS = {"stable": 3001, "beta": 3002, "canary": 3003}


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    """The demo's files with the ports of our backends in the place of the echo backends'."""
    from support.backend import Backend
    backends = {name: Backend(name) for name in PORTS}
    folder = tmp_path_factory.mktemp("demo") / "conf"
    folder.mkdir()
    for file in DEMO.iterdir():
        text = file.read_text()
        for name, port in PORTS.items():
            text = text.replace(f"port: {port}\n", f"port: {backends[name].port}\n")
        (folder / file.name).write_text(text)
    make(folder)
    port, tls_port = free_port(), free_port()
    gateway = Gateway(folder, "--port-map", f"8080:{port},8443:{tls_port}", "--access-log", "off")
    gateway.port, gateway.tls_port = port, tls_port
    yield gateway
    gateway.stop()
    for backend in backends.values():
        backend.close()


def asked(demo: Gateway, target: str, **fields: str) -> tuple[str, str]:
    got = json.loads(demo.get(target, **fields).body)
    return got["backend"], got["target"]


def test_no_problems(tmp_path: Path) -> None:
    make(tmp_path)
    done = subprocess.run([*PROGRAM, "check", str(DEMO), str(tmp_path)], capture_output=True, text=True, timeout=60)
    assert (done.returncode, "no problems" in done.stdout) == (0, True), done.stdout


def test_by_path_header_and_query(demo: Gateway) -> None:
    assert asked(demo, "/shop/shoes") == ("stable", "/shop/shoes")
    assert demo.get("/shop/shoes").fields.get("X-Served-By") == "gwfast"
    assert asked(demo, "/shop/shoes", x_beta="yes") == ("beta", "/shop/shoes")
    assert asked(demo, "/shop/shoes?version=next") == ("beta", "/next/shoes?version=next")


def test_canary_gets_one_of_ten(demo: Gateway) -> None:
    assert sorted(asked(demo, "/checkout")[0] for _ in range(10)) == ["canary"] + ["stable"] * 9


def test_redirect(demo: Gateway) -> None:
    answer = demo.get("/old-shop/shoes")
    assert (answer.status, answer.fields.get("Location")) == (301, "http://any.example:8080/shop/shoes")


def test_https(demo: Gateway) -> None:
    """With the name that the certificate has, and with none that it has."""
    authority = (demo.folder / "ca.crt").read_bytes()
    with socket.create_connection(("127.0.0.1", demo.tls_port), 10) as raw:
        with trusting(authority).wrap_socket(raw, server_hostname="localhost") as sock:
            sock.sendall(b"GET /shop/shoes HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert sock.recv(65536).startswith(b"HTTP/1.1 200 OK")
    with socket.create_connection(("127.0.0.1", demo.tls_port), 10) as raw:
        with pytest.raises(ssl.SSLCertVerificationError):
            trusting(authority).wrap_socket(raw, server_hostname="other.example")


@needs("curl")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["INT", "TERM"])
def test_every_line_of_the_guide_runs(tmp_path: Path, number: int) -> None:
    """The demo itself, and the lines as it prints them. INT and TERM end all of it, and free its ports."""
    shutil.copytree(ROOT / "examples", tmp_path / "examples", ignore=shutil.ignore_patterns("certificates"))
    with own_network() as own:
        if not own:
            pytest.skip("no network of one's own is allowed here: the demo's ports may be taken")
        process = subprocess.Popen([sys.executable, "examples/demo.py"], cwd=tmp_path, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                   stderr=subprocess.STDOUT, text=True)
        try:
            guide = ""
            while "Ctrl-C" not in guide and (line := process.stdout.readline()):
                guide += line
            lines = re.findall(r"  ((?:curl|for) .*)", guide)
            assert len(lines) == 7, guide
            for line in lines:
                text = shell("bash", "-c", f"cd {tmp_path}; {line}")
                assert "shoes" in text or text.count("stable") == 9, f"{line}\n{text}"
            process.send_signal(number)
            said = process.stdout.read()
            assert (process.wait(60), said.count("/checkout")) == (0, 10), said
            assert not listening()
        finally:
            process.kill()
            process.wait()
            process.stdout.close()


def test_guide_names_the_ports_of_the_files() -> None:
    """examples/demo.py starts its backends where the files say they are."""
    text = (ROOT / "examples" / "demo.py").read_text()
    assert json.loads(re.search(r"BACKENDS = (\{.*\})", text)[1]) == PORTS
