"""Whether TLS will be needed is seen in the files before they are read in earnest."""
import pytest

from gwfast.serve import expect_tls
from gwfast.serve.expect_tls import expects_tls


@pytest.mark.parametrize("name, text, seen", [
    ("a.yaml", "protocol: HTTPS", True), ("a.yaml", "protocol: TLS", True), ("b/c/a.yml", "kind: BackendTLSPolicy", True),
    ("a.json", '{"kind": "TLSRoute"}', True), ("a.yaml", "protocol: HTTP", False), ("a.yaml", "", False),
    ("notes.txt", "protocol: HTTPS", False)])
def test_of_a_folder(tmp_path, name, text, seen):
    file = tmp_path / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)
    assert expects_tls([str(tmp_path)]) is seen
    if file.suffix != ".txt":
        assert expects_tls([str(file)]) is seen


def test_of_what_is_not_there_and_of_standard_input(tmp_path):
    assert not expects_tls([str(tmp_path / "nothing")])
    assert expects_tls(["-"])


def test_it_looks_at_so_much(tmp_path, monkeypatch):
    monkeypatch.setattr(expect_tls, "MOST", 100)
    (tmp_path / "a.yaml").write_text(" " * 100 + "HTTPS")
    assert not expects_tls([str(tmp_path)])
