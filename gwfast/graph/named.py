"""The references of a route's rules: to Services, XBackends and filters, whether or not these exist or may be named."""
from gwfast.config.model import (BackendObjectReference, GRPCRouteFilter, GRPCRouteRule, HTTPRouteFilter, HTTPRouteRule, Key,
                                 LocalObjectReference)
from gwfast.graph.backends import backend_key
from gwfast.graph.model import Route


def service_refs(route: Route) -> set[Key]:
    """Return the Services and XBackends that a route names, also in filters, whether or not it may; and its filters in Python."""
    namespace = route.metadata.namespace
    refs, extensions = named(route)
    if len(refs) == 1 and not extensions:
        return {backend_key(refs[0], namespace)}
    found = {backend_key(ref, namespace) for ref in refs}
    return found | {Key("PythonFilter", namespace, ref.name) for ref in extensions}


def named(route: Route) -> tuple[list[BackendObjectReference], list[LocalObjectReference]]:
    """Return every reference of a route to a backend, also in filters, and those to filters that are resources."""
    refs: list[BackendObjectReference] = []
    extensions = []
    for rule in route.spec.rules:
        refs += rule.backend_refs
        if isinstance(rule, (HTTPRouteRule, GRPCRouteRule)):
            filters: list[HTTPRouteFilter | GRPCRouteFilter] = [*rule.filters]
            for each in rule.backend_refs:
                filters += each.filters
            refs += [ref for one in filters if (ref := _filter_backend(one)) is not None]
            extensions += [one.extension_ref for one in filters if one.extension_ref is not None]
    return refs, extensions


def _filter_backend(one: HTTPRouteFilter | GRPCRouteFilter) -> BackendObjectReference | None:
    if one.request_mirror is not None:
        return one.request_mirror.backend_ref
    auth = getattr(one, "external_auth", None)
    return auth.backend_ref if auth is not None else None
