"""References to other objects, selectors of labels, and the rules about them (shared_types.go, object_reference_types.go)."""
from collections.abc import Mapping

from msgspec import field

from gwfast.config.findings import Finding, Findings
from gwfast.config.model.resource import EXPERIMENTAL_GROUP, GATEWAY_GROUP, NO_LABELS, Type
from gwfast.config.scalars import Group, Kind, ObjectName, Port, SectionName, Weight
from gwfast.config.scalars import Namespace as NamespaceName


class ParentReference(Type, kw_only=True, frozen=True):
    group: Group = GATEWAY_GROUP
    kind: Kind = "Gateway"
    namespace: NamespaceName | None = None
    name: ObjectName
    section_name: SectionName | None = None
    port: Port | None = None


class LocalObjectReference(Type, kw_only=True, frozen=True):
    group: Group
    kind: Kind
    name: ObjectName


class ObjectReference(Type, kw_only=True, frozen=True):
    group: Group
    kind: Kind
    name: ObjectName
    namespace: NamespaceName | None = None


class SecretObjectReference(Type, kw_only=True, frozen=True):
    group: Group = ""
    kind: Kind = "Secret"
    name: ObjectName
    namespace: NamespaceName | None = None


class ParametersReference(ObjectReference, kw_only=True, frozen=True):
    """A reference to what holds the parameters of a class."""


class BackendObjectReference(Type, kw_only=True, frozen=True):
    group: Group = ""
    kind: Kind = "Service"
    name: ObjectName
    namespace: NamespaceName | None = None
    port: Port | None = None


class BackendRef(BackendObjectReference, kw_only=True, frozen=True):
    weight: Weight = 1


class LabelSelectorRequirement(Type, kw_only=True, frozen=True):
    key: str
    operator: str
    values: tuple[str, ...] = ()

    def fault(self) -> tuple[str, str] | None:
        """Return the field and what is wrong with it: Kubernetes knows four operators, two of them without values."""
        if self.operator not in ("DoesNotExist", "Exists", "In", "NotIn"):
            return "operator", f"{self.operator!r} is not allowed, must be one of DoesNotExist, Exists, In, NotIn"
        if (self.operator in ("In", "NotIn")) != bool(self.values):
            return "values", f"must {'' if self.values else 'not '}be empty for the operator {self.operator}"
        return None

    def meets(self, labels: Mapping[str, str]) -> bool:
        match self.operator:
            case "In":
                return labels.get(self.key) in self.values
            case "NotIn":
                return labels.get(self.key) not in self.values
            case "Exists":
                return self.key in labels
            case "DoesNotExist":
                return self.key not in labels
        return False


class LabelSelector(Type, kw_only=True, frozen=True):
    match_labels: dict[str, str] = field(default_factory=lambda: NO_LABELS)
    match_expressions: tuple[LabelSelectorRequirement, ...] = ()

    def selects(self, labels: Mapping[str, str]) -> bool:
        """Return whether this selects what carries `labels`; an empty selector selects everything, one that is wrong nothing."""
        return (not any(each.fault() for each in self.match_expressions)
                and all(labels.get(key) == value for key, value in self.match_labels.items())
                and all(each.meets(labels) for each in self.match_expressions))


def check_parent_refs(refs: tuple[ParentReference, ...], path: str) -> Findings:
    """References to one parent differ by sectionName or port, and all give the same of the two."""
    if len(refs) < 2:
        return
    several = "when parentRefs includes 2 or more references to the same parent"
    seen: dict[tuple[str, str, str, str | None], list[ParentReference]] = {}
    for index, ref in enumerate(refs):
        others = seen.setdefault((ref.group, ref.kind, ref.name, ref.namespace), [])
        given = ref.section_name is not None, ref.port is not None
        if any((other.section_name is not None, other.port is not None) != given for other in others):
            yield Finding(f"{path}[{index}]", f"sectionName or port must be specified {several}")
        elif any((other.section_name, other.port) == (ref.section_name, ref.port) for other in others):
            yield Finding(f"{path}[{index}]", f"sectionName or port must be unique {several}")
        others.append(ref)


def check_backend_ref(ref: BackendObjectReference, path: str) -> Findings:
    if ref.port is None and ref.kind == "Service" and not ref.group:
        yield Finding(f"{path}.port", "Must have port for Service reference")


def check_backend_ref_since_1_7(ref: BackendObjectReference, path: str) -> Findings:
    if (ref.group, ref.kind) == (EXPERIMENTAL_GROUP, "XBackend") and ref.port is not None:
        yield Finding(f"{path}.port", "Must not have port for Backend reference")
