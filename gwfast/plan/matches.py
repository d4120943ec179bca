"""Turns the matches of routes into the plan's matches, in normal form.

Rules:
- of equal names of headers or parameters the first counts; header names are lower-case (spec 5.1)
- a method of gRPC is a path (graph.methods); that calls are POSTs is not asked
- where HTTPRoutes have the host too, what takes every call of gRPC takes them before '/' of an HTTPRoute: they are known by
  their content-type (gRPC over HTTP2, "Requests")
- a rule with a CORS filter that matches on a method also gets the preflights for it
- a connection that is not HTTP matches as a request for '/'
"""
from functools import lru_cache
from typing import Any

from msgspec.structs import replace

from gwfast.config.model import (GRPCHeaderMatch, GRPCRouteMatch, GRPCRouteRule, HTTPHeaderMatch, HTTPQueryParamMatch,
                                 HTTPRouteMatch, HTTPRouteRule, TCPRouteRule, TLSRouteRule, UDPRouteRule)
from gwfast.graph.methods import ANY_CALL, method_path
from gwfast.plan.ir import Match, ValueMatch
from gwfast.plan.paths import normal_path, normal_prefix
from gwfast.sharing import SHARED

EVERY_CALL = (GRPCRouteMatch(),)
CONNECTION = Match()
ANY_ORIGIN = ValueMatch(name="origin", value=".+", regex=True)
GRPC = ValueMatch(name="content-type", value="application/grpc(?:[+;].*)?", regex=True)
ASKED = "access-control-request-method"


def plan_matches(rule: HTTPRouteRule | GRPCRouteRule | TLSRouteRule | TCPRouteRule | UDPRouteRule) -> list[Match]:
    """Return the matches of a rule of any kind, at least one."""
    if isinstance(rule, HTTPRouteRule):
        return [_everywhere(each, index) if each.path.value == "/" else plan_match(each, index)
                for index, each in enumerate(rule.matches)]
    if isinstance(rule, GRPCRouteRule):
        return [_call(each, index) for index, each in enumerate(rule.matches or EVERY_CALL)]
    return [CONNECTION]


def calls(matches: list[Match]) -> list[Match]:
    """Return what the calls look like that these matches take whatever their method is."""
    return [replace(each, path_type="PathPrefix", path="/", method="POST", headers=(*each.headers, GRPC)) for each in matches
            if (each.path_type, each.path) == ANY_CALL and all(header.name != GRPC.name for header in each.headers)]


def preflights(matches: list[Match]) -> list[Match]:
    """Return what the preflights for these matches look like, as far as the matches do not take them themselves: they are
    OPTIONS, and name the method that will follow."""
    return [replace(each, method="OPTIONS", headers=(*each.headers, ANY_ORIGIN, ValueMatch(name=ASKED, value=each.method)))
            for each in matches if each.method not in ("", "OPTIONS")]


def plan_match(match: HTTPRouteMatch, index: int = 0) -> Match:
    """Return a match of an HTTPRoute in normal form."""
    path = match.path.value
    if match.path.type != "RegularExpression":
        path = normal_prefix(path) if match.path.type == "PathPrefix" else normal_path(path)
    query: dict[str, ValueMatch] = {}
    for each in match.query_params:
        query.setdefault(each.name, _value(each.name, each))
    return Match(path_type=match.path.type, path=path, method=match.method or "", headers=_headers(match.headers),
                 query=tuple(query.values()), index=index)


_everywhere = lru_cache(SHARED)(plan_match)  # many routes have such matches, which are the same


def _call(match: GRPCRouteMatch, index: int) -> Match:
    kind: Any
    kind, path = method_path(match.method)
    return Match(path_type=kind, path=path, headers=_headers(match.headers), index=index)


@lru_cache(SHARED)
def _headers(written: tuple[HTTPHeaderMatch, ...] | tuple[GRPCHeaderMatch, ...]) -> tuple[ValueMatch, ...]:
    headers: dict[str, ValueMatch] = {}
    for each in written:
        headers.setdefault(each.name.lower(), _value(each.name.lower(), each))
    return tuple(headers.values())


def _value(name: str, match: HTTPHeaderMatch | GRPCHeaderMatch | HTTPQueryParamMatch) -> ValueMatch:
    return ValueMatch(name=name, value=match.value, regex=match.type == "RegularExpression")
