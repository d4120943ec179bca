"""A problem that knows only where its resource starts is given the line of its field."""
import pytest

from gwfast.config.load import load
from gwfast.config.locate import locate
from gwfast.errors import Problem, Source

DOCUMENTS = """\
# routes
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: a}
spec:
  parentRefs:
  - name: x
    port: 80
---

kind: List
items:
- apiVersion: gateway.networking.k8s.io/v1
  kind: HTTPRoute
  metadata: {name: b}
  spec:
    parentRefs:
    - name: x
- apiVersion: gateway.networking.k8s.io/v1
  kind: HTTPRoute
  metadata: {name: c}
  spec:
    rules: []
"""


@pytest.mark.parametrize("starts, field, line", [
    (2, "spec.parentRefs[0]", 7), (2, "spec.parentRefs[0].port", 8), (2, "spec.parentRefs[0].sectionName", 7),
    (2, "spec.rules", 5), (2, "", 2), (13, "spec.parentRefs[0].name", 18), (19, "spec.rules", 23), (1, "spec", 5),
])
def test_line_of_the_field(tmp_path, starts, field, line):
    path = tmp_path / "x.yaml"
    path.write_text(DOCUMENTS)
    (problem,) = locate([Problem(source=Source(str(path), starts), field=field)])
    assert problem.source == Source(str(path), line)


def test_what_is_located_already_stays(tmp_path):
    path = tmp_path / "x.yaml"
    path.write_text(DOCUMENTS.replace("port: 80", "port: 0").replace("metadata: {name: c}", "metadata: {name: C}"))
    found = load([str(path)]).problems
    assert len(found) == 3 and locate(found) == found


@pytest.mark.parametrize("file, line", [("-", 3), ("absent.yaml", 3), ("broken.yaml", 2)])
def test_what_cannot_be_found_stays(tmp_path, file, line):
    (tmp_path / "broken.yaml").write_text("a: [\n")
    problem = Problem(source=Source(file if file == "-" else str(tmp_path / file), line), field="spec")
    assert locate([problem]) == [problem]


def test_an_object_of_a_cluster_has_no_file():
    problem = Problem(source=Source("", 0), resource="HTTPRoute shop/web", field="spec.rules[0].backendRefs[0]",
                      reason="BackendNotFound", message="there is no Service shop/cart")
    assert locate([problem]) == [problem]
    assert str(problem) == ("HTTPRoute shop/web: error: spec.rules[0].backendRefs[0]: there is no Service shop/cart "
                            "(BackendNotFound)")
    assert str(Source("", 0)) == ""
    assert str(Source("https://10.0.0.1:6443", 0)) == "https://10.0.0.1:6443"
