"""Bad input to every public function, class and method is refused by an error that names the argument.

A table holds each callable of both packages by its public name, with good arguments, and for each argument bad values
of its kind. What the tests of a module prove in detail is not repeated: this is about leaving nothing out.
"""

import functools
import importlib
import inspect
import math
import pkgutil
import re
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pytest
import torch
import traitlets
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.figure import Figure
from torch import nn

import normcourse
import normlib
from normcourse import claims, exercises, experiments, widgets
from normlib import augment, data, dynamics, interventions, losses, models, simulations, tracking, training
from normlib.training import recipes

PACKAGES = [Path(package.__file__).parent for package in (normlib, normcourse)]
# The modules that users import: what each package announces, and two modules of recipes and their runs.
FACES = {
    **{name: importlib.import_module(f"normlib.{name}") for name in normlib.__all__},
    **{
        name: importlib.import_module(f"normlib.{name}")
        for name in ("training.recipes", "training.run_dir", "training.weight_files")
    },
    **{
        name: importlib.import_module(f"normcourse.{name}")
        for _, name, _ in pkgutil.iter_modules(normcourse.__path__)
        if not name.startswith("_")
    },
}

# Bad values by the kind of an argument.
NUMBER = (None, "1", [1.0], 1j, math.nan, math.inf, True)
POSITIVE, NOT_NEGATIVE = (*NUMBER, 0, -1), (*NUMBER, -1)
COUNT, SEED = (*POSITIVE, 2.5), (*NOT_NEGATIVE, 2.5)
WORD = (None, 3, "nope", ["nope"], {})
FLAG = (None, 2, "no")
OBJECT, FUNCTION, PATH = (None, 3, "x", [1]), (3, "x"), (None, 3, [1])
NAMES = (3, [3], ["nope"])
REAL = (None, "x", 1j, [], [[1.0], [1.0, 2.0]], math.nan, math.inf, -1.0)  # one number or many
Z = torch.randn(6, 4, generator=torch.Generator().manual_seed(0))
TENSOR = (None, "x", [[1.0]], Z.numpy(), Z.long(), Z > 0, Z.to(torch.complex64))
ALIKE = (*TENSOR, Z[:, :3], Z[0])
ROWS = (*ALIKE, Z[None], Z[:3], Z[:0], Z[:, :0], Z * math.nan, Z * math.inf)
QUERIES = (*ALIKE, Z[:0], Z * math.nan)
LABEL = torch.tensor([0, 1, 2, 0, 1, 2])
LABELS = (None, "x", LABEL.tolist(), LABEL.numpy(), LABEL.double(), LABEL > 0, LABEL[None], LABEL - 1)
PIXELS = torch.zeros(6, 1, 8, 8, dtype=torch.uint8)
IMAGES = (None, "x", PIXELS.numpy(), PIXELS.long(), PIXELS[0], PIXELS + 9.0, PIXELS * math.nan)
RUN = pd.DataFrame({"norm_projector": range(120), "knn_correct": [0, 1] * 60, "words": "a"})
RUNS = pd.DataFrame({"seed": [0, 1], "value": [0.5, 0.6], "step": 0, "words": "a"})
TABLE = (None, [1], {}, "x", RUN.to_numpy(), RUN[:0], pd.DataFrame({"other": [1]}))
COLUMN = (None, 3, "nope", ["knn_correct"], "words")
OUTCOME = (None, 3, "nope", "words", [1, 0], [math.nan] * 120)
SCORES = (3, [], {}, "nope", [3], {"norm_projector": 2}, {"words": 1})
STUDENT = (None, 3, "", " ")

# Arguments that no check is for, wherever they stand.
FREE = {
    **dict.fromkeys(
        [
            *("adapt", "overwrite", "batch_norm", "check", "check_finite", "download", "drop_invalid", "exclude_self"),
            *("index_from_name", "knn", "nesterov", "progress", "tensorboard", "with_bank"),
        ],
        "a switch, true or false as Python has it",
    ),
    **dict.fromkeys(("arguments", "label", "line", "options", "praise", "unknown"), "passed on as it is"),
    **dict.fromkeys(("device", "group", "logger", "params", "precision"), "for another library, which checks it"),
    **dict.fromkeys(("recorded", "smoke", "full"), "any value"),
    **dict.fromkeys(
        ("answer", "new_norm", "turn", "plain", "with_momentum", "sgd", "adamw", "found", "names", "words"),
        "judged, whatever it is: see test_no_answer_breaks_a_check",
    ),
}
# What errors call an argument where it is not by its own name.
ALSO = {
    "against": "scores",
    "groups": "table",
    "outcome": "table",
    "correct": "table",
    "score": "table",
    "scores": "table",
    "by": "table|frame",
    "given": "table",
    "within": "table",
    **dict.fromkeys(("over", "seed", "value", "x", "y"), "frame"),
    **dict.fromkeys(("p1", "p2"), "p"),
    **dict.fromkeys(("z1", "z2"), "z"),
    "name": "recipe",
}
RECORD = "a record of results, made by the functions that check"
NETWORK = "its layers, which are given, say what they take"
UNLISTED = {
    **dict.fromkeys(
        [
            "claims.Claim",
            "claims.Effect",
            "claims.Part",
            "claims.Verdict",
            "confidence.Calibration",
            "confidence.Score",
            "evaluation.Collapse",
            "evaluation.NeighbourScores",
            "training.recipes.Network",
            "experiments.Experiment",
            "training.run_dir.TrainedRun",
            "simulations.Encoders",
            "simulations.Mixture",
            "training.DivergenceError",
            "training.History",
            "training.Stopped",
            "exercises.Numbers",
            "exercises.Verdict",
            "augment.Parameters",
        ],
        RECORD,
    ),
    **dict.fromkeys(
        [
            "simulations.Encoders.__call__",
            *(
                f"models.{kind}.{name}"
                for kind in ("BYOL", "JointEmbedding", "SimSiam")
                for name in ("features", "forward")
            ),
        ],
        NETWORK,
    ),
    "cli.main": "argparse, and test_cli.py",
    "dynamics.cosine_step": "the inside of a loop, as it says",
    "exercises.first_wrong": "for verdicts that checks make",
    "training.LARS.step": "as any optimiser of torch",
    **dict.fromkeys(
        (f"experiments.Experiment.{name}" for name in ("configuration", "images")), "functions of a record"
    ),
}


class Row(NamedTuple):
    """A callable, good arguments for it, and bad values of each."""

    call: Callable
    good: Callable[[], dict[str, Any]]
    bad: dict[str, tuple]


CASES: dict[str, Row] = {}


def named(name: str) -> Callable:
    """The callable of a public name, such as ``losses.unit`` or ``training.recipes.Recipe.replace``."""
    module = max((face for face in FACES if name.startswith(f"{face}.")), key=len)
    return functools.reduce(getattr, name.removeprefix(f"{module}.").split("."), FACES[module])


def row(name: str, good: Callable[[], dict[str, Any]], call: Callable | None = None, /, **bad: tuple) -> None:
    CASES[name] = Row(call or named(name), good, bad)


def some(kind: tuple) -> tuple:
    """The bad values of an argument that may be None."""
    return tuple(value for value in kind if value is not None)


@functools.cache
def digits() -> data.ImageSet:
    return data.digits("test").subset(torch.arange(60))


@functools.cache
def network(kind: type = models.SimCLR) -> nn.Module:
    heads = [models.batch_norm_head(4, 4, 4)]
    heads += [models.prediction_head(4, 2)] * (kind in (models.SimSiam, models.BYOL))
    return kind(models.digits_encoder(4, 4), *heads, *([losses.vicreg] if kind is models.JointEmbedding else []))


@functools.cache
def mixture(seed: int = 0) -> simulations.Mixture:
    return simulations.spherical_mixture(n=16, dim=3, observed=5, seeds=[seed])


@functools.cache
def claim() -> claims.Claim:
    return claims.ledger()[0]


def tracker(labels: torch.Tensor | None = LABEL) -> tracking.NormTracker:
    layer = nn.Linear(4, 2)
    with tracking.NormTracker(layer, per_class=True, num_classes=3) as found:
        layer(Z)
        found.step(labels)
    return found


def pair() -> dict[str, Any]:
    return {"z1": Z, "z2": Z}


def free_pair() -> dict[str, Any]:
    return {"angle": [1.0, 2.0], "norm": 1.0, "lr": 0.1}


def parts(*heads: str) -> dict[str, Any]:
    return dict.fromkeys(("backbone", "projector", *heads), nn.ReLU())


def bank(**more: Any) -> dict[str, Any]:
    return {"bank": Z, "bank_labels": LABEL, "queries": Z, **more}


def scored(outcome: str = "outcome", **more: Any) -> dict[str, Any]:
    return {"table": RUN, outcome: "knn_correct", **more}


def drawn(**more: Any) -> dict[str, Any]:
    return {"ax": Figure().subplots(), **more}


def short() -> recipes.Recipe:
    return recipes.RECIPES["digits"].replace(epochs=1, warmup_epochs=0)


def trained() -> dict[str, Any]:
    config = training.TrainConfig(epochs=1, batch_size=32, warmup_epochs=0)
    return {"model": network(), "images": digits(), "config": config, "augment": augment.TwoViews.digits()}


def view(**parameters: Any) -> torch.Tensor:
    return augment.apply(PIXELS, augment.Parameters(**{"size": 8} | parameters))


NORM2 = {"norm": (*REAL, 0.0), "norm2": (*some(REAL), 0.0), "lr": POSITIVE}
CUT = {"labels_per_class": (*COUNT, 99), "draws": COUNT, "seed": SEED}
VOTE = {"k": (*COUNT, 99), "temperature": POSITIVE}
BANK = {"bank": ROWS, "bank_labels": LABELS, "queries": QUERIES}
SHARD = (None, 3, (0, 1), (3, 2), (1.5, 2), ("a", "b"), (1, 2, 3))
RANGE = (None, 1.0, (1.0,), (0.0, 1.0), (1.0, 0.5), ("a", "b"), (1.0, math.inf))
SHARES = dict.fromkeys(("flip", "jitter", "grayscale", "hue"), (*NOT_NEGATIVE, 2))
STRENGTHS = dict.fromkeys(("brightness", "contrast", "saturation", "rotation", "shift", "noise"), NOT_NEGATIVE)
EACH_IMAGE = ("x", [1.0], torch.ones(2), torch.tensor(1.0), torch.ones(6, 3))
STEPS = ("box", "flip", "angle", "zoom", "shift", "brightness", "contrast", "saturation", "hue", "grayscale", "noise")
WIDTHS = {"in_features": COUNT, "hidden": COUNT, "out_features": COUNT, "seed": SEED}

row("losses.unit", lambda: {"z": Z}, z=TENSOR)
row("losses.cosine_loss", pair, z1=ROWS, z2=ROWS)
row("losses.negative_cosine", lambda: {"p": Z, "z": Z}, p=ROWS, z=ROWS)
row("losses.info_nce", pair, z1=ROWS, z2=ROWS, temperature=POSITIVE, denominator=WORD)
row("losses.sigmoid_loss", pair, z1=ROWS, z2=ROWS, temperature=POSITIVE, bias=NUMBER)
row("losses.barlow_twins", pair, z1=ROWS, z2=ROWS, redundancy=NOT_NEGATIVE, eps=NOT_NEGATIVE)
row("losses.vicreg", pair, z1=ROWS, z2=ROWS, eps=POSITIVE,
    **dict.fromkeys(("invariance", "variance", "covariance"), NOT_NEGATIVE))  # fmt: skip

row("gradients.tangent", lambda: {"z": Z, "v": Z}, z=ALIKE, v=ALIKE)
row("gradients.cosine_loss_grad", pair, z1=ROWS, z2=ROWS)
row("gradients.info_nce_grad", pair, z1=ROWS, z2=ROWS, temperature=POSITIVE, denominator=WORD)
row("dynamics.norm_after_step", lambda: {"z": Z, "grad": Z, "lr": 1}, z=ALIKE, grad=ALIKE, lr=POSITIVE)
row("gradients.radial_share", lambda: {"z": Z, "grad": Z}, z=ALIKE, grad=ALIKE)
row("gradients.radial_table",
    lambda: {"model": network(models.JointEmbedding), "x1": PIXELS / 255, "x2": PIXELS / 255},
    model=OBJECT, x1=(*TENSOR, PIXELS, PIXELS[0] / 255), x2=(*TENSOR, PIXELS, PIXELS[:3] / 255),
    layers=NAMES, loss=FUNCTION)  # fmt: skip
row("dynamics.cosine_change_bound", free_pair, angle=(*REAL, 4.0), **NORM2)
row("dynamics.angle_after_steps", lambda: free_pair() | {"steps": [0, 3]}, angle=(*REAL, 4.0), **NORM2,
    steps=(*REAL, 1.5, [3, 1], [[1, 2]]), power=NOT_NEGATIVE, law=WORD)  # fmt: skip
row("dynamics.time_to_align", lambda: free_pair() | {"target": 0.5}, angle=(*REAL, 4.0), **NORM2,
    target=(*REAL, 0.0, 3.0, torch.ones(3)), power=NOT_NEGATIVE)  # fmt: skip
row("dynamics.equilibrium_norm", lambda: {"optimizer": "sgd", "lr": 1, "weight_decay": 1, "noise": 1},
    optimizer=WORD, lr=POSITIVE, weight_decay=POSITIVE, noise=POSITIVE, momentum=(*NOT_NEGATIVE, 1),
    power=(*NOT_NEGATIVE, 2))  # fmt: skip
row("dynamics.norm_after_noise", lambda: {"optimizer": "sgd", "norm": 1, "steps": 3, "lr": 1, "noise": 1},
    optimizer=WORD, norm=POSITIVE, steps=REAL, lr=POSITIVE, noise=POSITIVE, momentum=(*NOT_NEGATIVE, 1),
    trust=POSITIVE)  # fmt: skip
for name in ("equilibrium_norm", "norm_after_noise"):  # dim belongs to another optimiser than noise
    rest = {"weight_decay": 1} if name == "equilibrium_norm" else {"norm": 1, "steps": 3}
    row(f"dynamics.{name} of adamw", lambda rest=rest: {"optimizer": "adamw", "lr": 1, "dim": 4, **rest},
        getattr(dynamics, name), dim=COUNT)  # fmt: skip

row("interventions.cut_initialization", lambda: {"model": nn.Linear(2, 2), "c": 1}, model=OBJECT, c=POSITIVE,
    scope=(None, *NAMES, "nope"), parameters=WORD)  # fmt: skip
row("interventions.grad_scale", lambda: {"z": Z, "power": 1}, z=TENSOR, power=NOT_NEGATIVE)
row("interventions.GradScale", dict, power=NOT_NEGATIVE)
row("interventions.GradScale.forward", dict, interventions.GradScale(1).forward, z=TENSOR)
row("interventions.weight_decay_groups", lambda: {"model": nn.Linear(2, 2), "weight_decay": 1},
    model=(*OBJECT, nn.ReLU()), weight_decay=NOT_NEGATIVE)  # fmt: skip

row("models.SimCLR", parts, backbone=OBJECT, projector=OBJECT, temperature=POSITIVE, denominator=WORD,
    grad_scale_power=NOT_NEGATIVE)  # fmt: skip
row("models.digits_encoder", dict, width=(*COUNT, 1), out_features=(*COUNT, 1), seed=SEED)
row("models.resnet18_cifar", dict, seed=SEED)
row("models.narrow_resnet", dict, width=COUNT, seed=SEED)
row("models.resnet10_cifar", dict, width=COUNT, seed=SEED)
row("models.projection_head", lambda: dict.fromkeys(("in_features", "hidden", "out_features"), 4), **WIDTHS)
row("models.batch_norm_head", lambda: dict.fromkeys(("in_features", "hidden", "out_features"), 4), **WIDTHS)
row("models.prediction_head", lambda: {"features": 4, "hidden": 4}, features=COUNT, hidden=COUNT, seed=SEED)
row("models.JointEmbedding", lambda: parts() | {"loss": losses.vicreg}, backbone=OBJECT, projector=OBJECT,
    loss=(None, *FUNCTION), grad_scale_power=NOT_NEGATIVE)  # fmt: skip
row("models.SimSiam", lambda: parts("predictor"), backbone=OBJECT, projector=OBJECT, predictor=OBJECT,
    grad_scale_power=NOT_NEGATIVE)  # fmt: skip
row("models.BYOL", lambda: parts("predictor"), backbone=OBJECT, projector=OBJECT, predictor=OBJECT,
    grad_scale_power=NOT_NEGATIVE, ema=(*NOT_NEGATIVE, 1))  # fmt: skip
for kind in (models.SimSiam, models.BYOL):
    row(f"models.{kind.__name__}.loss", lambda: dict.fromkeys(("p1", "p2", "z1", "z2"), Z), network(kind).loss,
        **dict.fromkeys(("p1", "p2", "z1", "z2"), ROWS[:-2]))  # fmt: skip

row("augment.apply", lambda: {"images": PIXELS, "parameters": augment.Parameters(size=8)}, images=IMAGES,
    parameters=(*OBJECT, {}))  # fmt: skip
row("augment.apply of parameters", dict, view, size=COUNT, **dict.fromkeys(STEPS, EACH_IMAGE))
row("augment.TwoViews", lambda: {"size": 8}, size=COUNT, **dict.fromkeys(("scale", "ratio", "zoom"), RANGE), **SHARES,
    **STRENGTHS)  # fmt: skip
row("augment.TwoViews.natural", dict, size=COUNT, jitter=SHARES["jitter"])
row("augment.TwoViews.digits", dict, size=COUNT, noise=NOT_NEGATIVE)
row("augment.TwoViews.__call__", lambda: {"images": PIXELS}, augment.TwoViews(size=8), images=IMAGES,
    generator=some(OBJECT))  # fmt: skip
row("augment.TwoViews.sample_parameters", lambda: {"images": PIXELS}, augment.TwoViews(size=8).sample_parameters,
    images=IMAGES[:5], generator=some(OBJECT))  # fmt: skip

row("data.ImageSet",
    lambda: {"images": PIXELS, "labels": LABEL, "indices": LABEL, "classes": ("a", "b", "c"), "name": "n"},
    images=(*IMAGES, PIXELS.float()), labels=(*LABELS, LABEL + 1), indices=LABELS[:-1], classes=(*OBJECT, "abc"),
    name=(None, 3))  # fmt: skip
row("data.ImageSet.subset", dict, lambda index: digits().subset(index),
    index=(None, 3, [1], np.array([1]), Z[0], LABEL > 0, LABEL[0], LABEL[None], LABEL + 99, LABEL - 1))  # fmt: skip
row("data.digits", dict, split=WORD, test_fraction=(*POSITIVE, 1), seed=SEED)
for name in ("cifar10", "cifar100", "cifar10_jpeg", "cifar10h", "cifar10n"):
    row(f"data.{name}", dict, root=some(PATH), **({} if name.endswith(("h", "n")) else {"split": WORD}))
row("data.load", lambda: {"name": "digits"}, name=WORD, split=WORD)
row("data.image_folder", lambda: {"path": "x"}, path=(*PATH, "not-there"), size=(*some(COUNT), (1, 0), (1, 2, 3)),
    on_corrupt=WORD)  # fmt: skip
row("data.hold_out", lambda: {"images": digits(), "classes": [1]}, images=OBJECT,
    classes=(None, 3, [], [1, 1], [-1], [10], "1", [1.5], [True], range(10)))  # fmt: skip
row("data.long_tailed", lambda: {"images": digits(), "largest": 2, "ratio": 1}, images=OBJECT, largest=COUNT,
    ratio=(*NUMBER, 0.5), order=(3, [], [1, 1], [10], "1"), seed=SEED)  # fmt: skip
row("data.corrupt", lambda: {"images": digits(), "kind": "blur", "severity": 1}, images=OBJECT, kind=WORD,
    severity=(*COUNT, 6), seed=SEED)  # fmt: skip
row("data.HumanVotes", lambda: {"name": "n", "counts": np.array([[1, 2]])}, name=(None, 3),
    counts=(None, "x", np.ones((1, 2)), np.array([1]), np.array([[-1, 3]]), np.array([[0, 0]]), [[1], [1, 2]]),
    labels=("x", [0, 1], np.array([0.5]), np.array([7]), np.array([-1]), [[0], [1, 2]]))  # fmt: skip
row("data.HumanVotes.join", dict, data.HumanVotes("n", np.array([[1, 2]])).join,
    table=(*TABLE, pd.DataFrame({"index": [0, None], "label": [1, 1]})))  # fmt: skip

row("evaluation.knn", lambda: bank(k=2), **BANK, **VOTE, n_classes=(*some(COUNT), 1))
row("evaluation.neighbour_scores", lambda: bank(k=2), **BANK, **VOTE, n_classes=(*some(COUNT), 1))
row("evaluation.few_shot_accuracy", lambda: bank(query_labels=LABEL), **BANK, **CUT, query_labels=LABELS)
row("evaluation.few_shot_correct", lambda: bank(query_labels=LABEL), **BANK, **CUT, query_labels=LABELS)
row("evaluation.probe_logits", bank, **BANK | {"bank_labels": (*LABELS, LABEL * 0)})
row("evaluation.linear_probe", lambda: bank(query_labels=LABEL), **BANK, query_labels=LABELS)
row("evaluation.mahalanobis", bank, **BANK)
row(
    "evaluation.detect_collapse",
    lambda: {"z": Z},
    z=(*TENSOR, Z[0], Z[None], *ROWS[11:]),
    least_spread=NOT_NEGATIVE,
    least_rank=NOT_NEGATIVE,
)
row("evaluation.spread", lambda: {"z": Z}, z=(*TENSOR, Z[0], Z[None], *ROWS[11:]))
row("evaluation.embed", lambda: {"model": network(), "images": PIXELS}, model=OBJECT, images=(*IMAGES, PIXELS[:0]),
    batch_size=COUNT)  # fmt: skip

row("confidence.oriented_scores", lambda: {"table": RUN}, table=TABLE, scores=SCORES)
row("confidence.detection", scored, table=TABLE, outcome=(*OUTCOME, range(120)), scores=SCORES,
    within=some(COLUMN[:-1]))  # fmt: skip
row("confidence.partial_correlation", lambda: scored(given="knn_correct"), table=TABLE, outcome=OUTCOME, scores=SCORES,
    given=(*NAMES, []))  # fmt: skip
row(
    "confidence.correlation", scored, table=TABLE, outcome=OUTCOME, scores=SCORES, method=WORD, within=some(COLUMN[:-1])
)
row("confidence.compare", lambda: scored(score="norm_projector"), table=TABLE, outcome=OUTCOME, score=COLUMN,
    against=SCORES, statistic=WORD, resamples=(*COUNT, 99), seed=SEED)  # fmt: skip
row("confidence.risk_coverage", lambda: scored("correct"), table=TABLE, correct=OUTCOME, scores=SCORES,
    points=(*COUNT, 121))  # fmt: skip
row("confidence.risk_coverage_area", lambda: scored("correct"), table=TABLE, correct=OUTCOME, scores=SCORES)
row("confidence.curve", scored, table=TABLE, outcome=OUTCOME, score=COLUMN, bins=(*COUNT, 1), by=WORD,
    resamples=(*COUNT, 99), seed=SEED)  # fmt: skip
row("confidence.trend", scored, table=TABLE, outcome=OUTCOME, score=COLUMN, bins=(*COUNT, 1), by=WORD)
row("confidence.calibrate", lambda: scored("correct"), table=TABLE, correct=OUTCOME, score=COLUMN, bins=(*COUNT, 1),
    seed=SEED)  # fmt: skip
row("confidence.per_run", lambda: {"table": RUNS, "function": len}, table=TABLE, function=(None, *FUNCTION),
    by=(*NAMES, []))  # fmt: skip
row("confidence.mean_over_seeds", lambda: {"frame": RUNS, "value": "value"}, frame=TABLE, value=COLUMN,
    by=(None, *NAMES), seed=COLUMN[:-1])  # fmt: skip

row("plotting.band", lambda: drawn(frame=RUNS, x="step", y="value"), ax=(*OBJECT, Figure()), frame=TABLE,
    x=COLUMN[:-1], y=COLUMN, over=COLUMN[:-1])  # fmt: skip
row("plotting.confidence_curve", lambda: drawn(**scored()), ax=OBJECT, table=TABLE, outcome=OUTCOME, score=COLUMN,
    bins=(*COUNT, 1), by=WORD)  # fmt: skip
row("plotting.reliability", lambda: drawn(**scored("correct")), ax=OBJECT, table=TABLE, correct=OUTCOME, score=COLUMN,
    bins=(*COUNT, 1), seed=SEED)  # fmt: skip
row("plotting.risk_coverage_curves", lambda: drawn(**scored("correct")), ax=OBJECT, table=TABLE, correct=OUTCOME,
    scores=SCORES)  # fmt: skip
row("plotting.score_distributions", lambda: drawn(table=RUN, groups="words"), ax=OBJECT, table=TABLE,
    groups=(None, 3, "nope", [1, 2]), score=COLUMN, bins=COUNT)  # fmt: skip
row("plotting.image_grid", lambda: {"rows": [PIXELS]}, rows=(None, 3, [], "x", [1], [Z], [PIXELS, PIXELS[:2]]),
    labels=(3, [3], ["a", "b"]), scale=POSITIVE)  # fmt: skip

row("simulations.steps_to_align", lambda: {"n_pairs": 3, "dim": 3, "max_steps": 5},
    norms=(1.0, "x", [], [0.0], [math.nan], ["x"]), angles=(1.0, "x", [], [4.0], [math.nan], [[1.0, 2.0]], ["x"]),
    n_pairs=COUNT, dim=(*COUNT, 1), lr=POSITIVE, tol=POSITIVE, max_steps=SEED, seed=SEED,
    power=(*NOT_NEGATIVE, 3))  # fmt: skip
row("simulations.spherical_mixture", dict, weights=(None, 3, [], [0], ["x"]), n=(*COUNT, 1), dim=(*COUNT, 1),
    noise=(*NOT_NEGATIVE, [1.0, 2.0], ["x"] * 4), observed=COUNT, scale=POSITIVE,
    seeds=(None, 3, [], [1, 1], [1.5], [-1], "ab"))  # fmt: skip
row("simulations.train_encoder", lambda: {"mixture": mixture(), "batch_size": 8, "epochs": 0}, mixture=OBJECT,
    epochs=SEED, batch_size=(*COUNT, 1, 99), lr=POSITIVE, temperature=POSITIVE, hidden=COUNT, dim=COUNT,
    on_epoch=FUNCTION)  # fmt: skip
row("simulations.norm_table", lambda: {"mixture": mixture()}, mixture=OBJECT, encoders=OBJECT)

row("tracking.NormTracker", lambda: {"model": nn.Linear(2, 2)}, model=(*OBJECT, nn.ReLU()),
    layers=(*NAMES, [], ["", ""]), every=COUNT, per_class=FLAG, gradients=FLAG, weights=FLAG, num_classes=some(COUNT),
    quantiles=(None, 0.5, [2.0], [math.nan], ["x"]), batch_first=FLAG, loss_reduction=WORD, grad_scaler=some(OBJECT),
    check_finite=FLAG)  # fmt: skip
row("tracking.NormTracker.step", dict, tracker, labels=(*LABELS, LABEL + 3, LABEL[:4], [LABEL.double()]))
row("tracking.NormTracker.plot", dict, lambda **options: tracker().plot(**options), statistic=(None, 3, "nope"),
    layers=NAMES, ax=some(OBJECT), per_class=())  # fmt: skip
row("tracking.NormTracker.load_state_dict", dict, lambda state: tracker().load_state_dict(state), state=(*OBJECT, {}))

row("training.LARS", lambda: {"params": [nn.Parameter(Z)], "lr": 1}, lr=NOT_NEGATIVE, momentum=NOT_NEGATIVE,
    weight_decay=NOT_NEGATIVE, trust_coefficient=POSITIVE, eps=NOT_NEGATIVE)  # fmt: skip
row("training.TrainConfig", dict, epochs=COUNT, batch_size=(*COUNT, 1), lr=POSITIVE, warmup_epochs=(*NOT_NEGATIVE, 99),
    optimizer=WORD, momentum=(*NOT_NEGATIVE, 1), nesterov=FLAG, weight_decay=NOT_NEGATIVE,
    channels_last=FLAG, compile=FLAG, micro_batch_size=(*some(COUNT), 999), seed=SEED)  # fmt: skip
row("training.architecture", dict, model=OBJECT)
row("training.fit", trained, model=OBJECT, images=OBJECT, config=OBJECT, augment=(None, *FUNCTION),
    loss=FUNCTION, tracker=some(OBJECT), on_epoch=FUNCTION, checkpoints=some(PATH), checkpoint_minutes=NOT_NEGATIVE,
    accelerator=WORD)  # fmt: skip

row("training.recipes.Recipe", dict, data=(None, 3, [1]), method=WORD, network=WORD, head=WORD,
    projector=(None, 3, (1,), (0, 1), ("a", "b"), (1.5, 2)), cut=POSITIVE, grad_scale_power=NOT_NEGATIVE,
    held_out=(None, 3, ("a",), "1"), largest=some(COUNT), tail_ratio=(*NUMBER, 0.5), tail_order=(3, ("a",), "1"),
    sync_batchnorm=FLAG, temperature=some(POSITIVE), denominator=some(WORD), train=OBJECT,
    view_size=some(COUNT))  # fmt: skip
row("training.recipes.Recipe.replace", dict, lambda setting: short().replace(**{setting: 1}),
    setting=("nope", "", "trian"))  # fmt: skip
row("training.recipes.get", dict, name=WORD)
row("training.run_dir.train", lambda: {"recipe": short(), "folder": "runs/never"}, recipe=OBJECT, folder=PATH,
    images=some(OBJECT), track_every=COUNT, track_weights=FLAG, keep_weights=(None, 3, [1.5], [-1], "ab"),
    checkpoint_minutes=NOT_NEGATIVE, accelerator=WORD)  # fmt: skip
row("training.run_dir.fit_to_budget", lambda: {"recipe": short(), "minutes": 1, "folder": "runs/never"}, recipe=OBJECT,
    minutes=POSITIVE, folder=PATH, seconds=POSITIVE, accelerator=WORD)  # fmt: skip
row("training.run_dir.load", dict, folder=PATH)
row("training.run_dir.weights_file", lambda: {"folder": "x", "epoch": 1}, folder=PATH, epoch=SEED)
row("training.weight_files.save", lambda: {"model": nn.Linear(2, 2), "path": "x"}, model=OBJECT, path=PATH,
    dtype=some(OBJECT))  # fmt: skip
row("training.weight_files.load", lambda: {"recipe": short(), "path": "x"}, recipe=OBJECT, path=PATH)

for name in ("load", "load_or_run", "provenance", "smoke"):
    row(f"experiments.{name}", dict, name=WORD)
row("experiments.missing", lambda: {"name": "digits-simclr"}, name=WORD, out=some(PATH))
row("experiments.record", lambda: {"name": "digits-simclr"},
    lambda name, **options: experiments.record(name, **options), name=WORD, minutes=some(POSITIVE), out=some(PATH),
    shard=SHARD)  # fmt: skip
row("experiments.reproduce", lambda: {"name": "digits-simclr"}, name=WORD, shard=SHARD, jobs=(3, [], [{"no": "job"}]))
row("models.digits_simclr", dict, width=(*COUNT, 1), seed=SEED, grad_scale_power=NOT_NEGATIVE)
row("evaluation.sample_table",
    lambda: {"model": network(), "bank": digits(), "sets": {}, "k": 5, "with_bank": True},
    model=OBJECT, bank=OBJECT, sets=(*OBJECT, {"a": PIXELS}, {"a": digits().subset(LABEL[:0])}, {"a": digits()}),
    folds=(*COUNT, 1, 99), seed=SEED, probes=FLAG, augment=FUNCTION, views=(*COUNT, 3), **VOTE)  # fmt: skip

row("machine.minutes", lambda: {"accelerator": "cpu", "seconds": 1}, accelerator=WORD, seconds=POSITIVE)
row("paths.notebook", dict, slug=(None, 3, ["norm-growth"]))
row("runtime.preflight", dict, minutes=(3, "x", [1], {"tpu": 1}, *({"cpu": value} for value in POSITIVE)))
row("runtime.run_folder", dict, name=(None, 3, "", "../x", "a/b", "a\n"))

row("claims.ledger", dict, path=PATH)
row("claims.stated", dict, path=PATH)
row("claims.judge_all", dict, path=PATH, results=(*PATH, "not-there"))
row("claims.judge", lambda: {"claim": claim()}, claim=OBJECT, results=(*PATH, "not-there"))
row("claims.jobs", lambda: {"claim": claim()}, claim=OBJECT, results=(*PATH, "not-there"))
row("claims.accept", lambda: {"verdicts": [], "path": "not-there/x"}, verdicts=(None, 3, [3], "x"), path=PATH)
row("claims.as_json", dict, verdict=OBJECT)
row("claims.differences", lambda: {"verdicts": [], "stated": {}}, lambda **given: list(claims.differences(**given)),
    verdicts=(None, 3, [3], "x"), stated=OBJECT)  # fmt: skip

row("exercises.variant", lambda: {"student_id": "a", "assignment": "A1"}, student_id=STUDENT, assignment=WORD)
row("exercises.colleagues", dict, student_id=STUDENT)
row("exercises.failure_modes", lambda: {"student_id": "a", "steps": 1}, student_id=STUDENT, steps=COUNT)
row("exercises.judge", lambda: {"found": 1.0, "right": 1.0}, right=(None, "x", [math.nan]), mistakes=(3, "x", [1]),
    rtol=NOT_NEGATIVE)  # fmt: skip

row("exercises.collapsed_loss", lambda: {"answer": 1.0}, student_id=STUDENT)
row("exercises.hand_gradient", lambda: {"answer": 1.0}, student_id=STUDENT)
row("exercises.hand_step", lambda: {"new_norm": 1.0, "turn": 1.0}, student_id=STUDENT)
row("exercises.doubling_steps", lambda: {"plain": 1.0, "with_momentum": 1.0}, student_id=STUDENT)
row("exercises.matched_rates", lambda: {"sgd": (1, 1), "adamw": (1, 1)}, student_id=STUDENT)

row(
    "widgets.Race",
    dict,
    **dict.fromkeys(("lr", "norm", "angle", "power", "decay"), (None, "x", [1.0], math.nan, -1)),
)
row("widgets.Race.law", dict, lambda norm: widgets.Race().law(norm), norm=(*REAL, 0.0))
row("widgets.DragEmbedding", dict, z=(None, 3, "x", [0.0, 0.0], [1.0], ["a", "b"]), target=(None, "x", math.nan),
    eta=(None, "x", math.nan, -1), steps=(None, "x", 2.5, -1), nonsense=(1,))  # fmt: skip
row("widgets.Sphere", dict, seed=SEED, film=(None, 3, 2.5), frame=(None, 16), turn=(None, "x", math.nan),
    tilt=(None, "x", 9), colour=WORD)  # fmt: skip
row("widgets.CutAndScale", dict, table=TABLE)
row("widgets.ConfidenceDial",
    lambda: {"samples": pd.DataFrame(columns=["seed", "epoch", "index", "norm", "correct"]), "images": digits()},
    samples=TABLE, images=OBJECT)  # fmt: skip


def public() -> Iterator[tuple[str, Callable]]:
    """Functions, classes and methods of the public modules, by module and name."""
    for module, home in FACES.items():
        own = [name for name, value in vars(home).items() if getattr(value, "__module__", "") == home.__name__]
        for name in getattr(home, "__all__", [name for name in own if not name.startswith("_")]):
            value = getattr(home, name)
            if inspect.isfunction(value) or inspect.isclass(value):
                yield f"{module}.{name}", value
            for method in vars(value) if inspect.isclass(value) else ():
                if inspect.isroutine(getattr(value, method)) and (method == "__call__" or not method.startswith("_")):
                    yield f"{module}.{name}.{method}", getattr(value, method)


def arguments(callable_: Callable) -> set[str]:
    """Names of the arguments that somebody must check; those that are collected are not among them."""
    try:
        parameters = inspect.signature(callable_).parameters.values()
    except ValueError:  # a class that takes what its base takes
        return set()
    named = {each.name for each in parameters if each.kind not in (each.VAR_POSITIONAL, each.VAR_KEYWORD)}
    return named - {"self"} - FREE.keys()


def test_every_argument_of_every_public_callable_has_bad_values():
    covered: dict[str, set[str]] = {}
    for name, case in CASES.items():
        covered.setdefault(name.split(" ")[0], set()).update(case.bad)
    found = dict(public())
    missing = {
        name: left
        for name, value in found.items()
        if name not in UNLISTED and (left := arguments(value) - covered.get(name, set()))
    }
    assert not missing, "put these into the table, or say in UNLISTED or FREE why not"
    assert covered.keys() | UNLISTED.keys() <= found.keys(), "the table names what is not there any more"


def refuse(name: str, argument: str, value: Any) -> None:
    """Call with one bad value: an error of a kind that users expect, that names the argument, raised here."""
    case = CASES[name]
    given = f"{name}({argument}={value!r})"
    with pytest.raises((ValueError, TypeError, FileNotFoundError, traitlets.TraitError)) as caught:
        pytest.fail(f"{given} was accepted, and gave {case.call(**{**case.good(), argument: value})!r}")
    words = "|".join([argument, *([ALSO[argument]] if argument in ALSO else [])])
    assert re.search(rf"(?<![A-Za-z])({words})", str(caught.value), re.IGNORECASE), f"{given}: {caught.value}"
    raised_in = Path(traceback.extract_tb(caught.tb)[-1].filename)
    ours = not set(PACKAGES).isdisjoint(raised_in.parents)
    assert ours or caught.errisinstance(traitlets.TraitError), f"{given}: raised in {raised_in}"


@pytest.mark.parametrize("name", CASES)
def test_bad_input_is_refused_by_name(name):
    for argument, values in CASES[name].bad.items():
        for value in values:
            refuse(name, argument, value)


def takers_of(kind: tuple) -> list[tuple[str, str]]:
    return [(name, arg) for name, case in CASES.items() for arg, bad in case.bad.items() if bad[: len(kind)] == kind]


NO_NUMBER = (
    st.none() | st.booleans() | st.text() | st.complex_numbers() | st.sampled_from([math.nan, math.inf, -math.inf])
)


@settings(deadline=None, max_examples=15)
@given(NO_NUMBER | st.floats(max_value=0) | st.integers(max_value=0))
def test_nothing_but_a_positive_number_passes_for_one(value):
    for name, argument in takers_of(POSITIVE):
        refuse(name, argument, value)


@settings(deadline=None, max_examples=15)
@given(NO_NUMBER | st.floats(max_value=-1e-300) | st.integers(max_value=-1))
def test_nothing_negative_passes_where_zero_is_the_least(value):
    for name, argument in takers_of(NOT_NEGATIVE):
        refuse(name, argument, value)


@settings(deadline=None, max_examples=15)
@given(NO_NUMBER | st.floats() | st.integers(max_value=-1))
def test_nothing_but_a_whole_number_is_a_seed(value):
    for name, argument in takers_of(SEED):
        refuse(name, argument, value)


ANSWERS = (
    None, ..., 3, "x", math.nan, [[1], [1, 2]], 1j, {}, torch.zeros(2, 2), lambda *given: 1 / 0, lambda *given: None,
    lambda *given: math.nan, lambda *given: "x", lambda *given: torch.zeros(1), lambda *given: given[0], lambda: 1,
)  # fmt: skip
CHECKS = {
    name: value
    for name, value in dict(public()).items()
    if name.startswith("exercises.") and inspect.isfunction(value) and "Verdict" in str(inspect.signature(value))
}


@pytest.mark.parametrize("name", sorted(CHECKS.keys() - {"exercises.first_wrong"}))
def test_no_answer_breaks_a_check(name):
    """A check raises nothing: whatever stands in the cell, the student reads a sentence, and it is not "right"."""
    given = {"student_id": "ada.lovelace", "right": 5.0}
    wanted = inspect.signature(CHECKS[name]).parameters
    for answer in ANSWERS:
        filled = {arg: given.get(arg, answer) for arg, each in wanted.items() if each.default is each.empty}
        found = CHECKS[name](**filled)
        assert isinstance(found, exercises.Verdict), f"{name} of {answer!r}: {found}"
        assert not found, f"{name} of {answer!r} is right"
