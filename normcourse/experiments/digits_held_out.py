"""Digits that SimCLR never saw: how well every score tells each pair of them from the eight others."""

from __future__ import annotations

import warnings
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING

from normcourse.experiments.base import Experiment, Settings, Work
from normcourse.experiments.digits import train_simclr
from normcourse.experiments.store import Job, Store, Tables
from normlib import confidence, data
from normlib.evaluation import sample_table
from normlib.models import digits_simclr

if TYPE_CHECKING:
    import pandas as pd


def jobs(settings: Settings, store: Store) -> list[Job]:
    """Every pair of digits with every seed."""
    pairs = list(combinations(range(settings["classes"]), 2))
    return [{"first": a, "second": b, "seed": seed} for seed in range(settings["seeds"]) for a, b in pairs]


def run(settings: Settings, job: Job, folder: Path) -> Tables:
    """One training without a pair of digits: how well every score tells the pair from the eight."""
    import pandas as pd

    pair = [job["first"], job["second"]]
    bank, _ = data.hold_out(data.digits("train"), pair)
    sets = dict(zip(("test", "held out"), data.hold_out(data.digits("test"), pair), strict=True))
    model = digits_simclr(width=settings["width"], seed=job["seed"])
    before = sample_table(model, bank, sets, k=settings["k"])
    loss = train_simclr(settings, job, model, bank)
    after = sample_table(model, bank, sets, k=settings["k"])
    states = {False: before, True: after}
    accuracy = [table.loc[table["split"] == "test", "knn_correct"].mean() for table in states.values()]
    scores = [scores_of(table).assign(trained=trained) for trained, table in states.items()]
    run = {"loss": loss, "knn_untrained": accuracy[0], "knn_trained": accuracy[1]}
    return {"scores": pd.concat(scores), "runs": pd.DataFrame([run])}


def scores_of(table: pd.DataFrame) -> pd.DataFrame:
    """How well each score of a table tells the images of its split ``"test"`` from those that are ``"held out"``.

    Returns:
        One row for each score, all turned so that high means familiar: ``auroc`` of seen against held-out images; of
        the seen alone ``auroc_correct`` and ``spearman`` with whether their neighbours are right (NaN if all are).
    """
    seen = table[table["split"] == "test"]
    found = confidence.detection(table, table["split"] == "test")[["score", "auroc"]]
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".* is NaN")
        correct = confidence.detection(seen, "knn_correct")["auroc"]
        agreement = confidence.correlation(seen, "knn_correct")["value"]
    return found.assign(auroc_correct=correct, spearman=agreement)


def work(settings: Settings) -> Work:
    """How much is trained."""
    pairs = list(combinations(range(settings["classes"]), 2))
    labels = data.digits("train").labels
    seen = sum(len(labels) - int(sum(labels == label for label in pair).sum()) for pair in pairs)
    return Work("digits", settings["seeds"] * len(pairs), settings["seeds"] * seen * settings["epochs"])


EXPERIMENTS = [
    Experiment(
        name="digits-held-out",
        question="Which scores tell digits that SimCLR never saw from those it has seen, before and after training?",
        settings={"classes": 10, "seeds": 10, "lr": 0.05, "epochs": 50, "batch_size": 128, "width": 16, "k": 20},
        smoke={"classes": 3, "seeds": 2, "epochs": 3, "width": 4},
        jobs=jobs,
        run=run,
        work=work,
    )
]
