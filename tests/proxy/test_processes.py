"""Processes: a worker that dies is replaced, a supervisor that dies takes its workers along, signals drain."""
import os
import signal
import subprocess
import sys
import threading
import time

import pytest
from support.gateway import PROGRAM, alive, free_port, gateway, listener, route, rule, service, until
from support.waiting import elapse


def held(backend, path: str) -> tuple[threading.Event, threading.Event]:
    """Let a backend hold its answer: return what tells that the request arrived, and what lets the answer go."""
    arrived, go_on = threading.Event(), threading.Event()

    def answer(stream, request) -> None:
        arrived.set()
        go_on.wait(10)
        stream.send(backend.echo(request))
    backend.handlers[path] = answer
    return arrived, go_on


@pytest.fixture
def two(run, backend):
    """Two workers in front of one backend."""
    made = backend("one")
    return run(gateway(free_port()), service("one", made), route("r", rule("one")),
               options=("--workers", "2", "--access-log", "off", "--drain-timeout", "5s")), made


def test_killed_worker_is_replaced(two) -> None:
    gw, _ = two
    before = gw.workers()
    assert len(before) == 2
    os.kill(before[0], signal.SIGKILL)
    until(lambda: len(gw.workers()) == 2 and before[0] not in gw.workers())
    assert before[1] in gw.workers(), "the other one stays"
    for _ in range(20):
        assert gw.get().status == 200
    assert gw.metrics()["gwfast_worker_restarts_total"] == 1


def test_killed_worker_under_load_costs_only_its_own(two) -> None:
    """New connections are all served (the listening sockets live on); only requests in flight there are lost."""
    gw, _ = two
    stop, lost, served = threading.Event(), [], []

    def work() -> None:
        while not stop.is_set():
            stream = gw.connect()
            try:
                stream.send(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
                served.append(stream.response().status)
            except Exception as error:
                lost.append(repr(error))
            stream.close()
    threads = [threading.Thread(target=work, daemon=True) for _ in range(4)]
    for thread in threads:
        thread.start()
    kills = 4
    for _ in range(kills):
        until(lambda: len(gw.workers()) == 2)
        at = len(served)
        until(lambda at=at: len(served) > at + 50)
        os.kill(gw.workers()[0], signal.SIGKILL)
    until(lambda: len(gw.workers()) == 2)
    at = len(served)
    until(lambda: len(served) > at + 50)
    stop.set()
    for thread in threads:
        thread.join(15)
    assert set(served) == {200}
    assert len(lost) <= kills * len(threads), lost


def test_killed_supervisor_leaves_no_orphans(two) -> None:
    gw, _ = two
    workers = gw.workers()
    stream = gw.connect()
    stream.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
    assert stream.response().status == 200
    gw.process.kill()
    gw.process.wait()
    gw.ended = True
    until(lambda: not any(map(alive, workers)), 15)
    stream.close()


def test_request_in_flight_survives_the_supervisor(two) -> None:
    """Workers drain when their supervisor is killed: what has begun is answered."""
    gw, made = two
    arrived, go_on = held(made, "/slow")
    workers = gw.workers()
    stream = gw.connect()
    stream.send(b"GET /slow HTTP/1.1\r\nHost: a\r\n\r\n")
    assert arrived.wait(10)
    gw.process.kill()
    gw.process.wait()
    gw.ended = True
    elapse(0.3)
    go_on.set()
    assert stream.response().status == 200
    until(lambda: not any(map(alive, workers)), 15)
    stream.close()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=["TERM", "INT"])
def test_drain(two, number) -> None:
    """No new connections; a request in flight is answered, with Connection: close; then all ends with status 0."""
    gw, made = two
    arrived, go_on = held(made, "/slow")
    busy = gw.connect()
    busy.send(b"GET /slow HTTP/1.1\r\nHost: a\r\n\r\n")
    assert arrived.wait(10)
    gw.process.send_signal(number)

    def refused() -> bool:
        try:
            gw.connect().close()
        except ConnectionResetError:       # it came while the socket was being closed
            return False
        except ConnectionRefusedError:
            return True
        return False
    until(refused)
    assert gw.process.poll() is None
    assert gw.ask("/readyz")[0] == 503
    go_on.set()
    response = busy.response()
    assert (response.status, response.fields.get("Connection")) == (200, "close")
    assert busy.at_end()
    assert gw.process.wait(10) == 0
    busy.close()


def test_drain_does_not_wait_for_ever(run, backend) -> None:
    made = backend("one")
    gw = run(gateway(free_port()), service("one", made), route("r", rule("one")), options=("--drain-timeout", "500ms"))
    never = threading.Event()
    made.on("/never", lambda stream: never.wait(20))
    stream = gw.connect()
    stream.send(b"GET /never HTTP/1.1\r\nHost: a\r\n\r\n")
    until(lambda: made.seen("/never"))
    gw.process.terminate()
    assert gw.process.wait(10) == 0
    never.set()
    stream.close()


def test_second_signal_ends_at_once(two) -> None:
    gw, made = two
    never = threading.Event()
    made.on("/never", lambda stream: never.wait(20))
    stream = gw.connect()
    stream.send(b"GET /never HTTP/1.1\r\nHost: a\r\n\r\n")
    until(lambda: made.seen("/never"))
    gw.process.terminate()
    until(lambda: "draining" in gw.errors())
    gw.process.terminate()
    start = time.monotonic()
    gw.process.wait(10)
    assert time.monotonic() - start < 4, "sooner than the drain time"
    never.set()
    stream.close()


def test_idle_connections_end_in_a_drain(two) -> None:
    gw, _ = two
    stream = gw.connect()
    stream.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
    assert stream.response().status == 200
    gw.process.terminate()
    assert stream.at_end()
    assert gw.process.wait(10) == 0
    stream.close()


def test_resources_that_nobody_serves_are_no_reason_to_end(run) -> None:
    """Only a TLS Gateway in the folder: nothing to serve yet, but it runs and says why."""
    gw = run({"apiVersion": "gateway.networking.k8s.io/v1", "kind": "Gateway", "metadata": {"name": "tls"},
              "spec": {"gatewayClassName": "gwfast", "listeners": [
                  {"name": "tls", "protocol": "TLS", "port": 8443, "tls": {"mode": "Passthrough"}}]}}, ready=False)
    until(lambda: responds(gw))


def responds(gw) -> bool:
    try:
        return gw.ask("/healthz")[0] == 200
    except OSError:
        return False


UNPROGRAMMED = gateway(listener(1, protocol="HTTPS", tls={"certificateRefs": [{"name": "nowhere"}]}))
IDLE = {
    "an empty folder": ([], (), "there is no Gateway"),
    "no Gateway": ([route("r", rule("one"))], (), "there is no Gateway"),
    "a folder that cannot be read": ("sub", (), "there is no Gateway"),
    "another name": ([gateway(1)], ("--gateway", "shop"), "no Gateway is called shop, there is default/gw of class gwfast"),
    "another class": ([gateway(1)], ("--gateway-class", "nginx"), "no Gateway is of class nginx, there is default/gw of class gwfast"),
    "no listener programmed": ([UNPROGRAMMED], (), "no listener of Gateway default/gw can be served: there is no Secret default/nowhere"),
}


@pytest.mark.parametrize("documents, options, why", IDLE.values(), ids=IDLE)
def test_nothing_to_serve_is_not_ready(run, backend, documents, options, why) -> None:
    """It is told why, in the log, by /readyz and by the healthcheck, until there is something to serve; then again."""
    gw = run(*(() if documents == "sub" else documents), options=options, ready=False)
    if documents == "sub":
        (gw.folder / "sub").symlink_to("sub")
    answer = until(lambda: responds(gw) and (got := gw.ask("/readyz")) and "nothing is served" in got[1] and got)
    assert answer[0] == 503 and answer[1].startswith(f"not ready: nothing is served: {why}")
    until(lambda: f"nothing is served: {why}" in gw.errors())
    assert "NothingToServe" in gw.errors()
    assert gw.metrics()["gwfast_ready"] == 0

    def check() -> subprocess.CompletedProcess:
        return subprocess.run([*PROGRAM, "healthcheck", "--admin", f"127.0.0.1:{gw.admin}"], capture_output=True, text=True, timeout=30)
    assert (check().returncode, check().stdout) == (1, answer[1])
    served = gateway(free_port(), name="shop", gatewayClassName="nginx" if "nginx" in options else "gwfast")
    gw.write("all.yaml", served, service("one", backend("one")), route("r", rule("one"), parent="shop"))
    until(lambda: gw.ask("/readyz") == (200, "ready\n"))
    assert check().returncode == 0 and gw.metrics()["gwfast_ready"] == 1
    gw.serves("/")
    (gw.folder / "all.yaml").unlink()
    until(lambda: gw.ask("/readyz") == (503, "not ready: nothing is served: there is no Gateway\n"))


def test_port_in_use_is_said(run, backend) -> None:
    made = backend("one")
    gw = run(gateway(made.port), ready=False)
    until(lambda: responds(gw))
    until(lambda: str(made.port) in gw.errors())
    assert gw.ask("/readyz")[0] == 503


@pytest.mark.parametrize("arguments,status", [
    (["run"], 2), (["run", "/no/such/folder"], 2), (["run", ".", "--workers", "none"], 2), (["fly"], 2), (["--version"], 0)])
def test_usage(arguments: list[str], status: int) -> None:
    done = subprocess.run([*PROGRAM, *arguments], capture_output=True, text=True, timeout=30)
    assert done.returncode == status
    assert "Traceback" not in done.stderr
    assert len((done.stderr or done.stdout).splitlines()) == 1


def test_healthcheck(two) -> None:
    gw, _ = two
    command = [sys.executable, "-m", "gwfast", "healthcheck"]
    told = subprocess.run(command, env={**os.environ, "GWFAST_ADMIN": f"127.0.0.1:{gw.admin}"}, timeout=30)
    assert told.returncode == 0
    nobody = subprocess.run([*command, "--admin", f"127.0.0.1:{free_port()}"], capture_output=True, timeout=30)
    assert nobody.returncode == 1
