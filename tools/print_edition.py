"""The print edition: the pages of the built site joined into one, and that one as a PDF.

    python tools/print_edition.py join    make _build/html/print.html from the pages in _toc.yml, in their order
    python tools/print_edition.py pdf     print it to _build/html/embedding-norms.pdf with Chromium, and link to that

In the joined page every link between pages leads to a place within it, so that the PDF is whole by itself.
"""

import argparse
import posixpath
import re
import sys
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from html import escape
from io import BytesIO
from pathlib import Path
from typing import NamedTuple
from urllib.parse import unquote, urlsplit

import yaml
from bs4 import BeautifulSoup, Tag

import chromium
from atomic_write import write_whole

ROOT = Path(__file__).resolve().parents[1]
JOINED, PDF = "print.html", "embedding-norms.pdf"  # both in the site's folder
READABLE = 0o644  # by whatever serves the site
# Of use on a screen only: links to oneself and to source files, prompts to fold code, the cell that prepares Colab.
CHROME = (
    "a.headerlink, a:has(.viewcode-link), details.hide > summary, .cell.tag_setup, .toctree-wrapper, button, script"
)
# Names, punctuation and spaces in code have no colour of their own; half of all tags in the PDF would be theirs.
UNCOLOURED = ".highlight span.n, .highlight span.p, .highlight span.w"
# A link to the joined page that has no link to the PDF behind it.
TO_JOINED = re.compile(rf'(<a [^>]*href="((?:\.\./)*){re.escape(JOINED)}"[^>]*>[^<]*</a>)(?! \(<a )')
REFERRING = ("for", "headers", "aria-controls", "aria-describedby", "aria-labelledby")  # attributes that name ids

Pages = dict[str, BeautifulSoup]  # by the names that _toc.yml gives them


class Part(NamedTuple):
    """Some pages of the book, under one caption in the table of contents."""

    caption: str
    names: list[str]


class Book(NamedTuple):
    """What the title page says."""

    title: str
    author: str
    version: str
    logo: str
    licence: str
    address: str


def read_book(root: Path) -> Book:
    """Title and author from the book's configuration, version and address from pyproject.toml."""
    with _read("_config.yml and pyproject.toml"):
        config = yaml.safe_load((root / "_config.yml").read_text(encoding="utf-8"))
        project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]
        return Book(
            title=config["title"],
            author=config["author"],
            version=project["version"],
            logo=f"_static/{Path(config['logo']).name}",
            licence=config["html"]["extra_footer"],
            address=project.get("urls", {}).get("Repository", ""),
        )


def read_parts(root: Path) -> list[Part]:
    """The parts of the table of contents; the front page is a part without caption."""
    with _read("_toc.yml"):
        toc = yaml.safe_load((root / "_toc.yml").read_text(encoding="utf-8"))
        parts = [Part(part["caption"], [chapter["file"] for chapter in part["chapters"]]) for part in toc["parts"]]
        return [Part("", [toc["root"]]), *parts]


@contextmanager
def _read(names: str) -> Iterator[None]:
    """Name the files that are not of the expected shape."""
    try:
        yield
    except (yaml.YAMLError, ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError(f"{names} cannot be used as they are: {type(error).__name__}: {error}") from error


def read_pages(site: Path, names: list[str]) -> Pages:
    """The built pages, in order."""
    if not site.is_dir():
        raise FileNotFoundError(f"the site is not built ({site} is missing): run make book")
    missing = [name for name in names if not (site / f"{name}.html").is_file()]
    if missing:
        raise FileNotFoundError(f"_toc.yml names {', '.join(missing)}, but {site} has no such page: run make book")
    return {name: BeautifulSoup((site / f"{name}.html").read_bytes(), "html.parser") for name in names}


def anchor(name: str, fragment: str = "") -> str:
    """Id in the joined page of a page, or of the element of that page with the id `fragment`."""
    page = name.replace("/", "-")
    return f"{page}--{fragment}" if fragment else page


def asset(address: str, name: str) -> str:
    """Address of a file that a page uses, as seen from the joined page, which lies at the top of the site."""
    if urlsplit(address).scheme or address.startswith("//"):
        return address
    return posixpath.normpath(posixpath.join(posixpath.dirname(name), address))


def destination(address: str, name: str, pages: Pages) -> str:
    """Where a link leads from the joined page; empty when to a page of the site that is not printed."""
    parts = urlsplit(address)
    if parts.scheme or parts.netloc:
        return address
    target = asset(unquote(parts.path), name).removesuffix(".html") if parts.path else name
    return f"#{anchor(target, unquote(parts.fragment))}" if target in pages else ""


def remove_chrome(article: Tag) -> None:
    """Take out what is of no use on paper."""
    for element in article.select(CHROME):
        element.decompose()
    for element in article.select(UNCOLOURED):
        element.unwrap()


def unfold(article: Tag) -> None:
    """Open everything that is folded on the screen: solutions, proofs, code, boxes."""
    for element in article.select(".dropdown"):
        element["class"].remove("dropdown")
    for element in article.select("details"):
        element.name = "div"
        element.attrs.pop("open", None)
    for element in article.select("summary"):
        element.name = "p"


def readdress(article: Tag, name: str, pages: Pages) -> None:
    """Make the ids of a page unique in the book, and let its links and sources work from the joined page."""
    taken = set()  # some extensions give several boxes of a page the same id: links lead to the first
    for element in article.select("[id]"):
        element["id"] = anchor(name, element["id"])
        if element["id"] in taken:
            del element["id"]
        else:
            taken.add(element["id"])
    for attribute in REFERRING:
        for element in article.select(f"[{attribute}]"):
            value = element[attribute]
            ids = value if isinstance(value, list) else value.split()
            element[attribute] = " ".join(anchor(name, fragment) for fragment in ids)
    for element in article.select("[src]"):
        element["src"] = asset(element["src"], name)
        element.attrs.pop("loading", None)  # what is not in view yet would be missing on paper
    for link in article.select("a[href]"):
        link["href"] = destination(link["href"], name, pages)
        if not link["href"]:
            link.unwrap()


def chapter(name: str, pages: Pages) -> Tag:
    """The article of one page, as a section of the joined one."""
    article = pages[name].select_one("article.bd-article")
    if article is None or pages[name].head is None or article.h1 is None:
        raise ValueError(f"{name}.html is no page of the book: run make book")
    remove_chrome(article)
    unfold(article)
    readdress(article, name, pages)
    article.name, article.attrs = "section", {"class": "edition-page", "id": anchor(name)}
    return article


def head(pages: Pages) -> Iterator[str]:
    """The style sheets of all pages and what typesets their formulas, each once."""
    seen = set()
    for name, page in pages.items():
        for element in page.head.select("link[rel~=stylesheet], script"):
            for attribute in {"href", "src"} & element.attrs.keys():
                element[attribute] = asset(element[attribute], name)
            wanted = element.name == "link" or "mathjax" in str(element).lower()
            if wanted and str(element) not in seen:
                seen.add(str(element))
                yield str(element)


def reference(place: str, heading: Tag) -> str:
    """A link to a heading, which shows what it says."""
    return f'<a href="#{place}"><span>{heading.decode_contents().strip()}</span></a>'


def entry(section: Tag) -> str:
    """A page's lines in the table of contents: its title and those of its sections."""
    below = "".join(
        f"<li>{reference(heading.parent['id'], heading)}</li>" for heading in section.select("section > h2")
    )
    return f"<li>{reference(section['id'], section.h1)}{f'<ul>{below}</ul>' if below else ''}</li>"


def contents(parts: list[Part], sections: dict[str, Tag]) -> str:
    """The table of contents."""
    return "".join(
        f"{f'<p>{escape(part.caption)}</p>' if part.caption else ''}"
        f"<ul>{''.join(entry(sections[name]) for name in part.names)}</ul>"
        for part in parts
    )


def joined(book: Book, parts: list[Part], pages: Pages) -> str:
    """The print edition as one HTML page."""
    sections = {name: chapter(name, pages) for name in pages}
    styles_and_formulas = "\n".join(head(pages))
    address = f'<p><a href="{escape(book.address)}">{escape(book.address)}</a></p>' if book.address else ""
    return f"""<!DOCTYPE html>
<html lang="en" data-theme="light" data-mode="light">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="robots" content="noindex">
<title>{escape(book.title)}</title>
{styles_and_formulas}
<link rel="stylesheet" href="_static/edition.css">
</head>
<body>
<main class="edition bd-content bd-article-container">
<header class="edition-title">
<img src="{escape(book.logo)}" alt="Logo">
<p class="edition-name">{escape(book.title)}</p>
<p>{escape(book.author)}</p>
<p>Version {escape(book.version)}</p>
{address}
<p class="edition-licence">{book.licence}</p>
</header>
<nav class="edition-contents" aria-labelledby="contents">
<h1 id="contents">Contents</h1>
{contents(parts, sections)}
</nav>
<article class="bd-article">
{"".join(map(str, sections.values()))}
</article>
</main>
</body>
</html>
"""


def join(root: Path) -> Path:
    """Write the joined page; returns where."""
    parts = read_parts(root)
    pages = read_pages(root / "_build" / "html", [name for part in parts for name in part.names])
    page = root / "_build" / "html" / JOINED
    write_whole(page, joined(read_book(root), parts, pages), READABLE)
    return page


def page_numbers(pdf: bytes) -> dict[str, int]:
    """The page of each place that a link leads to."""
    from pypdf import PdfReader

    reader = PdfReader(BytesIO(pdf))
    places = reader.named_destinations.items()
    return {name.removeprefix("/"): reader.get_destination_page_number(place) + 1 for name, place in places}


def printed(page: Path, executable: str) -> bytes:
    """The page as a tagged PDF with an outline, formulas typeset and page numbers in its table of contents."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable, args=chromium.FLAGS)
        tab = browser.new_page()
        tab.set_default_timeout(300_000)  # a book of formulas takes a while
        tab.goto(page.as_uri())
        if not tab.evaluate("() => window.MathJax?.startup?.promise.then(() => true) ?? false"):
            raise RuntimeError(f"formulas cannot be typeset: MathJax did not load in {page}")
        wrong = tab.locator("mjx-merror").all_inner_texts()
        if wrong:
            raise RuntimeError(f"{len(wrong)} formulas are in error, the first of them: {wrong[0]}")
        tab.evaluate("document.fonts.ready")

        def pdf() -> bytes:
            return tab.pdf(format="A4", tagged=True, outline=True, print_background=True)

        # Chromium cannot refer to page numbers: print once to learn them, and again to have them printed.
        tab.evaluate(
            """numbers => document.querySelectorAll(".edition-contents a").forEach(
                link => link.dataset.page = numbers[decodeURIComponent(link.hash.slice(1))])""",
            page_numbers(pdf()),
        )
        return pdf()


def offer(root: Path) -> None:
    """Put a link to the PDF behind each link to the joined page; a site without a PDF has none."""
    for name in [name for part in read_parts(root) for name in part.names]:
        page = root / "_build" / "html" / f"{name}.html"
        text = page.read_text(encoding="utf-8")
        offering = TO_JOINED.sub(rf'\1 (<a href="\2{PDF}">PDF</a>)', text)
        if offering != text:
            write_whole(page, offering, READABLE)


def print_pdf(root: Path) -> Path:
    """Write the PDF of the joined page and let the site link to it; returns where it is."""
    from playwright.sync_api import Error

    page = root / "_build" / "html" / JOINED
    if not page.is_file():
        raise FileNotFoundError(f"the pages are not joined ({page} is missing): run make book")
    executable = chromium.find()
    if not executable:
        raise FileNotFoundError(chromium.MISSING)
    try:
        content = printed(page, executable)
    except Error as error:
        raise RuntimeError(f"{executable} failed: {error.message.splitlines()[0]}") from error
    pdf = page.with_name(PDF)
    write_whole(pdf, content, READABLE)
    offer(root)
    return pdf


def main(arguments: list[str] | None = None) -> int:
    """Run one of the two steps; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("step", choices=["join", "pdf"])
    step = {"join": join, "pdf": print_pdf}[parser.parse_args(arguments).step]
    try:
        print(f"wrote {step(ROOT)}")
    except (OSError, RuntimeError, ValueError) as error:
        print(f"The print edition was not made: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
