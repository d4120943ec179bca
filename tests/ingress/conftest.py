"""The gateways, backends and certificates of tests/proxy, for tests that serve what was converted."""
import os
import sys
from pathlib import Path

TESTS = Path(__file__).parents[1]
sys.path.append(str(TESTS / "proxy"))
if "GWFAST_PROGRAM" not in os.environ:
    os.environ["PYTHONPATH"] = str(TESTS.parent)
