"""Waiting for what must become true. No test sleeps and hopes: it says what it waits for, and gives a busy machine a minute."""
import time
from collections.abc import Callable
from typing import TypeVar

PATIENCE = 60.0  # seconds that a busy machine, or a sanitized build, may need for what comes by itself
T = TypeVar("T")


def until(true: Callable[[], T], seconds: float = PATIENCE, every: float = 0.01) -> T:
    """Wait for `true()`; what it returned. AssertionError after `seconds`."""
    end = time.monotonic() + seconds
    while not (result := true()):
        assert time.monotonic() < end, f"not within {seconds} s: {getattr(true, '__name__', true)}"
        time.sleep(every)
    return result


def elapse(seconds: float) -> None:
    """Let time pass: where time is what is tried (a timeout, or that nothing happens), where a backend is slow, and between the
    requests of a load. Nobody waits so for what must become true."""
    time.sleep(seconds)
