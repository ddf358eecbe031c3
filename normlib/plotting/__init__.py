"""The house style of the figures: one palette, one look, and the figures that recur."""

from normlib.plotting.confidence import confidence_curve, reliability, risk_coverage_curves, score_distributions
from normlib.plotting.figures import band, image_grid, use_style
from normlib.plotting.palette import PALETTE

__all__ = [
    "PALETTE",
    "band",
    "confidence_curve",
    "image_grid",
    "reliability",
    "risk_coverage_curves",
    "score_distributions",
    "use_style",
]
