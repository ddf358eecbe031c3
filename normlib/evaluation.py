"""What a representation is good for: nearest neighbours, few labels, a linear probe, the distance from what is known.

All scores take features as given and train no network, so nothing here can change the model that is judged.
"""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from normlib._arguments import check_count, check_number, check_seed, check_type
from normlib._collapse import Collapse, collapse
from normlib._image_batches import check_values
from normlib._rows import check_floating, directions_and_inverse_norms, kind_of, widened
from normlib.data import ImageSet

__all__ = [
    "Collapse",
    "NeighbourScores",
    "collapse",
    "embed",
    "few_label_hits",
    "knn",
    "linear_probe",
    "mahalanobis",
    "nearest_few_label",
    "neighbour_scores",
    "probe_logits",
]

BLOCK_ELEMENTS = 2**25  # similarities in memory at once: 128 MiB in float32


@torch.no_grad()
def embed(model: nn.Module, images: ImageSet | Tensor, *, batch_size: int = 1024) -> tuple[Tensor, Tensor]:
    """Features and embeddings of all images, in eval mode; the model is left in the modes it was in.

    Args:
        model: Network with ``features(x)`` and ``model(x)``, such as :class:`normlib.models.SimCLR`. A network without
            ``features`` gives its output twice. If it has a ``backbone`` too, ``features(x)`` must be what that puts
            out: both are then had in one pass. Of several outputs, as SimSiam has them, the first is the embedding.
        images: An :class:`~normlib.data.ImageSet`, or a tensor ``(N, C, H, W)``, uint8 or float in [0, 1].
        batch_size: Images at a time, on the model's device.

    Returns:
        Features ``h``, shape ``(N, F)``, and embeddings ``z``, shape ``(N, D)``; float32, on the CPU, not normalised.

    Raises:
        TypeError: ``model`` is no module, or ``images`` neither an image set nor a tensor of uint8 or floats.
        ValueError: ``images`` is empty, not four-dimensional or (checked on the CPU) outside [0, 1], ``batch_size`` is
            no integer of 1 or more, or an output is no matrix.

    >>> from normlib import data, models
    >>> model = models.SimCLR(models.digits_encoder(16, 8), models.projection_head(8, 8, 4))
    >>> [tuple(out.shape) for out in embed(model, data.digits("test"))]
    [(450, 8), (450, 4)]
    """
    check_type(nn.Module, model=model)
    pixels = images.images if isinstance(images, ImageSet) else images
    if not isinstance(pixels, Tensor) or not (pixels.dtype == torch.uint8 or pixels.is_floating_point()):
        got = kind_of(pixels)
        raise TypeError(f"images must be an ImageSet or a tensor of uint8 or floats in [0, 1], got {got}")
    if pixels.ndim != 4 or len(pixels) == 0:
        raise ValueError(f"images must have shape (N, C, H, W) with N of 1 or more, got {tuple(pixels.shape)}")
    check_values(pixels)
    check_count("batch_size", batch_size)
    like = next((p for p in model.parameters() if p.is_floating_point()), torch.empty(0))
    modes = {module: module.training for module in model.modules()}
    model.eval()
    try:
        outputs = [_outputs(model, batch, like) for batch in pixels.split(batch_size)]
    finally:
        for module, training in modes.items():  # one by one: a frozen part may be in eval mode within a training model
            module.training = training
    features, embeddings = zip(*outputs, strict=True)
    return torch.cat(features), torch.cat(embeddings)


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
    options = {"k": k, "temperature": temperature, "n_classes": n_classes, "exclude_self": exclude_self}
    return neighbour_scores(bank, bank_labels, queries, **options).predicted


def nearest_few_label(
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
    >>> nearest_few_label(bank, torch.tensor([0, 1] * 5), bank, torch.tensor([0, 1] * 5), draws=2)
    array([1., 1.])
    """
    options = {"labels_per_class": labels_per_class, "draws": draws, "seed": seed}
    return few_label_hits(bank, bank_labels, queries, query_labels, **options).mean(axis=1)


def few_label_hits(
    bank: Tensor,
    bank_labels: Tensor,
    queries: Tensor,
    query_labels: Tensor,
    *,
    labels_per_class: int = 3,
    draws: int = 100,
    seed: int = 0,
) -> np.ndarray:
    """Which queries :func:`nearest_few_label` labels correctly in each draw; its arguments and errors.

    Returns:
        True where the nearest labelled point has the query's class, shape ``(draws, M)``.

    >>> bank = torch.eye(2).repeat(5, 1)
    >>> few_label_hits(bank, torch.tensor([0, 1] * 5), bank[:2], torch.tensor([0, 0]), draws=1)
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


def probe_logits(bank: Tensor, bank_labels: Tensor, queries: Tensor) -> Tensor:
    """Logits of logistic regression on frozen features, each feature standardised on the bank.

    The largest logit names the predicted class; ``softmax`` gives its probability, and ``logsumexp`` the negative free
    energy, which is high for what looks familiar (Liu et al. 2020).

    Args:
        bank: Features to fit on, shape ``(B, F)``.
        bank_labels: Their classes, shape ``(B,)``, of two classes or more.
        queries: Features to score, shape ``(M, F)``.

    Returns:
        Logits, float32 (float64 for float64 features), shape ``(M, C)``, on the CPU, where C is the largest label in
        the bank plus one; -inf for a class that the bank lacks. Of two classes alone, each has half the log-odds.

    Raises:
        TypeError: Features are not floats, or labels not integers.
        ValueError: Shapes do not fit, values are not finite, or the bank holds one class only.

    >>> x = torch.tensor([[-2.0], [-1.0], [1.0], [2.0]])
    >>> probe_logits(x, torch.tensor([0, 0, 2, 2]), x).argmax(1)
    tensor([0, 0, 2, 2])
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    _check_labelled(bank, bank_labels, queries)
    if len(bank_labels.unique()) < 2:
        raise ValueError(f"bank_labels must hold two classes or more, got only class {int(bank_labels[0])}")
    probe = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
    probe.fit(_array(bank), bank_labels.cpu().numpy())
    scores = probe.decision_function(_array(queries))
    if scores.ndim == 1:
        scores = np.stack([-scores / 2, scores / 2], axis=1)
    logits = np.full((len(scores), int(probe.classes_.max()) + 1), -np.inf, dtype=scores.dtype)
    logits[:, probe.classes_] = scores
    return torch.from_numpy(logits)


def linear_probe(bank: Tensor, bank_labels: Tensor, queries: Tensor, query_labels: Tensor) -> float:
    """Test accuracy of logistic regression on frozen features: of the largest of :func:`probe_logits`.

    Args:
        bank: Features to fit on, shape ``(B, F)``.
        bank_labels: Their classes, shape ``(B,)``, of two classes or more.
        queries: Features to score, shape ``(M, F)``.
        query_labels: Their classes, shape ``(M,)``.

    Returns:
        Share of queries whose class is predicted, in 0..1.

    Raises:
        TypeError: As :func:`probe_logits`.
        ValueError: As :func:`probe_logits`.

    >>> x = torch.tensor([[-2.0], [-1.0], [1.0], [2.0]])
    >>> linear_probe(x, torch.tensor([0, 0, 1, 1]), x, torch.tensor([0, 0, 1, 0]))
    0.75
    """
    _check_labelled(bank, bank_labels, queries)
    _check_labels("query_labels", query_labels, len(queries))
    predicted = probe_logits(bank, bank_labels, queries).argmax(1)
    return (predicted == query_labels.cpu()).double().mean().item()


def mahalanobis(bank: Tensor, bank_labels: Tensor, queries: Tensor) -> Tensor:
    """Distance of each query to the nearest class mean, in units of the scatter within classes.

    One covariance is shared by all classes. It is Ledoit and Wolf's, shrunk towards equal variance in all directions
    just as far as the size of the bank calls for: it can be inverted even where features are constant or redundant, so
    that a query which leaves the subspace of the bank is far away. The distance depends on the features' units.

    Args:
        bank: Labelled features, shape ``(B, F)``.
        bank_labels: Their classes, shape ``(B,)``.
        queries: Features to score, shape ``(M, F)``.

    Returns:
        Distances, float64, shape ``(M,)``, on the CPU; high where the bank knows nothing alike.

    Raises:
        TypeError: Features are not floats, or labels not integers.
        ValueError: Shapes do not fit, values are not finite, or the rows of a class hardly differ.

    Source: Lee et al. 2018, with the covariance of Ledoit & Wolf 2004.

    >>> bank = torch.tensor([[-1.0, 0.0], [1.0, 0.0], [0.0, -1.0], [0.0, 1.0]])
    >>> mahalanobis(bank, torch.tensor([0, 0, 0, 0]), torch.tensor([[0.0, 0.0], [3.0, 4.0]]))
    tensor([0.0000, 7.0711], dtype=torch.float64)
    """
    from scipy.spatial.distance import cdist
    from sklearn.covariance import LedoitWolf

    _check_labelled(bank, bank_labels, queries)
    rows, (_, places) = _array(bank.double()), np.unique(bank_labels.cpu().numpy(), return_inverse=True)
    means = np.stack([rows[places == place].mean(0) for place in range(places.max() + 1)])
    residuals = rows - means[places]
    scatter = LedoitWolf(assume_centered=True).fit(residuals)
    if np.linalg.matrix_rank(scatter.covariance_) < len(scatter.covariance_):
        raise ValueError(f"bank must hold enough different rows of a class to measure scatter by, got {len(bank)} rows")
    whiten = np.linalg.cholesky(scatter.precision_)
    return torch.from_numpy(cdist(_array(queries.double()) @ whiten, means @ whiten).min(1))


def check_vote(k: int, temperature: float, available: int) -> None:
    """Refuse more neighbours than there are, or none, and a temperature that is not a positive number."""
    check_count("k", k, at_most=available, hint=f"the bank offers each query {available} neighbours")
    check_number("temperature", temperature, above=0)


def _outputs(model: nn.Module, batch: Tensor, like: Tensor) -> tuple[Tensor, Tensor]:
    scale = 255 if batch.dtype == torch.uint8 else 1
    x = batch.to(like.device).to(like.dtype) / scale
    if hasattr(model, "features") and hasattr(model, "backbone"):
        outputs = []
        with model.backbone.register_forward_hook(lambda module, inputs, output: outputs.append(output)):
            embeddings = model(x)  # one pass for both, whatever stands behind the backbone
        features = outputs[-1]
    else:
        embeddings = model(x)
        features = model.features(x) if hasattr(model, "features") else embeddings
    embeddings = embeddings[0] if isinstance(embeddings, tuple) else embeddings
    for name, output in (("features", features), ("embeddings", embeddings)):
        if output.ndim != 2 or len(output) != len(x):
            raise ValueError(f"model must give {name} of shape ({len(x)}, ·), got {tuple(output.shape)}")
    return features.float().cpu(), embeddings.float().cpu()


def _array(features: Tensor) -> np.ndarray:
    return widened(features.detach()).cpu().numpy()


def _check_labelled(bank: Tensor, bank_labels: Tensor, queries: Tensor) -> None:
    _check_features("bank", bank, like=bank)
    _check_labels("bank_labels", bank_labels, len(bank))
    _check_features("queries", queries, like=bank)


def _check_features(name: str, features: Tensor, *, like: Tensor) -> None:
    check_floating(**{name: features})
    if features.ndim != 2 or 0 in features.shape or features.shape[1] != like.shape[1]:
        expected = "(rows, features), none of them 0" if features is like else f"(rows, {like.shape[1]}) like bank"
        raise ValueError(f"{name} must have shape {expected}, got {tuple(features.shape)}")
    if (features.dtype, features.device) != (like.dtype, like.device):
        raise ValueError(
            f"{name} must be {like.dtype} on {like.device} like bank, got {features.dtype} on {features.device}"
        )
    if not features.isfinite().all():
        row = int((~features.isfinite()).any(1).nonzero()[0])
        raise ValueError(f"{name} must be finite; row {row} is not. Did training diverge?")


def _check_labels(name: str, labels: Tensor, count: int) -> None:
    if (
        not isinstance(labels, Tensor)
        or labels.is_floating_point()
        or labels.is_complex()
        or labels.dtype == torch.bool
    ):
        got = kind_of(labels)
        raise TypeError(f"{name} must be a tensor of integers, got {got}")
    if labels.shape != (count,):
        raise ValueError(f"{name} must have shape ({count},), one for each row, got {tuple(labels.shape)}")
    if int(labels.min()) < 0:
        raise ValueError(f"{name} must be 0 or more, got {int(labels.min())}; leave unlabelled rows out")
