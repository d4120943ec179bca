"""Figures of single stages: what a table costs, and how many instructions every operation of the hot path."""
import argparse
import sys
import time
from pathlib import Path

import msgspec

from bench import cluster, count, machine, tables, upgrades

TOOLS = ("tables", "count", "cluster", "upgrades")


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    verbs = top.add_subparsers(dest="verb", required=True)

    verb = verbs.add_parser("tables", help="time from text to a table, YAML and JSON")
    verb.add_argument("--routes", type=int, default=100_000)
    verb.set_defaults(run=lambda o: tables.run(o.routes), show=tables.table)

    verb = verbs.add_parser("count", help="instructions of each operation (valgrind), beside bench/baseline.json")
    verb.add_argument("operations", nargs="*", metavar="OPERATION", help="the beginnings of their names (all)")
    verb.add_argument("--check", action="store_true", help="exit 1 where one has grown by more than 1 %%")
    verb.add_argument("--accept", action="store_true", help="write the figures to bench/baseline.json")
    verb.set_defaults(run=lambda o: count.run([] if o.check or o.accept else o.operations, o.check), show=count.table)

    verb = verbs.add_parser("cluster", help="cluster mode on a real API server (what tests/cluster needs)")
    verb.add_argument("modes", nargs="*", metavar="MODE", help=f"{', '.join(cluster.MODES)} (all)")
    verb.add_argument("--routes", type=int, default=5000)
    verb.add_argument("--rounds", type=int, default=200, help="changes of a route that are timed")
    verb.set_defaults(run=lambda o: cluster.run(o.routes, o.rounds, tuple(o.modes)), show=lambda figures: "")

    verb = verbs.add_parser("upgrades", help="upgrades of the program under load: requests, failures, WebSockets that lived on")
    verb.add_argument("--upgrades", type=int, default=10, help="at least")
    verb.add_argument("--requests", type=int, default=1_000_000, help="at least")
    verb.set_defaults(run=lambda o: upgrades.run(o.upgrades, o.requests), show=upgrades.table)

    for verb in verbs.choices.values():
        verb.add_argument("--json", type=Path, metavar="FILE", help="append the figures as JSON lines")
    return top


def tool(words: list[str]) -> int:
    options = parser().parse_args(words)
    try:
        figures = options.run(options)
    except OSError as missing:
        print(f"bench {options.verb}: {missing}", file=sys.stderr)
        return 1
    print(options.show(figures))
    if options.json:
        about = {"bench": options.verb, "at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), **machine.facts()}
        with options.json.open("ab") as file:
            for figure in figures:
                file.write(msgspec.json.encode({**about, **msgspec.to_builtins(figure)}) + b"\n")
    if options.verb == "upgrades":
        return int(upgrades.failed(figures))
    return gate(options, figures) if options.verb == "count" else 0


def gate(options: argparse.Namespace, figures: list[count.Count]) -> int:
    status, lines = count.judge(figures, count.differences(count.read())) if options.check else (0, [])
    for line in lines:
        print(f"bench count: {line}")
    if options.accept:
        count.accept(figures)
    return status
