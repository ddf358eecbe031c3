"""What steps of an optimiser do to norms and angles of free embeddings: exact laws, bounds and equilibria.

The chapters on norm growth, on convergence, on interventions and beyond SimCLR derive the laws. They hold for free
embeddings, which an optimiser moves directly.
"""

from normlib.dynamics.alignment import angle_after_steps, time_to_align
from normlib.dynamics.equilibrium import equilibrium_norm
from normlib.dynamics.noise import norm_after_noise
from normlib.dynamics.steps import cosine_change_bound, cosine_step, norm_after_step

__all__ = [
    "angle_after_steps",
    "cosine_change_bound",
    "cosine_step",
    "equilibrium_norm",
    "norm_after_noise",
    "norm_after_step",
    "time_to_align",
]
