"""Where hosts are listened for: one Gateway for all, and ListenerSets in the namespaces of the certificates.

    Gateway (80, 443: any host)  <── ListenerSet of a namespace (80 and 443 of each host, 64 listeners a set)

Rules:
- Every host has listeners of its own: a request for it never gets to rules of less special hosts, which is what nginx's
  servers do.
- A host is listened for in the namespace of its certificate, so that no ReferenceGrant is needed; routes of other namespaces
  that have rules for it are let in.
- Sections are named after hosts: http-shop-example.
"""
import re

from msgspec import Struct, field

from gwfast.config.model import GATEWAY_GROUP
from gwfast.graph.listeners import TLS_CIPHERS
from gwfast.identity import hashed
from gwfast.ingress.annotations.table import Options, Spec

API = f"{GATEWAY_GROUP}/v1"
MOST = 64  # listeners of a Gateway or ListenerSet
NAME_LENGTH = 63  # of what is named after something: it may become a label


def slug(text: str) -> str:
    """Return the name of a section or object for a host or path."""
    made = re.sub(r"[^a-z0-9]+", "-", text.lower().replace("*", "any")).strip("-") or "any"
    return made if len(made) <= NAME_LENGTH - 12 else hashed(made, text, NAME_LENGTH - 12)


def resource(kind: str, namespace: str, name: str, spec: Spec, api: str = API) -> Spec:
    """Return a resource as it is written."""
    return {"apiVersion": api, "kind": kind, "metadata": {"name": name, "namespace": namespace}, "spec": spec}


class Listeners(Struct):
    """The listeners that routes ask for, each once."""

    options: Options
    namespace: str  # of the Gateway
    own: dict[str, Spec] = field(default_factory=dict)  # of the Gateway, by section
    sets: dict[str, list[Spec]] = field(default_factory=dict)  # by namespace
    places: dict[tuple[str, str], Spec] = field(
        default_factory=dict
    )  # (section, host) -> parentRef without namespace, and its own
    granted: list[tuple[str, str]] = field(default_factory=list)  # (kind, namespace) of who uses the default certificate

    @property
    def name(self) -> str:
        return self.options.gateway[1]

    def default(self, secure: bool) -> Spec:
        """Return the parentRef of the listener of every other host."""
        section = "https" if secure else "http"
        if section not in self.own:
            self.own[section] = self._listener(section, "", secure, None, True, "Gateway", self.namespace)
        return {"name": self.name, "namespace": self.namespace, "sectionName": section}

    def host(self, host: str, secure: bool, namespace: str, certificate: str | None = None, shared: bool = False,
             ciphers: str = "", passthrough: bool = False) -> Spec:
        """Return the parentRef of a host's listener, made where there is none yet."""
        section = f"{'tls' if passthrough else 'https' if secure else 'http'}-{slug(host)}"
        place = section, host
        if place not in self.places:
            listeners = self.sets.setdefault(namespace, [])
            number = len(listeners) // MOST
            made = self._listener(section, host, secure, certificate, shared, "ListenerSet", namespace)
            if ciphers and secure:
                made["tls"]["options"] = {TLS_CIPHERS: ciphers}
            if passthrough:
                made |= {"protocol": "TLS", "tls": {"mode": "Passthrough"}}
            listeners.append(made)
            self.places[place] = {"group": GATEWAY_GROUP, "kind": "ListenerSet", "name": self.set_name(number),
                                  "namespace": namespace, "sectionName": section}
        return self.places[place]

    def set_name(self, number: int) -> str:
        return self.name if number == 0 else f"{self.name}-{number + 1}"

    def _listener(self, section: str, host: str, secure: bool, certificate: str | None, shared: bool, kind: str,
                  namespace: str) -> Spec:
        made: Spec = {"name": section, "protocol": "HTTPS" if secure else "HTTP", "port": 443 if secure else 80}
        if host:
            made["hostname"] = host
        if secure and certificate:
            made["tls"] = {"certificateRefs": [{"name": certificate}]}
        elif secure and self.options.default_certificate:
            of, name = self.options.default_certificate
            if of != namespace and (kind, namespace) not in self.granted:
                self.granted.append((kind, namespace))
            made["tls"] = {"certificateRefs": [{"name": name} | ({"namespace": of} if of != namespace else {})]}
        if shared:
            made["allowedRoutes"] = {"namespaces": {"from": "All"}}
        return made

    def resources(self) -> list[Spec]:
        """Return the Gateway, the ListenerSets, and the ReferenceGrant that the default certificate needs."""
        self.default(False)
        spec: Spec = {"gatewayClassName": self.options.gateway_class, "listeners": list(self.own.values())}
        if self.sets:
            spec["allowedListeners"] = {"namespaces": {"from": "All"}}
        made = [resource("Gateway", self.namespace, self.name, spec)]
        for namespace, listeners in self.sets.items():
            for number in range(0, len(listeners), MOST):
                parent: Spec = {"name": self.name} | ({"namespace": self.namespace} if namespace != self.namespace else {})
                made.append(resource("ListenerSet", namespace, self.set_name(number // MOST),
                                     {"parentRef": parent, "listeners": listeners[number:number + MOST]}))
        if self.granted and self.options.default_certificate:
            of, name = self.options.default_certificate
            made.append(resource("ReferenceGrant", of, f"{self.name}-certificate", {
                "from": [{"group": GATEWAY_GROUP, "kind": kind, "namespace": namespace} for kind, namespace in self.granted[:16]],
                "to": [{"group": "", "kind": "Secret", "name": name}]}))
        return made
