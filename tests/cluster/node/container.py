"""One container of a Pod: its program, what it wrote, how it ended.

States are kubelet's: waiting (with a reason), running, terminated. `start` makes a new run; a run that ends calls `ended`.
"""
import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

from node import images, launch, network
from node.volumes import Missing

LAUNCH = str(Path(__file__).with_name("launch.py"))
LOG_BYTES = 4 << 20  # of one run; what is older is forgotten, as kubelet rotates files
RESTART_SECONDS = (0.0, 1.0, 2.0, 4.0, 8.0, 10.0)  # kubelet doubles from 10 s to 5 min, for which tests do not wait
SETTLED_SECONDS = 30.0  # a run that was longer begins the row of restarts anew
LOOK_SECONDS = 0.2  # for whether a grace period has become shorter
CHUNK = 1 << 16


def now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


class Log:
    """What one run wrote: pieces with the time at which they came."""

    def __init__(self) -> None:
        self._pieces: deque[tuple[float, bytes]] = deque()
        self._bytes = 0
        self.changed = threading.Condition()
        self.closed = False

    def add(self, data: bytes) -> None:
        with self.changed:
            self._pieces.append((time.time(), data))
            self._bytes += len(data)
            while self._bytes > LOG_BYTES:
                self._bytes -= len(self._pieces.popleft()[1])
            self.changed.notify_all()

    def close(self) -> None:
        with self.changed:
            self.closed = True
            self.changed.notify_all()

    def lines(self) -> list[tuple[float, bytes]]:
        """(when it was complete, line with its end) of all lines."""
        with self.changed:
            pieces = list(self._pieces)
        found, begun = [], b""
        for when, piece in pieces:
            *whole, begun = (begun + piece).split(b"\n")
            found += [(when, line + b"\n") for line in whole]
        return found + ([(pieces[-1][0], begun)] if begun else [])


class Container:
    """A container by its spec. `thing` of what it is told is the Pod's object."""

    def __init__(self, spec: dict, init: bool, changed: Callable[[], None]):
        self.spec, self.name, self.init = spec, spec["name"], init
        self.sidecar = init and spec.get("restartPolicy") == "Always"
        self.waiting: tuple[str, str] = ("PodInitializing" if init else "ContainerCreating", "")
        self.terminated: dict | None = None
        self.last: dict | None = None
        self.restarts = -1
        self.ready = self.started = False
        self.log, self.previous = Log(), Log()
        self.process: subprocess.Popen | None = None
        self.over = threading.Event()  # one for each run: it has ended, and what it wrote has been read
        self.pid = 0
        self.due = 0.0  # when (time.monotonic) it may start again
        self.began = ""
        self._changed = changed
        self._short_runs = 0

    @property
    def running(self) -> bool:
        return self.process is not None

    def start(self, make: Callable[["Container"], dict], begun: Callable[["Container"], None]) -> None:
        """Begin a run, which ends with this thread, and call `begun` before it can end. What cannot be made leaves the container waiting for a second."""
        self.due = time.monotonic() + 1
        try:
            said = make(self)
        except Missing as problem:
            self.waiting = ("CreateContainerConfigError", str(problem))
            return
        except LookupError as problem:
            self.waiting = ("ErrImagePull", str(problem))
            return
        self._begin(said)
        self.waiting = ("", "")
        begun(self)
        threading.Thread(target=self._follow, args=(self.process, time.monotonic()), daemon=True).start()

    def _begin(self, said: dict) -> None:
        self.previous, self.log = self.log, Log()
        if self.terminated:
            self.last, self.terminated = self.terminated, None
        seen, begun = os.pipe()
        process = subprocess.Popen(
            ["setpriv", "--pdeathsig=KILL", "nsenter", f"--net={network.path(said['network'])}", "--", "unshare", "--pid", "--mount", "--uts", "--ipc", "--fork",
             "--kill-child", "--", sys.executable, "-IS", LAUNCH],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True, pass_fds=[begun])
        os.close(begun)
        with contextlib.suppress(BrokenPipeError), process.stdin:
            process.stdin.write(json.dumps(said | {"begun": begun}).encode())
        self.pid = first_child(process)
        os.read(seen, 1)  # it is the program that runs from here on, in its place, or it has failed
        os.close(seen)
        self.environment = said["env"]
        self.user = (said["uid"], said["gid"])
        self.began, self.restarts = now(), self.restarts + 1
        self.ready = self.started = False
        self.over = threading.Event()
        self.process = process

    def _follow(self, process: subprocess.Popen, began: float) -> None:
        """Take what the run writes, until it ends."""
        while data := os.read(process.stdout.fileno(), CHUNK):
            self.log.add(data)
        code = process.wait()
        process.stdout.close()
        self.log.close()
        self._short_runs = 0 if time.monotonic() - began > SETTLED_SECONDS else self._short_runs + 1
        self.due = time.monotonic() + RESTART_SECONDS[min(max(self._short_runs - 1, 0), len(RESTART_SECONDS) - 1)]
        self.terminated = {"exitCode": code if code >= 0 else 128 - code, "reason": "Completed" if code == 0 else "Error",
                           "startedAt": self.began, "finishedAt": now(), "containerID": self.identity}
        if code < 0:
            self.terminated["signal"] = -code
        self.ready = self.started = False
        self.process = None
        self.over.set()
        self._changed()

    @property
    def identity(self) -> str:
        return f"process://{self.pid}"

    def signal(self, number: int) -> None:
        """Signal the container's first process, as a runtime does."""
        if self.process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def stop(self, over: threading.Event, seconds: Callable[[], float]) -> None:
        """End the run that `over` is of: TERM, and KILL where it goes on for `seconds()`, which may become less meanwhile."""
        if not over.is_set():
            self.signal(signal.SIGTERM)
        while not over.wait(min(LOOK_SECONDS, max(0.0, seconds()))):
            if seconds() <= 0:
                self.signal(signal.SIGKILL)
                over.wait()

    def run(self, argv: list[str], timeout: float) -> subprocess.CompletedProcess:
        """Run a program inside. Raises subprocess.TimeoutExpired."""
        uid, gid = self.user
        return subprocess.run(["nsenter", f"--target={self.pid}", "--all", "--root", "--wd", f"--setuid={uid}", f"--setgid={gid}",
                               "--", *argv], env=self.environment, capture_output=True, timeout=timeout, stdin=subprocess.DEVNULL)

    def follow(self, log: Log) -> Iterator[list[tuple[float, bytes]]]:
        """Yield the lines of a run as they come, until it has ended."""
        seen = 0
        while True:
            with log.changed:
                closed = log.closed
            lines = log.lines()
            whole = lines if closed else [line for line in lines if line[1].endswith(b"\n")]
            yield whole[seen:]
            seen = len(whole)
            if closed:
                return
            with log.changed:
                if not log.closed:
                    log.changed.wait(1.0)


def first_child(process: subprocess.Popen) -> int:
    """The pid of what unshare(1) has started, which is on its way."""
    while process.poll() is None:
        with contextlib.suppress(OSError):
            if found := Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split():
                return int(found[0])
        time.sleep(0.001)
    return process.pid


# ---- from a spec to what launch.py is told


def expanded(text: str, env: dict[str, str]) -> str:
    """Replace $(NAME), as in env, command and args; $$(NAME) is $(NAME) itself, and a name that is not known stays."""
    def value(found: re.Match[str]) -> str:
        return found[0][1:] if found[0].startswith("$$") else env.get(found[1], found[0])
    return re.sub(r"\$?\$\(([\w.-]+)\)", value, text)


def arguments(spec: dict, image: images.Image, env: dict[str, str]) -> list[str]:
    """A container's `command` is for the image's entrypoint and its command, `args` for its command alone."""
    if spec.get("command"):
        words = spec["command"] + (spec.get("args") or [])
    else:
        words = image.entrypoint + (spec.get("args") or image.command)
    return [expanded(word, env) for word in words]


def security(spec: dict, pod: dict, image: images.Image) -> dict:
    """User, groups and capabilities of a container. Raises Missing where it may not run as root and would."""
    own, shared = spec.get("securityContext") or {}, pod.get("securityContext") or {}
    user, _, group = image.user.partition(":")
    uid = own.get("runAsUser", shared.get("runAsUser", int(user or 0)))
    gid = own.get("runAsGroup", shared.get("runAsGroup", int(group or 0)))
    if own.get("runAsNonRoot", shared.get("runAsNonRoot")) and uid == 0:
        raise Missing("container has runAsNonRoot and image will run as root")
    said = own.get("capabilities") or {}
    added, dropped = set(said.get("add") or ()), set(said.get("drop") or ())
    kept = set(launch.CAPABILITIES) if "ALL" in added else (set() if "ALL" in dropped else set(launch.RUNTIME_DEFAULT) - dropped) | added
    fs_group = [shared["fsGroup"]] if "fsGroup" in shared else []
    return {"uid": uid, "gid": gid, "groups": sorted({gid, *fs_group, *(shared.get("supplementalGroups") or ())}),
            "capabilities": sorted(kept), "ambient": sorted(added), "privileged": bool(own.get("privileged")),
            "no_new_privileges": own.get("allowPrivilegeEscalation") is False, "read_only": bool(own.get("readOnlyRootFilesystem"))}
