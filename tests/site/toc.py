"""Pages of the book, as names without an ending: notebooks/01_hypersphere_paradox."""

from pathlib import Path

import yaml

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


def pages() -> list[str]:
    """The table of contents and what Sphinx adds to it."""
    return entries() + [name for name in BESIDES if (SITE / f"{name}.html").is_file()]
