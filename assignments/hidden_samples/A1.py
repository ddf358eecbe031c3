"""Hidden tests of assignment 1, a sample to start from: in your own copy, change inputs and seeds and add to them.

They use no function of the course's library: expected values come from autograd on PyTorch's own cosine, and the
numbers of a student are drawn here again. ``TESTS`` lists, for each question, functions of the submission's variables
with their points; the first line of a docstring is what the student's report shows.
"""

import hashlib
import os
from itertools import permutations

import torch
from torch.nn.functional import cosine_similarity, cross_entropy, normalize

FINDINGS = ("right", "norm held constant", "sum, not mean", "norm of the other view")
CHOICES = {  # what the notebook draws from too
    "z": ((3.0, 4.0), (6.0, 8.0), (1.5, 2.0), (4.0, 3.0), (5.0, 12.0), (2.5, 6.0), (12.0, 5.0), (8.0, 15.0)),
    "z_plus": ((0.0, 2.0), (3.0, 0.0), (0.0, -4.0), (-6.0, 0.0), (0.0, 7.0)),
    "longer": (2.0, 3.0, 4.0, 5.0, 6.0),
    "colleagues": tuple(permutations(FINDINGS)),
}


def own(env, name):
    """The number of the student whom the class list names."""
    student = os.environ.get("ASSIGNMENT_STUDENT_ID") or env["STUDENT_ID"]
    digest = hashlib.sha256(f"{student.strip().casefold()}/A1/{name}".encode()).hexdigest()
    return CHOICES[name][int(digest, 16) % len(CHOICES[name])]


def rows(count, dim, seed, lengths=(0.3, 3.0)):
    """Rows in float64 with norms between two lengths."""
    like = {"generator": torch.Generator().manual_seed(seed), "dtype": torch.float64}
    shortest, longest = lengths
    norms = shortest * (longest / shortest) ** torch.rand(count, 1, **like)
    return normalize(torch.randn(count, dim, **like), dim=1) * norms


def by_autograd(loss, z1, z2):
    """Gradient with respect to z1."""
    leaf = z1.clone().requires_grad_()
    return torch.autograd.grad(loss(leaf, z2), leaf)[0]


def cosine_loss(z1, z2):
    """Mean of minus the cosine."""
    return -cosine_similarity(z1, z2).mean()


def nt_xent(z1, z2, temperature):
    """The loss of SimCLR, as a classification."""
    z = torch.cat([z1, z2])
    scores = cosine_similarity(z[:, None], z[None], dim=2) / temperature
    scores = scores.masked_fill(torch.eye(len(z), dtype=torch.bool), -torch.inf)
    return cross_entropy(scores, torch.arange(len(z)).roll(len(z1)))


def same(found, right, rtol=1e-6):
    """Fail unless shapes are equal and values close."""
    found = torch.as_tensor(found).detach().double()
    assert found.shape == right.shape, f"shape {tuple(found.shape)}, not {tuple(right.shape)}"
    assert torch.allclose(found, right, rtol=rtol, atol=rtol * right.abs().max().item())


def own_gradient(env):
    """The gradient of your pair, to three digits."""
    z, z_plus = (torch.tensor([own(env, name)], dtype=torch.float64) for name in ("z", "z_plus"))
    same(env["grad_z"], by_autograd(cosine_loss, z, z_plus)[0], rtol=5e-3)


def projection_of_long_and_short_rows(env):
    """tangent(z, v) where rows of z are long and short, and of another shape."""
    z, v = rows(9, 3, 11, (0.01, 100.0)), rows(9, 3, 12)
    u = normalize(z, dim=1)
    same(env["tangent"](z, v), torch.stack([b - a * (a @ b) for a, b in zip(u, v, strict=True)]))


def cosine_gradient_of_other_batches(env):
    """cosine_gradient for one pair, and for many of different lengths."""
    for count, dim in ((1, 2), (17, 5)):
        z1, z2 = rows(count, dim, 13, (0.01, 100.0)), rows(count, dim, 14, (0.01, 100.0))
        same(env["cosine_gradient"](z1, z2), by_autograd(cosine_loss, z1, z2))


def autograd_of_another_loss(env):
    """autograd_gradient of a loss that is no cosine, twice, without traces."""
    z1, z2 = rows(4, 3, 15), rows(4, 3, 16)
    for _ in range(2):
        same(env["autograd_gradient"](lambda a, b: (a**3 * b).sum(), z1, z2), 3 * z1**2 * z2)
    assert z1.grad is None, "a .grad is left in z1"
    assert not z1.requires_grad, "z1 requires a gradient afterwards"


def nt_xent_of_another_batch(env):
    """nt_xent_gradient at another size, temperature and spread of lengths."""
    z1, z2 = rows(12, 6, 17, (0.05, 20.0)), rows(12, 6, 18, (0.05, 20.0))
    same(env["nt_xent_gradient"](z1, z2, 0.15), by_autograd(lambda a, b: nt_xent(a, b, 0.15), z1, z2))


def nt_xent_of_two_pairs(env):
    """nt_xent_gradient for two pairs at a high temperature."""
    z1, z2 = rows(2, 3, 19), rows(2, 3, 20)
    same(env["nt_xent_gradient"](z1, z2, 5.0), by_autograd(lambda a, b: nt_xent(a, b, 5.0), z1, z2))


def longer_inside(env):
    """Inside: what happens to gradient and turn."""
    same([env["gradient_inside"], env["turn_inside"]], torch.ones(2, dtype=torch.float64), rtol=1e-3)


def longer_from_the_start(env):
    """Start: what happens to gradient and turn."""
    r = own(env, "longer")
    right = torch.tensor([1 / r, 1 / r**2], dtype=torch.float64)
    same([env["gradient_start"], env["turn_start"]], right, rtol=1e-2)


def colleague(word):
    """A test that the student has found one of the three culprits."""

    def found(env):
        order = own(env, "colleagues")
        culprit = "ABCD"[order.index(word)]
        assert [letter for letter in "ABCD" if env["suspects"][letter] == word] == [culprit]

    found.__doc__ = f"The colleague with: {word}."
    return found


TESTS = {
    "q1": [(own_gradient, 2)],
    "q2": [(projection_of_long_and_short_rows, 1)],
    "q3": [(cosine_gradient_of_other_batches, 1)],
    "q4": [(autograd_of_another_loss, 1)],
    "q5": [(nt_xent_of_another_batch, 1), (nt_xent_of_two_pairs, 1)],
    "q6": [(longer_inside, 1), (longer_from_the_start, 1)],
    "q7": [(colleague(word), 1) for word in FINDINGS[1:]],
}
