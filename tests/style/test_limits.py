"""What compiled code has as a constant is the number that limits.py explains."""
import re
from pathlib import Path

import pytest

from gwfast import limits

GWFAST = Path(limits.__file__).parent
CONSTANT = re.compile(r"^ +(\w+) = (\d+) +# (?:.*\()?limits\.(\w+)", re.M)
FOUND = [(path.name, *found) for path in sorted(GWFAST.rglob("*.p[yx][xd]")) for found in CONSTANT.findall(path.read_text())]


@pytest.mark.parametrize(("file", "name", "value", "limit"), FOUND, ids=[f"{file}:{name}" for file, name, *_ in FOUND])
def test_a_constant_is_its_limit(file, name, value, limit):
    assert int(value) == getattr(limits, limit) * (1000 if name.endswith("_MS") else 1)


def test_there_are_constants():
    assert len(FOUND) >= 9
