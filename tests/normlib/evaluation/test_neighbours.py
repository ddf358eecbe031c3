import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.neighbors import KNeighborsClassifier

from normlib import evaluation
from normlib.evaluation import neighbours


def normal(*shape, seed=0, dtype=torch.float64):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


BANK, LABELS = normal(6, 3), torch.tensor([0, 1, 2, 0, 1, 2])


# --- knn ---


def reference_knn(bank, labels, queries, k, temperature, exclude_self=False):
    """One query at a time, votes summed in a dictionary; also the votes' lead over the second."""
    predicted, leads = [], []
    for place, query in enumerate(queries.numpy()):
        cosines = bank.numpy() @ query / (np.linalg.norm(bank.numpy(), axis=1) * np.linalg.norm(query))
        if exclude_self:
            cosines[place] = -np.inf
        votes = np.zeros(int(labels.max()) + 2)
        for neighbour in np.argsort(-cosines)[:k]:
            votes[labels[neighbour]] += np.exp(cosines[neighbour] / temperature)
        first, second = np.sort(votes)[::-1][:2]
        predicted.append(int(votes.argmax()))
        leads.append((first - second) / first)
    return predicted, leads


@pytest.mark.parametrize(("k", "temperature"), [(1, 0.1), (5, 0.1), (200, 0.1), (200, 0.02), (1347, 1.0)])
def test_knn_equals_scikit_learn_on_digits(raw_digits, k, temperature):
    bank, labels, queries, _ = raw_digits
    peer = KNeighborsClassifier(k, metric="cosine", weights=lambda distance: np.exp((1 - distance) / temperature))
    expected = peer.fit(bank.numpy(), labels.numpy()).predict(queries.numpy())
    assert evaluation.knn(bank, labels, queries, k=k, temperature=temperature).tolist() == expected.tolist()


@settings(deadline=None, max_examples=50)
@given(
    st.integers(2, 30), st.integers(1, 5), st.integers(2, 8), st.floats(0.01, 10), st.booleans(), st.integers(0, 10**6)
)
def test_knn_equals_a_plain_loop(size, classes, width, temperature, exclude_self, seed):
    bank = normal(size, width, seed=seed)
    labels = torch.randint(classes, (size,), generator=torch.Generator().manual_seed(seed))
    queries = bank if exclude_self else normal(7, width, seed=seed + 1)
    k = 1 + seed % (size - exclude_self)
    predicted = evaluation.knn(bank, labels, queries, k=k, temperature=temperature, exclude_self=exclude_self)
    expected, leads = reference_knn(bank, labels, queries, k, temperature, exclude_self)
    for ours, theirs, lead in zip(predicted.tolist(), expected, leads, strict=True):
        assert ours == theirs or lead < 1e-12


def test_knn_sees_directions_only(raw_digits):
    bank, labels, queries, _ = raw_digits
    expected = evaluation.knn(bank, labels, queries, k=20)
    lengths = 10 ** (60 * torch.rand(len(bank), 1, generator=torch.Generator().manual_seed(0)) - 30)
    assert torch.equal(evaluation.knn(bank.float(), labels, queries.float(), k=20), expected)
    scaled = (bank / 255 * lengths).float()
    assert (scaled.norm(dim=1) == 0).any()  # so short that squaring underflows
    assert torch.equal(evaluation.knn(scaled, labels, queries.float() * 1e-30, k=20), expected)


def test_knn_is_blockwise_and_blocks_do_not_show(raw_digits, monkeypatch):
    bank, labels, _, _ = raw_digits
    expected = evaluation.knn(bank, labels, bank, k=10, exclude_self=True)
    sizes, directions = [], neighbours.directions_and_inverse_norms
    monkeypatch.setattr(neighbours, "directions_and_inverse_norms", lambda z: sizes.append(len(z)) or directions(z))
    for block in (1, 100 * len(bank)):
        monkeypatch.setattr(neighbours, "BLOCK_ELEMENTS", block)
        sizes.clear()
        assert torch.equal(evaluation.knn(bank, labels, bank, k=10, exclude_self=True), expected)
        assert max(sizes[1:]) == max(1, block // len(bank))


def test_exclude_self_undoes_the_advantage_of_finding_oneself():
    points, labels = normal(200, 16), torch.arange(200) % 2  # labels that the points know nothing of
    found = (evaluation.knn(points, labels, points, k=1) == labels).double().mean()
    honest = (evaluation.knn(points, labels, points, k=1, exclude_self=True) == labels).double().mean()
    assert found == 1
    assert 0.35 < honest < 0.65


def test_small_temperatures_follow_the_nearest_and_do_not_overflow(raw_digits):
    bank, labels, queries, _ = raw_digits
    nearest = evaluation.knn(bank.float(), labels, queries.float(), k=1)
    cold = evaluation.knn(bank.float(), labels, queries.float(), k=200, temperature=1e-7)
    assert torch.equal(cold, nearest)


def test_equal_votes_go_to_the_smaller_label_and_zero_rows_count_as_cosine_zero():
    bank = torch.tensor([[0.0, 1.0], [0.0, 1.0], [0.0, 0.0]])
    assert evaluation.knn(bank, torch.tensor([4, 2, 1]), torch.tensor([[0.0, 3.0]]), k=2).tolist() == [2]
    # The zero row is nearer to an opposite query than the rows at cosine -1, and no row is nearer to a zero query.
    assert evaluation.knn(bank, torch.tensor([4, 2, 1]), torch.tensor([[0.0, -3.0]]), k=1).tolist() == [1]
    assert evaluation.knn(bank, torch.tensor([4, 2, 1]), torch.tensor([[0.0, 0.0]]), k=3).tolist() == [1]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_knn_takes_half_precision_and_small_integer_labels(dtype):
    bank, labels = normal(50, 8).to(dtype), (torch.arange(50) % 3).to(torch.uint8)
    predicted = evaluation.knn(bank, labels, bank[:9], k=5)
    assert predicted.dtype == torch.int64
    assert torch.equal(predicted, evaluation.knn(bank.float(), labels, bank[:9].float(), k=5))


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"k": 7}, ValueError, r"k must be an integer ≥ 1 and ≤ 6, got 7"),
        ({"k": 0}, ValueError, r"k must be an integer ≥ 1 and ≤ 6, got 0"),
        ({"k": 6, "exclude_self": True}, ValueError, r"k must be an integer ≥ 1 and ≤ 5, got 6"),
        ({"temperature": 0}, ValueError, "temperature must be a number > 0, got 0"),
        ({"temperature": float("nan")}, ValueError, "temperature must be a number > 0, got nan"),
        ({"n_classes": 2}, ValueError, "bank_labels must be below n_classes=2, got 2"),
        ({"queries": BANK + 1, "exclude_self": True}, ValueError, "needs queries to be the bank itself"),
        ({"queries": BANK[:2], "exclude_self": True}, ValueError, "needs queries to be the bank itself"),
        ({"queries": BANK[:, :2]}, ValueError, r"queries must have shape \(rows, 3\) like bank, got \(6, 2\)"),
        ({"queries": BANK.float()}, ValueError, "queries must be torch.float64 on cpu like bank, got torch.float32"),
        ({"queries": BANK.long()}, TypeError, "queries must be a floating-point tensor, got torch.int64"),
        ({"queries": BANK / 0}, ValueError, "queries must be finite; row 0 is not"),
        ({"bank": BANK[0]}, ValueError, r"bank must have shape \(rows, features\).* got \(3,\)"),
        ({"bank": BANK[:0]}, ValueError, r"bank must have shape .* got \(0, 3\)"),
        ({"bank": BANK.numpy()}, TypeError, "bank must be a floating-point tensor, got ndarray"),
        ({"bank_labels": LABELS[:5]}, ValueError, r"bank_labels must have shape \(6,\).* got \(5,\)"),
        ({"bank_labels": LABELS.double()}, TypeError, "bank_labels must be a tensor of integers, got torch.float64"),
        ({"bank_labels": LABELS > 0}, TypeError, "bank_labels must be a tensor of integers, got torch.bool"),
        ({"bank_labels": LABELS - 1}, ValueError, "bank_labels must be 0 or more, got -1"),
    ],
)
def test_knn_refuses(change, error, message):
    arguments = {"bank": BANK, "bank_labels": LABELS, "queries": BANK, "k": 1} | change
    with pytest.raises(error, match=message):
        evaluation.knn(**arguments)


def test_n_classes_does_not_change_the_vote():
    assert torch.equal(evaluation.knn(BANK, LABELS, BANK, k=3, n_classes=50), evaluation.knn(BANK, LABELS, BANK, k=3))


# --- neighbour_scores ---


@pytest.mark.parametrize(("k", "temperature"), [(1, 0.1), (5, 0.1), (200, 0.1), (200, 0.02), (1347, 1.0)])
def test_neighbour_scores_equal_scikit_learn_on_digits(raw_digits, k, temperature):
    bank, labels, queries, _ = raw_digits
    peer = KNeighborsClassifier(k, metric="cosine", weights=lambda distance: np.exp((1 - distance) / temperature))
    shares = np.sort(peer.fit(bank.numpy(), labels.numpy()).predict_proba(queries.numpy()))
    distances, _ = peer.kneighbors(queries.numpy())
    scores = evaluation.neighbour_scores(bank, labels, queries, k=k, temperature=temperature)
    np.testing.assert_allclose(scores.margin, shares[:, -1] - shares[:, -2], atol=1e-9)
    np.testing.assert_allclose(scores.kth_distance, distances[:, -1], atol=1e-9)
    assert torch.equal(scores.predicted, evaluation.knn(bank, labels, queries, k=k, temperature=temperature))


def test_neighbour_scores_of_the_bank_leave_each_row_out(raw_digits):
    bank, labels, _, _ = raw_digits
    bank, labels = bank[:60], labels[:60]
    scores = evaluation.neighbour_scores(bank, labels, bank, k=5, exclude_self=True)
    for row in range(60):
        others = torch.arange(60) != row
        alone = evaluation.neighbour_scores(bank[others], labels[others], bank[row : row + 1], k=5)
        assert scores.predicted[row] == alone.predicted[0]
        assert scores.margin[row].item() == pytest.approx(alone.margin[0].item())
        assert scores.kth_distance[row].item() == pytest.approx(alone.kth_distance[0].item())


def test_blocks_do_not_show_in_margins_and_distances(raw_digits, monkeypatch):
    bank, labels, queries, _ = raw_digits
    expected = evaluation.neighbour_scores(bank, labels, queries)
    monkeypatch.setattr(neighbours, "BLOCK_ELEMENTS", 7 * len(bank))
    for ours, theirs in zip(evaluation.neighbour_scores(bank, labels, queries), expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-12)


def test_margins_and_distances_at_their_ends():
    bank = torch.tensor([[1.0, 0.0], [2.0, 0.0], [-1.0, 0.0], [0.0, 3.0]])

    def ask(labels, query, k):
        return evaluation.neighbour_scores(bank, torch.tensor(labels), torch.tensor([query]), k=k, temperature=1)

    same = ask([0, 0, 0, 0], [1.0, 0.0], 4)  # one class: no runner-up
    assert (same.margin.item(), same.kth_distance.item()) == (1, 2)
    tied = ask([1, 2, 0, 0], [5.0, 0.0], 2)
    assert (tied.predicted.item(), tied.margin.item(), tied.kth_distance.item()) == (1, 0, 0)
    assert ask([1, 2, 0, 0], [0.0, 0.0], 4).kth_distance.item() == 1  # a zero row is at right angles to all


def test_neighbour_scores_keep_no_graph_of_features_that_need_gradients():
    bank = normal(20, 4).requires_grad_()
    scores = evaluation.neighbour_scores(bank, torch.arange(20) % 3, bank, k=3)
    assert not any(score.requires_grad for score in scores)


# --- few_shot_accuracy ---


def test_few_labels_are_drawn_anew_in_each_draw_and_reproducibly(raw_digits):
    first = evaluation.few_shot_accuracy(*raw_digits, draws=5, seed=1)
    assert first.shape == (5,)
    assert len(set(first)) > 1
    assert first.tolist() == evaluation.few_shot_accuracy(*raw_digits, draws=5, seed=1).tolist()
    assert first.tolist() != evaluation.few_shot_accuracy(*raw_digits, draws=5, seed=2).tolist()
    state = torch.get_rng_state()
    evaluation.few_shot_accuracy(*raw_digits, draws=1)
    assert torch.equal(torch.get_rng_state(), state)


def test_hits_with_few_labels_average_to_the_accuracy():
    h, labels = normal(40, 3, dtype=torch.float32), torch.arange(40) % 4
    given = (h[::2], labels[::2], h[1::2], labels[1::2])
    hits = evaluation.few_shot_correct(*given, labels_per_class=2, draws=5)
    assert hits.shape == (5, 20)
    expected = evaluation.few_shot_accuracy(*given, labels_per_class=2, draws=5)
    assert hits.mean(axis=1).tolist() == expected.tolist()


def test_few_labels_draw_exactly_so_many_of_each_class(monkeypatch):
    labels = torch.tensor([3, 0, 0, 3, 0, 3, 3, 0, 0])
    bank = torch.arange(18.0).reshape(9, 2) + 1
    seen = []
    monkeypatch.setattr(
        neighbours, "knn", lambda rows, row_labels, queries, k: seen.append((rows, row_labels)) or labels
    )
    assert evaluation.few_shot_accuracy(bank, labels, bank, labels, labels_per_class=2, draws=20).tolist() == [1.0] * 20
    for rows, row_labels in seen:
        assert row_labels.tolist() == [0, 0, 3, 3]
        places = [(bank == row).all(1).nonzero().item() for row in rows]
        assert len(set(places)) == 4
        assert labels[places].tolist() == [0, 0, 3, 3]
    assert len({rows[0, 0].item() for rows, _ in seen}) == 5  # each of class 0 comes first some time


def test_all_labels_are_the_plain_nearest_neighbour(raw_digits):
    bank, labels, queries, query_labels = raw_digits
    balanced = torch.cat([(labels == digit).nonzero().flatten()[:100] for digit in range(10)])
    accuracy = evaluation.few_shot_accuracy(
        bank[balanced], labels[balanced], queries, query_labels, labels_per_class=100, draws=1
    )
    predicted = evaluation.knn(bank[balanced], labels[balanced], queries, k=1)
    assert accuracy.tolist() == [(predicted == query_labels).double().mean().item()]


def test_few_labels_on_raw_digits_leave_room_that_many_labels_do_not(raw_digits):
    few = evaluation.few_shot_accuracy(*raw_digits, labels_per_class=3, draws=100).mean()
    many = evaluation.few_shot_accuracy(*raw_digits, labels_per_class=100, draws=5).mean()
    assert few == pytest.approx(0.80, abs=0.02)
    assert many > 0.96


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"labels_per_class": 3}, r"labels_per_class must be in 1\.\.2, since class 0 has 2 points, got 3"),
        ({"labels_per_class": 0}, "labels_per_class must be an integer ≥ 1, got 0"),
        ({"draws": 0}, "draws must be an integer ≥ 1, got 0"),
        ({"query_labels": LABELS[:3]}, r"query_labels must have shape \(6,\)"),
    ],
)
def test_few_labels_refuse(change, message):
    arguments = {"bank": BANK, "bank_labels": LABELS, "queries": BANK, "query_labels": LABELS} | change
    with pytest.raises(ValueError, match=message):
        evaluation.few_shot_accuracy(**arguments)
