"""The print edition: the joined page, and the PDF that Chromium makes of it."""

import os
import re
import subprocess
import sys
import unicodedata
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from bs4 import BeautifulSoup
from pypdf import PdfReader

import chromium
import print_edition

ROOT = Path(__file__).parents[2]
SITE = ROOT / "_build" / "html"
JOINED = SITE / print_edition.JOINED

if not JOINED.is_file():
    pytest.skip("the print edition is not built: run make book", allow_module_level=True)


def names():
    """Pages of the table of contents, in order."""
    return [name for part in print_edition.read_parts(ROOT) for name in part.names]


def words(text):
    """A text without the differences of white space and ligatures."""
    return " ".join(unicodedata.normalize("NFKC", text).split())


@pytest.fixture(scope="module")
def page():
    return BeautifulSoup(JOINED.read_bytes(), "html.parser")


@pytest.fixture(scope="module")
def articles():
    """The articles of the site, from which the page was joined."""
    return [
        BeautifulSoup((SITE / f"{name}.html").read_bytes(), "html.parser").select_one("article.bd-article")
        for name in names()
    ]


def test_every_page_is_there_in_order(page):
    assert [section["id"] for section in page.select(".edition-page")] == [print_edition.anchor(n) for n in names()]


@pytest.mark.parametrize("kind", ["div.math", "span.math", "figure", "table", ".cell_output", ".solution", ".proof"])
def test_nothing_is_lost(page, articles, kind):
    there = sum(len(article.select(kind)) for article in articles)
    assert there > 0
    assert len(page.select(f".edition-page {kind}")) == there - sum(
        len(a.select(f".tag_setup {kind}")) for a in articles
    )


def test_ids_are_unique(page):
    ids = [element["id"] for element in page.select("[id]")]
    assert sorted(ids) == sorted(set(ids))


def test_every_link_leads_within_the_page_or_off_the_site(page):
    ids = {element["id"] for element in page.select("[id]")}
    links = [link["href"] for link in page.select("a[href]")]
    assert [link for link in links if link.startswith("#") and link[1:] not in ids] == []
    assert {urlsplit(link).scheme for link in links if not link.startswith("#")} <= {"http", "https", "mailto"}
    assert sum(link.startswith("#") for link in links) > 300


def test_every_file_is_there(page):
    used = [element["src"] for element in page.select("[src]")] + [link["href"] for link in page.select("head link")]
    assert len(used) > 50
    assert [address for address in used if not (SITE / urlsplit(address).path).is_file()] == []


def test_everything_is_unfolded_and_nothing_serves_the_screen_alone(page):
    assert page.select("details, summary, button, .dropdown, .headerlink, .viewcode-link, .tag_setup") == []


def test_the_contents_list_every_page_and_section_in_order(page):
    listed = [(link["href"][1:], words(link.get_text())) for link in page.select(".edition-contents a")]
    headings = page.select(".edition-page h1, .edition-page h2")
    assert [text for _, text in listed] == [words(heading.get_text()) for heading in headings]
    assert [anchor for anchor, _ in listed] == [
        heading.find_parent(class_="edition-page" if heading.name == "h1" else None, id=True)["id"]
        for heading in headings
    ]


@pytest.fixture(scope="module")
def pdf():
    if not chromium.find():
        (pytest.fail if os.environ.get("NORMLIB_REQUIRE_BROWSER") else pytest.skip)(chromium.MISSING)
    command = [sys.executable, ROOT / "tools" / "print_edition.py", "pdf"]
    made = subprocess.run(command, capture_output=True, text=True)  # a process of its own: this one may have a browser
    assert made.returncode == 0, made.stderr
    return PdfReader(JOINED.with_name(print_edition.PDF))


def test_the_site_offers_the_pdf(pdf):
    welcome = BeautifulSoup((SITE / "book" / "welcome.html").read_bytes(), "html.parser")
    assert [link.get_text() for link in welcome.select(f"article a[href='../{print_edition.PDF}']")] == ["PDF"]


def headings(outline):
    """Titles of a PDF's outline, those of levels below in order."""
    for entry in outline:
        yield from headings(entry) if isinstance(entry, list) else [entry.title]


def annotations(pdf):
    """The links of all pages."""
    return [entry.get_object() for sheet in pdf.pages for entry in sheet.get("/Annots", [])]


def fonts(pdf):
    """Every font of every page, and what it is made of."""
    for sheet in pdf.pages:
        for font in sheet["/Resources"].get("/Font", {}).values():
            yield font.get_object()
            yield from (part.get_object() for part in font.get_object().get("/DescendantFonts", []))


def test_the_pdf_is_tagged_and_names_its_language_and_title(pdf, page):
    assert pdf.trailer["/Root"]["/MarkInfo"]["/Marked"]
    assert "/StructTreeRoot" in pdf.trailer["/Root"]
    assert pdf.trailer["/Root"]["/Lang"] == "en"
    assert pdf.metadata.title == page.title.get_text()


def test_the_outline_has_every_heading(pdf, page):
    without_formulas = [h for h in page.select("h1, h2, h3") if not h.select(".math")]
    titles = [words(title) for title in headings(pdf.outline)]
    assert len(titles) == len(page.select("h1, h2, h3"))
    assert [words(heading.get_text()) for heading in without_formulas if words(heading.get_text()) not in titles] == []


def test_links_of_the_pdf_lead_within_it_or_to_the_web(pdf):
    places = pdf.named_destinations
    links = annotations(pdf)
    outside = [str(link["/A"]["/URI"]) for link in links if "/A" in link]
    inside = [str(link["/Dest"]) for link in links if "/Dest" in link]
    assert len(outside) + len(inside) == len(links)
    assert [address for address in outside if not re.match("https?:|mailto:", address)] == []
    assert [place for place in inside if place not in places and place.removeprefix("/") not in places] == []
    assert len(inside) > 300


def test_fonts_are_embedded(pdf):
    described = [font["/FontDescriptor"].get_object() for font in fonts(pdf) if font["/Subtype"].startswith("/CIDFont")]
    assert described
    assert all({"/FontFile", "/FontFile2", "/FontFile3"} & font.keys() for font in described)
    assert {font["/Subtype"] for font in fonts(pdf)} <= {"/Type0", "/Type3", "/CIDFontType0", "/CIDFontType2"}


def test_the_contents_give_the_page_on_which_a_chapter_begins(pdf, page):
    text = {number: words(sheet.extract_text()) for number, sheet in enumerate(pdf.pages, start=1)}
    contents = " ".join(text[number] for number in (2, 3, 4))
    for section in page.select(".edition-page"):
        title = words(section.h1.get_text())
        number = int(re.search(rf"{re.escape(title)} (\d+)", contents)[1])
        assert title in text[number][:200]


def test_formulas_are_typeset_and_references_known(pdf):
    text = " ".join(sheet.extract_text() for sheet in pdf.pages)
    assert "??" not in text
    assert re.findall(r"\\(?:begin|frac|lVert|nabla|tfrac|mathcal|\(|\[)", text) == []
    assert 100 < len(pdf.pages) < 400
