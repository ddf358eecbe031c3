"""Each check of the assignments passes the right answer and names each typical mistake."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from normlib import checks, gradients, losses
from normlib.checks import _variants

STUDENT = "ada.lovelace"
A1 = checks.variant(STUDENT, "A1")


def norms(z):
    return z.norm(dim=1, keepdim=True)


def cosine(z1, z2):
    return gradients.cosine_similarity_grad(z1, z2)[0]


def of_z1(z1, z2, temperature):
    return gradients.info_nce_grad(z1, z2, temperature)[0]


def nt_xent(z1, z2, temperature, *, inside=None, diagonal=False, columns=True, pull=2.0, anchors=2, project=True):
    """The closed form, with a place for each mistake; written apart from the checks."""
    z, n = torch.cat([z1, z2]), len(z1)
    u = z / norms(z)
    scores = u @ u.T / (inside or temperature)
    w = (scores if diagonal else scores.fill_diagonal_(-math.inf)).softmax(dim=1)
    force = pull * u.roll(n, 0) - (w + w.T if columns else w) @ u
    force = force - u * (u * force).sum(dim=1, keepdim=True) * project
    return (-force / norms(z) / (anchors * n * temperature))[:n]


def autograd(loss, z1, z2, **options):
    leaf = z1.clone().requires_grad_()
    return torch.autograd.grad(loss(leaf, z2), leaf, **options)[0]


def backward(loss, z1, z2):
    z1.requires_grad_()
    loss(z1, z2).backward()
    return z1.grad


def attached(loss, z1, z2):
    return autograd(loss, z1, z2, create_graph=True)


RIGHT = [
    (checks.tangent, lambda z, v: v - z * (z * v).sum(1, keepdim=True) / z.pow(2).sum(1, keepdim=True)),
    (checks.cosine_gradient, cosine),
    (checks.cosine_gradient, lambda z1, z2: cosine(z1, z2).numpy()),
    (checks.autograd_gradient, autograd),
    (checks.nt_xent_gradient, nt_xent),
]
WRONG = [
    (checks.tangent, lambda z, v: z * (z * v).sum(1, keepdim=True) / z.pow(2).sum(1, keepdim=True), "part along z"),
    (checks.tangent, lambda z, v: v - z * (z * v).sum(1, keepdim=True), "u = z/‖z‖ belongs"),
    (checks.tangent, lambda z, v: v - losses.unit(z) * (z * v).sum(1, keepdim=True), "one normalisation short"),
    (checks.tangent, lambda z, v: v - losses.unit(z) * (losses.unit(z) * v).sum(), "inner product .* row by row"),
    (checks.tangent, lambda z, v: v - z * (z * v).sum(1, keepdim=True) / z.norm() ** 2, "norm .* row by row"),
    (checks.tangent, lambda z, v: gradients.tangent(v, z), "exchanged"),
    (checks.tangent, lambda z, v: 2 * v - gradients.tangent(z, v), "added, not removed"),
    (checks.cosine_gradient, lambda z1, z2: len(z1) * cosine(z1, z2), "1/N is missing"),
    (checks.cosine_gradient, lambda z1, z2: -cosine(z1, z2), "sign is opposite"),
    (checks.cosine_gradient, lambda z1, z2: cosine(z1, z2) * norms(z1), "1/‖z1‖ is missing"),
    (checks.cosine_gradient, lambda z1, z2: cosine(z1, z2) / norms(z1), "one factor too many"),
    (checks.cosine_gradient, lambda z1, z2: cosine(z1, z2) * norms(z1) / norms(z2), "norm of the other view"),
    (checks.cosine_gradient, lambda z1, z2: cosine(z1, z2) * norms(z2), "z2 must be normalised"),
    (checks.cosine_gradient, lambda z1, z2: cosine(z2, z1), "respect to z2"),
    (checks.cosine_gradient, lambda z1, z2: -losses.unit(z2) / norms(z1) / len(z1), "was the normalisation diff"),
    (checks.cosine_gradient, lambda z1, z2: 3 * cosine(z1, z2), "factor 3 everywhere"),
    (checks.autograd_gradient, lambda loss, z1, z2: autograd(lambda a, b: -loss(a, b), z1, z2), "sign is opposite"),
    (checks.autograd_gradient, lambda loss, z1, z2: autograd(loss, z2, z1), "respect to z2"),
    (checks.autograd_gradient, lambda loss, z1, z2: cosine(z1, z2), "loss that is passed in is not used"),
    (checks.autograd_gradient, attached, "attached to a graph"),
    (checks.autograd_gradient, backward, "accumulates"),
    (checks.autograd_gradient, lambda loss, z1, z2: autograd(loss, z1.requires_grad_(), z2), "leaves traces"),
    (checks.autograd_gradient, lambda loss, z1, z2: loss(z1, z2), "over which dimension"),
    (checks.nt_xent_gradient, lambda *a: nt_xent(*a, columns=False), "only rows of the weights"),
    (checks.nt_xent_gradient, lambda *a: nt_xent(*a, pull=1.0), "positive pulls twice"),
    (checks.nt_xent_gradient, lambda *a: nt_xent(*a, diagonal=True), "mask the diagonal"),
    (checks.nt_xent_gradient, lambda *a: nt_xent(*a, inside=1.0), "missing inside the softmax"),
    (checks.nt_xent_gradient, lambda *a: nt_xent(*a) * a[2], "1/τ in front"),
    (checks.nt_xent_gradient, lambda *a: nt_xent(*a, anchors=1), "2N anchors, not N"),
    (checks.nt_xent_gradient, lambda *a: nt_xent(*a) * 2 * len(a[0]), r"1/\(2N\) is missing"),
    (checks.nt_xent_gradient, lambda *a: nt_xent(*a) * norms(a[0]), "1/‖z‖ is missing"),
    (checks.nt_xent_gradient, lambda *a: -nt_xent(*a), "sign is opposite"),
    (checks.nt_xent_gradient, lambda *a: nt_xent(*a, project=False), "was the normalisation differentiated"),
    (checks.nt_xent_gradient, lambda a, b, t: gradients.info_nce_grad(a, b, t)[1], "respect to z2"),
    (
        checks.nt_xent_gradient,
        lambda a, b, t: gradients.info_nce_grad(a, b, t, denominator="decoupled")[0],
        "leaves out the positive",
    ),
]


@pytest.mark.parametrize(("check", "answer"), RIGHT)
def test_right_answers_pass(check, answer):
    verdict = check(answer)
    assert verdict, verdict
    assert str(verdict).startswith("✓ ")


@pytest.mark.parametrize(("check", "answer", "words"), WRONG, ids=[f"{c.__name__}-{w}" for c, _, w in WRONG])
def test_wrong_answers_are_named(check, answer, words):
    verdict = check(answer)
    assert not verdict
    with pytest.raises(AssertionError, match=words):
        assert verdict, verdict


FUNCTIONS = sorted({check for check, _ in RIGHT}, key=lambda check: check.__name__)


@pytest.mark.parametrize("check", FUNCTIONS, ids=lambda check: check.__name__)
@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (..., "not answered yet"),
        (lambda *arguments: ..., "not answered yet"),
        (lambda *arguments: None, "returned None"),
        (3.0, "expected a function, got float"),
        (lambda: None, "raised TypeError"),
        (lambda *arguments: torch.zeros(2), "expected shape"),
        (lambda *arguments: "text", "got str"),
        (lambda *arguments: math.nan * next(a for a in arguments if isinstance(a, torch.Tensor)), "NaN"),
    ],
)
def test_what_is_no_answer_is_told_so(check, answer, words):
    verdict = check(answer)
    assert not verdict
    assert words in verdict.message


def test_arguments_changed_in_place_are_noticed():
    assert "in place" in checks.tangent(lambda z, v: v.sub_(z)).message


def test_hand_gradient_for_every_variant():
    """No mistake is taken for another, nor for the right answer, whatever the numbers."""
    for k in range(200):
        student = f"student-{k}"
        numbers = checks.variant(student, "A1")
        z, z_plus = (torch.tensor([row], dtype=torch.float64) for row in (numbers.z, numbers.z_plus))
        right = cosine(z, z_plus)[0]
        assert checks.hand_gradient(right.numpy().round(5), student)
        for value, words in [
            (-right, "opposite"),
            (right * z.norm(), "1/‖z‖ is missing"),
            (-losses.unit(z_plus)[0] / z.norm(), "was the normalisation"),
            (right * z_plus.norm(), "z⁺ must be normalised"),
        ]:
            assert words in checks.hand_gradient(value, student).message
    assert not checks.hand_gradient([..., ...], STUDENT)
    assert "shape (2,)" in checks.hand_gradient(0.5, STUDENT).message
    assert "factor" not in checks.hand_gradient(3 * right, STUDENT).message


def test_colleagues_stand_in_the_order_of_the_variant():
    functions = checks.colleagues(STUDENT)
    z1, z2 = torch.randn(2, 4, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    right = functions["ABCD"[A1.colleagues.index("right")]]
    assert torch.allclose(right(z1, z2), autograd(losses.cosine_loss, z1, z2))
    summed = functions["ABCD"[A1.colleagues.index("sum, not mean")]]
    assert torch.allclose(summed(z1, z2), 4 * right(z1, z2))


def test_diagnosis_wants_every_case_and_known_words():
    right = dict(zip("ABCD", A1.colleagues, strict=True))
    assert checks.diagnosis(right)
    assert not checks.diagnosis(right | {"A": ...})
    assert "keys A, B, C, D" in checks.diagnosis({"A": "right"}).message
    assert not checks.diagnosis("right")
    assert "'wrong' is none of" in checks.diagnosis(right | {"D": "wrong"}).message


@given(st.text(min_size=1).filter(str.strip), st.sampled_from(sorted(_variants.CHOICES)))
def test_variants_depend_on_the_id_alone(student, assignment):
    drawn = checks.variant(student, assignment)
    assert drawn == checks.variant(f" {student}\n", assignment)
    assert all(value in _variants.CHOICES[assignment][name] for name, value in vars(drawn).items())


def test_variants_differ_between_students():
    for assignment, numbers in _variants.CHOICES.items():
        drawn = [str(checks.variant(f"student-{k}", assignment)) for k in range(100)]
        assert len(set(drawn)) > 60, assignment
        for name, choices in numbers.items():
            seen = {getattr(checks.variant(f"student-{k}", assignment), name) for k in range(400)}
            assert len(seen) > 0.9 * len(choices) * (1 - math.exp(-400 / len(choices)))


@pytest.mark.parametrize("student", [..., "", "  ", 12, None])
def test_a_missing_id_is_refused(student):
    with pytest.raises(ValueError, match="STUDENT_ID must be your id on the class list"):
        checks.variant(student, "A1")


def test_an_unknown_assignment_is_refused():
    with pytest.raises(ValueError, match=r"one of A1.*, got 'A9'"):
        checks.variant(STUDENT, "A9")


def test_judge_compares_numbers_arrays_and_lists():
    assert checks.judge([1.0, 2.0], torch.tensor([1.0, 2.0]))
    assert checks.judge(np.float32(2), 2.0)
    assert not checks.judge(2.1, 2.0)
    assert checks.judge(2.1, 2.0, rtol=0.1)
    assert checks.judge(3.0, 2.0, {"half too much": 3.0}).message == "half too much"
    assert "row 1" in checks.judge(torch.tensor([[1.0], [3.0]]), torch.tensor([[1.0], [2.0]])).message
    assert checks.first_wrong([]).message == "nothing was checked"
