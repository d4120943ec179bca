"""What the tree must look like: linted, sized, complete, and free of what does not belong into it."""
import ast
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCES = sorted(f for folder in ("gwfast", "bench", "ci", "docs", "examples", "tests")
                 for f in (ROOT / folder).rglob("*") if f.suffix in (".py", ".pyx", ".pxd", ".pyi", ".c", ".h", ".sh", ".yaml"))
PRODUCT = [f for f in SOURCES if f.relative_to(ROOT).parts[0] in ("gwfast", "bench", "ci", "docs", "examples")]

FILE_LINES, FUNCTION_LINES = 500, 60
# What is longer, and why that is right.
LONG = {
    "gwfast/http1/connection.pyx": "one class: a client's connection, state by state",
    "gwfast/http2/connection.pyx": "one class: a client's connection, frame by frame",
    "gwfast/exchange/forwarding.pyx": "one class: a request and its response, phase by phase",
    "gwfast/http/header_writer.pyx": "what is written of a head, towards backends and towards clients",
    "gwfast/engine/loop.pyx": "the loop, what it turns, and the buffers of both",
    "gwfast/_match.pyx": "names, paths and candidates are one walk, and the table that can be asked walks it",
}

# Written in pieces, so that this file does not find itself.
FOREIGN = [r"/wo" r"rk/", r"/tmp/" r"gw", r"/ho" r"me/", r"/ro" r"ot/", r"py" r"pi\.org", r"npm" r"js\.org", r"\.lib" r"rary/"]
UNFINISHED = [r"\bTO" r"DO\b", r"\bFIX" r"ME\b", r"\bXX" r"X\b", r"NotImplemented" r"Error", r"\bfor " r"now\b"]


def name(file: Path) -> str:
    return str(file.relative_to(ROOT))


def found(patterns: list[str], files: list[Path]) -> list[str]:
    pattern = re.compile("|".join(patterns))
    return [f"{name(file)}:{n}: {line.strip()}" for file in files
            for n, line in enumerate(file.read_text(errors="replace").splitlines(), 1) if pattern.search(line)]


def documents() -> list[Path]:
    return [f for f in ROOT.iterdir() if f.suffix in (".md", ".toml", ".txt", ".py") or f.name in ("Makefile", "Dockerfile")]


def test_nothing_of_a_machine_or_a_registry() -> None:
    assert not (lines := found(FOREIGN, [*SOURCES, *documents()])), "\n".join(lines)


def test_nothing_is_unfinished_by_its_own_words() -> None:
    assert not (lines := found(UNFINISHED, PRODUCT)), "\n".join(lines)


def test_files_are_short() -> None:
    sizes = {name(file): len(file.read_text().splitlines()) for file in PRODUCT if file.suffix in (".py", ".pyx", ".pxd")}
    long = {file: n for file, n in sizes.items() if n > FILE_LINES and file not in LONG}
    assert not long, long


def functions(file: Path) -> list[tuple[str, int]]:
    """(name, lines) of each function, of Cython files by their indentation."""
    if file.suffix == ".py":
        nodes = ast.walk(ast.parse(file.read_text()))
        return [(n.name, n.end_lineno - n.lineno + 1) for n in nodes if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef)]
    found, start, last = [], None, 0
    for n, line in enumerate([*file.read_text().splitlines(), "end"], 1):
        indent = len(line) - len(line.lstrip())
        if start and line.strip() and indent <= start[2] and not line.lstrip().startswith((")", "#")):
            found.append((start[0], last - start[1] + 1))
            start = None
        if match := re.match(r"\s*(?:async )?(?:def|cdef|cpdef)\b[^=]*?\b(\w+)\([^=]*(?::|,|\()\s*$", line):
            start = (match[1], n, indent)
        if line.strip():
            last = n
    return found


def test_functions_are_short() -> None:
    long = {f"{name(file)}:{function}": n for file in PRODUCT if file.suffix in (".py", ".pyx")
            for function, n in functions(file) if n > FUNCTION_LINES and f"{name(file)}:{function}" not in LONG}
    assert not long, long


def python_types() -> str:
    """Return types with which a cdef needs no word: NULL says that there was an exception."""
    classes = [c for f in PRODUCT if f.suffix in (".pyx", ".pxd") for c in re.findall(r"^\s*cdef class (\w+)", f.read_text(), re.M)]
    return "|".join(["object", "bytes", "str", "list", "dict", "tuple", "set", "frozenset", "bytearray", *classes])


def test_every_cdef_says_noexcept_or_except() -> None:
    """Leaving it out costs a check of the exception state on every call, or swallows what was raised."""
    wrong, own = [], python_types()
    for file in PRODUCT:
        if file.suffix in (".pyx", ".pxd"):
            text = re.sub(r"#[^\n]*", "", file.read_text())
            joined = re.sub(r"\(([^()]*)\)", lambda m: "(" + m[1].replace("\n", " ") + ")", text)
            for line in joined.splitlines():
                match = re.match(r"\s*cp?def\s+(?!class|struct|enum|union|extern|packed|public)(?:inline\s+)?([^=(]*?)\b\w+\(", line)
                if match and not re.search(r"\bnoexcept\b|\bexcept\b", line) and "=" not in line.partition("(")[0] \
                        and not re.fullmatch(own, match[1].strip()):
                    wrong.append(f"{name(file)}: {line.strip()}")
    assert not wrong, "\n".join(wrong)


def test_lengths_beside_literals_are_right() -> None:
    """`put(out, b"literal", 7)`: a length that is wrong sends a NUL, or less than was meant."""
    literal = re.compile(r"""(b"(?:[^"\\\n]|\\.)*"|b'(?:[^'\\\n]|\\.)*'),\s*(\d+)\b""")
    checked = [(name(file), m[1], int(m[2])) for file in PRODUCT if file.suffix == ".pyx" for m in literal.finditer(file.read_text())]
    assert len(checked) > 20
    assert not [(*c, len(ast.literal_eval(c[1]))) for c in checked if len(ast.literal_eval(c[1])) != c[2]]


@pytest.mark.parametrize("file", ["README.md", "CHANGELOG.md", "LICENSE", "Makefile", "Dockerfile", "constraints.txt", "ci/run", ".ci/run"])
def test_is_there(file: str) -> None:
    assert (ROOT / file).stat().st_size > 0


def test_scripts_can_be_run() -> None:
    scripts = [f for folder in ("ci", ".ci") for f in (ROOT / folder).iterdir() if f.is_file() and not f.suffix]
    assert not [name(f) for f in scripts if not os.access(f, os.X_OK) or not f.read_text().startswith("#!")]


def test_constraints_pin_what_is_installed() -> None:
    """Every requirement of pyproject.toml has its exact version in constraints.txt."""
    import tomllib
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    wanted = [*project["build-system"]["requires"], *project["project"]["dependencies"],
              *project["project"]["optional-dependencies"]["test"]]
    pinned = dict(line.split("==") for line in (ROOT / "constraints.txt").read_text().splitlines() if "==" in line)
    missing = [w for w in wanted if re.split(r"[<>=!~\[]", w)[0].lower() not in pinned]
    assert not missing


def test_lint() -> None:
    done = subprocess.run([ROOT / "ci" / "style"], capture_output=True, text=True,
                          env={**os.environ, "GWFAST_BIN": str(Path(sys.executable).parent)})
    assert done.returncode == 0, done.stdout + done.stderr
