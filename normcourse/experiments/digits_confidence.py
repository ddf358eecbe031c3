"""The recorded runs on digits that ask what a short embedding means: classes never seen, and classes seen rarely."""

from __future__ import annotations

import warnings
from functools import partial
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from normcourse.experiments.digits import run_each
from normcourse.experiments.store import Job, Tables
from normlib import augment, confidence, data, evaluation
from normlib.evaluation import sample_table
from normlib.models import digits_simclr
from normlib.training import TrainConfig, fit

if TYPE_CHECKING:
    import pandas as pd

    from normlib.models import SimCLR


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


def rare_jobs(settings: dict[str, Any]) -> list[Job]:
    """Every seed with a long tail, and with as many images of all classes alike."""
    return [
        {"condition": condition, "seed": seed}
        for condition in ("long-tailed", "balanced")
        for seed in range(settings["seeds"])
    ]


def rare_work(settings: dict[str, Any]) -> tuple[str, int, int]:
    """The recipe, the number of runs, and the pairs of views that they train on in all."""
    sizes = [round(settings["largest"] * settings["ratio"] ** -rank) for rank in range(settings["classes"])]
    runs = len(rare_jobs(settings))
    return "digits", runs, runs * sum(sizes) * settings["epochs"]


def class_order(seed: int, classes: int) -> list[int]:
    """Classes from the commonest to the rarest.

    Of the seeds from any multiple of ``classes`` to the next, each class has each rank once.

    >>> [class_order(seed, 3) for seed in range(3)]
    [[2, 0, 1], [0, 1, 2], [1, 2, 0]]
    """
    shuffled = np.random.default_rng(seed // classes).permutation(classes)
    return np.roll(shuffled, -(seed % classes)).tolist()


def run_rare(settings: dict[str, Any], folder: Path) -> Tables:
    """SimCLR on digits of which some classes are rare: how long the test digits of each class are, and a control."""
    return run_each(rare_jobs(settings), partial(_run_rare, settings), folder)


def _run_rare(settings: dict[str, Any], job: Job) -> Tables:
    import pandas as pd

    order = class_order(job["seed"], settings["classes"])
    tail = {"largest": settings["largest"], "order": order, "seed": job["seed"]}
    images = data.long_tailed(data.digits("train"), ratio=settings["ratio"], **tail)
    if job["condition"] == "balanced":
        tail["largest"] = round(len(images) / settings["classes"])
        images = data.long_tailed(data.digits("train"), ratio=1, **tail)
    model = digits_simclr(width=settings["width"], seed=job["seed"])
    before = class_norms(model, data.digits("test")).assign(trained=False)
    _train(settings, job, model, images)
    after = class_norms(model, data.digits("test")).assign(trained=True)
    table = pd.concat([before, after])
    counts = images.labels.bincount(minlength=settings["classes"]).numpy()
    table = table[table["label"].isin(order)]
    return {"classes": table.assign(rank=table["label"].map(order.index), images=counts[table["label"]])}


def class_norms(model: SimCLR, images: data.ImageSet) -> pd.DataFrame:
    """One row for each class: how long its images are on average, after the backbone and after the projector."""
    import pandas as pd

    h, z = evaluation.embed(model, images)
    norms = {"norm_backbone": h.norm(dim=1), "norm_projector": z.norm(dim=1)}
    table = pd.DataFrame({"label": images.labels, **norms})
    return table.groupby("label", as_index=False).mean()


def _train(settings: dict[str, Any], job: Job, model: SimCLR, images: data.ImageSet) -> float:
    """Train a model; its mean loss over the last epoch."""
    shared = {name: settings[name] for name in ("lr", "epochs", "batch_size")}
    config = TrainConfig(seed=job["seed"], **shared)
    history = fit(model, images, config, augment=augment.TwoViews.digits(), accelerator="cpu", progress=False)
    steps = history.steps
    return steps.loc[steps["epoch"] == config.epochs, "loss"].mean()
