"""A class to try grading on: a dozen made-up students, with what students do."""

import re
import shutil
from collections.abc import Callable
from pathlib import Path

import nbformat
from nbformat import NotebookNode

from grading.bundles import find_bundle, read_bundle

POLICY = """\
assignment = "{name}"
due = 2026-11-20T23:59:00+01:00
times = "times.csv"    # student_id,submitted; leave it out where only the platform's late mark is known
rubric = "rubric.csv"  # student_id,question,points,comment

[extensions]
s06 = 2026-11-22T23:59:00+01:00

[late]
grace_minutes = 15
lost_per_day = 0.1     # of the assignment's points
days = 3               # later work gets none

[limits]               # of one submission
wall_seconds = 240
memory_gib = 4
"""
IN_TIME, LATE = "2026-11-20T18:30:00+01:00", "2026-11-21T09:00:00+01:00"


def with_id(notebook: NotebookNode, student_id: str) -> NotebookNode:
    """The notebook with another student id in its line `STUDENT_ID = …`."""
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.source = re.sub(r"(?m)^STUDENT_ID = .*$", f"STUDENT_ID = {student_id!r}", cell.source)
    return notebook


def half_done(notebook: NotebookNode) -> NotebookNode:
    """The second half of the answers is missing."""
    answers = [cell for cell in notebook.cells if _is_answer(cell)]
    for cell in answers[len(answers) // 2 :]:
        cell.source = "..."
    return notebook


def from_colab(notebook: NotebookNode) -> NotebookNode:
    """As Colab saves it: its own metadata, none of otter's, no ids of cells."""
    notebook.metadata = {"colab": {"provenance": []}, "kernelspec": {"name": "python3", "display_name": "Python 3"}}
    notebook.nbformat_minor = 0
    for cell in notebook.cells:
        cell.metadata = {"id": cell.pop("id", "x")[:12], "colab": {"base_uri": "https://localhost:8080/"}}
    return notebook


def ending_with(code: str) -> Callable[[NotebookNode], NotebookNode]:
    """A change that adds a cell."""

    def change(notebook: NotebookNode) -> NotebookNode:
        notebook.cells.append(nbformat.v4.new_code_cell(code))
        return notebook

    return change


def unchanged(notebook: NotebookNode) -> NotebookNode:
    """No change."""
    return notebook


# id, name, version it starts from, id it writes, change, when
STUDENTS = [
    ("s01", "Ada Fern", "solution", "s01", unchanged, IN_TIME),
    ("s02", "Bela Moss", "solution", "s02", half_done, IN_TIME),
    ("s03", "Chidi Reed", "student", "...", unchanged, IN_TIME),
    ("s04", "Dana Birch", "student", "s04", unchanged, IN_TIME),
    ("s05", "Emil Sedge", "solution", "s05", unchanged, LATE),
    ("s06", "Fay Rowan", "solution", "s06", unchanged, LATE),
    ("s07", "Gus Alder", "", "", unchanged, ""),
    ("s08", "Hana Lind", "solution", "s08", from_colab, IN_TIME),
    ("s09", "Ivo Heath", "solution", "s01", unchanged, IN_TIME),
    ("s10", "Juno Clover", "solution", "s10", ending_with("import os\nos._exit(1)"), IN_TIME),
    ("s11", "Kai Thistle", "solution", "s11", ending_with("open('tests/q1.py').read()"), IN_TIME),
    ("s12", "Lea Yarrow", "broken", "s12", unchanged, IN_TIME),
]
FIRST_NUMBER = 4701  # in the learning platform


def make_sample_class(built: Path, assignment: str, folder: Path) -> str:
    """Write a roster, a policy, times, a rubric, and submissions as Canvas names them; returns how to grade them."""
    bundle = read_bundle(find_bundle(built, assignment))
    numbered = list(enumerate(STUDENTS, start=FIRST_NUMBER))
    members = [f"{student_id},{name},{number}" for number, (student_id, name, *_) in numbered]
    _make_anew(folder, "\n".join(["student_id,name,lms_id", *members, ""]))
    handed_in = folder / "submissions"
    handed_in.mkdir()
    (folder / "policy.toml").write_text(POLICY.format(name=assignment), encoding="utf-8")
    manual = [name for name, question in bundle.questions.items() if question.manual]
    tables = {
        "times": ["student_id,submitted"],
        "rubric": ["student_id,question,points,comment"],
    }
    for number, (student_id, name, version, written, change, when) in numbered:
        if not version:
            continue
        tables["times"].append(f"{student_id},{when}")
        tables["rubric"] += [
            f"{student_id},{question},{bundle.questions[question].points / 2:g},A sample." for question in manual
        ]
        mark = "_LATE" if when == LATE else ""
        family = "".join(reversed(name.lower().split()))
        path = handed_in / f"{family}{mark}_{number}_{number + 90000}_{bundle.notebook}"
        if version == "broken":
            path.write_text('{"cells": [{"cell_type": "code", "source": ["x = ', encoding="utf-8")
            continue
        notebook = nbformat.read(built / assignment / version / bundle.notebook, as_version=4)
        notebook = change(with_id(notebook, written) if written != "..." else notebook)
        nbformat.write(notebook, path, version=nbformat.NO_CONVERT)
    for table, lines in tables.items():
        (folder / f"{table}.csv").write_text("\n".join([*lines, ""]), encoding="utf-8")
    return f"make grade SUBMISSIONS={handed_in} ROSTER={folder / 'roster.csv'} POLICY={folder / 'policy.toml'}"


def _make_anew(folder: Path, roster: str) -> None:
    """The folder with this roster alone; refuses to remove one that is not that of an earlier sample class."""
    path = folder / "roster.csv"
    if folder.exists() and any(folder.iterdir()) and not (path.is_file() and path.read_text("utf-8") == roster):
        raise FileExistsError(f"{folder} is no sample class, and would be removed: name a new folder")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    path.write_text(roster, encoding="utf-8")


def _is_answer(cell: NotebookNode) -> bool:
    return cell.cell_type == "code" and "otter_assign_solution_cell" in cell.metadata.get("tags", [])
