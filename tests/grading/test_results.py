"""Points, reports, the class's table and what has changed since the last time."""

import csv
import io
import json
from pathlib import Path

import pytest

pytest.importorskip("otter", reason="otter-grader is not there: install the extra 'grade'")

from grading import reports
from grading.bundles import Bundle, Question
from grading.policy import Late, Policy
from grading.results import MEANING, MISSING, as_record, settle, unopened
from grading.roster import Mark, Student
from grading.sandbox import Outcome
from grading.submissions import Submission

BUNDLE = Bundle("T1", "T1_toy.ipynb", {"q1": Question(3, hidden=2), "q3": Question(4, manual=True)}, {"q1": ""})
POLICY = Policy("T1", late=Late(lost_per_day=0.1, days=3))
STUDENT = Student("s01", "Ada Fern", "4701", "aaaaaaaa")


def a_test(*, passed, hidden=False, points=1, what="Doubles.", message=""):
    entry = {"question": "q1", "what": what, "points": points, "hidden": hidden}
    return entry | {"passed": passed, "message": message}


TESTS = [a_test(passed=True), a_test(passed=False, hidden=True, points=2, message="the hidden message")]
RAN = Outcome("ok", results=TESTS, claimed_id="'s01'")


def settled(outcome=RAN, **options):
    return settle(STUDENT, outcome, BUNDLE, POLICY, **options)


def test_points_are_those_of_passed_tests_and_of_the_rubric():
    result = settled(marks={"q3": Mark(2.5, "well argued")})
    assert (result.total, result.most, result.unmarked) == (3.5, 7, [])


def test_no_question_gives_more_points_than_it_has():
    often = Outcome("ok", results=[a_test(passed=True, points=2)] * 5, claimed_id="'s01'")
    assert settled(often).scores["q1"].points == 3


def test_a_question_that_nobody_has_marked_is_named():
    assert (settled().total, settled().unmarked) == (1, ["q3"])
    assert settled(MISSING).unmarked == []


def test_lateness_costs_its_share_of_all_points_and_no_more_than_there_are():
    assert settled(days_late=1).lost == pytest.approx(0.7)
    assert settled(days_late=1).total == pytest.approx(0.3)
    assert settled(days_late=2).total == 0
    assert settled(MISSING, days_late=9).lost == 0


def test_what_a_person_should_look_at_is_noted():
    assert settled().notes == []
    assert "the notebook has STUDENT_ID = 's02'" in settled(Outcome("ok", claimed_id="'s02'")).notes[0]
    assert settled(Outcome("ok", claimed_id="' S01 '")).notes == []
    assert settled(Outcome("ok", claimed_id="Ellipsis")).notes == [
        "the notebook has no STUDENT_ID, tests went by the roster"
    ]
    assert settled(Outcome("ok", claimed_id="__import__('os')")).notes  # read as text, not run
    assert "by how much is not known" in settled(days_late=None).notes[0]
    assert settled(set_aside=2).notes == ["2 earlier or other files were set aside"]


def test_an_attempt_to_read_tests_is_the_status_and_keeps_the_points():
    result = settled(Outcome("timed out", "in a cell", results=TESTS, reads=["'tests/q1.py'"]))
    assert (result.status, result.total) == ("read tests", 1)
    assert result.detail == "'tests/q1.py'; timed out: in a cell"


@pytest.mark.parametrize(
    ("name", "size", "status"), [("a.ipynb", 100, None), ("a.ipynb", 2_000_000, "oversized"), ("a.pdf", 1, "malformed")]
)
def test_a_file_that_is_too_large_or_no_notebook_is_not_opened(tmp_path, name, size, status):
    path = tmp_path / name
    path.write_bytes(b" " * size)
    outcome = unopened(Submission(path, frozenset(), False, (0, 0)), Policy("T1", max_megabytes=1))
    assert (outcome.status if outcome else None) == status


def test_a_report_shows_no_more_of_hidden_tests_than_what_they_test():
    tests = [*TESTS, a_test(passed=False, what="Halves.", message="AssertionError: 3, not 2")]
    page = reports.report("T1", settled(Outcome("ok", results=tests, claimed_id="'s01'")))
    assert "✗ Doubles. (hidden)" in page
    assert "the hidden message" not in page
    assert "AssertionError: 3, not 2" in page


def test_a_report_escapes_what_submissions_say():
    hostile = "<script>alert(1)</script>"
    outcome = Outcome(
        "ok", hostile, results=[a_test(passed=False, message=hostile)], errors=[hostile], claimed_id=hostile
    )
    page = reports.report("T1", settled(outcome, marks={"q3": Mark(1, hostile)}))
    assert "<script" not in page
    assert page.count("&lt;script&gt;") == 4


@pytest.mark.parametrize("status", MEANING)
def test_each_status_is_explained_to_the_student(status):
    page = reports.report("T1", settled(Outcome(status, "what exactly")))
    assert MEANING[status] in page
    assert ("what exactly" in page) == (status not in ("ok", "missing"))


def test_the_table_has_no_names_and_no_formulas():
    text = reports.grades([settled(), settled(Outcome("crashed", "=HYPERLINK(1)"), days_late=None), settled(MISSING)])
    rows = list(csv.DictReader(io.StringIO(text)))
    assert [(row["student_id"], row["status"], row["total"]) for row in rows] == [
        ("s01", "ok", "1"),
        ("s01", "crashed", "0"),
        ("s01", "missing", "0"),
    ]
    assert (rows[0]["q1"], rows[0]["q3"], rows[0]["unmarked"]) == ("1", "", "q3")
    assert (rows[1]["days_late"], rows[1]["detail"]) == ("unknown", "'=HYPERLINK(1)")
    assert "Ada" not in text


def test_the_summary_shows_hard_questions_and_whom_to_look_at():
    text = reports.summary(
        BUNDLE,
        [settled(), settled(Outcome("crashed", "in *cell* 3")), settled(MISSING)],
        ["Network: none."],
        ["who_ever.ipynb"],
    )
    assert "2 of 3 handed in" in text
    assert "| q1 | 3 | 17% | 1 |" in text
    assert "`aaaaaaaa` crashed: in \\*cell\\* 3" in text
    assert "- who\\_ever.ipynb" in text
    assert "- Network: none." in text


def written(folder: Path, results):
    (folder / "results").mkdir(parents=True)
    for result in results:
        (folder / "results" / f"{result.student.pseudonym}.json").write_text(json.dumps(as_record(result)))
    return folder


def test_changes_are_listed_student_by_student(tmp_path):
    other, gone = Student("s02", "B", "", "bbbbbbbb"), Student("s03", "C", "", "cccccccc")
    before = written(tmp_path / "before", [settled(), settle(gone, RAN, BUNDLE, POLICY)])
    now = [settled(marks={"q3": Mark(4)}, days_late=1), settle(other, RAN, BUNDLE, POLICY)]
    text = reports.changes(written(tmp_path / "now", now), before, {"aaaaaaaa", "bbbbbbbb"})
    assert "| `aaaaaaaa` | 1, ok | 4.3, ok | q3 – → 4, lost 0 → 0.7 |" in text
    assert "| `bbbbbbbb` | – | 1, ok | new on the roster |" in text
    assert "| `cccccccc` | 1, ok | – | left the roster |" in text
    assert reports.changes(before, before, {"aaaaaaaa", "cccccccc"}).endswith("None.\n")
