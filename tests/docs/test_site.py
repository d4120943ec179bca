"""The site: it is built, its links lead somewhere, and nothing of it comes from another host."""
import subprocess
from pathlib import Path

import build
import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture
def site(tmp_path: Path, monkeypatch) -> Path:
    """A site of one page, which says nothing."""
    monkeypatch.setattr(build, "SITE", tmp_path)
    (tmp_path / "a").mkdir()
    (tmp_path / "a/index.html").write_text('<h1 id="top">A</h1>')
    return tmp_path


@pytest.mark.parametrize("said, wrong", [
    ('<a href="a/">', []), ('<a href="a/#top">', []), ('<a href="https://example.com/x">', []), ('<a href="#here"><p id="here">', []),
    ('<a href="b/">', ["index.html: b/ leads nowhere"]),
    ('<a href="a/#down">', ["index.html: a/#down has no such anchor"]),
    ('<a href="#gone">', ["index.html: #gone has no such anchor"]),
    ('<script src="https://cdn.example/x.js">', ["index.html: loads https://cdn.example/x.js"]),
    ('<link rel="stylesheet" href="//fonts.example/x.css">', ["index.html: loads //fonts.example/x.css"]),
    ('<img src="http://example.com/x.png">', ["index.html: loads http://example.com/x.png"]),
], ids=["page", "anchor", "other-host", "own-anchor", "no-page", "no-anchor", "no-own-anchor", "script", "font", "image"])
def test_a_link_that_is_wrong_is_found(site: Path, said: str, wrong: list[str]) -> None:
    (site / "index.html").write_text(said)
    assert build.wrong_links() == wrong


@pytest.mark.parametrize("text, made", [
    ("[x](packages.md)", "[x](packages.md)"), ("[x](../README.md#top)", "[x](index.md#top)"),
    ("[x](../examples/https/README.md)", "[x](examples/https.md)"), ("[x](https://example.com/a)", "[x](https://example.com/a)"),
    ("[x](#here)", "[x](#here)"), ("[x](../deploy/compose/compose.yaml)", "[x](files/deploy/compose/compose.yaml)"),
    ("[x](../examples/)", "[x](examples/index.md)"), ("see [it](../deploy/systemd/) there", "see it there"),
    ("[x](reference/metrics.md)", "[x](reference/metrics.md)"),
])
def test_links_are_those_of_the_site(tmp_path: Path, monkeypatch, text: str, made: str) -> None:
    monkeypatch.setattr(build, "PAGES", tmp_path)
    assert build.rewritten(text, ROOT / "docs/glossary.md", "glossary.md", build.sources()) == made


def test_a_link_to_nothing_ends_the_build() -> None:
    with pytest.raises(SystemExit, match="docs/glossary.md: nowhere.md is no page"):
        build.rewritten("[x](nowhere.md)", ROOT / "docs/glossary.md", "glossary.md", build.sources())


def test_a_page_that_nothing_leads_to_is_found(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(build, "FOLDER", tmp_path)
    monkeypatch.setattr(build, "PAGES", tmp_path / "pages")
    build.assemble()
    assert build.wrong_navigation() == []
    (build.PAGES / "orphan.md").write_text("# Orphan\n")
    (build.PAGES / "glossary.md").unlink()
    assert build.wrong_navigation() == ["orphan.md: the navigation does not name it",
                                        "glossary.md: the navigation names it 1 times, and it does not exist"]


def test_the_site_is_built(tmp_path: Path) -> None:
    pytest.importorskip("zensical", reason="zensical is not here; `make docs` installs it")
    done = subprocess.run([ROOT / "ci/docs"], capture_output=True, text=True)
    assert done.returncode == 0 and " pages in build/docs/site" in done.stdout, done.stdout + done.stderr


def test_long_names_break_where_they_have_parts() -> None:
    assert build.breakable("| `spec.rules[].name` | `short` |\n") == "| <code>spec<wbr>.rules&#91;]<wbr>.name</code> | `short` |\n"
    assert build.breakable("`gwfast_requests_total`\n") == "`gwfast_requests_total`\n"
