"""SimCLR on photographs, trained until it sees much more than pixels: what the chapters on confidence rest on."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from normcourse.experiments import cifar10, other_images
from normcourse.experiments.base import KEPT, Experiment, Settings
from normcourse.experiments.store import Job, Tables
from normlib._utils.devices import best_kind
from normlib.evaluation import sample_table
from normlib.training import run_dir, weight_files

if TYPE_CHECKING:
    import pandas as pd
    from torch import nn

    from normlib.training.recipes import Recipe

SCORED_EPOCHS = (0, 1, 2, 4, 8, 16, 25, 50)  # and the last one
HELD_OUT = [[0, 5], [3, 8], [1, 6], [2, 9], [4, 7]]  # an animal and a vehicle where there are some; every class once
OTHER = ["cifar100", *other_images.FILES, *other_images.NOISE]
IN_TRAJECTORY = [
    "split", "index", "norm_backbone", "norm_projector", "knn_correct", "knn_margin", "kth_distance", "view_spread",
]  # fmt: skip


def run(settings: Settings, job: Job, folder: Path) -> Tables:
    """Train one network, going on where it was stopped; then score it as it was at some epochs, and in the end."""
    recipe = cifar10.recipe_of(settings, job)
    tables = cifar10.run(settings, job, folder)
    if "norms" not in tables:  # it diverged
        return tables
    device = "cpu" if settings["accelerator"] == "cpu" else best_kind()
    states = []
    for epoch in settings["keep_weights"]:
        model = weight_files.load(recipe, run_dir.weights_file(folder, epoch)).to(device)
        last = epoch == recipe.train.epochs
        table = score(settings, recipe, model, last=last)
        states.append(table.loc[table["split"] != "train", IN_TRAJECTORY].assign(epoch=epoch))
        if last:
            tables["samples"] = table
            if settings["other"] or settings["corrupt"]:
                tables["other"] = score_others(settings, recipe, model)
            if settings["final_weights"]:
                path = folder / KEPT / f"seed-{job['seed']}.safetensors"
                weight_files.save(model, path, dtype=torch.bfloat16)
    trajectory = _joined(states)
    accuracy = trajectory[trajectory["split"] == "test"].groupby("epoch")["knn_correct"].mean().rename("knn")
    tables["epochs"] = tables["epochs"].merge(accuracy.reset_index(), on="epoch", how="outer")
    return tables | {"trajectory": trajectory}


def score(settings: Settings, recipe: Recipe, model: nn.Module, *, last: bool) -> pd.DataFrame:
    """The per-sample table of a network; with probe and covariance, and with the training images, at the last epoch."""
    return sample_table(
        model,
        recipe.images(),
        recipe.test_sets(),
        k=settings["k"],
        with_bank=last and settings["with_bank"],
        probes=last,
        augment=recipe.augmentation(),
        views=settings["views"],
        seed=recipe.train.seed,
    )


def score_others(settings: Settings, recipe: Recipe, model: nn.Module) -> pd.DataFrame:
    """The per-sample table of images of other data sets, and of corrupted test images; they have no labels here."""
    bank = recipe.images()
    sets = {name: other_images.image_set(name, bank) for name in settings["other"]}
    if settings["corrupt"]:
        sets |= cifar10.corrupted(recipe.test_images(), settings["corrupt"])
    table = sample_table(
        model,
        bank,
        sets,
        k=settings["k"],
        augment=recipe.augmentation(),
        views=settings["views"],
        seed=recipe.train.seed,
    )
    return table.drop(columns=["label", "knn_correct", "probe_correct"])


def _joined(frames: list[pd.DataFrame]) -> pd.DataFrame:
    import pandas as pd

    return pd.concat(frames, ignore_index=True)


def experiment(
    name: str,
    question: str,
    edition: Settings,
    *,
    epochs: int,
    seeds: int,
    smoke: Settings | None = None,
    **settings: Any,
) -> Experiment:
    """One experiment of an edition; ``settings`` and ``smoke`` add to those that all have."""
    shared = {
        **edition,
        "knn": False,  # it is taken from the scored images
        "track_weights": True,
        "keep_weights": [*(epoch for epoch in SCORED_EPOCHS if epoch < epochs), epochs],
        "k": 200,
        "views": 8,
        "samples": "none",  # scored here, not by cifar10.run
        "with_bank": False,
        "final_weights": False,
        "other": [],
        "corrupt": {},
        "conditions": {"default": {}},
        "change": {"data": "cifar10", "epochs": epochs} | edition["change"],
        "seeds": seeds,
    }
    tiny = {
        "recipe": "digits",
        "accelerator": "cpu",
        "keep_weights": [0, 2],
        "k": 20,
        "views": 2,
        "other": ["uniform noise"],
        "corrupt": {"kinds": ["blur"], "severities": [3], "images": 50},
        "change": {"data": "digits", "epochs": 2, "warmup_epochs": 1},
        "lrs": [0.1],
        "seeds": 1,
    }
    return Experiment(
        name=name,
        question=question,
        settings=shared | settings,
        smoke=tiny | (smoke or {}),
        jobs=cifar10.jobs,
        run=run,
        images=cifar10.images,
        configuration=cifar10.configuration,
        work=cifar10.work,
        resumes=True,
    )


# The paper's settings, but for a small network the temperature that learned most in the pilot, and a shorter warm-up.
TWO_CORES = {
    "recipe": "two_cores",
    "accelerator": "cpu",
    "track_every": 20,
    "lrs": [0.36],
    "change": {"temperature": 0.2, "warmup_epochs": 2},
}
GPU = {"recipe": "paper", "accelerator": "auto", "track_every": 10, "lrs": [0.36], "change": {"warmup_epochs": 5}}


def of_edition(edition: Settings, suffix: str, *, epochs: int, held_out_epochs: int, seeds: int) -> list[Experiment]:
    """The experiments that both editions have."""
    return [
        experiment(
            f"cifar10-simclr{suffix}",
            "What do the norms of SimCLR on CIFAR-10 tell, of its own images and of others, as it learns?",
            edition,
            epochs=epochs,
            seeds=seeds,
            with_bank=True,
            final_weights=True,
            other=OTHER,
            corrupt=cifar10.CORRUPTIONS,
        ),
        experiment(
            f"cifar10-held-out{suffix}",
            "Are embeddings of two classes that SimCLR never saw shorter, over all ten classes and against controls?",
            edition,
            epochs=held_out_epochs,
            seeds=len(HELD_OUT),
            by_seed=[{"held_out": pair} for pair in HELD_OUT],
        ),
        experiment(
            f"cifar100-simclr{suffix}",
            "What do the norms of SimCLR on CIFAR-100 tell, of its own images and of CIFAR-10's?",
            edition,
            epochs=epochs,
            seeds=1,
            change={"data": "cifar100", "epochs": epochs} | edition["change"],
            other=["cifar10", *other_images.NOISE],
        ),
    ]


EXPERIMENTS = [
    *of_edition(TWO_CORES, "", epochs=100, held_out_epochs=60, seeds=4),
    *of_edition(GPU, "-gpu", epochs=100, held_out_epochs=100, seeds=3),
]
