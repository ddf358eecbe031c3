"""What all interactive figures share: how their module is put together, and the still beside the moving one."""

from __future__ import annotations

import io
import math
from base64 import b64encode
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anywidget
import traitlets

from normlib.plotting import PALETTE

if TYPE_CHECKING:
    from matplotlib.figure import Figure

HERE = Path(__file__).parent


def module(name: str) -> str:
    """Source of a figure's ES module: what all share, then its own."""
    return "\n".join((HERE / file).read_text(encoding="utf-8") for file in ("kit.mjs", f"{name}.mjs"))


def style() -> str:
    """The style sheet, with the palette of the course."""
    colours = " ".join(f"--{name}: {colour};" for name, colour in PALETTE.items())
    return f".explorable {{ {colours} }}\n" + (HERE / "widgets.css").read_text(encoding="utf-8")


class InteractiveFigure(anywidget.AnyWidget):
    """A figure to move. Where nothing can move, in print or without JavaScript, :meth:`still` stands for it."""

    _css = style()

    def __init__(self, **shown: Any) -> None:
        for name, value in shown.items():
            if not self.has_trait(name):
                raise TypeError(f"{name} is no setting of {type(self).__name__}")
            if isinstance(value, float) and not math.isfinite(value):
                raise traitlets.TraitError(f"{name} must be a finite number, got {value}")
        super().__init__(**shown)

    def still(self) -> Figure:
        """The figure as it stands now, drawn by Matplotlib."""
        raise NotImplementedError

    def __repr__(self) -> str:
        return f"{type(self).__name__}()"

    def _repr_mimebundle_(self, **kwargs: Any) -> tuple[dict, dict]:
        # Never asked for by ipywidgets 7, which Colab has: that shows the figure by itself, and there it can move.
        bundle, metadata = super()._repr_mimebundle_(**kwargs) or ({}, {})
        png = io.BytesIO()
        self.still().savefig(png, format="png")
        return bundle | {"image/png": b64encode(png.getvalue()).decode()}, metadata
