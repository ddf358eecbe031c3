"""Runs one submission under limits and says what became of it, whatever it does."""

import contextlib
import json
import os
import re
import secrets
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from grading.isolation import Isolation, View, entry
from grading.limits import GIB, TOKEN, Limits, end, threads_of_this_user, watch

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
ADDRESS_SPACE = 8 * GIB  # beyond the memory: what libraries reserve and never use
MAX_ANSWER = 32 * 2**20  # bytes


@dataclass(frozen=True)
class Job:
    """A submission to run: its notebook, the assignment, the student id on the roster, tests by question."""

    notebook: Path
    assignment: str
    student_id: str
    tests: Mapping[str, str]


@dataclass(frozen=True)
class Outcome:
    """What became of a submission.

    Args:
        status: "ok", or the name of what went wrong.
        detail: What exactly.
        results: A dictionary for each test that ran: question, what, points, hidden, passed, message.
        errors: Of the submission's cells.
        claimed_id: The student id that the notebook has, as Python writes it.
        reads: Files it tried to read that were not for it.
        seconds: How long it ran.
        cpu_seconds: Of CPU time, as far as it was seen.
        executed: The executed notebook, as JSON; empty where there is none.
    """

    status: str
    detail: str = ""
    results: list[dict] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    claimed_id: str | None = None
    reads: list[str] = field(default_factory=list)
    seconds: float = 0.0
    cpu_seconds: float = 0.0
    executed: str = ""


class Sandbox:
    """Runs submissions, each in a folder of its own that is gone afterwards; a context manager.

    Args:
        isolation: As `find_isolation` found it.
        limits: For each submission.
        hidden: Folders of tests, solutions, submissions and grades.

    Attributes:
        stopped: Set it, and submissions that run are ended.
    """

    def __init__(self, isolation: Isolation, limits: Limits, hidden: list[Path]):
        self.isolation, self.limits, self.stopped = isolation, limits, threading.Event()
        self.hidden = [path.resolve() for path in hidden]

    def __enter__(self) -> "Sandbox":
        self.folder = Path(tempfile.mkdtemp(prefix="grading-")).resolve()
        self.stash = Path(tempfile.mkdtemp(prefix="grading-stash-")).resolve()
        self.folder.chmod(0o711)
        return self

    def __exit__(self, *_) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)
        shutil.rmtree(self.stash, ignore_errors=True)

    def run(self, job: Job, slot: int) -> Outcome:
        """Run a submission in a slot, a number that no other has while it runs."""
        work, began = self.folder / f"{slot}-{secrets.token_hex(4)}", time.monotonic()
        for name in ("home", "tmp", "run"):
            (work / name).mkdir(parents=True)
        shutil.copyfile(job.notebook, work / "submission.ipynb")
        work.chmod(0o700)
        if (uid := self.isolation.uid(slot)) is not None:
            for path in (work, *work.rglob("*")):
                os.chown(path, uid, uid)
        try:
            outcome = self._watched(work, job, slot)
        finally:
            shutil.rmtree(work, ignore_errors=True)
        return replace(outcome, seconds=round(time.monotonic() - began, 1))

    def _watched(self, work: Path, job: Job, slot: int) -> Outcome:
        """Start the driver, keep to the limits, read its answer."""
        token = secrets.token_hex(16)
        with tempfile.TemporaryFile() as errors, self._started(work, slot, token, errors) as process:
            answer: list[bytes] = []
            reader = threading.Thread(target=lambda: answer.append(process.stdout.read(MAX_ANSWER)), daemon=True)
            reader.start()
            with contextlib.suppress(BrokenPipeError), process.stdin:
                process.stdin.write(self._job(job).encode())
            try:
                broken, cpu_seconds = watch(process, self.limits, self.stopped)
            finally:
                end(process, token)
            reader.join(timeout=5)
            errors.seek(0)
            said = errors.read(MAX_ANSWER).decode("utf-8", "replace")
        reads = list(dict.fromkeys(re.findall(r"(?m)^read tests: (.+)$", said)))
        found = {"reads": reads, "cpu_seconds": round(cpu_seconds, 1)}
        if broken:
            return Outcome(*broken, **found)
        try:
            given = json.loads(answer[0])
        except (IndexError, ValueError):
            last = said.strip().splitlines()[-1:] or ["nothing was said"]
            return Outcome("crashed", f"no answer came; exit status {process.returncode}: {last[0][:200]}", **found)
        return Outcome(**given, **found)

    @contextlib.contextmanager
    def _started(self, work: Path, slot: int, token: str, errors: object) -> Iterator[subprocess.Popen]:
        view = View(work, [Path.home().resolve(), self.folder, *self.hidden], [*_folders_of_python(), ROOT], self.stash)
        command = entry(self.isolation, [sys.executable, os.fspath(HERE / "driver.py")], slot, view)
        uid = self.isolation.uid(slot)
        user = {} if self.isolation.namespaces or uid is None else {"user": uid, "group": uid, "extra_groups": []}
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": errors}
        environment = _environment(work, self.hidden) | {TOKEN: token}
        with subprocess.Popen(command, cwd=work, env=environment, start_new_session=True, **pipes, **user) as process:
            yield process

    def _job(self, job: Job) -> str:
        limits = self.limits
        threads = limits.processes + (0 if self.isolation.root else threads_of_this_user())
        return json.dumps(
            {
                "notebook": "submission.ipynb",
                "assignment": job.assignment,
                "student_id": job.student_id,
                "tests": dict(job.tests),
                "seconds": {"cell": limits.cell_seconds, "test": limits.test_seconds},
                "limits": {
                    "RLIMIT_AS": int(limits.memory_gib * GIB) + ADDRESS_SPACE,
                    "RLIMIT_CPU": limits.cpu_seconds,
                    "RLIMIT_NPROC": threads,
                    "RLIMIT_FSIZE": 64 * 2**20,
                    "RLIMIT_CORE": 0,
                },
            }
        )


def _folders_of_python() -> set[Path]:
    """What this Python needs: its own folder, that below its virtual environment, and all that links lead through."""
    found, link = [Path(sys.prefix), Path(sys.base_prefix)], Path(sys.executable)
    while link.is_symlink():
        link = link.parent / link.readlink()
        found.append(link.parent.parent)
    return {path for each in found for path in (each.absolute(), each.resolve())}


def _environment(work: Path, hidden: list[Path]) -> dict[str, str]:
    """Variables of a submission's processes: none of this one's but the path of commands."""
    return {
        "PATH": os.pathsep.join([os.path.dirname(sys.executable), os.environ.get("PATH", os.defpath)]),
        "HOME": str(work / "home"),
        "TMPDIR": str(work / "tmp"),
        "JUPYTER_RUNTIME_DIR": str(work / "run"),
        "PYTHONPATH": os.pathsep.join([str(HERE / "in_kernel"), str(ROOT)]),
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONNOUSERSITE": "1",
        "LANG": "C.UTF-8",
        "OMP_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
        "OMP_WAIT_POLICY": "passive",
        "TQDM_DISABLE": "1",
        "NORMLIB_MODE": "recorded",
        "GRADING_GUARDED": os.pathsep.join(map(str, hidden)),
    }
