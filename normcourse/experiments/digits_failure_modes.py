"""The recorded runs that go wrong, each in its own way: what a norm tracker shows of them, beside a healthy one."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from normcourse.experiments.base import Experiment, Settings, Work
from normcourse.experiments.store import Job, Store, Tables
from normlib import augment, data
from normlib.evaluation import detect_collapse
from normlib.interventions import cut_initialization
from normlib.losses import cosine_loss, info_nce
from normlib.models import digits_simclr
from normlib.tracking import NormTracker
from normlib.training.batches import Batches

if TYPE_CHECKING:
    import pandas as pd

    from normlib.models import SimCLR

HEALTHY = {"loss": "nt-xent", "lr": 0.05, "weight_decay": 1e-6, "weights_times": 1, "hidden_bias": 0}
FAILURE_MODES = {  # what each changes of the healthy run
    "healthy": {},
    "no negatives": {"loss": "cosine"},
    "dead projector": {"hidden_bias": -5},
    "weights too large": {"weights_times": 20},
    "steps too large": {"lr": 1.0},
    "decay too strong": {"weight_decay": 0.1},
}
LAYERS = ("backbone.5", "projector.0", "projector.2")
STATISTICS = ["mean", "std", "q05", "q95", "grad_mean"]
LOSSES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "nt-xent": partial(info_nce, temperature=0.5, check_finite=False),
    "cosine": partial(cosine_loss, check_finite=False),
}


def jobs(settings: Settings, store: Store) -> list[Job]:
    """Every failure mode, and the healthy run, with every seed."""
    return [{"run": name, "seed": seed} for name in settings["failure_modes"] for seed in range(settings["seeds"])]


def work(settings: Settings) -> Work:
    """How much is trained."""
    trainings = len(settings["failure_modes"]) * settings["seeds"]
    return Work("digits", trainings, trainings * settings["steps"] * settings["batch_size"])


def configuration(settings: Settings, job: Job) -> dict[str, Any]:
    """What all trainings share, and what this one changes of the healthy run."""
    changes = settings["failure_modes"][job["run"]]
    return {"optimizer": "sgd", "momentum": 0.9, "temperature": 0.5, "changes": changes}


def run(settings: Settings, job: Job, folder: Path) -> Tables:
    """One training: statistics of norms and of their gradients by step and layer, and what the cause is."""
    mode = settings["healthy"] | settings["failure_modes"][job["run"]]
    model = network(settings["width"], job["seed"], mode)
    steps, tracker = train(model, mode, settings, job["seed"])
    norms = tracker.to_frame()
    wanted = norms["statistic"].isin(STATISTICS) & (norms["class"] == -1)
    return {"steps": steps, "norms": norms[wanted].drop(columns="class")}


def network(width: int, seed: int, mode: dict[str, Any]) -> SimCLR:
    """The network of the digits, its weights multiplied, and the biases of the projector's hidden layer shifted."""
    model = cut_initialization(digits_simclr(width=width, seed=seed), 1 / mode["weights_times"])
    with torch.no_grad():
        model.projector[0].bias += mode["hidden_bias"]
    return model


def train(model: SimCLR, mode: dict[str, Any], settings: Settings, seed: int) -> tuple[pd.DataFrame, NormTracker]:
    """A plain loop without warm-up: loss, spread, rank and dead units of every few steps, and the tracker."""
    import pandas as pd

    optimizer = torch.optim.SGD(model.parameters(), mode["lr"], momentum=0.9, weight_decay=mode["weight_decay"])
    batches = Batches(
        data.digits("train"), augment.TwoViews.digits(), batch_size=settings["batch_size"], seed=seed,
        device=torch.device("cpu"),
    )  # fmt: skip
    rows, hidden = [], []
    with (
        model.projector[1].register_forward_hook(lambda module, inputs, output: hidden.append(output.detach())),
        NormTracker(model, LAYERS, every=settings["track_every"], gradients=True) as tracker,
    ):
        for step in range(settings["steps"]):
            (first, second), _ = batches.draw(step)
            z = model(torch.cat([first, second]))
            loss = LOSSES[mode["loss"]](*z.chunk(2))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            tracker.step()
            units = hidden.pop()
            if step % settings["track_every"] == 0:
                found = detect_collapse(z[: len(first)])
                dead = (units <= 0).all(0).float().mean().item()
                rows.append(
                    {"step": step, "loss": loss.item(), "spread": found.spread, "rank": found.rank, "dead": dead}
                )
    return pd.DataFrame(rows), tracker


EXPERIMENTS = [
    Experiment(
        name="digits-failure-modes",
        question="What do norms and their gradients look like while a training goes wrong?",
        settings={
            "healthy": HEALTHY,
            "failure_modes": FAILURE_MODES,
            "seeds": 5,
            "steps": 300,
            "track_every": 5,
            "batch_size": 128,
            "width": 16,
        },
        smoke={"seeds": 2, "steps": 10, "width": 4},
        jobs=jobs,
        run=run,
        configuration=configuration,
        work=work,
    )
]
