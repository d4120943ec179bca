"""CPU time per request: gwfast, nginx and a bare forwarder side by side in one run.

The proxies share one core, wrk and the backend the other. Contenders alternate (A B C A B C), so that what disturbs
the machine disturbs all of them; the median of the rounds counts, the spread says how far to trust it.
"""
import contextlib
import re
import shutil
import statistics
import subprocess
import tempfile
from pathlib import Path

import msgspec

from bench.contenders import CONTENDERS, Contender, backend
from bench.machine import Cpu, cpu, pinned

PROXY_CORE, LOAD_CORE = 0, 1


class Round(msgspec.Struct, frozen=True):
    """One contender under load once; CPU time in microseconds per request."""

    contender: str
    requests: int
    per_second: float
    user: float
    system: float
    others: float

    @property
    def total(self) -> float:
        return self.user + self.system


def wrk(port: int, seconds: float, connections: int, core: int | None) -> tuple[int, float]:
    """Load with wrk; requests answered and their rate. ValueError where one answer was not 2xx or 3xx."""
    command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds:g}s", f"http://127.0.0.1:{port}/"]
    text = subprocess.run(pinned(core, command), capture_output=True, text=True, check=True).stdout
    if "Non-2xx" in text or "Socket errors" in text:
        raise ValueError(text)
    return int(re.search(r"(\d+) requests in", text)[1]), float(re.search(r"Requests/sec: *([\d.]+)", text)[1])


def used(pids: list[int]) -> Cpu:
    return sum(map(cpu, pids), Cpu())


def measure(contender: Contender, seconds: float, connections: int) -> Round:
    workers, others = used(contender.workers), used(contender.others)
    requests, rate = wrk(contender.port, seconds, connections, LOAD_CORE)
    workers, others = used(contender.workers) - workers, used(contender.others) - others
    return Round(contender.name, requests, rate, workers.user / requests, workers.system / requests,
                 others.total / requests)


def table(rounds: list[Round]) -> str:
    """The rounds as people read them."""
    of = {name: [r for r in rounds if r.contender == name] for name in dict.fromkeys(r.contender for r in rounds)}
    median = {name: statistics.median(r.total for r in some) for name, some in of.items()}
    lines = [f"{'':8} {'us/request':>10} {'spread':>13} {'user':>6} {'others':>7} {'requests/s':>11} "
             f"{'/ nginx':>8} {'/ floor':>8}"]
    for name, some in of.items():
        ratio = [f"{median[name] / median[base]:.2f}" if base in median else "-" for base in ("nginx", "floor")]
        spread = f"{min(r.total for r in some):.1f} - {max(r.total for r in some):.1f}"
        lines.append(f"{name:8} {median[name]:10.2f} {spread:>13} {statistics.median(r.user for r in some):6.2f} "
                     f"{statistics.median(r.others for r in some):7.3f} "
                     f"{statistics.median(r.per_second for r in some):11.0f} {ratio[0]:>8} {ratio[1]:>8}")
    return "\n".join(lines)


def run(names: list[str], rounds: int, seconds: float, connections: int) -> list[Round]:
    """Start the contenders, warm each up, measure in alternation. FileNotFoundError where wrk is not installed."""
    if not shutil.which("wrk"):
        raise FileNotFoundError("wrk is not installed")
    with tempfile.TemporaryDirectory() as temporary, contextlib.ExitStack() as stack:
        directory = Path(temporary)
        directory.chmod(0o755)
        port = stack.enter_context(backend(directory, LOAD_CORE))
        contenders = [stack.enter_context(CONTENDERS[name](directory, port, PROXY_CORE)) for name in names]
        for contender in contenders:
            wrk(contender.port, 1, connections, LOAD_CORE)
        return [measure(contender, seconds, connections) for _ in range(rounds) for contender in contenders]
