import io

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.covariance import LedoitWolf
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import nn

from normlib import data, evaluation
from normlib.augment import TwoViews
from normlib.evaluation import sample_table, samples

COLUMNS = {
    "split": "str",
    "index": "int32",
    "label": "int16",
    "norm_backbone": "float32",
    "norm_projector": "float32",
    "knn_correct": "bool",
    "knn_margin": "float32",
    "kth_distance": "float32",
    "probe_correct": "bool",
    "probe_max_softmax": "float32",
    "probe_energy": "float32",
    "mahalanobis": "float32",
}


class Pixels(nn.Module):
    """A network whose features are the pixels and whose embeddings are some sums of them."""

    def __init__(self, pixels=64):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(pixels, 3, generator=torch.Generator().manual_seed(0)))

    def features(self, x):
        return x.flatten(1)

    def forward(self, x):
        return self.features(x) @ self.weight


def features_of(images):
    return images.images.flatten(1).double().numpy() / 255


def random_images(count, *, classes=4, side=8, seed=0, name="random"):
    """Noise, with labels that it knows nothing of."""
    generator = torch.Generator().manual_seed(seed)
    pixels = torch.randint(0, 256, (count, 1, side, side), generator=generator, dtype=torch.uint8)
    labels = torch.randperm(count, generator=generator) % classes
    return data.ImageSet(pixels, labels, torch.arange(count), tuple("abcdefgh"[:classes]), name)


@pytest.fixture(scope="module")
def digit_sets():
    train, test = data.digits("train"), data.digits("test")
    return train, {"test": test.subset(torch.arange(300)), "noisy": data.corrupt(test, "gaussian_noise", 5)}


@pytest.fixture(scope="module")
def digit_table(digit_sets):
    train, sets = digit_sets
    return sample_table(Pixels(), train, sets, k=20, with_bank=True)


def test_table_has_one_row_for_each_image_in_compact_columns(digit_sets, digit_table):
    train, sets = digit_sets
    assert digit_table.dtypes.astype(str).to_dict() == COLUMNS
    assert digit_table["split"].tolist() == ["train"] * 1347 + ["test"] * 300 + ["noisy"] * 450
    for split, images in {"train": train, **sets}.items():
        rows = digit_table[digit_table["split"] == split]
        assert rows["index"].tolist() == images.indices.tolist()
        assert rows["label"].tolist() == images.labels.tolist()
    assert digit_table.index.tolist() == list(range(len(digit_table)))
    assert np.isfinite(digit_table.select_dtypes("number")).all(axis=None)


def test_norms_are_those_of_features_and_embeddings(digit_sets, digit_table):
    for split, images in {"train": digit_sets[0], **digit_sets[1]}.items():
        rows, h = digit_table[digit_table["split"] == split], features_of(images)
        z = h @ Pixels().weight.detach().double().numpy()
        np.testing.assert_allclose(rows["norm_backbone"], np.linalg.norm(h, axis=1), rtol=5.1e-4)
        np.testing.assert_allclose(rows["norm_projector"], np.linalg.norm(z, axis=1), rtol=5.1e-4)


def assert_scores(rows, labels, shares, kth, probabilities, logits, distances):
    """Rows against what scikit-learn makes of the same features; classes are 0 .. C - 1."""
    best = np.sort(shares)[:, ::-1]
    clear = best[:, 0] - best[:, 1] > 1e-4  # elsewhere float32 may settle a tie another way
    assert np.array_equal(rows["knn_correct"][clear], (shares.argmax(1) == labels)[clear])
    np.testing.assert_allclose(rows["knn_margin"], best[:, 0] - best[:, 1], rtol=5.1e-4, atol=1e-5)
    np.testing.assert_allclose(rows["kth_distance"], kth, rtol=5.1e-4, atol=1e-6)
    ordered = np.sort(probabilities)[:, ::-1]
    clear = ordered[:, 0] - ordered[:, 1] > 1e-2  # raw digits are nearly separable: no solver finds the last digits
    assert np.array_equal(rows["probe_correct"][clear], (probabilities.argmax(1) == labels)[clear])
    np.testing.assert_allclose(rows["probe_max_softmax"], probabilities.max(1), rtol=1e-2)
    np.testing.assert_allclose(rows["probe_energy"], np.log(np.exp(logits).sum(1)), rtol=1e-2, atol=1e-2)
    np.testing.assert_allclose(rows["mahalanobis"], distances, rtol=6e-4)


def peer_fits(x, labels, queries):
    """Class probabilities and logits of a probe, and Mahalanobis distances, by scikit-learn alone."""
    regression = LogisticRegression(solver="newton-cholesky", max_iter=1000, tol=1e-12)  # by default it stops early
    probe = make_pipeline(StandardScaler(), regression).fit(x, labels)
    means = np.stack([x[labels == label].mean(0) for label in range(labels.max() + 1)])
    scatter = LedoitWolf(assume_centered=True).fit(x - means[labels])
    distances = np.sqrt(np.min([scatter.mahalanobis(queries - mean) for mean in means], axis=0))
    return probe.predict_proba(queries), probe.decision_function(queries), distances


def test_scores_of_other_sets_equal_scikit_learns_on_the_whole_bank(digit_sets, digit_table):
    train, sets = digit_sets
    x, labels = features_of(train), train.labels.numpy()
    peer = KNeighborsClassifier(20, metric="cosine", weights=lambda d: np.exp((1 - d) / 0.1)).fit(x, labels)
    for split, images in sets.items():
        queries = features_of(images)
        rows = digit_table[digit_table["split"] == split].reset_index()
        kth = peer.kneighbors(queries)[0][:, -1]
        fits = peer_fits(x, labels, queries)
        assert_scores(rows, images.labels.numpy(), peer.predict_proba(queries), kth, *fits)


def test_scores_of_the_bank_are_left_out_and_cross_fitted(digit_sets, digit_table):
    train, _ = digit_sets
    x, labels = features_of(train), train.labels.numpy()
    peer = KNeighborsClassifier(20, metric="cosine").fit(x, labels)
    distances, neighbours = peer.kneighbors()  # without queries scikit-learn too leaves each point out
    weights = np.exp((1 - distances) / 0.1)
    shares = np.stack([((labels[neighbours] == c) * weights).sum(1) for c in range(10)], axis=1)
    probabilities, logits, mahalanobis = np.empty((1347, 10)), np.empty((1347, 10)), np.empty(1347)
    for fitted_on, scored in StratifiedKFold(5, shuffle=True, random_state=0).split(x, labels):
        fits = peer_fits(x[fitted_on], labels[fitted_on], x[scored])
        probabilities[scored], logits[scored], mahalanobis[scored] = fits
    rows = digit_table[digit_table["split"] == "train"]
    shares /= shares.sum(1, keepdims=True)
    assert_scores(rows, labels, shares, distances[:, -1], probabilities, logits, mahalanobis)


def test_no_image_has_a_part_in_its_own_score():
    bank, fresh = random_images(400), random_images(400, seed=1)
    x = torch.from_numpy(features_of(bank))
    leaked = evaluation.knn(x, bank.labels, x, k=5, temperature=0.01) == bank.labels
    assert leaked.double().mean() > 0.9  # what a leak would look like
    assert evaluation.linear_probe(x, bank.labels, x, bank.labels) > 0.4
    table = sample_table(Pixels(), bank, {"fresh": fresh}, k=5, temperature=0.01, with_bank=True)
    means = table.groupby("split").mean()
    for column in ("knn_correct", "probe_correct"):  # chance is 1/4, with a standard deviation of 0.022
        assert (means[column] - 0.25).abs().max() < 0.09
    ratios = means.loc["train"] / means.loc["fresh"]
    assert ratios["kth_distance"] == pytest.approx(1, abs=0.02)
    assert ratios["mahalanobis"] == pytest.approx(1, abs=0.05)


def test_cross_fitting_shows_where_fitting_on_the_row_itself_would_flatter():
    """A random bank's own rows lie nearer to means and in a scatter that they helped to make."""
    bank = random_images(120)
    x = torch.from_numpy(features_of(bank))
    own = evaluation.mahalanobis(x, bank.labels, x).mean().item()
    honest = sample_table(Pixels(), bank, {}, k=5, with_bank=True)["mahalanobis"].mean()
    assert honest > 1.03 * own


def test_images_of_held_out_classes_are_never_correct():
    seen, _ = data.hold_out(data.digits("train"), [0, 4, 9])
    table = sample_table(Pixels(), seen, {"test": data.digits("test")}, k=20)
    new = table["label"].isin([0, 4, 9])
    assert not table.loc[new, ["knn_correct", "probe_correct"]].any(axis=None)
    assert table.loc[~new, ["knn_correct", "probe_correct"]].mean().min() > 0.9
    high_is_novel = table.groupby(new)[["kth_distance", "mahalanobis"]].median()
    assert (high_is_novel.loc[True] > 1.2 * high_is_novel.loc[False]).all()
    high_is_familiar = table.groupby(new)[["knn_margin", "probe_max_softmax", "probe_energy"]].median()
    assert (high_is_familiar.loc[True] < high_is_familiar.loc[False]).all()


def test_seed_and_folds_change_what_is_cross_fitted_and_nothing_else():
    bank, state = random_images(80), torch.get_rng_state()
    first = sample_table(Pixels(), bank, {}, k=5, with_bank=True, seed=1)
    pd.testing.assert_frame_equal(first, sample_table(Pixels(), bank, {}, k=5, with_bank=True, seed=1))
    assert torch.equal(torch.get_rng_state(), state)
    fitted = ["probe_correct", "probe_max_softmax", "probe_energy", "mahalanobis"]
    for change in ({"seed": 2}, {"seed": 1, "folds": 10}):
        other = sample_table(Pixels(), bank, {}, k=5, with_bank=True, **change)
        assert not first["mahalanobis"].equals(other["mahalanobis"])
        pd.testing.assert_frame_equal(first.drop(columns=fitted), other.drop(columns=fitted))


def test_a_set_is_scored_the_same_whatever_stands_beside_it():
    bank, one, other = random_images(80), random_images(30, seed=1), random_images(50, seed=2)
    together = sample_table(Pixels(), bank, {"one": one, "other": other}, k=5, with_bank=True)
    alone = sample_table(Pixels(), bank, {"other": other}, k=5)
    beside = together[together["split"] == "other"].reset_index(drop=True)
    assert (beside.dtypes == alone.dtypes).all()
    for column in ("knn_margin", "kth_distance", "probe_energy", "mahalanobis"):
        np.testing.assert_allclose(beside[column], alone[column], rtol=1.1e-3, atol=1e-6)
    assert beside["knn_correct"].equals(alone["knn_correct"])


BANK, OTHER = random_images(40), random_images(30, seed=1)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"k": 41}, r"k must be an integer ≥ 1 and ≤ 40, got 41"),
        ({"k": 40, "with_bank": True}, r"k must be an integer ≥ 1 and ≤ 39, got 40"),
        ({"sets": {}}, "sets must name an image set to score, or with_bank must be True"),
        ({"sets": {"train": OTHER}, "with_bank": True}, "sets must not use the name 'train'"),
        ({"sets": {"one": OTHER, "bank": BANK}}, r"sets\['bank'\] must not hold images of the bank, but shares 40"),
        ({"sets": {"part": BANK.subset(torch.tensor([7, 3]))}}, r"sets\['part'\] .* shares 2; .* with_bank=True"),
        (
            {"folds": 11, "with_bank": True},
            "folds must be an integer ≥ 2 and ≤ 10, got 11; a class of the bank has 10 images",
        ),
        ({"folds": 1, "with_bank": True}, "folds must be an integer ≥ 2 and ≤ 10"),
    ],
)
def test_sample_table_refuses_before_it_runs_the_network(change, message):
    with pytest.raises(ValueError, match=message):
        sample_table(**({"model": nn.Module(), "bank": BANK, "sets": {"other": OTHER}, "k": 5} | change))


def test_sample_table_refuses_indices_that_its_column_cannot_hold():
    far = data.ImageSet(OTHER.images, OTHER.labels, OTHER.indices + 2**31, OTHER.classes, "far")
    with pytest.raises(ValueError, match=r"indices below 2\*\*31, .* got 2147483677"):
        sample_table(nn.Module(), BANK, {"far": far}, k=5)


def test_a_set_may_take_the_name_train_where_the_bank_is_not_scored():
    assert set(sample_table(Pixels(), BANK, {"train": OTHER}, k=5)["split"]) == {"train"}


@given(st.floats(-1e30, 1e30).filter(lambda x: x == 0 or abs(x) > 1e-30))
def test_numbers_keep_four_significant_digits(x):
    rounded = samples._rounded(torch.tensor([x], dtype=torch.float64))
    assert rounded.dtype == np.float32
    assert abs(rounded[0] - x) <= 5.01e-4 * abs(x)
    assert float(f"{rounded[0]:.3e}") == pytest.approx(rounded[0], rel=1e-6)


def test_numbers_that_are_not_finite_stay_so():
    values = torch.tensor([torch.inf, -torch.inf, torch.nan, 0])
    np.testing.assert_array_equal(samples._rounded(values), values.numpy())


def test_a_row_takes_some_twenty_bytes_in_a_file():
    count = 60_000
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(0, 10, (count,), generator=generator)
    indices = torch.cat([torch.arange(50_000), torch.arange(10_000)])
    images = data.ImageSet(
        torch.zeros(count, 1, 1, 1, dtype=torch.uint8), labels, indices, tuple("0123456789"), "blank"
    )
    h, z = (torch.randn(count, 64, generator=generator).exp() for _ in range(2))
    nearest = evaluation.NeighbourScores(labels, torch.rand(count, generator=generator), z[:, 0] / 100)
    logits = 5 * torch.randn(count, 10, generator=generator)
    table = samples._frame({"test": images}, h, z, nearest, (logits, h[:, 1] * 20))
    buffer = io.BytesIO()
    table.to_parquet(buffer, compression="zstd", index=False)
    assert buffer.tell() / count < 25  # bytes a row; 60,000 rows make 1.2 MB
    pd.testing.assert_frame_equal(pd.read_parquet(io.BytesIO(buffer.getvalue())), table)


def test_view_spread_is_the_mean_distance_between_embeddings_of_views():
    bank, fresh = random_images(50), random_images(20, seed=1)
    augment = TwoViews(size=fresh.images.shape[-1], noise=0.2)
    table = sample_table(Pixels(), bank, {"fresh": fresh}, k=5, probes=False, augment=augment, views=4, seed=3)
    generator = torch.Generator().manual_seed(3)
    views = [view for _ in range(2) for view in augment(fresh.images, generator=generator)]
    z = torch.stack([evaluation.embed(Pixels(), view)[1].double() for view in views])
    pairs = [1 - torch.cosine_similarity(z[i], z[j]) for i in range(4) for j in range(i)]
    np.testing.assert_allclose(table["view_spread"], torch.stack(pairs).mean(0), rtol=1e-3)
    assert "probe_correct" not in table


def test_view_spread_is_zero_where_views_do_not_differ():
    bank, fresh = random_images(50), random_images(20, seed=1)
    same = TwoViews(size=fresh.images.shape[-1])
    table = sample_table(Pixels(), bank, {"fresh": fresh}, k=5, probes=False, augment=same)
    np.testing.assert_allclose(table["view_spread"], 0, atol=1e-6)


def test_an_odd_number_of_views_is_refused():
    with pytest.raises(ValueError, match="views must be even, since they are drawn in pairs, got 3"):
        sample_table(Pixels(), random_images(50), {"fresh": random_images(9, seed=1)}, k=5, views=3)
