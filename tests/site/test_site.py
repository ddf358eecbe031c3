"""The built site, page by page. `make book` builds it; without it these tests are skipped."""

import json
import re
import tomllib
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
import yaml

from toc import ROOT, SITE, entries

CONFIG = yaml.safe_load((ROOT / "_config.yml").read_text(encoding="utf-8"))
ADDRESS = CONFIG["html"]["baseurl"]  # empty until the course is published

if not (SITE / "book" / "welcome.html").is_file():
    pytest.skip("the site is not built: run make book", allow_module_level=True)


class Page(HTMLParser):
    """What the tests need of a page: its ids, links, images, what it loads, its title."""

    def __init__(self, path):
        super().__init__()
        self.path, self.text = path, path.read_text(encoding="utf-8")
        self.ids, self.links, self.images, self.loads, self.classes = set(), [], [], [], set()
        self.metadata, self.canonical = {}, None
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
        if tag == "link" and attrs.get("rel") == "canonical":
            self.canonical = attrs["href"]
        if tag == "meta":
            self.metadata[attrs.get("name") or attrs.get("property")] = attrs.get("content")
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
    if parts.path.startswith("/"):  # on the page 404.html, which is shown at every depth
        return SITE / unquote(parts.path).removeprefix(urlsplit(ADDRESS).path), unquote(parts.fragment)
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


def test_no_markup_of_docstrings_is_left(pages):
    text = pages[SITE / "book" / "api.html"].text
    assert "``" not in text
    assert ":raises" not in text
    assert not re.search(r"<dt[^>]*>Type<", text)  # of a property, for the same reason as below
    # A colon in what a function returns makes a type of what stands before it.
    returned = re.findall(r"<dt[^>]*>(?:Returns|Yields)<.*?</dt>\s*<dd[^>]*>(.*?)</dd>", text, re.DOTALL)
    assert len(returned) > 50
    assert [sentence for sentence in returned if " – " in sentence] == []


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


def test_a_page_loads_nothing_from_elsewhere(pages):
    foreign = [
        f"{page.path.relative_to(SITE)}: {address}"
        for page in pages.values()
        for address in page.loads
        if resolve(page, address) is None
    ]
    assert foreign == []


def test_no_page_waits_for_a_font_or_script_to_draw_its_icons(pages):
    place = re.compile(r'<(i|span) class="[^"]*\bfa-')
    assert [path.name for path, page in pages.items() if place.search(page.text) or "fontawesome" in page.text] == []
    assert "svg-icon" in pages[SITE / "book" / "welcome.html"].classes


def test_every_figure_is_light_and_waits_in_a_place_of_its_size(pages):
    shown = [page for path, page in pages.items() if path != SITE / "print.html"]  # which is printed, all at once
    figures = [(page, figure) for page in shown for figure in page.images if "_images/" in figure.get("src", "")]
    assert len(figures) > 40
    for page, figure in figures:
        path, _ = resolve(page, figure["src"])
        assert path.stat().st_size <= 40_000, path
        assert figure["loading"] == "lazy"
        assert int(figure["width"]) > 0
        assert int(figure["height"]) > 0


@pytest.mark.parametrize("entry", entries())
def test_the_page_describes_itself_and_names_its_address_if_it_has_one(pages, entry):
    page = pages[SITE / f"{entry}.html"]
    assert re.search(r'<html lang="en"', page.text)
    assert len(page.metadata["description"]) > 50
    assert page.metadata["og:title"]
    assert page.canonical == page.metadata.get("og:url") == (f"{ADDRESS}{entry}.html" if ADDRESS else None)


def test_sitemap_and_404_page_are_there_exactly_when_an_address_is_set(pages):
    robots = (SITE / "robots.txt").read_text(encoding="utf-8")
    sitemap = SITE / "sitemap.xml"
    assert sitemap.is_file() == (SITE / "404.html").is_file() == bool(ADDRESS)
    assert (f"Sitemap: {ADDRESS}sitemap.xml" in robots) == bool(ADDRESS)
    if ADDRESS:
        listed = set(re.findall(r"<loc>(.*?)</loc>", sitemap.read_text(encoding="utf-8")))
        assert listed == {f"{ADDRESS}{entry}.html" for entry in entries()}
        missing = pages[SITE / "404.html"]
        assert all(address.startswith(("/", "#", "https:")) for address in [*missing.links, *missing.loads])
