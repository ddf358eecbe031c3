"""The optimisers that a run can choose, LARS among them."""

from collections.abc import Callable, Iterable
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from normlib._utils.arguments import check_choice, check_number
from normlib.interventions import weight_decay_groups

OptimizerName = Literal["sgd", "lars", "adamw"]
OPTIMIZERS = get_args(OptimizerName)


class LARS(torch.optim.Optimizer):
    """SGD whose step for each tensor is proportional to the tensor's own norm (layer-wise adaptive rate scaling).

    With weights ``w``, gradient ``g``, weight decay λ and momentum μ, one step is::

        r = trust_coefficient * ‖w‖ / (‖g‖ + λ ‖w‖ + eps)
        v = μ v + r (g + λ w)
        w = w - lr * v

    ``r`` is 1 where ``‖w‖`` or ``‖g‖`` is 0, and in parameter groups with ``"adapt": False``, as SimCLR has it for
    biases and BatchNorm. As in :class:`torch.optim.SGD` the learning rate stands outside the momentum; in the paper it
    stands inside, which differs only while the learning rate changes.

    Args:
        params: Parameters, or parameter groups; a group may have its own ``adapt`` and any other option.
        lr: Learning rate, ≥ 0.
        momentum: Momentum μ ≥ 0.
        nesterov: Nesterov's momentum; needs ``momentum`` > 0.
        weight_decay: Weight decay λ ≥ 0.
        trust_coefficient: Relative size of a step with ``lr=1``, > 0.
        eps: Keeps the denominator from 0, ≥ 0.
        adapt: Use the ratio ``r``.

    Raises:
        ValueError: A number is out of its range, or ``nesterov`` has no momentum.

    Source: You, Gitman & Ginsburg 2017 (LARS), equation (6) and algorithm 1; Chen et al. 2020 (SimCLR).

    >>> w = torch.nn.Parameter(torch.tensor([3.0, 4.0]))
    >>> w.grad = torch.tensor([0.0, 20.0])
    >>> LARS([w], lr=1.0, trust_coefficient=0.1).step()  # 0.1 * 5 / 20 of the gradient
    >>> w.data
    tensor([3.0000, 3.5000])
    """

    def __init__(
        self,
        params: Iterable,
        lr: float,
        *,
        momentum: float = 0.0,
        nesterov: bool = False,
        weight_decay: float = 0.0,
        trust_coefficient: float = 0.001,
        eps: float = 1e-8,
        adapt: bool = True,
    ):
        for name, value in (("lr", lr), ("momentum", momentum), ("weight_decay", weight_decay), ("eps", eps)):
            check_number(name, value, at_least=0)
        check_number("trust_coefficient", trust_coefficient, above=0)
        _check_nesterov(nesterov, momentum)
        defaults = {
            "lr": lr,
            "momentum": momentum,
            "nesterov": nesterov,
            "weight_decay": weight_decay,
            "trust_coefficient": trust_coefficient,
            "eps": eps,
            "adapt": adapt,
        }
        super().__init__(params, defaults)

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Take one step along the gradients; nothing waits for the device.

        Args:
            closure: Computes the loss and the gradients anew, where given.

        Returns:
            What ``closure`` returned.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            params = [p for p in group["params"] if p.grad is not None]
            if params:
                self._step_group(group, params)
        return loss

    def _step_group(self, group: dict, params: list[Tensor]) -> None:
        steps = list(torch._foreach_add(_grads(params), params, alpha=group["weight_decay"]))
        if group["adapt"]:
            torch._foreach_mul_(steps, _trust_ratios(group, params))
        if group["momentum"]:
            velocities = [self._velocity(p) for p in params]
            torch._foreach_mul_(velocities, group["momentum"])
            torch._foreach_add_(velocities, steps)
            if group["nesterov"]:
                torch._foreach_add_(steps, velocities, alpha=group["momentum"])
            else:
                steps = velocities
        torch._foreach_add_(params, steps, alpha=-group["lr"])

    def _velocity(self, parameter: Tensor) -> Tensor:
        state = self.state[parameter]
        if not state:
            state["momentum_buffer"] = torch.zeros_like(parameter)
        return state["momentum_buffer"]


def _grads(params: list[Tensor]) -> list[Tensor]:
    return [p.grad for p in params if p.grad is not None]


def _trust_ratios(group: dict, params: list[Tensor]) -> list[Tensor]:
    norms = torch.stack(torch._foreach_norm(params))
    grad_norms = torch.stack(torch._foreach_norm(_grads(params)))
    ratios = group["trust_coefficient"] * norms / (grad_norms + group["weight_decay"] * norms + group["eps"])
    return list(torch.where((norms > 0) & (grad_norms > 0), ratios, 1.0).unbind())


def make_optimizer(
    model: nn.Module, *, name: OptimizerName, lr: float, momentum: float, nesterov: bool, weight_decay: float
) -> torch.optim.Optimizer:
    """Optimiser of a model's parameters, with weight decay for matrices and kernels only.

    Args:
        model: Its parameters with ``requires_grad=True`` are trained.
        name: ``"sgd"``; ``"lars"``, which adapts the step to the norm of matrices and kernels only; or ``"adamw"``.
        lr: Learning rate, > 0.
        momentum: Momentum μ, in [0, 1); for ``"adamw"`` this is β₁ (β₂ is 0.999).
        nesterov: Nesterov's momentum; not for ``"adamw"``.
        weight_decay: λ ≥ 0. In ``"adamw"`` it does not pass through the gradient but shrinks the weights by lr · λ.

    Returns:
        An optimiser with two parameter groups, see :func:`normlib.interventions.weight_decay_groups`.

    Raises:
        ValueError: An unknown ``name``, a number out of its range, ``nesterov`` where it has no meaning, or a model
            with nothing to train.

    >>> model = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4))
    >>> optimizer = make_optimizer(model, name="lars", lr=0.3, momentum=0.9, nesterov=False, weight_decay=1e-6)
    >>> [(group["adapt"], group["weight_decay"], len(group["params"])) for group in optimizer.param_groups]
    [(True, 1e-06, 1), (False, 0.0, 3)]
    """
    check_choice("name", name, OPTIMIZERS)
    check_number("lr", lr, above=0)
    check_number("momentum", momentum, at_least=0, below=1)
    groups = weight_decay_groups(model, weight_decay)
    if name == "adamw":
        if nesterov:
            raise ValueError("nesterov has no meaning for 'adamw'; leave it False or choose 'sgd' or 'lars'")
        return torch.optim.AdamW(groups, lr=lr, betas=(momentum, 0.999))
    _check_nesterov(nesterov, momentum)
    if name == "sgd":
        return torch.optim.SGD(groups, lr=lr, momentum=momentum, nesterov=nesterov)
    matrices, others = groups
    groups = [matrices | {"adapt": True}, others | {"adapt": False}]
    return LARS(groups, lr=lr, momentum=momentum, nesterov=nesterov)


def _check_nesterov(nesterov: bool, momentum: float) -> None:
    if nesterov and not momentum:
        raise ValueError("nesterov needs momentum > 0, got momentum 0; set it (0.9, say) or leave nesterov False")
