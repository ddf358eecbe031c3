"""Race: pairs of four norms are pulled together at once, with the law of small steps beside them."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import traitlets

from normcourse.widgets.base import InteractiveFigure, module
from normlib.plotting import PALETTE

if TYPE_CHECKING:
    from matplotlib.figure import Figure

LANES = {1: "blue", 2: "orange", 3: "green", 4: "purple"}
GOAL = math.acos(1 - 1e-3)


class Race(InteractiveFigure):
    """Four pairs with norms of 1, 2, 3 and 4 times the shortest take steps of SGD under ``-cos φ``.

    A pair has arrived when its cosine is at least 0.999. Beside the steps stands the law of small steps.

    Args:
        lr: Step size η of a pair, 0.005 to 0.5.
        norm: Norm of the shortest pair, 0.05 to 1.
        angle: Angle φ₀ of all pairs at the start, radians, 5° to 179°.
        power: GradScale power p, 0 to 2.
        decay: Weight decay λ, 0 to 0.2.

    Raises:
        traitlets.TraitError: A setting is out of its range.

    >>> Race(lr=0.02, norm=0.5)
    Race(lr=0.02, norm=0.5, angle=1.571, power=0.0, decay=0.0)
    """

    _esm = module("race")

    lr = traitlets.CFloat(0.02, min=0.005, max=0.5).tag(sync=True)
    norm = traitlets.CFloat(1.0, min=0.05, max=1).tag(sync=True)
    angle = traitlets.CFloat(math.pi / 2, min=math.pi / 36, max=math.pi * 179 / 180).tag(sync=True)
    power = traitlets.CFloat(0.0, min=0, max=2).tag(sync=True)
    decay = traitlets.CFloat(0.0, min=0, max=0.2).tag(sync=True)

    def __repr__(self) -> str:
        settings = ("lr", "norm", "angle", "power", "decay")
        return f"Race({', '.join(f'{name}={round(getattr(self, name), 3)}' for name in settings)})"

    def law(self, norm: float) -> float:
        """Steps to the goal for a pair of some norm, by the law of small steps.

        Decay alone shortens z by ``e^(-ηλ)`` a step, so the step ratio grows by ``e^(kt)`` with ``k = ηλ(2-p)``.
        """
        from normlib.dynamics import time_to_align

        time = float(time_to_align(self.angle, GOAL, norm, self.lr, power=self.power))
        k = self.lr * self.decay * (2 - self.power)
        return math.log1p(k * time) / k if k else time

    def still(self) -> Figure:
        """Angles on the way to the goal, step by step, and the step at which the law expects each pair."""
        from matplotlib.figure import Figure

        figure = Figure(figsize=(5.6, 3.4), layout="constrained")
        ax = figure.subplots()
        for multiple, colour in LANES.items():
            norm = multiple * self.norm
            angles = self._path(norm)
            ax.plot(range(len(angles)), angles, color=PALETTE[colour], label=f"norm {norm:.3g}")
            ax.plot(self.law(norm), math.degrees(GOAL), "o", color=PALETTE[colour])
        ax.set(xlabel="steps", ylabel="angle φ of the pair (degrees)", ylim=(0, None))
        ax.legend(title="dots: the law")
        return figure

    def _path(self, norm: float, most: int = 20_000) -> list[float]:
        """Angles in degrees, from the start until the goal is reached."""
        from normlib.dynamics import cosine_step

        keep = 1 - self.lr * self.decay  # what decay leaves of the norm; the step is then the larger beside it
        cosine, sine, angles = math.cos(self.angle), math.sin(self.angle), [math.degrees(self.angle)]
        while cosine < 1 - 1e-3 and len(angles) <= most:
            cosine, sine, norm, _ = cosine_step(cosine, sine, norm, norm, self.lr / keep, self.power)
            norm *= keep
            angles.append(math.degrees(math.atan2(sine, cosine)))
        return angles
