"""docs/glossary.md: each word is there once for each thing, in the order of a table, says where it comes from, and is one that
a reader of gwfast/ meets."""
import re
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).parents[2]
ROWS = [[cell.strip() for cell in line.strip("|").split("|")] for line in (ROOT / "docs" / "glossary.md").read_text().splitlines()
        if line.startswith("|") and not line.startswith(("|---", "| Word"))]


def test_each_word_is_one_sentence_with_its_source():
    assert len(ROWS) > 50
    for row in ROWS:
        assert len(row) == 3 and all(row), row
        assert row[1][0].isupper() and row[1].endswith(".") and ". " not in row[1], row
    assert not [word for word, times in Counter(row[0] for row in ROWS).items() if times > 1]


def test_each_word_is_met_in_the_source():
    text = "\n".join(file.read_text().lower() for file in (ROOT / "gwfast").rglob("*.p*") if file.suffix in (".py", ".pyx", ".pxd"))
    words = [part for word, _, _ in ROWS for part in re.sub(r" \(.*\)", "", word).lower().split(", ")]
    spelt = {word: [word, word.replace(" ", ""), word.replace(" ", "_"), word.replace("-", "_")] for word in words}
    assert not [word for word, ways in spelt.items() if not any(way in text for way in ways)]
