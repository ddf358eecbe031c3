"""The experiment ``theory-verification``: each statement of the theory measured again, over seeds.

A measurement takes a seed and gives numbers by name; they stand in the modules beside this one.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from normcourse.experiments.base import Experiment, Settings, no_configuration
from normcourse.experiments.store import Job, Store, Tables
from normcourse.experiments.theory_verification import closed_forms, networks, released_code

MEASUREMENTS: dict[str, Callable[[int], dict[str, float]]] = {
    "gradients": closed_forms.gradients_in_closed_form,
    "gradients of other methods": closed_forms.gradients_of_other_methods,
    "steps of a pair": closed_forms.steps_of_a_pair,
    "steps to align": closed_forms.steps_to_align,
    "growth under noise": closed_forms.growth_under_noise,
    "balance with decay": closed_forms.balance_with_decay,
    "faults of the released code": released_code.faults_of_the_released_code,
    "cut and rate": networks.cut_and_rate,
    "weights and embeddings": networks.weights_and_embeddings,
}
ON_MIXTURES = "frequency and density"  # trains the networks of all seeds as one batch


def jobs(settings: Settings, store: Store) -> list[Job]:
    """Every measurement with every seed; the one on mixtures with all seeds at once."""
    single = [{"measurement": name, "seed": seed} for name in MEASUREMENTS for seed in range(settings["seeds"])]
    return [*single, {"measurement": ON_MIXTURES}]


def run(settings: Settings, job: Job, folder: Path) -> Tables:
    """The table ``quantities``: one row for each quantity (and, where the job has no seed, for each seed)."""
    import pandas as pd

    if job["measurement"] == ON_MIXTURES:
        size = settings["mixture_size"], settings["mixture_epochs"]
        return {"quantities": pd.DataFrame(networks.on_mixtures(settings["seeds"], *size))}
    measured = MEASUREMENTS[job["measurement"]](job["seed"])
    rows = [{"quantity": name, "value": float(value)} for name, value in measured.items()]
    return {"quantities": pd.DataFrame(rows)}


EXPERIMENTS = [
    Experiment(
        name="theory-verification",
        question="Does the theory of the course hold, measured again on free points and small networks?",
        settings={"seeds": 20, "mixture_size": 2000, "mixture_epochs": 100},
        smoke={"seeds": 2, "mixture_size": 200, "mixture_epochs": 2},
        jobs=jobs,
        run=run,
        configuration=no_configuration,
    )
]
