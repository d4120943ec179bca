"""Every verb and every kind of case of `python -m bench` runs to its end, in its smallest form.

What needs a program that is not here is skipped, by its name. Figures are not judged: they are those of a busy machine.
"""
import os
import shutil
import subprocess
import sys
from functools import partial
from pathlib import Path

import msgspec
import pytest
from support.tls import SANITIZED

from bench import kinds, readme, tools
from bench.cases import CASES
from bench.kinds import Case
from bench.run import NEEDED
from bench.scenes import paths
from bench.stage import Figure, Note, Options

pytestmark = pytest.mark.skipif(SANITIZED, reason="figures of a sanitized build say nothing, and valgrind cannot run one")
ROOT = Path(__file__).parents[2]
OPTIONS = Options(contenders=("gwfast",), rounds=1, seconds=0.1, connections=4, patience=120)
FEW = {"scene": partial(paths, 5)}
VERBS = {
    "tables": ["--routes", "20"],
    "count": ["pick of 2"],
    "upgrades": ["--upgrades", "1", "--requests", "100"],
}
SMALL: dict[str, tuple[str, dict]] = {  # by the name of a kind: one of its cases, and what makes that one small
    "Throughput": ("small", {}),
    "Latency": ("latency-3000", {"rate": 20}),
    "Late": ("late", {}),
    "Logged": ("json-log", {}),
    "Routes": ("path-100", {"count": 5}),
    "Handshakes": ("handshake-full", {}),
    "Volume": ("volume-down-clear", {"size": 1 << 20}),
    "Idle": ("idle-tls", {"connections": 5, "silent": 0.1}),
    "Start": ("start-1000", FEW),
    "Workers": ("workers-memory", {**FEW, "counts": (1, 2)}),
    "Change": ("change-5000", {**FEW, "budget": 60.0}),
    "Grow": ("grow", {"count": 2}),
    "Churn": ("churn-routes", FEW),
    "Killed": ("killed", {}),
}


def bench(*words: str, timeout: float = 300) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, "-m", "bench", *words], cwd=ROOT, capture_output=True, text=True, timeout=timeout,
                          env={**os.environ, "PYTHONPATH": str(ROOT)})


def test_each_verb_and_each_kind_is_run_here():
    assert {*VERBS, "cluster"} == set(tools.TOOLS)  # cluster: tests/cluster/test_bench_cluster.py
    used = {type(case).__name__ for case in CASES.values()}
    assert set(SMALL) == used == {name for name, one in vars(kinds).items() if isinstance(one, type) and issubclass(one, Case)
                                  and one is not Case}


@pytest.mark.parametrize("verb", VERBS)
def test_verb(verb, tmp_path):
    if verb == "count" and not shutil.which("valgrind"):
        pytest.skip("valgrind is not here")
    figures = tmp_path / "figures"
    done = bench(verb, *VERBS[verb], "--json", str(figures))
    assert done.returncode == 0, done.stdout + done.stderr
    lines = [msgspec.json.decode(line) for line in figures.read_bytes().splitlines()]
    assert lines and {line["bench"] for line in lines} == {verb}


@pytest.mark.parametrize("kind", SMALL)
def test_kind(kind):
    name, smaller = SMALL[kind]
    case = CASES[name]
    if kind == "Handshakes" and (needed := [package for package, there in NEEDED.items() if not there()]):
        pytest.skip(f"not here: {', '.join(needed)}")
    case = msgspec.structs.replace(case, **smaller).told(OPTIONS)
    found = list(case.run(OPTIONS))
    figures = [each for each in found if isinstance(each, Figure)]
    assert figures and {each.contender for each in figures} == {"gwfast"}, found
    assert not [each for each in found if isinstance(each, Note) and each.contender == "gwfast"], found


def test_cases_and_contenders_are_listed():
    done = bench("--list")
    assert done.returncode == 0, done.stderr
    assert {line.split()[0] for line in done.stdout.splitlines() if line} >= {*CASES, "gwfast", "nginx"}


def test_what_was_measured_is_shown_again(tmp_path):
    figures = tmp_path / "figures"
    done = bench("small", "--rounds", "1", "--seconds", "0.1", "--connections", "4", "--against", "", "--json", str(figures))
    assert done.returncode == 0 and "gwfast" in done.stdout, done.stdout + done.stderr
    again = bench("--from", str(figures))
    assert again.returncode == 0 and "CPU us/request" in again.stdout, again.stderr
    apart = bench("--from", str(figures), "--beside", str(figures))
    assert apart.returncode == 0, apart.stderr
    text = tmp_path / "README.md"
    text.write_text(f"{readme.BEGIN}\n{readme.END}\n")
    assert bench("--from", str(figures), "--readme", str(text)).returncode == 0 and "| **gwfast** | " in text.read_text()
    text.write_text("no marks")
    assert bench("--from", str(figures), "--readme", str(text)).returncode == 2


def test_a_program_that_is_none_is_said():
    done = bench("--program", "nginx=/there/is/none", "--list")
    assert done.returncode == 2 and "/there/is/none is no program" in done.stderr


def test_the_benchmarks_of_single_stages_run():
    done = subprocess.run([sys.executable, "-m", "pytest", "-q", "bench"], cwd=ROOT, timeout=300,
                          capture_output=True, text=True, env={**os.environ, "GWFAST_BENCH_ROUTES": "40", "PYTEST_ADDOPTS": ""})
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr
