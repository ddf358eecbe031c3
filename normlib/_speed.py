"""How fast a recipe trains on this machine."""

import time
from contextlib import suppress
from dataclasses import replace

import torch

from normlib.data import ImageSet
from normlib.recipes import NETWORKS, Recipe
from normlib.training import fit


def pairs_per_second(recipe: Recipe, accelerator: str, seconds: float) -> float:
    """Speed of a recipe's training loop on random images, over at least one epoch of a few steps after the first."""
    on_gpu = accelerator != "cpu" and torch.cuda.is_available()
    batch, steps = (recipe.train.batch_size, 8) if on_gpu else (min(recipe.train.batch_size, 64), 2)
    config = replace(recipe.train, batch_size=batch, epochs=10**6, micro_batch_size=None)
    shape = NETWORKS[recipe.network].image_shape
    pixels = torch.randint(0, 256, (steps * batch, *shape), dtype=torch.uint8, generator=torch.Generator())
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
