"""The trainings on CIFAR-10: their settings in two editions, for a GPU and for a CPU, and what is kept of each."""

from __future__ import annotations

import warnings
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from normcourse.experiments import digits_methods
from normcourse.experiments.base import Experiment, Settings, Work
from normcourse.experiments.store import Job, Store, Tables
from normlib import data
from normlib.evaluation import sample_table
from normlib.training import DivergenceError, History, architecture, recipes, run_dir
from normlib.training.recipes import Recipe

if TYPE_CHECKING:
    import pandas as pd

    from normlib.data import ImageSet
    from normlib.models import SimCLR

CONDITIONS = {"default": {}, "cut 3": {"cut": 3.0}, "GradScale 1": {"grad_scale_power": 1.0}}
# A rate that is best in a short search may be too large for a long run, where the embeddings grow longer.
SLOWER = {"GradScale 1 slow": ("GradScale 1", 1 / 2), "GradScale 1 slower": ("GradScale 1", 1 / 4)}
RATES = {
    "gpu": {
        "default": [0.2, 0.4, 0.8, 1.6],
        "cut 3": [0.05, 0.1, 0.2, 0.4],
        "GradScale 1": [0.0125, 0.025, 0.05, 0.1],
    },
    "cpu": [0.0125, 0.025, 0.05, 0.1, 0.2, 0.4, 0.8, 3.2],  # all conditions
}
METHODS = {  # each with a projector that has BatchNorm, as on digits
    f"{method}, {condition}": {"head": "batch_norm", **settings, **digits_methods.changed_by(condition, method)}
    for method, settings in digits_methods.METHODS.items()
    for condition in digits_methods.CONDITIONS
}
METHOD_RATES = {
    f"{method}, {condition}": rates
    for method, by_condition in digits_methods.RATES.items()
    for condition, rates in by_condition.items()
}
HELD_OUT = [[0, 5], [3, 8], [1, 6]]  # two classes for each seed: an animal and a vehicle
TAIL = {"largest": 5000, "tail_ratio": 1.5}  # 14,739 images: the paper's long-tailed CIFAR-10
TAIL_ORDERS = [[0, 1, 2, 3, 4, 5, 6, 7, 8, 9], [7, 2, 9, 4, 1, 6, 3, 8, 5, 0], [5, 8, 3, 6, 1, 4, 9, 2, 7, 0]]
CORRUPTIONS = {"kinds": ["gaussian_noise", "blur", "contrast", "occlusion"], "severities": [1, 3, 5], "images": 1000}


def jobs(settings: Settings, store: Store) -> list[Job]:
    """Every condition at its learning rates, with every seed."""
    return [
        {"condition": condition, "lr": lr, "seed": seed}
        for condition in settings["conditions"]
        for lr in _rates(settings, condition, store)
        for seed in range(settings["seeds"])
    ]


def recipe_of(settings: Settings, job: Job) -> Recipe:
    """The recipe of one run."""
    by_seed = settings["by_seed"][job["seed"]] if "by_seed" in settings else {}
    changes = settings["change"] | settings["conditions"][job["condition"]] | by_seed
    return recipes.get(settings["recipe"]).replace(**changes).replace(lr=job["lr"], seed=job["seed"])


def run(settings: Settings, job: Job, folder: Path) -> Tables:
    """Train one run in a run directory, going on where it was stopped; then score its images.

    A run whose loss becomes NaN is a result: it ends there, ``diverged`` in ``epochs``, and has no norms and samples.
    """
    recipe = recipe_of(settings, job)
    images, every = recipe.images(), settings["track_every"]
    try:
        trained = run_dir.train(
            recipe,
            folder,
            images=images,
            track_every=every,
            knn=settings["knn"],
            track_weights=settings.get("track_weights", False),
            keep_weights=settings.get("keep_weights", ()),
            accelerator=settings["accelerator"],
        )
    except DivergenceError as error:
        return _tables(error.history, every, diverged=True)
    norms = trained.norms[trained.norms["statistic"] != "count"]
    tables = _tables(trained.history, every, diverged=False) | {"norms": norms}
    if settings["samples"] != "none":
        with_bank = settings["samples"] == "all" and job["seed"] == 0
        tables["samples"] = samples(settings, recipe, trained.model, images, with_bank)
    return tables


def _tables(history: History, every: int, *, diverged: bool) -> Tables:
    steps = history.steps.drop(columns="lr")  # of the schedule; ``lr`` is the run's own
    epochs = steps.groupby("epoch", as_index=False)[["loss", "norm"]].mean()
    epochs = epochs.merge(history.epochs, on="epoch", how="outer").assign(diverged=diverged)
    return {"steps": steps[steps["step"] % every == 0], "epochs": epochs, "sessions": history.sessions}


def configuration(settings: Settings, job: Job) -> dict[str, Any]:
    """The whole recipe of one run, for its provenance, and what its network is made of."""
    recipe = recipe_of(settings, job)
    return asdict(recipe) | {"architecture": _architecture(*(getattr(recipe, name) for name in _PARTS))}


_PARTS = ("method", "network", "head", "projector", "grad_scale_power", "temperature", "denominator")


@lru_cache
def _architecture(*parts: Any) -> dict[str, str]:
    return architecture(Recipe(**dict(zip(_PARTS, parts, strict=True))).build_model())


def work(settings: Settings) -> Work:
    """How much is trained; no data are read for it."""
    changes = [
        settings["change"] | condition | by_seed
        for name, condition in settings["conditions"].items()
        for by_seed in settings.get("by_seed", [{}] * settings["seeds"])
        for _ in _listed_rates(settings, name) or [None]
    ]
    pairs = sum(_training_images(change) * change["epochs"] for change in changes)
    return Work(settings["recipe"], len(changes), pairs)


def _training_images(change: dict[str, Any]) -> int:
    if "largest" in change:
        return sum(round(change["largest"] * change.get("tail_ratio", 1) ** -rank) for rank in range(10))
    return 50_000 - 5_000 * len(change.get("held_out", ()))


def images(settings: Settings) -> ImageSet:
    """The data that all runs choose their images from."""
    return recipes.load_once(settings["change"]["data"], "train")


def _rates(settings: Settings, condition: str, store: Store) -> list[float]:
    """The learning rates of a condition: those that are named, or the best in a recorded experiment.

    A condition that was not searched there takes a part of another one's rate, or else the rate of the default.
    """
    if listed := _listed_rates(settings, condition):
        return listed
    if condition in METHODS:
        return [best_rate(store, settings["rates"], condition)]
    searched, part = SLOWER.get(condition, (condition if condition in CONDITIONS else "default", 1))
    return [part * best_rate(store, settings["rates"], searched)]


def _listed_rates(settings: Settings, condition: str) -> list[float]:
    listed = settings.get("lrs", [])
    return listed[condition] if isinstance(listed, dict) else listed


def best_rate(store: Store, name: str, condition: str) -> float:
    """The learning rate with the lowest loss over the last epoch of a recorded search, or the highest kNN accuracy.

    Accuracy decides where the search says so, since a collapse has the lowest loss where there are no negatives.

    Warns:
        The search does not bracket it: no lower rate was tried, or no higher one, diverged runs included.

    Raises:
        FileNotFoundError: The search has not been recorded, or only in part.
        ValueError: All its runs diverged.
    """
    search = next(experiment for experiment in EXPERIMENTS if experiment.name == name)
    settings = search.settings
    wanted = [job for job in search.jobs(settings, store) if job["condition"] == condition]
    epochs = store.complete(name, wanted).tables(name, wanted)["epochs"]
    last = epochs[(epochs["epoch"] == settings["change"]["epochs"]) & ~epochs["diverged"]]
    if last.empty:
        raise ValueError(f"all runs of {condition!r} in {name} diverged; search lower learning rates")
    by_rate = last.groupby("lr")
    best = float(by_rate["knn"].mean().idxmax() if "choose_by" in settings else by_rate["loss"].mean().idxmin())
    tried = {job["lr"] for job in wanted}
    if best in (min(tried), max(tried)):
        warnings.warn(f"{name} does not bracket the best rate of {condition!r}, {best}: search further", stacklevel=2)
    return best


def samples(settings: Settings, recipe: Recipe, model: SimCLR, bank: ImageSet, with_bank: bool) -> pd.DataFrame:
    """The per-sample table of a network: test images, where wanted corrupted ones too, and the bank's own."""
    sets, test = recipe.test_sets(), recipe.test_images()
    if settings["samples"] == "all":
        sets |= corrupted(test, settings["corrupt"])
    return sample_table(model, bank, sets, k=settings["k"], with_bank=with_bank, seed=recipe.train.seed)


def corrupted(images: ImageSet, settings: Settings) -> dict[str, ImageSet]:
    """Some of the images under each kind of corruption, at each severity, by what they are called in tables."""
    few = images.subset(_spread(len(images), settings["images"]))
    return {
        f"{kind} {severity}": data.corrupt(few, kind, severity)
        for kind in settings["kinds"]
        for severity in settings["severities"]
    }


def _spread(total: int, wanted: int) -> torch.Tensor:
    return torch.arange(0, total, max(1, total // wanted))[:wanted]


@dataclass(frozen=True)
class Edition:
    """One of the two machines that the experiments are made for.

    Args:
        suffix: What the names of its experiments end in.
        recipe: The recipe whose settings the trainings change.
        accelerator: Where they run.
        track_every: Steps from one measurement of the norms to the next.
        search: Epochs of a search of learning rates, and of its warm-up.
        epochs: Epochs of the trainings that are judged.
        rates: Learning rates of the search.
        interventions: Conditions of the experiment on interventions.
    """

    suffix: str
    recipe: str
    accelerator: str
    track_every: int
    search: tuple[int, float]
    epochs: int
    rates: dict[str, list[float]] | list[float]
    interventions: dict[str, Settings]

    def experiment(
        self,
        name: str,
        question: str,
        *,
        seeds: int,
        epochs: int,
        warmup: float,
        smoke: Settings | None = None,
        **settings: Any,
    ) -> Experiment:
        """An experiment on CIFAR-10; ``settings`` and ``smoke`` add to those that all have."""
        shared = {
            "recipe": self.recipe,
            "accelerator": self.accelerator,
            "track_every": self.track_every,
            "knn": True,
            "k": 200,
            "corrupt": CORRUPTIONS,
            "samples": "none",
            "change": {"data": "cifar10-jpeg", "epochs": epochs, "warmup_epochs": warmup},
            "seeds": seeds,
        }
        tiny = {
            "recipe": "digits",
            "accelerator": "cpu",
            "seeds": 1,
            "k": 20,
            "corrupt": {"kinds": ["blur"], "severities": [3], "images": 50},
            "change": {"data": "digits", "epochs": 2, "warmup_epochs": 1},
            "lrs": [0.1],
        }
        return Experiment(
            name=f"{name}{self.suffix}",
            question=question,
            settings=shared | settings,
            smoke=tiny | (smoke or {}),
            jobs=jobs,
            run=run,
            images=images,
            configuration=configuration,
            work=work,
            resumes=True,
        )


GPU = Edition(
    suffix="-gpu",
    recipe="paper",
    accelerator="auto",
    track_every=10,
    search=(4, 1),
    epochs=12,
    rates=RATES["gpu"],
    # In the CPU edition GradScale diverged at the rate of the search, so the large network takes half of it at once.
    interventions={"default": {}, "cut 3": CONDITIONS["cut 3"], "GradScale 1 slow": CONDITIONS["GradScale 1"]},
)
CPU = Edition(
    suffix="-cpu",
    recipe="cpu",
    accelerator="cpu",
    track_every=20,
    search=(2, 0.5),
    epochs=16,
    rates=RATES["cpu"],
    interventions=CONDITIONS | {name: CONDITIONS[searched] for name, (searched, _) in SLOWER.items()},
)


def on_both(edition: Edition) -> list[Experiment]:
    """The experiments that both editions have."""
    search_epochs, search_warmup = edition.search
    rates = f"cifar10-rates{edition.suffix}"
    return [
        edition.experiment(
            "cifar10-rates",
            "Which learning rate suits SimCLR on CIFAR-10 by default, after a cut by 3, and with GradScale?",
            seeds=1,
            epochs=search_epochs,
            warmup=search_warmup,
            conditions=CONDITIONS,
            knn=False,
            lrs=edition.rates,
            smoke={"lrs": [0.05, 0.1]},
        ),
        edition.experiment(
            "cifar10-interventions",
            "At its own best learning rate, does SimCLR on CIFAR-10 gain from cut-initialization or GradScale?",
            seeds=3,
            epochs=edition.epochs,
            warmup=1,
            conditions=edition.interventions,
            rates=rates,
            samples="all",
            smoke={"conditions": {"cut 3": CONDITIONS["cut 3"]}},
        ),
        edition.experiment(
            "cifar10-long-tailed",
            "Are rare classes shorter than common ones, with the classes' order permuted, against a balanced control?",
            seeds=3,
            epochs=edition.epochs,
            warmup=1,
            conditions={"default": TAIL, "balanced": {"largest": 1474}},
            rates=rates,
            samples="test",
            by_seed=[{"tail_order": order} for order in TAIL_ORDERS],
            smoke={"conditions": {"default": {"largest": 100, "tail_ratio": 1.2}, "balanced": {"largest": 50}}},
        ),
    ]


def on_gpu_only(edition: Edition) -> list[Experiment]:
    """The experiments that would take too long on a CPU."""
    decays = {f"decay {decay:g}": {"weight_decay": decay} for decay in (0.0, 1e-4, 5e-4)}
    two = ("vicreg, GradScale", "byol, cut")
    small = {
        "change": {"data": "digits", "epochs": 2, "warmup_epochs": 1, "held_out": [0, 5]},
        "conditions": {name: METHODS[name] for name in two},
        "lrs": {name: [0.002] for name in two},
    }
    return [
        edition.experiment(
            "cifar10-weight-decay",
            "What does weight decay do to the norms and to the features of SimCLR on CIFAR-10?",
            seeds=1,
            epochs=edition.epochs,
            warmup=1,
            conditions={"default": {}} | decays,
            rates="cifar10-rates-gpu",
        ),
        edition.experiment(
            "cifar10-methods-rates",
            "Which learning rate suits each method beside SimCLR on CIFAR-10, by default, after a cut, with GradScale?",
            seeds=1,
            epochs=8,
            warmup=1,
            conditions=METHODS,
            lrs=METHOD_RATES,
            choose_by="knn",
            smoke=small,
        ),
        edition.experiment(
            "cifar10-methods",
            "Beyond SimCLR, on CIFAR-10: do norms grow and mean something, and does cut or GradScale help?",
            seeds=3,
            epochs=edition.epochs,
            warmup=1,
            conditions=METHODS,
            rates="cifar10-methods-rates-gpu",
            samples="test",
            by_seed=[{"held_out": pair} for pair in HELD_OUT],
            smoke=small,
        ),
    ]


def on_cpu_only(edition: Edition) -> list[Experiment]:
    """What stays until chapters read its successor in :mod:`normcourse.experiments.cifar10_simclr`."""
    return [
        edition.experiment(
            "cifar10-held-out",
            "Are embeddings of two classes that SimCLR never saw shorter than those of the other eight?",
            seeds=3,
            epochs=edition.epochs,
            warmup=1,
            conditions={"default": {}},
            rates="cifar10-rates-cpu",
            samples="test",
            by_seed=[{"held_out": pair} for pair in HELD_OUT],
        ),
    ]


EXPERIMENTS = on_both(GPU) + on_gpu_only(GPU) + on_both(CPU) + on_cpu_only(CPU)
