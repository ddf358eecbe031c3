"""torch's global generators, from which layers such as Dropout draw: read and set again."""

import torch
from torch import Tensor


def states(device: torch.device) -> dict[str, Tensor]:
    """The states of the CPU's generator and of the device's."""
    on_cpu = {"cpu": torch.get_rng_state()}
    return on_cpu | {"cuda": torch.cuda.get_rng_state(device)} if device.type == "cuda" else on_cpu


def restore(saved: dict[str, Tensor], device: torch.device) -> None:
    """Set what :func:`states` gave; a device that is of another kind than then keeps its own."""
    torch.set_rng_state(saved["cpu"])
    if device.type == "cuda" and "cuda" in saved:
        torch.cuda.set_rng_state(saved["cuda"], device)
