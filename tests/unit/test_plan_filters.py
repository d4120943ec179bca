"""Filters of the API to filters of the plan: normal form, duplicates, and what is answered with 500."""
from types import SimpleNamespace as Body

import msgspec
import pytest

from gwfast.config.model import Fraction, HTTPCORSFilter
from gwfast.plan.filters import FRAMING, plan_filters
from gwfast.plan.ir import AnswerFilter, Backend, CorsFilter, HeaderFilter, MirrorFilter, PathModifier, RedirectFilter, RewriteFilter


def modifier(type="RequestHeaderModifier", set=(), add=(), remove=()):
    body = Body(set=[Body(name=n, value=v) for n, v in set], add=[Body(name=n, value=v) for n, v in add],
                remove=list(remove))
    attribute = {"RequestHeaderModifier": "request_header_modifier",
                 "ResponseHeaderModifier": "response_header_modifier"}[type]
    return Body(type=type, **{attribute: body})


def redirect(**given):
    body = {"scheme": None, "hostname": None, "path": None, "port": None, "status_code": None} | given
    return Body(type="RequestRedirect", request_redirect=Body(**body))


def rewrite(hostname=None, path=None):
    return Body(type="URLRewrite", url_rewrite=Body(hostname=hostname, path=path))


def full(value):
    return Body(type="ReplaceFullPath", replace_full_path=value, replace_prefix_match=None)


def prefix(value):
    return Body(type="ReplacePrefixMatch", replace_full_path=None, replace_prefix_match=value)


CASES = [
    ("headers are lower-case, values trimmed",
     modifier(set=[("X-A", " 1 ")], add=[("X-B", "2")], remove=["X-C"]),
     HeaderFilter(on="request", set=(("x-a", "1"),), add=(("x-b", "2"),), remove=("x-c",))),
    ("response", modifier("ResponseHeaderModifier", remove=["Server"]),
     HeaderFilter(on="response", remove=("server",))),
    ("the first of equal names counts", modifier(set=[("x-a", "1"), ("X-A", "2")], add=[("x-A", "3")], remove=["X-a"]),
     HeaderFilter(on="request", set=(("x-a", "1"),))),
    ("redirect without anything", redirect(), RedirectFilter()),
    ("redirect with everything",
     redirect(scheme="HTTPS", hostname="Example.org", path=full("/x y"), port=8443, status_code=308),
     RedirectFilter(scheme="https", hostname="example.org", path=PathModifier(type="ReplaceFullPath", value="/x%20y"),
                    port=8443, status=308)),
    ("rewrite of the prefix", rewrite(path=prefix("/xyz/")),
     RewriteFilter(path=PathModifier(type="ReplacePrefixMatch", value="/xyz/"))),
    ("rewrite to nothing", rewrite(path=prefix("")),
     RewriteFilter(path=PathModifier(type="ReplacePrefixMatch", value="/"))),
    ("cors", Body(type="CORS", cors=HTTPCORSFilter()), CorsFilter()),
    ("cors with everything", Body(type="CORS", cors=HTTPCORSFilter(
        allow_origins=("HTTPS://*.Example:8443",), allow_methods=("GET", "PUT"), allow_headers=("X-A",),
        expose_headers=("*",), allow_credentials=True, max_age=60)),
     CorsFilter(origins=("https://*.example:8443",), methods=("GET", "PUT"), headers=("X-A",), expose=("*",),
                credentials=True, max_age=60)),
    ("rewrite of the host", rewrite(hostname="One.Example"), RewriteFilter(hostname="one.example")),
]


@pytest.mark.parametrize(("given", "expected"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
def test_filters_are_in_normal_form(given, expected):
    (result,) = plan_filters([given])
    assert (type(result), msgspec.to_builtins(result)) == (type(expected), msgspec.to_builtins(expected))


REFUSED = [
    ("authorizer", Body(type="ExternalAuth"), "ExternalAuth has no backend"),
    ("extension", Body(type="ExtensionRef"), "the extension is not there"),
    ("header with a line break", modifier(set=[("x-a", "1\r\nx-b: 2")]), "control character"),
    ("name that is no token", modifier(add=[("x a", "1")]), "may not change"),
    ("Host is set", modifier(set=[("Host", "a.example")]),
     "'host', URLRewrite.hostname does: {type: URLRewrite, urlRewrite: {hostname: a.example}}"),
    ("Host is added", modifier(add=[("HOST", "b.example")]), "URLRewrite.hostname does: {type: URLRewrite, urlRewrite: {hostname: b.example"),
    ("Host is removed", modifier(remove=["Host"]), "URLRewrite.hostname does"),
] + [(f"framing: {name}", modifier(remove=[name.title()]), "may not change") for name in sorted(FRAMING)]


@pytest.mark.parametrize(("given", "words"), [case[1:] for case in REFUSED], ids=[case[0] for case in REFUSED])
def test_what_cannot_be_done_answers_500_where_it_stands(given, words):
    first, second, third = plan_filters([modifier(set=[("x-before", "1")]), given, rewrite(hostname="after.example")])
    assert isinstance(first, HeaderFilter)
    assert isinstance(second, AnswerFilter) and second.status == 500 and words in second.reason
    assert isinstance(third, RewriteFilter)


BACKEND = Backend(namespace="default", name="shadow", port=80)


@pytest.mark.parametrize(("percent", "fraction", "share"), [
    (None, None, (100, 100)), (0, None, (0, 100)), (42, None, (42, 100)),
    (None, Fraction(numerator=1), (1, 100)), (None, Fraction(numerator=0, denominator=7), (0, 7)),
    (None, Fraction(numerator=5, denominator=1000), (5, 1000))])
def test_mirrors_have_a_share(percent, fraction, share):
    given = Body(type="RequestMirror", request_mirror=Body(percent=percent, fraction=fraction))
    first, lost = plan_filters([given, given], {0: BACKEND})
    assert isinstance(first, MirrorFilter) and first.backend is BACKEND and lost is None
    assert (first.numerator, first.denominator) == share
