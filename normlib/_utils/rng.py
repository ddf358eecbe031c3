"""torch's global generators, from which layers draw their weights, and Dropout draws: read, seeded and set again."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from normlib._utils.arguments import check_seed


def states(device: torch.device) -> dict[str, Tensor]:
    """The states of the CPU's generator and of the device's."""
    on_cpu = {"cpu": torch.get_rng_state()}
    return on_cpu | {"cuda": torch.cuda.get_rng_state(device)} if device.type == "cuda" else on_cpu


def restore(saved: dict[str, Tensor], device: torch.device) -> None:
    """Set what :func:`states` gave; a device that is of another kind than then keeps its own."""
    torch.set_rng_state(saved["cpu"])
    if device.type == "cuda" and "cuda" in saved:
        torch.cuda.set_rng_state(saved["cuda"], device)


@contextmanager
def seeded(seed: int, part: int = 0) -> Iterator[None]:
    """Layers draw their weights from torch's global generator on the CPU: seed it, then put it back; no other one."""
    check_seed(seed)
    state = torch.default_generator.get_state()
    torch.default_generator.manual_seed(seed + part)
    try:
        yield
    finally:
        torch.default_generator.set_state(state)
