"""Roster, rules and file names: who handed in what, when, and what that costs."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("otter", reason="otter-grader is not there: install the extra 'grade'")

from grading.policy import Late, Policy, PolicyError, read_policy
from grading.roster import ClassError, Student, pseudonym_key, read_roster, read_rubric, read_times
from grading.submissions import match, parse, read_submissions

DUE = datetime(2026, 11, 20, 23, 59, tzinfo=UTC)
CLASS = [
    Student("s01", "José Müller-Lüdenscheidt", "4701", "aaaaaaaa"),
    Student("s02", "Jane Doe", "4702", "bbbbbbbb"),
    Student("s03", "John Roe", "4703", "cccccccc"),
    Student("s04", "John Roe", "4704", "dddddddd"),
    Student("s_05", "Wei Chen", "", "eeeeeeee"),
]


def file(tmp_path, name, text=""):
    path = tmp_path / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("name", "owner"),
    [
        ("doejane_4702_90210_A1_gradients.ipynb", "s02"),  # Canvas
        ("doejane_LATE_4702_90210_A1_gradients-2.ipynb", "s02"),
        ("roejohn_4704_90210_A1.ipynb", "s04"),  # two of one name: the number tells them apart
        ("chenwei_99_90210_A1.ipynb", "s_05"),  # a number that the roster does not have
        ("José Müller-Lüdenscheidt_1234567_assignsubmission_file_A1.ipynb", "s01"),  # Moodle
        ("Jane Doe_1234567_assignsubmission_file_/A1.ipynb", "s02"),
        ("Jane Doe_4702_assignsubmission_file_/A1.ipynb", "s02"),
        ("s02.ipynb", "s02"),
        ("s02_A1.ipynb", "s02"),
        ("S_05.ipynb", "s_05"),
        ("s03/A1.ipynb", "s03"),
        ("John Roe_1234567_assignsubmission_file_A1.ipynb", None),  # two of one name, a number of neither
        ("doejane_4703_90210_A1.ipynb", None),  # name and number of two students
        ("somebody_1_2_A1.ipynb", None),
    ],
)
def test_names_of_files_lead_to_students(tmp_path, name, owner):
    file(tmp_path, name)
    found = match(read_submissions(tmp_path), CLASS)
    assert list(found.chosen) == ([owner] if owner else [])
    assert len(found.unmatched) == (0 if owner else 1)


def test_the_last_try_counts_and_a_notebook_goes_before_other_files(tmp_path):
    for name in ("A1.ipynb", "A1-1.ipynb", "A1-10.ipynb", "A1-2.ipynb", "A1-11.pdf"):
        file(tmp_path, f"doejane_4702_90210_{name}")
    found = match(read_submissions(tmp_path), CLASS)
    assert found.chosen["s02"].path.name == "doejane_4702_90210_A1-10.ipynb"
    assert len(found.set_aside["s02"]) == 4


def test_links_and_hidden_files_are_left_alone(tmp_path):
    target = file(tmp_path, "outside/secret.ipynb")
    folder = tmp_path / "submissions"
    for name in ("s01.ipynb", ".DS_Store", "__MACOSX/s02.ipynb", ".ipynb_checkpoints/s03.ipynb"):
        file(folder, name)
    (folder / "s04.ipynb").symlink_to(target)
    assert [each.path.name for each in read_submissions(folder)] == ["s01.ipynb"]


@given(st.text(min_size=1, max_size=60).filter(lambda name: "/" not in name and name not in (".", "..")))
def test_no_name_of_a_file_is_too_strange(name):
    assert parse(Path("/submissions") / name, Path("/submissions")).who


def test_canvas_marks_late_files(tmp_path):
    assert parse(tmp_path / "doejane_LATE_4702_90210_A1.ipynb", tmp_path).late
    assert not parse(tmp_path / "latejane_4702_90210_LATE.ipynb", tmp_path).late


def test_the_roster_is_read_as_spreadsheets_write_it(tmp_path):
    path = file(
        tmp_path, "roster.csv", "\ufeffname,student_id,lms_id,e-mail\r\n Jane Doe ,s02,4702,x\r\nJohn Roe,s03,,y\r\n"
    )
    students = read_roster(path, b"key")
    assert [(each.student_id, each.name, each.lms_id) for each in students] == [
        ("s02", "Jane Doe", "4702"),
        ("s03", "John Roe", ""),
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("id,name\ns1,A\n", r"no column \['student_id'\]"),
        ("student_id,name\ns1,A\ns1,B\n", r"student_id is empty or there twice: \['s1'\]"),
        ("student_id,name\n,A\n", "student_id is empty"),
        ("student_id,name,lms_id\ns1,A,7\ns2,B,7\n", r"lms_id is empty or there twice: \['7'\]"),
    ],
)
def test_faults_of_the_roster_are_named(tmp_path, text, message):
    with pytest.raises(ClassError, match=message):
        read_roster(file(tmp_path, "roster.csv", text), b"key")


def test_pseudonyms_stay_and_tell_nothing(tmp_path):
    roster = file(tmp_path, "roster.csv", "student_id,name\ns1,A\ns2,B\n")
    key = pseudonym_key(tmp_path / "graded")
    assert pseudonym_key(tmp_path / "graded") == key
    assert (tmp_path / "graded" / "pseudonym.key").stat().st_mode & 0o077 == 0
    first, other = ({each.pseudonym for each in read_roster(roster, each)} for each in (key, b"another key"))
    assert len(first) == 2
    assert not first & other


def test_times_need_their_offset_and_ids_a_place_on_the_roster(tmp_path):
    good = file(tmp_path, "t.csv", "student_id,submitted\ns02,2026-11-20T23:00:00+01:00\n")
    assert read_times(good, CLASS) == {"s02": datetime(2026, 11, 20, 22, 0, tzinfo=UTC)}
    with pytest.raises(ClassError, match="no offset"):
        read_times(file(tmp_path, "t.csv", "student_id,submitted\ns02,2026-11-20T23:00:00\n"), CLASS)
    with pytest.raises(ClassError, match=r"\['s99'\] are not on the roster"):
        read_times(file(tmp_path, "t.csv", "student_id,submitted\ns99,2026-11-20T23:00:00Z\n"), CLASS)


def test_rubric_points_are_within_the_question(tmp_path):
    path = file(tmp_path, "r.csv", "student_id,question,points,comment\ns02,q3,2.5,well argued\n")
    mark = read_rubric(path, CLASS, {"q3": 4})["s02"]["q3"]
    assert (mark.points, mark.comment) == (2.5, "well argued")
    for row in ("s02,q3,5", "s02,q3,-1", "s02,q1,1", "s02,q3,many", "s02,q3,nan"):
        with pytest.raises(ClassError, match="s02"):
            read_rubric(file(tmp_path, "r.csv", f"student_id,question,points\n{row}\n"), CLASS, {"q3": 4})


@given(minutes=st.integers(-5000, 50000), grace=st.integers(0, 120))
def test_a_day_is_late_as_soon_as_it_begins(minutes, grace):
    policy = Policy("A1", due=DUE, late=Late(grace_minutes=grace))
    days = policy.days_late("s01", DUE + timedelta(minutes=minutes))
    over = minutes - grace
    assert days == next(day for day in range(100) if over <= day * 24 * 60)


def test_an_extension_is_the_student_s_own_deadline():
    policy = Policy("A1", due=DUE, extensions={"s02": DUE + timedelta(days=2)})
    submitted = DUE + timedelta(hours=30)
    assert (policy.days_late("s01", submitted), policy.days_late("s02", submitted)) == (2, 0)
    assert Policy("A1").days_late("s01", submitted) == 0


@pytest.mark.parametrize(("days", "lost"), [(0, 0), (1, 2), (3, 6), (4, 20)])
def test_each_day_costs_its_share_and_the_last_one_all(days, lost):
    assert Policy("A1", late=Late(lost_per_day=0.1, days=3)).lost(days, 20) == pytest.approx(lost)


def test_two_rows_for_one_student_are_named(tmp_path):
    times = "student_id,submitted\ns02,2026-11-20T23:00:00Z\ns01,2026-11-20T23:00:00Z\ns02,2026-11-21T23:00:00Z\n"
    with pytest.raises(ClassError, match=r"student_id are there twice: \['s02'\]"):
        read_times(file(tmp_path, "t.csv", times), CLASS)
    marks = "student_id,question,points\ns02,q3,1\ns02,q4,1\n"
    assert len(read_rubric(file(tmp_path, "r.csv", marks), CLASS, {"q3": 4, "q4": 4})["s02"]) == 2
    with pytest.raises(ClassError, match=r"student_id and question are there twice: \['s02 q3'\]"):
        read_rubric(file(tmp_path, "r.csv", marks + "s02,q3,4\n"), CLASS, {"q3": 4, "q4": 4})


def test_a_policy_is_read(tmp_path):
    file(tmp_path, "times.csv", "student_id,submitted\n")
    path = file(
        tmp_path,
        "policy.toml",
        'assignment = "A1"\ndue = 2026-11-20T23:59:00Z\ntimes = "times.csv"\nmax_megabytes = 5\n'
        "[extensions]\ns02 = 2026-11-22T23:59:00Z\n[late]\nlost_per_day = 0.25\n[limits]\nwall_seconds = 60\n",
    )
    policy = read_policy(path)
    assert (policy.due, policy.times, policy.late.lost_per_day) == (DUE, tmp_path / "times.csv", 0.25)
    assert (policy.limits.wall_seconds, policy.limits.memory_gib) == (60, 4)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "lacks 'assignment'"),
        ("assignment = 1", "assignment is 1, expected str"),
        ('assignment = "A1"\ndeadline = 1', r"the policy has \['deadline'\], known are"),
        ('assignment = "A1"\ndue = 2026-11-20T23:59:00', "due is .* expected a time with its offset"),
        ('assignment = "A1"\ndue = "tomorrow"', "due is tomorrow, expected a time"),
        ('assignment = "A1"\n[extensions]\ns1 = 2026-11-20', "s1 is 2026-11-20, expected a time"),
        ('assignment = "A1"\n[late]\nper_day = 1', r"\[late\] has \['per_day'\]"),
        ('assignment = "A1"\n[late]\nlost_per_day = "10 %"', "lost_per_day is '10 %', expected float"),
        ('assignment = "A1"\n[limits]\nprocesses = -1', "processes is -1, expected 0 to 1,000,000,000"),
        ('assignment = "A1"\nrubric = "none.csv"', "rubric is 'none.csv', but .* is no file"),
        ("assignment = ", "policy.toml: "),
    ],
)
def test_faults_of_a_policy_are_named(tmp_path, text, message):
    with pytest.raises(PolicyError, match=message):
        read_policy(file(tmp_path, "policy.toml", text))
