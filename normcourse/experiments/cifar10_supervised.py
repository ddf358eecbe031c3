"""Small networks trained with labels: positive controls, whose confidence is known to tell something.

On the classes that a network was trained on its softmax tells which images are hard, and in a network that lacks two of
the classes it tells which images are new. A claim about another score is tested only where these controls pass.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.nn.functional import cross_entropy

from normcourse.experiments import cifar10, cifar10_simclr
from normcourse.experiments.base import Experiment, Settings, Work
from normcourse.experiments.store import Job, Store, Tables
from normlib import data
from normlib._utils.devices import has_bfloat16
from normlib._utils.rng import seeded
from normlib.augment import TwoViews
from normlib.evaluation import embed
from normlib.training.recipes import NETWORKS, load_once

if TYPE_CHECKING:
    import pandas as pd

    from normlib.data import ImageSet


def jobs(settings: Settings, store: Store) -> list[Job]:
    """One network that sees all classes, and one for each set of classes that it does not see."""
    return [{"held_out": " ".join(map(str, classes))} for classes in settings["held_out"]]


def run(settings: Settings, job: Job, folder: Path) -> Tables:
    """Train one network with labels, and score the test images of all classes."""
    held_out = [int(name) for name in job["held_out"].split()]
    images, test = (load_once(settings["change"]["data"], split) for split in ("train", "test"))
    images = data.hold_out(images, held_out)[0] if held_out else images
    model = build(settings)
    epochs = fit(settings, model, images)
    return {"epochs": epochs, "samples": scores(model, test, held_out)}


def build(settings: Settings) -> nn.Module:
    """The backbone of a recipe's network under one linear layer."""
    network = NETWORKS[settings["network"]]
    with seeded(settings["seed"], part=1):
        head = nn.Linear(network.features, 10)
    return nn.Sequential(network.build(seed=settings["seed"]), head)


def fit(settings: Settings, model: nn.Module, images: ImageSet) -> pd.DataFrame:
    """Train on two views of each image under cross-entropy; returns loss and accuracy on the views by epoch."""
    import pandas as pd
    from tqdm import tqdm

    size, batch = images.images.shape[2], settings["batch_size"]
    augment = TwoViews(size=size, scale=(0.5, 1.0), ratio=(3 / 4, 4 / 3), flip=settings["flip"])
    generator = torch.Generator().manual_seed(settings["seed"])
    steps = len(images) // batch
    optimizer = torch.optim.SGD(model.parameters(), lr=settings["lr"], momentum=0.9, nesterov=True, weight_decay=5e-4)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, settings["lr"], settings["epochs"] * steps)
    model.train().to(memory_format=torch.channels_last)
    rows = []
    for epoch in tqdm(range(settings["epochs"]), unit="epoch", disable=None):
        total = torch.zeros(2)
        order = torch.randperm(len(images), generator=generator)[: steps * batch]
        for places in order.split(batch):
            x = torch.cat(augment(images.images[places], generator=generator))
            y = images.labels[places].repeat(2)
            with torch.autocast("cpu", torch.bfloat16, enabled=has_bfloat16("cpu")):
                logits = model(x.contiguous(memory_format=torch.channels_last))
            loss = cross_entropy(logits.float(), y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            total += torch.stack([loss.detach(), (logits.argmax(1) == y).float().mean()])
        loss, accuracy = (total / steps).tolist()
        rows.append({"epoch": epoch + 1, "loss": loss, "accuracy": accuracy})
    return pd.DataFrame(rows)


def scores(model: nn.Module, test: ImageSet, held_out: list[int]) -> pd.DataFrame:
    """What the network makes of each test image, among the classes that it was trained on."""
    import pandas as pd

    logits = embed(model, test)[1].double()
    logits[:, held_out] = -torch.inf
    probabilities = logits.softmax(1)
    seen = torch.tensor([label not in held_out for label in test.labels.tolist()])
    return pd.DataFrame(
        {
            "split": ["test" if each else "held out" for each in seen.tolist()],
            "index": test.indices.numpy(),
            "label": test.labels.numpy().astype("int16"),
            "correct": (logits.argmax(1) == test.labels).numpy(),
            "max_softmax": probabilities.amax(1).float().numpy(),
            "entropy": torch.special.entr(probabilities).sum(1).float().numpy(),
            "energy": logits.logsumexp(1).float().numpy(),
        }
    )


def configuration(settings: Settings, job: Job) -> dict[str, Any]:
    """Nothing that the settings do not say."""
    return {"optimizer": "SGD with Nesterov's momentum 0.9, weight decay 5e-4, one cycle of the learning rate"}


EXPERIMENTS = [
    Experiment(
        name="cifar10-supervised",
        question="What does the softmax of a network that was trained with labels tell of CIFAR-10's test images?",
        settings={
            "network": "resnet10_half",
            "change": {"data": "cifar10"},
            "held_out": [[], *cifar10_simclr.HELD_OUT],
            "epochs": 8,
            "batch_size": 256,
            "lr": 0.1,
            "flip": 0.5,
            "seed": 0,
        },
        smoke={
            "network": "digits",
            "change": {"data": "digits"},
            "held_out": [[], [0, 5]],
            "epochs": 1,
            "batch_size": 64,
            "flip": 0.0,
        },
        jobs=jobs,
        run=run,
        images=cifar10.images,
        configuration=configuration,
        work=lambda settings: Work("two_cores", len(settings["held_out"]), 50_000 * settings["epochs"] * 5),
    )
]
