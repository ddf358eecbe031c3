"""Hidden tests of assignment 2, a sample to start from: in your own copy, change inputs and seeds and add to them.

They use no function of the course's library: pairs are moved by autograd and ``torch.optim``, and the numbers of a
student are drawn here again. ``TESTS`` lists, for each question, functions of the submission's variables with their
points; the first line of a docstring is what the student's report shows.
"""

import hashlib
import math
import os

import torch
from torch.nn.functional import cosine_similarity, normalize

CHOICES = {  # what the notebook draws from too
    "norm": (2.0, 3.0, 4.0, 5.0),
    "grad": (3.0, 5.0, 8.0, 10.0),
    "lr": (0.4, 0.5, 0.8),
    "degrees": (60.0, 80.0, 100.0, 140.0),
    "lr_pair": (0.02, 0.05, 0.1, 0.2),
    "lr_noise": (0.05, 0.1, 0.2),
    "G": (0.5, 2.0, 3.0),
    "momentum": (0.6, 0.8, 0.9),
}
GRID = [0.02 * 1.25**k for k in range(25)]


def own(env, name):
    """The number of the student whom the class list names."""
    student = os.environ.get("ASSIGNMENT_STUDENT_ID") or env["STUDENT_ID"]
    digest = hashlib.sha256(f"{student.strip().casefold()}/A2/{name}".encode()).hexdigest()
    return CHOICES[name][int(digest, 16) % len(CHOICES[name])]


def close(found, right, rtol):
    """Fail unless a number is close to another."""
    assert math.isclose(float(found), right, rel_tol=rtol), "another number"


def pair(angle, norm):
    """Two embeddings in the plane."""
    arms = torch.tensor([[[1.0, 0.0]], [[math.cos(angle), math.sin(angle)]]], dtype=torch.float64)
    return norm * arms


def stepped(z, lr):
    """Both embeddings after a step of SGD, as PyTorch makes it."""
    leaf = torch.nn.Parameter(z.clone())
    (-cosine_similarity(leaf[0], leaf[1]).sum()).backward()
    torch.optim.SGD([leaf], lr=lr).step()
    return leaf.detach()


def counted(angle, norm, lr):
    """Steps until a pair agrees, in polar coordinates."""
    steps = 0
    while math.cos(angle) < 1 - 1e-3:
        ratio = lr * math.sin(angle) / norm**2
        angle, norm = abs(angle - 2 * math.atan(ratio)), norm * math.hypot(1, ratio)
        steps += 1
    return steps


def law(angle, norm, lr):
    """Steps by the law of small steps."""
    return norm**2 / (2 * lr) * math.log(math.tan(angle / 2) / math.tan(math.acos(1 - 1e-3) / 2))


def own_norm_after_a_step(env):
    """Your new norm, to three digits."""
    close(env["new_norm"], math.hypot(own(env, "norm"), own(env, "lr") * own(env, "grad")), 5e-3)


def own_turn(env):
    """Your turn, in radians, to three digits."""
    close(env["turn"], math.atan(own(env, "lr") * own(env, "grad") / own(env, "norm")), 5e-3)


def steps_of_other_pairs(env):
    """sgd_step of seven pairs of unequal norms, against torch.optim.SGD."""
    generator = torch.Generator().manual_seed(21)
    z = torch.randn(2, 7, 5, generator=generator, dtype=torch.float64) * torch.logspace(-1, 1, 7)[:, None].double()
    assert torch.allclose(torch.stack(tuple(env["sgd_step"](z[0], z[1], 0.2))), stepped(z, 0.2))


def counts_elsewhere(env):
    """count_steps at other angles, norms and step sizes."""
    for setting in ((2.0, 1.3, 0.02), (3.0, 0.8, 0.1), (0.7, 0.05, 0.05), (0.02, 0.5, 0.1)):
        assert env["count_steps"](*setting) == counted(*setting)


def predictions_elsewhere(env):
    """predicted_steps at other angles, norms and step sizes."""
    for setting in ((0.3, 2.2, 0.07), (3.0, 0.4, 0.5)):
        close(env["predicted_steps"](*setting), law(*setting), 1e-4)


def own_longest_wrong(env):
    """The longest norm at which your prediction fails by a factor of two."""
    angle, lr = math.radians(own(env, "degrees")), own(env, "lr_pair")
    close(env["longest_wrong"], max(r for r in GRID if counted(angle, r, lr) > 2 * law(angle, r, lr)), 1e-2)


def own_pair_after_a_step(env):
    """Norm and angle of your shortest pair after one step."""
    z = stepped(pair(math.radians(own(env, "degrees")), GRID[0]), own(env, "lr_pair"))
    close(env["norm_after"], z[0].norm().item(), 1e-2)
    close(env["angle_after"], math.acos(cosine_similarity(z[0], z[1]).item()), 1e-2)


def own_explanation(env):
    """The number of steps that you explain is the number that it takes."""
    right = counted(math.radians(own(env, "degrees")), GRID[0], own(env, "lr_pair"))
    close(env["explained"], right, 0.05)


def noisy_steps_follow_the_law(env):
    """100 noisy steps: all norms follow the law, and stay orthogonal steps."""
    generator = torch.Generator().manual_seed(22)
    z = 0.7 * normalize(torch.randn(6, 9, generator=generator, dtype=torch.float64), dim=1)
    squared = 0.49
    for _ in range(100):
        noise = 5 * torch.randn(6, 9, generator=generator, dtype=torch.float64)
        z, squared = env["noisy_step"](z, 0.2, 0.8, noise), squared + (0.2 * 0.8) ** 2 / squared
    assert torch.allclose(z.pow(2).sum(dim=1), torch.full((6,), squared, dtype=torch.float64))


def doubling(env):
    """Steps until your norm has doubled."""
    close(env["steps_plain"], 15 * own(env, "norm") ** 4 / (2 * (own(env, "lr_noise") * own(env, "G")) ** 2), 1e-2)


def doubling_with_momentum(env):
    """Steps until your norm has doubled, with your momentum."""
    plain = 15 * own(env, "norm") ** 4 / (2 * (own(env, "lr_noise") * own(env, "G")) ** 2)
    close(env["steps_momentum"], plain * (1 - own(env, "momentum")) ** 2, 1e-2)


def doubling_again(env):
    """How many times as long the next doubling takes."""
    close(env["again"], 16, 1e-2)


TESTS = {
    "q1": [(own_norm_after_a_step, 1), (own_turn, 1)],
    "q2": [(steps_of_other_pairs, 1)],
    "q3": [(counts_elsewhere, 1)],
    "q4": [(predictions_elsewhere, 1)],
    "q5": [(own_longest_wrong, 1), (own_pair_after_a_step, 1), (own_explanation, 1)],
    "q7": [(noisy_steps_follow_the_law, 1)],
    "q8": [(doubling, 1), (doubling_with_momentum, 1), (doubling_again, 1)],
}
