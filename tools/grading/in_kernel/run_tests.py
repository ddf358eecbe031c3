"""Runs the tests of one question on the submission's names; executed in its kernel by driver.py, with `job` and `env`.

The source is an otter test file. Its decorator is stood in for: to import otter takes longer than most submissions do.
"""

import os
import signal
import sys
from types import ModuleType

from IPython.display import display


class test_case:  # noqa: N801 - otter's name
    """A test with its points, as otter's decorator of this name makes it."""

    def __init__(self, name=None, points=None, hidden=False, success_message=None, failure_message=None):
        self.name, self.points, self.hidden = name, points, hidden

    def __call__(self, function):
        self.function = function
        return self


def stand_in():
    """The modules that a test file imports its decorator from."""
    package, module = ModuleType("otter"), ModuleType("otter.test_files")
    package.test_files, module.test_case = module, test_case
    return {"otter": package, "otter.test_files": module}


def out_of_time(*_):
    """Ends a test that takes too long."""
    raise TimeoutError(f"took longer than {job['seconds']} s")


def outcome(case):
    """Whether a test passed, and what it said; no exception of the submission's gets past it."""
    signal.signal(signal.SIGALRM, out_of_time)
    signal.setitimer(signal.ITIMER_REAL, job["seconds"], 1)  # and again each second, where it is caught
    try:
        case.function(env)
    except BaseException as error:
        return False, f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
    return True, ""


def run_all():
    """A dictionary for each test of the question."""
    os.environ["ASSIGNMENT_STUDENT_ID"] = job["student_id"]
    replaced = {name: sys.modules.get(name) for name in stand_in()}
    sys.modules.update(stand_in())
    try:
        names = {"__name__": "hidden_tests"}
        exec(compile(job["source"], f"{job['question']}.py", "exec"), names)
    finally:
        for name, module in replaced.items():
            sys.modules.pop(name) if module is None else sys.modules.update({name: module})
    results = []
    for name, case in names.items():
        if isinstance(case, test_case):
            passed, message = outcome(case)
            what = case.name or (case.function.__doc__ or name).strip().splitlines()[0]
            entry = {"question": job["question"], "what": what, "points": case.points, "hidden": case.hidden}
            results.append(entry | {"passed": passed, "message": message[:2000]})
    return results


report = {"mark": job["mark"], "results": run_all(), "claimed_id": repr(env.get("STUDENT_ID"))[:100]}
display({"application/x-grading+json": report}, raw=True)
