"""Assignments are made as they should be, and faults of a master or of hidden tests are refused by name."""

import contextlib
import json
import zipfile
from pathlib import Path

import nbformat
import pytest

pytest.importorskip("otter", reason="otter-grader is not there: install the extra 'grade'")

from grading.bundles import AssignmentError, Question, make_bundle, read_bundle
from grading.limits import Limits
from grading.sandbox import Job, Sandbox

TOY = Path(__file__).parent / "toy"


def cells(path):
    return nbformat.read(path, as_version=4).cells


def test_student_notebooks_have_neither_solutions_nor_tests(toy):
    _, built, _ = toy
    assert [path.name for path in (built / "T1" / "student").iterdir()] == ["T1_toy.ipynb"]
    text = (built / "T1" / "student" / "T1_toy.ipynb").read_text("utf-8")
    hidden = (TOY / "hidden" / "T1.py").read_text("utf-8")
    secrets = ["x + x", "len(STUDENT_ID)", "sample-student", "Rubric", "Doubles", "TESTS", *hidden.splitlines()]
    assert [secret for secret in secrets if secret.strip() and secret in text] == []
    assert "BEGIN" not in text
    assert "def double(x):" in text


def test_the_solution_keeps_what_the_student_version_lost(toy):
    _, built, _ = toy
    text = (built / "T1" / "solution" / "T1_toy.ipynb").read_text("utf-8")
    assert all(part in text for part in ["x + x", "len(STUDENT_ID)", "sample-student", "Rubric"])


def test_points_are_those_of_public_and_hidden_tests_and_of_the_rubric(toy):
    bundle, built, _ = toy
    assert bundle.questions == {
        "q1": Question(3, hidden=2),
        "q2": Question(3, hidden=3),
        "q3": Question(4, manual=True),
    }
    assert bundle.points == 10
    assert read_bundle(built / "T1" / "T1-autograder.zip") == bundle


@pytest.mark.parametrize(("change", "points"), [(None, 6), (("x + x", "abs(x) * 2"), 4)])
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_otter_itself_gives_the_same_points(toy, isolation, tmp_path, change, points, monkeypatch):
    from otter.run import main as otter_run

    bundle, built, hidden = toy
    text = (built / "T1" / "solution" / "T1_toy.ipynb").read_text("utf-8")
    path = tmp_path / "T1_toy.ipynb"
    path.write_text(text.replace(*change) if change else text, encoding="utf-8")
    with Sandbox(isolation, Limits(), [hidden]) as sandbox:
        ours = sandbox.run(Job(path, "T1", "sample-student", bundle.tests), 0)
    monkeypatch.chdir(tmp_path)
    with contextlib.redirect_stdout(None):
        theirs = otter_run(str(path), autograder=str(built / "T1" / "T1-autograder.zip"), output_dir=None, no_logo=True)
    assert sum(test["points"] for test in ours.results if test["passed"]) == theirs.total == points
    assert sum(test["points"] for test in ours.results) == theirs.possible == 6


def test_the_zip_is_otters_with_the_tests_merged(toy):
    _, built, _ = toy
    with zipfile.ZipFile(built / "T1" / "T1-autograder.zip") as archive:
        names = set(archive.namelist())
        assert {"run_autograder", "setup.sh", "otter_config.json", "tests/q1.py", "tests/q2.py"} <= names
        assert json.loads(archive.read("otter_config.json"))["assignment_name"] == "T1"


HIDDEN = (TOY / "hidden" / "T1.py").read_text("utf-8")
TEST_CELL = '""" # BEGIN TEST CONFIG\npoints: 1\n"""  # END TEST CONFIG\n\n\n'
FAULTS = {
    "no module": (None, {}, r"T1\.py is missing"),
    "no TESTS": ("x = 1", {}, "has no TESTS"),
    "reserved": (f"{HIDDEN}\npoints = 3", {}, r"defines \['points'\]"),
    "unknown question": (f"{HIDDEN}\nTESTS['q9'] = []", {}, r"tests \['q9'\], which T1_toy.ipynb does not ask"),
    "manual question": (f"{HIDDEN}\nTESTS['q3'] = TESTS['q1']", {}, r"tests \['q3'\]"),
    "untested question": (f"{HIDDEN}\ndel TESTS['q2']", {}, "q2 has no tests and is not manual: put some into TESTS"),
    "twins": (
        f"{HIDDEN}\n\n\ndef twin(env):\n    pass",
        {"def test_doubles": "def hidden_1"},
        "q1: of 2 tests two share a name: otter would run 1",
    ),
    "no points": (HIDDEN, {TEST_CELL: ""}, "q1: a test has no points of its own"),
    "no name": (HIDDEN, {"name: T1\n": ""}, "its name is None"),
    "open block": (HIDDEN, {"    # BEGIN SOLUTION": ""}, "T1_toy.ipynb: otter says: END SOLUTION without BEGIN"),
    "left over": (HIDDEN, {"strip_solutions_from_all_cells: true\n": ""}, r"still has \['# SOLUTION'\]"),
}


@pytest.mark.parametrize(("module", "changes", "message"), FAULTS.values(), ids=FAULTS)
def test_faults_are_named_and_nothing_is_written(tmp_path, module, changes, message):
    notebook = nbformat.read(TOY / "T1_toy.ipynb", as_version=4)
    for cell in notebook.cells:
        for old, new in changes.items():
            cell.source = cell.source.replace(old, new)
    nbformat.write(notebook, tmp_path / "T1_toy.ipynb")
    if module is not None:
        (tmp_path / "T1.py").write_text(module, encoding="utf-8")
    with pytest.raises(AssignmentError, match=message):
        make_bundle(tmp_path / "T1_toy.ipynb", tmp_path, tmp_path / "built")
    assert not (tmp_path / "built").exists()
