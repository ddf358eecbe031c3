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


def describe() -> str:
    """Devices, their memory and the precisions they calculate in, a line for each.

    >>> describe().splitlines()[0].startswith("CPU: ")
    True
    """
    import torch

    memory = _host_memory()
    there = "" if memory is None else f", {memory / 2**30:.0f} GiB"
    lines = [f"CPU: {cores()} cores, {torch.get_num_threads()} threads{there}; 32-true, bf16-mixed, 64-true"]
    for i in range(torch.cuda.device_count()):
        gpu = torch.cuda.get_device_properties(i)
        bfloat16 = "bf16-mixed, " if gpu.major >= 8 else ""
        lines.append(f"GPU {i}: {gpu.name}, {gpu.total_memory / 2**30:.0f} GiB; 32-true, {bfloat16}16-mixed")
    if torch.backends.mps.is_available():
        lines.append("Apple GPU: 32-true, 16-mixed")
    return "\n".join(lines)


def _host_memory() -> int | None:
    """Bytes of the machine's memory; None where the system does not tell."""
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError):  # Windows has no sysconf
        return None
