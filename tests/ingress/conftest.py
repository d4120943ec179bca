"""Subprocesses run the same tree as the tests, but for a program that is installed."""
import os
from pathlib import Path

if "GWFAST_PROGRAM" not in os.environ:
    os.environ["PYTHONPATH"] = str(Path(__file__).parents[2])
