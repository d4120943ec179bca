"""Requests to the routes of the conformance manifests: request -> backend, status or Location.

Written from the manifests and the one line that spec 2.3 has on each test, not copied from the suite's own tables:
'METHOD URL [headers]' -> 'v1' for infra-backend-v1 with what is spoken to it, a status, a status with a Location, or
'closed'. `explain` answers them; it reads a plan without the table.
"""
from functools import cache

from support import pki
import pytest
from support import upstream

from gwfast.config.load import load
from gwfast.graph.attach import Attacher
from gwfast.graph.model import GraphOptions
from gwfast.plan.build import build
from gwfast.plan.explain import binds_for, explain, read_request

MANIFESTS = upstream.folder("conformance")
NAMESPACE = "gateway-conformance-infra"
pytestmark = upstream.needs("conformance")

CASES = {
    ("httproute-exact-path-matching", "same-namespace"): """
        GET http://h/one -> v1
        GET http://h/two -> v2
        GET http://h/ -> 404
        GET http://h/one/example -> 404
        GET http://h/two/ -> 404
        GET http://h/Two -> 404
    """,
    ("httproute-header-matching", "same-namespace"): """
        GET http://h/ version: one -> v1
        GET http://h/ version: two -> v2
        GET http://h/ version: two | color: orange -> v1
        GET http://h/ color: blue -> v1
        GET http://h/ color: green -> v1
        GET http://h/ color: red -> v2
        GET http://h/ color: yellow -> v2
        GET http://h/ color: purple -> 404
        GET http://h/ color: orange -> 404
        GET http://h/ -> 404
        GET http://h/ VERSION: one -> v1
    """,
    ("httproute-matching", "same-namespace"): """
        GET http://h/ -> v1
        GET http://h/example -> v1
        GET http://h/ version: one -> v1
        GET http://h/v2 -> v2
        GET http://h/ version: two -> v2
        GET http://h/v2/ -> v2
        GET http://h/v2/example -> v2
        GET http://h/v2example -> v1
        GET http://h/foo/v2/example -> v1
    """,
    ("httproute-matching-across-routes", "same-namespace"): """
        GET http://example.com/ -> v1
        GET http://example.com/example -> v1
        GET http://example.net/example -> v1
        GET http://example.com/example version: one -> v1
        GET http://example.com/v2 -> v2
        GET http://example.com/v2example -> v1
        GET http://example.com/foo/v2/example -> v1
        GET http://example.com/ version: two -> v2
        GET http://example.net/ version: two -> v1
        GET http://example.net/v2 -> v1
        GET http://example.org/ -> 404
    """,
    ("httproute-path-match-order", "same-namespace"): """
        GET http://h/match/exact/one -> v3
        GET http://h/match/exact -> v2
        GET http://h/match -> v1
        GET http://h/match/prefix/one/any -> v2
        GET http://h/match/prefix/any -> v1
        GET http://h/match/any -> v3
    """,
    ("httproute-method-matching", "same-namespace"): """
        POST http://h/ -> v1
        GET http://h/ -> v2
        HEAD http://h/ -> 404
        GET http://h/path1 -> v1
        PUT http://h/ version: one -> v2
        POST http://h/path2 version: two -> v3
        PATCH http://h/path3 -> v1
        DELETE http://h/path4 version: three -> v1
        PATCH http://h/path5 -> v1
        POST http://h/ version: four -> v1
    """,
    ("httproute-query-param-matching", "same-namespace"): """
        GET http://h/?animal=whale -> v1
        GET http://h/?animal=dolphin -> v2
        GET http://h/?animal=whale&otherparam=irrelevant -> v1
        GET http://h/?animal=dolphin&color=yellow -> v2
        GET http://h/?animal=dolphin&color=blue -> v3
        GET http://h/?ANIMAL=Whale -> v3
        GET http://h/?animal=whale&otherparam=irrelevant&color=blue -> v1
        GET http://h/?color=blue -> 404
        GET http://h/?animal=dog -> 404
        GET http://h/?animal=whaledolphin -> 404
        GET http://h/ -> 404
        GET http://h/path1?animal=whale -> v1
        GET http://h/?animal=whale version: one -> v2
        GET http://h/path2?animal=whale version: two -> v3
        GET http://h/path3?animal=shark -> v1
        GET http://h/path4?animal=kraken version: three -> v1
        GET http://h/path5?animal=hydra -> v1
        GET http://h/?animal=hydra version: four -> v3
    """,
    ("httproute-listener-hostname-matching", "httproute-listener-hostname-matching"): """
        GET http://bar.com/ -> v1
        GET http://foo.bar.com/ -> v2
        GET http://baz.bar.com/ -> v3
        GET http://boo.bar.com/ -> v3
        GET http://multiple.prefixes.bar.com/ -> v3
        GET http://multiple.prefixes.foo.com/ -> v3
        GET http://foo.com/ -> 404
        GET http://no.matching.host/ -> 404
    """,
    ("httproute-listener-port-matching", "httproute-listener-port-matching"): """
        GET http://foo.com/ -> v1
        GET http://bar.com/ -> 404
        GET http://foo.com:8080/ -> v2
        GET http://bar.com:8080/ -> v2
        GET http://foo.com:8090/ -> v3
        GET http://bar.com:8090/ -> 404
    """,
    ("httproute-hostname-intersection", "httproute-hostname-intersection"): """
        GET http://very.specific.com/s1 -> v1
        GET http://very.specific.com/s1 host: very.specific.com:1234 -> v1
        GET http://non.matching.com/s1 -> 404
        GET http://foo.nonmatchingwildcard.io/s1 -> 404
        GET http://very.specific.com/non-matching-prefix -> 404
        GET http://foo.wildcard.io/s2 -> v2
        GET http://bar.wildcard.io/s2 host: bar.wildcard.io:5678 -> v2
        GET http://foo.bar.wildcard.io/s2 -> v2
        GET http://wildcard.io/s2 -> 404
        GET http://very.specific.com/s3 -> v3
        GET http://foo.specific.com/s3 -> 404
        GET http://foo.anotherwildcard.io/s4 -> v1
        GET http://foo.bar.anotherwildcard.io/s4 -> v1
        GET http://anotherwildcard.io/s4 -> 404
        GET http://specific.but.wrong.com/s5 -> 404
        GET http://wildcard.io/s5 -> 404
    """,
    ("httproute-hostname-intersection", "httproute-hostname-intersection-all"): """
        GET http://first.com/ -> v2
        GET http://sub.first.com/ -> v2
        GET http://second.com/ -> v2
        GET http://sub.second.com/ -> v2
        GET http://third.com/ -> 404
    """,
    ("gateway-http-listener-isolation", "http-listener-isolation"): """
        GET http://bar.com/empty-hostname -> v1
        GET http://bar.com/wildcard-example-com -> 404
        GET http://bar.com/wildcard-foo-example-com -> 404
        GET http://bar.com/abc-foo-example-com -> 404
        GET http://bar.example.com/empty-hostname -> 404
        GET http://bar.example.com/wildcard-example-com -> v1
        GET http://bar.example.com/wildcard-foo-example-com -> 404
        GET http://bar.example.com/abc-foo-example-com -> 404
        GET http://bar.foo.example.com/empty-hostname -> 404
        GET http://bar.foo.example.com/wildcard-example-com -> 404
        GET http://bar.foo.example.com/wildcard-foo-example-com -> v1
        GET http://bar.foo.example.com/abc-foo-example-com -> 404
        GET http://abc.foo.example.com/empty-hostname -> 404
        GET http://abc.foo.example.com/wildcard-example-com -> 404
        GET http://abc.foo.example.com/wildcard-foo-example-com -> 404
        GET http://abc.foo.example.com/abc-foo-example-com -> v1
    """,
    ("gateway-http-listener-isolation-with-hostname-intersection",
     "http-listener-isolation-with-hostname-intersection"): """
        GET http://bar.com/empty-hostname -> v1
        GET http://bar.com/wildcard-example-com -> 404
        GET http://bar.example.com/wildcard-example-com -> v1
        GET http://bar.example.com/empty-hostname -> 404
        GET http://bar.foo.example.com/wildcard-foo-example-com -> v1
        GET http://bar.foo.example.com/wildcard-example-com -> 404
        GET http://abc.foo.example.com/abc-foo-example-com -> v1
        GET http://abc.foo.example.com/wildcard-foo-example-com -> 404
    """,
    ("httproute-redirect-host-and-status", "same-namespace"): """
        GET http://h/hostname-redirect -> 302 http://example.org/hostname-redirect
        GET http://h/host-and-status -> 301 http://example.org/host-and-status
    """,
    ("httproute-redirect-path", "same-namespace"): """
        GET http://h/original-prefix/lemon -> 302 http://h/replacement-prefix/lemon
        GET http://h/full/path/original -> 302 http://h/full-path-replacement
        GET http://h/path-and-host -> 302 http://example.org/replacement-prefix
        GET http://h/path-and-status -> 301 http://h/replacement-prefix
        GET http://h/full-path-and-host -> 302 http://example.org/replacement-full
        GET http://h/full-path-and-status -> 301 http://h/replacement-full
    """,
    ("httproute-redirect-port-and-scheme", "same-namespace"): """
        GET http://h/scheme-nil-and-port-nil -> 302 http://example.org/scheme-nil-and-port-nil
        GET http://h/scheme-nil-and-port-80 -> 302 http://example.org/scheme-nil-and-port-80
        GET http://h/scheme-nil-and-port-8080 -> 302 http://example.org:8080/scheme-nil-and-port-8080
        GET http://h/scheme-https-and-port-nil -> 302 https://example.org/scheme-https-and-port-nil
        GET http://h/scheme-https-and-port-443 -> 302 https://example.org/scheme-https-and-port-443
        GET http://h/scheme-https-and-port-8443 -> 302 https://example.org:8443/scheme-https-and-port-8443
    """,
    ("httproute-redirect-port-and-scheme", "same-namespace-with-http-listener-on-8080"): """
        GET http://h:8080/scheme-nil-and-port-nil -> 302 http://example.org:8080/scheme-nil-and-port-nil
        GET http://h:8080/scheme-nil-and-port-80 -> 302 http://example.org/scheme-nil-and-port-80
        GET http://h:8080/scheme-https-and-port-nil -> 302 https://example.org/scheme-https-and-port-nil
    """,
    ("httproute-omitted-backendrefs", "same-namespace"): """
        GET http://h/omitted-no-forward -> 500
        GET http://h/empty-no-forward -> 500
        GET http://h/other -> v1
    """,
    ("httproute-invalid-nonexistent-backendref", "same-namespace"): "GET http://h/ -> 500",
    ("httproute-invalid-backendref-unknown-kind", "same-namespace"): "GET http://h/ -> 500",
    ("httproute-invalid-cross-namespace-backend-ref", "same-namespace"): "GET http://h/ -> 500",
    ("httproute-invalid-reference-grant", "same-namespace"): "GET http://h/v2 -> 500",
    ("httproute-partially-invalid-via-invalid-reference-grant", "same-namespace"): """
        GET http://h/v2 -> 500
        GET http://h/ -> app-backend-v1
    """,
    ("listenerset-http-routing", "gateway-with-listener-sets-http-routing"): """
        GET http://gateway-listener-1.com/route -> v1
        GET http://gateway-listener-2.com/gateway-route -> v2
        GET http://gateway-listener-1.com/gateway-section-route -> v3
        GET http://gateway-listener-2.com/gateway-section-route -> 404
        GET http://listener-set-http-routing-1-listener-1.com/route -> v1
        GET http://listener-set-http-routing-1-listener-1.com/gateway-route -> 404
        GET http://listener-set-http-routing-1-listener-2.com/listener-set-http-routing-1-route -> v2
        GET http://listener-set-http-routing-1-listener-1.com/listener-set-http-routing-1-section-route -> v3
        GET http://listener-set-http-routing-1-listener-2.com/listener-set-http-routing-1-section-route -> 404
        GET http://listener-set-http-routing-2-listener-1.com/listener-set-http-routing-2-route -> v2
        GET http://listener-set-http-routing-2-listener-1.com/listener-set-http-routing-1-route -> 404
    """,
    ("httproute-https-listener", "same-namespace-with-https-listener"): """
        GET https://example.org/ -> v1
        GET https://second-example.org/ -> v2
        GET https://unknown-example.org/ -> 404
        GET https://example.org/ Host: second-example.org -> 421
        GET http://example.org:443/ -> 400
    """,
    ("httproute-https-listener-detect-misdirected-requests", "same-namespace-with-https-listener"): """
        GET https://example.org/detect-misdirected-requests -> v1
        GET https://other.org/detect-misdirected-requests Host: example.org -> v1
        GET https://example.org/detect-misdirected-requests Host: other.org -> 404
        GET https://example.org/detect-misdirected-requests Host: a.wildcard.org -> 421
        GET https://second-example.org/detect-misdirected-requests -> v2
        GET https://second-example.org/detect-misdirected-requests Host: other.org -> 421
        GET https://a.wildcard.org/detect-misdirected-requests -> v3
        GET https://a.wildcard.org/detect-misdirected-requests Host: b.c.wildcard.org -> v3
        GET https://a.wildcard.org/detect-misdirected-requests Host: fourth-example.wildcard.org -> 421
        GET https://fourth-example.wildcard.org/detect-misdirected-requests -> v1
        GET https://fourth-example.wildcard.org/detect-misdirected-requests Host: a.wildcard.org -> 421
        GET https://wildcard.org/detect-misdirected-requests -> 404
    """,
    ("httproute-backend-protocol-h2c", "same-namespace"): "GET http://h/ -> v1 h2c",
    ("httproute-backend-protocol-websocket", "same-namespace"): "GET http://h/ -> v1 ws",
    ("grpcroute-exact-method-matching", "same-namespace"): """
        POST http://h/gateway_api_conformance.echo_basic.grpcecho.GrpcEcho/Echo -> grpc-v1 h2c
        POST http://h/gateway_api_conformance.echo_basic.grpcecho.GrpcEcho/EchoTwo -> grpc-v2 h2c
        POST http://h/gateway_api_conformance.echo_basic.grpcecho.GrpcEcho/EchoThree -> 404
        POST http://h/echo_basic.grpcecho.GrpcEcho/Echo -> 404
    """,
    ("grpcroute-header-matching", "same-namespace"): """
        POST http://h/a.B/C version: one -> grpc-v1 h2c
        POST http://h/a.B/C version: two -> grpc-v2 h2c
        POST http://h/a.B/C version: two | color: orange -> grpc-v1 h2c
        POST http://h/a.B/C color: green -> grpc-v1 h2c
        POST http://h/a.B/C color: yellow -> grpc-v2 h2c
        POST http://h/a.B/C color: orange -> 404
        POST http://h/a.B/C some: other -> 404
    """,
    ("grpcroute-listener-hostname-matching", "grpcroute-listener-hostname-matching"): """
        POST http://bar.com/a.B/C -> grpc-v1 h2c
        POST http://foo.bar.com/a.B/C -> grpc-v2 h2c
        POST http://baz.bar.com/a.B/C -> grpc-v3 h2c
        POST http://multiple.prefixes.foo.com/a.B/C -> grpc-v3 h2c
        POST http://foo.com/a.B/C -> 404
        POST http://no.matching.host/a.B/C -> 404
    """,
    ("tlsroute-simple-same-namespace", "gateway-tlsroute"): """
        tls://abc.example.com -> tcp-backend tcp
        tls://def.example.com -> closed
    """,
    ("tlsroute-hostname-intersection", "gw-tlsroute-exact-hostname-x-1"): """
        tls://abc.example.com -> tls-backend tcp
        tls://def.example.com -> closed
    """,
    ("tlsroute-hostname-intersection", "gw-tlsroute-more-specific-wc-hostname-x-2"): """
        tls://abc.example.com -> tls-backend tcp
        tls://def.example.com -> tls-backend-2 tcp
        tls://example.com -> closed
    """,
    ("tlsroute-hostname-intersection", "gw-tlsroute-empty-hostname-x-4"): """
        tls://abc.example.com -> tls-backend tcp
        tls://def.com -> tls-backend-2 tcp
        tls://abc.example.net -> closed
    """,
    ("tlsroute-mixed-termination-same-namespace", "gateway-tlsroute-mixed-termination"): """
        tls://abc.example.com:8883 -> tcp-backend tcp
        tls://tls.example.com:8883 -> tcp-backend tcp
        tls://other.example.com:8883 -> closed
    """,
    ("tlsroute-invalid-backendref-nonexistent", "gateway-tlsroute-invalid-backend-ref-nonexistent"): "tls://example.com -> 500",
    ("tcproute-multiple-routes-attachment", "tcp-multi-route-attach-gateway"): "tcp://h:9310 -> tcp-attach-backend-1 tcp",
    ("tcproute-parentref-port-and-section-name", "tcp-multi-listener-gateway"): """
        tcp://h:9300 -> tcp-echo-one tcp
        tcp://h:9301 -> tcp-echo-two tcp
        tcp://h:9302 -> tcp-echo-three tcp
    """,
    ("udproute-simple", "udp-gateway"): "udp://h:5300 -> coredns udp",
    ("backendtlspolicy", "same-namespace"): """
        GET http://abc.example.com/backendtlspolicy -> backendtlspolicy-test http over TLS as abc.example.com
        GET http://abc.example.com/backendtlspolicy-host-mismatch -> backendtlspolicy-host-mismatch-test http over TLS as mismatch.example.com
    """,
    ("backendtlspolicy-invalid-kind", "same-namespace"): "GET http://abc.example.com/backendtlspolicy-invalid-kind -> 500",
}
ASKED = [(*where, line.strip()) for where, lines in CASES.items() for line in lines.strip().splitlines()]


@cache
def plan_of(manifest, gateway):
    loaded = load([str(MANIFESTS / f"{manifest}.yaml"), str(MANIFESTS / "base-manifests.yaml")])
    loaded.resources.update(pki.suite_credentials())
    options = GraphOptions(gateway=f"{NAMESPACE}/{gateway}", strict_services=True)
    return build(Attacher(options).attach(loaded.resources))


@pytest.mark.parametrize(("manifest", "gateway", "asked"), ASKED, ids=[f"{name}: {line}" for name, _, line in ASKED])
def test_request(manifest, gateway, asked):
    request, _, expected = asked.partition(" -> ")
    method, url, *headers = request.split(" ", 2) if " " in request else ("", request)
    headers = headers[0].split(" | ") if headers else []
    plan = plan_of(manifest, gateway)
    parsed = read_request(method, url, headers)
    (bind,) = binds_for(plan, parsed)
    assert answer(explain(bind, parsed)) == expected


def answer(found):
    if found.why:
        return str(found.status or "closed")
    (share,) = found.shares
    if backend := share.backend:
        words = [backend.name.replace("infra-backend-", "")]
        words += [backend.protocol] if backend.tls or backend.protocol != "http" else []
        return " ".join(words + ([f"over TLS as {backend.tls.hostname}"] if backend.tls else []))
    return f"{share.status} {share.location}".strip()
