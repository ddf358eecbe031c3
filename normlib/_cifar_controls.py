"""What is recorded on CIFAR-10 beside training: networks before it, and what people saw in the images."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from normlib import _cifar_runs, _recorded, confidence, data, recipes
from normlib._recorded import Job, Tables

if TYPE_CHECKING:
    import pandas as pd

VOTES = {  # function of normlib.data, the split that it is about, and the outcome that is binned
    "CIFAR-10H": ("cifar10h", "test", "human_entropy"),
    "CIFAR-10N": ("cifar10n", "train", "human_agreement"),
}


def untrained_jobs(settings: dict[str, Any]) -> list[Job]:
    """One network for each seed."""
    return [{"condition": "untrained", "seed": seed} for seed in range(settings["seeds"])]


def run_untrained(settings: dict[str, Any], job: Job, folder: Path) -> Tables:
    """The scores of all images under a network that no step has changed."""
    change = {"data": settings["data"], "seed": job["seed"]}
    recipe = recipes.changed(recipes.named(settings["recipe"]), change)
    with_bank = job["seed"] == 0
    return {"samples": _cifar_runs.samples(settings, recipe, recipe.model(), recipe.images(), with_bank)}


def run_human(settings: dict[str, Any], job: Job, folder: Path) -> Tables:
    """Norms and other scores against what people saw, as averages over many images: the licences allow no copies.

    ``curves``: entropy (CIFAR-10H, test images) or agreement (CIFAR-10N, training images) in bins of each norm, with
    bootstrap intervals. ``correlations``: with each score, over all images and within classes.
    """
    import pandas as pd

    parts: dict[str, list[pd.DataFrame]] = {"curves": [], "correlations": []}
    runs = pd.concat([_trained(), _untrained()])
    for source, (function, split, outcome) in VOTES.items():
        for (condition, seed), run in runs[runs["split"] == split].groupby(["condition", "seed"], sort=False):
            votes = _drawn(run) if settings["drawn"] else getattr(data, function)()
            names = {"source": source, "condition": condition, "seed": seed}
            for table, found in _against(votes.join(run), outcome).items():
                parts[table].append(pd.DataFrame(names, index=found.index).join(found))
    return {name: pd.concat(tables, ignore_index=True) for name, tables in parts.items()}


def _against(table: pd.DataFrame, outcome: str) -> Tables:
    import pandas as pd

    curves = []
    for layer in ("backbone", "projector"):
        found = confidence.curve(table, outcome, f"norm_{layer}").drop(columns="score")
        found = found.rename(columns={"score_from": "norm_from", "score_to": "norm_to"})
        curves.append(found.assign(outcome=outcome, layer=layer))
    correlations = [
        confidence.correlation(table, outcome, method=method, within=within).assign(within=within or "all")
        for method in ("spearman", "kendall")
        for within in (None, "label")
    ]
    correlations = pd.concat(correlations, ignore_index=True).drop(columns="classes")
    return {"curves": pd.concat(curves, ignore_index=True), "correlations": correlations.assign(outcome=outcome)}


def _trained() -> pd.DataFrame:
    name = "cifar10-interventions-cpu"
    jobs = [job for job in _cifar_runs.jobs(_cifar_runs.experiments("cpu")[name][1]) if job["condition"] == "default"]
    return _recorded.join(_cifar_runs.RESULTS / name, jobs)["samples"].assign(condition="trained")


def _untrained() -> pd.DataFrame:
    name = "cifar10-untrained-cpu"
    jobs = untrained_jobs(experiments()[name][1])
    return _recorded.join(_cifar_runs.RESULTS / name, jobs)["samples"]


def _drawn(run: pd.DataFrame) -> data.HumanVotes:
    """Made-up votes, for a tiny run: some go to a random class."""
    random, size = np.random.default_rng(0), int(run["index"].max()) + 1
    counts = random.multinomial(3, np.full(10, 0.1), size=size)
    counts[run["index"], run["label"]] += 7
    return data.HumanVotes("made-up votes", counts)


def experiments() -> dict[str, tuple[str, dict[str, Any], dict[str, Any]]]:
    """Question, settings and smoke settings of each experiment, by name."""
    return {
        "cifar10-untrained-cpu": (
            "What do norms and other scores tell of CIFAR-10 before any training?",
            {
                "recipe": "cpu",
                "data": "cifar10-jpeg",
                "seeds": 3,
                "k": 200,
                "samples": "all",
                "corrupt": _cifar_runs.CORRUPTIONS,
            },
            {
                "recipe": "digits",
                "data": "digits",
                "seeds": 1,
                "k": 20,
                "corrupt": {"kinds": ["blur"], "severities": [3], "images": 50},
            },
        ),
        "cifar10-human-labels-cpu": (
            "Do people disagree on images with short embeddings, after training and before?",
            {"data": "cifar10-jpeg", "drawn": False},
            {"data": "digits", "drawn": True},
        ),
    }
