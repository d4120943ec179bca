"""What systemd gives a service, and what it is told: socket activation (sd_listen_fds(3)), readiness, reloads, the watchdog
(sd_notify(3), systemd.service(5) Type=notify-reload). Another keeper that speaks these protocols will do as well.

    LISTEN_PID, LISTEN_FDS, LISTEN_FDNAMES   ──> given_sockets(): sockets of ports, opened by who may (ports below 1024)
    Service ──> READY=1 STATUS=..            once the first configuration serves, or there is nothing to serve
                RELOADING=1 .. READY=1       at HUP, until what is written then serves
                STOPPING=1                   while it drains
                WATCHDOG=1                   as long as the supervisor's loop goes round; workers are the supervisor's to watch

Rules:
- A socket is the port's that has its address and port, whatever the port map says; '::' and 0.0.0.0 are all addresses. One whose
  name (FileDescriptorName=) is a number is that of the Gateway's port with this number, wherever it listens.
- systemd keeps its sockets open: they are copied for whoever has a use for them, again and again. All workers accept on one
  socket, or each on its own where there are several with one address (ReusePort=yes). Datagrams of one client belong to one
  worker: of UDP there has to be one for each.
- What is in the environment is for this process alone: it is taken out, and so is not for those that this one starts.
"""
import os
import socket
import time
from collections.abc import Callable

from gwfast.serve.generation import Reading
from gwfast.serve.notify import notify, wanted
from gwfast.serve.sockets import EVERYWHERE, Given

FIRST = 3  # SD_LISTEN_FDS_START
ALL = ("::", "0.0.0.0")


def given_sockets(warn: Callable[..., None]) -> list[Given]:
    """Return the sockets of ports that this process was started with; those of one address are together."""
    pid, number, names = (os.environ.pop(f"LISTEN_{name}", "") for name in ("PID", "FDS", "FDNAMES"))
    if pid != str(os.getpid()) or not number.isdigit():
        return []
    found: dict[tuple, list[socket.socket]] = {}
    for fd, name in zip(range(FIRST, FIRST + int(number)), [*names.split(":"), *[""] * int(number)], strict=False):
        if (key := _key(fd, name)) is None:
            warn("what was given to listen on is no socket of TCP that listens, nor one of UDP", descriptor=fd, name=name)
            continue
        one = socket.socket(fileno=fd)
        one.setblocking(False)
        os.set_inheritable(fd, False)
        found.setdefault(key, []).append(one)
    return [Given(address, spec_port, port, udp, tuple(sockets), lent=True)
            for (address, spec_port, port, udp), sockets in found.items()]


def _key(fd: int, name: str) -> tuple[str, int, int, bool] | None:
    """Return the address, the Gateway's port (0: nobody said), the port and whether it is UDP; None for another socket."""
    try:
        with socket.socket(fileno=os.dup(fd)) as one:
            if one.family not in (socket.AF_INET, socket.AF_INET6):
                return None
            udp = one.type == socket.SOCK_DGRAM
            if not udp and not one.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
                return None
            address, port = one.getsockname()[:2]
    except OSError:
        return None
    return EVERYWHERE if address in ALL else address, int(name) if name.isascii() and name.isdigit() else 0, port, udp


class Service:
    """What systemd is told of one supervisor; nothing where nobody wants to know. heir: it takes the place of another one."""

    def __init__(self, loop, heir: bool = False):
        self._loop = loop
        self._every = _watchdog(heir)
        self._reloads = 0
        self._ready = False
        self._status = ""

    def begin(self) -> None:
        """Say from now on that the loop goes round."""
        if self._every:
            notify(WATCHDOG=1)
            self._loop.call_later(self._every, self.begin)

    def reloading(self) -> None:
        """Say that a reload begins. Each has an end, `reloaded`."""
        self._reloads += 1
        notify(RELOADING=1, MONOTONIC_USEC=time.monotonic_ns() // 1000)

    def reloaded(self) -> None:
        """Say that it serves again as it is written, once the last reload is over."""
        self._reloads -= 1
        if not self._reloads:
            notify(READY=1, STATUS=self._status)

    def serves(self, reading: Reading | None, idle: str) -> None:
        """Say what serves, where that is news. idle: why nothing does."""
        if reading is None or not wanted():
            return
        listeners = sum(node.served for node in reading.graph.listeners.values())
        status = idle or f"serves {listeners} listener{'s' * (listeners != 1)}, {len(reading.graph.routes)} routes"
        if not self._ready:
            notify(READY=1, STATUS=status)
        elif status != self._status:
            notify(STATUS=status)
        self._ready, self._status = True, status

    def stops(self) -> None:
        """Say that it drains."""
        notify(STOPPING=1, STATUS="drains: requests in flight are answered")


def _watchdog(heir: bool) -> float:
    """Return how often the watchdog wants to hear of us, in seconds: twice in the time that it has; 0: it does not."""
    every, pid = os.environ.get("WATCHDOG_USEC", ""), os.environ.get("WATCHDOG_PID", "")
    if not every.isdigit() or not heir and pid not in ("", str(os.getpid())):
        return 0
    return int(every) / 1e6 / 2
