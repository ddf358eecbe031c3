"""One submission, whatever it does, comes to a named end and leaves nothing behind."""

import os
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import psutil
import pytest

pytest.importorskip("otter", reason="otter-grader is not there: install the extra 'grade'")

from grading.isolation import Isolation
from grading.limits import Limits
from grading.sandbox import ROOT, Job, Sandbox

LIMITS = Limits(cell_seconds=6, test_seconds=2, wall_seconds=120, memory_gib=2, processes=80)
CASE = """\
@test_case(points={points})
def test_{name}(env):
    assert env["{name}"]() == 42


"""
NAMES = ("answer", "other", "ends", "loops", "recurs", "is_missing")
TESTS = {
    "q1": "from otter.test_files import test_case\n\n\n" + CASE.format(name="answer", points=2),
    "q2": "import os\nfrom otter.test_files import test_case\n\n\n"
    + "".join(CASE.format(name=name, points=1) for name in NAMES[1:])
    + "@test_case(points=1, hidden=True)\ndef test_id(env):\n"
    + '    assert os.environ["ASSIGNMENT_STUDENT_ID"] == "s01"\n',
}
ALL = [2, 1, 1, 1, 1, 1, 1]
GOOD = "import os, sys, time\nSTUDENT_ID = 's01'\ndef answer():\n    return 42\n"
GOOD += "other = ends = loops = recurs = is_missing = answer"
WORD = f"3600.{os.getpid()}"  # sleepers that the tests look for

FORGE = """\
import IPython.display
show = IPython.display.display
def forge(data, **options):
    for report in data.values():
        for test in report["results"]:
            test["passed"] = True
    show(data, **options)
IPython.display.display = forge
other = None"""
HOSTILE = {  # name: (cell, status, points)
    "endless loop": ("while True:\n    pass", "timed out", ALL),
    "20 GB": ("x = bytearray(20 << 30)", "out of memory", ALL),
    "3 GB, touched": ("x = b'x' * (3 << 30)\ntime.sleep(5)", "out of memory", []),
    "exit": ("os._exit(0)", "crashed", []),
    "exit when tested": ("def other():\n    os._exit(0)", "crashed", [2]),
    "fork bomb": (
        "for _ in range(300):\n    os.fork() or time.sleep(3600)",
        "too many processes",
        None,
    ),  # its cell or the whole: who is first
    "forged": (FORGE, "forged", ALL),
}
READS = [
    "open({path!r}).read()",
    "import pathlib\npathlib.Path({path!r}).read_text()",
    "os.listdir(os.path.dirname({path!r}))",
    "import shutil\nshutil.copy({path!r}, 'mine')",
    "os.system('cat {path}')",
    "import subprocess\nsubprocess.run(['cat', {path!r}])",
    "subprocess.run([sys.executable, '-c', 'import os; os.listdir(os.path.dirname(\"' + {path!r} + '\"))'])",
    "open('tests/q1.py')",
    "open('/autograder/source/tests/q1.py')",
]
BREAKING = """\
class Mute(Exception):
    def __str__(self):
        raise OSError
def other():
    raise Mute
def ends():
    raise SystemExit
def loops():
    while True:
        pass
def recurs():
    return recurs()
del is_missing"""
LOOKING = [
    "1 / 0",
    "found = [name for _, _, names in os.walk('.') for name in names]\nprint(found)",
    "assert os.path.expanduser('~') == os.path.join(os.getcwd(), 'home')\nopen(os.path.expanduser('~/x'), 'w')",
    f"open({str(ROOT / 'normlib' / '__init__.py')!r}, 'a')",  # changes nothing, where it is allowed
    "import socket\nsocket.create_connection(('127.0.0.1', 9), timeout=5)",
]
SLEEPER = f"import subprocess\nsubprocess.Popen(['setsid', 'sleep', '{WORD}'])"
STUBBORN = "import signal\nsignal.signal(signal.SIGINT, signal.SIG_IGN)\nwhile True:\n    pass"
COLAB = {"colab": {"provenance": []}, "kernelspec": {"name": "ir", "display_name": "R"}, "otter": None}


@pytest.fixture(scope="module")
def hidden(tmp_path_factory):
    """A module of hidden tests, in a folder of its own."""
    path = tmp_path_factory.mktemp("hidden") / "T1.py"
    path.write_text("the tests")
    return path


@pytest.fixture(scope="module")
def outcomes(isolation, notebook_of, tmp_path_factory, hidden):
    """What became of each submission; two run at a time."""
    folder = tmp_path_factory.mktemp("submissions")
    jobs = {name: ([cell], LIMITS, {}) for name, (cell, _, _) in HOSTILE.items()}
    jobs |= {
        "looking": (LOOKING, LIMITS, COLAB),
        "breaking": ([BREAKING], LIMITS, {"otter": {"assignment_name": "T2"}}),
        "reading": ([each.format(path=str(hidden)) for each in READS], LIMITS, {}),
        "stubborn": ([STUBBORN], replace(LIMITS, cell_seconds=1, wall_seconds=15), {}),
        "sleeper": ([SLEEPER], LIMITS, {}),
        "sleeper without namespaces": ([SLEEPER], LIMITS, {}),
    }

    def run(slot, name):
        cells, limits, metadata = jobs[name]
        weakest = Isolation((), root=False) if "without" in name else isolation
        path = notebook_of(folder / f"{slot}.ipynb", GOOD, *cells, **metadata)
        with Sandbox(weakest, limits, [hidden.parent]) as sandbox:
            outcome = sandbox.run(Job(path, "T1", "s01", TESTS), slot)
            assert list(sandbox.folder.iterdir()) == []
        assert not sandbox.folder.exists()
        return outcome

    with ThreadPoolExecutor(2) as pool:
        return dict(zip(jobs, pool.map(run, range(len(jobs)), jobs), strict=True))


def passed(outcome):
    return [test["points"] for test in outcome.results if test["passed"]]


def test_failing_cells_and_colab_s_metadata_cost_nothing(outcomes):
    outcome = outcomes["looking"]
    assert (outcome.status, passed(outcome), outcome.claimed_id) == ("ok", ALL, "'s01'")
    assert outcome.errors[0] == "ZeroDivisionError: division by zero"
    assert "ZeroDivisionError" in outcome.executed
    assert outcome.reads == []


def test_no_tests_lie_on_the_disk_while_a_submission_runs(outcomes):
    assert "submission.ipynb" in outcomes["looking"].executed
    assert not any(word in outcomes["looking"].executed for word in ("q1.py", "q2.py", "test_answer"))


def test_grading_which_submissions_can_import_holds_no_tests():
    """It is on their path with the rest of the course; what is hidden lies in other folders, which they find empty."""
    files = [path for path in (ROOT / "grading").rglob("*") if path.is_file() and path.suffix != ".pyc"]
    assert {path.suffix for path in files} == {".py", ".jinja"}  # no notebook, no archive of an autograder
    assert not any(re.search(r"(?m)^TESTS = ", path.read_text("utf-8")) for path in files)


def test_a_submission_has_a_home_of_its_own(outcomes):
    assert not any(error.startswith("AssertionError") for error in outcomes["looking"].errors)


def test_a_submission_cannot_change_the_course(outcomes, isolation):
    if not (isolation.namespaces or isolation.root):
        pytest.skip("this system makes no namespaces: submissions run as this user")
    assert any(error.startswith(("PermissionError", "OSError: [Errno 30]")) for error in outcomes["looking"].errors)


def test_there_is_no_network(outcomes, isolation):
    if not isolation.namespaces:
        pytest.skip("this system makes no namespaces: the network is not cut off")
    assert "Network is unreachable" in outcomes["looking"].errors[-1]


def test_tests_that_a_submission_breaks_cost_their_own_points(outcomes):
    results = dict(zip(NAMES, outcomes["breaking"].results, strict=False))
    said = {name: test["message"] for name, test in results.items() if not test["passed"]}
    assert said.pop("recurs").startswith("RecursionError: ")
    assert said == {
        "other": "no text: OSError",
        "ends": "SystemExit",
        "loops": "TimeoutError: took longer than 2 s",
        "is_missing": "the notebook does not define is_missing",
    }
    assert passed(outcomes["breaking"]) == [2, 1]


def test_a_notebook_of_another_assignment_is_named_and_graded(outcomes):
    assert outcomes["breaking"].status == "wrong assignment"
    assert "'T2'" in outcomes["breaking"].detail


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_code_comes_to_a_named_end(outcomes, name):
    _, status, points = HOSTILE[name]
    assert outcomes[name].status == status
    assert points in (passed(outcomes[name]), None)
    assert outcomes[name].detail


def test_code_that_cannot_be_interrupted_is_ended(outcomes):
    outcome = outcomes["stubborn"]
    assert (outcome.status, outcome.detail, outcome.results) == ("timed out", "15 s are allowed", [])


def test_each_attempt_to_read_tests_is_named(outcomes, hidden):
    outcome = outcomes["reading"]
    paths = [str(hidden), str(hidden.parent), "tests/q1.py", "/autograder/source/tests/q1.py"]
    assert [path for path in paths if repr(path) not in outcome.reads] == []
    assert (outcome.status, passed(outcome)) == ("ok", ALL)


@pytest.mark.parametrize("code", [each for each in READS if "{path" in each], ids=str)
def test_every_way_of_reading_is_seen(code, hidden, tmp_path):
    """By the hook alone, in a process of its own, without the seconds that a notebook takes."""
    hook = ROOT / "grading" / "in_kernel"
    environment = {"PYTHONPATH": str(hook), "GRADING_GUARDED": str(hidden.parent), "PATH": os.environ["PATH"]}
    source = "import os, subprocess, sys\n" + code.format(path=str(hidden))
    done = subprocess.run([sys.executable, "-c", source], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert f"read tests: {str(hidden.parent)[:20]!r}"[:-1] in done.stderr


def test_what_is_hidden_cannot_be_read(outcomes, isolation):
    if not isolation.namespaces:
        pytest.skip("this system makes no namespaces: files are not hidden, attempts to read them are named")
    assert all(error.startswith(("FileNotFoundError", "PermissionError")) for error in outcomes["reading"].errors)
    assert "the tests" not in outcomes["reading"].executed


@pytest.mark.parametrize("name", ["sleeper", "sleeper without namespaces"])
def test_processes_that_left_their_session_are_ended(outcomes, name):
    assert (outcomes[name].status, outcomes[name].errors) == ("ok", [])
    lines = []
    for process in psutil.process_iter():
        try:
            lines.append(process.cmdline())
        except psutil.Error:
            continue
    assert ["sleep", WORD] not in lines
