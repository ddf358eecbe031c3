"""Checks of assignment 3: GradScale, cut-initialization, and what biases and BatchNorm make of it."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn

from normcourse.exercises._variants import variant
from normcourse.exercises._verdicts import NOT_ANSWERED, Verdict, first_wrong, judge, outcome, rows
from normlib import interventions
from normlib.evaluation import spread


def grad_scale(answer: Callable) -> Verdict:
    """``grad_scale(z, power)``: identity forwards; backwards each row's gradient times ``‖z‖**power``.

    >>> grad_scale(interventions.grad_scale)
    ✓ right: z goes through unchanged, its gradient is scaled row by row
    >>> grad_scale(lambda z, power: z * z.norm(dim=1, keepdim=True) ** power)
    ✗ forwards: z must come out as it went in; only its gradient is to be scaled
    """
    return first_wrong(_grad_scale_verdicts(answer, rows(5, 3, seed=21), rows(5, 3, seed=22)))


def cut(answer: Callable) -> Verdict:
    """``cut(model, c)``: divide weight matrices and kernels by ``c``, in place; return the model.

    >>> cut(interventions.cut_initialization)
    ✓ right: weights are cut, biases and BatchNorm are not
    """
    model, c = _small_network(), 4.0
    before = copy.deepcopy(model)
    found = outcome(answer, model, c)
    if isinstance(found, Verdict):
        return found
    if found is not model:
        return Verdict(False, "the model itself must be changed and returned, not a copy")
    if _forms(model) != _forms(before):
        return Verdict(False, "a layer has been replaced: its own weights are to be divided, in place")
    if any(not isinstance(p, nn.Parameter) or not p.requires_grad for p in model.parameters()):
        return Verdict(False, "a parameter no longer requires a gradient: use torch.no_grad() and div_")
    factor = {
        name: (old / new).mean().item()
        for (name, old), new in zip(before.named_parameters(), model.parameters(), strict=True)
    }
    weights = [name for name in factor if name.endswith("weight") and not name.startswith("norm")]
    cuts = [round(factor[name], 6) for name in weights]
    for seen, message in [
        (any(factor[name] != 1 for name in factor if name.startswith("norm")), "BatchNorm's scale and shift stay"),
        (any(factor[name] != 1 for name in factor if name.endswith("bias")), "biases stay: only weights are cut"),
        (cuts == [1 / c] * 3, "the weights are multiplied by c, not divided"),
        (cuts == [1] * 3, "no weight has changed"),
        (cuts == [1, c, c], "the convolution has a weight too: any tensor of two or more axes"),
        (cuts == [1, 1, c], "only the last layer is cut"),
        (cuts == [c**2] * 3, "weights are divided twice"),
        (cuts != [c] * 3, f"weights are divided by {cuts}, not by {c:g}"),
    ]:
        if seen:
            return Verdict(False, message)
    return Verdict(True, "right: weights are cut, biases and BatchNorm are not")


def matched_rates(sgd: tuple[float, float], adamw: tuple[float, float], student_id: str) -> Verdict:
    """Learning rate and decay without your cut that train the same functions as ``(lr, decay)`` with it.

    >>> matched_rates((0.1, 0.1), (0.1, 0.1), "ada.lovelace")
    ✗ SGD, learning rate: not right, and no mistake that we know
    """
    numbers = variant(student_id, "A3")
    c, lr, decay = numbers.c, numbers.lr, numbers.decay

    def verdicts() -> Iterator[Verdict]:
        for name, pair, power in (("SGD", sgd, 2), ("AdamW", adamw, 1)):
            if pair is ...:
                yield Verdict(False, NOT_ANSWERED)
            if not isinstance(pair, tuple | list) or len(pair) != 2:
                yield Verdict(False, f"{name}: expected (learning rate, decay), got {pair!r}")
            for what, found, exponent, start in (
                ("learning rate", pair[0], power, lr),
                ("decay", pair[1], -power, decay),
            ):
                known = {
                    "it changes": 0,
                    "the other way round: the cut network is the one that moves far": -exponent,
                    "Adam's step does not shrink with the gradient": 2 * exponent if power == 1 else None,
                    "weights are c times as small, and gradients c times as large": exponent / 2
                    if power == 2
                    else None,
                    "the number of layers does not matter: think of one weight matrix": exponent * numbers.layers,
                }
                mistakes = {f"{name}, {what}: {m}": start * c**e for m, e in known.items() if e is not None}
                unknown = f"{name}, {what}: not right, and no mistake that we know"
                yield judge(found, start * c**exponent, mistakes, rtol=5e-3, unknown=unknown, praise="right")

    return first_wrong(verdicts())


def measure_cut(answer: Callable) -> Verdict:
    """``measure_cut(model, x, c)``: factors by which a cut shrinks the mean norm, and the spread, in train mode.

    The spread is 1 minus the mean cosine between *different* inputs. Returns ``(norm_factor, spread_factor)``; the
    model stays as it is.

    >>> measure_cut(lambda model, x, c: (c, c))
    ✗ norm factor: not right, and no mistake that we know: got 3, expected 1.402
    """
    model, x, c = _small_network().eval(), rows(6, 16, seed=23).view(6, 1, 4, 4), 3.0
    before = copy.deepcopy(model.state_dict())
    found = outcome(answer, model, x, c)
    if isinstance(found, tuple | list):
        found = outcome(lambda: torch.stack([torch.as_tensor(value).double() for value in found]))
    after = model.state_dict()
    if after.keys() != before.keys() or not all(torch.equal(before[name], after[name]) for name in before):
        return Verdict(False, "the model has changed: cut a copy (copy.deepcopy), and measure on copies")
    short = interventions.cut_initialization(copy.deepcopy(model), c)
    right, wrong_mode = _factors(model, short, x), _factors(model, short, x, train=False)
    unknown = ""
    if isinstance(found, Tensor) and found.shape == (2,):
        what, k = ("spread", 1) if torch.isclose(found[0].double(), right[0]) else ("norm", 0)
        unknown = f"{what} factor: not right, and no mistake that we know: got {found[k]:.4g}, expected {right[k]:.4g}"
    return judge(
        found,
        right,
        {
            "measured in eval mode: BatchNorm then uses statistics that no batch has set": wrong_mode,
            "after over before: by which factor does it shrink?": 1 / right,
            "both factors are exchanged": right.flip(0),
            "the mean of the norms, not the norm of the mean": _factors(model, short, x, norm_of_mean=True),
        },
        praise="right, and the model is as it was",
        unknown=unknown,
    )


def _grad_scale_verdicts(answer: Callable, z: Tensor, upstream: Tensor) -> Iterator[Verdict]:
    norm = z.norm(dim=1, keepdim=True)
    for power in (2.0, 0.0):
        leaf = z.clone().requires_grad_()
        found = outcome(answer, leaf, power)
        yield judge(found, z, unknown="forwards: z must come out as it went in; only its gradient is to be scaled")
        yield Verdict(
            getattr(found, "requires_grad", False), "no gradient comes through: the result is detached from z"
        )
        yield judge(
            outcome(lambda out, grad, leaf=leaf: torch.autograd.grad(out, leaf, grad)[0], found, upstream),
            upstream * norm**power,
            {
                "backwards: the gradient passes unscaled": upstream,
                "backwards: the norm is to be taken row by row": upstream * z.norm() ** power,
                "backwards: the norm is not raised to the power": upstream * norm,
                "backwards: it is divided by the norm": upstream / norm**power,
                "backwards: the norm of z is meant, not that of the gradient": upstream * _norm(upstream) ** power,
                "backwards: the norm squared is raised to the power": upstream * norm ** (2 * power),
            },
            praise="right: z goes through unchanged, its gradient is scaled row by row",
        )


def _small_network() -> nn.Sequential:
    """A convolution, BatchNorm and two linear layers, in float64, the same each time."""
    layers = {
        "conv": nn.Conv2d(1, 4, 3, padding=1),
        "norm": nn.BatchNorm2d(4),
        "relu": nn.ReLU(),
        "flat": nn.Flatten(),
        "hidden": nn.Linear(64, 8),
        "relu2": nn.ReLU(),
        "last": nn.Linear(8, 3),
    }
    model = nn.Sequential()
    for i, (name, layer) in enumerate(layers.items()):
        model.add_module(name, layer.double())
        for k, parameter in enumerate(layer.parameters()):
            parameter.data = rows(parameter.numel(), 1, seed=100 * i + k).view_as(parameter) / 4
    return model


def _forms(model: nn.Module) -> dict[str, tuple[torch.Size, torch.dtype]]:
    return {name: (parameter.shape, parameter.dtype) for name, parameter in model.named_parameters()}


def _factors(
    model: nn.Module, short: nn.Module, x: Tensor, *, train: bool = True, norm_of_mean: bool = False
) -> Tensor:
    """Norm and spread before, over norm and spread after."""
    measured = []
    for network in (model, short):
        with torch.no_grad():
            z = copy.deepcopy(network).train(train)(x)
        norm = z.mean(dim=0).norm() if norm_of_mean else z.norm(dim=1).mean()
        measured.append(torch.stack([norm, norm.new_tensor(spread(z))]))
    return measured[0] / measured[1]


def _norm(z: Tensor) -> Tensor:
    return z.norm(dim=1, keepdim=True)
