"""python -m bench load|reload|memory|tables|parse|count [--json FILE]: each prints a table; --json appends its figures
as JSON lines, every line with the machine's facts."""
import argparse
import sys
import time

import msgspec

from bench import count, load, machine, memory, parse, reload, tables


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    verbs = top.add_subparsers(dest="verb", required=True)

    verb = verbs.add_parser("load", help="CPU time per request beside nginx and a bare forwarder")
    verb.add_argument("--only", default="floor,nginx,gwfast", help="contenders, with commas")
    verb.add_argument("--rounds", type=int, default=5)
    verb.add_argument("--seconds", type=float, default=4)
    verb.add_argument("--connections", type=int, default=64)
    verb.set_defaults(run=lambda o: load.run(o.only.split(","), o.rounds, o.seconds, o.connections), show=load.table)

    verb = verbs.add_parser("reload", help="from a changed file to the first request that sees it")
    verb.add_argument("--routes", type=int, default=5000)
    verb.add_argument("--changes", type=int, default=21)
    verb.set_defaults(run=lambda o: reload.run(o.routes, o.changes), show=reload.table)

    verb = verbs.add_parser("memory", help="what idle connections and workers hold")
    verb.add_argument("--connections", type=int, default=5000)
    verb.set_defaults(run=lambda o: memory.run(o.connections), show=memory.table)

    verb = verbs.add_parser("tables", help="time from text to a table, YAML and JSON")
    verb.add_argument("--routes", type=int, default=100_000)
    verb.set_defaults(run=lambda o: tables.run(o.routes), show=tables.table)

    verb = verbs.add_parser("parse", help="instructions to parse a head (valgrind)")
    verb.set_defaults(run=lambda o: parse.run(), show=parse.table)

    verb = verbs.add_parser("count", help="instructions of a lookup, by callgrind")
    verb.add_argument("--routes", type=int, default=100_000)
    verb.set_defaults(run=lambda o: count.run(o.routes), show=count.table)

    for verb in verbs.choices.values():
        verb.add_argument("--json", metavar="FILE", help="append the figures as JSON lines ('-': standard output)")
    return top


def main() -> int:
    options = parser().parse_args()
    try:
        figures = options.run(options)
    except FileNotFoundError as missing:
        print(f"bench {options.verb}: {missing}", file=sys.stderr)
        return 1
    print(options.show(figures))
    if options.json:
        about = {"bench": options.verb, "at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), **machine.facts()}
        lines = "".join(msgspec.json.encode({**about, **msgspec.to_builtins(f)}).decode() + "\n" for f in figures)
        if options.json == "-":
            print(lines, end="")
        else:
            with open(options.json, "a") as file:
                file.write(lines)
    return 0


if __name__ == "__main__":
    sys.exit(main())
