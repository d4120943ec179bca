"""What an operation costs: instructions, counted by callgrind, the same on every run; and the gate on their growth.

Rules
- Counted is what runs inside the `spin` door of a pure stage and inside the engine's Loop.run, the C library with it.
  The kernel is not: what system calls cost is what the cases of python -m bench measure. Of operations.BEYOND everything
  that the process does is counted, and what it does without the filter is taken off.
- bench/baseline.json holds the figures and what they were measured with. Another compiler makes other instructions of
  the same source, another C library brings others of its own: then the check builds the commit of the baseline with what is
  here and counts that one, too. Where there is no such commit (a copy without its history) it says so and judges nothing.
"""
import os
import platform
import re
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path

import msgspec

from bench import operations, watched
from bench.watched import Job
from gwfast.http1 import parser

BASELINE = Path(__file__).with_name("baseline.json")
ROOT = BASELINE.parent.parent
TOLERATED = 0.01
TOLERATED_BEYOND = 0.04    # of a difference of whole processes: dictionaries that know objects by their addresses are in it
ACCEPT = "if that is what it should cost: python -m bench count --accept"
# What could make Python or the C library choose another way: hashes, and which memcpy is best for this processor.
ENVIRONMENT = {
    "PYTHONHASHSEED": "0", "LD_BIND_NOW": "1", "LC_ALL": "C", "PYTHONPATH": str(ROOT),
    "GLIBC_TUNABLES": "glibc.cpu.hwcaps=-AVX,-AVX2,-AVX512F,-AVX512VL,-AVX_Fast_Unaligned_Load,-ERMS,-FSRM,"
                      "-SSSE3,-SSE4_1,-SSE4_2,-MOVBE,-BMI2",
    **{name: os.environ[name] for name in ("LD_LIBRARY_PATH",) if name in os.environ}}

INSIDE = ["--collect-atstart=no", "--toggle-collect=*pw_*spin", "--toggle-collect=*Loop_run"]
WHOLE = ["--collect-atstart=yes"]


class Count(msgspec.Struct, frozen=True):
    """Of one operation; `baseline` is empty where there is none to compare with."""

    operation: str
    instructions: float
    baseline: float | None = None

    @property
    def growth(self) -> float:
        return self.instructions / self.baseline - 1 if self.baseline else 0.0

    @property
    def tolerated(self) -> float:
        return TOLERATED_BEYOND if self.operation in operations.BEYOND else TOLERATED


class Baseline(msgspec.Struct, frozen=True):
    measured_with: dict[str, str] = {}
    instructions: dict[str, float] = {}


# ---- Counting ----

def run(words: list[str], check: bool = False) -> list[Count]:
    """Count the operations whose names begin with one of the words (all), and where it is to be checked what they are compared
    with. OSError where that is not possible here."""
    names = [name for name in (*operations.OPERATIONS, *operations.BEYOND) if not words or name.startswith(tuple(words))]
    known = read()
    before = known.instructions if not differences(known) else rebuilt() if check else {}
    with tempfile.TemporaryDirectory() as temporary:
        figures = counted(names, Path(temporary))
    return [Count(name, figures[name], before.get(name)) for name in names]


def counted(names: list[str], folder: Path) -> dict[str, float]:
    """Return the instructions of one time of each."""
    desk = operations.Desk(folder)
    inside = {name: operations.OPERATIONS[name](desk) for name in names if name in operations.OPERATIONS}
    pairs = {name: [make(desk) for make in operations.BEYOND[name]] for name in names if name in operations.BEYOND}
    fds = [each.fileno() for each in desk.backends]
    found = dict(zip(inside, callgrind([*inside.values()], INSIDE, folder, fds), strict=True))
    both = callgrind([job for pair in pairs.values() for job in pair], WHOLE, folder, fds)
    return found | {name: round(more - less, 1) for name, more, less in zip(pairs, both[::2], both[1::2], strict=True)}


def callgrind(jobs: list[Job], collect: list[str], folder: Path, backends: list[int]) -> list[float]:
    """Count these jobs in one process."""
    if not jobs:
        return []
    (folder / "jobs").write_bytes(msgspec.json.encode(jobs))
    done = subprocess.run(
        ["valgrind", "--tool=callgrind", *collect, "--dump-before=*tick", f"--callgrind-out-file={folder}/profile",
         sys.executable, "-m", watched.__name__, f"{folder}/jobs"],
        capture_output=True, text=True, pass_fds=backends, env=ENVIRONMENT)
    if done.returncode:
        raise ChildProcessError(f"valgrind ended with {done.returncode}: {done.stderr[-2000:]}")
    each = 1 + len(watched.STEPS)      # one that says nothing: what it took to begin
    totals = [total(folder / f"profile.{n + 1}") for n in range(each * len(jobs))]
    return [cost(totals[n * each + 1:(n + 1) * each], watched.times(job)) for n, job in enumerate(jobs)]


def total(profile: Path) -> int:
    return next(int(line.split()[1]) for line in profile.read_text().splitlines() if line.startswith("totals:"))


def cost(totals: list[int], times: int) -> float:
    """Instructions of one time, from those of each of watched.STEPS."""
    none, *rounds = totals
    if min(rounds) <= none:
        raise ChildProcessError("nothing was counted: do the spin doors, Loop.run and Engine.tick have other names now?")
    return round((min(rounds) - none) / times, 1)


def rebuilt() -> dict[str, float]:
    """Build the commit that the baseline is of, and count its operations; {} where that commit cannot be had."""
    commit = _output("git", "log", "-1", "--format=%H", "--", str(BASELINE)).strip()
    if not commit:
        return {}
    tree = ROOT / "build" / f"tree-{commit[:12]}"
    tree.mkdir(parents=True, exist_ok=True)
    archive = subprocess.run(["git", "archive", commit], cwd=ROOT, stdout=subprocess.PIPE, check=True).stdout
    subprocess.run(["tar", "-x", "-C", str(tree)], input=archive, check=True)
    environment = {**os.environ, "PYTHONPATH": str(tree)}
    subprocess.run([sys.executable, "setup.py", "-q", "build_ext", "--inplace"], cwd=tree, env=environment, check=True)
    with tempfile.TemporaryDirectory() as folder:
        figures = Path(folder, "figures")
        subprocess.run([sys.executable, "-m", "bench", "count", "--json", str(figures)], cwd=tree, env=environment, check=True,
                       stdout=subprocess.DEVNULL)
        found = msgspec.json.decode(b"[" + b",".join(figures.read_bytes().splitlines()) + b"]", type=list[Count])
    return {figure.operation: figure.instructions for figure in found}


def _output(*words: str) -> str:
    """What a program prints; '' where it fails or is not here."""
    try:
        return subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        return ""


# ---- The gate ----

def measured_with() -> dict[str, str]:
    """What decides how many instructions the same source is."""
    built = Path(parser.__file__).read_bytes()
    compiler = re.search(rb"(?:GNU C\d+|clang version) [\d.]+", built)
    return {"compiler": compiler[0].decode() if compiler else "unknown",
            "flags of Python": sysconfig.get_config_var("CFLAGS") or "",
            "cython": type(parser.spin).__module__.removeprefix("_cython_"),
            "python": "%d.%d" % sys.version_info[:2], "libc": " ".join(platform.libc_ver()), "machine": platform.machine()}


def read() -> Baseline:
    return msgspec.json.decode(BASELINE.read_bytes(), type=Baseline) if BASELINE.exists() else Baseline()


def differences(baseline: Baseline) -> list[str]:
    """What the baseline was measured with that is something else here."""
    here = measured_with()
    return [f"{name} was {baseline.measured_with.get(name, 'unknown')}, here it is {here[name]}"
            for name in here if baseline.measured_with.get(name) != here[name]]


def accept(figures: list[Count]) -> None:
    made = Baseline(measured_with(), {figure.operation: figure.instructions for figure in figures})
    BASELINE.write_bytes(msgspec.json.format(msgspec.json.encode(made)) + b"\n")


def grown(figures: list[Count]) -> list[str]:
    """A line for each operation that costs more than the baseline allows, or that it does not know."""
    return [f"{figure.operation}: not in the baseline; {ACCEPT}" if figure.baseline is None else
            f"{figure.operation}: {figure.baseline:,.0f} -> {figure.instructions:,.0f} instructions, {figure.growth:+.1%} "
            f"({figure.tolerated:.0%} are tolerated); {ACCEPT}"
            for figure in figures if figure.baseline is None or figure.growth > figure.tolerated]


def shrunk(figures: list[Count]) -> list[str]:
    return [f"{figure.operation}: {figure.growth:+.1%}: lower the baseline, so that it stays: python -m bench count --accept"
            for figure in figures if figure.growth < -figure.tolerated]


def judge(figures: list[Count], other: list[str]) -> tuple[int, list[str]]:
    """Compare with the baseline: the exit status, and what there is to say. `other`: as differences() has it; then the figures
    are beside those of the baseline's commit as it is built here."""
    if other and not any(figure.baseline for figure in figures):
        return 0, ["SKIPPED: the baseline says nothing about what is measured here, and its commit cannot be had", *other]
    bad = grown(figures)
    said = ["compared with the baseline's commit, built here, for the baseline was measured with something else:", *other]
    return int(bool(bad)), [*(said if other else []), *bad, *shrunk(figures)]


def table(figures: list[Count]) -> str:
    width = max(len(figure.operation) for figure in figures)
    lines = [f"{'operation':{width}}{'instructions':>14}{'baseline':>10}{'':>8}"]
    for figure in figures:
        beside = f"{figure.baseline:10,.0f}{figure.growth:+8.1%}" if figure.baseline else ""
        lines.append(f"{figure.operation:{width}}{figure.instructions:14,.0f}{beside}")
    return "\n".join(lines)
