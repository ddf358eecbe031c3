"""Drag an embedding: the gradient of the cosine loss all over the plane, and what steps along it do to z."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import traitlets

from normcourse.widgets.base import InteractiveFigure, module
from normlib.gradients import cosine_loss_grad
from normlib.plotting import PALETTE

if TYPE_CHECKING:
    import torch
    from matplotlib.figure import Figure


class DragEmbedding(InteractiveFigure):
    """One embedding z in the plane, a target direction, and the gradient of ``-cos φ`` everywhere.

    The reader moves both. While the target is pulled, z follows by steps of SGD, the more slowly the longer it is.

    Args:
        z: Embedding, two numbers that are not both zero.
        target: Angle of the target, radians.
        eta: Step size η, between 0.05 and 1.
        steps: Steps taken since z was last put somewhere.

    Raises:
        traitlets.TraitError: ``z`` has not two coordinates or no direction, or ``eta`` is out of its range.

    >>> DragEmbedding(z=[0.0, 2.0], eta=0.5)
    DragEmbedding(z=[0.0, 2.0], target=0.0, eta=0.5)
    """

    _esm = module("drag_embedding")

    z = traitlets.List(traitlets.CFloat(), [-0.8, 0.6], minlen=2, maxlen=2).tag(sync=True)
    target = traitlets.CFloat(0.0).tag(sync=True)
    eta = traitlets.CFloat(0.2, min=0.05, max=1).tag(sync=True)
    steps = traitlets.Int(0, min=0).tag(sync=True)

    @traitlets.validate("z")
    def _has_direction(self, proposal: dict) -> list[float]:
        if not 0 < math.hypot(*proposal["value"]) < math.inf:
            raise traitlets.TraitError(f"z must have a direction, got {proposal['value']}; give it a length > 0")
        return proposal["value"]

    def __repr__(self) -> str:
        return f"DragEmbedding(z={self.z}, target={self.target}, eta={self.eta})"

    def still(self) -> Figure:
        """The plane as it stands: the field, the target, z and the pull on it."""
        import torch
        from matplotlib.figure import Figure

        def descent(points: torch.Tensor) -> torch.Tensor:
            towards = torch.tensor([[math.cos(self.target), math.sin(self.target)]], dtype=torch.float64)
            return torch.cat([-cosine_loss_grad(point[None], towards)[0] for point in points])

        angles = torch.arange(24, dtype=torch.float64) * math.pi / 12
        circle = torch.stack([angles.cos(), angles.sin()], dim=1)
        longest = max(3.2, 1.1 * math.hypot(*self.z))
        field = torch.cat([radius * longest * circle for radius in (0.16, 0.31, 0.47, 0.63, 0.78, 0.94)])
        z = torch.tensor([self.z], dtype=torch.float64)
        figure = Figure(figsize=(4.4, 4.2), layout="constrained")
        ax = figure.subplots()
        ax.quiver(*field.T, *descent(field).T, color=PALETTE["sky"], scale=18, width=0.004)
        arrows: dict[str, Any] = {"angles": "xy", "scale_units": "xy", "scale": 1, "width": 0.01}
        ends = [longest * math.cos(self.target), longest * math.sin(self.target)]
        for start, arrow, name, colour in (
            ((0, 0), ends, "target", "orange"),
            ((0, 0), self.z, "z", "blue"),
            (self.z, descent(z)[0], "−∇", "green"),
        ):
            ax.quiver(*start, *arrow, color=PALETTE[colour], label=name, **arrows)
        ax.set(xlim=(-longest, longest), ylim=(-longest, longest), aspect="equal")
        ax.set(xlabel="coordinate 1", ylabel="coordinate 2")
        ax.legend(loc="lower right")
        ax.grid(False)
        return figure
