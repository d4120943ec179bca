"""The verbs for users of ingress-nginx: convert, compare.

Rules:
- convert writes resources to standard output and its report to standard error; with --output, resources go to files, one
  each, and the report to standard output.
- Nothing is written over that a conversion has not written: a folder with other files in it is refused.
"""
import argparse
import json
import os
import re
import shlex
import sys
from typing import Any

import yaml

from gwfast.errors import UsageError
from gwfast.ingress.annotations.table import Options, Spec
from gwfast.ingress.convert import Result, convert
from gwfast.ingress.read import read
from gwfast.ingress.report import FORMATS, render
from gwfast.kinds import object_name

ENDS = {
    "convert": "Exit status: 0 nothing is lost, 1 something is reduced, 2 something is lost or cannot be read, or the command "
    "line is wrong.",
    "compare": "Exit status: 0 every request gets the same, 1 some do not, 2 the command line is wrong.",
}


def add_parsers(subparsers: Any) -> None:
    """Add convert and compare."""
    parser = subparsers.add_parser("convert", help="turn Ingresses of ingress-nginx into Gateway API", allow_abbrev=False,
                                   epilog=ENDS["convert"])
    parser.add_argument(
        "paths",
        nargs="+",
        metavar="PATH",
        help="file or folder with Ingresses, IngressClasses, Services, "
        "Secrets and ConfigMaps, YAML or JSON; '-': standard input",
    )
    parser.add_argument("--output", metavar="DIR", help="write a file for each resource here (all to standard output)")
    parser.add_argument(
        "--report",
        choices=FORMATS,
        default="text",
        help="what became of each annotation and option: on standard error, with --output on standard output (text)",
    )
    add_options(parser)
    parser.set_defaults(run=run_convert)
    add_compare(subparsers)


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add what says how Ingresses are converted."""
    modes = parser.add_mutually_exclusive_group()
    modes.add_argument(
        "--faithful",
        action="store_true",
        help="keep nginx's quirks: regular expressions of whole hosts, without case and end (this is the default)",
    )
    modes.add_argument("--clean", action="store_true", help="take paths as they are written, and list what differs")
    parser.add_argument("--annotations-prefix", metavar="PREFIX", default="nginx.ingress.kubernetes.io",
                        help="of the annotations (nginx.ingress.kubernetes.io)")
    parser.add_argument(
        "--ingress-class",
        metavar="NAME",
        default="",
        help="convert Ingresses of this class (those of IngressClasses of k8s.io/ingress-nginx, else nginx)",
    )
    parser.add_argument("--gateway-class", metavar="NAME", default="gwfast", help="of the Gateway (gwfast)")
    parser.add_argument("--gateway", metavar="NAMESPACE/NAME", help="of the Gateway (ingress-nginx, where the first Ingress is)")
    parser.add_argument(
        "--default-ssl-certificate", metavar="NAMESPACE/NAME", help="the Secret for hosts without one of their own"
    )
    parser.add_argument(
        "--standard-only", action="store_true", help="no kinds and fields but those of the API's standard channel"
    )


def options_of(arguments: argparse.Namespace) -> Options:
    """Turn what a command line says into options of a conversion."""
    names = {}
    for name in ("gateway", "default_ssl_certificate"):
        if text := getattr(arguments, name):
            try:
                names[name] = object_name(text)
            except ValueError as error:
                raise UsageError(f"--{name.replace('_', '-')} {text!r}: {error}") from None
    prefix = arguments.annotations_prefix.rstrip("/")
    if not prefix:
        raise UsageError("--annotations-prefix: it is empty")
    return Options(faithful=not arguments.clean, standard_only=arguments.standard_only, prefix=prefix,
                   ingress_class=arguments.ingress_class, gateway_class=arguments.gateway_class,
                   gateway=names.get("gateway", ("", "ingress-nginx")), default_certificate=names.get("default_ssl_certificate"))


def checked(paths: list[str]) -> list[str]:
    """Return paths that are there. Raise UsageError for one that is not."""
    for path in paths:
        if path != "-" and not os.path.exists(path):
            raise UsageError(f"no such file or folder: {path}")
    return paths


def run_convert(arguments: argparse.Namespace) -> int:
    """Print resources and what became of everything; the exit status is that of the worst."""
    options = options_of(arguments)
    result = convert(read(checked(arguments.paths)), options)
    if arguments.output:
        write(result.resources, arguments.output)
        sys.stdout.write(render(result.report, arguments.report))
    else:
        sys.stdout.write(dumped(result))
        sys.stdout.flush()
        sys.stderr.write(render(result.report, arguments.report))
    return result.report.status


def dumped(result: Result) -> str:
    """Return the resources as one text."""
    return "---\n".join(text_of(each) for each in result.resources)


def text_of(resource: Spec) -> str:
    return yaml.dump(resource, Dumper=Plain, sort_keys=False, default_flow_style=False, width=120, allow_unicode=True)


class Plain(getattr(yaml, "CSafeDumper", yaml.SafeDumper)):  # type: ignore[misc]
    """Writes what is there twice, twice: a rule may be in two routes. Quotes what Kubernetes would take for a boolean or a
    number."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


Plain.add_implicit_resolver("tag:yaml.org,2002:bool", re.compile("^[yYnN]$"), list("yYnN"))
Plain.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(
        r"^[-+]?(?:0[oO]?[0-7_]+|0[xX][0-9a-fA-F_]+|0[bB][01_]+|(?:\.[0-9_]+|[0-9][0-9_]*(?:\.[0-9_]*)?)(?:[eE][-+]?[0-9]+)?)$"
    ),
    list("-+0123456789."),
)


def file_name(resource: Spec) -> str:
    metadata = resource["metadata"]
    return f"{metadata['namespace']}-{resource['kind'].lower()}-{metadata['name']}.yaml"


def write(resources: list[Spec], folder: str) -> None:
    """Write each resource into a file of its own. Raise UsageError where the folder has what would be served beside them."""
    files = {file_name(each): text_of(each) for each in resources}
    try:
        there = [name for name in os.listdir(folder) if name.endswith((".yaml", ".yml", ".json"))]
    except FileNotFoundError:
        os.makedirs(folder)
        there = []
    except NotADirectoryError:
        raise UsageError(f"--output {folder}: it is no folder") from None
    if strange := sorted(set(there) - files.keys()):
        raise UsageError(f"--output {folder}: {strange[0]} is there, which is not of this conversion: take an empty folder")
    for name, text in files.items():
        with open(os.path.join(folder, name), "w", encoding="utf-8") as file:
            file.write(text)


# ---- compare


def add_compare(subparsers: Any) -> None:
    parser = subparsers.add_parser(
        "compare",
        help="ask requests of nginx, as it would be, and of what serves now",
        allow_abbrev=False,
        epilog=ENDS["compare"],
    )
    parser.add_argument(
        "paths",
        nargs="*",
        metavar="PATH",
        help="what serves now, as `gwfast run` reads it (what `gwfast convert` makes of the Ingresses)",
    )
    parser.add_argument("--ingress", action="append", required=True, metavar="PATH", help="the Ingresses; may be repeated")
    parser.add_argument(
        "--requests",
        required=True,
        metavar="FILE",
        help="lines METHOD URL -H 'NAME: VALUE' ..., or an access log in "
        "nginx's combined or ingress-nginx's own format; '-': standard input",
    )
    parser.add_argument(
        "--host",
        action="append",
        default=[],
        metavar="NAME",
        help="of lines of a log; may be repeated (every host of the Ingresses that fits)",
    )
    parser.add_argument("--all", action="store_true", help="print what is the same, too")
    parser.add_argument("-o", "--output", choices=("text", "json"), default="text", help="(text)")
    add_options(parser)
    parser.set_defaults(run=run_compare)


def run_compare(arguments: argparse.Namespace) -> int:
    """Print every request that gets another answer; exit status 1 if there is one."""
    from gwfast.config.load import load
    from gwfast.ingress import compare as comparing
    options = options_of(arguments)
    facts = read(checked(arguments.ingress))
    result = convert(facts, options)
    if arguments.paths:
        plan = comparing.planned(load(checked(arguments.paths)).resources)
    else:
        plan = comparing.plan_of(result.resources, facts)
    with sys.stdin if arguments.requests == "-" else open(checked([arguments.requests])[0], encoding="utf-8",
                                                          errors="replace") as lines:
        try:
            asked = list(comparing.questions(lines, result.site, tuple(host.lower() for host in arguments.host)))
        except UsageError as error:
            raise UsageError(f"{arguments.requests}: {error}") from None
    found = [comparing.compare(result.site, plan, each) for each in asked]
    shown = [one for one in found if arguments.all or not one.same]
    different = sum(not one.same for one in found)
    if arguments.output == "json":
        json.dump({"asked": len(found), "different": different, "requests": comparing.data(shown)}, sys.stdout, indent=2)
        sys.stdout.write("\n")
    else:
        for one in shown:
            fields = "".join(f" -H {shlex.quote(each)}" for each in one.question.headers)
            print(f"{arguments.requests}:{one.question.line}: {'same' if one.same else 'differs'}: "
                  f"{one.question.method} {one.question.url}{fields}\n  nginx:  {one.nginx}\n  gwfast: {one.gwfast}")
        print(f"{len(found)} request{'' if len(found) == 1 else 's'}, {different} different")
    return 1 if different else 0
