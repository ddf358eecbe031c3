"""What several experiments on digits share."""

from __future__ import annotations

from typing import TYPE_CHECKING

from normcourse.experiments.base import Settings
from normcourse.experiments.store import Job
from normlib import augment
from normlib.training import TrainConfig, fit

if TYPE_CHECKING:
    from normlib.data import ImageSet
    from normlib.models import SimCLR


def train_simclr(settings: Settings, job: Job, model: SimCLR, images: ImageSet) -> float:
    """Train a model in place; its mean loss over the last epoch."""
    shared = {name: settings[name] for name in ("lr", "epochs", "batch_size")}
    config = TrainConfig(seed=job["seed"], **shared)
    history = fit(model, images, config, augment=augment.TwoViews.digits(), accelerator="cpu", progress=False)
    steps = history.steps
    return steps.loc[steps["epoch"] == config.epochs, "loss"].mean()
