"""The first process of a sandbox: starts what its owner asks for, and takes everything with it when it ends.

It runs as process 1 of namespaces of its own (sandbox.py) and ends when its owner does, however that ends, for then the socket
on descriptor 0 is closed. The kernel then kills every process of the namespace and frees its networks and mounts.

One packet asks, one answers; both are JSON. {"argv", "env", "cwd"} with three descriptors (standard input, output and
error) is answered {"pid"} and a pidfd; {"status": pid} is answered {"status": what waitpid told, or null}.
"""
import array
import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

PACKET_BYTES = 1 << 20  # an environment and arguments; Linux takes 2 MiB of both
SYSCTLS = {"net/ipv4/ip_forward": "1", "net/core/somaxconn": "65535"}

ended: dict[int, int] = {}  # pid -> status of what has been reaped


def reap(*_: object) -> None:
    """Collect whoever has ended; what nobody started on purpose was orphaned here, and is forgotten by its owner's silence."""
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if not pid:
            return
        ended[pid] = status


def spawn(asked: dict, descriptors: list[int]) -> int:
    """Start a program as the leader of a session of its own."""
    pid = os.fork()
    if pid:
        return pid
    try:
        os.setsid()
        signal.pthread_sigmask(signal.SIG_SETMASK, [])
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        for wanted, descriptor in enumerate(descriptors):
            os.dup2(descriptor, wanted)
        os.chdir(asked["cwd"])
        os.execvpe(asked["argv"][0], asked["argv"], asked["env"])
    except OSError as problem:
        os.write(2, f"{asked['argv'][0]}: {problem}\n".encode())
    os._exit(127)


def answer(asked: dict, descriptors: list[int]) -> tuple[dict, list[int]]:
    if "status" in asked:
        return {"status": ended.get(asked["status"])}, []
    # A child that ends at once must not be reaped before its pidfd is open.
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGCHLD])
    pid = spawn(asked, descriptors)
    handle = os.pidfd_open(pid)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGCHLD])
    return {"pid": pid}, [handle]


def serve(owner: socket.socket) -> None:
    while True:
        packet, about, _, _ = owner.recvmsg(PACKET_BYTES, socket.CMSG_SPACE(3 * 4))
        if not packet:
            return
        descriptors = array.array("i")
        for _, _, data in about:
            descriptors.frombytes(data)
        said, handles = answer(json.loads(packet), list(descriptors))
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", handles))] if handles else []
        owner.sendmsg([json.dumps(said).encode()], rights)
        for descriptor in (*descriptors, *handles):
            os.close(descriptor)


def prepare(network: str) -> None:
    """Set up what lies in the namespaces: a folder for networks of Pods that nobody outside sees, and the node's own network."""
    os.makedirs("/run/netns", exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "netns", "/run/netns"], check=True)
    for name, value in SYSCTLS.items():
        Path("/proc/sys", name).write_text(value)
    subprocess.run(["ip", "-batch", "-"], input=network, text=True, check=True)


def main() -> None:
    owner = socket.socket(fileno=0)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the owner decides what Ctrl-C means
    prepare(sys.argv[1])
    signal.signal(signal.SIGCHLD, reap)
    owner.send(b"{}")
    serve(owner)


if __name__ == "__main__":
    main()
