"""Checks of assignment 4: a norm tracker, and what to read off its statistics."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from numbers import Integral
from typing import Any

import torch
from torch import nn

from normcourse.exercises._variants import variant
from normcourse.exercises._verdicts import NOT_ANSWERED, Verdict, first_wrong, judge, outcome, rows
from normlib import losses
from normlib.evaluation import spread


def norm_log(answer: type) -> Verdict:
    """A class ``NormLog(layer)`` whose ``step()``, in a ``with`` block, appends the mean norm of rows since the last.

    >>> norm_log(...)
    ✗ not answered yet: replace the ... by your own code
    """
    if answer is ...:
        return Verdict(False, NOT_ANSWERED)
    if not isinstance(answer, type):
        return Verdict(False, f"expected a class, got {type(answer).__name__}")
    return first_wrong(_norm_log_verdicts(answer))


def mean_cosine(answer: Callable) -> Verdict:
    """``mean_cosine(z)``: mean cosine over all pairs of *different* rows.

    >>> mean_cosine(lambda z: float((losses.unit(z) @ losses.unit(z).T).mean()))
    ✗ a row is no pair with itself: N of the N² cosines are 1
    """
    z = rows(7, 4, seed=41) + 0.5
    u, n = losses.unit(z), len(z)
    cosines = u @ u.T
    right = torch.tensor(1 - spread(z), dtype=z.dtype)
    return judge(
        outcome(answer, z),
        right,
        {
            "a row is no pair with itself: N of the N² cosines are 1": cosines.mean(),
            "the N cosines of 1 are left out of the sum, and counted in its number": (cosines.sum() - n) / n**2,
            "rows must be normalised: a cosine sees no lengths": ((z @ z.T).sum() - z.pow(2).sum()) / (n * (n - 1)),
            "that is the squared length of the mean direction: rows still meet themselves": u.mean(dim=0).pow(2).sum(),
            "that is the length of the mean direction": u.mean(dim=0).norm(),
            "that is the sum over pairs": cosines.sum() - n,
            "every pair counts once in half of the pairs: divide by N(N-1)/2": right / 2,
        },
        praise="right: no pair is counted with itself",
    )


def collapsed_loss(answer: float, student_id: str) -> Verdict:
    """NT-Xent of your batch when all embeddings point the same way; to three decimals.

    >>> collapsed_loss(4.852, "ada.lovelace")
    ✗ an anchor is no candidate of its own: one fewer
    """
    pairs = variant(student_id, "A4").pairs
    return judge(
        answer,
        math.log(2 * pairs - 1),
        {
            "an anchor is no candidate of its own: one fewer": math.log(2 * pairs),
            "both views of every image are candidates": math.log(pairs),
            "both views of every image are candidates, and one is the anchor": math.log(pairs - 1),
            "the positive is among the candidates in NT-Xent": math.log(2 * pairs - 2),
            "the natural logarithm is meant": math.log10(2 * pairs - 1),
            "the positive's cosine, 1/τ, is subtracted": math.log(2 * pairs - 1) + 2,
            "the probability of the positive is 1/(2N-1); the loss is minus its logarithm": 1 / (2 * pairs - 1),
        },
        rtol=1.5e-4,
        praise="right: the loss of guessing",
        unknown="not right, and no mistake that we know: how many candidates are there, and how likely is each?",
    )


def first_alarm(answer: Callable) -> Verdict:
    """``first_alarm(values, low, high, patience)``: first step of the first ``patience`` steps in a row out of bounds.

    >>> first_alarm(lambda values, low, high, patience: next((i for i, v in enumerate(values) if v > high), None))
    ✗ patience 3: expected 4, got 1. One step out of bounds is no alarm
    """
    values = [1.0, 5.0, 1.0, 0.5, 7.0, -2.0, 9.0, 9.0, 1.0]
    nan = [1.0, math.nan, math.nan, 1.0]
    cases: list[tuple[str, tuple, int | None, dict[int | None, str]]] = [
        ("patience 3", (values, 0.0, 4.0, 3), 4, {1: "One step out of bounds is no alarm", 6: "Tell where it began"}),
        ("patience 1", (values, 0.0, 4.0, 1), 1, {}),
        ("values equal to a bound", ([4.0, 0.0], 0.0, 4.0, 1), None, {0: "A bound itself is allowed"}),
        ("values below the lower bound", ([1.0, -1.0, -1.0, 1.0], 0.0, 4.0, 2), 1, {None: "Both bounds count"}),
        ("a streak at the end", ([1.0, 1.0, 9.0, 9.0], 0.0, 4.0, 2), 2, {None: "The last step counts too"}),
        ("a streak that is too short", ([1.0, 9.0, 1.0, 9.0], 0.0, 4.0, 2), None, {}),
        ("NaN", (nan, 0.0, 4.0, 2), 1, {None: "NaN is neither above nor below: ask whether it is inside"}),
    ]

    def verdicts() -> Iterator[Verdict]:
        for name, arguments, right, remarks in cases:
            found = _value(answer, arguments)
            if isinstance(found, Verdict):
                yield found
            if not isinstance(found, Integral | None):
                yield Verdict(False, f"{name}: expected a step, a whole number, or None; got {found!r}")
            text = f"{name}: expected {right}, got {found}. {remarks.get(found, '')}".removesuffix(". ")
            yield Verdict(found == right, "right, NaN included" if found == right else text)

    return first_wrong(verdicts())


def _value(answer: Callable, arguments: tuple) -> Any:
    """As ``outcome``, but None is an answer."""
    found = outcome(lambda *given: (answer(*given),), *arguments) if callable(answer) else outcome(answer)
    if not isinstance(found, tuple):
        return found
    return Verdict(False, NOT_ANSWERED) if found[0] is ... else found[0]


def _norm_log_verdicts(answer: type) -> Iterator[Verdict]:
    layer = nn.Linear(4, 3).double()
    layer.weight.data, layer.bias.data = rows(3, 4, seed=42), rows(1, 3, seed=43)[0]
    first, second, third = rows(6, 4, seed=44), rows(2, 4, seed=45), rows(3, 4, seed=46)
    norms = [layer(x).detach().norm(dim=1) for x in (first, second, third)]
    log = outcome(answer, layer)
    if isinstance(log, Verdict):
        yield log

    def watch() -> Any:
        with log as opened:
            if opened is not log:
                return Verdict(False, "__enter__ must return self: with NormLog(layer) as log")
            layer(first)
            layer(second)
            log.step()
            layer(third)
            layer.eval()
            layer(first)
            layer.train()
            log.step()
        layer(first)
        try:
            return list(log.norms)
        except TypeError:
            return Verdict(False, f"log.norms must be a list, got {type(log.norms).__name__}")

    found = outcome(watch)
    if isinstance(found, Verdict):
        yield found
    if any(isinstance(value, torch.Tensor) and value.requires_grad for value in found):
        yield Verdict(False, "a norm keeps its graph, and with it the memory of the step: detach it, or .item()")
    yield Verdict(len(found) == 2, f"two calls of step() should leave 2 norms, not {len(found)}")
    yield judge(
        found[0],
        torch.cat(norms[:2]).mean(),
        {
            "only the last forward of the step counts: two views are two forwards": norms[1].mean(),
            "only the first forward of the step counts": norms[0].mean(),
            "the mean is over rows, not over forwards: these have 6 and 2 rows": (norms[0].mean() + norms[1].mean())
            / 2,
            "the norm of each row is wanted, not that of the batch": torch.cat(norms[:2]).norm(),
            "that is the sum over rows": torch.cat(norms[:2]).sum(),
            "that is the norm of the input": torch.cat([first, second]).norm(dim=1).mean(),
        },
    )
    yield judge(
        found[1],
        norms[2].mean(),
        {
            "forwards in eval mode count, and should not: look at layer.training": torch.cat(
                [norms[2], norms[0]]
            ).mean(),
            "rows of the step before are still in it: empty the store in step()": torch.cat(norms).mean(),
        },
    )
    yield Verdict(not layer._forward_hooks, "the hook is still there after the with block: remove its handle")
    outcome(_fails_inside, answer, layer)
    yield Verdict(
        not layer._forward_hooks, "an error inside the with block leaves the hook behind: __exit__ runs then too"
    )
    yield Verdict(True, "right: rows of all forwards of a step, in training mode, and nothing is left behind")


def _fails_inside(answer: type, layer: nn.Module) -> None:
    with answer(layer):
        raise RuntimeError("a training that fails")
