"""Changing the norms, to change the training: cut-initialization, GradScale, weight decay where it belongs."""

from collections.abc import Iterable, Iterator
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.autograd import Function
from torch.nn.utils.spectral_norm import SpectralNorm

from normlib._utils.arguments import check_choice, check_number, check_type, names_of
from normlib._utils.tensors import check_floating, widened

T = TypeVar("T", bound=nn.Module)


def cut_initialization(model: T, c: float, *, scope: str | Iterable[str] = "all", parameters: str = "weights") -> T:
    """Divide a model's weights by ``c`` before training, so that its embeddings start short.

    Without biases and normalisation, L cut layers divide the embedding by ``c**L``, and training goes on exactly as it
    would have gone at another learning rate. Beside biases that keep their size the embedding shrinks far less, and
    what is left of it is nearly the same for all inputs. Normalisation layers undo every cut before them: measure the
    initial norms in train mode.

    Args:
        model: Any module; changed in place.
        c: Cut, > 0. 1 changes nothing, below 1 lengthens the embeddings.
        scope: ``"all"`` modules, the ``"last"`` one that has a weight matrix, or names of submodules as in
            ``model.named_modules()`` (each with everything below it).
        parameters: ``"weights"``: matrices and kernels, that is tensors of two or more axes that are no biases and
            belong to no normalisation layer; all else keeps its values. ``"all"``: everything is divided, which is what
            the code released with the paper does.

    Returns:
        The same model.

    Raises:
        TypeError: ``model`` is no module, or ``scope`` holds what is no name.
        ValueError: ``c`` is not a positive number, a name in ``scope`` is not a submodule, ``parameters`` is neither
            word, there is nothing to cut, a lazy layer has no weights yet, or a parametrization such as
            ``spectral_norm`` would undo the cut. The model is then unchanged.

    Source: Draganov et al. 2024 (cut-initialization) and 2025; analysed in the chapter on interventions.

    >>> model = nn.Sequential(nn.Linear(4, 4, bias=False), nn.ReLU(), nn.Linear(4, 2, bias=False))
    >>> x = torch.ones(1, 4)
    >>> before = model(x)
    >>> torch.allclose(cut_initialization(model, 3.0)(x), before / 3**2)
    True
    """
    check_type(nn.Module, model=model)
    check_number("c", c, above=0, hint="the paper's example is 3")
    check_choice("parameters", parameters, ("weights", "all"))
    to_cut = {}  # by identity: a tensor shared by two layers is cut once
    for module in _modules_in(model, scope):
        _refuse_uncuttable(module)
        matrices = {id(parameter) for parameter in _matrices(module)}
        for parameter in module.parameters():
            if parameters == "all" or id(parameter) in matrices:
                to_cut[id(parameter)] = parameter
    if not to_cut:
        raise ValueError(f"scope {scope!r} of {type(model).__name__} holds no parameters to cut")
    with torch.no_grad():
        for parameter in to_cut.values():
            parameter.div_(float(c))
    return model


class _GradScale(Function):
    @staticmethod
    def forward(ctx: Any, z: Tensor, power: float) -> Tensor:
        ctx.save_for_backward(z)
        ctx.power = power
        return z.clone()  # not a view: an in-place layer behind it must not reach z

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        (z,) = ctx.saved_tensors
        # float32: ‖z‖**power overflows half precision long before z does
        norm = torch.linalg.vector_norm(widened(z), dim=-1, keepdim=True)
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

    Source: Draganov et al. 2025 (GradScale); analysed in the chapter on interventions.

    >>> z = torch.tensor([[3.0, 4.0]], requires_grad=True)
    >>> grad_scale(z, power=1.0).sum().backward()
    >>> z.grad
    tensor([[5., 5.]])
    """
    check_floating(z=z)
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

    Other tensors that a module owns directly count by their shape: two or more axes decay, one does not.

    Args:
        model: Any module. Frozen parameters (``requires_grad=False``) are left out.
        weight_decay: λ ≥ 0.

    Returns:
        Two groups, ``{"params": [...], "weight_decay": λ}`` and the same with 0, for ``torch.optim``.

    Raises:
        TypeError: ``model`` is no module.
        ValueError: ``weight_decay`` is negative or not a number, the model has no trainable parameter, or a lazy layer
            has no weights yet.

    Source: common practice, e.g. Goyal et al. 2017, Sec. 5.3; its effect on norms is a subject of the
    chapter on interventions.

    >>> groups = weight_decay_groups(nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4)), 1e-4)
    >>> [(group["weight_decay"], len(group["params"])) for group in groups]
    [(0.0001, 1), (0.0, 3)]
    """
    check_type(nn.Module, model=model)
    check_number("weight_decay", weight_decay, at_least=0)
    _refuse_lazy(model)
    trainable = [parameter for parameter in model.parameters() if parameter.requires_grad]
    if not trainable:
        raise ValueError(f"model {type(model).__name__} has no parameter with requires_grad=True")
    matrices = {id(parameter) for parameter in _matrices(model)}
    return [
        {"params": [p for p in trainable if id(p) in matrices], "weight_decay": weight_decay},
        {"params": [p for p in trainable if id(p) not in matrices], "weight_decay": 0.0},
    ]


def _matrices(model: nn.Module) -> Iterator[nn.Parameter]:
    """Tensors of two or more axes, but for biases and all that normalisation layers own."""
    for module in model.modules():
        if "Norm" not in type(module).__name__:
            for name, parameter in module.named_parameters(recurse=False):
                if parameter.ndim >= 2 and "bias" not in name:
                    yield parameter


def _refuse_lazy(model: nn.Module) -> None:
    lazy = [name for name, parameter in model.named_parameters() if nn.parameter.is_lazy(parameter)]
    if lazy:
        raise ValueError(f"{', '.join(lazy)} have no values yet; run one batch through the model first")


def _refuse_uncuttable(module: nn.Module) -> None:
    _refuse_lazy(module)
    for name, part in module.named_modules():
        for hook in part._forward_pre_hooks.values():
            if isinstance(hook, SpectralNorm):
                raise ValueError(f"{name}.{hook.name} is under spectral_norm, which undoes a cut; remove that first")
        for tensor, steps in getattr(part, "parametrizations", {}).items():
            kinds = [type(step).__name__ for step in steps]
            if any(kind != "_WeightNorm" for kind in kinds):
                raise ValueError(f"{name}.{tensor} is parametrized by {kinds}, which may undo a cut; remove that first")


def _modules_in(model: nn.Module, scope: str | Iterable[str]) -> Iterator[nn.Module]:
    if scope == "all":
        return iter([model])
    if scope == "last":
        matrices = {id(parameter) for parameter in _matrices(model)}
        owners = [m for m in model.modules() if any(id(p) in matrices for p in m.parameters(recurse=False))]
        return iter(owners[-1:])
    names = names_of("scope", scope)
    known = dict(model.named_modules(remove_duplicate=False))
    unknown = [name for name in names if name not in known]
    if unknown:
        raise ValueError(
            f"scope names unknown submodules {unknown}; use 'all', 'last' or names among "
            f"{', '.join(repr(name) for name in known if name)}"
        )
    return (known[name] for name in names)


def _check_power(power: float) -> None:
    check_number("power", power, at_least=0, hint="1 is the paper's choice, 0 changes nothing")
