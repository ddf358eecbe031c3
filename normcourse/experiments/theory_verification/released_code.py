"""Faults of the released code, and what each of them changes."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from normlib import augment, data, dynamics, evaluation, interventions, losses, simulations
from normlib._utils.rng import seeded

ETA = 10 / 500  # step size of one pair in the released notebook
MICRO_BATCHES = 8  # of one batch of SimSiam


def faults_of_the_released_code(seed: int) -> dict[str, float]:
    """One number or two for each fault; the quantity names it."""
    z1, z2 = losses.unit(torch.randn(2, 500, 20, generator=_at(seed), dtype=torch.float64))
    loss = {one: losses.info_nce(z1, z2, denominator=one).item() for one in ("nt-xent", "cross-view")}
    only_weights, everything = (_shrinking(seed, of) for of in ("weights", "all"))
    own, others = _accuracy_on_random_labels(seed)
    return {
        "fault: steps with the first step on the dot product, over those without": _first_step_on_the_product(z1, z2),
        "fault: released loss less NT-Xent": loss["cross-view"] - loss["nt-xent"],
        "fault: rate that LambdaLR applies, SimCLR": _lambda_lr(0.6),
        "fault: rate that LambdaLR applies, GradScale": _lambda_lr(0.1),
        "fault: last rate over the first, SimSiam": _slow_schedule(),
        "fault: gradient over that of the batch, SimSiam": _summed_gradients(seed),
        "fault: times that the norm shrinks when weights are cut by 3": only_weights,
        "fault: times that the norm shrinks when biases and BatchNorm are cut too": everything,
        "fault: accuracy on random labels with a vote of its own": own,
        "fault: accuracy on random labels without": others,
        "fault: change of the features under a linear probe": _drifting_features(seed),
    }


def _first_step_on_the_product(z1: Tensor, z2: Tensor) -> float:
    """Steps until unit vectors align, the first on the dot product, over those with the cosine throughout."""
    angle = (z1 * z2).sum(1).clamp(-1, 1).arccos().numpy()
    plain = simulations.steps_to_align([1.0], [angle]).steps.iloc[0]
    moved1, moved2 = z1 + ETA * z2, z2 + ETA * z1
    norm = torch.stack([moved1, moved2]).norm(dim=2)
    c = torch.cosine_similarity(moved1, moved2)
    state, steps = (c, (1 - c**2).sqrt(), *norm), 1
    while state[0].mean() < 1 - 1e-3:
        state, steps = dynamics.cosine_step(*state, ETA), steps + 1
    return steps / plain


def _lambda_lr(base: float) -> float:
    """A schedule that returns a rate, where torch wants a factor: the base rate is applied twice."""
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=base)
    torch.optim.lr_scheduler.LambdaLR(optimizer, lambda epoch: base)
    return optimizer.param_groups[0]["lr"]


def _slow_schedule(batches: int = 100) -> float:
    """A cosine schedule as long as all micro-batches, of which a step is taken once for each batch."""
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=batches * MICRO_BATCHES)
    for _ in range(batches):
        optimizer.step()
        schedule.step()
    return optimizer.param_groups[0]["lr"]


def _summed_gradients(seed: int) -> float:
    """Gradients of the mean loss of each micro-batch, added up, over that of the mean loss of the batch."""
    model = _network(seed)[0]
    views = torch.randn(2, 8 * MICRO_BATCHES, 8, generator=_at(seed), dtype=torch.float64)

    def gradient(parts: int) -> Tensor:
        model.zero_grad()
        for one, other in zip(views[0].chunk(parts), views[1].chunk(parts), strict=True):
            losses.cosine_loss(model(one), model(other)).backward()
        return model.weight.grad.norm()

    return (gradient(MICRO_BATCHES) / gradient(1)).item()


def _shrinking(seed: int, parameters: str) -> float:
    """Mean norm over that after a cut by 3, in a network with two BatchNorms before its last layer."""
    images = torch.randn(256, 8, generator=_at(seed), dtype=torch.float64)
    with torch.no_grad():
        short = interventions.cut_initialization(_network(seed), 3, parameters=parameters)(images)
        whole = _network(seed)(images)
    return (whole.norm(dim=1).mean() / short.norm(dim=1).mean()).item()


def _accuracy_on_random_labels(seed: int) -> tuple[float, float]:
    """kNN accuracy where nothing can be known, each point in its own bank or left out; one in ten is chance."""
    generator = _at(seed)
    points, labels = torch.randn(1000, 64, generator=generator), torch.randint(10, (1000,), generator=generator)
    predictions = (evaluation.knn(points, labels, points, k=200, exclude_self=alone) for alone in (False, True))
    own, others = ((predicted == labels).double().mean().item() for predicted in predictions)
    return own, others


def _drifting_features(seed: int) -> float:
    """Relative change of the features of frozen weights, when a probe runs through the digits in training mode.

    BatchNorm's statistics are those of augmented views before, as after pretraining, and of plain images then.
    """
    network, digits = _network(seed, 64)[:-1].float(), data.digits("train")
    views, _ = augment.TwoViews.digits()(digits.images, _at(seed))
    plain = digits.images / 255
    with torch.no_grad():
        _run_through(network, views)
        before = network.eval()(plain.flatten(1))
        _run_through(network, plain)
        after = network.eval()(plain.flatten(1))
    return ((after - before).norm(dim=1) / before.norm(dim=1)).mean().item()


def _run_through(network: nn.Module, images: Tensor) -> None:
    """Five epochs in training mode, without a step."""
    network.train()
    for batch in 5 * images.flatten(1).split(128):
        network(batch)


def _network(seed: int, inputs: int = 8) -> nn.Sequential:
    """Three linear layers, BatchNorm after the first two, with PyTorch's own initial values."""
    with seeded(seed):
        blocks = [(nn.Linear(wide, 64), nn.BatchNorm1d(64), nn.ReLU()) for wide in (inputs, 64)]
        return nn.Sequential(*(layer for block in blocks for layer in block), nn.Linear(64, 16)).double()


def _at(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)
