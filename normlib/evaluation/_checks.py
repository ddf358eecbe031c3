"""The checks that neighbours and probes share: labelled features, and what is asked about them."""

import torch
from torch import Tensor

from normlib._utils.arguments import check_count, check_number
from normlib._utils.tensors import check_floating, kind_of


def check_vote(k: int, temperature: float, available: int) -> None:
    """Refuse more neighbours than there are, or none, and a temperature that is not a positive number."""
    check_count("k", k, at_most=available, hint=f"the bank offers each query {available} neighbours")
    check_number("temperature", temperature, above=0)


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
