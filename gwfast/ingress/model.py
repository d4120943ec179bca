"""What ingress-nginx reads of a cluster, as typed structs: Ingress and IngressClass (k8s.io/api/networking/v1), and beside them
config's own Service, Secret and ConfigMap.

Rules:
- Attributes are the API's fields in snake_case, as in `config.model`; old shapes (v1beta1) have become v1 before they are here.
- `lines` says in which line of its file each annotation of an Ingress stands, and `text_lines` in which line the text of a
  block scalar begins, so that a report can name a line of a snippet.
- Facts is all that was read. Whoever decides what nginx would do, or what becomes of it, gets Facts and no files.
"""
from typing import Annotated, ClassVar, Literal

from msgspec import Meta, Struct, field

from gwfast.config.model import ConfigMap, Key, Resource, Secret, Service
from gwfast.errors import Problem, Source

GROUP = "networking.k8s.io"
CONTROLLER = "k8s.io/ingress-nginx"  # of the IngressClasses that ingress-nginx serves
LEGACY_CLASS = "kubernetes.io/ingress.class"  # the annotation of the time before IngressClass
DEFAULT_CLASS = "ingressclass.kubernetes.io/is-default-class"

PathType = Literal["Exact", "Prefix", "ImplementationSpecific"]


class _Type(Struct, kw_only=True, frozen=True, gc=False, rename="camel", forbid_unknown_fields=True, omit_defaults=True):
    pass


class ServiceBackendPort(_Type, kw_only=True, frozen=True):
    name: str = ""
    number: Annotated[int, Meta(ge=0, le=65535)] = 0

    def __str__(self) -> str:
        return self.name or str(self.number)


class IngressServiceBackend(_Type, kw_only=True, frozen=True):
    name: str
    port: ServiceBackendPort = ServiceBackendPort()


class TypedLocalObjectReference(_Type, kw_only=True, frozen=True):
    api_group: str = ""
    kind: str
    name: str


class IngressBackend(_Type, kw_only=True, frozen=True):
    service: IngressServiceBackend | None = None
    resource: TypedLocalObjectReference | None = None


class HTTPIngressPath(_Type, kw_only=True, frozen=True):
    path: str = ""
    path_type: PathType = "ImplementationSpecific"
    backend: IngressBackend


class HTTPIngressRuleValue(_Type, kw_only=True, frozen=True):
    paths: tuple[HTTPIngressPath, ...] = ()


class IngressRule(_Type, kw_only=True, frozen=True):
    host: str = ""
    http: HTTPIngressRuleValue | None = None


class IngressTLS(_Type, kw_only=True, frozen=True):
    hosts: tuple[str, ...] = ()
    secret_name: str = ""


class IngressSpec(_Type, kw_only=True, frozen=True):
    ingress_class_name: str | None = None
    default_backend: IngressBackend | None = None
    rules: tuple[IngressRule, ...] = ()
    tls: tuple[IngressTLS, ...] = ()


class Ingress(Resource, kw_only=True):
    kind: ClassVar[str] = "Ingress"
    group: ClassVar[str] = GROUP
    api_version: str = GROUP + "/v1"
    spec: IngressSpec = IngressSpec()
    lines: dict[str, int] = field(default_factory=dict, name="-lines")
    text_lines: dict[str, int] = field(default_factory=dict, name="-textLines")

    def line_of(self, annotation: str) -> Source:
        """Return where an annotation (its whole key) stands."""
        return Source(self.source.file, self.lines.get(annotation, self.source.line))

    def text_line(self, annotation: str, index: int) -> Source:
        """Return where a line of an annotation's text stands."""
        return Source(self.source.file, self.text_lines.get(annotation, self.lines.get(annotation, self.source.line)) + index)

    @property
    def class_name(self) -> str | None:
        """The name of its class; None where it has none. The legacy annotation wins, as in ingress-nginx."""
        legacy = self.metadata.annotations.get(LEGACY_CLASS)
        return legacy if legacy is not None else self.spec.ingress_class_name

    @property
    def name(self) -> str:
        return f"{self.metadata.namespace}/{self.metadata.name}"


class IngressClassParameters(_Type, kw_only=True, frozen=True):
    api_group: str = ""
    kind: str
    name: str
    namespace: str = ""
    scope: str = ""


class IngressClassSpec(_Type, kw_only=True, frozen=True):
    controller: str = ""
    parameters: IngressClassParameters | None = None


class IngressClass(Resource, kw_only=True):
    kind: ClassVar[str] = "IngressClass"
    group: ClassVar[str] = GROUP
    namespaced: ClassVar[bool] = False
    api_version: str = GROUP + "/v1"
    spec: IngressClassSpec = IngressClassSpec()

    @property
    def ours(self) -> bool:
        return self.spec.controller == CONTROLLER

    @property
    def is_default(self) -> bool:
        return self.metadata.annotations.get(DEFAULT_CLASS) == "true"


class Facts(Struct, kw_only=True):
    """All that was read, the Ingresses in the order of files and lines. `lines` are those of ConfigMaps' data."""

    ingresses: list[Ingress] = []
    classes: dict[str, IngressClass] = {}
    services: dict[Key, Service] = {}
    secrets: dict[Key, Secret] = {}
    config_maps: dict[Key, ConfigMap] = {}
    lines: dict[Key, dict[str, int]] = {}
    places: dict[Key, Source] = {}
    problems: list[Problem] = []

    def service(self, namespace: str, name: str) -> Service | None:
        return self.services.get(Key("Service", namespace, name))

    def config_map(self, namespace: str, name: str) -> ConfigMap | None:
        return self.config_maps.get(Key("ConfigMap", namespace, name))

    def secret(self, namespace: str, name: str) -> Secret | None:
        return self.secrets.get(Key("Secret", namespace, name))
