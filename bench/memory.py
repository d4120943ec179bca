"""Memory: what an idle keep-alive connection costs a worker, and what each worker holds with 1, 2 and 4 of them."""
import contextlib
import resource
import socket
import tempfile
from pathlib import Path

import msgspec

from bench.contenders import CONFIG, backend, gateway
from bench.machine import free_port, memory, until

REQUEST = b"GET / HTTP/1.1\r\nHost: bench.example\r\n\r\n"


class Held(msgspec.Struct, frozen=True):
    """Bytes: of one worker (`what` says which measure), or per connection."""

    what: str
    workers: int
    connections: int
    amount: float


def answered(port: int) -> socket.socket:
    """A connection that has had one answer and stays open."""
    s = socket.create_connection(("127.0.0.1", port), 10)
    s.sendall(REQUEST)
    got = b""
    while not got.endswith(b"less\n"):
        if not (some := s.recv(4096)):
            raise ConnectionError(got)
        got += some
    return s


def idle(connections: int) -> list[Held]:
    """The difference that many idle connections make to a worker, per connection."""
    files = min(resource.getrlimit(resource.RLIMIT_NOFILE)[1], 1 << 20)
    resource.setrlimit(resource.RLIMIT_NOFILE, (files, files))
    with tempfile.TemporaryDirectory() as temporary, contextlib.ExitStack() as stack:
        folder, port = Path(temporary) / "gwfast", free_port()
        folder.mkdir()
        backend_port = stack.enter_context(backend(Path(temporary)))
        (folder / "gateway.yaml").write_text(CONFIG.format(port=port, backend=backend_port))
        worker, = stack.enter_context(gateway(folder, port)).workers
        for _ in range(100):
            stack.enter_context(contextlib.closing(answered(port)))
        before = memory(worker)
        for _ in range(connections):
            stack.enter_context(contextlib.closing(answered(port)))
        after = memory(worker)
        return [Held(f"{name} per idle connection", 1, connections, (after[name] - before[name]) / connections)
                for name in ("Rss", "Pss")]


def workers(count: int) -> list[Held]:
    with tempfile.TemporaryDirectory() as temporary, contextlib.ExitStack() as stack:
        folder, port = Path(temporary), free_port()
        (folder / "gateway.yaml").write_text(CONFIG.format(port=port, backend=1))
        running = stack.enter_context(gateway(folder, port, None, "--workers", str(count)))
        until(lambda: len(running.workers) == count)
        held = [memory(pid) for pid in running.workers]
        return [Held(f"{name} of a worker", count, 0, max(h[name] for h in held)) for name in ("Rss", "Pss", "Private")]


def run(connections: int) -> list[Held]:
    return [*idle(connections), *(held for count in (1, 2, 4) for held in workers(count))]


def table(held: list[Held]) -> str:
    lines = [f"{'':26} {'workers':>8} {'connections':>12} {'bytes':>12}"]
    lines += [f"{h.what:26} {h.workers:8} {h.connections or '-':>12} {h.amount:12,.0f}" for h in held]
    return "\n".join(lines)
