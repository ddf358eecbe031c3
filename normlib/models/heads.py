"""Heads behind a backbone: projectors, and the predictor of SimSiam and BYOL."""

from torch import nn

from normlib._utils.arguments import check_count
from normlib._utils.rng import seeded

# Added to a head's seed: parts of the same seed must not draw the same numbers.
_HEAD = 2**31


_PREDICTOR = 2**32


def projection_head(in_features: int, hidden: int, out_features: int, *, seed: int = 0) -> nn.Module:
    """Two linear layers with a ReLU between, no BatchNorm: the projector of the paper's SimCLR.

    Args:
        in_features: F, width of the backbone's features.
        hidden: Width between the layers.
        out_features: D, dimension of the embeddings.
        seed: Seed of the initial weights; torch's global generator is left as it was.

    Returns:
        Module from ``(N, F)`` to ``(N, D)``.

    Raises:
        ValueError: A width is no integer of 1 or more, or ``seed`` none of 0 or more.

    Source: the settings released with Draganov et al. 2025 (128-128).

    >>> import torch
    >>> projection_head(512, 128, 128)(torch.zeros(2, 512)).shape
    torch.Size([2, 128])
    """
    _check_widths(in_features=in_features, hidden=hidden, out_features=out_features)
    with seeded(seed, _HEAD):
        return nn.Sequential(nn.Linear(in_features, hidden), nn.ReLU(), nn.Linear(hidden, out_features))


def batch_norm_head(in_features: int, hidden: int, out_features: int, *, seed: int = 0) -> nn.Module:
    """Two linear layers without biases, BatchNorm and a ReLU between them: a projector that all methods can share.

    Behind BatchNorm nothing is added any more: ``c`` times the last matrix is ``c`` times every embedding.

    Args:
        in_features: F, width of the backbone's features.
        hidden: Width between the layers.
        out_features: D, dimension of the embeddings.
        seed: Seed of the initial weights; torch's global generator is left as it was.

    Returns:
        Module from ``(N, F)`` to ``(N, D)``.

    Raises:
        ValueError: As :func:`projection_head`.

    Source: Grill et al. 2020 (BYOL), whose heads have biases; SimSiam and others add layers or BatchNorm at the end.

    >>> import torch
    >>> batch_norm_head(512, 128, 64)(torch.zeros(2, 512)).shape
    torch.Size([2, 64])
    """
    _check_widths(in_features=in_features, hidden=hidden, out_features=out_features)
    return _batch_norm_mlp(in_features, hidden, out_features, seed, _HEAD)


def prediction_head(features: int, hidden: int, *, seed: int = 0) -> nn.Module:
    """:func:`batch_norm_head` from embeddings to embeddings: the predictor of SimSiam and BYOL.

    Args:
        features: D, dimension of embeddings and predictions.
        hidden: Width between the layers; SimSiam takes a quarter of D.
        seed: Seed of the initial weights; torch's global generator is left as it was.

    Returns:
        Module from ``(N, D)`` to ``(N, D)``.

    Raises:
        ValueError: As :func:`projection_head`.

    Source: as :func:`batch_norm_head`.

    >>> import torch
    >>> prediction_head(64, 16)(torch.zeros(2, 64)).shape
    torch.Size([2, 64])
    """
    _check_widths(features=features, hidden=hidden)
    return _batch_norm_mlp(features, hidden, features, seed, _PREDICTOR)


def _batch_norm_mlp(in_features: int, hidden: int, out_features: int, seed: int, part: int) -> nn.Module:
    with seeded(seed, part):
        first, last = nn.Linear(in_features, hidden, bias=False), nn.Linear(hidden, out_features, bias=False)
    return nn.Sequential(first, nn.BatchNorm1d(hidden), nn.ReLU(), last)


def _check_widths(**widths: int) -> None:
    for name, width in widths.items():
        check_count(name, width)
