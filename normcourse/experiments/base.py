"""What an experiment is: a question, its settings, the jobs that it consists of, and what one job runs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from normcourse.experiments.store import Job, Store, Tables

if TYPE_CHECKING:
    from normlib.data import ImageSet

Settings = dict[str, Any]  # plain values, as JSON can hold them

# Settings that say which jobs there are. What one of their entries means for a job belongs to its configuration.
LISTS = frozenset({"by_seed", "conditions", "depths", "failure_modes", "lrs", "methods", "seeds"})

KEPT = "kept"  # in the folder of a job: files that are kept beside its tables


class Work(NamedTuple):
    """How much an experiment trains: at which recipe's speed, in how many trainings, on how many pairs of views."""

    recipe: str
    trainings: int
    pairs: int


def digits_images(settings: Settings) -> ImageSet:
    """All digits: the data of an experiment that names no other."""
    from normlib import data

    return data.digits()


def digits_configuration(settings: Settings, job: Job) -> dict[str, Any]:
    """Training settings left at their defaults; ``lrs`` and ``seeds`` name lists of ``lr`` and ``seed``."""
    from normlib.training import TrainConfig

    named = {*settings, *job, *(name.removesuffix("s") for name in settings)}
    return {name: value for name, value in asdict(TrainConfig()).items() if name not in named}


def no_configuration(settings: Settings, job: Job) -> dict[str, Any]:
    """For an experiment whose settings say everything."""
    return {}


@dataclass(frozen=True)
class Experiment:
    """One named experiment.

    A job is a unit of work: one training with what is measured of it, wherever there is a training. Jobs know nothing
    of each other, so an experiment can be recorded in pieces, by several processes, and with a limit of time.

    Args:
        name: The name of its folder under ``results/``.
        question: What it is to show, one sentence.
        settings: Everything that the numbers depend on, as plain values.
        smoke: The settings to change for a tiny run.
        jobs: Takes the settings and the store, in which a finished search can be read; returns the jobs, each by what
            tells it from the others: column name and value.
        run: Takes the settings, a job and a folder for what is not finished; returns tables by name. Files that it
            leaves in ``folder / KEPT`` are kept too.
        images: Takes the settings, returns the data, for their fingerprint.
        configuration: Takes the settings and a job, returns what the job depends on and ``settings`` does not say.
        work: Takes the settings, returns how much is trained; None for an experiment that trains no recipe.
        resumes: Whether a job that is stopped goes on from checkpoints in its folder.
    """

    name: str
    question: str
    settings: Settings
    smoke: Settings
    jobs: Callable[[Settings, Store], list[Job]]
    run: Callable[[Settings, Job, Path], Tables]
    images: Callable[[Settings], ImageSet] = digits_images
    configuration: Callable[[Settings, Job], dict[str, Any]] = digits_configuration
    work: Callable[[Settings], Work] | None = None
    resumes: bool = False
