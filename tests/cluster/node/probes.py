"""Startup, readiness and liveness probes: httpGet, tcpSocket and exec, as kubelet runs them.

Each probe of a running container is a thread that ends with that run. Until a startup or readiness probe has succeeded it is asked
every 0.1 s, whatever its period is, so that tests do not wait; failures that count come at the period.
"""
import http.client
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Callable

from node.container import Container

EAGER_SECONDS = 0.1


def port_of(port: int | str, container: dict) -> int:
    """A probe's port: a number, or the name of a port of the container."""
    if isinstance(port, int):
        return port
    return next(one["containerPort"] for one in container.get("ports") or () if one.get("name") == port)


def http_get(said: dict, container: dict, ip: str, timeout: float) -> bool:
    host, port = said.get("host") or ip, port_of(said["port"], container)
    if said.get("scheme", "HTTP") == "HTTPS":
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE  # kubelet does not verify either
        connection = http.client.HTTPSConnection(host, port, timeout=timeout, context=context)
    else:
        connection = http.client.HTTPConnection(host, port, timeout=timeout)
    try:
        headers = {one["name"]: one["value"] for one in said.get("httpHeaders") or ()}
        connection.request("GET", said.get("path") or "/", headers={"User-Agent": "kube-probe/1", "Accept": "*/*", **headers})
        return 200 <= connection.getresponse().status < 400
    finally:
        connection.close()


def succeeds(probe: dict, container: Container, ip: str) -> bool:
    """Ask once."""
    timeout = float(probe.get("timeoutSeconds", 1))
    try:
        if "httpGet" in probe:
            return http_get(probe["httpGet"], container.spec, ip, timeout)
        if "tcpSocket" in probe:
            said = probe["tcpSocket"]
            with socket.create_connection((said.get("host") or ip, port_of(said["port"], container.spec)), timeout):
                return True
        if "exec" in probe:
            return container.run(probe["exec"]["command"], timeout).returncode == 0
    except (OSError, http.client.HTTPException, subprocess.TimeoutExpired, StopIteration):
        return False
    return False


class Prober(threading.Thread):
    """One probe of one run of a container. `told` gets True and False once a threshold is reached, in a row of changes."""

    def __init__(self, kind: str, container: Container, ip: str, told: Callable[[bool], None]):
        super().__init__(name=f"{kind} {container.name}", daemon=True)
        self._kind, self._container, self._ip, self._told = kind, container, ip, told
        self._probe = container.spec[f"{kind}Probe"]
        self._over = container.over

    def run(self) -> None:
        self._sleep(self._probe.get("initialDelaySeconds", 0))
        if self._kind != "startup":
            self._wait_for(lambda: self._container.started)
        period, counts, verdict = float(self._probe.get("periodSeconds", 10)), [0, 0], None
        due = time.monotonic()
        while self._alive():
            good = succeeds(self._probe, self._container, self._ip)
            at_period = time.monotonic() >= due
            if good or at_period:
                counts = [0, counts[1] + 1] if good else [counts[0] + 1, 0]
            if at_period:
                due += period
            enough = self._probe.get("successThreshold" if good else "failureThreshold", 1 if good else 3)
            if counts[good] >= enough and verdict is not good and self._alive():
                verdict = good
                self._told(good)
                if self._kind == "startup":
                    return
            eager = not good and verdict is None and self._kind != "liveness"
            self._sleep(min(EAGER_SECONDS, due - time.monotonic()) if eager else due - time.monotonic())

    def _alive(self) -> bool:
        return not self._over.is_set()

    def _wait_for(self, condition: Callable[[], bool]) -> None:
        while self._alive() and not condition():
            self._sleep(EAGER_SECONDS)

    def _sleep(self, seconds: float) -> None:
        self._over.wait(max(0.0, seconds))
