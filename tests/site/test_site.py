"""The built site, page by page. `make book` builds it; without it these tests are skipped."""

import json
import re
import tomllib
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

from toc import ROOT, SITE, entries

MATHJAX = "https://cdn.jsdelivr.net/npm/mathjax@3/es5/tex-mml-chtml.js"

if not (SITE / "book" / "welcome.html").is_file():
    pytest.skip("the site is not built: run make book", allow_module_level=True)


class Page(HTMLParser):
    """What the tests need of a page: its ids, links, images, what it loads, its title."""

    def __init__(self, path):
        super().__init__()
        self.path, self.text = path, path.read_text(encoding="utf-8")
        self.ids, self.links, self.images, self.loads, self.classes = set(), [], [], [], set()
        self.title, self._in_article, self._in_title = "", False, False
        self.feed(self.text)

    def handle_starttag(self, tag, attrs):
        attrs = {name: value or "" for name, value in attrs}
        self.ids |= {attrs[name] for name in ("id", "name") if name in attrs}
        self.classes |= set(attrs.get("class", "").split())
        if tag == "a" and "href" in attrs:
            self.links.append(attrs["href"])
        if tag == "img":
            self.images.append(attrs)
        if tag in ("script", "img", "iframe") and "src" in attrs:
            self.loads.append(attrs["src"])
        if tag == "link" and not {"search", "index", "next", "prev", "canonical"} & set(attrs.get("rel", "").split()):
            self.loads.append(attrs["href"])
        self._in_article = self._in_article or tag == "article"  # above it stands a heading for print
        self._in_title = self._in_title or (tag == "h1" and self._in_article)

    def handle_endtag(self, tag):
        if tag == "h1":
            self._in_title = False

    def handle_data(self, data):
        if self._in_title:
            self.title += data


def heading(entry):
    """The first heading of a source file."""
    notebook = ROOT / f"{entry}.ipynb"
    if notebook.is_file():
        text = "".join(json.loads(notebook.read_text(encoding="utf-8"))["cells"][0]["source"])
    else:
        text = (ROOT / f"{entry}.md").read_text(encoding="utf-8")
    return re.search(r"(?m)^# (.+)$", text)[1].strip()


@pytest.fixture(scope="module")
def pages():
    return {path: Page(path) for path in sorted(SITE.rglob("*.html")) if "_static" not in path.parts}


def resolve(page, address):
    """File on disk and anchor of an address that a page uses; None where it leaves the site."""
    parts = urlsplit(address)
    if parts.scheme or parts.netloc:
        return None
    return (page.path.parent / unquote(parts.path)).resolve() if parts.path else page.path, unquote(parts.fragment)


def test_internal_links_and_their_anchors_resolve(pages):
    broken = []
    for page in pages.values():
        for address in {*page.links, *page.loads}:
            target = resolve(page, address)
            if target is None:
                continue
            path, anchor = target
            if not path.is_file() or (anchor and path in pages and anchor not in pages[path].ids):
                broken.append(f"{page.path.relative_to(SITE)}: {address}")
    assert broken == []


def test_every_image_has_a_text_alternative(pages):
    lacking = [
        f"{page.path.relative_to(SITE)}: {image.get('src')}"
        for page in pages.values()
        for image in page.images
        if not image.get("alt", "").strip() or Path(image["alt"]).name == Path(image.get("src", "")).name
    ]
    assert lacking == []


def test_no_page_shows_a_message_of_the_build_or_a_traceback(pages):
    marks = {"system-message", "problematic", "traceback"}
    assert [str(page.path.relative_to(SITE)) for page in pages.values() if marks & page.classes] == []


def test_every_folded_box_has_a_title_to_unfold_it_by(pages):
    # One without a title (a prf:proof has none) stops the script, and nothing below it can be unfolded.
    box = re.compile(
        r'<div class="(?=[^"]*\bdropdown\b)[^"]*\badmonition\b[^"]*"[^>]*>\s*+(?!<p class="admonition-title")'
    )
    folded = [page for page in pages.values() if "dropdown" in page.classes and "admonition" in page.classes]
    assert folded
    assert [str(page.path.relative_to(SITE)) for page in folded if box.search(page.text)] == []


@pytest.mark.parametrize("entry", entries())
def test_the_page_has_its_title_and_a_chapter_the_number_in_its_file_name(pages, entry):
    title = pages[SITE / f"{entry}.html"].title.removesuffix("#")
    number = re.match(r"notebooks/0*(\d+|[A-Z])_", entry)
    assert title == (f"{number[1]}. " if number else "") + heading(entry)


def test_every_chapter_is_in_the_table_of_contents():
    assert [f"notebooks/{path.stem}" for path in sorted(ROOT.glob("notebooks/*.ipynb"))] == [
        entry for entry in entries() if entry.startswith("notebooks/")
    ]


def test_launch_buttons_are_there_exactly_when_an_address_is_set(pages):
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    url, tag = project.get("urls", {}).get("Repository", ""), f"v{project['version']}"
    name = url.removeprefix("https://github.com/")
    for entry in entries():
        page = pages[SITE / f"{entry}.html"]
        launching = [link for link in page.links if "colab.research.google.com" in link or "mybinder.org" in link]
        expected = []
        if url and entry.startswith("notebooks/"):
            colab = f"https://colab.research.google.com/github/{name}/blob/{tag}/{entry}.ipynb"
            expected = [f"https://mybinder.org/v2/gh/{name}/{tag}?urlpath=lab/tree/{entry}.ipynb", colab]
        assert launching == expected, entry


def test_a_page_loads_nothing_from_elsewhere_but_mathjax(pages):
    for page in pages.values():
        assert {address for address in page.loads if resolve(page, address) is None} <= {MATHJAX}, page.path
