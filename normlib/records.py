"""Named experiments and their recorded runs: small tables under ``results/``, each with its provenance.

``load_or_run`` is the one switch that heavy cells go through: it reads the recorded run, runs the experiment in full,
or runs a tiny version of it, as ``NORMLIB_MODE`` says. ``python -m normlib.records NAME`` records a run anew.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import platform
import subprocess
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from normlib import augment, data, evaluation, models, runtime
from normlib.tracking import NormTracker
from normlib.training import TrainConfig, fit

if TYPE_CHECKING:
    import pandas as pd

RESULTS = Path(__file__).resolve().parents[1] / "results"
Tables = dict[str, "pd.DataFrame"]


@dataclass(frozen=True)
class Experiment:
    """One named experiment: what it asks, its settings, and the function that runs it.

    Args:
        question: What the run is to show, one sentence.
        settings: Everything that the numbers depend on, as plain values.
        smoke: The settings to change for a tiny run.
        run: Takes the settings, returns tidy tables by name.
        images: Gives the data, for their fingerprint.
    """

    question: str
    settings: dict[str, Any]
    smoke: dict[str, Any]
    run: Callable[[dict[str, Any]], Tables]
    images: Callable[[], data.ImageSet]


DIGITS_LAYERS = ("backbone.0", "backbone.2", "backbone.5", "projector.0", "projector.2")


def digits_simclr(*, width: int = 64, seed: int = 0) -> models.SimCLR:
    """The SimCLR network that the course trains on digits: three layers, then a projector of two.

    Args:
        width: Channels of the second convolution.
        seed: Seed of the initial weights.

    Returns:
        Untrained model with 64-dimensional embeddings.

    >>> digits_simclr()(torch.zeros(2, 1, 8, 8)).shape
    torch.Size([2, 64])
    """
    return models.SimCLR(models.digits_encoder(width, 128, seed=seed), models.projection_head(128, 128, 64, seed=seed))


def _run_digits(settings: dict[str, Any]) -> Tables:
    """SimCLR on digits, each learning rate and seed: norms by step, progress by epoch, test images before and after."""
    import pandas as pd
    from tqdm import tqdm  # text, not a widget: it leaves nothing behind in a saved notebook

    train, test = data.digits("train"), data.digits("test")
    runs = [(lr, seed) for lr in settings["lrs"] for seed in range(settings["seeds"])]
    collected: dict[str, list] = {"steps": [], "epochs": [], "samples": []}
    for lr, seed in tqdm(runs, unit="run"):
        model = digits_simclr(seed=seed)
        config = TrainConfig(lr=lr, seed=seed, epochs=settings["epochs"], batch_size=settings["batch_size"])
        epochs = []
        untrained = _test_images(model, train, test).assign(epoch=0)

        def evaluate(epoch, model=model, epochs=epochs):
            if epoch % settings["evaluate_every"] == 0:
                epochs.append({"epoch": epoch, **_few_label_accuracy(model, train, test, settings["draws"])})

        with NormTracker(model, DIGITS_LAYERS, every=settings["track_every"], gradients=True) as tracker:
            history = fit(
                model, train, config, augment=augment.TwoViews.digits(), tracker=tracker, on_epoch=evaluate,
                accelerator="cpu", progress=False,
            )  # fmt: skip
        frames = {
            "steps": _norms_and_loss(tracker, history),
            "epochs": pd.DataFrame(epochs),
            "samples": pd.concat([untrained, _test_images(model, train, test).assign(epoch=config.epochs)]),
        }
        for name, frame in frames.items():
            collected[name].append(frame.assign(lr=lr, seed=seed))
    return {name: pd.concat(frames, ignore_index=True) for name, frames in collected.items()}


def _few_label_accuracy(model, train: data.ImageSet, test: data.ImageSet, draws: int) -> dict[str, float]:
    """1-NN accuracy on the backbone's features when three images of each class carry a label."""
    bank, _ = evaluation.embed(model, train)
    queries, _ = evaluation.embed(model, test)
    accuracies = evaluation.nearest_few_label(bank, train.labels, queries, test.labels, draws=draws)
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


EXPERIMENTS: dict[str, Experiment] = {
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
        run=_run_digits,
        images=data.digits,
    ),
}


def load_or_run(name: str) -> Tables:
    """The tables of an experiment, as the mode says: recorded, tiny, or run in full now.

    Args:
        name: A name in ``EXPERIMENTS``.

    Returns:
        Tidy tables by name.

    Raises:
        ValueError: Unknown name.
        FileNotFoundError: Nothing is recorded under that name; the message tells how to record it.

    >>> sorted(load_or_run("digits-simclr"))
    ['epochs', 'samples', 'steps']
    """
    experiment = _experiment(name)
    if runtime.mode() == "recorded":
        return _load(name)
    changes = experiment.smoke if runtime.mode() == "smoke" else {}
    return experiment.run({**experiment.settings, **changes})


def provenance(name: str) -> dict[str, Any]:
    """Where a recorded run comes from: settings, data, versions, device, time.

    Args:
        name: A name in ``EXPERIMENTS``.

    Returns:
        The provenance as it was written beside the tables.

    Raises:
        ValueError: Unknown name.
        FileNotFoundError: Nothing is recorded under that name.

    >>> provenance("digits-simclr")["settings"]["seeds"]
    8
    """
    _experiment(name)
    return json.loads(_existing(name, "provenance.json").read_text(encoding="utf-8"))


def record(name: str) -> Path:
    """Run an experiment in full and write its tables and provenance under ``results/``, replacing an earlier run.

    Args:
        name: A name in ``EXPERIMENTS``.

    Returns:
        The folder. It appears only when the run is complete.

    Raises:
        ValueError: Unknown name.
    """
    experiment = _experiment(name)
    code, start = _code_version(), time.perf_counter()
    tables = experiment.run(experiment.settings)
    about = {
        "experiment": name,
        "question": experiment.question,
        "settings": experiment.settings,
        "other_training_settings": _unnamed_settings(experiment.settings),
        "data": experiment.images().name,
        "data_fingerprint": experiment.images().fingerprint(),
        "code": code,
        "torch": version("torch"),
        "python": platform.python_version(),
        "device": _device_name(),
        "threads": torch.get_num_threads(),
        "seconds": round(time.perf_counter() - start),
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
    }
    return _write(RESULTS / name, tables, about)


def _write(folder: Path, tables: Tables, about: dict[str, Any]) -> Path:
    """Write beside the place, then change places: a stopped writer leaves the earlier run whole."""
    folder.parent.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}-") as temporary:
        new, old = Path(temporary) / "new", Path(temporary) / "old"
        new.mkdir()
        for table, frame in tables.items():
            frame.to_parquet(new / f"{table}.parquet", index=False, compression="zstd")
        text = json.dumps(about, indent=2, ensure_ascii=False)
        (new / "provenance.json").write_text(text + "\n", encoding="utf-8")
        if folder.exists():
            folder.rename(old)
        new.rename(folder)
    return folder


def _load(name: str) -> Tables:
    import pandas as pd

    _existing(name, "provenance.json")
    return {path.stem: pd.read_parquet(path) for path in sorted((RESULTS / name).glob("*.parquet"))}


def _existing(name: str, file: str) -> Path:
    path = RESULTS / name / file
    if not path.is_file():
        raise FileNotFoundError(f"no recorded run at {path.parent}; record it with: python -m normlib.records {name}")
    return path


def _experiment(name: str) -> Experiment:
    if name not in EXPERIMENTS:
        raise ValueError(f"name must be one of {', '.join(EXPERIMENTS)}, got {name!r}")
    return EXPERIMENTS[name]


def _unnamed_settings(settings: dict[str, Any]) -> dict[str, Any]:
    """Training settings left at their defaults; ``lrs`` and ``seeds`` name lists of ``lr`` and ``seed``."""
    named = {*settings, *(name.removesuffix("s") for name in settings)}
    return {name: value for name, value in dataclasses.asdict(TrainConfig()).items() if name not in named}


def _code_version() -> str:
    """Commit of the checkout, marked ``-dirty`` when files differ from it; the package's version without git."""
    command = ["git", "-C", str(RESULTS.parent), "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):  # no git, or no checkout
        return version("embedding-norms")


def _device_name() -> str:
    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    return f"{platform.machine()} CPU, {os.cpu_count()} cores"


def _main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m normlib.records", description="Record an experiment under results/."
    )
    parser.add_argument("name", choices=EXPERIMENTS)
    print(f"recorded in {record(parser.parse_args().name)}")


if __name__ == "__main__":
    _main()
