"""Random views of a whole batch at once: each image has its own crop, flip, colours, rotation or noise."""

from normlib.augment.two_views import Parameters, TwoViews, apply

__all__ = ["Parameters", "TwoViews", "apply"]
