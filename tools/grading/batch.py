"""Grades a class: every submission, a row for everyone on the roster, a new dated folder each time."""

import json
import logging
import os
import queue
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor, as_completed
from datetime import datetime
from pathlib import Path

from grading import reports
from grading.bundles import Bundle, find_bundle, read_bundle
from grading.isolation import find_isolation
from grading.policy import Policy, read_policy
from grading.results import MISSING, as_record, settle, unopened
from grading.roster import Student, pseudonym_key, read_roster, read_rubric, read_times
from grading.sandbox import Job, Outcome, Sandbox
from grading.submissions import Submission, match, read_submissions

LOG = logging.getLogger("grading")
UNFINISHED = "-unfinished"


def grade(submissions: Path, roster: Path, policy_file: Path, built: Path, graded: Path, private: Path) -> Path:
    """Grade what is in a folder; returns the new folder with reports, grades, and the changes since the last time.

    Args:
        submissions: Files as Canvas or Moodle hands them out.
        roster: CSV: student_id, name, lms_id.
        policy_file: TOML: `Policy`.
        built: What `make assignments` made.
        graded: Where the folder is made, in one of the assignment's name.
        private: Of hidden tests, to hide it.

    Raises:
        ValueError: The policy, the roster or a list that they name is faulty; nothing has been run then.
    """
    policy, key = read_policy(policy_file), pseudonym_key(graded)
    bundle, students = read_bundle(find_bundle(built, policy.assignment)), read_roster(roster, key)
    manual = {name: question.points for name, question in bundle.questions.items() if question.manual}
    times = read_times(policy.times, students) if policy.times else {}
    marks = read_rubric(policy.rubric, students, manual) if policy.rubric else {}
    if not submissions.is_dir():
        raise FileNotFoundError(f"SUBMISSIONS is {submissions}, which is no folder")
    found = match(read_submissions(submissions), students)
    isolation = find_isolation()

    before = reports.latest(graded / bundle.name)
    folder = _new_folder(graded / bundle.name)
    _log_to(folder / "grading.log")
    for sentence in isolation.sentences():
        LOG.info(sentence)
    LOG.info(
        "%d on the roster, %d handed in, %d files that fit nobody",
        len(students),
        len(found.chosen),
        len(found.unmatched),
    )
    results = []
    with Sandbox(isolation, policy.limits, [submissions, built, graded, private]) as sandbox:
        for student, outcome in _outcomes(students, found.chosen, bundle, policy, sandbox, folder):
            submission = found.chosen.get(student.student_id)
            result = settle(
                student,
                outcome,
                bundle,
                policy,
                days_late=_days_late(student, submission, times, policy),
                marks=marks.get(student.student_id),
                set_aside=len(found.set_aside.get(student.student_id, [])),
            )
            results.append(result)
            reports.write(folder / "results" / f"{student.pseudonym}.json", json.dumps(as_record(result), indent=1))
            done, score = f"{len(results):3}/{len(students)}", f"{result.total:g}/{result.most:g}"
            LOG.info("%s  %s  %s  %s", done, student.pseudonym, score, result.status)
    results.sort(key=lambda result: result.student.student_id)
    unmatched = [os.fspath(each.path.relative_to(submissions)) for each in found.unmatched]
    reports.write_all(folder, bundle, results, isolation.sentences(), unmatched, before)
    finished = folder.with_name(folder.name.removesuffix(UNFINISHED))
    folder.rename(finished)
    return finished


def _outcomes(
    students: list[Student],
    handed_in: dict[str, Submission],
    bundle: Bundle,
    policy: Policy,
    sandbox: Sandbox,
    folder: Path,
) -> Iterable[tuple[Student, Outcome]]:
    """Outcomes as they come, several submissions at a time."""
    workers = policy.parallel or os.cpu_count() or 1
    slots: queue.SimpleQueue[int] = queue.SimpleQueue()
    for slot in range(workers):
        slots.put(slot)

    def outcome(student: Student) -> Outcome:
        submission = handed_in.get(student.student_id)
        if submission is None:
            return MISSING
        if sandbox.stopped.is_set():
            return Outcome("stopped")
        slot = slots.get()
        try:
            job = Job(submission.path, bundle.name, student.student_id, bundle.tests)
            found = unopened(submission, policy) or sandbox.run(job, slot)
            if found.executed:
                reports.write(folder / "executed" / f"{student.pseudonym}.ipynb", found.executed)
        except Exception as error:  # a fault of ours must not end the batch
            LOG.exception("%s: the grader failed", student.pseudonym)
            return Outcome("failed", f"{type(error).__name__}: {error}")
        finally:
            slots.put(slot)
        return found

    with ThreadPoolExecutor(workers) as pool:
        running = {pool.submit(outcome, student): student for student in students}
        try:
            for done in as_completed(running):
                yield running[done], done.result()
        except BaseException:
            sandbox.stopped.set()
            pool.shutdown(cancel_futures=True)
            raise


def _days_late(
    student: Student, submission: Submission | None, times: dict[str, datetime], policy: Policy
) -> int | None:
    if submission is None:
        return 0
    if student.student_id in times:
        return policy.days_late(student.student_id, times[student.student_id])
    excused = student.student_id in policy.extensions
    return None if submission.late and not excused else 0


def _new_folder(parent: Path) -> Path:
    """A folder named by the time, for its owner alone; its name says that it is not finished."""
    stamp = datetime.now().strftime("%Y-%m-%dT%H-%M-%S")
    parent.mkdir(parents=True, exist_ok=True)
    parent.chmod(0o700)
    folder = parent / f"{stamp}{UNFINISHED}"
    if folder.with_name(stamp).exists():
        raise FileExistsError(f"{folder.with_name(stamp)} is there already: grade again in a second")
    folder.mkdir()
    for name in ("results", "reports", "executed"):
        (folder / name).mkdir()
    return folder


def _log_to(path: Path) -> None:
    for handler in list(LOG.handlers):
        LOG.removeHandler(handler)
        handler.close()
    for handler in (logging.FileHandler(path, encoding="utf-8"), logging.StreamHandler()):
        handler.setFormatter(logging.Formatter("%(asctime)s %(message)s", "%H:%M:%S"))
        LOG.addHandler(handler)
    LOG.setLevel(logging.INFO)
