"""The table of named experiments: what each asks, with which settings, and what runs it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from normlib import _cifar_runs, _digits_runs, _method_runs, data
from normlib._recorded import Job, Tables
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
        work: Takes the settings, returns the recipe, the number of runs, and the pairs that they train on in all.
    """

    question: str
    settings: dict[str, Any]
    smoke: dict[str, Any]
    run: Callable[[dict[str, Any], Job, Path], Tables]
    images: Callable[[dict[str, Any]], data.ImageSet]
    jobs: Callable[[dict[str, Any]], list[Job]] = _one_run
    configuration: Callable[[dict[str, Any], Job], dict[str, Any]] = _digits_configuration
    work: Callable[[dict[str, Any]], tuple[str, int, int]] = _digits_work


_DIGITS = {
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
        run=lambda settings, job, folder: _digits_runs.run_simclr(settings, folder),
        images=lambda settings: data.digits(),
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
        run=lambda settings, job, folder: _digits_runs.run_interventions(settings, folder),
        images=lambda settings: data.digits(),
    ),
    "digits-methods": Experiment(
        question="Beyond SimCLR: for which methods do norms grow and mean something, and does cut or GradScale help?",
        settings={
            "methods": _method_runs.METHODS,
            "conditions": _method_runs.CONDITIONS,
            "cuts": _method_runs.CUTS,
            "lrs": _method_runs.RATES,
            "search_seeds": 3,
            "seeds": 5,
            "change": {
                "network": "digits_batch_norm",
                "head": "batch_norm",
                "epochs": 50,
                "warmup_epochs": 2,
                "batch_size": 128,
            },
            "look_every": 5,
            "draws": 20,
        },
        smoke={
            "search_seeds": 1,
            "lrs": {
                name: {key: rates[2:3] for key, rates in each.items()} for name, each in _method_runs.RATES.items()
            },
            "seeds": 2,
            "change": {
                "network": "digits_batch_norm",
                "head": "batch_norm",
                "epochs": 3,
                "warmup_epochs": 0,
                "batch_size": 256,
            },
            "draws": 2,
        },
        run=lambda settings, job, folder: _method_runs.run(settings, folder),
        images=lambda settings: data.digits(),
        configuration=_method_runs.configuration,
        work=_method_runs.work,
    ),
}


def _on_cifar(edition: str) -> dict[str, Experiment]:
    runs = _cifar_runs
    return {
        name: Experiment(*entry, runs.run_job, runs.images, runs.jobs, runs.configuration, runs.work)
        for name, entry in runs.experiments(edition).items()
    }


EXPERIMENTS: dict[str, Experiment] = _DIGITS | _on_cifar("gpu") | _on_cifar("cpu")
