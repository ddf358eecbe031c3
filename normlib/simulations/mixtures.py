"""Mixtures of directions, and small encoders that are trained on them, many seeds as one batch."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from normlib._utils.arguments import check_callable, check_count, check_number, check_type, listed
from normlib._utils.tensors import check_contrast, directions_and_inverse_norms
from normlib.gradients import tangent
from normlib.losses import unit

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Mixture:
    """Inputs of several seeds, drawn around centres on a sphere; see :func:`spherical_mixture`.

    Args:
        seeds: The S seeds.
        x: What an encoder sees, shape ``(S, n, observed)``.
        latent: The direction behind each input, unit vectors, shape ``(S, n, dim)``.
        labels: Number of the centre, shape ``(S, n)``.
        centres: Unit vectors, shape ``(S, C, dim)``.
    """

    seeds: tuple[int, ...]
    x: Tensor
    latent: Tensor
    labels: Tensor
    centres: Tensor


def spherical_mixture(
    weights: Sequence[float] = (1, 2, 4, 8),
    *,
    n: int = 2000,
    dim: int = 10,
    noise: float | Sequence[float] = 1.0,
    observed: int = 64,
    scale: float = 10.0,
    seeds: Iterable[int] = range(20),
) -> Mixture:
    """Directions around C random centres, seen through a random linear map; every seed draws its own.

    A latent point is ``centre + noise · N(0, I)``, put back on the sphere. The encoder sees ``x = A · latent`` with
    entries of A from ``N(0, scale²)``.

    Args:
        weights: How often each class is drawn, relative to the others; C numbers > 0.
        n: Inputs of each seed.
        dim: Dimension of the latent space.
        noise: Standard deviation per coordinate around the centres, ≥ 0: one for all classes, or one for each. Less
            noise makes a class denser.
        observed: Dimension of the inputs.
        scale: Standard deviation of the map's entries, > 0.
        seeds: Seeds, all different. What a seed draws does not depend on the others.

    Returns:
        The mixture, float32.

    Raises:
        TypeError: ``weights`` or ``seeds`` is no sequence.
        ValueError: An argument out of its range, another number of noises than of weights, or a seed given twice.

    Source: the class-imbalance experiment of Draganov et al. 2025, with its settings as defaults.

    >>> mixture = spherical_mixture(n=1500, seeds=range(2))
    >>> mixture.x.shape, mixture.labels[0].bincount().tolist()
    (torch.Size([2, 1500, 64]), [111, 202, 405, 782])
    """
    for name, count, least in (("n", n, 2), ("dim", dim, 2), ("observed", observed, 1)):
        check_count(name, count, at_least=least)
    check_number("scale", scale, above=0)
    weights = listed("weights", weights)
    if len(weights) == 0:
        raise ValueError("weights is empty; name at least one class")
    for weight in weights:
        check_number("weights", weight, above=0)
    noises = listed("noise", noise) if isinstance(noise, Iterable) else [noise] * len(weights)
    if len(noises) != len(weights):
        raise ValueError(f"noise must be one number or {len(weights)}, one for each of weights, got {len(noises)}")
    for one in noises:
        check_number("noise", one, at_least=0)
    seeds = tuple(listed("seeds", seeds))
    for seed in seeds:
        check_count("seeds", seed, at_least=0)
    if not seeds or len(set(seeds)) != len(seeds):
        raise ValueError(f"seeds must be one or more different seeds, got {seeds}")
    share = torch.tensor(weights, dtype=torch.float64)
    parts = [_draw_mixture(share, n, dim, torch.tensor(noises), observed, scale, seed) for seed in seeds]
    return Mixture(seeds, *(torch.stack(part) for part in zip(*parts, strict=True)))


def _draw_mixture(
    share: Tensor, n: int, dim: int, noises: Tensor, observed: int, scale: float, seed: int
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    centres = unit(torch.randn(len(share), dim, generator=generator))
    labels = torch.multinomial(share, n, replacement=True, generator=generator)
    latent = unit(centres[labels] + noises[labels, None] * torch.randn(n, dim, generator=generator))
    mapping = scale * torch.randn(dim, observed, generator=generator)
    return latent @ mapping, latent, labels, centres


@dataclass(frozen=True)
class Encoders:
    """One small network for each seed, linear–ReLU–linear with biases, all evaluated at once.

    Args:
        seeds: The S seeds.
        w1, b1: First layer, shapes ``(S, observed, hidden)`` and ``(S, 1, hidden)``.
        w2, b2: Second layer, shapes ``(S, hidden, D)`` and ``(S, 1, D)``.
    """

    seeds: tuple[int, ...]
    w1: Tensor
    b1: Tensor
    w2: Tensor
    b2: Tensor

    def __call__(self, x: Tensor) -> Tensor:
        """Embeddings of inputs ``(S, n, observed)``, shape ``(S, n, D)``, not normalised."""
        return torch.baddbmm(self.b2, self._hidden(x), self.w2)

    def _hidden(self, x: Tensor) -> Tensor:
        return torch.baddbmm(self.b1, x, self.w1).relu_()


def train_encoder(
    mixture: Mixture,
    *,
    epochs: int = 100,
    batch_size: int = 128,
    lr: float = 0.01,
    temperature: float = 1.0,
    hidden: int = 64,
    dim: int = 10,
    on_epoch: Callable[[int, Encoders], None] | None = None,
    progress: bool = True,
) -> Encoders:
    """Train one encoder for each seed of a mixture with a supervised choice of positives; all seeds run as one batch.

    The positive of an input is another one of its class, drawn at random from the batch; all others stand in the
    denominator, the positive included. An input that is alone with its class in a batch is only pushed. The gradient is
    the closed form in the chapter on the gradient.

    Args:
        mixture: Inputs and classes.
        epochs: Passes over the inputs; 0 gives the untrained control, with the same initial weights.
        batch_size: Inputs of a batch, ≥ 2; what does not fill one is left out of that epoch.
        lr: Step size η of plain SGD, > 0.
        temperature: τ > 0.
        hidden: Width between the layers.
        dim: D, dimension of the embeddings.
        on_epoch: Called before training and after every epoch, with the number of finished epochs and the encoders as
            they are then.
        progress: Show a progress bar with the time left.

    Returns:
        The trained encoders.

    Raises:
        TypeError: ``mixture`` is none, or ``on_epoch`` no function.
        ValueError: An argument out of its range, or fewer inputs than one batch.
        FloatingPointError: A weight became NaN or infinite.

    Source: the class-imbalance experiment of Draganov et al. 2025, with its settings as defaults. The released code may
    give an input several positives; here each has one.

    >>> mixture = spherical_mixture(n=256, seeds=range(3))
    >>> train_encoder(mixture, epochs=1, progress=False)(mixture.x).shape
    torch.Size([3, 256, 10])
    """
    from tqdm import tqdm  # text, not a widget: it leaves nothing behind in a saved notebook

    check_type(Mixture, mixture=mixture)
    n = mixture.x.shape[1]
    check_count("epochs", epochs, at_least=0)
    check_count("batch_size", batch_size, at_least=2)
    check_count("hidden", hidden)
    check_count("dim", dim)
    check_number("lr", lr, above=0)
    check_contrast(temperature, "nt-xent")
    if n < batch_size:
        raise ValueError(f"mixture holds {n} inputs per seed, fewer than batch_size = {batch_size}")
    on_epoch = on_epoch or (lambda epoch, encoders: None)
    check_callable(on_epoch=on_epoch)
    generators = [torch.Generator().manual_seed(seed + _NETWORK) for seed in mixture.seeds]
    encoders = _new_encoders(mixture, hidden, dim, generators)
    silent = (
        {} if progress and epochs else {"disable": True}
    )  # no word on it leaves the choice to the variable TQDM_DISABLE
    on_epoch(0, encoders)
    for epoch in tqdm(range(1, epochs + 1), unit="epoch", leave=False, **silent):
        order = torch.stack([torch.randperm(n, generator=generator) for generator in generators])
        ties = torch.stack([torch.rand(n, generator=generator) for generator in generators])
        for start in range(0, n - batch_size + 1, batch_size):
            batch = order[:, start : start + batch_size]
            positive = _class_mates(mixture.labels.gather(1, batch), ties[:, start : start + batch_size])
            _sgd_step(encoders, _rows_of(mixture.x, batch), positive, lr, temperature)
        on_epoch(epoch, encoders)
    if not all(part.isfinite().all() for part in _parameters(encoders)):
        raise FloatingPointError("a weight became NaN or infinite; lower lr")
    return encoders


_NETWORK = 2**31  # added to a seed for the network: it must not draw the numbers that its data were drawn with


def _new_encoders(mixture: Mixture, hidden: int, dim: int, generators: list) -> Encoders:
    """Weights and biases as ``nn.Linear`` draws them: uniform within 1 / sqrt(fan-in)."""
    fan_in = mixture.x.shape[2]
    shapes = [((fan_in, hidden), fan_in), ((1, hidden), fan_in), ((hidden, dim), hidden), ((1, dim), hidden)]
    drawn = [
        torch.stack([(2 * torch.rand(shape, generator=generator) - 1) / math.sqrt(fan) for generator in generators])
        for shape, fan in shapes
    ]
    return Encoders(mixture.seeds, *drawn)


def _parameters(encoders: Encoders) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    return encoders.w1, encoders.b1, encoders.w2, encoders.b2


def _rows_of(x: Tensor, index: Tensor) -> Tensor:
    return x.gather(1, index[..., None].expand(-1, -1, x.shape[-1]))


def _class_mates(labels: Tensor, ties: Tensor) -> Tensor:
    """For each input of a batch ``(S, N)`` the place of another one of its class, or its own where there is none.

    Within each class the inputs are put into a random order, and each takes the next one, the last one the first.
    """
    order = (labels + ties.double()).argsort(dim=1)  # in float32 the sum could round up to the next label
    sorted_labels = labels.gather(1, order).contiguous()
    first = torch.searchsorted(sorted_labels, sorted_labels)
    end = torch.searchsorted(sorted_labels, sorted_labels, right=True)
    following = torch.arange(1, labels.shape[1] + 1).expand_as(end)
    following = torch.where(following == end, first, following)
    return torch.empty_like(order).scatter_(1, order, order.gather(1, following))


def _sgd_step(encoders: Encoders, x: Tensor, positive: Tensor, lr: float, temperature: float) -> None:
    h = encoders._hidden(x)
    dz = _embedding_grad(torch.baddbmm(encoders.b2, h, encoders.w2), positive, temperature)
    dh = torch.bmm(dz, encoders.w2.mT).masked_fill_(h == 0, 0)
    grads = (
        torch.bmm(x.mT, dh), dh.sum(dim=1, keepdim=True), torch.bmm(h.mT, dz), dz.sum(dim=1, keepdim=True),
    )  # fmt: skip
    for parameter, grad in zip(_parameters(encoders), grads, strict=True):
        parameter.sub_(grad, alpha=lr)


def _embedding_grad(z: Tensor, positive: Tensor, temperature: float) -> Tensor:
    """Gradient of the contrastive loss with respect to ``z``, shape ``(S, N, D)``; every row is an anchor.

    The chapter on the gradient derives it. Here a row may be the positive of any other row.
    """
    u, inverse_norm = directions_and_inverse_norms(z)
    similarities = torch.bmm(u, u.mT / temperature)
    similarities.diagonal(dim1=1, dim2=2).fill_(-math.inf)
    w = similarities.softmax(dim=2)
    place = positive[..., None].expand_as(u)
    pull = u.gather(1, place).scatter_add_(1, place, u)  # of its own positive, and of all whose positive it is
    push = torch.bmm(w, u) + torch.bmm(w.mT, u)
    return tangent(u, push - pull) * inverse_norm / (z.shape[1] * temperature)


def norm_table(mixture: Mixture, **encoders: Encoders) -> pd.DataFrame:
    """Embedding norms of every input of a mixture under named encoders.

    Args:
        mixture: Inputs; they need not be those that the encoders were trained on.
        encoders: Encoders by the name of their column; seed by seed they meet the mixture's seeds.

    Returns:
        One row per seed and input, with ``seed``, ``index``, ``label``, and the norm under each of the encoders.

    Raises:
        TypeError: ``mixture`` is none, or one of ``encoders`` is none.
        ValueError: Encoders of other seeds than the mixture's, or of inputs of another dimension.

    >>> mixture = spherical_mixture(n=256, seeds=range(2))
    >>> norm_table(mixture, untrained=train_encoder(mixture, epochs=0)).columns.tolist()
    ['seed', 'index', 'label', 'untrained']
    """
    import pandas as pd

    check_type(Mixture, mixture=mixture)
    check_type(Encoders, **encoders)
    for name, one in encoders.items():
        if one.w1.shape[1] != mixture.x.shape[2]:
            raise ValueError(
                f"{name} takes {one.w1.shape[1]} numbers, the inputs of the mixture have {mixture.x.shape[2]}"
            )
        if one.seeds != mixture.seeds:
            raise ValueError(f"{name} has the seeds {one.seeds}, the mixture has {mixture.seeds}")
    seeds, n = len(mixture.seeds), mixture.x.shape[1]
    columns = {name: one(mixture.x).norm(dim=2).flatten().numpy() for name, one in encoders.items()}
    return pd.DataFrame(
        {
            "seed": np.repeat(mixture.seeds, n),
            "index": np.tile(np.arange(n), seeds),
            "label": mixture.labels.flatten().numpy(),
            **columns,
        }
    )
