"""Plans of TCP and UDP listeners, for tests of relays."""
from gwfast.plan import ir

ECHO = ir.Backend(namespace="default", name="echo", port=80, protocol="tcp")


def tcp_plan(endpoints, weights=((1, ECHO),), transport="tcp", kind="TCPRoute", **bind) -> ir.Plan:
    """One listener, one rule. endpoints: {Backend.key: addresses}; weights: (weight, Backend or None)."""
    backends = tuple(ir.WeightedBackend(weight=weight, backend=backend) for weight, backend in weights)
    entry = ir.Entry(match=ir.Match(), rule=ir.Rule(kind=kind, namespace="default", route="all", index=0, backends=backends))
    listener = ir.Listener(id="default/gateway/l4", mode=transport, hosts=(ir.Host(hostname="", entries=(entry,)),))
    named = sorted((backend for _, backend in weights if backend), key=lambda backend: backend.key)
    return ir.Plan(
        binds=(ir.Bind(address="", port=80, transport=transport, listeners=(listener,), **bind),), backends=tuple(named),
        endpoints=tuple(ir.Endpoints(key=each.key, addresses=tuple(endpoints.get(each.key, ()))) for each in named))
