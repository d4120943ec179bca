"""A thread beside the event loop that runs one function after the other.

Rules
- It is a daemon: a gateway that is told to end does not wait for a configuration that is still being read (an executor's
  thread would be waited for).
- Once it was told to be nice (Linux: each thread for itself), a worker that wakes on the same core runs at once, not when
  a plan is made.
- The interpreter changes hands every SWITCH seconds while both want it: an event that comes while a plan is made waits no longer,
  and neither does a change that comes in a burst of events.
"""
import asyncio
import os
import queue
import sys
import threading

NICE = 10  # a tenth of a core beside a worker that never sleeps; all of it wherever there is room
SWITCH = 0.001  # of Python's 5 ms a change would have as many as it has steps; a switch takes some 10 us


class BackgroundThread:
    """Runs functions in order; `run` returns a future of what they return or raise."""

    def __init__(self, loop, name: str):
        self._loop = loop
        sys.setswitchinterval(SWITCH)
        self._work: queue.SimpleQueue = queue.SimpleQueue()
        threading.Thread(target=self._serve, name=name, daemon=True).start()

    def run(self, function, *arguments) -> asyncio.Future:
        """Run a function after those that wait already."""
        future = self._loop.create_future()
        self._work.put((future, function, arguments))
        return future

    def be_nice(self) -> asyncio.Future:
        """From here on traffic comes first."""
        return self.run(_be_nice)

    def close(self) -> None:
        """End the thread once it is through."""
        self._work.put(None)

    def _serve(self) -> None:
        while (work := self._work.get()) is not None:
            future, function, arguments = work
            try:
                outcome = future.set_result, function(*arguments)
            except Exception as error:
                outcome = future.set_exception, error
            try:
                self._loop.call_soon_threadsafe(_settle, future, *outcome)
            except RuntimeError:
                return  # the loop is closed: nobody waits any more


def _be_nice() -> None:
    thread = threading.get_native_id()
    os.setpriority(os.PRIO_PROCESS, thread, os.getpriority(os.PRIO_PROCESS, thread) + NICE)


def _settle(future: asyncio.Future, setter, value) -> None:
    if not future.done():
        setter(value)
