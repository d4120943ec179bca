"""The controller: `gwfast controller` decides for a whole cluster what data planes serve, and makes them.

    KubernetesSource ─> graph ──┬─> statuses ─> StatusWriter ─────────────────────> API server
                                ├─> provision: Deployments, Services, ... ────────> API server
                                └─> feeds: of each fleet its resources ─> stream ─> data planes (gwfast run --controller URL)
                                                                            └─ what each serves: Programmed

    parameters   GatewayParameters: what a class, overridden by a Gateway, asks for (gwfast.dev/v1alpha1)
    fleet        Fleet: the data planes of one class (shared), or of one Gateway (dedicated): its name, namespace, Gateways
    objects      the objects that a fleet and its Gateways need, as JSON
    desired      what should be there, what is there and should not be, and the addresses that a Gateway got
    apply        Applier: server-side apply of what differs
    provision    Provisioner: all of that, following the graph and what the API server says
    ports        target ports: each (Gateway, port, transport) has one of its own in its fleet; its Service is the record
    feed         the resources that the Gateways of a fleet need, and nothing else
    wire         lines of JSON: what both sides say
    track        the history of a feed, so that who knows some of it is told the rest alone
    stream       the server that data planes ask; review says whose their tokens are (TokenReview)
    standing     how Gateways are served, as data planes say; programmed, what of that is said in statuses, and when
    source       ControllerSource: the other end, in a data plane; a Source as files and a cluster are. link connects, received
                 decodes, copy keeps the last good copy, plane runs it
    run          the process
    authority    the controller's certificate authority, kept in a Secret

Rules:
- Data planes hold no rights in the API server. They get Gateway API objects, Services, EndpointSlices, Secrets and ConfigMaps
  as they are: there is no second language, so versions may differ while an upgrade rolls.
- A data plane acknowledges the version that it serves. A Gateway is Programmed when its fleet has acknowledged.
- What a data plane got last lies in a file; it starts with it where no controller answers.
"""
