"""The report: one HTML file that needs nothing else. The goals, the machine, then every case: a plot, its table, its notes."""
import html as escape
import inspect

from bench import plots
from bench.cases import CASES
from bench.goals import judged
from bench.kinds import Routes
from bench.report import Run, notes, number, rows

STYLE = """
:root { color-scheme: light dark; --ink: #1b1d1f; --soft: #5b6168; --line: #d9dcdf; --paper: #fff; --band: #f5f6f7;
  --met: #18794e; --missed: #b42318 }
@media (prefers-color-scheme: dark) { :root { --ink: #e4e6e8; --soft: #a0a7ae; --line: #3a3f45; --paper: #16181a;
  --band: #1f2225; --met: #5fc992; --missed: #ff8f7d } }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 68rem; margin: 2rem auto; padding: 0 1rem; color: var(--ink);
  background: var(--paper) }
h1 { font-size: 1.7rem; margin-bottom: .2rem } h2 { font-size: 1.35rem; margin-top: 3rem; border-top: 2px solid var(--line);
  padding-top: 1rem } h3 { font-size: 1.05rem; margin: 2.2rem 0 .3rem } h3 code { font-weight: 400; color: var(--soft) }
p { max-width: 48rem } .soft, .how { color: var(--soft) } .how { font-size: .88rem; margin: .2rem 0 .8rem }
.wide { overflow-x: auto } table { border-collapse: collapse; font-size: .84rem; margin: .5rem 0 }
td, th { padding: .18rem .6rem; text-align: left; border-bottom: 1px solid var(--line); white-space: nowrap }
th { font-weight: 600; color: var(--soft); vertical-align: bottom } th.n { white-space: normal; min-width: 3.2rem }
.n { text-align: right; font-variant-numeric: tabular-nums } tr.ours td { font-weight: 600 }
#goals td:first-child { white-space: normal } .met { color: var(--met) } .missed { color: var(--missed); font-weight: 600 }
ul.notes { font-size: .84rem; color: var(--soft); margin: .3rem 0; padding-left: 1.2rem }
svg { max-width: 100%; height: auto; color: var(--ink) } svg text { font-family: system-ui, sans-serif }
nav a { margin-right: .8rem; white-space: nowrap } a { color: inherit } summary { cursor: pointer; color: var(--soft) }
"""
HOW = """The proxies share one core, each alone under load; the client, the backends and the harness have the other one.
Contenders take turns (A B C A B C): a cell is the median of the rounds, <b>spread</b> is half of the distance from the lowest
round to the highest, and <b>ratio</b> is the median of each round's ratio to gwfast. <b>CPU</b> is what all processes of a
contender used per request. Times are from an open loop: a request's time runs from when it was due, whatever became of those
before it. Everybody is configured from the same Gateway API resources, answers were checked before anything was measured, and
the <b>floor</b> is a forwarder that parses nothing. A line over a bar goes from the lowest round to the highest.
How, and what each contender is told: <code>bench/README.md</code>."""
SECTIONS = (("Requests", ("small", "latency", "connect", "down", "up", "workers-2")),
            ("TLS, HTTP/2, gRPC", ("tls", "h2c", "grpc", "handshake", "volume")), ("Many routes", ("path", "host", "header")),
            ("What is held", ("idle", "start", "sets", "workers-memory")), ("Changes", ("change", "grow", "churn", "killed")))


def html(run: Run) -> str:
    """Return the page. ModuleNotFoundError without matplotlib."""
    parts = ["<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content='width=device-width'>"
             f"<title>gwfast: benchmarks</title><style>{STYLE}</style>", "<h1>gwfast beside others</h1>",
             f"<p class=soft>{_text(run.about['at'])}, {_text(run.about['machine']['cpu'])}</p>", _goals(run),
             "<h2>How this was measured</h2>", f"<p>{HOW}</p>", _facts(run)]
    left = list(run.cases)
    for title, names in SECTIONS:
        mine = [case for case in left if case.startswith(names)]
        left = [case for case in left if case not in mine]
        parts += _section(run, title, mine)
    parts += _section(run, "Others", left)
    return "\n".join([*parts, "</html>"])


def _text(words: object) -> str:
    return escape.escape(str(words))


def _section(run: Run, title: str, cases: list[str]) -> list[str]:
    if not cases:
        return []
    parts = [f"<h2>{title}</h2>", "<nav>" + " ".join(f"<a href=#{case}>{case}</a>" for case in cases) + "</nav>"]
    if title == "Many routes":
        parts.append(plots.scaling(run, cases))
    kind = None
    for case in cases:
        parts.append(f"<h3 id={case}>{_text(run.cases[case])} <code>{case}</code></h3>")
        if case in CASES and type(CASES[case]) is not kind:
            kind = type(CASES[case])
            parts.append(f"<p class=how>{_text(inspect.cleandoc(kind.__doc__))}</p>")
        table = _table(run, case)
        folded = f"<details><summary>figures</summary>{table}</details>" if kind is Routes else table
        parts += [plots.plot(run, case), folded]
    return parts


def _table(run: Run, case: str) -> str:
    found = rows(run, case)
    parts = []
    if found:
        parts.append("<div class=wide><table><tr>" + "".join(f"<th{' class=n' * bool(n)}>{_text(cell)}"
                                                              for n, cell in enumerate(found[0])))
        for row in found[1:]:
            ours = " class=ours" if row[0].split()[0] == "gwfast" else ""
            parts.append(f"<tr{ours}><td>{_text(row[0])}" + "".join(f"<td class=n>{_text(cell)}" for cell in row[1:]))
        parts.append("</table></div>")
    if said := notes(run, case):
        parts.append("<ul class=notes>" + "".join(f"<li>{_text(who)}: {_text(what)}" for who, what in said) + "</ul>")
    return "".join(parts)


def _goals(run: Run) -> str:
    lines = []
    for each in judged(run):
        word, goal = ("met" if each.met else "missed"), each.goal
        lines.append(f"<tr><td>{_text(goal.about)}<td class=n>{number(each.value)} {goal.unit}<td class=n>{number(goal.limit)} "
                     f"{goal.unit}<td class={word}>{word}<td class=n>{number(each.lowest)} – {number(each.highest)}"
                     f"<td class=soft>{_text(goal.known)}")
    if not lines:
        return ""
    return ("<div class=wide><table id=goals><tr><th>goal<th class=n>measured<th class=n>at most<th><th class=n>rounds"
            "<th>known elsewhere" + "".join(lines) + "</table></div>")


def _facts(run: Run) -> str:
    machine = run.about["machine"]
    facts = {"processor": f"{machine['cpu']}{', virtual' if machine.get('virtual') else ''}, {machine['cores']} cores",
             "memory": f"{machine.get('memory', 0) / 1024:.0f} GiB", "kernel": f"Linux {machine['kernel']}",
             "Python": machine["python"], "load at the start": f"{machine['load']:.1f}",
             "contenders": ", ".join(f"{name} {version}".strip() for name, version in run.about["versions"].items())}
    return "<table>" + "".join(f"<tr><th>{name}<td>{_text(what)}" for name, what in facts.items()) + "</table>"
