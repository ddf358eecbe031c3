"""Which label belongs to which row of an optimiser step, over views and micro-batches."""

from collections.abc import Sequence
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor


def check_labels(labels: Tensor | Sequence[Tensor] | None, num_classes: int | None) -> tuple[list[Tensor], int]:
    """Labels by micro-batch as int64, and how many classes they show or ``num_classes`` says.

    Values are checked on the CPU only: elsewhere that would wait for the device.

    >>> check_labels(torch.tensor([0, 2]), None)
    ([tensor([0, 2])], 3)
    """
    if labels is None:
        raise ValueError("labels: per_class=True needs the labels of the step's rows; use step(labels)")
    parts: list[Any] = list(labels) if isinstance(labels, list | tuple) else [labels]
    classes = num_classes or 0
    for part in parts:
        if not isinstance(part, Tensor):
            raise TypeError(f"labels must be integer tensors, got {type(part).__name__}; use torch.as_tensor")
        if part.ndim != 1 or part.dtype == torch.bool or part.is_floating_point() or part.is_complex():
            raise TypeError(f"labels must be integers of shape (n,), got {part.dtype} of shape {tuple(part.shape)}")
        if part.device.type != "cpu":
            if num_classes is None:
                raise ValueError(
                    f"labels are on {part.device}, where counting classes would wait for the device: give NormTracker "
                    "num_classes=, or labels on the CPU"
                )
        elif len(part):
            low, high = map(int, part.aminmax())
            if low < 0 or (num_classes is not None and high >= num_classes):
                allowed = "0 or more" if num_classes is None else f"in 0..{num_classes - 1}"
                raise ValueError(f"labels must be {allowed}, got {low}..{high}")
            classes = max(classes, high + 1)
    return [part.long() for part in parts], classes


def labels_of_rows(parts: list[Tensor], lengths: list[int], layer: str) -> Tensor:
    """Label of each row: every micro-batch's labels once per view, checked against where the forwards end.

    Args:
        parts: Labels by micro-batch.
        lengths: Rows of each forward, in order.
        layer: Name for errors.

    >>> labels_of_rows([torch.tensor([1, 2]), torch.tensor([3])], [2, 2, 1, 1], "projector")
    tensor([1, 2, 1, 2, 3, 3])
    """
    rows, given = sum(lengths), sum(map(len, parts))
    if given == 0 or rows % given:
        raise ValueError(
            f"labels: {given} labels do not divide the {rows} rows that layer {layer!r} saw since the last step(); "
            "give one label per sample of each batch"
        )
    views = rows // given
    copies = [part for part in parts for _ in range(views)]
    if views > 1 < len(lengths) and not set(accumulate(lengths)) <= set(accumulate(map(len, copies))):
        raise ValueError(
            f"labels: layer {layer!r} saw forwards of {lengths} rows, which are no whole views of "
            f"{list(map(len, parts))} labels; give a list with one labels tensor per micro-batch"
        )
    return torch.cat(copies)
