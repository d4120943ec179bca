"""Turns the TLS of the graph into the plan's: what a listener shows to clients, and how backends are spoken to and verified."""
from gwfast.graph.model import Certificate, ListenerNode, TargetTLS
from gwfast.plan import ir

# By what is spoken to the backend.
ALPN: dict[str, tuple[str, ...]] = {"http": ("h2", "http/1.1"), "ws": ("http/1.1",), "h2c": ("h2",), "tcp": ()}


def server_tls(node: ListenerNode) -> ir.ServerTLS | None:
    """Return the TLS of a listener; None where it has none, or leaves it to the backends."""
    tls = node.tls
    if tls is None or tls.mode == "Passthrough":
        return None
    return ir.ServerTLS(certificates=tuple(map(_certificate, tls.certificates)), min_version=tls.min_version,
                        ciphers=tls.ciphers, client_ca=tls.client_ca, client_mode=tls.client_mode,
                        alpn=node.protocol == "HTTPS")


def backend_tls(tls: TargetTLS, protocol: str, certificate: Certificate | None) -> ir.BackendTLS:
    """Return the TLS to a target. `certificate`: what the Gateway shows where a policy says nothing of its own."""
    shown = tls.certificate or certificate
    return ir.BackendTLS(ca=tls.ca, system=tls.system, hostname=tls.hostname, sans=tls.sans, alpn=ALPN[protocol],
                         certificate=_certificate(shown) if shown else None)


def _certificate(found: Certificate) -> ir.Certificate:
    return ir.Certificate(chain=found.chain, key=found.key, names=found.names, not_after=found.not_after)
