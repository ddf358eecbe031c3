"""Sphere: an encoder with three outputs trains on four classes, and every embedding is drawn at its true length."""

from __future__ import annotations

import json
from base64 import b64encode
from typing import TYPE_CHECKING, Any

import traitlets

from normcourse.widgets.base import InteractiveFigure, module
from normlib._utils.arguments import check_seed
from normlib.plotting import PALETTE

if TYPE_CHECKING:
    import torch
    from matplotlib.figure import Figure

WEIGHTS = ((1, 2, 4, 8), (8, 4, 2, 1), (1, 1, 1, 1))
EPOCHS = (0, 1, 2, 3, 4, 6, 8, 11, 15, 20, 27, 36, 48, 64, 80, 100)
POINTS = 150
COLOURS = ("blue", "orange", "green", "purple")


class Sphere(InteractiveFigure):
    """Encoders with three-dimensional embeddings, trained here in some seconds on mixtures of classes.

    The three mixtures differ in how often the four classes are drawn. They share the centres of the classes, and their
    encoders the initial weights.

    Args:
        seed: Seed of the mixtures and of the encoders.
        film: Mixture that is shown: 0 for weights of 1 : 2 : 4 : 8, 1 for the reverse, 2 for equal weights.
        frame: Place of the epoch that is shown, 0 to 15 for epochs from 0 to 100.
        turn: Angle about the vertical axis, radians.
        tilt: Angle about the horizontal axis, radians, between -π/2 and π/2.
        colour: ``"norm"`` or ``"class"``.

    Attributes:
        measured: What is shown, besides the points: among it the ``needles`` of the classes by film and frame, mean
            directions that are as long as the mean norm.

    Raises:
        ValueError: ``seed`` is no integer of 0 or more.
        traitlets.TraitError: Another setting is out of its range.

    >>> Sphere(film=1, frame=15)
    Sphere(film=1, frame=15, turn=0.6, tilt=0.4, colour='norm')
    """

    _esm = module("sphere")

    record = traitlets.Unicode().tag(sync=True)
    films = traitlets.Unicode().tag(sync=True)
    film = traitlets.Int(0, min=0, max=len(WEIGHTS) - 1).tag(sync=True)
    frame = traitlets.Int(0, min=0, max=len(EPOCHS) - 1).tag(sync=True)
    turn = traitlets.CFloat(0.6).tag(sync=True)
    tilt = traitlets.CFloat(0.4, min=-1.571, max=1.571).tag(sync=True)
    colour = traitlets.Enum(("norm", "class"), "norm").tag(sync=True)

    def __init__(self, seed: int = 0, **shown: Any) -> None:
        check_seed(seed)
        super().__init__(**shown)  # refuses a setting before anything is trained
        trained = [_train(weights, seed) for weights in WEIGHTS]
        scales = [[z.abs().max().item() for z in frames] for frames, _, _ in trained]
        packed = [
            (127 * z / scale).round().char().numpy().tobytes()
            for (frames, _, _), own in zip(trained, scales, strict=True)
            for z, scale in zip(frames, own, strict=True)
        ]
        self.measured = {
            "weights": WEIGHTS,
            "epochs": EPOCHS,
            "points": POINTS,
            "longest": max(z.norm(dim=1).max().item() for frames, _, _ in trained for z in frames),
            "scales": scales,
            "labels": [labels.tolist() for _, _, labels in trained],
            "needles": [[_rounded(needle) for needle in needles] for _, needles, _ in trained],
        }
        self._frames = [frames for frames, _, _ in trained]
        self.record, self.films = json.dumps(self.measured), b64encode(b"".join(packed)).decode()

    def __repr__(self) -> str:
        shown = ("film", "frame", "turn", "tilt", "colour")
        return f"Sphere({', '.join(f'{name}={getattr(self, name)!r}' for name in shown)})"

    def still(self) -> Figure:
        """The embeddings of one film before training, and as they stand; at frame 0, and after training."""
        from matplotlib.figure import Figure

        frames = self._frames[self.film]
        figure = Figure(figsize=(7, 3.4), layout="constrained")
        for place, frame in enumerate((0, self.frame or len(EPOCHS) - 1)):
            ax = figure.add_subplot(1, 2, place + 1, projection="3d", elev=20, azim=-55)
            for c, colour in enumerate(COLOURS):
                chosen = [i for i, label in enumerate(self.measured["labels"][self.film]) if label == c]
                name = f"{'ABCD'[c]}, weight {WEIGHTS[self.film][c]}"
                ax.plot(*frames[frame][chosen].T, "o", ms=3, color=PALETTE[colour], label=name)
            edge = frames[-1].abs().max().item()
            ax.set(xlim=(-edge, edge), ylim=(-edge, edge), zlim=(-edge, edge), title=f"epoch {EPOCHS[frame]}")
        figure.legend(*ax.get_legend_handles_labels(), loc="outside lower center", ncols=4)
        return figure


def _train(weights: tuple[int, ...], seed: int) -> tuple[list[torch.Tensor], list[torch.Tensor], torch.Tensor]:
    """Embeddings that are shown and needles of the classes, epoch by epoch; and the labels of the former."""
    from normlib import simulations

    mixture = simulations.spherical_mixture(weights, seeds=[seed])
    frames, needles = [], []

    def see(epoch: int, encoders: simulations.Encoders) -> None:
        if epoch in EPOCHS:
            z = encoders(mixture.x)[0]
            frames.append(z[:POINTS])
            needles.append(_needles(z, mixture.labels[0], len(weights)))

    simulations.train_encoder(mixture, dim=3, lr=0.1, epochs=EPOCHS[-1], on_epoch=see, progress=False)
    return frames, needles, mixture.labels[0, :POINTS]


def _needles(z: torch.Tensor, labels: torch.Tensor, classes: int) -> torch.Tensor:
    """Mean direction of each class, as long as its mean norm, shape ``(C, 3)``."""
    import torch

    norms = z.norm(dim=1, keepdim=True)
    sums = [(z / norms)[labels == c].sum(dim=0) for c in range(classes)]
    return torch.stack([norms[labels == c].mean() * total / total.norm() for c, total in enumerate(sums)])


def _rounded(needle: torch.Tensor) -> list[list[float]]:
    return [[round(part, 3) for part in end] for end in needle.tolist()]
