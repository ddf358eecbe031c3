"""What a student gets: from what became of the submission, the rules and a person's marks to points."""

import ast
from collections.abc import Mapping
from dataclasses import dataclass, field

from grading.bundles import Bundle
from grading.policy import Policy
from grading.roster import Mark, Student
from grading.sandbox import Outcome
from grading.submissions import Submission

MISSING = Outcome("missing", "nothing was handed in")
MEANING = {
    "ok": "The notebook ran.",
    "missing": "Nothing was handed in.",
    "stopped": "Grading was interrupted before this submission had run.",
    "oversized": "The file is too large and was not opened. Clear the outputs and hand in again.",
    "malformed": "The file is not a notebook that can be read.",
    "wrong assignment": "The notebook is that of another assignment.",
    "crashed": "Python ended while the notebook ran; what had not been tested by then got no points.",
    "timed out": "The notebook, or a cell of it, ran too long and was stopped.",
    "out of memory": "The notebook, or a cell of it, needed too much memory and was stopped.",
    "too many processes": "The notebook started too many processes and was stopped.",
    "forged": "Results of tests were tampered with. A person decides on these points.",
    "read tests": "The notebook tried to read files that are not for it. A person decides on these points.",
    "failed": "The grader failed on this submission, which is no fault of yours.",
}


@dataclass(frozen=True)
class Score:
    """Points of a question: earned, of how many; None: not yet marked by a person."""

    points: float | None
    most: float
    comment: str = ""


@dataclass(frozen=True)
class Result:
    """A student's result for one assignment.

    Args:
        student: From the roster.
        status: "ok", or the name of what went wrong; `MEANING` explains each.
        detail: What exactly.
        notes: For whoever looks at the result.
        scores: Points by question.
        days_late: Days begun; None: late by the platform's mark, by how much is not known.
        lost: Points lost for that.
        outcome: How the run went.
    """

    student: Student
    status: str
    detail: str
    notes: list[str]
    scores: dict[str, Score]
    days_late: int | None
    lost: float
    outcome: Outcome = field(repr=False)

    @property
    def most(self) -> float:
        """Points that could be had."""
        return sum(score.most for score in self.scores.values())

    @property
    def total(self) -> float:
        """Points, after what lateness costs; provisional while `unmarked`."""
        earned = sum(score.points or 0 for score in self.scores.values())
        return round(max(0.0, earned - self.lost), 2)

    @property
    def unmarked(self) -> list[str]:
        """Questions that a person has not marked yet."""
        waiting = [name for name, score in self.scores.items() if score.points is None]
        return [] if self.status == "missing" else waiting


def unopened(submission: Submission, policy: Policy) -> Outcome | None:
    """The outcome of a file that is not run: too large, or no notebook by its name."""
    size = submission.path.stat().st_size / 1e6
    if size > policy.max_megabytes:
        return Outcome("oversized", f"{size:.1f} MB, at most {policy.max_megabytes:g} are opened")
    if submission.path.suffix != ".ipynb":
        return Outcome("malformed", f"a file of the kind {submission.path.suffix[:10]!r}, expected a notebook, .ipynb")
    return None


def settle(
    student: Student,
    outcome: Outcome,
    bundle: Bundle,
    policy: Policy,
    *,
    days_late: int | None = 0,
    marks: Mapping[str, Mark] | None = None,
    set_aside: int = 0,
) -> Result:
    """The student's result.

    Args:
        outcome: Of the submission; `MISSING` without one.
        days_late: Days begun; None where only the platform's mark is known.
        marks: A person's, by question.
        set_aside: How many other files of this student there were.
    """
    status, detail = outcome.status, outcome.detail
    if outcome.reads:
        detail = "; ".join([*outcome.reads[:5], *([f"{status}: {detail}"] if status != "ok" else [])])
        status = "read tests"
    scores = {}
    for name, question in bundle.questions.items():
        if question.manual:
            mark = (marks or {}).get(name)
            scores[name] = Score(mark.points if mark else None, question.points, mark.comment if mark else "")
        else:
            passed = [test["points"] for test in outcome.results if test["question"] == name and test["passed"]]
            scores[name] = Score(min(question.points, sum(passed)), question.points)
    notes = _notes(student, outcome, days_late, set_aside)
    lost = policy.lost(days_late or 0, bundle.points) if status != "missing" else 0.0
    return Result(student, status, detail, notes, scores, days_late, lost, outcome)


def as_record(result: Result) -> dict:
    """The result as JSON, with the pseudonym in the place of the student."""
    return {
        "pseudonym": result.student.pseudonym,
        "status": result.status,
        "detail": result.detail,
        "notes": result.notes,
        "total": result.total,
        "most": result.most,
        "unmarked": result.unmarked,
        "scores": {name: [score.points, score.most] for name, score in result.scores.items()},
        "days_late": result.days_late,
        "lost": result.lost,
        "tests": result.outcome.results,
        "errors": result.outcome.errors,
        "seconds": result.outcome.seconds,
        "cpu_seconds": result.outcome.cpu_seconds,
    }


def _notes(student: Student, outcome: Outcome, days_late: int | None, set_aside: int) -> list[str]:
    notes = []
    if outcome.claimed_id in ("None", "Ellipsis"):
        notes.append("the notebook has no STUDENT_ID, tests went by the roster")
    elif outcome.claimed_id is not None and _claimed(outcome.claimed_id) != student.student_id.strip().casefold():
        notes.append(f"the notebook has STUDENT_ID = {outcome.claimed_id}, tests went by the roster")
    if days_late is None:
        notes.append(
            "late by the platform's mark; by how much is not known, nothing was taken off: name `times` in the policy"
        )
    if set_aside:
        notes.append(f"{set_aside} earlier or other files were set aside")
    return notes


def _claimed(written: str) -> str | None:
    try:
        return str(ast.literal_eval(written)).strip().casefold()
    except (ValueError, SyntaxError):
        return None
