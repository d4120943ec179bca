"""Ports that no other test process takes: each process has a block of them to itself, for as long as it lives.

A port is free between the moment when a test chooses it and the moment when a gateway listens on it, seconds later on a busy
machine. A process that chose among all ports could choose it too; then one of two gateways answers for the other, for they
share their ports (SO_REUSEPORT). The blocks lie below the range from which the kernel takes ports for outgoing connections.
"""
import functools
import itertools
import os
import random
import socket
from collections.abc import Iterator

FIRST, SIZE, BLOCKS = 10240, 400, 54  # 10240 to 31839


@functools.cache
def block(process: int) -> tuple[socket.socket, Iterator[int]]:
    """Take a block for this process: a name that the kernel gives to one socket alone, and takes back when the process ends."""
    for number in random.sample(range(BLOCKS), BLOCKS):
        holder = socket.socket(socket.AF_UNIX)
        try:
            holder.bind(f"\0gwfast-tests-ports-{number}")
        except OSError:
            holder.close()
            continue
        first = FIRST + number * SIZE
        return holder, itertools.cycle(range(first, first + SIZE))
    raise AssertionError(f"{BLOCKS} processes have all the ports")


def free_port() -> int:
    """A port of this process's block that nothing has, TCP or UDP; the same one comes again after all others."""
    _, ports = block(os.getpid())
    for port in itertools.islice(ports, SIZE):
        with socket.socket() as tcp, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
            tcp.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # closed connections in TIME_WAIT do not matter to a gateway
            try:
                tcp.bind(("127.0.0.1", port))
                udp.bind(("127.0.0.1", port))
            except OSError:
                continue
        return port
    raise AssertionError("no port of this process's block is free")
