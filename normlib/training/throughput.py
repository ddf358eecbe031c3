"""How fast a recipe trains on this machine."""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING

import torch

from normlib._utils.arguments import check_number
from normlib.data import ImageSet
from normlib.training.launch import check_accelerator, precision_on
from normlib.training.loop import fit
from normlib.training.recipes import NETWORKS, RECIPES, Recipe

if TYPE_CHECKING:
    import pandas as pd


TRAINING_IMAGES = {"digits": 1347, "cifar10": 50_000, "cifar10-jpeg": 50_000, "cifar100": 50_000}


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
            recipe.build_model(), images, config, augment=recipe.augmentation(), on_epoch=on_epoch,
            accelerator=accelerator, progress=False,
        )  # fmt: skip
    return len(pixels) * (len(ends) - 2) / (ends[-1] - ends[1])  # the first epoch warms up


def recipe_speeds(accelerator: str, seconds: float, places: Mapping[str, str] | None = None) -> pd.DataFrame:
    """Pairs of views per second of recipes on this machine.

    Args:
        accelerator: As in :func:`normlib.training.fit`.
        seconds: Length of the probe, shared among the recipes, > 0.
        places: The recipes to time, each with the accelerator that it runs on; None times all on ``accelerator``.

    Returns:
        One row for each recipe: ``recipe``, the ``precision`` that it is trained in here, ``pairs/s``, and the
        ``minutes`` that all its epochs take, evaluation left out.

    Raises:
        ValueError: The device is not there, or ``seconds`` is not above 0 and finite.
    """
    import pandas as pd

    check_number("seconds", seconds, above=0)
    check_accelerator(accelerator)
    places = dict.fromkeys(RECIPES, accelerator) if places is None else places
    share = seconds / len(places)
    rows = []
    for name, place in places.items():
        recipe, speed = RECIPES[name], pairs_per_second(RECIPES[name], place, share)
        pairs = recipe.train.epochs * TRAINING_IMAGES[recipe.data]
        precision = precision_on(place, recipe.train.precision)
        minutes = round(pairs / speed / 60, 1)
        rows.append({"recipe": name, "precision": precision, "pairs/s": round(speed), "minutes": minutes})
    return pd.DataFrame(rows)


class _EnoughError(Exception):
    """The probe has run for long enough."""
