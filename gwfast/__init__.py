"""gwfast: a fast gateway that speaks the Kubernetes Gateway API.

Data flows one way: text -> config -> graph -> plan -> table -> engine. A folder is one room; its `__init__` says what is in it.

    config graph plan                     what was written, what it means together, what will run
    table                                 the image of it that workers map: its layout, and what writes it (compiled)
    _match _pick                          which rule, which backend: a request meets them first (compiled)
    http http1 http2 tls                  codecs, and connections of clients (compiled)
    engine upstream exchange extend l4    event loop, backends, a request's life, who is asked, TCP and UDP (compiled)
    serve endpoints observe               supervisor and workers, the health of endpoints, metrics and logs
    kubernetes controller                 the API server as a source and the place of status; the data planes of a cluster
"""
__version__ = "0.1.0"
