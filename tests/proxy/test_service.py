"""A gateway that systemd, or who speaks its protocols, starts: with sockets that are open already, and told how it is."""
import contextlib
import os
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.gateway import PROGRAM, Gateway, free_port, gateway, listener, route, rule, service, until, write

PATIENCE = 60.0  # seconds, on a machine that has much else to do


class Systemd:
    """Starts a gateway as systemd does, and hears what it says."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.conf = folder / "conf"
        self.conf.mkdir()
        self.end = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.end.bind(str(folder / "notify"))
        self.end.settimeout(PATIENCE)
        self.said: list[list[str]] = []
        self.gateway: Gateway | None = None

    def start(self, *sockets: socket.socket, names: str = "", **environment: str) -> None:
        """Start it with these sockets from descriptor 3 on; they stay open here."""
        self.admin = free_port()
        given = "; ".join(f"exec {at}<&{one.fileno()} {one.fileno()}<&-" for at, one in enumerate(sockets, 3))
        command = [*PROGRAM, "run", str(self.conf), "--admin", f"127.0.0.1:{self.admin}", "--workers", "2", "--drain-timeout", "5s"]
        shell = f'{given}; export LISTEN_PID=$$ LISTEN_FDS={len(sockets)} LISTEN_FDNAMES={names} WATCHDOG_PID=$$; exec "$@"'.lstrip("; ")
        self.gateway = Gateway.__new__(Gateway)
        self.gateway.folder, self.gateway.ended, self.gateway.admin = self.conf, False, self.admin
        self.gateway.out, self.gateway.err = self.folder / "out", self.folder / "err"
        with self.gateway.out.open("wb") as out, self.gateway.err.open("wb") as err:
            self.gateway.process = subprocess.Popen(
                ["bash", "-c", shell, "_", *command], pass_fds=[one.fileno() for one in sockets], stdin=subprocess.DEVNULL, stdout=out,
                stderr=err, env=os.environ | {"NOTIFY_SOCKET": str(self.folder / "notify"), **environment})

    def accepts(self, port: int) -> bool:
        """Whether a worker has a socket that listens on a port: it is told to close it after the table is another one."""
        lines = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
        listening = {f"socket:[{line[9]}]" for line in lines if line[3] == "0A" and int(line[1].rpartition(":")[2], 16) == port}
        return len(listening) > 1 or any(listening & {*sockets(pid)} for pid in self.gateway.workers())

    def hear(self, word: str) -> list[str]:
        """Return the next message that has a line which begins so; what came before is kept in `said`."""
        while True:
            try:
                self.said.append(self.end.recv(4096).decode().splitlines())
            except TimeoutError:
                raise AssertionError(f"{word} was not said: {self.said}\n{self.gateway.errors()}") from None
            if any(line.startswith(word) for line in self.said[-1]):
                return self.said[-1]


@pytest.fixture
def systemd(tmp_path: Path) -> Iterator[Systemd]:
    one = Systemd(tmp_path)
    yield one
    if one.gateway is not None and not one.gateway.ended:
        one.gateway.stop()
    one.end.close()


def sockets(pid: int) -> list[str]:
    """The descriptors of a process, as /proc names what they are of."""
    found = []
    for each in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(OSError):  # one that is closed meanwhile
            found.append(os.readlink(each))
    return found


def bound(kind: int = socket.SOCK_STREAM, port: int = 0) -> socket.socket:
    one = socket.socket(socket.AF_INET, kind)
    one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    one.bind(("127.0.0.1", port))
    if kind == socket.SOCK_STREAM:
        one.listen()
    return one


def number(one: socket.socket) -> int:
    return one.getsockname()[1]


def asked(port: int) -> socket.socket:
    """A connection with a request on it."""
    one = socket.create_connection(("127.0.0.1", port), PATIENCE)
    one.sendall(b"GET / HTTP/1.1\r\nHost: any.example\r\nConnection: close\r\n\r\n")
    return one


def answer(one: socket.socket) -> bytes:
    with one, contextlib.closing(one.makefile("rb")) as file:
        return file.readline()


def test_life_of_a_service(systemd: Systemd, plain_backend) -> None:
    port = free_port()
    write(systemd.conf, "all.yaml", gateway(port), service("plain", plain_backend), route("all", rule("plain")))
    systemd.start(WATCHDOG_USEC="200000")
    assert systemd.hear("READY=1") == ["READY=1", "STATUS=serves 1 listener, 1 routes"]
    assert systemd.gateway.get(port=port).status == 200
    systemd.hear("WATCHDOG=1")
    write(systemd.conf, "more.yaml", route("more", rule("plain", path="/more")))
    assert systemd.hear("STATUS=") == ["STATUS=serves 1 listener, 2 routes"]
    systemd.gateway.process.send_signal(signal.SIGHUP)
    assert systemd.hear("RELOADING=1")[1].startswith("MONOTONIC_USEC=")
    assert systemd.hear("READY=1") == ["READY=1", "STATUS=serves 1 listener, 2 routes"]
    systemd.gateway.process.send_signal(signal.SIGTERM)
    systemd.hear("STOPPING=1")
    assert systemd.gateway.process.wait(PATIENCE) == 0


def test_a_gateway_with_nothing_to_serve_has_started_all_the_same(systemd: Systemd) -> None:
    """It watches its folder; systemd would start it again and again if it were not ready."""
    systemd.start()
    assert systemd.hear("READY=1")[1].startswith("STATUS=nothing is served: there is no Gateway")


def test_sockets_that_are_given_are_served_by_all_workers(systemd: Systemd, plain_backend) -> None:
    """Also what waited in them before anybody was there, and what waits while a listener is away and back."""
    with bound() as web, bound() as named:
        ports = gateway(number(web), listener(80, "named"))
        write(systemd.conf, "all.yaml", ports, service("plain", plain_backend), route("all", rule("plain")))
        before = [asked(number(one)) for one in (web, named)]
        systemd.start(web, named, names="web:80")
        assert [answer(one)[:12] for one in before] == [b"HTTP/1.1 200"] * 2
        for _ in range(50):
            assert answer(asked(number(web)))[:12] == answer(asked(number(named)))[:12] == b"HTTP/1.1 200"
        write(systemd.conf, "all.yaml", gateway(listener(80, "named")), service("plain", plain_backend), route("all", rule("plain")))
        until(lambda: not systemd.accepts(number(web)), PATIENCE)  # a worker that does still would answer with 404
        waits = asked(number(web))
        write(systemd.conf, "all.yaml", ports, service("plain", plain_backend), route("all", rule("plain")))
        assert answer(waits)[:12] == b"HTTP/1.1 200"
        systemd.gateway.stop()
        late = asked(number(web))  # between two lives of the service it waits as well
        systemd.start(web, named, names="web:80")
        assert answer(late)[:12] == b"HTTP/1.1 200"


def test_a_worker_that_dies_is_replaced_on_the_same_socket(systemd: Systemd, plain_backend) -> None:
    with bound() as web:
        write(systemd.conf, "all.yaml", gateway(number(web)), service("plain", plain_backend), route("all", rule("plain")))
        systemd.start(web)
        systemd.hear("READY=1")
        until(lambda: len(systemd.gateway.workers()) == 2, PATIENCE)
        os.kill(died := systemd.gateway.workers()[0], signal.SIGKILL)
        until(lambda: len(now := systemd.gateway.workers()) == 2 and died not in now, PATIENCE)
        for _ in range(20):
            assert answer(asked(number(web)))[:12] == b"HTTP/1.1 200"


def test_what_is_given_and_no_socket_of_a_port_is_told(systemd: Systemd, plain_backend) -> None:
    port = free_port()
    write(systemd.conf, "all.yaml", gateway(port), service("plain", plain_backend), route("all", rule("plain")))
    ours, theirs = socket.socketpair()
    with ours, theirs:
        systemd.start(theirs, names="log")
        systemd.hear("READY=1")
    assert "what was given to listen on is no socket" in systemd.gateway.errors() and systemd.gateway.get(port=port).status == 200


def test_nothing_that_systemd_gave_reaches_other_processes(systemd: Systemd, plain_backend) -> None:
    with bound() as web:
        write(systemd.conf, "all.yaml", gateway(number(web)), service("plain", plain_backend), route("all", rule("plain")))
        systemd.start(web)
        systemd.hear("READY=1")
        inode = os.stat(f"/proc/self/fd/{web.fileno()}").st_ino
        def held() -> list[int]:
            everybody = (systemd.gateway.process.pid, *systemd.gateway.workers())
            return [sockets(pid).count(f"socket:[{inode}]") for pid in everybody]
        until(lambda: sorted(held()) == [1, 1, 3], PATIENCE)  # the supervisor has systemd's, and a copy for each of two workers
