"""What people saw in an image: votes for each class, joined to a per-sample table by its place in the original."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from normlib._utils.arguments import check_type
from normlib._utils.tables import check_columns

if TYPE_CHECKING:
    import pandas as pd

FEWEST_MAJORITIES = 0.9  # in CIFAR-10H 99 % of the majorities are the original label; in another order some 10 %


@dataclass(frozen=True, eq=False, repr=False)
class HumanVotes:
    """How many people chose each class for each image of a data set, in the original's order.

    Args:
        name: What the votes are called in messages.
        counts: Votes, integers of 0 or more, shape ``(N, C)``, at least one an image.
        labels: The original labels, integers, shape ``(N,)``, where they are published with the votes.

    Raises:
        TypeError: ``name`` is no word.
        ValueError: Shapes do not fit, ``counts`` are no votes, or a label has no class.

    >>> votes = HumanVotes("three people", np.array([[3, 0], [1, 2]]), labels=np.array([0, 1]))
    >>> votes
    HumanVotes('three people': 2 images, 2 classes, 3 to 3 votes an image)
    >>> votes.entropy().round(3).tolist()
    [0.0, 0.637]
    """

    name: str
    counts: np.ndarray
    labels: np.ndarray | None = None

    def __post_init__(self) -> None:
        check_type(str, name=self.name)
        counts = _array("counts", self.counts)
        if counts.ndim != 2 or counts.dtype.kind not in "iu" or len(counts) == 0:
            raise ValueError(f"counts must be integers of shape (N, C), got {counts.dtype} of {counts.shape}")
        if counts.min() < 0 or counts.sum(axis=1).min() < 1:
            raise ValueError("counts must be 0 or more, with at least one vote for each image")
        object.__setattr__(self, "counts", counts)
        if self.labels is not None:
            object.__setattr__(self, "labels", _array("labels", self.labels))
            self._check_labels(self.labels)

    def _check_labels(self, labels: np.ndarray) -> None:
        count, classes = self.counts.shape
        if labels.shape != (count,) or labels.dtype.kind not in "iu":
            raise ValueError(f"labels must be integers of shape ({count},), got {labels.dtype} of {labels.shape}")
        if not 0 <= labels.min() <= labels.max() < classes:
            raise ValueError(f"labels must be in 0..{classes - 1}, got {labels.min()}..{labels.max()}")

    def __len__(self) -> int:
        return len(self.counts)

    def __repr__(self) -> str:
        votes = self.counts.sum(axis=1)
        size = f"{len(self)} images, {self.counts.shape[1]} classes, {votes.min()} to {votes.max()} votes an image"
        return f"HumanVotes({self.name!r}: {size})"

    def entropy(self) -> np.ndarray:
        """Entropy of the votes of each image, in nats, float64 ``(N,)``: 0 where all agree.

        With few votes it is below that of many: compare images with about the same number.
        """
        from scipy.stats import entropy

        return entropy(self.counts, axis=1)

    def join(self, table: pd.DataFrame) -> pd.DataFrame:
        """A per-sample table with what people saw in its images.

        Args:
            table: With the columns ``index``, the place in the original, and ``label``; such as the rows of a recorded
                run whose ``split`` is that of these votes.

        Returns:
            The table and two more columns, ``human_agreement``, the share of people who chose the label, and
            ``human_entropy``, that of :meth:`entropy`.

        Raises:
            TypeError: ``table`` is no DataFrame.
            ValueError: A column is missing or holds no integers, there are no rows, an index is outside the votes, or
                the labels show that the rows are those of other images: one differs from the original's, or most
                differ from what most people chose.

        >>> import pandas as pd
        >>> votes = HumanVotes("three people", np.array([[3, 0], [1, 2]]), labels=np.array([0, 1]))
        >>> votes.join(pd.DataFrame({"index": [1], "label": [1]})).round(2).to_numpy().tolist()
        [[1.0, 1.0, 0.67, 0.64]]
        """
        check_columns(table, ["index", "label"])
        places, labels = table["index"].to_numpy(), table["label"].to_numpy()
        if len(places) == 0:
            raise ValueError("table must have at least one row, got none")
        for name, values in (("index", places), ("label", labels)):
            if values.dtype.kind not in "iu":
                raise ValueError(f"{name} must be integers, got {values.dtype}; is a value of it missing in table?")
        if not 0 <= places.min() <= places.max() < len(self):
            raise ValueError(f"index must be in 0..{len(self) - 1} of {self.name}, got {places.min()}..{places.max()}")
        self._check_order(places, labels)
        shares = self.counts[places] / self.counts[places].sum(axis=1, keepdims=True)
        agreement = shares[np.arange(len(places)), labels]
        return table.assign(human_agreement=agreement, human_entropy=self.entropy()[places])

    def _check_order(self, places: np.ndarray, labels: np.ndarray) -> None:
        hint = f"are these the images that {self.name} is about, and is index their place in the original?"
        classes = self.counts.shape[1]
        if not 0 <= labels.min() <= labels.max() < classes:
            raise ValueError(f"label must be in 0..{classes - 1}, got {labels.min()}..{labels.max()}; {hint}")
        if self.labels is not None and (other := int((self.labels[places] != labels).sum())):
            raise ValueError(f"label must be that of {self.name}, but {other} of {len(labels)} rows differ; {hint}")
        same = (self.counts[places].argmax(axis=1) == labels).mean()
        if self.labels is None and same < FEWEST_MAJORITIES:
            raise ValueError(
                f"label must mostly be what most people chose, but is so in {same:.0%} of the rows; {hint}"
            )


def _array(name: str, values: np.ndarray) -> np.ndarray:
    try:
        return np.asarray(values)
    except ValueError as error:
        raise ValueError(f"{name} must be an array, got rows of several lengths: {error}") from None
