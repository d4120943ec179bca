"""`make demo`: echo backends and the gateway on examples/demo/; shows requests as they arrive; Ctrl-C ends everything.

HTTP is on port 8080 and HTTPS, with a certificate made for this demo, on 8443; DEMO_PORT=8081 and DEMO_TLS_PORT=8444 move
them where those are taken.
"""
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

from make_certificates import make

FOLDER = Path(__file__).parent / "demo"
CERTIFICATES = Path(__file__).parent / "certificates"
GWFAST = [sys.executable, "-m", "gwfast"]
PORT = int(os.environ.get("DEMO_PORT", "8080"))
TLS_PORT = int(os.environ.get("DEMO_TLS_PORT", "8443"))
ADMIN = "127.0.0.1:9000"
BACKENDS = {"stable": 3001, "beta": 3002, "canary": 3003}

GUIDE = """
  the gateway       http://127.0.0.1:{port}     examples/demo/ (change a file: it is served at once)
                    https://localhost:{tls_port}    with a certificate by {ca}
  echo backends     {backends}
  admin             http://{admin}     /readyz /metrics /config

Try, in another terminal:

  by path           curl -i http://127.0.0.1:{port}/shop/shoes
  by header         curl -H 'X-Beta: yes' http://127.0.0.1:{port}/shop/shoes
  by query          curl 'http://127.0.0.1:{port}/shop/shoes?version=next'
  weighted canary   for i in 1 2 3 4 5 6 7 8 9 10; do curl -s http://127.0.0.1:{port}/checkout | grep service; done
  redirect          curl -i http://127.0.0.1:{port}/old-shop/shoes
  HTTPS, HTTP/2     curl -i --cacert {ca} https://localhost:{tls_port}/shop/shoes
  another name      curl --cacert {ca} --resolve shop.example:{tls_port}:127.0.0.1 https://shop.example:{tls_port}/shop/shoes

Requests as they arrive (Ctrl-C ends the demo):
"""


def require_free(port: int) -> None:
    """End with one clear line where somebody else listens there."""
    with socket.socket() as s:
        s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            s.bind(("127.0.0.1", port))
        except OSError:
            names = {PORT: "DEMO_PORT=8081", TLS_PORT: "DEMO_TLS_PORT=8444"}
            moved = f"; {names[port]} make demo moves the gateway" if port in names else ""
            sys.exit(f"demo: port {port} is in use{moved}")


def ready(gateway: subprocess.Popen, seconds: float = 20) -> bool:
    end = time.monotonic() + seconds
    while gateway.poll() is None and time.monotonic() < end:
        with contextlib.suppress(OSError), urllib.request.urlopen(f"http://{ADMIN}/readyz", timeout=1) as answer:
            if answer.status == 200:
                return True
        time.sleep(0.05)
    return False


def shown(line: str) -> str:
    """One line of the access log for people."""
    try:
        entry = json.loads(line)
    except ValueError:
        return line.rstrip()
    rule = f"{entry['route']} rule {entry['rule']}" if "route" in entry else "no route"
    where = f" -> {entry['backend']}" if entry.get("backend") else ""
    return f"  {entry['status']}  {entry['method']} {entry['target']}  ({rule}{where}, {entry['duration_ms']:.1f} ms)"


def main() -> int:
    """Run everything. One worker: each has a weighted selector of its own, and ten requests should show one canary."""
    for port in (PORT, TLS_PORT, *BACKENDS.values(), int(ADMIN.rpartition(":")[2])):
        require_free(port)
    make(CERTIFICATES)
    ended: list[subprocess.Popen] = []
    # They are in sessions of their own, so that Ctrl-C, which reaches the whole foreground group, comes to them once, from here.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: [process.terminate() for process in ended])
    echo = subprocess.Popen([*GWFAST, "echo", *(f"{name}={port}" for name, port in BACKENDS.items())],
                            start_new_session=True, stdout=subprocess.DEVNULL)
    gateway = subprocess.Popen([*GWFAST, "run", str(FOLDER), str(CERTIFICATES), "--admin", ADMIN,
                                "--port-map", f"8080:{PORT},8443:{TLS_PORT}", "--workers", "1", "--access-log", "json",
                                "--log-level", "warning", "--drain-timeout", "2s"],
                               start_new_session=True, stdout=subprocess.PIPE, text=True)
    ended.append(gateway)
    try:
        if ready(gateway):
            print(GUIDE.format(port=PORT, tls_port=TLS_PORT, ca=os.path.relpath(CERTIFICATES / "ca.crt"), admin=ADMIN,
                               backends="  ".join(f"{n} :{p}" for n, p in BACKENDS.items())), flush=True)
        for line in gateway.stdout:
            print(shown(line), flush=True)
        return gateway.wait()
    finally:
        echo.terminate()
        echo.wait()


if __name__ == "__main__":
    sys.exit(main())
