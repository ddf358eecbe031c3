"""Runs experiments and reads their records: load, run, record with a limit of time.

``load_or_run`` is the one switch that heavy cells go through: it reads the recorded run, runs the experiment in full,
or runs a tiny version of it, as ``NORMLIB_MODE`` says. ``record`` records experiments, job by job, and goes on where it
was stopped. That recorded jobs are run again and compared stands in ``reproduction.py``.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from normcourse import paths, runtime
from normcourse.experiments import circumstances
from normcourse.experiments.base import KEPT, Experiment, Settings
from normcourse.experiments.circumstances import as_written, is_current, median_speed
from normcourse.experiments.deadline import Deadline
from normcourse.experiments.registry import EXPERIMENTS
from normcourse.experiments.store import Job, Store, Tables, job_folder, key_of
from normlib._utils.arguments import check_choice, check_count, check_flags, check_number, path_of


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
    experiment, store = experiment_named(name), Store(paths.RUNS / "full", recorded_store())
    jobs = experiment.jobs(experiment.settings, store)
    for job in _progress(experiment, _missing(experiment, experiment.settings, jobs, store)):
        run_job(experiment, experiment.settings, job, store)
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
    experiment, store = experiment_named(name), recorded_store()
    recorded_entries(name, store)
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
    experiment = experiment_named(name)
    settings = experiment.settings | experiment.smoke
    with tempfile.TemporaryDirectory() as folder:
        store = Store(Path(folder, "smoke"), recorded_store())
        jobs = experiment.jobs(settings, store)
        for job in _progress(experiment, jobs):
            run_job(experiment, settings, job, store)
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
    experiment_named(name)
    entries = recorded_entries(name, recorded_store())
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
    experiment, store = experiment_named(name), _store(out)
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
    """Run what is missing of some experiments: the first seed of each, in the order given, then the second, and so on.

    So what was named first is there first, and further seeds come when each experiment has one. An experiment that
    takes learning rates from a search begins when that is complete.

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
    experiments = {experiment.name: experiment for experiment in map(experiment_named, names)}
    check_shard(shard)
    check_flags(overwrite=overwrite)
    if minutes is not None:
        check_number("minutes", minutes, above=0)
    store, left = _store(out), {}
    with Deadline(minutes) as deadline:
        waiting = list(experiments.values())
        while waiting:
            ready = [experiment for experiment in waiting if _knows_its_jobs(experiment, store)]
            if not ready and not left:  # nothing is unfinished, so nothing will bring what it needs
                waiting[0].jobs(waiting[0].settings, store)
            if not ready:
                left |= dict.fromkeys((experiment.name for experiment in waiting), None)
                break
            plans = {
                experiment.name: _plan(experiment, store, shard, len(experiments), overwrite) for experiment in ready
            }
            for seed in sorted({_seed(job) for plan in plans.values() for job in plan}):
                for experiment in ready:
                    jobs = [job for job in plans[experiment.name] if _seed(job) == seed]
                    _record_jobs(experiment, jobs, store, deadline, overwrite)
            for experiment in ready:
                jobs = experiment.jobs(experiment.settings, store)
                undone = _missing(experiment, experiment.settings, jobs, store)
                if undone:
                    left[experiment.name] = len(undone)
                else:
                    store.gather(experiment.name, jobs)
            waiting = [experiment for experiment in waiting if experiment not in ready]
    return Left(left)


def _knows_its_jobs(experiment: Experiment, store: Store) -> bool:
    try:
        experiment.jobs(experiment.settings, store)
    except FileNotFoundError:
        return False
    return True


def _plan(experiment: Experiment, store: Store, shard: tuple[int, int], together: int, overwrite: bool) -> list[Job]:
    """The jobs of a shard that are to be run."""
    jobs = experiment.jobs(experiment.settings, store)
    wanted = jobs if overwrite else _missing(experiment, experiment.settings, jobs, store)
    # Beside other experiments, one of few jobs may leave some shards none.
    mine = [] if together > 1 and len(jobs) < shard[0] else shard_of(jobs, shard)
    return [job for job in mine if job in wanted]


def _seed(job: Job) -> int:
    return job.get("seed", 0)


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
        run_job(experiment, experiment.settings, job, store, overwrite=overwrite, within=deadline.stopping_work)
        longest = max(longest, time.perf_counter() - start)


def run_job(
    experiment: Experiment,
    settings: Settings,
    job: Job,
    store: Store,
    *,
    overwrite: bool = False,
    within: Callable[[], AbstractContextManager] = nullcontext,
) -> None:
    """Run one job and keep it; what is not finished lies in ``runs/unfinished`` until then.

    It runs in the context ``within``, which may end it early, without an error; then nothing is kept but what it needs
    to go on, and where and for how long it ran.
    """
    configuration = experiment.configuration(settings, job)
    digest = hashlib.sha256(json.dumps([settings, configuration], default=str).encode()).hexdigest()[:8]
    # Other settings, and another store, do not go on from this state.
    place = hashlib.sha256(str(store.root.resolve()).encode()).hexdigest()[:8]
    unfinished = job_folder(paths.RUNS / "unfinished" / place / experiment.name / digest, job)
    if overwrite:
        shutil.rmtree(unfinished, ignore_errors=True)
        circumstances.Parts(unfinished, "cpu").forget()
    with circumstances.Parts(unfinished, settings.get("accelerator", "cpu")) as parts:
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
        **parts.describe(),
        "pairs_per_second": median_speed(tables),
    }
    kept = unfinished / KEPT
    store.write(experiment.name, tables, as_written(entry), sorted(kept.iterdir()) if kept.is_dir() else ())
    shutil.rmtree(unfinished, ignore_errors=True)
    parts.forget()


def _progress(experiment: Experiment, jobs: list[Job]) -> Iterator[Job]:
    from tqdm import tqdm  # text, not a widget: it leaves nothing behind in a saved notebook

    return tqdm(jobs, unit="job", desc=experiment.name, disable=len(jobs) < 2 or None)


def _missing(experiment: Experiment, settings: Settings, jobs: list[Job], store: Store) -> list[Job]:
    recorded = {key_of(entry["job"]): entry for entry in store.entries(experiment.name)}
    return [
        job
        for job in jobs
        if (entry := recorded.get(key_of(job))) is None or not is_current(entry, experiment, settings)
    ]


def recorded_store() -> Store:
    """The committed records, ``results/``."""
    return Store(paths.RESULTS)


def _store(out: str | Path | None) -> Store:
    return recorded_store() if out is None else Store(path_of("out", out), recorded_store())


def recorded_entries(name: str, store: Store) -> list[dict[str, Any]]:
    """The provenance of each recorded job; an error that tells how to record it if there is none."""
    entries = store.entries(name)
    if not entries:
        raise FileNotFoundError(
            f"no recorded run at {store.folder(name)}; record it with: python -m normcourse record {name}"
        )
    return entries


def experiment_named(name: str) -> Experiment:
    """The experiment of that name; an error that lists all names if there is none."""
    check_choice("name", name, EXPERIMENTS)
    return EXPERIMENTS[name]
