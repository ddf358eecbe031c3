"""A recipe trained in a run directory, where it can be stopped and taken up again, and read afterwards."""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Collection
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from torch import nn

from normlib import evaluation
from normlib._utils.arguments import check_count, check_flags, check_number, check_type, listed, path_of
from normlib._utils.files import UNREADABLE, read_json, replace_file
from normlib.data import ImageSet
from normlib.tracking import NormTracker
from normlib.training import weight_files
from normlib.training.checkpoints import Checkpoints, differences
from normlib.training.config import TrainConfig
from normlib.training.launch import is_first, processes
from normlib.training.loop import check_place, fit
from normlib.training.recipes import NETWORKS, Recipe
from normlib.training.throughput import pairs_per_second
from normlib.training.trainer import History

if TYPE_CHECKING:
    import pandas as pd
    from filelock import BaseFileLock
    from lightning_fabric.loggers import TensorBoardLogger


LOCK = ".lock"


@dataclass(frozen=True)
class TrainedRun:
    """A finished run.

    Args:
        model: The trained network, in eval mode.
        history: Loss and norm by step, metrics by epoch.
        norms: Statistics of the tracker, as :meth:`normlib.tracking.NormTracker.to_frame` gives them.
    """

    model: nn.Module
    history: History
    norms: pd.DataFrame


def train(
    recipe: Recipe,
    folder: str | Path,
    *,
    images: ImageSet | None = None,
    track_every: int = 10,
    knn: bool = True,
    track_weights: bool = False,
    keep_weights: Collection[int] = (),
    checkpoint_minutes: float = 2.0,
    accelerator: str = "auto",
    tensorboard: bool = False,
    progress: bool = True,
) -> TrainedRun:
    """Train a recipe in a run directory; called again, it goes on where it was stopped.

    The directory holds ``recipe.json``, ``checkpoints/`` and, in the end, ``steps.parquet``, ``epochs.parquet``,
    ``sessions.parquet`` and ``norms.parquet``. Before training and after 1, 2, 4, 8, … and the last epoch the test
    images are labelled by their nearest training images (``knn`` in ``epochs``, beside the ``pairs_per_second`` of
    each epoch).

    Args:
        recipe: What to train.
        folder: The run directory; new, empty, or that of an earlier part of the same run.
        images: Training images, where they were loaded already; else those of the recipe.
        track_every: Steps from one measurement of the norms to the next.
        knn: Whether to label the test images; where epochs are short this takes longer than they do.
        track_weights: Also follow the norms and angles of all weight matrices, as the ``weights`` of a ``NormTracker``.
        keep_weights: Epochs after which the weights are kept for ``weight_files.load``; 0 is before training.
        checkpoint_minutes, accelerator: As in :func:`normlib.training.fit`.
        tensorboard: Also write event files for TensorBoard into the directory.
        progress: Show a progress bar.

    Raises:
        TypeError: ``recipe`` is no recipe, ``folder`` no path, or ``images`` no image set.
        ValueError: The directory is that of another recipe (the differences are shown) or holds other files; images
            have another shape than the network takes; or as :func:`normlib.training.fit`. Nothing is written then.
        OSError: The directory cannot be written; nothing is trained then. Or as :func:`normlib.training.fit`.
        ModuleNotFoundError: ``tensorboard`` is asked for and not installed.

    >>> import tempfile
    >>> from normlib.training import recipes
    >>> short = recipes.get("digits").replace(epochs=1, warmup_epochs=0)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     trained = train(short, folder, accelerator="cpu", progress=False)
    ...     sorted(path.name for path in Path(folder).iterdir())
    ['checkpoints', 'epochs.parquet', 'norms.parquet', 'recipe.json', 'sessions.parquet', 'steps.parquet']
    >>> trained.history.epochs["epoch"].tolist()
    [0, 1]
    """
    check_type(Recipe, recipe=recipe)
    check_count("track_every", track_every)
    check_flags(track_weights=track_weights)
    for epoch in listed("keep_weights", keep_weights):
        check_count("keep_weights", epoch, at_least=0)
    folder = path_of("folder", folder)
    check_place(accelerator, folder)
    _check_folder(folder, recipe)
    logger = _tensorboard_logger(folder) if tensorboard else None
    images = recipe.images() if images is None else images
    check_type(ImageSet, images=images)
    test = recipe.test_images()
    _check_shape(recipe, images)
    model = recipe.build_model()
    tracker = NormTracker(model, recipe.tracked_layers(), every=track_every, weights=track_weights)

    clock = _Stopwatch(len(images) // recipe.train.batch_size * recipe.train.batch_size)

    def on_epoch(epoch: int) -> dict[str, float]:
        metrics = clock.stop()
        if epoch == 0:  # all arguments have been checked by now
            folder.mkdir(parents=True, exist_ok=True)
            lock.acquire()
            _check_folder(folder, recipe)  # another process may have made it since
            _write_recipe(folder, recipe)
        if epoch in keep_weights:
            weight_files.save(model, weights_file(folder, epoch))
        if knn and (epoch & (epoch - 1) == 0 or epoch == recipe.train.epochs):  # 0 and powers of two
            metrics["knn"] = _knn_accuracy(model, images, test)
        clock.start()
        return metrics

    lock = _Lock(folder)
    with lock:
        with tracker:
            history = fit(
                model, images, recipe.train, augment=recipe.augmentation(), tracker=tracker, on_epoch=on_epoch,
                checkpoints=folder / "checkpoints", checkpoint_minutes=checkpoint_minutes, accelerator=accelerator,
                logger=logger, progress=progress,
            )  # fmt: skip
        trained = TrainedRun(model.eval(), history, tracker.to_frame())
        if is_first():
            tables = {"steps": history.steps, "epochs": history.epochs, "sessions": history.sessions}
            for name, table in (tables | {"norms": trained.norms}).items():
                replace_file(folder / f"{name}.parquet", partial(table.to_parquet, index=False, compression="zstd"))
    return trained


def fit_to_budget(
    recipe: Recipe, minutes: float, folder: str | Path, *, accelerator: str = "auto", seconds: float = 10.0
) -> Recipe:
    """The recipe with as many epochs as a time budget allows on this device, as a short probe measures it.

    A tenth of them, at most as many as the recipe has, are for the warm-up. If the run directory holds a run already,
    its recipe is returned, so that training can go on.

    Args:
        recipe: What to train.
        minutes: Budget for the training itself, > 0.
        folder: The run directory that the recipe will be trained in.
        accelerator: As in :func:`normlib.training.fit`.
        seconds: Length of the probe, at least a few steps.

    Raises:
        TypeError: ``recipe`` is no recipe, or ``folder`` no path.
        ValueError: ``minutes`` or ``seconds`` is not above 0, several processes were started, or not even one epoch
            fits; the message says what one takes.

    >>> from normlib.training.recipes import get
    >>> fit_to_budget(get("digits"), 0.5, "runs/new", accelerator="cpu", seconds=0.1).train.epochs > 1
    True
    """
    check_type(Recipe, recipe=recipe)
    check_number("minutes", minutes, above=0)
    check_number("seconds", seconds, above=0)
    saved = _read_recipe(path_of("folder", folder))
    if saved is not None:
        return saved
    if processes() > 1:
        raise ValueError("a budget of minutes is for one process; with torchrun, set the recipe's epochs")
    speed = pairs_per_second(recipe, accelerator, seconds)
    one = len(recipe.images()) / speed / 60
    epochs = int(minutes / one)
    if epochs < 1:
        takes = float(f"{one:.2g}")  # two digits, and no exponent
        raise ValueError(f"one epoch takes {takes:g} minutes here, more than minutes = {minutes:g}; use a GPU")
    return recipe.replace(epochs=epochs, warmup_epochs=min(recipe.train.warmup_epochs, epochs / 10))


def load(folder: str | Path) -> tuple[Recipe, nn.Module]:
    """The recipe of a run directory, and its network as in the newest checkpoint, on the CPU in eval mode.

    Raises:
        TypeError: ``folder`` is no path.
        FileNotFoundError: The folder holds no run, or no checkpoint yet.
        ValueError: The checkpoint is damaged or of another model.
    """
    folder = path_of("folder", folder)
    recipe = _read_recipe(folder)
    state = Checkpoints(folder / "checkpoints").load()
    if recipe is None or state is None:
        raise FileNotFoundError(f"{folder} holds no {'run' if recipe is None else 'checkpoint yet'}")
    model = recipe.build_model()
    try:
        model.load_state_dict(state["model"])
    except UNREADABLE as error:
        raise ValueError(f"the checkpoint in {folder} is of another model: {error}") from error
    return recipe, model.eval()


def weights_file(folder: str | Path, epoch: int) -> Path:
    """Where a run directory keeps the weights after an epoch.

    >>> weights_file("runs/mine", 16).name
    'epoch-0016.safetensors'

    Raises:
        TypeError: ``folder`` is no path.
        ValueError: ``epoch`` is no integer of 0 or more.
    """
    check_count("epoch", epoch, at_least=0)
    return path_of("folder", folder) / "weights" / f"epoch-{epoch:04d}.safetensors"


class _Lock:
    """Held by the process that trains in a run directory, from the moment that the directory is there."""

    def __init__(self, folder: Path):
        self._path = folder / LOCK
        self._lock: BaseFileLock | None = None

    def __enter__(self) -> _Lock:
        if self._path.parent.exists() and is_first():
            self.acquire()
        return self

    def __exit__(self, *exception: object) -> None:
        if self._lock is not None:
            if os.name != "nt":  # Windows removes no file that is open
                self._path.unlink(missing_ok=True)
            self._lock.release()

    def acquire(self) -> None:
        """Take the lock; no effect when it is held here already."""
        from filelock import FileLock, Timeout

        if self._lock is not None:
            return
        lock = FileLock(self._path)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            raise ValueError(f"another process is training in {self._path.parent}; wait for it") from None
        self._lock = lock


class _Stopwatch:
    """Pairs per second of whole epochs; an epoch that another process began has none."""

    def __init__(self, pairs: int):
        self._pairs = pairs
        self._started: float | None = None

    def start(self) -> None:
        self._started = time.perf_counter()

    def stop(self) -> dict[str, float]:
        if self._started is None:
            return {}
        return {"pairs_per_second": self._pairs / (time.perf_counter() - self._started)}


def _knn_accuracy(model: nn.Module, bank: ImageSet, test: ImageSet) -> float:
    features, queries = (evaluation.embed(model, images)[0] for images in (bank, test))
    if not (features.isfinite().all() and queries.isfinite().all()):
        return math.nan
    device = next(model.parameters()).device
    k = min(200, len(bank))
    predicted = evaluation.knn(features.to(device), bank.labels, queries.to(device), k=k, n_classes=len(bank.classes))
    return (predicted.cpu() == test.labels).double().mean().item()


def _check_folder(folder: Path, recipe: Recipe) -> None:
    saved = _read_recipe(folder)
    if saved is None and folder.exists():
        # A run that was killed while it wrote its recipe has left a part of that behind.
        ours = (LOCK, ".recipe.json.*.normlib-tmp")
        foreign = [path for path in folder.iterdir() if not any(map(path.match, ours))]
        if foreign:
            raise ValueError(f"{folder} is not empty and holds no run; name a new folder")
    if saved is not None and (lines := differences(asdict(saved), asdict(recipe))):
        joined = "\n  ".join(lines)
        raise ValueError(f"{folder} holds a run of another recipe; name a new folder. What differs:\n  {joined}")


def _check_shape(recipe: Recipe, images: ImageSet) -> None:
    given, taken = tuple(images.images.shape[1:]), NETWORKS[recipe.network].image_shape
    if given != taken:
        has, takes = ("x".join(map(str, shape)) for shape in (given, taken))
        raise ValueError(
            f"{images.name} has images of {has}, but network={recipe.network!r} takes {takes}; choose another network"
        )


def _write_recipe(folder: Path, recipe: Recipe) -> None:
    text = json.dumps(asdict(recipe), indent=2) + "\n"
    replace_file(folder / "recipe.json", lambda path: path.write_text(text, encoding="utf-8"))


def _read_recipe(folder: Path) -> Recipe | None:
    path = folder / "recipe.json"
    if not path.is_file():
        return None
    try:
        settings = read_json(path)
        return Recipe(**settings | {"train": TrainConfig(**settings["train"])})
    except UNREADABLE as error:
        raise ValueError(f"{path} is not a recipe of this version: {error}") from error


def _tensorboard_logger(folder: Path) -> TensorBoardLogger:
    from lightning_fabric.loggers import TensorBoardLogger

    return TensorBoardLogger(folder, name="tensorboard", version="")
