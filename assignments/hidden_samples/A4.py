"""Hidden tests of assignment 4, a sample to start from: in your own copy, change inputs and seeds and add to them.

They use no function of the course's library; the numbers of a student are drawn here again. ``TESTS`` lists, for each
question, functions of the submission's variables with their points; the first line of a docstring is what the
student's report shows.
"""

import hashlib
import math
import os
from itertools import permutations

import torch
from torch import nn
from torch.nn.functional import cosine_similarity

FAULTS = (
    "healthy",
    "no negatives",
    "learning rate too large",
    "initial weights too large",
    "weight decay too strong",
    "dead units",
)
# What the notebook draws from too
CHOICES = {"pairs": (64, 96, 128), "failure_modes": tuple(permutations(FAULTS))}


def own(env, name):
    """The number of the student whom the class list names."""
    student = os.environ.get("ASSIGNMENT_STUDENT_ID") or env["STUDENT_ID"]
    digest = hashlib.sha256(f"{student.strip().casefold()}/A4/{name}".encode()).hexdigest()
    return CHOICES[name][int(digest, 16) % len(CHOICES[name])]


def normal(*shape, seed):
    """Normal random numbers."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def log_of_a_training(env):
    """NormLog inside a model that trains, with two views of different sizes and an evaluation between steps."""
    model = nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 4))
    optimizer, expected = torch.optim.SGD(model.parameters(), lr=0.1), []
    with env["NormLog"](model[2]) as log:
        for step in range(3):
            z1, z2 = model(normal(4 + step, 6, seed=step)), model(normal(9, 6, seed=10 + step))
            (z1.mean() - cosine_similarity(z2[1:], z2[:-1]).mean()).backward()
            optimizer.step()
            log.step()
            expected.append(torch.cat([z1, z2]).detach().norm(dim=1).mean().item())
            model.eval()
            model(normal(50, 6, seed=20 + step))
            model.train()
    assert [round(torch.as_tensor(n).item(), 4) for n in log.norms] == [round(n, 4) for n in expected]


def log_leaves_nothing_behind(env):
    """NormLog after an error, and what it keeps of the graph."""
    layer = nn.Linear(3, 2)
    try:
        with env["NormLog"](layer) as log:
            layer(normal(5, 3, seed=30))
            log.step()
            raise KeyError("a training that fails")
    except KeyError:
        pass
    assert not layer._forward_hooks, "the hook is still there"
    assert not getattr(log.norms[0], "requires_grad", False), "the graph is kept"
    layer(normal(5, 3, seed=31))
    assert len(log.norms) == 1


def mean_cosine_of_many_rows(env):
    """mean_cosine of 40,000 rows."""
    z = normal(40_000, 3, seed=32) + torch.tensor([0.5, 0.0, 0.0])
    u = (z / z.norm(dim=1, keepdim=True)).double()
    total = u.sum(dim=0)
    right = float((total @ total - len(u)) / (len(u) * (len(u) - 1)))
    assert math.isclose(float(env["mean_cosine"](z)), right, rel_tol=1e-3)


def own_collapsed_loss(env):
    """The loss of knowing nothing in your batch."""
    assert math.isclose(float(env["collapsed"]), math.log(2 * own(env, "pairs") - 1), rel_tol=1.5e-4)


def alarm_at_nan(env):
    """first_alarm where values become nan and infinite."""
    assert env["first_alarm"]([1.0, math.nan, 2.0, math.inf, math.nan, math.nan], 0.0, 5.0, 3) == 3
    assert env["first_alarm"]([math.nan], 0.0, 5.0, 1) == 0


def alarm_of_interrupted_streaks(env):
    """first_alarm where streaks are interrupted, at bounds, and for long patience."""
    values = [9.0, 9.0, 5.0, 9.0, -1.0, 9.0, 0.0, 9.0]
    assert env["first_alarm"](values, 0.0, 5.0, 3) == 3
    assert env["first_alarm"](values, 0.0, 5.0, 4) is None
    assert env["first_alarm"](torch.tensor(values), 0.0, 5.0, 2) == 0


def run(letter):
    """A test of the diagnosis of one run."""

    def diagnosed(env):
        assert env["diagnosis"][letter] == own(env, "failure_modes")["ABCDEF".index(letter)]

    diagnosed.__doc__ = f"Your run {letter}."
    return diagnosed


TESTS = {
    "q1": [(log_of_a_training, 1), (log_leaves_nothing_behind, 1)],
    "q2": [(mean_cosine_of_many_rows, 1)],
    "q3": [(own_collapsed_loss, 1)],
    "q4": [(alarm_at_nan, 1), (alarm_of_interrupted_streaks, 1)],
    "q5": [(run(letter), 1) for letter in "ABCDEF"],
}
