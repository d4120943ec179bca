"""What people read: how long sentences are, and how long README is. tests/unit/test_bench_readme.py has its figures."""
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = [*sorted((ROOT / "docs").glob("*.md")), *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md", "deploy/README.md"))]
WORDS = 35
README = (ROOT / "README.md").read_text()


def sentences(text: str) -> list[str]:
    """Return the sentences of a page: its blocks, tables and headings are none."""
    text = re.sub(r"(?ms)^```.*?^```$|<!--.*?-->", "\n\n", text)
    text = re.sub(r"(?m)^(#|\||!\[).*$", "\n", text)
    text = re.sub(r"\]\([^)]*\)", "]", text)
    parts = re.split(r"\n\s*\n|\n(?=\s*(?:[-*]|\d+\.) )", text)
    return [" ".join(one.split()) for part in parts for one in re.split(r"(?<=[.:;?!])\**\s+", part) if one.strip()]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_sentences_are_short(page: Path) -> None:
    long = [one for one in sentences(page.read_text()) if len(re.findall(r"[\w`][^\s]*", one)) > WORDS]
    assert not long, "\n".join(long)


def test_a_long_sentence_is_found() -> None:
    assert [len(one.split()) for one in sentences("# Head\n\n" + "word " * 40 + "end.\n")] == [41]
    assert len(sentences("One is here. Two is `there`.\n\n- a\n- b\n")) == 4


def test_the_readme_is_one_page() -> None:
    assert len(README.splitlines()) < 120
