"""Paths of the API server, and which names may be in one.

    /api/v1/namespaces/NAMESPACE/PLURAL/NAME        of the core group
    /apis/GROUP/VERSION/namespaces/NAMESPACE/PLURAL/NAME

Rules:
- Every path with a name in it is made here, with the name escaped: no name is a query, a fragment or another path.
- A reference may have any text as a name: the definitions of the Gateway API limit its length alone. A text that cannot be the
  name of an object in Kubernetes is never asked for. `%` is escaped and does no harm; `..` would, since proxies resolve it.
"""
import re
from urllib.parse import quote

from gwfast.config.scalars import LABEL, SUBDOMAIN

_NAMESPACE, _NAME = re.compile(LABEL), re.compile(SUBDOMAIN)
NAMESPACE_MOST, NAME_MOST = 63, 253  # of apimachinery's validation: DNS1123LabelMaxLength, DNS1123SubdomainMaxLength


def collection(group: str, version: str, plural: str, namespace: str = "") -> str:
    """Return the path of all objects, or of those of a namespace."""
    root = f"/apis/{group}/{version}" if group else f"/api/{version}"
    return f"{root}/namespaces/{escaped(namespace)}/{plural}" if namespace else f"{root}/{plural}"


def below(path: str, name: str) -> str:
    """Return the path of one object of a collection."""
    return f"{path}/{escaped(name)}"


def escaped(name: str) -> str:
    """Return a name as a segment of a path; ValueError where it can be none."""
    if name in ("", ".", ".."):
        raise ValueError(f"{name!r} is no name of an object")
    return quote(name, safe="", errors="replace")


def exists(namespace: str, name: str) -> bool:
    """Whether there may be a Secret or a ConfigMap of this name."""
    return (len(namespace) <= NAMESPACE_MOST and _NAMESPACE.match(namespace) is not None
            and len(name) <= NAME_MOST and _NAME.match(name) is not None)
