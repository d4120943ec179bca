"""What the project's README says of a run: its figures stand between two marks, and are written by nobody's hand.

    .venv/bin/python -m bench --from bench/results/report.jsonl --readme README.md

Rules: a sentence whose case was not measured is left out, a cell is empty. Medians of the rounds; ratios are medians of each
round's ratio.
"""
import statistics
import textwrap
from pathlib import Path

from bench.report import Run, number

BEGIN, END = "<!-- figures: begin -->", "<!-- figures: end -->"
WIDTH = 128
NAMES = {"floor": "a forwarder that parses nothing", "gwfast": "**gwfast**", "nginx": "nginx", "haproxy": "HAProxy",
         "envoy": "Envoy", "caddy": "Caddy", "traefik": "Traefik", "nghttpx": "nghttpx", "h2o": "H2O"}
COLUMNS = {  # heading: case, measure, point, unit
    "small request": ("small", "CPU", "", "us"),
    "over TLS": ("tls-h1", "CPU", "", "us"),
    "HTTP/2 over TLS": ("tls-h2", "CPU", "", "us"),
    "gRPC call": ("grpc", "CPU", "", "us"),
    "with a log in JSON": ("json-log", "CPU", "on", "us"),
    "last of 100,000 routes": ("path-100000", "CPU", "last", "us"),
    "MiB": ("start-5000", "memory", "", ""),
}
ABOUT = """
The [whole report](bench/results/report.html) of `make bench`: {cases} cases beside {others} other proxies, every goal with its
figure. It was made on {day}, on {cores} cores of a {virtual}machine ({cpu}, Linux {kernel}, Python {python}); proxies have one
core. What can be carried to other machines are the ratios. CPU time of the proxy for a request on connections that stay open:
a small one, and the last of 100,000 routes by path; memory with 5,000 routes:"""
CHANGES = """
Routes added one by one to 3,000 are live after {} ms (mean; slowest {} ms), one changed among 100,000 after {} ms. Routes that
change five times a second make the p99 of the traffic beside them {} times what it is without. 1,000 routes serve {} s after the
start. An idle connection holds {} bytes."""
FEATURES = """
CPU time beside a rule without, for each request: header changes, a rewrite and CORS {}; timeouts {}, retries {} and health checks
{}, none of which fires. A 504 was {} ms late."""
LOG = "A line of JSON in the access log is {} of CPU time."


def block(run: Run) -> str:
    """Return what stands between the marks."""
    machine = run.about["machine"]
    about = ABOUT.format(
        cases=len(run.cases), others=len(run.about["versions"].keys() - {"gwfast", "floor"}), day=run.about["at"][:10],
        cores=machine["cores"], virtual="virtual " * bool(machine.get("virtual")), cpu=machine["cpu"],
        kernel=_two(machine["kernel"]), python=_two(machine["python"]))
    return "\n\n".join([_filled(about), _table(run), *map(_filled, _sentences(run))])


def put(run: Run, file: Path) -> None:
    """Put a run's figures into a README. ValueError where it has no marks."""
    text = file.read_text()
    before, begin, rest = text.partition(BEGIN)
    _, end, behind = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"{file} has no {BEGIN} and {END}")
    file.write_text(f"{before}{BEGIN}\n{block(run)}\n{END}{behind}")


def _filled(text: str) -> str:
    return textwrap.fill(" ".join(text.split()), WIDTH, break_long_words=False, break_on_hyphens=False)


def _two(version: str) -> str:
    return ".".join(version.split(".")[:2])


def _table(run: Run) -> str:
    first, *others = COLUMNS
    lines = [["", first, "to nginx", *others], ["---"] * (len(COLUMNS) + 2)]
    for name, shown in NAMES.items():
        if run.values("small", name, "CPU"):
            cells = [_cell(run, name, *column) for column in COLUMNS.values()]
            ratios = run.ratios("small", "CPU", (name, ""), ("nginx", ""))
            cells.insert(1, f"{statistics.median(ratios):.2f}" if ratios else "")
            version = "" if name == "gwfast" else run.about["versions"].get(name, "")
            lines.append([f"{shown} {version}".strip(), *cells])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _cell(run: Run, name: str, case: str, measure: str, point: str, unit: str) -> str:
    value = run.median(case, name, measure, point)
    return "" if value is None else f"{number(value)} {unit}".strip()


def _sentences(run: Run) -> list[str]:
    def of(case: str, measure: str) -> str | None:
        value = run.median(case, "gwfast", measure)
        return None if value is None else number(value)

    def more(case: str, point: str, without: str) -> str | None:
        ratios = run.ratios(case, "CPU", ("gwfast", point), ("gwfast", without))
        return f"{statistics.median(ratios) * 100 - 100:+.0f} %" if ratios else None

    said: dict[str, tuple[str | None, ...]] = {
        CHANGES: (of("grow", "mean"), of("grow", "max"), of("change-100000", "live after"), of("churn-routes", "p99 ratio"),
                  of("start-1000", "start"), of("idle", "memory")),
        FEATURES: (*(more("features", point, "without") for point in ("filters", "timeouts", "retry", "health")),
                   of("late", "late")),
        LOG: (more("json-log", "on", "off"),)}
    return [text.format(*values) for text, values in said.items() if None not in values]
