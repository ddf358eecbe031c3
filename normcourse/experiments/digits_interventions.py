"""SimCLR on digits from changed initial weights and with GradScale, each condition at its own learning rates."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from normcourse.experiments.base import Experiment, Settings, Work, digits_configuration
from normcourse.experiments.store import Job, Store, Tables
from normlib import augment, data
from normlib.interventions import cut_initialization
from normlib.models import DIGITS_LAYERS, SimCLR, digits_simclr
from normlib.tracking import NormTracker
from normlib.training import TrainConfig, fit


def jobs(settings: Settings, store: Store) -> list[Job]:
    """Every condition at its learning rates, with every seed."""
    return [
        {"condition": name, "lr": lr, "seed": seed}
        for name in settings["conditions"]
        for lr in settings["lrs"][name]
        for seed in range(settings["seeds"])
    ]


def configuration(settings: Settings, job: Job) -> dict[str, Any]:
    """Training settings left at their defaults, and what the condition changes."""
    return digits_configuration(settings, job) | {"changes": settings["conditions"][job["condition"]]}


def run(settings: Settings, job: Job, folder: Path) -> Tables:
    """One training: its row of ``runs``, and its loss and mean norm by epoch.

    A run whose loss becomes NaN is a result: its row has ``diverged`` and no final loss, and its loss by epoch is
    missing, while its norms are there.
    """
    import pandas as pd

    train, (lr, seed) = data.digits("train"), (job["lr"], job["seed"])
    model = _changed_network(settings["width"], seed, **settings["conditions"][job["condition"]])
    config = TrainConfig(lr=lr, seed=seed, epochs=settings["epochs"], batch_size=settings["batch_size"])
    steps_per_epoch = len(train) // config.batch_size
    loss = pd.Series(dtype=float)
    with NormTracker(model, DIGITS_LAYERS[-1], every=steps_per_epoch) as tracker:
        try:
            history = fit(
                model, train, config, augment=augment.TwoViews.digits(), tracker=tracker,
                accelerator="cpu", progress=False,
            ).steps  # fmt: skip
            loss = history.groupby("epoch")["loss"].mean()
        except FloatingPointError:  # the loss became NaN: nothing is left to train
            pass
    frame = tracker.to_frame()
    norm = frame[frame["statistic"] == "mean"].set_index("step")["value"]
    norm.index = norm.index // steps_per_epoch + 1  # at the first step of each epoch
    curve = pd.DataFrame({"loss": loss, "norm": norm}).rename_axis("epoch").reset_index()
    last = loss.loc[config.epochs - settings["last_epochs"] + 1 :]
    row = {"initial_norm": norm.iloc[0], "final_loss": last.mean(), "diverged": loss.empty}
    return {"runs": pd.DataFrame([row]), "epochs": curve}


def _changed_network(
    width: int,
    seed: int,
    *,
    cut: float = 1,
    scope: str = "all",
    parameters: str = "weights",
    power: float = 0,
    biases: bool = True,
) -> SimCLR:
    model = digits_simclr(width=width, seed=seed, grad_scale_power=power)
    if not biases:
        for name, parameter in model.named_parameters():
            if name.endswith("bias"):
                torch.nn.init.zeros_(parameter).requires_grad_(False)
    return cut_initialization(model, cut, scope=scope, parameters=parameters)


def work(settings: Settings) -> Work:
    """How much is trained."""
    trainings = sum(map(len, settings["lrs"].values())) * settings["seeds"]
    return Work("digits", trainings, trainings * settings["epochs"] * len(data.digits("train")))


EXPERIMENTS = [
    Experiment(
        name="digits-interventions",
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
        jobs=jobs,
        run=run,
        configuration=configuration,
        work=work,
    )
]
