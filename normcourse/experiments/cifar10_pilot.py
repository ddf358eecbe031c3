"""The pilot that chose how two CPU cores train: short trainings of equal cost, judged by kNN accuracy.

Chosen were half of the width and a temperature of 0.2, with all else as in the paper: it is the one change that gains
much (5 points; a batch of 256 gains 2, a rate of 1 gains 1, and views of 24 pixels nothing).
"""

from __future__ import annotations

from normcourse.experiments import cifar10
from normcourse.experiments.base import Experiment

# Each training may cost as much as the others: 40 minutes of one core of a processor with AVX2 and nothing wider,
# where the half-width ResNet-10 makes 183 pairs/s of views of 32 pixels and 258 of 24, and the whole one 50.
CONDITIONS = {
    "paper": {},
    "temperature 0.2": {"temperature": 0.2},
    "views of 24": {"epochs": 12, "view_size": 24},
    "views of 24, temperature 0.2": {"epochs": 12, "view_size": 24, "temperature": 0.2},
    "batch of 256": {"batch_size": 256},
    "rate 1": {},
    "full width": {"epochs": 2, "network": "resnet10"},
}

EXPERIMENTS = [
    Experiment(
        name="cifar10-pilot",
        question="Which network, views, batch and temperature learn most on two CPU cores in equal time?",
        settings={
            "recipe": "two_cores",
            "accelerator": "cpu",
            "track_every": 20,
            "knn": True,
            "samples": "none",
            "change": {"data": "cifar10", "epochs": 9, "warmup_epochs": 1},
            "conditions": CONDITIONS,
            "lrs": {name: [1.0] if name.endswith("rate 1") else [0.36] for name in CONDITIONS},
            "seeds": 1,
        },
        smoke={
            "recipe": "digits",
            "change": {"data": "digits", "epochs": 2, "warmup_epochs": 1},
            "conditions": {"paper": {}},
            "lrs": {"paper": [0.1]},
        },
        jobs=cifar10.jobs,
        run=cifar10.run,
        images=cifar10.images,
        configuration=cifar10.configuration,
        work=cifar10.work,
        resumes=True,
    )
]
