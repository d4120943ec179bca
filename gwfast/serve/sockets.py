"""The listening sockets: one per worker and port, opened and kept by the supervisor.

    Port   one bind of the plan: id, where it listens really, a socket per worker (or why there is none)

SO_REUSEPORT spreads connections (datagrams by their addresses) over the workers' sockets. It would also share a port
silently with another program of the same user that sets it, so a port is first bound without it: what is taken is said,
not shared. (Where a port of ours is open on another address the kernel could not tell it from a stranger's, and this test
is left out.) TCP and UDP have ports of their own.
"""
import errno
import ipaddress
import os
import socket
from collections.abc import Iterable
from typing import NamedTuple

import msgspec

EVERYWHERE = ""


class Wanted(NamedTuple):
    """What a bind of the plan asks for. target_port: where to listen whatever the port map says, 0 where that decides."""

    key: str
    address: str
    port: int
    transport: str
    target_port: int = 0


class Given(msgspec.Struct, eq=False, frozen=True):
    """Sockets of a port that another process opened: the one that this one takes the place of, or (`lent`) one that keeps them
    open, as systemd does. port: the real one; spec_port: the Gateway's; of what is lent as far as that was said, else 0."""

    address: str
    spec_port: int
    port: int
    udp: bool
    sockets: tuple[socket.socket, ...]
    lent: bool = False


class Port(msgspec.Struct, eq=False):
    """An address and port to listen on. `port` is the real one, `spec_port` the Gateway's."""

    key: str
    bind: int  # the id that the table and the engine know it by
    address: str
    spec_port: int
    transport: str = "http"
    target_port: int = 0
    port: int = 0
    sockets: tuple[socket.socket, ...] = ()
    error: str = ""
    listening: bool = False  # workers were told to accept on it

    @property
    def udp(self) -> bool:
        return self.transport == "udp"

    @property
    def where(self) -> str:
        host = self.address or "*"
        where = f"[{host}]:{self.port}" if ":" in host else f"{host}:{self.port}"
        return f"udp {where}" if self.udp else where

    def close(self) -> None:
        for each in self.sockets:
            each.close()
        self.sockets, self.listening = (), False


class Ports:
    """Every port that the plan asks for, by `Bind.key`; ids are stable and never used twice. given: sockets that are open
    already; what of them nobody wants is in `left`."""

    def __init__(self, workers: int, bind: str = EVERYWHERE, port_map: dict[int, int] | None = None,
                 backlog: int = 65535, given: Iterable[Given] = ()):
        self._workers = workers
        self._bind = bind
        self._map = port_map or {}
        self._backlog = backlog
        self._ids: dict[str, int] = {}
        self._ports: dict[str, Port] = {}
        self.left = list(given)

    def __iter__(self):
        return iter(self._ports.values())

    @property
    def ids(self) -> dict[str, int]:
        """Bind.key -> id, for the image."""
        return {key: port.bind for key, port in self._ports.items()}

    def open(self, wanted: Iterable[Wanted]) -> None:
        """Open what is wanted and not open.

        What cannot be opened is in the table with its `error`, and is tried again the next time.
        """
        for one in wanted:
            port = self._ports.get(one.key)
            if port is None:
                number = self._ids.setdefault(one.key, len(self._ids) + 1)
                port = Port(one.key, number, one.address or self._bind, one.port, target_port=one.target_port)
                self._ports[one.key] = port
            port.transport = one.transport
            if not port.sockets:
                self._open(port)

    def keep(self, wanted: Iterable[Wanted]) -> list[Port]:
        """Forget and close what is not wanted; return it."""
        keys = {one.key for one in wanted}
        gone = [self._ports.pop(key) for key in list(self._ports) if key not in keys]
        for port in gone:
            port.close()
        return gone

    def close(self) -> None:
        for port in self._ports.values():
            port.close()
        self.close_left()

    def close_left(self) -> None:
        """Close what was given and nobody wants."""
        while self.left:
            for each in self.left.pop().sockets:
                each.close()

    def _open(self, port: Port) -> None:
        port.port = port.target_port or self._map.get(port.spec_port, port.spec_port)
        ours = [other for other in self if other.sockets and (other.port, other.udp) == (port.port, port.udp)]
        for other in ours:
            if other.address == port.address:
                port.error = f"port {other.spec_port} of the configuration listens there already"
                return
        given = next((one for one in self.left if _fits(one, port)), None)
        try:
            if given is not None and given.lent:
                port.sockets = _copies(given, self._workers)
            elif given is not None:
                port.sockets = _enough(given, self._workers, self._backlog)
                self.left.remove(given)
            else:
                port.sockets = open_sockets(port.address, port.port, self._workers, self._backlog, alone=not ours,
                                            udp=port.udp)
        except OSError as error:
            port.error = explain(error)
        else:
            port.port = port.sockets[0].getsockname()[1]
            port.error = ""


def open_sockets(address: str, port: int, count: int, backlog: int, *, alone: bool = True,
                 udp: bool = False) -> tuple[socket.socket, ...]:
    """Open `count` non-blocking sockets that share one port, those of TCP listening; OSError if it is taken or not ours.

    address '' is every address, IPv4 and IPv6 where there is IPv6. Port 0 is one that is free. `alone`: nobody else
    may listen there.
    """
    kind = socket.SOCK_DGRAM if udp else socket.SOCK_STREAM
    family, host = _family(address)
    opened = []
    try:
        if alone:
            _bound(family, kind, host, port, shared=False).close()
        for _ in range(count):
            one = _bound(family, kind, host, port, shared=True)
            opened.append(one)
            if not udp:
                one.listen(backlog)
            one.setblocking(False)
            port = one.getsockname()[1]
    except OSError:
        for one in opened:
            one.close()
        raise
    return tuple(opened)


def _fits(given: Given, port: Port) -> bool:
    """Whether these are the sockets that a port wants; 0 is any port that was free when it was opened."""
    if given.lent and given.spec_port:
        return (given.spec_port, given.udp) == (port.spec_port, port.udp) and port.address in (given.address, EVERYWHERE)
    return (given.address, given.udp) == (port.address, port.udp) and (
        given.port == port.port or not port.port and given.spec_port == port.spec_port)


def _enough(given: Given, count: int, backlog: int) -> tuple[socket.socket, ...]:
    """Return the sockets for so many workers, at least: more are opened beside those that were given, and where these are more
    all stay open, as connections come to each. Of UDP there is nobody who would take what comes to those."""
    few = count - len(given.sockets)
    if few > 0:
        return given.sockets + open_sockets(given.address, given.port, few, backlog, alone=False, udp=given.udp)
    if given.udp:
        for each in given.sockets[count:]:
            each.close()
        return given.sockets[:count]
    return given.sockets


def _copies(given: Given, count: int) -> tuple[socket.socket, ...]:
    """Return copies of sockets that are lent, one for each worker at least: several may accept on one."""
    if given.udp and len(given.sockets) != count:
        raise OSError(errno.EINVAL, f"{len(given.sockets)} of the {count} sockets that as many workers need were given")
    return tuple(given.sockets[at % len(given.sockets)].dup() for at in range(max(count, len(given.sockets))))


def _family(address: str) -> tuple[socket.AddressFamily, str]:
    if address:
        family = socket.AF_INET6 if ipaddress.ip_address(address).version == 6 else socket.AF_INET
        return family, address
    try:
        _bound(socket.AF_INET6, socket.SOCK_STREAM, "::", 0, shared=False).close()
    except OSError:
        return socket.AF_INET, "0.0.0.0"
    return socket.AF_INET6, "::"


def _bound(family, kind, host: str, port: int, *, shared: bool) -> socket.socket:
    one = socket.socket(family, kind)
    try:
        if kind == socket.SOCK_STREAM:  # connections that are over do not count; of UDP it would share the port
            one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if shared:
            one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if family == socket.AF_INET6:
            one.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, host != "::")
        one.bind((host, port))
    except OSError:
        one.close()
        raise
    return one


def explain(error: OSError, instead: str = "--port-map 80:8080 avoids it") -> str:
    """Say why nothing can listen somewhere, and what can be done instead where that is not allowed."""
    words = {
        errno.EADDRINUSE: "something else listens there",
        errno.EACCES: f"not allowed (ports below 1024 need privileges; {instead})",
        errno.EADDRNOTAVAIL: "this machine does not have that address",
        errno.EMFILE: "no descriptors are left: see `ulimit -n`",
        errno.EINVAL: error.strerror or "",
    }
    if isinstance(error, socket.gaierror):  # whose numbers are others
        return error.strerror or "no such name"
    return words.get(error.errno or 0) or os.strerror(error.errno or 0)
