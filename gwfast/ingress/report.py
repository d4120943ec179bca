"""What became of everything that was written: entries, differences, and how they are printed.

    Entry       one annotation, one line of a snippet, one option of a ConfigMap, one path: an outcome, words, file and line
    Difference  what the output does otherwise without anybody having written it: a default of nginx, a quirk that --clean
    leaves out

Rules:
- Nothing that was read goes without an entry. What is said of one annotation by several of its Ingress's locations is one
  entry: the worst outcome, and all words.
- The exit status is that of the worst entry: 0 nothing is lost, 1 something is reduced, 2 something is lost or was not read.
- json is for programs, and has all that the others have; text, markdown and html are for people.
"""
import html
import json
from collections.abc import Iterable, Sequence
from typing import Any

from msgspec import Struct, field

from gwfast.errors import Problem, Source
from gwfast.ingress.annotations.table import Outcome, Said

FORMATS = ("text", "json", "markdown", "html")
WORST_FIRST = (Outcome.LOST, Outcome.REDUCED, Outcome.CONVERTED, Outcome.NOT_NEEDED)
SHOWN = 70  # characters of a value in a line for people


class Entry(Struct):
    """What became of one thing. `resource` is 'Kind namespace/name', `key` an annotation, an option or a field, `value` its
    text."""

    source: Source
    resource: str
    key: str
    value: str
    outcome: Outcome
    words: list[str] = field(default_factory=list)

    def add(self, said: Said) -> None:
        """Take in what is said of it once more."""
        if said.outcome.rank > self.outcome.rank:
            self.outcome = said.outcome
        if said.words and said.words not in self.words:
            self.words.append(said.words)


class Difference(Struct, frozen=True):
    """What the output does otherwise. `of` names the host or the object; '': all of it."""

    of: str
    words: str
    source: Source = Source("", 0)


class Report(Struct):
    entries: dict[tuple[str, str, int], Entry] = field(default_factory=dict)
    differences: list[Difference] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    skipped: list[Difference] = field(default_factory=list)  # Ingresses of other classes

    def say(self, source: Source, resource: str, key: str, value: str, said: Said, line: int = -1) -> None:
        """Say what became of something; `line` tells lines of one text from each other."""
        place = resource, key, line
        known = self.entries.get(place)
        if known is None:
            known = self.entries[place] = Entry(source, resource, key, value, said.outcome)
        known.add(said)

    def differ(self, of: str, words: str, source: Source = Source("", 0)) -> None:
        difference = Difference(of, words, source)
        if difference not in self.differences:
            self.differences.append(difference)

    def counts(self) -> dict[Outcome, int]:
        """Return how many entries there are of each outcome; lines of snippets are in their annotation's."""
        whole = [entry.outcome for (_, _, line), entry in self.entries.items() if line < 0]
        return {outcome: whole.count(outcome) for outcome in WORST_FIRST}

    @property
    def status(self) -> int:
        """The exit status."""
        outcomes = {entry.outcome for entry in self.entries.values()}
        if Outcome.LOST in outcomes or any(each.severity == "error" for each in self.problems):
            return 2
        return 1 if Outcome.REDUCED in outcomes else 0

    def ordered(self) -> list[Entry]:
        """Return the entries, the worst first, then by file and line."""
        return sorted(self.entries.values(), key=lambda one: (-one.outcome.rank, one.source.file, one.source.line, one.key))


def render(report: Report, how: str) -> str:
    """Return a report as text, json, markdown or html."""
    return {"text": _text, "json": _json, "markdown": _markdown, "html": _html}[how](report)


def _value(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= SHOWN else text[:SHOWN - 3] + "..."


def _count(report: Report) -> str:
    return ", ".join(f"{count} {outcome}" for outcome, count in report.counts().items())


def _text(report: Report) -> str:
    lines = [str(each) for each in report.problems]
    for one in report.ordered():
        said = f": {'; '.join(one.words)}" if one.words else ""
        lines.append(f"{one.source}: {one.outcome}: {one.resource} {one.key}: {_value(one.value)}{said}")
    lines += [f"{one.source}: skipped: {one.of}: {one.words}" for one in report.skipped]
    if report.differences:
        lines += ["", "What differs without an annotation:"]
        lines += [f"  {one.of + ': ' if one.of else ''}{one.words}" for one in report.differences]
    return "\n".join([*lines, "", _count(report)]).lstrip("\n") + "\n"


def data(report: Report) -> dict[str, Any]:
    """Return a report as plain data."""
    return {
        "status": report.status,
        "counts": {str(outcome): count for outcome, count in report.counts().items()},
        "entries": [
            {
                "file": one.source.file,
                "line": one.source.line,
                "outcome": str(one.outcome),
                "resource": one.resource,
                "key": one.key,
                "value": one.value,
                "words": one.words,
            }
            for one in report.ordered()
        ],
        "differences": [{"of": one.of, "words": one.words} for one in report.differences],
        "skipped": [
            {"file": one.source.file, "line": one.source.line, "of": one.of, "words": one.words} for one in report.skipped
        ],
        "problems": [
            {
                "file": one.source.file,
                "line": one.source.line,
                "severity": one.severity,
                "resource": one.resource,
                "field": one.field,
                "message": one.message,
            }
            for one in report.problems
        ],
    }


def _json(report: Report) -> str:
    return json.dumps(data(report), indent=2, ensure_ascii=False) + "\n"


def _rows(report: Report) -> Iterable[Sequence[str]]:
    for one in report.ordered():
        yield str(one.outcome), str(one.source), one.resource, one.key, _value(one.value), "; ".join(one.words)


HEAD = ("outcome", "where", "object", "key", "value", "how")


def _markdown(report: Report) -> str:
    def row(cells: Iterable[str]) -> str:
        return "| " + " | ".join(each.replace("\\", "\\\\").replace("|", "\\|") for each in cells) + " |"
    lines = ["# From ingress-nginx to Gateway API", "", _count(report), "", row(HEAD), "|" + "---|" * len(HEAD)]
    lines += map(row, _rows(report))
    if report.differences:
        lines += ["", "## What differs without an annotation", ""]
        lines += [f"- {one.of + ': ' if one.of else ''}{one.words}" for one in report.differences]
    lines += ["", *(f"- {one}" for one in report.problems)] if report.problems else []
    lines += ["", *(f"- {one.source}: skipped: {one.of}: {one.words}" for one in report.skipped)] if report.skipped else []
    return "\n".join(lines) + "\n"


_STYLE = ("body{font:14px sans-serif;margin:2em}table{border-collapse:collapse}td,th{border:1px solid #ccc;padding:4px 8px;"
          "text-align:left;vertical-align:top}.lost{background:#fdd}.reduced{background:#fed}.converted{background:#dfd}")


def _html(report: Report) -> str:
    def row(cells: Sequence[str], tag: str = "td") -> str:
        kind = html.escape(cells[0].replace(" ", "-"), quote=True)
        return f"<tr class=\"{kind}\">" + "".join(f"<{tag}>{html.escape(each)}</{tag}>" for each in cells) + "</tr>"

    parts = [
        "<!doctype html>",
        '<meta charset="utf-8">',
        "<title>From ingress-nginx to Gateway API</title>",
        f"<style>{_STYLE}</style>",
        "<h1>From ingress-nginx to Gateway API</h1>",
        f"<p>{html.escape(_count(report))}</p>",
        "<table>",
        row(HEAD, "th"),
    ]
    parts += [row(tuple(cells)) for cells in _rows(report)] + ["</table>"]
    lists = (
        (
            "What differs without an annotation",
            [f"{one.of + ': ' if one.of else ''}{one.words}" for one in report.differences],
        ),
        ("Problems", [str(one) for one in report.problems]),
        ("Skipped", [f"{one.source}: {one.of}: {one.words}" for one in report.skipped]),
    )
    for title, items in lists:
        if items:
            parts += [f"<h2>{title}</h2>", "<ul>", *(f"<li>{html.escape(one)}</li>" for one in items), "</ul>"]
    return "\n".join(parts) + "\n"
