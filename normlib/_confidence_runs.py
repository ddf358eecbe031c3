"""The recorded runs on digits that ask what a short embedding means: classes never seen, and classes seen rarely."""

from __future__ import annotations

from functools import partial
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from normlib import augment, data
from normlib._digits_runs import digits_simclr, run_each
from normlib._recorded import Job, Tables
from normlib._samples import sample_table
from normlib.training import TrainConfig, fit

if TYPE_CHECKING:
    import pandas as pd

    from normlib.models import SimCLR

SIGNS = {  # what makes high mean familiar
    "norm_backbone": 1,
    "norm_projector": 1,
    "kth_distance": -1,
    "knn_margin": 1,
    "probe_max_softmax": 1,
    "probe_energy": 1,
    "mahalanobis": -1,
}


def run_held_out(settings: dict[str, Any], folder: Path) -> Tables:
    """SimCLR on eight digits, for each pair that it never sees: how well every score tells the pair from the eight."""
    pairs = list(combinations(range(settings["classes"]), 2))
    jobs = [{"first": a, "second": b, "seed": seed} for seed in range(settings["seeds"]) for a, b in pairs]
    return run_each(jobs, partial(_run_held_out, settings), folder)


def held_out_work(settings: dict[str, Any]) -> tuple[str, int, int]:
    """The recipe, the number of runs, and the pairs of views that they train on in all."""
    pairs = list(combinations(range(settings["classes"]), 2))
    labels = data.digits("train").labels
    seen = sum(len(labels) - int(sum(labels == label for label in pair).sum()) for pair in pairs)
    return "digits", settings["seeds"] * len(pairs), settings["seeds"] * seen * settings["epochs"]


def _run_held_out(settings: dict[str, Any], job: Job) -> Tables:
    import pandas as pd

    pair = [job["first"], job["second"]]
    bank, _ = data.hold_out(data.digits("train"), pair)
    sets = dict(zip(("test", "held out"), data.hold_out(data.digits("test"), pair), strict=True))
    model = digits_simclr(width=settings["width"], seed=job["seed"])
    before = sample_table(model, bank, sets, k=settings["k"])
    loss = _train(settings, job, model, bank)
    after = sample_table(model, bank, sets, k=settings["k"])
    states = {False: before, True: after}
    accuracy = [table.loc[table["split"] == "test", "knn_correct"].mean() for table in states.values()]
    scores = [scores_of(table).assign(trained=trained) for trained, table in states.items()]
    run = {"loss": loss, "knn_untrained": accuracy[0], "knn_trained": accuracy[1]}
    return {"scores": pd.concat(scores), "runs": pd.DataFrame([run])}


def scores_of(table: pd.DataFrame) -> pd.DataFrame:
    """How well each score of a table tells the images of its split ``"test"`` from those that are ``"held out"``.

    Returns:
        One row for each score, all turned so that high means familiar: ``auroc`` of seen against held-out images, and
        of the seen alone ``auroc_correct`` and ``spearman`` with whether their neighbours are right (NaN if all are).
    """
    import pandas as pd
    from scipy.stats import spearmanr
    from sklearn.metrics import roc_auc_score

    seen = (table["split"] == "test").to_numpy()
    correct = table.loc[seen, "knn_correct"].to_numpy()
    rows = []
    for name, sign in SIGNS.items():
        values = sign * table[name].to_numpy(np.float64)
        row = {"score": name, "auroc": roc_auc_score(seen, values), "auroc_correct": np.nan, "spearman": np.nan}
        if len(set(correct)) == 2:
            row["auroc_correct"] = roc_auc_score(correct, values[seen])
            row["spearman"] = spearmanr(values[seen], correct).statistic
        rows.append(row)
    return pd.DataFrame(rows)


def _train(settings: dict[str, Any], job: Job, model: SimCLR, images: data.ImageSet) -> float:
    """Train a model; its mean loss over the last epoch."""
    shared = {name: settings[name] for name in ("lr", "epochs", "batch_size")}
    config = TrainConfig(seed=job["seed"], **shared)
    history = fit(model, images, config, augment=augment.TwoViews.digits(), accelerator="cpu", progress=False)
    steps = history.steps
    return steps.loc[steps["epoch"] == config.epochs, "loss"].mean()
