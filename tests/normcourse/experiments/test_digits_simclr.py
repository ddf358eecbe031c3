"""The record of SimCLR on digits is complete."""

import math

from normcourse import experiments
from normlib import data, models


def test_digits_record_is_complete():
    tables, settings = experiments.load("digits-simclr"), experiments.provenance("digits-simclr")["settings"]
    runs = len(settings["lrs"]) * settings["seeds"]
    steps, epochs, samples = tables["steps"], tables["epochs"], tables["samples"]
    assert steps.groupby(["lr", "seed"]).ngroups == runs
    assert set(steps["layer"]) == set(models.DIGITS_LAYERS)
    assert len(epochs) == runs * (settings["epochs"] // settings["evaluate_every"] + 1)
    assert len(samples) == runs * 2 * 450
    assert set(samples["index"]) == set(data.digits("test").indices.tolist())
    for frame in tables.values():
        assert not frame.isna().any().any()
    untrained = steps[(steps["step"] == 0)]["loss"]
    assert (abs(untrained - math.log(2 * settings["batch_size"] - 1)) < 0.05).all()
