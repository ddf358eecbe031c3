"""How long each named experiment would take on this machine."""

from __future__ import annotations

from typing import TYPE_CHECKING

from normcourse.experiments import EXPERIMENTS
from normlib.training.throughput import recipe_speeds

if TYPE_CHECKING:
    import pandas as pd


def minutes(accelerator: str, seconds: float) -> pd.DataFrame:
    """The minutes of training that each experiment needs at the speed that its recipe reaches here.

    Args:
        accelerator: As in :func:`normlib.training.fit`.
        seconds: Length of the probe, shared among the recipes, > 0.

    Raises:
        ValueError: The device is not there, or ``seconds`` is not above 0 and finite.
    """
    import pandas as pd

    work, places = {}, {}
    for name, experiment in EXPERIMENTS.items():
        if experiment.work is None:
            continue
        work[name] = recipe, _, _ = experiment.work(experiment.settings)
        own = experiment.settings.get("accelerator", "cpu")  # an experiment for a CPU runs there, beside a GPU too
        places[recipe] = "cpu" if own == "cpu" else accelerator
    speeds = recipe_speeds(accelerator, seconds, places).set_index("recipe")["pairs/s"]
    rows = [
        {
            "experiment": name,
            "recipe": recipe,
            "pairs/s": round(speeds[recipe]),
            "runs": runs,
            "minutes": round(pairs / speeds[recipe] / 60, 1),
        }
        for name, (recipe, runs, pairs) in work.items()
    ]
    return pd.DataFrame(rows)
