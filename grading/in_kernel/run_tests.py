"""Runs the tests of one question on the submission's names: driver.py sends this file into the kernel, and a call.

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
        """Decorate."""
        self.function = function
        return self


def read_cases(source, path):
    """The tests in an otter test file, by the names of their functions."""
    package, module = ModuleType("otter"), ModuleType("otter.test_files")
    package.test_files, module.test_case = module, test_case
    stand_in = {"otter": package, "otter.test_files": module}
    replaced = {name: sys.modules[name] for name in stand_in if name in sys.modules}
    sys.modules.update(stand_in)
    try:
        names = {"__name__": "hidden_tests"}
        exec(compile(source, path, "exec"), names)
    finally:
        for name in stand_in:
            del sys.modules[name]
        sys.modules.update(replaced)
    return {name: case for name, case in names.items() if isinstance(case, test_case)}


def text(write, thing):
    """What a function writes of a thing of the submission's, which may refuse to be written."""
    try:
        return write(thing)
    except BaseException as error:
        return f"no text: {type(error).__name__}"


def outcome(case, env, seconds):
    """Whether a test passed, and what it said; no exception of the submission's gets past it."""

    def out_of_time(*_):
        raise TimeoutError(f"took longer than {seconds:g} s")

    def said(error):
        missing = [each for each in error.args if type(each) is str and each not in env]
        if isinstance(error, KeyError) and missing:
            return f"the notebook does not define {missing[0]}"
        return f"{type(error).__name__}: {error}".removesuffix(": ")

    failed = None
    signal.signal(signal.SIGALRM, out_of_time)
    signal.setitimer(signal.ITIMER_REAL, seconds, 1)  # and again each second, where it is caught
    try:
        case.function(env)
    except BaseException as error:
        failed = error
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
    return failed is None, "" if failed is None else text(said, failed)


def run_tests(job, env):
    """Show a dictionary for each test of the question, as data that only the driver looks at."""
    os.environ["ASSIGNMENT_STUDENT_ID"] = job["student_id"]
    results = []
    for name, case in read_cases(job["source"], f"{job['question']}.py").items():
        passed, message = outcome(case, env, job["seconds"])
        what = case.name or (case.function.__doc__ or name).strip().splitlines()[0]
        entry = {"question": job["question"], "what": what, "points": case.points, "hidden": case.hidden}
        results.append(entry | {"passed": passed, "message": message[:2000]})
    report = {"mark": job["mark"], "results": results, "claimed_id": text(repr, env.get("STUDENT_ID"))[:100]}
    display({"application/x-grading+json": report}, raw=True)
