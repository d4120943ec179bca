"""The whole program as a user runs it: processes, signals, reloads, death. Real sockets, real files, real backends."""
import contextlib
import http.client
import json
import os
import queue
import select
import signal
import socket
import subprocess
import sys
import threading
import time

import pytest
from support.waiting import until

pytest.importorskip("gwfast.engine.engine", reason="the engine is not built")

GATEWAY = """
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: gw}
spec:
  gatewayClassName: gwfast
  listeners:
%s
"""
LISTENER = "  - {name: l%d, protocol: HTTP, port: %d}\n"
ROUTE = """
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: %s}
spec:
  parentRefs: [{name: gw}]
  rules:
  - matches: [{path: {type: PathPrefix, value: %s}}]
    backendRefs: [{name: localhost, port: %d}]
"""
PATIENCE = 30.0


def gateway_file(*ports):
    return GATEWAY % "".join(LISTENER % (port, port) for port in ports)


class Gateway:
    """A running `gwfast run`; its log is read as events."""

    def __init__(self, folder, *options, env=None):
        self.process = subprocess.Popen(
            [sys.executable, "-m", "gwfast", "run", str(folder), "--admin", "127.0.0.1:0", "--log-format", "json",
             "--dns-template", "{name}", *options],
            stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True, env=env, start_new_session=True)
        self.events: queue.Queue = queue.Queue()
        self.seen: list[dict] = []
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()
        host, _, port = self.event("gwfast starts")["admin"].rpartition(":")
        self.admin = (host, int(port))

    def _read(self):
        for line in self.process.stderr:
            self.events.put(json.loads(line) if line.startswith("{") else {"msg": line})
        self.events.put(None)

    def event(self, msg):
        """Wait for the next event with these words."""
        end = time.monotonic() + PATIENCE
        while (event := self.events.get(timeout=max(0.0, end - time.monotonic()))) is not None:
            self.seen.append(event)
            if event["msg"].startswith(msg):
                return event
        raise AssertionError(f"the log ended without {msg!r}: {self.seen}")

    def until_ready(self):
        until(lambda: self.page("/readyz")[0] == 200)
        return self

    def page(self, path, method="GET"):
        return request(*self.admin, path, method)

    def status(self):
        return json.loads(self.page("/status")[1])

    def port(self, spec_port=80):
        return next(port["port"] for port in self.status()["ports"] if port["spec_port"] == spec_port)

    def get(self, path="/", spec_port=80):
        return request("127.0.0.1", self.port(spec_port), path)

    def workers(self):
        return [worker["pid"] for worker in self.status()["workers"]]

    def end(self):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(PATIENCE)
        self.reader.join(PATIENCE)
        self.process.stderr.close()


def request(host, port, path, method="GET"):
    connection = http.client.HTTPConnection(host, port, timeout=PATIENCE)
    with contextlib.closing(connection):
        connection.request(method, path)
        response = connection.getresponse()
        return response.status, response.read().decode()


def gone(pid):
    """Wait until a process that is no child of ours has ended."""
    try:
        pidfd = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    with open(pidfd, closefd=True):
        poll = select.poll()  # select() takes no descriptor above 1023
        poll.register(pidfd, select.POLLIN)
        return bool(poll.poll(PATIENCE * 1000))


@pytest.fixture(scope="module")
def echoes():
    """Two echo backends, 'one' and 'two': their ports."""
    process = subprocess.Popen([sys.executable, "-m", "gwfast", "echo", "one=0", "two=0"],
                               stdout=subprocess.PIPE, text=True)
    ports = [int(process.stdout.readline().rpartition(":")[2]) for _ in range(2)]
    yield ports
    process.terminate()
    process.wait(PATIENCE)
    process.stdout.close()


@pytest.fixture
def conf(tmp_path, echoes):
    folder = tmp_path / "conf"
    folder.mkdir()
    (folder / "gateway.yaml").write_text(gateway_file(80))
    (folder / "route.yaml").write_text(ROUTE % ("r", "/", echoes[0]))
    return folder


@pytest.fixture
def start(conf):
    """Start gateways on `conf`; every one is ended."""
    with contextlib.ExitStack() as stack:
        def start(*options, **more):
            gateway = Gateway(conf, "--workers", "2", "--port-map", "80:0,81:0", *options, **more)
            stack.callback(gateway.end)
            return gateway
        yield start


def service(answer):
    status, body = answer
    return json.loads(body)["service"] if status == 200 else status


def test_it_serves_and_tells(start):
    gateway = start().until_ready()
    assert service(gateway.get()) == "one"
    assert gateway.page("/healthz") == (200, "ok\n")
    status = gateway.status()
    assert status["ready"] and status["problems"] == [] and status["generation"] >= 1
    assert len({worker["pid"] for worker in status["workers"]}) == 2
    assert json.loads(gateway.page("/config")[1])["binds"][0]["port"] == 80
    metrics = gateway.page("/metrics")[1]
    assert 'gwfast_route_requests_total{kind="HTTPRoute",route="default/r",code="2xx"} 1' in metrics
    assert "gwfast_workers_running 2\n" in metrics and "gwfast_ready 1\n" in metrics


def test_a_changed_file_is_live(start, conf, echoes):
    gateway = start().until_ready()
    (conf / "route.yaml").write_text(ROUTE % ("r", "/", echoes[1]))
    until(lambda: service(gateway.get()) == "two")
    (conf / "more.yaml").write_text(ROUTE % ("more", "/one", echoes[0]))
    until(lambda: service(gateway.get("/one")) == "one")
    assert service(gateway.get("/onex")) == "two"
    (conf / "more.yaml").unlink()
    until(lambda: service(gateway.get("/one")) == "two")


def test_no_request_fails_while_files_change(start, conf, echoes):
    gateway = start().until_ready()
    port = gateway.port()
    got, stop = [], threading.Event()

    def ask(keep_alive):
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
        while not stop.is_set():
            connection.request("GET", "/")
            got.append(service(((response := connection.getresponse()).status, response.read())))
            if not keep_alive:
                connection.close()
        connection.close()
    clients = [threading.Thread(target=ask, args=(keep_alive,)) for keep_alive in (True, False)]
    for client in clients:
        client.start()
    for n in range(20):
        (conf / "route.yaml").write_text(ROUTE % ("r", "/", echoes[(n + 1) % 2]))
        until(lambda wanted=("one", "two")[(n + 1) % 2]: service(gateway.get()) == wanted)
    stop.set()
    for client in clients:
        client.join(PATIENCE)
    assert set(got) == {"one", "two"}


def test_what_is_invalid_leaves_what_was(start, conf, echoes, capfd):
    from gwfast import cli
    gateway = start("--no-watch").until_ready()
    (conf / "route.yaml").write_text((ROUTE % ("r", "/", echoes[1])).replace("PathPrefix", "PathPrefiks"))
    (conf / "more.yaml").write_text(ROUTE % ("more", "/two", echoes[1]))
    admin = "%s:%d" % gateway.admin
    assert cli.main(["reload", "--admin", admin]) == 1
    out = capfd.readouterr().out
    assert "route.yaml:8: error: HTTPRoute default/r spec.rules[0].matches[0].path.type" in out and "PathPrefiks" in out
    assert service(gateway.get()) == "one" and service(gateway.get("/two")) == "two"
    while "PathPrefiks" not in str(gateway.event("")):
        pass
    told = len(gateway.seen)
    assert 'gwfast_problems{severity="error"} 1' in gateway.page("/metrics")[1]
    assert cli.main(["reload", "--admin", admin]) == 1
    (conf / "route.yaml").write_text(ROUTE % ("r", "/", echoes[1]))
    assert cli.main(["reload", "--admin", admin]) == 0
    gateway.event("problems are solved")
    assert "PathPrefiks" not in str(gateway.seen[told:])  # said once
    assert service(gateway.get()) == "two"
    assert cli.main(["healthcheck", "--admin", admin]) == 0


def test_hup_reloads(start, conf, echoes):
    gateway = start(env=os.environ | {"GWFAST_NO_WATCH": "1"}).until_ready()
    (conf / "route.yaml").write_text(ROUTE % ("r", "/", echoes[1]))
    gateway.process.send_signal(signal.SIGHUP)
    until(lambda: service(gateway.get()) == "two")


def test_ports_come_and_go(start, conf):
    gateway = start().until_ready()
    first = gateway.port()
    (conf / "gateway.yaml").write_text(gateway_file(80, 81))
    until(lambda: len(gateway.status()["ports"]) == 2 and service(gateway.get(spec_port=81)) == "one")
    second = gateway.port(81)
    assert gateway.port() == first
    (conf / "gateway.yaml").write_text(gateway_file(81))
    until(lambda: refuses(first))
    assert gateway.port(81) == second and service(gateway.get(spec_port=81)) == "one"


def refuses(port):
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) != 0


def test_a_port_that_is_taken_is_said_and_tried_again(start, conf):
    with socket.socket() as stranger:
        stranger.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        stranger.bind(("127.0.0.1", 0))
        stranger.listen()
        taken = stranger.getsockname()[1]
        (conf / "gateway.yaml").write_text(gateway_file(80, 81))
        gateway = start("--port-map", f"80:0,81:{taken}")
        gateway.event("table serves")
        problem = gateway.event("listener default/gw/l81 cannot listen on")
        assert "something else listens there" in problem["msg"] and "gateway.yaml:9" in problem["source"]
        assert problem["field"] == "spec.listeners[1].port"
        assert service(gateway.get()) == "one"
        assert gateway.page("/readyz")[0] == 503
        assert "gwfast_ports_failed 1" in gateway.page("/metrics")[1]
    gateway.until_ready()  # nobody has to ask for it
    assert service(gateway.get(spec_port=81)) == "one"


def test_a_worker_that_dies_is_replaced(start):
    gateway = start().until_ready()
    for _ in range(2):
        victim, other = gateway.workers()
        os.kill(victim, signal.SIGKILL)
        died = gateway.event("a worker died")
        assert died["pid"] == victim and died["status"] == "SIGKILL"
        until(lambda: gateway.page("/metrics")[1].count("gwfast_workers_running 2\n"))
        pids = gateway.workers()
        assert victim not in pids and other in pids and len(set(pids)) == 2
        for _ in range(20):
            assert service(gateway.get()) == "one"


def test_workers_do_not_outlive_the_supervisor(start):
    gateway = start("--drain-timeout", "1").until_ready()
    workers = gateway.workers()
    gateway.process.kill()
    assert all(gone(pid) for pid in workers)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=["TERM", "INT"])
def test_it_drains(start, number):
    gateway = start("--drain-timeout", "20").until_ready()
    port, answer = gateway.port(), []
    slow = threading.Thread(target=lambda: answer.append(request("127.0.0.1", port, "/?delay=1s")))
    slow.start()
    until(lambda: "gwfast_requests_open 1\n" in gateway.page("/metrics")[1])
    workers = gateway.workers()
    gateway.process.send_signal(number)
    gateway.event("draining")
    until(lambda: refuses(port))
    assert gateway.page("/readyz")[0] == 503
    slow.join(PATIENCE)
    assert service(answer[0]) == "one"
    assert gateway.process.wait(PATIENCE) == 0
    assert all(gone(pid) for pid in workers)


def test_a_second_signal_stops_at_once(start):
    gateway = start("--drain-timeout", "1h").until_ready()
    with socket.create_connection(("127.0.0.1", gateway.port())) as client:
        client.sendall(b"GET /?delay=60m HTTP/1.1\r\nHost: a\r\n\r\n")
        until(lambda: "gwfast_requests_open 1\n" in gateway.page("/metrics")[1])
        gateway.process.terminate()
        gateway.event("draining")
        gateway.process.terminate()
        gateway.event("stopping at once")
        assert gateway.process.wait(PATIENCE) == 0


def test_admin_that_cannot_listen_ends_it(conf):
    with socket.socket() as stranger:
        stranger.bind(("127.0.0.1", 0))
        stranger.listen()
        done = subprocess.run(
            [sys.executable, "-m", "gwfast", "run", str(conf), "--admin", "127.0.0.1:%d" % stranger.getsockname()[1]],
            capture_output=True, text=True, timeout=PATIENCE)
        assert done.returncode == 1 and done.stderr.count("\n") == 1 and "cannot listen for admin" in done.stderr
