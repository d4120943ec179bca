"""The stubs beside the compiled modules say what those are: kept by hand, compared by mypy's stubtest."""
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
STUBS = sorted((ROOT / "gwfast").rglob("*.pyi"))


def module(file: Path) -> str:
    return ".".join(file.relative_to(ROOT).with_suffix("").parts)



def test_every_module_with_a_door_for_python_has_a_stub() -> None:
    compiled = {module(f): f for f in (ROOT / "gwfast").rglob("*.pyx")}
    doors = {name for name, f in compiled.items() if re.search(r"^def ", f.read_text(), re.M)}
    named = {name for folder in ("gwfast", "bench", "tests") for f in (ROOT / folder).rglob("*.py")
             for name in re.findall(r"^\s*from (gwfast[\w.]*) import", f.read_text(), re.M)}
    assert doors | named & compiled.keys() == {module(f) for f in STUBS}


@pytest.mark.skipif(os.environ.get("GWFAST_BUILD", "release") != "release", reason="signatures are the release's")
def test_stubs_say_what_is_there(tmp_path: Path) -> None:
    alone = tmp_path / "mypy.ini"  # ours would follow imports, and read all of gwfast/ once more
    alone.write_text("[mypy]\npython_version = 3.11\nfollow_imports = skip\n")
    done = subprocess.run([sys.executable, "-m", "mypy.stubtest", *map(module, STUBS),
                           "--mypy-config-file", str(alone), "--allowlist", "tests/style/unstubbed.txt",
                           "--ignore-unused-allowlist", "--concise"],
                          cwd=ROOT, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": str(ROOT)})
    assert done.returncode == 0, done.stdout + done.stderr
