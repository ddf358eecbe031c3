"""Recorded runs: what is read, what is run, and that nothing half-written passes for whole."""

import json
import math

import pandas as pd
import pytest
import torch

from normlib import _digits_runs, data, records


@pytest.fixture
def tiny(monkeypatch, tmp_path):
    """One experiment that says with which settings it ran; results go to a temporary folder."""
    calls = []

    def run(settings):
        calls.append(settings)
        return {"table": pd.DataFrame({"x": range(settings["rows"])})}

    experiment = records.Experiment("Does it run?", {"rows": 5, "seed": 0}, {"rows": 2}, run, data.digits)
    monkeypatch.setattr(records, "EXPERIMENTS", {"tiny": experiment})
    monkeypatch.setattr(records, "RESULTS", tmp_path / "results")
    monkeypatch.delenv("NORMLIB_MODE", raising=False)
    return calls


def test_each_mode_does_what_it_says(tiny, monkeypatch):
    records.record("tiny")
    assert tiny == [{"rows": 5, "seed": 0}]
    assert records.load_or_run("tiny")["table"]["x"].tolist() == [0, 1, 2, 3, 4]
    assert len(tiny) == 1  # recorded mode runs nothing
    monkeypatch.setenv("NORMLIB_MODE", "smoke")
    assert len(records.load_or_run("tiny")["table"]) == 2
    monkeypatch.setenv("NORMLIB_MODE", "full")
    assert len(records.load_or_run("tiny")["table"]) == 5
    assert tiny[1:] == [{"rows": 2, "seed": 0}, {"rows": 5, "seed": 0}]


def test_provenance_names_all_that_a_number_depends_on(tiny):
    records.record("tiny")
    about = records.provenance("tiny")
    assert about["settings"] == {"rows": 5, "seed": 0}
    assert about["data_fingerprint"] == data.digits().fingerprint()
    assert {"code", "torch", "device", "seconds", "date", "python"} <= set(about)
    assert about["other_training_settings"]["temperature"] == 0.5
    assert "seed" not in about["other_training_settings"]


def test_a_failing_run_leaves_the_earlier_record_whole(tiny, monkeypatch):
    folder = records.record("tiny")
    before = {path.name: path.read_bytes() for path in folder.iterdir()}

    def broken(self, path, **options):
        path.write_bytes(b"half")
        raise OSError("No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(pd.DataFrame, "to_parquet", broken)
        with pytest.raises(OSError, match="No space left"):
            records.record("tiny")
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    assert [path.name for path in folder.parent.iterdir()] == ["tiny"]


def test_recording_again_replaces(tiny):
    folder = records.record("tiny")
    (folder / "stale.parquet").write_bytes(b"")
    records.record("tiny")
    assert sorted(path.name for path in folder.iterdir()) == ["provenance.json", "table.parquet"]


def test_unknown_and_unrecorded_names_are_refused(tiny):
    for function in (records.load_or_run, records.record, records.provenance):
        with pytest.raises(ValueError, match="name must be one of tiny, got 'other'"):
            function("other")
    for function in (records.load_or_run, records.provenance):
        with pytest.raises(FileNotFoundError, match=r"record it with: python -m normlib.records tiny"):
            function("tiny")


@pytest.mark.parametrize("name", sorted(records.EXPERIMENTS))
def test_committed_records_are_of_the_experiment_as_it_stands(name):
    """A record made with other settings or other data would silently show other numbers than the text describes."""
    experiment, about = records.EXPERIMENTS[name], records.provenance(name)
    assert about["settings"] == json.loads(json.dumps(experiment.settings))
    assert about["data_fingerprint"] == experiment.images().fingerprint()
    assert not about["code"].endswith("-dirty")


def test_digits_record_is_complete():
    tables, settings = records._load("digits-simclr"), records.provenance("digits-simclr")["settings"]
    runs = len(settings["lrs"]) * settings["seeds"]
    steps, epochs, samples = tables["steps"], tables["epochs"], tables["samples"]
    assert steps.groupby(["lr", "seed"]).ngroups == runs
    assert set(steps["layer"]) == set(records.DIGITS_LAYERS)
    assert len(epochs) == runs * (settings["epochs"] // settings["evaluate_every"] + 1)
    assert len(samples) == runs * 2 * 450
    assert set(samples["index"]) == set(data.digits("test").indices.tolist())
    for frame in tables.values():
        assert not frame.isna().any().any()
    untrained = steps[(steps["step"] == 0)]["loss"]
    assert (abs(untrained - math.log(2 * settings["batch_size"] - 1)) < 0.05).all()


def test_interventions_record_is_complete():
    tables, settings = records._load("digits-interventions"), records.provenance("digits-interventions")["settings"]
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
    change = records.EXPERIMENTS["digits-interventions"].settings["conditions"]
    networks = {name: _digits_runs._changed_network(8, 0, **change[name]) for name in change}
    with torch.no_grad():
        z = {name: network(images) for name, network in networks.items()}
    torch.testing.assert_close(z["last layer times 100"], 100 * z["default"])
    torch.testing.assert_close(z["default, p = 1"], z["default"])
    assert networks["default, p = 1"].grad_scale.power == 1
    frozen = [name for name, parameter in networks["no biases"].named_parameters() if not parameter.requires_grad]
    assert len(frozen) == len(records.DIGITS_LAYERS)


def test_a_run_that_diverges_is_recorded_as_diverged():
    settings = {
        "conditions": {"wild": {"cut": 1 / 4, "power": 2}}, "lrs": {"wild": [10.0]}, "seeds": 1,
        "epochs": 4, "last_epochs": 1, "batch_size": 512, "width": 4,
    }  # fmt: skip
    tables = _digits_runs.run_interventions(settings)
    assert tables["runs"]["diverged"].tolist() == [True]
    assert tables["runs"]["final_loss"].isna().all()
    assert tables["epochs"]["loss"].isna().all()
    assert tables["epochs"]["norm"].iloc[0] == tables["runs"]["initial_norm"].iloc[0]
