"""Each optimiser against a peer and by hand; the learning rate against PyTorch's own schedulers."""

import copy
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from lightly.utils import lars as lightly_lars
from torch import nn
from torch.optim.lr_scheduler import CosineAnnealingLR, LinearLR, SequentialLR

from normlib.interventions import weight_decay_groups
from normlib.training import LARS
from normlib.training.learning_rate import learning_rate
from normlib.training.optimizers import OPTIMIZERS, make_optimizer

CHOICE = {"name": "sgd", "lr": 0.1, "momentum": 0.9, "nesterov": False, "weight_decay": 1e-2}


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(2, 3, 2, bias=False), nn.BatchNorm2d(3), nn.Flatten(), nn.Linear(12, 4)).double()


def train(model, optimizer, steps, seed=1):
    generator = torch.Generator().manual_seed(seed)
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = 2.0 / (step + 1)
        optimizer.zero_grad()
        x = torch.randn(8, 2, 3, 3, generator=generator, dtype=torch.float64)
        model(x).square().mean().backward()
        optimizer.step()
    return list(model.parameters())


def parameter(*values, grad):
    tensor = nn.Parameter(torch.tensor(values, dtype=torch.float64))
    tensor.grad = torch.tensor(grad, dtype=torch.float64)
    return tensor


# --- LARS ---


@pytest.mark.parametrize(("momentum", "nesterov"), [(0.0, False), (0.9, False), (0.9, True)])
def test_lars_takes_the_steps_of_lightly(momentum, nesterov):
    options = {"lr": 2.0, "momentum": momentum, "nesterov": nesterov}
    model, peer = network(), network()
    start = [p.detach().clone() for p in model.parameters()]
    ours = train(model, make_optimizer(model, name="lars", weight_decay=0.05, **options), steps=6)
    theirs = train(peer, lightly_lars.LARS(weight_decay_groups(peer, 0.05), **options), steps=6)
    for first, mine, expected in zip(start, ours, theirs, strict=True):
        torch.testing.assert_close(mine, expected, rtol=1e-12, atol=1e-15)
        assert (mine - first).abs().max() > 1e-6


def test_first_steps_of_lars_by_hand():
    w = parameter(3.0, 4.0, grad=[0.0, 10.0])
    optimizer = LARS([w], lr=2.0, momentum=0.5, weight_decay=0.4, trust_coefficient=0.1, eps=0.0)
    optimizer.step()
    ratio = 0.1 * 5 / (10 + 0.4 * 5)
    velocity = [ratio * (0.4 * 3), ratio * (10 + 0.4 * 4)]
    after = [3 - 2 * velocity[0], 4 - 2 * velocity[1]]
    assert w.tolist() == pytest.approx(after, rel=1e-14)

    w.grad = torch.tensor([1.0, 0.0], dtype=torch.float64)
    optimizer.step()
    norm = math.hypot(*after)
    ratio = 0.1 * norm / (1 + 0.4 * norm)
    velocity = [0.5 * velocity[0] + ratio * (1 + 0.4 * after[0]), 0.5 * velocity[1] + ratio * 0.4 * after[1]]
    assert w.tolist() == pytest.approx([after[0] - 2 * velocity[0], after[1] - 2 * velocity[1]], rel=1e-14)


@settings(deadline=None, max_examples=50)
@given(st.floats(1e-6, 1e6), st.floats(1e-6, 1e6), st.floats(1e-3, 10.0))
def test_relative_step_of_lars_is_its_own_whatever_the_norms(norm, grad_norm, lr):
    w = parameter(0.6 * norm, 0.8 * norm, grad=[grad_norm, 0.0])
    before = w.detach().clone()
    LARS([w], lr=lr, eps=0.0).step()
    assert (w - before).norm().item() / norm == pytest.approx(lr * 0.001, rel=1e-6)


def test_zero_norms_take_the_step_of_sgd():
    no_weight, no_grad = parameter(0.0, 0.0, grad=[1.0, 2.0]), parameter(1.0, 2.0, grad=[0.0, 0.0])
    LARS([no_weight, no_grad], lr=0.5, weight_decay=0.1).step()
    assert no_weight.tolist() == [-0.5, -1.0]
    assert no_grad.tolist() == pytest.approx([0.95, 1.9])


def test_what_is_not_adapted_takes_the_steps_of_sgd_even_without_weight_decay():
    options = {"lr": 2.0, "momentum": 0.9}
    model, peer = network(), network()
    optimizer = make_optimizer(model, name="lars", nesterov=False, weight_decay=0.0, **options)
    adapted, others = optimizer.param_groups
    assert [tuple(p.shape) for p in adapted["params"]] == [(3, 2, 2, 2), (4, 12)]
    assert [tuple(p.shape) for p in others["params"]] == [(3,), (3,), (4,)]
    ours = train(model, optimizer, steps=1)
    theirs = train(peer, torch.optim.SGD(peer.parameters(), **options), steps=1)
    for mine, expected in zip(ours, theirs, strict=True):
        assert torch.equal(mine, expected) == (mine.ndim == 1)


def test_lars_without_adaptation_is_sgd():
    options = {"lr": 2.0, "momentum": 0.9, "nesterov": True, "weight_decay": 0.1}
    model, peer = network(), network()
    ours = train(model, LARS(model.parameters(), adapt=False, **options), steps=4)
    theirs = train(peer, torch.optim.SGD(peer.parameters(), **options), steps=4)
    for mine, expected in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine, expected, rtol=1e-12, atol=0)


def test_lars_never_reads_a_value_from_the_device():
    model = network().to("meta")  # values of meta tensors cannot be read
    for p in model.parameters():
        p.grad = torch.empty_like(p)
    optimizer = make_optimizer(model, **CHOICE | {"name": "lars", "nesterov": True})
    optimizer.step()
    with pytest.raises(RuntimeError, match="meta"):
        next(model.parameters()).sum().item()


def test_lars_leaves_gradients_as_they_are_and_passes_over_parameters_without_one():
    w, idle = parameter(3.0, 4.0, grad=[1.0, 2.0]), nn.Parameter(torch.ones(2))
    optimizer = LARS([w, idle], lr=1.0, momentum=0.9, nesterov=True, weight_decay=0.1)
    for _ in range(2):
        optimizer.step()
    assert w.grad.tolist() == [1.0, 2.0]
    assert idle.tolist() == [1.0, 1.0]
    assert list(optimizer.state) == [w]


def test_lars_calls_a_closure_with_gradients_on_and_returns_its_loss():
    w = nn.Parameter(torch.tensor([3.0]))
    optimizer = LARS([w], lr=1.0, adapt=False)

    def closure():
        optimizer.zero_grad()
        loss = w.square().sum()
        loss.backward()
        return loss

    assert optimizer.step(closure).item() == 9.0
    assert w.item() == -3.0


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_restored_optimizer_goes_on_bit_for_bit(name):
    choice = CHOICE | {"name": name}
    model = network()
    optimizer = make_optimizer(model, **choice)
    train(model, optimizer, steps=3)
    other = copy.deepcopy(model)
    restored = make_optimizer(other, **choice | {"lr": 5.0})
    restored.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    for mine, expected in zip(train(other, restored, 3, seed=2), train(model, optimizer, 3, seed=2), strict=True):
        assert torch.equal(mine, expected)


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"lr": -0.1}, "lr must be a number ≥ 0, got -0.1"),
        ({"momentum": -1}, "momentum"),
        ({"weight_decay": math.nan}, "weight_decay"),
        ({"trust_coefficient": 0}, "trust_coefficient"),
        ({"eps": None}, "eps"),
        ({"nesterov": True}, "nesterov needs momentum > 0"),
    ],
)
def test_lars_names_what_is_out_of_range(options, named):
    with pytest.raises(ValueError, match=named):
        LARS([nn.Parameter(torch.ones(1))], **{"lr": 0.1} | options)


# --- make_optimizer ---


@pytest.mark.parametrize("nesterov", [False, True])
def test_sgd_is_that_of_torch_bit_for_bit(nesterov):
    model, peer = network(), network()
    optimizer = make_optimizer(model, **CHOICE | {"nesterov": nesterov})
    expected = torch.optim.SGD(weight_decay_groups(peer, 1e-2), lr=0.1, momentum=0.9, nesterov=nesterov)
    assert type(optimizer) is torch.optim.SGD
    assert optimizer.state_dict() == expected.state_dict()
    for mine, theirs in zip(train(model, optimizer, 5), train(peer, expected, 5), strict=True):
        assert torch.equal(mine, theirs)


def test_adamw_takes_momentum_as_beta1_and_shrinks_matrices_only():
    model = network()
    optimizer = make_optimizer(model, **CHOICE | {"name": "adamw", "momentum": 0.8, "weight_decay": 0.5})
    assert type(optimizer) is torch.optim.AdamW
    assert [group["betas"] for group in optimizer.param_groups] == [(0.8, 0.999)] * 2
    before = [p.detach().clone() for p in model.parameters()]
    for p in model.parameters():
        p.grad = torch.zeros_like(p)
    optimizer.step()
    for old, new in zip(before, model.parameters(), strict=True):
        torch.testing.assert_close(new, old * (1 - 0.1 * 0.5) if old.ndim > 1 else old, rtol=1e-14, atol=0)


@pytest.mark.parametrize(
    ("choice", "named"),
    [
        ({"name": "adam"}, "name must be one of 'sgd', 'lars', 'adamw', got 'adam'"),
        ({"lr": 0}, "lr must be a number > 0, got 0"),
        ({"momentum": 1.0}, "momentum must be a number ≥ 0 and < 1, got 1.0"),
        ({"momentum": -0.1}, "momentum must be a number ≥ 0"),
        ({"weight_decay": -1}, "weight_decay"),
        ({"nesterov": True, "momentum": 0}, "nesterov needs momentum > 0"),
        ({"nesterov": True, "momentum": 0, "name": "lars"}, "nesterov needs momentum > 0"),
        ({"nesterov": True, "name": "adamw"}, "nesterov has no meaning for 'adamw'"),
    ],
)
def test_make_optimizer_names_what_it_refuses(choice, named):
    with pytest.raises(ValueError, match=named):
        make_optimizer(network(), **CHOICE | choice)


# --- learning_rate ---


@pytest.mark.parametrize(("warmup", "total"), [(1, 2), (5, 30), (30, 31), (7, 1000)])
def test_learning_rate_follows_the_schedulers_of_torch(warmup, total):
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.3)
    rise = LinearLR(optimizer, start_factor=1 / warmup, total_iters=max(1, warmup - 1))
    scheduler = SequentialLR(optimizer, [rise, CosineAnnealingLR(optimizer, total - warmup)], milestones=[warmup])
    for step in range(total):
        rate = learning_rate(step, peak=0.3, warmup_steps=warmup, total_steps=total)
        assert rate == pytest.approx(scheduler.get_last_lr()[0], rel=1e-9, abs=1e-12)
        optimizer.step()
        scheduler.step()


def test_learning_rate_of_a_fractional_warmup_never_passes_the_peak():
    rates = [learning_rate(step, peak=0.4, warmup_steps=2.5, total_steps=10) for step in range(11)]
    assert rates[:3] == [0.4 * (1 / 2.5), 0.4 * (2 / 2.5), 0.4]
    assert rates[3] == 0.4 * 0.5 * (1 + math.cos(math.pi * 0.5 / 7.5))
    assert rates[2:] == sorted(rates[2:], reverse=True)
    assert rates[10] == 0.0


def test_learning_rate_without_warmup_starts_at_the_peak():
    assert learning_rate(0, peak=0.3, warmup_steps=0, total_steps=4) == 0.3
    assert learning_rate(2, peak=0.3, warmup_steps=0, total_steps=4) == pytest.approx(0.15)


@pytest.mark.parametrize(
    ("step", "warmup", "total", "named"),
    [
        (0, 4, 4, r"warmup_steps must be in \[0, total_steps = 4\), got 4"),
        (0, -1, 4, "warmup_steps"),
        (-1, 0, 4, r"step must be in 0..total_steps = 4, got -1"),
        (5, 0, 4, "step must be"),
    ],
)
def test_learning_rate_refuses_steps_outside_the_run(step, warmup, total, named):
    with pytest.raises(ValueError, match=named):
        learning_rate(step, peak=0.1, warmup_steps=warmup, total_steps=total)
