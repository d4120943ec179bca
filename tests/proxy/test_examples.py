"""The examples: nothing is wrong in them, and the lines of their README.md do what is said behind them, as they are written.

In a README, indented lines that begin with `gwfast echo`, `gwfast run` or a program of the example are left running; every other
one is run to its end, and what follows `#  ` on the next line is in what it writes (of a number, no other digits beside it). One that begins
with `sleep` asks for what comes by itself: it is run again until it is there. Every test has a network of its own; where it
may not have one, ports are moved to free ones.
"""
import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.network import listening, own_network
from support.terminals import PATIENCE, RUNNING, Ports, Terminals, lines, programs
from support.tls import ROOT

EXAMPLES = ROOT / "examples"
FOLDERS = sorted(file.parent.name for file in EXAMPLES.glob("*/README.md"))


@pytest.fixture(scope="module")
def pattern(tmp_path_factory) -> Path:
    """The examples with certificates, made as their README.md says, and the programs that its lines name."""
    folder = tmp_path_factory.mktemp("examples")
    shutil.copytree(EXAMPLES, folder / "examples", ignore=shutil.ignore_patterns("certificates", "__pycache__"))
    programs(folder)
    [(make, _)] = lines(EXAMPLES / "README.md")
    status, text = Terminals(folder, None).type(make)
    assert status == 0, text
    return folder


@pytest.fixture
def terminals(pattern: Path, tmp_path: Path) -> Iterator[Terminals]:
    """Terminals in a folder with the examples; when all has ended, no port is taken."""
    folder = tmp_path / "project"
    shutil.copytree(pattern, folder)
    with own_network() as own:
        ports = None if own else Ports()
        for file in [*folder.rglob("*.yaml"), *folder.rglob("README.md")] if ports is not None else ():
            file.write_text(ports.moved(file.read_text()))
        with contextlib.ExitStack() as stack:
            found = Terminals(folder, ports)
            stack.callback(found.stop)
            yield found
        assert not own or not listening()


def test_every_folder_is_in_the_list() -> None:
    listed = re.findall(r"^\| \[([\w-]+)/\]", (EXAMPLES / "README.md").read_text(), re.M)
    assert sorted(listed) == sorted([*FOLDERS, "demo"])
    assert {folder.name for folder in EXAMPLES.iterdir() if any(folder.glob("*.yaml"))} - {"certificates"} == set(listed)


@pytest.mark.parametrize("name", FOLDERS)
def test_nothing_is_wrong(pattern: Path, name: str) -> None:
    terminals = Terminals(pattern, None)
    for command, _ in lines(EXAMPLES / name / "README.md"):
        if command.startswith("openssl req"):  # a certificate of this example's own
            assert (made := terminals.type(command))[0] == 0, made[1]
    status, text = terminals.type(f"gwfast check examples/{name} examples/certificates")
    assert status == 0 and "no problems" in text, text


@pytest.mark.parametrize("name", FOLDERS)
def test_the_lines_do_what_is_said(terminals: Terminals, name: str) -> None:
    typed = lines(terminals.folder / "examples" / name / "README.md")
    assert len(typed) >= 3 and sum(bool(written) for _, written in typed) >= 1
    for command, written in typed:
        if RUNNING.match(command):
            terminals.start(command)
            continue
        if "curl" in command and shutil.which("curl") is None:
            pytest.skip("curl is not here")
        end = time.monotonic() + (PATIENCE if command.startswith("sleep ") else 0)
        while True:
            status, text = terminals.type(command)
            shown = re.search(rf"(?<!\d){re.escape(written)}(?!\d)" if written.isdigit() else re.escape(written), text)
            if status == 0 and shown or time.monotonic() > end:
                break
        assert status == 0 and shown, f"{command}\n{written}\n-- {status}:\n{text}"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=["TERM", "INT"])
@pytest.mark.parametrize("command", [
    ["-m", "gwfast", "echo", "one=0"], ["-m", "gwfast", "echo", "--udp", "one=0"], ["examples/python-tokens/model.py", "0"],
    ["examples/external-auth-grpc/authorizer.py", "0"]], ids=["echo", "udp", "model", "authorizer"])
def test_backends_end_by_signals(command: list[str], number: int) -> None:
    """Also where SIGINT was ignored when they were started, as in the background of a shell: TERM ends them, with status 0."""
    ignored = number == signal.SIGTERM
    before = signal.signal(signal.SIGINT, signal.SIG_IGN) if ignored else None
    try:
        process = subprocess.Popen([sys.executable, *command], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                                   env={**os.environ, "PYTHONUNBUFFERED": "1"})
    finally:
        if ignored:
            signal.signal(signal.SIGINT, before)
    assert "listens on" in process.stdout.readline()
    process.send_signal(number)
    said, _ = process.communicate(timeout=PATIENCE)
    assert (process.returncode, said) == (0, "")
