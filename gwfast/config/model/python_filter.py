"""PythonFilter: a filter that is a class in Python (deploy/crds/pythonfilters.yaml), and its rules."""
from typing import Annotated, Any, ClassVar, Literal

from msgspec import Meta, field

from gwfast.config.findings import Finding, Findings
from gwfast.config.model.resource import NEWEST, OwnResource, Type
from gwfast.config.scalars import CLASS_NAME, Duration, ObjectName, seconds


class ConfigMapKeySelector(Type, kw_only=True, frozen=True):
    name: ObjectName
    key: Annotated[str, Meta(min_length=1, max_length=253, pattern=r"^[-._a-zA-Z0-9]+\Z")] = "filter.py"


class PythonFilterSpec(Type, kw_only=True, frozen=True):
    module: Annotated[str, Meta(min_length=1)] | None = None
    file: Annotated[str, Meta(min_length=1)] | None = None
    config_map: ConfigMapKeySelector | None = None
    class_: Annotated[str, Meta(pattern=CLASS_NAME)] = field(name="class")
    config: dict[str, Any] = {}
    timeout: Duration = "1s"
    failure: Literal["Closed", "Open"] = "Closed"
    max_body: Annotated[int, Meta(ge=0, le=16 * 1024 * 1024)] = 64 * 1024


class PythonFilter(OwnResource, kw_only=True):
    kind: ClassVar[str] = "PythonFilter"
    spec: PythonFilterSpec

    def validate(self, version: str = "v1", release: int = NEWEST) -> Findings:
        spec = self.spec
        if sum(given is not None for given in (spec.module, spec.file, spec.config_map)) != 1:
            yield Finding("spec",
                          "exactly one of module (what Python imports), file (beside this one) and configMap has to be given")
        if not 0 < seconds(spec.timeout) <= 3600:
            yield Finding("spec.timeout", "timeout has to be more than 0s and at most 1h")
