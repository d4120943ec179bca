"""What one annotation of ingress-nginx is: its key, how its value is read, and what becomes of it.

    value (text) ── kind ──> value (Python) ── convert(Asked, value) ──> Said(outcome, words)
                     └─ ValueError: ingress-nginx would use its default; so does the conversion, and says so

Rules:
- An outcome is one of four. converted: the output does the same. not needed: gwfast does the same without a word in the
  output, or the annotation tunes what nginx alone has. reduced: the output does some of it, and the words say what not. lost:
  the output does nothing of it.
- `convert` writes what an Ingress asks of each of its locations into Asked, and returns what is to be said; None where that
  depends on the location (a path, a host, a Service), and whoever looks at locations says it.
- An annotation that keeps somebody out and cannot be said is `closed`: its paths answer 500, for they must not stand open.
- A new target of an annotation is a new body of its one function; nothing else knows the key.
"""
from collections.abc import Callable
from enum import StrEnum
from typing import Any, NamedTuple

from msgspec import Struct, field

from gwfast.ingress.model import Facts, Ingress

Spec = dict[str, Any]  # a part of a resource, as it is written


class Outcome(StrEnum):
    """What became of something that was written."""

    CONVERTED = "converted"
    NOT_NEEDED = "not needed"
    REDUCED = "reduced"
    LOST = "lost"

    @property
    def rank(self) -> int:
        """How bad it is."""
        return (Outcome.NOT_NEEDED, Outcome.CONVERTED, Outcome.REDUCED, Outcome.LOST).index(self)


class Said(NamedTuple):
    """What became of an annotation, and how."""

    outcome: Outcome
    words: str = ""


def converted(words: str = "") -> Said:
    return Said(Outcome.CONVERTED, words)


def not_needed(words: str) -> Said:
    return Said(Outcome.NOT_NEEDED, words)


def reduced(words: str) -> Said:
    return Said(Outcome.REDUCED, words)


def lost(words: str) -> Said:
    return Said(Outcome.LOST, words)


class Options(Struct, frozen=True, kw_only=True):
    """What the command line says of a conversion.

    faithful: nginx's quirks are kept; else the specification's words hold, and every difference is listed. standard_only: no
    kinds and fields but those of the standard channel."""

    faithful: bool = True
    standard_only: bool = False
    prefix: str = "nginx.ingress.kubernetes.io"
    ingress_class: str = ""
    gateway_class: str = "gwfast"
    gateway: tuple[str, str] = ("", "ingress-nginx")  # namespace ('': where the first Ingress is) and name
    default_certificate: tuple[str, str] | None = None


class Asked(Struct, kw_only=True):
    """What one Ingress asks of each of its locations, in the words of Gateway API; `values` are its annotations as they were
    read."""

    ingress: Ingress
    facts: Facts
    options: Options
    values: dict[str, Any]
    config: dict[str, Any] = {}  # of the controller's ConfigMap
    request_headers: dict[str, str] = field(default_factory=dict)
    request_removed: list[str] = field(default_factory=list)
    response_headers: dict[str, str] = field(default_factory=dict)
    response_removed: list[str] = field(default_factory=list)
    filters: list[Spec] = field(default_factory=list)
    hostname: str = ""
    timeouts: Spec = field(default_factory=dict)
    retry: Spec = field(default_factory=dict)
    session: Spec = field(default_factory=dict)
    closed: list[str] = field(default_factory=list)  # keys of annotations without which the paths must not stand open
    resources: list[Spec] = field(default_factory=list)
    snippet_lines: list[tuple[str, int, str, Said]] = field(
        default_factory=list
    )  # annotation, line of its text, the line, what of it

    def get(self, name: str, default: Any = None) -> Any:
        """Return the value of another annotation; `default` where it is not there or bad."""
        return self.values.get(name, default)

    def close(self, name: str, words: str) -> Said:
        """Say that what keeps somebody out is lost, and let nobody in."""
        self.closed.append(name)
        return lost(f"{words}; its paths are closed: they answer 500")


class Annotation(Struct, frozen=True):
    """One key of ingress-nginx, without its prefix."""

    name: str
    kind: Callable[[str], Any]
    convert: Callable[[Asked, Any], Said | None]


def later(asked: Asked, value: Any) -> Said | None:
    """Leave it to whoever looks at locations."""
    return None


def always(said: Said) -> Callable[[Asked, Any], Said | None]:
    """Return a conversion that says one thing of every value."""
    return lambda asked, value: said


def unless(default: Any, said: Said, words: str = "it is what holds anyway") -> Callable[[Asked, Any], Said | None]:
    """Return a conversion that says one thing of every value but the default."""
    return lambda asked, value: not_needed(words) if value == default else said
