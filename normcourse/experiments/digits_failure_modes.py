"""The recorded runs that go wrong, each in its own way: what a norm tracker shows of them, beside a healthy one."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from normcourse.experiments.digits import run_each
from normcourse.experiments.store import Job, Tables
from normlib import augment, data
from normlib.evaluation import detect_collapse
from normlib.interventions import cut_initialization
from normlib.losses import cosine_loss, info_nce
from normlib.models import digits_simclr
from normlib.tracking import NormTracker
from normlib.training.batches import Batches

if TYPE_CHECKING:
    from normlib.models import SimCLR

HEALTHY = {"loss": "nt-xent", "lr": 0.05, "weight_decay": 1e-6, "weights_times": 1, "hidden_bias": 0}
ILLS = {  # what each changes of a healthy run
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


def jobs(settings: dict[str, Any]) -> list[Job]:
    """Every ill with every seed."""
    return [{"run": name, "seed": seed} for name in settings["ills"] for seed in range(settings["seeds"])]


def work(settings: dict[str, Any]) -> tuple[str, int, int]:
    """The recipe, the number of runs, and the pairs of views that they train on in all."""
    runs = len(jobs(settings))
    return "digits", runs, runs * settings["steps"] * settings["batch_size"]


def run(settings: dict[str, Any], folder: Path) -> Tables:
    """Each ill on digits: statistics of norms and of their gradients by step and layer, and what the cause is."""
    return run_each(jobs(settings), partial(_run, settings), folder)


def _run(settings: dict[str, Any], job: Job) -> Tables:
    ill = settings["healthy"] | settings["ills"][job["run"]]
    model = network(settings["width"], job["seed"], ill)
    steps, tracker = train(model, ill, settings, job["seed"])
    norms = tracker.to_frame()
    wanted = norms["statistic"].isin(STATISTICS) & (norms["class"] == -1)
    return {"steps": steps, "norms": norms[wanted].drop(columns="class")}


def network(width: int, seed: int, ill: dict[str, Any]) -> SimCLR:
    """The network of the digits, its weights multiplied, and the biases of the projector's hidden layer shifted."""
    model = cut_initialization(digits_simclr(width=width, seed=seed), 1 / ill["weights_times"])
    with torch.no_grad():
        model.projector[0].bias += ill["hidden_bias"]
    return model


def train(model: SimCLR, ill: dict[str, Any], settings: dict[str, Any], seed: int):
    """A plain loop without warm-up: loss, spread, rank and dead units of every few steps, and the tracker."""
    import pandas as pd

    optimizer = torch.optim.SGD(model.parameters(), ill["lr"], momentum=0.9, weight_decay=ill["weight_decay"])
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
            loss = LOSSES[ill["loss"]](*z.chunk(2))
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
