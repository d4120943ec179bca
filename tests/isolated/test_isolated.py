"""What a process holds after much work is what it held before: each script here is one proof, in an interpreter of its own."""
import os
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
PATHS = (HERE.parents[1], HERE, HERE.parent, HERE.parent / "engine")

pytestmark = pytest.mark.skipif(os.environ.get("GWFAST_BUILD") == "asan", reason="the sanitizer's malloc counts nothing")


@pytest.mark.parametrize("script", sorted([*HERE.glob("leak_*.py"), *HERE.glob("bound_*.py")]), ids=lambda script: script.stem)
def test_script(script: Path) -> None:
    done = subprocess.run([sys.executable, "-W", "error", script], capture_output=True, text=True, timeout=300,
                          env={**os.environ, "PYTHONPATH": os.pathsep.join(map(str, PATHS)),
                               "PYTHONMALLOC": "malloc", "MALLOC_ARENA_MAX": "1",
                               "GLIBC_TUNABLES": "glibc.malloc.tcache_count=0"})
    assert done.returncode == 0, done.stdout + done.stderr
