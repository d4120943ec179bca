"""The units for systemd: systemd takes them, their sandbox is tight, and what the kernel enforces of it lets gwfast serve."""
import ctypes
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from gwfast import limits

ROOT = Path(__file__).parents[2]
UNITS = ROOT / "deploy/systemd"
ANALYZE = shutil.which("systemd-analyze")
EXPOSED = 20  # tenths of systemd's score from 0 to 10, below which it is OK; that of a unit without a sandbox is 96
needs_systemd = pytest.mark.skipif(not ANALYZE, reason="systemd-analyze is not here")
PR_SET_NO_NEW_PRIVS, PR_SET_MDWE, PR_MDWE_REFUSE_EXEC_GAIN = 38, 65, 1  # prctl.h: NoNewPrivileges=, MemoryDenyWriteExecute=


def version() -> int:
    return int(re.search(r"systemd (\d+)", subprocess.run([ANALYZE, "--version"], capture_output=True, text=True).stdout)[1])


@pytest.fixture
def units(tmp_path: Path) -> list[str]:
    """The units, with a program that is there; those of a systemd that does not know Type=notify-reload as they say themselves."""
    text = (UNITS / "gwfast.service").read_text().replace("/opt/gwfast/bin/gwfast", sys.executable)
    if version() < 253:
        text = text.replace("Type=notify-reload\n", "Type=notify\nExecReload=kill -HUP $MAINPID\n")
    (tmp_path / "gwfast.service").write_text(text)
    shutil.copy(UNITS / "gwfast.socket", tmp_path)
    return [str(tmp_path / name) for name in ("gwfast.service", "gwfast.socket")]


@needs_systemd
def test_systemd_takes_them(units: list[str]) -> None:
    done = subprocess.run([ANALYZE, "verify", "--man=no", *units], capture_output=True, text=True, timeout=60)
    assert (done.returncode, "".join(line for line in done.stderr.splitlines(True) if "gwfast" in line)) == (0, "")


@needs_systemd
def test_the_sandbox_is_tight(units: list[str]) -> None:
    if version() < 250:
        pytest.skip("this systemd-analyze scores no unit that is not loaded")
    done = subprocess.run([ANALYZE, "security", "--offline=true", f"--threshold={EXPOSED}", "--no-pager", units[0]],
                          capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout


def test_times_fit_together() -> None:
    """It is killed no sooner than it drains, and a watchdog that fires has had no answer for as long as a worker is given."""
    said = dict(re.findall(r"^(\w+)=(\d+)s$", (UNITS / "gwfast.service").read_text(), re.M))
    assert int(said["TimeoutStopSec"]) > limits.DRAIN_TIMEOUT + 2 and int(said["WatchdogSec"]) >= limits.WORKER_TIMEOUT


def confine() -> None:
    """In a process that will be a gateway: no new privileges, and no memory that may be written and executed."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    if libc.prctl(PR_SET_MDWE, PR_MDWE_REFUSE_EXEC_GAIN, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "this kernel has no PR_SET_MDWE")


def test_it_serves_over_tls_where_no_memory_may_be_written_and_executed(tmp_path: Path) -> None:
    """As MemoryDenyWriteExecute= has it: what calls Python from C, in OpenSSL's callbacks, must do without."""
    program = ("import ctypes, runpy, sys; from pathlib import Path; sys.path.insert(0, str(Path(sys.argv[1]).parent)); "
               "import test_units; test_units.confine(); sys.argv[1:] = sys.argv[2:]; runpy.run_module('gwfast', run_name='__main__', alter_sys=True)")
    try:
        subprocess.run([sys.executable, "-c", "import sys; sys.path.insert(0, sys.argv[1]); import test_units; test_units.confine()",
                        str(Path(__file__).parent)], check=True, capture_output=True, timeout=60)
    except subprocess.CalledProcessError:
        pytest.skip("this kernel has no PR_SET_MDWE")
    (tmp_path / "gwfast").write_text(f'#!/bin/sh\nexec {sys.executable} -c "{program}" {__file__} "$@"\n')
    (tmp_path / "gwfast").chmod(0o755)
    done = subprocess.run([sys.executable, "-m", "pytest", "tests/proxy/test_examples.py", "-k", "lines_do and (https or python-signer)"],
                          cwd=ROOT, env={**os.environ, "GWFAST_PROGRAM": str(tmp_path / "gwfast"), "PYTHONPATH": str(ROOT),
                                         "PYTEST_ADDOPTS": "-p no:cacheprovider"}, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
