"""The command ``normlib``: train, evaluate, info. Thin: every verb calls the library.

``normlib`` is the same as ``python -m normlib``. What is wrong with a command is said in one line, with exit code 2.
"""

from __future__ import annotations

import argparse
import ast
from pathlib import Path
from typing import TYPE_CHECKING, Any

from normlib._utils.commands import Command

if TYPE_CHECKING:
    from normlib.training import History

__all__ = ["main"]


def main(arguments: list[str] | None = None) -> int:
    """Run one command.

    Args:
        arguments: Words after ``normlib``; None takes those of the process.

    Returns:
        The exit code, which is 0, 2 for a command that cannot be carried out, 130 for one that was stopped and can go
        on.

    >>> main(["train", "unknown", "--out", "nowhere"])
    2
    """
    return _command().run(arguments)


def _command() -> Command:
    command = Command("normlib", "Embedding norms in self-supervised learning: train, evaluate, and see what is here.")
    train = command.verb(
        "train",
        _train,
        "train a recipe in a run directory",
        """examples:
  normlib train digits --out runs/first
  normlib train cpu --out runs/cut --set data=cifar10-jpeg cut=3 lr=0.05
  normlib train paper --out runs/paper --tensorboard
  torchrun --nproc_per_node=8 -m normlib train paper --out runs/eight --set sync_batchnorm=True
A run that was stopped goes on when the same command is given again.""",
    )
    train.add_argument("recipe", help="paper, colab_t4, cpu or digits")
    train.add_argument("--out", required=True, type=Path, help="run directory: new, or of the same run")
    train.add_argument("--set", nargs="+", default=[], metavar="KEY=VALUE", help="settings to change")
    train.add_argument("--checkpoint-minutes", type=float, default=2.0, help="minutes between two checkpoints (2)")
    train.add_argument("--accelerator", default="auto", help="auto (default), cpu, cuda or mps")
    train.add_argument("--tensorboard", action="store_true", help="also write event files for TensorBoard")

    evaluate = command.verb(
        "evaluate",
        _evaluate,
        "score the newest whole checkpoint of a run directory",
        """example:
  normlib evaluate runs/first""",
    )
    evaluate.add_argument("run", type=Path, help="run directory")
    evaluate.add_argument("--accelerator", default="auto", help="auto (default), cpu, cuda or mps")

    info = command.verb(
        "info",
        _info,
        "devices, memory, precisions, and how fast each recipe trains here",
        """example:
  normlib info --seconds 3""",
    )
    info.add_argument("--seconds", type=float, default=10.0, help="length of the probe (10)")
    info.add_argument("--accelerator", default="auto", help="auto (default), cpu, cuda or mps")
    return command


def _train(options: argparse.Namespace) -> None:
    from normlib.training import recipes, run_dir
    from normlib.training.launch import is_first

    recipe = recipes.get(options.recipe).replace(**_settings(options.set))
    if is_first():
        print(recipe)
    trained = run_dir.train(
        recipe,
        options.out,
        checkpoint_minutes=options.checkpoint_minutes,
        accelerator=options.accelerator,
        tensorboard=options.tensorboard,
    )
    if is_first():
        print(_summary(trained.history))
        print(f"run directory: {options.out}")


def _evaluate(options: argparse.Namespace) -> None:
    from normlib._utils.files import replace_file
    from normlib.evaluation import sample_table
    from normlib.training import run_dir
    from normlib.training.checkpoints import Checkpoints
    from normlib.training.launch import device_of
    from normlib.training.loop import check_place

    check_place(options.accelerator, options.run)
    device = device_of(options.accelerator)
    recipe, model = run_dir.load(options.run)
    bank, sets = recipe.images(), recipe.test_sets()
    table = sample_table(model.to(device), bank, sets, k=min(200, len(bank) - 1), seed=recipe.train.seed)
    path = options.run / "samples.parquet"
    replace_file(path, lambda temporary: table.to_parquet(temporary, index=False, compression="zstd"))
    steps = recipe.train.epochs * (len(bank) // recipe.train.batch_size)
    print(f"checkpoint of step {Checkpoints(options.run / 'checkpoints').newest()} of {steps}")
    scores = {"knn_correct": "mean", "probe_correct": "mean", "norm_projector": "median"}
    summary = table.groupby("split").agg(
        images=("index", "size"), **{name: (name, how) for name, how in scores.items()}
    )
    print(summary.rename(columns={"norm_projector": "median norm"}).to_string(float_format="{:.3f}".format))
    print(f"scores of each image: {path}")


def _info(options: argparse.Namespace) -> None:
    from normlib._utils.devices import describe
    from normlib.training.throughput import recipe_speeds

    print(describe())
    print(recipe_speeds(options.accelerator, options.seconds).to_string(index=False))


def _settings(words: list[str]) -> dict[str, Any]:
    """``["lr=0.1", "data=digits"]`` as ``{"lr": 0.1, "data": "digits"}``."""
    settings = {}
    for word in words:
        name, equals, value = word.partition("=")
        if not (name and equals):
            raise ValueError(f"--set takes KEY=VALUE, got {word!r}")
        try:
            settings[name] = ast.literal_eval(value)
        except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):  # a word without quotes
            settings[name] = value
    return settings


def _summary(history: History) -> str:
    """Loss, norm and metrics of the epochs after which the test images were labelled."""
    means = history.steps.groupby("epoch", as_index=False)[["loss", "norm"]].mean()
    table = means.merge(history.epochs.dropna(subset="knn"), on="epoch", how="right")
    return table.to_string(index=False, float_format=lambda value: f"{value:.4g}")
