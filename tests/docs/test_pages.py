"""Every page is done as it is written, by a reader with an empty folder: tests/docs/pages.py says how, NOT_RUN what is left out."""
import re
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from not_run import NOT_RUN
from pages import Shown, Typed, Written, is_printed, steps
from support.network import listening, own_network
from support.terminals import PATIENCE, RUNNING, Terminals, programs

ROOT = Path(__file__).parents[2]
PAGES = sorted([*(ROOT / "docs").glob("*.md"), *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md", "deploy/README.md"))])
DONE = [page for page in PAGES if any(isinstance(step, Typed) for step in steps(page.read_text()))]
NEEDED = ("curl", "openssl")
KUBECTL = shutil.which("kubectl", path=f"{ROOT / 'build/cluster/bin'}:/usr/local/bin:/usr/bin")


def reason(command: str) -> str | None:
    """Return why a command is not run here; None: it is."""
    return next((why for pattern, why in NOT_RUN.items() if re.match(pattern, command)), None)


@pytest.fixture
def reader(tmp_path: Path) -> Iterator[Terminals]:
    """A reader in an empty folder, with gwfast and Python on the PATH, and a network of its own."""
    programs(tmp_path)
    folder = tmp_path / "empty"
    folder.mkdir()
    with own_network() as own:
        if not own:
            pytest.skip("no network of one's own is allowed here: the ports of the page may be taken")
        found = Terminals(tmp_path, None)
        found.folder = folder
        if KUBECTL:
            (tmp_path / "bin/kubectl").symlink_to(KUBECTL)
        try:
            yield found
        finally:
            found.stop()
        assert not listening()


@pytest.mark.parametrize("page", DONE, ids=lambda page: page.stem)
def test_the_page_does_what_it_says(reader: Terminals, page: Path) -> None:
    todo = steps(page.read_text())
    run = [step.command for step in todo if isinstance(step, Typed) and not reason(step.command)]
    for program in NEEDED:
        if any(re.search(rf"\b{program} ", command) for command in run) and shutil.which(program) is None:
            pytest.skip(f"{program} is not here")
    if any(command.startswith("kubectl") for command in run) and not KUBECTL:
        pytest.skip("kubectl is not here")
    for step in todo:
        if isinstance(step, Written):
            (reader.folder / step.path).parent.mkdir(parents=True, exist_ok=True)
            (reader.folder / step.path).write_text(step.text)
        elif isinstance(step, Typed) and not reason(step.command):
            type_in(reader, step)


def type_in(reader: Terminals, step: Typed) -> None:
    if RUNNING.match(step.command):
        reader.start(step.command)
        return
    end = time.monotonic() + (PATIENCE if step.command.startswith("sleep ") else 0)
    while True:
        status, text = reader.type(step.command)
        fine = status == step.status and is_printed(step.printed, text)
        if fine or time.monotonic() > end:
            break
    assert fine, f"$ {step.command}\n{chr(10).join(step.printed)}\n-- exit status {status}:\n{text}"


def test_what_is_shown_as_yaml_is_yaml() -> None:
    for page in PAGES:
        for step in steps(page.read_text()):
            text = step.text if isinstance(step, Shown | Written) else ""
            if text and (getattr(step, "language", "") == "yaml" or getattr(step, "path", "").endswith(".yaml")):
                assert all(document is not None for document in yaml.safe_load_all(text)), f"{page}: {text}"


def test_commands_are_in_blocks_that_are_typed() -> None:
    """A block of sh or bash, and indented lines, would not be."""
    wrong = [f"{page.name}: {line}" for page in PAGES for line in outside(page.read_text())]
    assert not wrong, "\n".join(wrong)


def outside(text: str) -> list[str]:
    rest = re.sub(r"^ *```.*?^ *```$", "", text, flags=re.M | re.S)
    indented = [line for line in re.findall(r"(?m)^ {4}(?! *[-*|]).*", rest) if not re.search(r"(?m)^[-*0-9]", rest) or line.startswith("    $")]
    return [*re.findall(r"(?m)^```(?:sh|bash|shell)\b.*", text), *indented]


def test_what_is_not_run_is_listed_and_met() -> None:
    commands = [step.command for page in PAGES for step in steps(page.read_text()) if isinstance(step, Typed)]
    assert not [pattern for pattern in NOT_RUN if not any(re.match(pattern, command) for command in commands)]


@pytest.mark.parametrize("expected, text, fine", [
    ((), "anything\n", True), (("a",), "a\n", True), (("a",), "a", True), (("a",), "b\n", False), (("a",), "a\nb\n", False),
    (("a", "..."), "a\nb\nc\n", True), (("...", "c"), "a\nb\nc\n", True), (("a...c",), "abbc\n", True), (("a...c",), "a\nc\n", False),
    (("a.c",), "abc\n", False),
])
def test_what_is_printed_is_compared(expected: tuple[str, ...], text: str, fine: bool) -> None:
    assert is_printed(expected, text) == fine


def test_a_block_is_typed_line_by_line() -> None:
    assert steps("```console\n$ a \\\n  b\nx\n$ c\n(exit status 2)\n```\n") == [Typed("a \\\n  b", ("x",), 0), Typed("c", (), 2)]
