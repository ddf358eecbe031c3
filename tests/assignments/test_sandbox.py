"""One submission, whatever it does, comes to a named end and leaves nothing behind."""

import os
import time
from dataclasses import replace

import psutil
import pytest

pytest.importorskip("otter", reason="otter-grader is not there: install the extra 'grade'")

from grading.isolation import Isolation
from grading.sandbox import ROOT, Job, Limits, Sandbox

LIMITS = Limits(cell_seconds=4, test_seconds=2, wall_seconds=90, memory_gib=2, processes=80)
TESTS = {
    "q1": """\
from otter.test_files import test_case


@test_case(points=2)
def test_answer(env):
    assert env["answer"]() == 42


@test_case(points=1)
def test_other(env):
    assert env["other"] == 1
""",
    "q2": """\
import os
from otter.test_files import test_case


@test_case(points=1, hidden=True)
def test_id(env):
    assert os.environ["ASSIGNMENT_STUDENT_ID"] == "s01"
""",
}
GOOD = "STUDENT_ID = 's01'\nother = 1\ndef answer():\n    return 42"


@pytest.fixture(scope="module")
def run(isolation, notebook_of, tmp_path_factory):
    """Runs a notebook with these cells after a good first one."""
    folder = tmp_path_factory.mktemp("submission")
    hidden = tmp_path_factory.mktemp("hidden")
    (hidden / "T1.py").write_text("the tests")

    def run(*sources, limits=LIMITS, isolation=isolation, **metadata):
        path = notebook_of(folder / "notebook.ipynb", GOOD, *sources, **metadata)
        with Sandbox(isolation, limits, [hidden]) as sandbox:
            outcome = sandbox.run(Job(path, "T1", "s01", TESTS), 0)
            assert list(sandbox.folder.iterdir()) == []
        assert not sandbox.folder.exists()
        return outcome

    run.hidden = hidden / "T1.py"
    return run


def passed(outcome):
    return [test["points"] for test in outcome.results if test["passed"]]


def test_a_good_submission_gets_its_points_and_a_failing_cell_costs_no_other(run):
    outcome = run("1 / 0", "x = 1")
    assert (outcome.status, passed(outcome), outcome.claimed_id) == ("ok", [2, 1, 1], "'s01'")
    assert outcome.errors == ["ZeroDivisionError: division by zero"]
    assert "ZeroDivisionError" in outcome.executed
    assert outcome.reads == []


def test_colab_s_metadata_make_no_difference(run):
    outcome = run(colab={"provenance": []}, kernelspec={"name": "ir", "display_name": "R"}, otter=None)
    assert (outcome.status, passed(outcome)) == ("ok", [2, 1, 1])


def test_a_notebook_of_another_assignment_is_named_and_graded(run):
    outcome = run(otter={"assignment_name": "T2"})
    assert (outcome.status, passed(outcome)) == ("wrong assignment", [2, 1, 1])


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("def answer():\n    raise SystemExit", "SystemExit"),
        ("def answer():\n    while True:\n        pass", "TimeoutError: took longer than 2 s"),
        ("def answer():\n    return answer()", "RecursionError: "),
        ("del answer", "KeyError: 'answer'"),
    ],
)
def test_a_test_that_a_submission_breaks_costs_its_own_points(run, code, message):
    outcome = run(code)
    assert (outcome.status, passed(outcome)) == ("ok", [1, 1])
    assert outcome.results[0]["message"].startswith(message)


@pytest.mark.parametrize(
    ("code", "status", "points"),
    [
        ("while True:\n    pass", "timed out", [2, 1, 1]),
        ("x = bytearray(20 << 30)", "out of memory", [2, 1, 1]),
        ("x = [bytearray(os.urandom(1 << 20)) * 64 for _ in range(160)]", "out of memory", []),
        ("os._exit(0)", "crashed", []),
        ("os.kill(os.getppid(), 9)", "crashed", []),
        ("import ctypes\nctypes.string_at(0)", "crashed", []),
        ("for _ in range(300):\n    os.fork() or time.sleep(3600)", "too many processes", []),
        ("def answer():\n    os._exit(0)", "crashed", []),
    ],
)
def test_hostile_code_comes_to_a_named_end(run, code, status, points):
    outcome = run(f"import os, time\n{code}")
    assert (outcome.status, passed(outcome)) == (status, points)
    assert outcome.detail


def test_code_that_cannot_be_interrupted_is_ended(run):
    code = "import signal\nsignal.signal(signal.SIGINT, signal.SIG_IGN)\nwhile True:\n    pass"
    outcome = run(code, limits=replace(LIMITS, cell_seconds=1, wall_seconds=12))
    assert (outcome.status, outcome.detail, outcome.results) == ("timed out", "12 s are allowed", [])


def test_tests_that_pass_whatever_happens_are_named_forged(run):
    code = "import IPython.display\nshow = IPython.display.display\ndef forge(data, **options):\n"
    code += (
        "    for report in data.values():\n        for test in report['results']:\n            test['passed'] = True\n"
    )
    code += "    show(data, **options)\nIPython.display.display = forge\nother = 0"
    outcome = run(code)
    assert outcome.status == "forged"


def test_no_tests_lie_on_the_disk_while_a_submission_runs(run):
    code = (
        "import os\nfound = [os.path.join(*each[:1], name) for each in os.walk('.') for name in each[2]]\nprint(found)"
    )
    outcome = run(code)
    assert "submission.ipynb" in outcome.executed
    assert "test_answer" not in outcome.executed
    assert not any(f"{question}.py" in outcome.executed for question in TESTS)


@pytest.mark.parametrize(
    "code",
    [
        "open({path!r}).read()",
        "import pathlib\npathlib.Path({path!r}).read_text()",
        "import os\nos.listdir(os.path.dirname({path!r}))",
        "import shutil\nshutil.copy({path!r}, 'mine')",
        "import os\nos.system('cat {path}')",
        "import subprocess\nsubprocess.run(['cat', {path!r}])",
        "import subprocess, sys\nsubprocess.run([sys.executable, '-c', 'open(\"' + {path!r} + '\")'])",
        "def answer():\n    open({path!r})\n    return 42",
        "open('tests/q1.py')",
        "open('/autograder/source/tests/q1.py')",
    ],
)
def test_an_attempt_to_read_tests_is_named(run, code):
    outcome = run(code.format(path=str(run.hidden)))
    assert outcome.reads
    assert outcome.status == "ok"


def test_what_is_hidden_cannot_be_read(run, isolation):
    if not isolation.namespaces:
        pytest.skip("this system makes no namespaces: files are not hidden, attempts to read them are named")
    assert "FileNotFoundError" in run(f"open({str(run.hidden)!r})").errors[0]


def test_the_home_folder_is_a_temporary_one(run):
    outcome = run(
        "import os\nassert os.path.expanduser('~') == os.path.join(os.getcwd(), 'home')\nopen(os.path.expanduser('~/x'), 'w')"
    )
    assert outcome.errors == []


def test_there_is_no_network(run, isolation):
    if not isolation.namespaces:
        pytest.skip("this system makes no namespaces: the network is not cut off")
    outcome = run("import socket\nsocket.create_connection(('127.0.0.1', 9), timeout=5)")
    assert "Network is unreachable" in outcome.errors[0]


def test_a_submission_is_not_root_and_cannot_change_the_course(run):
    code = f"import os\nprint('uid', os.getuid())\nopen({str(ROOT / 'normlib' / 'forged.py')!r}, 'w')"
    outcome = run(code)
    assert not (ROOT / "normlib" / "forged.py").exists()
    assert outcome.errors[0].startswith(("PermissionError", "OSError"))


def processes_with(word):
    found = []
    for process in psutil.process_iter():
        try:
            found += [process.pid] if word in " ".join(process.cmdline()) else []
        except psutil.Error:
            continue
    return found


@pytest.mark.parametrize("namespaces", [True, False])
def test_processes_that_left_their_session_are_ended(run, isolation, namespaces):
    weakest = isolation if namespaces else Isolation((), root=False)
    word = f"3600.{os.getpid()}"
    outcome = run(f"import subprocess\nprint(subprocess.Popen(['setsid', 'sleep', '{word}']).pid)", isolation=weakest)
    time.sleep(0.1)
    assert (outcome.status, outcome.errors) == ("ok", [])
    assert processes_with(f"sleep {word}") == []
