"""Make assignments from their master notebooks, and grade what students hand in.

    python -m grading build [--private DIR]            what `make assignments` runs
    python -m grading sample-class [--assignment A1]   what `make sample-class` runs
    python -m grading grade SUBMISSIONS ROSTER POLICY  what `make grade` runs

What is made is in made/, grades are in graded/; git ignores both.
"""

import argparse
import sys
from pathlib import Path

from grading.batch import grade
from grading.bundles import AssignmentError, make_bundle
from grading.isolation import RefusedError
from grading.proof import prove
from grading.reports import UNFINISHED
from grading.sample_class import make_sample_class
from grading.sandbox import ROOT

ASSIGNMENTS = ROOT / "assignments"
USAGE = "make grade SUBMISSIONS=folder ROSTER=roster.csv POLICY=policy.toml"


def build(private: Path, built: Path) -> None:
    """Make every assignment; each is proved: its solution gets all points of code, its student version none."""
    for master in sorted(ASSIGNMENTS.glob("*.ipynb")):
        bundle = make_bundle(master, private, built)
        proved = prove(bundle, built, private)
        print(f"{bundle.name}: {proved}", flush=True)


def main(arguments: list[str] | None = None) -> int:
    """Run one of the commands; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument(
        "--private", type=Path, default=ASSIGNMENTS / "hidden_samples", help="the folder of hidden tests"
    )
    common.add_argument("--built", type=Path, default=ROOT / "made")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("build", parents=[common])
    sample = commands.add_parser("sample-class", parents=[common])
    sample.add_argument("--assignment", default="A1")
    sample.add_argument("--folder", type=Path, default=ROOT / "made" / "sample-class")
    grading = commands.add_parser("grade", parents=[common])
    for name in ("submissions", "roster", "policy"):
        grading.add_argument(name, type=Path)
    grading.add_argument("--graded", type=Path, default=ROOT / "graded")
    chosen = parser.parse_args(arguments)
    try:
        if chosen.command == "build":
            build(chosen.private, chosen.built)
        elif chosen.command == "sample-class":
            print(make_sample_class(chosen.built, chosen.assignment, chosen.folder))
        else:
            for name in ("submissions", "roster", "policy"):
                if getattr(chosen, name) == Path():  # what `make grade` passes for a word that is missing
                    raise FileNotFoundError(f"{name.upper()} is not given: {USAGE}")
                if not getattr(chosen, name).exists():
                    raise FileNotFoundError(
                        f"{name.upper()} is {str(getattr(chosen, name))!r}, which is not there: {USAGE}"
                    )
            folder = grade(
                chosen.submissions, chosen.roster, chosen.policy, chosen.built, chosen.graded, chosen.private
            )
            print(f"Graded: {folder}. Read summary.md first.")
    except KeyboardInterrupt:
        print(f"Interrupted. What had been graded is in the folder whose name ends in {UNFINISHED}.", file=sys.stderr)
        return 130
    except (AssignmentError, RefusedError, ValueError, OSError) as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
