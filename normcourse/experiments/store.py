"""The store of recorded runs: for each experiment one table of each kind, and one provenance that lists its jobs.

While an experiment is being recorded, each finished job lies in a folder of its own, ``NAME/jobs/JOB/``, with its
tables and its provenance. When the last one is there, :meth:`Store.gather` joins them to ``NAME/TABLE.parquet`` and
``NAME/provenance.json``, in which what all jobs share stands once. Whatever is read from a store is the same in both
states, and in between. Nothing here needs torch.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from normlib._utils.files import UNREADABLE, read_json, replace_file

if TYPE_CHECKING:
    import pandas as pd

PROVENANCE = "provenance.json"
JOBS = "jobs"

Tables = dict[str, "pd.DataFrame"]
Job = dict[str, Any]  # what tells one job of an experiment from the others: column name and value


def key_of(job: Job) -> str:
    """A job as text, by which it can be looked up."""
    return json.dumps(job, sort_keys=True)


def job_folder(root: Path, job: Job) -> Path:
    """The folder of one job below another folder.

    >>> job_folder(Path("results/tiny/jobs"), {"condition": "cut 3", "lr": 0.1, "seed": 0}).name
    'condition-cut-3_lr-0.1_seed-0'
    """
    return root / ("_".join(f"{name}-{value}" for name, value in job.items()).replace(" ", "-") or "only")


class Store:
    """Recorded experiments below a folder.

    Args:
        root: The folder, ``results/`` for instance; it need not exist yet.
        others: Stores in which :meth:`complete` looks for an experiment that is not complete here: a search, say.
    """

    def __init__(self, root: Path, *others: Store):
        self.root = root
        self.others = others

    def folder(self, name: str) -> Path:
        """The folder of an experiment."""
        return self.root / name

    def jobs(self, name: str) -> list[Job]:
        """The jobs of an experiment that are finished."""
        return [entry["job"] for entry in self.entries(name)]

    def entries(self, name: str) -> list[dict[str, Any]]:
        """The provenance of each finished job, with the job itself under ``"job"``.

        Raises:
            ValueError: A file is not as this class left it; the message names it.
        """
        entries = {key_of(entry["job"]): entry for entry in self._gathered(name)}
        for folder in self._single_folders(name):
            entry = _read_provenance(folder / PROVENANCE)
            entries[key_of(entry["job"])] = entry
        return list(entries.values())

    def complete(self, name: str, jobs: list[Job]) -> Store:
        """The store, this one or one of the others, that holds all of these jobs.

        Raises:
            FileNotFoundError: None does; the message says how many jobs are missing here.
        """
        wanted = {key_of(job) for job in jobs}
        for store in (self, *self.others):
            if wanted <= {key_of(job) for job in store.jobs(name)}:
                return store
        done = wanted & {key_of(job) for job in self.jobs(name)}
        raise FileNotFoundError(
            f"{name} is needed first, and {len(done)} of these {len(wanted)} jobs of it are recorded; finish it with: "
            f"python -m normcourse record {name}"
        )

    def file(self, name: str, file: str) -> Path:
        """A file that a job of an experiment left beside its tables.

        Raises:
            FileNotFoundError: There is none.
        """
        folders = [self.folder(name), *self._single_folders(name)]
        for folder in folders:
            if (folder / file).is_file():
                return folder / file
        raise FileNotFoundError(f"no job of {name} has left a file {file} in {self.folder(name)}")

    def tables(self, name: str, jobs: list[Job] | None = None) -> Tables:
        """The tables of an experiment, all jobs together, with what tells the jobs apart as columns.

        Args:
            name: The experiment.
            jobs: Only these, in this order, as far as they are finished; None for all.

        Raises:
            ValueError: A table cannot be read; the message names its file.
        """
        names = {path.stem for path in self.folder(name).glob("*.parquet")}
        names |= {path.stem for folder in self._single_folders(name) for path in folder.glob("*.parquet")}
        found = {table: self.table(name, table, jobs=jobs) for table in sorted(names)}
        return {table: frame for table, frame in found.items() if frame is not None}

    def table(
        self, name: str, table: str, columns: list[str] | None = None, jobs: list[Job] | None = None
    ) -> pd.DataFrame | None:
        """One table of an experiment, or some of its columns, with what tells the jobs apart; None if no job has it.

        Raises:
            ValueError: The file is damaged or lacks a column; the message names it.
        """
        import pandas as pd

        gathered = [entry["job"] for entry in self._gathered(name)]
        single = {key_of(_read_provenance(folder / PROVENANCE)["job"]): folder for folder in self._single_folders(name)}
        listed = gathered + [json.loads(key) for key in single if json.loads(key) not in gathered]
        wanted = listed if jobs is None else [job for job in jobs if job in listed]
        path, whole = self.folder(name) / f"{table}.parquet", None
        if path.is_file() and not single.keys() >= {key_of(job) for job in wanted}:
            whole = _read_table(path, columns, gathered)
        if whole is not None and not single and wanted == gathered:
            return whole
        frames = []
        for job in wanted:
            folder = single.get(key_of(job))
            if folder is None and whole is not None:
                frames.append(rows_of(whole, job))
            elif folder is not None and (folder / f"{table}.parquet").is_file():
                own = None if columns is None else [column for column in columns if column not in job]
                frames.append(_read_table(folder / f"{table}.parquet", own).assign(**job))
        return pd.concat(frames, ignore_index=True) if frames else None

    def write(self, name: str, tables: Tables, entry: dict[str, Any], files: Sequence[Path] = ()) -> None:
        """Keep a finished job: beside its place first, then into it in one move.

        Args:
            name: The experiment.
            tables: What the job left, without the columns that tell jobs apart.
            entry: Its provenance, with the job under ``"job"``.
            files: Files to keep beside the tables, such as weights; no two jobs' may have the same name.
        """
        folder = job_folder(self.folder(name) / JOBS, entry["job"])
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".") as temporary:
            new, old = Path(temporary, "new"), Path(temporary, "old")
            new.mkdir()
            for table, frame in tables.items():
                frame.to_parquet(new / f"{table}.parquet", index=False, compression="zstd")
            _write_json(new / PROVENANCE, entry)
            for file in files:
                shutil.copyfile(file, new / file.name)
            try:
                if folder.exists():
                    folder.rename(old)
                new.rename(folder)
            except BaseException:
                if old.exists() and not folder.exists():
                    old.rename(folder)
                raise

    def gather(self, name: str, jobs: list[Job]) -> None:
        """Join the tables of finished jobs, list the jobs in one provenance, and remove the folders of single jobs.

        Files that are neither tables nor provenance move to the experiment's own folder.

        Stopped at any moment, it leaves all jobs readable: a job's own folder counts until the provenance lists it.

        Args:
            name: The experiment.
            jobs: All its jobs, in the order that the rows shall have.

        Raises:
            ValueError: One of the jobs is not finished.
        """
        if not self._single_folders(name) and [entry["job"] for entry in self._gathered(name)] == jobs:
            return
        by_job = {key_of(entry["job"]): entry for entry in self.entries(name)}
        if missing := [job for job in jobs if key_of(job) not in by_job]:
            raise ValueError(f"{name} cannot be gathered: {len(missing)} of its {len(jobs)} jobs are not finished")
        tables = self.tables(name, jobs)
        folder = self.folder(name)
        for table, frame in tables.items():
            replace_file(folder / f"{table}.parquet", partial(frame.to_parquet, index=False, compression="zstd"))
        entries = [by_job[key_of(job)] for job in jobs]
        shared = _shared([{key: value for key, value in entry.items() if key != "job"} for entry in entries])
        about = shared | {"jobs": [_without(entry, shared) for entry in entries]}
        replace_file(folder / PROVENANCE, partial(_write_json, value=about))
        for path in folder.glob("*.parquet"):
            if path.stem not in tables:
                path.unlink()
        for single in self._single_folders(name):
            for path in single.iterdir():
                if path.suffix not in (".parquet", ".json"):
                    path.replace(folder / path.name)
        shutil.rmtree(folder / JOBS, ignore_errors=True)

    def _gathered(self, name: str) -> list[dict[str, Any]]:
        path = self.folder(name) / PROVENANCE
        if not path.is_file():
            return []
        about = read_json(path)
        listed = about.get("jobs") if isinstance(about, dict) else None
        if not isinstance(listed, list) or not all(isinstance(entry, dict) for entry in listed):
            raise ValueError(f"{path} is no provenance of an experiment: it must hold an object with a list of jobs")
        shared = {key: value for key, value in about.items() if key != "jobs"}
        return [_checked(path, _merged(shared, entry)) for entry in listed]

    def _single_folders(self, name: str) -> list[Path]:
        return [path.parent for path in sorted((self.folder(name) / JOBS).glob(f"[!.]*/{PROVENANCE}"))]


def rows_of(table: pd.DataFrame, job: Job) -> pd.DataFrame:
    """The rows of a table that one job left, with all columns."""
    import numpy as np

    mine = np.ones(len(table), dtype=bool)
    for column, value in job.items():
        mine &= (table[column] == value).to_numpy()
    return table[mine]


def _read_table(path: Path, columns: list[str] | None = None, jobs: Sequence[Job] = ()) -> pd.DataFrame:
    import pandas as pd

    if columns is not None:
        columns = list(dict.fromkeys([*columns, *(name for job in jobs for name in job)]))
    try:
        return pd.read_parquet(path, columns=columns)
    except (OSError, *UNREADABLE) as error:
        wanted = "its table" if columns is None else f"the columns {columns}"
        reason = [*str(error).splitlines(), type(error).__name__][0]
        raise ValueError(f"{path} cannot give {wanted}: {reason}") from None


def _read_provenance(path: Path) -> dict[str, Any]:
    return _checked(path, read_json(path))


def _checked(path: Path, entry: Any) -> dict[str, Any]:
    parts = ("job", "settings", "other_training_settings")
    if not isinstance(entry, dict) or not all(isinstance(entry.get(name), dict) for name in parts):
        raise ValueError(f"{path} is no provenance of a job: it must hold the objects {', '.join(parts)}")
    return entry


def _write_json(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def _shared(values: list[dict[str, Any]]) -> dict[str, Any]:
    """What all dictionaries hold alike, also within the dictionaries in them.

    >>> _shared([{"a": 1, "b": {"c": 2, "d": 3}}, {"a": 1, "b": {"c": 2, "d": 4}}])
    {'a': 1, 'b': {'c': 2}}
    """
    first, shared = values[0], {}
    for key, value in first.items():
        if all(key in other and other[key] == value for other in values):
            shared[key] = value
        elif isinstance(value, dict) and all(isinstance(other.get(key), dict) for other in values):
            shared[key] = _shared([other[key] for other in values])
    return shared


def _without(value: dict[str, Any], shared: dict[str, Any]) -> dict[str, Any]:
    """What a dictionary holds besides the shared part; :func:`_merged` puts the two together again."""
    own = {}
    for key, item in value.items():
        if key not in shared:
            own[key] = item
        elif item != shared[key]:
            own[key] = _without(item, shared[key])
    return own


def _merged(shared: dict[str, Any], own: dict[str, Any]) -> dict[str, Any]:
    """Both together; values of ``own`` win."""
    both = shared | own
    for key in shared.keys() & own.keys():
        if isinstance(shared[key], dict) and isinstance(own[key], dict):
            both[key] = _merged(shared[key], own[key])
    return both
