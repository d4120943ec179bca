"""explain() against the oracle: what people are told is what the spec says."""
import matcher
import msgspec
import plans
from hypothesis import given, settings
from hypothesis import strategies as st

from gwfast.plan import ir
from gwfast.plan.explain import Request, explain
from gwfast.plan.paths import normal_path, normal_prefix
from gwfast.plan.precedence import entry_key


def proper(plan):
    """Return the plan with matches as `build` makes them: normal paths, one condition for each name."""
    (bind,) = plan.binds
    return ir.Plan(binds=(msgspec.structs.replace(bind, listeners=tuple(
        msgspec.structs.replace(listener, hosts=tuple(
            msgspec.structs.replace(host, entries=tuple(sorted(
                {entry_key(one): one for one in map(proper_entry, host.entries)}.values(), key=entry_key)))
            for host in listener.hosts))
        for listener in bind.listeners)),))


def proper_entry(entry):
    match = entry.match
    path = match.path
    if match.path_type != "RegularExpression":
        path = normal_prefix(path) if match.path_type == "PathPrefix" else normal_path(path)
    headers, query = (tuple({one.name: one for one in reversed(each)}.values())
                      for each in (match.headers, match.query))
    return ir.Entry(match=msgspec.structs.replace(match, path=path, headers=headers, query=query), rule=entry.rule)


@settings(max_examples=60)
@given(st.randoms(use_true_random=True))
def test_explain_is_the_oracle(random):
    plan = proper(plans.plan(random))
    for _ in range(60):
        method, target, headers = plans.request(random, plan)
        path, _, query = target.partition("?")
        target = normal_path(path) + ("?" + query if query else "")
        host = next(value.lower() for name, value in headers if name.lower() == "host")
        found = explain(plan.binds[0], Request(
            method=method, scheme="http", address="", port=80, host=host, path=path, query=query,
            headers=tuple((name.lower(), value) for name, value in headers)))
        expected = matcher.find(plan.binds[0], method, target, headers)
        assert (found.entry and (found.listener.id, found.entry.rule.id)) == (expected and expected[:2]), target
