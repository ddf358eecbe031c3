"""Confidence dial: a threshold on the norm decides which images are kept, and how often those are right."""

from __future__ import annotations

import io
from base64 import b64encode
from typing import TYPE_CHECKING, Any

import numpy as np
import traitlets

from normcourse.widgets.base import InteractiveFigure, module
from normlib._utils.arguments import check_type
from normlib._utils.tables import check_columns
from normlib.plotting import PALETTE

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

    from normlib.data import ImageSet

COLUMNS = 25  # of the picture that holds all images


class ConfidenceDial(InteractiveFigure):
    """Test images, dropped from the shortest embedding on, beside two baselines: untrained norms, and chance.

    Args:
        samples: One row for each image, network and epoch: ``index`` of the image, ``seed`` of the network, ``epoch``,
            ``norm``, and whether the label of its neighbours is ``correct``. The epochs are 0, for the untrained norm,
            and one other.
        images: The images, square and of one channel, with all ``indices`` that are in ``samples``.
        threshold: Norm below which an image is dropped, ≥ 0.
        network: Which of the seeds is shown, from 0.

    Raises:
        TypeError: ``samples`` is no DataFrame, or ``images`` no image set.
        ValueError: A column is missing, images without a row in each network and epoch, other epochs, or norms that
            are not finite, below 0, or all 0.
        traitlets.TraitError: A threshold or a network out of its range.

    >>> from normcourse import experiments
    >>> from normlib import data
    >>> samples = experiments.load("digits-simclr")["samples"].query("lr == 0.1")
    >>> ConfidenceDial(samples, data.digits("test"), threshold=4.0)
    ConfidenceDial(threshold=4.0, network=0)
    """

    _esm = module("confidence_dial")

    record = traitlets.Dict().tag(sync=True)
    table = traitlets.Unicode().tag(sync=True)
    sprite = traitlets.Unicode().tag(sync=True)
    threshold = traitlets.CFloat(0.0, min=0).tag(sync=True)
    network = traitlets.Int(0, min=0).tag(sync=True)

    def __init__(self, samples: pd.DataFrame, images: ImageSet, **shown: Any) -> None:
        from normlib.data import ImageSet

        check_columns(samples, ["seed", "epoch", "index", "norm", "correct"], "samples")
        check_type(ImageSet, images=images)
        seeds, epochs = (sorted(samples[name].unique().tolist()) for name in ("seed", "epoch"))
        if len(epochs) != 2 or epochs[0] != 0:
            raise ValueError(f"samples must hold epoch 0 and one other, got {epochs}; choose one with query()")
        wide = samples.set_index(["seed", "epoch", "index"]).sort_index()
        if len(wide) != len(seeds) * 2 * len(images) or not wide.index.is_unique:
            raise ValueError(
                f"samples must have one row for each of {len(images)} images in each of {len(seeds)} networks and "
                f"2 epochs, got {len(wide)} rows; choose one learning rate with query()"
            )
        indices = images.indices.tolist()
        if not samples["index"].isin(indices).all():
            others = sorted(set(samples["index"]) - set(indices))
            raise ValueError(f"samples must be of images with an index in images, got {others[:5]} besides")
        self._networks = []
        for seed in seeds:
            before, after = (wide.loc[seed, epoch].loc[indices] for epoch in epochs)
            self._networks.append(np.stack([after["norm"], before["norm"], after["correct"]]).astype(float))
        if not all(_has_norms(table[:2]) for table in self._networks):
            raise ValueError("norm must be finite, ≥ 0 and not 0 throughout a network; leave out runs that diverged")
        scales = [table[:2].max(axis=1).tolist() for table in self._networks]
        packed = b"".join(_packed(table) for table in self._networks)
        super().__init__(
            record={"images": len(images), "side": images.images.shape[-1], "networks": seeds, "scales": scales},
            table=b64encode(packed).decode(), sprite=_sprite(images), **shown,
        )  # fmt: skip

    @traitlets.validate("network")
    def _is_there(self, proposal: dict) -> int:
        if proposal["value"] >= len(self.record["networks"]):
            raise traitlets.TraitError(f"network must be below {len(self.record['networks'])}, got {proposal['value']}")
        return proposal["value"]

    def __repr__(self) -> str:
        return f"ConfidenceDial(threshold={self.threshold}, network={self.network})"

    def curves(self) -> np.ndarray:
        """Share of right answers by the number of dropped images, shape (networks, ways, images).

        The ways: the shortest are dropped; the shortest before training; any, at random (its expectation).
        """
        found = []
        for norm, untrained, correct in self._networks:
            ways = [_accuracy_of_longest(by, correct) for by in (norm, untrained)]
            found.append([*ways, np.full(len(correct), correct.mean())])
        return np.array(found)

    def still(self) -> Figure:
        """Accuracy against coverage: of the network that is shown in bold, the mean of all beside it."""
        from matplotlib.figure import Figure

        curves = self.curves()
        coverage = 100 * (1 - np.arange(curves.shape[2]) / curves.shape[2])
        figure = Figure(figsize=(5.6, 3.4), layout="constrained")
        ax = figure.subplots()
        for way, (name, colour) in enumerate((("norm", "blue"), ("untrained norm", "orange"), ("chance", "grey"))):
            ax.plot(coverage, 100 * curves[self.network, way], color=PALETTE[colour], label=name)
            ax.plot(coverage, 100 * curves[:, way].mean(axis=0), color=PALETTE[colour], lw=1, ls="--")
        kept = (self._networks[self.network][0] >= self.threshold).mean()
        ax.axvline(100 * kept, color="black", lw=1)
        ax.set(
            xlabel="coverage: images kept (%)",
            ylabel="right (%)",
            xlim=(100, 0),
            ylim=(100 * curves[:, 2].min() - 1, 100.2),
        )
        ax.legend(title=f"dropped by (dashed: mean of {len(curves)})", fontsize="small", loc="lower left")
        return figure


def _accuracy_of_longest(norms: np.ndarray, correct: np.ndarray) -> np.ndarray:
    """By the number of the shortest that are dropped, from none to all but one."""
    from_longest = correct[np.argsort(norms, kind="stable")][::-1]
    return (from_longest.cumsum() / np.arange(1, len(correct) + 1))[::-1]


def _has_norms(norms: np.ndarray) -> bool:
    return bool(np.isfinite(norms).all() and (norms >= 0).all() and (norms.max(axis=1) > 0).all())


def _packed(network: np.ndarray) -> bytes:
    norms, correct = network[:2], network[2:]
    whole = np.rint(65535 * norms / norms.max(axis=1, keepdims=True))
    return np.concatenate([whole, correct]).astype("<u2").tobytes()


def _sprite(images: ImageSet) -> str:
    """All images in one picture, PNG as base64."""
    from PIL import Image

    n, _, height, width = images.images.shape
    rows = -(-n // COLUMNS)
    canvas = np.zeros((rows * COLUMNS, height, width), dtype=np.uint8)
    canvas[:n] = images.images[:, 0].numpy()
    tiled = canvas.reshape(rows, COLUMNS, height, width).transpose(0, 2, 1, 3).reshape(rows * height, COLUMNS * width)
    png = io.BytesIO()
    Image.fromarray(tiled).save(png, format="PNG", optimize=True)
    return b64encode(png.getvalue()).decode()
