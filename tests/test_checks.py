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


def moved(z1, z2, lr, scale=1.0, late=False):
    """One step of SGD on every pair."""
    new1 = z1 - scale * lr * len(z1) * cosine(z1, z2)
    return new1, z2 - scale * lr * len(z1) * cosine(z2, new1 if late else z1)


def counted(angle, norm, lr, *, extra=0, first=True, both=2, grow=True, power=2):
    """Steps until a pair agrees, in polar coordinates, with a place for each mistake."""
    steps, norms_ = 0, [norm, norm]
    while math.cos(angle) < 1 - 1e-3 or (steps == 0 and not first):
        turns = [lr * math.sin(angle) / length**power for length in norms_][:both]
        angle = abs(angle - sum(map(math.atan, turns)))
        norms_ = [r * math.hypot(1, t) for r, t in zip(norms_, [*turns, 0][:2], strict=True)] if grow else norms_
        steps += 1
    return steps + extra


CLOSED = math.acos(1 - 1e-3)


def law(angle, norm, lr, *, both=2, target=CLOSED):
    return norm**2 / (both * lr) * math.log(math.tan(angle / 2) / math.tan(target / 2))


def noisy(z, lr, G, noise, *, project=True, unit=True, power=1):
    way = gradients.tangent(z, noise) if project else noise
    return z - lr * G * (losses.unit(way) if unit else way) / norms(z) ** power


RIGHT = [
    (checks.sgd_step, moved),
    (checks.count_steps, counted),
    (checks.predicted_steps, law),
    (checks.noisy_step, noisy),
    (checks.tangent, lambda z, v: v - z * (z * v).sum(1, keepdim=True) / z.pow(2).sum(1, keepdim=True)),
    (checks.cosine_gradient, cosine),
    (checks.cosine_gradient, lambda z1, z2: cosine(z1, z2).numpy()),
    (checks.autograd_gradient, autograd),
    (checks.nt_xent_gradient, nt_xent),
]
WRONG = [
    (checks.sgd_step, lambda *a: moved(*a, late=True), "compute both gradients first"),
    (checks.sgd_step, lambda a, b, lr: (moved(a, b, lr)[0], b), "z2 has not moved"),
    (checks.sgd_step, lambda a, b, lr: (a.clone(), b.clone()), "nothing has moved"),
    (checks.sgd_step, lambda *a: tuple(map(losses.unit, moved(*a))), "not to be normalised"),
    (
        checks.sgd_step,
        lambda a, b, lr: tuple(losses.unit(n) * norms(o) for n, o in zip(moved(a, b, lr), (a, b), strict=True)),
        "old length is restored",
    ),
    (checks.sgd_step, lambda *a: moved(*a, scale=-1), "uphill"),
    (checks.sgd_step, lambda a, b, lr: moved(a, b, lr / len(a)), "sum, not mean"),
    (checks.sgd_step, lambda a, b, lr: moved(a, b, 1.0), "lr is not used"),
    (checks.sgd_step, lambda a, b, lr: moved(a, b, lr)[0], r"expected shape \(2, 5, 3\)"),
    (checks.count_steps, lambda *a: counted(*a, extra=1), "one too many"),
    (checks.count_steps, lambda *a: max(counted(*a, extra=-1), 0), "one too few"),
    (checks.count_steps, lambda *a: counted(*a, first=False), "test before you step"),
    (checks.count_steps, lambda *a: counted(*a, grow=False), "norm must grow"),
    (checks.count_steps, lambda *a: counted(*a, both=1), "both embeddings must move"),
    (checks.count_steps, lambda *a: counted(*a, power=1), "once more in the turn"),
    (checks.count_steps, lambda *a: float(counted(*a)), "expected a whole number"),
    (checks.count_steps, lambda *a: counted(*a) + 3, "at angle 1, norm 1, lr 0.05: got 34, expected 31"),
    (checks.predicted_steps, lambda *a: law(*a, both=1), "closes twice as fast"),
    (checks.predicted_steps, lambda angle, norm, lr: law(angle, norm, lr) / norm, "must be squared"),
    (checks.predicted_steps, lambda angle, norm, lr: law(angle, 1.0, lr), "norm is missing"),
    (checks.predicted_steps, lambda *a: law(*a, target=math.pi / 2), "the angle to reach is missing"),
    (checks.predicted_steps, lambda *a: law(*a) / math.log(10), "natural logarithm"),
    (checks.predicted_steps, lambda *a: -law(*a), "time is positive"),
    (checks.predicted_steps, lambda *a: law(*a, target=1e-3), "not 10⁻³"),
    (checks.predicted_steps, lambda a, r, lr: r * r / lr / 2 * math.log(a / CLOSED), "sine is missing"),
    (
        checks.predicted_steps,
        lambda a, r, lr: r * r / lr / 2 * math.log(abs(math.tan(a)) / math.tan(CLOSED)),
        "half the angle",
    ),
    (checks.predicted_steps, lambda *a: 12.0, "no mistake that we know"),
    (checks.noisy_step, lambda *a: noisy(*a, project=False), "must be projected"),
    (checks.noisy_step, lambda z, lr, G, n: noisy(z, lr, G, losses.unit(n), unit=False), "scale last"),
    (checks.noisy_step, lambda *a: noisy(*a, unit=False), "whatever the length of the noise"),
    (checks.noisy_step, lambda *a: noisy(*a, power=0), "1/‖z‖ is missing"),
    (checks.noisy_step, lambda *a: noisy(*a, power=2), "one factor too many"),
    (checks.noisy_step, lambda z, lr, G, n: noisy(z, lr, 1.0, n), "G is missing"),
    (checks.noisy_step, lambda z, lr, G, n: noisy(z, 1.0, G, n), "lr is missing"),
    (checks.noisy_step, lambda z, lr, G, n: noisy(z, lr, G, n) - z, "not where it leads"),
    (checks.noisy_step, lambda z, lr, G, n: noisy(z, -lr, G, n), "step is minus the gradient"),
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
        (lambda *arguments: torch.zeros(2), "expected "),
        (lambda *arguments: "text", "str"),
    ],
)
def test_what_is_no_answer_is_told_so(check, answer, words):
    verdict = check(answer)
    assert not verdict
    assert words in verdict.message


def test_nan_is_pointed_out():
    assert "NaN" in checks.tangent(lambda z, v: math.nan * z).message
    assert "NaN" in checks.predicted_steps(lambda angle, norm, lr: math.inf).message


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


def test_hand_step_and_doubling_for_every_variant():
    for k in range(300):
        student = f"student-{k}"
        numbers = checks.variant(student, "A2")
        step = numbers.lr * numbers.grad
        norm, turn = math.hypot(numbers.norm, step), math.atan(step / numbers.norm)
        assert checks.hand_step(float(f"{norm:.3g}"), float(f"{turn:.3g}"), student)
        for new_norm, new_turn, words in [
            (numbers.norm + step, turn, "add by their squares"),
            (norm**2, turn, "squared norm"),
            (norm, step / numbers.norm, "tangent of the angle"),
            (norm, math.degrees(turn), "in radians"),
            (..., turn, "not answered"),
            (norm, ..., "not answered"),
        ]:
            assert words in checks.hand_step(new_norm, new_turn, student).message
        plain = 15 * numbers.norm**4 / (2 * (numbers.lr_noise * numbers.G) ** 2)
        left = 1 - numbers.momentum
        assert checks.doubling_steps(float(f"{plain:.3g}"), float(f"{plain * left**2:.3g}"), student)
        for one, other, words in [
            (16 / 15 * plain, 0, "plain: it is ‖z‖⁴ that grows steadily: from 1 to 16"),
            (2 * plain, 0, "plain: the factor 2"),
            (plain, plain * left, "with momentum: 1 - μ is squared"),
            (plain, plain / left**2, "momentum makes it faster"),
            (plain, 2 * plain * left**2, "with momentum: the factor 2"),
        ]:
            assert words in checks.doubling_steps(one, other, student).message


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
