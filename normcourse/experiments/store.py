"""The folder ``results/``: tables of recorded runs, each with its provenance, written whole or not at all.

An experiment of one run lies in ``results/NAME/``. An experiment of many has a folder for each of them in there, named
after what tells the runs apart; its tables are those of all runs together, with these names and values as columns.
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
import tempfile
import time
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from normcourse.paths import ROOT
from normlib._utils.files import UNREADABLE, read_json

if TYPE_CHECKING:
    import pandas as pd

PROVENANCE = "provenance.json"

Tables = dict[str, "pd.DataFrame"]
Job = dict[str, Any]  # what tells one run of an experiment from the others: column name and value


def folder_of(root: Path, job: Job) -> Path:
    """Where a run of an experiment lies below the experiment's folder; an experiment of one run lies there itself.

    >>> folder_of(Path("results/tiny"), {"condition": "cut 3", "lr": 0.1, "seed": 0}).name
    'condition-cut-3_lr-0.1_seed-0'
    """
    slug = "_".join(f"{key}-{value}" for key, value in job.items()).replace(" ", "-")
    return root / slug if slug else root


def write(folder: Path, tables: Tables, about: dict[str, Any]) -> None:
    """Write beside the place, then change places: a stopped writer leaves an earlier run whole."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}-") as temporary:
        new, old = Path(temporary) / "new", Path(temporary) / "old"
        new.mkdir()
        for table, frame in tables.items():
            frame.to_parquet(new / f"{table}.parquet", index=False, compression="zstd")
        text = json.dumps(about, indent=2, ensure_ascii=False)
        (new / PROVENANCE).write_text(text + "\n", encoding="utf-8")
        try:
            if folder.exists():
                folder.rename(old)
            new.rename(folder)
        except BaseException:
            if old.exists() and not folder.exists():
                old.rename(folder)
            raise


def runs(root: Path) -> list[dict[str, Any]]:
    """The provenance of each run in an experiment's folder, in order of the runs' folders.

    Raises:
        ValueError: A file of it is not as :func:`write` left it; the message names it.
    """
    paths = [root / PROVENANCE, *sorted(root.glob(f"[!.]*/{PROVENANCE}"))]
    return [_provenance(path) for path in paths if path.is_file()]


def _provenance(path: Path) -> dict[str, Any]:
    about = read_json(path)
    parts = ("job", "settings", "other_training_settings")  # an experiment of one run had no job at first
    if not isinstance(about, dict) or not all(isinstance(about.get(name, {}), dict) for name in parts):
        raise ValueError(
            f"{path} is no provenance of a run: it must hold an object with the objects {', '.join(parts)}"
        )
    return about


def read(folder: Path) -> Tables:
    """The tables of one run.

    Raises:
        ValueError: One cannot be read; the message names its file.
    """
    return {path.stem: read_table(path) for path in sorted(folder.glob("*.parquet"))}


def read_table(path: Path, columns: list[str] | None = None) -> pd.DataFrame:
    """A table, or some of its columns.

    Raises:
        ValueError: The file is damaged or lacks a column; the message names it.
    """
    import pandas as pd

    try:
        return pd.read_parquet(path, columns=columns)
    except (OSError, *UNREADABLE) as error:
        wanted = "its table" if columns is None else f"the columns {columns}"
        reason = [*str(error).splitlines(), type(error).__name__][0]
        raise ValueError(f"{path} cannot give {wanted}: {reason}") from None


def join(root: Path, jobs: list[Job]) -> Tables:
    """The tables of those of the runs that are there, with what tells the runs apart as columns."""
    import pandas as pd

    parts: dict[str, list[pd.DataFrame]] = {}
    for job in jobs:
        for table, frame in read(folder_of(root, job)).items():
            parts.setdefault(table, []).append(frame.assign(**job))
    return {table: pd.concat(frames, ignore_index=True) for table, frames in parts.items()}


def code_version() -> str:
    """Commit of the checkout, marked ``-dirty`` when files differ from it; the package's version without git."""
    command = ["git", "-C", str(ROOT), "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):  # no git, or no checkout
        return version("embedding-norms")


def circumstances(accelerator: str) -> dict[str, Any]:
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
