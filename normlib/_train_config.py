"""The settings of a training run, checked when they are made."""

from dataclasses import dataclass, fields
from typing import Any, Literal

import numpy as np

from normlib._optimizers import OPTIMIZERS
from normlib._rows import check_contrast, check_number
from normlib.losses import Denominator


@dataclass(frozen=True)
class TrainConfig:
    """Settings of one SimCLR run. Learning rates are those that are applied.

    Args:
        epochs: Passes over the images, ≥ 1.
        batch_size: Images a step, of all devices together, ≥ 2; a last, smaller batch is left out.
        lr: Largest step size η, > 0, reached after the warm-up and then lowered along a cosine to 0.
        warmup_epochs: Epochs in which the step size rises linearly, ≥ 0 and below ``epochs``.
        optimizer: ``"sgd"``, ``"lars"`` or ``"adamw"``.
        momentum: Momentum μ of SGD and LARS, β₁ of AdamW, in [0, 1).
        nesterov: Nesterov's momentum; not with AdamW.
        weight_decay: λ ≥ 0 for matrices and kernels.
        temperature: τ > 0.
        denominator: As in :func:`normlib.losses.info_nce`.
        precision: As in Lightning Fabric, ``"32-true"``, ``"bf16-mixed"``, ``"16-mixed"`` (scales the loss), …
        channels_last: Keep images and kernels in the order that convolutions on GPUs, and many on CPUs, are fastest in.
        compile: Compile the model with ``torch.compile``.
        micro_batch_size: Pairs in one forward pass, where a whole batch does not fit into memory; it must divide the
            images that a device gets. The loss is still that of the whole batch, at the price of a second forward pass.
            BatchNorm sees one micro-batch at a time; Dropout drops the same in both passes. None: all at once.
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
    optimizer: Literal["sgd", "lars", "adamw"] = "sgd"
    momentum: float = 0.9
    nesterov: bool = False
    weight_decay: float = 1e-6
    temperature: float = 0.5
    denominator: Denominator = "nt-xent"
    precision: str = "32-true"
    channels_last: bool = False
    compile: bool = False
    micro_batch_size: int | None = None
    seed: int = 0

    def __post_init__(self):
        make_plain(self)
        for name in ("optimizer", "denominator", "precision"):
            if not isinstance(getattr(self, name), str):
                raise ValueError(f"{name} must be a name, got {getattr(self, name)!r}")
        for name in ("epochs", "batch_size", "seed"):
            if type(getattr(self, name)) is not int:  # a bool is none
                raise ValueError(f"{name} must be an integer, got {getattr(self, name)!r}")
        if not -(2**63) <= self.seed < 2**63:
            raise ValueError(f"seed must be an integer of 64 bits, got {self.seed!r}")
        check_number("epochs", self.epochs, at_least=1)
        check_number("batch_size", self.batch_size, at_least=2, hint="a contrastive loss needs negatives")
        check_number("lr", self.lr, above=0)
        check_number("warmup_epochs", self.warmup_epochs, at_least=0)
        if self.warmup_epochs >= self.epochs:
            raise ValueError(f"warmup_epochs must be below epochs = {self.epochs}, got {self.warmup_epochs!r}")
        if self.optimizer not in OPTIMIZERS:
            raise ValueError(f"optimizer must be one of {', '.join(OPTIMIZERS)}, got {self.optimizer!r}")
        check_number("momentum", self.momentum, at_least=0)
        if self.momentum >= 1:
            raise ValueError(f"momentum must be below 1, got {self.momentum!r}")
        if self.nesterov and (self.optimizer == "adamw" or self.momentum == 0):
            raise ValueError("nesterov needs sgd or lars with momentum > 0")
        check_number("weight_decay", self.weight_decay, at_least=0)
        check_contrast(self.temperature, self.denominator)
        micro = self.micro_batch_size
        if micro is not None and not (type(micro) is int and 1 <= micro <= self.batch_size):
            raise ValueError(f"micro_batch_size must be None or in 1..batch_size = {self.batch_size}, got {micro!r}")
        check_flags(self, "nesterov", "channels_last", "compile")


def make_plain(settings: Any) -> None:
    """Turn NumPy's scalars in a dataclass into Python's, and lists into tuples, as checkpoints and files keep them."""
    for each in fields(settings):
        object.__setattr__(settings, each.name, _plain(getattr(settings, each.name)))


def _plain(value: Any) -> Any:
    if isinstance(value, list | tuple):
        return tuple(map(_plain, value))
    return value.item() if isinstance(value, np.generic) else value


def check_flags(settings: Any, *names: str) -> None:
    """Refuse what is neither True nor False: the word ``"false"`` would count as true."""
    for name in names:
        if not isinstance(getattr(settings, name), bool):
            raise ValueError(f"{name} must be True or False, got {getattr(settings, name)!r}")
