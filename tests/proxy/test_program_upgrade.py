"""Upgrades of the program (`gwfast upgrade`, USR2): nothing is lost, and what fails leaves the gateway that was there as it was.

The program is a script that a test may replace: that is the new version.
"""
import asyncio
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from bench import strict
from support.gateway import Gateway, alive, children, comm, free_port, gateway, listener, resource, route, rule, service, until, write
from support.tls import HOST, authority, https, secret

GOOD = "import sys\nfrom gwfast.cli import main\nsys.exit(main())\n"
WITH = "import os, signal, sys\nfrom gwfast.cli import main\nfrom gwfast.serve import handover\n{}\nsys.exit(main())\n"
DRAIN = 60  # seconds: more than a test takes


class Program:
    """A version of gwfast on disk."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self.be(GOOD)

    @property
    def command(self) -> list[str]:
        return [sys.executable, str(self.file)]

    def be(self, text: str) -> None:
        new = self.file.with_suffix(".new")
        new.write_text(text)
        os.replace(new, self.file)

    def be_with(self, *lines: str) -> None:
        """Be gwfast, but for these lines before it begins."""
        self.be(WITH.format("\n".join(lines)))


@pytest.fixture
def program(tmp_path: Path) -> Program:
    return Program(tmp_path / "version.py")


@pytest.fixture
def begun(run, backend, program):
    """begun(...): a gateway of this program with two workers in front of one backend."""
    def begin(*documents, options: tuple[str, ...] = (), listeners: tuple = (), **more) -> Gateway:
        made = backend("one")
        for path in ("/ws", "/tunnel"):
            made.handlers[path] = tunnel
        return run(gateway(*(listeners or (free_port(),))), service("one", made), route("all", rule("one")), *documents, program=program.command,
                   options=("--workers", "2", "--access-log", "off", "--drain-timeout", f"{DRAIN}s", "--upgrade-timeout", "60s", *options), **more)
    return begin


def tunnel(stream, request) -> bool:
    """Be a WebSocket that sends back what comes."""
    stream.send(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
    with contextlib.suppress(OSError):
        while some := stream.sock.recv(65536):
            # What a client masks comes back without a mask: strict clients mask with 0.
            stream.send(some[:1] + bytes([some[1] & 0x7f]) + some[6:])
    return False


def ask(gw: Gateway, *options: str, wait: float = 120) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, "-m", "gwfast", "upgrade", "--admin", f"127.0.0.1:{gw.admin}", *options],
                          capture_output=True, text=True, timeout=wait, stdin=subprocess.DEVNULL)


def upgrade(gw: Gateway) -> dict:
    """Upgrade; return what was said of it."""
    done = ask(gw, "-o", "json")
    assert done.returncode == 0, done.stdout + done.stderr + gw.errors()
    return json.loads(done.stdout)


def not_upgraded(gw: Gateway) -> str:
    """Ask for an upgrade that fails; return why it did."""
    done = ask(gw)
    assert done.returncode == 1 and done.stdout.startswith("no upgrade: ") and not done.stderr, done.stdout + done.stderr + gw.errors()
    return done.stdout


def supervisor(gw: Gateway) -> int:
    """The process that serves, as its workers see it."""
    [pid] = {int(Path(f"/proc/{worker['pid']}/stat").read_text().rsplit(")", 1)[1].split()[1])
             for worker in json.loads(gw.ask("/status")[1])["workers"]}
    return pid


def workers(gw: Gateway) -> set[int]:
    """Process ids of the workers that serve, without those that drain."""
    return {worker["pid"] for worker in json.loads(gw.ask("/status")[1])["workers"]}


@pytest.mark.parametrize("wire", [wire for wire in strict.WIRES if wire != "websocket"])
def test_nothing_is_lost(begun, wire: str) -> None:
    """Clients that forgive nothing ask all the while, over two upgrades."""
    clear, tls = free_port(), free_port()
    gw = begun(secret(HOST, *authority().certificate(HOST)), listeners=(clear, https(tls)))
    asking, life = strict.client(wire, tls if strict.WIRES[wire][1] else clear)

    async def main() -> None:
        tasks = [asyncio.create_task(asking.ask(life)) for _ in range(4)]
        for _ in range(2):
            before = asking.count.answered
            while asking.count.answered < before + 50:
                await asyncio.sleep(0.01)
            await asyncio.to_thread(upgrade, gw)
        before = asking.count.answered
        while asking.count.answered < before + 50:
            await asyncio.sleep(0.01)
        asking.stop = True
        await asyncio.gather(*tasks)
    asyncio.run(asyncio.wait_for(main(), 200))
    assert asking.count.failed == 0, asking.count.said
    assert asking.count.connections > 4, "connections end with the gateway that has them"


def test_what_waits_to_be_accepted_is_served(begun) -> None:
    """Connections in the queues of workers that do not take them are taken by those of the new gateway."""
    gw = begun(options=("--worker-timeout", "0s"))
    old = workers(gw)
    with contextlib.ExitStack() as stack:
        for pid in old:
            os.kill(pid, signal.SIGSTOP)
            stack.callback(os.kill, pid, signal.SIGCONT)
        streams = [gw.connect() for _ in range(20)]
        for stream in streams:
            stream.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        upgrade(gw)
        assert [stream.response().status for stream in streams] == [200] * 20


def test_a_websocket_lives_on(begun) -> None:
    gw = begun()
    old = workers(gw)
    stream = gw.connect()
    stream.send(b"GET /ws HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
                b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n")
    assert stream.response().status == 101
    for number in range(3):
        stream.send(b"\x81\x81\0\0\0\0%d" % number)
        assert stream.exactly(3) == b"\x81\x01%d" % number
        if number < 2:
            upgrade(gw)
    assert any(map(alive, old)), "a worker that has a client drains"
    stream.close()
    until(lambda: not any(map(alive, old)), 30)


def end_at_once(gw: Gateway) -> None:
    """End it though clients are there; two signals that come at once are one."""
    until(lambda: gw.process.terminate() or gw.process.poll() is not None, 30)
    assert gw.process.poll() == 0
    gw.ended = True
    until(lambda: not children(gw.process.pid))


class Datagrams:
    """A backend of UDP that answers with the port that it was asked from: a session has one."""

    def __init__(self) -> None:
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind(("127.0.0.1", 0))
        self.port = self.socket.getsockname()[1]
        threading.Thread(target=self.answer, daemon=True).start()

    def answer(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                _, asked = self.socket.recvfrom(65536)
                self.socket.sendto(b"%d" % asked[1], asked)


def asked(client: socket.socket) -> bytes:
    """Send a datagram; what is answered."""
    client.send(b"?")
    return client.recv(100)


@pytest.mark.parametrize("where", ["127.0.0.1", "::1", "127.0.0.2"])
def test_a_client_of_datagrams_stays_where_it_was(run, program, where: str) -> None:
    """Over two upgrades its session goes on, at an address of the machine's that it chose; a new client has one of the new gateway."""
    backend, port = Datagrams(), free_port()
    udp = {"protocol": "UDP", "port": 7}
    documents = [gateway(listener(port, "udp", protocol="UDP"), addresses=[]), resource("Service", "udp", {"ports": [udp]}, "v1"),
                 {**resource("EndpointSlice", "udp", api="discovery.k8s.io/v1", labels={"kubernetes.io/service-name": "udp"}),
                  "addressType": "IPv4", "ports": [{"port": backend.port, "protocol": "UDP"}], "endpoints": [{"addresses": ["127.0.0.1"]}]},
                 resource("UDPRoute", "udp", {"parentRefs": [{"name": "gw"}], "rules": [{"backendRefs": [{"name": "udp", "port": 7}]}]})]
    gw = run(*documents, program=program.command, options=("--workers", "2", "--drain-timeout", f"{DRAIN}s"))
    with contextlib.ExitStack() as stack:
        def client() -> socket.socket:
            made = stack.enter_context(socket.socket(socket.AF_INET6 if ":" in where else socket.AF_INET, socket.SOCK_DGRAM))
            made.settimeout(30)
            made.connect((where, port))
            return made
        clients = [client() for _ in range(10)]
        before = [asked(each) for each in clients]
        assert len(set(before)) == 10
        for _ in range(2):
            upgrade(gw)
            assert [asked(each) for each in clients] == before
            newer = client()
            assert len({asked(newer) for _ in range(3)}) == 1
    backend.socket.close()
    end_at_once(gw)


def test_what_has_begun_is_answered_and_said_to_be_the_last(begun) -> None:
    gw = begun()
    idle, busy = gw.connect(), gw.connect()
    idle.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
    assert idle.response().fields.get("Connection") is None
    busy.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhe")
    upgrade(gw)
    busy.send(b"llo")
    answer = busy.response()
    assert answer.status == 200 and answer.fields.get("Connection") == "close"
    assert idle.at_end(), "a connection without a request ends"


def test_who_started_it_waits_for_the_same_process(begun) -> None:
    """A keeper has the place of the first supervisor; signals reach the last one; its end is the end."""
    gw = begun()
    first = gw.process.pid
    second = upgrade(gw)["pid"]
    until(lambda: comm(first) == "gwfast-keeper")
    assert gw.process.poll() is None and supervisor(gw) == second
    gw.process.send_signal(signal.SIGUSR2)
    until(lambda: gw.ready() and supervisor(gw) != second, 60)
    third = supervisor(gw)
    assert third in children(first)
    before = gw.errors().count("table serves")
    write(gw.folder, "more.yaml", route("more", rule("one", path="/more")))
    gw.process.send_signal(signal.SIGHUP)
    until(lambda: gw.errors().count("table serves") > before)
    gw.process.send_signal(signal.SIGINT)
    assert gw.process.wait(30) == 0
    gw.ended = True
    until(lambda: not alive(second) and not alive(third))


def test_a_supervisor_that_cannot_become_a_keeper_is_one(begun, program) -> None:
    """The interpreter may be gone: then it is only larger."""
    program.be_with("def nothing(*_): raise OSError", "os.execv = nothing")
    gw = begun()
    program.be(GOOD)
    new = upgrade(gw)["pid"]
    until(lambda: comm(gw.process.pid) == "gwfast-keeper")
    assert gw.get().status == 200
    gw.process.terminate()
    assert gw.process.wait(30) == 0
    gw.ended = True
    assert not alive(new)


def test_who_kills_the_keeper_ends_the_gateway(begun) -> None:
    gw = begun()
    pids = [upgrade(gw)["pid"], *workers(gw)]
    until(lambda: comm(gw.process.pid) == "gwfast-keeper")
    gw.process.kill()
    gw.process.wait()
    gw.ended = True
    until(lambda: not any(map(alive, pids)), 30)


def test_a_supervisor_that_is_killed_is_the_end_of_its_keeper(begun) -> None:
    gw = begun()
    new = upgrade(gw)["pid"]
    until(lambda: comm(gw.process.pid) == "gwfast-keeper")
    os.kill(new, signal.SIGKILL)
    assert gw.process.wait(30) == 128 + signal.SIGKILL
    gw.ended = True


FAILURES = {
    "it ends": (["sys.exit(7)"], "the new program ended before it served (exit status 7)"),
    "it is killed": (["os.kill(os.getpid(), signal.SIGKILL)"], "ended before it served (SIGKILL)"),
    "it raises": (["import gwfast.nothing"], "ended before it served (exit status 1)"),
    "its command line is another one": (["sys.argv.append('--no-such-option')"], "unrecognized arguments: --no-such-option"),
    "it reads files that are not there": (["sys.argv.insert(2, '/nowhere')"], "no such file or folder: /nowhere"),
    "it speaks another protocol": (["handover.PROTOCOL = 99"], "hands over by protocol 1, gwfast 0.1.0 knows 99"),
    "it knows of no upgrades": (["del os.environ[handover.VARIABLE]"], "ended before it served (exit status 1)"),
    "it ends when it is ready": (["handover.Inheritance.may_go = lambda *_: os.kill(os.getpid(), signal.SIGKILL)"], "(SIGKILL)"),
    "it would serve nothing": (["sys.argv += ['--gateway', 'another']"], "nothing would be served: "),
    "it has a bug": (["from gwfast.plan.build import Builder", "Builder.build = None"], "a configuration did not become a table"),
    "it hangs": (["import time", "time.sleep(600)"], "the new program does not serve after 1 s"),
    "it takes too long": (["from gwfast.serve.generation import Pipeline", "import time",
                           "Pipeline.advance = lambda *_: time.sleep(600)"], "the new program does not serve after 1 s"),
}


@pytest.mark.parametrize("name", FAILURES)
def test_an_upgrade_that_fails(begun, program, name: str) -> None:
    """The old gateway serves on as if nothing had been, says why, and can be asked again."""
    lines, why = FAILURES[name]
    gw = begun(options=("--upgrade-timeout", "1s") if "1 s" in why else ())
    before = workers(gw)
    stream = gw.connect()
    stream.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
    assert stream.response().status == 200
    program.be_with(*lines)
    assert why in not_upgraded(gw)
    assert "the upgrade failed: this gateway serves on" in gw.errors()
    stream.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
    assert stream.response().fields.get("Connection") is None, "nobody drains"
    assert workers(gw) == before and supervisor(gw) == gw.process.pid
    assert [gw.get().status for _ in range(20)] == [200] * 20
    until(lambda: set(gw.workers()) == before)
    if "1 s" not in why:
        program.be(GOOD)
        assert upgrade(gw)["before"] == gw.process.pid
        assert gw.get().status == 200
    gw.process.terminate()
    assert gw.process.wait(30) == 0
    gw.ended = True  # tracebacks of what failed are in its log


WRONG = {
    "no YAML": "kind: [",
    "a field that is none": "apiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {name: more}\nspec: {rulez: []}\n",
    "no text": "\0",
}


@pytest.mark.parametrize("name", WRONG)
def test_what_only_the_old_gateway_still_has(begun, name: str) -> None:
    """It serves the last good version of what is wrong now; a new one would have none."""
    gw = begun()
    marked = {"type": "ResponseHeaderModifier", "responseHeaderModifier": {"set": [{"name": "X-More", "value": "more"}]}}
    write(gw.folder, "more.yaml", route("more", rule("one", path="/more", filters=[marked])))
    good = (gw.folder / "more.yaml").read_text()
    until(lambda: gw.get("/more").fields.get("X-More"))
    (gw.folder / "more.yaml").write_text(WRONG[name])
    until(lambda: "more.yaml" in gw.errors())
    assert "what serves would be lost: " in (why := not_upgraded(gw)) and "more.yaml" in why
    assert gw.get("/more").fields.get("X-More")
    (gw.folder / "more.yaml").write_text(good)
    upgrade(gw)
    assert gw.get("/more").fields.get("X-More")


@pytest.mark.parametrize("name", WRONG)
def test_what_neither_has_keeps_nobody(begun, name: str) -> None:
    """What was wrong from the beginning is so for both."""
    gw = begun()
    (gw.folder / "more.yaml").write_text(WRONG[name])
    until(lambda: "more.yaml" in gw.errors())
    upgrade(gw)
    assert gw.get().status == 200


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL], ids=["TERM", "KILL"])
def test_the_old_gateway_ends_while_a_new_one_begins(begun, program, number) -> None:
    """So does the new one, which has served nobody."""
    gw = begun()
    old = workers(gw)
    program.be_with("from gwfast.serve.generation import Pipeline", "import time",
                    "print('here', os.getpid(), file=sys.stderr, flush=True)", "Pipeline.advance = lambda *_: time.sleep(600)")
    gw.process.send_signal(signal.SIGUSR2)
    until(lambda: "here" in gw.errors(), 60)
    new = next(int(line.split()[1]) for line in gw.errors().splitlines() if line.startswith("here "))
    gw.process.send_signal(number)
    assert gw.process.wait(30) == (0 if number == signal.SIGTERM else -number)
    gw.ended = True
    until(lambda: not alive(new) and not any(map(alive, old)), 30)
    with pytest.raises(ConnectionRefusedError):
        gw.connect()


def test_one_at_a_time(begun, program) -> None:
    gw = begun(options=("--upgrade-timeout", "600s"))
    program.be_with("import time", "print('here', os.getpid(), file=sys.stderr, flush=True)", "time.sleep(600)")
    first = threading.Thread(target=ask, args=(gw,))
    first.start()
    until(lambda: "here" in gw.errors(), 60)
    assert "an upgrade is under way" in not_upgraded(gw)
    gw.process.send_signal(signal.SIGUSR2)
    until(lambda: gw.errors().count("no upgrade reason=\"an upgrade is under way\"") == 2)
    os.kill(next(int(line.split()[1]) for line in gw.errors().splitlines() if line.startswith("here ")), signal.SIGKILL)
    first.join(60)
    assert not first.is_alive() and gw.get().status == 200


@pytest.mark.parametrize("count", ["1", "3"])
def test_another_number_of_workers(begun, program, count: str) -> None:
    """Each of the old sockets is served: connections come to all of them."""
    gw = begun()
    program.be_with(f"sys.argv += ['--workers', '{count}']")
    upgrade(gw)
    assert len(workers(gw)) == int(count)
    assert [gw.get().status for _ in range(40)] == [200] * 40
    program.be(GOOD)
    upgrade(gw)
    assert len(workers(gw)) == 2 and [gw.get().status for _ in range(40)] == [200] * 40


def test_ports_that_come_and_go_with_the_upgrade(begun, program) -> None:
    """With --no-watch a new version may find another configuration."""
    first, second, third = free_port(), free_port(), free_port()
    gw = begun(listeners=(first, listener(second)), options=("--no-watch",))
    waiting = gw.connect(second)
    waiting.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
    documents = (gw.folder / "all.yaml").read_text().replace(f"port: {second}", f"port: {third}").replace(f"http-{second}", f"http-{third}")
    (gw.folder / "all.yaml").write_text(documents)
    upgrade(gw)
    assert waiting.response().status == 200
    assert gw.get().status == 200 and gw.get(port=third).status == 200

    def refused() -> bool:
        try:
            gw.connect(second).close()
        except ConnectionRefusedError:
            return True
        return False
    until(refused)


def test_the_file_with_the_process_id(begun, tmp_path) -> None:
    file = tmp_path / "gwfast.pid"
    gw = begun(options=("--pid-file", str(file)))
    assert int(file.read_text()) == gw.process.pid
    new = upgrade(gw)["pid"]
    assert int(file.read_text()) == new
    os.kill(new, signal.SIGTERM)
    assert gw.process.wait(30) == 0
    gw.ended = True
    assert not file.exists()


def test_systemd_is_told_of_another_main_process(begun, tmp_path) -> None:
    """It waits for nobody's keeper: the old process ends when its workers have drained, and the new one is the service."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.settimeout(30)
        systemd.bind(str(tmp_path / "notify"))
        gw = begun(env={"NOTIFY_SOCKET": str(tmp_path / "notify")})
        news = [upgrade(gw)["pid"]]
        told = b""
        while b"MAINPID=" not in told:
            told = systemd.recv(4096)
        assert b"MAINPID=%d\n" % news[0] in told
        assert gw.process.wait(30) == 0
        gw.ended = True
        assert gw.get().status == 200
        news.append(upgrade(gw)["pid"])
        until(lambda: not alive(news[0]))
        assert gw.get().status == 200
        os.kill(news[1], signal.SIGTERM)
        until(lambda: not alive(news[1]))


def test_sessions_go_on(begun) -> None:
    """The key of their tokens is handed over."""
    gw = begun()
    sticky = rule("one", path="/sticky") | {"sessionPersistence": {"sessionName": "sid"}}
    write(gw.folder, "sticky.yaml", route("sticky", sticky))
    given = until(lambda: gw.get("/sticky").fields.get("Set-Cookie"))
    upgrade(gw)
    answer = gw.get("/sticky", cookie=given.partition(";")[0])
    assert answer.status == 200 and answer.fields.get("Set-Cookie") is None


def test_the_admin_port_is_the_new_ones(begun) -> None:
    """Who has asked the old one is let go; counters begin anew."""
    gw = begun()
    for _ in range(5):
        gw.get()
    scraper = socket.create_connection(("127.0.0.1", gw.admin), 30)
    scraper.sendall(b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n")
    assert scraper.recv(65536).endswith(b"ok\n")
    upgrade(gw)
    assert scraper.recv(65536) == b""
    scraper.close()
    assert gw.metrics()["gwfast_worker_restarts_total"] == 0
    assert sum(value for name, value in gw.metrics().items() if name.startswith("gwfast_requests_total")) == 0


def test_what_came_on_standard_input_cannot_be_read_again(run, backend, program) -> None:
    program.be_with("sys.argv.insert(2, '-')")
    gw = run(gateway(free_port()), service("one", backend("one")), route("all", rule("one")), program=program.command)
    assert "standard input" in not_upgraded(gw)


def test_an_upgrade_is_for_this_machine_alone() -> None:
    """It runs a program: unlike a reload it is nobody's business who comes over the network, wherever admin listens."""
    from gwfast.observe.admin import Admin
    from gwfast.observe.h11_server import Request
    from gwfast.serve.pages import OWN

    async def page():
        raise AssertionError
    admin = Admin({"POST /upgrade": page}, lambda *_: None, None, OWN)
    answer = asyncio.run(admin._answer(Request("POST", "/upgrade", "HTTP/1.1", [], 0, peer="192.0.2.1")))
    assert answer.status == 403


def test_nobody_to_upgrade() -> None:
    done = subprocess.run([sys.executable, "-m", "gwfast", "upgrade", "--admin", f"127.0.0.1:{free_port()}"], capture_output=True, text=True)
    assert done.returncode == 1 and "no gateway answers" in done.stderr


def test_the_variable_is_not_for_people(tmp_path) -> None:
    (tmp_path / "all.yaml").write_text("")
    done = subprocess.run([sys.executable, "-m", "gwfast", "run", str(tmp_path)], capture_output=True, text=True, timeout=60,
                          env=os.environ | {"GWFAST_HANDOVER": "100,101"})
    assert done.returncode == 2 and "GWFAST_HANDOVER is for gwfast itself" in done.stderr
