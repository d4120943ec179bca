"""Modules of tests are imported by their base name: two of one name cannot be run together."""
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_no_two_modules_of_tests_have_one_name():
    names = Counter(path.name for folder in ("tests", "bench") for path in (ROOT / folder).rglob("test_*.py"))
    assert not [name for name, times in names.items() if times > 1]
