# ruff: noqa: E501 (lines as they are printed)
"""check, routes and explain as a person meets them: the text word by word, the same as data, and the exit status."""
import json

import pytest
import yaml

from gwfast.cli import main

CONFIG = """\
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: gw}
spec:
  gatewayClassName: any
  listeners:
  - {name: web, protocol: HTTP, port: 80}
  - {name: admin, protocol: HTTP, port: 8080, hostname: "*.admin.example"}
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: shop}
spec:
  parentRefs: [{name: gw, sectionName: web}]
  hostnames: [shop.example]
  rules:
  - name: api
    matches:
    - {path: {value: /api}, method: POST}
    - {path: {value: /api}, headers: [{name: X-Env, value: canary}]}
    filters:
    - {type: URLRewrite, urlRewrite: {path: {type: ReplaceFullPath, replaceFullPath: /v1}}}
    backendRefs:
    - {name: v1, port: 80, weight: 9}
    - name: v2
      port: 80
      filters:
      - {type: RequestHeaderModifier, requestHeaderModifier: {set: [{name: X-Canary, value: "yes"}]}}
  - filters: [{type: RequestRedirect, requestRedirect: {scheme: https, statusCode: 301}}]
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: old}
spec:
  parentRefs: [{name: gw}]
  rules:
  - matches: [{path: {value: /api}}]
    backendRefs: [{name: old, port: 80}]
  - matches: [{path: {type: RegularExpression, value: "/[0-9]+"}}, {path: {type: RegularExpression, value: "/[0-9]+"}}]
    backendRefs: [{name: old, port: 80, weight: 0}]
  - {}
"""
BROKEN = """\
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: broken}
spec:
  parentRefs: [{name: gw, sectionName: nowhere}]
  rules: [{backendRefs: [{name: v1, port: 80}]}]
"""

CHECK = """\
config.yaml:24: note: HTTPRoute default/shop spec.rules[0].backendRefs[0]: there is no Service default/v1 in the files: v1.default or v1 \
is looked up in DNS (BackendNotFound)
config.yaml:25: note: HTTPRoute default/shop spec.rules[0].backendRefs[1]: there is no Service default/v2 in the files: v2.default or v2 \
is looked up in DNS (BackendNotFound)
config.yaml:38: note: HTTPRoute default/old spec.rules[0].backendRefs[0]: there is no Service default/old in the files: old.default or \
old is looked up in DNS; 1 more name it (BackendNotFound)
config.yaml:39: note: HTTPRoute default/old spec.rules[1].matches[1]: never matches on any host of listener \
default/gw/web: default/old rules[1].matches[0] comes first and takes all of its requests (Shadowed)
config.yaml:39: note: HTTPRoute default/old spec.rules[1].matches[1]: never matches on any host of listener \
default/gw/admin: default/old rules[1].matches[0] comes first and takes all of its requests (Shadowed)
config.yaml:40: warning: HTTPRoute default/old spec.rules[1].backendRefs: every weight is 0: answers 500 (NoBackends)
config.yaml:41: warning: HTTPRoute default/old spec.rules[2].backendRefs: there are no backendRefs: answers 500 \
(NoBackends)

Gateway default/gw        Accepted, Programmed, ResolvedRefs
  listener web            Accepted, Programmed, ResolvedRefs, 2 routes
  listener admin          Accepted, Programmed, ResolvedRefs, 1 route
HTTPRoute default/old
  parent gw               Accepted, ResolvedRefs
HTTPRoute default/shop
  parent gw section web   Accepted, ResolvedRefs

2 warnings, 5 notes
"""
ROUTES = """\
*:80 http

  listener default/gw/web   any hostname

    shop.example
        1   path under /api, method POST             default/shop rules[0].matches[0]     90 % default/v1:80
                                                                                          10 % default/v2:80
                                                                                                 request header x-canary set to 'yes'
                                                                                        path becomes /v1
        2   path under /api, header x-env = canary   default/shop rules[0].matches[1]     90 % default/v1:80
                                                                                          10 % default/v2:80
                                                                                                 request header x-canary set to 'yes'
                                                                                        path becomes /v1
        3   any path                                 default/shop rules[1].matches[0]   redirect 301: scheme https

    any host
        1   path ~ /[0-9]+    default/old rules[1].matches[0]   answers 500: no backend with a weight
        2   path ~ /[0-9]+    default/old rules[1].matches[1]   answers 500: no backend with a weight
        3   path under /api   default/old rules[0].matches[0]   default/old:80
        4   any path          default/old rules[2].matches[0]   answers 500: no backend

*:8080 http

  listener default/gw/admin   *.admin.example

    any host
        1   path ~ /[0-9]+    default/old rules[1].matches[0]   answers 500: no backend with a weight
        2   path ~ /[0-9]+    default/old rules[1].matches[1]   answers 500: no backend with a weight
        3   path under /api   default/old rules[0].matches[0]   default/old:80
        4   any path          default/old rules[2].matches[0]   answers 500: no backend

backends

  default/old:80   DNS old.default or old, port 80
  default/v1:80    DNS v1.default or v1, port 80
  default/v2:80    DNS v2.default or v2, port 80

"""
EXPLAIN = """\
POST http://shop.example/api/x?y=1

  port       *:80 http
  listener   default/gw/web   any hostname
  host       shop.example
  rule       default/shop rules[0].matches[0]   api   config.yaml:17
             path under /api, method POST
  gets          90 %  default/v1:80   DNS v1.default or v1, port 80
                      path becomes /v1?y=1
  gets          10 %  default/v2:80   DNS v2.default or v2, port 80
                      path becomes /v1?y=1
                      request header x-canary set to 'yes'

  did not match:
    default/shop rules[0].matches[1]   shop.example   path under /api, header x-env = canary   header x-env missing

  matched too, but come later:
    default/shop rules[1].matches[0]   shop.example   any path          longer path (4 characters) beats shorter (1)
    default/old rules[0].matches[0]    any host       path under /api   hostname shop.example is more specific than any
    default/old rules[2].matches[0]    any host       any path          hostname shop.example is more specific than any
"""


@pytest.fixture
def ask(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "config.yaml").write_text(CONFIG)

    def ask(*arguments):
        status = main([*arguments])
        printed = capsys.readouterr()
        return status, printed.out, printed.err
    return ask


def test_check(ask):
    assert ask("check", "config.yaml") == (0, CHECK, "")


def test_check_fails_for_an_error(ask, tmp_path):
    (tmp_path / "config.yaml").write_text(CONFIG + BROKEN)
    status, text, _ = ask("check", ".")
    line = ("config.yaml:47: error: HTTPRoute default/broken spec.parentRefs[0]: Gateway default/gw has no listener with "
            "name nowhere (NoMatchingParent)")
    assert status == 1
    assert line in text.replace("./", "")
    assert "parent gw section nowhere   not Accepted (NoMatchingParent), ResolvedRefs\n" in text
    assert text.endswith("\n1 error, 2 warnings, 5 notes\n")


def test_routes(ask):
    status, text, _ = ask("routes", "config.yaml")
    assert (status, text.partition("config.yaml:")[0]) == (0, ROUTES)
    assert text.count("config.yaml:39: note: ") == 2 and text.endswith("(Shadowed)\n")


def test_explain(ask):
    assert ask("explain", "config.yaml", "POST", "http://shop.example/api/x?y=1") == (0, EXPLAIN, "")


def test_explain_names_what_answers(ask):
    status, text, _ = ask("explain", "config.yaml", "GET", "/z", "-H", "Host: shop.example")
    assert status == 0
    assert "  gets       answer 301   Location: https://shop.example/z\n" in text


@pytest.mark.parametrize(("url", "served"), [
    ("http://shop.example/api", True), ("http://shop.example/elsewhere", True), ("http://x/api", True),
    ("http://x/", False), ("/api", True), ("http://x:99/", False),
], ids=["backend", "redirect", "another host", "no backend", "one of two ports", "no port"])
def test_exit_status_of_explain(ask, url, served):
    assert ask("explain", "config.yaml", "GET", url)[0] == (0 if served else 1)


@pytest.mark.parametrize(("slices", "words"), [
    ([["10.0.0.1"]], "10.0.0.1:8080"), ([["fd00::1"]], "[fd00::1]:8080"), ([[]], "no endpoint: 503"),
    ([[f"10.0.0.{i}" for i in range(1, 8)]], "10.0.0.1:8080, 10.0.0.2:8080, 10.0.0.3:8080, 10.0.0.4:8080, 10.0.0.5:8080 and 2 more"),
], ids=["one", "IPv6", "none", "many"])
def test_where_backends_are(ask, tmp_path, slices, words):
    for i, addresses in enumerate(slices):
        (tmp_path / "config.yaml").write_text(CONFIG + f"""---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {{name: old-{i}, labels: {{kubernetes.io/service-name: old}}}}
addressType: {"IPv6" if ":" in "".join(addresses) else "IPv4"}
ports: [{{port: 8080}}]
endpoints: [{", ".join(f"{{addresses: ['{address}']}}" for address in addresses)}]
""")
    assert f"  gets       default/old:80   {words}\n" in ask("explain", "config.yaml", "GET", "http://x/api")[1]
    assert f"  default/old:80   {words}\n" in ask("routes", "config.yaml")[1]


@pytest.mark.parametrize(("url", "words"), [
    ("http://x:8080/", "  answer   404: no listener on port 8080 takes x\n"),
    ("http://x:99/", "  answer   404: nothing listens on port 99, but *:80 http, *:8080 http\n"),
], ids=["hostname", "port"])
def test_explain_says_where_it_ends(ask, url, words):
    status, text, _ = ask("explain", "config.yaml", "GET", url)
    assert status == 1
    assert words in text


def test_explain_names_a_few_losers_and_all_on_demand(ask, tmp_path):
    rules = "".join(f"  - matches: [{{path: {{value: /p{i}}}}}]\n" for i in range(9))
    (tmp_path / "config.yaml").write_text(CONFIG.partition("---")[0] + f"""---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {{name: many}}
spec:
  parentRefs: [{{name: gw}}]
  rules:
{rules}""")
    _, few, _ = ask("explain", "config.yaml", "GET", "http://x/nothing")
    _, every, _ = ask("explain", "config.yaml", "GET", "http://x/nothing", "--all")
    assert (few.count("is not under"), every.count("is not under")) == (5, 9)
    assert "    and 4 more (--all shows them)\n" in few


@pytest.mark.parametrize("verb", [["check", "config.yaml"], ["routes", "config.yaml"],
                                  ["explain", "config.yaml", "GET", "http://shop.example/api"]], ids=lambda verb: verb[0])
def test_json_and_yaml_say_the_same(ask, verb):
    as_json, as_yaml = (ask(*verb, "-o", form) for form in ("json", "yaml"))
    assert as_json[0] == as_yaml[0] == 0
    assert json.loads(as_json[1]) == yaml.safe_load(as_yaml[1])


def test_data_of_check(ask):
    data = json.loads(ask("check", "config.yaml", "-o", "json")[1])
    assert data["problems"][-1] == {
        "file": "config.yaml", "line": 41, "severity": "warning", "resource": "HTTPRoute default/old",
        "field": "spec.rules[2].backendRefs", "reason": "NoBackends", "message": "there are no backendRefs: answers 500"}
    gateway = next(each for each in data["conditions"] if each["kind"] == "Gateway")
    assert [each["attachedRoutes"] for each in gateway["status"]["listeners"]] == [2, 1]


def test_data_of_explain(ask):
    (data,) = json.loads(ask("explain", "config.yaml", "POST", "http://shop.example/api", "-o", "json")[1])
    assert data["rule"]["rule"] == "HTTPRoute/default/shop/0"
    assert [(each["percent"], each["backend"], each["target"]) for each in data["shares"]] == [
        (90, "default/v1:80/http", "/v1"), (10, "default/v2:80/http", "/v1")]


@pytest.mark.parametrize("arguments", [
    ["check", "missing.yaml"], ["check"], ["routes", "config.yaml", "-o", "toml"],
    ["explain", "config.yaml", "GET"], ["explain", "config.yaml", "GET", "gopher://x/"],
    ["explain", "config.yaml", "GET", "http://x/", "-H", "no colon"],
], ids=["no file", "no path", "no form", "no url", "no scheme", "no header"])
def test_usage_is_exit_status_2(ask, arguments):
    status, text, error = ask(*arguments)
    assert (status, text) == (2, "")
    assert error.startswith("gwfast: ")
