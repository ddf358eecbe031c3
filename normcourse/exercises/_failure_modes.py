"""Small trainings on digits for assignment 4: one is healthy, five fail, each in its own way."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from normcourse.exercises._variants import variant
from normlib import data, losses
from normlib._utils.arguments import check_count
from normlib.evaluation import spread

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class _Setting:
    lr: float = 0.3
    decay: float = 0.0
    inflate: float = 1.0  # factor of all weights at the start
    negatives: bool = True
    dies_at: int = -1  # step at which the first layer's biases are knocked far below zero


_HEALTHY = _Setting()
_SETTINGS = {
    "healthy": _HEALTHY,
    "no negatives": replace(_HEALTHY, negatives=False),
    "learning rate too large": replace(_HEALTHY, lr=20.0),
    "initial weights too large": replace(_HEALTHY, inflate=6.0),
    "weight decay too strong": replace(_HEALTHY, decay=0.05),
    "dead units": replace(_HEALTHY, dies_at=40),
}


def failure_modes(student_id: str, steps: int = 100) -> dict[str, pd.DataFrame]:
    """What a tracker saw of six trainings, one healthy and five failing, in an order and with seeds of your own.

    Args:
        student_id: The id on the class list.
        steps: Steps of each training.

    Returns:
        Tables under the names ``"A"`` to ``"F"``, one row per ``step``, with ``loss`` (NT-Xent of the batch, whatever
        was trained), ``norm`` and ``grad_norm`` (means over rows of ‖z‖ and ‖∂ℒ/∂z‖, the latter times the number of
        rows), ``cosine`` (mean over pairs of different images).

    Raises:
        ValueError: The id is no text or empty, or ``steps`` no integer of 1 or more.

    >>> runs = failure_modes("ada.lovelace", steps=2)
    >>> list(runs), list(runs["A"])
    (['A', 'B', 'C', 'D', 'E', 'F'], ['step', 'loss', 'norm', 'grad_norm', 'cosine'])
    """
    check_count("steps", steps)
    numbers = variant(student_id, "A4")
    return {
        name: _train(_SETTINGS[mode], numbers.pairs, numbers.seed + k, steps)
        for k, (name, mode) in enumerate(zip("ABCDEF", numbers.failure_modes, strict=True))
    }


def _train(setting: _Setting, pairs: int, seed: int, steps: int) -> pd.DataFrame:
    import pandas as pd

    generator = torch.Generator().manual_seed(seed)
    images = data.digits("train").images.flatten(1).float() / 255
    model = _encoder(setting.inflate, generator)
    optimizer = torch.optim.SGD(model.parameters(), lr=setting.lr, momentum=0.9, weight_decay=setting.decay)
    seen = []
    for step in range(steps):
        if step == setting.dies_at:
            with torch.no_grad():
                model.get_parameter("0.bias").sub_(1e3)
        batch = images[torch.randperm(len(images), generator=generator)[:pairs]]
        views = torch.cat([batch, batch]) + 0.15 * torch.randn(2 * pairs, 64, generator=generator)
        z = model(views)
        z.retain_grad()
        contrast = losses.info_nce(*z.chunk(2), check_finite=False)
        loss = contrast if setting.negatives else losses.cosine_loss(*z.chunk(2), check_finite=False)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        seen.append((step, contrast.item(), _mean_norm(z), len(z) * _mean_norm(z.grad), _mean_cosine(z[:pairs])))
    return pd.DataFrame(seen, columns=["step", "loss", "norm", "grad_norm", "cosine"])


def _encoder(inflate: float, generator: torch.Generator) -> nn.Sequential:
    """Three linear layers with He's initialisation, multiplied; biases start at zero."""
    model = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 32))
    for layer in (part for part in model if isinstance(part, nn.Linear)):
        nn.init.zeros_(layer.bias)
        nn.init.kaiming_normal_(layer.weight, generator=generator)
        with torch.no_grad():
            layer.weight.mul_(inflate)
    return model


def _mean_norm(z: Tensor) -> float:
    return z.detach().norm(dim=1).mean().item()


def _mean_cosine(z: Tensor) -> float:
    return 1 - spread(z)
