"""Where the checkout is, and what lies in it: no other module looks for files beside the package."""

from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
BOOK = ROOT / "book"
RESULTS = ROOT / "results"
RUNS = ROOT / "runs"  # not under version control: unfinished runs, and those of full mode and of reproductions

if not (BOOK / "claims.yml").is_file():
    raise ImportError(
        f"normcourse needs a checkout of the course, with book/ and results/ beside it, and there is none at {ROOT}; "
        "clone the repository, and install from there: pip install -e . -e ./normcourse"
    )
