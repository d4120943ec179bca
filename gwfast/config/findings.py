"""What is wrong with a resource, before it has a place in a file.

A rule is a generator of findings: it gets a value and the path where the value stands, such as 'spec.rules[0].filters'.
"""
from collections.abc import Iterable, Sequence
from typing import Literal

import msgspec


class Finding(msgspec.Struct, frozen=True, gc=False):
    """One problem: the field, as a path from the resource's root, and what is wrong with it."""

    field: str
    message: str
    severity: Literal["error", "warning", "note"] = "error"
    reason: str = "Invalid"


Findings = Iterable[Finding]


def unique(items: Sequence[object], path: str, name: str = "") -> Findings:
    """Refuse a second item of the same name, or, without a name, of the same value, as keys of the API server's lists are."""
    if len(items) < 2:
        return
    seen = set()
    for index, item in enumerate(items):
        value = getattr(item, name) if name else item
        if value in seen:
            at = f"{path}[{index}].{name}" if name else f"{path}[{index}]"
            yield Finding(at, f"Duplicate value: {value!r}")
        seen.add(value)
