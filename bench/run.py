"""A run: its cases one after the other, each figure written down as soon as it is there."""
import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec

from bench import machine
from bench.cases import CASES
from bench.contenders import CONTENDERS
from bench.contenders.base import BINARIES
from bench.h2load import PACKAGE
from bench.load import allow_files
from bench.report import Run, table
from bench.stage import Figure, Note, Options, take_place


def about(options: Options) -> dict:
    """What figures are worth nothing without."""
    versions = {name: CONTENDERS[name].version() for name in options.contenders if not CONTENDERS[name].missing()}
    return {"at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), "machine": machine.facts(), "versions": versions,
            "options": msgspec.to_builtins(options)}


def run(names: list[str], options: Options, file: Path | None = None) -> Run:
    """Run these cases; print each one's table when it is done, append to `file` as they come. What is going on, and for
    how long still, is said on stderr."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that what was started is ended
    take_place()
    allow_files()
    found = Run(about=about(options), cases={name: CASES[name].about for name in names})
    progress = Progress(names, options)
    with contextlib.ExitStack() as stack:
        if file:
            file.parent.mkdir(parents=True, exist_ok=True)
        lines = stack.enter_context(open(file, "ab")) if file else None
        if lines:
            lines.write(msgspec.json.encode({"about": found.about, "cases": found.cases}) + b"\n")
        for name in names:
            progress.begins(name)
            for each in figures(name, options):
                (found.figures if isinstance(each, Figure) else found.notes).append(each)
                if lines:
                    lines.write(msgspec.json.encode(each) + b"\n")
                    lines.flush()
            print(f"{table(found, name)}\n", flush=True)
    progress.ends()
    return found


class Progress:
    """What is going on, and how long it may still take: each case's own estimate, corrected by how right they were so far."""

    def __init__(self, names: list[str], options: Options) -> None:
        there = sum(not CONTENDERS[name].missing() for name in options.contenders)
        self._left = {name: CASES[name].told(options).takes(there) for name in names}
        self._all, self._count, self._begin = sum(self._left.values()), len(names), time.monotonic()

    def begins(self, name: str) -> None:
        gone, left = time.monotonic() - self._begin, sum(self._left.values())
        pace = gone / (self._all - left) if gone > 60 else 1.0
        self._say(f"[{self._count - len(self._left) + 1}/{self._count}] {name}: {minutes(gone)} gone, "
                  f"about {minutes(left * pace)} to go")
        del self._left[name]

    def ends(self) -> None:
        self._say(f"done in {minutes(time.monotonic() - self._begin)}")

    def _say(self, what: str) -> None:
        print(what, file=sys.stderr, flush=True)


def fitting(names: list[str], options: Options, most: float) -> Options:
    """The options with which these cases take about so many seconds at most, or as few as they can."""
    there = sum(not CONTENDERS[name].missing() for name in options.contenders)
    for percent in range(100, 0, -5):
        told = msgspec.structs.replace(options, share=percent / 100)
        if sum(CASES[name].told(told).takes(there) for name in names) <= most:
            break
    return told


def minutes(seconds: float) -> str:
    return f"{int(seconds) // 60}:{int(seconds) % 60:02} min"


def figures(name: str, options: Options) -> Iterator[Figure | Note]:
    """What a case yields; where it fails, that is a note, and the next case has its turn."""
    try:
        yield from CASES[name].told(options).run(options)
    except (OSError, RuntimeError, ValueError, subprocess.SubprocessError) as failed:
        yield Note(case=name, contender="the case", note=f"ended early: {failed!r}")


def listing() -> str:
    lines = [f"{name:16} {case.about}" for name, case in CASES.items()]
    lines.append("")
    for name, kind in CONTENDERS.items():
        lines.append(f"{name:16} {kind.missing() or kind.version() or 'compiled here'}")
    return "\n".join(lines)


NEEDED = {  # by the cases of other wires
    PACKAGE: lambda: shutil.which("h2load"), "apt-get install libssl-dev": lambda: Path("/usr/include/openssl/ssl.h").exists()}


def install() -> None:
    """Install the contenders that are missing, and what cases need: Debian's with apt-get where that
    may be, PyPI's into .venv/contenders."""
    missing = [kind.package for kind in CONTENDERS.values() if kind.missing()]
    missing += [package for package, there in NEEDED.items() if not there()]
    packages = {tool: [each.split()[-1] for each in missing if each.startswith(tool)] for tool in ("apt-get", "pip")}
    if packages["apt-get"]:
        command = ["apt-get", "install", "-y", "-q", "--no-install-recommends", *packages["apt-get"]]
        if os.geteuid() == 0:
            quietly = {**os.environ, "DEBIAN_FRONTEND": "noninteractive", "RUNLEVEL": "1"}  # 1: no service is started
            subprocess.run(["apt-get", "update", "-q"], check=False, env=quietly)
            subprocess.run(command, check=False, env=quietly)
        else:
            print("as root: apt-get update &&", *command)
    if packages["pip"]:
        folder = BINARIES.parent
        subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
        pip = [str(BINARIES / "python"), "-m", "pip", "install", "-q", "-c", "constraints.txt"]
        subprocess.run([*pip, *packages["pip"]], check=True)
    print(listing())

