"""That an assignment, as it was made, is graded as it should be: its solution in full, its student version with 0."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from grading.bundles import AssignmentError, Bundle
from grading.isolation import find_isolation
from grading.limits import Limits
from grading.sandbox import Job, Outcome, Sandbox

SAMPLE_ID = "sample-student"  # the id that solutions carry


def prove(bundle: Bundle, built: Path, private: Path) -> str:
    """Grade both versions; returns what came out.

    Raises:
        AssignmentError: A test that the solution fails, or one that the untouched student version passes.
    """
    versions = [built / bundle.name / version / bundle.notebook for version in ("solution", "student")]
    jobs = [Job(path, bundle.name, SAMPLE_ID, bundle.tests) for path in versions]
    with Sandbox(find_isolation(), Limits(), [private, built]) as sandbox, ThreadPoolExecutor() as pool:
        solution, student = pool.map(sandbox.run, jobs, range(len(jobs)))
    failed = [
        f"{test['question']}: {test['what']}: {test['message']}" for test in solution.results if not test["passed"]
    ]
    if solution.status != "ok" or failed:
        raise AssignmentError(f"{bundle.name}: the solution is not right: {_say(solution)} {failed}")
    passed = [f"{test['question']}: {test['what']}" for test in student.results if test["passed"] and test["points"]]
    if solution.reads:
        raise AssignmentError(f"{bundle.name}: the solution reads what is hidden from submissions: {solution.reads}")
    if passed or student.status != "ok":
        raise AssignmentError(f"{bundle.name}: the untouched student version has points: {_say(student)} {passed}")
    code = sum(question.points for question in bundle.questions.values() if not question.manual)
    hidden = sum(question.hidden for question in bundle.questions.values())
    return (
        f"{bundle.points:g} points, {code:g} for code ({hidden:g} in hidden tests); the solution got {code:g} in "
        f"{solution.seconds:.0f} s, the untouched student version 0"
    )


def _say(outcome: Outcome) -> str:
    return f"{outcome.status}: {outcome.detail}" if outcome.detail else outcome.status
