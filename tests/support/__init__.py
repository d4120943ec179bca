"""What tests of several folders share. A test imports from here, and never from another test.

    waiting        until(): waits for what must become true, with a deadline
    gateway        a real `gwfast run`, and the resources that it is given; ports, network, tls and terminals are for it
    backend, wire  a backend that does what a test says, on messages that are read as strictly as RFC 9112 does
    scripted       the engine without a supervisor, and a backend of bytes; http2_backend, http2_client: the same over HTTP/2
    pki, issuer    certificates; failing: parts of gwfast that fail on purpose; protobuf: what ext_authz says
    upstream       what was taken from others, where it can be had
    grpc_backend, secure_backend, python_filters, conformance                       what tests of tests/proxy share
    exchanges, authorizers, http2_upstream, pools, relays, bulk, random_...         and of tests/engine
    api_tls, api_objects, desired_world, provisioning, patterns, processes, traffic and of what has to do with a cluster

Programs that no pytest runs (tests/isolated, tests/fuzz) have the folder above on their path.
"""
