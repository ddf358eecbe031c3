"""Experiments without images: free points that a cosine loss moves, and small encoders on mixtures of directions."""

from normlib.simulations.alignment import steps_to_align
from normlib.simulations.mixtures import Encoders, Mixture, norm_table, spherical_mixture, train_encoder

__all__ = ["Encoders", "Mixture", "norm_table", "spherical_mixture", "steps_to_align", "train_encoder"]
