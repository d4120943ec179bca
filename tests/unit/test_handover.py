"""What an old gateway hands to a new one, and who keeps its place."""
import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from unittest.mock import MagicMock

import msgspec
import pytest
import uvloop

from gwfast import __version__
from gwfast.errors import Problem, Source, UsageError
from gwfast.serve import handover, keeper, pidfile, upgrade
from gwfast.serve.handover import Failed, Go, Inheritance, Passed, Ready, Serving, State
from gwfast.serve.options import EngineOptions, ServeOptions
from gwfast.serve.succession import Succession
from gwfast.serve.sockets import Given, Ports, Wanted, open_sockets
from support.waiting import until

PATIENCE = 30.0
WANTED = [Wanted("web", "127.0.0.1", 80, "http")]


class Told:
    """A log that keeps what it is told."""

    def __init__(self):
        self.lines = []

    def __getattr__(self, level):
        return lambda msg, **fields: self.lines.append((level, msg, fields))


# ---- The protocol


@pytest.mark.parametrize("message", [Ready("1.2", [("", 80, False), ("::1", 53, True)]), Go(), Serving(), Failed("why")], ids=lambda one: type(one).__name__)
def test_messages(message):
    assert handover.decode(msgspec.json.encode(message)) == message


def test_a_state_crosses_whole():
    state = State(pid=7, ports=[Passed("::1", 80, 8080, False, [5, 6])], admin=[7], session_key=bytes(range(32)), keeper=9, serves=True,
                  wrong=[("a.yaml", "HTTPRoute default/r")])
    with open(handover.memfd(state), "rb") as file:
        file.seek(0)
        assert msgspec.json.decode(file.read(), type=State) == state
    assert state.protocol == handover.PROTOCOL and state.version == __version__


@contextlib.contextmanager
def given(monkeypatch, data: bytes):
    """Let this process be one that was given something; the old one's end."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    fd = os.memfd_create("state")
    os.write(fd, data)
    monkeypatch.setenv(handover.VARIABLE, f"{theirs.detach()},{fd}")
    with ours:
        ours.settimeout(PATIENCE)
        yield ours


def test_what_is_inherited_is_nobody_elses(monkeypatch):
    web, = open_sockets("127.0.0.1", 0, 1, 16)
    os.set_inheritable(web.fileno(), True)
    port = web.getsockname()[1]
    state = State(pid=1, ports=[Passed("127.0.0.1", 80, port, False, [web.detach()])], session_key=b"k" * 32)
    with given(monkeypatch, msgspec.json.encode(state)):
        found = handover.inherit()
        assert [(one.port, len(one.sockets)) for one in found.ports] == [(port, 1)]
        assert not any(one.get_inheritable() for one in (found.ports[0].sockets[0], found._talk))
        plain = ServeOptions(paths=("a",))
        assert found.applied(plain).engine.session_key == b"k" * 32
        own = ServeOptions(paths=("a",), engine=EngineOptions(session_key=b"o" * 32))
        assert found.applied(own) is own
        found.ports[0].sockets[0].close()
        found._talk.close()


def test_without_the_variable_nothing_is_inherited(monkeypatch):
    monkeypatch.delenv(handover.VARIABLE, raising=False)
    assert handover.inherit() is None


@pytest.mark.parametrize("data, words", [
    (b'{"protocol":99,"version":"9.9","new":{}}', "gwfast 9.9 hands over by protocol 99, gwfast .* knows 1"),
    (b'{"protocol":1,"pid":"x"}', "is for gwfast itself"), (b"", "is for gwfast itself"), (b"{", "is for gwfast itself"),
], ids=["another protocol", "another shape", "nothing", "no JSON"])
def test_what_cannot_be_taken_over_is_refused(monkeypatch, data, words):
    with given(monkeypatch, data) as old:
        with pytest.raises(UsageError, match=words) as error:
            handover.inherit()
        handover.tell(str(error.value))  # as the command line does
        assert handover.decode(old.recv(65536)) == Failed(str(error.value))


def test_go_is_waited_for_and_an_end_before_it_is_a_refusal():
    async def main():
        loop, gone = asyncio.get_running_loop(), []
        for end in (False, True):
            ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            ours.setblocking(False)
            theirs.setblocking(False)
            new = Inheritance(theirs, State(pid=1))
            new.attend(loop, lambda: gone.append(True))
            waits = loop.create_task(new.may_go([Given("", 80, 8080, False, ())]))
            assert handover.decode(await loop.sock_recv(ours, 65536)) == Ready(__version__, [("", 8080, False)])
            if end:
                ours.close()
            else:
                await loop.sock_sendall(ours, msgspec.json.encode(Go()))
            assert await asyncio.wait_for(waits, PATIENCE) is not end
            assert gone == [True] * end
            if not end:
                new.serving()
                assert handover.decode(await loop.sock_recv(ours, 65536)) == Serving()
                ours.close()
    uvloop.run(main())


# ---- The side of the old one


def group(pid: int) -> list[str]:
    """The processes of a group, but for those that have ended and are not waited for yet."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            state, _, its = stat.read_text().rpartition(")")[2].split()[:3]
            found += [stat.parent.name] if int(its) == pid and state != "Z" else []
    return found


async def attempt(*command: str, timeout: float = PATIENCE) -> upgrade.Upgrades:
    upgrades = upgrade.Upgrades(asyncio.get_running_loop(), Told(), timeout, lambda keeper: State(pid=os.getpid(), keeper=keeper),
                                lambda heir: pytest.fail("nobody took over"), lambda: "", asyncio.Event().wait, command=lambda: list(command))
    with pytest.raises(upgrade.NotUpgraded) as error:
        await upgrades.upgrade()
    upgrades.why = str(error.value)
    return upgrades


@pytest.mark.parametrize("command, why", [
    (("/no/such/program",), "/no/such/program cannot be started: No such file or directory"),
    (("false",), "the new program ended before it served (exit status 1): see the log"),
    (("true",), "the new program ended before it served (exit status 0): see the log"),
    (("sh", "-c", "kill -KILL $$"), "the new program ended before it served (SIGKILL): see the log"),
    ((sys.executable, "-c", "import os; os.write(int(os.environ['GWFAST_HANDOVER'].split(',')[0]), b'nonsense')"),
     "what is said is no message: "),
], ids=["none", "false", "true", "killed", "nonsense"])
def test_programs_that_do_not_take_over(command, why):
    upgrades = uvloop.run(attempt(*command))
    assert upgrades.why.startswith(why) and upgrades._task is None


def test_a_program_that_hangs_is_killed_with_its_children():
    upgrades = uvloop.run(attempt("sh", "-c", "sleep 600 & sleep 600", timeout=0.2))
    assert upgrades.why == "the new program does not serve after 0.2 s"
    pid = next(fields["new_pid"] for _, msg, fields in upgrades._log.lines if msg == "an upgrade begins")
    until(lambda: not group(pid))


def test_another_one_can_be_asked_for_after_a_failure():
    async def main():
        upgrades = await attempt("false")
        with pytest.raises(upgrade.NotUpgraded, match="exit status 1"):
            await upgrades.upgrade()
    uvloop.run(main())


@pytest.mark.parametrize("options, words", [
    ({"controller": "https://c.example"}, "upgraded by its Deployment"), ({"paths": ("a", "-")}, "standard input"), ({}, "does not serve yet")])
def test_some_gateways_are_not_upgraded(options, words):
    async def main():
        supervisor = MagicMock()
        supervisor.stats.generation = 0
        upgrades = Succession(supervisor, asyncio.get_running_loop(), ServeOptions(**{"paths": ("a",)} | options), Told(), None).upgrades
        with pytest.raises(upgrade.NotUpgraded, match=words):
            await upgrades.upgrade()
    asyncio.run(main())


# ---- Sockets


def opened(count: int, kind: str = "http") -> Given:
    sockets = open_sockets("127.0.0.1", 0, count, 16, udp=kind == "udp")
    return Given("127.0.0.1", 80, sockets[0].getsockname()[1], kind == "udp", sockets)


@pytest.mark.parametrize("count", [1, 2, 3])
def test_sockets_that_are_given_are_used(count):
    """Some more are opened beside them, none is closed: what waits in its queue would be lost."""
    one = opened(count)
    ports = Ports(2, port_map={80: one.port}, given=[one])
    with contextlib.closing(ports):
        ports.open(WANTED)
        port, = ports
        assert port.sockets[:count] == one.sockets and len(port.sockets) == max(2, count) and not port.error and not ports.left
        assert {each.getsockname()[1] for each in port.sockets} == {one.port}


def test_of_udp_those_that_nobody_would_read_are_closed():
    one = opened(3, "udp")
    with contextlib.closing(Ports(2, port_map={80: one.port}, given=[one])) as ports:
        ports.open([Wanted("web", "127.0.0.1", 80, "udp")])
        port, = ports
        assert port.sockets == one.sockets[:2] and one.sockets[2].fileno() < 0


def test_port_0_is_the_one_that_was_free_before():
    one = opened(2)
    with contextlib.closing(Ports(2, port_map={80: 0}, given=[one])) as ports:
        ports.open(WANTED)
        assert next(iter(ports)).port == one.port


@pytest.mark.parametrize("wanted", [Wanted("web", "127.0.0.2", 80, "http"), Wanted("web", "127.0.0.1", 81, "http"),
                                    Wanted("web", "127.0.0.1", 80, "udp")], ids=["address", "port", "transport"])
def test_others_are_left(wanted):
    one = opened(2)
    ports = Ports(2, port_map={80: 0, 81: 0}, given=[one])
    ports.open([wanted])
    assert ports.left == [one]
    ports.close()
    assert not ports.left and all(each.fileno() < 0 for each in one.sockets)


# ---- The keeper


class Kept:
    """A keeper, the other end of its socket, and children of its own that stand for workers and for the gateway."""

    def __init__(self, seconds: float = PATIENCE, workers: int = 0, gateway: str = ""):
        """gateway: what it does, a line of shell."""
        self.end, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        # A shell cannot trap what was ignored when it began, as HUP is under nohup and INT in the background.
        starts = "import os, signal, subprocess, sys\nfor each in (signal.SIGHUP, signal.SIGINT): signal.signal(each, signal.SIG_DFL)\n"
        starts += f"kids = [subprocess.Popen(['sleep', '600']).pid for _ in range({workers})]\n"
        starts += f"main = subprocess.Popen(['sh', '-c', {gateway!r}]).pid if {bool(gateway)} else 0\nprint(main, *kids, flush=True)\n"
        run = f"os.execv(sys.executable, [sys.executable, '-I', '-S', {keeper.__file__!r}, str(main), '{theirs.fileno() if gateway else -1}', '{seconds}', *map(str, kids)])"
        self.process = subprocess.Popen([sys.executable, "-c", starts + run], pass_fds=(theirs.fileno(),), stdout=subprocess.PIPE, text=True)
        theirs.close()
        self.main, *self.workers = map(int, self.process.stdout.readline().split())
        self.process.stdout.close()
        until(lambda: Path(f"/proc/{self.process.pid}/comm").read_text().strip() == "gwfast-keeper")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.end.close()
        for pid in (*self.workers, self.main, self.process.pid):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid or self.process.pid, signal.SIGKILL)
        self.process.wait()

    def ends(self) -> int:
        return self.process.wait(PATIENCE)


def gone(pid: int) -> bool:
    return not os.path.exists(f"/proc/{pid}")


@pytest.mark.parametrize("life, status", [("exit 0", 0), ("exit 3", 3), ("kill -KILL $$", 137)], ids=["0", "3", "killed"])
def test_a_keeper_ends_as_the_gateway_does(life, status):
    with Kept(gateway=f"sleep 0.2; {life}") as kept:
        kept.end.close()
        assert kept.ends() == status


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR2], ids=lambda number: number.name)
def test_a_keeper_passes_signals_on(number, tmp_path):
    there = tmp_path / "there"
    with Kept(gateway=f"trap 'exit 40' {number.name[3:]}; : > {there}; while :; do sleep 0.05; done") as kept:
        until(there.exists)
        kept.process.send_signal(number)
        until(lambda: gone(kept.main))  # REAP_WAIT is for the end of a process, not for a busy machine's shell
        kept.end.close()
        assert kept.ends() == 40


def test_workers_that_do_not_drain_in_time_are_killed():
    with Kept(seconds=0.1, workers=2) as kept:
        assert kept.ends() == 0
        until(lambda: all(map(gone, kept.workers)))


def test_without_a_gateway_a_keeper_ends_with_the_last_worker():
    with Kept(workers=2) as kept:
        kept.process.send_signal(signal.SIGTERM)  # which its workers have had, too
        for pid in kept.workers:
            os.kill(pid, signal.SIGKILL)
        assert kept.ends() == 0


def test_a_second_term_ends_old_workers_at_once():
    with Kept(workers=1, gateway="trap '' TERM; sleep 600") as kept:
        until(lambda: kept.process.send_signal(signal.SIGTERM) or gone(kept.workers[0]))  # two that come at once are one


@pytest.mark.parametrize("said, status", [(b"=0", 0), (b"=3", 3), (b"", keeper.LOST)], ids=["0", "3", "nothing"])
def test_a_keeper_follows_who_takes_over_last(said, status):
    """The next one says its process id over the socket, before the one before ends; and its status, as it may be nobody's child."""
    with Kept(gateway="exit 0") as kept:
        other = subprocess.Popen(["sleep", "600"])
        try:
            kept.end.send(b"%d" % other.pid)
            until(lambda: gone(kept.main))
            assert kept.process.poll() is None
            kept.process.send_signal(signal.SIGTERM)
            assert other.wait(PATIENCE) == -signal.SIGTERM
        finally:
            other.kill()
            other.wait()
        if said:
            kept.end.send(said)
        kept.end.close()
        assert kept.ends() == status


# ---- The rest


def test_a_file_with_a_process_id_is_removed_by_whom_it_names(tmp_path):
    file = tmp_path / "pid"
    pidfile.write(str(file))
    assert file.read_text() == f"{os.getpid()}\n" and list(tmp_path.iterdir()) == [file]
    pidfile.remove(str(file))
    assert not file.exists()
    file.write_text("1\n")
    pidfile.remove(str(file))
    assert file.exists()
    pidfile.remove(str(tmp_path / "none"))
    pidfile.write("")
    pidfile.remove("")


@pytest.mark.parametrize("message, stands", [
    ("is wrong; the last good version keeps serving", True), ("cannot be read: x; the last good versions of the 2 resources that it held keep serving", True),
    ("gwfast fails on it, which is a bug of gwfast: x; its last good version serves", True), ("is wrong", False),
    ("is wrong; a.yaml:7 is used", False), ("gwfast fails on it, which is a bug of gwfast: x; it is not served", False)])
def test_a_problem_says_whether_something_stands_in(message, stands):
    assert Problem(source=Source("a.yaml"), message=message).stands is stands
