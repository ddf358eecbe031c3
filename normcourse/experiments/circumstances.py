"""What a recorded number depends on: code, versions, device and settings; and whether a record is still current."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import time
from importlib.metadata import version
from typing import Any

from normcourse import paths
from normcourse.experiments.base import LISTS, Experiment, Settings
from normcourse.experiments.store import Tables


def describe(accelerator: str) -> dict[str, Any]:
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


def median_speed(tables: Tables) -> int | None:
    """Of the epochs that were timed; None if there are none."""
    speeds = tables["epochs"]["pairs_per_second"].dropna() if "pairs_per_second" in tables.get("epochs", ()) else ()
    return round(speeds.median()) if len(speeds) else None


def is_current(entry: dict[str, Any], experiment: Experiment, settings: Settings) -> bool:
    """Whether a job was recorded with the present settings; of those that list the jobs, only its own matter."""
    before = {name: value for name, value in entry["settings"].items() if name not in LISTS}
    now = {name: value for name, value in settings.items() if name not in LISTS}
    configuration = as_written(experiment.configuration(settings, entry["job"]))
    return before == as_written(now) and _agrees(entry["other_training_settings"], configuration)


def _agrees(before: dict[str, Any], now: dict[str, Any]) -> bool:
    """Whether all that was recorded is the same now; a setting that there was not then has had its default."""
    return all(
        _agrees(value, now[name]) if isinstance(value, dict) else value == now[name]
        for name, value in before.items()
        if name in now
    )


def as_written(value: dict[str, Any]) -> dict[str, Any]:
    """A value as it comes back from JSON: tuples as lists, for instance."""
    return json.loads(json.dumps(value))
