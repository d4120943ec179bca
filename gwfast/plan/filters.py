"""Turns the filters of a route, in the order in which they are written, into the plan's filters (spec 5.5).

Rules:
- a filter that is not served, cannot be resolved or would break a message's framing becomes an AnswerFilter: it
  answers 500 where it stands, it is never skipped (H:847-849)
- a field that a message has once is set, also where it is to be added
- one action per field name: of set, add and remove the first that names it counts, and the first of equal names
- a CORS filter answers preflights wherever it stands: a preflight has no credentials that another filter could ask for
- names and hostnames become lower-case; values lose surrounding white space; paths are quoted
- `filters` is a list of HTTPRouteFilter (or GRPCRouteFilter): type, and one attribute named after the type
"""
import json
import os
import re
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from types import MappingProxyType
from typing import Any, Literal

from gwfast.config.model import PythonFilter
from gwfast.config.scalars import seconds
from gwfast.graph.model import FilterTarget
from gwfast.grammar import FRAMING, SINGLE, is_token
from gwfast.plan.ir import (AnswerFilter, AuthorizeFilter, Backend, CorsFilter, ExtensionFilter, Filter, HeaderFilter,
                            MirrorFilter, PathModifier, RedirectFilter, RewriteFilter, Rule)
from gwfast.plan.paths import quoted_path

_BAD_VALUE = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")


def plan_filters(filters: Iterable[Any],
                 filter_targets: Mapping[int, Backend | FilterTarget] = MappingProxyType({})) -> tuple[Filter | None, ...]:
    """Return the plan's filters for those of one rule or one backendRef, None for a mirror that leads nowhere. `filter_targets`
    are the backends that they lead to, by their place."""
    return tuple(_planned(each, filter_targets.get(i)) for i, each in enumerate(filters))


def _planned(each: Any, target: Backend | FilterTarget | None) -> Filter | None:
    if each.type == "ExtensionRef":
        return _extension(each, target if isinstance(target, FilterTarget) else None)
    backend = target if isinstance(target, Backend) else None
    if each.type == "RequestMirror":
        return _mirror(each, backend)
    return _authorize(each, backend) if each.type == "ExternalAuth" else _one(each)


def _mirror(each: Any, backend: Backend | None) -> Filter | None:
    body = each.request_mirror
    if backend is None:
        return None
    if body.fraction is not None:
        return MirrorFilter(backend=backend, numerator=body.fraction.numerator, denominator=body.fraction.denominator)
    percent = 100 if body.percent is None else body.percent
    return MirrorFilter(backend=backend, numerator=percent, denominator=100)


def mirrors(rule: Rule) -> list[MirrorFilter]:
    """Return the mirrors of a rule and of its backendRefs."""
    return [one for filters in (rule.filters, *(each.filters for each in rule.backends)) for one in filters
            if isinstance(one, MirrorFilter)]


def crosses(rule: Rule) -> bool:
    """Return whether a rule, or a backendRef of it, has a CORS filter."""
    for filters in (rule.filters, *[each.filters for each in rule.backends]):
        for one in filters:
            if isinstance(one, CorsFilter):
                return True
    return False


def _one(each: Any) -> Filter:
    make = _SERVED.get(each.type)
    if make is None:
        return AnswerFilter(status=500, reason=f"filter {each.type} is not served")
    return make(each)


def _headers(on: Literal["request", "response"], attribute: str, each: Any) -> Filter:
    body = getattr(each, attribute)
    taken: set[str] = set()
    first = partial(_first, taken)
    lists = {
        "set": tuple((h.name.lower(), h.value.strip(" \t")) for h in body.set or () if first(h.name)),
        "add": tuple((h.name.lower(), h.value.strip(" \t")) for h in body.add or () if first(h.name)),
        "remove": tuple(name.lower() for name in body.remove or () if first(name)),
    }
    for name in taken:
        if name in FRAMING or not is_token(name):
            hint = _host_hint(dict(lists["set"] + lists["add"])) if (on, name) == ("request", "host") else ""
            return AnswerFilter(status=500, reason=f"{each.type} may not change the field {name!r}{hint}")
    single = tuple(pair for pair in lists["add"] if pair[0] in SINGLE)
    if single:
        lists["set"] += single
        lists["add"] = tuple(pair for pair in lists["add"] if pair[0] not in SINGLE)
    for name, value in lists["set"] + lists["add"]:
        if _BAD_VALUE.search(value):
            return AnswerFilter(status=500, reason=f"{each.type} has a control character in the value of {name!r}")
    return HeaderFilter(on=on, **lists)


def _host_hint(values: dict[str, str]) -> str:
    """The Host that backends get is the rewrite's business: it is the authority of HTTP/2 too, and in X-Forwarded-Host."""
    return f", URLRewrite.hostname does: {{type: URLRewrite, urlRewrite: {{hostname: {values.get('host', 'NAME')}}}}}"


def _authorize(each: Any, backend: Backend | None) -> Filter:
    if backend is None:            # the graph has told why
        return AnswerFilter(status=500, reason="ExternalAuth has no backend")
    body = each.external_auth
    grpc = body.protocol == "GRPC"
    path = "" if grpc else (body.http.path or "").rstrip("/")
    lists = (body.grpc.allowed_headers, ()) if grpc else (body.http.allowed_headers, body.http.allowed_response_headers)
    names = [tuple(name.lower() for name in some) for some in lists]
    for name in (*names[0], *names[1]):
        if not is_token(name):
            return AnswerFilter(status=500, reason=f"ExternalAuth names the field {name!r}")
    size = body.forward_body.max_size or 0 if body.forward_body else 0
    return AuthorizeFilter(backend=backend, grpc=grpc, path=quoted_path(path) if path else "", headers=names[0],
                           answers=names[1], max_body=size)


def _extension(each: Any, written: FilterTarget | None) -> Filter:
    if written is None or written.extension is None:  # the graph has told why
        return AnswerFilter(status=500, reason="the extension is not there")
    return plan_extension(written.extension, written.code)


def plan_extension(written: PythonFilter, code: str) -> ExtensionFilter:
    """Return what a PythonFilter says, its file beside the text it was written in. code: what its ConfigMap holds."""
    spec, source, namespace = written.spec, written.spec.config_map, written.metadata.namespace
    file = os.path.abspath(os.path.join(os.path.dirname(written.source.file), spec.file)) if spec.file else ""
    return ExtensionFilter(
        name=f"{namespace}/{written.metadata.name}", module=spec.module or "", file=file,
        config_map=f"{namespace}/{source.name} {source.key}" if source else "", code=code, class_name=spec.class_,
        config=json.dumps(spec.config, sort_keys=True), timeout=seconds(spec.timeout), open=spec.failure == "Open",
        max_body=spec.max_body)


def _first(taken: set[str], name: str) -> bool:
    name = name.lower()
    if name in taken:
        return False
    taken.add(name)
    return True


def _redirect(each: Any) -> Filter:
    body = each.request_redirect
    return RedirectFilter(scheme=(body.scheme or "").lower(), hostname=(body.hostname or "").lower(),
                          path=_path(body.path), port=body.port or 0, status=body.status_code or 302)


def _rewrite(each: Any) -> Filter:
    body = each.url_rewrite
    return RewriteFilter(hostname=(body.hostname or "").lower(), path=_path(body.path))


def _cors(each: Any) -> Filter:
    body = each.cors
    return CorsFilter(origins=tuple(one.lower() for one in body.allow_origins), methods=tuple(body.allow_methods),
                      headers=tuple(body.allow_headers), expose=tuple(body.expose_headers),
                      credentials=bool(body.allow_credentials), max_age=body.max_age)


def _path(path: Any) -> PathModifier | None:
    if path is None:
        return None
    value = path.replace_full_path if path.type == "ReplaceFullPath" else path.replace_prefix_match
    return PathModifier(type=path.type, value=quoted_path(value or ""))


_SERVED: dict[str, Callable[[Any], Filter]] = {
    "RequestHeaderModifier": partial(_headers, "request", "request_header_modifier"),
    "ResponseHeaderModifier": partial(_headers, "response", "response_header_modifier"),
    "RequestRedirect": _redirect,
    "URLRewrite": _rewrite,
    "CORS": _cors,
}
