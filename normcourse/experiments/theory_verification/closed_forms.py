"""The closed forms of the theory measured again on free points: gradients, steps, growth and equilibria.

A measurement takes a seed and gives numbers by name. Errors are relative to the largest entry of what they are judged
by, in float64.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from normcourse.experiments.theory_verification.released_code import ETA
from normlib import dynamics, gradients, losses, simulations

Measured = dict[str, float]

DENOMINATORS = ("nt-xent", "decoupled", "cross-view")
GRID = (0.25, 0.5, 0.75, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10)  # of the released notebook
RELEASED = (6, 24, 54, 96, 385, 869, 1547, 2416, 3463, 4737, 6156, 7822, 9662)  # the counts that it stores


def gradients_in_closed_form(seed: int) -> Measured:
    """Closed forms against autograd, on pairs whose norms span two decades."""
    z1, z2 = _pairs(seed, 32, 8)
    cases = {"cosine": (losses.cosine_loss, gradients.cosine_loss_grad, {})}
    cases |= {one: (losses.info_nce, gradients.info_nce_grad, {"denominator": one}) for one in DENOMINATORS}
    found: Measured = {}
    for name, (loss, closed, options) in cases.items():
        z = torch.cat([z1, z2])
        judge = _autograd(lambda both, loss=loss, options=options: loss(*both.chunk(2), **options), z)
        found[f"{name}: error of the gradient"] = _error(torch.cat(closed(z1, z2, **options)), judge)
        sizes = z.norm(dim=1) * judge.norm(dim=1)
        found[f"{name}: radial share of the gradient"] = ((z * judge).sum(1).abs() / sizes).max()
        longer = _autograd(lambda both, loss=loss, options=options: loss(*both.chunk(2), **options), 10 * z)
        found[f"{name}: gradient of tenfold embeddings"] = (longer.norm() / judge.norm()).item()
        grown = (z - 5.0 * judge).norm(dim=1)
        found[f"{name}: error of the norm after a step"] = _error(dynamics.norm_after_step(z, judge, 5.0), grown)
        found[f"{name}: embeddings that a step shortens"] = (grown < z.norm(dim=1)).double().mean()
    return found


def gradients_of_other_methods(seed: int) -> Measured:
    """Radial shares of the gradients of other losses: the largest where theory says zero, the mean elsewhere."""
    z1, z2 = _pairs(seed, 64, 16)
    z = torch.cat([z1, z2])
    found: Measured = {}
    for loss in (losses.negative_cosine, losses.sigmoid_loss, losses.barlow_twins, losses.vicreg):
        g = _autograd(lambda both, loss=loss: loss(*both.chunk(2)), z)
        share = (z * g).sum(1).abs() / (z.norm(dim=1) * g.norm(dim=1)).clamp(min=1e-300)
        name = loss.__name__
        found[f"{name}: largest radial share of the gradient"] = share.max()
        found[f"{name}: mean radial share of the gradient"] = share.mean()
    return found


def steps_of_a_pair(seed: int) -> Measured:
    """The exact step against autograd, and where a pair passes its target or loses."""
    z1, z2 = _pairs(seed, 200, 16)
    pair = torch.cat([z1, z2])
    g = len(z1) * _autograd(lambda both: losses.cosine_loss(*both.chunk(2)), pair)
    new1, new2 = (pair - 0.3 * g).chunk(2)
    cosine = torch.cosine_similarity(z1, z2)
    state = dynamics.cosine_step(cosine, (1 - cosine**2).sqrt(), z1.norm(dim=1), z2.norm(dim=1), 0.3)
    rng = np.random.default_rng(seed)
    angle, a = rng.uniform(0.01, 3.13, 20_000), 10 ** rng.uniform(-2, 2, 20_000)
    c, s = np.cos(angle), np.sin(angle)
    new, *_ = dynamics.cosine_step(c, s, 1.0, 1.0, a)
    turned = angle - 2 * np.arctan(a * s)
    quoted = a * s**2 * (2 - a * c)
    clear = (abs(turned) > 1e-6) & (abs(new) > 1e-6)
    obtuse, acute = (c < 0) & (a < 0.5), (c > 0) & (a > 1)
    norm1, norm2 = 10 ** rng.uniform(-1, 2, (2, len(angle)))
    bound = dynamics.cosine_change_bound(angle, norm1, 1.0, norm2=norm2).numpy()
    change = dynamics.cosine_step(c, s, norm1, norm2, 1.0)[0] - c
    return {
        "pair: error of the step": _error(state[0], torch.cosine_similarity(new1, new2)),
        "pair: passes beyond 1/(1 + cos)": ((turned < 0) == (a * (1 + c) > 1))[clear].mean(),
        "pair: loses beyond 1/cos": ((new < c) == (a * c > 1))[clear].mean(),
        "pair: steps above the safe bound": (change > bound + 1e-12).mean(),
        "pair: quoted bound broken, obtuse and small steps": (new - c > quoted)[obtuse].mean(),
        "pair: quoted bound broken, acute and large steps": (new - c > quoted)[acute].mean(),
        "pair: quoted bound broken iff the new cosine is negative": ((new - c > quoted) == (new < 0))[clear].mean(),
    }


def steps_to_align(seed: int) -> Measured:
    """The paper's simulation of steps against norm and angle, with its settings, and the bottom of the curve."""
    steps = simulations.steps_to_align(GRID, seed=seed).steps.to_numpy()
    found = {
        "align: exponent of the norm": np.polyfit(np.log(GRID), np.log(steps), 1)[0],
        "align: steps at norm 10, over 100": steps[-1] / 100,
        "align: largest relative distance from the released counts": np.abs(steps / RELEASED - 1).max(),
    }
    relative = np.geomspace(0.5, 2, 81)
    few = simulations.steps_to_align(relative * ETA**0.5, seed=seed).steps.to_numpy()
    found["align: best norm over √η"] = np.exp(np.log(relative[few == few.min()]).mean())
    short = simulations.steps_to_align([0.01, 0.02, 0.04, 0.08], seed=seed).steps.to_numpy()
    found["align: exponent of the norm below √η/2"] = np.polyfit(np.log([1, 2, 4, 8]), np.log(short), 1)[0]
    for power in (0, 1, 2):
        counts = simulations.steps_to_align((1, 2, 4, 8), power=power, seed=seed).steps
        found[f"GradScale p = {power}: exponent of the norm"] = np.polyfit(np.log([1, 2, 4, 8]), np.log(counts), 1)[0]
    near = 10.0 ** -np.arange(1, 5) * np.random.default_rng(seed).uniform(0.9, 1.1)
    opposed = simulations.steps_to_align([1.0], list(math.pi - near), n_pairs=1, lr=ETA).steps.to_numpy()
    found["align: steps per factor of ten nearer to opposition"] = np.diff(opposed).mean()
    first = [dynamics.cosine_step(math.cos(math.pi - e), math.sin(e), 1.0, 1.0, ETA)[0] + math.cos(e) for e in near]
    found["align: exponent of the first gain near opposition"] = np.polyfit(np.log(near[:3]), np.log(first[:3]), 1)[0]
    angle, norm = np.random.default_rng(seed).uniform([0.3, 0.5], [2.8, 2.0])
    predicted = dynamics.time_to_align(angle, math.acos(0.999), norm, 1e-3).item()
    counted = simulations.steps_to_align([norm], [angle], n_pairs=1, lr=1e-3).steps.iloc[0]
    return found | {"align: counted over predicted steps, small steps": counted / predicted}


def growth_under_noise(seed: int) -> Measured:
    """Free points under tangential noise of size 1/‖z‖: the quarter-power law, and what momentum does to it."""
    found = {}
    for momentum in (0.0, 0.5, 0.9):
        norms, _ = _noise_walk(seed, "sgd", lr=0.02, momentum=momentum, start=1.0)
        law = 1 + 2 * 0.02**2 * 2000 / (1 - momentum) ** 2
        found[f"noise: fourth power of the norm over its law, μ = {momentum}"] = (norms**4).mean() / law
    return found


def balance_with_decay(seed: int) -> Measured:
    """Where weight decay and noise balance: norms and turns over what theory predicts."""
    settings = {
        "SGD": ("sgd", {"lr": 0.1, "weight_decay": 0.01}, 2e-3),
        "SGD, μ = 0.9": ("sgd", {"lr": 0.02, "weight_decay": 0.005, "momentum": 0.9}, 2e-4 / 1.9),
        "AdamW": ("adamw", {"lr": 0.01, "weight_decay": 0.2}, 4e-3 * 0.1 / 1.9),
    }
    found = {}
    for name, (kind, options, turn) in settings.items():
        size = {"dim": 32} if kind == "adamw" else {"noise": 1.0}
        goal = float(dynamics.equilibrium_norm(kind, **options, **size))
        norms, turns = _noise_walk(seed, kind, start=2.0, **options)
        found[f"balance: norm over its law, {name}"] = norms.mean() / goal
        found[f"balance: turn over its law, {name}"] = math.sqrt((turns**2).mean() / turn)
    for power, noise in ((0, 1.0), (1, 1.0), (2, 1.0), (2, 0.2)):
        lr, decay = 0.1, 0.01
        norms, _ = _noise_walk(seed, "sgd", lr=lr, weight_decay=decay, start=1.0, power=power, noise=noise, steps=4000)
        if power < 2:
            goal = float(dynamics.equilibrium_norm("sgd", lr=lr, weight_decay=decay, noise=noise, power=power))
            found[f"balance: norm over its law, GradScale p = {power}"] = norms.mean() / goal
        else:
            rate = np.log(norms).mean() / 4000
            found[f"balance: log norm per step, GradScale p = 2, G = {noise}"] = rate
    return found


def _pairs(seed: int, n: int, dim: int, decades: float = 2) -> tuple[Tensor, Tensor]:
    """Random pairs in float64 whose norms spread over some powers of ten."""
    generator = torch.Generator().manual_seed(seed)
    z = torch.randn(2, n, dim, generator=generator, dtype=torch.float64)
    z1, z2 = losses.unit(z) * 10 ** (decades * (torch.rand(2, n, 1, generator=generator, dtype=torch.float64) - 0.5))
    return z1, z2


def _autograd(loss: Callable[[Tensor], Tensor], z: Tensor) -> Tensor:
    leaf = z.clone().requires_grad_()
    return torch.autograd.grad(loss(leaf), leaf)[0]


def _error(found: Tensor, judge: Tensor) -> float:
    return ((found - judge).abs().max() / judge.abs().max()).item()


def _noise_walk(
    seed: int, rule: str, *, lr: float, start: float, weight_decay: float = 0.0, momentum: float = 0.0,
    power: float = 0.0, noise: float = 1.0, steps: int = 2000, points: int = 50, dim: int = 32,
) -> tuple[np.ndarray, np.ndarray]:  # fmt: skip
    """Last norms of free points under tangential noise of mean square G²/‖z‖², and the turns of the last quarter."""
    generator = torch.Generator().manual_seed(seed)
    like = {"generator": generator, "dtype": torch.float64}
    leaf = torch.nn.Parameter(start * losses.unit(torch.randn(points, dim, **like)))
    if rule == "adamw":
        optimizer = torch.optim.AdamW([leaf], lr=lr, weight_decay=weight_decay, betas=(0.9, 0.99))
    else:
        optimizer = torch.optim.SGD([leaf], lr=lr, weight_decay=weight_decay, momentum=momentum)
    turns = []
    for step in range(steps):
        z = leaf.detach().clone()
        norm = z.norm(dim=1, keepdim=True)
        pull = gradients.tangent(z, torch.randn(z.shape, **like))
        leaf.grad = noise / math.sqrt(dim - 1) * norm ** (power - 1) * pull
        optimizer.step()
        if step >= 3 * steps // 4:
            turns.append(torch.cosine_similarity(z, leaf.detach()).clamp(max=1).arccos())
    return leaf.detach().norm(dim=1).numpy(), torch.stack(turns).numpy()
