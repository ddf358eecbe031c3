"""Losses of two views: pure functions of ``(N, D)`` tensors.

Embeddings are normalised inside every loss that compares directions; pass them as the network returns them.
:func:`barlow_twins` and :func:`vicreg` see more than directions. :func:`info_nce` never holds the matrix of all
similarities: it walks over blocks of it, forwards for the log-sum-exp and backwards for the closed-form gradient of
the chapter on the gradient.
"""

from normlib.losses.contrastive import cosine_loss, info_nce, negative_cosine, sigmoid_loss, unit
from normlib.losses.redundancy import barlow_twins, vicreg

__all__ = ["barlow_twins", "cosine_loss", "info_nce", "negative_cosine", "sigmoid_loss", "unit", "vicreg"]
