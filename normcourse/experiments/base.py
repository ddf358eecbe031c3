"""What an experiment is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from normcourse.experiments.store import Job, Tables
from normlib import data
from normlib.training import TrainConfig


def _one_run(settings: dict[str, Any]) -> list[Job]:
    return [{}]


def _digits_configuration(settings: dict[str, Any], job: Job) -> dict[str, Any]:
    """Training settings left at their defaults; ``lrs`` and ``seeds`` name lists of ``lr`` and ``seed``."""
    named = {*settings, *(name.removesuffix("s") for name in settings)}
    return {name: value for name, value in asdict(TrainConfig()).items() if name not in named}


def _digits_work(settings: dict[str, Any]) -> tuple[str, int, int]:
    lrs = settings["lrs"]
    runs = settings["seeds"] * (sum(map(len, lrs.values())) if isinstance(lrs, dict) else len(lrs))
    return "digits", runs, runs * settings["epochs"] * len(data.digits("train"))


@dataclass(frozen=True)
class Experiment:
    """One named experiment: what it asks, its settings, and the functions that run it.

    Args:
        question: What it is to show, one sentence.
        settings: Everything that the numbers depend on, as plain values.
        smoke: The settings to change for a tiny run.
        run: Takes the settings, a job and a run directory for what is not finished; returns tidy tables by name.
        images: Gives the data for some settings, for their fingerprint.
        jobs: Takes the settings, returns the runs, each with what tells it from the others.
        configuration: Takes the settings and a job, returns the training settings that ``settings`` does not name.
        work: Takes the settings, returns the recipe, the number of runs, and the pairs that they train on in all; None
            for an experiment that trains no recipe.
    """

    question: str
    settings: dict[str, Any]
    smoke: dict[str, Any]
    run: Callable[[dict[str, Any], Job, Path], Tables]
    images: Callable[[dict[str, Any]], data.ImageSet]
    jobs: Callable[[dict[str, Any]], list[Job]] = _one_run
    configuration: Callable[[dict[str, Any], Job], dict[str, Any]] = _digits_configuration
    work: Callable[[dict[str, Any]], tuple[str, int, int]] | None = _digits_work
