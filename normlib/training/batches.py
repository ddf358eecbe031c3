"""Batches of a data set that is held as uint8: on the device where it fits, else in the host's memory."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

if TYPE_CHECKING:
    from normlib.data import ImageSet


class Batches:
    """Random batches of two views: a new order for each epoch, and this process's share of each batch.

    All randomness comes from ``seed``. A single process draws orders and views from one generator. Of several processes
    each draws the same orders, and views of its own.

    Args:
        images: The data set.
        augment: Draws the two views of a batch, as :class:`normlib.augment.TwoViews` does.
        batch_size: Images in a batch of all processes together.
        seed: Seed of the orders and of the views.
        device: Where the views are made.
        rank, processes: Which share of each batch is this process's.
    """

    def __init__(
        self,
        images: ImageSet,
        augment: Callable[..., tuple[Tensor, Tensor]],
        *,
        batch_size: int,
        seed: int,
        device: torch.device,
        rank: int = 0,
        processes: int = 1,
    ):
        self.steps_per_epoch = len(images) // batch_size
        self._labels = images.labels
        self._pixels = place(images.images, device)
        self._augment = augment
        self._device = device
        self._batch_size = batch_size
        share = batch_size // processes
        self._share = slice(rank * share, (rank + 1) * share)
        self._views = self._orders = torch.Generator().manual_seed(seed)
        if processes > 1:
            own_seed = int(np.random.SeedSequence([seed, rank]).generate_state(1)[0])
            self._views = torch.Generator().manual_seed(own_seed)
        self._set_order(torch.empty(0, dtype=torch.int64))

    def draw(self, step: int) -> tuple[tuple[Tensor, Tensor], Tensor]:
        """Two views, each ``(n, C, H, W)``, and labels ``(n,)`` for the step that follows ``step`` finished ones."""
        place_in_epoch = step % self.steps_per_epoch
        if place_in_epoch == 0:
            self._set_order(torch.randperm(len(self._labels), generator=self._orders))
        start = place_in_epoch * self._batch_size
        rows = slice(start + self._share.start, start + self._share.stop)
        pixels = self._pixels[self._order_there[rows]]
        if pixels.device.type != self._device.type:
            pixels = pixels.pin_memory().to(self._device, non_blocking=True)
        return self._augment(pixels, generator=self._views), self._labels[self._order[rows]]

    def state_dict(self) -> dict[str, Any]:
        """The current order and this process's generators."""
        return {"order": self._order, "orders": self._orders.get_state(), "views": self._views.get_state()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from ``state_dict()``."""
        self._set_order(state["order"])
        self._orders.set_state(state["orders"])
        self._views.set_state(state["views"])

    def _set_order(self, order: Tensor) -> None:
        self._order, self._order_there = order, order.to(self._pixels.device)  # once an epoch: no step waits for it


def place(pixels: Tensor, device: torch.device) -> Tensor:
    """The pixels on the device, if they fill at most half of a GPU's free memory; else where they are."""
    fits = device.type != "cuda" or pixels.nbytes <= torch.cuda.mem_get_info(device)[0] // 2
    return pixels.to(device) if fits else pixels.cpu()
