"""What the C library keeps of memory that was freed, bounded: a process that lives long, and is busy only now and then, is to be
as large as what it holds. With another library than glibc nothing is done.

Threads of Python allocate one at a time, so an arena for each would only keep, in each, what was free when it was last used:
megabytes after a table was made.
"""
import contextlib
import ctypes

_M_ARENA_MAX = -8  # malloc.h


def share() -> None:
    """Let all threads allocate from one arena; before there are others."""
    with contextlib.suppress(AttributeError):
        ctypes.CDLL(None).mallopt(_M_ARENA_MAX, 1)


def trim() -> None:
    """Give back what is free."""
    with contextlib.suppress(AttributeError):
        ctypes.CDLL(None).malloc_trim(0)
