"""Recorded jobs run again, and compared with their record."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from normcourse import paths
from normcourse.experiments.base import LISTS, Experiment
from normcourse.experiments.circumstances import as_written
from normcourse.experiments.store import Job, Store, key_of, rows_of
from normlib._utils.arguments import listed

if TYPE_CHECKING:
    import pandas as pd
from normcourse.experiments.runner import (
    check_shard,
    experiment_named,
    recorded_entries,
    recorded_store,
    run_job,
    shard_of,
)

NUMBERS = ["number", "bool"]  # columns that a reproduction compares


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

    experiment, recorded = experiment_named(name), recorded_store()
    check_shard(shard)
    entries = recorded_entries(name, recorded)
    if jobs is not None:
        wanted = [key_of(job) for job in listed("jobs", jobs)]
        entries = [entry for entry in entries if key_of(entry["job"]) in wanted]
        if not entries:
            raise ValueError(f"jobs must name recorded jobs of {name}, got {jobs!r}")
    for entry in entries:
        check_entry(entry, experiment)
    mine = shard_of(entries, shard)
    before, again = recorded.tables(name), Store(paths.RUNS / "reproduced", recorded)
    done = [(entry["settings"], entry["job"]) for entry in again.entries(name)]
    for entry in mine:
        if (entry["settings"], entry["job"]) not in done:
            run_job(experiment, entry["settings"], entry["job"], again)
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


def check_entry(entry: dict[str, Any], experiment: Experiment) -> None:
    """Refuse a recorded job that is not one of this experiment: its file was changed, or is of another version."""
    now, before = as_written(experiment.settings), entry["settings"]
    lost = sorted(key for key in now.keys() - LISTS if type(before.get(key)) is not type(now[key]))
    known = experiment.jobs(experiment.settings | before, recorded_store())
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
