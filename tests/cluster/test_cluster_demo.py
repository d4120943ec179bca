"""`make cluster` does what it prints."""
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import binaries
import pytest
from support.ports import free_port
from support.processes import alive
from support.waiting import elapse

HERE = Path(__file__).parent
SECONDS = 120


def answer(url: str) -> bytes:
    """Return what is answered with 200: one of two data planes may have the route a moment after the other."""
    end = time.monotonic() + SECONDS
    while True:
        try:
            with urllib.request.urlopen(url, timeout=60) as answered:
                return answered.read()
        except OSError:
            if time.monotonic() > end:
                raise
            elapse(0.05)


def test_make_cluster() -> None:
    if why := binaries.missing():
        pytest.skip(why)
    ports = {"CLUSTER_PORT": str(free_port()), "CLUSTER_API_PORT": str(free_port())}
    demo = subprocess.Popen([sys.executable, str(HERE / "demo.py")], env=os.environ | ports, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    said: list[str] = []
    try:
        for line in demo.stdout:
            said.append(line)
            if "Ctrl-C ends" in line:
                break
        guide = "".join(said)
        kubeconfig = guide.split("KUBECONFIG=")[1].split()[0]
        asked = subprocess.run([binaries.program("kubectl"), "--kubeconfig", kubeconfig, "get", "gateway", "my-gateway", "-o",
                                "jsonpath={.status.conditions[?(@.type=='Programmed')].status}"], capture_output=True, text=True, timeout=SECONDS)
        assert asked.stdout == "True", guide + asked.stderr
        assert b'"path": "/api/users"' in answer(f"http://127.0.0.1:{ports['CLUSTER_PORT']}/api/users")
        children = [int(pid) for pid in Path(f"/proc/{demo.pid}/task/{demo.pid}/children").read_text().split()]
        assert children
        demo.send_signal(signal.SIGINT)
        said += demo.stdout.readlines()
        assert demo.wait(SECONDS) == 0, "".join(said)
        assert not any(map(alive, children)) and not Path(kubeconfig).exists()
    finally:
        demo.kill()
        demo.wait()
        demo.stdout.close()


def test_a_port_that_is_taken_is_named() -> None:
    if why := binaries.missing():
        pytest.skip(why)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = subprocess.run([sys.executable, str(HERE / "demo.py")], env=os.environ | {"CLUSTER_PORT": str(port)}, capture_output=True, text=True,
                              timeout=SECONDS)
    assert done.returncode == 1 and f"port {port} is in use; CLUSTER_PORT=" in done.stderr and not done.stdout
