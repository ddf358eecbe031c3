"""Named experiments and their recorded runs: small tables under ``results/``, each with its provenance.

``load_or_run`` is the one switch that heavy cells go through: it reads the recorded run, runs the experiment in full,
or runs a tiny version of it, as ``NORMLIB_MODE`` says. ``python -m normlib.records NAME`` records a run anew.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import platform
import subprocess
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from normlib import data, runtime
from normlib._digits_runs import DIGITS_LAYERS, digits_simclr, run_interventions, run_simclr
from normlib.training import TrainConfig

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "DIGITS_LAYERS",
    "EXPERIMENTS",
    "RESULTS",
    "Experiment",
    "Tables",
    "digits_simclr",
    "load_or_run",
    "provenance",
    "record",
]

RESULTS = Path(__file__).resolve().parents[1] / "results"
Tables = dict[str, "pd.DataFrame"]


@dataclass(frozen=True)
class Experiment:
    """One named experiment: what it asks, its settings, and the function that runs it.

    Args:
        question: What the run is to show, one sentence.
        settings: Everything that the numbers depend on, as plain values.
        smoke: The settings to change for a tiny run.
        run: Takes the settings, returns tidy tables by name.
        images: Gives the data, for their fingerprint.
    """

    question: str
    settings: dict[str, Any]
    smoke: dict[str, Any]
    run: Callable[[dict[str, Any]], Tables]
    images: Callable[[], data.ImageSet]


EXPERIMENTS: dict[str, Experiment] = {
    "digits-simclr": Experiment(
        question="How do norms, loss and features move while SimCLR trains on digits at several learning rates?",
        settings={
            "lrs": [0.03, 0.1, 0.3, 1.0],
            "seeds": 8,
            "epochs": 200,
            "batch_size": 256,
            "evaluate_every": 20,
            "track_every": 5,
            "draws": 50,
        },
        smoke={"lrs": [0.1, 0.3], "seeds": 2, "epochs": 4, "evaluate_every": 2, "draws": 2},
        run=run_simclr,
        images=data.digits,
    ),
    "digits-interventions": Experiment(
        question="At its own best learning rate, does SimCLR on digits gain from cut-initialization or GradScale?",
        settings={
            "conditions": {
                "default": {},
                "no biases": {"biases": False},
                "weights cut by 3": {"cut": 3},
                "weights times 4": {"cut": 1 / 4},
                "last layer times 100": {"cut": 1 / 100, "scope": "last", "parameters": "all"},
                "default, p = 1": {"power": 1},
                "weights times 4, p = 1": {"cut": 1 / 4, "power": 1},
            },
            "lrs": {
                "default": [0.025, 0.05, 0.1, 0.2, 0.4],
                "no biases": [1 / 64, 1 / 32, 1 / 16, 1 / 8, 1 / 4],
                "weights cut by 3": [0.1, 0.4, 1.6, 6.4, 25.6],
                "weights times 4": [0.25, 0.5, 1.0, 2.0, 4.0],
                "last layer times 100": [0.05, 0.1, 0.2, 0.4, 0.8],
                "default, p = 1": [0.025, 0.05, 0.1, 0.2, 0.4],
                "weights times 4, p = 1": [0.0025, 0.005, 0.01, 0.02, 0.04],
            },
            "seeds": 8,
            "epochs": 30,
            "last_epochs": 5,
            "batch_size": 256,
            "width": 32,
        },
        smoke={
            "lrs": {
                "default": [0.1, 0.2],
                "no biases": [1 / 16, 1 / 8],
                "weights cut by 3": [0.1, 0.4],
                "weights times 4": [1.0, 2.0],
                "last layer times 100": [0.1, 0.2],
                "default, p = 1": [0.1, 0.2],
                "weights times 4, p = 1": [0.01, 0.02],
            },
            "seeds": 2,
            "epochs": 3,
            "last_epochs": 1,
            "batch_size": 512,
            "width": 4,
        },
        run=run_interventions,
        images=data.digits,
    ),
}


def load_or_run(name: str) -> Tables:
    """The tables of an experiment, as the mode says: recorded, tiny, or run in full now.

    Args:
        name: A name in ``EXPERIMENTS``.

    Returns:
        Tidy tables by name.

    Raises:
        ValueError: Unknown name.
        FileNotFoundError: Nothing is recorded under that name; the message tells how to record it.

    >>> sorted(load_or_run("digits-simclr"))
    ['epochs', 'samples', 'steps']
    """
    experiment = _experiment(name)
    if runtime.mode() == "recorded":
        return _load(name)
    changes = experiment.smoke if runtime.mode() == "smoke" else {}
    return experiment.run({**experiment.settings, **changes})


def provenance(name: str) -> dict[str, Any]:
    """Where a recorded run comes from: settings, data, versions, device, time.

    Args:
        name: A name in ``EXPERIMENTS``.

    Returns:
        The provenance as it was written beside the tables.

    Raises:
        ValueError: Unknown name.
        FileNotFoundError: Nothing is recorded under that name.

    >>> provenance("digits-simclr")["settings"]["seeds"]
    8
    """
    _experiment(name)
    return json.loads(_existing(name, "provenance.json").read_text(encoding="utf-8"))


def record(name: str) -> Path:
    """Run an experiment in full and write its tables and provenance under ``results/``, replacing an earlier run.

    Args:
        name: A name in ``EXPERIMENTS``.

    Returns:
        The folder. It appears only when the run is complete.

    Raises:
        ValueError: Unknown name.
    """
    experiment = _experiment(name)
    code, start = _code_version(), time.perf_counter()
    tables = experiment.run(experiment.settings)
    about = {
        "experiment": name,
        "question": experiment.question,
        "settings": experiment.settings,
        "other_training_settings": _unnamed_settings(experiment.settings),
        "data": experiment.images().name,
        "data_fingerprint": experiment.images().fingerprint(),
        "code": code,
        "torch": version("torch"),
        "python": platform.python_version(),
        "device": _device_name(),
        "threads": torch.get_num_threads(),
        "seconds": round(time.perf_counter() - start),
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
    }
    return _write(RESULTS / name, tables, about)


def _write(folder: Path, tables: Tables, about: dict[str, Any]) -> Path:
    """Write beside the place, then change places: a stopped writer leaves the earlier run whole."""
    folder.parent.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}-") as temporary:
        new, old = Path(temporary) / "new", Path(temporary) / "old"
        new.mkdir()
        for table, frame in tables.items():
            frame.to_parquet(new / f"{table}.parquet", index=False, compression="zstd")
        text = json.dumps(about, indent=2, ensure_ascii=False)
        (new / "provenance.json").write_text(text + "\n", encoding="utf-8")
        if folder.exists():
            folder.rename(old)
        new.rename(folder)
    return folder


def _load(name: str) -> Tables:
    import pandas as pd

    _existing(name, "provenance.json")
    return {path.stem: pd.read_parquet(path) for path in sorted((RESULTS / name).glob("*.parquet"))}


def _existing(name: str, file: str) -> Path:
    path = RESULTS / name / file
    if not path.is_file():
        raise FileNotFoundError(f"no recorded run at {path.parent}; record it with: python -m normlib.records {name}")
    return path


def _experiment(name: str) -> Experiment:
    if name not in EXPERIMENTS:
        raise ValueError(f"name must be one of {', '.join(EXPERIMENTS)}, got {name!r}")
    return EXPERIMENTS[name]


def _unnamed_settings(settings: dict[str, Any]) -> dict[str, Any]:
    """Training settings left at their defaults; ``lrs`` and ``seeds`` name lists of ``lr`` and ``seed``."""
    named = {*settings, *(name.removesuffix("s") for name in settings)}
    return {name: value for name, value in dataclasses.asdict(TrainConfig()).items() if name not in named}


def _code_version() -> str:
    """Commit of the checkout, marked ``-dirty`` when files differ from it; the package's version without git."""
    command = ["git", "-C", str(RESULTS.parent), "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):  # no git, or no checkout
        return version("embedding-norms")


def _device_name() -> str:
    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    return f"{platform.machine()} CPU, {os.cpu_count()} cores"


def _main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m normlib.records", description="Record an experiment under results/."
    )
    parser.add_argument("name", choices=EXPERIMENTS)
    print(f"recorded in {record(parser.parse_args().name)}")


if __name__ == "__main__":
    _main()
