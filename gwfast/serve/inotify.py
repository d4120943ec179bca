"""inotify(7), what the watcher needs of it: its queue and the layout of an event.

    struct inotify_event    int wd | u32 mask | u32 cookie | u32 len | char name[len], padded with zeros
"""
import os
import struct
from typing import NamedTuple

from gwfast import linux

MOVED_FROM, MOVED_TO, CREATE, DELETE = 0x40, 0x80, 0x100, 0x200
ATTRIB, CLOSE_WRITE = 0x4, 0x8
Q_OVERFLOW, IGNORED = 0x4000, 0x8000
ONLYDIR, ISDIR = 0x0100_0000, 0x4000_0000
ROOM = 64 * 1024  # bytes of events read at once
_HEAD = struct.Struct("iIII")


class Event(NamedTuple):
    """`wd` is the watch; `name` is '' for the watched folder itself."""

    wd: int
    mask: int
    name: str


class INotify:
    """One queue of events. OSError from whatever the kernel refuses."""

    def __init__(self) -> None:
        self._fd = linux.inotify_init(os.O_NONBLOCK | os.O_CLOEXEC)

    def fileno(self) -> int:
        return self._fd

    def add_watch(self, path: str, mask: int) -> int:
        """Watch a path, or change what is watched of it; return its watch."""
        return linux.inotify_add_watch(self._fd, os.fsencode(path), mask)

    def read(self) -> list[Event]:
        """Return the events that have come."""
        events: list[Event] = []
        try:
            data = os.read(self._fd, ROOM)
        except BlockingIOError:
            return events
        at = 0
        while at < len(data):
            wd, mask, _, length = _HEAD.unpack_from(data, at)
            at += _HEAD.size + length
            events.append(Event(wd, mask, os.fsdecode(data[at - length:at].rstrip(b"\0"))))
        return events

    def close(self) -> None:
        os.close(self._fd)
