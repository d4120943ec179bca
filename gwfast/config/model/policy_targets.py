"""What a policy is attached to, and the rules about it (apis/v1/policy_types.go)."""
from itertools import groupby
from typing import ClassVar

from gwfast.config.findings import Finding, Findings
from gwfast.config.model.resource import Type
from gwfast.config.scalars import Group, Kind, ObjectName, SectionName


class LocalPolicyTargetReference(Type, kw_only=True, frozen=True):
    """`section_name` is no field of it, but can be asked for as of the other."""

    section_name: ClassVar[None] = None
    group: Group
    kind: Kind
    name: ObjectName


class LocalPolicyTargetReferenceWithSectionName(Type, kw_only=True, frozen=True):
    group: Group
    kind: Kind
    name: ObjectName
    section_name: SectionName | None = None


def check_target_refs(refs: tuple[LocalPolicyTargetReferenceWithSectionName, ...], path: str) -> Findings:
    """References to one target all give a sectionName, or none does, and no two are equal."""
    def target(index: int) -> tuple[str, str, str]:
        return refs[index].group, refs[index].kind, refs[index].name

    several = "when targetRefs includes 2 or more references to the same target"
    for _, same in groupby(sorted(range(len(refs)), key=target), key=target):
        first, *others = same
        for index in others:
            if (refs[index].section_name is None) != (refs[first].section_name is None):
                yield Finding(f"{path}[{index}]", f"sectionName must be specified {several}")
            elif refs[index] in refs[:index]:
                yield Finding(f"{path}[{index}]", f"sectionName must be unique {several}")
