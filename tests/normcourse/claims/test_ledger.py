"""The claims ledger: verdicts follow the recorded numbers, and the book states what they say."""

import json
import math
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import stats
from sklearn.metrics import roc_auc_score
from statsmodels.stats.multitest import multipletests

from normcourse import claims, cli, experiments, paths
from normcourse.claims import Part, evidence
from normcourse.experiments.store import Store, job_folder
from normcourse.paths import RESULTS, notebook
from normlib.tracking import NormTracker
from normlib.training import fit, recipes

ROOT = Path(__file__).parents[3]
ENTRY = {"says": "a number", "record": "tiny", "table": "numbers", "value": "x", "expect": {"above": 0}}


@pytest.fixture(scope="module")
def verdicts():
    return claims.judge_all()


def recorded(folder: Path, frame: pd.DataFrame, name: str = "tiny", **job) -> Path:
    """A record of one table, with what tells the job apart from others."""
    Store(folder).write(name, {"numbers": frame}, {"job": job, "settings": {}, "other_training_settings": {}})
    return folder


def measured(folder: Path, **entry) -> claims.Effect:
    return evidence.measure(evidence.part("test", ENTRY | entry), evidence.RecordedTables(folder))


def written(tmp_path: Path, entries: list, group: str = "Group") -> Path:
    path = tmp_path / "claims.yml"
    path.write_text(json.dumps({group: entries}))  # JSON is YAML
    return path


# The book's own ledger


def test_the_book_states_what_the_records_say(verdicts):
    assert [*claims.differences(verdicts, claims.stated())] == []


def test_embeddings_dip_as_the_chapter_on_training_says():
    """Three seeds, until the dip is over; rounding has not grown by then."""

    class DipOverError(Exception):
        pass

    def stop(epoch):
        if epoch == 5:
            raise DipOverError

    dips = []
    for seed in range(3):
        recipe = recipes.get("digits").replace(seed=seed)
        model = recipe.build_model()
        with NormTracker(model, recipe.tracked_layers()[-1:]) as tracker, pytest.raises(DipOverError):
            fit(
                model, recipe.images(), recipe.train,
                augment=recipe.augmentation(), tracker=tracker, on_epoch=stop, accelerator="cpu", progress=False,
            )  # fmt: skip
        norms = tracker.to_frame().query("statistic == 'mean'").set_index("step")["value"]
        assert len(norms) == 25
        dips.append(norms.min() / norms[0])
    assert max(dips) < 0.5
    assert np.mean(dips) == pytest.approx(0.35, abs=2 * 0.04)  # twice the standard deviation that the chapter states


def test_embeddings_grow_and_shrink_as_the_chapter_on_training_says():
    """The eight recorded runs are twice as long, at the same step size, and measured at every fifth step."""
    steps = experiments.load("digits-simclr")["steps"].query("layer == 'projector.2' and lr == 0.1")
    norms = steps.pivot(index="step", columns="seed", values="norm")
    assert norms.shape[1] == 8
    peak, end = norms.max() / norms.iloc[0], norms.iloc[-20:].mean() / norms.max()
    for ratio, said in ((peak, 12), (end, 0.28)):
        half = stats.t.ppf(0.975, 7) * stats.sem(ratio)
        assert abs(ratio.mean() - said) < half
        assert abs(ratio.mean() - 1) > 2 * half  # the sign is beyond doubt
    assert peak.min() > 4
    assert end.max() < 0.6


def test_every_record_that_is_there_gives_its_number(verdicts):
    missing = [
        (one.claim.id, effect.part.says)
        for one in verdicts
        for effect in one.effects
        if effect.outcome == "no record" and (RESULTS / effect.part.record).is_dir()
    ]
    assert missing == []


def test_every_record_is_an_experiment(verdicts):
    assert {record for one in verdicts for record in one.claim.records} <= set(experiments.EXPERIMENTS)


def test_every_chapter_and_cell_exists(verdicts):
    for one in verdicts:
        if one.claim.chapter:
            cells = nbformat.read(notebook(one.claim.chapter), 4).cells
            assert not one.claim.cell or one.claim.cell in {cell.id for cell in cells}, one.claim.id


def test_failures_are_in_it(verdicts):
    words = {one.claim.id: one.word for one in verdicts}
    assert words["orthogonal-gradient"] == "reproduced"
    assert words["cut-helps-cifar"] == "contradicted"
    assert words["opposite-halves"] == "partly"
    assert words["decay-changes-norms"] == "not tried"


def test_runs_of_a_claim_are_only_its_own():
    by_id = {claim.id: claim for claim in claims.ledger()}
    runs = [{"measurement": "cut and rate", "seed": seed} for seed in range(20)]
    assert claims.jobs(by_id["cut-is-rate"]) == {"theory-verification": runs}
    helped = claims.jobs(by_id["cut-helps-cifar"])["cifar10-interventions-cpu"]
    assert {job["condition"] for job in helped} == {"cut 3", "default"}
    assert claims.jobs(by_id["decay-changes-norms"]) == {}


# What the records say, changed


THEORY = "theory-verification"


@pytest.fixture
def copied(tmp_path):
    """The record of the theory, where it may be changed, and the claims that rest on it alone."""
    shutil.copytree(RESULTS / THEORY, tmp_path / THEORY)
    return tmp_path, [claim for claim in claims.ledger() if claim.records == (THEORY,)]


def differences_after(change, folder, about_theory):
    """What the ledger says when the recorded table was changed, and the book was not."""
    path = folder / THEORY / "quantities.parquet"
    table = pd.read_parquet(path)
    change(table)
    table.to_parquet(path)
    now = [claims.judge(claim, results=folder) for claim in about_theory]
    return [*claims.differences(now, {claim.id: claims.stated()[claim.id] for claim in about_theory})]


def test_an_altered_number_is_found(copied):
    def alter(table):
        changed = table["quantity"] == "nt-xent: radial share of the gradient"
        table.loc[changed.idxmax(), "value"] = 0.5

    (line,) = differences_after(alter, *copied)
    assert line.startswith("orthogonal-gradient: partly, and the book states reproduced")


def test_a_number_that_leaves_the_verdict_is_found_too(copied):
    def alter(table):
        table.loc[table["quantity"] == "align: steps at norm 10, over 100", "value"] += 0.2

    (line,) = differences_after(alter, *copied)
    assert line.startswith("steps-constant: as stated, but from ['96.6")


def test_a_removed_record_is_not_tried(copied):
    folder, about_theory = copied
    path = folder / THEORY / "provenance.json"
    about = json.loads(path.read_text(encoding="utf-8"))
    about["jobs"] = [entry for entry in about["jobs"] if entry["job"]["measurement"] != "cut and rate"]
    path.write_text(json.dumps(about), encoding="utf-8")
    table = pd.read_parquet(path.with_name("quantities.parquet"))
    table[table["measurement"] != "cut and rate"].to_parquet(path.with_name("quantities.parquet"))
    words = {claim.id: claims.judge(claim, results=folder).word for claim in about_theory}
    assert words["cut-is-rate"] == words["cut-with-biases"] == "not tried"
    assert words["orthogonal-gradient"] == "reproduced"
    shutil.rmtree(folder / THEORY)
    assert {claims.judge(claim, results=folder).word for claim in about_theory} == {"not tried"}


def test_a_claim_that_comes_or_goes_is_found(verdicts):
    stated = claims.stated()
    assert [*claims.differences(verdicts[1:], stated)] == [
        "orthogonal-gradient: the book states reproduced for a claim that is not in the ledger"
    ]
    del stated["growth"]
    assert [*claims.differences(verdicts, stated)] == ["growth: reproduced, and the book states nothing"]


def test_accepted_verdicts_are_stated(verdicts, tmp_path):
    claims.accept(verdicts, tmp_path / "verdicts.json")
    assert claims.stated(tmp_path / "verdicts.json") == claims.stated()
    assert [path.name for path in tmp_path.iterdir()] == ["verdicts.json"]


# Numbers, intervals, outcomes


@given(hnp.arrays(float, st.integers(2, 12), elements=st.floats(-100, 100, width=32)))
@settings(max_examples=50, deadline=None)
def test_interval_is_students(tmp_path_factory, values):
    frame = pd.DataFrame({"x": values, "seed": range(len(values))})
    effect = measured(recorded(tmp_path_factory.mktemp("values"), frame))
    mean, low, high = effect.estimate, effect.low, effect.high
    error = stats.sem(values)
    assert mean == pytest.approx(values.mean())
    half = stats.t.ppf(0.975, len(values) - 1) * error
    assert (low, high) == pytest.approx((mean - half, mean + half), abs=1e-9)


@given(st.lists(st.tuples(st.integers(0, 5), st.booleans()), min_size=2, max_size=40))
@settings(max_examples=50, deadline=None)
def test_auroc_is_scikit_learns_with_ties(rows):
    scores, positive = np.array([score for score, _ in rows]), np.array([one for _, one in rows])
    found = evidence._auroc(scores, positive)
    if positive.all() or not positive.any():
        assert math.isnan(found)
    else:
        assert found == pytest.approx(roc_auc_score(positive, scores))


def test_rank_correlation_is_scipys(tmp_path):
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"x": rng.integers(0, 9, 100), "y": rng.integers(0, 9, 100), "seed": np.arange(100) % 2})
    effect = measured(recorded(tmp_path, frame), estimator="spearman", **{"with": "y"})
    peers = [stats.spearmanr(group.x, group.y)[0] for _, group in frame.groupby("seed")]
    assert effect.estimate == pytest.approx(np.mean(peers))
    assert effect.repetitions == 2


@pytest.mark.parametrize(
    ("values", "expect", "outcome"),
    [
        ([1, 1.1, 0.9], {"above": 0}, "reproduced"),
        ([1, 1.1, 0.9], {"below": 0}, "contradicted"),
        ([1, -1.1, 0.9], {"above": 0}, "inconclusive"),
        ([1, 1.1, 0.9], {"near": 1, "within": 0.5}, "reproduced"),
        ([1, 1.1, 0.9], {"near": 3, "within": 0.5}, "contradicted"),
        ([1, 1.1, 0.9], {"above": 0, "below": 1}, "inconclusive"),
        ([5], {"above": 0}, "inconclusive"),  # one seed shows nothing
    ],
)
def test_outcome_is_that_of_the_whole_interval(tmp_path, values, expect, outcome):
    frame = pd.DataFrame({"x": values, "seed": range(len(values))})
    assert measured(recorded(tmp_path, frame), expect=expect).outcome == outcome


def test_differences_are_paired(tmp_path):
    for condition, shift in (("a", 0.0), ("b", 0.5)):
        frame = pd.DataFrame(
            {"x": [1.0, 10.0, 100.0] + np.array([0, 0.01, -0.01]) * (shift > 0) + shift, "seed": range(3)}
        )
        recorded(tmp_path, frame, condition=condition)
    effect = measured(tmp_path, where={"condition": "b"}, minus={"condition": "a"})
    assert effect.outcome == "reproduced"
    assert effect.estimate == pytest.approx(0.5)
    assert effect.high - effect.low < 0.1


def test_one_run_may_bring_its_own_interval(tmp_path):
    frame = pd.DataFrame({"x": [0.5], "low": [0.4], "high": [0.6], "seed": [0]})
    effect = measured(recorded(tmp_path, frame), interval=["low", "high"])
    assert (effect.estimate, effect.low, effect.high, effect.outcome) == (0.5, 0.4, 0.6, "reproduced")


def test_extremes_have_no_interval(tmp_path):
    frame = pd.DataFrame({"x": [0.1, 0.3, 0.2, 0.9], "seed": [0, 0, 1, 1]})
    effect = measured(recorded(tmp_path, frame), estimator="largest", expect={"below": 1})
    assert (effect.estimate, effect.low, effect.high, effect.outcome) == (0.9, 0.9, 0.9, "reproduced")


@pytest.mark.parametrize("estimator", ["largest", "smallest"])
@pytest.mark.parametrize("seeds", [[0, 0, 1, 1], [0, 1, 1, 2]])
def test_an_extreme_with_a_number_missing_is_not_known(tmp_path, estimator, seeds):
    frame = pd.DataFrame({"x": [math.nan, 0.3, 0.2, 0.9], "seed": seeds})
    effect = measured(recorded(tmp_path, frame), estimator=estimator, expect={"below": 1})
    assert math.isnan(effect.estimate)
    assert effect.outcome == "inconclusive"
    assert effect.as_words() == "nan, inconclusive"


def test_a_mean_is_that_of_the_seeds_that_have_a_number(tmp_path):
    frame = pd.DataFrame({"x": [math.nan, 0.3, 0.2], "seed": [0, 1, 2]})
    effect = measured(recorded(tmp_path, frame), expect={"below": 1})
    assert (effect.estimate, effect.repetitions) == (pytest.approx(0.25), 2)


def test_scores_that_are_nan_have_no_auroc():
    assert math.isnan(evidence._auroc(np.array([1.0, math.nan, 2.0]), np.array([True, False, False])))


CLAIM = claims.Claim("a", "Group", "statement", "course")


def word(*outcomes, controls=()):
    part = Part("", "", "", "", {"above": 0})
    effects, passed = (tuple(claims.Effect(part, 0, 0, 0, 1, one) for one in each) for each in (outcomes, controls))
    return claims.Verdict(CLAIM, effects, passed).word


def test_the_first_verdict_that_applies_is_a_claims():
    assert word("reproduced", "reproduced") == "reproduced"
    for other in ("no record", "inconclusive", "contradicted", "no effect"):
        assert word("reproduced", other) == "partly"
    for other in ("no record", "inconclusive", "no effect", "contradicted"):
        assert word(other, "contradicted") == "contradicted"
    assert word("no effect", "no effect") == "no effect"
    assert word("no effect", "inconclusive") == word("no effect", "no record") == "inconclusive"
    assert word("no record", "no record") == word() == "not tried"


def test_a_claim_whose_control_does_not_pass_is_inconclusive():
    for outcome in ("reproduced", "contradicted", "no effect"):
        assert word(outcome, controls=("reproduced",)) == word(outcome)
        for failed in ("inconclusive", "contradicted", "no effect", "no record"):
            assert word(outcome, controls=("reproduced", failed)) == "inconclusive"
    assert word("no record", controls=("no record",)) == "not tried"


@pytest.mark.parametrize(
    ("values", "options", "outcome"),
    [
        ([0.70, 0.71, 0.72], {}, "reproduced"),
        ([0.500, 0.501, 0.502], {}, "no effect"),
        ([0.515, 0.516, 0.517], {}, "reproduced"),  # above 0.5, however little
        ([0.30, 0.31, 0.32], {}, "contradicted"),
        ([0.40, 0.50, 0.60], {}, "inconclusive"),
        ([0.400, 0.401, 0.402], {"delta": 0.15, "because": "a reason"}, "no effect"),
    ],
)
def test_no_effect_is_told_from_not_knowing(tmp_path, values, options, outcome):
    frame = pd.DataFrame({"x": values, "seed": range(3)})
    effect = measured(recorded(tmp_path, frame), scale="auroc", expect={"above": 0.5}, **options)
    assert effect.outcome == outcome


def test_without_a_scale_nothing_is_no_effect(tmp_path):
    frame = pd.DataFrame({"x": [-1e-9, 0.0, 1e-9], "seed": range(3)})
    assert measured(recorded(tmp_path, frame), expect={"above": 0}).outcome == "inconclusive"


def test_a_difference_of_aurocs_is_none_at_zero(tmp_path):
    frame = pd.DataFrame(
        {"x": [0.71, 0.72, 0.73, 0.705, 0.715, 0.725], "seed": [0, 1, 2] * 2, "net": [1] * 3 + [2] * 3}
    )
    options = {"where": {"net": 1}, "minus": {"net": 2}, "scale": "auroc"}
    effect = measured(recorded(tmp_path, frame), expect={"below": 0}, **options)
    assert (effect.estimate, effect.outcome) == (pytest.approx(0.005), "no effect")


def test_a_relative_difference_is_a_share_of_what_is_subtracted(tmp_path):
    frame = pd.DataFrame({"x": [-4.0, -8.0, -5.0, -10.0], "seed": [0, 1] * 2, "net": [1, 1, 2, 2]})
    options = {"where": {"net": 1}, "minus": {"net": 2}, "scale": "relative"}
    effect = measured(recorded(tmp_path, frame), expect={"above": 0}, **options)
    assert (effect.estimate, effect.outcome) == (pytest.approx(0.2), "reproduced")


def test_an_interval_of_aurocs_stays_between_0_and_1(tmp_path):
    frame = pd.DataFrame({"x": [0.9, 0.99, 1.0], "seed": range(3)})
    effect = measured(recorded(tmp_path, frame), scale="auroc", expect={"above": 0.5})
    assert (effect.high, effect.outcome) == (1.0, "reproduced")


@settings(deadline=None, max_examples=50)
@given(st.lists(st.floats(-3, 3), min_size=2, max_size=6), st.integers(0, 2**31))
def test_a_family_finds_what_holms_procedure_finds(tmp_path_factory, shifts, seed):
    folder, random = tmp_path_factory.mktemp("family"), np.random.default_rng(seed)
    values = np.array(shifts)[:, None] + random.normal(size=(len(shifts), 5))
    frame = pd.DataFrame(
        {"x": values.ravel(), "seed": np.tile(np.arange(5), len(shifts)), "part": np.repeat(range(len(shifts)), 5)}
    )
    entries = [ENTRY | {"where": {"part": i}, "scale": "rank correlation"} for i in range(len(shifts))]
    parts = [evidence.part("test", entry) for entry in entries]
    effects = evidence.measure_family(parts, evidence.RecordedTables(recorded(folder, frame)))
    p_values = stats.ttest_1samp(values, 0, axis=1).pvalue
    found, *_ = multipletests(p_values, method="holm")
    for effect, significant in zip(effects, found, strict=True):
        excludes_none = effect.low > 0 or effect.high < 0
        assert excludes_none == significant


def test_a_part_alone_has_the_interval_of_95_percent(tmp_path):
    frame = pd.DataFrame({"x": [0.1, 0.2, 0.4], "seed": range(3)})
    entry = evidence.part("test", ENTRY | {"scale": "rank correlation"})
    tables = evidence.RecordedTables(recorded(tmp_path, frame))
    assert evidence.measure_family([entry], tables) == [evidence.measure(entry, tables)]


def test_accuracy_and_controls_are_read_and_stated(tmp_path):
    frame = pd.DataFrame({"x": [0.7, 0.71, 0.72], "seed": range(3)})
    accuracy = {name: ENTRY[name] for name in ("says", "record", "table", "value")}
    entry = {
        "id": "a",
        "statement": "s",
        "source": "paper",
        "parts": [ENTRY],
        "control": [ENTRY],
        "accuracy": [accuracy],
    }
    (claim,) = claims.ledger(written(tmp_path, [entry]))
    verdict = claims.judge(claim, results=recorded(tmp_path, frame))
    plain = claims.as_json(verdict)
    assert plain["verdict"] == "reproduced"
    assert plain["accuracies"][0]["estimate"] == pytest.approx(0.71)
    assert plain["accuracies"][0]["expect"] == {}
    assert plain["controls"][0]["outcome"] == "reproduced"
    strict = claims.ledger(written(tmp_path, [entry | {"control": [ENTRY | {"expect": {"above": 0.9}}]}]))[0]
    assert claims.judge(strict, results=tmp_path).word == "inconclusive"


# Bad input


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        ({}, "without an id"),
        ({"id": "a"}, r"lacks \['source', 'statement'\]"),
        ({"id": "a", "statement": "s", "source": "rumour", "needs": "x"}, "source among"),
        ({"id": "a", "statement": "s", "source": "paper"}, "neither parts nor what it needs"),
        ({"id": "a", "statement": "s", "source": "paper", "verdict": "reproduced"}, "unknown keys"),
        ({"id": "a", "statement": "s", "source": "paper", "parts": ["x"]}, "no mapping"),
        ({"id": "a", "statement": "s", "source": "paper", "parts": [ENTRY | {"p": 1}]}, "unknown keys"),
        ({"id": "a", "statement": "s", "source": "paper", "parts": [{"says": "x"}]}, "lacks"),
        (
            {"id": "a", "statement": "s", "source": "paper", "parts": [ENTRY | {"estimator": "median"}]},
            "estimator must",
        ),
        ({"id": "a", "statement": "s", "source": "paper", "parts": [ENTRY | {"expect": {"over": 1}}]}, "expect must"),
        (
            {"id": "a", "statement": "s", "source": "paper", "parts": [ENTRY | {"expect": {"above": "1e-9"}}]},
            "expect must",
        ),
    ],
)
def test_bad_entries_are_named(tmp_path, entry, words):
    with pytest.raises(ValueError, match=words):
        claims.ledger(written(tmp_path, [entry]))


@pytest.mark.parametrize(
    ("part", "words"),
    [
        ({"estimator": "spearman"}, "'a': spearman needs a second column, with"),
        ({"estimator": "auroc"}, "'a': auroc needs the class to find, positive"),
        ({"interval": ["low", "high"], "minus": {"condition": "b"}}, "'a': interval is that of a value"),
    ],
)
def test_a_part_that_says_too_little_or_too_much_is_refused(tmp_path, part, words):
    entry = {"id": "a", "statement": "s", "source": "paper", "parts": [ENTRY | part]}
    with pytest.raises(ValueError, match=words):
        claims.ledger(written(tmp_path, [entry]))


def test_an_id_is_used_once(tmp_path):
    entry = {"id": "same", "statement": "s", "source": "paper", "needs": "x"}
    with pytest.raises(ValueError, match="id twice: same"):
        claims.ledger(written(tmp_path, [entry, entry]))


@given(st.text(max_size=80))
@settings(max_examples=100)
def test_any_text_as_a_ledger_gives_claims_or_a_clear_error(tmp_path_factory, text):
    path = tmp_path_factory.mktemp("ledger") / "claims.yml"
    path.write_text(text, encoding="utf-8")
    try:
        message = "" if claims.ledger(path) == () else "claims from nothing"
    except ValueError as error:
        message = str(error).replace(str(path), "")
        message = "" if message != str(error) else message
    assert message == ""


@pytest.mark.parametrize("content", [b"", b"PAR1", b"PAR1" + bytes(64) + b"PAR1", b"not parquet at all"])
def test_a_damaged_record_is_one_clear_error(tmp_path, content):
    recorded(tmp_path, pd.DataFrame({"x": [1.0], "seed": [0]}))
    (job_folder(tmp_path / "tiny" / "jobs", {}) / "numbers.parquet").write_bytes(content)
    with pytest.raises(ValueError, match=r"numbers\.parquet cannot give the columns"):
        measured(tmp_path)


def test_a_missing_column_is_named(tmp_path):
    recorded(tmp_path, pd.DataFrame({"y": [1.0], "seed": [0]}))
    with pytest.raises(ValueError, match=r"cannot give the columns \['seed', 'x'\]"):
        measured(tmp_path)


def test_only_nan_is_no_number(tmp_path):
    with pytest.raises(ValueError, match="has no number in the record tiny"):
        measured(recorded(tmp_path, pd.DataFrame({"x": [math.nan], "seed": [0]})))


@pytest.mark.parametrize("text", ["", "[]", "{", "3"])
def test_a_damaged_file_of_verdicts_says_how_to_write_it(tmp_path, text):
    (tmp_path / "verdicts.json").write_text(text)
    with pytest.raises(ValueError, match="normcourse claims --accept"):
        claims.stated(tmp_path / "verdicts.json")


# The command


def test_command_prints_the_table_without_torch():
    code = "import sys; from normcourse import cli; code = cli.main(['claims']); print('torch' in sys.modules)"
    command = [sys.executable, "-c", f"{code}; sys.exit(code)"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[-1] == "False"
    assert lines[0].split()[:2] == ["reproduced", "orthogonal-gradient"]


def test_command_prints_json(capsys):
    assert cli.main(["claims", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [one["id"] for one in found] == [claim.id for claim in claims.ledger()]
    assert {one["verdict"] for one in found} <= set(claims.VERDICTS)


def test_command_fails_when_the_book_states_something_else(capsys, monkeypatch):
    stated = claims.stated()
    stated["cut-helps-cifar"]["verdict"] = "reproduced"
    monkeypatch.setattr(claims, "stated", lambda: stated)
    assert cli.main(["claims"]) == 1
    assert capsys.readouterr().err == "normcourse: cut-helps-cifar: contradicted, and the book states reproduced\n"


def test_command_reproduces_one_claim(capsys, monkeypatch, tmp_path):
    monkeypatch.setattr(paths, "RUNS", tmp_path)
    assert cli.main(["reproduce", "--claim", "orthogonal-gradient"]) == 0
    assert "reproduced: reproduced; " in capsys.readouterr().out
    jobs = Store(tmp_path / "reproduced").jobs(THEORY)
    assert sorted(job["seed"] for job in jobs) == list(range(20))
    assert {job["measurement"] for job in jobs} == {"gradients"}


def test_shards_of_a_claim_share_out_the_jobs_of_all_its_records(capsys, monkeypatch):
    jobs = {"a": [{"seed": 0}], "b": [{"seed": 0}, {"seed": 1}]}
    asked = []

    def reproduce(name, *, jobs):
        asked.append((name, jobs))
        return pd.DataFrame({"table": ["t"], "column": ["c"], "identical": [True], "difference": [0.0]})

    monkeypatch.setattr(claims, "jobs", lambda claim: jobs)
    monkeypatch.setattr(experiments, "reproduce", reproduce)
    monkeypatch.setattr(claims, "judge", lambda claim, *, results: claims.Verdict(claim))
    for shard in ("1/2", "2/2", "3/3"):
        assert cli.main(["reproduce", "--claim", "orthogonal-gradient", "--shard", shard]) == 0
    assert asked == [
        *(("a", [{"seed": 0}]), ("b", [{"seed": 1}])),
        ("b", [{"seed": 0}]),
        ("b", [{"seed": 1}]),
    ]
    assert cli.main(["reproduce", "--claim", "orthogonal-gradient", "--shard", "4/4"]) == 2
    assert "shard 4/4 has no jobs" in capsys.readouterr().err


def test_command_names_the_claims_there_are(capsys):
    assert cli.main(["reproduce", "--claim", "perpetual motion"]) == 2
    assert "--claim must be one of orthogonal-gradient, " in capsys.readouterr().err
    assert cli.main(["reproduce", "--claim", "decay-changes-norms"]) == 2
    assert "rests on no recorded run" in capsys.readouterr().err
