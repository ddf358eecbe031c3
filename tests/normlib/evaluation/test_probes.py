import numpy as np
import pytest
import torch
from sklearn.covariance import LedoitWolf
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from normlib import evaluation


def normal(*shape, seed=0, dtype=torch.float64):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def peers_fit(bank, labels):
    """scikit-learn's scaler, and its logistic regression at its minimum: by default it stops some way before that."""
    scaler = StandardScaler().fit(bank.numpy())
    peer = LogisticRegression(solver="newton-cholesky", max_iter=1000, tol=1e-12)
    return scaler, peer.fit(scaler.transform(bank.numpy()), labels.numpy())


BANK, LABELS = normal(6, 3), torch.tensor([0, 1, 2, 0, 1, 2])


# --- linear_probe ---


def test_linear_probe_standardises_on_the_bank_and_scores_the_queries(raw_digits):
    bank, labels, queries, query_labels = raw_digits
    scaler, peer = peers_fit(bank, labels)
    expected = (peer.predict(scaler.transform(queries.numpy())) == query_labels.numpy()).mean()
    assert evaluation.linear_probe(*raw_digits) == expected
    assert expected > 0.95


def test_linear_probe_does_not_depend_on_the_features_units(raw_digits):
    bank, labels, queries, query_labels = raw_digits
    units = 10 ** torch.linspace(-6, 6, 64, dtype=torch.float64)
    scaled = evaluation.linear_probe(bank * units, labels, queries * units, query_labels)
    assert scaled == pytest.approx(evaluation.linear_probe(*raw_digits), abs=1e-9)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_linear_probe_takes_half_precision_and_tensors_with_gradients(dtype):
    x = torch.tensor([[-2.0], [-1.0], [1.0], [2.0]], dtype=dtype, requires_grad=True)
    assert evaluation.linear_probe(x, torch.tensor([0, 0, 1, 1]), x, torch.tensor([0, 0, 1, 0])) == 0.75


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"bank_labels": torch.ones(6, dtype=torch.int64)}, ValueError, "two classes or more, got only class 1"),
        ({"query_labels": LABELS[:3]}, ValueError, r"query_labels must have shape \(6,\).* got \(3,\)"),
        ({"queries": BANK[:, :2]}, ValueError, r"queries must have shape \(rows, 3\) like bank"),
        ({"bank": BANK * float("nan")}, ValueError, "bank must be finite; row 0 is not"),
        ({"bank": BANK.long()}, TypeError, "bank must be a floating-point tensor"),
    ],
)
def test_linear_probe_refuses(change, error, message):
    arguments = {"bank": BANK, "bank_labels": LABELS, "queries": BANK, "query_labels": LABELS} | change
    with pytest.raises(error, match=message):
        evaluation.linear_probe(**arguments)


# --- probe_logits ---


def test_probe_logits_equal_scikit_learns(raw_digits):
    bank, labels, queries, query_labels = raw_digits
    scaler, peer = peers_fit(bank, labels)
    logits = evaluation.probe_logits(bank, labels, queries)
    expected = peer.predict_proba(scaler.transform(queries.numpy()))
    np.testing.assert_allclose(logits.softmax(1), expected, atol=5e-4)  # raw digits are nearly separable
    accuracy = (logits.argmax(1) == query_labels).double().mean().item()
    assert accuracy == evaluation.linear_probe(*raw_digits)


def test_probe_logits_have_a_column_for_each_label_and_none_for_classes_that_the_bank_lacks(raw_digits):
    bank, labels, queries, _ = raw_digits
    seen = (labels != 3) & (labels != 9)
    logits = evaluation.probe_logits(bank[seen], labels[seen], queries)
    assert logits.shape == (450, 9)
    assert (logits[:, 3] == -torch.inf).all()
    present = [0, 1, 2, 4, 5, 6, 7, 8]
    renamed = torch.tensor([present.index(label) for label in labels[seen].tolist()])
    torch.testing.assert_close(logits[:, present], evaluation.probe_logits(bank[seen], renamed, queries))


def test_probe_logits_of_two_classes_are_half_the_log_odds_each():
    bank, labels = normal(40, 3), torch.arange(40) % 2
    logits = evaluation.probe_logits(bank, 2 * labels, bank)  # labels 0 and 2
    scaler, peer = peers_fit(bank, labels)
    expected = peer.predict_proba(scaler.transform(bank.numpy()))
    np.testing.assert_allclose(logits.softmax(1)[:, [0, 2]], expected, atol=1e-5)
    torch.testing.assert_close(logits[:, 0], -logits[:, 2])


def test_probe_logits_refuse_what_linear_probe_refuses():
    with pytest.raises(ValueError, match="two classes or more, got only class 1"):
        evaluation.probe_logits(BANK, torch.ones(6, dtype=torch.int64), BANK)
    with pytest.raises(ValueError, match="queries must be finite; row 0 is not"):
        evaluation.probe_logits(BANK, LABELS, BANK / 0)


# --- mahalanobis ---


def reference_mahalanobis(bank, labels, queries):
    """One query and one class at a time, with the covariance matrix inverted."""
    means = {label: bank[labels == label].mean(0) for label in labels.unique().tolist()}
    residuals = torch.stack([row - means[label] for row, label in zip(bank, labels.tolist(), strict=True)])
    inverse = np.linalg.inv(LedoitWolf(assume_centered=True).fit(residuals.numpy()).covariance_)
    return [
        min(float((d := (query - mean).numpy()) @ inverse @ d) for mean in means.values()) ** 0.5 for query in queries
    ]


def test_mahalanobis_equals_a_plain_loop(raw_digits):
    bank, labels, queries, _ = raw_digits
    expected = reference_mahalanobis(bank, labels, queries[:50])
    np.testing.assert_allclose(evaluation.mahalanobis(bank, labels, queries[:50]), expected, rtol=1e-8)


def test_mahalanobis_measures_in_standard_deviations_within_classes():
    deviations = torch.tensor([1.0, 10.0], dtype=torch.float64)
    means = torch.tensor([[0.0, 0.0], [300.0, 0.0]], dtype=torch.float64)  # far apart: no part of the scatter within
    labels = torch.arange(40_000) % 2
    bank = means[labels] + deviations * normal(40_000, 2)
    queries = torch.tensor([[3.0, 0.0], [0.0, 30.0], [300.0, -40.0], [150.0, 0.0]], dtype=torch.float64)
    distances = evaluation.mahalanobis(bank, 5 * labels, queries)
    torch.testing.assert_close(distances, torch.tensor([3.0, 3.0, 4.0, 150.0]).double(), rtol=0.02, atol=0)


def test_mahalanobis_sees_what_leaves_the_subspace_of_the_bank(raw_digits):
    bank, labels, queries, _ = raw_digits
    dead = (bank == 0).all(0).nonzero().flatten()
    assert len(dead) > 0
    lit = queries.clone()
    lit[:, dead] = 255
    assert (evaluation.mahalanobis(bank, labels, lit) > evaluation.mahalanobis(bank, labels, queries) + 1).all()


def test_mahalanobis_takes_float32_and_half_precision():
    bank, labels = normal(200, 5), torch.arange(200) % 3
    expected = evaluation.mahalanobis(bank.half().double(), labels, bank.half().double())
    torch.testing.assert_close(evaluation.mahalanobis(bank.half(), labels, bank.half()), expected)
    torch.testing.assert_close(
        evaluation.mahalanobis(bank.float(), labels, bank.float()),
        evaluation.mahalanobis(bank, labels, bank),
        rtol=1e-5,
        atol=1e-5,
    )


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"bank_labels": torch.arange(6)}, ValueError, "enough different rows of a class .* got 6 rows"),
        ({"bank": BANK * 0}, ValueError, "enough different rows of a class"),
        ({"queries": BANK[:, :2]}, ValueError, r"queries must have shape \(rows, 3\) like bank"),
        ({"bank": BANK * float("nan")}, ValueError, "bank must be finite; row 0 is not"),
        ({"bank": BANK.long()}, TypeError, "bank must be a floating-point tensor"),
    ],
)
def test_mahalanobis_refuses(change, error, message):
    arguments = {"bank": BANK, "bank_labels": LABELS, "queries": BANK} | change
    with pytest.raises(error, match=message):
        evaluation.mahalanobis(**arguments)
