"""What a gateway that is upgraded hands to the program that takes its place, and the side of that program. See `upgrade`.

    GWFAST_HANDOVER=TALK,STATE    descriptors that are inherited: a socket to talk over, and a memfd with JSON of a State

    old ── State ──> new   at its start
    old <── Ready ── new   it has workers that took a table, and accepts nothing yet
    old ── Go ─────> new   take over
    old <─ Serving ─ new   it accepts
    old <── Failed ─ new   it cannot, and why; it ends

Rules
- Descriptors in State are the old gateway's own open sockets: what waits in their queues waits for whoever accepts first.
- The protocol has a number. A program that knows another one says so and ends; the old gateway serves on.
- The end of the other side's socket before Go is a refusal: the new program ends. After Go it serves, whoever is left.
- Nothing that is inherited is passed on to other programs but by a handover.
"""
import asyncio
import contextlib
import os
import socket
from collections.abc import Callable, Iterable

import msgspec
from msgspec.structs import replace

from gwfast import __version__
from gwfast.errors import UsageError
from gwfast.serve import control
from gwfast.serve.options import ServeOptions
from gwfast.serve.sockets import Given

PROTOCOL = 1
VARIABLE = "GWFAST_HANDOVER"
MOST = 1 << 26  # bytes of a State: thousands of ports have some hundred bytes each


class Passed(msgspec.Struct, frozen=True):
    """A port whose sockets are handed over. port: the real one; spec_port: the Gateway's."""

    address: str
    spec_port: int
    port: int
    udp: bool
    descriptors: list[int]


class State(msgspec.Struct, frozen=True, kw_only=True):
    """All that is handed over. serves: it serves something, and who takes over should too; wrong: file and resource of what it
    could not take either, and has no last good version of."""

    protocol: int = PROTOCOL
    version: str = __version__
    pid: int
    ports: list[Passed] = []
    admin: list[int] = []
    session_key: bytes = b""
    keeper: int = -1  # a socket to who stays in the place of the first of us
    serves: bool = False
    wrong: list[tuple[str, str]] = []


class _Number(msgspec.Struct):
    protocol: int = 0
    version: str = "?"


class _Message(msgspec.Struct, frozen=True, tag=True):
    pass


class Ready(_Message, frozen=True):
    """To the old one: it could serve. left: (address, port, udp) of ports that it has no use for."""

    version: str
    left: list[tuple[str, int, bool]] = []


class Go(_Message, frozen=True):
    """To the new one: serve."""


class Serving(_Message, frozen=True):
    """To the old one: it serves."""


class Failed(_Message, frozen=True):
    """To the old one: it does not, and ends."""

    why: str


Message = Ready | Go | Serving | Failed
_decode = msgspec.json.Decoder(Message).decode


def decode(data: bytes) -> Message:
    """Return a message; one that says so where it is none: it comes from another program."""
    try:
        return _decode(data)
    except msgspec.MsgspecError as error:
        return Failed(f"what is said is no message: {error}")


def memfd(state: State) -> int:
    """Write a state into a memfd; return it."""
    fd = os.memfd_create("gwfast-handover", os.MFD_CLOEXEC)
    with open(fd, "wb", closefd=False) as file:
        file.write(msgspec.json.encode(state))
    return fd


class Inheritance:
    """The side of the new program. `state` is what it was given, `ports` and `admin` the sockets, which are its own."""

    def __init__(self, talk: socket.socket, state: State):
        self._talk = talk
        self._channel: control.Channel = None  # type: ignore[assignment]  # there from attend() on
        self._go: asyncio.Future = None  # type: ignore[assignment]  # there from attend() on
        self.state = state
        self.ports = [Given(each.address, each.spec_port, each.port, each.udp, tuple(map(_own, each.descriptors)))
                      for each in state.ports]
        self.admin = [_own(fd) for fd in state.admin]
        self.keeper = _own(state.keeper) if state.keeper >= 0 else None

    def applied(self, options: ServeOptions) -> ServeOptions:
        """Return options with what is kept of the old gateway."""
        if options.engine.session_key:
            return options
        return replace(options, engine=replace(options.engine, session_key=self.state.session_key))

    def attend(self, loop, gone: Callable[[], None]) -> None:
        """Listen to the old one; `gone` is called once if it ends, or wants us to, before it said Go."""
        os.environ.pop(VARIABLE, None)
        self._go = loop.create_future()

        def closed() -> None:
            if not self._go.done():
                self._go.set_result(False)
                gone()
        self._channel = control.Channel(loop, self._talk, lambda message, _: self._received(message), closed, decode)

    def _received(self, message: Message) -> None:
        if isinstance(message, Go) and not self._go.done():
            self._go.set_result(True)

    async def may_go(self, left: Iterable[Given]) -> bool:
        """Say that we could serve, and which ports are left; return whether we may."""
        self._channel.send(Ready(__version__, [(each.address, each.port, each.udp) for each in left]))
        return await self._go

    def serving(self) -> None:
        """Say that we do."""
        if self.keeper is not None:
            with contextlib.suppress(OSError):
                self.keeper.send(b"%d" % os.getpid())
        self._channel.send(Serving())
        self._channel.close()

    def refuse(self, why: str) -> None:
        """Say that we do not, and why."""
        self._channel.send(Failed(why))


def inherit() -> Inheritance | None:
    """Return what this process was given; None: it was started as usual. UsageError where it cannot be used."""
    given = os.environ.get(VARIABLE)
    if not given:
        return None
    try:
        talk, state = (int(text) for text in given.split(","))
        with open(state, "rb") as file:
            data = file.read(MOST) if not file.seek(0) else b""
        number = msgspec.json.decode(data, type=_Number)
        if number.protocol != PROTOCOL:
            raise UsageError(f"gwfast {number.version} hands over by protocol {number.protocol}, gwfast {__version__} knows "
                             f"{PROTOCOL}: end that one and start this one instead")
        whole = msgspec.json.decode(data, type=State)
        found = Inheritance(_own(talk), whole)
    except (ValueError, OSError, msgspec.MsgspecError) as error:
        raise UsageError(f"{VARIABLE} is for gwfast itself: {error}") from None
    return found


def tell(why: str) -> None:
    """Say to who started us to take its place, if anybody did, why we do not: we end before that could be said otherwise."""
    with contextlib.suppress(ValueError, OSError):
        talk, _ = (int(text) for text in os.environ.get(VARIABLE, "").split(","))
        with socket.socket(fileno=os.dup(talk)) as end:
            end.send(msgspec.json.encode(Failed(why)))


def _own(descriptor: int) -> socket.socket:
    os.set_inheritable(descriptor, False)
    return socket.socket(fileno=descriptor)
