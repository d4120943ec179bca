"""Which entries can never match: what is certain is said, nothing else."""
import pytest

from gwfast.plan.ir import Bind, Entry, Host, Listener, Match, Plan, Rule, ValueMatch
from gwfast.plan.precedence import entry_key
from gwfast.plan.shadow import shadows


def match(path, method="", headers=(), query=()):
    kind, value = path.split(" ")
    headers, query = (tuple(ValueMatch(name=n, value=v) for n, v in each) for each in (headers, query))
    return Match(path_type=kind, path=value, method=method, headers=headers, query=query)


A, B = ("a", "1"), ("b", "1")
CASES = [
    ("the same twice", match("Exact /a"), match("Exact /a"), True),
    ("other path", match("Exact /a"), match("Exact /b"), False),
    ("longer prefix", match("PathPrefix /a/b"), match("PathPrefix /a"), False),
    ("exact below a prefix", match("Exact /a"), match("PathPrefix /a"), False),
    ("'/' behind an expression for everything", match("PathPrefix /"), match("RegularExpression /.*"), True),
    ("a prefix behind it", match("PathPrefix /a"), match("RegularExpression .*"), True),
    ("an exact path before it", match("Exact /a"), match("RegularExpression /.*"), False),
    ("another expression before it", match("RegularExpression /abc[0-9]"), match("RegularExpression /.*"), False),
    ("'/' behind an expression for everything with a method", match("PathPrefix /"), match("RegularExpression /.*", "GET"), False),
    ("'/' and such an expression with one method", match("PathPrefix /", "GET"), match("RegularExpression /.*", "GET"), True),
    ("'/' behind an expression for less", match("PathPrefix /"), match("RegularExpression /[a-z]*"), False),
    ("expression below another prefix", match("PathPrefix /a"), match("RegularExpression /a"), False),
    ("same conditions in another order", match("PathPrefix /a", "", [A, B]), match("PathPrefix /a", "", [B, A]), True),
    ("fewer conditions later", match("PathPrefix /a", "", [A]), match("PathPrefix /a"), False),
    ("a method beats a header", match("PathPrefix /a", "GET"), match("PathPrefix /a", "", [A]), False),
    ("method and header", match("PathPrefix /a", "GET"), match("PathPrefix /a", "POST"), False),
    ("many conditions", match("PathPrefix /a", "", [(str(i), "") for i in range(9)]),
     match("PathPrefix /a", "", [(str(i), "") for i in range(9)]), True),
    ("header with another value", match("PathPrefix /a", "", [A]), match("PathPrefix /a", "", [("a", "2")]), False),
    ("query is not a header", match("PathPrefix /a", "", [A]), match("PathPrefix /a", "", (), [A]), False),
]


@pytest.mark.parametrize(("first", "second", "shadowed"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
def test_shadow(first, second, shadowed):
    entries = [Entry(match=each, rule=Rule(kind="HTTPRoute", namespace="ns", route="r", index=index))
               for index, each in enumerate((first, second))]
    entries.sort(key=entry_key)
    host = Host(hostname="", entries=tuple(entries))
    found = shadows(Plan(binds=(Bind(address="", port=80, listeners=(Listener(id="ns/gw/l", hosts=(host,)),)),)))
    assert [(each.entry, each.by) for each in found] == ([(entries[1], entries[0])] if shadowed else [])


HOSTS = [  # listener, host of the first, host of the second, whether the first takes all of the second's requests
    ("a.example", "a.example", "", True), ("a.example", "*.example", "", True), ("*.a.example", "*.a.example", "*.example", True),
    ("*.a.example", "b.a.example", "", False), ("", "a.example", "", False), ("", "*.example", "", False),
]


@pytest.mark.parametrize(("listener", "first", "second", "shadowed"), HOSTS)
@pytest.mark.parametrize("path", ["PathPrefix /", "Exact /a", "PathPrefix /a", "RegularExpression /.*"])
def test_shadow_over_hosts(listener, first, second, shadowed, path):
    entries = [Entry(match=each, rule=Rule(kind="HTTPRoute", namespace="ns", route=name, index=0))
               for name, each in (("r", match("PathPrefix /")), ("s", match(path)))]
    hosts = tuple(Host(hostname=name, entries=(each,)) for name, each in zip((first, second), entries, strict=True))
    one = Listener(id="ns/gw/l", hostname=listener, hosts=hosts)
    found = shadows(Plan(binds=(Bind(address="", port=80, listeners=(one,)),)))
    assert [(each.entry, each.by) for each in found] == ([(entries[1], entries[0])] if shadowed else [])
