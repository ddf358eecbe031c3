"""The settings of a training run, checked when they are made."""

from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from normlib._utils.arguments import check_choice, check_count, check_flags, check_number, check_seed
from normlib.training.optimizers import OPTIMIZERS, OptimizerName


@dataclass(frozen=True)
class TrainConfig:
    """Settings of one run; those of the loss belong to the loss. Learning rates are those that are applied.

    Args:
        epochs: Passes over the images, ≥ 1.
        batch_size: Images a step, of all devices together, ≥ 2; a last, smaller batch is left out.
        lr: Largest step size η, > 0, reached after the warm-up and then lowered along a cosine to 0.
        warmup_epochs: Epochs in which the step size rises linearly, ≥ 0 and below ``epochs``.
        optimizer: ``"sgd"``, ``"lars"`` or ``"adamw"``.
        momentum: Momentum μ of SGD and LARS, β₁ of AdamW, in [0, 1).
        nesterov: Nesterov's momentum; not with AdamW.
        weight_decay: λ ≥ 0 for matrices and kernels.
        precision: As in Lightning Fabric, ``"32-true"``, ``"bf16-mixed"``, ``"16-mixed"`` (scales the loss), …; or
            ``"auto"``: ``"bf16-mixed"`` where the device has bfloat16 in hardware, else ``"16-mixed"`` on a GPU and
            ``"32-true"`` on a CPU. A run that begins on one device may go on in the precision of another.
        channels_last: Keep images and kernels in the order that convolutions on GPUs, and many on CPUs, are fastest in.
        compile: Compile the model with ``torch.compile``.
        micro_batch_size: Pairs in one forward pass, where a whole batch does not fit into memory; it must divide the
            images that a device gets. The loss is still that of the whole batch, at the price of a second forward pass.
            BatchNorm sees one micro-batch at a time; Dropout drops the same in both passes. None: all at once.
        seed: Seed of the order of images and of the augmentation.

    Raises:
        ValueError: A setting is out of its range; the message names it.

    >>> TrainConfig(epochs=5, lr=0.1).batch_size
    256
    """

    epochs: int = 60
    batch_size: int = 256
    lr: float = 0.3
    warmup_epochs: float = 2
    optimizer: OptimizerName = "sgd"
    momentum: float = 0.9
    nesterov: bool = False
    weight_decay: float = 1e-6
    precision: str = "32-true"
    channels_last: bool = False
    compile: bool = False
    micro_batch_size: int | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        make_plain(self)
        check_count("epochs", self.epochs)
        check_count("batch_size", self.batch_size, at_least=2, hint="a contrastive loss needs negatives")
        check_seed(self.seed)
        check_number("lr", self.lr, above=0)
        check_number("warmup_epochs", self.warmup_epochs, at_least=0)
        if self.warmup_epochs >= self.epochs:
            raise ValueError(f"warmup_epochs must be below epochs = {self.epochs}, got {self.warmup_epochs!r}")
        check_choice("optimizer", self.optimizer, OPTIMIZERS)
        check_number("momentum", self.momentum, at_least=0, below=1)
        if self.nesterov and (self.optimizer == "adamw" or self.momentum == 0):
            raise ValueError("nesterov needs sgd or lars with momentum > 0")
        check_number("weight_decay", self.weight_decay, at_least=0)
        if self.micro_batch_size is not None:
            check_count("micro_batch_size", self.micro_batch_size, at_most=self.batch_size, hint="or None: all at once")
        check_flags(nesterov=self.nesterov, channels_last=self.channels_last, compile=self.compile)


def make_plain(settings: Any) -> None:
    """Turn NumPy's scalars in a dataclass into Python's, and lists into tuples, as checkpoints and files keep them."""
    for each in fields(settings):
        object.__setattr__(settings, each.name, _plain(getattr(settings, each.name)))


def _plain(value: Any) -> Any:
    if isinstance(value, list | tuple):
        return tuple(map(_plain, value))
    return value.item() if isinstance(value, np.generic) else value
