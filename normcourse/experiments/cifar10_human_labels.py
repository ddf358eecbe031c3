"""What people saw in the images of CIFAR-10, against norms and the scores beside them: aggregates over images alone."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from normcourse.experiments import cifar10
from normcourse.experiments.base import Experiment, Settings, Work, no_configuration
from normcourse.experiments.store import Job, Store, Tables
from normcourse.paths import RESULTS
from normlib import confidence, data
from normlib.data import HumanVotes
from normlib.evaluation import sample_table
from normlib.training import recipes

if TYPE_CHECKING:
    import pandas as pd

NORMS = ("norm_backbone", "norm_projector")
SOURCES = {  # whose labels: which images they are about, and what is compared with the scores
    "CIFAR-10H": ("test", "human_entropy", data.cifar10h),
    "CIFAR-10N": ("train", "human_agreement", data.cifar10n),
}


def jobs(settings: Settings, store: Store) -> list[Job]:
    """Only one: nothing is trained, and all tables are read at once."""
    return [{}]


def run(settings: Settings, job: Job, folder: Path) -> Tables:
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

    store, tables = Store(RESULTS), []
    for name, condition in names.items():
        jobs = [job for job in store.jobs(name) if job["condition"] == condition]
        if not jobs:
            raise FileNotFoundError(
                f"{name} has no recorded runs of {condition!r}; record it with: python -m normcourse record {name}"
            )
        tables.append(store.table(name, "samples", jobs=jobs))
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


def _made_up_samples(settings: Settings) -> pd.DataFrame:
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


def experiment(suffix: str, recipe: str) -> Experiment:
    """The experiment of one edition of :mod:`normcourse.experiments.cifar10`."""
    return Experiment(
        name=f"cifar10-human-labels{suffix}",
        question="Are images that people disagree about shorter, and do other scores tell them better?",
        settings={
            "samples": {f"cifar10-interventions{suffix}": "default", f"cifar10-untrained{suffix}": "untrained"},
            "bins": 10,
            "resamples": 1000,
            "change": {"data": "cifar10-jpeg"},
        },
        smoke={"samples": {}, "resamples": 100, "change": {"data": "digits"}},
        jobs=jobs,
        run=run,
        images=cifar10.images,
        configuration=no_configuration,
        work=lambda settings: Work(recipe, 1, 0),
    )


EXPERIMENTS = [experiment("-gpu", "paper"), experiment("-cpu", "cpu")]
