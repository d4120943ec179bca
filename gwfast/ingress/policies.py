"""What is said of Services, not of routes: backends over TLS, and the ports that ingress-nginx passes through as they are.

Rules:
- A BackendTLSPolicy is for each Service that a location speaks to over TLS. Its authority is the ca.crt of proxy-ssl-secret,
  copied into a ConfigMap where the Secret was read; without verification nginx asked nobody, and the policy asks the system's
  authorities.
- tcp-services and udp-services are ConfigMaps of '9000: namespace/service:port': a listener and a route for each.
"""
import re

from gwfast.errors import Source
from gwfast.ingress.annotations.table import Asked, Spec, converted, lost, reduced
from gwfast.ingress.listeners import Listeners, resource
from gwfast.ingress.locations import Site, Upstream
from gwfast.ingress.report import Report
from gwfast.ingress.rules import port_number

_L4 = re.compile(r"([a-z0-9.-]+)/([a-z0-9.-]+):([A-Za-z0-9-]+)((?::(?:PROXY)?){0,2})")


def backend_tls(site: Site, asked: Asked, upstream: Upstream, authorities: dict[tuple[str, str], Spec]) -> Spec:
    """Return the policy of a Service; `authorities` gets the ConfigMaps that have to be there."""
    service = site.facts.service(upstream.namespace, upstream.service)
    target: Spec = {"group": "", "kind": "Service", "name": upstream.service}
    name = next((one.name for one in service.spec.ports if str(one.port) == upstream.port or one.name == upstream.port), "") if (
        service) else ""
    if name:
        target["sectionName"] = name
    hostname = str(asked.get("proxy-ssl-name", "")).lower()
    if not re.fullmatch(r"[a-z0-9]([-a-z0-9.]*[a-z0-9])?", hostname):
        hostname = f"{upstream.service}.{upstream.namespace}.svc"
    validation: Spec = {"hostname": hostname}
    secret = str(asked.get("proxy-ssl-secret", ""))
    if secret and asked.get("proxy-ssl-verify") == "on":
        namespace, _, of = secret.rpartition("/")
        namespace = namespace or upstream.namespace
        copy = f"{of}-ca"
        validation["caCertificateRefs"] = [{"group": "", "kind": "ConfigMap", "name": copy}]
        found = site.facts.secret(namespace, of)
        if found and "ca.crt" in found.data:
            authorities[upstream.namespace, copy] = {
                "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": copy, "namespace": upstream.namespace},
                "data": {"ca.crt": found.data["ca.crt"].decode("utf-8", "replace")}}
    else:
        validation["wellKnownCACertificates"] = "System"
    return resource("BackendTLSPolicy", upstream.namespace, f"{upstream.service}-{upstream.port}",
                    {"targetRefs": [target], "validation": validation})


def streams(site: Site, listeners: Listeners, report: Report) -> list[Spec]:
    """Return the routes of tcp-services and udp-services."""
    made: list[Spec] = []
    for key, found in site.facts.config_maps.items():
        protocol = next((one for one in ("tcp", "udp") if key.name.endswith((f"{one}-services", f"-{one}"))), "")
        for port, text in found.data.items() if protocol else ():
            where = Source(found.source.file, site.facts.lines.get(key, {}).get(port, found.source.line))
            parts = _L4.fullmatch(text.strip())
            number = port_number(site, Upstream("", parts[1], parts[2], parts[3])) if parts else None
            if not parts or not port.isdigit() or not 0 < int(port) < 65536 or number is None:
                report.say(where, str(key), port, text, lost("it is no NAMESPACE/SERVICE:PORT whose port's number is known"))
                continue
            section = f"{protocol}-{port}"
            listeners.own[section] = {"name": section, "protocol": protocol.upper(), "port": int(port),
                                      "allowedRoutes": {"namespaces": {"from": "All"}}}
            kind = f"{protocol.upper()}Route"
            parent = {"name": listeners.name, "namespace": listeners.namespace, "sectionName": section}
            made.append(resource(kind, parts[1], f"{parts[2]}-{section}", {
                "parentRefs": [parent], "rules": [{"backendRefs": [{"name": parts[2], "port": number}]}]}))
            report.say(where, str(key), port, text, reduced(f"{kind}, without the PROXY protocol") if "PROXY" in parts[4]
                       else converted(kind))
    return made
