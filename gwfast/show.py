"""The verbs that look and do not serve: check, routes, explain.

Rules:
- each verb reads the paths, or a cluster, through the same pipeline as `gwfast run` and prints one answer to standard output
- text is for people: what is wrong comes first, one line each, in the form file:line: severity: what (reason);
  json and yaml have the same content for machines
- exit status: 0 fine, 1 problems (errors in the configuration, with --strict warnings too, or a request that nobody serves), 2
  usage
"""
import argparse
import json
import os
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

import msgspec
import yaml

from gwfast.config.source import Loaded
from gwfast.config.locate import locate
from gwfast.config.model import Key, PythonFilter, Resource
from gwfast.errors import Problem, Source, UsageError
from gwfast.graph import conditions
from gwfast.graph.attach import Attacher
from gwfast.graph.conditions import ConditionStatus, ParentRef, Status
from gwfast.graph.extensions import code
from gwfast.graph.model import Graph, GraphOptions, of_bundle
from gwfast.plan import dump, explain, regex
from gwfast.plan import problems as plan_problems
from gwfast.plan.build import build
from gwfast.plan.explain import Explanation, Share
from gwfast.plan.filters import mirrors, plan_extension
from gwfast.plan.forwarded import is_ours
from gwfast.plan.ir import Bind, Certificate, Endpoints, Entry, Filter, Listener, Plan, Rule
from gwfast.serve.loading import fault

WIDEST = 60  # characters of a cell that the others line up with
SHOWN = 5  # losers of each sort that `explain` names without --all
WHEN_WRONG = ("Conflicted", "InsecureFrontendValidationMode", "OverlappingTLSConfig", "PartiallyInvalid")  # True is bad
ENDS = {
    "check": "Exit status: 0 no error, 1 an error (--strict: or a warning), 2 the command line is wrong or a PATH is not there.",
    "routes": "Exit status: 0 whatever the files say, 2 the command line is wrong or a PATH is not there.",
    "explain": "Exit status: 0 the request is served, 1 nobody serves it (no route, only errors), 2 the command line is wrong.",
}
Options = Callable[[argparse.Namespace], GraphOptions]
Look = Callable[[argparse.Namespace], tuple[Loaded, Source]]


def add_parsers(subparsers: Any, common: argparse.ArgumentParser, options: Options, look: Look) -> None:
    """Add check, routes and explain. `common` has `paths`; `options` reads from its arguments how to attach, `look` what."""
    for name, verb, text in (("check", check, "print everything that is wrong, and every condition"),
                             ("routes", routes, "print the rules in the order in which they are tried"),
                             ("explain", explain_request, "print what one request gets, and why the next rules lost")):
        parser = subparsers.add_parser(name, help=text, parents=[common], allow_abbrev=False)
        parser.set_defaults(run=verb, graph_options=options, look=look)
        parser.epilog = ENDS[name]
        if name == "check":
            parser.add_argument("--strict", action="store_true", help="exit with 1 for warnings too")
        if name == "explain":
            parser.usage = f"{parser.prog} [-h] [options] PATH... [METHOD] URL"
            parser.add_argument("url", metavar="[METHOD] URL", help="GET http://host[:port]/path?query (a path alone is asked of "
                                "every port), or a connection without METHOD: tls://name[:port], tcp://host:port, udp://host:port")
            parser.add_argument("-H", "--header", action="append", default=[], metavar="'NAME: VALUE'", dest="headers",
                                help="a header of the request; may be repeated")
            parser.add_argument("--trusted", action="store_true", help="from one of --trusted-proxies: X-Forwarded-* count")
            parser.add_argument("--all", action="store_true", help="name every rule that lost")
        parser.add_argument("-o", "--output", choices=("text", "json", "yaml"), default="text",
                            help="for people or for programs (text)")


class Reading(msgspec.Struct):
    """What the paths or the cluster of a command line came to."""

    problems: tuple[Problem, ...]
    graph: Graph
    plan: Plan
    resources: Mapping[Key, Resource] | None = None  # that are written; None: nobody knows
    place: Source = Source(".")  # the first path, the API server's URL
    far: bool = False  # of a cluster: its filters are code of anybody in it, and their modules are those of its image

    @property
    def filters(self) -> list[PythonFilter]:
        """The filters in Python that are written and have code that may be loaded here."""
        if self.far:
            return []
        every: dict[Key, Any] = dict(self.resources or {})
        return [each for key, each in sorted(every.items())
                if key.kind == "PythonFilter" and self.graph.policies[key].accepted]


def read(arguments: argparse.Namespace) -> Reading:
    """Read the paths or the cluster of a command line through the pipeline. Raise UsageError for one that is not there."""
    loaded, place = arguments.look(arguments)
    options = arguments.graph_options(arguments)
    graph = Attacher(of_bundle(options, loaded.bundle), regex.check).attach(loaded.resources)
    return Reading(tuple(loaded.problems), graph, build(graph), loaded.resources, place, options.filters_by_class)


def write(output: str, text: str, data: Any) -> None:
    """Print one answer in the form that was asked for."""
    if output == "json":
        text = json.dumps(data, indent=2, ensure_ascii=False) + "\n"
    elif output == "yaml":
        text = yaml.safe_dump(data, sort_keys=False, default_flow_style=None, width=120, allow_unicode=True)
    sys.stdout.write(text)


# ---- the verbs


def check(arguments: argparse.Namespace) -> int:
    """Print every problem and every condition; exit status 1 if one of the problems is an error, or with --strict a warning."""
    reading = read(arguments)
    found, statuses = _in_order(problems(reading) + unloadable(reading)), conditions.conditions(reading.graph)
    write(arguments.output, check_text(found, statuses),
          {"problems": [problem_data(each) for each in found], "conditions": msgspec.to_builtins(statuses)})
    serious = ("error", "warning") if arguments.strict else ("error",)
    return 1 if any(each.severity in serious for each in found) else 0


def routes(arguments: argparse.Namespace) -> int:
    """Print the final order of the rules of every listener and host; exit status 0."""
    plan = read(arguments).plan
    write(arguments.output, routes_text(plan), dump.to_builtins(plan))
    return 0


def explain_request(arguments: argparse.Namespace) -> int:
    """Print what a request gets on each bind that it can reach; exit status 1 if none serves it."""
    method = "" if arguments.url.partition("://")[0] in explain.CONNECTIONS else _method(arguments)
    request = explain.read_request(method, arguments.url, arguments.headers, arguments.trusted)
    plan = read(arguments).plan
    found = [explain.explain(bind, request) for bind in explain.binds_for(plan, request)]
    if not found:
        others = ", ".join(_bind_words(bind) for bind in plan.binds)
        why = f"nothing listens on port {request.port}, but {others}" if others else "nothing listens"
        found = [Explanation(request=request, status=404, why=why)]
    places = {each.key: _place_words(each) for each in plan.endpoints}
    policies = {each.key: each.policy for each in plan.endpoints}
    for share in (share for each in found for share in each.shares):
        if share.backend:
            share.changes += dump.health_words(policies[share.backend.key])
    text = "\n".join(explain_text(each, places, arguments.all) for each in found)
    write(arguments.output, text, [explain_data(each) for each in found])
    return 0 if any(share.status < 400 for each in found for share in each.shares) else 1


def _method(arguments: argparse.Namespace) -> str:
    """Take the word before the URL, which argparse has taken for a path."""
    if not arguments.paths or len(arguments.paths) == 1 and os.path.exists(arguments.paths[0]):
        raise UsageError("a METHOD is needed before the URL of a request")
    return arguments.paths.pop()


# ---- check


def problems(reading: Reading) -> list[Problem]:
    """Return what is wrong in the files, in what they mean together, and in what would run; by file and line."""
    found = [*reading.problems, *conditions.problems(reading.graph), *conditions.unserved(reading.graph),
             *conditions.nowhere(reading.graph, reading.resources)]
    found += plan_problems.problems(reading.plan, found) + plan_problems.shadowed(reading.plan)
    found += conditions.idle(reading.graph, reading.place)
    return _in_order(found)


def unloadable(reading: Reading) -> list[Problem]:
    """Return an error for each filter in Python that a worker could not load."""
    found = []
    for written in reading.filters:
        field, why = fault(plan_extension(written, code(written, lambda *key: (reading.resources or {}).get(Key(*key)))))
        if why:
            found.append(Problem(source=written.source, resource=str(written.key), field=f"spec.{field}", reason="NotLoaded",
                                 message=f"cannot be loaded: {why}"))
    return found


def _in_order(found: list[Problem]) -> list[Problem]:
    return sorted(locate(found), key=lambda each: (each.source.file, each.source.line, each.field))


def check_text(found: list[Problem], statuses: list[Status]) -> str:
    """Print the problems, one line each, then every condition, then the count."""
    lines = [str(each) for each in found]
    lines += [""] if found else []
    rows = [row for each in statuses for row in _status_rows(each)]
    lines += columns(rows, indent=0)
    lines += ["" if rows else "no Gateway and no route", _count(found)]
    return "\n".join(lines) + "\n"


def _status_rows(each: Status) -> Iterator[list[str]]:
    status = each.status
    yield [str(each.key), conditions_words(getattr(status, "conditions", ()))]
    for listener in getattr(status, "listeners", ()):
        routes = f"{listener.attached_routes} route{'' if listener.attached_routes == 1 else 's'}"
        yield [f"  listener {listener.name}", f"{conditions_words(listener.conditions)}, {routes}"]
    for parent in getattr(status, "parents", ()):
        yield [f"  parent {_ref_words(parent.parent_ref)}", conditions_words(parent.conditions)]
    for ancestor in getattr(status, "ancestors", ()):
        yield [f"  ancestor {_ref_words(ancestor.ancestor_ref)}", conditions_words(ancestor.conditions)]


def _ref_words(ref: ParentRef) -> str:
    words = [] if ref.kind == "Gateway" else [ref.kind]
    words += [f"{ref.namespace}/{ref.name}" if ref.namespace else ref.name]
    words += [f"section {ref.section_name}"] if ref.section_name else []
    words += [f"port {ref.port}"] if ref.port else []
    return " ".join(words)


def conditions_words(found: Iterable[ConditionStatus]) -> str:
    """Say in one line how things are: 'Accepted, not Programmed (PortUnavailable)'."""
    return ", ".join(filter(None, map(_condition_words, found)))


def _condition_words(each: ConditionStatus) -> str:
    wanted = "False" if each.type in WHEN_WRONG else "True"
    if each.status == wanted and (wanted == "False" or each.reason == each.type):
        return each.type if wanted == "True" else ""
    word = {"True": "", "False": "not ", "Unknown": "perhaps "}[each.status]
    return f"{word}{each.type} ({each.reason})"


def _count(found: list[Problem]) -> str:
    counts = Counter(each.severity for each in found)
    words = [f"{counts[each]} {each}{'' if counts[each] == 1 else 's'}" for each in ("error", "warning", "note")
             if counts[each]]
    return ", ".join(words) or "no problems"


def problem_data(each: Problem) -> dict[str, Any]:
    """Return a problem as plain data."""
    return {"file": each.source.file, "line": each.source.line} | {
        name: getattr(each, name) for name in ("severity", "resource", "field", "reason", "message")}


# ---- routes


def routes_text(plan: Plan) -> str:
    """Print every listener, host and rule of `plan` in the order in which they are tried."""
    lines = []
    for bind in plan.binds:
        lines += [_bind_words(bind)]
        for listener in bind.listeners:
            lines += ["", f"  listener {_listener_words(listener)}"]
            lines += [f"    before a rule is chosen: {words}" for words in front_lines(listener)]
            for host in listener.hosts:
                lines += ["", f"    {host.hostname or 'any host'}"]
                rows = [row for i, entry in enumerate(host.entries, 1) for row in _entry_rows(i, entry)]
                lines += columns(rows, indent=6)
            if not listener.hosts:
                lines += ["", "    no route"]
        lines += [""]
    lines += ["nothing listens"] if not plan.binds else []
    lines += ["backends", "", *columns(_backend_rows(plan)), ""] if plan.endpoints else []
    lines += map(str, _in_order(plan_problems.shadowed(plan)))
    return "\n".join(lines).rstrip() + "\n"


def _backend_rows(plan: Plan) -> list[list[str]]:
    rules = {entry.rule for bind in plan.binds for listener in bind.listeners for host in listener.hosts
             for entry in host.entries}
    named = {one.key for rule in rules for one in (*(each.backend for each in rule.backends),
                                                   *(each.backend for each in mirrors(rule))) if one}
    rows = []
    for backend, endpoints in zip(plan.backends, plan.endpoints, strict=True):
        if backend.key in named:
            rows.append([dump.backend_words(backend), _place_words(endpoints)])
            rows += [["", words] for words in (*dump.traffic_words(backend), *dump.health_words(endpoints.policy))]
    return rows


def _bind_words(bind: Bind) -> str:
    words = f"{dump.host_port(bind.address, bind.port)} {bind.transport}"
    return words + " (PROXY protocol)" if bind.proxy_protocol else words


MODES = {"terminate": "TLS ends here", "passthrough": "TLS passes through"}


def _listener_words(listener: Listener) -> str:
    words = [listener.id] if listener.mode in ("tcp", "udp") else [listener.id, listener.hostname or "any hostname"]
    words += [MODES[listener.mode]] if listener.mode in MODES else []
    if listener.tls:
        words += [f"certificate {_certificate_words(each)}" for each in listener.tls.certificates[:SHOWN]]
        more = len(listener.tls.certificates) - SHOWN
        words += [f"and {more} more"] if more > 0 else []
        words += [f"certificates of clients: {listener.tls.client_mode}"] if listener.tls.client_ca else []
    return "   ".join(words)


def _certificate_words(certificate: Certificate) -> str:
    day = datetime.fromtimestamp(certificate.not_after, UTC).date().isoformat()
    return f"{', '.join(certificate.names) or 'without names'} until {day}"


def _entry_rows(number: int, entry: Entry) -> list[list[str]]:
    first, *more = rule_lines(entry.rule)
    return [[f"{number:3}", dump.match_words(entry), dump.rule_words(entry), first],
            *(["", "", "", line] for line in more)]


def rule_lines(rule: Rule) -> list[str]:
    """Say what a rule gives its requests, one line per backend or answer, then one per change."""
    changes = _filter_lines(rule.filters)
    if any(map(plan_problems.answers, rule.filters)):
        return changes[-1:] + changes[:-1]
    total = sum(each.weight for each in rule.backends)
    if not total:
        return [f"{dump.answer_words(rule.kind, 500)}: no backend{' with a weight' if rule.backends else ''}"]
    lines = []
    for each in rule.backends:
        share = f"{percent(100 * each.weight / total):>6} " if len(rule.backends) > 1 else ""
        target = (dump.backend_words(each.backend) if each.backend else
                  f"{dump.answer_words(rule.kind, each.status)}: invalid reference")
        lines.append(share + target)
        lines += [" " * (len(share) + 2) + line for line in _filter_lines(each.filters)]
    return lines + changes + dump.policy_words(rule)


def front_lines(listener: Listener) -> list[str]:
    """Say what the filters of a listener do to every request."""
    return _filter_lines(listener.front.filters) if listener.front else []


def _filter_lines(filters: tuple[Filter, ...]) -> list[str]:
    lines = []
    for each in filters:
        lines += dump.filter_words(each)
        if plan_problems.answers(each):
            break
    return lines


def percent(value: float) -> str:
    """Return a share of 100 with as many digits as it needs, two at most."""
    return f"{value:.2f}".rstrip("0").rstrip(".") + " %"


def columns(rows: list[list[str]], indent: int = 2, gap: int = 3) -> list[str]:
    """Return `rows` as lines with aligned columns; the last one, and a cell above WIDEST, is as long as it is."""
    widths = [max((len(row[i]) for row in rows if len(row[i]) <= WIDEST), default=0) + gap
              for i in range(len(rows[0]) - 1)] if rows else []
    cells = ["".join((cell + " " * gap).ljust(width) for cell, width in zip(row, widths, strict=False)) for row in rows]
    return [(" " * indent + line + row[-1]).rstrip() for line, row in zip(cells, rows, strict=True)]


# ---- explain


def explain_text(found: Explanation, places: dict[str, str], every: bool = False) -> str:
    """Print the way of one request, what it gets (`places`: where backends are, by key), and why the others lost."""
    request = found.request
    query = f"?{request.query}" if request.query else ""
    rows = [["port", _bind_words(found.bind)]] if found.bind else []
    if found.listener:
        words = ["" if found.listener.mode in ("tcp", "udp") else found.listener.hostname or "any hostname",
                 MODES.get(found.listener.mode, "")]
        rows.append(["listener", "   ".join(filter(None, [found.listener.id, *words]))])
        rows += [["first", words] for words in front_lines(found.listener)]
    if found.certificate:
        rows.append(["certificate", _certificate_words(found.certificate)])
    if found.entry and found.host:
        rule = found.entry.rule
        rows += [["host", found.host.hostname or "any host"],
                 ["rule", "   ".join(filter(None, (dump.rule_words(found.entry), rule.name, _line_of(rule))))],
                 ["", dump.match_words(found.entry)]]
    if dropped := dict.fromkeys(name for name, _ in request.headers if is_ours(name) and not request.trusted):
        rows.append(["dropped", f"{', '.join(dropped)}: no trusted proxy says so (--trusted)"])
    if found.why:
        rows.append(["answer", f"{found.status}: {found.why}"] if found.status else ["closed", found.why])
    kind = found.entry.rule.kind if found.entry else ""
    rows += [row for share in found.shares for row in _share_rows(share, kind, request, places)]
    port = "" if request.port == explain.DEFAULT_PORTS.get(request.scheme) else f":{request.port}"
    url = f"{request.scheme}://{request.host}{port}" if request.host else ""
    path = f"{request.path}{query}" if request.method else ""
    lines = [f"{request.method} {url}{path}".lstrip(), "", *columns(rows)]
    near = sorted((each for each in found.losers if not each.matched), key=_distance)
    if found.entry and not every:
        near = [each for each in near if not _distance(each)]
    later = [each for each in found.losers if each.matched]
    lines += _losers("did not match", near, every) + _losers("matched too, but come later", later, every)
    return "\n".join(lines) + "\n"


def _distance(loser: explain.Loser) -> int:
    """0 where the path matched and something else did not, 1 where the path did not."""
    return int(loser.why[0].startswith("path "))


def _line_of(rule: Rule) -> str:
    problem = Problem(source=rule.source, field=f"spec.rules[{rule.index}]")
    return str(locate([problem])[0].source)


def _place_words(each: Endpoints) -> str:
    """Say where a backend's endpoints are: addresses, or the names that are looked up."""
    if each.hosts:
        return f"DNS {' or '.join(each.hosts)}, port {each.host_port}"
    places = [dump.host_port(*address) for address in each.addresses] + [f"DNS {name}:{port}" for name, port in each.names]
    more = len(places) - SHOWN
    shown = ", ".join(places[:SHOWN])
    http = not each.key.rpartition("/")[2].startswith(("tcp", "udp"))
    return (shown + f" and {more} more" if more > 0 else shown) or "no endpoint" + ": 503" * http


def _share_rows(share: Share, kind: str, request: explain.Request, places: dict[str, str]) -> list[list[str]]:
    whole = share.percent == 100
    target = dump.answer_words(kind, share.status).replace("answers", "answer")
    if share.backend:
        target = "   ".join(filter(None, (dump.backend_words(share.backend), places.get(share.backend.key))))
    if share.location:
        target += f"   Location: {share.location}"
    rows = [["gets", target if whole else f"{percent(share.percent):>7}  {target}"]]
    pad = "" if whole else " " * 9
    if share.backend and share.target.partition("?")[0] != request.path:
        rows.append(["", f"{pad}path becomes {share.target}"])
    if share.backend and share.host != request.host:
        rows.append(["", f"{pad}host becomes {share.host}"])
    return rows + [["", pad + change] for change in share.changes]


def _losers(title: str, losers: list[explain.Loser], every: bool) -> list[str]:
    if not losers:
        return []
    shown = losers if every else losers[:SHOWN]
    rows = [[dump.rule_words(each.entry), each.host or "any host", dump.match_words(each.entry),
             "; ".join(each.why)] for each in shown]
    more = [f"    and {len(losers) - len(shown)} more (--all shows them)"] if len(losers) > len(shown) else []
    return ["", f"  {title}:", *columns(rows, indent=4), *more]


def explain_data(found: Explanation) -> dict[str, Any]:
    """Return an explanation as plain data."""
    request = found.request
    return {
        "request": {"method": request.method, "host": request.host, "port": request.port, "path": request.path},
        "bind": dump.host_port(found.bind.address, found.bind.port) if found.bind else None,
        "listener": found.listener and found.listener.id,
        "certificate": [*found.certificate.names] if found.certificate else None,
        "host": found.host and (found.host.hostname or "*"),
        "rule": found.entry and _entry_data(found.entry) | {"source": _line_of(found.entry.rule)},
        "status": found.status,
        "why": found.why,
        "shares": [_share_data(share) for share in found.shares],
        "losers": [_entry_data(each.entry) | {"host": each.host or "*", "matched": each.matched, "why": each.why}
                   for each in found.losers],
    }


def _share_data(share: Share) -> dict[str, Any]:
    data = msgspec.structs.asdict(share) | {"backend": share.backend.key if share.backend else ""}
    return {name: value for name, value in data.items() if value not in ("", 0, [])}


def _entry_data(entry: Entry) -> dict[str, Any]:
    return {"rule": entry.rule.id, "index": entry.match.index, "match": dump.match_data(entry.match),
            "source": str(entry.rule.source)}
