"""The surprises of a move away from ingress-nginx, each by its name."""
import pytest
from ingress_cases import asked, converted, differing, ingress, kinds, outcome, words

from gwfast.ingress.annotations.table import Outcome

HOST = "http://shop.example"


def shares(told) -> dict[str, float]:
    return {name: percent for name, percent, _ in told.shares}


def routes(result, kind="HTTPRoute"):
    return [each for each in result.resources if each["kind"] == kind]


def rules(result):
    return [rule for route in routes(result) for rule in route["spec"]["rules"]]


def filters(result, kind):
    return [each for rule in rules(result) for each in rule.get("filters", ()) if each["type"] == kind]


# ---- The five surprising behaviours of the retirement's announcement


def test_regular_expressions_are_open_ended_and_without_case(tmp_path):
    result = converted(tmp_path, ingress("web", "shop.example", {"~/[A-Z]{3}": "code", "/": "web"}, use_regex="true"))
    assert not differing(result, [f"{HOST}{path}" for path in ("/ABC", "/abc", "/abcdef", "/ab", "/abc/d", "/")])
    assert shares(asked(result, f"{HOST}/abcdef")[f"{HOST}/abcdef"].gwfast) == {"default/code:80": 100}


def test_regular_expressions_hold_for_the_whole_host(tmp_path):
    """One Ingress with use-regex changes the Exact paths of another one on its host."""
    result = converted(tmp_path, ingress("web", "shop.example", {"~/x[0-9]+": "code"}, use_regex="true"),
                       ingress("other", "shop.example", {"=/headers": "headers"}))
    found = asked(result, f"{HOST}/HEADERS/more")[f"{HOST}/HEADERS/more"]
    assert shares(found.nginx) == shares(found.gwfast) == {"default/headers:80": 100}
    clean = converted(tmp_path, ingress("web", "shop.example", {"~/x[0-9]+": "code"}, use_regex="true"),
                      ingress("other", "shop.example", {"=/headers": "headers"}), faithful=False)
    assert asked(clean, f"{HOST}/HEADERS")[f"{HOST}/HEADERS"].gwfast.status == 404
    assert any("--clean" in one.words for one in clean.report.differences)


def test_rewrite_target_implies_regular_expressions(tmp_path):
    result = converted(tmp_path, ingress("web", "shop.example", {"/old": "old"}, rewrite_target="/new"),
                       ingress("other", "shop.example", {"/api": "api"}))
    assert not differing(result, [f"{HOST}{path}" for path in ("/old", "/OLD/x", "/older", "/API", "/apis", "/")])


def test_a_rewrite_target_without_capture_makes_one_path_of_all(tmp_path):
    result = converted(tmp_path, ingress("web", "shop.example", {"/old": "old"}, rewrite_target="/new"))
    found = asked(result, f"{HOST}/old/a/b")[f"{HOST}/old/a/b"]
    assert found.gwfast.shares == (("default/old:80", 100.0, "/new"),)
    assert "every path becomes this one" in words(result, "rewrite-target")


def test_a_slash_is_added_by_a_redirect(tmp_path):
    documents = ingress("web", "shop.example", {"/dir/": "web", "/whole": "whole"})
    result = converted(tmp_path, documents)
    found = asked(result, f"{HOST}/dir")[f"{HOST}/dir"]
    assert (found.gwfast.status, found.gwfast.location) == (301, f"{HOST}/dir/") and found.same
    assert not differing(result, [f"{HOST}{path}" for path in ("/dir?a=b", "/dir/", "/dir/x", "/whole", "/whole/", "/wholesale")])
    clean = asked(converted(tmp_path, documents, faithful=False), f"{HOST}/dir")[f"{HOST}/dir"]
    assert shares(clean.gwfast) == {"default/web:80": 100}


@pytest.mark.parametrize("path", ["/a//b", "/x/../a/b", "/a/./b", "/%61/b", "/a/b/..", "//a/b", "/A/b"])
def test_paths_are_compared_as_normalised_on_both_sides(tmp_path, path):
    result = converted(tmp_path, ingress("web", "shop.example", {"/a/b": "inner", "/a": "outer"}))
    assert not differing(result, [f"{HOST}{path}"])


# ---- What else


@pytest.mark.parametrize(("key", "value"), [("proxy_read_timeout", "3600"), ("proxy_send_timeout", "3600")])
def test_a_read_timeout_is_no_request_timeout(tmp_path, key, value):
    """3600 s between two reads is not 3600 s for all of it: a WebSocket would be cut."""
    result = converted(tmp_path, ingress("web", "shop.example", {"/": "web"}, **{key: value}))
    assert not any("timeouts" in rule for rule in rules(result))
    assert outcome(result, key.replace("_", "-")) is Outcome.REDUCED
    assert "--stream-idle-timeout 3600s" in words(result, key.replace("_", "-"))


def test_the_limit_of_1_MiB_does_not_go_silently(tmp_path):
    result = converted(tmp_path, ingress("web", "shop.example", {"/": "web"}))
    assert any("1 MiB" in one.words for one in result.report.differences)
    result = converted(tmp_path, ingress("web", "shop.example", {"/": "web"}, proxy_body_size="8m"))
    assert outcome(result, "proxy-body-size") is Outcome.REDUCED
    assert outcome(converted(tmp_path, ingress("web", "shop.example", {"/": "web"}, proxy_body_size="0")),
                   "proxy-body-size") is Outcome.CONVERTED


def test_HSTS_stays_over_https_alone(tmp_path):
    result = converted(tmp_path, ingress("web", "shop.example", {"/": "web"}, tls="shop", ssl_redirect="false"))
    secure, plain = routes(result) if "https" in str(routes(result)[0]["spec"]["parentRefs"]) else reversed(routes(result))
    assert "Strict-Transport-Security" in str(secure) and "Strict-Transport-Security" not in str(plain)


def test_HSTS_goes_where_the_ConfigMap_says_so(tmp_path):
    config = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "ingress-nginx-controller", "namespace": "ingress-nginx"},
              "data": {"hsts": "false"}}
    result = converted(tmp_path, config, ingress("web", "shop.example", {"/": "web"}, tls="shop"))
    assert "Strict-Transport-Security" not in str(result.resources)
    assert outcome(result, "hsts") is Outcome.CONVERTED


def test_ACME_challenges_are_not_redirected(tmp_path):
    """What cert-manager's solver answers has to be reachable in clear, or certificates end 60 days later."""
    result = converted(tmp_path, ingress("web", "shop.example", {"/": "web"}, tls="shop"),
                       ingress("solver", "shop.example", {"=/.well-known/acme-challenge/token": "solver"}))
    path = f"{HOST}/.well-known/acme-challenge/token"
    assert shares(asked(result, path)[path].gwfast) == {"default/solver:80": 100}
    assert not differing(result, [path, f"{HOST}/", f"{HOST}/.well-known/other", "https://shop.example/"])


def test_rules_without_host_are_the_default_server_alone(tmp_path):
    result = converted(tmp_path, ingress("all", "", {"/": "all", "/status": "status"}),
                       ingress("web", "shop.example", {"/shop": "web"}))
    assert asked(result, f"{HOST}/status")[f"{HOST}/status"].gwfast.status == 404
    assert not differing(result, [f"{HOST}/status", f"{HOST}/shop", "http://other.example/status", "http://other.example/shop"])


def test_a_canary_is_of_its_Service_on_every_host(tmp_path):
    result = converted(tmp_path, ingress("web", "shop.example", {"/": "web"}, age=9), ingress("blog", "blog.example", {"/x": "web"}, age=8),
                       ingress("canary", "shop.example", {"/": "web2"}, age=1, canary="true", canary_weight="20"))
    found = asked(result, "http://blog.example/x")["http://blog.example/x"]
    assert shares(found.gwfast) == {"default/web:80": 80, "default/web2:80": 20} and found.same


def test_affinity_is_of_its_Service(tmp_path):
    result = converted(tmp_path, ingress("web", "shop.example", {"/": "web"}, affinity="cookie"),
                       ingress("blog", "blog.example", {"/": "web", "/other": "other"}))
    sticky = [rule for rule in rules(result) if "sessionPersistence" in rule]
    assert [rule["backendRefs"][0]["name"] for rule in sticky] == ["web", "web"]


def test_ImplementationSpecific_is_a_prefix_of_characters(tmp_path):
    result = converted(tmp_path, ingress("web", "shop.example", {"~/foo": "foo", "/foobar": "bar", "~/foob": "b", "/": "web"}))
    assert not differing(result, [f"{HOST}{path}" for path in (
        "/foo", "/foo/", "/foo/x", "/foox", "/foobar", "/foobar/x", "/foobarx", "/foob", "/foob/x", "/foobz", "/fo", "/")])


def test_a_certificate_of_clients_for_one_host_closes_it(tmp_path):
    """A Gateway asks for such certificates for a whole port: what was closed may not stand open."""
    result = converted(tmp_path, ingress("web", "shop.example", {"/": "web"}, tls="shop", auth_tls_secret="default/ca"))
    assert asked(result, "https://shop.example/")["https://shop.example/"].gwfast.status == 500
    assert outcome(result, "auth-tls-secret") is Outcome.LOST


@pytest.mark.parametrize(("key", "value"), [("limit_rps", "5"), ("limit_rpm", "5"), ("limit_connections", "5")])
def test_limits_are_lost_and_said_to_be(tmp_path, key, value):
    result = converted(tmp_path, ingress("web", "shop.example", {"/": "web"}, **{key: value}))
    assert outcome(result, key.replace("_", "-")) is Outcome.LOST and result.report.status == 2


def test_what_is_said_of_clients_is_in_the_report(tmp_path):
    """X-Forwarded-* are the gateway's own unless who sends them is trusted."""
    result = converted(tmp_path, ingress("web", "shop.example", {"/": "web"}))
    assert any("X-Real-IP" in one.words for one in result.report.differences)


@pytest.mark.parametrize(("key", "value"), [
    ("auth_type", "basic"), ("whitelist_source_range", "10.0.0.0/8"), ("allowlist_source_range", "10.0.0.0/8"),
    ("denylist_source_range", "192.0.2.0/24"), ("auth_url", "https://auth.example/check"), ("auth_type", "bsaic")])
def test_what_kept_somebody_out_does_not_stand_open(tmp_path, key, value):
    result = converted(tmp_path, ingress("web", "shop.example", {"/": "web"}, **{key: value}), ingress("other", "blog.example", {"/": "web"}))
    assert asked(result, f"{HOST}/")[f"{HOST}/"].gwfast.status == 500
    assert asked(result, "http://blog.example/")["http://blog.example/"].same
    assert outcome(result, key.replace("_", "-")) is Outcome.LOST


def test_everybody_may_pass_where_the_list_says_so(tmp_path):
    result = converted(tmp_path, ingress("web", "shop.example", {"/": "web"}, whitelist_source_range="0.0.0.0/0"))
    assert not differing(result, [f"{HOST}/"])
    assert outcome(result, "whitelist-source-range") is Outcome.NOT_NEEDED


def test_a_redirect_of_one_path_is_that_of_its_whole_host(tmp_path):
    """The `/` that nobody wrote has the annotations of the Ingress that made the host."""
    result = converted(tmp_path, ingress("web", "shop.example", {"/old": "web"}, permanent_redirect="https://new.example$request_uri"))
    assert not differing(result, [f"{HOST}/old?a=b", f"{HOST}/elsewhere"])
    assert asked(result, f"{HOST}/x")[f"{HOST}/x"].gwfast.location == "https://new.example/x"


def test_app_root_is_of_the_whole_host_and_before_https(tmp_path):
    result = converted(tmp_path, ingress("web", "shop.example", {"/app": "web"}, tls="shop", app_root="/app/start"))
    found = asked(result, f"{HOST}/")[f"{HOST}/"]
    assert (found.gwfast.status, found.gwfast.location) == (302, f"{HOST}/app/start") and found.same
    assert not differing(result, [f"{HOST}/app", "https://shop.example/", "https://shop.example/app"])


def test_a_redirect_to_https_behind_who_ends_TLS(tmp_path):
    config = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "ingress-nginx-controller", "namespace": "ingress-nginx"},
              "data": {"use-forwarded-headers": "true"}}
    result = converted(tmp_path, config, ingress("web", "shop.example", {"/": "web"}, force_ssl_redirect="true"))
    first, second = rules(result)
    assert first["matches"][0]["headers"] == [{"name": "X-Forwarded-Proto", "value": "http"}] and "backendRefs" in second


def test_the_older_Ingress_has_a_path_that_two_have(tmp_path):
    result = converted(tmp_path, ingress("new", "shop.example", {"/": "new"}, age=1), ingress("old", "shop.example", {"/": "old"}, age=5))
    assert shares(asked(result, f"{HOST}/")[f"{HOST}/"].gwfast) == {"default/old:80": 100}
    assert any("is also of Ingress default/old" in one.words for one in result.report.differences)


def test_a_backend_over_TLS_that_nobody_verified_is_lost(tmp_path):
    result = converted(tmp_path, ingress("web", "shop.example", {"/": "web"}, backend_protocol="HTTPS"))
    assert "BackendTLSPolicy" in kinds(result)
    assert outcome(result, "backend-protocol") is Outcome.LOST and "did not ask who the backend is" in words(result, "backend-protocol")


def test_canary_by_header_before_cookie_before_weight(tmp_path):
    result = converted(tmp_path, ingress("web", "shop.example", {"/": "web"}), ingress(
        "canary", "shop.example", {"/": "web2"}, canary="true", canary_by_header="X-Canary", canary_by_cookie="canary", canary_weight="30"))
    url = f"{HOST}/"
    cases = [url, f"{url} -H X-Canary: always", f"{url} -H X-Canary: never", f"{url} -H X-Canary: other",
             f"{url} -H Cookie: canary=always", f"{url} -H Cookie: a=b; canary=never; c=d", f"{url} -H Cookie: canary=alwaysx",
             f"{url} -H Cookie: xcanary=always", f"{url} -H X-Canary: never -H Cookie: canary=always",
             f"{url} -H X-Canary: always -H Cookie: canary=never"]
    assert not differing(result, cases)
    assert shares(asked(result, url)[url].gwfast) == {"default/web:80": 70, "default/web2:80": 30}


@pytest.mark.parametrize(("more", "value", "chosen"), [
    ({"canary_by_header_value": "beta"}, "beta", True), ({"canary_by_header_value": "beta"}, "never", None),
    ({"canary_by_header_pattern": "^v[23]"}, "v2.1", True), ({"canary_by_header_pattern": "2"}, "a2b", True),
    ({"canary_by_header_pattern": "^v[23]$"}, "v2.1", None)])
def test_canary_by_a_value_or_a_pattern(tmp_path, more, value, chosen):
    result = converted(tmp_path, ingress("web", "shop.example", {"/": "web"}), ingress(
        "canary", "shop.example", {"/": "web2"}, canary="true", canary_by_header="X-Canary", canary_weight="30", **more))
    request = f"{HOST}/ -H X-Canary: {value}"
    assert not differing(result, [request])
    expected = {True: {"default/web2:80": 100}, None: {"default/web:80": 70, "default/web2:80": 30}}[chosen]
    assert shares(asked(result, request)[request].gwfast) == expected
