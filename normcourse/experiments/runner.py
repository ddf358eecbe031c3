"""Named experiments and their recorded runs: small tables under ``results/``, each with its provenance.

``load_or_run`` is the one switch that heavy cells go through: it reads the recorded run, runs the experiment in full,
or runs a tiny version of it, as ``NORMLIB_MODE`` says. ``record`` records an experiment, run by run, and goes on where
it was stopped; ``reproduce`` runs it again and compares.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from normcourse import runtime
from normcourse.experiments import store
from normcourse.experiments.base import Experiment
from normcourse.experiments.registry import EXPERIMENTS
from normcourse.experiments.store import Job, Tables
from normcourse.paths import RESULTS, RUNS
from normlib._utils.arguments import check_choice, check_count, listed

if TYPE_CHECKING:
    import pandas as pd


LISTS = {"conditions", "lrs", "seeds", "by_seed"}  # settings that say which runs there are
NUMBERS = ["number", "bool"]  # columns that a reproduction compares


def load_or_run(name: str) -> Tables:
    """The tables of an experiment: recorded, or run now, as ``NORMLIB_MODE`` says.

    Full mode keeps finished runs, and checkpoints of unfinished ones, under ``runs/full/NAME``, and goes on from there.

    Args:
        name: A name in ``EXPERIMENTS``.

    Returns:
        Tidy tables (``pandas.DataFrame``) by name. Where an experiment has several runs, columns tell them apart.

    Raises:
        ValueError: Unknown name.
        FileNotFoundError: Nothing is recorded under that name; the message tells how to record it.

    >>> sorted(load_or_run("digits-simclr"))
    ['epochs', 'samples', 'steps']
    """
    if runtime.mode() == "recorded":
        return load(name)
    if runtime.mode() == "smoke":
        return smoke(name)
    experiment = _experiment(name)
    _run_missing(experiment, experiment.settings, RUNS / "full" / name)
    return store.join(RUNS / "full" / name, experiment.jobs(experiment.settings))


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
    experiment = _experiment(name)
    _recorded_runs(name)
    return store.join(RESULTS / name, experiment.jobs(experiment.settings))


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
        root = Path(folder, "results")
        _run_missing(experiment, settings, root, scratch=Path(folder, "unfinished"))
        return store.join(root, experiment.jobs(settings))


def provenance(name: str) -> dict[str, Any]:
    """Where recorded runs come from: settings, data, versions, device, time.

    Args:
        name: A name in ``EXPERIMENTS``.

    Returns:
        The provenance of the first run, and under ``"runs"`` that of each.

    Raises:
        ValueError: Unknown name.
        FileNotFoundError: Nothing is recorded under that name.

    >>> provenance("digits-simclr")["settings"]["seeds"]
    8
    """
    _experiment(name)
    runs = _recorded_runs(name)
    return runs[0] | {"runs": runs}


def missing(name: str) -> list[Job]:
    """The runs of an experiment that are not recorded yet with its present settings.

    Args:
        name: A name in ``EXPERIMENTS``.

    Returns:
        What tells each of them apart; empty when the record is complete.

    Raises:
        ValueError: Unknown name.
        FileNotFoundError: The experiment takes learning rates from another one, which is not recorded yet.

    >>> missing("digits-simclr")
    []
    """
    experiment = _experiment(name)
    return _missing(experiment, experiment.settings, RESULTS / name)


def record(name: str, *, shard: tuple[int, int] = (1, 1), overwrite: bool = False) -> Path:
    """Run what is missing of an experiment and write its tables and provenance under ``results/``.

    Each run is recorded when it is finished. One that was stopped goes on from its last checkpoint if it trains for
    long enough to have some. So an experiment can be recorded in pieces, and by several processes at once.

    Args:
        name: A name in ``EXPERIMENTS``.
        part: ``(i, n)``: only every n-th run, beginning with the i-th, i from 1.
        overwrite: Record again what is recorded already, each run replacing its earlier self.

    Returns:
        The folder of the experiment.

    Raises:
        ValueError: Unknown name, or a part that is none.
        FileNotFoundError: The experiment needs another one, or data, that is not there.
    """
    _run_missing(_experiment(name), _experiment(name).settings, RESULTS / name, shard=shard, overwrite=overwrite)
    return RESULTS / name


def reproduce(name: str, *, shard: tuple[int, int] = (1, 1), jobs: list[dict[str, Any]] | None = None) -> pd.DataFrame:
    """Run an experiment again, below ``runs/reproduced``, and compare it with its record, which stays as it is.

    Like :func:`record`, it can be done in pieces: runs that are finished there are compared without running again.

    Args:
        name: A name in ``EXPERIMENTS``, recorded.
        part: As in :func:`record`.
        jobs: Only these runs, each by what tells it from the others; None for all.

    Returns:
        One row for each run, table and column of numbers or booleans, with the means ``recorded`` and ``now``, their
        relative ``difference``, and whether all values are ``identical``.

    Raises:
        TypeError: ``jobs`` is no list.
        ValueError: Unknown name, a part that is none, or ``jobs`` that are not recorded.
        FileNotFoundError: Nothing is recorded under that name.
    """
    import pandas as pd

    experiment, recorded, root = _experiment(name), _recorded_runs(name), RUNS / "reproduced" / name
    if jobs is not None:
        wanted = listed("jobs", jobs)
        recorded = [run for run in recorded if run.get("job", {}) in wanted]
        if not recorded:
            raise ValueError(f"jobs must name recorded runs of {name}, got {jobs!r}")
    for run in recorded:
        _check_run(run, experiment, name)
    tables = [store.read(store.folder_of(RESULTS / name, run.get("job", {}))) for run in recorded]
    done = [(run.get("settings"), run.get("job", {})) for run in store.runs(root)]
    for run in shard_of(recorded, shard):
        settings, job = run["settings"], run.get("job", {})
        if (settings, job) not in done:
            _run_jobs(experiment, settings, root, [job], RUNS / "unfinished" / "reproduced" / name)
    rows = []
    for run, before in zip(recorded, tables, strict=True):
        job = run.get("job", {})
        now = store.read(store.folder_of(root, job))
        for table in now:
            numbers = set(now[table].select_dtypes(NUMBERS))
            if table not in before or not numbers <= set(before[table].select_dtypes(NUMBERS)):
                raise ValueError(f"the record of {name} lacks the table {table}, or numbers of it; record it anew")
            rows += [{**job, **row} for row in _compare(table, before[table], now[table])]
    return pd.DataFrame(rows)


def _run_missing(
    experiment: Experiment,
    settings: dict[str, Any],
    root: Path,
    *,
    shard: tuple[int, int] = (1, 1),
    overwrite: bool = False,
    scratch: Path | None = None,
) -> None:
    """Run the jobs of a part that are not finished below ``root``; unfinished ones keep their state in ``scratch``."""
    mine = shard_of(experiment.jobs(settings), shard)
    if not overwrite:
        undone = _missing(experiment, settings, root)
        mine = [job for job in mine if job in undone]
    _run_jobs(
        experiment,
        settings,
        root,
        mine,
        scratch or RUNS / "unfinished" / root.parent.name / root.name,
        overwrite=overwrite,
    )


def _run_jobs(
    experiment: Experiment,
    settings: dict[str, Any],
    root: Path,
    jobs: list[Job],
    scratch: Path,
    *,
    overwrite: bool = False,
) -> None:
    for job in jobs:
        configuration = experiment.configuration(settings, job)
        digest = hashlib.sha256(json.dumps([settings, configuration], default=str).encode()).hexdigest()[:8]
        unfinished = store.folder_of(scratch / digest, job)  # other settings do not go on from this state
        if overwrite:
            shutil.rmtree(unfinished, ignore_errors=True)
        circumstances, start = store.circumstances(settings.get("accelerator", "cpu")), time.perf_counter()
        tables = experiment.run(settings, job, unfinished)
        images = experiment.images(settings)
        about = {
            "experiment": root.name,
            "question": experiment.question,
            "job": job,
            "settings": settings,
            "other_training_settings": configuration,
            "data": images.name,
            "data_fingerprint": images.fingerprint(),
            **circumstances,
            "seconds": round(time.perf_counter() - start),  # of the last sitting, if the run was stopped in between
            "pairs_per_second": _median_speed(tables),
        }
        store.write(store.folder_of(root, job), tables, about)
        shutil.rmtree(unfinished, ignore_errors=True)


def _median_speed(tables: Tables) -> int | None:
    """Of the epochs that were timed; None if there are none."""
    speeds = tables["epochs"]["pairs_per_second"].dropna() if "pairs_per_second" in tables.get("epochs", ()) else ()
    return round(speeds.median()) if len(speeds) else None


def shard_of(runs: list[dict[str, Any]], part: tuple[int, int]) -> list[dict[str, Any]]:
    if not isinstance(part, tuple | list) or len(part) != 2:
        raise ValueError(f"part must be (i, n) with 1 ≤ i ≤ n, got {part!r}")
    first, parts = part
    check_count("part", parts, hint="it is (i, n) with 1 ≤ i ≤ n")
    check_count("part", first, at_most=parts, hint="it is (i, n) with 1 ≤ i ≤ n")
    if not runs[first - 1 :: parts]:
        raise ValueError(f"part {first}/{parts} has no runs: the experiment has {len(runs)}")
    return runs[first - 1 :: parts]


def _missing(experiment: Experiment, settings: dict[str, Any], root: Path) -> list[Job]:
    recorded = {json.dumps(run.get("job", {})): run for run in store.runs(root)}
    return [
        job
        for job in experiment.jobs(settings)
        if (run := recorded.get(json.dumps(job))) is None or not _is_current(run, experiment, settings)
    ]


def _is_current(run: dict[str, Any], experiment: Experiment, settings: dict[str, Any]) -> bool:
    """Whether a run was recorded with the present settings; of those that list the runs, only its own matter."""
    job = run.get("job", {})
    lists = LISTS if job else set()
    before = {name: value for name, value in run.get("settings", {}).items() if name not in lists}
    now = {name: value for name, value in settings.items() if name not in lists}
    configuration = _as_written(experiment.configuration(settings, job))
    return before == _as_written(now) and _agrees(run.get("other_training_settings", {}), configuration)


def _agrees(before: dict[str, Any], now: dict[str, Any]) -> bool:
    """Whether all that was recorded is the same now; a setting that there was not then has had its default."""
    return all(
        _agrees(value, now[name]) if isinstance(value, dict) else value == now[name]
        for name, value in before.items()
        if name in now
    )


def _as_written(value: dict[str, Any]) -> dict[str, Any]:
    return json.loads(json.dumps(value))


def _check_run(run: dict[str, Any], experiment: Experiment, name: str) -> None:
    """Refuse a recorded run that is not one of this experiment: its file was changed, or is of another version."""
    now, before = _as_written(experiment.settings), run.get("settings", {})
    lost = [key for key in now.keys() - LISTS if type(before.get(key)) is not type(now[key])]
    if lost or run.get("job", {}) not in experiment.jobs(experiment.settings | before):
        raise ValueError(
            f"the record of {name} has a run that is none of its runs, with the job {run.get('job', {})}"
            f"{' and other settings ' * bool(lost)}{', '.join(sorted(lost))}; record it anew"
        )


def _compare(name: str, before: pd.DataFrame, now: pd.DataFrame) -> Iterator[dict[str, Any]]:
    for column in before.select_dtypes(NUMBERS):
        old, new = before[column].mean(), now[column].mean()
        same = before[column].equals(now[column])  # so are NaN and infinity of runs that diverged
        yield {
            "table": name,
            "column": column,
            "recorded": old,
            "now": new,
            "difference": 0.0 if same else abs(new - old) / max(abs(old), abs(new), 1e-300),
            "identical": same,
        }


def _recorded_runs(name: str) -> list[dict[str, Any]]:
    runs = store.runs(RESULTS / name)
    if not runs:
        raise FileNotFoundError(
            f"no recorded run at {RESULTS / name}; record it with: python -m normcourse record {name}"
        )
    return runs


def _experiment(name: str) -> Experiment:
    check_choice("name", name, EXPERIMENTS)
    return EXPERIMENTS[name]
