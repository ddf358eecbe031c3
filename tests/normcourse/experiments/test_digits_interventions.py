"""Interventions on digits: networks start as named, and the record is complete."""

import torch

from normcourse import experiments
from normcourse.experiments import digits_interventions
from normlib import data, models


def test_interventions_record_is_complete():
    tables, settings = (
        experiments.load("digits-interventions"),
        experiments.provenance("digits-interventions")["settings"],
    )
    runs, epochs = tables["runs"], tables["epochs"]
    assert {name: sorted(set(part["lr"])) for name, part in runs.groupby("condition")} == settings["lrs"]
    assert len(runs) == sum(len(lrs) for lrs in settings["lrs"].values()) * settings["seeds"]
    assert (runs["final_loss"].isna() == runs["diverged"]).all()
    run = ["condition", "lr", "seed"]
    done = epochs.merge(runs[~runs["diverged"]], on=run)
    assert len(done) == (~runs["diverged"]).sum() * settings["epochs"]
    assert not done[["loss", "norm"]].isna().any().any()
    initial = runs.groupby(["condition", "seed"])["initial_norm"].agg(["min", "max"])
    assert (initial["min"] == initial["max"]).all()  # the learning rate cannot matter before the first step


def test_changed_networks_start_as_named():
    """The last layer times 100 is the default network with embeddings 100 times longer, and nothing else."""
    images = data.digits("test").images.float() / 255
    change = experiments.EXPERIMENTS["digits-interventions"].settings["conditions"]
    networks = {name: digits_interventions._changed_network(8, 0, **change[name]) for name in change}
    with torch.no_grad():
        z = {name: network(images) for name, network in networks.items()}
    torch.testing.assert_close(z["last layer times 100"], 100 * z["default"])
    torch.testing.assert_close(z["default, p = 1"], z["default"])
    assert networks["default, p = 1"].grad_scale.power == 1
    frozen = [name for name, parameter in networks["no biases"].named_parameters() if not parameter.requires_grad]
    assert len(frozen) == len(models.DIGITS_LAYERS)
