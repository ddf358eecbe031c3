"""Running and recording: modes, pieces, limits of time, reproduction; and the records that are committed."""

import json
import math
import multiprocessing
import os
import random
import signal
import time
from pathlib import Path

import pandas as pd
import pytest

from normcourse import experiments, paths
from normcourse.experiments import runner
from normcourse.experiments.reproduction import check_entry
from normcourse.experiments.store import Store
from normlib import data

SETTINGS = {"rows": 5, "seed": 0}


def files_of(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_each_mode_does_what_it_says(made, monkeypatch, tmp_path):
    experiments.record("tiny")
    assert made.calls == [(SETTINGS, {})]
    assert experiments.load_or_run("tiny")["table"]["x"].tolist() == [0, 1, 2, 3, 4]
    assert len(made.calls) == 1  # recorded mode runs nothing
    monkeypatch.setenv("NORMLIB_MODE", "smoke")
    assert len(experiments.load_or_run("tiny")["table"]) == 2
    monkeypatch.setenv("NORMLIB_MODE", "full")
    assert len(experiments.load_or_run("tiny")["table"]) == 5
    assert [settings for settings, _ in made.calls[1:]] == [{"rows": 2, "seed": 0}, SETTINGS]
    experiments.load_or_run("tiny")
    assert len(made.calls) == 3  # full mode goes on where it was: here, at the end
    assert len(experiments.load("tiny")["table"]) == 5
    assert len(made.calls) == 3  # load only reads
    assert sorted(path.name for path in tmp_path.iterdir()) == ["results", "runs"]


def test_an_experiment_of_many_jobs_is_recorded_in_pieces_and_read_as_one(made):
    left = experiments.record("many", shard=(2, 3))
    assert [job for _, job in made.calls] == [{"condition": "plain", "seed": 1}]
    assert left.jobs == {"many": 3}
    assert str(left) == "many: 3 jobs left"
    assert len(experiments.missing("many")) == 3
    assert len(experiments.load("many")["table"]) == 5  # what is there can be read
    assert str(experiments.record("many")) == "all jobs are recorded"
    assert len(made.calls) == 4  # what was there is not run again
    assert experiments.missing("many") == []
    table = experiments.load_or_run("many")["table"]
    assert table.groupby(["condition", "seed"]).size().to_dict() == {
        (c, s): 5 for c in ("plain", "cut 3") for s in (0, 1)
    }
    assert [entry["job"]["seed"] for entry in experiments.provenance("many")["jobs"]] == [0, 1, 0, 1]
    names = sorted(path.name for path in made.results.folder("many").iterdir())
    assert names == ["provenance.json", "table.parquet"]
    experiments.record("many", overwrite=True)
    assert len(made.calls) == 8


@pytest.mark.parametrize("name", ["tiny", "many"])
def test_other_settings_make_a_record_incomplete(made, name):
    experiments.record(name)
    assert experiments.missing(name) == []
    made.change(name, settings=SETTINGS | {"rows": 6})
    assert experiments.missing(name) == made.named[name].jobs({}, made.results)


def test_more_jobs_leave_those_that_are_recorded_current(made):
    experiments.record("many")
    made.change("many", settings=SETTINGS | {"seeds": 3})
    assert experiments.missing("many") == []
    more = [*made.four({}, None), {"condition": "plain", "seed": 7}]
    made.change("many", jobs=lambda settings, store: more)
    assert experiments.missing("many") == more[-1:]
    assert len(experiments.load("many")["table"]) == 20
    experiments.record("many")
    assert len(made.calls) == 5
    assert len(experiments.load("many")["table"]) == 25


def test_jobs_that_an_experiment_has_no_longer_are_left_out(made):
    experiments.record("many")
    made.change("many", jobs=lambda settings, store: [{"condition": "plain", "seed": 1}])
    assert set(experiments.load_or_run("many")["table"]["seed"]) == {1}


def test_another_recipe_makes_a_job_incomplete(made):
    experiments.record("many")
    made.change("many", configuration=lambda settings, job: {"lr": job["seed"]})
    assert len(experiments.missing("many")) == 4


def test_a_job_that_fails_keeps_those_before_it_and_its_own_state(made, tmp_path):
    broken = [True]

    def run(settings, job, folder):
        if job["seed"] == 1 and broken:
            folder.mkdir(parents=True)
            (folder / "checkpoint").write_text("half")
            raise OSError("No space left on device")
        if job == {"condition": "plain", "seed": 1}:
            assert (folder / "checkpoint").read_text() == "half"
        return made.run(settings, job, folder)

    made.change("many", run=run)
    with pytest.raises(OSError, match="No space"):
        experiments.record("many")
    assert len(experiments.missing("many")) == 2  # both of the first seed are there
    broken.clear()
    experiments.record("many")
    assert experiments.missing("many") == []
    assert not list((tmp_path / "runs").rglob("checkpoint"))  # a recorded job leaves no state behind


def test_several_experiments_are_recorded_seed_by_seed_in_the_order_of_their_names(made):
    experiments.record("many", "tiny", "many")
    first, second = ([job for job in FOUR if job["seed"] == seed] for seed in range(2))
    assert [job for _, job in made.calls] == [*first, {}, *second]


def test_an_experiment_of_few_jobs_leaves_some_shards_none(made):
    left = experiments.record("tiny", "many", shard=(2, 2))
    assert left.jobs == {"tiny": 1, "many": 2}
    assert [job["seed"] for _, job in made.calls] == [1, 1]


FOUR = [{"condition": name, "seed": seed} for name in ("plain", "cut 3") for seed in range(2)]


def searching(settings, store):
    """Jobs that need the complete experiment ``many``, as trainings need their search."""
    store.complete("many", FOUR)
    return [{"after": "search"}]


def test_a_search_is_needed_first_and_found_in_the_folder_or_in_the_record(made, tmp_path):
    made.change("tiny", jobs=searching)
    with pytest.raises(FileNotFoundError, match="many is needed first, and 0 of these 4 jobs"):
        experiments.record("tiny")
    left = experiments.record("many", "tiny", shard=(1, 2))
    assert left.jobs == {"many": 2, "tiny": None}
    assert str(left).splitlines()[1] == "tiny: its jobs are known when its search is complete"
    assert experiments.record("many", "tiny", out=tmp_path / "gpu").jobs == {}
    assert made.calls[-1][1] == {"after": "search"}
    assert Store(tmp_path / "gpu").jobs("tiny") == [{"after": "search"}]
    assert made.results.jobs("tiny") == []
    experiments.record("many")
    made.calls.clear()
    assert experiments.record("tiny", out=tmp_path / "new").jobs == {}  # the search is in results/
    assert [job for _, job in made.calls] == [{"after": "search"}]


def test_minutes_end_the_work_and_the_next_time_goes_on(made):
    def run(settings, job, folder):
        time.sleep(1.2)
        return made.run(settings, job, folder)

    made.change("many", run=run)
    before = signal.getsignal(signal.SIGTERM)
    start = time.monotonic()
    left = experiments.record("many", minutes=3 / 60)
    assert time.monotonic() - start < 20
    done = len(made.calls)
    assert 1 <= done <= 2  # a third would not be finished by then, and is not begun
    assert left.jobs == {"many": 4 - done}
    assert signal.getsignal(signal.SIGTERM) is before
    assert experiments.record("many").jobs == {}
    assert len(made.calls) == 4


def test_a_job_that_takes_longer_than_the_minutes_is_stopped(made):
    def run(settings, job, folder):
        if job["seed"] == 1:
            time.sleep(60)
        return made.run(settings, job, folder)

    made.change("many", run=run)
    start = time.monotonic()
    left = experiments.record("many", minutes=3 / 60)
    assert time.monotonic() - start < 30
    assert left.jobs == {"many": 2}
    assert [job for _, job in made.calls] == [job for job in FOUR if job["seed"] == 0]


def test_a_signal_from_elsewhere_is_not_taken_for_the_end_of_the_time(made):
    def run(settings, job, folder):
        signal.raise_signal(signal.SIGTERM)
        time.sleep(60)

    made.change("tiny", run=run)
    with pytest.raises(KeyboardInterrupt, match="SIGTERM"):
        experiments.record("tiny", minutes=10)


def record_slowly(root):
    """What the process that is killed does: forty jobs, each noted when it begins."""
    paths.RESULTS, paths.RUNS = root / "results", root / "runs"

    def run(settings, job, folder):
        with (root / "begun").open("a") as log:
            log.write(f"{job['seed']}\n")
        time.sleep(0.02)
        return {"table": pd.DataFrame({"x": range(1000)})}

    many = experiments.Experiment(
        name="many",
        question="Is anything lost?",
        settings={"rows": 1},
        smoke={},
        jobs=lambda settings, store: [{"seed": seed} for seed in range(40)],
        run=run,
    )
    runner.EXPERIMENTS = {"many": many}
    experiments.record("many")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="processes are forked, since importing torch takes seconds")
def test_killed_at_twenty_random_moments_it_loses_nothing_but_the_job_at_hand(tmp_path, monkeypatch):
    """Real processes, really killed; each time what was finished before is still there, and the next one goes on."""
    monkeypatch.setenv("TQDM_DISABLE", "1")
    store, generator, context = Store(tmp_path / "results"), random.Random(0), multiprocessing.get_context("fork")
    finished: set[int] = set()
    for _ in range(20):
        process = context.Process(target=record_slowly, args=(tmp_path,))
        process.start()
        process.join(generator.uniform(0.0, 0.4))
        process.kill()
        process.join()
        now = {job["seed"] for job in store.jobs("many")}
        assert finished <= now
        assert len(store.tables("many").get("table", [])) == 1000 * len(now)
        finished = now
    last = context.Process(target=record_slowly, args=(tmp_path,))
    last.start()
    last.join()
    assert last.exitcode == 0
    assert store.tables("many")["table"].groupby("seed").size().tolist() == [1000] * 40
    begun = [int(line) for line in (tmp_path / "begun").read_text().split()]
    assert len(begun) <= 40 + 20  # each kill costs one job at most
    assert sorted(path.name for path in store.folder("many").iterdir()) == ["provenance.json", "table.parquet"]


def test_reproduction_compares_and_leaves_the_record_alone(made):
    experiments.record("many")
    before = files_of(made.results.folder("many"))
    same = experiments.reproduce("many", shard=(1, 2))
    assert len(same) == 2  # two of four jobs, one table of one column
    assert same["identical"].all()
    assert (same["difference"] == 0).all()

    def other(settings, job, folder):
        return {"table": pd.DataFrame({"x": [value + 2 for value in range(settings["rows"])]})}

    made.change("many", run=other)
    both = experiments.reproduce("many").set_index(["condition", "seed"])  # two of them were run before
    assert both["identical"].tolist() == [True, False, True, False]
    assert both.loc[("plain", 1), ["recorded", "now", "difference"]].tolist() == [2, 4, 0.5]
    assert files_of(made.results.folder("many")) == before
    one = experiments.reproduce("many", jobs=[FOUR[2]])
    assert one[["condition", "seed"]].to_numpy().tolist() == [["cut 3", 0]]
    with pytest.raises(ValueError, match="jobs must name recorded jobs of many"):
        experiments.reproduce("many", jobs=[{"no": "job"}])


def test_each_job_is_reproduced_with_its_own_settings(made):
    """More conditions, say, were added to the experiment after its first jobs were recorded."""
    experiments.record("many", shard=(1, 2))
    made.change("many", settings=SETTINGS | {"seeds": 3})
    experiments.record("many", shard=(2, 2))
    made.calls.clear()
    experiments.reproduce("many")
    assert {tuple(job.values()): settings.get("seeds") for settings, job in made.calls} == {
        ("plain", 0): None, ("plain", 1): 3, ("cut 3", 0): None, ("cut 3", 1): 3,
    }  # fmt: skip


def test_a_reproduction_of_an_earlier_record_is_run_again(made):
    experiments.record("tiny")
    experiments.reproduce("tiny")
    made.change("tiny", settings=SETTINGS | {"rows": 6})
    experiments.record("tiny")
    assert experiments.reproduce("tiny")["identical"].all()


@pytest.mark.filterwarnings("error")
def test_a_job_that_diverges_again_is_identical(made):
    made.change(
        "tiny",
        run=lambda *_: {"table": pd.DataFrame({"norm": [1.0, math.inf], "knn": [math.nan, math.nan]})},
    )
    experiments.record("tiny")
    table = experiments.reproduce("tiny")
    assert table["identical"].all()
    assert table["difference"].tolist() == [0, 0]


def test_a_flipped_boolean_is_noticed(made):
    answers = [True, False, True, True]
    made.change("tiny", run=lambda *_: {"samples": pd.DataFrame({"knn_correct": answers, "name": list("abcd")})})
    experiments.record("tiny")
    answers[0] = False
    (row,) = experiments.reproduce("tiny").to_dict("records")
    assert (row["column"], row["recorded"], row["now"], row["identical"]) == ("knn_correct", 0.75, 0.5, False)


def test_a_record_of_another_version_is_refused(made):
    experiments.record("many")
    made.change("many", jobs=lambda settings, store: [{"condition": "other"}])
    with pytest.raises(ValueError, match="the record of many has a job that is none of its jobs"):
        experiments.reproduce("many")


def test_provenance_has_the_speed_where_epochs_were_timed(made):
    experiments.record("tiny")
    assert experiments.provenance("tiny")["pairs_per_second"] is None
    speeds = {"epoch": [0, 1, 2, 3], "pairs_per_second": [math.nan, 1000.0, 1200.4, 900.0]}
    made.change("tiny", run=lambda *_: {"epochs": pd.DataFrame(speeds)})
    experiments.record("tiny", overwrite=True)
    assert experiments.provenance("tiny")["pairs_per_second"] == 1000


def test_provenance_names_all_that_a_number_depends_on(made):
    experiments.record("tiny")
    about = experiments.provenance("tiny")
    assert about["settings"] == SETTINGS
    assert about["data_fingerprint"] == data.digits().fingerprint()
    assert {"code", "torch", "device", "threads", "seconds", "date", "python"} <= set(about)
    assert about["other_training_settings"]["optimizer"] == "sgd"
    assert "seed" not in about["other_training_settings"]


def test_recording_again_replaces(made):
    experiments.record("tiny")
    folder = made.results.folder("tiny")
    (folder / "stale.parquet").write_bytes(b"")
    experiments.record("tiny", overwrite=True)
    assert sorted(path.name for path in folder.iterdir()) == ["provenance.json", "table.parquet"]


def test_unknown_and_unrecorded_names_are_refused(made):
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


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"shard": (0, 2)}, "shard must be"),
        ({"shard": (3, 2)}, "shard must be"),
        ({"shard": (1, 0)}, "shard must be"),
        ({"shard": 2}, r"shard must be \(i, n\)"),
        ({"minutes": 0}, "minutes must be"),
        ({"minutes": math.nan}, "minutes must be"),
    ],
)
def test_bad_options_are_refused_before_anything_runs(made, options, words):
    with pytest.raises(ValueError, match=words):
        experiments.record("many", **options)
    with pytest.raises(ValueError, match="at least one experiment"):
        experiments.record()
    with pytest.raises(TypeError, match="out"):
        experiments.record("many", out=3)
    with pytest.raises(ValueError, match="got 'other'"):
        experiments.record("many", "other")
    assert made.calls == []


def test_a_shard_without_jobs_is_refused(made):
    experiments.record("tiny")
    with pytest.raises(ValueError, match="shard 2/2 has no jobs: there are 1"):
        experiments.reproduce("tiny", shard=(2, 2))


RECORDED = [name for name in runner.EXPERIMENTS if (paths.RESULTS / name).is_dir()]


def test_every_folder_of_results_is_the_record_of_an_experiment():
    assert {path.name for path in paths.RESULTS.iterdir()} == set(RECORDED)


@pytest.mark.parametrize("name", RECORDED)
def test_committed_records_are_of_the_experiment_as_it_stands(name):
    """A record made with other settings or other data would silently show other numbers than the text describes."""
    experiment, about, store = runner.EXPERIMENTS[name], experiments.provenance(name), Store(paths.RESULTS)
    assert experiments.missing(name) == []
    assert not (store.folder(name) / "jobs").exists()  # gathered
    jobs = experiment.jobs(experiment.settings, store)
    for entry in about["jobs"]:
        assert entry["job"] in jobs
        check_entry(entry, experiment)  # it can be reproduced
        assert not entry["code"].endswith("-dirty")
    if name.startswith("cifar"):
        expected = "cifar10-jpeg" if name.endswith("-cpu") else name.split("-")[0]
        assert {entry["data"] for entry in about["jobs"]} == {f"{expected}-train"}
    else:
        assert about["data_fingerprint"] == data.digits().fingerprint()


@pytest.mark.parametrize("name", RECORDED)
def test_recorded_tables_hold_rows_of_every_job_and_of_no_other(name):
    store = Store(paths.RESULTS)
    jobs = store.jobs(name)
    for table, frame in store.tables(name).items():
        columns = list(dict.fromkeys(key for job in jobs for key in job))
        if not columns:
            continue
        found = {json.dumps(row, sort_keys=True) for row in frame[columns].drop_duplicates().to_dict("records")}
        if name == "theory-verification":  # one measurement takes all seeds at once
            continue
        assert found <= {json.dumps(job, sort_keys=True) for job in jobs}, table


def test_records_of_one_data_set_have_one_fingerprint():
    entries = [entry for name in RECORDED for entry in experiments.provenance(name)["jobs"]]
    by_name = {entry["data"]: entry["data_fingerprint"] for entry in entries}
    assert all(by_name[entry["data"]] == entry["data_fingerprint"] for entry in entries)


@pytest.mark.parametrize("name", RECORDED)
def test_recorded_files_are_small(name):
    """So that a clone stays quick: scores of every image of fifteen runs on CIFAR-10 fill 7 MB."""
    sizes = {path.name: path.stat().st_size for path in (paths.RESULTS / name).rglob("*.parquet")}
    assert max(sizes.values()) < 10_000_000, sizes


def test_to_add_an_experiment_one_writes_one_file():
    """Each module lists its experiments, and the registry finds them all, each under one name."""
    names = list(runner.EXPERIMENTS)
    assert len(names) == len(set(names)) >= 25
    assert all(name == experiment.name for name, experiment in runner.EXPERIMENTS.items())
    modules = {path.stem for path in (Path(runner.__file__).parent).glob("digits_*.py")}
    assert {name.replace("-", "_") for name in names if name.startswith("digits")} - modules <= {
        "digits_methods_search"
    }
