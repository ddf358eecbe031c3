"""A class whose files are not what they should be: each fault is told with its file, before anything is run."""

import io
import json
import os
import shutil
import zipfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

pytest.importorskip("otter", reason="otter-grader is not there: install the extra 'grade'")

from grading import __main__ as command
from grading import batch, reports, roster
from grading.bundles import AssignmentError, read_bundle
from grading.sandbox import Outcome

TOY = Path(__file__).parent / "toy"
QUICK = {"deadline": None, "suppress_health_check": [HealthCheck.function_scoped_fixture]}
FILES = {
    "roster.csv": "student_id,name,lms_id\nt01,Ada Fern,4701\nt02,Bela Möss,4702\n",
    "times.csv": "student_id,submitted\nt01,2026-11-20T12:00:00Z\nt02,2026-11-22T12:00:00Z\n",
    "rubric.csv": "student_id,question,points,comment\nt01,q3,3,fine\n",
    "policy.toml": 'assignment = "T1"\ndue = 2026-11-20T23:59:00Z\ntimes = "times.csv"\nrubric = "rubric.csv"\n',
}


class Unused:
    """Stands for a sandbox and for the isolation of it: nothing is run."""

    def __init__(self, *arguments):
        pass

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        pass

    def run(self, job, slot):
        return Outcome("ok")

    def sentences(self):
        return []


@pytest.fixture
def the_class(toy, tmp_path, monkeypatch):
    """A folder with the files of a class of two, one of whom handed something in; submissions are not run."""
    monkeypatch.setattr(batch, "Sandbox", Unused)
    monkeypatch.setattr(batch, "find_isolation", Unused)
    for name, text in FILES.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    (tmp_path / "submissions").mkdir()
    (tmp_path / "submissions" / "fernada_4701_90001_T1_toy.ipynb").write_text("{}")
    shutil.copytree(toy[1], tmp_path / "built")
    return tmp_path


def grade(folder, capsys) -> tuple[int, str]:
    """Status and errors of grading the class anew."""
    shutil.rmtree(folder / "graded", ignore_errors=True)
    files = [str(folder / name) for name in ("submissions", "roster.csv", "policy.toml")]
    places = ["--built", str(folder / "built"), "--graded", str(folder / "graded")]
    capsys.readouterr()
    code = command.main(["grade", *files, *places])
    said = capsys.readouterr().err
    assert "Traceback" not in said
    return code, said


def test_the_class_as_it_is_can_be_graded(the_class, capsys):
    assert grade(the_class, capsys)[0] == 0


@settings(max_examples=80, **QUICK)
@given(st.sampled_from(sorted(FILES)), st.integers(0, 80), st.binary(min_size=1, max_size=6))
@example("roster.csv", 0, b"\xff\xfe")
def test_damaged_lists_are_used_or_named(the_class, capsys, name, place, piece):
    content = FILES[name].encode()
    (the_class / name).write_bytes(content[:place] + piece + content[place + len(piece) :])
    code, said = grade(the_class, capsys)
    (the_class / name).write_bytes(content)
    assert code == 0 or any(file in said for file in FILES) or "run make assignments" in said
    assert code == 0 or not list(the_class.glob("graded/*/*"))


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("policy.toml", 'assignment = "../T1"'),
        ("policy.toml", "a = " + "[" * 100_000),
        *(
            ("policy.toml", f'assignment = "T1"\n{line}\n')
            for line in (
                *(
                    "late = 3",
                    "limits = []",
                    "extensions = 3",
                    "extensions = 'x'",
                    "[extensions]\nt9 = 2026-11-22T23:59:00Z",
                    "times = 5",
                    "rubric = []",
                    "[[late]]",
                    "due = 2026-11-20",
                ),
                *(
                    "max_megabytes = inf",
                    "max_megabytes = nan",
                    "[late]\ngrace_minutes = 1e308",
                    "[limits]\nmemory_gib = inf",
                ),
                *(
                    "due = 2026-11-20T23:59:00",
                    "[extensions]\nt01 = 5",
                    "[extensions]\nt9 = 2026-11-22T23:59:00Z",
                    'times = "../../nothing"',
                    "parallel = -1",
                ),
            )
        ),
        ("roster.csv", "student_id,name\n" + "x" * 200_000 + ",b\n"),
        ("roster.csv", ""),
        ("roster.csv", "student_id,name\n,x\n"),
        ("times.csv", "student_id,submitted\nt01,yesterday\n"),
        ("times.csv", FILES["times.csv"] + "t01,2026-11-19T12:00:00Z\n"),
        ("rubric.csv", FILES["rubric.csv"] + "t01,q3,2,other\n"),
        ("rubric.csv", "student_id,question,points\nt01,q3,nan\n"),
        ("rubric.csv", "student_id,question,points\nt01,__class__,1\n"),
    ],
)
def test_a_list_or_policy_of_another_shape_is_named(the_class, capsys, name, text):
    (the_class / name).write_text(text, newline="")
    code, said = grade(the_class, capsys)
    assert (code, name in said) == (1, True)
    assert not list(the_class.glob("graded/*/*"))


def bundle_with(**changes) -> bytes:
    """An autograder's zip with another manifest."""
    questions = {"q1": {"points": 3}}
    manifest = {"name": "T1", "notebook": "T1_toy.ipynb", "questions": questions, **changes}
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as made:
        made.writestr("assignment.json", json.dumps({key: value for key, value in manifest.items() if value != "gone"}))
        made.writestr("tests/q1.py", "x = 1")
        made.writestr("../../evil.py", "x = 1")
    return packed.getvalue()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"PK\x05\x06" + bytes(18),
        bundle_with()[:-30],
        *(bundle_with(name=name) for name in ("gone", None, 5, "../../evil", "/evil", "")),
        *(bundle_with(notebook=name) for name in ("gone", 5, "../evil.ipynb", "/etc/passwd", "a/b.ipynb")),
        *(bundle_with(questions=value) for value in ("gone", 5, [], {"q9": {}}, {"q1": 5}, {"q1": {"points": "x"}})),
        *(bundle_with(questions=value) for value in ({"q1": {"zzz": 1}}, {"../x": {"points": 1, "manual": True}})),
    ],
)
def test_a_bundle_that_is_none_is_named_and_nothing_is_unpacked(the_class, capsys, content):
    (the_class / "built" / "T1" / "T1-autograder.zip").write_bytes(content)
    code, said = grade(the_class, capsys)
    assert (code, "T1-autograder.zip is not what make assignments wrote" in said) == (1, True)
    assert not list(the_class.parent.rglob("evil*"))


@settings(max_examples=60, **QUICK)
@given(st.data())
def test_a_damaged_bundle_is_read_or_named(toy, tmp_path, draw):
    content = bytearray((toy[1] / "T1" / "T1-autograder.zip").read_bytes())
    for _ in range(3):
        content[draw.draw(st.integers(0, len(content) - 1))] = draw.draw(st.integers(0, 255))
    path = tmp_path / "T1-autograder.zip"
    path.write_bytes(content[: draw.draw(st.integers(len(content) // 2, len(content)))])
    try:
        assert read_bundle(path).name
    except AssignmentError as error:
        message = str(error)
    else:
        message = path.name
    assert path.name in message


def test_a_zip_of_submissions_is_to_be_unpacked_first(the_class, capsys):
    shutil.rmtree(the_class / "submissions")
    (the_class / "submissions").write_bytes(b"PK")
    code, said = grade(the_class, capsys)
    assert (code, "is no folder: unpack what the learning platform gives" in said) == (1, True)


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"scores": 5}', '{"scores": {"q1": 5}, "total": 1, "lost": 0}', "\ud800"]
)
def test_a_damaged_record_of_the_last_time_is_named_before_anything_is_run(tmp_path, text):
    path = tmp_path / "2026-01-01T00-00-00" / "results" / "aaaaaaaa.json"
    path.parent.mkdir(parents=True)
    (path.parents[1] / "grades.csv").touch()
    path.write_text(text, errors="surrogatepass")
    with pytest.raises(ValueError, match=r"aaaaaaaa\.json is not as it was written: .*; move its folder away"):
        reports.latest(tmp_path)


def test_a_key_that_cannot_be_written_leaves_none_and_an_empty_one_is_refused(tmp_path, monkeypatch):
    def full(handle, mode):
        os.close(handle)
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fdopen", full)
        with pytest.raises(OSError, match="No space"):
            roster.pseudonym_key(tmp_path)
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "pseudonym.key").touch()
    with pytest.raises(roster.ClassError, match=r"pseudonym\.key holds no key"):
        roster.pseudonym_key(tmp_path)


def test_a_sample_class_removes_no_other_folder(the_class, capsys):
    words = ["sample-class", "--assignment", "T1", "--built", str(the_class / "built"), "--folder"]
    before = sorted(the_class.rglob("*"))
    for folder in (the_class, the_class / "submissions"):
        assert command.main([*words, str(folder)]) == 1
    assert "is no sample class, and would be removed" in capsys.readouterr().err
    assert sorted(the_class.rglob("*")) == before
    for _ in range(2):  # its own folder is made anew
        assert command.main([*words, str(the_class / "sample")]) == 0


# --- masters and hidden tests ---


@pytest.fixture
def masters(tmp_path, monkeypatch):
    """A folder of one master notebook, and one of its hidden tests."""
    monkeypatch.setattr(command, "ASSIGNMENTS", tmp_path)
    shutil.copy(TOY / "T1_toy.ipynb", tmp_path)
    shutil.copytree(TOY / "hidden", tmp_path / "hidden")
    return tmp_path


def build(masters, capsys) -> str:
    places = ["--private", str(masters / "hidden"), "--built", str(masters / "built")]
    assert command.main(["build", *places]) == 1
    assert not (masters / "built").exists()
    return capsys.readouterr().err


@pytest.mark.parametrize(
    "text",
    [
        "",
        "5",
        "[]",
        "{}",
        '{"cells": 5}',
        '{"cells": [5], "nbformat": 4}',
        '{"nbformat": "x"}',
        "\ud800",
        "[" * 100_000,
    ],
)
def test_a_master_that_is_no_notebook_is_named(masters, capsys, text):
    (masters / "T1_toy.ipynb").write_text(text, errors="surrogatepass")
    assert "T1_toy.ipynb is no notebook: " in build(masters, capsys)


@pytest.mark.parametrize(
    ("mark", "cell"),
    [
        *(("# ASSIGNMENT CONFIG", text) for text in ("name: [", "- 1", "5", "!!bool x", "name: {a: 1}", "name: ../x")),
        *(
            ("# BEGIN QUESTION", text)
            for text in ("name: [", "- 1", "", "name: [q1]", "name: ../q1", "name: q1\nmanual: true")
        ),
    ],
)
def test_a_cell_of_settings_in_another_shape_is_named(masters, capsys, mark, cell):
    path = masters / "T1_toy.ipynb"
    notebook = json.loads(path.read_text())
    for entry in notebook["cells"]:
        if entry["cell_type"] == "raw" and "".join(entry["source"]).startswith(mark):
            entry["source"] = f"{mark}\n{cell}"
    path.write_text(json.dumps(notebook))
    assert "T1_toy.ipynb" in build(masters, capsys)


@pytest.mark.parametrize(
    "code",
    [
        *("1/0", "def", "\0", "import nothing_of_this_name", "raise SystemExit(3)", "TESTS = 5", "TESTS = {1: []}"),
        *("TESTS = {'q1': 5}", "TESTS = {'q1': [5]}", "TESTS = {'q1': [(5, 1)]}", "TESTS = {'q1': [(len, 'x')]}"),
    ],
)
def test_hidden_tests_that_do_not_run_or_are_none_are_named(masters, capsys, code):
    (masters / "hidden" / "T1.py").write_text(code)
    assert "T1.py" in build(masters, capsys)
