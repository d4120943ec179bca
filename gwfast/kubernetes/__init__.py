"""Kubernetes: where resources come from, and where their conditions go. Config, graph, plan, table and engine know nothing of it.

    API server ──list, watch──> Reflector ──raw objects──> KubernetesSource ──Loaded──> graph ─> plan ─> table ─> engine
        ^                                                                                 │
        └────status, by the leader alone──── StatusWriter <──what to say──── statuses <───┘

    kubeconfig   Access: the server's URL, its authority, who we are (in a cluster, or by a kubeconfig file)
    credentials  tokens, certificates and plugins that are asked again when they may be old (access, plugin, proxy)
    client       Client: requests, and streams of lines; it alone speaks to the API server (http, and TLS in stream)
    api          the kinds that are read: group, versions, plural; which of them the server has (discovery)
    reflector    Reflector: one list of the API server, kept up to date by a watch
    seen         Seen: what the API server says about an object besides what it is; Sink: who is told of it
    source       KubernetesSource: reflectors of every kind, decoded into config's resources; a Source as files are
    lease        Election: one leader, by a Lease
    features     supportedFeatures, by the installed bundle
    statuses     what the status of each object should be: the graph's conditions, addresses, features
    merge        a status as it stands and what we say, put together: what is another's stays
    pace         how fast statuses are written, and patience with whoever undoes one
    status       StatusWriter: writes it where it differs, and nothing else

Three ways to run it, one code: `gwfast run --kubernetes` watches, serves and writes; `gwfast controller` watches, writes,
provisions and streams to data planes (gwfast.controller); a data plane runs `gwfast run --controller URL`.

Rules:
- A source is told what changed on the event loop and decodes in the pipeline's thread. The loop never parses more than an
  object's head.
- A watch that is down changes nothing that serves. What vanished while it was down is reported by the list that follows.
- Objects are known by config's Key; the API server's words about them (uid, resourceVersion, the status that stands there)
  are in `Seen`, and never enter a resource.
"""
