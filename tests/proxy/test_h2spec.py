"""h2spec in strict mode against a whole gateway, in clear and over TLS: every case passes.

ci/h2spec puts the tool into build/tools; H2SPEC names another one.
"""
import os
import shutil
import subprocess
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest
from support.gateway import free_port, gateway, route, rule, service
from support.tls import HOST, ROOT, authority, https, plain_environment, secret

CASES = 146  # of its release 2.2.1; later ones have a few more
TOOL = os.environ.get("H2SPEC") or shutil.which("h2spec", path=f"{os.environ['PATH']}:{ROOT / 'build/tools'}")
pytestmark = pytest.mark.skipif(not TOOL, reason="h2spec is not here: ci/h2spec says why")


@pytest.fixture
def ports(run, backend) -> tuple[int, int]:
    """A gateway that serves the same in clear and over TLS."""
    made, clear, secure = backend(), free_port(), free_port()
    running = run(gateway(clear, https(secure)), secret(HOST, *authority().certificate(HOST, "localhost")),
                  service("one", made), route("all", rule("one")), options=("--access-log", "off"))
    assert running.get().status == 200
    return clear, secure


def failures(report: Path) -> tuple[int, list[str]]:
    """Count the cases of a JUnit report and name those that did not pass."""
    cases = [(suite, case) for suite in ElementTree.parse(report).iter("testsuite") for case in suite.iter("testcase")]
    bad = [f"{suite.get('name')}: {case.get('classname')}: {(''.join(child.itertext()) or child.get('message') or '').strip()}"
           for suite, case in cases for child in case if child.tag in ("failure", "error", "skipped")]
    return len(cases), bad


@pytest.mark.parametrize("tls", [False, True], ids=["clear", "tls"])
def test_every_case_passes(ports, tls: bool, tmp_path: Path) -> None:
    report = tmp_path / "report.xml"
    more = ["--tls", "--insecure"] if tls else []
    done = subprocess.run([TOOL, "--strict", "--host", "localhost", "--port", str(ports[tls]), "--path", "/", "--timeout", "3",
                           "--junit-report", str(report), *more], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=240,
                          env=plain_environment())
    assert report.exists(), done.stdout + done.stderr
    count, bad = failures(report)
    assert not bad, "\n".join(bad)
    assert count >= CASES and done.returncode == 0, done.stdout[-2000:]
