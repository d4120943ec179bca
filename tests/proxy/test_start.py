"""How a gateway starts where something is not as it should be: one line that says what to do, the right exit status, never a traceback."""
import contextlib
import ctypes
import json
import os
import resource as limits_of
import signal
import socket
import subprocess
from pathlib import Path

import pytest
from support.gateway import PROGRAM, Gateway, free_port, gateway, listener, route, rule, service, until, write

from gwfast import limits

PR_CAPBSET_DROP = 24


@pytest.fixture
def folder(tmp_path, backend) -> Path:
    made = tmp_path / "conf"
    made.mkdir()
    write(made, "all.yaml", gateway(listener(80, "web")), service("one", backend("one")), route("r", rule("one")))
    return made


def ends(*arguments: str, prepare=None, env: dict | None = None) -> subprocess.CompletedProcess:
    """Run a gateway that is to end at once."""
    return subprocess.run([*PROGRAM, "run", *arguments], capture_output=True, text=True, timeout=60, preexec_fn=prepare,
                          stdin=subprocess.DEVNULL, env={**os.environ, **(env or {})})


def said(done: subprocess.CompletedProcess, status: int, *words: str) -> None:
    """It ended with this status and one line that has these words."""
    assert done.returncode == status, done.stderr
    assert done.stderr.count("\n") == 1 and done.stdout == "", done.stderr
    assert all(word in done.stderr for word in words), done.stderr


def files(most: int):
    return lambda: limits_of.setrlimit(limits_of.RLIMIT_NOFILE, (most, most))


@pytest.mark.parametrize("most", [16, 32, 64, 100])
def test_too_few_files(folder: Path, most: int) -> None:
    said(ends(str(folder), "--workers", "1", prepare=files(most)), 1, f"the limit on open files is {most}", "ulimit -Hn", "104 are needed")


def test_more_workers_need_more_files(folder: Path) -> None:
    said(ends(str(folder), "--workers", "64", prepare=files(512)), 1, "608 are needed (workers: 64)")


def test_with_just_enough_files_it_serves(folder: Path) -> None:
    """And says that they are few; with more clients than it has descriptors it goes on."""
    least = limits.FILES_LEAST + 2 * limits.FILES_PER_WORKER
    port, admin = free_port(), free_port()
    gw = Started(folder, admin, "--workers", "2", "--port-map", f"80:{port}", prepare=files(least))
    with gw:
        clients = []
        for _ in range(2 * least):
            with contextlib.suppress(OSError):
                clients.append(socket.create_connection(("127.0.0.1", port), 5))
        assert gw.ask("/readyz")[0] == 200
        for client in clients:
            client.close()
        until(lambda: gw.get(port=port).status == 200)
    assert "the limit on open files is low" in gw.text and "Traceback" not in gw.text


class Started(Gateway):
    """A gateway that was started in an odd way, ended by leaving."""

    def __init__(self, folder: Path, admin: int, *options: str, prepare=None, ready: bool = True, **more) -> None:
        self.folder, self.admin, self.ended, self.text = folder, admin, False, ""
        self.err = folder.parent / "odd.err"
        with self.err.open("wb") as err:
            more = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": err} | more
            self.process = subprocess.Popen([*PROGRAM, "run", str(folder), "--admin", f"127.0.0.1:{admin}", *options], preexec_fn=prepare,
                                            **more)
        until(self.ready if ready else self.lives, 20)

    def lives(self) -> bool:
        with contextlib.suppress(OSError):
            return self.ask("/healthz")[0] == 200
        return False

    def __enter__(self):
        return self

    def __exit__(self, *_) -> None:
        self.text = self.errors()
        self.stop()


@pytest.mark.parametrize("workers,words", [
    ("9999", "at most"), ("0", "from 1"), ("-1", "from 1"), ("1.5", "from 1"), ("99999999999999999999999", "at most"), ("", "from 1")])
def test_workers(folder: Path, workers: str, words: str) -> None:
    said(ends(str(folder), "--workers", workers), 2, "--workers", words)


def test_workers_of_the_environment(folder: Path) -> None:
    said(ends(str(folder), env={"GWFAST_WORKERS": "9999"}), 2, "GWFAST_WORKERS '9999': at most")


@pytest.mark.parametrize("text,words", [
    ("80:8080,80:8081", "port 80 is there twice"), ("80:8080,80:8080", "port 80 is there twice"), ("0:8080", "from 1"),
    ("80:99999", "at most 65535"), ("80:8080:9090", "whole number"), ("80", "pairs such as 80:8080"), ("http:8080", "whole number")])
def test_port_map(folder: Path, text: str, words: str) -> None:
    said(ends(str(folder), "--port-map", text), 2, f"--port-map {text!r}: ", words)


def test_ports_that_no_listener_has_and_those_that_become_one(folder: Path) -> None:
    port, admin = free_port(), free_port()
    write(folder, "other.yaml", gateway(listener(80, "web"), listener(81, "more")) | {"metadata": {"name": "other"}})
    (folder / "other.yaml").rename(folder.parent / "other.yaml")
    with Started(folder, admin, "--workers", "1", "--port-map", f"80:{port},443:8443,8081:{port}") as gw:
        until(lambda: "--port-map names ports that no listener has" in gw.errors())
        write(folder, "more.yaml", route("more", rule("one", path="/more")))
        gw.serves("/more", port=port)
    assert gw.text.count("--port-map names ports that no listener has ports=443,8081") == 1, "said once"
    assert f"ports=80,8081 port={port}" in gw.text


def test_two_ports_that_become_one_on_one_address(folder: Path, run, backend) -> None:
    port = free_port()
    gw = run(gateway(listener(80, "a"), listener(81, "b")), service("one", backend("one")), route("r", rule("one")),
             options=("--port-map", f"80:{port},81:{port}"), ready=False)
    until(lambda: "listens there already" in gw.errors())
    assert gw.ask("/readyz")[0] == 503 and gw.get(port=port).status == 200


def test_admin_is_taken(folder: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        said(ends(str(folder), "--admin", "127.0.0.1:%d" % taken.getsockname()[1]), 1, "cannot listen for admin", "something else listens there")


@pytest.mark.parametrize("admin,words", [("192.0.2.1:9000", "this machine does not have that address"),
                                         ("no.such.name.invalid:9000", "cannot listen for admin")])
def test_admin_cannot_be(folder: Path, admin: str, words: str) -> None:
    done = ends(str(folder), "--admin", admin)
    said(done, 1, words)
    assert "Unknown error" not in done.stderr


@pytest.mark.parametrize("make,words", [
    (lambda path: path.mkdir(), "Is a directory"), (lambda path: None, "No such file"), (lambda path: path.write_bytes(b"short"), "32 bytes or more"),
    (lambda path: path.symlink_to("/dev/zero"), "at most")], ids=["folder", "none", "short", "endless"])
def test_key_file(folder: Path, tmp_path: Path, make, words: str) -> None:
    make(tmp_path / "key")
    said(ends(str(folder), "--session-key-file", str(tmp_path / "key")), 2, "--session-key-file", words)


@pytest.mark.parametrize("option,value", [("--drain-timeout", "9" * 400), ("--head-timeout", "99999999999h"), ("--connections", "9" * 30),
                                          ("--connections-per-address", "4294967296")])
def test_numbers_that_nothing_can_hold(folder: Path, option: str, value: str) -> None:
    said(ends(str(folder), option, value), 2, option, "at most")


def unprivileged() -> None:
    """Be as somebody who is not root: without what lets root listen on low ports and read every file, also behind exec."""
    if os.getuid() == 0:
        for capability in (1, 2, 10):       # CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH, CAP_NET_BIND_SERVICE
            assert ctypes.CDLL(None).prctl(PR_CAPBSET_DROP, capability, 0, 0, 0) == 0


def test_what_only_root_may(folder: Path, tmp_path: Path) -> None:
    key = tmp_path / "key"
    key.write_bytes(b"k" * 32)
    key.chmod(0)
    said(ends(str(folder), "--session-key-file", str(key), prepare=unprivileged), 2, "cannot be read: Permission denied")
    if int(Path("/proc/sys/net/ipv4/ip_unprivileged_port_start").read_text()) > 90:
        said(ends(str(folder), "--admin", "127.0.0.1:90", prepare=unprivileged), 1, "cannot listen for admin", "not allowed",
             "--admin names another")
        with Started(folder, free_port(), "--workers", "1", prepare=unprivileged, ready=False) as gw:
            until(lambda: "cannot listen on 127.0.0.1:80: not allowed" in gw.errors())
            assert "--port-map 80:8080 avoids it" in gw.errors()
            assert gw.ask("/readyz")[0] == 503


CLOSED = [{0}, {1}, {2}, {0, 1}, {1, 2}, {0, 1, 2}]


@pytest.mark.parametrize("closed", CLOSED, ids=lambda fds: "".join(map(str, sorted(fds))))
def test_closed_standard_descriptors(folder: Path, closed: set[int]) -> None:
    """They are /dev/null, in every process: no socket gets their numbers, and what is printed goes to nobody."""
    port, admin = free_port(), free_port()

    def close() -> None:
        for fd in closed:
            os.close(fd)
    with Started(folder, admin, "--workers", "2", "--port-map", f"80:{port}", prepare=close) as gw:
        assert [gw.get(port=port).status for _ in range(20)] == [200] * 20
        for pid in (gw.process.pid, *gw.workers()):
            for fd in closed:
                assert os.readlink(f"/proc/{pid}/fd/{fd}") == "/dev/null", (pid, fd)
        os.kill(gw.workers()[0], signal.SIGKILL)
        until(lambda: gw.metrics()["gwfast_worker_restarts_total"] == 1)
        assert gw.get(port=port).status == 200
        for pid in gw.workers():
            for fd in closed:
                assert os.readlink(f"/proc/{pid}/fd/{fd}") == "/dev/null", (pid, fd)
    if 2 not in closed:
        assert "gwfast ends" in gw.errors()


@pytest.mark.parametrize("arguments,status", [(["--version"], 0), (["check", "."], 0), (["fly"], 2), (["healthcheck", "--admin", "192.0.2.1:1"], 1)])
@pytest.mark.parametrize("closed", CLOSED, ids=lambda fds: "".join(map(str, sorted(fds))))
def test_other_verbs_with_closed_descriptors(folder: Path, closed: set[int], arguments: list[str], status: int) -> None:
    def close() -> None:
        for fd in closed:
            os.close(fd)
    done = subprocess.run([*PROGRAM, *arguments], preexec_fn=close, capture_output=True, text=True, timeout=60, cwd=folder)
    assert done.returncode == status, done.stderr
    assert "Traceback" not in done.stderr
    if 2 in closed:
        assert "gwfast: " not in done.stdout, "errors do not go to where results go"


@pytest.mark.parametrize("verb", [["check", "."], ["routes", "."]])
@pytest.mark.parametrize("where,status", [("/dev/full", 1), ("gone", 1)])
def test_results_that_nobody_takes(folder: Path, verb: list[str], where: str, status: int) -> None:
    if where == "gone":
        reader, out = os.pipe()
        os.close(reader)
    else:
        out = os.open(where, os.O_WRONLY)
    done = subprocess.run([*PROGRAM, *verb], stdout=out, stderr=subprocess.PIPE, text=True, timeout=60, cwd=folder)
    os.close(out)
    assert done.returncode == status
    assert "Traceback" not in done.stderr and "Exception ignored" not in done.stderr
    assert done.stderr == ("" if where == "gone" else "gwfast: No space left on device\n")


def test_a_process_limit_is_said(folder: Path) -> None:
    """Where no process can be started, it says so and ends (not for root, whom that limit does not hold)."""
    if os.getuid() != 0:
        def prepare() -> None:
            limits_of.setrlimit(limits_of.RLIMIT_NPROC, (1, 1))
        said(ends(str(folder), prepare=prepare), 1, "cannot start a worker", "ulimit -u")


def test_a_worker_that_cannot_be_started_is_tried_again(folder: Path) -> None:
    """Descriptors run out later, when a worker dies: its place is filled as soon as there are some."""
    port, admin = free_port(), free_port()
    with Started(folder, admin, "--workers", "1", "--port-map", f"80:{port}", "--log-format", "json") as gw:
        soft, hard = limits_of.prlimit(gw.process.pid, limits_of.RLIMIT_NOFILE)
        used = len(os.listdir(f"/proc/{gw.process.pid}/fd"))
        limits_of.prlimit(gw.process.pid, limits_of.RLIMIT_NOFILE, (used - 2, hard))
        os.kill(gw.workers()[0], signal.SIGKILL)
        until(lambda: "cannot start a worker" in gw.errors())
        limits_of.prlimit(gw.process.pid, limits_of.RLIMIT_NOFILE, (soft, hard))
        until(lambda: len(gw.workers()) == 1)
        until(lambda: gw.get(port=port).status == 200)
    lines = [json.loads(line) for line in gw.text.splitlines()]
    assert all("traceback" not in line for line in lines), lines
