"""Recorded runs: what is read, what is run, and that nothing half-written passes for whole."""

import dataclasses
import math
from pathlib import Path

import pandas as pd
import pytest
import torch

from normcourse import experiments
from normcourse.experiments import digits
from normlib import data, models


@pytest.fixture
def tiny(monkeypatch, tmp_path):
    """Two experiments that say with which settings they ran, one of a single run and one of four; no real folder."""
    calls = []

    def run(settings, job, folder):
        calls.append((settings, job))
        return {"table": pd.DataFrame({"x": range(settings["rows"])})}

    def jobs(settings):
        return [{"condition": name, "seed": seed} for name in ("plain", "cut 3") for seed in range(2)]

    arguments = ("Does it run?", {"rows": 5, "seed": 0}, {"rows": 2}, run, lambda settings: data.digits())
    named = {"tiny": experiments.Experiment(*arguments), "many": experiments.Experiment(*arguments, jobs=jobs)}
    monkeypatch.setattr(experiments, "EXPERIMENTS", named)
    monkeypatch.setattr(experiments, "RESULTS", tmp_path / "results")
    monkeypatch.setattr(experiments, "RUNS", tmp_path / "runs")
    monkeypatch.delenv("NORMLIB_MODE", raising=False)
    return calls


SETTINGS = {"rows": 5, "seed": 0}


def test_each_mode_does_what_it_says(tiny, monkeypatch, tmp_path):
    experiments.record("tiny")
    assert tiny == [(SETTINGS, {})]
    assert experiments.load_or_run("tiny")["table"]["x"].tolist() == [0, 1, 2, 3, 4]
    assert len(tiny) == 1  # recorded mode runs nothing
    monkeypatch.setenv("NORMLIB_MODE", "smoke")
    assert len(experiments.load_or_run("tiny")["table"]) == 2
    monkeypatch.setenv("NORMLIB_MODE", "full")
    assert len(experiments.load_or_run("tiny")["table"]) == 5
    assert [settings for settings, _ in tiny[1:]] == [{"rows": 2, "seed": 0}, SETTINGS]
    experiments.load_or_run("tiny")
    assert len(tiny) == 3  # full mode goes on where it was: here, at the end
    assert len(experiments.load("tiny")["table"]) == 5
    assert len(tiny) == 3  # load only reads
    assert sorted(path.name for path in tmp_path.iterdir()) == ["results", "runs"]


def test_an_experiment_of_many_runs_is_recorded_in_pieces_and_read_as_one(tiny):
    experiments.record("many", shard=(2, 3))
    assert [job for _, job in tiny] == [{"condition": "plain", "seed": 1}]
    assert len(experiments.missing("many")) == 3
    experiments.record("many")
    assert len(tiny) == 4  # what was there is not run again
    assert experiments.missing("many") == []
    table = experiments.load_or_run("many")["table"]
    assert table.groupby(["condition", "seed"]).size().to_dict() == {
        (c, s): 5 for c in ("plain", "cut 3") for s in (0, 1)
    }
    assert [run["job"]["seed"] for run in experiments.provenance("many")["runs"]] == [0, 1, 0, 1]
    experiments.record("many", overwrite=True)
    assert len(tiny) == 8


@pytest.mark.parametrize("name", ["tiny", "many"])
def test_other_settings_make_a_record_incomplete(tiny, name):
    experiments.record(name)
    assert experiments.missing(name) == []
    experiments.EXPERIMENTS[name].settings["rows"] = 6
    assert experiments.missing(name) == experiments.EXPERIMENTS[name].jobs({})


def test_more_runs_leave_those_that_are_recorded_current(tiny, monkeypatch):
    experiments.record("many")
    experiments.EXPERIMENTS["many"].settings["seeds"] = 3
    more = dataclasses.replace(
        experiments.EXPERIMENTS["many"], jobs=lambda settings: [{"condition": "plain", "seed": 7}]
    )
    assert experiments.missing("many") == []
    monkeypatch.setitem(experiments.EXPERIMENTS, "many", more)
    assert experiments.missing("many") == [{"condition": "plain", "seed": 7}]


def test_another_recipe_makes_a_run_incomplete(tiny, monkeypatch):
    experiments.record("many")
    other = dataclasses.replace(
        experiments.EXPERIMENTS["many"], configuration=lambda settings, job: {"lr": job["seed"]}
    )
    monkeypatch.setitem(experiments.EXPERIMENTS, "many", other)
    assert len(experiments.missing("many")) == 4


def test_a_run_that_fails_keeps_those_before_it_and_its_own_state(tiny, monkeypatch, tmp_path):
    experiment, broken = experiments.EXPERIMENTS["many"], [True]

    def run(settings, job, folder):
        if job["seed"] == 1 and broken:
            folder.mkdir(parents=True)
            (folder / "checkpoint").write_text("half")
            raise OSError("No space left on device")
        if job == {"condition": "plain", "seed": 1}:
            assert (folder / "checkpoint").read_text() == "half"
        return experiment.run(settings, job, folder)

    monkeypatch.setitem(experiments.EXPERIMENTS, "many", dataclasses.replace(experiment, run=run))
    with pytest.raises(OSError, match="No space"):
        experiments.record("many")
    assert len(experiments.missing("many")) == 3
    broken.clear()
    experiments.record("many")
    assert experiments.missing("many") == []
    assert not list((tmp_path / "runs").rglob("checkpoint"))  # a recorded run leaves no state behind


def test_reproduction_compares_and_leaves_the_record_alone(tiny, monkeypatch):
    folder = experiments.record("many")
    before = {path: path.read_bytes() for path in folder.rglob("*.*")}
    same = experiments.reproduce("many", shard=(1, 2))
    assert len(same) == 2  # two of four runs, one table of one column
    assert same["identical"].all()
    assert (same["difference"] == 0).all()
    experiment = experiments.EXPERIMENTS["many"]

    def other(settings, job, folder):
        return {"table": pd.DataFrame({"x": [value + 2 for value in range(settings["rows"])]})}

    monkeypatch.setitem(experiments.EXPERIMENTS, "many", dataclasses.replace(experiment, run=other))
    both = experiments.reproduce("many").set_index(["condition", "seed"])  # two of them were run before
    assert both["identical"].tolist() == [True, False, True, False]
    assert both.loc[("plain", 1), ["recorded", "now", "difference"]].tolist() == [2, 4, 0.5]
    assert {path: path.read_bytes() for path in folder.rglob("*.*")} == before


def test_each_run_is_reproduced_with_its_own_settings(tiny):
    """More conditions, say, were added to the experiment after its first runs were recorded."""
    experiments.record("many", shard=(1, 2))
    experiments.EXPERIMENTS["many"].settings["seeds"] = 3
    experiments.record("many", shard=(2, 2))
    tiny.clear()
    experiments.reproduce("many")
    assert {tuple(job.values()): settings.get("seeds") for settings, job in tiny} == {
        ("plain", 0): None, ("plain", 1): 3, ("cut 3", 0): None, ("cut 3", 1): 3,
    }  # fmt: skip


def test_a_reproduction_of_an_earlier_record_is_run_again(tiny):
    experiments.record("tiny")
    experiments.reproduce("tiny")
    experiments.EXPERIMENTS["tiny"].settings["rows"] = 6
    experiments.record("tiny")
    assert experiments.reproduce("tiny")["identical"].all()


@pytest.mark.filterwarnings("error")
def test_a_run_that_diverges_again_is_identical(tiny, monkeypatch):
    def run(settings, job, folder):
        return {"table": pd.DataFrame({"norm": [1.0, math.inf], "knn": [math.nan, math.nan]})}

    monkeypatch.setitem(experiments.EXPERIMENTS, "tiny", dataclasses.replace(experiments.EXPERIMENTS["tiny"], run=run))
    experiments.record("tiny")
    table = experiments.reproduce("tiny")
    assert table["identical"].all()
    assert table["difference"].tolist() == [0, 0]


def test_a_flipped_boolean_is_noticed(tiny, monkeypatch):
    answers = [True, False, True, True]

    def run(settings, job, folder):
        return {"samples": pd.DataFrame({"knn_correct": answers, "name": list("abcd")})}

    monkeypatch.setitem(experiments.EXPERIMENTS, "tiny", dataclasses.replace(experiments.EXPERIMENTS["tiny"], run=run))
    experiments.record("tiny")
    answers[0] = False
    (row,) = experiments.reproduce("tiny").to_dict("records")
    assert (row["column"], row["recorded"], row["now"], row["identical"]) == ("knn_correct", 0.75, 0.5, False)


def test_provenance_has_the_speed_where_epochs_were_timed(tiny, monkeypatch):
    def run(settings, job, folder):
        return {"epochs": pd.DataFrame({"epoch": [0, 1, 2, 3], "pairs_per_second": [math.nan, 1000.0, 1200.4, 900.0]})}

    experiments.record("tiny")
    assert experiments.provenance("tiny")["pairs_per_second"] is None
    monkeypatch.setitem(experiments.EXPERIMENTS, "tiny", dataclasses.replace(experiments.EXPERIMENTS["tiny"], run=run))
    experiments.record("tiny", overwrite=True)
    assert experiments.provenance("tiny")["pairs_per_second"] == 1000


@pytest.mark.parametrize("name", ["digits-simclr", "digits-interventions"])
def test_an_experiment_on_digits_goes_on_after_its_last_whole_run(name, monkeypatch, tmp_path):
    monkeypatch.setenv("TQDM_DISABLE", "1")
    experiment = experiments.EXPERIMENTS[name]
    settings = experiment.settings | experiment.smoke
    fit, begun = digits.fit, []

    def cut_off_in_the_third(*arguments, **options):
        begun.append(arguments)
        if len(begun) == 3:
            raise KeyboardInterrupt
        return fit(*arguments, **options)

    whole = experiment.run(settings, {}, tmp_path / "whole")
    monkeypatch.setattr(digits, "fit", cut_off_in_the_third)
    with pytest.raises(KeyboardInterrupt):
        experiment.run(settings, {}, tmp_path / "parts")
    parts = experiment.run(settings, {}, tmp_path / "parts")
    runs = len(list((tmp_path / "whole").iterdir()))
    assert len(begun) == runs + 1
    for table in whole:
        pd.testing.assert_frame_equal(parts[table], whole[table], check_exact=True)


def test_provenance_names_all_that_a_number_depends_on(tiny):
    experiments.record("tiny")
    about = experiments.provenance("tiny")
    assert about["settings"] == SETTINGS
    assert about["data_fingerprint"] == data.digits().fingerprint()
    assert {"code", "torch", "device", "threads", "seconds", "date", "python"} <= set(about)
    assert about["other_training_settings"]["temperature"] == 0.5
    assert "seed" not in about["other_training_settings"]


def test_a_failing_write_leaves_the_earlier_record_whole(tiny, monkeypatch):
    folder = experiments.record("tiny")
    before = {path.name: path.read_bytes() for path in folder.iterdir()}

    def broken(self, path, **options):
        path.write_bytes(b"half")
        raise OSError("No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(pd.DataFrame, "to_parquet", broken)
        with pytest.raises(OSError, match="No space left"):
            experiments.record("tiny", overwrite=True)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    assert [path.name for path in folder.parent.iterdir()] == ["tiny"]


def test_recording_again_replaces(tiny):
    folder = experiments.record("tiny")
    (folder / "stale.parquet").write_bytes(b"")
    experiments.record("tiny", overwrite=True)
    assert sorted(path.name for path in folder.iterdir()) == ["provenance.json", "table.parquet"]


def test_unknown_and_unrecorded_names_are_refused(tiny):
    for function in (
        experiments.load_or_run,
        experiments.record,
        experiments.provenance,
        experiments.reproduce,
        experiments.missing,
    ):
        with pytest.raises(ValueError, match="name must be one of 'tiny', 'many', got 'other'"):
            function("other")
    for function in (experiments.load, experiments.load_or_run, experiments.provenance, experiments.reproduce):
        with pytest.raises(FileNotFoundError, match=r"record it with: python -m normcourse record tiny"):
            function("tiny")


def test_runs_of_other_settings_are_left_out(tiny, monkeypatch):
    experiments.record("many")
    fewer = dataclasses.replace(
        experiments.EXPERIMENTS["many"], jobs=lambda settings: [{"condition": "plain", "seed": 1}]
    )
    monkeypatch.setitem(experiments.EXPERIMENTS, "many", fewer)
    assert set(experiments.load_or_run("many")["table"]["seed"]) == {1}


def test_a_record_that_cannot_take_its_place_puts_the_earlier_one_back(tiny, monkeypatch):
    folder = experiments.record("tiny")
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    rename = Path.rename

    def fails_once_the_earlier_is_away(self, target):
        if self.name == "new":
            raise KeyboardInterrupt
        return rename(self, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", fails_once_the_earlier_is_away)
        with pytest.raises(KeyboardInterrupt):
            experiments.record("tiny", overwrite=True)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_a_part_without_runs_is_refused(tiny):
    experiments.record("tiny")
    with pytest.raises(ValueError, match="part 2/2 has no runs: the experiment has 1"):
        experiments.reproduce("tiny", shard=(2, 2))


@pytest.mark.parametrize("part", [(0, 2), (3, 2), (1, 0)])
def test_parts_that_are_none_are_refused(tiny, part):
    with pytest.raises(ValueError, match="part must be"):
        experiments.record("many", shard=part)
    assert tiny == []


RECORDED = [name for name in experiments.EXPERIMENTS if (experiments.RESULTS / name).is_dir()]


@pytest.mark.parametrize("name", RECORDED)
def test_committed_records_are_of_the_experiment_as_it_stands(name):
    """A record made with other settings or other data would silently show other numbers than the text describes."""
    experiment, about = experiments.EXPERIMENTS[name], experiments.provenance(name)
    left = experiments.missing(name)
    for run in about["runs"]:
        assert run.get("job", {}) in experiment.jobs(experiment.settings)
        experiments._check_run(run, experiment, name)  # it can be reproduced
        assert run.get("job", {}) not in left
        assert not run["code"].endswith("-dirty")
    if name.startswith("cifar10"):
        assert {run["data"] for run in about["runs"]} == {"cifar10-jpeg-train"}
    else:
        assert about["data_fingerprint"] == data.digits().fingerprint()


def test_records_of_one_data_set_have_one_fingerprint():
    runs = [run for name in RECORDED for run in experiments.provenance(name)["runs"]]
    by_name = {run["data"]: run["data_fingerprint"] for run in runs}
    assert all(by_name[run["data"]] == run["data_fingerprint"] for run in runs)


@pytest.mark.parametrize("name", RECORDED)
def test_recorded_files_are_small(name):
    sizes = {path.name: path.stat().st_size for path in (experiments.RESULTS / name).rglob("*.parquet")}
    assert max(sizes.values()) < 2_000_000, sizes


def test_digits_record_is_complete():
    tables, settings = experiments.load_or_run("digits-simclr"), experiments.provenance("digits-simclr")["settings"]
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


def test_interventions_record_is_complete():
    tables, settings = (
        experiments.load_or_run("digits-interventions"),
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
    networks = {name: digits._changed_network(8, 0, **change[name]) for name in change}
    with torch.no_grad():
        z = {name: network(images) for name, network in networks.items()}
    torch.testing.assert_close(z["last layer times 100"], 100 * z["default"])
    torch.testing.assert_close(z["default, p = 1"], z["default"])
    assert networks["default, p = 1"].grad_scale.power == 1
    frozen = [name for name, parameter in networks["no biases"].named_parameters() if not parameter.requires_grad]
    assert len(frozen) == len(models.DIGITS_LAYERS)


def test_a_run_that_diverges_is_recorded_as_diverged(tmp_path):
    settings = {
        "conditions": {"wild": {"cut": 1 / 4, "power": 2}}, "lrs": {"wild": [10.0]}, "seeds": 1,
        "epochs": 4, "last_epochs": 1, "batch_size": 512, "width": 4,
    }  # fmt: skip
    tables = digits.run_interventions(settings, tmp_path)
    assert tables["runs"]["diverged"].tolist() == [True]
    assert tables["runs"]["final_loss"].isna().all()
    assert tables["epochs"]["loss"].isna().all()
    assert tables["epochs"]["norm"].iloc[0] == tables["runs"]["initial_norm"].iloc[0]
