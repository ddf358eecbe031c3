"""Digits of which some are rare: how long the test digits of each class are, beside a balanced control."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from normcourse.experiments.base import Experiment, Settings, Work
from normcourse.experiments.digits import train_simclr
from normcourse.experiments.store import Job, Store, Tables
from normlib import data, evaluation
from normlib.models import digits_simclr

if TYPE_CHECKING:
    import pandas as pd

    from normlib.models import SimCLR


def jobs(settings: Settings, store: Store) -> list[Job]:
    """Every seed with a long tail, and with as many images of all classes alike."""
    return [
        {"condition": condition, "seed": seed}
        for condition in ("long-tailed", "balanced")
        for seed in range(settings["seeds"])
    ]


def run(settings: Settings, job: Job, folder: Path) -> Tables:
    """One training: the mean norms of each class of test digits, before and after, and how many images it had."""
    import pandas as pd

    order = class_order(job["seed"], settings["classes"])
    tail = {"largest": settings["largest"], "order": order, "seed": job["seed"]}
    images = data.long_tailed(data.digits("train"), ratio=settings["ratio"], **tail)
    if job["condition"] == "balanced":
        tail["largest"] = round(len(images) / settings["classes"])
        images = data.long_tailed(data.digits("train"), ratio=1, **tail)
    model = digits_simclr(width=settings["width"], seed=job["seed"])
    before = class_norms(model, data.digits("test")).assign(trained=False)
    train_simclr(settings, job, model, images)
    after = class_norms(model, data.digits("test")).assign(trained=True)
    table = pd.concat([before, after])
    counts = images.labels.bincount(minlength=settings["classes"]).numpy()
    table = table[table["label"].isin(order)]
    return {"classes": table.assign(rank=table["label"].map(order.index), images=counts[table["label"]])}


def class_order(seed: int, classes: int) -> list[int]:
    """Classes from the commonest to the rarest.

    Of the seeds from any multiple of ``classes`` to the next, each class has each rank once.

    >>> [class_order(seed, 3) for seed in range(3)]
    [[2, 0, 1], [0, 1, 2], [1, 2, 0]]
    """
    shuffled = np.random.default_rng(seed // classes).permutation(classes)
    return np.roll(shuffled, -(seed % classes)).tolist()


def class_norms(model: SimCLR, images: data.ImageSet) -> pd.DataFrame:
    """One row for each class: how long its images are on average, after the backbone and after the projector."""
    import pandas as pd

    h, z = evaluation.embed(model, images)
    norms = {"norm_backbone": h.norm(dim=1), "norm_projector": z.norm(dim=1)}
    table = pd.DataFrame({"label": images.labels, **norms})
    return table.groupby("label", as_index=False).mean()


def work(settings: Settings) -> Work:
    """How much is trained."""
    sizes = [round(settings["largest"] * settings["ratio"] ** -rank) for rank in range(settings["classes"])]
    trainings = 2 * settings["seeds"]
    return Work("digits", trainings, trainings * sum(sizes) * settings["epochs"])


EXPERIMENTS = [
    Experiment(
        name="digits-rare",
        question="Does a class get shorter embeddings because it is rare?",
        settings={
            "classes": 10,
            "seeds": 40,
            "largest": 120,
            "ratio": 1.5,
            "lr": 0.05,
            "epochs": 100,
            "batch_size": 64,
            "width": 16,
        },
        smoke={"seeds": 2, "epochs": 3, "width": 4},
        jobs=jobs,
        run=run,
        work=work,
    )
]
