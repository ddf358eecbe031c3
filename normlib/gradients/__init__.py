"""Gradients of cosine losses in closed form, and the radial share of any gradient, at every layer of a network.

The closed forms are the formulas of the chapter on the gradient in their plainest shape. They hold the whole matrix
of similarities, so they are for reading, checking and simulating; training uses :mod:`normlib.losses`. The radial share
tests at any layer of a network what they rest on: that the gradient of a loss of directions has no part along z.
"""

from normlib.gradients.closed_form import cosine_loss_grad, info_nce_grad, tangent
from normlib.gradients.radial import radial_share, radial_table

__all__ = ["cosine_loss_grad", "info_nce_grad", "radial_share", "radial_table", "tangent"]
