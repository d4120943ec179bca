"""Whatever Ingresses say: nothing crashes, every annotation is accounted for, and what is written is what config reads."""
import json
import shutil
import tempfile
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st
from ingress_cases import PREFIX, asked, converted

from gwfast.config import composer
from gwfast.config.read import read as read_document
from gwfast.ingress import annotations
from gwfast.ingress.report import FORMATS, render
from gwfast.ingress.verbs import text_of

TEXTS = st.one_of(
    st.text(max_size=12), st.sampled_from([
        "", "true", "false", "0", "-1", "10", "1m", "on", "off", "always", "https://a.example$request_uri", "http://auth.ns.svc:99999/x", "$1", "/$2",
        "/a/b", "(", "[", "a{1,", "^(?=x)", "(?P<x", "\\", "*", "a, b", "10.0.0.0/8", "GRPC", "HTTPS", "cookie", "Host: x", "error http_502 non_idempotent",
        "off", "basic", "/x?y=$args", "http://[", "more_set_headers \"A: b\";", "if (x) {", "}", "a: b", "https://$host/x", "x" * 5000, "a.example,~b(,*"]))
PATHS = st.one_of(st.sampled_from(["/", "/a", "/a/", "/a(/|$)(.*)", "/[", "/(", "/a|b", "/a b", "//", "/./a", "/%2F", "a", "", "/ä", "/a/../b", "/x{2}", "/$",
                                   "/a$", "/(?=x)", "/\\d+", "/" + "a" * 1100]), st.text(max_size=6).map(lambda text: "/" + text))
HOSTS = st.sampled_from(["a.example", "*.a.example", "", "A.Example", "*", "a_b.example", "b.example", "x." + "y" * 70 + ".example", "127.0.0.1"])
PORTS = st.sampled_from([{"number": 80}, {"name": "http"}, {}, {"number": 0}])


@st.composite
def ingresses(draw) -> list[dict]:
    found = []
    for number in range(draw(st.integers(1, 3))):
        given_ones = draw(st.dictionaries(st.sampled_from(sorted(annotations.TABLE)), TEXTS, max_size=6))
        rules = [{"host": draw(HOSTS), "http": {"paths": [
            {"path": draw(PATHS), "pathType": draw(st.sampled_from(["Exact", "Prefix", "ImplementationSpecific"])),
             "backend": {"service": {"name": draw(st.sampled_from(["a", "b"])), "port": draw(PORTS)}}} for _ in range(draw(st.integers(0, 3)))]}}
            for _ in range(draw(st.integers(0, 2)))]
        spec = {"rules": rules, "ingressClassName": "nginx"}
        if draw(st.booleans()):
            spec["tls"] = [{"hosts": [draw(HOSTS)], "secretName": draw(st.sampled_from(["", "t"]))}]
        found.append({"apiVersion": "networking.k8s.io/v1", "kind": "Ingress", "spec": spec, "metadata": {
            "name": f"i{number}", "namespace": "ns", "annotations": {f"{PREFIX}/{name}": text for name, text in given_ones.items()}}})
    return found


@given(ingresses(), st.booleans(), st.booleans())
def test_nothing_crashes_and_nothing_is_forgotten(documents, faithful, standard_only):
    folder = Path(tempfile.mkdtemp())
    try:
        result = converted(folder, *documents, faithful=faithful, standard_only=standard_only)
    finally:
        shutil.rmtree(folder)
    for how in FORMATS:
        render(result.report, how)
    names = {(f"Ingress ns/{one['metadata']['name']}", key.rpartition("/")[2]) for one in documents for key in one["metadata"]["annotations"]}
    assert names <= {(of, key) for of, key, line in result.report.entries if line < 0}
    for resource in result.resources:
        [item] = read_document(json.dumps(resource).encode(), {})
        assert item.resource is not None and not item.findings, (resource, item.findings)
    asked(result, "http://a.example/a?b", "https://x.a.example/A/", "http://other.example/ -H Cookie: a=always", "http://a.example/%zz")


@given(st.one_of(st.text(st.characters(blacklist_categories=("Cs", "Cc")), max_size=8), st.sampled_from([
    "y", "N", "on", "~", "null", "0o7", "07", "1e3", "1_000", ".5", "0x1F", "1:30", "2001-01-01", "+1", "-", ".", "=", "<<", "", " a ", "#", "a: b"])))
def test_what_is_written_as_text_is_read_as_text(word):
    text = text_of({"word": word}).encode()
    assert composer.build(composer.compose(text), len(text)) == {"word": word}
