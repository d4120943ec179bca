"""Lines of a README, typed as they are written: in terminals, of which some run on."""
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

from support.gateway import PROGRAM, free_port, until
from support.tls import plain_environment

PORT = re.compile(r"(?<![\w.])(?:30\d\d|3443|80[0-8]\d|8443|9443|9000)(?!\w)")
RUNNING = re.compile(r"gwfast (echo|run) |python examples/[\w-]+/")
PATIENCE = 60.0  # seconds, on a machine that has much else to do


class Ports(dict):
    """Free ports in the place of those that are written, where there is no network of one's own."""

    def __missing__(self, written: str) -> str:
        self[written] = str(free_port())
        return self[written]

    def moved(self, text: str) -> str:
        return PORT.sub(lambda found: self[found[0]], text)


class Terminals:
    """The folder that lines are typed in, and what was left running."""

    def __init__(self, folder: Path, ports: Ports | None) -> None:
        self.folder = folder
        self.running: list[subprocess.Popen] = []
        self.environment = plain_environment(PATH=f"{folder / 'bin'}:{os.environ['PATH']}", PYTHONUNBUFFERED="1")
        if ports is not None:
            self.environment["GWFAST_ADMIN"] = f"127.0.0.1:{ports['9000']}"

    def start(self, command: str) -> None:
        """Start what does not end, and wait until it can be asked."""
        out = self.folder / f"{len(self.running)}.out"
        with out.open("wb") as file:
            process = subprocess.Popen(["bash", "-c", f"exec {command}"], cwd=self.folder, env=self.environment,
                                       stdin=subprocess.DEVNULL, stdout=file, stderr=file)
        self.running.append(process)
        servers = len(re.findall(r"\w=\d", command)) or 1

        def can_be_asked() -> bool:
            assert process.poll() is None, f"{command}\n{out.read_text()}"
            return out.read_text().count("listens on") >= servers if "gwfast run" not in command else self.type("gwfast healthcheck")[0] == 0
        until(can_be_asked, PATIENCE)

    def type(self, command: str) -> tuple[int, str]:
        """Run a line to its end: its exit status and what it wrote."""
        done = subprocess.run(["bash", "-c", command], cwd=self.folder, env=self.environment, stdin=subprocess.DEVNULL,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=PATIENCE)
        return done.returncode, done.stdout.decode("utf-8", "replace").replace("\0", "")

    def stop(self) -> None:
        """End what runs. SIGINT may be ignored: in the background of a shell it is."""
        for process in reversed(self.running):
            process.terminate()
        for place, process in enumerate(self.running):
            try:
                process.wait(PATIENCE)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
                raise
            assert process.returncode == 0 and "Traceback" not in (said := (self.folder / f"{place}.out").read_text()), said


def programs(folder: Path) -> None:
    """Make the programs that lines name, in bin/: they have the modules and the sanitizers' runtimes that this one has."""
    (folder / "bin").mkdir()
    preload = f"LD_PRELOAD={shlex.quote(os.environ['LD_PRELOAD'])} " if "LD_PRELOAD" in os.environ else ""
    for name, program in (("python", [sys.executable]), ("gwfast", PROGRAM)):
        (folder / "bin" / name).write_text(f'#!/bin/sh\n{preload}exec {shlex.join(program)} "$@"\n')
        (folder / "bin" / name).chmod(0o755)


def lines(readme: Path) -> list[tuple[str, str]]:
    """(command, what it writes) of every indented line."""
    found: list[tuple[str, str]] = []
    for line in readme.read_text().splitlines():
        if line.startswith("    #  "):
            found[-1] = (found[-1][0], line[7:])
        elif line.startswith("    "):
            found.append((line[4:], ""))
    return found
