"""The report's plots, drawn by matplotlib as SVG in the colours of the page (light or dark)."""
import io
import math
import statistics
from collections.abc import Callable

from bench.cases import CASES
from bench.kinds import Change, Churn, Grow, Handshakes, Idle, Killed, Latency, Routes, Start, Throughput, Volume
from bench.report import Run, number, unique

INK = "#010203"  # a colour that nothing else has: 'currentColor' takes its place
COLOURS = {"gwfast": "#12a150", "floor": "#9aa0a6", "nginx": "#3b82d6", "haproxy": "#9b6bd3", "envoy": "#d97b1c",
           "caddy": "#cf4a85", "nghttpx": "#8a9a1d", "h2o": "#1da3a3"}
OTHER = "#8393a8"
Rounds = Callable[[str, str], list[float]]  # of a contender and a point


def plot(run: Run, case: str) -> str:
    """The plot of one case, as its kind wants it; '' where a table says as much."""
    kind = type(CASES.get(case))
    if not any(each.case == case for each in run.figures) or kind is Routes:
        return ""
    if kind is Latency:
        return percentiles(run, case)
    if kind is Churn:
        return bars(run, case, [("p99 quiet", "us"), ("p99 changing", "us"), ("errors", "")], log=True)
    wanted = {Throughput: ["CPU", "rate"], Handshakes: ["CPU", "rate"], Volume: ["CPU", "rate"], Idle: ["memory", "CPU"],
              Start: ["start", "memory"], Change: ["live after"], Grow: ["mean", "max", "wrong"],
              Killed: ["errors", "asked again after"]}.get(kind)
    units = {each.measure: each.unit for each in run.figures if each.case == case}
    measures = [(name, units[name]) for name in wanted or list(units)[:3] if name in units]
    return bars(run, case, measures, log=kind in (Change, Grow, Idle)) if measures else ""


def bars(run: Run, case: str, measures: list[tuple[str, str]], log: bool = False) -> str:
    """A panel for each measure, a bar for each contender and point; the floor's CPU is a line through the others."""
    pyplot = _pyplot()
    who = unique((each.contender, each.point) for each in run.figures if each.case == case)
    figure, axes = pyplot.subplots(1, len(measures), figsize=(9.6, 0.27 * len(who) + 0.75), sharey=True, squeeze=False)
    for axis, (measure, unit) in zip(axes[0], measures, strict=True):
        for place, (contender, point) in enumerate(who):
            _bar(axis, place, contender, run.values(case, contender, measure, point))
        floor = run.median(case, "floor", measure)
        if floor and measure == "CPU":
            axis.axvline(floor, color=COLOURS["floor"], linewidth=1, linestyle="--", zorder=0)
        values = [value for each in who for value in run.values(case, each[0], measure, each[1])]
        by_tens = log and min(values, default=0) > 0
        if by_tens:
            axis.set_xscale("log")
            axis.set_xlim(10 ** math.floor(math.log10(min(values) / 2)), max(values) * 4)
        else:
            axis.set_xlim(0, max(values, default=0) * 1.22 or 1)
        axis.set_title(_label(measure, unit, by_tens), fontsize=9, loc="left")
        axis.tick_params(left=False, labelsize=8)
    axes[0][0].set_yticks(range(len(who)), [f"{contender} {point}".strip() for contender, point in who], fontsize=9)
    axes[0][0].invert_yaxis()
    return _svg(figure)


def _bar(axis, place: int, contender: str, values: list[float]) -> None:
    """The median, a line from the lowest round to the highest, and the figure."""
    if not values:
        return
    middle = statistics.median(values)
    axis.barh(place, middle, color=COLOURS.get(contender, OTHER), height=0.68)
    if len(values) > 1:
        axis.plot([min(values), max(values)], [place, place], color=INK, linewidth=1.2)
    axis.annotate(number(middle), (max(values), place), xytext=(4, 0), textcoords="offset points", va="center", fontsize=8)


def percentiles(run: Run, case: str) -> str:
    """A line for each contender: p50 and the p99s, on a log scale; names stand at the ends, clear of each other."""
    names = ["p50", "p99", "p99 of all", "p99.9 of all"]
    lines = {who: [run.median(case, who, name) for name in names]
             for who in unique(each.contender for each in run.figures if each.case == case)}
    return _lines(lines, range(4), names, "microseconds", (7.0, 3.6))


def scaling(run: Run, cases: list[str]) -> str:
    """CPU per request of the last route by their number, a panel for each key."""
    found = [case for case in cases if isinstance(CASES.get(case), Routes) and any(each.case == case for each in run.figures)]
    keys = unique(case.rpartition("-")[0] for case in found)
    if not keys:
        return ""
    pyplot = _pyplot()
    figure, axes = pyplot.subplots(1, len(keys), figsize=(9.6, 4.0), sharey=True, squeeze=False)
    for axis, key in zip(axes[0], keys, strict=True):
        mine = [case for case in found if case.rpartition("-")[0] == key]
        for who in unique(each.contender for each in run.figures if each.case in mine):
            points = {1: [value for case in mine for value in run.values(case, who, "CPU", "one")]}
            points |= {CASES[case].count: run.values(case, who, "CPU", "last") for case in mine}
            at = [(count, statistics.median(values)) for count, values in sorted(points.items()) if values]
            axis.plot(*zip(*at, strict=True), color=COLOURS.get(who, OTHER), marker="o", markersize=3,
                      linewidth=2.6 if who == "gwfast" else 1.4, label=who)
        axis.set(xscale="log", yscale="log")
        axis.set_title(f"by {key}: CPU of the last, us/request", fontsize=9, loc="left")
        axis.set_xlabel("routes", fontsize=9)
        axis.grid(axis="y", color=OTHER, alpha=0.25, linewidth=0.6)
        axis.tick_params(labelsize=8)
    handles = {label: handle for axis in axes[0] for handle, label in zip(*axis.get_legend_handles_labels(), strict=True)}
    figure.legend(handles.values(), handles.keys(), loc="upper center", ncols=len(handles), frameon=False, fontsize=9)
    return _svg(figure, top=0.93)


def _lines(lines: dict[str, list[float | None]], at, names: list[str], unit: str, size: tuple[float, float]) -> str:
    pyplot = _pyplot()
    figure, axis = pyplot.subplots(figsize=size)
    for who, values in lines.items():
        axis.plot(at, values, color=COLOURS.get(who, OTHER), marker="o", markersize=4,
                  linewidth=2.6 if who == "gwfast" else 1.4, label=who)
    axis.set_yscale("log")
    axis.set_xticks(list(at), names)
    axis.set_title(f"{unit}, log scale", fontsize=9, loc="left")
    axis.grid(axis="y", color=OTHER, alpha=0.25, linewidth=0.6)
    axis.tick_params(labelsize=8)
    axis.legend(frameon=False, fontsize=9, loc="center left", bbox_to_anchor=(1.0, 0.5))
    return _svg(figure)


def _label(measure: str, unit: str, log: bool) -> str:
    return ", ".join(filter(None, [measure, unit, "log scale" if log else ""]))


def _pyplot():
    import matplotlib
    matplotlib.use("svg")
    from matplotlib import pyplot
    matplotlib.rcParams.update({
        "svg.hashsalt": "gwfast", "svg.fonttype": "none", "font.size": 9, "text.color": INK, "axes.labelcolor": INK,
        "axes.edgecolor": OTHER, "xtick.color": INK, "ytick.color": INK, "axes.spines.top": False, "axes.spines.right": False})
    return pyplot


def _svg(figure, top: float = 1.0) -> str:
    """The drawing as a part of a page, without a ground of its own."""
    from matplotlib import pyplot
    figure.tight_layout(rect=(0, 0, 1, top))
    out = io.StringIO()
    figure.savefig(out, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    pyplot.close(figure)
    text = out.getvalue()
    return f"<div class=wide>{text[text.index('<svg'):].replace(INK, 'currentColor')}</div>"
