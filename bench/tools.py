"""Figures of single stages, without a network: what a lookup, a head and a table cost."""
import argparse
import sys
import time
from pathlib import Path

import msgspec

from bench import count, machine, parse, tables

TOOLS = ("tables", "parse", "count")


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    verbs = top.add_subparsers(dest="verb", required=True)

    verb = verbs.add_parser("tables", help="time from text to a table, YAML and JSON")
    verb.add_argument("--routes", type=int, default=100_000)
    verb.set_defaults(run=lambda o: tables.run(o.routes), show=tables.table)

    verb = verbs.add_parser("parse", help="instructions to parse a head (valgrind)")
    verb.set_defaults(run=lambda o: parse.run(), show=parse.table)

    verb = verbs.add_parser("count", help="instructions of a lookup, by callgrind")
    verb.add_argument("--routes", type=int, default=100_000)
    verb.set_defaults(run=lambda o: count.run(o.routes), show=count.table)

    for verb in verbs.choices.values():
        verb.add_argument("--json", type=Path, metavar="FILE", help="append the figures as JSON lines")
    return top


def tool(words: list[str]) -> int:
    options = parser().parse_args(words)
    try:
        figures = options.run(options)
    except FileNotFoundError as missing:
        print(f"bench {options.verb}: {missing}", file=sys.stderr)
        return 1
    print(options.show(figures))
    if options.json:
        about = {"bench": options.verb, "at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), **machine.facts()}
        with options.json.open("ab") as file:
            for figure in figures:
                file.write(msgspec.json.encode({**about, **msgspec.to_builtins(figure)}) + b"\n")
    return 0
