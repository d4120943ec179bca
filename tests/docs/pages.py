"""A page, as a reader does what it says: files are written, commands are typed, and what is printed is compared.

In a page,

    ```yaml title="shop/gateway.yaml"     a file, which the reader writes, with this content; again: over the one that is there
    ```console                            lines that begin with `$ ` are typed; what follows, to the next, is what they print
    ```yaml, ```text, ```python           without a title: to look at; YAML has to be YAML

Rules: `...` in what is printed stands for anything within a line, and alone on a line for any lines. Nothing printed says nothing about
what is printed. A command that begins with `gwfast echo` or `gwfast run` is left running, and one that begins with `sleep` is typed again until it
prints what is said. Any other has to end with status 0, or, where `(exit status N)` is the last line, with that one.
"""
import re
from typing import NamedTuple

FENCE = re.compile(r"^```(\w+)(?: title=\"([^\"]+)\")?\n(.*?)^```$", re.M | re.S)
STATUS = re.compile(r"\(exit status (\d+)\)")


class Written(NamedTuple):
    path: str
    text: str


class Typed(NamedTuple):
    command: str
    printed: tuple[str, ...]
    status: int


class Shown(NamedTuple):
    language: str
    text: str


def steps(text: str) -> list[Written | Typed | Shown]:
    """Return what a reader of the page does, in its order."""
    found: list[Written | Typed | Shown] = []
    for language, title, body in FENCE.findall(text):
        if title:
            found.append(Written(title, body))
        elif language == "console":
            found += typed(body)
        else:
            found.append(Shown(language, body))
    return found


def typed(body: str) -> list[Typed]:
    """Return the commands of a block, each with what it prints."""
    found: list[tuple[str, list[str]]] = []
    goes_on = False
    for line in body.splitlines():
        if line.startswith("$ "):
            found.append((line[2:], []))
        elif goes_on:
            found[-1] = (f"{found[-1][0]}\n{line}", [])
        else:
            found[-1][1].append(line)
        goes_on = line.endswith("\\") and not found[-1][1]
    return [_with_status(command, printed) for command, printed in found]


def _with_status(command: str, printed: list[str]) -> Typed:
    if printed and (status := STATUS.fullmatch(printed[-1])):
        return Typed(command, tuple(printed[:-1]), int(status[1]))
    return Typed(command, tuple(printed), 0)


def is_printed(expected: tuple[str, ...], text: str) -> bool:
    """Say whether a text is what was expected."""
    lines = "".join(r"(?:.*\n)*" if line == "..." else ".*?".join(map(re.escape, line.rstrip().split("..."))) + r"[ \t\r]*\n"
                    for line in expected)
    return not expected or re.fullmatch(lines, text if text.endswith("\n") else text + "\n") is not None
