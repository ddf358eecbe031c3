"""Methods beside SimCLR on digits: each condition at its own best learning rate, over several seeds."""

from __future__ import annotations

import warnings
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import update_bn

from normcourse.experiments import store
from normcourse.experiments.store import Job, Tables
from normlib import data, evaluation
from normlib.training import fit, recipes

if TYPE_CHECKING:
    import pandas as pd

    from normlib.data import ImageSet
    from normlib.training.recipes import Recipe

METHODS = {
    "simclr": {"method": "simclr"},
    "decoupled": {"method": "simclr", "denominator": "decoupled"},
    "siglip": {"method": "siglip"},
    "barlow-twins": {"method": "barlow-twins"},
    "vicreg": {"method": "vicreg"},
    "simsiam": {"method": "simsiam"},
    "byol": {"method": "byol"},
}
CONDITIONS = {"default": {}, "cut": {"cut": 3.0}, "GradScale": {"grad_scale_power": 1.0}}
CUTS = {"simsiam": 9.0, "byol": 9.0}  # recommended by Draganov et al. 2024 where there are no negatives


def _rates(lowest: float, count: int, cut: float = 3.0) -> dict[str, list[float]]:
    """Rates, each five times the one before; a cut by c asks for c² smaller ones, GradScale for five times."""
    rates = [lowest * 5**k for k in range(count)]
    parts = {"default": 1, "cut": cut**2, "GradScale": 5}
    return {condition: [float(f"{rate / part:.3g}") for rate in rates] for condition, part in parts.items()}


RATES = {
    "simclr": _rates(0.004, 6),
    "decoupled": _rates(0.004, 6),
    "siglip": _rates(0.0008, 5),
    "barlow-twins": _rates(0.00016, 6),
    "vicreg": _rates(0.0008, 5),
    "simsiam": _rates(0.004, 5, cut=9.0),
    "byol": _rates(0.004, 6, cut=9.0),
}
FIRST_SEARCH_SEED = 100  # rates are chosen with seeds, and images, that no result comes from


def run(settings: dict[str, Any], folder: Path) -> Tables:
    """Search the learning rate of each method and condition, then train at the best; stopped, it goes on from there.

    Table ``search`` has a row for each run of the search, ``runs`` one for each run at the best rate, and ``epochs``
    their norms and loss; at epoch 0 these two are of the first step. Only ``norm`` is measured in training mode: of
    what the loss turns, ``p`` where there is a predictor, else ``z``.
    """
    from tqdm import tqdm  # text, not a widget: it leaves nothing behind in a saved notebook

    searched = search_jobs(settings)
    with tqdm(total=len(searched) + len(pairs(settings)) * settings["seeds"], unit="run") as bar:
        search = _run_each(searched, partial(search_run, settings), folder, bar)["search"]
        chosen = best_rates(search)
        jobs = [
            {"method": method, "condition": condition, "lr": chosen[method, condition], "seed": seed}
            for method, condition in chosen
            for seed in range(settings["seeds"])
        ]
        return {"search": search} | _run_each(jobs, partial(final_run, settings), folder, bar)


def pairs(settings: dict[str, Any]) -> list[tuple[str, str]]:
    """Each method with each condition."""
    return [(method, condition) for method in settings["methods"] for condition in settings["conditions"]]


def search_jobs(settings: dict[str, Any]) -> list[Job]:
    """The runs of the search."""
    seeds = range(FIRST_SEARCH_SEED, FIRST_SEARCH_SEED + settings["search_seeds"])
    return [
        {"method": method, "condition": condition, "lr": lr, "seed": seed}
        for method, condition in pairs(settings)
        for lr in settings["lrs"][method][condition]
        for seed in seeds
    ]


def best_rates(search: pd.DataFrame) -> dict[tuple[str, str], float]:
    """The rate with the highest mean score of each method and condition, among those at which every seed finished.

    A pair without such a rate is left out.
    """
    rates = search.groupby(["method", "condition", "lr"], as_index=False).agg(
        score=("score", "mean"), failed=("ended", lambda ended: (ended != "").any())
    )
    finished = rates[~rates["failed"]]
    best = finished.loc[finished.groupby(["method", "condition"])["score"].idxmax()]
    return {(row.method, row.condition): float(row.lr) for row in best.itertuples()}


def recipe_of(settings: dict[str, Any], job: Job) -> Recipe:
    """The recipe of one run; its seed also says which two classes it never sees."""
    held_out = [job["seed"] % 5, job["seed"] % 5 + 5]
    condition = changed_by(job["condition"], job["method"], settings["conditions"], settings["cuts"])
    changes = settings["change"] | settings["methods"][job["method"]] | condition
    own = {"held_out": held_out, "lr": job["lr"], "seed": job["seed"]}
    return recipes.get("digits").replace(**(changes | own))


def changed_by(
    condition: str, method: str, conditions: dict[str, dict] = CONDITIONS, cuts: dict[str, float] = CUTS
) -> dict[str, float]:
    """What a condition changes of a method: some methods have their own cut."""
    change = conditions[condition]
    return change | {"cut": cuts.get(method, change["cut"])} if "cut" in change else change


def search_run(settings: dict[str, Any], job: Job) -> Tables:
    """Accuracy of one run on training images, of which every other one carries labels to choose from."""
    import pandas as pd

    recipe = recipe_of(settings, job)
    images = recipe.images()
    model, _, ended = train(settings, recipe, images)
    score = np.nan
    if not ended:
        h = evaluation.embed(model, images)[0]
        score = _hits(h[::2], images.labels[::2], h[1::2], images.labels[1::2], settings["draws"]).mean()
    return {"search": pd.DataFrame([{"score": score, "ended": ended}])}


def final_run(settings: dict[str, Any], job: Job) -> Tables:
    """One run at its rate: what its norms and features say of test images, before training and after."""
    import pandas as pd

    recipe = recipe_of(settings, job)
    images = recipe.images()
    before = _judged(untrained(recipe, images), recipe, images, settings["draws"])
    model, curve, ended = train(settings, recipe, images)
    after = {} if ended else _judged(model, recipe, images, settings["draws"])
    row = {"ended": ended} | {f"{name}_before": value for name, value in before.items()} | after
    return {"runs": pd.DataFrame([row]), "epochs": curve}


def train(settings: dict[str, Any], recipe: Recipe, images: ImageSet) -> tuple[nn.Module, pd.DataFrame, str]:
    """The trained network, its norms by epoch, and how the run ended early: ``""`` if it did not.

    A run whose loss becomes NaN, or whose embeddings are collapsed at half time or later, ends there, with a warning.
    """
    import pandas as pd

    model, rows = untrained(recipe, images), []

    def look(epoch: int) -> None:
        if epoch % settings["look_every"] and epoch != recipe.train.epochs:
            return
        seen = outputs(model, images)
        lengths = {f"norm_{name}": each.norm(dim=1).mean().item() for name, each in seen.items()}
        weight = model.get_submodule(recipe.tracked_layers()[-1]).weight.norm().item()
        if not all(each.isfinite().all() for each in seen.values()):  # after weights that are finite still
            raise FloatingPointError("embeddings became NaN or infinite")
        found = evaluation.detect_collapse(seen["z"])
        rows.append({"epoch": epoch, **lengths, "norm_weight": weight, "spread": found.spread, "rank": found.rank})
        if found.name and epoch >= recipe.train.epochs / 2:
            raise CollapseError(f"{found.name} collapse")

    ended, steps = "", pd.DataFrame({"epoch": [0], "loss": np.nan, "norm": np.nan})
    try:
        steps = fit(
            model, images, recipe.train, augment=recipe.augmentation(), on_epoch=look, accelerator="cpu", progress=False
        ).steps
    except (CollapseError, FloatingPointError) as error:
        ended = str(error) if isinstance(error, CollapseError) else "divergence"
        warnings.warn(f"{recipe.method}, lr {recipe.train.lr:g}, seed {recipe.train.seed}: {ended}", stacklevel=2)
    means = pd.concat([steps.iloc[:1].assign(epoch=0), steps]).groupby("epoch", as_index=False)[["loss", "norm"]].mean()
    return model, pd.DataFrame(rows).merge(means, on="epoch", how="left"), ended


def untrained(recipe: Recipe, images: ImageSet) -> nn.Module:
    """The network before training, with BatchNorm's running statistics already those of the images."""
    model = recipe.build_model()
    update_bn([images.images.float() / 255], model)
    return model


class CollapseError(RuntimeError):
    """Embeddings no longer tell inputs apart; the message says in which way."""


@torch.no_grad()
def outputs(model: nn.Module, images: ImageSet) -> dict[str, Tensor]:
    """Features ``h``, embeddings ``z`` and, with a predictor, predictions ``p`` of all images, in eval mode."""
    model.eval()
    h = model.features(images.images.float() / 255)
    found = {"h": h, "z": model.projector(h)}
    if hasattr(model, "predictor"):
        found["p"] = model.predictor(found["z"])
    return found


def work(settings: dict[str, Any]) -> tuple[str, int, int]:
    """The recipe, the number of runs, and the pairs that they train on in all, about."""
    runs = len(search_jobs(settings)) + len(pairs(settings)) * settings["seeds"]
    return "digits", runs, runs * settings["change"]["epochs"] * len(data.digits("train")) * 4 // 5


def configuration(settings: dict[str, Any], job: Job) -> dict[str, Any]:
    """The recipe of one run by default, for the provenance; rates and seeds stand in the tables."""
    from dataclasses import asdict

    method = next(iter(settings["methods"]))
    return asdict(recipe_of(settings, {"method": method, "condition": "default", "lr": 0.1, "seed": 0}))


def _judged(model: nn.Module, recipe: Recipe, images: ImageSet, draws: int) -> dict[str, float]:
    """Accuracy with three labels for each class, and what the norm of each output knows of correctness and novelty."""
    from sklearn.metrics import roc_auc_score

    sets = recipe.test_sets()
    bank, seen, unseen = (outputs(model, part) for part in (images, sets["test"], sets["held out"]))
    labels = sets["test"].labels
    hits = _hits(bank["h"], images.labels, seen["h"], labels, draws)
    found = {"accuracy": hits.mean()}
    neighbours = evaluation.neighbour_scores(bank["h"], images.labels, torch.cat([seen["h"], unseen["h"]]), k=20)
    correct = (neighbours.predicted[: len(labels)] == labels).numpy()
    found["knn"] = correct.mean()
    novel = np.repeat([False, True], [len(labels), len(unseen["h"])])
    found["novelty_distance"] = roc_auc_score(novel, neighbours.kth_distance)
    for name in seen:
        norms = torch.cat([seen[name], unseen[name]]).norm(dim=1).numpy()
        found[f"novelty_{name}"] = roc_auc_score(novel, -norms)
        found[f"correct_{name}"] = _correlation(norms[: len(labels)], correct)
        found[f"share_{name}"] = _rank_correlation(norms[: len(labels)], hits.mean(axis=0))
        found[f"norm_{name}"] = norms[: len(labels)].mean()
    return found


def _hits(bank: Tensor, bank_labels: Tensor, queries: Tensor, labels: Tensor, draws: int) -> np.ndarray:
    return evaluation.few_shot_correct(bank, bank_labels, queries, labels, labels_per_class=3, draws=draws)


def _correlation(norms: np.ndarray, correct: np.ndarray) -> float:
    """Between the logarithm of the norm and being right; none where all are right."""
    return np.corrcoef(np.log(norms), correct)[0, 1] if 0 < correct.sum() < len(correct) else np.nan


def _rank_correlation(norms: np.ndarray, share: np.ndarray) -> float:
    from scipy.stats import spearmanr

    return float(spearmanr(norms, share).statistic)


def _run_each(jobs: list[Job], run: Any, folder: Path, bar: Any) -> Tables:
    for job in jobs:
        place = store.folder_of(folder, job)
        if not place.is_dir():
            store.write(place, run(job), {"job": job})
        bar.update()
    return store.join(folder, jobs)
