"""SimCLR on digits at several learning rates: norms by step, progress by epoch, test images before and after."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from normcourse.experiments.base import Experiment, Settings, Work
from normcourse.experiments.store import Job, Store, Tables
from normlib import augment, data, evaluation
from normlib.models import DIGITS_LAYERS, digits_simclr
from normlib.tracking import NormTracker
from normlib.training import TrainConfig, fit

if TYPE_CHECKING:
    import pandas as pd
    from torch import nn


def jobs(settings: Settings, store: Store) -> list[Job]:
    """Every learning rate with every seed."""
    return [{"lr": lr, "seed": seed} for lr in settings["lrs"] for seed in range(settings["seeds"])]


def run(settings: Settings, job: Job, folder: Path) -> Tables:
    """One training: norms and loss by step and layer, accuracy by epoch, and each test image before and after."""
    import pandas as pd

    train, test = data.digits("train"), data.digits("test")
    model = digits_simclr(seed=job["seed"])
    config = TrainConfig(**job, epochs=settings["epochs"], batch_size=settings["batch_size"])
    epochs = []
    untrained = _test_images(model, train, test).assign(epoch=0)

    def evaluate(epoch: int) -> None:
        if epoch % settings["evaluate_every"] == 0:
            epochs.append({"epoch": epoch, **_few_shot_accuracy(model, train, test, settings["draws"])})

    with NormTracker(model, DIGITS_LAYERS, every=settings["track_every"], gradients=True) as tracker:
        history = fit(
            model, train, config, augment=augment.TwoViews.digits(), tracker=tracker, on_epoch=evaluate,
            accelerator="cpu", progress=False,
        ).steps  # fmt: skip
    return {
        "steps": _norms_and_loss(tracker, history),
        "epochs": pd.DataFrame(epochs),
        "samples": pd.concat([untrained, _test_images(model, train, test).assign(epoch=config.epochs)]),
    }


def _few_shot_accuracy(model: nn.Module, train: data.ImageSet, test: data.ImageSet, draws: int) -> dict[str, float]:
    """1-NN accuracy on the backbone's features when three images of each class carry a label."""
    bank, _ = evaluation.embed(model, train)
    queries, _ = evaluation.embed(model, test)
    accuracies = evaluation.few_shot_accuracy(bank, train.labels, queries, test.labels, draws=draws)
    return {"accuracy": float(accuracies.mean())}


def _norms_and_loss(tracker: NormTracker, history: pd.DataFrame) -> pd.DataFrame:
    """One row per tracked step and layer: mean norm, mean gradient norm, and the loss of that step."""
    frame = tracker.to_frame()
    table = frame[frame["statistic"].isin(["mean", "grad_mean"])]
    table = table.pivot(index=["step", "layer"], columns="statistic", values="value").reset_index()
    table = table.rename(columns={"mean": "norm", "grad_mean": "grad_norm"}).rename_axis(columns=None)
    return table.assign(loss=table["step"].map(history.set_index("step")["loss"]))


def _test_images(model: nn.Module, train: data.ImageSet, test: data.ImageSet) -> pd.DataFrame:
    """One row per test image: length of its embedding, and whether its neighbours in the training set are right."""
    import pandas as pd

    bank, _ = evaluation.embed(model, train)
    queries, z = evaluation.embed(model, test)
    predicted = evaluation.knn(bank, train.labels, queries, k=20)
    return pd.DataFrame(
        {
            "index": test.indices.numpy(),
            "label": test.labels.numpy(),
            "norm": z.norm(dim=1).numpy(),
            "correct": (predicted == test.labels).numpy(),
        }
    )


def work(settings: Settings) -> Work:
    """How much is trained."""
    trainings = len(settings["lrs"]) * settings["seeds"]
    return Work("digits", trainings, trainings * settings["epochs"] * len(data.digits("train")))


EXPERIMENTS = [
    Experiment(
        name="digits-simclr",
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
        jobs=jobs,
        run=run,
        work=work,
    )
]
