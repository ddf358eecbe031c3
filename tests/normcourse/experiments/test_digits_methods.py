"""The experiment on methods beside SimCLR: its search, its choice, its record, and how it goes on."""

import pandas as pd
import pytest
import torch

from normcourse import experiments
from normcourse.experiments import digits_methods
from normlib import evaluation

FULL = experiments.EXPERIMENTS["digits-methods"].settings
TINY = FULL | {
    "methods": {"simsiam": FULL["methods"]["simsiam"], "vicreg": FULL["methods"]["vicreg"]},
    "conditions": {"default": {}, "cut": {"cut": 3.0}},
    "lrs": {"simsiam": {"default": [0.1, 0.2], "cut": [0.01]}, "vicreg": {"default": [0.01], "cut": [0.01]}},
    "search_seeds": 1,
    "seeds": 2,
    "change": FULL["change"] | {"epochs": 2, "warmup_epochs": 0, "batch_size": 512},
    "look_every": 1,
    "draws": 2,
}


def test_a_stopped_recording_goes_on_after_its_last_whole_run(monkeypatch, tmp_path):
    monkeypatch.setenv("TQDM_DISABLE", "1")
    fit, begun = digits_methods.fit, []

    def cut_off_in_the_fourth(*arguments, **options):
        begun.append(arguments)
        if len(begun) == 4:
            raise KeyboardInterrupt
        return fit(*arguments, **options)

    whole = digits_methods.run(TINY, tmp_path / "whole")
    monkeypatch.setattr(digits_methods, "fit", cut_off_in_the_fourth)
    with pytest.raises(KeyboardInterrupt):
        digits_methods.run(TINY, tmp_path / "parts")
    parts = digits_methods.run(TINY, tmp_path / "parts")
    assert len(begun) == 5 + 4 * 2 + 1  # each run once, and the one that was cut off again
    assert whole.keys() == {"search", "runs", "epochs"}
    for name, table in whole.items():
        pd.testing.assert_frame_equal(parts[name], table, check_exact=True)


def test_rates_are_chosen_among_those_at_which_every_seed_finished():
    rows = [
        ("byol", "cut", lr, score, ended) for lr, score, ended in [(1, 0.7, ""), (2, 0.8, ""), (3, None, "divergence")]
    ]
    rows += [("byol", "cut", lr, score, "") for lr, score in [(1, 0.9), (2, 0.7), (3, 0.99)]]
    rows += [("byol", "default", 1, None, "complete collapse")]
    search = pd.DataFrame(rows, columns=["method", "condition", "lr", "score", "ended"])
    assert digits_methods.best_rates(search) == {("byol", "cut"): 1.0}


def test_each_method_has_its_cut_and_each_seed_its_unseen_digits():
    def recipe(method, condition, seed):
        return digits_methods.recipe_of(FULL, {"method": method, "condition": condition, "lr": 0.1, "seed": seed})

    assert (recipe("simclr", "cut", 0).cut, recipe("byol", "cut", 0).cut, recipe("byol", "default", 0).cut) == (3, 9, 1)
    assert recipe("decoupled", "GradScale", 0).train.denominator == "decoupled"
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


def test_a_divergence_ends_a_run_and_is_named():
    job = {"method": "vicreg", "condition": "default", "lr": 1e4, "seed": 0}
    with pytest.warns(UserWarning, match="vicreg, lr 10000, seed 0: divergence"):
        row = digits_methods.final_run(TINY, job)["runs"].iloc[0]
    assert row["ended"] == "divergence"
    assert "accuracy" not in row
    assert 0 < row["accuracy_before"] < 1


def test_the_record_is_complete_and_names_what_ended_early():
    tables = experiments.load("digits-methods")
    search, done, epochs = tables["search"], tables["runs"], tables["epochs"]
    assert experiments.missing("digits-methods") == []
    assert len(search) == len(digits_methods.search_jobs(FULL))
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


def test_few_label_hits_average_to_the_accuracy():
    h = torch.randn(40, 3, generator=torch.Generator().manual_seed(0))
    labels = torch.arange(40) % 4
    hits = evaluation.few_shot_correct(h[::2], labels[::2], h[1::2], labels[1::2], labels_per_class=2, draws=5)
    assert hits.shape == (5, 20)
    expected = evaluation.few_shot_accuracy(h[::2], labels[::2], h[1::2], labels[1::2], labels_per_class=2, draws=5)
    assert hits.mean(axis=1).tolist() == expected.tolist()
