"""The examples: nothing is wrong in them, and the lines of their README.md do what is said behind them.

In a README, indented lines that begin with `gwfast echo` or `gwfast run` are left running; every other one is run by bash, and
what follows `#  ` on the next line is in what it writes. Ports are moved to free ones.
"""
import contextlib
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from proxy_gateway import PROGRAM, Gateway, free_port, until
from proxy_tls import ROOT, make, plain_environment

EXAMPLES = ROOT / "examples"
FOLDERS = sorted(file.parent.name for file in EXAMPLES.glob("*/README.md"))
PORT = re.compile(r"(?<![\w.])(?:30\d\d|3443|80[0-8]\d|8443|9443|9000)(?!\w)")


class Ports(dict):
    """Free ports in the place of those that are written."""

    def __missing__(self, written: str) -> str:
        self[written] = str(free_port())
        return self[written]

    def moved(self, text: str) -> str:
        return PORT.sub(lambda found: self[found[0]], text)


@pytest.fixture
def copied(tmp_path: Path) -> tuple[Path, Ports]:
    """The examples in a folder of their own, on other ports, with certificates."""
    ports = Ports()
    shutil.copytree(EXAMPLES, tmp_path / "examples", ignore=shutil.ignore_patterns("certificates", "__pycache__"))
    for file in [*tmp_path.rglob("*.yaml"), *tmp_path.rglob("README.md")]:
        file.write_text(ports.moved(file.read_text()))
    make(tmp_path / "examples/certificates")
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/python").write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')   # with the modules that this one has
    (tmp_path / "bin/python").chmod(0o755)
    return tmp_path, ports


def lines(readme: Path) -> list[tuple[str, str]]:
    """(command, what it writes) of every indented line."""
    found: list[tuple[str, str]] = []
    for line in readme.read_text().splitlines():
        if line.startswith("    #  "):
            found[-1] = (found[-1][0], line[7:])
        elif line.startswith("    "):
            found.append((line[4:], ""))
    return found


class Echo:
    """A `gwfast echo` of a README."""

    def __init__(self, command: list[str], folder: Path) -> None:
        self.process = subprocess.Popen([*PROGRAM, *command[1:]], cwd=folder, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                        text=True)
        for _ in [word for word in command if "=" in word]:
            assert "listens on" in self.process.stdout.readline()

    def stop(self) -> None:
        self.process.terminate()      # SIGINT may be ignored: in the background of a shell it is
        self.process.wait(10)
        self.process.stdout.close()


class Run(Gateway):
    """A `gwfast run` of a README."""

    def __init__(self, command: list[str], folder: Path, admin: str) -> None:
        self.folder, self.ended, self.admin = folder, False, int(admin)
        self.out, self.err = folder / "gateway.out", folder / "gateway.err"
        with self.out.open("wb") as out, self.err.open("wb") as err:
            self.process = subprocess.Popen([*PROGRAM, *command[1:], "--admin", f"127.0.0.1:{admin}", "--workers", "1",
                                             "--drain-timeout", "2s"],
                                            cwd=folder, stdin=subprocess.DEVNULL, stdout=out, stderr=err)
        until(self.ready, 15)


@pytest.fixture
def started(copied) -> Iterator:
    """Start what a README's line starts."""
    folder, ports = copied
    with contextlib.ExitStack() as stack:
        def start(command: str) -> None:
            words = shlex.split(command)
            one = Echo(words, folder) if words[1] == "echo" else Run(words, folder, ports["9000"])
            stack.callback(one.stop)
        yield start


def test_every_folder_is_in_the_list() -> None:
    listed = re.findall(r"^\| \[([\w-]+)/\]", (EXAMPLES / "README.md").read_text(), re.M)
    assert sorted(listed) == sorted([*FOLDERS, "demo"])
    assert {folder.name for folder in EXAMPLES.iterdir() if any(folder.glob("*.yaml"))} - {"certificates"} == set(listed)


@pytest.mark.parametrize("name", FOLDERS)
def test_nothing_is_wrong(copied, name: str) -> None:
    done = subprocess.run([*PROGRAM, "check", f"examples/{name}", "examples/certificates"], cwd=copied[0], capture_output=True,
                          text=True, timeout=60)
    assert done.returncode == 0 and "no problems" in done.stdout, done.stdout + done.stderr


@pytest.mark.parametrize("name", FOLDERS)
def test_the_lines_do_what_is_said(copied, started, name: str) -> None:
    folder, _ = copied
    run = lines(folder / "examples" / name / "README.md")
    assert len(run) >= 3 and sum(bool(written) for _, written in run) >= 1
    environment = plain_environment(PATH=f"{folder / 'bin'}:{os.environ['PATH']}")
    for command, written in run:
        if command.startswith(("gwfast echo", "gwfast run")):
            started(command)
            continue
        if shutil.which(tool := command.split()[0]) is None and tool == "curl":
            pytest.skip("curl is not here")
        done = subprocess.run(["bash", "-c", command], cwd=folder, env=environment, stdin=subprocess.DEVNULL,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=15)
        text = done.stdout.decode("utf-8", "replace").replace("\0", "")
        assert done.returncode == 0 and written in text, f"{command}\n{written}\n-- {done.returncode}:\n{text}"
