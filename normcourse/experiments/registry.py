"""All experiments by name: what the modules of this folder list under ``EXPERIMENTS``.

To add an experiment, write a module here with a list ``EXPERIMENTS``; nothing else has to be changed.
"""

from __future__ import annotations

import importlib
import pkgutil

from normcourse import experiments
from normcourse.experiments.base import Experiment

MACHINERY = ("base", "circumstances", "deadline", "registry", "reproduction", "runner", "store")


def _collect() -> dict[str, Experiment]:
    found: dict[str, Experiment] = {}
    for module in pkgutil.walk_packages(experiments.__path__, f"{experiments.__name__}."):
        if module.name.removeprefix(f"{experiments.__name__}.") in MACHINERY:
            continue
        for experiment in getattr(importlib.import_module(module.name), "EXPERIMENTS", ()):
            if experiment.name in found:
                raise ValueError(f"two experiments are called {experiment.name!r}; one of them is in {module.name}")
            found[experiment.name] = experiment
    return found


EXPERIMENTS: dict[str, Experiment] = _collect()
