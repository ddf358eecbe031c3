"""Laws measured on small networks: cut and learning rate, which weights must grow, frequency and density."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from normlib import interventions, losses, simulations
from normlib._utils.rng import seeded
from normlib.confidence.rank_correlation import spearman
from normlib.evaluation import spread

CUT = 3.0
DEPTH = 3
OPTIMIZERS = {
    "SGD": (torch.optim.SGD, {"lr": 0.1}, {"lr": 0.1 * CUT**2}),
    "SGD with momentum and decay": (
        torch.optim.SGD,
        {"lr": 0.02, "momentum": 0.9, "weight_decay": 0.1},
        {"lr": 0.02 * CUT**2, "momentum": 0.9, "weight_decay": 0.1 / CUT**2},
    ),
    "AdamW": (
        torch.optim.AdamW,
        {"lr": 1e-3, "weight_decay": 1.0, "eps": 1e-8},
        {"lr": 1e-3 * CUT, "weight_decay": 1.0 / CUT, "eps": 1e-8 / CUT},
    ),
    "Adam with decay in the gradient": (
        torch.optim.Adam,
        {"lr": 1e-3, "weight_decay": 0.1, "eps": 1e-8},
        {"lr": 1e-3 * CUT, "weight_decay": 0.1 / CUT**2, "eps": 1e-8 / CUT},
    ),
}


def cut_and_rate(seed: int) -> dict[str, float]:
    """Cut against default at the matched learning rate, without biases and with default ones."""
    found = {}
    for name, (rule, for_cut, for_default) in OPTIMIZERS.items():
        cut, default = (_embeddings(seed, c, rule, **how) for c, how in ((CUT, for_cut), (1.0, for_default)))
        found[f"cut: distance of directions at the matched rate, {name}"] = _apart(cut, default)
        found[f"cut: ratio of norms, {name}"] = (default[-1].norm(dim=1) / cut[-1].norm(dim=1)).mean().item()
    views, model = _views(seed), _network(seed, bias=True)
    z = model(views).detach()
    with torch.no_grad():
        short = interventions.cut_initialization(_network(seed, bias=True), CUT)(views)
    found["cut: ratio of norms, default biases"] = (z.norm(dim=1).mean() / short.norm(dim=1).mean()).item()
    found["cut: ratio of spreads, default biases"] = spread(z) / spread(short)
    return found


def weights_and_embeddings(seed: int) -> dict[str, float]:
    """Plain SGD with NT-Xent: which norms grow in every step."""
    found = {}
    for bias, name in ((False, "no biases"), (True, "with biases")):
        model, views, generator = _network(seed, bias), _views(seed), torch.Generator().manual_seed(seed)
        optimizer, weights, lengths = torch.optim.SGD(model.parameters(), lr=0.05), [], []
        for _ in range(150):
            weights.append(torch.stack([m.weight.detach().norm() for m in model if isinstance(m, nn.Linear)]))
            z = model(views + 0.1 * torch.randn(views.shape, generator=generator, dtype=views.dtype))
            lengths.append(z.detach().norm(dim=1).mean())
            optimizer.zero_grad()
            losses.info_nce(*z.chunk(2)).backward()
            optimizer.step()
        found[f"network: steps in which a matrix shrinks, {name}"] = _falls(torch.stack(weights))
        found[f"network: steps in which the mean embedding norm falls, {name}"] = _falls(torch.stack(lengths))
    return found


def on_mixtures(seeds: int, n: int, epochs: int) -> list[dict[str, Any]]:
    """Frequency and density in encoders on mixtures of directions, all seeds at once."""
    size = {"n": n, "seeds": range(seeds)}
    common = simulations.spherical_mixture((1, 2, 4, 8), **size)
    reverse = simulations.spherical_mixture((8, 4, 2, 1), **size)
    untrained = simulations.train_encoder(common, epochs=0)
    trained = simulations.train_encoder(common, epochs=epochs)
    start, end = _class_norms(common, untrained), _class_norms(common, trained)
    turned = _class_norms(reverse, simulations.train_encoder(reverse, epochs=epochs))
    spread = simulations.spherical_mixture((1, 1, 1, 1), noise=(1.5, 1.0, 0.6, 0.3), **size)
    longer = {"lr": 1.0, "epochs": max(epochs // 4, 1)}
    late, late_turned = (_class_norms(one, simulations.train_encoder(one, **longer)) for one in (common, reverse))
    dense = _class_norms(spread, simulations.train_encoder(spread, **longer))
    centre = common.centres.gather(1, common.labels[..., None].expand(-1, -1, common.centres.shape[2]))
    central = (common.latent * centre).sum(dim=2)
    others = simulations.Encoders(
        trained.seeds, *(part.roll(1, 0) for part in (trained.w1, trained.b1, trained.w2, trained.b2))
    )
    found = {
        "frequency: gap before training": _gap(start),
        "frequency: gap, settings of the paper": _gap(end),
        "frequency: gap against the reversed control": (_gap(end) - _gap(turned)) / 2,
        "frequency: gap, longer training": _gap(late),
        "frequency: gap against the reversed control, longer training": (_gap(late) - _gap(late_turned)) / 2,
        "density: densest less loosest class": _gap(dense),
        "density: norm and closeness among directions, untrained": _neighbour_correlation(common, untrained),
        "density: norm and closeness to the centre within classes, untrained": _central(common, untrained, central),
        "density: norm and closeness to the centre within classes, other data": _central(common, others, central),
        "density: norm and closeness to the centre within classes, trained": _central(common, trained, central),
    }
    return [
        {"quantity": name, "seed": seed, "value": float(value)}
        for name, values in found.items()
        for seed, value in enumerate(values)
    ]


def _network(seed: int, bias: bool) -> nn.Sequential:
    """Three linear layers with ReLU between, float64; biases as PyTorch draws them."""
    with seeded(seed):
        layers: list[nn.Module] = []
        for _ in range(DEPTH):
            layer = nn.Linear(64, 64, bias=bias, dtype=torch.float64)
            if not bias:
                nn.init.kaiming_normal_(layer.weight)
            layers += [layer, nn.ReLU()]
    return nn.Sequential(*layers[:-1])


def _views(seed: int) -> Tensor:
    """Two views of 64 digits, as rows."""
    from normlib import augment, data

    generator = torch.Generator().manual_seed(seed)
    images = data.digits("train").images
    images = images[torch.randperm(len(images), generator=generator)[:64]]
    return torch.cat(augment.TwoViews.digits()(images, generator)).flatten(1).double()


def _embeddings(seed: int, c: float, rule: Callable[..., Optimizer], *, steps: int = 20, **options: float) -> Tensor:
    """Embeddings of the views at each step, from weights that were divided by c."""
    model, views = interventions.cut_initialization(_network(seed, bias=False), c), _views(seed)
    optimizer, path = rule(model.parameters(), **options), []
    for _ in range(steps):
        z = model(views)
        path.append(z.detach())
        optimizer.zero_grad()
        losses.info_nce(*z.chunk(2)).backward()
        optimizer.step()
    return torch.stack(path)


def _apart(first: Tensor, second: Tensor) -> float:
    return (losses.unit(first) - losses.unit(second)).norm(dim=-1).max().item()


def _falls(path: Tensor) -> float:
    return (path.diff(dim=0) < 0).double().mean().item()


def _class_norms(mixture: simulations.Mixture, encoders: simulations.Encoders) -> np.ndarray:
    """Mean norm of each class over the mean of all, one row per seed."""
    table = simulations.norm_table(mixture, norm=encoders)
    norms = table.groupby(["seed", "label"]).norm.mean().unstack()
    return norms.div(norms.mean(axis=1), axis=0).to_numpy()


def _gap(norms: np.ndarray) -> np.ndarray:
    return norms[:, -1] - norms[:, 0]


def _central(mixture: simulations.Mixture, encoders: simulations.Encoders, central: Tensor) -> list[float]:
    norms, found = encoders(mixture.x).norm(dim=2), []
    for i in range(len(norms)):
        groups = [mixture.labels[i] == label for label in mixture.labels[i].unique()]
        found.append(
            float(np.mean([spearman(norms[i][group].numpy(), central[i][group].numpy()).value for group in groups]))
        )
    return found


def _neighbour_correlation(mixture: simulations.Mixture, encoders: simulations.Encoders, k: int = 20) -> list[float]:
    z = encoders(mixture.x)
    found = []
    for one in z:
        u = losses.unit(one)
        found.append(spearman(one.norm(dim=1).numpy(), -torch.cdist(u, u).kthvalue(k + 1, dim=1).values.numpy()).value)
    return found
