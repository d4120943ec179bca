"""A way home for users of ingress-nginx: their Ingresses become Gateway API, and it is shown that requests go where they went.

    paths ─ read ─> Facts ─ locations.site ─> Site      what nginx does: servers, locations in its order, upstreams
                      │                        │ ├──────────── paths, rules ─> routes ──┐
                      └ annotations, options ─ │ ┘  Asked: what an Ingress asks         ├─ convert ─> resources
                                               │         listeners, policies ───────────┘      └───> Report
                                               └── compare: the same request asked of Site and of the plan of what was made

Rules:
- Nothing below (config, graph, plan, the engine) knows of Ingress: what comes out of here is Gateway API, as anybody writes it.
- `locations` is the one place that knows what nginx would do. The conversion and `compare` both ask it, and tests ask a real
  nginx.
- `annotations` is one table: each key with how its value is read and one function that converts it. A kind that gwfast will
  have some day is a new body of such a function.
- Nothing is dropped silently: what was read is in the report, converted, not needed, reduced or lost, with file and line.
- What keeps somebody out and cannot be said closes its paths; nothing opens by a move.
"""
