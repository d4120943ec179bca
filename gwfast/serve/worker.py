"""A worker: one process, one thread, one engine nested in uvloop.

Forked by the fork server (see `spawn`), or run as `python -m gwfast.serve.worker FD` where that is gone, with one end of a
control socket; everything else comes over it. Rules:
- imports little, so that a worker is small and back soon;
- ends when it has drained, when it is told to, and (after draining) when the supervisor is gone: no orphans;
- the terminal's signals are the supervisor's business, TERM alone drains.
"""
import asyncio
import faulthandler
import gc
import os
import signal
import socket
import sys
from typing import TYPE_CHECKING

import uvloop

from gwfast import limits, linux
from gwfast.engine.engine import Engine
from gwfast.observe import sink
from gwfast.serve.control import (
    DUMP,
    Abort,
    Applied,
    Channel,
    Finish,
    HandshakeFailed,
    Listen,
    Part,
    Parted,
    Ready,
    Refused,
    Start,
    Swap,
    Take,
    Told,
    Unlisten,
)

if TYPE_CHECKING:  # both are imported when they are needed
    from gwfast.serve.certs import Certs
    from gwfast.serve.extensions import Host

TICK = 0.1  # seconds between two looks at the engine's timers
REST = 0.4  # the same while there is nothing to look at: the supervisor wants to see that the loop turns (watchdog.CALM)
TOLD_MOST = 8192  # characters of a message: it has to fit a packet


class Worker:
    """What the control socket tells, done."""

    def __init__(self, loop, end: socket.socket):
        self._loop = loop
        self._channel = Channel(loop, end, self.received, self.finish)
        self._engine: Engine = None  # type: ignore[assignment]  # there once it was told to start
        self._certs: Certs | None = None  # once there was TLS
        self._host: Host | None = None  # once there was a filter in Python
        self._drain_timeout = 0.0
        self._deadline: float | None = None
        self._timer: asyncio.TimerHandle = None  # type: ignore[assignment]  # of the next tick
        self._rests = False  # until something comes that may have to be looked after
        self._dropped = 0  # messages, and lines of this process, that were counted
        self._unsent = 0  # messages that the supervisor did not take
        loop.set_exception_handler(self._bug)

    def received(self, message, descriptors) -> None:
        """Follow one message; what fails is told and changes nothing."""
        self._wake()
        try:
            self._follow(message, descriptors)
        except Exception as error:
            self._channel.send(Refused(type(message).__name__, f"{type(error).__name__}: {error}"))

    def _bug(self, _, context: dict) -> None:
        self._channel.send(Refused(context["message"], repr(context.get("exception"))))

    def _follow(self, message, descriptors) -> None:
        engine = self._engine
        match message:
            case Start():
                self._start(message, *descriptors)
            case Swap(generation):
                image, *credentials = descriptors
                try:
                    certs = self._secured(credentials)
                    engine.swap(image)
                finally:
                    os.close(image)
                self._certs = certs
                engine.secure(certs)
                self._extend(engine.extensions())
                self._channel.send(Applied(generation))
            case Listen(bind):
                engine.listen(descriptors[0], bind)
            case Unlisten(bind):
                engine.unlisten(bind)
            case Take(bind):
                engine.take(descriptors[0], bind)
            case Part():
                engine.part()
                self._channel.send(Parted())
            case Finish(handed_over):
                self.finish(handed_over)
            case Abort():
                self._end()

    def _start(self, start: Start, counters: int, call: int, stack: int) -> None:
        faulthandler.register(DUMP, stack, all_threads=False)
        faulthandler.enable(stack, all_threads=False)  # what it crashed in is in the log, too
        self._drain_timeout = start.drain_timeout
        self._engine = Engine(worker=start.worker, workers=start.workers, counters_fd=counters,
                              options=start.options, call_fd=call)
        self._engine.tell(lambda *what: self._tell(HandshakeFailed(*what)))
        self._loop.add_reader(self._engine.epoll_fd, self._engine.drain)
        self._timer = self._loop.call_later(TICK, self._tick)
        gc.collect()
        gc.freeze()
        linux.forget_files()
        self._channel.send(Ready())

    def _secured(self, credentials: list[int]):
        """Return what handshakes begin with: Certs of a memfd, None where the table speaks no TLS."""
        if not credentials:
            return None
        if self._certs is not None and self._certs.same(*credentials):
            os.close(*credentials)
            return self._certs
        from gwfast.serve.certs import Certs  # and OpenSSL with it

        credential, = credentials
        return Certs(credential, self._certs)

    def _extend(self, definitions: list[tuple[int, bytes]]) -> None:
        """Run the filters in Python that the table names."""
        if self._host is None and definitions:
            from gwfast.serve.extensions import Host

            self._host = Host(self._loop, lambda text: self._tell(Told(text[:TOLD_MOST])), self._engine.counters)
            self._engine.extend(self._host)
        if self._host is not None:
            self._host.use(definitions)

    def _tell(self, message) -> None:
        """Send what people should know, unless the supervisor has long taken nothing."""
        if self._channel.waiting < limits.TOLD_WAITING:
            self._channel.send(message)
        else:
            self._unsent += 1

    def _wake(self) -> None:
        """Look at timers as often as they need it."""
        if self._rests:
            self._rests = False
            self._timer.cancel()
            self._timer = self._loop.call_later(TICK, self._tick)

    def _tick(self) -> None:
        """Look at timers; less often while there are none, because an idle worker costs what it wakes up."""
        self._rests = self._deadline is None and self._engine.idle
        self._timer = self._loop.call_later(REST if self._rests else TICK, self._tick)
        self._engine.rest(self._wake if self._rests else None)
        self._engine.tick()
        dropped = sink.pump() + self._unsent
        if dropped > self._dropped:
            self._engine.counters.count_messages_dropped(dropped - self._dropped)
            self._dropped = dropped
        if self._host is not None:
            self._host.look()
        if self._deadline is not None and (
                not self._engine.connections or self._loop.time() >= self._deadline):
            self._end()

    def finish(self, handed_over: bool = False) -> None:
        """Begin to drain; end when nothing is left, at the latest after the drain timeout."""
        if self._engine is None:
            self._loop.stop()
        elif self._deadline is None:
            self._wake()
            self._deadline = self._loop.time() + self._drain_timeout
            self._engine.finish(handed_over)

    def _end(self) -> None:
        self._engine.abort()
        self._engine.tick()  # writes what is left of the access log
        self._loop.stop()


def main(end: socket.socket) -> None:
    """Serve until told to end."""
    linux.end_with_parent(signal.SIGTERM)
    linux.name_process(b"gwfast-worker")
    for ignored in (signal.SIGINT, signal.SIGHUP):
        signal.signal(ignored, signal.SIG_IGN)
    loop = uvloop.new_event_loop()
    asyncio.set_event_loop(loop)
    end.setblocking(False)
    os.register_at_fork(after_in_child=end.close)  # a filter's children: this process's end is the end of its control socket
    worker = Worker(loop, end)
    loop.add_signal_handler(signal.SIGTERM, worker.finish)
    loop.run_forever()
    loop.close()


if __name__ == "__main__":
    sink.install()
    main(socket.socket(fileno=int(sys.argv[1])))
    sink.finish()
