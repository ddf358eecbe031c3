"""Changing the norms, to change the training: cut-initialization, GradScale, weight decay where it belongs."""

import math
from collections.abc import Iterable, Iterator

import torch
from torch import Tensor, nn
from torch.autograd import Function


def cut_initialization(
    model: nn.Module, c: float, *, scope: str | Iterable[str] = "all", parameters: str = "weights"
) -> nn.Module:
    """Divide a model's weights by ``c`` before training, so that its embeddings start short.

    Without biases and normalisation, L cut layers divide the embedding by ``c**L``. Beside biases that keep their size
    it shrinks far less, and normalisation layers undo every cut before them: measure the initial norms in train mode.

    Args:
        model: Any module; changed in place.
        c: Cut, > 0. 1 changes nothing, below 1 lengthens the embeddings.
        scope: ``"all"`` modules, the ``"last"`` one that has a weight matrix, or names of submodules as in
            ``model.named_modules()`` (each with everything below it).
        parameters: ``"weights"``: tensors of two or more axes (matrices, kernels); biases and the affine parameters of
            BatchNorm, LayerNorm, … keep their values. ``"all"``: those are divided as well, which is what the code
            released with the paper does.

    Returns:
        The same model.

    Raises:
        ValueError: ``c`` is not a positive number, a name in ``scope`` is not a submodule, ``parameters`` is neither
            word, or there is nothing to cut. The model is then unchanged.

    Source: Draganov et al. 2024 (cut-initialization) and 2025; analysed in chapter 6.

    >>> model = nn.Sequential(nn.Linear(4, 4, bias=False), nn.ReLU(), nn.Linear(4, 2, bias=False))
    >>> x = torch.ones(1, 4)
    >>> before = model(x)
    >>> torch.allclose(cut_initialization(model, 3.0)(x), before / 3**2)
    True
    """
    if not (isinstance(c, (int, float)) and 0 < c < math.inf):
        raise ValueError(f"c must be a positive number, got {c!r}; the paper's example is 3")
    if parameters not in ("weights", "all"):
        raise ValueError(f"parameters must be 'weights' or 'all', got {parameters!r}")
    to_cut = {
        id(parameter): parameter  # a tensor shared by two layers is cut once
        for module in _modules_in(model, scope)
        for parameter in module.parameters()
        if parameters == "all" or parameter.ndim >= 2
    }
    if not to_cut:
        raise ValueError(f"scope {scope!r} of {type(model).__name__} holds no parameters to cut")
    with torch.no_grad():
        for parameter in to_cut.values():
            parameter.div_(c)
    return model


class _GradScale(Function):
    @staticmethod
    def forward(ctx, z: Tensor, power: float) -> Tensor:
        ctx.save_for_backward(z)
        ctx.power = power
        return z.view_as(z)

    @staticmethod
    def backward(ctx, grad: Tensor) -> tuple[Tensor, None]:
        (z,) = ctx.saved_tensors
        # float32: ‖z‖**power overflows half precision long before z does
        norm = torch.linalg.vector_norm(z.to(torch.promote_types(z.dtype, torch.float32)), dim=-1, keepdim=True)
        return (grad * norm**ctx.power).to(grad.dtype), None


def grad_scale(z: Tensor, power: float) -> Tensor:
    """Identity forwards; backwards, multiply the gradient of each embedding by ``‖z‖**power``.

    A cosine loss pulls on ``z`` with a force ∝ 1/‖z‖ and turns it by an angle ∝ 1/‖z‖²: ``power=1`` makes the force,
    and ``power=2`` the angle, independent of the norm. ``power=0`` changes nothing.

    Args:
        z: Embeddings, floating point, shape ``(..., D)``.
        power: p ≥ 0. Negative powers would blow up short embeddings and are refused.

    Returns:
        ``z``, same values and shape.

    Raises:
        TypeError: ``z`` is not a floating-point tensor.
        ValueError: ``power`` is negative or not a number.

    Source: Draganov et al. 2025 (GradScale); analysed in chapter 6.

    >>> z = torch.tensor([[3.0, 4.0]], requires_grad=True)
    >>> grad_scale(z, power=1.0).sum().backward()
    >>> z.grad
    tensor([[5., 5.]])
    """
    if not isinstance(z, Tensor) or not z.is_floating_point():
        kind = z.dtype if isinstance(z, Tensor) else type(z).__name__
        raise TypeError(f"z must be a floating-point tensor, got {kind}")
    _check_power(power)
    return _GradScale.apply(z, power)


class GradScale(nn.Module):
    """:func:`grad_scale` as a last layer: put it behind the projector.

    Args:
        power: p ≥ 0.

    Raises:
        ValueError: ``power`` is negative or not a number.

    >>> nn.Sequential(nn.Linear(4, 2), GradScale(power=1.0))[-1]
    GradScale(power=1.0)
    """

    def __init__(self, power: float):
        super().__init__()
        _check_power(power)
        self.power = power

    def forward(self, z: Tensor) -> Tensor:
        """Return ``z`` with its gradient scaled, shape ``(..., D)`` in and out."""
        return grad_scale(z, self.power)

    def extra_repr(self) -> str:
        """Show the power in ``print(model)``."""
        return f"power={self.power}"


def weight_decay_groups(model: nn.Module, weight_decay: float) -> list[dict]:
    """Parameter groups for an optimiser: decay for matrices and kernels, none for biases and normalisation layers.

    Args:
        model: Any module. Frozen parameters (``requires_grad=False``) are left out.
        weight_decay: λ ≥ 0.

    Returns:
        Two groups, ``{"params": [...], "weight_decay": λ}`` and the same with 0, for ``torch.optim``.

    Raises:
        ValueError: ``weight_decay`` is negative or not a number, or the model has no trainable parameter.

    Source: common practice, e.g. Goyal et al. 2017, Sec. 5.3; its effect on norms is the subject of chapter 6.

    >>> groups = weight_decay_groups(nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4)), 1e-4)
    >>> [(group["weight_decay"], len(group["params"])) for group in groups]
    [(0.0001, 1), (0.0, 3)]
    """
    if not (isinstance(weight_decay, (int, float)) and 0 <= weight_decay < math.inf):
        raise ValueError(f"weight_decay must be a number ≥ 0, got {weight_decay!r}")
    trainable = [parameter for parameter in model.parameters() if parameter.requires_grad]
    if not trainable:
        raise ValueError(f"{type(model).__name__} has no parameter with requires_grad=True")
    return [
        {"params": [parameter for parameter in trainable if parameter.ndim >= 2], "weight_decay": weight_decay},
        {"params": [parameter for parameter in trainable if parameter.ndim < 2], "weight_decay": 0.0},
    ]


def _modules_in(model: nn.Module, scope: str | Iterable[str]) -> Iterator[nn.Module]:
    if scope == "all":
        return iter([model])
    if scope == "last":
        own_matrix = [m for m in model.modules() if any(p.ndim >= 2 for p in m.parameters(recurse=False))]
        return iter(own_matrix[-1:])
    names = [scope] if isinstance(scope, str) else list(scope)
    known = dict(model.named_modules())
    unknown = [name for name in names if name not in known]
    if unknown:
        raise ValueError(
            f"scope names unknown submodules {unknown}; use 'all', 'last' or names among "
            f"{', '.join(repr(name) for name in known if name)}"
        )
    return (known[name] for name in names)


def _check_power(power: float) -> None:
    if not (isinstance(power, (int, float)) and 0 <= power < math.inf):
        raise ValueError(f"power must be a number ≥ 0, got {power!r}; 1 is the paper's choice, 0 changes nothing")
