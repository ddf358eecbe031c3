"""Nearest neighbours in a bank of labelled features: their vote, their distance, and few-shot accuracy."""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from normlib._utils.arguments import check_count, check_seed
from normlib._utils.tensors import directions_and_inverse_norms
from normlib.evaluation._checks import _check_labelled, _check_labels, check_vote

BLOCK_ELEMENTS = 2**25  # similarities in memory at once: 128 MiB in float32


class NeighbourScores(NamedTuple):
    """What each query's nearest neighbours say of it; see :func:`neighbour_scores`."""

    predicted: Tensor
    margin: Tensor
    kth_distance: Tensor


@torch.no_grad()
def neighbour_scores(
    bank: Tensor,
    bank_labels: Tensor,
    queries: Tensor,
    *,
    k: int = 200,
    temperature: float = 0.1,
    n_classes: int | None = None,
    exclude_self: bool = False,
) -> NeighbourScores:
    """Vote of each query's K nearest neighbours in the bank, weighted by exp(cos φ / τ), and how far the K-th is.

    Only directions count; a zero row has cosine 0 with everything. Classes with equal votes: the smaller label wins.
    Which of several equally near rows is the K-th neighbour is left open. Queries are compared in blocks, so memory is
    bounded.

    Args:
        bank: Labelled features, shape ``(B, F)``.
        bank_labels: Their classes, integers of 0 or more, shape ``(B,)``.
        queries: Features to label, shape ``(M, F)``, on the same device.
        k: K, the neighbours that vote, at most B.
        temperature: τ, above 0. Small values listen to the nearest neighbours only.
        n_classes: C; by default the largest label in the bank plus one.
        exclude_self: ``queries`` is ``bank`` itself, and no row may vote for its own label. Without this a training
            point scored in the bank that holds it mostly finds itself.

    Returns:
        Three tensors of shape ``(M,)`` on the device of the queries. ``predicted`` is the label with the largest vote,
        int64, and ``margin`` its share of the whole vote less that of the runner-up, in 0..1. ``kth_distance`` is
        1 - cos φ to the K-th neighbour, in 0..2; large where the bank knows nothing alike.

    Raises:
        TypeError: Features are not floats, or labels not integers.
        ValueError: Shapes do not fit, values are not finite, ``k`` exceeds the bank, ``temperature`` is not positive, a
            label is outside ``0 .. C - 1``, or ``exclude_self`` is asked for with other queries than the bank.

    Source: Wu et al. 2018 (instance discrimination); k = 200 and τ = 0.1 as in the code released with Draganov et al.
    2025. The distance as a score for novelty: Sun et al. 2022.

    >>> bank = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.1, 5.0]])
    >>> queries = torch.tensor([[9.0, 1.0], [0.0, 0.2]])
    >>> scores = neighbour_scores(bank, torch.tensor([0, 1, 1]), queries, k=2, temperature=1)
    >>> scores.predicted, scores.margin, scores.kth_distance.round(decimals=2)
    (tensor([0, 1]), tensor([0.4068, 1.0000]), tensor([0.8700, 0.0000]))
    """
    _check_labelled(bank, bank_labels, queries)
    classes = int(bank_labels.max()) + 1 if n_classes is None else n_classes
    check_count("n_classes", classes)
    if int(bank_labels.max()) >= classes:
        raise ValueError(f"bank_labels must be below n_classes={n_classes}, got {int(bank_labels.max())}")
    if exclude_self and not (bank.shape == queries.shape and torch.equal(bank, queries)):
        raise ValueError("exclude_self=True needs queries to be the bank itself, row by row; got other values")
    check_vote(k, temperature, len(bank) - bool(exclude_self))
    u, labels = directions_and_inverse_norms(bank)[0], bank_labels.to(bank.device, torch.int64)
    rows = max(1, BLOCK_ELEMENTS // len(bank))
    blocks = []
    for start in range(0, len(queries), rows):
        cosines = directions_and_inverse_norms(queries[start : start + rows])[0] @ u.T
        if exclude_self:
            cosines.diagonal(start).fill_(-torch.inf)
        nearest, places = cosines.topk(k)
        weights = (
            (nearest - nearest[:, :1]) / temperature
        ).exp()  # relative to the nearest: no overflow, the same vote
        votes = weights.new_zeros(len(weights), classes).scatter_add_(1, labels[places], weights)
        winner = votes.argmax(1, keepdim=True)
        lead = votes.gather(1, winner)[:, 0] - votes.scatter(1, winner, 0).amax(1)
        blocks.append((winner[:, 0], lead / votes.sum(1), (1 - nearest[:, -1]).clamp(min=0)))
    return NeighbourScores(*(torch.cat(parts) for parts in zip(*blocks, strict=True)))


def knn(
    bank: Tensor,
    bank_labels: Tensor,
    queries: Tensor,
    *,
    k: int = 200,
    temperature: float = 0.1,
    n_classes: int | None = None,
    exclude_self: bool = False,
) -> Tensor:
    """Label that each query's K nearest neighbours in the bank vote for: ``predicted`` of :func:`neighbour_scores`.

    Arguments and errors are those of :func:`neighbour_scores`.

    Returns:
        Predicted labels, int64, shape ``(M,)``.

    >>> bank = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.1, 5.0]])
    >>> knn(bank, torch.tensor([0, 1, 1]), torch.tensor([[9.0, 1.0], [0.0, 0.2]]), k=1)
    tensor([0, 1])
    """
    scores = neighbour_scores(
        bank, bank_labels, queries, k=k, temperature=temperature, n_classes=n_classes, exclude_self=exclude_self
    )
    return scores.predicted


def few_shot_accuracy(
    bank: Tensor,
    bank_labels: Tensor,
    queries: Tensor,
    query_labels: Tensor,
    *,
    labels_per_class: int = 3,
    draws: int = 100,
    seed: int = 0,
) -> np.ndarray:
    """Accuracy of the nearest neighbour when only a few points of each class carry a label.

    Where raw pixels nearly solve a data set with all labels (digits), few labels still tell a good representation from
    a poor one. Compare two representations with one ``seed``: both then see the same labelled points.

    Args:
        bank: Features that labelled points are drawn from, shape ``(B, F)``.
        bank_labels: Their classes, shape ``(B,)``.
        queries: Features to label, shape ``(M, F)``.
        query_labels: Their classes, shape ``(M,)``.
        labels_per_class: Points of each class that are drawn, without repeats.
        draws: Number of random draws.
        seed: Seed of the draws.

    Returns:
        One accuracy in 0..1 for each draw, float64, shape ``(draws,)``; their spread is that of the drawn points only.

    Raises:
        TypeError: As :func:`knn`.
        ValueError: As :func:`knn`; or a class has fewer points than are to be drawn, or ``draws`` is below 1.

    >>> bank = torch.eye(2).repeat(5, 1)
    >>> few_shot_accuracy(bank, torch.tensor([0, 1] * 5), bank, torch.tensor([0, 1] * 5), draws=2)
    array([1., 1.])
    """
    options = {"labels_per_class": labels_per_class, "draws": draws, "seed": seed}
    return few_shot_correct(bank, bank_labels, queries, query_labels, **options).mean(axis=1)


def few_shot_correct(
    bank: Tensor,
    bank_labels: Tensor,
    queries: Tensor,
    query_labels: Tensor,
    *,
    labels_per_class: int = 3,
    draws: int = 100,
    seed: int = 0,
) -> np.ndarray:
    """Which queries :func:`few_shot_accuracy` labels correctly in each draw; its arguments and errors.

    Returns:
        True where the nearest labelled point has the query's class, shape ``(draws, M)``.

    >>> bank = torch.eye(2).repeat(5, 1)
    >>> few_shot_correct(bank, torch.tensor([0, 1] * 5), bank[:2], torch.tensor([0, 0]), draws=1)
    array([[ True, False]])
    """
    _check_labelled(bank, bank_labels, queries)
    _check_labels("query_labels", query_labels, len(queries))
    check_count("draws", draws)
    check_count("labels_per_class", labels_per_class)
    check_seed(seed)
    members = {int(label): (bank_labels == label).nonzero().flatten().cpu() for label in bank_labels.unique()}
    label, fewest = min(((label, len(places)) for label, places in members.items()), key=lambda pair: pair[1])
    if labels_per_class > fewest:
        raise ValueError(
            f"labels_per_class must be in 1..{fewest}, since class {label} has {fewest} points, got {labels_per_class}"
        )
    generator = torch.Generator().manual_seed(seed)
    hits = np.empty((draws, len(queries)), dtype=bool)
    for draw in range(draws):
        orders = [torch.randperm(len(places), generator=generator)[:labels_per_class] for places in members.values()]
        drawn = torch.cat([places[order] for places, order in zip(members.values(), orders, strict=True)])
        predicted = knn(bank[drawn], bank_labels[drawn], queries, k=1)
        hits[draw] = (predicted.cpu() == query_labels.cpu()).numpy()
    return hits
