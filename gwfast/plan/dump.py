"""A plan as plain data (the admin's /config, the golden files) and its parts as words people read.

    {binds: [{address, port, transport, listeners: [{id, hostname, mode, tls, hosts: [{hostname, entries}]}]}],
     (entries are {match, rule: id}; rules of one id that differ by listener are id, id#2, ...)
     rules: {id: {source, filters, timeouts, retry, session, backends: [{weight, backend: key | status, filters}]}},
     backends: {key: {source, addresses | hosts, tls, retryBudget, session}}}

What has its default is left out; the names are those of the Gateway API. Of certificates there is what one may see.
"""
import json
import os
from datetime import UTC, datetime
from typing import Any

from gwfast.graph.methods import ANY_CALL
from gwfast.graph.model import Active, TargetPolicy
from gwfast.plan.ir import (AnswerFilter, AuthorizeFilter, Backend, BackendTLS, Bind, Certificate, CorsFilter, Endpoints,
                            Entry, ExtensionFilter, Filter, HeaderFilter, Host, Listener, Match, MirrorFilter, PathModifier, Plan,
                            RedirectFilter, Retry, RetryBudget, RewriteFilter, Rule, ServerTLS, SessionPersistence,
                            Timeouts, ValueMatch, WeightedBackend)
from gwfast.plan.sessions import sessions_of


def to_builtins(plan: Plan) -> dict[str, Any]:
    """Return `plan` as dicts, lists, strings and numbers, in its own order."""
    rules = _Rules()
    return {
        "binds": [_bind(bind, rules) for bind in plan.binds],
        "rules": {name: rule_data(rule) for rule, name in rules.names.items()},
        "backends": {endpoints.key: _endpoints(backend, endpoints)
                     for backend, endpoints in zip(plan.backends, plan.endpoints, strict=True)},
    }


class _Rules:
    """The rules by name: their ids, of which one may stand for several (a listener's way to its backends differs)."""

    def __init__(self) -> None:
        self.names: dict[Rule, str] = {}
        self._said: dict[str, dict[str, str]] = {}  # by id: the names of what differs

    def name(self, rule: Rule) -> str:
        if rule not in self.names:
            said = self._said.setdefault(rule.id, {})
            another = f"{rule.id}#{len(said) + 1}" if said else rule.id
            self.names[rule] = said.setdefault(json.dumps(rule_data(rule)), another)
        return self.names[rule]


def _bind(bind: Bind, rules: _Rules) -> dict[str, Any]:
    return _kept(address=bind.address or "*", port=bind.port, targetPort=bind.target_port, transport=bind.transport,
                 proxyProtocol=bind.proxy_protocol, listeners=[_listener(each, rules) for each in bind.listeners])


def _listener(listener: Listener, rules: _Rules) -> dict[str, Any]:
    front = [filter_data(each) for each in listener.front.filters] if listener.front else []
    return {"id": listener.id, "hostname": listener.hostname or "*"} | _kept(
        filters=front,
        mode="" if listener.mode == "http" else listener.mode, tls=_server_tls(listener.tls) if listener.tls else {}) | {
        "hosts": [_host(host, rules) for host in listener.hosts]}


def _server_tls(tls: ServerTLS) -> dict[str, Any]:
    return _kept(certificates=[_certificate(each) for each in tls.certificates], ciphers=tls.ciphers,
                 minVersion="" if tls.min_version == "1.2" else tls.min_version,
                 clientCertificates=tls.client_mode if tls.client_ca else "")


def _certificate(certificate: Certificate) -> dict[str, Any]:
    expires = datetime.fromtimestamp(certificate.not_after, UTC).isoformat()
    return {"names": [*certificate.names], "digest": certificate.digest, "notAfter": expires}


def _host(host: Host, rules: _Rules) -> dict[str, Any]:
    return {"hostname": host.hostname or "*", "entries": [_entry(entry, rules) for entry in host.entries]}


def _entry(entry: Entry, rules: _Rules) -> dict[str, Any]:
    return {"match": match_data(entry.match), "rule": rules.name(entry.rule)}


def match_data(match: Match) -> dict[str, Any]:
    """Return `match` in the shape of an HTTPRouteMatch."""
    return _kept(path={"type": match.path_type, "value": match.path}, method=match.method,
                 headers=[_value(each) for each in match.headers], queryParams=[_value(each) for each in match.query])


def rule_data(rule: Rule) -> dict[str, Any]:
    """Return `rule` with its filters and backends; without a backend it answers 500."""
    return _kept(name=rule.name, source=str(rule.source) if rule.source.file else "",
                 filters=[filter_data(each) for each in rule.filters], timeouts=_timeouts(rule.timeouts),
                 retry=_retry(rule.retry), session=_session(rule.session) if rule.session else {},
                 backends=[_weighted(each) for each in rule.backends])


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
        case CorsFilter():
            return {"cors": _kept(allowOrigins=[*each.origins], allowMethods=[*each.methods], allowHeaders=[*each.headers],
                                  exposeHeaders=[*each.expose], allowCredentials=each.credentials, maxAge=each.max_age)}
        case MirrorFilter():
            share = {} if each.numerator == each.denominator else {
                "fraction": {"numerator": each.numerator, "denominator": each.denominator}}
            return {"requestMirror": {"backend": each.backend.key} | share}
        case AuthorizeFilter():
            return {"externalAuth": _kept(backend=each.backend.key, protocol="GRPC" * each.grpc, path=each.path,
                                          allowedHeaders=[*each.headers], allowedResponseHeaders=[*each.answers],
                                          maxSize=each.max_body)}
        case ExtensionFilter():
            return {"pythonFilter": _kept(name=each.name, module=each.module, file=os.path.basename(each.file),
                                          configMap=each.config_map, **{"class": each.class_name}, config=json.loads(each.config),
                                          timeout=duration(each.timeout), failure="Open" if each.open else "Closed",
                                          maxBody=each.max_body)}
        case AnswerFilter():
            return {"answer": {"status": each.status, "reason": each.reason}}


def _timeouts(timeouts: Timeouts | None) -> dict[str, str]:
    if timeouts is None:
        return {}
    return _kept(request=duration(timeouts.request), backendRequest=duration(timeouts.backend_request))


def _retry(retry: Retry | None) -> dict[str, Any] | None:
    if retry is None:
        return None
    given = _kept(codes=[*retry.codes], attempts=retry.attempts, backoff=duration(retry.backoff))
    if retry.attempts == 0:
        given["attempts"] = 0
    return given or {"attempts": "default"}


def duration(seconds: float | None) -> str:
    """Return seconds as a Duration: '10s', '250ms', '0s'; '' for None."""
    if seconds is None:
        return ""
    return f"{round(seconds * 1000)}ms" if seconds % 1 else f"{round(seconds)}s"


def _weighted(each: WeightedBackend) -> dict[str, Any]:
    to = {"backend": each.backend.key} if each.backend else {"status": each.status}
    return {"weight": each.weight} | to | _kept(filters=[filter_data(one) for one in each.filters])


def _endpoints(backend: Backend, endpoints: Endpoints) -> dict[str, Any]:
    return _kept(source=endpoints.source, addresses=[host_port(ip, port) for ip, port in endpoints.addresses],
                 names=[host_port(name, port) for name, port in endpoints.names],
                 hosts=[*endpoints.hosts], hostPort=endpoints.host_port,
                 tls=_backend_tls(backend.tls) if backend.tls else {},
                 retryBudget=_budget(backend.retry_budget) if backend.retry_budget else {},
                 session=_session(backend.session) if backend.session else {},
                 policy=_policy(endpoints.policy) if endpoints.policy else {})


def _budget(budget: RetryBudget) -> dict[str, Any]:
    return {"percent": budget.percent, "interval": duration(budget.interval), "minimum": budget.minimum,
            "minimumInterval": duration(budget.minimum_interval)}


def _session(session: SessionPersistence) -> dict[str, Any]:
    path = session.path if session.path != "/" else ""
    return _kept(type=session.type, sessionName=session.name, path=path, absoluteTimeout=duration(session.absolute_timeout),
                 lifetimeType="Permanent" if session.permanent else "")


def _policy(policy: TargetPolicy) -> dict[str, Any]:
    passive = policy.passive
    return {"name": policy.name} | _kept(passive={
        "consecutiveFailures": passive.failures, "baseEjectionMs": passive.ejection_ms,
        "maxEjectionPercent": passive.percent} if passive else {}, active=_active(policy.active) if policy.active else {},
        slowStartMs=policy.slow_start_ms, circuitBreaker={
            "maxParallelRequests": policy.parallel, "maxPendingRequests": policy.pending,
            "pendingTimeoutMs": policy.pending_ms} if policy.parallel else {})


def _active(check: Active) -> dict[str, Any]:
    http = _kept(method=check.method, path=check.path, hostname=check.hostname, expectedStatuses=[*check.statuses])
    return {"type": check.type, "intervalMs": check.interval_ms, "timeoutMs": check.timeout_ms,
            "unhealthyThreshold": check.unhealthy, "healthyThreshold": check.healthy} | _kept(
            http=http if check.type == "HTTP" else {}, grpc=_kept(service=check.service))


def health_words(policy: TargetPolicy | None) -> list[str]:
    """Say what a BackendPolicy does for the health of endpoints, one line each."""
    lines = []
    if policy and (check := policy.active):
        host = check.hostname and f" of {check.hostname}"
        question = {"HTTP": f"{check.method} {check.path}{host} ({', '.join(map(str, check.statuses))})", "TCP": "a connection",
                    "GRPC": f"grpc.health.v1 of {check.service or 'the server'}"}[check.type]
        lines.append(f"probed every {check.interval_ms / 1000:g} s: {question} in {check.timeout_ms / 1000:g} s; out after "
                     f"{_times(check.unhealthy, 'failure')}, back after {_times(check.healthy, 'success', 'es')} "
                     f"(BackendPolicy {policy.name})")
    if policy and (passive := policy.passive):
        lines.append(f"out after {_times(passive.failures, 'failure')}, for {passive.ejection_ms / 1000:g} s and more, "
                     f"{passive.percent} % of the endpoints at most (BackendPolicy {policy.name})")
    if policy and policy.slow_start_ms:
        lines.append(f"an endpoint that is new has its whole share after {policy.slow_start_ms / 1000:g} s "
                     f"(BackendPolicy {policy.name})")
    if policy and policy.parallel:
        lines.append(f"{_requests(policy.parallel)} at once to an endpoint; {_requests(policy.pending)} of each worker wait for "
                     f"{policy.pending_ms / 1000:g} s at most, then 503 (BackendPolicy {policy.name})")
    return lines


def _requests(count: int) -> str:
    return f"{count} request{'s' * (count != 1)}"


def _times(count: int, what: str, plural: str = "s") -> str:
    return f"1 {what}" if count == 1 else f"{count} {what}{plural} in a row"


def _backend_tls(tls: BackendTLS) -> dict[str, Any]:
    authorities = [f"{len(tls.ca)} in PEM"] if tls.ca else []
    return _kept(hostname=tls.hostname, authorities=authorities + ["System"] * tls.system,
                 subjectAltNames=[f"{kind} {value}" for kind, value in tls.sans], alpn=[*tls.alpn],
                 clientCertificate=_certificate(tls.certificate) if tls.certificate else {})


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


PATH_WORDS = {"Exact": "path {}", "PathPrefix": "path under {}", "RegularExpression": "path ~ {}"}
CALL_WORDS = {"Exact": "method {}", "PathPrefix": "service {}", "RegularExpression": "method ~ {}"}
CONNECTIONS = {"TLSRoute": "connection", "TCPRoute": "connection", "UDPRoute": "datagram"}


def match_words(entry: Entry) -> str:
    """Say in one line what a request must have: 'path under /api, method GET, header x-env = prod'."""
    match, kind = entry.match, entry.rule.kind
    if kind in CONNECTIONS:
        return f"any {CONNECTIONS[kind]}"
    if kind == "GRPCRoute":
        parts = [CALL_WORDS[match.path_type].format(match.path[1:])]
        parts = ["any call"] if (match.path_type, match.path) in (ANY_CALL, ("PathPrefix", "/")) else parts
    else:
        parts = [PATH_WORDS[match.path_type].format(match.path)]
        parts = ["any path"] if (match.path_type, match.path) == ("PathPrefix", "/") else parts
    parts += [f"method {match.method}"] if match.method else []
    parts += [f"header {_condition(each)}" for each in match.headers]
    parts += [f"query {_condition(each)}" for each in match.query]
    return ", ".join(parts)


def _condition(each: ValueMatch) -> str:
    return f"{each.name} {'~' if each.regex else '='} {each.value}"


def answer_words(kind: str, status: int) -> str:
    """Say what a rule of a route of this kind does where it has nothing but a status to give."""
    if kind in CONNECTIONS:
        return f"{'drops' if kind == 'UDPRoute' else 'closes'} the {CONNECTIONS[kind]}"
    return "answers UNAVAILABLE" if kind == "GRPCRoute" and status in (500, 503) else f"answers {status}"


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
        case CorsFilter():
            return [f"CORS for {' or '.join(each.origins) or 'no origin'}{', with credentials' * each.credentials}"]
        case MirrorFilter():
            share = "" if each.numerator == each.denominator else f", {each.numerator} of {each.denominator} requests"
            return [f"mirrored to {backend_words(each.backend)}{share}"]
        case AuthorizeFilter():
            return [f"authorized by {backend_words(each.backend)}{' with ext_authz' * each.grpc}{each.path}"]
        case ExtensionFilter():
            where = each.module or os.path.basename(each.file) or f"ConfigMap {each.config_map}"
            return [f"Python: {each.class_name} of {where} (PythonFilter {each.name})"]
        case AnswerFilter():
            return [f"answers {each.status}: {each.reason}"]


def policy_words(rule: Rule) -> list[str]:
    """Say how long a rule's requests may take, when they are tried again and how their sessions are known, one line each."""
    timeouts, retry, lines = rule.timeouts, rule.retry, []
    for seconds, what in ((timeouts.request, "whole request"), (timeouts.backend_request, "attempt")) if timeouts else ():
        if seconds is not None:
            lines.append(f"{duration(seconds)} for the {what}, then 504" if seconds else f"no limit for the {what}")
    if retry and retry.attempts == 0:
        lines.append("never tried again")
    elif retry:
        codes = f", and after {', '.join(map(str, retry.codes))}" if retry.codes else ""
        times = f" at most {retry.attempts} time{'s' * (retry.attempts > 1)}" if retry.attempts else ""
        wait = f", {duration(retry.backoff)} or more later" if retry.backoff else ""
        lines.append(f"tried again{times} where the connection fails{codes}{wait}")
    sessions = sessions_of(rule, None)
    return lines + (_session_words(sessions.session, sessions.name) if sessions else [])


def traffic_words(backend: Backend, rule: Rule | None = None) -> list[str]:
    """Say what an XBackendTrafficPolicy says of a backend: its retries, and its sessions unless the rule has its own."""
    words = _budget_words(backend.retry_budget)
    if backend.session is None or (rule is not None and rule.session is not None):
        return words
    sessions = sessions_of(rule, backend) if rule else None
    return words + _session_words(backend.session, sessions.name if sessions else backend.session.name)


def _session_words(session: SessionPersistence, name: str) -> list[str]:
    until = f", for {duration(session.absolute_timeout)} at most" if session.absolute_timeout else ""
    which = f"the {'permanent ' * session.permanent}{session.type.lower()} {name}" if name else (
        f"a {'permanent ' * session.permanent}{session.type.lower()} of each rule's own")
    return [f"sessions known by {which}{until}"]


def _budget_words(budget: RetryBudget | None) -> list[str]:
    if budget is None:
        return []
    return [f"retries are {budget.percent} % of the requests in {duration(budget.interval)} at most, "
            f"{budget.minimum} in {duration(budget.minimum_interval)} at least"]


def _path_words(path: PathModifier | None) -> list[str]:
    if path is None:
        return []
    return [f"{'path' if path.type == 'ReplaceFullPath' else 'matched prefix'} becomes {path.value}"]


def backend_words(backend: Backend) -> str:
    """Name a backend: 'namespace/name:port', and what is spoken with it if that is not plain HTTP."""
    words: list[str] = [] if backend.protocol == "http" else ["HTTP/2" if backend.protocol == "h2c" else backend.protocol]
    words += [f"TLS as {backend.tls.hostname}"] if backend.tls else []
    name = f"{backend.namespace}/{backend.name}:{backend.port}"
    return f"{name} ({', '.join(words)})" if words else name


def rule_words(entry: Entry) -> str:
    """Name the rule and match of an entry: 'namespace/route rules[0].matches[1]'."""
    return f"{entry.rule.namespace}/{entry.rule.route} rules[{entry.rule.index}].matches[{entry.match.index}]"
