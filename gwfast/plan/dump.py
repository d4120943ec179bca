"""A plan as plain data (the admin's /config, the golden files) and its parts as words people read.

    {binds: [{address, port, scheme, listeners: [{id, hostname, hosts: [{hostname, entries: [{match, rule: id}]}]}]}],
     rules: {id: {source, filters, backends: [{weight, backend: key | status, filters}]}},
     backends: {key: {source, addresses | hosts}}}

What has its default is left out; the names are those of the Gateway API.
"""
from typing import Any

from gwfast.plan.ir import (AnswerFilter, Backend, Bind, Endpoints, Entry, Filter, HeaderFilter, Host, Listener, Match,
                            PathModifier, Plan, RedirectFilter, RewriteFilter, Rule, ValueMatch, WeightedBackend)


def to_builtins(plan: Plan) -> dict[str, Any]:
    """Return `plan` as dicts, lists, strings and numbers, in its own order."""
    rules: dict[str, Any] = {}
    return {
        "binds": [_bind(bind, rules) for bind in plan.binds],
        "rules": rules,
        "backends": {each.key: _endpoints(each) for each in plan.endpoints},
    }


def _bind(bind: Bind, rules: dict[str, Any]) -> dict[str, Any]:
    return _kept(address=bind.address or "*", port=bind.port, scheme=bind.scheme, proxyProtocol=bind.proxy_protocol,
                 listeners=[_listener(each, rules) for each in bind.listeners])


def _listener(listener: Listener, rules: dict[str, Any]) -> dict[str, Any]:
    return {"id": listener.id, "hostname": listener.hostname or "*",
            "hosts": [_host(host, rules) for host in listener.hosts]}


def _host(host: Host, rules: dict[str, Any]) -> dict[str, Any]:
    return {"hostname": host.hostname or "*", "entries": [_entry(entry, rules) for entry in host.entries]}


def _entry(entry: Entry, rules: dict[str, Any]) -> dict[str, Any]:
    if entry.rule.id not in rules:
        rules[entry.rule.id] = rule_data(entry.rule)
    return {"match": match_data(entry.match), "rule": entry.rule.id}


def match_data(match: Match) -> dict[str, Any]:
    """Return `match` in the shape of an HTTPRouteMatch."""
    return _kept(path={"type": match.path_type, "value": match.path}, method=match.method,
                 headers=[_value(each) for each in match.headers], queryParams=[_value(each) for each in match.query])


def rule_data(rule: Rule) -> dict[str, Any]:
    """Return `rule` with its filters and backends; without a backend it answers 500."""
    return _kept(name=rule.name, source=str(rule.source) if rule.source.file else "",
                 filters=[filter_data(each) for each in rule.filters], backends=[_weighted(each) for each in rule.backends])


def filter_data(each: Filter) -> dict[str, Any]:
    """Return one filter in the shape of an HTTPRouteFilter; an AnswerFilter as {answer: {status, reason}}."""
    match each:
        case HeaderFilter():
            return {f"{each.on}HeaderModifier": _kept(set=_pairs(each.set), add=_pairs(each.add),
                                                      remove=[*each.remove])}
        case RewriteFilter():
            return {"urlRewrite": _kept(hostname=each.hostname, path=_path(each.path))}
        case RedirectFilter():
            return {"requestRedirect": _kept(scheme=each.scheme, hostname=each.hostname, path=_path(each.path),
                                             port=each.port, statusCode=each.status)}
        case AnswerFilter():
            return {"answer": {"status": each.status, "reason": each.reason}}


def _weighted(each: WeightedBackend) -> dict[str, Any]:
    to = {"backend": each.backend.key} if each.backend else {"status": each.status}
    return {"weight": each.weight} | to | _kept(filters=[filter_data(one) for one in each.filters])


def _endpoints(endpoints: Endpoints) -> dict[str, Any]:
    return _kept(source=endpoints.source, addresses=[host_port(ip, port) for ip, port in endpoints.addresses],
                 hosts=[*endpoints.hosts], hostPort=endpoints.host_port)


def _value(each: ValueMatch) -> dict[str, Any]:
    return _kept(type="RegularExpression" if each.regex else "", name=each.name) | {"value": each.value}


def _path(path: PathModifier | None) -> dict[str, str]:
    return {"type": path.type, "value": path.value} if path else {}


def _pairs(pairs: tuple[tuple[str, str], ...]) -> list[dict[str, str]]:
    return [{"name": name, "value": value} for name, value in pairs]


def _kept(**given: Any) -> dict[str, Any]:
    return {name: value for name, value in given.items() if value not in ("", 0, False, None, [], {})}


def host_port(host: str, port: int) -> str:
    """Return 'host:port', with brackets around an IPv6 address; '*' for all addresses."""
    return f"[{host}]:{port}" if ":" in host else f"{host or '*'}:{port}"


def match_words(match: Match) -> str:
    """Say in one line what a request must have: 'path under /api, method GET, header x-env = prod'."""
    parts = [{"Exact": "path {}", "PathPrefix": "path under {}", "RegularExpression": "path ~ {}"}[match.path_type]
             .format(match.path)]
    if match.path_type == "PathPrefix" and match.path == "/":
        parts = ["any path"]
    parts += [f"method {match.method}"] if match.method else []
    parts += [f"header {_condition(each)}" for each in match.headers]
    parts += [f"query {_condition(each)}" for each in match.query]
    return ", ".join(parts)


def _condition(each: ValueMatch) -> str:
    return f"{each.name} {'~' if each.regex else '='} {each.value}"


def filter_words(each: Filter) -> list[str]:
    """Say what one filter does, one line per action."""
    match each:
        case HeaderFilter():
            return ([f"{each.on} header {name} set to {value!r}" for name, value in each.set]
                    + [f"{each.on} header {name} gets {value!r} added" for name, value in each.add]
                    + [f"{each.on} header {name} removed" for name in each.remove])
        case RewriteFilter():
            return ([f"host becomes {each.hostname}"] if each.hostname else []) + _path_words(each.path)
        case RedirectFilter():
            target = [f"scheme {each.scheme}"] if each.scheme else []
            target += [f"host {each.hostname}"] if each.hostname else []
            target += [f"port {each.port}"] if each.port else []
            return [f"redirect {each.status}: {', '.join(target + _path_words(each.path)) or 'the same URL'}"]
        case AnswerFilter():
            return [f"answers {each.status}: {each.reason}"]


def _path_words(path: PathModifier | None) -> list[str]:
    if path is None:
        return []
    return [f"{'path' if path.type == 'ReplaceFullPath' else 'matched prefix'} becomes {path.value}"]


def backend_words(backend: Backend) -> str:
    """Name a backend: 'namespace/name:port', and its protocol if that is not plain HTTP."""
    name = f"{backend.namespace}/{backend.name}:{backend.port}"
    return name if backend.protocol == "http" else f"{name} ({backend.protocol})"


def rule_words(entry: Entry) -> str:
    """Name the rule and match of an entry: 'namespace/route rules[0].matches[1]'."""
    return f"{entry.rule.namespace}/{entry.rule.route} rules[{entry.rule.index}].matches[{entry.match.index}]"
