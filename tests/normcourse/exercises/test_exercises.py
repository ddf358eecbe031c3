"""Each check of the assignments passes the right answer and names each typical mistake."""

import copy
import math
import re

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from sklearn.metrics import roc_auc_score

from normcourse import exercises
from normcourse.exercises import _variants
from normlib import gradients, losses

STUDENT = "ada.lovelace"
A1 = exercises.variant(STUDENT, "A1")


def norms(z):
    return z.norm(dim=1, keepdim=True)


def cosine(z1, z2):
    return gradients.cosine_loss_grad(z1, z2)[0]


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


def scaled(z, power, *, forwards=False, row=lambda z: norms(z), upstream=False):
    """GradScale by a hook, with a place for each mistake."""
    out = z * row(z).detach() ** power if forwards else z.clone()
    out.register_hook(lambda grad: grad * row(grad if upstream else z).detach() ** power)
    return out


def cut(model, c, *, chosen=lambda name, parameter: parameter.ndim > 1):
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if chosen(name, parameter):
                parameter.div_(c)
    return model


def measured(model, x, c, *, train=True, of_mean=False):
    """Norm and spread before a cut over those after it."""
    found = []
    for network in (copy.deepcopy(model), cut(copy.deepcopy(model), c)):
        z = network.train(train)(x).detach()
        cosines = torch.nn.functional.cosine_similarity(z[:, None], z[None], dim=2)
        others = cosines[~torch.eye(len(z), dtype=torch.bool)]
        found.append(((z.mean(0).norm() if of_mean else z.norm(dim=1).mean()), 1 - others.mean()))
    return float(found[0][0] / found[1][0]), float(found[0][1] / found[1][1])


class NormLog:
    """A tracker that is right; its kin below are not."""

    def __init__(self, layer):
        self.layer, self.norms, self.rows = layer, [], []

    def __enter__(self):
        self.handle = self.layer.register_forward_hook(self.see)
        return self

    def __exit__(self, *error):
        self.handle.remove()

    def see(self, layer, inputs, output):
        if layer.training:
            self.rows.append(output.detach().norm(dim=1))

    def step(self):
        self.norms.append(torch.cat(self.rows).mean().item())
        self.rows = []


def log_with(**methods):
    return type("NormLog", (NormLog,), methods)


def mean_of_pairs(z, *, unit=True, diagonal=False):
    u = losses.unit(z) if unit else z
    pairs = u @ u.T
    return pairs.mean() if diagonal else pairs[~torch.eye(len(z), dtype=torch.bool)].mean()


def alarm(values, low, high, patience, *, inside=lambda v, low, high: low <= v <= high, first=True, last=0):
    streak = 0
    for step, value in enumerate(values[: len(values) - last]):
        streak = 0 if inside(value, low, high) else streak + 1
        if streak == patience:
            return step - patience + 1 if first else step
    return None


def half_width(values, *, quantile=0.975, left=1, ddof=1, normal=False, root=True):
    n = len(values)
    t = 1.96 if normal else stats.t.ppf(quantile, n - left)
    return t * values.std(ddof=ddof) / (n**0.5 if root else 1)


def selected(score, correct, coverage, *, sign=-1):
    return correct[np.argsort(sign * score)[: max(1, round(coverage * len(score)))]].mean()


def within(score, correct, label, weight=lambda s, k: k.sum() * (~k).sum()):
    classes = [(score[label == c], correct[label == c]) for c in np.unique(label)]
    mixed = [(s, k) for s, k in classes if 0 < k.sum() < len(k)]
    return np.average([roc_auc_score(k, s) for s, k in mixed], weights=[weight(s, k) for s, k in mixed])


def ties(score, correct, share):
    gaps = score[correct][:, None] - score[~correct]
    return ((gaps > 0) + share * (gaps == 0)).mean()


RIGHT = [
    (exercises.grad_scale, scaled),
    (exercises.cut, cut),
    (exercises.measure_cut, measured),
    (exercises.mean_cosine, mean_of_pairs),
    (exercises.first_alarm, alarm),
    (exercises.auroc, lambda score, correct: roc_auc_score(correct, score)),
    (exercises.interval, lambda values: (values.mean(), half_width(values))),
    (exercises.selective_accuracy, selected),
    (exercises.within_class_auroc, within),
    (exercises.sgd_step, moved),
    (exercises.count_steps, counted),
    (exercises.predicted_steps, law),
    (exercises.noisy_step, noisy),
    (exercises.tangent, lambda z, v: v - z * (z * v).sum(1, keepdim=True) / z.pow(2).sum(1, keepdim=True)),
    (exercises.cosine_gradient, cosine),
    (exercises.cosine_gradient, lambda z1, z2: cosine(z1, z2).numpy()),
    (exercises.autograd_gradient, autograd),
    (exercises.nt_xent_gradient, nt_xent),
]
WRONG = [
    (exercises.grad_scale, lambda z, power: scaled(z, power, forwards=True), "forwards: z must come out"),
    (exercises.grad_scale, lambda z, power: z.clone(), "passes unscaled"),
    (exercises.grad_scale, lambda z, power: z.detach().clone(), "detached"),
    (exercises.grad_scale, lambda z, power: scaled(z, power, row=lambda z: z.norm()), "row by row"),
    (exercises.grad_scale, lambda z, power: scaled(z, min(power, 1)), "not raised to the power"),
    (exercises.grad_scale, lambda z, power: scaled(z, -power), "divided by the norm"),
    (exercises.grad_scale, lambda z, power: scaled(z, power, upstream=True), "not that of the gradient"),
    (exercises.grad_scale, lambda z, power: scaled(z, 2 * power), "norm squared is raised"),
    (exercises.cut, lambda model, c: cut(copy.deepcopy(model), c), "not a copy"),
    (exercises.cut, lambda model, c: cut(model, c) and None, "returned None"),
    (exercises.cut, lambda model, c: cut(model, c, chosen=lambda name, p: True), "BatchNorm's scale"),
    (exercises.cut, lambda model, c: cut(model, c, chosen=lambda name, p: "norm" not in name), "biases stay"),
    (exercises.cut, lambda model, c: cut(model, 1 / c), "multiplied by c"),
    (exercises.cut, lambda model, c: cut(model, 1.0), "no weight has changed"),
    (exercises.cut, lambda model, c: cut(model, c, chosen=lambda name, p: p.ndim == 2), "the convolution has a weight"),
    (exercises.cut, lambda model, c: cut(model, c, chosen=lambda name, p: name == "last.weight"), "only the last"),
    (exercises.cut, lambda model, c: cut(cut(model, c), c), "divided twice"),
    (exercises.cut, lambda model, c: cut(model, 2 * c), r"divided by \[8.0, 8.0, 8.0\], not by 4"),
    (exercises.cut, lambda model, c: cut(model, c).requires_grad_(False), "no longer requires a gradient"),
    (exercises.measure_cut, lambda *a: measured(*a, train=False), "eval mode"),
    (exercises.measure_cut, lambda *a: tuple(1 / f for f in measured(*a)), "after over before"),
    (exercises.measure_cut, lambda *a: measured(*a)[::-1], "exchanged"),
    (exercises.measure_cut, lambda *a: measured(*a, of_mean=True), "mean of the norms"),
    (exercises.measure_cut, lambda model, x, c: measured(cut(model, c), x, c), "the model has changed"),
    (exercises.measure_cut, lambda model, x, c: (model.train()(x).mean().item(), 1.0), "the model has changed"),
    (exercises.measure_cut, lambda *a: (measured(*a)[0], 1.0), "spread factor: not right"),
    (exercises.measure_cut, lambda *a: measured(*a)[0], r"expected shape \(2,\)"),
    (exercises.mean_cosine, lambda z: mean_of_pairs(z, diagonal=True), "no pair with itself"),
    (exercises.mean_cosine, lambda z: mean_of_pairs(z) * (len(z) - 1) / len(z), "counted in its number"),
    (exercises.mean_cosine, lambda z: mean_of_pairs(z, unit=False), "must be normalised"),
    (exercises.mean_cosine, lambda z: losses.unit(z).mean(0).norm(), "length of the mean direction"),
    (exercises.mean_cosine, lambda z: mean_of_pairs(z) * len(z) * (len(z) - 1), "sum over pairs"),
    (exercises.mean_cosine, lambda z: mean_of_pairs(z) / 2, "every pair counts once"),
    (exercises.first_alarm, lambda *a: alarm(*a, first=False), "Tell where it began"),
    (exercises.first_alarm, lambda values, low, high, patience: alarm(values, low, high, 1), "One step out of bounds"),
    (
        exercises.first_alarm,
        lambda *a: alarm(*a, inside=lambda v, low, high: low < v < high),
        "bound itself is allowed",
    ),
    (exercises.first_alarm, lambda *a: alarm(*a, inside=lambda v, low, high: v <= high), "patience 3|Both bounds"),
    (exercises.first_alarm, lambda *a: alarm(*a, last=1), "last step counts"),
    (
        exercises.first_alarm,
        lambda *a: alarm(*a, inside=lambda v, low, high: not (v < low or v > high)),
        "NaN is neither",
    ),
    (exercises.auroc, lambda score, correct: roc_auc_score(~correct, score), "other way round"),
    (exercises.auroc, lambda score, correct: 2 * roc_auc_score(correct, score) - 1, "rank correlation"),
    (
        exercises.auroc,
        lambda score, correct: ties(score, correct, 0.5) * correct.sum() * (~correct).sum(),
        "count of pairs",
    ),
    (
        exercises.auroc,
        lambda score, correct: ties(score, correct, 0.5) * correct.sum() * (~correct).sum() / len(score) ** 2,
        "not by that of all pairs",
    ),
    (exercises.auroc, lambda score, correct: correct.mean(), "share of correct samples"),
    (exercises.auroc, lambda score, correct: ties(score, correct, 0.0), "ties count as nothing"),
    (exercises.auroc, lambda score, correct: ties(score, correct, 1.0), "ties count in full"),
    (exercises.interval, lambda values: (values.mean(), half_width(values, normal=True)), "1.96 is too small"),
    (exercises.interval, lambda values: (values.mean(), half_width(values, root=False)), "divide by the root"),
    (exercises.interval, lambda values: (values.mean(), values.std(ddof=1)), "standard deviation: an interval"),
    (exercises.interval, lambda values: (values.mean(), stats.sem(values)), "standard error"),
    (exercises.interval, lambda values: (values.mean(), half_width(values, ddof=0)), "ddof=1"),
    (exercises.interval, lambda values: (values.mean(), half_width(values, left=0)), "four degrees of freedom"),
    (exercises.interval, lambda values: (values.mean(), half_width(values, quantile=0.95)), "left on each side"),
    (exercises.interval, lambda values: (values.mean(), 2 * half_width(values)), "whole width"),
    (exercises.interval, lambda values: (values.mean(), values.mean() + half_width(values)), "an end of the interval"),
    (exercises.interval, lambda values: (0.0, 0.0), "mean: got 0.0"),
    (exercises.interval, lambda values: values.mean(), r"expected \(mean, half width\)"),
    (exercises.selective_accuracy, lambda *a: selected(*a, sign=1), "lowest scores are kept"),
    (exercises.selective_accuracy, lambda *a: 1 - selected(*a), "that is the risk"),
    (exercises.selective_accuracy, lambda s, k, c: k[s > (1 - c) * s.max()].mean(), "not of the range of scores"),
    (exercises.selective_accuracy, lambda s, k, c: selected(s, k, 1 - c), "not that is dropped"),
    (exercises.within_class_auroc, lambda s, k, label: roc_auc_score(k, s), "different classes count"),
    (exercises.within_class_auroc, lambda *a: within(*a, weight=lambda s, k: 1), "classes count alike"),
    (exercises.within_class_auroc, lambda *a: within(*a, weight=lambda s, k: len(k)), "not by its samples"),
    (exercises.within_class_auroc, lambda *a: 1 - within(*a), "other way round"),
    (exercises.sgd_step, lambda *a: moved(*a, late=True), "compute both gradients first"),
    (exercises.sgd_step, lambda a, b, lr: (moved(a, b, lr)[0], b), "z2 has not moved"),
    (exercises.sgd_step, lambda a, b, lr: (a.clone(), b.clone()), "nothing has moved"),
    (exercises.sgd_step, lambda *a: tuple(map(losses.unit, moved(*a))), "not to be normalised"),
    (
        exercises.sgd_step,
        lambda a, b, lr: tuple(losses.unit(n) * norms(o) for n, o in zip(moved(a, b, lr), (a, b), strict=True)),
        "old length is restored",
    ),
    (exercises.sgd_step, lambda *a: moved(*a, scale=-1), "uphill"),
    (exercises.sgd_step, lambda a, b, lr: moved(a, b, lr / len(a)), "sum, not mean"),
    (exercises.sgd_step, lambda a, b, lr: moved(a, b, 1.0), "lr is not used"),
    (exercises.sgd_step, lambda a, b, lr: moved(a, b, lr)[0], r"expected shape \(2, 5, 3\)"),
    (exercises.count_steps, lambda *a: counted(*a, extra=1), "one too many"),
    (exercises.count_steps, lambda *a: max(counted(*a, extra=-1), 0), "one too few"),
    (exercises.count_steps, lambda *a: counted(*a, first=False), "test before you step"),
    (exercises.count_steps, lambda *a: counted(*a, grow=False), "norm must grow"),
    (exercises.count_steps, lambda *a: counted(*a, both=1), "both embeddings must move"),
    (exercises.count_steps, lambda *a: counted(*a, power=1), "once more in the turn"),
    (exercises.count_steps, lambda *a: float(counted(*a)), "expected a whole number"),
    (exercises.count_steps, lambda *a: counted(*a) + 3, "at angle 1, norm 1, lr 0.05: got 34, expected 31"),
    (exercises.predicted_steps, lambda *a: law(*a, both=1), "closes twice as fast"),
    (exercises.predicted_steps, lambda angle, norm, lr: law(angle, norm, lr) / norm, "must be squared"),
    (exercises.predicted_steps, lambda angle, norm, lr: law(angle, 1.0, lr), "norm is missing"),
    (exercises.predicted_steps, lambda *a: law(*a, target=math.pi / 2), "the angle to reach is missing"),
    (exercises.predicted_steps, lambda *a: law(*a) / math.log(10), "natural logarithm"),
    (exercises.predicted_steps, lambda *a: -law(*a), "time is positive"),
    (exercises.predicted_steps, lambda *a: law(*a, target=1e-3), "not 10⁻³"),
    (exercises.predicted_steps, lambda a, r, lr: r * r / lr / 2 * math.log(a / CLOSED), "sine is missing"),
    (
        exercises.predicted_steps,
        lambda a, r, lr: r * r / lr / 2 * math.log(abs(math.tan(a)) / math.tan(CLOSED)),
        "half the angle",
    ),
    (exercises.predicted_steps, lambda *a: 12.0, "no mistake that we know"),
    (exercises.noisy_step, lambda *a: noisy(*a, project=False), "must be projected"),
    (exercises.noisy_step, lambda z, lr, G, n: noisy(z, lr, G, losses.unit(n), unit=False), "scale last"),
    (exercises.noisy_step, lambda *a: noisy(*a, unit=False), "whatever the length of the noise"),
    (exercises.noisy_step, lambda *a: noisy(*a, power=0), "1/‖z‖ is missing"),
    (exercises.noisy_step, lambda *a: noisy(*a, power=2), "one factor too many"),
    (exercises.noisy_step, lambda z, lr, G, n: noisy(z, lr, 1.0, n), "G is missing"),
    (exercises.noisy_step, lambda z, lr, G, n: noisy(z, 1.0, G, n), "lr is missing"),
    (exercises.noisy_step, lambda z, lr, G, n: noisy(z, lr, G, n) - z, "not where it leads"),
    (exercises.noisy_step, lambda z, lr, G, n: noisy(z, -lr, G, n), "step is minus the gradient"),
    (exercises.tangent, lambda z, v: z * (z * v).sum(1, keepdim=True) / z.pow(2).sum(1, keepdim=True), "part along z"),
    (exercises.tangent, lambda z, v: v - z * (z * v).sum(1, keepdim=True), "u = z/‖z‖ belongs"),
    (exercises.tangent, lambda z, v: v - losses.unit(z) * (z * v).sum(1, keepdim=True), "one normalisation short"),
    (exercises.tangent, lambda z, v: v - losses.unit(z) * (losses.unit(z) * v).sum(), "inner product .* row by row"),
    (exercises.tangent, lambda z, v: v - z * (z * v).sum(1, keepdim=True) / z.norm() ** 2, "norm .* row by row"),
    (exercises.tangent, lambda z, v: gradients.tangent(v, z), "exchanged"),
    (exercises.tangent, lambda z, v: 2 * v - gradients.tangent(z, v), "added, not removed"),
    (exercises.cosine_gradient, lambda z1, z2: len(z1) * cosine(z1, z2), "1/N is missing"),
    (exercises.cosine_gradient, lambda z1, z2: -cosine(z1, z2), "sign is opposite"),
    (exercises.cosine_gradient, lambda z1, z2: cosine(z1, z2) * norms(z1), "1/‖z1‖ is missing"),
    (exercises.cosine_gradient, lambda z1, z2: cosine(z1, z2) / norms(z1), "one factor too many"),
    (exercises.cosine_gradient, lambda z1, z2: cosine(z1, z2) * norms(z1) / norms(z2), "norm of the other view"),
    (exercises.cosine_gradient, lambda z1, z2: cosine(z1, z2) * norms(z2), "z2 must be normalised"),
    (exercises.cosine_gradient, lambda z1, z2: cosine(z2, z1), "respect to z2"),
    (exercises.cosine_gradient, lambda z1, z2: -losses.unit(z2) / norms(z1) / len(z1), "was the normalisation diff"),
    (exercises.cosine_gradient, lambda z1, z2: 3 * cosine(z1, z2), "factor 3 everywhere"),
    (exercises.autograd_gradient, lambda loss, z1, z2: autograd(lambda a, b: -loss(a, b), z1, z2), "sign is opposite"),
    (exercises.autograd_gradient, lambda loss, z1, z2: autograd(loss, z2, z1), "respect to z2"),
    (exercises.autograd_gradient, lambda loss, z1, z2: cosine(z1, z2), "loss that is passed in is not used"),
    (exercises.autograd_gradient, attached, "attached to a graph"),
    (exercises.autograd_gradient, backward, "accumulates"),
    (exercises.autograd_gradient, lambda loss, z1, z2: autograd(loss, z1.requires_grad_(), z2), "leaves traces"),
    (exercises.autograd_gradient, lambda loss, z1, z2: loss(z1, z2), "over which dimension"),
    (exercises.nt_xent_gradient, lambda *a: nt_xent(*a, columns=False), "only rows of the weights"),
    (exercises.nt_xent_gradient, lambda *a: nt_xent(*a, pull=1.0), "positive pulls twice"),
    (exercises.nt_xent_gradient, lambda *a: nt_xent(*a, diagonal=True), "mask the diagonal"),
    (exercises.nt_xent_gradient, lambda *a: nt_xent(*a, inside=1.0), "missing inside the softmax"),
    (exercises.nt_xent_gradient, lambda *a: nt_xent(*a) * a[2], "1/τ in front"),
    (exercises.nt_xent_gradient, lambda *a: nt_xent(*a, anchors=1), "2N anchors, not N"),
    (exercises.nt_xent_gradient, lambda *a: nt_xent(*a) * 2 * len(a[0]), r"1/\(2N\) is missing"),
    (exercises.nt_xent_gradient, lambda *a: nt_xent(*a) * norms(a[0]), "1/‖z‖ is missing"),
    (exercises.nt_xent_gradient, lambda *a: -nt_xent(*a), "sign is opposite"),
    (exercises.nt_xent_gradient, lambda *a: nt_xent(*a, project=False), "was the normalisation differentiated"),
    (exercises.nt_xent_gradient, lambda a, b, t: gradients.info_nce_grad(a, b, t)[1], "respect to z2"),
    (
        exercises.nt_xent_gradient,
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
        (lambda *arguments: None, "None"),
        (3.0, "expected a function, got float"),
        (lambda: None, "raised TypeError"),
        (lambda *arguments: torch.zeros(7), "expected |the model itself"),
        (lambda *arguments: "text", "str|text|the model itself"),
    ],
)
def test_what_is_no_answer_is_told_so(check, answer, words):
    verdict = check(answer)
    assert not verdict
    assert re.search(words, verdict.message), verdict


def test_nan_is_pointed_out():
    assert "NaN" in exercises.tangent(lambda z, v: math.nan * z).message
    assert "NaN" in exercises.predicted_steps(lambda angle, norm, lr: math.inf).message


def sorted_in_place(score, correct, *rest):
    score.sort()
    return correct.mean()


def popped(values, low, high, patience):
    values.pop()


@pytest.mark.parametrize(
    ("check", "answer"),
    [
        (exercises.tangent, lambda z, v: v.sub_(z)),
        (exercises.auroc, sorted_in_place),
        (exercises.selective_accuracy, sorted_in_place),
        (exercises.within_class_auroc, sorted_in_place),
        (exercises.interval, lambda values: values.sort() or (0.0, 0.0)),
        (exercises.first_alarm, popped),
    ],
)
def test_arguments_changed_in_place_are_noticed(check, answer):
    assert "in place" in check(answer).message


def with_layer(model, layer):
    model.last = layer
    return model


def log_of(norms):
    """A tracker whose ``norms`` are these, whatever it sees."""
    return log_with(
        __init__=lambda self, layer: NormLog.__init__(self, layer) or setattr(self, "norms", norms),
        step=lambda self: None,
    )


@pytest.mark.parametrize(
    ("check", "answer", "words"),
    [
        (exercises.autograd_gradient, lambda loss, z1, z2: autograd(losses.cosine_loss, z1, z2).numpy(), "is not used"),
        (exercises.cut, lambda model, c: with_layer(model, torch.nn.Linear(8, 3, bias=False)), "has been replaced"),
        (exercises.cut, lambda model, c: with_layer(model, torch.nn.Linear(2, 3).double()), "has been replaced"),
        (exercises.measure_cut, lambda model, x, c: with_layer(model, torch.nn.Identity()) and 1, "model has changed"),
        (exercises.norm_log, log_of(3.0), "log.norms must be a list, got float"),
        (exercises.norm_log, log_of(torch.tensor(3.0)), "log.norms must be a list, got Tensor"),
        (exercises.norm_log, log_of([None, None]), "expected a number, got NoneType"),
        (exercises.count_steps, lambda angle, norm, lr: 3 if angle == 1 else None, "returned None"),
        (exercises.count_steps, lambda angle, norm, lr: 3 if angle == 1 else 0.5, "expected a whole number"),
        (exercises.count_steps, lambda angle, norm, lr: 10**400, "expected|not right"),
        (exercises.interval, lambda values: (values.mean(), values), "expected a number"),
        (exercises.interval, lambda values: np.array(3.0), r"expected \(mean, half width\)"),
        (exercises.auroc, lambda score, correct: 10**400, "expected a number, got int"),
        (exercises.auroc, lambda score, correct: torch.ones(3).to_sparse(), r"got shape \(3,\)"),
        (exercises.diagnosis, dict.fromkeys("ABCD", np.array(["right", "right"])), "is none of"),
        (lambda answer: exercises.judge(answer, torch.ones(1)), torch.tensor([3.5]), "got 3.5"),
    ],
)
def test_odd_answers_get_a_verdict_and_no_error(check, answer, words):
    verdict = check(answer)
    assert not verdict
    assert re.search(words, verdict.message), verdict


def test_numpy_answers_are_taken():
    assert exercises.autograd_gradient(lambda loss, z1, z2: autograd(loss, z1, z2).numpy())
    assert exercises.sgd_step(lambda *a: tuple(z.numpy() for z in moved(*a)))


def test_the_row_that_is_named_exists():
    found = torch.zeros(2, 5, 3)
    found[1, 4, 2] = 7
    assert exercises.judge(found, torch.zeros(2, 5, 3)).message.endswith("first look at row [1, 4]")


def test_hand_gradient_for_every_variant():
    """No mistake is taken for another, nor for the right answer, whatever the numbers."""
    for k in range(200):
        student = f"student-{k}"
        numbers = exercises.variant(student, "A1")
        z, z_plus = (torch.tensor([row], dtype=torch.float64) for row in (numbers.z, numbers.z_plus))
        right = cosine(z, z_plus)[0]
        assert exercises.hand_gradient(right.numpy().round(5), student)
        for value, words in [
            (-right, "opposite"),
            (right * z.norm(), "1/‖z‖ is missing"),
            (-losses.unit(z_plus)[0] / z.norm(), "was the normalisation"),
            (right * z_plus.norm(), "z⁺ must be normalised"),
        ]:
            assert words in exercises.hand_gradient(value, student).message
    assert not exercises.hand_gradient([..., ...], STUDENT)
    assert "shape (2,)" in exercises.hand_gradient(0.5, STUDENT).message
    assert "factor" not in exercises.hand_gradient(3 * right, STUDENT).message


def test_hand_step_and_doubling_for_every_variant():
    for k in range(300):
        student = f"student-{k}"
        numbers = exercises.variant(student, "A2")
        step = numbers.lr * numbers.grad
        norm, turn = math.hypot(numbers.norm, step), math.atan(step / numbers.norm)
        assert exercises.hand_step(float(f"{norm:.3g}"), float(f"{turn:.3g}"), student)
        for new_norm, new_turn, words in [
            (numbers.norm + step, turn, "add by their squares"),
            (norm**2, turn, "squared norm"),
            (norm, step / numbers.norm, "tangent of the angle"),
            (norm, math.degrees(turn), "in radians"),
            (..., turn, "not answered"),
            (norm, ..., "not answered"),
        ]:
            assert words in exercises.hand_step(new_norm, new_turn, student).message
        plain = 15 * numbers.norm**4 / (2 * (numbers.lr_noise * numbers.G) ** 2)
        left = 1 - numbers.momentum
        assert exercises.doubling_steps(float(f"{plain:.3g}"), float(f"{plain * left**2:.3g}"), student)
        for one, other, words in [
            (16 / 15 * plain, 0, "plain: it is ‖z‖⁴ that grows steadily: from 1 to 16"),
            (2 * plain, 0, "plain: the factor 2"),
            (plain, plain * left, "with momentum: 1 - μ is squared"),
            (plain, plain / left**2, "momentum makes it faster"),
            (plain, 2 * plain * left**2, "with momentum: the factor 2"),
        ]:
            assert words in exercises.doubling_steps(one, other, student).message


LOGS = [
    (
        log_with(see=lambda self, layer, inputs, output: setattr(self, "rows", [output.detach().norm(dim=1)])),
        "only the last",
    ),
    (
        log_with(see=lambda self, layer, inputs, output: self.rows.append(output.detach().norm(dim=1))),
        "in eval mode count",
    ),
    (log_with(see=lambda self, layer, inputs, output: self.rows.append(inputs[0].norm(dim=1))), "norm of the input"),
    (log_with(step=lambda self: self.norms.append(torch.cat(self.rows).mean().item())), "empty the store"),
    (
        log_with(step=lambda self: self.norms.append(torch.cat(self.rows).norm().item()) or self.rows.clear()),
        "not that of the batch",
    ),
    (
        log_with(step=lambda self: self.norms.append(torch.cat(self.rows).sum().item()) or self.rows.clear()),
        "sum over rows",
    ),
    (log_with(step=lambda self: None), "should leave 2 norms, not 0"),
    (
        log_with(
            step=lambda self: self.norms.append(float(np.mean([r.mean() for r in self.rows]))) or self.rows.clear(),
        ),
        "mean is over rows, not over forwards",
    ),
    (
        log_with(
            see=lambda self, layer, inputs, output: self.rows.append(output.norm(dim=1)),
            step=lambda self: self.norms.append(torch.cat(self.rows).mean()),
        ),
        "keeps its graph",
    ),
    (log_with(__exit__=lambda self, *error: None), "hook is still there"),
    (
        log_with(__exit__=lambda self, kind, *error: self.handle.remove() if kind is None else None),
        "leaves the hook behind",
    ),
    (log_with(__enter__=lambda self: NormLog.__enter__(self) and None), "must return self|raised"),
    (log_with(__init__=lambda self: None), "raised TypeError"),
    (NormLog(None), "expected a class"),
    (..., "not answered yet"),
]


def test_a_right_norm_log_passes():
    assert exercises.norm_log(NormLog)


@pytest.mark.parametrize(("answer", "words"), LOGS, ids=[words for _, words in LOGS])
def test_what_is_wrong_with_a_norm_log_is_named(answer, words):
    verdict = exercises.norm_log(answer)
    assert not verdict
    with pytest.raises(AssertionError, match=words):
        assert verdict, verdict


def test_matched_rates_and_collapsed_loss_for_every_variant():
    for k in range(200):
        student = f"student-{k}"
        numbers = exercises.variant(student, "A3")
        c, lr, decay = numbers.c, numbers.lr, numbers.decay
        sgd, adamw = (c**2 * lr, decay / c**2), (c * lr, decay / c)
        assert exercises.matched_rates(sgd, adamw, student)
        for wrong_sgd, wrong_adamw, words in [
            ((lr, decay), adamw, "SGD, learning rate: it changes"),
            ((lr / c**2, decay), adamw, "the other way round"),
            ((c * lr, decay), adamw, "gradients c times as large"),
            ((c ** (2 * numbers.layers) * lr, decay), adamw, "number of layers does not matter"),
            ((sgd[0], decay * c**2), adamw, "SGD, decay: the other way round"),
            (sgd, sgd, "AdamW, learning rate: Adam's step does not shrink"),
            (sgd, (adamw[0], decay), "AdamW, decay: it changes"),
            (sgd, adamw[0], "expected (learning rate, decay)"),
            (..., adamw, "not answered"),
            (sgd, (adamw[0], ...), "not answered"),
        ]:
            assert words in exercises.matched_rates(wrong_sgd, wrong_adamw, student).message, words
        pairs = exercises.variant(student, "A4").pairs
        assert exercises.collapsed_loss(round(math.log(2 * pairs - 1), 3), student)
        for value, words in [
            (math.log(2 * pairs), "no candidate of its own"),
            (math.log(2 * pairs - 2), "positive is among"),
            (math.log(pairs), "both views"),
            (math.log10(2 * pairs - 1), "natural logarithm"),
            (5.0, "how many candidates"),
            (..., "not answered"),
        ]:
            assert words in exercises.collapsed_loss(value, student).message


def test_sick_runs_show_what_fails_whatever_the_seed():
    """The signs that assignment 4 asks for, in three students' runs."""
    for student in ("ada.lovelace", "emmy.noether", "student-3"):
        numbers = exercises.variant(student, "A4")
        runs = dict(zip(numbers.failure_modes, exercises.failure_modes(student).values(), strict=True))
        nothing = math.log(2 * numbers.pairs - 1)
        late = {word: table.tail(20).mean() for word, table in runs.items()}
        healthy = late["healthy"]
        assert healthy.loss < nothing - 1
        assert healthy.cosine < 0.1
        assert all(late[word].cosine > 0.9 for word in ("no negatives", "dead units"))
        assert late["no negatives"].loss > nothing - 0.1
        assert late["no negatives"].grad_norm > 0
        assert late["dead units"].grad_norm < 1e-3 * healthy.grad_norm
        assert runs["dead units"].cosine[39] < 0.2
        assert runs["learning rate too large"].norm[10] > 100 * runs["healthy"].norm[10]
        assert runs["initial weights too large"].norm[0] > 100 * runs["healthy"].norm[0]
        assert late["initial weights too large"].cosine < 0.2
        assert late["weight decay too strong"].norm < 0.3 * healthy.norm
        assert late["weight decay too strong"].grad_norm > 3 * healthy.grad_norm


def test_colleagues_stand_in_the_order_of_the_variant():
    functions = exercises.colleagues(STUDENT)
    z1, z2 = torch.randn(2, 4, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    right = functions["ABCD"[A1.colleagues.index("right")]]
    assert torch.allclose(right(z1, z2), autograd(losses.cosine_loss, z1, z2))
    summed = functions["ABCD"[A1.colleagues.index("sum, not mean")]]
    assert torch.allclose(summed(z1, z2), 4 * right(z1, z2))


def test_diagnosis_wants_every_case_and_known_words():
    right = dict(zip("ABCD", A1.colleagues, strict=True))
    assert exercises.diagnosis(right)
    assert not exercises.diagnosis(right | {"A": ...})
    assert "keys A, B, C, D" in exercises.diagnosis({"A": "right"}).message
    assert not exercises.diagnosis("right")
    assert "'wrong' is none of" in exercises.diagnosis(right | {"D": "wrong"}).message


@given(st.text(min_size=1).filter(str.strip), st.sampled_from(sorted(_variants.CHOICES)))
def test_variants_depend_on_the_id_alone(student, assignment):
    drawn = exercises.variant(student, assignment)
    assert drawn == exercises.variant(f" {student}\n", assignment)
    assert all(value in _variants.CHOICES[assignment][name] for name, value in vars(drawn).items())


def test_variants_differ_between_students():
    for assignment, numbers in _variants.CHOICES.items():
        drawn = [str(exercises.variant(f"student-{k}", assignment)) for k in range(100)]
        assert len(set(drawn)) > 60, assignment
        for name, choices in numbers.items():
            seen = {getattr(exercises.variant(f"student-{k}", assignment), name) for k in range(400)}
            assert len(seen) > 0.9 * len(choices) * (1 - math.exp(-400 / len(choices)))


@pytest.mark.parametrize("student", [..., "", "  ", 12, None])
def test_a_missing_id_is_refused(student):
    with pytest.raises(ValueError, match="STUDENT_ID must be your id on the class list"):
        exercises.variant(student, "A1")


def test_an_unknown_assignment_is_refused():
    with pytest.raises(ValueError, match=r"assignment must be one of 'A1', .*, got 'A9'"):
        exercises.variant(STUDENT, "A9")


def test_judge_compares_numbers_arrays_and_lists():
    assert exercises.judge([1.0, 2.0], torch.tensor([1.0, 2.0]))
    assert exercises.judge(np.float32(2), 2.0)
    assert not exercises.judge(2.1, 2.0)
    assert exercises.judge(2.1, 2.0, rtol=0.1)
    assert exercises.judge(3.0, 2.0, {"half too much": 3.0}).message == "half too much"
    assert "row 1" in exercises.judge(torch.tensor([[1.0], [3.0]]), torch.tensor([[1.0], [2.0]])).message
    assert exercises.first_wrong([]).message == "nothing was checked"
