"""Figures as people read them: for each case a table of contenders by measures, and the goals.

A cell is the median of the rounds; the spread is half of the distance from the lowest to the highest, in per cent of the
median. A ratio is the median of the ratios of each round, so that what disturbs a whole round falls out of it; ratios are
to gwfast: 1.25 is a quarter more than gwfast's.
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

    def ratios(self, case: str, measure: str, over: tuple[str, str], under: tuple[str, str]) -> list[float]:
        """For each round that has both: what (contender, point) `over` has, divided by what `under` has in that round."""
        found: dict[tuple[str, str], dict[int, float]] = {over: {}, under: {}}
        for each in self.figures:
            if each.case == case and each.measure == measure and (each.contender, each.point) in found:
                found[each.contender, each.point][each.round] = each.value
        return [value / found[under][turn] for turn, value in found[over].items() if found[under].get(turn)]


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
    lines = [f"{case}: {run.cases.get(case, '')}"]
    found = rows(run, case)
    widths = [max(map(len, column)) for column in zip(*found, strict=True)]
    for row in found:
        cells = [row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))]
        lines.append("  " + "  ".join(cells).rstrip())
    lines += [f"  {contender}: {note}" for contender, note in notes(run, case)]
    return "\n".join(lines)


def notes(run: Run, case: str) -> list[tuple[str, str]]:
    return unique((each.contender, each.note) for each in run.notes if each.case == case)


def rows(run: Run, case: str) -> list[list[str]]:
    """The cells of a case's table, its heading first; empty where nothing was measured."""
    run = msgspec.structs.replace(run, figures=[each for each in run.figures if each.case == case])
    if not run.figures:
        return []
    measures = unique((each.measure, each.unit) for each in run.figures)
    first, *rest = [f"{measure} {unit}".strip() for measure, unit in measures]
    found = [["", first, "spread", "ratio", *rest]]
    for point in unique(each.point for each in run.figures):
        for contender in unique(each.contender for each in run.figures if each.point == point):
            found.append(_row(run, case, point, contender, [measure for measure, _ in measures]))
    return found


def _row(run: Run, case: str, point: str, contender: str, measures: list[str]) -> list[str]:
    """The first measure with its spread and its ratio to gwfast's, then the medians of the others."""
    first = run.values(case, contender, measures[0], point)
    ratios = run.ratios(case, measures[0], (contender, point), ("gwfast", point))
    cells = [f"{contender} {point}".strip(), number(statistics.median(first)) if first else "-",
             f"{spread(first):.0f} %" if len(first) > 1 else "-", f"{statistics.median(ratios):.2f}" if ratios else "-"]
    for measure in measures[1:]:
        value = run.median(case, contender, measure, point)
        cells.append("-" if value is None else number(value))
    return cells


def facts(run: Run) -> str:
    """The machine, in one line."""
    machine = run.about["machine"]
    versions = ", ".join(f"{name} {version}".strip() for name, version in run.about["versions"].items())
    return (f"{machine['cpu']}{' (virtual)' if machine.get('virtual') else ''}, {machine['cores']} cores, "
            f"{machine.get('memory', 0) / 1024:.0f} GiB, Linux {machine['kernel']}, Python {machine['python']}, "
            f"load {machine['load']:.1f} at the start, {run.about['at']}\n{versions}")


def text(run: Run) -> str:
    """Everything."""
    return "\n\n".join([*(table(run, case) for case in run.cases), ending(run)])


def apart(run: Run, other: Run, share: float = 0.1) -> str:
    """Two runs: how many ratios there are, and which differ by more than this share."""
    mine, theirs = _all_ratios(run), _all_ratios(other)
    both = [key for key in mine if key in theirs]
    far = sorted((abs(mine[key] / theirs[key] - 1), key) for key in both)
    lines = [f"{' '.join(filter(None, key))}: {number(theirs[key])} and {number(mine[key])}, {off:.0%}"
             for off, key in far[::-1] if off > share]
    middle = statistics.median([off for off, _ in far]) if far else 0.0
    near = len(both) - len(lines)
    return "\n".join([f"{len(both)} ratios, {near} within {share:.0%}; half of them within {middle:.1%}", *lines])


def _all_ratios(run: Run) -> dict[tuple[str, str, str], float]:
    """The ratios of the tables, and the goals that are ratios, by case (or goal), contender and point."""
    from bench.goals import judged
    found = {(each.goal.about, "", ""): each.value for each in judged(run) if not each.goal.unit and each.value}
    for case, measure in {each.case: each.measure for each in reversed(run.figures)}.items():
        others = [each for each in run.figures if each.case == case and each.contender != "gwfast"]
        for who in unique((each.contender, each.point) for each in others):
            ratios = run.ratios(case, measure, who, ("gwfast", who[1]))
            if ratios and statistics.median(ratios):
                found[case, *who] = statistics.median(ratios)
    return found


def ending(run: Run) -> str:
    """The machine, and the goals."""
    from bench.goals import lines
    parts = [facts(run)]
    if goals := lines(run):
        parts.append("goals\n" + "\n".join(goals))
    return "\n\n".join(parts)
