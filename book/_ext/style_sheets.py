"""One style sheet in place of the dozen of each page, which would be fetched one by one before anything is seen."""

import hashlib
import os
import re
from functools import cache
from pathlib import Path

SHEET = re.compile(r'[ \t]*<link\b(?=[^>]*\brel="stylesheet")(?![^>]*\bmedia=)[^>]*\bhref="([^"?:]+)[^":]*"[^>]*>\n?')
IMPORT = re.compile(r'@import "([^":]+)";')
ADDRESS = re.compile(r"""url\((["']?)(?![a-z]+:|[#/])([^"')]+)\1\)""")


def whole(sheet: Path, folder: Path) -> str:
    """A style sheet and those that it imports, their addresses as seen from a folder."""

    def readdress(address: re.Match) -> str:
        return f'url("{Path(os.path.relpath(sheet.parent / address[2], folder)).as_posix()}")'

    text = ADDRESS.sub(readdress, sheet.read_text(encoding="utf-8").replace('@charset "UTF-8";', ""))
    return IMPORT.sub(lambda name: whole(sheet.parent / name[1], folder), text)


@cache
def joined(sheets: tuple[Path, ...], folder: Path) -> str:
    """The name of a new file in a folder that holds these style sheets, one after the other."""
    text = "\n".join(whole(sheet, folder) for sheet in sheets)
    name = f"styles-{hashlib.sha256(text.encode()).hexdigest()[:8]}.css"
    (folder / name).write_text(text, encoding="utf-8")
    return name


def join(page: Path, folder: Path) -> None:
    """Let a page take one style sheet for all that it names, those for print aside."""
    html = page.read_text(encoding="utf-8")
    sheets = tuple((page.parent / href).resolve() for href in SHEET.findall(html))
    if len(sheets) < 2 or not all(sheet.is_file() for sheet in sheets):
        return
    address = Path(os.path.relpath(folder / joined(sheets, folder), page.parent)).as_posix()
    links = iter([f'<link rel="stylesheet" href="{address}">\n'])
    page.write_text(SHEET.sub(lambda _: next(links, ""), html), encoding="utf-8")


def finish(app, exception) -> None:
    """Join the style sheets of every page of a book that was built."""
    if exception is None and app.builder.format == "html":
        folder = Path(app.outdir).resolve() / "_static"
        for page in sorted(Path(app.outdir).resolve().rglob("*.html")):
            if folder not in page.parents:
                join(page, folder)


def setup(app) -> dict:
    """Called by Sphinx."""
    app.connect("build-finished", finish, priority=900)  # after the theme has written its colours of code
    return {"parallel_read_safe": True, "parallel_write_safe": True}
