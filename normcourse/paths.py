"""Where the checkout is, and what lies in it: no other module looks for files beside the package."""

from pathlib import Path

from normlib._utils.arguments import check_type

ROOT = Path(__file__).resolve().parents[1]
BOOK = ROOT / "book"
NOTEBOOKS = ROOT / "notebooks"
RESULTS = ROOT / "results"
RUNS = ROOT / "runs"  # not under version control: unfinished runs, and those of full mode and of reproductions

if not (BOOK / "claims.yml").is_file():
    raise ImportError(
        f"the course needs its checkout, with book/ and results/ beside normcourse/, and {ROOT} is none; "
        "clone the repository, and install from there: pip install -e . -e ./normcourse"
    )


def notebook(slug: str) -> Path:
    """The notebook of a chapter or an appendix, whatever number its file name has today.

    Args:
        slug: The name without number and with hyphens, such as ``"norm-growth"``: the label by which all else refers
            to the chapter. ``tools/chapters.py list`` prints all of them.

    Raises:
        TypeError: ``slug`` is no text.
        ValueError: No notebook has this name.

    >>> notebook("norm-growth").name.endswith("_norm_growth.ipynb")
    True
    """
    check_type(str, slug=slug)
    found = {path.stem.partition("_")[2].replace("_", "-"): path for path in NOTEBOOKS.glob("*.ipynb")}
    if slug not in found:
        raise ValueError(f"slug is {slug!r}, but no notebook has this name; there are {', '.join(sorted(found))}")
    return found[slug]
