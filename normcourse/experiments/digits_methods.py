"""Methods beside SimCLR on digits: each condition at its own best learning rate, over several seeds.

Two experiments: a search of the learning rates, on seeds and images that no result comes from, and the trainings at the
best of them.
"""

from __future__ import annotations

import warnings
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import update_bn

from normcourse.experiments.base import Experiment, Settings, Work
from normcourse.experiments.store import Job, Store, Tables
from normlib import data, evaluation
from normlib.confidence.binary_metrics import auroc_of
from normlib.confidence.rank_correlation import spearman
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


def search_jobs(settings: Settings, store: Store) -> list[Job]:
    """Every method and condition at each of its learning rates, with the seeds of the search."""
    seeds = range(FIRST_SEARCH_SEED, FIRST_SEARCH_SEED + settings["seeds"])
    return [
        {"method": method, "condition": condition, "lr": lr, "seed": seed}
        for method, condition in pairs(settings)
        for lr in settings["lrs"][method][condition]
        for seed in seeds
    ]


def jobs(settings: Settings, store: Store) -> list[Job]:
    """Every method and condition at its best learning rate, with every seed.

    A smoke run names one rate for each in ``lrs``; else they come from the search, complete in the store.
    """
    rates = listed_rates(settings) if "lrs" in settings else found_rates(settings, store)
    return [
        {"method": method, "condition": condition, "lr": lr, "seed": seed}
        for (method, condition), lr in rates.items()
        for seed in range(settings["seeds"])
    ]


def listed_rates(settings: Settings) -> dict[tuple[str, str], float]:
    """The first of the rates that are named for each method and condition."""
    return {(method, condition): settings["lrs"][method][condition][0] for method, condition in pairs(settings)}


def found_rates(settings: Settings, store: Store) -> dict[tuple[str, str], float]:
    """The best rates of the recorded search.

    Raises:
        FileNotFoundError: The search is not complete; the message says how to finish it.
    """
    wanted = search_jobs(SEARCH.settings, store)
    return best_rates(store.complete(SEARCH.name, wanted).tables(SEARCH.name, wanted)["search"])


def pairs(settings: Settings) -> list[tuple[str, str]]:
    """Each method with each condition."""
    return [(method, condition) for method in settings["methods"] for condition in settings["conditions"]]


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


def recipe_of(settings: Settings, job: Job) -> Recipe:
    """The recipe of one run; its seed also says which two classes it never sees."""
    held_out = [job["seed"] % 5, job["seed"] % 5 + 5]
    condition = changed_by(job["condition"], job["method"], settings["conditions"], settings["cuts"])
    changes = settings["change"] | settings["methods"][job["method"]] | condition
    return recipes.get("digits").replace(**changes).replace(held_out=held_out, lr=job["lr"], seed=job["seed"])


def changed_by(
    condition: str, method: str, conditions: dict[str, dict] = CONDITIONS, cuts: dict[str, float] = CUTS
) -> dict[str, float]:
    """What a condition changes of a method: some methods have their own cut."""
    change = conditions[condition]
    return change | {"cut": cuts.get(method, change["cut"])} if "cut" in change else change


def run_search(settings: Settings, job: Job, folder: Path) -> Tables:
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


def run(settings: Settings, job: Job, folder: Path) -> Tables:
    """One training at its rate: what norms and features say of test images, before and after.

    Table ``runs`` has its row, ``epochs`` its norms and loss; at epoch 0 these two are of the first step. Only ``norm``
    is measured in training mode: of what the loss turns, ``p`` where there is a predictor, else ``z``.
    """
    import pandas as pd

    recipe = recipe_of(settings, job)
    images = recipe.images()
    before = _judged(untrained(recipe, images), recipe, images, settings["draws"])
    model, curve, ended = train(settings, recipe, images)
    after = {} if ended else _judged(model, recipe, images, settings["draws"])
    row = {"ended": ended} | {f"{name}_before": value for name, value in before.items()} | after
    return {"runs": pd.DataFrame([row]), "epochs": curve}


def train(settings: Settings, recipe: Recipe, images: ImageSet) -> tuple[nn.Module, pd.DataFrame, str]:
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


def work(settings: Settings) -> Work:
    """How much is trained, about."""
    return _work(settings, len(pairs(settings)) * settings["seeds"])


def search_work(settings: Settings) -> Work:
    """How much is trained in the search, about."""
    rates = sum(len(settings["lrs"][method][condition]) for method, condition in pairs(settings))
    return _work(settings, rates * settings["seeds"])


def _work(settings: Settings, trainings: int) -> Work:
    return Work("digits", trainings, trainings * settings["change"]["epochs"] * len(data.digits("train")) * 4 // 5)


def configuration(settings: Settings, job: Job) -> dict[str, Any]:
    """The whole recipe of one training."""
    return asdict(recipe_of(settings, job))


def _judged(model: nn.Module, recipe: Recipe, images: ImageSet, draws: int) -> dict[str, float]:
    """Accuracy with three labels for each class, and what the norm of each output knows of correctness and novelty."""
    sets = recipe.test_sets()
    bank, seen, unseen = (outputs(model, part) for part in (images, sets["test"], sets["held out"]))
    labels = sets["test"].labels
    hits = _hits(bank["h"], images.labels, seen["h"], labels, draws)
    found = {"accuracy": hits.mean()}
    neighbours = evaluation.neighbour_scores(bank["h"], images.labels, torch.cat([seen["h"], unseen["h"]]), k=20)
    correct = (neighbours.predicted[: len(labels)] == labels).numpy()
    found["knn"] = correct.mean()
    novel = np.repeat([False, True], [len(labels), len(unseen["h"])])
    found["novelty_distance"] = auroc_of(neighbours.kth_distance.numpy(), novel)
    for name in seen:
        norms = torch.cat([seen[name], unseen[name]]).norm(dim=1).numpy()
        found[f"novelty_{name}"] = auroc_of(-norms, novel)
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
    return spearman(norms, share).value if np.ptp(share) > 0 else np.nan


CHANGE = {
    "network": "digits_batch_norm",
    "head": "batch_norm",
    "epochs": 50,
    "warmup_epochs": 2,
    "batch_size": 128,
}
TINY = CHANGE | {"epochs": 3, "warmup_epochs": 0, "batch_size": 256}
FEW_RATES = {name: {key: rates[2:3] for key, rates in each.items()} for name, each in RATES.items()}
SHARED = {
    "methods": METHODS,
    "conditions": CONDITIONS,
    "cuts": CUTS,
    "change": CHANGE,
    "look_every": 5,
    "draws": 20,
}
SEARCH = Experiment(
    name="digits-methods-search",
    question="Which learning rate suits each method on digits, by default, after a cut, and with GradScale?",
    settings=SHARED | {"lrs": RATES, "seeds": 3},
    smoke={"lrs": FEW_RATES, "seeds": 1, "change": TINY, "draws": 2},
    jobs=search_jobs,
    run=run_search,
    configuration=configuration,
    work=search_work,
)
EXPERIMENTS = [
    SEARCH,
    Experiment(
        name="digits-methods",
        question="Beyond SimCLR: for which methods do norms grow and mean something, and does cut or GradScale help?",
        settings=SHARED | {"seeds": 5},
        smoke={"lrs": FEW_RATES, "seeds": 2, "change": TINY, "draws": 2},
        jobs=jobs,
        run=run,
        configuration=configuration,
        work=work,
    ),
]
