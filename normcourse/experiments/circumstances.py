"""What a recorded number depends on: code, versions, device and settings; and whether a record is still current."""

from __future__ import annotations

import json
import platform
import subprocess
import time
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path
from typing import Any

from normcourse import paths
from normcourse.experiments.base import LISTS, Experiment, Settings
from normcourse.experiments.store import Tables
from normlib._utils import devices
from normlib._utils.files import replace_file


def describe(accelerator: str) -> dict[str, Any]:
    """What a number may depend on besides settings and data: code, versions, device, day."""
    import torch

    kind = "cuda" if accelerator != "cpu" and torch.cuda.is_available() else "cpu"
    cores = f", {devices.cores()} cores" if kind == "cpu" else ""
    return {
        "code": code_version(),
        "torch": version("torch"),
        "python": platform.python_version(),
        "device": devices.name_of(torch.device(kind)) + cores,
        "threads": torch.get_num_threads(),
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
    }


class Parts:
    """The parts that a job ran in, where it was stopped and taken up again: where, with what code, for how long.

    A part is noted when it begins, so that one that is killed is known too, though not for how long it ran.

    Args:
        folder: The folder of the job; the note lies beside it.
        accelerator: What the job runs on.
    """

    def __init__(self, folder: Path, accelerator: str):
        self._file = folder.with_name(f"{folder.name}.parts.json")
        self._accelerator = accelerator
        self._parts: list[dict[str, Any]] = []

    def __enter__(self) -> Parts:
        with suppress(OSError, ValueError):
            self._parts = json.loads(self._file.read_text(encoding="utf-8"))
        self._start = time.perf_counter()
        self._parts.append(describe(self._accelerator) | {"seconds": None})
        self._write()
        return self

    def __exit__(self, *exception: object) -> None:
        self._parts[-1]["seconds"] = round(time.perf_counter() - self._start, 2)
        self._write()

    def describe(self) -> dict[str, Any]:
        """For the provenance: the last part, the seconds of all, and if there were several, each of them."""
        seconds = [part["seconds"] for part in self._parts if part["seconds"] is not None]
        about = self._parts[-1] | {"seconds": round(sum(seconds), 2)}
        return about | ({"parts": self._parts} if len(self._parts) > 1 else {})

    def forget(self) -> None:
        """Remove the note."""
        self._file.unlink(missing_ok=True)

    def _write(self) -> None:
        self._file.parent.mkdir(parents=True, exist_ok=True)
        text = json.dumps(self._parts, ensure_ascii=False)
        replace_file(self._file, lambda path: path.write_text(text, encoding="utf-8"))


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
