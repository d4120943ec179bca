"""The report: one HTML file that needs nothing else. Every case has its plots, its table and its notes."""
import html as escape
import io
import statistics

from bench.goals import judged
from bench.report import Run, facts, number, table, unique

STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 62rem; margin: 2rem auto; padding: 0 1rem; color: #1a1a1a; }
h1 { font-size: 1.6rem } h2 { font-size: 1.2rem; margin-top: 2.5rem; border-top: 1px solid #ddd; padding-top: 1rem }
pre { background: #f6f6f4; padding: .8rem; overflow-x: auto; font-size: .8rem; line-height: 1.35 }
table { border-collapse: collapse; font-size: .9rem }
td, th { padding: .2rem .7rem; text-align: left; border-bottom: 1px solid #eee }
td.n { text-align: right; font-variant-numeric: tabular-nums }
.met { color: #18794e } .missed { color: #b42318; font-weight: 600 }
svg { max-width: 100%; height: auto } p.facts { color: #555; font-size: .9rem } nav a { margin-right: .8rem; white-space: nowrap }
"""
COLOURS = {"gwfast": "#0b6e4f", "floor": "#b9b9b0"}
OTHER = "#7d8ca3"
PLOTS = 4  # measures of a case that are drawn; its table has them all


def html(run: Run) -> str:
    """Return the page. ModuleNotFoundError without matplotlib."""
    parts = [f"<!doctype html><html lang=en><meta charset=utf-8><title>gwfast: benchmarks</title><style>{STYLE}</style>",
             "<h1>gwfast beside others</h1>", f"<p class=facts>{_text(facts(run))}</p>", _goals(run), _contents(run)]
    for case, about in run.cases.items():
        parts.append(f"<h2 id={case}>{_text(about)} <small>({case})</small></h2>")
        parts.append(_plots(run, case))
        parts.append(f"<pre>{_text(table(run, case).partition(chr(10))[2])}</pre>")
    parts.append("<p class=facts>A figure is the median of its rounds; a line shows its lowest and its highest round; ratios "
                 "are to gwfast. Contenders take turns on the same core.</p></html>")
    return "\n".join(parts)


def _text(words: str) -> str:
    return escape.escape(words).replace("\n", "<br>") if "\n  " not in words else escape.escape(words)


def _contents(run: Run) -> str:
    return "<nav>" + " ".join(f"<a href=#{case}>{case}</a>" for case in run.cases) + "</nav>"


def _goals(run: Run) -> str:
    rows = [f"<tr><td>{_text(goal.about)}<td class=n>{number(value)}<td class=n>{number(goal.limit)} {goal.unit}"
            f"<td class={word}>{word}<td>{_text(goal.known)}" for goal, value in judged(run)
            for word in ("met" if value <= goal.limit else "missed",)]
    if not rows:
        return ""
    return "<table><tr><th>goal<th>measured<th>at most<th><th>known elsewhere" + "".join(rows) + "</table>"


def _plots(run: Run, case: str) -> str:
    """A bar for each contender and point, for the first measures that say something."""
    figures = [each for each in run.figures if each.case == case]
    measures = [pair for pair in unique((each.measure, each.unit) for each in figures)
                if any(each.value for each in figures if each.measure == pair[0])][:PLOTS]
    return _drawn(run, case, measures) if measures else ""


def _drawn(run: Run, case: str, measures: list[tuple[str, str]]) -> str:
    import matplotlib
    matplotlib.use("svg")
    from matplotlib import pyplot
    matplotlib.rcParams.update({"svg.hashsalt": "gwfast", "svg.fonttype": "none", "font.size": 9})
    bars = unique((each.contender, each.point) for each in run.figures if each.case == case)
    figure, axes = pyplot.subplots(1, len(measures), figsize=(2.6 * len(measures) + 1.2, 0.32 * len(bars) + 0.9), sharey=True,
                                   squeeze=False)
    names = [f"{contender} {point}".strip() for contender, point in bars]
    for axis, (measure, unit) in zip(axes[0], measures, strict=True):
        for place, (contender, point) in enumerate(bars):
            values = run.values(case, contender, measure, point)
            if values:
                middle = statistics.median(values)
                axis.barh(place, middle, color=COLOURS.get(contender, OTHER), height=0.7)
                axis.plot([min(values), max(values)], [place, place], color="#222", linewidth=1)
                axis.annotate(number(middle), (max(values), place), xytext=(3, 0), textcoords="offset points", va="center",
                              fontsize=8)
        axis.set_title(f"{measure} {unit}".strip(), fontsize=9, loc="left")
        axis.spines[["top", "right", "left"]].set_visible(False)
        axis.tick_params(left=False)
        axis.margins(x=0.25)
        axis.set_xlim(left=0)
    axes[0][0].set_yticks(range(len(bars)), names)
    axes[0][0].invert_yaxis()
    figure.tight_layout()
    out = io.StringIO()
    figure.savefig(out, format="svg", metadata={"Date": None, "Creator": None})
    pyplot.close(figure)
    text = out.getvalue()
    return text[text.index("<svg"):]
