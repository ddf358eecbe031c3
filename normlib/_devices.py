"""What this machine calculates on: its cores, and the best kind of device that it has."""

from __future__ import annotations

import os


def cores() -> int:
    """Cores that this process may use, ≥ 1.

    >>> cores() >= 1
    True
    """
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def best_kind() -> str:
    """``"cuda"`` where there is such a GPU, else ``"mps"`` for Apple's, else ``"cpu"``.

    >>> best_kind() in ("cuda", "mps", "cpu")
    True
    """
    import torch

    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"
