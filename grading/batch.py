"""Grades a class: every submission, a row for everyone on the roster, a new dated folder each time."""

import contextlib
import json
import logging
import os
import queue
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from grading import reports
from grading.bundles import Bundle, find_bundle, read_bundle
from grading.isolation import find_isolation
from grading.policy import Policy, read_policy
from grading.results import MISSING, Result, as_record, settle, unopened
from grading.roster import Mark, Student, check_known, pseudonym_key, read_roster, read_rubric, read_times
from grading.sandbox import ROOT, Job, Outcome, Sandbox
from grading.submissions import Matched, match, read_submissions
from tools.atomic_write import write_whole

LOG = logging.getLogger("grading")


@dataclass(frozen=True)
class Class:
    """All that is known before anything is run: the assignment, the rules, the students and what they handed in."""

    bundle: Bundle
    policy: Policy
    students: list[Student]
    found: Matched
    times: dict[str, datetime]
    marks: dict[str, dict[str, Mark]]

    def days_late(self, student: Student) -> int | None:
        """Days begun after the student's deadline; None: late by the platform's mark, by how much is not known."""
        submission, student_id = self.found.chosen.get(student.student_id), student.student_id
        if submission is None:
            return 0
        if student_id in self.times:
            return self.policy.days_late(student_id, self.times[student_id])
        return None if submission.late and student_id not in self.policy.extensions else 0

    def result(self, student: Student, outcome: Outcome) -> Result:
        """The student's result, given what became of the submission."""
        return settle(
            student,
            outcome,
            self.bundle,
            self.policy,
            days_late=self.days_late(student),
            marks=self.marks.get(student.student_id),
            set_aside=len(self.found.set_aside.get(student.student_id, [])),
        )


def read_class(submissions: Path, roster: Path, policy_file: Path, built: Path, key: bytes) -> Class:
    """Read the rules, the roster, the lists that the rules name, and the names of what was handed in.

    Raises:
        ValueError: One of them is faulty; which, and how, is said.
    """
    policy = read_policy(policy_file)
    bundle, students = read_bundle(find_bundle(built, policy.assignment)), read_roster(roster, key)
    check_known(f"{policy_file}, [extensions]", policy.extensions, students)
    manual = {name: question.points for name, question in bundle.questions.items() if question.manual}
    return Class(
        bundle,
        policy,
        students,
        match(read_submissions(submissions), students),
        read_times(policy.times, students) if policy.times else {},
        read_rubric(policy.rubric, students, manual) if policy.rubric else {},
    )


def grade(submissions: Path, roster: Path, policy_file: Path, built: Path, graded: Path, private: Path) -> Path:
    """Grade what is in a folder; returns the new folder with reports, grades, and the changes since the last time.

    Args:
        submissions: Files as Canvas or Moodle hands them out.
        roster: CSV: student_id, name, lms_id.
        policy_file: TOML: `Policy`.
        built: What `make assignments` made.
        graded: Where the folder is made, in one of the assignment's name.
        private: Of hidden tests, to hide it.
    """
    the_class = read_class(submissions, roster, policy_file, built, pseudonym_key(graded))
    isolation, bundle = find_isolation(), the_class.bundle
    before, folder = reports.latest(graded / bundle.name), _new_folder(graded / bundle.name)
    hidden = [submissions, built, graded, private, ROOT / "assignments"]
    with _log_in(folder / "grading.log"), Sandbox(isolation, the_class.policy.limits, hidden) as sandbox:
        for sentence in isolation.sentences():
            LOG.info(sentence)
        count, found = len(the_class.students), the_class.found
        LOG.info("%d on the roster, %d handed in, %d files fit nobody", count, len(found.chosen), len(found.unmatched))
        results = []
        with contextlib.closing(_results(the_class, sandbox, folder)) as graded_ones:
            for result in graded_ones:
                results.append(result)
                done, score = f"{len(results):3}/{count}", f"{result.total:g}/{result.most:g}"
                LOG.info("%s  %s  %s  %s", done, result.student.pseudonym, score, result.status)
    results.sort(key=lambda result: result.student.student_id)
    unmatched = [os.fspath(each.path.relative_to(submissions)) for each in found.unmatched]
    reports.write_all(folder, bundle, results, isolation.sentences(), unmatched, before)
    return folder.rename(folder.with_name(folder.name.removesuffix(reports.UNFINISHED)))


def _results(the_class: Class, sandbox: Sandbox, folder: Path) -> Iterator[Result]:
    """Results as they come, several submissions at a time; each is written at once."""
    workers = min(the_class.policy.parallel or os.cpu_count() or 1, max(1, len(the_class.students)))
    slots: queue.SimpleQueue[int] = queue.SimpleQueue()
    for slot in range(workers):
        slots.put(slot)

    def result(student: Student) -> Result:
        slot = slots.get()
        try:
            outcome = _outcome(the_class, student, sandbox, slot)
        except Exception as error:  # a fault of ours must not end the batch
            LOG.exception("%s: the grader failed", student.pseudonym)
            outcome = Outcome("failed", f"{type(error).__name__}: {error}")
        finally:
            slots.put(slot)
        found = the_class.result(student, outcome)
        if outcome.executed:
            write_whole(folder / "executed" / f"{student.pseudonym}.ipynb", outcome.executed)
        write_whole(folder / "results" / f"{student.pseudonym}.json", json.dumps(as_record(found), indent=1))
        return found

    with ThreadPoolExecutor(workers) as pool:
        running = [pool.submit(result, student) for student in the_class.students]
        try:
            for done in as_completed(running):
                yield done.result()
        except BaseException:
            sandbox.stopped.set()
            pool.shutdown(cancel_futures=True)
            raise


def _outcome(the_class: Class, student: Student, sandbox: Sandbox, slot: int) -> Outcome:
    submission = the_class.found.chosen.get(student.student_id)
    if submission is None:
        return MISSING
    bundle = the_class.bundle
    job = Job(submission.path, bundle.name, student.student_id, bundle.tests)
    return unopened(submission, the_class.policy) or sandbox.run(job, slot)


def _new_folder(parent: Path) -> Path:
    """A folder named by the time, for its owner alone; its name says that it is not finished."""
    stamp = datetime.now().strftime("%Y-%m-%dT%H-%M-%S")
    parent.mkdir(parents=True, exist_ok=True)
    parent.chmod(0o700)
    if (parent / stamp).exists():
        raise FileExistsError(f"{parent / stamp} is there already: grade again in a second")
    folder = parent / f"{stamp}{reports.UNFINISHED}"
    folder.mkdir()
    for name in ("results", "reports", "executed"):
        (folder / name).mkdir()
    return folder


@contextlib.contextmanager
def _log_in(path: Path) -> Iterator[None]:
    """Log to a file and to the terminal."""
    handlers = [logging.FileHandler(path, encoding="utf-8"), logging.StreamHandler()]
    LOG.setLevel(logging.INFO)
    for handler in handlers:
        handler.setFormatter(logging.Formatter("%(asctime)s %(message)s", "%H:%M:%S"))
        LOG.addHandler(handler)
    try:
        yield
    finally:
        for handler in handlers:
            LOG.removeHandler(handler)
            handler.close()
