"""The experiment behind *Cut and scale*: small networks on digits, cut or with a larger step size."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from normcourse.experiments.base import Experiment, Settings, no_configuration
from normcourse.experiments.store import Job, Store, Tables
from normlib import augment, data, losses
from normlib._utils.rng import seeded
from normlib.evaluation import spread
from normlib.interventions import cut_initialization

if TYPE_CHECKING:
    import pandas as pd

PIXELS = 64  # of a digit; all layers are as wide


def jobs(settings: Settings, store: Store) -> list[Job]:
    """Networks of several depths, with and without biases and BatchNorm, with every seed."""
    names = ("depth", "biases", "batch_norm", "seed")
    values = (settings["depths"], (False, True), (False, True), range(settings["seeds"]))
    return [dict(zip(names, value, strict=True)) for value in product(*values)]


def perceptron(depth: int, *, biases: bool, batch_norm: bool, seed: int) -> nn.Sequential:
    """Linear layers with ReLU between them, from images to 64-dimensional embeddings, as PyTorch draws them.

    BatchNorm, where there is some, stands behind every layer but the last. The weights are those of the seed, whatever
    stands beside them.

    >>> perceptron(3, biases=False, batch_norm=False, seed=0)(torch.zeros(2, 1, 8, 8)).shape
    torch.Size([2, 64])
    """
    layers: list[nn.Module] = [nn.Flatten()]
    with seeded(seed):
        for _ in range(depth):
            layers += [nn.Linear(PIXELS, PIXELS), nn.BatchNorm1d(PIXELS), nn.ReLU()]
    model = nn.Sequential(*(layer for layer in layers[:-2] if batch_norm or not isinstance(layer, nn.BatchNorm1d)))
    for layer in model:
        if isinstance(layer, nn.Linear) and not biases:
            layer.register_parameter("bias", None)
    return model


def run(settings: Settings, job: Job, folder: Path) -> Tables:
    """The first steps of SimCLR with one network, cut by every ``cut``, and uncut at ``cut**2`` times the step size.

    All of them see the same batches, and those of one depth and seed start from the same weights.
    """
    import pandas as pd

    batches, found = list(_batches(settings, job["seed"])), []
    for cut, lr in _conditions(settings):
        model = cut_initialization(perceptron(**job), cut)
        found.append(_first_steps(model, lr, batches, settings["record_every"]).assign(cut=cut, lr=lr))
    return {"steps": pd.concat(found, ignore_index=True)}


def _conditions(settings: Settings) -> list[tuple[float, float]]:
    """Cuts with their step sizes: each cut at the common one, and no cut at that times its square."""
    lr, cuts = settings["lr"], settings["cuts"]
    return sorted({(cut, lr) for cut in cuts} | {(1.0, lr * cut**2) for cut in cuts})


def _batches(settings: Settings, seed: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Two views of as many batches as there are steps, and of one more: the state after the last step is measured."""
    images, generator = data.digits("train").images, torch.Generator().manual_seed(seed)
    for _ in range(settings["steps"] + 1):
        chosen = torch.randperm(len(images), generator=generator)[: settings["batch_size"]]
        yield augment.TwoViews.digits()(images[chosen], generator)


def _first_steps(model: nn.Module, lr: float, batches: list[tuple[Tensor, Tensor]], every: int) -> pd.DataFrame:
    """Plain SGD; loss, mean norm, and 1 minus the mean cosine between embeddings, before each recorded step."""
    import pandas as pd

    optimizer, rows = torch.optim.SGD(model.parameters(), lr=lr), []
    for step, views in enumerate(batches):
        z = model(torch.cat(views))
        loss = losses.info_nce(*z.chunk(2))
        if step % every == 0:
            rows.append({"step": step, "loss": loss.item(), **_shape(z.detach().double())})
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return pd.DataFrame(rows)


def _shape(z: Tensor) -> dict[str, float]:
    return {"norm": z.norm(dim=1).mean().item(), "spread": spread(z)}


EXPERIMENTS = [
    Experiment(
        name="digits-cuts",
        question="What does a cut do to the norms and to the first 100 steps, by depth, biases and BatchNorm?",
        settings={
            "depths": [2, 3, 4, 6],
            "cuts": [0.5, 1.0, 2.0, 3.0, 4.0],
            "lr": 0.02,
            "seeds": 8,
            "steps": 100,
            "record_every": 4,
            "batch_size": 128,
        },
        smoke={"depths": [2, 3], "seeds": 2, "steps": 4, "batch_size": 16},
        jobs=jobs,
        run=run,
        configuration=no_configuration,
    )
]
