"""Figures as people read them: for each case a table of contenders by measures, and the goals.

A cell is the median of the rounds; the spread is half of the distance from the lowest to the highest, in per cent of the
median. Ratios are to gwfast: 1.25 is a quarter more than gwfast's.
"""
import statistics
from pathlib import Path
from typing import Any

import msgspec

from bench.stage import Figure, Note


class Run(msgspec.Struct, kw_only=True):
    about: dict[str, Any]
    cases: dict[str, str]
    figures: list[Figure] = []
    notes: list[Note] = []

    def median(self, case: str, contender: str, measure: str, point: str | None = None) -> float | None:
        """The median of the rounds; None where nothing was measured."""
        values = self.values(case, contender, measure, point)
        return statistics.median(values) if values else None

    def values(self, case: str, contender: str, measure: str, point: str | None = None) -> list[float]:
        return [each.value for each in self.figures if (each.case, each.contender, each.measure) == (case, contender, measure)
                and point in (None, each.point)]


def read(file: Path) -> Run:
    """Read the last run of what --json wrote, or several runs that follow one another as one. ValueError for another file."""
    found: Run | None = None
    for line in file.read_bytes().splitlines():
        data = msgspec.json.decode(line)
        if "about" in data:
            if found is None or found.about["machine"]["cpu"] != data["about"]["machine"]["cpu"]:
                found = Run(about=data["about"], cases={})
            fresh = data["cases"]
            found.figures = [each for each in found.figures if each.case not in fresh]
            found.notes = [each for each in found.notes if each.case not in fresh]
            found.cases |= fresh
            found.about["versions"] |= data["about"]["versions"]
        elif found is None:
            raise ValueError(f"{file} does not begin with a run's facts")
        elif "measure" in data:
            found.figures.append(msgspec.convert(data, Figure))
        else:
            found.notes.append(msgspec.convert(data, Note))
    if found is None:
        raise ValueError(f"{file} is empty")
    return found


def unique(values) -> list:
    return list(dict.fromkeys(values))


def spread(values: list[float]) -> float:
    """Half of the distance from the lowest to the highest, in per cent of the median."""
    middle = statistics.median(values)
    return (max(values) - min(values)) / 2 / middle * 100 if middle else 0.0


def number(value: float) -> str:
    """Three figures that count, and no more zeros than needed."""
    if value == int(value) or abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 100 else f"{value:.2f}" if abs(value) >= 1 else f"{value:.3f}"


def table(run: Run, case: str) -> str:
    """One case: a line for each contender and point."""
    figures = [each for each in run.figures if each.case == case]
    lines = [f"{case}: {run.cases.get(case, '')}"]
    if figures:
        measures = unique((each.measure, each.unit) for each in figures)
        rows = [_heading(measures)]
        for point in unique(each.point for each in figures):
            for contender in unique(each.contender for each in figures if each.point == point):
                rows.append(_row(run, case, point, contender, [measure for measure, _ in measures]))
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        for row in rows:
            cells = [row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))]
            lines.append("  " + "  ".join(cells).rstrip())
    lines += [f"  {each.contender}: {each.note}" for each in run.notes if each.case == case]
    return "\n".join(lines)


def _heading(measures: list[tuple[str, str]]) -> list[str]:
    first, *rest = [f"{measure} {unit}".strip() for measure, unit in measures]
    return ["", first, "spread", "ratio", *rest]


def _row(run: Run, case: str, point: str, contender: str, measures: list[str]) -> list[str]:
    """The first measure with its spread and its ratio to gwfast's, then the medians of the others."""
    first = run.values(case, contender, measures[0], point)
    base = run.median(case, "gwfast", measures[0], point)
    middle = statistics.median(first)
    ratio = f"{middle / base:.2f}" if base else "-"
    cells = [f"{contender} {point}".strip(), number(middle), f"{spread(first):.0f} %" if len(first) > 1 else "-", ratio]
    for measure in measures[1:]:
        value = run.median(case, contender, measure, point)
        cells.append("-" if value is None else number(value))
    return cells


def facts(run: Run) -> str:
    """The machine, in one line."""
    machine = run.about["machine"]
    versions = ", ".join(f"{name} {version}".strip() for name, version in run.about["versions"].items())
    return (f"{machine['cpu']}, {machine['cores']} cores, Linux {machine['kernel']}, Python {machine['python']}, "
            f"load {machine['load']:.1f} at the start, {run.about['at']}\n{versions}")


def text(run: Run) -> str:
    """Everything."""
    from bench.goals import lines
    parts = [facts(run), *(table(run, case) for case in run.cases)]
    if goals := lines(run):
        parts.append("goals\n" + "\n".join(goals))
    return "\n\n".join(parts)
