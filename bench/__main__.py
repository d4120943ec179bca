"""python -m bench [CASE...] [--against nginx,envoy]: measure gwfast beside others. python -m bench --list: the cases.

    python -m bench small latency --against nginx,haproxy --html report.html
    python -m bench tables|count|cluster ...     single stages: see python -m bench tables --help
"""
import argparse
import sys
from pathlib import Path

from bench import readme, report, run
from bench.cases import CASES
from bench.contenders import CONTENDERS
from bench.contenders.base import find
from bench.stage import Options
from bench.tools import TOOLS, tool


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(prog="python -m bench", description=__doc__,
                                  formatter_class=argparse.RawDescriptionHelpFormatter)
    top.add_argument("cases", nargs="*", metavar="CASE", help="a case, or the beginning of the names of several (all)")
    top.add_argument("--list", action="store_true", help="the cases and the contenders, and which of them are missing")
    top.add_argument("--install", action="store_true", help="install what is missing: apt-get as root, pip into .venv")
    top.add_argument("--against", default=",".join(name for name in CONTENDERS if name != "gwfast"), metavar="A,B",
                     help="whom gwfast is measured beside (%(default)s)")
    top.add_argument("--program", action="append", default=[], metavar="NAME=PATH",
                     help="measure this program of a contender, for example the newest that you have built")
    top.add_argument("--rounds", type=int, default=0, help="for every case, in the place of its own number")
    top.add_argument("--seconds", type=float, default=0.0, help="of one round of load, likewise")
    top.add_argument("--minutes", type=float, default=0.0, help="fewer and shorter rounds, so that all of it takes about so long")
    top.add_argument("--connections", type=int, default=64)
    top.add_argument("--json", type=Path, metavar="FILE", help="append the figures as JSON lines")
    top.add_argument("--html", type=Path, metavar="FILE", help="write a report with plots")
    top.add_argument("--from", type=Path, dest="source", metavar="FILE", help="measure nothing: show what --json wrote")
    top.add_argument("--readme", type=Path, metavar="FILE", help="put the figures into this README, between its marks")
    top.add_argument("--beside", type=Path, metavar="FILE", help="with --from: which ratios differ from those of this other run")
    return top


def chosen(words: list[str]) -> list[str]:
    """The cases that are meant: by name, else by the beginning of their names. ValueError for a word that is none."""
    found: list[str] = []
    for word in words or list(CASES):
        some = [word] if word in CASES else [name for name in CASES if name.startswith(word)]
        if not some:
            raise ValueError(f"no case is called {word}: python -m bench --list")
        found += [name for name in some if name not in found]
    return found


def options(given: argparse.Namespace) -> Options:
    names = list(filter(None, given.against.split(",")))
    if unknown := set(names) - CONTENDERS.keys():
        raise ValueError(f"nobody is called {', '.join(sorted(unknown))}: {', '.join(CONTENDERS)}")
    return Options(contenders=tuple(name for name in CONTENDERS if name in (*names, "gwfast")), rounds=given.rounds,
                   seconds=given.seconds, connections=given.connections)


def use(programs: list[str]) -> None:
    """Let contenders be these programs (NAME=PATH). ValueError for what is none."""
    for each in programs:
        name, _, path = each.partition("=")
        if name not in CONTENDERS or name in ("floor", "gwfast"):
            raise ValueError(f"--program {each}: nobody is called {name}: {', '.join(CONTENDERS)}")
        if find(path) is None:
            raise ValueError(f"--program {each}: {path or 'it'} is no program")
        CONTENDERS[name].program = str(Path(path).absolute()) if "/" in path else path


def main(words: list[str]) -> int:
    if words and words[0] in TOOLS:
        return tool(words)
    given = parser().parse_args(words)
    try:
        use(given.program)
        if given.list:
            print(run.listing())
            return 0
        if given.install:
            run.install()
            return 0
        if given.source:
            found = report.read(given.source)
            print(report.apart(found, report.read(given.beside)) if given.beside else report.text(found))
        else:
            cases, told = chosen(given.cases), options(given)
            found = run.run(cases, run.fitting(cases, told, given.minutes * 60) if given.minutes else told, given.json)
            print(report.ending(found))
        show(found, given)
    except (ValueError, FileNotFoundError) as wrong:
        print(f"bench: {wrong}", file=sys.stderr)
        return 2
    return 0


def show(found: report.Run, given: argparse.Namespace) -> None:
    """Write the README's figures and the page, where they are asked for."""
    if given.readme:
        readme.put(found, given.readme)
    if given.html:
        from bench import page  # it needs matplotlib
        given.html.parent.mkdir(parents=True, exist_ok=True)
        given.html.write_text(page.html(found))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
