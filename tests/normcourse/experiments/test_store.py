"""The store: the same is read from single jobs, from gathered ones and in between, and nothing half-written counts."""

import json
import math

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from normcourse.experiments import store as module
from normcourse.experiments.store import Store

JOBS = [{"condition": name, "seed": seed} for name in ("plain", "cut 3") for seed in range(2)]


def entry(job, **about):
    shared = {"settings": {"rows": 3}, "other_training_settings": {"lr": 0.1, "train": {"seed": job.get("seed", 0)}}}
    return {"experiment": "many", "job": job, "code": "abc", "seconds": 1.5} | shared | about


def tables(job):
    size = 1 + job.get("seed", 0)
    return {"rows": pd.DataFrame({"x": range(size)}), "name": pd.DataFrame({"word": [job.get("condition", "")]})}


@pytest.fixture
def store(tmp_path):
    """A store with four finished jobs, not yet gathered."""
    store = Store(tmp_path / "results")
    for job in JOBS:
        store.write("many", tables(job), entry(job))
    return store


def snapshot(store, name="many"):
    frames = {table: frame.to_dict("list") for table, frame in store.tables(name, JOBS).items()}
    return frames, sorted(json.dumps(one, sort_keys=True) for one in store.entries(name))


def test_gathering_changes_nothing_that_is_read_but_the_number_of_files(store):
    before = snapshot(store)
    store.gather("many", JOBS)
    assert snapshot(store) == before
    names = [path.name for path in sorted(store.folder("many").iterdir())]
    assert names == ["name.parquet", "provenance.json", "rows.parquet"]
    about = json.loads((store.folder("many") / "provenance.json").read_text(encoding="utf-8"))
    assert about["code"] == "abc"  # what all share stands once
    assert about["other_training_settings"] == {"lr": 0.1, "train": {}}
    assert about["jobs"][1] == {"job": JOBS[1], "other_training_settings": {"train": {"seed": 1}}}


def test_rows_come_in_the_order_of_the_jobs(store):
    store.gather("many", JOBS)
    rows = store.tables("many")["rows"]
    assert rows[["condition", "seed", "x"]].to_numpy().tolist() == [
        ["plain", 0, 0], ["plain", 1, 0], ["plain", 1, 1], ["cut 3", 0, 0], ["cut 3", 1, 0], ["cut 3", 1, 1],
    ]  # fmt: skip
    assert store.tables("many", [JOBS[3], JOBS[0]])["rows"]["x"].tolist() == [0, 1, 0]
    assert store.table("many", "rows", ["x"], [JOBS[2]]).columns.tolist() == ["x", "condition", "seed"]


def test_a_job_recorded_again_counts_before_and_after_it_is_gathered(store):
    store.gather("many", JOBS)
    store.write("many", {"rows": pd.DataFrame({"x": [7]})}, entry(JOBS[1], code="new"))
    for _ in range(2):
        assert store.tables("many", JOBS)["rows"].query("seed == 1")["x"].tolist() == [7, 0, 1]
        assert store.tables("many", JOBS)["name"]["seed"].tolist() == [0, 0, 1]  # it leaves no such table any more
        assert [one["code"] for one in store.entries("many")] == ["abc", "new", "abc", "abc"]
        store.gather("many", JOBS)


def test_only_some_jobs_are_finished(store, tmp_path):
    more = [*JOBS, {"condition": "other", "seed": 0}]
    with pytest.raises(ValueError, match="many cannot be gathered: 1 of its 5 jobs are not finished"):
        store.gather("many", more)
    assert len(store.tables("many", more)["rows"]) == 6
    with pytest.raises(FileNotFoundError, match=r"many is needed first, and 4 of these 5 jobs .* record many"):
        store.complete("many", more)
    other = Store(tmp_path / "other", store)
    assert other.complete("many", JOBS) is store  # looked for here, then there
    assert Store(tmp_path / "nothing").tables("many") == {}
    assert Store(tmp_path / "nothing").table("many", "rows") is None


class Stop(BaseException):
    """Stands for a process that is killed."""


@pytest.mark.parametrize("moment", range(4))
def test_gathering_that_is_killed_loses_no_job(store, monkeypatch, moment):
    """It is killed before the first table, between two, before the provenance, or before the single folders go."""
    before, replaced = snapshot(store), []

    def replace_file(path, write):
        if len(replaced) == moment:
            raise Stop
        replaced.append(path)
        write(path)

    monkeypatch.setattr(module, "replace_file", replace_file)
    if moment == 3:
        monkeypatch.setattr(module.shutil, "rmtree", lambda *_, **__: (_ for _ in ()).throw(Stop))
    with pytest.raises(Stop):
        store.gather("many", JOBS)
    assert len(replaced) == moment
    assert snapshot(store) == before
    monkeypatch.undo()
    store.gather("many", JOBS)
    assert snapshot(store) == before


def test_a_write_that_fails_leaves_the_earlier_job_whole(store, monkeypatch):
    before = snapshot(store)

    def broken(self, path, **options):
        path.write_bytes(b"half")
        raise OSError("No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(pd.DataFrame, "to_parquet", broken)
        with pytest.raises(OSError, match="No space left"):
            store.write("many", tables(JOBS[0]), entry(JOBS[0]))
    assert snapshot(store) == before
    assert not [path for path in store.folder("many").rglob("*") if path.is_file() and path.read_bytes() == b"half"]
    assert [path.name for path in (store.folder("many") / "jobs").iterdir() if path.name.startswith(".")] == []


def test_damaged_files_are_named(store):
    (store.folder("many") / "jobs" / "condition-plain_seed-0" / "rows.parquet").write_bytes(b"half")
    with pytest.raises(ValueError, match=r"condition-plain_seed-0.rows\.parquet cannot give its table"):
        store.tables("many")
    (store.folder("many") / "provenance.json").write_text("[]")
    with pytest.raises(ValueError, match=r"provenance\.json is no provenance of an experiment"):
        store.entries("many")
    (store.folder("many") / "provenance.json").write_text('{"jobs": [{"job": 3}]}')
    with pytest.raises(ValueError, match=r"provenance\.json is no provenance of a job"):
        store.jobs("many")


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=2), inner, max_size=3),
    max_leaves=8,
)


@given(st.lists(st.dictionaries(st.sampled_from("abcd"), values, max_size=4), min_size=1, max_size=4))
def test_what_is_shared_and_what_is_not_make_the_whole_again(entries):
    shared = module._shared(entries)
    assert [module._merged(shared, module._without(one, shared)) for one in entries] == entries


def test_numbers_that_json_has_no_word_for_are_kept_in_tables(tmp_path):
    store = Store(tmp_path)
    store.write("odd", {"rows": pd.DataFrame({"x": [math.nan, math.inf]})}, entry({}))
    store.gather("odd", [{}])
    assert store.tables("odd")["rows"]["x"].isna().tolist() == [True, False]
