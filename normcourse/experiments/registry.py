"""The table of named experiments: what each asks, with which settings, and what runs it."""

from __future__ import annotations

from normcourse.experiments import (
    cifar10,
    cifar10_human_labels,
    digits,
    digits_confidence,
    digits_cuts,
    digits_failure_modes,
    digits_methods,
)
from normcourse.experiments.base import Experiment
from normcourse.experiments.verification import closed_forms
from normlib import data

_DIGITS = {
    "digits-simclr": Experiment(
        question="How do norms, loss and features move while SimCLR trains on digits at several learning rates?",
        settings={
            "lrs": [0.03, 0.1, 0.3, 1.0],
            "seeds": 8,
            "epochs": 200,
            "batch_size": 256,
            "evaluate_every": 20,
            "track_every": 5,
            "draws": 50,
        },
        smoke={"lrs": [0.1, 0.3], "seeds": 2, "epochs": 4, "evaluate_every": 2, "draws": 2},
        run=lambda settings, job, folder: digits.run_simclr(settings, folder),
        images=lambda settings: data.digits(),
    ),
    "digits-interventions": Experiment(
        question="At its own best learning rate, does SimCLR on digits gain from cut-initialization or GradScale?",
        settings={
            "conditions": {
                "default": {},
                "no biases": {"biases": False},
                "weights cut by 3": {"cut": 3},
                "weights times 4": {"cut": 1 / 4},
                "last layer times 100": {"cut": 1 / 100, "scope": "last", "parameters": "all"},
                "default, p = 1": {"power": 1},
                "weights times 4, p = 1": {"cut": 1 / 4, "power": 1},
            },
            "lrs": {
                "default": [0.025, 0.05, 0.1, 0.2, 0.4],
                "no biases": [1 / 64, 1 / 32, 1 / 16, 1 / 8, 1 / 4],
                "weights cut by 3": [0.1, 0.4, 1.6, 6.4, 25.6],
                "weights times 4": [0.25, 0.5, 1.0, 2.0, 4.0],
                "last layer times 100": [0.05, 0.1, 0.2, 0.4, 0.8],
                "default, p = 1": [0.025, 0.05, 0.1, 0.2, 0.4],
                "weights times 4, p = 1": [0.0025, 0.005, 0.01, 0.02, 0.04],
            },
            "seeds": 8,
            "epochs": 30,
            "last_epochs": 5,
            "batch_size": 256,
            "width": 32,
        },
        smoke={
            "lrs": {
                "default": [0.1, 0.2],
                "no biases": [1 / 16, 1 / 8],
                "weights cut by 3": [0.1, 0.4],
                "weights times 4": [1.0, 2.0],
                "last layer times 100": [0.1, 0.2],
                "default, p = 1": [0.1, 0.2],
                "weights times 4, p = 1": [0.01, 0.02],
            },
            "seeds": 2,
            "epochs": 3,
            "last_epochs": 1,
            "batch_size": 512,
            "width": 4,
        },
        run=lambda settings, job, folder: digits.run_interventions(settings, folder),
        images=lambda settings: data.digits(),
    ),
    "digits-methods": Experiment(
        question="Beyond SimCLR: for which methods do norms grow and mean something, and does cut or GradScale help?",
        settings={
            "methods": digits_methods.METHODS,
            "conditions": digits_methods.CONDITIONS,
            "cuts": digits_methods.CUTS,
            "lrs": digits_methods.RATES,
            "search_seeds": 3,
            "seeds": 5,
            "change": {
                "network": "digits_batch_norm",
                "head": "batch_norm",
                "epochs": 50,
                "warmup_epochs": 2,
                "batch_size": 128,
            },
            "look_every": 5,
            "draws": 20,
        },
        smoke={
            "search_seeds": 1,
            "lrs": {
                name: {key: rates[2:3] for key, rates in each.items()} for name, each in digits_methods.RATES.items()
            },
            "seeds": 2,
            "change": {
                "network": "digits_batch_norm",
                "head": "batch_norm",
                "epochs": 3,
                "warmup_epochs": 0,
                "batch_size": 256,
            },
            "draws": 2,
        },
        run=lambda settings, job, folder: digits_methods.run(settings, folder),
        images=lambda settings: data.digits(),
        configuration=digits_methods.configuration,
        work=digits_methods.work,
    ),
    "digits-cuts": Experiment(
        question="What does a cut do to the norms and to the first 100 steps, by depth, biases and BatchNorm?",
        settings={
            "depths": [2, 3, 4, 6],
            "cuts": [0.5, 1.0, 2.0, 3.0, 4.0],
            "lr": 0.02,
            "seeds": 8,
            "steps": 100,
            "record_every": 4,
            "batch_size": 128,
        },
        smoke={"depths": [2, 3], "seeds": 2, "steps": 4, "batch_size": 16},
        run=lambda settings, job, folder: digits_cuts.run_cuts(settings, folder),
        images=lambda settings: data.digits(),
        configuration=lambda settings, job: {},
        work=None,
    ),
}

_CONFIDENCE = {
    "digits-held-out": Experiment(
        question="Which scores tell digits that SimCLR never saw from those it has seen, before and after training?",
        settings={"classes": 10, "seeds": 10, "lr": 0.05, "epochs": 50, "batch_size": 128, "width": 16, "k": 20},
        smoke={"classes": 3, "seeds": 2, "epochs": 3, "width": 4},
        run=lambda settings, job, folder: digits_confidence.run_held_out(settings, folder),
        images=lambda settings: data.digits(),
        work=digits_confidence.held_out_work,
    ),
    "digits-rare": Experiment(
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
        run=lambda settings, job, folder: digits_confidence.run_rare(settings, folder),
        images=lambda settings: data.digits(),
        work=digits_confidence.rare_work,
    ),
    "digits-sick-runs": Experiment(
        question="What do norms and their gradients look like while a training goes wrong?",
        settings={
            "healthy": digits_failure_modes.HEALTHY,
            "ills": digits_failure_modes.ILLS,
            "seeds": 5,
            "steps": 300,
            "track_every": 5,
            "batch_size": 128,
            "width": 16,
        },
        smoke={"seeds": 2, "steps": 10, "width": 4},
        run=lambda settings, job, folder: digits_failure_modes.run(settings, folder),
        images=lambda settings: data.digits(),
        configuration=lambda settings, job: {"optimizer": "sgd", "momentum": 0.9, "temperature": 0.5},
        work=digits_failure_modes.work,
    ),
}


def _controls_on_cifar(edition: str) -> dict[str, Experiment]:
    """Networks left untrained, and what people say of the images, in the editions of :mod:`normcourse.experiments.cifar10`."""
    suffix, recipe, device = ("", "paper", {"accelerator": "auto"}) if edition == "gpu" else ("-cpu", "cpu", {})
    untrained = f"cifar10-untrained{suffix}"
    return {
        untrained: Experiment(
            question="What do norms tell of CIFAR-10's images before the network is trained?",
            settings={
                "recipe": recipe,
                "change": {"data": "cifar10-jpeg"},
                "seeds": 3,
                "k": 200,
                "samples": "all",
                "corrupt": cifar10.CORRUPTIONS,
            }
            | device,
            smoke={
                "recipe": "digits",
                "change": {"data": "digits"},
                "seeds": 1,
                "k": 20,
                "corrupt": {"kinds": ["blur"], "severities": [3], "images": 50},
            },
            run=cifar10_human_labels.run_untrained,
            images=cifar10.images,
            jobs=cifar10_human_labels.untrained_jobs,
            configuration=cifar10_human_labels.untrained_configuration,
            work=lambda settings: (recipe, settings["seeds"], 0),
        ),
        f"cifar10-human-labels{suffix}": Experiment(
            question="Are images that people disagree about shorter, and do other scores tell them better?",
            settings={
                "samples": {f"cifar10-interventions{suffix}": "default", untrained: "untrained"},
                "bins": 10,
                "resamples": 1000,
                "change": {"data": "cifar10-jpeg"},
            },
            smoke={"samples": {}, "resamples": 100, "change": {"data": "digits"}},
            run=cifar10_human_labels.run_human_labels,
            images=cifar10.images,
            configuration=lambda settings, job: {},
            work=lambda settings: (recipe, 1, 0),
        ),
    }


def _on_cifar(edition: str) -> dict[str, Experiment]:
    runs = cifar10
    return {
        name: Experiment(*entry, runs.run_job, runs.images, runs.jobs, runs.configuration, runs.work)
        for name, entry in runs.experiments(edition).items()
    }


_LAWS = {
    "laws": Experiment(
        question="Do the laws of the course hold, measured again on free points and small networks?",
        settings={"seeds": 20, "mixture_size": 2000, "mixture_epochs": 100},
        smoke={"seeds": 2, "mixture_size": 200, "mixture_epochs": 2},
        run=closed_forms.run,
        images=lambda settings: data.digits(),
        jobs=closed_forms.jobs,
        configuration=lambda settings, job: {},
        work=None,
    )
}

EXPERIMENTS: dict[str, Experiment] = (
    _DIGITS
    | _CONFIDENCE
    | _LAWS
    | _on_cifar("gpu")
    | _on_cifar("cpu")
    | _controls_on_cifar("gpu")
    | _controls_on_cifar("cpu")
)
