"""Bad input of every function on tables: a named error, or NaN that is told."""

import warnings

import numpy as np
import pandas as pd
import pytest

from normlib import confidence

FUNCTIONS = {
    "detection": lambda table: confidence.detection(table, "knn_correct", "norm"),
    "correlation": lambda table: confidence.correlation(table, "knn_correct", "norm"),
    "compare": lambda table: confidence.compare(table, "knn_correct", "norm", "kth_distance"),
    "curve": lambda table: confidence.curve(table, "knn_correct", "norm"),
    "trend": lambda table: confidence.trend(table, "knn_correct", "norm"),
    "risk_coverage": lambda table: confidence.risk_coverage(table, "knn_correct", "norm"),
    "risk_coverage_area": lambda table: confidence.risk_coverage_area(table, "knn_correct", "norm"),
    "calibrate": lambda table: confidence.calibrate(table, "knn_correct", "norm"),
}


@pytest.mark.parametrize("function", FUNCTIONS.values(), ids=FUNCTIONS)
@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda t: t.drop(columns="norm"), "table has no column 'norm'; it has label, "),
        (lambda t: t.drop(columns="knn_correct"), "table has no column 'knn_correct'"),
        (lambda t: t.iloc[:0], "at least one row, got none"),
        (lambda t: t.assign(norm=t["norm"].where(t.index != 3)), "norm.* must be finite, got 1 of 400"),
        (lambda t: t.assign(norm=np.inf), "norm.* must be finite, got 400 of 400"),
        (lambda t: t.assign(norm="long"), "norm.* must be numbers or booleans"),
        (
            lambda t: t.assign(knn_correct=t["knn_correct"].astype(float).where(t.index > 1)),
            "'knn_correct' must be finite",
        ),
        (lambda t: pd.concat([t.assign(seed=0), t.assign(seed=1)]), r"must hold one run, got several in column 'seed'"),
        (lambda t: t.assign(condition=["a", "b"] * 200), "got several in column 'condition': .*per_run"),
    ],
)
def test_what_cannot_be_scored_is_refused(function, spoil, message, made):
    with pytest.raises(ValueError, match=message):
        function(spoil(made()))


@pytest.mark.parametrize("function", [FUNCTIONS[f] for f in ("detection", "compare", "risk_coverage", "calibrate")])
def test_outcomes_of_detection_are_true_or_false(function, made):
    with pytest.raises(
        ValueError, match=r"(outcome|correct) 'knn_correct' must be true or false .* got values such as \[0.0, 2.0\]"
    ):
        function(made().assign(knn_correct=[0, 2] * 200))


@pytest.mark.parametrize("name", ["detection", "correlation", "trend", "risk_coverage_area"])
@pytest.mark.parametrize(("column", "value"), [("norm", 3.0), ("knn_correct", True), ("knn_correct", False)])
def test_a_constant_gives_a_nan_that_is_told(name, column, value, made):
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "An input array is constant")
        with pytest.warns(UserWarning, match="is NaN: "):
            found = FUNCTIONS[name](made().assign(**{column: value}))
    told = {"detection": "auroc", "correlation": "value", "trend": "value", "risk_coverage_area": "aurc"}[name]
    assert found[told].isna().all()


@pytest.mark.parametrize("name", ["compare", "calibrate"])
@pytest.mark.parametrize(("column", "value"), [("norm", 3.0), ("knn_correct", True)])
def test_a_constant_cannot_be_compared_or_mapped(name, column, value, made):
    with pytest.raises(ValueError, match=r"must (differ|be true for some)"):
        FUNCTIONS[name](made().assign(**{column: value}))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda t: confidence.detection(t, [True, False]), r"one value for each of 400 rows, got shape \(2,\)"),
        (lambda t: confidence.detection(t, t["knn_correct"].sort_values()), "outcome must have the index of table"),
        (
            lambda t: confidence.detection(t, "knn_correct", "entropy"),
            r"which way 'entropy' points is not known.*mapping",
        ),
        (lambda t: confidence.detection(t, "knn_correct", {"entropy": 2}), "high = familiar.* got {'entropy': 2}"),
        (
            lambda t: confidence.detection(t[["entropy", "knn_correct"]], "knn_correct"),
            "has none of the columns norm, ",
        ),
        (lambda t: confidence.correlation(t, "entropy", method="pearson"), "'spearman', 'kendall', got 'pearson'"),
        (lambda t: confidence.correlation(t, "entropy", within="class"), "table has no column 'class'"),
        (lambda t: confidence.compare(t, "knn_correct", "norm", "norm"), "another score than 'norm', got none"),
        (lambda t: confidence.compare(t, "knn_correct", "norm", statistic="f1"), "'auroc', 'aurc', got 'f1'"),
        (
            lambda t: confidence.compare(t, "knn_correct", "norm", resamples=20),
            "resamples must be an integer ≥ 100, got 20",
        ),
        (lambda t: confidence.curve(t, "entropy", "norm", bins=1), "bins must be an integer ≥ 2, got 1"),
        (lambda t: confidence.curve(t, "entropy", "norm", by="max"), "by must be one of 'count', 'width', got 'max'"),
        (lambda t: confidence.curve(t, "entropy", "norm", resamples=9), "resamples must be an integer ≥ 100, got 9"),
        (
            lambda t: confidence.risk_coverage(t, "knn_correct", points=0),
            "points must be an integer ≥ 1 and ≤ 400, got 0",
        ),
        (lambda t: confidence.calibrate(t, "knn_correct", "norm", bins=1), "bins must be an integer ≥ 2, got 1"),
        (
            lambda t: confidence.per_run(t, confidence.detection, "knn_correct"),
            "name those that tell runs apart in by=",
        ),
        (
            lambda t: confidence.mean_over_seeds(t.assign(seed=0)[:0], "norm"),
            "frame must have at least one row, got none",
        ),
        (
            lambda t: confidence.mean_over_seeds(t.assign(seed=0), "norm"),
            "one row for each group and 'seed', got several",
        ),
    ],
)
def test_wrong_arguments_are_named(call, message, made):
    with pytest.raises(ValueError, match=message):
        call(made())


def test_few_samples_have_no_correlation():
    with pytest.warns(UserWarning, match="there are only 3 samples"):
        assert np.isnan(confidence.correlation(pd.DataFrame({"norm": [1, 2, 3]}), [1, 3, 2])["value"][0])
