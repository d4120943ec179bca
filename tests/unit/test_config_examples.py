"""The project's own documents: what is valid loads without a word, what is invalid is refused for the right reason."""

import pytest
from support import upstream

from gwfast.config.load import load

pytestmark = upstream.needs("examples")

# The suite fills these in before it applies the file.
PLACEHOLDERS = {
    "PLACEHOLDER_UNUSABLE_ADDRS": "192.0.2.1", "PLACEHOLDER_USABLE_ADDRS": "192.0.2.2",
    "{GATEWAY_CONTROLLER_NAME}": "example.net/controller",
}

INVALID = {  # file: (line, field, a part of the message) of each error
    "experimental/httproute/invalid-filter-externalauth-bad-http-path": [
        (12, "spec.rules[0].filters[0].externalAuth.http.path", "'/[]' is not allowed"),
        (9, "spec.rules[0].filters[0].externalAuth.backendRef", "is required")],
    "experimental/httproute/invalid-filter-externalauth-empty": [
        (8, "spec.rules[0].filters[0].externalAuth", "must be specified for ExternalAuth")],
    "experimental/httproute/invalid-filter-externalauth-no-protocol": [
        (9, "spec.rules[0].filters[0].externalAuth.protocol", "is required"),
        (9, "spec.rules[0].filters[0].externalAuth.backendRef", "is required")],
    "experimental/httproute/invalid-header-value": [
        (12, "spec.rules[0].filters[0].responseHeaderModifier.add[0].value", "visible ASCII")],
    "standard/gateway/duplicate-listeners": [(11, "spec.listeners[1].name", "must be unique")],
    "standard/gateway/hostname-tcp": [(9, "spec.listeners[0].hostname", "must not be specified for protocols")],
    "standard/gateway/hostname-udp": [(9, "spec.listeners[0].hostname", "must not be specified for protocols")],
    "standard/gateway/invalid-addresses": [
        *[(line, f"spec.addresses[{line - 8}].value", "is no IPv4 or IPv6 address") for line in range(8, 16)],
        (17, "spec.addresses[8].value", "is no IPv4 or IPv6 address"),
        (19, "spec.addresses[9].value", "Hostname value must be empty or contain only valid characters")],
    "standard/gateway/invalid-listener-name": [(8, "spec.listeners[0].name", "'bad>' is not allowed")],
    "standard/gateway/invalid-listener-port": [(10, "spec.listeners[0].port", "must be at most 65535")],
    "standard/gateway/invalid-tls-mode": [(12, "spec.listeners[0].tls.mode", "must be Terminate for protocol HTTPS")],
    "standard/gateway/tlsconfig-tcp": [(11, "spec.listeners[0].tls", "must not be specified for protocols")],
    "standard/gatewayclass/invalid-controller": [(6, "spec.controllerName", "'example' is not allowed")],
    "standard/httproute/duplicate-header-match": [
        (11, "spec.rules[0].matches[0].headers[1].name", "Duplicate value: 'foo'")],
    "standard/httproute/duplicate-query-match": [
        (11, "spec.rules[0].matches[0].queryParams[1].name", "Duplicate value: 'foo'")],
    "standard/httproute/httproute-portless-backend": [
        (10, "spec.rules[0].backendRefs[0].port", "Must have port for Service reference")],
    "standard/httproute/httproute-portless-service": [
        (10, "spec.rules[0].backendRefs[0].port", "Must have port for Service reference")],
    "standard/httproute/invalid-backend-group": [(8, "spec.rules[0].backendRefs[0].group", "'*' is not allowed")],
    "standard/httproute/invalid-backend-kind": [(8, "spec.rules[0].backendRefs[0].kind", "'*' is not allowed")],
    "standard/httproute/invalid-backend-port": [(9, "spec.rules[0].backendRefs[0].port", "must be at most 65535")],
    "standard/httproute/invalid-filter-duplicate-header": [
        (12, "spec.rules[0].filters[0].requestHeaderModifier.remove[1]", "Duplicate value: 'foo'")],
    "standard/httproute/invalid-filter-duplicate": [
        (13, "spec.rules[0].filters[1]", "RequestHeaderModifier filter cannot be repeated")],
    "standard/httproute/invalid-filter-empty": [
        (8, "spec.rules[0].filters[0].requestHeaderModifier", "must be specified for RequestHeaderModifier")],
    "standard/httproute/invalid-filter-wrong-field": [
        (8, "spec.rules[0].filters[0].requestHeaderModifier", "must be specified for RequestHeaderModifier"),
        (9, "spec.rules[0].filters[0].requestRedirect", "must be nil if the filter.type is not RequestRedirect")],
    "standard/httproute/invalid-header-name": [
        (10, "spec.rules[0].matches[0].headers[0].name", "'magic/' is not allowed")],
    "standard/httproute/invalid-hostname": [(7, "spec.hostnames[0]", "'http://a<' is not allowed")],
    "standard/httproute/invalid-httpredirect-hostname": [
        (13, "spec.rules[0].filters[0].requestRedirect.hostname", "'*.gateway.networking.k8s.io' is not allowed")],
    "standard/httproute/invalid-method": [(8, "spec.rules[0].matches[0].method", "must be one of")],
    "standard/httproute/invalid-path-alphanum-specialchars-mix": [
        (10, "spec.rules[0].matches[0].path.value", "must only contain valid characters")],
    "standard/httproute/invalid-path-specialchars": [
        (10, "spec.rules[0].matches[0].path.value", "must only contain valid characters")],
    "standard/httproute/invalid-request-redirect-with-backendref": [
        (9, "spec.rules[0].filters", "must not be used together with backendRefs")],
    "standard/referencegrant/missing-from": [(5, "spec.from", "is required")],
    "standard/referencegrant/missing-ns": [(10, "spec.from[0].namespace", "is required")],
    "standard/referencegrant/missing-to": [(5, "spec.to", "is required")],
    "standard/tlsroute/invalid-hostname": [(7, "spec.hostnames[0]", "'http://a<' is not allowed")],
    "standard/tlsroute/no-hostname": [
        (5, "spec.hostnames", "must have at least 1 items"),
        (8, "spec.rules[0].backendRefs[0].port", "Must have port for Service reference")],
}


def files(folder: str) -> list[str]:
    return sorted(str(path.relative_to(upstream.folder(folder))) for path in upstream.folder(folder).rglob("*.yaml"))


@pytest.mark.parametrize("name", files("invalid-examples"))
def test_invalid_example_is_refused(name):
    loaded = load([str(upstream.folder("invalid-examples") / name)])
    assert loaded.resources == {}
    expected = INVALID[name.removesuffix(".yaml")]
    assert [(each.source.line, each.field) for each in loaded.problems] == [case[:2] for case in expected]
    for problem, (_, _, message) in zip(loaded.problems, expected, strict=True):
        assert problem.severity == "error" and message in problem.message


VALID = [f"{folder}/{name}" for folder in ("examples", "conformance") for name in files(folder)]


@pytest.mark.parametrize("name", VALID)
def test_valid_document_loads(name, tmp_path):
    text = (upstream.HERE / upstream.OLD / name).read_text()
    for word, value in PLACEHOLDERS.items():
        text = text.replace(word, value)
    path = tmp_path / "document.yaml"
    path.write_text(text)
    loaded = load([str(path)])
    assert {each.reason for each in loaded.problems} <= {"UnknownKind", "OldVersion"}, loaded.problems
    assert {each.severity for each in loaded.problems} <= {"note", "warning"}
    skipped = sum(each.reason == "UnknownKind" for each in loaded.problems)
    assert len(loaded.resources) + skipped == sum(line.startswith("kind:") for line in text.splitlines())
