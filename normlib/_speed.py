"""How fast a recipe trains on this machine."""

import time
from contextlib import suppress
from dataclasses import replace

import torch

from normlib._rows import check_number
from normlib.data import ImageSet
from normlib.recipes import Recipe, changed
from normlib.training import fit


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


def within(recipe: Recipe, minutes: float, *, accelerator: str = "auto", seconds: float = 10.0) -> Recipe:
    """The recipe with as many epochs as a time budget allows on this device, as a short probe measures it.

    A tenth of them, at most as many as the recipe has, are for the warm-up.

    Args:
        recipe: What to train.
        minutes: Budget for the training itself, > 0.
        accelerator: As in :func:`normlib.training.fit`.
        seconds: Length of the probe, at least a few steps.

    Raises:
        ValueError: ``minutes`` is not above 0, or not even one epoch fits; the message says what one takes.

    >>> from normlib.recipes import named
    >>> within(changed(named("digits"), {"batch_size": 64}), 0.5, accelerator="cpu", seconds=0.1).train.epochs > 1
    True
    """
    check_number("minutes", minutes, above=0)
    speed = pairs_per_second(recipe, accelerator, seconds)
    one = len(recipe.images()) / speed / 60
    epochs = int(minutes / one)
    if epochs < 1:
        raise ValueError(f"one epoch takes {one:.0f} minutes here, more than minutes = {minutes:g}; use a GPU")
    return changed(recipe, {"epochs": epochs, "warmup_epochs": min(recipe.train.warmup_epochs, epochs / 10)})


class _EnoughError(Exception):
    """The probe has run for long enough."""
