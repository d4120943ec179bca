"""`python -m bench cluster` runs to its end, in its smallest form, on a cluster of its own."""
import os
import subprocess
import sys
from pathlib import Path

import binaries
import msgspec
import pytest

ROOT = Path(__file__).parents[2]


def test_cluster_mode_is_measured(tmp_path):
    if why := binaries.missing():
        pytest.skip(why)
    figures = tmp_path / "figures"
    done = subprocess.run(
        [sys.executable, "-m", "bench", "cluster", "one-process", "--routes", "3", "--rounds", "2", "--json", str(figures)],
        cwd=ROOT, capture_output=True, text=True, timeout=400, env={**os.environ, "PYTHONPATH": str(ROOT)})
    assert done.returncode == 0, done.stdout + done.stderr
    lines = [msgspec.json.decode(line) for line in figures.read_bytes().splitlines()]
    assert lines and {line["bench"] for line in lines} == {"cluster"}
