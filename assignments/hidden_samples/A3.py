"""Hidden tests of assignment 3, a sample to start from: in your own copy, change inputs and seeds and add to them.

They use no function of the course's library; the numbers of a student are drawn here again. ``TESTS`` lists, for each
question, functions of the submission's variables with their points; the first line of a docstring is what the
student's report shows.
"""

import copy
import hashlib
import math
import os

import torch
from torch import nn
from torch.nn.functional import cosine_similarity

CHOICES = {  # what the notebook draws from too
    "c": (2.0, 3.0, 4.0, 5.0),
    "layers": (3, 4, 5),
    "lr": (0.001, 0.002, 0.005),
    "decay": (1e-4, 5e-4, 1e-3),
    "power": (0.5, 1.0, 1.5),
    "short": (0.5, 0.8, 2.0),
    "long": (4.0, 5.0, 8.0),
}


def own(env, name):
    """The number of the student whom the class list names."""
    student = os.environ.get("ASSIGNMENT_STUDENT_ID") or env["STUDENT_ID"]
    digest = hashlib.sha256(f"{student.strip().casefold()}/A3/{name}".encode()).hexdigest()
    return CHOICES[name][int(digest, 16) % len(CHOICES[name])]


def close(found, right, rtol=5e-3):
    """Fail unless a number is close to another."""
    assert math.isclose(float(found), right, rel_tol=rtol), "another number"


def normal(*shape, seed):
    """Normal random numbers in 64 bits."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def filled(model, seed):
    """The model in 64 bits, with parameters that are the same each time."""
    for k, parameter in enumerate(model.double().parameters()):
        parameter.data = normal(*parameter.shape, seed=seed + k) / 3
    return model


def grad_scale_of_three_axes(env):
    """grad_scale of a tensor with three axes, at power 1.5."""
    z, upstream = normal(2, 3, 4, seed=31).requires_grad_(), normal(2, 3, 4, seed=32)
    out = env["grad_scale"](z, 1.5)
    (grad,) = torch.autograd.grad(out, z, upstream)
    assert torch.equal(out, z)
    assert torch.allclose(grad, upstream * z.norm(dim=2, keepdim=True) ** 1.5)


def grad_scale_before_a_loss(env):
    """grad_scale in front of a loss and behind a layer."""
    layer, x, target = filled(nn.Linear(5, 4), 33), normal(6, 5, seed=35), normal(6, 4, seed=36)

    def gradient(scale):
        z = layer(x)
        through = scale(z)
        loss = -cosine_similarity(through, target).mean()
        return z, torch.autograd.grad(loss, [z, layer.weight])

    z, (plain, _) = gradient(lambda z: z)
    _, (scaled, weight) = gradient(lambda z: env["grad_scale"](z, 1.0))
    expected = plain * z.norm(dim=1, keepdim=True)
    assert torch.allclose(scaled, expected)
    assert torch.allclose(weight, expected.T @ x)


def own_same_lr(env):
    """The step size without GradScale that turns your embeddings alike."""
    close(env["same_lr"], own(env, "lr") * own(env, "long") ** own(env, "power"))


def own_advantage(env):
    """How much larger the step ratio of your short embedding is."""
    close(env["advantage"], (own(env, "long") / own(env, "short")) ** (2 - own(env, "power")))


def cut_of_a_convolution(env):
    """cut of a network with a one-dimensional convolution, an embedding and GroupNorm."""
    parts = [nn.Embedding(7, 6), nn.Conv1d(5, 4, 3), nn.GroupNorm(2, 4), nn.Flatten(), nn.Linear(16, 2)]
    model = filled(nn.Sequential(*parts), 37)
    before = copy.deepcopy(model)
    assert env["cut"](model, 5.0) is model
    for (name, old), new in zip(before.named_parameters(), model.parameters(), strict=True):
        assert torch.allclose(new, old / 5 if old.ndim > 1 else old), name
        assert new.is_leaf
        assert new.requires_grad


def cut_of_tied_weights(env):
    """cut of two layers that share one weight: it is divided once."""
    first, second = nn.Linear(3, 3), nn.Linear(3, 3)
    second.weight = first.weight
    model = filled(nn.Sequential(first, nn.ReLU(), second), 45)
    old = first.weight.detach().clone()
    env["cut"](model, 4.0)
    assert torch.allclose(model[0].weight, old / 4)
    assert model[0].weight is model[2].weight


def own_sgd_pair(env):
    """Learning rate and decay of SGD without your cut."""
    close(env["sgd_pair"][0], own(env, "c") ** 2 * own(env, "lr"))
    close(env["sgd_pair"][1], own(env, "decay") / own(env, "c") ** 2)


def own_adamw_pair(env):
    """Learning rate and decay of AdamW without your cut."""
    close(env["adamw_pair"][0], own(env, "c") * own(env, "lr"))
    close(env["adamw_pair"][1], own(env, "decay") / own(env, "c"))


def own_training(env):
    """The SGD pair, tried: both networks end with the same directions."""
    lr, decay, c = own(env, "lr"), own(env, "decay"), own(env, "c")
    x, target, ends = normal(8, 5, seed=51), normal(8, 3, seed=52), []
    for divided, pair in ((c, (lr, decay)), (1.0, env["sgd_pair"])):
        model = filled(nn.Sequential(nn.Linear(5, 6, bias=False), nn.ReLU(), nn.Linear(6, 3, bias=False)), 53)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.div_(divided)
        optimizer = torch.optim.SGD(model.parameters(), lr=float(pair[0]), weight_decay=float(pair[1]))
        for _ in range(5):
            optimizer.zero_grad()
            (-cosine_similarity(model(x), target).mean()).backward()
            optimizer.step()
        ends.append(model(x))
    assert cosine_similarity(*ends).min() > 1 - 1e-6


def measured(model, x):
    """Mean norm and spread of a batch in training mode."""
    z = copy.deepcopy(model).train()(x).detach()
    cosines = cosine_similarity(z[:, None], z[None], dim=2)
    return z.norm(dim=1).mean(), 1 - cosines[~torch.eye(len(z), dtype=torch.bool)].mean()


def measure(env, model, x, c):
    """Compare the submission's factors with those measured here."""
    short = copy.deepcopy(model)
    for parameter in short.parameters():
        if parameter.ndim > 1:
            parameter.data /= c
    right = [float(a / b) for a, b in zip(measured(model, x), measured(short, x), strict=True)]
    state = copy.deepcopy(model.state_dict())
    found = env["measure_cut"](model, x, c)
    assert all(torch.equal(state[key], value) for key, value in model.state_dict().items()), "the model has changed"
    for value, expected in zip(found, right, strict=True):
        close(value, expected, 1e-4)


def measure_with_biases(env):
    """measure_cut of a network with biases."""
    parts = [nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 4)]
    measure(env, filled(nn.Sequential(*parts), 61), normal(9, 6, seed=71), 2.5)


def measure_with_batch_norm(env):
    """measure_cut of a network with BatchNorm that comes in eval mode."""
    parts = [nn.Linear(6, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 4)]
    measure(env, filled(nn.Sequential(*parts), 81).eval(), normal(9, 6, seed=91), 4.0)


def own_factor_plain(env):
    """The factor of your network without biases."""
    close(env["factor_plain"], own(env, "c") ** own(env, "layers"))


def own_factor_norm(env):
    """The factor of your network with BatchNorm."""
    close(env["factor_norm"], own(env, "c"), 0.05)


TESTS = {
    "q1": [(grad_scale_of_three_axes, 1), (grad_scale_before_a_loss, 1)],
    "q2": [(own_same_lr, 1), (own_advantage, 1)],
    "q3": [(cut_of_a_convolution, 1), (cut_of_tied_weights, 1)],
    "q4": [(own_sgd_pair, 1), (own_adamw_pair, 1), (own_training, 1)],
    "q5": [(measure_with_biases, 1), (measure_with_batch_norm, 1)],
    "q6": [(own_factor_plain, 1), (own_factor_norm, 1)],
}
