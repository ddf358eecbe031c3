"""Every experiment that is registered: its plan is whole, and its settings survive JSON."""

import json

import pytest

from normcourse.experiments import cifar10
from normcourse.experiments.registry import EXPERIMENTS
from normcourse.experiments.store import Store, job_folder, key_of
from normcourse.paths import RESULTS
from normlib.training.recipes import RECIPES


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_plans_are_whole(name, monkeypatch):
    """Also of those whose search is not recorded, for which any rate will do."""
    monkeypatch.setattr(cifar10, "best_rate", lambda store, search, condition: 0.1)
    experiment = EXPERIMENTS[name]
    assert experiment.question.endswith("?")
    assert json.loads(json.dumps(experiment.settings)) == experiment.settings
    jobs = experiment.jobs(experiment.settings, Store(RESULTS))
    assert len({key_of(job) for job in jobs}) == len(jobs) >= 1
    assert len({job_folder(RESULTS, job) for job in jobs}) == len(jobs)  # no two jobs share a folder
    for job in (jobs[0], jobs[-1]):
        assert json.loads(json.dumps(experiment.configuration(experiment.settings, job))) is not None
    if experiment.work is not None:
        work = experiment.work(experiment.settings)
        assert work.recipe in RECIPES
        assert work.trainings == len(jobs)
        assert work.pairs >= 0


@pytest.mark.parametrize("name", [name for name in EXPERIMENTS if name.startswith("digits")])
def test_a_job_leaves_what_tells_it_from_others_to_the_store(name, tmp_path):
    experiment = EXPERIMENTS[name]
    settings = experiment.settings | experiment.smoke
    for job in experiment.jobs(settings, Store(RESULTS))[:1]:
        tables = experiment.run(settings, job, tmp_path)
        assert tables
        for frame in tables.values():
            assert not set(job) & set(frame)  # what tells jobs apart is added by the store
