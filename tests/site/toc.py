"""Pages of the book, as names without an ending: book/welcome."""

from pathlib import Path

import yaml

from normcourse.paths import notebook

ROOT = Path(__file__).parents[2]
SITE = ROOT / "_build" / "html"
BESIDES = (
    "search",
    "genindex",
    "py-modindex",
    "404",
    "_modules/normlib/losses",
)  # made by Sphinx, each of another kind


def entries() -> list[str]:
    """Files of the table of contents, the front page first."""
    toc = yaml.safe_load((ROOT / "_toc.yml").read_text(encoding="utf-8"))
    return [toc["root"], *[entry["file"] for part in toc["parts"] for entry in part["chapters"]]]


def chapter_page(slug: str) -> str:
    """The page of a chapter, given by its name without number."""
    return f"notebooks/{notebook(slug).stem}.html"


def pages() -> list[str]:
    """The table of contents and what Sphinx adds to it."""
    return entries() + [name for name in BESIDES if (SITE / f"{name}.html").is_file()]
