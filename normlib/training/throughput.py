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
from normlib.training.launch import check_accelerator
from normlib.training.loop import fit
from normlib.training.recipes import NETWORKS, RECIPES, Recipe

if TYPE_CHECKING:
    import pandas as pd


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
        One row for each recipe, with the columns ``recipe`` and ``pairs/s``.

    Raises:
        ValueError: The device is not there, or ``seconds`` is not above 0 and finite.
    """
    import pandas as pd

    check_number("seconds", seconds, above=0)
    check_accelerator(accelerator)
    places = dict.fromkeys(RECIPES, accelerator) if places is None else places
    share = seconds / len(places)
    speeds = {name: pairs_per_second(RECIPES[name], place, share) for name, place in places.items()}
    return pd.DataFrame({"recipe": list(speeds), "pairs/s": [round(speed) for speed in speeds.values()]})


class _EnoughError(Exception):
    """The probe has run for long enough."""
