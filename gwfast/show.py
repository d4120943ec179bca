"""The verbs that look and do not serve: check, routes, explain.

Rules:
- each verb reads the paths through the same pipeline as `gwfast run` and prints one answer to standard output
- text is for people: what is wrong comes first, one line each, in the form file:line: severity: what (reason);
  json and yaml have the same content for machines
- exit status: 0 fine, 1 problems (errors in the configuration, or a request that nobody serves), 2 usage
"""
import argparse
import json
import sys
from typing import Any

import yaml

from gwfast.plan import dump, explain, shadow
from gwfast.plan.explain import Explanation, Share
from gwfast.plan.ir import Bind, Entry, Plan, Rule, WeightedBackend

SHOWN = 5  # losers of each sort that `explain` names without --all


# ---- routes


def routes_text(plan: Plan) -> str:
    """Print every listener, host and rule of `plan` in the order in which they are tried."""
    lines = []
    for bind in plan.binds:
        lines += [_bind_words(bind)]
        for listener in bind.listeners:
            lines += ["", f"  listener {listener.id}   {listener.hostname or 'any hostname'}"]
            for host in listener.hosts:
                lines += ["", f"    {host.hostname or 'any host'}"]
                lines += columns([[f"{i}", dump.match_words(entry.match), dump.rule_words(entry), *_first_line(entry.rule)]
                                  for i, entry in enumerate(host.entries, 1)], indent=6)
            if not listener.hosts:
                lines += ["", "    no route"]
        lines += [""]
    lines += ["nothing listens"] if not plan.binds else []
    lines += [_shadow_words(each) for each in shadow.shadows(plan)]
    return "\n".join(lines).rstrip() + "\n"


def _bind_words(bind: Bind) -> str:
    return f"{dump.host_port(bind.address, bind.port)} {bind.scheme}" + (" (PROXY protocol)" if bind.proxy_protocol else "")


def _first_line(rule: Rule) -> list[str]:
    words = [line for each in rule.filters for line in dump.filter_words(each)]
    if not any(line.startswith(("redirect", "answers")) for line in words):
        words.insert(0, backends_words(rule.backends))
    return ["; ".join(words)]


def backends_words(backends: tuple[WeightedBackend, ...]) -> str:
    """Say where requests go: one backend by its name, several with their shares."""
    total = sum(each.weight for each in backends)
    if not total:
        return "answers 500: no backend" + (" with a weight" if backends else "")
    return ", ".join(f"{percent(100 * each.weight / total)} {_backend_words(each)}" if len(backends) > 1
                     else _backend_words(each) for each in backends)


def _backend_words(each: WeightedBackend) -> str:
    name = each.backend.key if each.backend else f"answers {each.status}: invalid reference"
    words = [line for one in each.filters for line in dump.filter_words(one)]
    return f"{name} ({'; '.join(words)})" if words else name


def percent(value: float) -> str:
    """Return a share of 100 with as many digits as it needs, two at most."""
    return f"{value:.2f}".rstrip("0").rstrip(".") + " %"


def _shadow_words(each: shadow.Shadow) -> str:
    return (f"{each.entry.rule.source}: note: {dump.rule_words(each.entry)} never matches on {each.host.hostname or 'any host'} "
            f"of {each.listener.id}: {dump.rule_words(each.by)} comes first and takes all of its requests (Shadowed)")


def columns(rows: list[list[str]], indent: int = 2, gap: int = 3) -> list[str]:
    """Return `rows` as lines with aligned columns; the last column is as long as it is."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]) - 1)] if rows else []
    return [" " * indent + "".join(cell.ljust(width + gap) for cell, width in zip(row, widths, strict=False)) + row[-1]
            for row in rows]


# ---- explain


def explain_text(found: Explanation, every: bool = False) -> str:
    """Print the way of one request, what it gets, and why the others lost."""
    request = found.request
    query = f"?{request.query}" if request.query else ""
    rows = [["port", _bind_words(found.bind)]] if found.bind else []
    if found.listener:
        rows.append(["listener", f"{found.listener.id}   {found.listener.hostname or 'any hostname'}"])
    if found.entry:
        rule = found.entry.rule
        rows += [["host", found.host.hostname or "any host"],
                 ["rule", f"{dump.rule_words(found.entry)}   {rule.source}".rstrip()],
                 ["", dump.match_words(found.entry.match)]]
    if found.status:
        rows.append(["answer", f"{found.status}: {found.why}"])
    else:
        rows += [row for share in found.shares for row in _share_rows(share, request)]
    lines = [f"{request.method} {request.scheme}://{request.host}{request.path}{query}", "", *columns(rows)]
    near = [each for each in found.losers if not each.matched]
    near.sort(key=lambda each: each.why[0].startswith("path "))
    later = [each for each in found.losers if each.matched]
    lines += _losers("did not match", near, every) + _losers("matched too, but come later", later, every)
    return "\n".join(lines) + "\n"


def _share_rows(share: Share, request: explain.Request) -> list[list[str]]:
    whole = share.percent == 100
    target = share.backend or f"answer {share.status}"
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
    rows = [[dump.rule_words(each.entry), each.host or "any host", dump.match_words(each.entry.match), "; ".join(each.why)]
            for each in shown]
    more = [f"    and {len(losers) - len(shown)} more (--all shows them)"] if len(losers) > len(shown) else []
    return ["", f"  {title}:", *columns(rows, indent=4), *more]


def explain_data(found: Explanation) -> dict[str, Any]:
    """Return an explanation as plain data."""
    request = found.request
    return {
        "request": {"method": request.method, "host": request.host, "port": request.port, "path": request.path},
        "bind": dump.host_port(found.bind.address, found.bind.port) if found.bind else None,
        "listener": found.listener and found.listener.id,
        "host": found.host and (found.host.hostname or "*"),
        "rule": found.entry and _entry_data(found.entry),
        "status": found.status,
        "why": found.why,
        "shares": [{name: value for name in share.__struct_fields__ if (value := getattr(share, name)) not in ("", 0, [])}
                   for share in found.shares],
        "losers": [_entry_data(each.entry) | {"host": each.host or "*", "matched": each.matched, "why": each.why}
                   for each in found.losers],
    }


def _entry_data(entry: Entry) -> dict[str, Any]:
    return {"rule": entry.rule.id, "index": entry.match.index, "match": dump.match_data(entry.match),
            "source": entry.rule.source}
