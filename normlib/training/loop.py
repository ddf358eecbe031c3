"""Training on two views: one loop for one device or many, with a tracker, interventions and checkpoints plugged in."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from normlib._utils.arguments import check_callable, check_number, check_type, path_of
from normlib._utils.callables import described
from normlib._utils.files import UNREADABLE
from normlib.data import ImageSet
from normlib.tracking import NormTracker
from normlib.training import launch
from normlib.training.checkpoint_schedule import CheckpointSchedule
from normlib.training.checkpoints import Checkpoints, differences
from normlib.training.config import TrainConfig
from normlib.training.progress import Progress
from normlib.training.step import WithLoss
from normlib.training.trainer import History, Trainer, of_all_processes


def fit(
    model: nn.Module,
    images: ImageSet,
    config: TrainConfig,
    *,
    augment: Callable[..., tuple[Tensor, Tensor]],
    loss: Callable[..., Tensor] | None = None,
    tracker: NormTracker | None = None,
    on_epoch: Callable[[int], dict[str, float] | None] | None = None,
    checkpoints: str | Path | None = None,
    checkpoint_minutes: float = 2.0,
    accelerator: str = "auto",
    logger: Any = None,
    progress: bool = True,
) -> History:
    """Train ``model`` on two views of each image, under its own loss or under ``loss``.

    The model is changed in place, and ends on the training device in training mode.

    Interventions are plugged in around this call: ``cut_initialization(model, c)`` before it,
    ``SimCLR(…, grad_scale_power=p)`` in the model.

    **Several devices.** Start the script that calls this with ``torchrun --nproc_per_node=8 script.py``; on two
    machines, with the same command on both, ``torchrun --nnodes=2 --nproc_per_node=8 --rdzv_backend=c10d
    --rdzv_endpoint=HOST:29500 script.py``. Each process embeds its share of a batch; the loss is that of the whole
    batch, and so are its gradients. The tracker then holds the rows of all processes (without quantiles). BatchNorm
    uses the statistics of one device unless the model was converted by
    ``torch.nn.SyncBatchNorm.convert_sync_batchnorm``.

    **Going on.** With ``checkpoints``, a run that was stopped, killed or cut off goes on where its last checkpoint
    was: call again with the same arguments. On a CPU the result equals that of the uninterrupted run, bit for bit.

    Args:
        model: A method of :mod:`normlib.models`, or any model like these: it maps images ``(N, C, H, W)`` in [0, 1] to
            embeddings ``(N, D)``, or to several tensors, and has a ``loss`` of them, unless ``loss`` is given.
        images: Training images; held as uint8 in the device's memory if they fill at most half of it.
        config: Settings of the run.
        augment: Draws the two views of a batch: a :class:`normlib.augment.TwoViews`, or any function that is called as
            ``augment(images, generator=…)`` with uint8 images ``(N, C, H, W)`` on the device and a generator on the CPU
            and returns two float tensors of N views.
        loss: Takes the place of the model's own: any function or module that is called as ``loss(z1, z2)`` with the
            embeddings of both views, those of all processes, and returns a scalar. Of a model with several outputs it
            takes both views of each. Parameters of a module are trained and saved with the model. None: the model's.
        tracker: Norm tracker of ``model``, attached here if it is not, and left so; one ``tracker.step`` is called for
            each optimiser step, and gradients come without the loss scale of ``"16-mixed"``.
        on_epoch: Called with the number of finished epochs, also with 0 before the first: evaluate here. What it
            returns, numbers by name, becomes a row of ``epochs``. The tracker does not see its forward passes. Of
            several processes only the first calls it; the others wait, for half an hour at most.
        checkpoints: Folder for the checkpoints of this run; the last two are kept. Several machines must share it.
        checkpoint_minutes: Time between two checkpoints, ≥ 0. One is written at the end and on Ctrl-C as well.
        accelerator: Lightning Fabric's name of a device: ``"auto"``, ``"cpu"``, ``"cuda"``, ``"mps"``.
        logger: A logger of Lightning Fabric, such as its ``TensorBoardLogger``; gets ``lr``, ``loss``, ``norm`` of each
            step, and what ``on_epoch`` returned.
        progress: Show a progress bar with loss, norm, pairs per second and the time left.

    Returns:
        The history of the whole run, its earlier parts included.

    Raises:
        TypeError: An argument is of another type than described; no ``loss``, and the model has none. Or the loss
            returns no tensor.
        ValueError: Fewer images than one batch; a batch that cannot be shared out; a device that is not there; a folder
            with checkpoints of another run, with the differences. Nothing is trained or written then. Or the loss
            returns no scalar, or refuses what it is given, such as NaN.
        OSError: ``checkpoints`` cannot be written; nothing is trained then. Or later a checkpoint could not be, on a
            full disk, say; the earlier ones are whole, and the run goes on from them.
        DivergenceError: The loss became NaN or infinite; the message names the step. This is looked for once an epoch,
            so that a GPU never waits within one. A ``FloatingPointError``.
        Stopped: Ctrl-C or SIGTERM, after a checkpoint was written. A ``KeyboardInterrupt``.

    Source: Chen et al. 2020 (SimCLR); settings as released with Draganov et al. 2025.

    >>> from normlib.augment import TwoViews
    >>> from normlib.data import digits
    >>> from normlib.models import SimCLR, digits_encoder, projection_head
    >>> model = SimCLR(digits_encoder(16, 16), projection_head(16, 16, 8))
    >>> config = TrainConfig(epochs=1, warmup_epochs=0, batch_size=512)
    >>> history = fit(model, digits("train"), config, augment=TwoViews.digits(), accelerator="cpu", progress=False)
    >>> history.steps[["step", "epoch"]].values.tolist()
    [[0, 1], [1, 1]]
    """
    _check_types(model, images, config, augment, tracker, on_epoch)
    _check_loss(model, loss)
    check_place(accelerator, None if checkpoints is None else path_of("checkpoints", checkpoints))
    check_number("checkpoint_minutes", checkpoint_minutes, at_least=0)
    _check_shares(images, config)
    method = model if loss is None else WithLoss(model, loss)
    settings = _settings(method, images, config, augment)
    saved = _saved_state(settings, method, tracker, checkpoints)
    precision = launch.precision_on(accelerator, config.precision)
    fabric = launch.launch(accelerator, precision, logger)
    trainer = Trainer(fabric, method, images, config, augment, tracker, on_epoch, settings)
    if checkpoints is not None and saved is not None:
        with _named_checkpoint(checkpoints):
            trainer.load_state_dict(saved)
    _check_agreement(of_all_processes(fabric, (trainer.step, settings)))
    schedule = CheckpointSchedule(fabric, checkpoints, checkpoint_minutes)
    with Progress(trainer.total, done=trainer.step, shown=progress and fabric.is_global_zero) as bar:
        trainer.train(schedule, bar)
    return trainer.history()


def _check_types(
    model: nn.Module,
    images: ImageSet,
    config: TrainConfig,
    augment: Callable,
    tracker: NormTracker | None,
    on_epoch: Callable | None,
) -> None:
    check_type(nn.Module, model=model)
    check_type(ImageSet, images=images)
    check_type(TrainConfig, config=config)
    check_callable(augment=augment)
    if tracker is not None:
        check_type(NormTracker, tracker=tracker)
    if on_epoch is not None:
        check_callable(on_epoch=on_epoch)


def _check_loss(model: nn.Module, loss: Callable | None) -> None:
    given = getattr(model, "loss", None) if loss is None else loss
    if given is None:
        raise TypeError(
            f"{type(model).__name__} has no loss of its own; name one, such as loss=losses.info_nce, or take a method "
            "of normlib.models"
        )
    check_callable(loss=given)


def check_place(accelerator: str, folder: str | Path | None) -> None:
    """Refuse, before anything is read, a device that is not there and a folder in which nothing can be written."""
    launch.check_accelerator(accelerator)
    if folder is None:
        return
    there = next(path for path in (Path(folder), *Path(folder).parents) if path.exists())
    if not there.is_dir():
        raise NotADirectoryError(f"{folder} cannot be a folder, since {there} is a file; name another")
    if not os.access(there, os.W_OK | os.X_OK):
        raise PermissionError(f"{folder} cannot be written, since {there} is read-only or not yours; name another")


def _check_shares(images: ImageSet, config: TrainConfig) -> None:
    processes = launch.processes()
    if len(images) < config.batch_size:
        raise ValueError(f"images holds {len(images)} images, fewer than batch_size = {config.batch_size}")
    if config.batch_size % processes:
        raise ValueError(f"batch_size = {config.batch_size} cannot be shared out evenly among {processes} processes")
    share, micro = config.batch_size // processes, config.micro_batch_size
    if micro is not None and share % micro:
        raise ValueError(f"micro_batch_size = {micro} must divide the {share} images that each process gets")


def _check_agreement(of_all: list[tuple[int, dict[str, Any]]]) -> None:
    """Refuse processes that begin at different steps or with different settings."""
    step, settings = of_all[0]
    for rank, (other_step, other) in enumerate(of_all):
        if other_step != step:
            raise ValueError(
                f"process 0 goes on from step {step}, process {rank} from step {other_step}: all machines must share "
                "the folder of the checkpoints"
            )
        if lines := differences(settings, other, ("in process 0", f"in {rank}")):
            joined = "\n  ".join(lines)
            raise ValueError(f"processes 0 and {rank} were started with different settings:\n  {joined}")


def _saved_state(
    settings: dict[str, Any], model: nn.Module, tracker: NormTracker | None, folder: str | Path | None
) -> dict[str, Any] | None:
    """The newest checkpoint in a folder, if it is one of this run."""
    if folder is None or (saved := Checkpoints(folder).load()) is None:
        return None
    watched = _watched({} if tracker is None else tracker.state_dict())
    now = {**settings, "weights": _shapes(model.state_dict()), "tracker": watched}
    with _named_checkpoint(folder):
        before = {**saved["settings"], "weights": _shapes(saved["model"]), "tracker": _watched(saved["tracker"])}
    if other := differences(before, now):
        lines = "\n  ".join(other)
        raise ValueError(f"{folder} holds checkpoints of another run; take another folder. What differs:\n  {lines}")
    return saved


@contextmanager
def _named_checkpoint(folder: str | Path) -> Iterator[None]:
    """Name the folder of a checkpoint that lacks what this version saves, or holds something else in its place."""
    try:
        yield
    except UNREADABLE as error:
        raise ValueError(f"the checkpoint in {folder} is not one of this version: {error}") from error


def _settings(model: nn.Module, images: ImageSet, config: TrainConfig, augment: Callable) -> dict[str, Any]:
    """What a run must share with the one that left a checkpoint."""
    return {
        "config": asdict(config),
        "data": images.fingerprint(),
        "network": architecture(model),
        "augment": described(augment, with_module=True),
        "processes": launch.processes(),
    }


def architecture(model: nn.Module) -> dict[str, str]:
    """Each part of a network by its name: what it is and how it is set, without weights.

    Raises:
        TypeError: ``model`` is no module.

    >>> architecture(nn.Sequential(nn.Linear(2, 1), nn.ReLU()))["0"]
    'Linear(in_features=2, out_features=1, bias=True)'
    """
    check_type(nn.Module, model=model)
    return {name: _described(part) for name, part in model.named_modules()}


def _described(part: nn.Module) -> str:
    """What ``repr`` says of a part, without the parts in it."""
    if next(part.children(), None) is None:
        return repr(part)
    own = part.extra_repr()
    return f"{type(part).__name__}({own})" if own else type(part).__name__


def _shapes(state: dict[str, Tensor]) -> dict[str, str]:
    return {name: str(tuple(value.shape)) for name, value in state.items()}


def _watched(tracker: dict[str, Any]) -> dict[str, list]:
    return {name: tracker[name] for name in ("series", "quantiles", "weights") if name in tracker}
