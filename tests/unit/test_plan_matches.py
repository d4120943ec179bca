"""What routes of other kinds match, as matches of the plan."""
import pytest

from gwfast.config import model as m
from gwfast.graph.methods import method_path
from gwfast.plan import ir, regex
from gwfast.plan.matches import plan_matches
from gwfast.plan.precedence import entry_key

CALLS = ["/s.S/Get", "/s.S/GetAll", "/s.S2/Get", "/s.S/a.Get", "/other/Get", "/s.S/"]


def method(service=None, name=None, kind="Exact"):
    return m.GRPCMethodMatch(service=service, method=name, type=kind)


def pattern(service=None, name=None):
    return method(service, name, "RegularExpression")


METHODS = [
    (None, ("RegularExpression", "/.*"), CALLS),
    (method(), ("RegularExpression", "/.*"), CALLS),
    (pattern(), ("RegularExpression", "/.*"), CALLS),
    (method("s.S", "Get"), ("Exact", "/s.S/Get"), ["/s.S/Get"]),
    (method("s.S"), ("PathPrefix", "/s.S"), ["/s.S/Get", "/s.S/GetAll", "/s.S/a.Get", "/s.S/"]),
    (method(None, "Get"), ("RegularExpression", "/[^/]+/Get"), ["/s.S/Get", "/s.S2/Get", "/other/Get"]),
    (method(None, "a.Get"), ("RegularExpression", r"/[^/]+/a\.Get"), ["/s.S/a.Get"]),
    (pattern("s.S2?", "Get"), ("RegularExpression", "/(?:s.S2?)/(?:Get)"), ["/s.S/Get", "/s.S2/Get"]),
    (pattern("^s.*$"), ("RegularExpression", "/(?:s.*)/[^/]+"), ["/s.S/Get", "/s.S/GetAll", "/s.S2/Get", "/s.S/a.Get"]),
    (pattern(None, "^Get|a.*$"), ("RegularExpression", "/[^/]+/(?:Get|a.*)"),
     ["/s.S/Get", "/s.S2/Get", "/s.S/a.Get", "/other/Get"]),
    (pattern(None, r"Get\$"), ("RegularExpression", r"/[^/]+/(?:Get\$)"), []),
    (pattern(None, r"Get\\$"), ("RegularExpression", r"/[^/]+/(?:Get\\)"), []),
]


@pytest.mark.parametrize(("written", "path", "taken"), METHODS, ids=[case[1][1] for case in METHODS])
def test_methods_are_paths(written, path, taken):
    assert method_path(written) == path
    kind, value = path
    if kind == "RegularExpression":
        automaton = regex.compile(value)
        assert [call for call in CALLS if automaton.fullmatch(call)] == taken


def test_a_rule_without_matches_takes_every_call():
    (match,) = plan_matches(m.GRPCRouteRule())
    assert (match.path_type, match.path, match.index) == ("RegularExpression", "/.*", 0)


def test_headers_of_calls():
    headers = tuple(m.GRPCHeaderMatch(name=name, value=value) for name, value in (("X-A", "1"), ("x-a", "2"), ("b", "3")))
    (match,) = plan_matches(m.GRPCRouteRule(matches=(m.GRPCRouteMatch(headers=headers),)))
    assert [(each.name, each.value) for each in match.headers] == [("x-a", "1"), ("b", "3")]


@pytest.mark.parametrize("rule", [m.TLSRouteRule, m.TCPRouteRule, m.UDPRouteRule])
def test_a_connection_is_a_request_for_the_root(rule):
    (match,) = plan_matches(rule(backend_refs=(m.BackendRef(name="s", port=1),)))
    assert (match.path_type, match.path, match.method, match.headers, match.query) == ("PathPrefix", "/", "", (), ())


def test_calls_are_in_the_order_of_the_specification():
    """spec 5.6: characters of the service, of the method, number of headers."""
    header = (m.GRPCHeaderMatch(name="a", value="b"),)
    wanted = [m.GRPCRouteMatch(method=method("s.S", "GetAll")), m.GRPCRouteMatch(method=method("s.S", "Get"), headers=header),
              m.GRPCRouteMatch(method=method("s.S", "Get")), m.GRPCRouteMatch(method=method("s.S")),
              m.GRPCRouteMatch(method=method(None, "GetAll")), m.GRPCRouteMatch(method=method(None, "Get")),
              m.GRPCRouteMatch(headers=header), m.GRPCRouteMatch()]
    rule = ir.Rule(kind="GRPCRoute", namespace="n", route="r", index=0)
    entries = [ir.Entry(match=match, rule=rule) for match in plan_matches(m.GRPCRouteRule(matches=tuple(reversed(wanted))))]
    assert [len(wanted) - 1 - entry.match.index for entry in sorted(entries, key=entry_key)] == list(range(len(wanted)))
