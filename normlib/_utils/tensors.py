"""What losses, closed forms and evaluation share: directions of rows, and the checks of their arguments."""

import math
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from normlib._utils.arguments import check_choice, check_number

# Which similarities stand in the denominator of InfoNCE; see normlib.losses.info_nce.
Denominator = Literal["nt-xent", "decoupled", "cross-view"]


def widened(z: Tensor) -> Tensor:
    """``z`` in float32, or float64 where it is that already."""
    return z.to(torch.promote_types(z.dtype, torch.float32))


def directions_and_inverse_norms(z: Tensor) -> tuple[Tensor, Tensor]:
    """``u = z / ‖z‖`` and ``1 / ‖z‖``, widened; both 0 for a zero row, which has no direction.

    Rows are first scaled by a power of two, which is exact, so that no square overflows or vanishes.
    """
    z = widened(z)
    largest = torch.linalg.vector_norm(z.detach(), math.inf, dim=-1, keepdim=True)
    limit = round(-math.log2(torch.finfo(z.dtype).tiny))
    scale = torch.ldexp(torch.ones_like(largest), -torch.frexp(largest).exponent.clamp(-limit, limit))
    scaled = z * scale
    norm = torch.linalg.vector_norm(scaled, dim=-1, keepdim=True)
    inverse = norm.masked_fill(norm == 0, math.inf).reciprocal()
    return scaled * inverse, scale * inverse


def no_autocast(z: Tensor) -> AbstractContextManager:
    """Similarities in half precision would lose the small angles that training ends on."""
    kind = z.device.type
    return torch.autocast(kind, enabled=False) if torch.amp.is_autocast_available(kind) else nullcontext()


def kind_of(value: Any) -> str:
    """What came, for an error message: a tensor's dtype, or the name of another type."""
    return str(value.dtype) if isinstance(value, Tensor) else type(value).__name__


def check_floating(**tensors: Any) -> None:
    """Refuse what is not a floating-point tensor."""
    for name, tensor in tensors.items():
        if not isinstance(tensor, Tensor) or not tensor.is_floating_point():
            raise TypeError(
                f"{name} must be a floating-point tensor, got {kind_of(tensor)}; convert it with {name}.float()"
            )


def check_alike(**tensors: Any) -> None:
    """Refuse what are not two floating-point tensors of one shape."""
    check_floating(**tensors)
    (name1, first), (name2, second) = tensors.items()
    if first.shape != second.shape:
        raise ValueError(
            f"{name1} and {name2} must have the same shape, got {tuple(first.shape)} and {tuple(second.shape)}"
        )


def check_pairs(*, smallest: int, check_finite: bool | None, **views: Tensor) -> None:
    """Refuse two views that are not floating-point ``(N, D)`` tensors of one shape and device, N ≥ ``smallest``."""
    check_floating(**views)
    (name1, first), (name2, second) = views.items()
    for name, view in views.items():
        if view.ndim != 2 or view.shape[1] == 0:
            raise ValueError(f"{name} must have shape (N, D), got {tuple(view.shape)}; flatten other axes first")
    if first.shape != second.shape:
        raise ValueError(
            f"{name1} and {name2} must have the same shape (row i of each is one pair), "
            f"got {tuple(first.shape)} and {tuple(second.shape)}"
        )
    if first.device != second.device:
        raise ValueError(f"{name1} is on {first.device} but {name2} on {second.device}; move one of them")
    if len(first) < smallest:
        reason = "; a contrastive loss needs negatives" if smallest > 1 else ""
        raise ValueError(f"{name1} and {name2} must have N ≥ {smallest} rows, got N = {len(first)}{reason}")
    on_cpu = first.device.type == "cpu" and not torch.compiler.is_compiling()
    if check_finite or (check_finite is None and on_cpu):
        for name, view in views.items():
            _check_finite(name, view.detach())


def _check_finite(name: str, view: Tensor) -> None:
    if not view.isfinite().all():
        bad = (~view.isfinite()).any(dim=1)
        raise ValueError(
            f"{name} holds NaN or infinity in {int(bad.sum())} of {len(bad)} rows, first in row "
            f"{int(bad.nonzero()[0])}; did a step diverge (lower the learning rate) or half precision overflow?"
        )


def check_contrast(temperature: float, denominator: str) -> None:
    """Refuse a temperature that is not a positive number, and an unknown denominator."""
    check_number("temperature", temperature, above=0, hint="SimCLR uses 0.5; a learnable temperature is not supported")
    check_choice("denominator", denominator, get_args(Denominator))


def float64_of(name: str, value: Any, *, above: float | None = None, at_least: float | None = None) -> Tensor:
    """A number, an array or a tensor as float64, all of its finite values within a bound.

    >>> float64_of("steps", [1, 2], at_least=0)
    tensor([1., 2.], dtype=torch.float64)
    """
    try:
        if torch.as_tensor(value).is_complex():
            raise TypeError
        tensor = torch.as_tensor(value, dtype=torch.float64)
    except (TypeError, ValueError, RuntimeError):
        raise TypeError(f"{name} must be a number, an array or a tensor, got {value!r}") from None
    if tensor.numel() == 0:
        raise ValueError(f"{name} is empty; give at least one number")
    for extreme in tensor.aminmax():  # of NaN both are NaN
        check_number(name, extreme.item(), above=above, at_least=at_least)
    return tensor
