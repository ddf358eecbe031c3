"""What this machine can do, and how long each named experiment would take on it."""

from __future__ import annotations

import os
import time
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING

import torch

from normlib import recipes, records
from normlib._launch import check_accelerator
from normlib.data import ImageSet
from normlib.recipes import Recipe
from normlib.training import fit

if TYPE_CHECKING:
    import pandas as pd


def devices() -> str:
    """Devices, their memory and the precisions they calculate in, a line for each."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    lines = [f"CPU: {cores} cores, {torch.get_num_threads()} threads; 32-true, bf16-mixed, 64-true"]
    for i in range(torch.cuda.device_count()):
        gpu = torch.cuda.get_device_properties(i)
        bfloat16 = "bf16-mixed, " if gpu.major >= 8 else ""
        lines.append(f"GPU {i}: {gpu.name}, {gpu.total_memory / 2**30:.0f} GiB; 32-true, {bfloat16}16-mixed")
    if torch.backends.mps.is_available():
        lines.append("Apple GPU: 32-true, 16-mixed")
    return "\n".join(lines)


def minutes(accelerator: str, seconds: float) -> pd.DataFrame:
    """Pairs per second of each recipe, and the minutes of training that each experiment needs at that speed.

    Args:
        accelerator: As in :func:`normlib.training.fit`.
        seconds: Length of the probe, shared among the recipes, > 0.

    Raises:
        ValueError: The device is not there, or ``seconds`` is not above 0.
    """
    import pandas as pd

    if not seconds > 0:
        raise ValueError(f"seconds must be above 0, got {seconds!r}")
    check_accelerator(accelerator)
    work = {name: experiment.work(experiment.settings) for name, experiment in records.EXPERIMENTS.items()}
    used = sorted({recipe for recipe, _, _ in work.values()})
    speed = {name: pairs_per_second(recipes.named(name), accelerator, seconds / len(used)) for name in used}
    rows = [
        {
            "experiment": name,
            "recipe": recipe,
            "pairs/s": round(speed[recipe]),
            "runs": runs,
            "minutes": round(pairs / speed[recipe] / 60, 1),
        }
        for name, (recipe, runs, pairs) in work.items()
    ]
    return pd.DataFrame(rows)


def pairs_per_second(recipe: Recipe, accelerator: str, seconds: float) -> float:
    """Speed of a recipe's training loop on random images, over at least one epoch of a few steps after the first."""
    on_gpu = accelerator != "cpu" and torch.cuda.is_available()
    batch, steps = (recipe.train.batch_size, 8) if on_gpu else (min(recipe.train.batch_size, 64), 2)
    config = replace(recipe.train, batch_size=batch, epochs=10**6, micro_batch_size=None)
    channels, side = (1, 8) if recipe.network == "digits" else (3, 32)
    pixels = torch.randint(0, 256, (steps * batch, channels, side, side), dtype=torch.uint8)
    zeros = torch.zeros(len(pixels), dtype=torch.int64)
    images = ImageSet(pixels, zeros, torch.arange(len(pixels)), ("any",), "random")
    ends: list[float] = []

    def on_epoch(epoch: int) -> None:  # the losses of the epoch have been read, so a GPU has finished its steps
        ends.append(time.perf_counter())
        if epoch >= 2 and ends[-1] - ends[0] >= seconds:
            raise _EnoughError

    with suppress(_EnoughError):
        fit(
            recipe.model(), images, config, augment=recipe.views(), on_epoch=on_epoch, accelerator=accelerator,
            progress=False,
        )  # fmt: skip
    return len(pixels) * (len(ends) - 2) / (ends[-1] - ends[1])  # the first epoch warms up


class _EnoughError(Exception):
    """The probe has run for long enough."""
