"""Experiments made up for the tests, and no real folder."""

import dataclasses

import pandas as pd
import pytest

from normcourse import experiments, paths
from normcourse.experiments import runner
from normcourse.experiments.store import Store
from normlib import data


class Made:
    """Two experiments, one of a single job and one of four; they note what they ran, in ``calls``."""

    def __init__(self, monkeypatch, folder):
        self.calls, self.folder, self._monkeypatch = [], folder, monkeypatch
        shared = {"settings": {"rows": 5, "seed": 0}, "smoke": {"rows": 2}, "run": self.run}
        shared |= {"images": lambda settings: data.digits()}
        self.named = {
            "tiny": experiments.Experiment(
                name="tiny", question="Does it run?", jobs=lambda settings, store: [{}], **shared
            ),
            "many": experiments.Experiment(name="many", question="Do they run?", jobs=self.four, **shared),
        }
        self.named["many"] = dataclasses.replace(self.named["many"], settings={"rows": 5, "seed": 0})
        monkeypatch.setattr(runner, "EXPERIMENTS", self.named)
        monkeypatch.setattr(paths, "RESULTS", folder / "results")
        monkeypatch.setattr(paths, "RUNS", folder / "runs")
        monkeypatch.delenv("NORMLIB_MODE", raising=False)
        monkeypatch.setenv("TQDM_DISABLE", "1")

    def run(self, settings, job, folder):
        self.calls.append((settings, job))
        return {"table": pd.DataFrame({"x": range(settings["rows"])})}

    @staticmethod
    def four(settings, store):
        return [{"condition": name, "seed": seed} for name in ("plain", "cut 3") for seed in range(2)]

    def change(self, name, **changes):
        """Replace fields of an experiment; the fixture's calls go on being noted if ``run`` is kept."""
        self.named[name] = dataclasses.replace(self.named[name], **changes)

    @property
    def results(self):
        return Store(self.folder / "results")


@pytest.fixture
def made(monkeypatch, tmp_path):
    """Experiments made up for a test, which are all that there are."""
    return Made(monkeypatch, tmp_path)
