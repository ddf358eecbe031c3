"""What this machine can do, and how long each named experiment would take on it."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import torch

from normlib import recipes, records
from normlib._arguments import check_number
from normlib._devices import cores
from normlib._launch import check_accelerator
from normlib._speed import pairs_per_second

if TYPE_CHECKING:
    import pandas as pd


def devices() -> str:
    """Devices, their memory and the precisions they calculate in, a line for each."""
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


def minutes(accelerator: str, seconds: float) -> pd.DataFrame:
    """Pairs per second of each recipe, and the minutes of training that each experiment needs at that speed.

    Args:
        accelerator: As in :func:`normlib.training.fit`.
        seconds: Length of the probe, shared among the recipes, > 0.

    Raises:
        ValueError: The device is not there, or ``seconds`` is not above 0 and finite.
    """
    import pandas as pd

    check_number("seconds", seconds, above=0)
    check_accelerator(accelerator)
    work, places = {}, {}
    for name, experiment in records.EXPERIMENTS.items():
        if experiment.work is None:
            continue
        work[name] = recipe, _, _ = experiment.work(experiment.settings)
        own = experiment.settings.get("accelerator", "cpu")  # an experiment for a CPU runs there, beside a GPU too
        places[recipe] = "cpu" if own == "cpu" else accelerator
    share = seconds / len(places)
    speed = {name: pairs_per_second(recipes.named(name), place, share) for name, place in places.items()}
    rows = [
        {
            "experiment": name,
            "recipe": recipe,
            "pairs/s": round(speed[recipe]),
            "runs": runs,
            "minutes": round(pairs / speed[recipe] / 60, 1),
        }
        for name, (recipe, runs, pairs) in work.items()
    ]
    return pd.DataFrame(rows)
