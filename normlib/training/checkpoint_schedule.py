"""When a run is saved, and how it stops."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, cast

import torch
from torch import Tensor

from normlib.training.checkpoints import Checkpoints
from normlib.training.stop_signals import StopRequest

if TYPE_CHECKING:
    from lightning_fabric import Fabric

STEPS_BETWEEN_TALKS = 16  # of several processes: how often they agree on whether to save or stop


class Stopped(KeyboardInterrupt):
    """A run was asked to stop, and saved a checkpoint first; the message says how to go on."""


class Saveable(Protocol):
    """What must be known of a run to save it."""

    total: int

    @property
    def step(self) -> int:
        """Optimiser steps made so far, of ``total``."""

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint of the run holds."""


class CheckpointSchedule:
    """Decides when a run is saved, so that all processes save and stop at the same step."""

    def __init__(self, fabric: Fabric, folder: str | Path | None, minutes: float):
        self._fabric, self._minutes = fabric, minutes
        self._store = None if folder is None else Checkpoints(folder)
        self._saved_at = time.monotonic()

    @property
    def on(self) -> bool:
        """Whether there is a folder to save to."""
        return self._store is not None

    def after_step(self, run: Saveable, stop: StopRequest) -> None:
        """Save if it is time to, and stop if somebody asked."""
        fabric, store, last = self._fabric, self._store, run.step == run.total
        alone = fabric.world_size == 1
        if store is None or not (alone or last or run.step % STEPS_BETWEEN_TALKS == 0):
            return
        due = time.monotonic() - self._saved_at >= 60 * self._minutes
        wanted = torch.tensor([bool(stop), bool(stop) or due or last], dtype=torch.float32)
        if not alone:
            total = fabric.all_reduce(wanted.to(fabric.device), reduce_op="sum")
            wanted = cast(Tensor, total).cpu()  # as it was given a tensor
        if wanted[1]:
            self._save(run, store)
        if wanted[0] and not last:
            raise Stopped(
                f"stopped after step {run.step} of {run.total}; the checkpoint is in {store.folder}. "
                "Run the same call or command again to go on"
            )

    def _save(self, run: Saveable, store: Checkpoints) -> None:
        state = run.state_dict()  # on all processes: some of it is gathered
        if self._fabric.is_global_zero:
            try:
                store.save(state, run.step)
            except OSError as error:
                raise OSError(
                    error.errno,
                    f"{error.strerror}; the checkpoint of step {run.step} could not be written, earlier ones are "
                    "whole. Make room, then run the same call or command again to go on",
                    str(store.folder),
                ) from error
        self._saved_at = time.monotonic()
