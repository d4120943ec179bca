"""Reload: a changed folder is served at once, without one failed request; what is wrong leaves what was right."""
import json
import os
import shutil
import signal
import subprocess
import sys
import threading

import pytest
import yaml
from support.gateway import Gateway, free_port, gateway, listener, resource, route, rule, service, until, write
from support.waiting import elapse

LOAD_SECONDS = float(os.environ.get("GWFAST_LOAD_SECONDS", "3"))


class Client(threading.Thread):
    """Requests without a pause, each on a kept connection; every failure is kept.

    A connection may only end behind a response that said `Connection: close`.
    """

    def __init__(self, gw: Gateway, target: str = "/", new_connections: bool = False) -> None:
        super().__init__(daemon=True)
        self.gw, self.target, self.new = gw, target, new_connections
        self.failures: list[str] = []
        self.count = 0
        self.stopping = threading.Event()

    def run(self) -> None:
        stream = None
        while not self.stopping.is_set():
            try:
                stream = stream or self.gw.connect()
                stream.send(f"GET {self.target} HTTP/1.1\r\nHost: any.example\r\n\r\n".encode())
                response = stream.response()
                if response.status != 200:
                    self.failures.append(f"status {response.status}")
                if response.fields.get("Connection") == "close" or self.new:
                    stream.close()
                    stream = None
                self.count += 1
            except Exception as error:
                self.failures.append(repr(error))
                stream = None
        if stream:
            stream.close()

    def finish(self) -> None:
        self.stopping.set()
        self.join(15)
        assert self.count and not self.failures, (self.count, self.failures[:5])


def header(value: str) -> list[dict]:
    return [{"type": "ResponseHeaderModifier", "responseHeaderModifier": {"set": [{"name": "X-Version", "value": value}]}}]


def version(gw: Gateway, **more) -> str | None:
    return gw.get(**more).fields.get("X-Version")


@pytest.fixture
def one(run, backend):
    """A gateway with one route in a file of its own; `change(value)` rewrites it and `X-Version` shows it."""
    made = backend("one")
    gw = run(gateway(free_port()), service("one", made), options=("--workers", "2"))

    def change(value: str, **more) -> None:
        gw.write("route.yaml", route("r", rule("one", filters=header(value))), **more)
    change("first")
    until(lambda: version(gw) == "first")
    return gw, change


def test_change_is_served(one) -> None:
    gw, change = one
    for n in range(10):
        change(f"v{n}")
        until(lambda n=n: version(gw) == f"v{n}")


def test_file_written_in_place(one) -> None:
    gw, _ = one
    text = yaml.safe_dump(route("r", rule("one", filters=header("in place"))))
    with open(gw.folder / "route.yaml", "w") as file:
        for line in text.splitlines(True):
            file.write(line)
            file.flush()
    until(lambda: version(gw) == "in place")


def test_file_removed_and_added(one) -> None:
    gw, change = one
    (gw.folder / "route.yaml").unlink()
    gw.serves("/", 404)
    change("again")
    until(lambda: version(gw) == "again")


def test_symlink_swap_of_a_mounted_configmap(tmp_path, backend) -> None:
    """..data -> ..2026_1; files are links into ..data; an update makes a new folder and renames the link."""
    made = backend("one")
    folder = tmp_path / "conf"
    folder.mkdir()
    port = free_port()

    def publish(name: str) -> None:
        (folder / name).mkdir()
        write(folder / name, "all.yaml", gateway(port), service("one", made), route("r", rule("one", filters=header(name))))
        (folder / "..data_tmp").symlink_to(name)
        os.replace(folder / "..data_tmp", folder / "..data")
    publish("..v1")
    (folder / "all.yaml").symlink_to("..data/all.yaml")
    gw = Gateway(folder, "--access-log", "off")
    try:
        until(lambda: version(gw, port=port) == "..v1")
        for n in (2, 3, 4):
            publish(f"..v{n}")
            shutil.rmtree(folder / f"..v{n - 1}")
            until(lambda n=n: version(gw, port=port) == f"..v{n}")
    finally:
        gw.stop()


def test_hup_reloads_without_watching(run, backend) -> None:
    made = backend("one")
    gw = run(gateway(free_port()), service("one", made), route("r", rule("one", filters=header("first"))),
             options=("--no-watch",))
    before = gw.metrics()["gwfast_reloads_total"]
    gw.write("all.yaml", gateway(gw.port), service("one", made), route("r", rule("one", filters=header("second"))))
    assert version(gw) == "first"
    gw.process.send_signal(signal.SIGHUP)
    until(lambda: version(gw) == "second")
    until(lambda: gw.metrics()["gwfast_reloads_total"] > before)


def test_reload_verb(one) -> None:
    gw, change = one
    change("by verb")
    done = subprocess.run([sys.executable, "-m", "gwfast", "reload", "--admin", f"127.0.0.1:{gw.admin}"],
                          capture_output=True, text=True, timeout=30)
    assert done.returncode == 0, done.stdout + done.stderr
    assert version(gw) == "by verb"


# What goes wrong in a file of its own, while another route keeps serving.
WRONG = {
    "not YAML": "a: [b\n",
    "not UTF-8": b"\xff\xfe\x00",
    "half of a document": "apiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {name: r}\nspec:\n  rules:\n  - mat",
    "a field that is refused": yaml.safe_dump(route("r", rule("one", path="no-slash"))),
    "a field that does not exist": yaml.safe_dump(route("r", {"backendRef": [{"name": "one", "port": 80}]})),
    "a kind that does not exist": yaml.safe_dump(route("r", rule("one")) | {"kind": "HttpRoute"}),
    "a version that does not exist": yaml.safe_dump(route("r", rule("one")) | {"apiVersion": "gateway.networking.k8s.io/v3"}),
    "a type that is refused": yaml.safe_dump(route("r", {"matches": "all"})),
}


@pytest.mark.parametrize("case", WRONG)
def test_invalid_change_keeps_the_last_good_version(run, backend, case: str) -> None:
    made = backend("one")
    gw = run(gateway(free_port()), service("one", made), route("other", rule("one", path="/other", filters=header("other"))))
    gw.write("route.yaml", route("r", rule("one", filters=header("good"))))
    until(lambda: version(gw) == "good")
    problems = gw.metrics()['gwfast_problems{severity="error"}']
    data = WRONG[case]
    new = gw.folder.parent / "new"
    new.write_bytes(data if isinstance(data, bytes) else data.encode())
    os.replace(new, gw.folder / "route.yaml")
    until(lambda: gw.metrics()['gwfast_problems{severity="error"}'] > problems)
    assert (version(gw), version(gw, target="/other")) == ("good", "other")
    assert "route.yaml" in gw.errors()
    gw.write("route.yaml", route("r", rule("one", filters=header("mended"))))
    until(lambda: version(gw) == "mended")
    until(lambda: gw.metrics()['gwfast_problems{severity="error"}'] == problems)


@pytest.mark.parametrize("target", ["nowhere", "sub"], ids=["a link to nowhere", "a link to itself"])
def test_a_folder_that_cannot_be_read_serves_on_until_it_can_be(run, backend, target: str) -> None:
    made = backend("one")
    gw = run(gateway(free_port()), service("one", made))
    far = gw.folder.parent / "far"
    far.mkdir()
    write(far, "route.yaml", route("r", rule("one", filters=header("first"))))
    (gw.folder / "sub").symlink_to(far)
    until(lambda: version(gw) == "first")
    (gw.folder / ".new").symlink_to(target)
    os.replace(gw.folder / ".new", gw.folder / "sub")
    until(lambda: gw.metrics()["gwfast_config_unreadable"] == 1)
    gw.write("other.yaml", route("other", rule("one", path="/other", filters=header("other"))))
    until(lambda: version(gw, target="/other") == "other")
    reloads = gw.metrics()["gwfast_reloads_total"]
    gw.process.send_signal(signal.SIGHUP)
    until(lambda: gw.metrics()["gwfast_reloads_total"] > reloads)
    assert version(gw) == "first"
    assert "sub:1" in gw.errors() and "cannot be read" in gw.errors()
    write(far, "route.yaml", route("r", rule("one", filters=header("second"))))
    (gw.folder / "sub").unlink()
    (gw.folder / "sub").symlink_to(far)
    until(lambda: version(gw) == "second")
    until(lambda: gw.metrics()["gwfast_config_unreadable"] == 0)


def test_a_link_whose_target_comes_back_is_followed_again(run, backend) -> None:
    made = backend("one")
    gw = run(gateway(free_port()), service("one", made))
    far = gw.folder.parent / "far" / "away"
    far.mkdir(parents=True)
    write(far, "route.yaml", route("r", rule("one", filters=header("first"))))
    (gw.folder / "sub").symlink_to(far)
    until(lambda: version(gw) == "first")
    far.parent.rename(gw.folder.parent / "gone")
    gw.process.send_signal(signal.SIGHUP)
    until(lambda: gw.metrics()["gwfast_config_unreadable"] == 1)
    assert version(gw) == "first"
    write(gw.folder.parent / "gone" / "away", "route.yaml", route("r", rule("one", filters=header("second"))))
    (gw.folder.parent / "gone").rename(far.parent)
    until(lambda: version(gw) == "second")


def test_port_added_and_removed(run, backend) -> None:
    made = backend("one")
    first, second = free_port(), free_port()
    routed = [service("one", made), route("r", rule("one"))]
    gw = run(gateway(first), *routed)
    gw.write("all.yaml", gateway(first, second), *routed)

    def answered() -> bool:
        try:
            return gw.get(port=second).status == 200
        except OSError:
            return False
    until(answered)
    kept = gw.connect(second)
    kept.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
    assert kept.response().status == 200
    gw.write("all.yaml", gateway(first), *routed)
    until(lambda: not answered())
    assert gw.get(port=first).status == 200
    kept.close()


def test_listener_hostname_changes(run, backend) -> None:
    made = backend("one")
    port = free_port()
    gw = run(gateway(listener(port, hostname="a.example")), service("one", made), route("r", rule("one")))
    assert (gw.get(host="a.example").status, gw.get(host="b.example").status) == (200, 404)
    gw.write("all.yaml", gateway(listener(port, hostname="b.example")), service("one", made), route("r", rule("one")))
    gw.serves("/", host="b.example")
    assert gw.get(host="a.example").status == 404


def test_reference_grant_added_and_removed(run, backend) -> None:
    made = backend("one")
    grant = resource("ReferenceGrant", "grant", {
        "from": [{"group": "gateway.networking.k8s.io", "kind": "HTTPRoute", "namespace": "default"}],
        "to": [{"group": "", "kind": "Service"}]}, namespace="elsewhere")
    gw = run(gateway(free_port()), service("one", made, namespace="elsewhere"),
             route("r", rule({"name": "one", "namespace": "elsewhere", "port": 80})))
    assert gw.get().status == 500
    for _ in range(2):
        gw.write("grant.yaml", grant)
        gw.serves("/", 200)
        (gw.folder / "grant.yaml").unlink()
        gw.serves("/", 500)


def test_endpoints_change(run, backend) -> None:
    """Endpoints come and go without a new route; requests in flight stay where they are."""
    made = [backend(name) for name in "ab"]
    gw = run(gateway(free_port()), route("r", rule("s")))
    hold, go_on = threading.Event(), threading.Event()

    def slow(stream, request) -> bool:
        hold.set()
        go_on.wait(10)
        stream.send(made[0].echo(request))
        return True
    made[0].handlers["/slow"] = slow
    gw.write("slices.yaml", service("s", made[0]))
    assert json.loads(gw.serves("/").body)["backend"] == "a"
    stream = gw.connect()
    stream.send(b"GET /slow HTTP/1.1\r\nHost: a\r\n\r\n")
    assert hold.wait(10)
    gw.write("slices.yaml", service("s", made[1]))
    until(lambda: json.loads(gw.get().body)["backend"] == "b")
    go_on.set()
    assert json.loads(stream.response().body)["backend"] == "a"
    stream.close()


def rewriting(change, stop: threading.Event) -> threading.Thread:
    """Rewrite the route every 200 ms until told to stop."""
    def work() -> None:
        n = 0
        while not stop.wait(0.2):
            n += 1
            change(f"v{n}")
    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    return thread


def test_no_request_fails_while_files_change(one) -> None:
    gw, change = one
    stop = threading.Event()
    clients = [Client(gw, new_connections=n % 2 == 1) for n in range(4)]
    writer = rewriting(change, stop)
    for client in clients:
        client.start()
    elapse(LOAD_SECONDS)
    stop.set()
    writer.join()
    for client in clients:
        client.finish()
    assert gw.metrics()["gwfast_reloads_total"] > LOAD_SECONDS * 2


@pytest.mark.skipif(not shutil.which("wrk"), reason="wrk is not installed")
def test_no_request_of_wrk_fails_while_files_change(one) -> None:
    gw, change = one
    stop = threading.Event()
    writer = rewriting(change, stop)
    done = subprocess.run(["wrk", "-t1", "-c32", f"-d{LOAD_SECONDS:g}s", f"http://127.0.0.1:{gw.port}/"],
                          capture_output=True, text=True, timeout=60)
    stop.set()
    writer.join()
    assert done.returncode == 0
    assert "Non-2xx" not in done.stdout and "Socket errors" not in done.stdout, done.stdout


def test_no_request_fails_while_ports_come_and_go(run, backend) -> None:
    made = backend("one")
    first, second = free_port(), free_port()
    routed = [service("one", made), route("r", rule("one"))]
    gw = run(gateway(first), *routed, options=("--workers", "2", "--access-log", "off"))
    clients = [Client(gw, new_connections=n == 1) for n in range(2)]
    for client in clients:
        client.start()
    for n in range(8):
        gw.write("all.yaml", gateway(first, second) if n % 2 == 0 else gateway(first), *routed)
        elapse(0.1)
    for client in clients:
        client.finish()
