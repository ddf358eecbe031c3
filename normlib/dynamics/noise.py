"""How long a free embedding grows when an optimiser follows noise: one law for each optimiser."""

from typing import Any

from torch import Tensor

from normlib._utils.arguments import check_choice, check_count, check_number
from normlib._utils.tensors import float64_of


def norm_after_noise(
    optimizer: str,
    norm: float,
    steps: Any,
    *,
    lr: float,
    noise: float | None = None,
    dim: int | None = None,
    momentum: float = 0.0,
    trust: float = 0.001,
) -> Tensor:
    """Norm of a free embedding after some steps along tangential gradients of random direction and size G/‖z‖.

    - ``"sgd"``: ``‖z‖⁴ = ‖z₀‖⁴ + 2 η² G² T / (1-μ)²``;
    - ``"adamw"``: ``‖z‖² = ‖z₀‖² + η² D T``: Adam divides by the size of the gradient, so G drops out;
    - ``"lars"``: ``‖z‖² = ‖z₀‖² (1 + η² k² / (1-μ)²)^T``: each step is the share ηk of the embedding's own length, so G
      drops out, no length is a brake, and growth is exponential. Exact for μ = 0.

    Args:
        optimizer: ``"sgd"``, ``"adamw"`` or ``"lars"``, all without weight decay.
        norm: ‖z₀‖ > 0.
        steps: T ≥ 0, a number or several.
        lr: Step size η > 0.
        noise: G > 0, the size of the gradient at norm 1; needed for SGD.
        dim: D, number of coordinates; needed for AdamW.
        momentum: μ in [0, 1), of SGD and LARS; AdamW's first average changes nothing.
        trust: The trust coefficient k > 0 of LARS.

    Returns:
        Norms, float64, in the shape of ``steps``.

    Raises:
        ValueError: An unknown optimizer, a setting missing or out of range.

    Source: ours; derived in the appendix on optimisers and decay, for LARS in the chapter beyond SimCLR.

    >>> norm_after_noise("sgd", 1.0, [0, 150], lr=0.1, noise=1.0)
    tensor([1.0000, 1.4142], dtype=torch.float64)
    >>> norm_after_noise("lars", 1.0, 2, lr=1.0, trust=1.0)
    tensor(2., dtype=torch.float64)
    """
    check_choice("optimizer", optimizer, ("sgd", "adamw", "lars"))
    for name, value in (("norm", norm), ("lr", lr), ("trust", trust)):
        check_number(name, value, above=0)
    check_number("momentum", momentum, at_least=0, below=1)
    steps = float64_of("steps", steps, at_least=0)
    if optimizer == "adamw":
        check_count("dim", dim, hint="AdamW's growth depends on the dimension")
        assert dim is not None  # that was refused
        return (norm**2 + lr**2 * dim * steps).sqrt()
    weight = lr / (1 - momentum)  # of one gradient, summed over all steps that it takes part in
    if optimizer == "lars":
        return norm * (1 + (weight * trust) ** 2) ** (steps / 2)
    check_number("noise", noise, above=0, hint="SGD's growth depends on the size of the gradient")
    assert noise is not None  # that was refused
    return (norm**4 + 2 * (weight * noise) ** 2 * steps) ** 0.25
