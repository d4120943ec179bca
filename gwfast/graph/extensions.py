"""Filters in Python: where they may run, and their code.

    barred(gateway, resources)            why routes of a Gateway may not run any; '' if they may
    fault(written, resources, options)    what is wrong with a PythonFilter itself
    code(written, get)                    what its ConfigMap holds

Rules:
- A filter is code in a process that others share. In a cluster (GraphOptions.filters_by_class) it runs only where the
  GatewayParameters of the class allow it; those of a Gateway can forbid it.
- A file's name is relative to the folder of the text that names it. A cluster has no such folder: there the code is a module of
  the image, or in a ConfigMap.
"""
from __future__ import annotations

from collections.abc import Callable

from gwfast.config.model import ConfigMap, Gateway, PythonFilter, Resource
from gwfast.graph import parameters
from gwfast.graph.listeners import Fault
from gwfast.graph.model import GraphOptions
from gwfast.graph.refs import Resources, code_maps


def barred(gateway: Gateway, resources: Resources) -> str:
    """Return why routes of a Gateway may not run filters in Python; '' if they may."""
    name = gateway.spec.gateway_class_name
    of_class = parameters.of_class(resources.get("GatewayClass", "", name), resources)
    if of_class is None or not of_class.spec.python_filters:
        return (f"{gateway.key} runs no filters in Python: the GatewayParameters of GatewayClass {name} "
                "would allow them with pythonFilters: true")
    own = parameters.of_gateway(gateway, resources)
    if own is not None and own.spec.python_filters is False:
        return f"{gateway.key} runs no filters in Python: its own {own.key} forbids them (pythonFilters: false)"
    return ""


def fault(written: PythonFilter, resources: Resources, options: GraphOptions) -> Fault | None:
    """Return why a filter cannot be used anywhere."""
    spec = written.spec
    if spec.file and options.filters_by_class:
        message = f"{written.key} names a file, and in a cluster there is none: a module of the image or a configMap is needed"
        return Fault("Invalid", message, "spec.file")
    if spec.config_map is None:
        return None
    [key] = code_maps(written)
    found = resources.get(*key)
    if found is None:
        return Fault("Invalid", f"{written.key}: there is no {key}", "spec.configMap.name")
    if spec.config_map.key not in found.data:
        return Fault("Invalid", f"{written.key}: {key} has no {spec.config_map.key} in its data", "spec.configMap.key")
    return None


def code(written: PythonFilter, get: Callable[[str, str, str], Resource | None]) -> str:
    """Return the code that a ConfigMap has for a filter; '' where it names none, or one that is not there."""
    if written.spec.config_map is None:
        return ""
    [key] = code_maps(written)
    found = get(*key)
    return found.data.get(written.spec.config_map.key, "") if isinstance(found, ConfigMap) else ""
