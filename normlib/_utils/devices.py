"""What this machine calculates on: its cores, and the best kind of device that it has."""

from __future__ import annotations

import os
import platform
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


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


def has_bfloat16(kind: str) -> bool:
    """Whether a kind of device has bfloat16 in hardware; elsewhere it is imitated, several times slower than float32.

    Args:
        kind: ``"cpu"``, ``"cuda"`` or ``"mps"``.

    >>> has_bfloat16("cpu") in (True, False)
    True
    """
    import torch

    if kind == "cuda":
        return torch.cuda.get_device_capability()[0] >= 8
    if kind != "cpu":
        return False
    if hasattr(torch.cpu, "get_capabilities"):
        features = torch.cpu.get_capabilities()
        return any(features.get(name, False) for name in ("avx512_bf16", "amx_bf16", "bf16"))  # the last one: Arm
    return torch.cpu._is_avx512_bf16_supported()  # before torch 2.10


def name_of(device: torch.device) -> str:
    """Name of a device; of a processor, with the widest instructions that torch uses on it.

    >>> import torch
    >>> name_of(torch.device("cpu")).endswith(")")
    True
    """
    import torch

    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    if device.type != "cpu":
        return device.type
    return f"{_processor()} ({torch.backends.cpu.get_cpu_capability()})"


def _processor() -> str:
    """The processor's name, as Linux tells it; elsewhere that of its architecture."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as lines:
            models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    except OSError:
        models = []
    return models[0] if models else platform.machine()


def describe() -> str:
    """Devices, their memory and the precisions they calculate in, a line for each.

    >>> describe().splitlines()[0].startswith("CPU: ")
    True
    """
    import torch

    memory = _host_memory()
    there = "" if memory is None else f", {memory / 2**30:.0f} GiB"
    halved = "bf16-mixed" if has_bfloat16("cpu") else "bf16-mixed (imitated, slow)"
    lines = [f"CPU: {cores()} cores, {torch.get_num_threads()} threads{there}; 32-true, {halved}, 64-true"]
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
