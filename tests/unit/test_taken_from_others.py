"""What tests take from others: what cannot be had is said, skipped by name, and counted."""
from support import upstream


def test_what_cannot_be_had_is_said_and_skipped_by_name(monkeypatch, tmp_path):
    def none() -> list[str]:
        raise RuntimeError("there is no Go")
    monkeypatch.setattr(upstream, "HERE", tmp_path)
    monkeypatch.setattr(upstream, "CORPORA", tmp_path / "corpora")
    monkeypatch.setattr(upstream.binaries, "go", none)
    assert upstream.fetch() == "there is no Go"
    for part, words in (("crds", "the Gateway API's crds of v1.6.1"), ("corpora", "the corpora of other projects")):
        mark = upstream.needs(part).mark
        assert mark.args == (True,) and words in mark.kwargs["reason"]


def test_a_module_is_taken_once_and_whole(monkeypatch, tmp_path):
    module = tmp_path / "module"
    for name in ("tests/a.yaml", "tests/mesh/b.yaml", "tests/c.go", "base/manifests.yaml"):
        upstream._copy(upstream.TESTS / "conftest.py", module / name)
    asked = []
    monkeypatch.setattr(upstream, "HERE", tmp_path / "here")
    monkeypatch.setattr(upstream, "WANTED", {upstream.OLD: ("conformance",)})
    monkeypatch.setattr(upstream.binaries, "module_folder", lambda *what: asked.append(what) or str(module))
    assert upstream.fetch() == upstream.fetch() == ""
    assert len(asked) == 1
    assert {path.name for path in upstream.folder("conformance").iterdir()} == {"a.yaml", "base-manifests.yaml"}
    assert not upstream.needs("conformance").mark.args[0]


def test_the_end_of_a_run_counts_what_was_skipped_for_want_of_something():
    reasons = [f"Skipped: {reason}" for reason in (*[upstream.needs("crds").mark.kwargs["reason"]] * 2,
                                                   "there is no helm: run ci/helm", "this user may read everything")]
    assert upstream.wanted(reasons, "there is no Go") == [
        "3 skipped for want of something: the Gateway API's crds of v1.6.1 (2), there is no helm: run ci/helm (1)",
        "the Gateway API's files were not fetched: there is no Go"]
    assert upstream.wanted(reasons[3:], "there is no Go") == []
