"""A class of thirty-one with five hostile submissions: all are graded, nothing is lost, and again with changes."""

import csv
import json
import re
from pathlib import Path

import nbformat
import pytest

pytest.importorskip("otter", reason="otter-grader is not there: install the extra 'grade'")

from grading.__main__ import main
from grading.sample_class import from_colab, with_id

HOSTILE = {
    "t03": ("while True:\n    pass", "timed out"),
    "t08": ("x = bytearray(20 << 30)", "out of memory"),
    "t13": ("import os\nos._exit(0)", "crashed"),
    "t18": ("open('tests/q1.py').read()", "read tests"),
    "t23": ("import os, time\nfor _ in range(300):\n    os.fork() or time.sleep(3600)", "too many processes"),
}
GRADED_ALL_THE_SAME = {"timed out", "out of memory", "read tests"}  # a cell was lost, or nothing
IDS = [f"t{number:02}" for number in range(1, 32)]
POLICY = """\
assignment = "T1"
due = 2026-11-20T23:59:00Z
times = "times.csv"
rubric = "rubric.csv"
max_megabytes = 1
parallel = 2
[extensions]
t05 = 2026-11-25T23:59:00Z
[limits]
cell_seconds = 6
wall_seconds = 120
memory_gib = 2
processes = 80
"""


def write_class(folder, built):
    """The files of the class: t31 hands nothing in, t28 a broken file, t29 one that is too large."""
    handed_in = folder / "submissions"
    handed_in.mkdir(parents=True)
    letters = {student: f"{'ab'[number // 26]}{chr(97 + number % 26)}qx" for number, student in enumerate(IDS)}
    names = {student: f"Given{word} Family{word}" for student, word in letters.items()}
    rows = [f"{student},{names[student]},{4700 + number}" for number, student in enumerate(IDS)]
    (folder / "roster.csv").write_text("\n".join(["student_id,name,lms_id", *rows, ""]))
    times = [f"{student},2026-11-{22 if student in ('t04', 't05') else 20}T12:00:00Z" for student in IDS[:-1]]
    (folder / "times.csv").write_text("\n".join(["student_id,submitted", *times, ""]))
    (folder / "rubric.csv").write_text("student_id,question,points\nt01,q3,3\n")
    (folder / "policy.toml").write_text(POLICY)
    for number, student in enumerate(IDS[:-1]):
        canvas = "".join(reversed(names[student].lower().split()))
        path = handed_in / f"{canvas}_{4700 + number}_{90000 + number}_T1_toy.ipynb"
        notebook = nbformat.read(built / "T1" / "solution" / "T1_toy.ipynb", as_version=4)
        notebook = with_id(notebook, student if student != "t27" else "a-longer-id")
        if student in HOSTILE:
            notebook.cells.append(nbformat.v4.new_code_cell(HOSTILE[student][0]))
        if student == "t26":
            from_colab(notebook)
        nbformat.write(notebook, path, version=nbformat.NO_CONVERT)
        if student == "t28":
            path.write_text(path.read_text()[:200])
        if student == "t29":
            path.write_text(path.read_text() + " " * 1_100_000)
        if student == "t30":
            path.rename(handed_in / f"{names[student]}_1234567_assignsubmission_file_T1_toy.ipynb")


def grade(folder, built, private):
    """What `make grade` runs; returns the new folder and its table by student."""
    files = [str(folder / name) for name in ("submissions", "roster.csv", "policy.toml")]
    places = ["--built", str(built), "--graded", str(folder / "graded"), "--private", str(private)]
    before = {path.name for path in (folder / "graded").glob("T1/*")}
    assert main(["grade", *files, *places]) == 0
    (new,) = [path for path in (folder / "graded" / "T1").iterdir() if path.name not in before]
    with (new / "grades.csv").open() as file:
        return new, {row["student_id"]: row for row in csv.DictReader(file)}


@pytest.fixture(scope="module")
def graded(toy, isolation, tmp_path_factory):
    """The class, graded: (the class's folder, the new folder, its table)."""
    _, built, private = toy
    folder = tmp_path_factory.mktemp("class")
    write_class(folder, built)
    return folder, *grade(folder, built, private)


def test_everyone_on_the_roster_has_a_row_and_a_report(graded):
    _, new, table = graded
    assert list(table) == IDS
    for part, kind in [("reports", "html"), ("results", "json")]:
        assert {path.name for path in (new / part).iterdir()} == {
            f"{row['pseudonym']}.{kind}" for row in table.values()
        }


def test_each_result_is_named(graded):
    named = {student: status for student, (_, status) in HOSTILE.items()}
    named |= {"t28": "malformed", "t29": "oversized", "t31": "missing"}
    assert {student: row["status"] for student, row in graded[2].items()} == {**dict.fromkeys(IDS, "ok"), **named}


def test_the_others_get_their_points_whatever_five_do(graded):
    expected = dict.fromkeys(IDS, 6.0)
    expected |= {student: 0.0 for student, (_, status) in HOSTILE.items() if status not in GRADED_ALL_THE_SAME}
    expected |= dict.fromkeys(["t28", "t29", "t31"], 0.0)
    expected |= {"t01": 9.0, "t04": 4.0, "t27": 3.0}  # the rubric; two days late; numbers of another id
    totals = {student: float(row["total"]) for student, row in graded[2].items()}
    assert (
        totals | {"t23": 0.0} == expected
    )  # the bomb loses its cell, or everything: the kernel or the grader is first


def test_what_is_to_be_looked_at_is_said(graded):
    _, new, table = graded
    assert "tests went by the roster" in table["t27"]["notes"]
    assert (table["t04"]["days_late"], table["t05"]["days_late"]) == ("2", "0")
    summary = (new / "summary.md").read_text()
    assert "30 of 31 handed in" in summary
    assert all(table[student]["pseudonym"] in summary for student in HOSTILE)


def test_no_name_or_id_is_in_the_log(graded):
    log = (graded[1] / "grading.log").read_text()
    assert "31/31" in log
    assert not re.search(r"qx|\bt\d\d\b|\b47\d\d\b", log)
    assert all(row["pseudonym"] in log for row in graded[2].values())


def test_reports_keep_hidden_messages(graded):
    _, new, table = graded
    page = (new / "reports" / f"{table['t27']['pseudonym']}.html").read_text()
    assert "The length of the id, squared. (hidden)" in page
    assert "the hidden message" not in page
    assert "hidden message" in (new / "results" / f"{table['t27']['pseudonym']}.json").read_text()


def test_what_ran_is_kept_for_marking_by_hand(graded):
    _, new, table = graded
    executed = nbformat.reads((new / "executed" / f"{table['t01']['pseudonym']}.ipynb").read_text(), as_version=4)
    assert any(cell.get("execution_count") for cell in executed.cells)


def test_a_submission_takes_less_than_two_minutes_of_cpu_time(graded):
    results = [json.loads(path.read_text()) for path in (graded[1] / "results").iterdir()]
    assert max(result["cpu_seconds"] for result in results) < 120


def test_grades_are_for_their_owner_alone(graded):
    assert Path(graded[1].parent).stat().st_mode & 0o077 == 0
    assert all(path.stat().st_mode & 0o077 == 0 for path in (graded[1] / "results").iterdir())


def test_grading_again_makes_a_new_folder_and_lists_what_changed(graded, toy, tmp_path):
    folder, first, table = graded
    _, built, private = toy
    small = tmp_path / "again"
    for path in (folder / "submissions").iterdir():
        if path.name.startswith(("familyaaqx", "familyabqx")):
            small.mkdir(exist_ok=True)
            (small / path.name).write_bytes(path.read_bytes())
    (folder / "rubric.csv").write_text("student_id,question,points\nt01,q3,4\n")
    (folder / "roster.csv").write_text("\n".join((folder / "roster.csv").read_text().splitlines()[:3]))
    (folder / "times.csv").write_text("student_id,submitted\nt02,2026-11-21T12:00:00Z\n")
    policy = (folder / "policy.toml").read_text()
    (folder / "policy.toml").write_text(policy.replace("t05 = 2026-11-25T23:59:00Z\n", ""))  # who is no longer there
    (folder / "submissions").rename(folder / "all")
    small.rename(folder / "submissions")
    new, again = grade(folder, built, private)
    assert new != first
    assert first.is_dir()
    assert {student: row["pseudonym"] for student, row in again.items()} == {
        each: table[each]["pseudonym"] for each in again
    }
    changes = (new / "changes.md").read_text()
    assert f"| `{table['t01']['pseudonym']}` | 9, ok | 10, ok | q3 3 → 4 |" in changes
    assert f"| `{table['t02']['pseudonym']}` | 6, ok | 5, ok | lost 0 → 1 |" in changes
    assert f"| `{table['t03']['pseudonym']}` | 6, timed out | – | left the roster |" in changes


def test_an_interrupted_grading_keeps_what_it_has(toy, isolation, tmp_path, monkeypatch, capsys):
    _, built, private = toy
    write_class(tmp_path, built)
    for path in (tmp_path / "submissions").iterdir():
        if not path.name.startswith("familyaaqx"):
            path.unlink()

    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("grading.reports.write_all", interrupted)
    files = [str(tmp_path / name) for name in ("submissions", "roster.csv", "policy.toml")]
    places = ["--built", str(built), "--graded", str(tmp_path / "graded"), "--private", str(private)]
    assert main(["grade", *files, *places]) == 130
    assert "-unfinished" in capsys.readouterr().err
    (left,) = (tmp_path / "graded" / "T1").iterdir()
    assert left.name.endswith("-unfinished")
    assert len(list((left / "results").iterdir())) == 31


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"policy.toml": 'assignment = "T9"\n'}, "run make assignments PRIVATE=dir first (made are ['T1'])"),
        ({"roster.csv": "id\n"}, "no column ['student_id', 'name']"),
        ({"policy.toml": 'assignment = "T1"\nrubrik = "x"\n'}, "the policy has ['rubrik']"),
    ],
)
def test_faults_are_told_before_anything_runs(toy, isolation, tmp_path, capsys, change, message):
    _, built, private = toy
    write_class(tmp_path, built)
    for name, text in change.items():
        (tmp_path / name).write_text(text)
    files = [str(tmp_path / name) for name in ("submissions", "roster.csv", "policy.toml")]
    places = ["--built", str(built), "--graded", str(tmp_path / "graded"), "--private", str(private)]
    assert main(["grade", *files, *places]) == 1
    assert message in capsys.readouterr().err
    assert not (tmp_path / "graded" / "T1").exists()


def test_a_missing_argument_is_named(capsys):
    assert main(["grade", "", "roster.csv", "policy.toml"]) == 1  # what `make grade` passes without SUBMISSIONS=
    assert "SUBMISSIONS is not given: make grade SUBMISSIONS=folder" in capsys.readouterr().err
