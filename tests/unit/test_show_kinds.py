# ruff: noqa: E501 (lines as they are printed)
"""check, routes and explain for what is not HTTP in clear: TLS by SNI, gRPC, TCP and UDP, TLS to backends."""
import json

from support import pki
import pytest

from gwfast.cli import main

CONFIG = """\
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: gw}
spec:
  gatewayClassName: any
  tls: {frontend: {default: {validation: {caCertificateRefs: [{group: "", kind: ConfigMap, name: ca}]}}}}
  listeners:
  - {name: http, protocol: HTTP, port: 80}
  - {name: https, protocol: HTTPS, port: 443, hostname: web.example, tls: {certificateRefs: [{name: web}, {name: wild}]}}
  - {name: wild, protocol: HTTPS, port: 443, hostname: "*.example", tls: {certificateRefs: [{name: wild}]}}
  - {name: ends, protocol: TLS, port: 443, hostname: db.test, tls: {certificateRefs: [{name: wild}]}}
  - {name: passes, protocol: TLS, port: 443, hostname: "*.pass.test", tls: {mode: Passthrough}}
  - {name: tcp, protocol: TCP, port: 9000}
  - {name: udp, protocol: UDP, port: 9000}
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: web}
spec: {parentRefs: [{name: gw, sectionName: https}], rules: [{backendRefs: [{name: safe, port: 443}]}]}
---
apiVersion: gateway.networking.k8s.io/v1
kind: GRPCRoute
metadata: {name: grpc}
spec:
  parentRefs: [{name: gw, sectionName: http}]
  rules:
  - matches: [{method: {service: shop.Cart, method: Add}}, {method: {service: shop.Cart}}, {method: {method: Ping}}]
    backendRefs: [{name: cart, port: 50051}]
  - matches: [{headers: [{name: x-env, value: canary}]}]
    backendRefs: [{name: nowhere, namespace: other, port: 1}]
---
apiVersion: gateway.networking.k8s.io/v1
kind: TLSRoute
metadata: {name: names}
spec: {parentRefs: [{name: gw}], hostnames: [db.test, a.pass.test], rules: [{backendRefs: [{name: safe, port: 443}]}]}
---
apiVersion: gateway.networking.k8s.io/v1
kind: TCPRoute
metadata: {name: first}
spec: {parentRefs: [{name: gw, sectionName: tcp}], rules: [{backendRefs: [{name: svc, port: 9000, weight: 3}, {kind: Bucket, name: svc, port: 9000}]}]}
---
apiVersion: gateway.networking.k8s.io/v1
kind: TCPRoute
metadata: {name: second}
spec: {parentRefs: [{name: gw, sectionName: tcp}], rules: [{backendRefs: [{name: svc, port: 9001}]}]}
---
apiVersion: gateway.networking.k8s.io/v1
kind: UDPRoute
metadata: {name: dns}
spec: {parentRefs: [{name: gw}], rules: [{backendRefs: [{name: svc, port: 53, weight: 0}]}]}
---
apiVersion: gateway.networking.k8s.io/v1
kind: BackendTLSPolicy
metadata: {name: safe}
spec: {targetRefs: [{group: "", kind: Service, name: safe}], validation: {hostname: safe.test, wellKnownCACertificates: System}}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: ca}
data: {ca.crt: "CERTIFICATE"}
---
apiVersion: v1
kind: Secret
metadata: {name: web}
stringData: {tls.crt: "CERTIFICATE web.example", tls.key: "KEY web.example"}
---
apiVersion: v1
kind: Secret
metadata: {name: wild}
stringData: {tls.crt: "CERTIFICATE *.example", tls.key: "KEY *.example"}
"""

ROUTES = """\
*:80 http

  listener default/gw/http   any hostname

    any host
        1   method shop.Cart/Add                    default/grpc rules[0].matches[0]   default/cart:50051 (HTTP/2)
        2   service shop.Cart                       default/grpc rules[0].matches[1]   default/cart:50051 (HTTP/2)
        3   method ~ [^/]+/Ping                     default/grpc rules[0].matches[2]   default/cart:50051 (HTTP/2)
        4   any call, header x-env = canary         default/grpc rules[1].matches[0]   answers UNAVAILABLE: invalid reference

*:443 tls

  listener default/gw/ends   db.test   TLS ends here   certificate *.example until 2120-01-01

    db.test
        1   any connection   default/names rules[0].matches[0]   default/safe:443 (tcp, TLS as safe.test)

  listener default/gw/https   web.example   certificate web.example until 2120-01-01   certificate *.example until 2120-01-01   certificates of clients: AllowValidOnly

    any host
        1   any path   default/web rules[0].matches[0]   default/safe:443 (TLS as safe.test)

  listener default/gw/passes   *.pass.test   TLS passes through

    a.pass.test
        1   any connection   default/names rules[0].matches[0]   default/safe:443 (tcp)

  listener default/gw/wild   *.example   certificate *.example until 2120-01-01   certificates of clients: AllowValidOnly

    no route

*:9000 tcp

  listener default/gw/tcp

    any host
        1   any connection   default/first rules[0].matches[0]     75 % default/svc:9000 (tcp)
                                                                   25 % closes the connection: invalid reference

*:9000 udp

  listener default/gw/udp

    any host
        1   any datagram   default/dns rules[0].matches[0]   drops the datagram: no backend with a weight

backends

  default/cart:50051 (HTTP/2)             DNS cart.default or cart, port 50051
  default/safe:443 (TLS as safe.test)     DNS safe.default or safe, port 443
  default/safe:443 (tcp)                  DNS safe.default or safe, port 443
  default/safe:443 (tcp, TLS as safe.test)   DNS safe.default or safe, port 443
  default/svc:53 (udp)                    DNS svc.default or svc, port 53
  default/svc:9000 (tcp)                  DNS svc.default or svc, port 9000
"""


@pytest.fixture
def ask(tmp_path, monkeypatch, capsys):
    """Run a verb beside the configuration; return (exit status, standard output)."""
    (tmp_path / "config.yaml").write_text(pki.filled(CONFIG))
    monkeypatch.chdir(tmp_path)

    def ask(verb, *words):
        status = main([verb, "config.yaml", *words])
        return status, capsys.readouterr().out
    return ask


def rows(text):
    """Lines without the width of their columns."""
    return [" ".join(line.split()) for line in text.splitlines()]


def test_routes(ask):
    status, text = ask("routes")
    assert (status, rows(text)) == (0, rows(ROUTES))


def test_check_names_what_gets_nothing(ask):
    status, text = ask("check")
    told = [line.partition(": ")[2] for line in text.splitlines() if line.startswith("config.yaml")]
    assert [line for line in told if not line.endswith("(BackendNotFound)")] == [
        "note: Gateway default/gw spec.listeners[1]: the certificate covers hosts of another listener on port 443 (OverlappingCertificates)",
        "note: Gateway default/gw spec.listeners[2]: the certificate covers hosts of another listener on port 443 (OverlappingCertificates)",
        "note: Gateway default/gw spec.listeners[3]: the certificate covers hosts of another listener on port 443 (OverlappingCertificates)",
        "error: GRPCRoute default/grpc spec.rules[1].backendRefs[0]: no ReferenceGrant in other lets a GRPCRoute of default refer to Service nowhere (RefNotPermitted)",
        "error: TCPRoute default/first spec.rules[0].backendRefs[1]: backends are Services, not /Bucket (InvalidKind)",
        "note: TCPRoute default/second spec.parentRefs: gets nothing on listener default/gw/tcp: TCPRoute default/first comes first (Shadowed)",
        "warning: UDPRoute default/dns spec.rules[0].backendRefs: every weight is 0: drops the datagram (NoBackends)",
    ]
    assert status == 1 and "listener tcp Accepted, Programmed, ResolvedRefs, 2 routes" in rows(text)


WAYS = [
    # words of the command line, exit status, lines of the answer
    (["GET", "https://web.example/x"], 0, ["listener default/gw/https web.example", "certificate web.example until 2120-01-01",
                                           "gets default/safe:443 (TLS as safe.test) DNS safe.default or safe, port 443"]),
    (["GET", "https://other.example/"], 1, ["listener default/gw/wild *.example", "certificate *.example until 2120-01-01",
                                            "answer 404: no route of this listener takes other.example"]),
    (["GET", "https://web.example/", "-H", "Host: other.example"], 1, [
        "answer 421: other.example belongs to listener default/gw/wild, the connection does not"]),
    (["GET", "https://web.example/", "-H", "Host: elsewhere"], 1, ["answer 404: no listener on port 443 takes elsewhere"]),
    (["GET", "https://elsewhere/"], 1, ["closed no listener on port 443 takes elsewhere"]),
    (["GET", "https://10.0.0.1/"], 1, ["closed no listener on port 443 takes a client without SNI"]),
    (["GET", "http://web.example:443/"], 1, ["answer 400: port 443 speaks https"]),
    (["tls://db.test"], 0, ["tls://db.test", "listener default/gw/ends db.test TLS ends here", "any connection",
                            "gets default/safe:443 (tcp, TLS as safe.test) DNS safe.default or safe, port 443"]),
    (["tls://a.pass.test:443"], 0, ["listener default/gw/passes *.pass.test TLS passes through",
                                    "gets default/safe:443 (tcp) DNS safe.default or safe, port 443"]),
    (["tls://b.pass.test"], 1, ["closed no route of this listener takes b.pass.test"]),
    (["tls://web.example"], 1, ["closed requests follow, each to a rule of its own: ask for an https URL"]),
    (["tls://h:80"], 1, ["answer 400: port 80 speaks http"]),
    (["tcp://h:9000"], 0, ["port *:9000 tcp", "listener default/gw/tcp", "gets 75 % default/svc:9000 (tcp) DNS svc.default or svc, port 9000",
                           "gets 25 % closes the connection"]),
    (["udp://h:9000"], 1, ["port *:9000 udp", "gets drops the datagram"]),
    (["tcp://h:1"], 1, ["answer 404: nothing listens on port 1, but *:80 http, *:443 tls, *:9000 tcp, *:9000 udp"]),
    (["POST", "http://h/shop.Cart/Add"], 0, ["method shop.Cart/Add", "gets default/cart:50051 (HTTP/2) DNS cart.default or cart, port 50051"]),
    (["POST", "http://h/a.B/C", "-H", "x-env: canary"], 1, ["any call, header x-env = canary", "gets answer UNAVAILABLE"]),
    (["POST", "/shop.Cart/Add", "-H", "Host: h"], 0, ["POST http://h/shop.Cart/Add", "closed no listener on port 443 takes h"]),
]


@pytest.mark.parametrize(("words", "status", "lines"), WAYS, ids=[" ".join(case[0]) for case in WAYS])
def test_explain(ask, words, status, lines):
    found, text = ask("explain", *words)
    assert found == status and [line for line in lines if line not in rows(text)] == []


def test_data_of_explain(ask):
    (data,) = json.loads(ask("explain", "tls://db.test", "-o", "json")[1])
    assert (data["listener"], data["certificate"], data["rule"]["rule"]) == (
        "default/gw/ends", ["*.example"], "TLSRoute/default/names/0")


@pytest.mark.parametrize("words", [["tcp://h"], ["https://h/"], ["udp://h/"]], ids=["no port", "no method", "no port of UDP"])
def test_usage(ask, words):
    assert ask("explain", *words)[0] == 2
