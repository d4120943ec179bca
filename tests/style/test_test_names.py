"""Modules of tests are imported by their base name: two of one name cannot be run together."""
import ast
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_no_two_modules_of_tests_have_one_name():
    names = Counter(path.name for folder in ("tests", "bench") for path in (ROOT / folder).rglob("test_*.py"))
    assert not [name for name, times in names.items() if times > 1]


def test_no_test_imports_another_tests_module():
    """What two of them share is in tests/support. Seeds of a fuzzer are what the tests try."""
    found = [f"{path.relative_to(ROOT)}: {line.strip()}" for path in (ROOT / "tests").rglob("*.py") if path.parent.name != "fuzz"
             for line in path.read_text().splitlines() if line.lstrip().startswith(("from test_", "import test_"))]
    assert not found


def test_no_test_sleeps_until_something_has_happened():
    """It waits for that (support.waiting.until). Where time itself is what is tried, elapse() says so."""
    found = []
    for path in (ROOT / "tests").rglob("test_*.py"):
        calls = (node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call))
        found += [f"{path.relative_to(ROOT)}:{call.lineno}" for call in calls if ast.unparse(call.func) in ("time.sleep", "sleep")]
    assert not found
