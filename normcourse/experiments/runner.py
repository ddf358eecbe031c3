"""Runs experiments and reads their records: load, run, record with a limit of time, reproduce.

``load_or_run`` is the one switch that heavy cells go through: it reads the recorded run, runs the experiment in full,
or runs a tiny version of it, as ``NORMLIB_MODE`` says. ``record`` records experiments, job by job, and goes on where it
was stopped; ``reproduce`` runs recorded jobs again and compares.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from normcourse import paths, runtime
from normcourse.experiments.base import LISTS, Experiment, Settings
from normcourse.experiments.deadline import Deadline
from normcourse.experiments.registry import EXPERIMENTS
from normcourse.experiments.store import Job, Store, Tables, job_folder, key_of, rows_of
from normlib._utils.arguments import check_choice, check_count, check_flags, check_number, listed, path_of

if TYPE_CHECKING:
    import pandas as pd

NUMBERS = ["number", "bool"]  # columns that a reproduction compares


def load_or_run(name: str) -> Tables:
    """The tables of an experiment: recorded, or run now, as ``NORMLIB_MODE`` says.

    Full mode keeps finished jobs, and checkpoints of unfinished ones, under ``runs/full``, and goes on from there.

    Args:
        name: A name in ``EXPERIMENTS``.

    Returns:
        Tidy tables (``pandas.DataFrame``) by name. Columns tell the jobs of the experiment apart.

    Raises:
        ValueError: Unknown name.
        FileNotFoundError: Nothing is recorded under that name; the message tells how to record it. Or, in full mode,
            it needs a search that is neither recorded nor run.

    >>> sorted(load_or_run("digits-simclr"))
    ['epochs', 'samples', 'steps']
    """
    if runtime.mode() == "recorded":
        return load(name)
    if runtime.mode() == "smoke":
        return smoke(name)
    experiment, store = _experiment(name), Store(paths.RUNS / "full", _recorded())
    jobs = experiment.jobs(experiment.settings, store)
    for job in _progress(experiment, _missing(experiment, experiment.settings, jobs, store)):
        _run_job(experiment, experiment.settings, job, store)
    store.gather(name, jobs)
    return store.tables(name, jobs)


def load(name: str) -> Tables:
    """The tables of a recorded experiment, whatever the mode: for runs that a reader can hardly repeat.

    Args:
        name: A name in ``EXPERIMENTS``.

    Returns:
        As :func:`load_or_run`.

    Raises:
        ValueError: Unknown name.
        FileNotFoundError: Nothing is recorded under that name; the message tells how to record it.

    >>> len(load("digits-simclr")["samples"])
    28800
    """
    experiment, store = _experiment(name), _recorded()
    _recorded_entries(name, store)
    return store.tables(name, experiment.jobs(experiment.settings, store))


def smoke(name: str) -> Tables:
    """Run a tiny version of an experiment, which proves the code path; nothing is kept.

    Args:
        name: A name in ``EXPERIMENTS``.

    Returns:
        Tables as of :func:`load_or_run`; their numbers mean nothing.

    Raises:
        ValueError: Unknown name.
    """
    experiment = _experiment(name)
    settings = experiment.settings | experiment.smoke
    with tempfile.TemporaryDirectory() as folder:
        store = Store(Path(folder, "smoke"), _recorded())
        jobs = experiment.jobs(settings, store)
        for job in _progress(experiment, jobs):
            _run_job(experiment, settings, job, store)
        store.gather(name, jobs)
        return store.tables(name)


def provenance(name: str) -> dict[str, Any]:
    """Where recorded runs come from: settings, data, versions, device, time.

    Args:
        name: A name in ``EXPERIMENTS``.

    Returns:
        The provenance of the first job, and under ``"jobs"`` that of each.

    Raises:
        ValueError: Unknown name.
        FileNotFoundError: Nothing is recorded under that name.

    >>> provenance("digits-simclr")["settings"]["seeds"]
    8
    """
    _experiment(name)
    entries = _recorded_entries(name, _recorded())
    return entries[0] | {"jobs": entries}


def missing(name: str, *, out: str | Path | None = None) -> list[Job]:
    """The jobs of an experiment that are not recorded yet with its present settings.

    Args:
        name: A name in ``EXPERIMENTS``.
        out: Folder of the records; None for ``results/``.

    Returns:
        What tells each of them apart; empty when the record is complete.

    Raises:
        ValueError: Unknown name.
        FileNotFoundError: The experiment takes learning rates from a search that is not recorded yet.

    >>> missing("digits-simclr")
    []
    """
    experiment, store = _experiment(name), _store(out)
    jobs = experiment.jobs(experiment.settings, store)
    return _missing(experiment, experiment.settings, jobs, store)


@dataclass(frozen=True)
class Left:
    """What :func:`record` left undone.

    Args:
        jobs: For each experiment that is not complete, the number of its jobs that are left; None where their number is
            not known before a search is complete.
    """

    jobs: dict[str, int | None] = field(default_factory=dict)

    def __str__(self) -> str:
        if not self.jobs:
            return "all jobs are recorded"
        lines = [
            f"{name}: {'its jobs are known when its search is complete' if count is None else f'{count} jobs left'}"
            for name, count in self.jobs.items()
        ]
        return "\n".join(lines)


def record(
    *names: str,
    minutes: float | None = None,
    out: str | Path | None = None,
    shard: tuple[int, int] = (1, 1),
    overwrite: bool = False,
) -> Left:
    """Run what is missing of some experiments, one after the other, in the order given.

    Each job is kept the moment it is finished, so experiments can be recorded in pieces, and by several processes at
    once. A job that was stopped goes on from its last checkpoint if it trains for long enough to have some, else it
    begins again. When the last job of an experiment is there, its tables are joined.

    Args:
        names: Names in ``EXPERIMENTS``.
        minutes: Stop after so many minutes, > 0. A job that would not be finished by then, as earlier ones of its
            experiment tell, is not begun, unless it keeps checkpoints.
        out: Folder to write to instead of ``results/``; searches are looked for in both.
        shard: ``(i, n)``: only every n-th job, beginning with the i-th, i from 1.
        overwrite: Record again what is recorded already, each job replacing its earlier self.

    Returns:
        What is left to do, shards of others included.

    Raises:
        TypeError: ``out`` is no path.
        ValueError: No name or an unknown one, ``minutes`` that are not above 0, or a shard that there is not.
        FileNotFoundError: An experiment needs a search, or data, that is not there.
    """
    if not names:
        raise ValueError("names must name at least one experiment, got none")
    experiments = {experiment.name: experiment for experiment in map(_experiment, names)}
    check_shard(shard)
    check_flags(overwrite=overwrite)
    if minutes is not None:
        check_number("minutes", minutes, above=0)
    store, left = _store(out), {}
    with Deadline(minutes) as deadline:
        for experiment in experiments.values():
            try:
                jobs = experiment.jobs(experiment.settings, store)
            except FileNotFoundError:
                if not left:  # nothing before it is unfinished, so nothing will bring what it needs
                    raise
                left[experiment.name] = None
                continue
            wanted = jobs if overwrite else _missing(experiment, experiment.settings, jobs, store)
            _record_jobs(
                experiment, [job for job in shard_of(jobs, shard) if job in wanted], store, deadline, overwrite
            )
            undone = _missing(experiment, experiment.settings, jobs, store)
            if undone:
                left[experiment.name] = len(undone)
            else:
                store.gather(experiment.name, jobs)
    return Left(left)


def reproduce(name: str, *, shard: tuple[int, int] = (1, 1), jobs: list[Job] | None = None) -> pd.DataFrame:
    """Run recorded jobs again, below ``runs/reproduced``, and compare; the record stays as it is.

    Like :func:`record`, it can be done in pieces: jobs that are finished there are compared without running again.

    Args:
        name: A name in ``EXPERIMENTS``, recorded.
        shard: As in :func:`record`.
        jobs: Only these jobs, each by what tells it from the others; None for all.

    Returns:
        One row for each job, table and column of numbers or booleans, with the means ``recorded`` and ``now``, their
        relative ``difference``, and whether all values are ``identical``.

    Raises:
        TypeError: ``jobs`` is no list.
        ValueError: Unknown name, a shard that there is not, or ``jobs`` that are not recorded.
        FileNotFoundError: Nothing is recorded under that name.
    """
    import pandas as pd

    experiment, recorded = _experiment(name), _recorded()
    check_shard(shard)
    entries = _recorded_entries(name, recorded)
    if jobs is not None:
        wanted = [key_of(job) for job in listed("jobs", jobs)]
        entries = [entry for entry in entries if key_of(entry["job"]) in wanted]
        if not entries:
            raise ValueError(f"jobs must name recorded jobs of {name}, got {jobs!r}")
    for entry in entries:
        _check_entry(entry, experiment)
    mine = shard_of(entries, shard)
    before, again = recorded.tables(name), Store(paths.RUNS / "reproduced", recorded)
    done = [(entry["settings"], entry["job"]) for entry in again.entries(name)]
    for entry in mine:
        if (entry["settings"], entry["job"]) not in done:
            _run_job(experiment, entry["settings"], entry["job"], again)
    now, rows = again.tables(name, [entry["job"] for entry in mine]), []
    for entry in mine:
        for table in now:
            if table not in before or not set(now[table].select_dtypes(NUMBERS)) <= set(before[table]):
                raise ValueError(f"the record of {name} lacks the table {table}, or columns of it; record it again")
            old, new = (
                rows_of(tables[table], entry["job"]).drop(columns=list(entry["job"])) for tables in (before, now)
            )
            rows += [{**entry["job"], **row} for row in _compare(table, old, new)]
    return pd.DataFrame(rows)


def check_shard(shard: tuple[int, int]) -> None:
    """Refuse what is not a pair (i, n) with 1 ≤ i ≤ n."""
    if not isinstance(shard, tuple | list) or len(shard) != 2:
        raise ValueError(f"shard must be (i, n) with 1 ≤ i ≤ n, got {shard!r}")
    first, count = shard
    check_count("shard", count, hint="it is (i, n) with 1 ≤ i ≤ n")
    check_count("shard", first, at_most=count, hint="it is (i, n) with 1 ≤ i ≤ n")


def shard_of(items: list[Any], shard: tuple[int, int]) -> list[Any]:
    """Every n-th item, beginning with the i-th."""
    check_shard(shard)
    first, count = shard
    if not items[first - 1 :: count]:
        raise ValueError(f"shard {first}/{count} has no jobs: there are {len(items)}")
    return items[first - 1 :: count]


def _record_jobs(experiment: Experiment, jobs: list[Job], store: Store, deadline: Deadline, overwrite: bool) -> None:
    """Run jobs until they or the minutes come to an end."""
    entries = store.entries(experiment.name)
    longest = max((entry.get("seconds") or 0 for entry in entries), default=0)
    for job in _progress(experiment, jobs):
        if not deadline.allows(0 if experiment.resumes else longest):
            return
        start = time.perf_counter()
        _run_job(experiment, experiment.settings, job, store, overwrite=overwrite, within=deadline.stopping_work)
        longest = max(longest, time.perf_counter() - start)


def _run_job(
    experiment: Experiment,
    settings: Settings,
    job: Job,
    store: Store,
    *,
    overwrite: bool = False,
    within: Callable[[], AbstractContextManager] = nullcontext,
) -> None:
    """Run one job and keep it; what is not finished lies in ``runs/unfinished`` until then.

    It runs in the context ``within``, which may end it early, without an error; then nothing is kept.
    """
    configuration = experiment.configuration(settings, job)
    digest = hashlib.sha256(json.dumps([settings, configuration], default=str).encode()).hexdigest()[:8]
    # Other settings, and another store, do not go on from this state.
    place = hashlib.sha256(str(store.root.resolve()).encode()).hexdigest()[:8]
    unfinished = job_folder(paths.RUNS / "unfinished" / place / experiment.name / digest, job)
    if overwrite:
        shutil.rmtree(unfinished, ignore_errors=True)
    circumstances, start = _circumstances(settings.get("accelerator", "cpu")), time.perf_counter()
    tables = None
    with within():
        tables = experiment.run(settings, job, unfinished)
    if tables is None:
        return
    images = experiment.images(settings)
    entry = {
        "experiment": experiment.name,
        "question": experiment.question,
        "job": job,
        "settings": settings,
        "other_training_settings": configuration,
        "data": images.name,
        "data_fingerprint": images.fingerprint(),
        **circumstances,
        "seconds": round(time.perf_counter() - start, 2),  # since it was last taken up, if it was stopped in between
        "pairs_per_second": _median_speed(tables),
    }
    store.write(experiment.name, tables, _as_written(entry))
    shutil.rmtree(unfinished, ignore_errors=True)


def _progress(experiment: Experiment, jobs: list[Job]) -> Iterator[Job]:
    from tqdm import tqdm  # text, not a widget: it leaves nothing behind in a saved notebook

    return tqdm(jobs, unit="job", desc=experiment.name, disable=len(jobs) < 2 or None)


def _circumstances(accelerator: str) -> dict[str, Any]:
    """What a number may depend on besides settings and data: code, versions, device, day."""
    import torch

    gpu = accelerator != "cpu" and torch.cuda.is_available()
    return {
        "code": code_version(),
        "torch": version("torch"),
        "python": platform.python_version(),
        "device": torch.cuda.get_device_name() if gpu else f"{platform.machine()} CPU, {os.cpu_count()} cores",
        "threads": torch.get_num_threads(),
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
    }


def code_version() -> str:
    """Commit of the checkout, marked ``-dirty`` when files differ from it; the library's version without git."""
    command = ["git", "-C", str(paths.ROOT), "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):  # no git, or no repository
        return version("embedding-norms")


def _median_speed(tables: Tables) -> int | None:
    """Of the epochs that were timed; None if there are none."""
    speeds = tables["epochs"]["pairs_per_second"].dropna() if "pairs_per_second" in tables.get("epochs", ()) else ()
    return round(speeds.median()) if len(speeds) else None


def _missing(experiment: Experiment, settings: Settings, jobs: list[Job], store: Store) -> list[Job]:
    recorded = {key_of(entry["job"]): entry for entry in store.entries(experiment.name)}
    return [
        job
        for job in jobs
        if (entry := recorded.get(key_of(job))) is None or not _is_current(entry, experiment, settings)
    ]


def _is_current(entry: dict[str, Any], experiment: Experiment, settings: Settings) -> bool:
    """Whether a job was recorded with the present settings; of those that list the jobs, only its own matter."""
    before = {name: value for name, value in entry["settings"].items() if name not in LISTS}
    now = {name: value for name, value in settings.items() if name not in LISTS}
    configuration = _as_written(experiment.configuration(settings, entry["job"]))
    return before == _as_written(now) and _agrees(entry["other_training_settings"], configuration)


def _agrees(before: dict[str, Any], now: dict[str, Any]) -> bool:
    """Whether all that was recorded is the same now; a setting that there was not then has had its default."""
    return all(
        _agrees(value, now[name]) if isinstance(value, dict) else value == now[name]
        for name, value in before.items()
        if name in now
    )


def _as_written(value: dict[str, Any]) -> dict[str, Any]:
    return json.loads(json.dumps(value))


def _check_entry(entry: dict[str, Any], experiment: Experiment) -> None:
    """Refuse a recorded job that is not one of this experiment: its file was changed, or is of another version."""
    now, before = _as_written(experiment.settings), entry["settings"]
    lost = sorted(key for key in now.keys() - LISTS if type(before.get(key)) is not type(now[key]))
    known = experiment.jobs(experiment.settings | before, _recorded())
    if lost or entry["job"] not in known:
        others = f" and other settings {', '.join(lost)}" if lost else ""
        raise ValueError(
            f"the record of {experiment.name} has a job that is none of its jobs, {entry['job']}{others}; "
            "record it again"
        )


def _compare(name: str, before: pd.DataFrame, now: pd.DataFrame) -> Iterator[dict[str, Any]]:
    for column in now.select_dtypes(NUMBERS):
        same = before[column].reset_index(drop=True).equals(now[column].reset_index(drop=True))  # NaN equals NaN
        old, new = before[column].mean(), now[column].mean()
        yield {
            "table": name,
            "column": column,
            "recorded": old,
            "now": new,
            "difference": 0.0 if same else abs(new - old) / max(abs(old), abs(new), 1e-300),
            "identical": same,
        }


def _recorded() -> Store:
    return Store(paths.RESULTS)


def _store(out: str | Path | None) -> Store:
    return _recorded() if out is None else Store(path_of("out", out), _recorded())


def _recorded_entries(name: str, store: Store) -> list[dict[str, Any]]:
    entries = store.entries(name)
    if not entries:
        raise FileNotFoundError(
            f"no recorded run at {store.folder(name)}; record it with: python -m normcourse record {name}"
        )
    return entries


def _experiment(name: str) -> Experiment:
    check_choice("name", name, EXPERIMENTS)
    return EXPERIMENTS[name]
