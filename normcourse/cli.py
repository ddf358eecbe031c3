"""The command ``normcourse``: record, reproduce, claims, info. Thin: every verb calls the package.

``normcourse`` is the same as ``python -m normcourse``. What is wrong with a command is said in one line, with exit code
2.
"""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from normlib._utils.commands import Command

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["main"]


def main(arguments: list[str] | None = None) -> int:
    """Run one command.

    Args:
        arguments: Words after ``normcourse``; None takes those of the process.

    Returns:
        The exit code, which is 0, 1 for verdicts that differ from what the book states, 2 for a command that cannot be
        carried out, 130 for one that was stopped and can go on.

    >>> main(["record", "unknown"])
    2
    """
    return _command().run(arguments)


def _command() -> Command:
    command = Command("normcourse", "The course: record experiments, reproduce them, and compute its claims.")
    record = command.verb(
        "record",
        _record,
        "run experiments, one after the other, and write them to results/",
        """examples:
  normcourse record cifar10-simclr-gpu cifar10-held-out-gpu
  normcourse record cifar10-simclr-gpu --minutes 8 --out gpu   (as many jobs as fit; again for the next ones)
  normcourse record cifar10-simclr --shard 1/2                 (and --shard 2/2 in another terminal)
  normcourse record cifar10-simclr --smoke                     (tiny, in a minute, keeps nothing)
Each job is kept the moment it is finished; the same command goes on from there.""",
    )
    record.add_argument("names", nargs="*", metavar="NAME", help="experiments; without one, all are listed")
    record.add_argument("--minutes", type=float, help="stop after so many minutes, and say what is left")
    record.add_argument("--out", type=Path, metavar="DIR", help="folder to write to instead of results/")
    record.add_argument(
        "--shard", type=_shard, default=(1, 1), metavar="I/N", help="only every N-th job, from the I-th"
    )
    record.add_argument("--overwrite", action="store_true", help="record again what is recorded already")
    record.add_argument("--smoke", action="store_true", help="run them tiny and keep nothing")

    reproduce = command.verb(
        "reproduce",
        _reproduce,
        "run a recorded experiment again and compare",
        """example:
  normcourse reproduce digits-simclr
  normcourse reproduce --claim cut-is-rate   (only the runs that this claim rests on)""",
    )
    what = reproduce.add_mutually_exclusive_group(required=True)
    what.add_argument("name", nargs="?", help="an experiment")
    what.add_argument("--claim", metavar="ID", help="instead: the runs that a claim of the ledger rests on")
    reproduce.add_argument("--shard", type=_shard, default=(1, 1), metavar="I/N", help="only every N-th run")

    claims = command.verb(
        "claims",
        _claims,
        "the claims ledger: verdicts computed from recorded numbers",
        """examples:
  normcourse claims
  normcourse claims --json
  normcourse claims --accept   (let the book state the verdicts that the records give now)""",
    )
    claims.add_argument("--json", action="store_true", help="print everything as JSON")
    claims.add_argument("--accept", action="store_true", help="write these verdicts to book/verdicts.json")

    info = command.verb(
        "info",
        _info,
        "minutes that each experiment takes here",
        """example:
  normcourse info --seconds 3""",
    )
    info.add_argument("--seconds", type=float, default=10.0, help="length of the probe (10)")
    info.add_argument("--accelerator", default="auto", help="auto (default), cpu, cuda or mps")
    return command


def _record(options: argparse.Namespace) -> None:
    from normcourse import experiments

    if not options.names:
        for name, experiment in experiments.EXPERIMENTS.items():
            print(f"{name:28}  {experiment.question}")
    elif options.smoke:
        for experiment_name in options.names:
            for name, table in experiments.smoke(experiment_name).items():
                print(f"{experiment_name}, {name}: {len(table)} rows of {', '.join(table.columns)}")
    else:
        left = experiments.record(
            *options.names,
            minutes=options.minutes,
            out=options.out,
            shard=options.shard,
            overwrite=options.overwrite,
        )
        print(left)


def _reproduce(options: argparse.Namespace) -> None:
    from normcourse import experiments

    if options.claim:
        _reproduce_claim(options.claim, options.shard)
    else:
        _print_comparison(experiments.reproduce(options.name, shard=options.shard))


def _reproduce_claim(name: str, shard: tuple[int, int]) -> None:
    from normcourse import claims, experiments
    from normcourse.experiments.runner import shard_of
    from normcourse.paths import RESULTS, RUNS

    by_id = {claim.id: claim for claim in claims.ledger()}
    if name not in by_id:
        raise ValueError(f"--claim must be one of {', '.join(by_id)}; got {name!r}")
    claim = by_id[name]
    jobs = claims.jobs(claim)
    if not jobs:
        raise ValueError(f"{name} rests on no recorded run: {claim.needs}")
    mine = shard_of([(record, job) for record, all_jobs in jobs.items() for job in all_jobs], shard)
    for record in dict.fromkeys(record for record, _ in mine):
        _print_comparison(experiments.reproduce(record, jobs=[job for of, job in mine if of == record]))
    for title, results in (("recorded", RESULTS), ("reproduced", RUNS / "reproduced")):
        verdict = claims.judge(claim, results=results)
        print(f"{title}: {verdict.word}; " + "; ".join(effect.as_words() for effect in verdict.effects))


def _print_comparison(table: pd.DataFrame) -> None:
    columns = table.groupby(["table", "column"], sort=False)
    summary = columns.agg(runs=("identical", "size"), identical=("identical", "sum"), largest=("difference", "max"))
    print(summary.rename(columns={"largest": "largest relative difference of means"}).to_string())


def _claims(options: argparse.Namespace) -> int:
    from normcourse import claims

    verdicts = claims.judge_all()
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
        print(f"normcourse: {line}", file=sys.stderr)
    return 1 if wrong else 0


def _info(options: argparse.Namespace) -> None:
    from normcourse.machine import minutes

    print(minutes(options.accelerator, options.seconds).to_string(index=False))


def _shard(word: str) -> tuple[int, int]:
    first, slash, shards = word.partition("/")
    if not (slash and re.fullmatch("[0-9]{1,9}", first) and re.fullmatch("[0-9]{1,9}", shards)):
        raise argparse.ArgumentTypeError(f"a shard is I/N, such as 1/2, got {word!r}")
    return int(first), int(shards)
