"""A network of a test's own, in which every port is free: what is written in a README runs as it is written.

Rule: it is the calling thread's, and of the processes that it starts; others stay where they were.
"""
import contextlib
import ctypes
import fcntl
import os
import socket
import struct
from collections.abc import Iterator
from pathlib import Path

CLONE_NEWNET = 0x4000_0000  # sched.h
SIOCSIFFLAGS, IFF_UP = 0x8914, 0x1  # netdevice(7)
NETWORK = "/proc/thread-self/ns/net"
LISTENING = "0A"  # of /proc/net/tcp


@contextlib.contextmanager
def own_network() -> Iterator[bool]:
    """Be in a network of one's own, with its loopback; False, and where one was, where this machine does not allow it."""
    libc = ctypes.CDLL(None, use_errno=True)
    before = os.open(NETWORK, os.O_RDONLY | os.O_CLOEXEC)
    try:
        if libc.unshare(CLONE_NEWNET):
            yield False
            return
        try:
            with socket.socket() as one:
                fcntl.ioctl(one, SIOCSIFFLAGS, struct.pack("16sh14x", b"lo", IFF_UP))
            yield True
        finally:
            assert libc.setns(before, CLONE_NEWNET) == 0, os.strerror(ctypes.get_errno())
    finally:
        os.close(before)


def listening() -> set[int]:
    """TCP ports that somebody in the thread's network listens on."""
    lines = [line.split() for version in ("tcp", "tcp6") for line in Path(f"/proc/thread-self/net/{version}").read_text().splitlines()[1:]]
    return {int(words[1].rpartition(":")[2], 16) for words in lines if words[3] == LISTENING}
