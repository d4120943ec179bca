"""Make the site: `make docs` writes build/docs/site, `make docs-serve` shows it.

    pages of docs/, READMEs and the like  ->  build/docs/pages  ->  zensical  ->  build/docs/site
    the reference (docs/site/reference.py) ->

Rules:
- A link of a page to another page of the site leads to that page; a link to any other file of the project leads to a copy of the
  file, which is a part of the site. So pages have links that are right on disk, and the site needs nothing outside itself.
- Links to reference/ are right in the site alone, where these pages are made.
- A link to a folder is no link in the site, for there a folder has no page.
- A page that the navigation does not name, a file or an anchor that does not exist, and a reference to another host that a
  browser would load by itself are errors.
"""
import html.parser
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import reference

ROOT = reference.ROOT
FOLDER = ROOT / "build/docs"
PAGES, SITE = FOLDER / "pages", FOLDER / "site"
CONFIG = ROOT / "docs/site/zensical.toml"
LINK = re.compile(r"(?<=\]\()([^)#\s]+)(?=[)#])")
TO_FOLDER = re.compile(r"\[([^\]]+)\]\(([^)#\s]+/)\)")
# Pages that are not in docs/, and where the site has them.
ELSEWHERE = {
    "README.md": "index.md", "CHANGELOG.md": "changelog.md", "CONTRIBUTING.md": "contributing.md", "SECURITY.md": "security.md",
    "bench/README.md": "benchmarks.md", "conformance/README.md": "conformance-reports.md",
    "examples/README.md": "examples/index.md"}
LOADED = {"img": "src", "script": "src", "link": "href", "iframe": "src", "source": "src"}  # by a browser that nobody asked


def sources() -> dict[Path, str]:
    """Return each file that is a page, and its place in the site."""
    found = {file: str(file.relative_to(ROOT / "docs")) for file in sorted((ROOT / "docs").rglob("*.md"))}
    found |= {ROOT / name: place for name, place in ELSEWHERE.items() if (ROOT / name).exists()}
    return found | {file: f"examples/{file.parent.name}.md" for file in sorted((ROOT / "examples").glob("*/README.md"))}


def rewritten(text: str, file: Path, place: str, places: dict[Path, str]) -> str:
    """Return a page with links that are right where it is in the site; what else it names is copied there."""
    def link(found: re.Match) -> str:
        target = found[1]
        if "://" in target or target.startswith("mailto:"):
            return target
        named = (file.parent / target).resolve()
        if target.startswith("reference/") or "/reference/" in target:
            to = os.path.normpath(os.path.join(os.path.dirname(place), target))
            return os.path.relpath(to, os.path.dirname(place) or ".")
        if named.is_dir() and (named / "README.md") in places:
            named = named / "README.md"
        if named not in places and named.is_relative_to(ROOT) and named.is_file():
            copied = f"files/{named.relative_to(ROOT)}{'.txt' if named.suffix in ('.md', '') else ''}"
            (PAGES / copied).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(named, PAGES / copied)
            return os.path.relpath(copied, os.path.dirname(place) or ".")
        if named not in places:
            raise SystemExit(f"{file.relative_to(ROOT)}: {target} is no page and no file of the project")
        return os.path.relpath(places[named], os.path.dirname(place) or ".")
    def folder(found: re.Match) -> str:
        named = (file.parent / found[2]).resolve()
        return found[1] if named.is_dir() and not (named / "README.md").exists() else found[0]
    return LINK.sub(link, TO_FOLDER.sub(folder, text))


def breakable(text: str) -> str:
    """Let long names in tables be broken where they have parts, and nowhere else."""
    def name(found: re.Match) -> str:
        parts = re.sub(r"(?<=.)([._])", r"<wbr>\1", found[1])
        return f"<code>{parts.replace('_', '&#95;').replace('[', '&#91;')}</code>"
    return "".join(re.sub(r"`([\w.\[\]]{12,})`", name, line) if line.startswith("| ") else line
                   for line in text.splitlines(keepends=True))


def assemble() -> None:
    """Write every page to build/docs/pages."""
    shutil.rmtree(FOLDER, ignore_errors=True)
    places = sources()
    for file, place in places.items():
        (PAGES / place).parent.mkdir(parents=True, exist_ok=True)
        (PAGES / place).write_text(rewritten(file.read_text(), file, place, places))
    (PAGES / "reference").mkdir()
    for name, made in reference.PAGES.items():
        (PAGES / f"reference/{name}.md").write_text(breakable(made()))
    for file in [*(ROOT / "docs").glob("*.svg"), ROOT / "docs/site/extra.css"]:
        shutil.copy(file, PAGES)


def named_pages(nav: list | dict | str) -> list[str]:
    """Return the pages that a navigation names."""
    if isinstance(nav, str):
        return [nav]
    return [page for each in (nav if isinstance(nav, list) else nav.values()) for page in named_pages(each)]


def wrong_navigation() -> list[str]:
    """Say which pages the navigation does not name, and which of those that it names do not exist."""
    named = named_pages(tomllib.loads(CONFIG.read_text())["project"]["nav"])
    made = {str(file.relative_to(PAGES)) for file in PAGES.rglob("*.md")}
    return [f"{page}: the navigation does not name it" for page in sorted(made - set(named))] + \
           [f"{page}: the navigation names it {named.count(page)} times, and it {'exists' if page in made else 'does not exist'}"
            for page in sorted(set(named)) if page not in made or named.count(page) > 1]


class Html(html.parser.HTMLParser):
    """The links, the anchors and what a browser loads, of one page of the site."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.links: set[str] = set()
        self.anchors: set[str] = set()
        self.loads: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        self.anchors |= {given[name] for name in ("id", "name") if name in given}
        if tag == "a" and "href" in given:
            self.links.add(given["href"])
        if tag in LOADED and given.get("rel") not in ("canonical", "next", "prev", "alternate"):
            self.loads.add(given.get(LOADED[tag], ""))


def wrong_links() -> list[str]:
    """Say which links of the site lead nowhere in it, and what a page loads from elsewhere."""
    pages = {file.resolve(): Html(file.read_text()) for file in SITE.rglob("*.html")}
    found = []
    for file, page in pages.items():
        where = file.relative_to(SITE.resolve())
        if where.name == "404.html":  # its links are those of a site at the root of a host
            continue
        found += [f"{where}: loads {each}" for each in sorted(page.loads) if re.match(r"(https?:)?//", each)]
        for link in sorted(page.links):
            path, _, anchor = link.partition("#")
            if re.match(r"[a-z]+:|//", link):
                continue
            target = (file.parent / path).resolve() if path else file
            target = target / "index.html" if target.is_dir() else target
            if not target.exists():
                found.append(f"{where}: {link} leads nowhere")
            elif anchor and target in pages and anchor not in pages[target].anchors:
                found.append(f"{where}: {link} has no such anchor")
    return found


def main(arguments: list[str]) -> int:
    assemble()
    if wrong := wrong_navigation():
        print(*wrong, sep="\n")
        return 1
    shutil.copy(CONFIG, FOLDER / "zensical.toml")
    zensical = [str(Path(sys.executable).parent / "zensical")]
    if arguments == ["--serve"]:
        return subprocess.call([*zensical, "serve"], cwd=FOLDER)
    done = subprocess.run([*zensical, "build", "--strict"], cwd=FOLDER, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    if done.returncode:
        print(re.sub(r"\x1b\[[\d;]*m", "", (done.stdout + done.stderr).partition("Traceback (most recent call last)")[0]))
        return 1
    if wrong := wrong_links():
        print(*wrong, sep="\n")
        return 1
    print(f"{len(list(SITE.rglob('*.html')))} pages in {SITE.relative_to(ROOT)}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
