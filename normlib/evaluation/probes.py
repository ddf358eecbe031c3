"""Classifiers that are fitted on frozen features: a linear probe, and class means with a shared covariance."""

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from normlib._utils.tensors import widened
from normlib.evaluation._checks import _check_labelled, _check_labels


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
    from sklearn.preprocessing import StandardScaler

    _check_labelled(bank, bank_labels, queries)
    classes, places = bank_labels.cpu().unique(return_inverse=True)
    if len(classes) < 2:
        raise ValueError(f"bank_labels must hold two classes or more, got only class {int(bank_labels[0])}")
    scaler = StandardScaler().fit(_array(bank.double()))
    rows, others = (torch.from_numpy(scaler.transform(_array(x.double()))) for x in (bank, queries))
    weights, biases = _fitted_logistic_regression(rows, places, len(classes))
    logits = torch.full((len(others), int(classes.max()) + 1), -torch.inf, dtype=torch.float64)
    logits[:, classes] = others @ weights + biases
    return logits if bank.dtype == torch.float64 else logits.float()


def _fitted_logistic_regression(x: Tensor, y: Tensor, classes: int) -> tuple[Tensor, Tensor]:
    """Weights ``(F, C)`` and biases ``(C,)`` of least ``sum of cross-entropies + ‖weights‖² / 2``, in float64.

    scikit-learn's ``LogisticRegression`` with its default ``C=1`` has the same minimum, and takes minutes if features
    go together, as those of a network do. Here L-BFGS works in coordinates in which the curvature is about equal in all
    directions, so that some dozen steps are enough. With two classes scikit-learn's penalty is that of one vector, the
    difference of the two, which is twice this one.
    """
    n, penalty = len(x), 2.0 if classes == 2 else 1.0
    curvature = x.T @ x * (1 / classes) * (1 - 1 / classes) + penalty * torch.eye(x.shape[1], dtype=x.dtype)
    to_weights = torch.linalg.inv(torch.linalg.cholesky(curvature)).T * n**0.5
    rows = x @ to_weights
    weights = torch.zeros(x.shape[1], classes, dtype=x.dtype, requires_grad=True)
    biases = torch.zeros(classes, dtype=x.dtype, requires_grad=True)
    lbfgs = torch.optim.LBFGS(
        [weights, biases],
        max_iter=1000,
        tolerance_grad=1e-6,
        tolerance_change=1e-15,
        history_size=20,
        line_search_fn="strong_wolfe",
    )

    def closure() -> Tensor:
        lbfgs.zero_grad()
        loss = cross_entropy(rows @ weights + biases, y)
        loss = loss + penalty / (2 * n) * (to_weights @ weights).square().sum()
        loss.backward()
        return loss

    lbfgs.step(closure)
    return (to_weights @ weights).detach(), (biases - biases.mean()).detach()


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


def _array(features: Tensor) -> np.ndarray:
    return widened(features.detach()).cpu().numpy()
