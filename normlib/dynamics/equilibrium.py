"""The norm at which growth by noise and weight decay balance."""

import math

from normlib._utils.arguments import check_choice, check_count, check_number


def equilibrium_norm(
    optimizer: str,
    *,
    lr: float,
    weight_decay: float,
    noise: float | None = None,
    dim: int | None = None,
    momentum: float = 0.0,
    power: float = 0.0,
) -> float:
    """Norm at which growth by noisy gradients and weight decay balance.

    A free embedding receives tangential gradients of random direction and size G/‖z‖. Then

    - ``"sgd"``: ``‖z‖* = [η G² / (2λ(1-μ))]^(1/(4-2p))``, the fourth root without GradScale, the square root for p = 1;
    - ``"adamw"``: ``‖z‖* = sqrt(η D / (2λ))``: Adam divides by the size of the gradient, so G and p drop out.

    Args:
        optimizer: ``"sgd"`` or ``"adamw"``.
        lr: Step size η > 0.
        weight_decay: λ > 0; as ``torch.optim`` applies it: in the gradient for SGD, decoupled for AdamW.
        noise: G > 0, the size of the gradient at norm 1; needed for SGD.
        dim: D, number of coordinates; needed for AdamW.
        momentum: μ in [0, 1), of SGD.
        power: GradScale power p in [0, 2), for SGD.

    Returns:
        The norm.

    Raises:
        ValueError: An unknown optimizer, a setting missing or out of range. ``weight_decay=0`` has no equilibrium, nor
            has p = 2: growth and decay are then both proportional to the norm, and one of them wins.

    Source: ours; derived in the chapter on norm growth, for GradScale in that on interventions. For normalised weights:
    van Laarhoven 2017; Wan et al. 2021; Kosson et al. 2024.

    >>> round(equilibrium_norm("sgd", lr=0.1, weight_decay=5e-4, noise=0.1, momentum=0.9), 3)
    1.778
    """
    check_choice("optimizer", optimizer, ("sgd", "adamw"))
    check_number("lr", lr, above=0)
    check_number("weight_decay", weight_decay, above=0, hint="without decay there is no equilibrium")
    check_number("momentum", momentum, at_least=0, below=1)
    check_number("power", power, at_least=0, below=2, hint="with p = 2 the norm explodes or collapses")
    if optimizer == "adamw":
        check_count("dim", dim, hint="AdamW's equilibrium depends on the dimension")
        assert dim is not None  # that was refused
        return math.sqrt(lr * dim / (2 * weight_decay))
    check_number("noise", noise, above=0, hint="SGD's equilibrium depends on the size of the gradient")
    assert noise is not None  # that was refused
    return (lr * noise**2 / (2 * weight_decay * (1 - momentum))) ** (1 / (4 - 2 * power))
