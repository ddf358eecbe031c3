"""The command ``normlib``: train, evaluate, record, reproduce, claims, info. Thin: every verb calls the library.

``normlib`` is the same as ``python -m normlib``. What is wrong with a command is said in one line, with exit code 2.
"""

from __future__ import annotations

import argparse
import ast
import os
import re
import sys
from pathlib import Path
from typing import Any

__all__ = ["main"]

EXAMPLES = {
    "train": """examples:
  normlib train digits --out runs/first
  normlib train cpu --out runs/cut --set data=cifar10-jpeg cut=3 lr=0.05
  normlib train paper --out runs/paper --tensorboard
  torchrun --nproc_per_node=8 -m normlib train paper --out runs/eight --set sync_batchnorm=True
A run that was stopped goes on when the same command is given again.""",
    "evaluate": """example:
  normlib evaluate runs/first""",
    "record": """examples:
  normlib record cifar10-interventions
  normlib record cifar10-interventions-cpu --part 1/2   (and --part 2/2 in another terminal)
  normlib record cifar10-interventions --smoke          (tiny, in a minute, keeps nothing)""",
    "reproduce": """example:
  normlib reproduce digits-simclr
  normlib reproduce --claim cut-is-rate   (only the runs that this claim rests on)""",
    "claims": """examples:
  normlib claims
  normlib claims --json
  normlib claims --accept   (let the book state the verdicts that the records give now)""",
    "info": """example:
  normlib info --seconds 3""",
}


def main(arguments: list[str] | None = None) -> int:
    """Run one command.

    Args:
        arguments: Words after ``normlib``; None takes those of the process.

    Returns:
        The exit code, which is 0, 1 for verdicts that differ from what the book states, 2 for a command that cannot be
        carried out, 130 for one that was stopped and can go on.

    >>> main(["train", "unknown", "--out", "nowhere"])
    2
    """
    options = _parser().parse_args(arguments)
    try:
        code = options.verb(options) or 0
        sys.stdout.flush()  # an error of it belongs here, not to the end of Python
        return code
    except BrokenPipeError:  # whoever reads the output, such as head, has seen enough
        _give_up_output()
        return 2
    except KeyboardInterrupt as stop:
        print(f"\n{str(stop) or 'stopped; the same command goes on with what was saved'}", file=sys.stderr)
        return 130
    except (ValueError, OSError, ImportError, ArithmeticError, RuntimeError, MemoryError) as error:
        if options.traceback:
            raise
        _give_up_output()
        print(f"normlib: {error}{_hint(error)}", file=sys.stderr)
        return 2


def _give_up_output() -> None:
    """Where the output cannot be written, let Python not try it again, and complain, when it ends."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _hint(error: Exception) -> str:
    """What to do about an error that does not say so itself."""
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return "; set micro_batch_size to a divisor of batch_size"
    return "" if isinstance(error, ValueError | OSError | FloatingPointError) else "; --traceback shows where"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="normlib", description="Embedding norms in self-supervised learning.")
    verbs = parser.add_subparsers(title="verbs", required=True, metavar="VERB")

    def verb(name: str, function, words: str) -> argparse.ArgumentParser:
        form = argparse.RawDescriptionHelpFormatter
        sub = verbs.add_parser(name, help=words, description=words, epilog=EXAMPLES[name], formatter_class=form)
        sub.set_defaults(verb=function)
        sub.add_argument("--traceback", action="store_true", help="show where an error came from")
        return sub

    train = verb("train", _train, "train a recipe in a run directory")
    train.add_argument("recipe", help="paper, colab_t4, cpu or digits")
    train.add_argument("--out", required=True, type=Path, help="run directory: new, or of the same run")
    train.add_argument("--set", nargs="+", default=[], metavar="KEY=VALUE", help="settings to change")
    train.add_argument("--checkpoint-minutes", type=float, default=2.0, help="minutes between two checkpoints (2)")
    train.add_argument("--accelerator", default="auto", help="auto (default), cpu, cuda or mps")
    train.add_argument("--tensorboard", action="store_true", help="also write event files for TensorBoard")

    evaluate = verb("evaluate", _evaluate, "score the newest whole checkpoint of a run directory")
    evaluate.add_argument("run", type=Path, help="run directory")
    evaluate.add_argument("--accelerator", default="auto", help="auto (default), cpu, cuda or mps")

    record = verb("record", _record, "run an experiment and write it to results/")
    record.add_argument("name", nargs="?", help="an experiment; without it, all are listed")
    record.add_argument("--part", type=_part, default=(1, 1), metavar="I/N", help="only every N-th run, from the I-th")
    record.add_argument("--anew", action="store_true", help="record again what is recorded already")
    record.add_argument("--smoke", action="store_true", help="run it tiny and keep nothing")

    reproduce = verb("reproduce", _reproduce, "run a recorded experiment again and compare")
    what = reproduce.add_mutually_exclusive_group(required=True)
    what.add_argument("name", nargs="?", help="an experiment")
    what.add_argument("--claim", metavar="ID", help="instead: the runs that a claim of the ledger rests on")
    reproduce.add_argument("--part", type=_part, default=(1, 1), metavar="I/N", help="only every N-th run")

    claims = verb("claims", _claims, "the claims ledger: verdicts computed from recorded numbers")
    claims.add_argument("--json", action="store_true", help="print everything as JSON")
    claims.add_argument("--accept", action="store_true", help="write these verdicts to book/verdicts.json")

    info = verb("info", _info, "devices, memory, precisions, and minutes for each experiment here")
    info.add_argument("--seconds", type=float, default=10.0, help="length of the probe (10)")
    info.add_argument("--accelerator", default="auto", help="auto (default), cpu, cuda or mps")
    return parser


def _train(options: argparse.Namespace) -> None:
    from normlib import recipes, runs
    from normlib._launch import is_first

    recipe = recipes.changed(recipes.named(options.recipe), _settings(options.set))
    if is_first():
        print(recipe)
    trained = runs.train(
        recipe, options.out, checkpoint_minutes=options.checkpoint_minutes, accelerator=options.accelerator,
        tensorboard=options.tensorboard,
    )  # fmt: skip
    if is_first():
        print(_summary(trained.history))
        print(f"run directory: {options.out}")


def _evaluate(options: argparse.Namespace) -> None:
    from normlib import runs, training
    from normlib._checkpoints import Checkpoints
    from normlib._files import replace_file
    from normlib._launch import device_of
    from normlib._samples import sample_table

    training.check_place(options.accelerator, options.run)
    device = device_of(options.accelerator)
    recipe, model = runs.load(options.run)
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


def _record(options: argparse.Namespace) -> None:
    from normlib import records

    if options.name is None:
        for name, experiment in records.EXPERIMENTS.items():
            print(f"{name:28}  {experiment.question}")
    elif options.smoke:
        for name, table in records.smoke(options.name).items():
            print(f"{name}: {len(table)} rows of {', '.join(table.columns)}")
    else:
        print(f"recorded in {records.record(options.name, part=options.part, anew=options.anew)}")
        if left := records.missing(options.name):
            print(f"{len(left)} runs are left for other parts")


def _reproduce(options: argparse.Namespace) -> None:
    if options.claim:
        _reproduce_claim(options.claim, options.part)
    else:
        from normlib import records

        _print_comparison(records.reproduce(options.name, part=options.part))


def _reproduce_claim(name: str, part: tuple[int, int]) -> None:
    from normlib import claims, records

    by_id = {claim.id: claim for claim in claims.ledger()}
    if name not in by_id:
        raise ValueError(f"--claim must be one of {', '.join(by_id)}; got {name!r}")
    claim = by_id[name]
    jobs = claims.jobs(claim)
    if not jobs:
        raise ValueError(f"{name} rests on no recorded run: {claim.needs}")
    mine = records._part_of([(record, job) for record, all_jobs in jobs.items() for job in all_jobs], part)
    for record in dict.fromkeys(record for record, _ in mine):
        _print_comparison(records.reproduce(record, jobs=[job for of, job in mine if of == record]))
    for title, results in (("recorded", claims.RESULTS), ("reproduced", records.RUNS / "reproduced")):
        verdict = claims.judge(claim, results=results)
        print(f"{title}: {verdict.word}; " + "; ".join(effect.as_words() for effect in verdict.effects))


def _print_comparison(table) -> None:
    columns = table.groupby(["table", "column"], sort=False)
    summary = columns.agg(runs=("identical", "size"), identical=("identical", "sum"), largest=("difference", "max"))
    print(summary.rename(columns={"largest": "largest relative difference of means"}).to_string())


def _claims(options: argparse.Namespace) -> int:
    from normlib import claims

    verdicts = claims.table()
    if options.accept:
        claims.accept(verdicts)
    if options.json:
        import json

        print(json.dumps([claims.as_json(one) for one in verdicts], indent=1, ensure_ascii=False))
    else:
        for one in verdicts:
            print(f"{one.word:15} {one.claim.id:28} {one.claim.statement}")
        counts = [f"{sum(one.word == word for one in verdicts)} {word}" for word in claims.VERDICTS]
        print(f"{len(verdicts)} claims: {', '.join(counts)}")
    wrong = [*claims.differences(verdicts, claims.stated())]
    for line in wrong:
        print(f"normlib: {line}", file=sys.stderr)
    return 1 if wrong else 0


def _info(options: argparse.Namespace) -> None:
    from normlib import _probe

    print(_probe.devices())
    print(_probe.minutes(options.accelerator, options.seconds).to_string(index=False))


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


def _part(word: str) -> tuple[int, int]:
    first, slash, parts = word.partition("/")
    if not (slash and re.fullmatch("[0-9]{1,9}", first) and re.fullmatch("[0-9]{1,9}", parts)):
        raise argparse.ArgumentTypeError(f"a part is I/N, such as 1/2, got {word!r}")
    return int(first), int(parts)


def _summary(history) -> str:
    """Loss, norm and metrics of the epochs after which the test images were labelled."""
    means = history.steps.groupby("epoch", as_index=False)[["loss", "norm"]].mean()
    table = means.merge(history.epochs.dropna(subset="knn"), on="epoch", how="right")
    return table.to_string(index=False, float_format=lambda value: f"{value:.4g}")
