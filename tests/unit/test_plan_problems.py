"""What is wrong is told by `gwfast run` as by `gwfast check`, and once."""
from pathlib import Path

import pytest

from gwfast import cli, show
from gwfast.config.locate import locate
from gwfast.plan.ir import AnswerFilter
from gwfast.plan.problems import answers
from gwfast.serve.files import Files
from gwfast.serve.generation import Pipeline
from gwfast.serve.options import ServeOptions

GOLDEN = sorted(Path(__file__).parents[1].glob("golden/*.in.yaml"))
FRAMING = """\
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: gw}
spec:
  gatewayClassName: any
  listeners: [{name: web, protocol: HTTP, port: 80}]
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: r}
spec:
  parentRefs: [{name: gw}]
  rules:
  - filters: [{type: ExternalAuth, externalAuth: {protocol: GRPC, grpc: {}, backendRef: {name: a, namespace: b, port: 80}}}]
    backendRefs: [{name: a, port: 80}]
  - matches: [{path: {value: /b}}]
    backendRefs:
    - name: a
      port: 80
      filters:
      - {type: RequestHeaderModifier, requestHeaderModifier: {remove: [Connection]}}
"""


def told_by_check(*paths: Path) -> list[str]:
    reading = show.read(cli.parser("check").parse_args(["check", *map(str, paths)]))
    alone = [("note", "Shadowed"), ("note", "BackendNotFound")]  # what only who looks wants to know
    return sorted(str(each) for each in show.problems(reading) if (each.severity, each.reason) not in alone)


def told_by_run(*paths: Path) -> list[str]:
    reading = Pipeline(Files(map(str, paths)), ServeOptions()).read(None)
    return sorted(map(str, locate(reading.problems())))


@pytest.mark.parametrize("path", GOLDEN, ids=lambda path: path.name.partition(".")[0])
def test_run_tells_what_check_tells(path):
    assert told_by_run(path) == told_by_check(path)


def ends(plan):
    """Yield what of a plan can only be answered 500 or 503 (or closed), and what may say why: its resource, or a policy."""
    rules = {entry.rule for bind in plan.binds for listener in bind.listeners for host in listener.hosts for entry in host.entries}
    empty = {each.key for each in plan.endpoints if each.empty}
    for rule in rules:
        told = f"{rule.kind} {rule.namespace}/{rule.route}"
        filters = [*rule.filters, *(one for each in rule.backends for one in each.filters)]
        if any(isinstance(one, AnswerFilter) for one in filters):
            yield rule.id, told
        elif not any(map(answers, rule.filters)) and not any(each.weight for each in rule.backends):
            yield rule.id, told
        for each in rule.backends:
            if each.weight and each.backend is None:
                yield rule.id, (told, "BackendTLSPolicy", "XBackend")
            elif each.backend and each.backend.key in empty:
                kind, _, name = each.backend.name.rpartition(".")  # XBackend.NAME, or the name of a Service
                yield rule.id, (f"{kind or 'Service'} {each.backend.namespace}/{name}", "EndpointSlice")


@pytest.mark.parametrize("path", GOLDEN, ids=lambda path: path.name.partition(".")[0])
def test_nothing_ends_in_500_or_503_without_a_word(path):
    reading = Pipeline(Files((str(path),)), ServeOptions()).read(None)
    resources = [each.resource for each in reading.problems() if each.severity != "note"]
    silent = {rule: told for rule, told in ends(reading.plan) if not any(one.startswith(told) for one in resources)}
    assert not silent


def test_a_filter_that_became_an_answer_is_told_once(tmp_path):
    path = tmp_path / "x.yaml"
    path.write_text(FRAMING)
    assert told_by_run(path) == told_by_check(path) == [
        f"{path}:14: error: HTTPRoute default/r spec.rules[0].filters[0].externalAuth.backendRef: "
        "no ReferenceGrant in b lets a HTTPRoute of default refer to Service a (RefNotPermitted)",
        f"{path}:14: error: HTTPRoute default/r spec.rules[0].filters[0]: "
        "its authorizer cannot be asked (UnsupportedValue)",
        f"{path}:21: error: HTTPRoute default/r spec.rules[1].backendRefs[0].filters[0]: "
        "RequestHeaderModifier may not change the field 'connection': answers 500 (UnsupportedValue)",
    ]
