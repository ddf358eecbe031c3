"""The experiment on methods beside SimCLR: its search, its choice, its record, and how it goes on."""

import pandas as pd
import pytest
import torch

from normcourse import experiments
from normcourse.experiments import digits_methods
from normcourse.experiments.store import Store
from normcourse.paths import RESULTS

FULL = experiments.EXPERIMENTS["digits-methods"].settings
RECORDED = Store(RESULTS)
TINY = FULL | {
    "methods": {"simsiam": FULL["methods"]["simsiam"], "vicreg": FULL["methods"]["vicreg"]},
    "conditions": {"default": {}, "cut": {"cut": 3.0}},
    "seeds": 2,
    "change": FULL["change"] | {"epochs": 2, "warmup_epochs": 0, "batch_size": 512},
    "look_every": 1,
    "draws": 2,
}


def test_rates_are_chosen_among_those_at_which_every_seed_finished():
    rows = [
        ("byol", "cut", lr, score, ended) for lr, score, ended in [(1, 0.7, ""), (2, 0.8, ""), (3, None, "divergence")]
    ]
    rows += [("byol", "cut", lr, score, "") for lr, score in [(1, 0.9), (2, 0.7), (3, 0.99)]]
    rows += [("byol", "default", 1, None, "complete collapse")]
    search = pd.DataFrame(rows, columns=["method", "condition", "lr", "score", "ended"])
    assert digits_methods.best_rates(search) == {("byol", "cut"): 1.0}


def test_the_trainings_are_at_the_rates_that_the_complete_search_found(tmp_path):
    jobs = digits_methods.jobs(FULL, RECORDED)
    best = digits_methods.best_rates(experiments.load("digits-methods-search")["search"])
    assert {(job["method"], job["condition"]): job["lr"] for job in jobs} == best
    with pytest.raises(FileNotFoundError, match="digits-methods-search is needed first, and 0 of these"):
        digits_methods.jobs(FULL, Store(tmp_path))


def test_each_method_has_its_cut_and_each_seed_its_unseen_digits():
    def recipe(method, condition, seed):
        return digits_methods.recipe_of(FULL, {"method": method, "condition": condition, "lr": 0.1, "seed": seed})

    assert (recipe("simclr", "cut", 0).cut, recipe("byol", "cut", 0).cut, recipe("byol", "default", 0).cut) == (3, 9, 1)
    assert recipe("decoupled", "GradScale", 0).denominator == "decoupled"
    unseen = [digit for seed in range(FULL["seeds"]) for digit in recipe("simclr", "default", seed).held_out]
    assert sorted(unseen) == list(range(10))


@pytest.mark.parametrize("c", [3.0, 9.0])
def test_a_cut_shortens_embeddings_by_c_and_keeps_their_directions(c):
    """Nothing is added behind the last BatchNorm: so the equivalence of the chapter is about rates alone."""
    job = {"method": "simclr", "condition": "default", "lr": 0.1, "seed": 0}
    recipe = digits_methods.recipe_of(FULL, job)
    x = torch.rand(64, 1, 8, 8)
    long = recipe.build_model().train()(x)
    short = recipe.replace(cut=c).build_model().train()(x)
    torch.testing.assert_close(c * short, long, rtol=0.02, atol=0.02)  # BatchNorm's small constant is all that differs


def test_a_collapse_ends_a_run_and_is_named():
    job = {"method": "simsiam", "condition": "default", "lr": 0.1, "seed": 0}
    recipe = digits_methods.recipe_of(TINY, job)
    narrow = recipe.images().subset(torch.zeros(600, dtype=torch.int64))  # one image, over and over
    with pytest.warns(UserWarning, match=r"simsiam, lr 0.1, seed 0: complete collapse"):
        _, curve, ended = digits_methods.train(TINY, recipe, narrow)
    assert ended == "complete collapse"
    assert curve["loss"].isna().all()
    assert curve["spread"].iloc[-1] < 0.05


def test_a_divergence_ends_a_run_and_is_named(tmp_path):
    job = {"method": "vicreg", "condition": "default", "lr": 1e4, "seed": 0}
    with pytest.warns(UserWarning, match="vicreg, lr 10000, seed 0: divergence"):
        row = digits_methods.run(TINY, job, tmp_path)["runs"].iloc[0]
    assert row["ended"] == "divergence"
    assert "accuracy" not in row
    assert 0 < row["accuracy_before"] < 1


def test_the_record_is_complete_and_names_what_ended_early():
    search = experiments.load("digits-methods-search")["search"]
    tables = experiments.load("digits-methods")
    done, epochs = tables["runs"], tables["epochs"]
    assert experiments.missing("digits-methods") == experiments.missing("digits-methods-search") == []
    assert len(search) == len(digits_methods.search_jobs(digits_methods.SEARCH.settings, RECORDED))
    assert (search["ended"] != "").equals(search["score"].isna())
    assert set(search["ended"]) <= {"", "divergence", "complete collapse", "dimensional collapse"}
    chosen = digits_methods.best_rates(search)
    assert done.groupby(["method", "condition"]).ngroups == len(chosen) == 21
    for (method, condition), runs in done.groupby(["method", "condition"]):
        assert set(runs["lr"]) == {chosen[method, condition]}
        assert sorted(runs["seed"]) == list(range(FULL["seeds"]))
    assert epochs.groupby(["method", "condition", "seed"])["epoch"].max().eq(FULL["change"]["epochs"]).all()


def test_untrained_networks_of_one_seed_are_judged_alike_by_every_loss():
    before = experiments.load("digits-methods")["runs"].query("condition == 'default'")
    joint = before[before["norm_p"].isna()].groupby("seed")["accuracy_before"]
    assert (joint.max() - joint.min()).eq(0).all()
