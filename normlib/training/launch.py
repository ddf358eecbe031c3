"""Which devices a run uses: one, or one for each process that ``torchrun`` started."""

from __future__ import annotations

import os
import warnings
from typing import TYPE_CHECKING, Any

import torch

from normlib._utils.devices import best_kind, has_bfloat16

if TYPE_CHECKING:
    from lightning_fabric import Fabric


def processes() -> int:
    """How many processes ``torchrun`` started for this run, on all machines; 1 without it."""
    return int(os.environ.get("WORLD_SIZE", 1)) if "LOCAL_WORLD_SIZE" in os.environ else 1


def is_first() -> bool:
    """Whether this is the process that prints and writes."""
    return processes() == 1 or int(os.environ["RANK"]) == 0


def launch(accelerator: str, precision: str, logger: Any = None) -> Fabric:
    """A Fabric for this process, joined to the others where there are any.

    Raises:
        ValueError: The device is not there, or Fabric does not know ``accelerator`` or ``precision``.
        ModuleNotFoundError: Fabric is not installed.
    """
    try:
        from lightning_fabric import Fabric
    except ModuleNotFoundError:
        raise ModuleNotFoundError("training needs Lightning Fabric: pip install lightning-fabric rich") from None
    check_accelerator(accelerator)
    here = int(os.environ["LOCAL_WORLD_SIZE"]) if processes() > 1 else 1
    options: dict[str, Any] = {"precision": precision}  # which words there are, Fabric knows and says
    if processes() > 1:
        options |= {"strategy": "ddp", "num_nodes": processes() // here}
    fabric = Fabric(accelerator=accelerator, devices=here, loggers=logger, **options)
    if processes() > 1:
        fabric.launch()
    return fabric


def check_accelerator(accelerator: str) -> None:
    """Refuse a device that this machine does not have."""
    there = {
        "auto": True,
        "cpu": True,
        "cuda": torch.cuda.is_available(),
        "gpu": torch.cuda.is_available() or torch.backends.mps.is_available(),
        "mps": torch.backends.mps.is_available(),
    }
    if not isinstance(accelerator, str) or not there.get(accelerator, False):
        usable = ", ".join(name for name, found in there.items() if found)
        raise ValueError(f"accelerator={accelerator!r} is not available here; usable are {usable}")


def precision_on(accelerator: str, precision: str) -> str:
    """The precision that a run calculates in on a device: ``precision`` itself, unless that is ``"auto"``.

    ``"auto"`` is ``"bf16-mixed"`` where the device has bfloat16 in hardware, else ``"16-mixed"`` on a CUDA GPU and
    ``"32-true"`` elsewhere.

    Raises:
        ValueError: The device is not there.

    Warns:
        ``"bf16-mixed"`` is asked for by name on a processor that only imitates it.
    """
    kind = device_of(accelerator).type
    if precision == "auto":
        if has_bfloat16(kind):
            return "bf16-mixed"
        return "16-mixed" if kind == "cuda" else "32-true"
    if kind == "cpu" and str(precision).startswith("bf16") and not has_bfloat16("cpu"):
        warnings.warn(
            f"this processor imitates bfloat16, so precision={precision!r} is several times slower here than "
            "'32-true'; precision='auto' chooses what is fast",
            stacklevel=2,
        )
    return precision


def device_of(accelerator: str) -> torch.device:
    """The first device of a kind, ``"auto"`` being the best there is.

    Raises:
        ValueError: There is none.
    """
    check_accelerator(accelerator)
    if accelerator in ("auto", "gpu"):
        accelerator = best_kind()
    return torch.device(accelerator)
