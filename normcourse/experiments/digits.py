"""The runs on digits that are recorded: what each experiment trains and which tables it leaves."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from normcourse.experiments import store
from normcourse.experiments.store import Job, Tables
from normlib import augment, data, evaluation, models
from normlib.interventions import cut_initialization
from normlib.models.methods import DIGITS_LAYERS, digits_simclr
from normlib.tracking import NormTracker
from normlib.training import TrainConfig, fit

if TYPE_CHECKING:
    import pandas as pd


def run_simclr(settings: dict[str, Any], folder: Path) -> Tables:
    """SimCLR on digits, each learning rate and seed: norms by step, progress by epoch, test images before and after."""
    jobs = [{"lr": lr, "seed": seed} for lr in settings["lrs"] for seed in range(settings["seeds"])]
    return run_each(jobs, partial(_run_simclr, settings), folder)


def run_each(jobs: list[Job], run: Callable[[Job], Tables], folder: Path) -> Tables:
    """The tables of all runs together; the folder keeps each as it ends, so that a later call goes on from there."""
    from tqdm import tqdm  # text, not a widget: it leaves nothing behind in a saved notebook

    for job in tqdm(jobs, unit="run"):
        place = store.folder_of(folder, job)
        if not place.is_dir():
            store.write(place, run(job), {"job": job})
    return store.join(folder, jobs)


def _run_simclr(settings: dict[str, Any], job: Job) -> Tables:
    import pandas as pd

    train, test = data.digits("train"), data.digits("test")
    model = digits_simclr(seed=job["seed"])
    config = TrainConfig(**job, epochs=settings["epochs"], batch_size=settings["batch_size"])
    epochs = []
    untrained = _test_images(model, train, test).assign(epoch=0)

    def evaluate(epoch: int) -> None:
        if epoch % settings["evaluate_every"] == 0:
            epochs.append({"epoch": epoch, **_few_label_accuracy(model, train, test, settings["draws"])})

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


def _few_label_accuracy(model, train: data.ImageSet, test: data.ImageSet, draws: int) -> dict[str, float]:
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


def _test_images(model, train: data.ImageSet, test: data.ImageSet) -> pd.DataFrame:
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


def run_interventions(settings: dict[str, Any], folder: Path) -> Tables:
    """SimCLR on digits from changed initial weights and with GradScale, each at its own learning rates.

    A run whose loss becomes NaN is a result: its row of ``runs`` has ``diverged`` and no final loss, and its loss by
    epoch is missing, while its norms are there.
    """
    jobs = [
        {"condition": name, "lr": lr, "seed": seed}
        for name in settings["conditions"]
        for lr in settings["lrs"][name]
        for seed in range(settings["seeds"])
    ]
    return run_each(jobs, partial(_run_intervention, settings), folder)


def _run_intervention(settings: dict[str, Any], job: Job) -> Tables:
    """One run: its row, and its loss and mean norm by epoch."""
    import pandas as pd

    train, (lr, seed) = data.digits("train"), (job["lr"], job["seed"])
    model = _changed_network(settings["width"], seed, **settings["conditions"][job["condition"]])
    config = TrainConfig(lr=lr, seed=seed, epochs=settings["epochs"], batch_size=settings["batch_size"])
    steps_per_epoch = len(train) // config.batch_size
    loss = pd.Series(dtype=float)
    with NormTracker(model, DIGITS_LAYERS[-1], every=steps_per_epoch) as tracker:
        try:
            history = fit(
                model, train, config, augment=augment.TwoViews.digits(), tracker=tracker,
                accelerator="cpu", progress=False,
            ).steps  # fmt: skip
            loss = history.groupby("epoch")["loss"].mean()
        except FloatingPointError:  # the loss became NaN: nothing is left to train
            pass
    frame = tracker.to_frame()
    norm = frame[frame["statistic"] == "mean"].set_index("step")["value"]
    norm.index = norm.index // steps_per_epoch + 1  # at the first step of each epoch
    curve = pd.DataFrame({"loss": loss, "norm": norm}).rename_axis("epoch").reset_index()
    last = loss.loc[config.epochs - settings["last_epochs"] + 1 :]
    row = {"initial_norm": norm.iloc[0], "final_loss": last.mean(), "diverged": loss.empty}
    return {"runs": pd.DataFrame([row]), "epochs": curve}


def _changed_network(
    width: int, seed: int, *, cut: float = 1, scope: str = "all", parameters: str = "weights",
    power: float = 0, biases: bool = True,
) -> models.SimCLR:  # fmt: skip
    model = digits_simclr(width=width, seed=seed, grad_scale_power=power)
    if not biases:
        for name, parameter in model.named_parameters():
            if name.endswith("bias"):
                torch.nn.init.zeros_(parameter).requires_grad_(False)
    return cut_initialization(model, cut, scope=scope, parameters=parameters)
