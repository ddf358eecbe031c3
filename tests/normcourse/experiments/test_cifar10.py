"""The experiments on CIFAR-10: their plans, and one small run of each kind on made-up photographs."""

import json

import numpy as np
import pandas as pd
import pytest
import torch

from normcourse import experiments
from normcourse.experiments import cifar10
from normcourse.experiments.store import Store
from normcourse.paths import RESULTS
from normlib import data
from normlib.training import recipes

NAMES = [experiment.name for experiment in cifar10.EXPERIMENTS]


RECORDED = Store(RESULTS)


def photographs(n, seed):
    """Ten classes of coloured gradients with noise, as uint8 of 3x32x32."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(n) % 10
    colour = torch.linspace(0, 1, 10)[labels, None, None, None]
    ramp = torch.linspace(0, 1, 32).expand(n, 3, 32, 32)
    pixels = (0.5 * colour + 0.3 * ramp + 0.2 * torch.rand(n, 3, 32, 32, generator=generator)) * 255
    return data.ImageSet(pixels.byte(), labels, torch.arange(n), tuple("abcdefghij"), "made up")


@pytest.fixture
def made_up(monkeypatch):
    sets = {"train": photographs(400, 0), "test": photographs(100, 1)}
    monkeypatch.setattr(recipes, "load_once", lambda name, split: sets[split])


def small(name, **settings):
    """The settings of an experiment, made to fit the made-up photographs."""
    full = experiments.EXPERIMENTS[name].settings
    change = full["change"] | {"epochs": 2, "warmup_epochs": 1, "batch_size": 64}
    corrupt = {"kinds": ["blur"], "severities": [1, 5], "images": 20}
    return full | {"change": change, "k": 10, "corrupt": corrupt, "lrs": [0.1], "track_every": 2} | settings


def run(settings, job, tmp_path):
    return cifar10.run(settings, job, tmp_path / "run")


def job_of(settings, **wanted):
    return next(job for job in cifar10.jobs(settings, RECORDED) if wanted.items() <= job.items())


def test_a_run_leaves_losses_norms_and_scores(made_up, tmp_path):
    settings = small("cifar10-interventions-cpu")
    tables = run(settings, job_of(settings, condition="GradScale 1", seed=0), tmp_path)
    assert tables["epochs"]["epoch"].tolist() == [0, 1, 2]
    assert tables["epochs"]["knn"].between(0, 1).all()
    assert tables["steps"]["step"].tolist() == [0, 2, 4, 6, 8, 10]
    assert set(tables["norms"]["layer"]) == set(recipes.RECIPES["cpu"].tracked_layers())
    assert {"mean", "q50"} <= set(tables["norms"]["statistic"])
    sizes = tables["samples"]["split"].value_counts().to_dict()
    assert sizes == {"train": 400, "test": 100, "blur 1": 20, "blur 5": 20}
    assert not tables["samples"].isna().any().any()


def test_only_the_first_seed_scores_its_training_images(made_up, tmp_path):
    settings = small("cifar10-interventions-cpu")
    tables = run(settings, job_of(settings, condition="default", seed=1), tmp_path)
    assert "train" not in set(tables["samples"]["split"])


def test_held_out_classes_are_not_trained_on_and_scored_apart(made_up, tmp_path):
    settings = small("cifar10-held-out-cpu")
    job = job_of(settings, seed=1)
    assert set(cifar10.recipe_of(settings, job).images().labels.tolist()) == set(range(10)) - {3, 8}
    samples = run(settings, job, tmp_path)["samples"]
    labels = samples.groupby("split")["label"].agg(lambda column: sorted(set(column)))
    assert labels["held out"] == [3, 8]
    assert labels["test"] == [0, 1, 2, 4, 5, 6, 7, 9]
    assert not samples[samples["split"] == "held out"]["knn_correct"].any()


def test_long_tail_and_its_control(made_up, tmp_path):
    conditions = {"default": {"largest": 40, "tail_ratio": 1.3}, "balanced": {"largest": 16}}
    settings = small("cifar10-long-tailed-cpu", conditions=conditions)
    tailed = cifar10.recipe_of(settings, job_of(settings, condition="default", seed=1)).images()
    order = cifar10.TAIL_ORDERS[1]
    counts = tailed.labels.bincount()[torch.tensor(order)]
    assert counts.tolist() == [round(40 * 1.3**-rank) for rank in range(10)]
    balanced = cifar10.recipe_of(settings, job_of(settings, condition="balanced", seed=1)).images()
    assert set(balanced.labels.bincount().tolist()) == {16}


def test_a_run_that_diverges_is_a_result(made_up, tmp_path):
    settings = small("cifar10-rates-cpu", lrs=[1e20])
    tables = run(settings, cifar10.jobs(settings, RECORDED)[0], tmp_path)
    assert tables["epochs"]["diverged"].all()
    assert "samples" not in tables


def test_conditions_change_the_network_as_named(made_up):
    settings = experiments.EXPERIMENTS["cifar10-rates-gpu"].settings
    jobs = {job["condition"]: job for job in cifar10.jobs(settings, RECORDED)}
    built = {condition: cifar10.recipe_of(settings, job).build_model() for condition, job in jobs.items()}
    default, cut = built["default"], built["cut 3"]
    torch.testing.assert_close(3 * cut.projector[2].weight, default.projector[2].weight)
    torch.testing.assert_close(3 * cut.backbone.conv1.weight, default.backbone.conv1.weight)
    assert built["GradScale 1"].grad_scale.power == 1


def recorded_search(root, losses):
    """A search at ``cifar10-rates-cpu`` of the default condition: loss by learning rate, NaN where it diverged."""
    for lr, loss in losses.items():
        table = pd.DataFrame({"epoch": [1, 2], "loss": [5.0, loss], "diverged": bool(np.isnan(loss))})
        table = table.dropna()
        job = {"condition": "default", "lr": lr, "seed": 0}
        entry = {"job": job, "settings": {}, "other_training_settings": {}}
        Store(root).write("cifar10-rates-cpu", {"epochs": table}, entry)


def test_learning_rates_come_from_the_whole_search_only(tmp_path):
    rates = experiments.EXPERIMENTS["cifar10-rates-cpu"].settings["lrs"]
    recorded_search(tmp_path, {lr: 5 - lr for lr in rates[:-1]})
    words = f"rates-cpu is needed first, and {len(rates) - 1} of these {len(rates)} jobs .* record cifar10-rates-cpu"
    with pytest.raises(FileNotFoundError, match=words):
        cifar10.best_rate(Store(tmp_path), "cifar10-rates-cpu", "default")
    recorded_search(tmp_path, {rates[-1]: np.nan})
    assert cifar10.best_rate(Store(tmp_path), "cifar10-rates-cpu", "default") == rates[-2]
    recorded_search(tmp_path, dict.fromkeys(rates, np.nan))
    with pytest.raises(ValueError, match="all runs of 'default' in cifar10-rates-cpu diverged"):
        cifar10.best_rate(Store(tmp_path), "cifar10-rates-cpu", "default")


@pytest.mark.parametrize("slope", [1, -1])
def test_a_search_whose_best_rate_is_its_last_warns(slope, tmp_path):
    rates = experiments.EXPERIMENTS["cifar10-rates-cpu"].settings["lrs"]
    recorded_search(tmp_path, {lr: 5 + slope * lr for lr in rates})
    with pytest.warns(UserWarning, match="cifar10-rates-cpu does not bracket the best rate of 'default'"):
        assert cifar10.best_rate(Store(tmp_path), "cifar10-rates-cpu", "default") == rates[0 if slope > 0 else -1]


@pytest.mark.parametrize("condition", cifar10.CONDITIONS)
def test_the_recorded_search_brackets_the_best_rates(condition, recwarn):
    cifar10.best_rate(RECORDED, "cifar10-rates-cpu", condition)
    assert not recwarn.list


def test_provenance_says_what_the_network_is_made_of():
    settings = experiments.EXPERIMENTS["cifar10-rates-cpu"].settings
    jobs = [job for job in cifar10.jobs(settings, RECORDED) if job["lr"] == settings["lrs"][0]]
    made_of = {job["condition"]: cifar10.configuration(settings, job)["architecture"] for job in jobs}
    assert made_of["default"] == made_of["cut 3"]
    assert made_of["GradScale 1"]["grad_scale"] == "GradScale(power=1.0)"
    assert made_of["default"]["backbone.conv1"].startswith("Conv2d(3, 16, kernel_size=(3, 3), stride=(2, 2)")


@pytest.mark.parametrize("name", NAMES)
def test_plans_are_whole(name, monkeypatch):
    """Settings survive JSON, recipes can be built for every run, and the work is counted."""
    monkeypatch.setattr(cifar10, "best_rate", lambda store, search, condition: 0.1)
    experiment = experiments.EXPERIMENTS[name]
    settings = json.loads(json.dumps(experiment.settings))
    assert settings == experiment.settings
    plan = cifar10.jobs(settings, RECORDED)
    recipe, runs, pairs = experiment.work(experiment.settings)
    assert len(plan) == runs
    assert recipe == ("cpu" if name.endswith("-cpu") else "paper")
    built = [cifar10.recipe_of(settings, job) for job in plan]
    assert len({str(each) for each in built}) == runs  # no two runs are the same
    assert pairs <= runs * 50_000 * settings["change"]["epochs"]


@pytest.mark.parametrize("name", NAMES)
def test_smoke_runs_of_every_experiment_leave_its_tables(name, monkeypatch):
    monkeypatch.setenv("TQDM_DISABLE", "1")
    tables = experiments.smoke(name)
    assert {"steps", "epochs", "norms"} <= tables.keys()
    assert ("samples" in tables) == (experiments.EXPERIMENTS[name].settings["samples"] != "none")
    assert tables["epochs"].groupby(["condition", "lr", "seed"])["loss"].count().eq(2).all()
