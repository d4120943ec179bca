"""One request through a plan: who serves it, what it gets, and why the others do not."""
import pytest
from msgspec.structs import replace

from gwfast.errors import UsageError
from gwfast.plan.explain import binds_for, explain, location, read_request
from gwfast.plan.ir import (
    AnswerFilter,
    Backend,
    Bind,
    Entry,
    HeaderFilter,
    Host,
    Listener,
    Match,
    PathModifier,
    Plan,
    RedirectFilter,
    RewriteFilter,
    Rule,
    ValueMatch,
    WeightedBackend,
)
from gwfast.plan.precedence import entry_key, host_key

SVC, OTHER = (Backend(namespace="default", name=name, port=80) for name in ("svc", "other"))
FULL = PathModifier(type="ReplaceFullPath", value="/full")
PREFIX = PathModifier(type="ReplacePrefixMatch", value="/new/")


ONE = (WeightedBackend(backend=SVC),)


def entry(name, match=None, filters=(), backends=ONE):
    rule = Rule(kind="HTTPRoute", namespace="default", route=name, index=0, filters=filters, backends=backends)
    return Entry(match=match or Match(), rule=rule)


def bind(listeners, port=80, **given):
    return Bind(**{"address": "", "port": port} | given, listeners=tuple(
        Listener(id=f"default/gw/{name}", hostname=name, hosts=tuple(
            Host(hostname=host, entries=tuple(sorted(hosts[host], key=entry_key)))
            for host in sorted(hosts, key=host_key)))
        for name, hosts in listeners.items()))


def ask(where, url, method="GET", *headers):
    return explain(where, read_request(method, url, list(headers)))


HOSTS = bind({
    "": {"": [entry("any"), entry("fallen", Match(path="/f"))], "a.example": [entry("exact", Match(path="/a"))],
         "*.example": [entry("wild", Match(path="/b"))]},
    "*.isolated.example": {"*.isolated.example": [entry("isolated", Match(path="/i"))]},
    "empty.example": {},
})


@pytest.mark.parametrize(("url", "served", "host"), [
    ("http://a.example/a", "exact", "a.example"),
    ("http://A.Example:80/a/x", "exact", "a.example"),
    ("http://a.example./a", "exact", "a.example"),
    ("http://a.example/b", "wild", "*.example"),
    ("http://x.y.example/b", "wild", "*.example"),
    ("http://a.example/c", "any", ""),
    ("http://b.org/f/", "fallen", ""),
    ("http://x.isolated.example/i", "isolated", "*.isolated.example"),
    ("http://x.isolated.example/b", None, None),
    ("http://empty.example/", None, None),
])
def test_listener_alone_then_hosts_in_turn(url, served, host):
    found = ask(HOSTS, url)
    assert (found.entry and found.entry.rule.route, found.host and found.host.hostname) == (served, host)
    assert found.status == (0 if served else 404)


CONDITIONS = Match(path="/x", method="POST", headers=(ValueMatch(name="env", value="v[0-9]", regex=True),),
                   query=(ValueMatch(name="q", value="1"),))


@pytest.mark.parametrize(("url", "method", "headers", "why"), [
    ("http://h/y?q=1", "POST", ["Env: v1"], ["path /y is not under /x"]),
    ("http://h/x?q=1", "GET", ["Env: v1"], ["method is GET, not POST"]),
    ("http://h/x?q=1", "POST", [], ["header env missing"]),
    ("http://h/x?q=1", "POST", ["env: v10"], ["header env is 'v10', not like 'v[0-9]'"]),
    ("http://h/x", "POST", ["env: v1"], ["query parameter q missing"]),
    ("http://h/x?q=2&q=1", "POST", ["env: v1"], ["query parameter q is '2', not '1'"]),
    ("http://h/", "GET", [], ["path / is not under /x", "method is GET, not POST", "header env missing",
                              "query parameter q missing"]),
    ("http://h/x?q=1", "POST", ["env: v1", "env: v2"], ["header env is 'v1, v2', not like 'v[0-9]'"]),
    ("http://h/a/../x?q=1", "post", ["ENV:v1"], None),
    ("http://h/x/%79?%71=%31", "POST", ["env: v1"], None),
])
def test_what_did_not_match_is_named(url, method, headers, why):
    found = ask(bind({"": {"": [entry("r", CONDITIONS)]}}), url, method, *headers)
    assert [loser.why for loser in found.losers] == ([why] if why else [])
    assert found.status == (404 if why else 0)


def test_later_entries_say_why_they_lost():
    found = ask(bind({"": {"": [entry("long", Match(path="/a/b")), entry("short", Match(path="/a")), entry("root")],
                           "*.org": [entry("elsewhere", Match(path="/z"))]}}), "http://x.org/a/b")
    assert found.entry.rule.route == "long"
    assert [(loser.entry.rule.route, loser.matched, loser.why[0]) for loser in found.losers] == [
        ("elsewhere", False, "path /a/b is not under /z"),
        ("short", True, "longer path (4 characters) beats shorter (2)"),
        ("root", True, "longer path (4 characters) beats shorter (1)"),
    ]


def test_a_more_specific_hostname_is_named_as_the_reason():
    found = ask(bind({"": {"": [entry("any", Match(path="/long"))], "a.org": [entry("own")]}}), "http://a.org/long")
    assert [loser.why for loser in found.losers] == [["hostname a.org is more specific than any"]]


def test_shares_and_what_filters_do():
    own = (HeaderFilter(on="response", remove=("server",)),)
    rule = entry("r", Match(path="/old"), (RewriteFilter(hostname="svc.example", path=PREFIX),
                                           HeaderFilter(on="request", set=(("x-a", "1"),))),
                 (WeightedBackend(weight=9, backend=SVC), WeightedBackend(weight=0, backend=SVC),
                  WeightedBackend(weight=2, backend=OTHER, filters=own), WeightedBackend(weight=1)))
    shares = ask(bind({"": {"": [rule]}}), "http://h/old/x?y=1").shares
    assert [(share.percent, share.backend, share.status) for share in shares] == [
        (75, SVC, 0), (pytest.approx(100 * 2 / 12), OTHER, 0), (pytest.approx(100 / 12), None, 500)]
    assert {(share.target, share.host) for share in shares} == {("/new/x?y=1", "svc.example")}
    assert shares[1].changes == ["request header x-a set to '1'", "response header server removed"]


@pytest.mark.parametrize(("filters", "backends", "status"), [
    ((), (), 500), ((), (WeightedBackend(weight=0, backend=SVC),), 500),
    ((AnswerFilter(status=500, reason="no"), RedirectFilter()), (), 500),
    ((RedirectFilter(status=308), AnswerFilter(status=500, reason="no")), (), 308),
], ids=["no backends", "no weight", "refused filter first", "redirect first"])
def test_rules_that_answer_themselves(filters, backends, status):
    (share,) = ask(bind({"": {"": [entry("r", filters=filters, backends=backends)]}}), "http://h/").shares
    assert (share.status, share.backend, share.percent) == (status, None, 100)


@pytest.mark.parametrize(("port", "redirect", "expected"), [
    (80, RedirectFilter(), "http://h/old/x?y=1"),
    (8080, RedirectFilter(), "http://h:8080/old/x?y=1"),
    (8080, RedirectFilter(scheme="http"), "http://h/old/x?y=1"),
    (8080, RedirectFilter(scheme="https"), "https://h/old/x?y=1"),
    (80, RedirectFilter(scheme="https", port=8443), "https://h:8443/old/x?y=1"),
    (80, RedirectFilter(scheme="https", port=443), "https://h/old/x?y=1"),
    (80, RedirectFilter(port=8083), "http://h:8083/old/x?y=1"),
    (80, RedirectFilter(hostname="o.example", path=FULL), "http://o.example/full?y=1"),
    (80, RedirectFilter(path=PREFIX), "http://h/new/x?y=1"),
])
def test_location(port, redirect, expected):
    request = read_request("GET", f"http://h:{port}/old/x?y=1", [])
    assert location(redirect, entry("r", Match(path="/old")), request, bind({}, port)) == expected


@pytest.mark.parametrize(("url", "status"), [("/a%2Fb", 400), ("/a%2fc", 0), ("/b%2Fa", 0)])
def test_an_escaped_slash_that_leads_elsewhere_is_refused(url, status):
    where = bind({"": {"": [entry("root"), entry("deep", Match(path="/a/b"))]}})
    assert ask(where, f"http://h{url}").status == status


def test_binds_are_chosen_by_port_and_address():
    plan = Plan(binds=(bind({}), bind({}, address="127.0.0.1"), bind({}, port=443, transport="tls")))
    chosen = {url: [each.address for each in binds_for(plan, read_request("GET", url, []))]
              for url in ("http://h/", "http://127.0.0.1/", "https://h/", "http://h:81/", "/")}
    assert list(chosen.values()) == [["", "127.0.0.1"], ["127.0.0.1"], [""], [], ["", "127.0.0.1", ""]]


@pytest.mark.parametrize(("port", "scheme"), [(80, "http"), (8080, "http"), (443, "https")])
def test_a_path_alone_is_asked_of_the_port_as_if_it_had_come_there(port, scheme):
    found = ask(bind({"": {"": [entry("any")]}}, port=port, transport="tls" if scheme == "https" else scheme), "/p")
    assert (found.request.port, found.request.scheme, found.entry.rule.route) == (port, scheme, "any")


def test_host_header_and_url_forms():
    request = read_request("GET", "/p?q", ["Host: Shop.Example:8080"])
    assert (request.host, request.port, request.path, request.query) == ("shop.example", 80, "/p", "q")
    assert read_request("GET", "shop.example:8080/p", []).port == 8080
    assert read_request("GET", "https://shop.example", []).path == "/"


@pytest.mark.parametrize(("url", "headers"), [("ftp://h/", []), ("http://h:port/", []), ("http://h/", ["no colon"])])
def test_usage(url, headers):
    with pytest.raises(UsageError):
        read_request("GET", url, headers)


def matching(name, value, regex=False):
    return entry(name, Match(headers=(ValueMatch(name=name, value=value, regex=regex),)))


FORWARDED = bind({"": {"": [matching("x-forwarded-proto", "https"), matching("x-forwarded-for", "10[.].*", True),
                            matching("x-forwarded-user", ".*", True), entry("rest")]}})


@pytest.mark.parametrize(("headers", "stranger", "trusted"), [
    ([], "rest", "rest"), (["X-Forwarded-Proto: https"], "rest", "x-forwarded-proto"),
    (["X-Forwarded-For: 10.1.1.1"], "rest", "x-forwarded-for"), (["x-forwarded-USER: root"], "rest", "x-forwarded-user"),
    (["X_Forwarded_User: root"], "rest", "rest"),
])
def test_rules_match_what_backends_see(headers, stranger, trusted):
    request = read_request("GET", "http://a.example/", headers)
    assert explain(FORWARDED, request).entry.rule.route == stranger
    assert explain(FORWARDED, replace(request, trusted=True)).entry.rule.route == trusted


def test_what_the_gateway_says_is_matched():
    where = bind({"": {"": [entry("own", Match(headers=tuple(ValueMatch(name=f"x-forwarded-{name}", value=value) for name, value in (
        ("proto", "http"), ("for", "127.0.0.1"), ("host", "a.example:81")))))]}}, port=81)
    assert ask(where, "http://a.example:81/").entry is not None


@pytest.mark.parametrize(("headers", "stranger", "trusted"), [
    (["X-Forwarded-Proto: https"], "http://h/x", "https://h/x"), (["X-Forwarded-Port: 8443"], "http://h/x", "http://h:8443/x"),
    (["X-Forwarded-Proto: https", "X-Forwarded-Host: b:8443, c"], "http://h/x", "https://b:8443/x"),
    (["X-Forwarded-Host: b/c", "X-Forwarded-Proto: ftp", "X-Forwarded-Port: 0"], "http://h/x", "http://h/x"),
])
def test_a_redirect_leads_where_the_client_is(headers, stranger, trusted):
    where = bind({"": {"": [entry("r", filters=(RedirectFilter(),))]}})
    for believed, expected in ((False, stranger), (True, trusted)):
        found = explain(where, read_request("GET", "http://h/x", headers, believed))
        assert found.shares[0].location == expected
