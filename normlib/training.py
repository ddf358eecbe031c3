"""SimCLR on one device: the loop, with a tracker and interventions plugged in."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from normlib._rows import check_contrast, check_number
from normlib.interventions import weight_decay_groups
from normlib.losses import Denominator, info_nce

if TYPE_CHECKING:
    import pandas as pd

    from normlib.augment import TwoViews
    from normlib.data import ImageSet
    from normlib.tracking import NormTracker


@dataclass(frozen=True)
class TrainConfig:
    """Settings of one SimCLR run. Learning rates are those that are applied.

    Args:
        epochs: Passes over the images, ≥ 1.
        batch_size: Images a step, ≥ 2; a last, smaller batch is left out.
        lr: Largest step size η, > 0, reached after the warm-up and then lowered along a cosine to 0.
        warmup_epochs: Epochs in which the step size rises linearly, ≥ 0 and below ``epochs``.
        momentum: Momentum μ of SGD, in [0, 1).
        weight_decay: λ ≥ 0 for matrices and kernels.
        temperature: τ > 0.
        denominator: As in :func:`normlib.losses.info_nce`.
        precision: As in Lightning Fabric, ``"32-true"``, ``"bf16-mixed"``, ``"16-mixed"``, …
        seed: Seed of the order of images and of the augmentation.

    Raises:
        ValueError: A setting is out of its range; the message names it.

    >>> TrainConfig(epochs=5, lr=0.1).temperature
    0.5
    """

    epochs: int = 60
    batch_size: int = 256
    lr: float = 0.3
    warmup_epochs: float = 2
    momentum: float = 0.9
    weight_decay: float = 1e-6
    temperature: float = 0.5
    denominator: Denominator = "nt-xent"
    precision: str = "32-true"
    seed: int = 0

    def __post_init__(self):
        for name in ("epochs", "batch_size", "seed"):
            if not isinstance(getattr(self, name), int):
                raise ValueError(f"{name} must be an integer, got {getattr(self, name)!r}")
        check_number("epochs", self.epochs, at_least=1)
        check_number("batch_size", self.batch_size, at_least=2, hint="a contrastive loss needs negatives")
        check_number("lr", self.lr, above=0)
        check_number("warmup_epochs", self.warmup_epochs, at_least=0)
        if self.warmup_epochs >= self.epochs:
            raise ValueError(f"warmup_epochs must be below epochs = {self.epochs}, got {self.warmup_epochs!r}")
        check_number("momentum", self.momentum, at_least=0)
        if self.momentum >= 1:
            raise ValueError(f"momentum must be below 1, got {self.momentum!r}")
        check_number("weight_decay", self.weight_decay, at_least=0)
        check_contrast(self.temperature, self.denominator)


def fit(
    model: nn.Module,
    images: ImageSet,
    config: TrainConfig = TrainConfig(),
    *,
    augment: TwoViews,
    tracker: NormTracker | None = None,
    on_epoch: Callable[[int], None] | None = None,
    accelerator: str = "auto",
    progress: bool = True,
) -> pd.DataFrame:
    """Train ``model`` with SimCLR on one device; the model is changed in place and stays on that device.

    Interventions are plugged in around this call: ``cut_initialization(model, c)`` before it,
    ``SimCLR(…, grad_scale=p)`` in the model.

    Args:
        model: Maps images ``(N, C, H, W)`` in [0, 1] to embeddings ``(N, D)``.
        images: Training images; held in the device's memory as uint8.
        config: Settings of the run.
        augment: Draws the two views of a batch.
        tracker: Norm tracker of ``model``, attached here if it is not; one ``tracker.step`` is called for each
            optimiser step, and gradients come without the loss scale of ``"16-mixed"``.
        on_epoch: Called with the number of finished epochs, also with 0 before the first: evaluate here. The tracker
            does not see the forward passes made in it.
        accelerator: Lightning Fabric's name of a device: ``"auto"``, ``"cpu"``, ``"cuda"``, ``"mps"``.
        progress: Show a progress bar with the loss and the time left.

    Returns:
        One row per step: ``step`` (from 0, as the tracker counts), ``epoch`` (from 1), ``lr``, ``loss``.

    Raises:
        ValueError: Fewer images than one batch; a precision that Fabric does not know.
        FloatingPointError: The loss became NaN or infinite; the message names the step.

    Source: Chen et al. 2020 (SimCLR); settings as released with Draganov et al. 2025.

    >>> from normlib.augment import TwoViews
    >>> from normlib.data import digits
    >>> from normlib.models import SimCLR, digits_encoder, projection_head
    >>> model = SimCLR(digits_encoder(16, 16), projection_head(16, 16, 8))
    >>> config = TrainConfig(epochs=1, warmup_epochs=0, batch_size=512)
    >>> history = fit(model, digits("train"), config, augment=TwoViews.digits(), accelerator="cpu", progress=False)
    >>> history[["step", "epoch"]].values.tolist()
    [[0, 1], [1, 1]]
    """
    import pandas as pd
    from lightning_fabric import Fabric
    from tqdm import tqdm  # text, not a widget: it leaves nothing behind in a saved notebook

    steps_per_epoch = len(images) // config.batch_size
    if steps_per_epoch == 0:
        raise ValueError(f"images holds {len(images)} images, fewer than batch_size = {config.batch_size}")
    fabric = Fabric(accelerator=accelerator, devices=1, precision=config.precision)
    optimizer = torch.optim.SGD(weight_decay_groups(model, config.weight_decay), lr=config.lr, momentum=config.momentum)
    # The wrapped model calls ``model``: hooks on its submodules, a tracker's among them, keep working.
    wrapped, optimizer = fabric.setup(model, optimizer)
    if tracker is not None:
        tracker.attach()  # no effect on one that is attached
        # Fabric owns the scaler of "16-mixed"; without it the tracker would report gradients times the loss scale.
        tracker.grad_scaler = getattr(fabric.strategy.precision, "scaler", None)
    pixels = images.images.to(fabric.device)
    generator = torch.Generator().manual_seed(config.seed)
    rows = []
    _evaluate(on_epoch, 0, tracker)
    hidden = {} if progress else {"disable": True}  # no word on it leaves the choice to the variable TQDM_DISABLE
    with tqdm(total=config.epochs * steps_per_epoch, unit="step", leave=False, **hidden) as bar:
        for epoch in range(1, config.epochs + 1):
            model.train()
            losses = []
            for batch in _batches(len(images), config.batch_size, generator):
                lr = _lr_after(len(rows) + len(losses), steps_per_epoch, config)
                for group in optimizer.param_groups:
                    group["lr"] = lr
                views = augment(pixels[batch], generator=generator)
                losses.append((lr, _step(fabric, wrapped, optimizer, views, config)))
                if tracker is not None:
                    tracker.step(images.labels[batch])
                bar.update()
            rows += _rows(epoch, len(rows), losses)
            bar.set_postfix(epoch=epoch, loss=f"{rows[-1]['loss']:.3f}")
            _evaluate(on_epoch, epoch, tracker)
    return pd.DataFrame(rows)


def _evaluate(on_epoch: Callable[[int], None] | None, epoch: int, tracker: NormTracker | None) -> None:
    if on_epoch:
        with tracker.paused() if tracker is not None else nullcontext():  # its forward passes are no training
            on_epoch(epoch)


def _step(fabric, model: nn.Module, optimizer: torch.optim.Optimizer, views: tuple, config: TrainConfig) -> Tensor:
    """One optimiser step on the two views of a batch; the loss stays on the device."""
    optimizer.zero_grad(set_to_none=True)
    z1, z2 = model(torch.cat(views)).chunk(2)  # one forward pass: BatchNorm sees both views together
    # A diverged loss is found at the end of the epoch, so that a GPU never waits within it.
    loss = info_nce(z1, z2, config.temperature, denominator=config.denominator, check_finite=False)
    fabric.backward(loss)
    optimizer.step()
    return loss.detach()


def _lr_after(step: int, steps_per_epoch: int, config: TrainConfig) -> float:
    """Step size of the step that follows ``step`` finished ones: linear warm-up, then half a cosine."""
    warmup, total = config.warmup_epochs * steps_per_epoch, config.epochs * steps_per_epoch
    if step < warmup:
        return config.lr * min(1.0, (step + 1) / warmup)
    return config.lr * 0.5 * (1 + math.cos(math.pi * (step - warmup) / (total - warmup)))


def _batches(n: int, batch_size: int, generator: torch.Generator) -> Iterator[Tensor]:
    order = torch.randperm(n, generator=generator)
    return (order[start : start + batch_size] for start in range(0, n - batch_size + 1, batch_size))


def _rows(epoch: int, done: int, losses: list[tuple[float, Tensor]]) -> list[dict]:
    """Rows of the history for one epoch; here, once an epoch, the losses are read from the device."""
    values = torch.stack([loss for _, loss in losses]).tolist()
    for i, value in enumerate(values):
        if not math.isfinite(value):
            raise FloatingPointError(
                f"the loss became {value} at step {done + i} (epoch {epoch}); lower lr, or raise warmup_epochs"
            )
    return [
        {"step": done + i, "epoch": epoch, "lr": lr, "loss": value}
        for i, ((lr, _), value) in enumerate(zip(losses, values, strict=True))
    ]
