"""What confidence is measured against: untrained networks, raw pixels, and simple properties of images."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from normcourse.experiments import cifar10, cifar10_simclr, other_images
from normcourse.experiments.base import Experiment, Settings, Work, no_configuration
from normcourse.experiments.store import Job, Store, Tables
from normlib import evaluation
from normlib.augment.image_ops import luma
from normlib.evaluation import sample_table
from normlib.training import recipes
from normlib.training.recipes import Recipe, load_once

if TYPE_CHECKING:
    import pandas as pd

    from normlib.data import ImageSet


class CentredPixels(nn.Module):
    """The pixels of an image less the mean image of a bank: features and embedding of a network that learned nothing.

    Args:
        bank: The images whose mean is taken.
    """

    def __init__(self, bank: ImageSet):
        super().__init__()
        self.mean = nn.Parameter(bank.images.float().mean(0, keepdim=True) / 255, requires_grad=False)

    def forward(self, x: Tensor) -> Tensor:
        """Pixels ``(N, C · H · W)``."""
        return (x - self.mean).flatten(1)


def untrained_jobs(settings: Settings, store: Store) -> list[Job]:
    """Every seed, named as the trained runs are, with a learning rate of 0."""
    return [{"condition": "untrained", "lr": 0.0, "seed": seed} for seed in range(settings["seeds"])]


def untrained_recipe(settings: Settings, job: Job) -> Recipe:
    """The recipe whose network is left untrained."""
    return recipes.get(settings["recipe"]).replace(**settings["change"], seed=job["seed"])


def run_untrained(settings: Settings, job: Job, folder: Path) -> Tables:
    """The per-sample tables of an untrained network, of all images that a trained one is judged by."""
    recipe = untrained_recipe(settings, job)
    model = recipe.build_model().eval()
    return {
        "samples": cifar10_simclr.score(settings, recipe, model, last=True),
        "other": cifar10_simclr.score_others(settings, recipe, model),
    }


def untrained_configuration(settings: Settings, job: Job) -> dict[str, Any]:
    """The data and the network; what concerns training has no part in it."""
    recipe = untrained_recipe(settings, job)
    return {name: getattr(recipe, name) for name in ("data", "network", "projector", "view_size")}


def one_job(settings: Settings, store: Store) -> list[Job]:
    """Only one: nothing is trained."""
    return [{}]


def run_pixels(settings: Settings, job: Job, folder: Path) -> Tables:
    """Raw pixels in place of a network, and properties of single images."""
    import pandas as pd

    bank, test = cifar10.images(settings), load_once(settings["change"]["data"], "test")
    others = {name: other_images.image_set(name, bank) for name in settings["other"]}
    model = CentredPixels(bank)
    k = min(settings["k"])
    samples = sample_table(model, bank, {"test": test}, k=k, probes=False)
    other = sample_table(model, bank, others, k=k, probes=False)
    sets = {"train": bank, "test": test, **others}
    properties = pd.concat([properties_of(each).assign(split=name) for name, each in sets.items()], ignore_index=True)
    x, queries = (evaluation.embed(model, each)[0] for each in (bank, test))
    accuracy = [
        {"k": k, "knn": (evaluation.knn(x, bank.labels, queries, k=k) == test.labels).double().mean().item()}
        for k in settings["k"]
    ]
    return {
        "samples": samples.drop(columns="norm_projector"),  # the same as norm_backbone
        "other": other.drop(columns=["label", "knn_correct", "norm_projector"]),
        "properties": properties,
        "accuracy": pd.DataFrame(accuracy),
    }


def properties_of(images: ImageSet) -> pd.DataFrame:
    """Brightness, contrast, saturation and gradient energy of each image, from pixels in [0, 1].

    Returns:
        ``index``; ``brightness`` and ``contrast``, mean and standard deviation of the luma; ``saturation``, the mean of
        largest less smallest channel; ``gradient_energy``, the mean squared difference of neighbouring lumas.
    """
    import pandas as pd

    parts = []
    for pixels in images.images.split(5000):
        x = pixels.float() / 255
        grey = luma(x)
        down, across = grey.diff(dim=2).square().mean((1, 2, 3)), grey.diff(dim=3).square().mean((1, 2, 3))
        saturation = (x.amax(1) - x.amin(1)).mean((1, 2))
        contrast = grey.flatten(1).std(dim=1, correction=0)
        parts.append(torch.stack([grey.mean((1, 2, 3)), contrast, saturation, down + across], dim=1))
    names = ["brightness", "contrast", "saturation", "gradient_energy"]
    frame = pd.DataFrame(torch.cat(parts).numpy(), columns=names).round(5)
    return frame.assign(index=images.indices.numpy().astype("int32"))


EXPERIMENTS = [
    Experiment(
        name="cifar10-untrained",
        question="What do norms tell of CIFAR-10's images before the network is trained?",
        settings={
            "recipe": "two_cores",
            "change": {"data": "cifar10"},
            "seeds": 4,
            "k": 200,
            "views": 8,
            "with_bank": True,
            "other": cifar10_simclr.OTHER,
            "corrupt": cifar10.CORRUPTIONS,
        },
        smoke={
            "recipe": "digits",
            "change": {"data": "digits"},
            "seeds": 1,
            "k": 20,
            "views": 2,
            "other": ["uniform noise"],
            "corrupt": {"kinds": ["blur"], "severities": [3], "images": 50},
        },
        jobs=untrained_jobs,
        run=run_untrained,
        images=cifar10.images,
        configuration=untrained_configuration,
        work=lambda settings: Work("two_cores", settings["seeds"], 0),
    ),
    Experiment(
        name="cifar10-pixels",
        question="How far do raw pixels, brightness and contrast go, in place of a network?",
        settings={"change": {"data": "cifar10"}, "k": [1, 5, 10, 20, 50, 100, 200], "other": cifar10_simclr.OTHER},
        smoke={"change": {"data": "digits"}, "k": [5, 20], "other": ["uniform noise"]},
        jobs=one_job,
        run=run_pixels,
        images=cifar10.images,
        configuration=no_configuration,
        work=lambda settings: Work("two_cores", 1, 0),
    ),
]
