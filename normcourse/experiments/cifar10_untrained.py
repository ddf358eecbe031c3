"""Networks on CIFAR-10 that are left untrained: what norms tell of the images before anything is learned."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from normcourse.experiments import cifar10
from normcourse.experiments.base import Experiment, Settings, Work
from normcourse.experiments.store import Job, Store, Tables
from normlib._utils.devices import best_kind
from normlib.training import recipes

if TYPE_CHECKING:
    from normlib.training.recipes import Recipe


def jobs(settings: Settings, store: Store) -> list[Job]:
    """Every seed, named as the trained runs are, with a learning rate of 0."""
    return [{"condition": "untrained", "lr": 0.0, "seed": seed} for seed in range(settings["seeds"])]


def run(settings: Settings, job: Job, folder: Path) -> Tables:
    """The per-sample table of an untrained network, of all images that a trained one is judged by."""
    recipe = recipe_of(settings, job)
    device = "cpu" if settings.get("accelerator", "cpu") == "cpu" else best_kind()
    model = recipe.build_model().eval().to(device)
    return {"samples": cifar10.samples(settings, recipe, model, recipe.images(), with_bank=True)}


def recipe_of(settings: Settings, job: Job) -> Recipe:
    """The recipe whose network is left untrained."""
    return recipes.get(settings["recipe"]).replace(**settings["change"], seed=job["seed"])


def configuration(settings: Settings, job: Job) -> dict[str, Any]:
    """The data and the network; what concerns training has no part in it."""
    about = asdict(recipe_of(settings, job))
    return {name: value for name, value in about.items() if name in ("data", "network", "projector")}


def experiment(suffix: str, recipe: str, device: Settings) -> Experiment:
    """The experiment of one edition of :mod:`normcourse.experiments.cifar10`."""
    return Experiment(
        name=f"cifar10-untrained{suffix}",
        question="What do norms tell of CIFAR-10's images before the network is trained?",
        settings={
            "recipe": recipe,
            "change": {"data": "cifar10-jpeg"},
            "seeds": 3,
            "k": 200,
            "samples": "all",
            "corrupt": cifar10.CORRUPTIONS,
            **device,
        },
        smoke={
            "recipe": "digits",
            "change": {"data": "digits"},
            "seeds": 1,
            "k": 20,
            "corrupt": {"kinds": ["blur"], "severities": [3], "images": 50},
        },
        jobs=jobs,
        run=run,
        images=cifar10.images,
        configuration=configuration,
        work=lambda settings: Work(recipe, settings["seeds"], 0),
    )


EXPERIMENTS = [experiment("-gpu", "paper", {"accelerator": "auto"}), experiment("-cpu", "cpu", {})]
