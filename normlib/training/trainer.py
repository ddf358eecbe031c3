"""The trainer: all that changes while a model is trained, when it is saved, and what it leaves behind."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor, nn

from normlib._utils import devices, rng
from normlib.training.batches import Batches
from normlib.training.checkpoint_schedule import CheckpointSchedule
from normlib.training.learning_rate import learning_rate
from normlib.training.optimizers import make_optimizer
from normlib.training.progress import Progress
from normlib.training.step import TwoViewStep
from normlib.training.stop_signals import StopRequest, stop_requests

if TYPE_CHECKING:
    import pandas as pd
    from lightning_fabric import Fabric

    from normlib.data import ImageSet
    from normlib.tracking import NormTracker
    from normlib.training.config import TrainConfig


@dataclass(frozen=True)
class History:
    """What a run left behind.

    Args:
        steps: One row per step: ``step`` (from 0, as a tracker counts), ``epoch`` (from 1), ``lr``, ``loss``, and
            ``norm``, the mean ‖z‖ of the batch (of predictions, where a method has a predictor).
        epochs: What ``on_epoch`` returned, with the column ``epoch``; without rows if it returned nothing.
        sessions: One row for each time that the run was begun or taken up: the first ``step``, ``device``,
            ``precision``, ``threads``, version of ``torch``, and the ``seconds`` that it trained for.
    """

    steps: pd.DataFrame
    epochs: pd.DataFrame
    sessions: pd.DataFrame


class DivergenceError(FloatingPointError):
    """The loss became NaN or infinite; ``history`` holds the run up to there."""

    def __init__(self, message: str, history: History):
        super().__init__(message)
        self.history = history


class Trainer:
    """All that changes while a model is trained; its state is what a checkpoint holds."""

    def __init__(
        self,
        fabric: Fabric,
        model: nn.Module,
        images: ImageSet,
        config: TrainConfig,
        augment: Callable[..., tuple[Tensor, Tensor]],
        tracker: NormTracker | None,
        on_epoch: Callable[[int], dict[str, float] | None] | None,
        settings: dict[str, Any],
    ):
        if config.channels_last:
            model.to(memory_format=torch.channels_last)
        optimizer = make_optimizer(
            model, name=config.optimizer, lr=config.lr, momentum=config.momentum, nesterov=config.nesterov,
            weight_decay=config.weight_decay,
        )  # fmt: skip
        # What Fabric wraps calls ``model``: hooks on its submodules, a tracker's among them, keep working.
        trained = cast(nn.Module, torch.compile(model)) if config.compile else model
        wrapped, self._optimizer = fabric.setup(trained, optimizer)
        if tracker is not None:
            tracker.attach()  # no effect on one that is attached
            # Fabric owns the scaler of "16-mixed"; without it the tracker would report gradients times the loss scale.
            tracker.grad_scaler = getattr(fabric.strategy.precision, "scaler", None)
        self._unseen = nullcontext if tracker is None else tracker.paused
        self._fabric, self._model, self._config, self._settings = fabric, model, config, settings
        self._tracker, self._on_epoch = tracker, on_epoch
        self._batches = Batches(
            images, augment, batch_size=config.batch_size, seed=config.seed, device=fabric.device,
            rank=fabric.global_rank, processes=fabric.world_size,
        )  # fmt: skip
        self._one_step = TwoViewStep(fabric, model, wrapped, self._optimizer, config, self._unseen)
        self._per_epoch = self._batches.steps_per_epoch
        self.total = config.epochs * self._per_epoch
        self._read = torch.empty(0, 2, dtype=torch.float64)  # loss and norm of each step
        self._unread: list[Tensor] = []  # the same, still on the device
        self._metrics: list[dict[str, float]] = []
        self._started = self._last_step_at = time.perf_counter()
        self._sessions = [self._session()]

    @property
    def step(self) -> int:
        """Optimiser steps made so far."""
        return len(self._read) + len(self._unread)

    def train(self, schedule: CheckpointSchedule, bar: Progress) -> None:
        """Make the steps that are left."""
        if self.step == 0:
            self._evaluate(0)
        with stop_requests() if schedule.on else nullcontext(StopRequest()) as stop:
            clock = _Clock(self.step)
            while self.step < self.total:
                self._model.train()
                views, labels = self._batches.draw(self.step)
                self._unread.append(self._one_step(views, self._lr(self.step)))
                self._last_step_at = time.perf_counter()
                if self._tracker is not None:
                    self._tracker.step(self._parts(labels))
                if self.step % self._per_epoch == 0:
                    self._read_losses()
                    self._check_weights()
                    self._evaluate(self.step // self._per_epoch)
                bar.advance(self._words(clock) if bar.due() else None)
                schedule.after_step(self, stop)
        if self._tracker is not None:
            self._tracker.reduce()  # one process alone keeps all as it is

    def history(self) -> History:
        """The run so far as tables."""
        import pandas as pd

        steps = range(len(self._read))
        loss, norm = self._read.T.tolist()
        epoch = [step // self._per_epoch + 1 for step in steps]
        columns = {"step": steps, "epoch": epoch, "lr": map(self._lr, steps), "loss": loss, "norm": norm}
        table = pd.DataFrame({name: list(column) for name, column in columns.items()})
        return History(table, self._metric_table(), pd.DataFrame(self._timed_sessions()))

    def state_dict(self) -> dict[str, Any]:
        """Tensors and plain values only, so that reading a checkpoint runs no code."""
        self._read_losses()
        tracker = self._tracker
        if tracker is not None and self._fabric.world_size > 1:
            tracker.reduce()
        mine = {"batches": self._batches.state_dict(), "rng": rng.states(self._fabric.device)}
        scaler = getattr(self._fabric.strategy.precision, "scaler", None)
        return {
            "settings": self._settings,
            "model": self._model.state_dict(),
            "optimizer": self._optimizer.state_dict(),
            "scaler": {} if scaler is None else scaler.state_dict(),
            "tracker": {} if tracker is None else tracker.state_dict(),
            "processes": of_all_processes(self._fabric, mine),
            "read": self._read,
            "metrics": self._metrics,
            "sessions": self._timed_sessions(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from ``state_dict()``, on another kind of device too."""
        self._model.load_state_dict(state["model"])
        self._optimizer.load_state_dict(state["optimizer"])
        scaler = getattr(self._fabric.strategy.precision, "scaler", None)
        if scaler is not None and state["scaler"]:
            scaler.load_state_dict(state["scaler"])
        if self._tracker is not None:
            self._tracker.load_state_dict(state["tracker"])
        mine = state["processes"][self._fabric.global_rank]
        self._batches.load_state_dict(mine["batches"])
        rng.restore(mine["rng"], self._fabric.device)
        self._read = state["read"].reshape(-1, 2)
        self._metrics = [dict(row) for row in state["metrics"]]
        self._sessions = [*map(dict, state["sessions"]), self._session()]

    def _lr(self, step: int) -> float:
        warmup = self._config.warmup_epochs * self._per_epoch
        return learning_rate(step, peak=self._config.lr, warmup_steps=warmup, total_steps=self.total)

    def _parts(self, labels: Tensor) -> Tensor | list[Tensor]:
        micro = self._config.micro_batch_size
        return labels if micro is None else list(labels.split(micro))

    def _read_losses(self) -> None:
        """Fetch the losses from the device, which waits for it, and look for NaN: once an epoch and before saving."""
        if not self._unread:
            return
        done, new = len(self._read), torch.stack(self._unread).double().cpu()
        self._read, self._unread = torch.cat([self._read, new]), []
        for step, (loss, norm) in enumerate(new.tolist(), start=done):
            if not math.isfinite(loss):
                self._read = self._read[:step]
                epoch = step // self._per_epoch + 1
                message = f"the loss became {loss} at step {step} (epoch {epoch}); lower lr, or raise warmup_epochs"
                raise DivergenceError(message, self.history())
            self._fabric.log_dict({"lr": self._lr(step), "loss": loss, "norm": norm}, step)

    def _check_weights(self) -> None:
        """The last step of an epoch may be the one that diverges, after a loss that was still finite."""
        if not all(parameter.isfinite().all() for parameter in self._model.parameters()):
            message = f"a weight became NaN or infinite at step {self.step - 1}; lower lr, or raise warmup_epochs"
            raise DivergenceError(message, self.history())

    def _evaluate(self, epoch: int) -> None:
        if self._on_epoch is None or not self._fabric.is_global_zero:
            return
        with self._unseen():  # its forward passes are no training
            metrics = self._on_epoch(epoch)
        if not isinstance(metrics, dict | None):
            raise TypeError(f"on_epoch must return numbers by name, or None, got {type(metrics).__name__}")
        if metrics:
            row = {name: float(value) for name, value in metrics.items()}
            self._metrics.append({"epoch": epoch, **row})
            self._fabric.log_dict(row, self.step)

    def _metric_table(self) -> pd.DataFrame:
        import pandas as pd

        return pd.DataFrame(self._metrics, columns=None if self._metrics else ["epoch"])

    def _session(self) -> dict[str, Any]:
        return {
            "step": self.step,
            "device": devices.name_of(self._fabric.device),
            "precision": self._fabric.strategy.precision.precision,
            "threads": torch.get_num_threads(),
            "torch": str(torch.__version__),
        }

    def _timed_sessions(self) -> list[dict[str, Any]]:
        """With the time that each took until its last step; one that made no step is none."""
        *earlier, now = self._sessions
        if earlier and now["step"] == self.step:
            return earlier
        return [*earlier, now | {"seconds": round(self._last_step_at - self._started, 1)}]

    def _words(self, clock: _Clock) -> str:
        loss, norm = (self._unread[-1] if self._unread else self._read[-1]).tolist()
        pairs = clock.steps_per_second(self.step) * self._config.batch_size
        return f"loss {loss:.3f}, ‖z‖ {norm:.3g}, {pairs:,.0f} pairs/s"


class _Clock:
    """Speed since it was started."""

    def __init__(self, step: int):
        self._step, self._start = step, time.perf_counter()  # monotonic() may stand still for 16 ms on Windows

    def steps_per_second(self, step: int) -> float:
        return (step - self._step) / (time.perf_counter() - self._start)


def of_all_processes(fabric: Fabric, mine: Any) -> list[Any]:
    """What each process holds, in order of rank."""
    if fabric.world_size == 1:
        return [mine]
    gathered: list[Any] = [None] * fabric.world_size
    torch.distributed.all_gather_object(gathered, mine)
    return gathered
