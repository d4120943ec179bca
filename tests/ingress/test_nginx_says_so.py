"""The model of nginx, and what the conversion makes, against a real nginx that is configured from the same Ingresses."""
import os
import shutil
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from ingress_cases import converted, ingress
from nginx_oracle import NGINX, Duplicate, Nginx

from gwfast.ingress.compare import Question, Told, compare, place, plan_of
from gwfast.ingress.locations import normal

pytestmark = pytest.mark.skipif(NGINX is None, reason="nginx is not installed")
EXAMPLES = int(os.environ.get("GWFAST_EXAMPLES", "15"))  # each is an nginx that starts, and some hundred requests

LITERAL = ("/", "/a", "/a/", "/a/b", "/ab", "/abc", "/a/b/c", "/b", "/a.b", "/A")
EXPRESSIONS = ("/a[0-9]+", "/(x|y)/z", "/v[12]/.*", "/a.b", "/item/[^/]+/edit$", "/q|/r", "/b(/|$)(.*)", "/a(/|$)(.*)", "/[a-z]{3}", r"/a\.b",
               "/x(/.*)?")
TARGETS = ("/", "/$2", "/new", "/pre/$2", "/$1", "/pre/$1")
ASKED = ("/", "/a", "/a/", "/A", "/A/x", "/ab", "/abx", "/abc", "/abcd", "/a/b", "/a/b/", "/a/B", "/a/b/c", "/a/bc", "/a1", "/a12/x", "/x/z", "/y/z/w",
         "/x", "/v1/", "/v1/k", "/v3/", "/item/1/edit", "/item/1/edit/x", "/item/1", "/q", "/qq", "/zz/r", "/a.b", "/axb", "//a//b", "/a/../b",
         "/a%2eb", "/b", "/b/", "/b/c/d", "/bb", "/c?d=e", "/b/?x=/")


def told(site, answer) -> Told:
    """What a real nginx said, in the words of a comparison."""
    if answer.upstream:
        upstream = site.upstreams[answer.upstream]
        return Told(shares=((f"{upstream.namespace}/{upstream.service}:{upstream.port}", 100.0, answer.path),))
    return Told(status=answer.status, location=answer.location)


def same(left: Told, right: Told) -> bool:
    if left.shares or right.shares:
        return [(name, percent, normal(path)) for name, percent, path in left.shares] == [
            (name, percent, normal(path)) for name, percent, path in right.shares]
    secured = left.status == 308 and left.location.startswith("https:")
    return (left.status, place(left.location, secured)) == (right.status, place(right.location, secured))


def check(documents: list[dict], requests, made: bool = True) -> None:
    """Ask nginx, the model of it and (`made`) what the conversion makes; all have to say the same."""
    folder = Path(tempfile.mkdtemp())
    try:
        result = converted(folder, *documents)
        plan = plan_of(result.resources, result.site.facts)
        wrong = []
        with Nginx(documents, folder / "nginx") as nginx:
            for scheme, host, target, headers in requests:
                real = told(result.site, nginx.ask(scheme, host, target, headers))
                found = compare(result.site, plan, Question("GET", f"{scheme}://{host}{target}", tuple(f"{n}: {v}" for n, v in headers)))
                request = f"{scheme}://{host}{target} {headers or ''}"
                if not same(real, found.nginx):
                    wrong.append(f"{request}: nginx says {real}, the model {found.nginx}")
                elif made and not found.same:
                    wrong.append(f"{request}: nginx says {real}, gwfast {found.gwfast}")
        assert not wrong, "\n".join(wrong[:6])
    finally:
        shutil.rmtree(folder)


def everywhere(hosts, schemes=("http",), headers=((),)):
    return [(scheme, host, target, fields) for scheme in schemes for host in hosts for target in ASKED for fields in headers]


@st.composite
def sites(draw, regex: bool, targets=("",)):
    """Some Ingresses on two hosts and none."""
    documents = []
    for number in range(draw(st.integers(1, 4))):
        host = draw(st.sampled_from(["one.example", "one.example", "two.example", "*.wild.example", ""]))
        pool = LITERAL + (EXPRESSIONS if regex else ())
        paths = draw(st.lists(st.sampled_from(pool), min_size=1, max_size=4, unique=True))
        written = {}
        for index, path in enumerate(paths):
            odd = path not in LITERAL
            kind = "~" if odd else draw(st.sampled_from(["", "=", "~"]))
            written[f"{kind}{path}"] = f"s{number}{index}"
        more = {}
        if regex and draw(st.booleans()):
            more["use_regex"] = "true"
        if (target := draw(st.sampled_from(targets))):
            more["rewrite_target"] = target
        if draw(st.integers(0, 5)) == 0:
            more["app_root"] = "/a/start"
        default = f"d{number}" if draw(st.integers(0, 3)) == 0 else ""
        documents.append(ingress(f"ns{number % 2}/i{number}", host, written, age=draw(st.integers(0, 9)), default=default, **more))
    return documents


HOSTS = ("one.example", "two.example", "x.wild.example", "other.example")


@settings(max_examples=EXAMPLES, suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much])
@given(sites(regex=False))
def test_paths_of_every_type_go_where_nginx_takes_them(documents):
    try:
        check(documents, everywhere(HOSTS))
    except Duplicate:
        assume(False)


@settings(max_examples=EXAMPLES, suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much])
@given(sites(regex=True))
def test_regular_expressions_go_where_nginx_takes_them(documents):
    try:
        check(documents, everywhere(HOSTS))
    except Duplicate:
        assume(False)


@settings(max_examples=EXAMPLES, suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much])
@given(sites(regex=True, targets=("", *TARGETS)))
def test_rewrites_are_what_the_model_says(documents):
    """With captures the conversion says itself what it cannot do: here it is the model of nginx that is held to nginx."""
    try:
        check(documents, everywhere(HOSTS), made=False)
    except Duplicate:
        assume(False)


@settings(max_examples=EXAMPLES, suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much])
@given(sites(regex=False, targets=("", "/", "/new")))
def test_rewrites_without_captures_go_where_nginx_takes_them(documents):
    try:
        check(documents, everywhere(HOSTS))
    except Duplicate:
        assume(False)


REDIRECTS = ("https://new.example$request_uri", "https://new.example/pre$request_uri", "http://new.example:8080$request_uri")


@pytest.mark.parametrize("url", REDIRECTS)
@pytest.mark.parametrize("code", ["301", "302", "307", "308"])
def test_redirects_lead_where_nginx_leads(url, code):
    check([ingress("a/r", "one.example", {"/a": "s", "=/b": "t"} if "/pre" not in url else {"/a": "s"}, permanent_redirect=url,
                   permanent_redirect_code=code)], [("http", "one.example", path, ()) for path in ("/a", "/a/x?y=z", "/", "/c/d")])


def test_redirects_to_https_lead_where_nginx_leads():
    documents = [ingress("a/web", "one.example", {"/a": "s", "/": "t"}, tls="cert"),
                 ingress("a/solver", "one.example", {"=/.well-known/acme-challenge/x": "solver"}),
                 ingress("a/open", "two.example", {"/a": "s"}, tls="cert", ssl_redirect="false"),
                 ingress("a/forced", "three.example", {"/a": "s"}, force_ssl_redirect="true"),
                 ingress("a/root", "four.example", {"/a": "s"}, tls="cert", app_root="/a/b")]
    hosts = ("one.example", "two.example", "four.example")
    check(documents, [(scheme, host, path, ()) for scheme in ("http", "https") for host in hosts for path in (
        "/", "/a", "/a/", "/a/x?y=z", "/c", "/.well-known/acme-challenge/x", "/.well-known/acme-challenge/y")])
    check(documents, [("http", "three.example", path, ()) for path in ("/", "/a", "/b")])


FIELDS = ((), (("X-Canary", "always"),), (("X-Canary", "never"),), (("X-Canary", "v2"),), (("X-Canary", "av2b"),), (("Cookie", "beta=always"),),
          (("Cookie", "a=b; beta=never"),), (("Cookie", "beta=always; c=d"), ("X-Canary", "never")), (("Cookie", "xbeta=always"),))


@pytest.mark.parametrize("weight", ["0", "100"])
@pytest.mark.parametrize("more", [{}, {"canary_by_header_value": "v2"}, {"canary_by_header_pattern": "^v[0-9]"}, {"canary_by_header_pattern": "v[0-9]"}])
@pytest.mark.parametrize("cookie", ["", "beta"])
def test_canaries_get_whom_nginx_gives_them(weight, more, cookie):
    beside = {"canary_by_cookie": cookie} if cookie else {}
    documents = [ingress("a/web", "one.example", {"/a": "s", "/": "t"}, age=9), ingress("a/blog", "two.example", {"/b": "s"}, age=8),
                 ingress("a/canary", "one.example", {"/a": "c"}, age=1, canary="true", canary_by_header="X-Canary", canary_weight=weight, **more, **beside)]
    check(documents, [("http", host, path, fields) for host in ("one.example", "two.example") for path in ("/a/x", "/b", "/") for fields in FIELDS])


def test_aliases_and_default_backends():
    check([ingress("a/web", "one.example", {"/a": "s"}, server_alias="alias.example,*.more.example", default="d"), ingress("a/all", default="e")],
          everywhere(("one.example", "alias.example", "x.y.more.example", "other.example")))


FORMS = [("/x(/|$)(.*)", "/$2"), ("/x(/|$)(.*)", "/pre/$2"), ("/x(/|$)(.*)", "/pre$1$2"), ("/x/(.*)", "/$1"), ("/x/(.*)", "/pre/$1"),
         ("/(.*)", "/$1"), ("/(.*)", "/pre/$1"), ("/()(.*)", "/$2"), ("/x(.*)", "/pre$1"), ("/x/?(.*)", "/$1"), ("/x", "/y"), ("/x(/|$)", "/"),
         ("/x/y(/|$)(.*)", "/z/$2"), ("/x/([0-9]+)/(.*)", "/$2/$1")]


@pytest.mark.parametrize(("path", "target"), FORMS)
@pytest.mark.parametrize("beside", [{}, {"/": "root"}, {"/other": "other", "=/x": "exact"}, {"/": "root", "~/x/y": "deeper", "/xy": "near"}])
def test_rewrites_of_a_prefix_go_where_nginx_takes_them(path, target, beside):
    """In the case in which they are written; the report says so of the rest. What is lost answers 500, and goes nowhere else."""
    documents = [ingress("a/rewritten", "one.example", {f"~{path}": "s"}, rewrite_target=target, age=2)]
    documents += [ingress("a/beside", "one.example", beside, age=1)] if beside else []
    asked = ["/", "/x/a", "/x/a/b/", "/x/", "/x/y/z", "/x/y", "/xy", "/xy/z", "/other", "/other/x", "/z?a=b", "/x"]
    if path == "/x/(.*)" and not beside.keys() & {"/", "=/x"}:
        asked.remove("/x")  # nobody's in nginx: the report says that it is taken
    if path in ("/x(.*)", "/x/?(.*)"):
        asked = [one for one in asked if not one.startswith("/xy")]  # the report says that they are not taken
    folder = Path(tempfile.mkdtemp())
    try:
        entries = converted(folder, *documents).report.entries.values()
    finally:
        shutil.rmtree(folder)
    lost = any(entry.outcome == "lost" for entry in entries)
    assert lost is (target == "/$2/$1")
    check(documents, [("http", "one.example", one, ()) for one in asked], made=not lost)
