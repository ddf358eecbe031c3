"""Runs on CIFAR-10 that train nothing: networks left untrained, and what people saw in the images."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from normcourse.experiments import cifar10, store
from normcourse.experiments.store import Job, Tables
from normcourse.paths import RESULTS
from normlib import confidence, data
from normlib._utils.devices import best_kind
from normlib.data import HumanVotes
from normlib.evaluation import sample_table
from normlib.training import recipes

if TYPE_CHECKING:
    import pandas as pd

    from normlib.training.recipes import Recipe

NORMS = ("norm_backbone", "norm_projector")
SOURCES = {  # whose labels: which images they are about, and what is compared with the scores
    "CIFAR-10H": ("test", "human_entropy", data.cifar10h),
    "CIFAR-10N": ("train", "human_agreement", data.cifar10n),
}


def untrained_jobs(settings: dict[str, Any]) -> list[Job]:
    """Every seed, named as the trained runs are, with a learning rate of 0."""
    return [{"condition": "untrained", "lr": 0.0, "seed": seed} for seed in range(settings["seeds"])]


def run_untrained(settings: dict[str, Any], job: Job, folder: Path) -> Tables:
    """The per-sample table of an untrained network, of all images that a trained one is judged by."""
    recipe = untrained_recipe(settings, job)
    device = "cpu" if settings.get("accelerator", "cpu") == "cpu" else best_kind()
    model = recipe.build_model().eval().to(device)
    return {"samples": cifar10.samples(settings, recipe, model, recipe.images(), with_bank=True)}


def untrained_recipe(settings: dict[str, Any], job: Job) -> Recipe:
    """The recipe whose network is left untrained."""
    return recipes.get(settings["recipe"]).replace(**(settings["change"] | {"seed": job["seed"]}))


def untrained_configuration(settings: dict[str, Any], job: Job) -> dict[str, Any]:
    """The data and the network; what concerns training has no part in it."""
    about = asdict(untrained_recipe(settings, job))
    return {name: value for name, value in about.items() if name in ("data", "network", "projector")}


def run_human_labels(settings: dict[str, Any], job: Job, folder: Path) -> Tables:
    """Norms, and the scores beside them, against what people saw in the images: aggregates over images alone.

    Runs whose table lacks the images that some labels are about have no rows for these labels.
    """
    samples = settings["samples"]
    votes = {source: load() for source, (_, _, load) in SOURCES.items()} if samples else _made_up_votes()
    runs = recorded_samples(samples) if samples else _made_up_samples(settings)
    return compare_with_people(runs, votes, bins=settings["bins"], resamples=settings["resamples"])


def recorded_samples(names: dict[str, str]) -> pd.DataFrame:
    """Per-sample tables of the runs of one condition of each of some experiments, one below the other."""
    import pandas as pd

    tables = []
    for name, condition in names.items():
        about = store.runs(RESULTS / name)
        jobs = [run["job"] for run in about if run["job"]["condition"] == condition]
        if not jobs:
            raise FileNotFoundError(
                f"{name} has no recorded runs of {condition!r}; record it with: python -m normcourse record {name}"
            )
        tables.append(store.join(RESULTS / name, jobs)["samples"])
    return pd.concat(tables, ignore_index=True)


def compare_with_people(samples: pd.DataFrame, votes: dict[str, HumanVotes], *, bins: int, resamples: int) -> Tables:
    """Curves, trends and rank correlations of each run's scores with the votes of each source.

    Returns:
        ``curves``: the mean outcome in bins of each norm, as :func:`normlib.confidence.curve` gives it. ``trends``: as
        :func:`normlib.confidence.trend`. ``correlations``: as :func:`normlib.confidence.correlation`, of all scores,
        over all images and ``within`` classes. All have the columns ``source`` and ``outcome`` and those of the run.
    """
    import pandas as pd

    parts: dict[str, list[pd.DataFrame]] = {"curves": [], "trends": [], "correlations": []}
    for source, people in votes.items():
        split, outcome, _ = SOURCES[source]
        judged = people.join(samples[samples["split"] == split])
        about = {"source": source, "outcome": outcome}
        for norm in NORMS:
            curve = confidence.per_run(judged, confidence.curve, outcome, norm, bins=bins, resamples=resamples)
            trend = confidence.per_run(judged, confidence.trend, outcome, norm, bins=bins)
            parts["curves"].append(curve.assign(**about))
            parts["trends"].append(trend.assign(score=norm, **about))
        for method in ("spearman", "kendall"):
            for within in (None, "label"):
                found = confidence.per_run(judged, confidence.correlation, outcome, method=method, within=within)
                parts["correlations"].append(found.assign(within=within or "", **about))
    return {name: pd.concat(frames, ignore_index=True) for name, frames in parts.items()}


def _made_up_samples(settings: dict[str, Any]) -> pd.DataFrame:
    """Digits in place of photographs, for a run that only proves the code."""
    model = recipes.get("digits").build_model()
    table = sample_table(model, data.digits("train"), {"test": data.digits("test")}, k=20, with_bank=True)
    return table.assign(condition="untrained", lr=0.0, seed=0)


def _made_up_votes() -> dict[str, HumanVotes]:
    """Fifty people for each of the digits, who mostly read what is written there."""
    labels, random = data.digits("all").labels.numpy(), np.random.default_rng(0)
    shares = np.full((len(labels), 10), 0.01)
    shares[np.arange(len(labels)), labels] = 0.91
    return {source: HumanVotes(source, random.multinomial(50, shares)) for source in SOURCES}
