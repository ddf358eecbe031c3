"""``ImageSet``: images in memory as uint8 pixels, with their labels and their places in the original data set."""

import hashlib
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from normlib._utils.arguments import check_type
from normlib._utils.tensors import kind_of


@dataclass(frozen=True, eq=False, repr=False)
class ImageSet:
    """Images with their labels and their places in the original data set.

    Args:
        images: Pixels, uint8, shape ``(N, C, H, W)``.
        labels: Class numbers, int64, shape ``(N,)``, each in ``0 .. len(classes) - 1``.
        indices: Positions in the original data set, int64, shape ``(N,)``.
        classes: The classes' names; a label is a place in this tuple.
        name: What the set is called in figures and records.

    Raises:
        TypeError: A tensor is of another dtype, ``classes`` no tuple, or ``name`` no word.
        ValueError: Shapes do not fit together, or a label has no class.

    >>> from normlib.data import digits
    >>> train = digits("train")
    >>> train
    ImageSet('digits-train': 1347 images, 1x8x8, 10 classes)
    >>> zeros = train.subset(train.labels == 0)
    >>> len(zeros), zeros.indices[:3].tolist()
    (133, [0, 10, 20])
    """

    images: Tensor
    labels: Tensor
    indices: Tensor
    classes: tuple[str, ...]
    name: str

    def __post_init__(self) -> None:
        check_type(tuple, classes=self.classes)
        check_type(str, name=self.name)
        for field, dtype in (("images", torch.uint8), ("labels", torch.int64), ("indices", torch.int64)):
            if kind_of(getattr(self, field)) != str(dtype):
                raise TypeError(f"{field} must be a tensor of {dtype}, got {kind_of(getattr(self, field))}")
        if self.images.ndim != 4:
            raise ValueError(f"images must have shape (N, C, H, W), got {tuple(self.images.shape)}")
        for field in ("labels", "indices"):
            shape = tuple(getattr(self, field).shape)
            if shape != (len(self),):
                raise ValueError(f"{field} must have shape ({len(self)},), one for each image, got {shape}")
        _check_range("labels", self.labels, len(self.classes), "there are no other classes")

    def __len__(self) -> int:
        return self.images.shape[0]

    def __repr__(self) -> str:
        size = "x".join(map(str, self.images.shape[1:]))
        return f"ImageSet({self.name!r}: {len(self)} images, {size}, {len(self.classes)} classes)"

    def subset(self, index: Tensor) -> "ImageSet":
        """Some of the images, in the order asked for; ``indices`` still point into the original.

        Args:
            index: A mask, bool, shape ``(N,)``; or positions in this set, integer, shape ``(n,)``, in ``0 .. N - 1``.

        Returns:
            A set with the same classes and name.

        Raises:
            TypeError: ``index`` is neither bool nor integer.
            ValueError: ``index`` is not one-dimensional, a mask of another length, or points outside the set.

        >>> from normlib.data import digits
        >>> digits("all").subset(torch.tensor([5, 3])).indices.tolist()
        [5, 3]
        """
        if not isinstance(index, Tensor) or index.is_floating_point() or index.is_complex():
            raise TypeError(f"index must be a tensor of bool (a mask) or integers (positions), got {kind_of(index)}")
        expected = (len(self),) if index.dtype == torch.bool else (index.numel(),)
        if index.shape != expected:
            raise ValueError(f"index must have shape {expected}, got {tuple(index.shape)}")
        if index.dtype != torch.bool:
            index = index.long()
            _check_range("index", index, len(self), "it counts places in this set, not in the original")
        return ImageSet(self.images[index], self.labels[index], self.indices[index], self.classes, self.name)

    def fingerprint(self) -> str:
        """Sha256 over shape, pixels and labels, the same on every machine.

        >>> from normlib.data import digits
        >>> digits("all").fingerprint()[:15]
        'sha256:ac221302'
        """
        digest = hashlib.sha256(repr(tuple(self.images.shape)).encode())
        digest.update(np.ascontiguousarray(self.images.cpu()).data)
        digest.update(np.ascontiguousarray(self.labels.cpu(), dtype="<i8").data)
        return f"sha256:{digest.hexdigest()}"


def _check_range(name: str, values: Tensor, count: int, reason: str) -> None:
    if values.numel() and not 0 <= int(values.min()) <= int(values.max()) < count:
        raise ValueError(f"{name} must be in 0..{count - 1}, got {int(values.min())}..{int(values.max())}: {reason}")
