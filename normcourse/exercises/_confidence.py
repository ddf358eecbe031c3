"""Checks of assignment 5: a study of confidence."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from normcourse.exercises._verdicts import Verdict, first_wrong, judge, outcome


def auroc(answer: Callable) -> Verdict:
    """``auroc(score, correct)``: probability that a correct sample scores above a wrong one, ties counting half.

    >>> auroc(lambda score, correct: score[correct].mean())
    ✗ not right, and no mistake that we know: got 1.91818, expected 0.836364
    """
    score, correct = _samples(ties=False)
    tied, correct_tied = _samples(ties=True)
    above, ties = _wins(score, correct)[0], _wins(tied, correct_tied)
    found = outcome(answer, score, correct)
    plain = judge(
        found,
        above,
        {
            "the other way round: correct samples are to score above": 1 - above,
            "that is a count of pairs: divide by their number": above * correct.sum() * (~correct).sum(),
            "divide by the number of pairs of a correct with a wrong sample, not by that of all pairs": (
                above * correct.sum() * (~correct).sum() / len(score) ** 2
            ),
            "that is a rank correlation, twice the area minus 1": 2 * above - 1,
            "that is the share of correct samples": correct.mean(),
        },
        unknown=_unknown(found, above),
    )
    equal = judge(
        outcome(answer, tied, correct_tied),
        ties[0] + ties[1] / 2,
        {
            "ties count as nothing: let them count half": ties[0],
            "ties count in full: let them count half": ties[0] + ties[1],
        },
        praise="right, ties included",
        unknown="right without ties, and not with them: a pair of equal scores counts half",
    )
    return first_wrong((plain, equal))


def interval(answer: Callable) -> Verdict:
    """``interval(values)``: mean, and half width of its 95 % interval by Student's t.

    >>> interval(lambda values: (values.mean(), 1.96 * values.std(ddof=1) / len(values) ** 0.5))
    ✗ half width: with so few values 1.96 is too small: take the quantile of Student's t
    """
    from scipy import stats

    values = np.array([0.61, 0.83, 0.72, 0.94, 0.66])
    n, mean, sd, t = len(values), values.mean(), values.std(ddof=1), stats.t.ppf(0.975, len(values) - 1)
    right, found = t * sd / n**0.5, outcome(answer, values)
    if isinstance(found, Verdict):
        return found
    found = list(found) if isinstance(found, np.ndarray) and found.ndim else found
    if not isinstance(found, tuple | list) or len(found) != 2:
        return Verdict(False, f"expected (mean, half width), got {found!r}")
    mistakes = {
        "with so few values 1.96 is too small: take the quantile of Student's t": 1.96 * sd / n**0.5,
        "that is the spread of values, not of their mean: divide by the root of their number": t * sd,
        "that is the standard deviation: an interval is wanted": sd,
        "that is the standard error: an interval is wanted": sd / n**0.5,
        "the sample's standard deviation divides by n - 1: ddof=1": t * values.std() / n**0.5,
        "five values leave four degrees of freedom": stats.t.ppf(0.975, n) * sd / n**0.5,
        "2.5 % are left on each side: the quantile of 0.975": stats.t.ppf(0.95, n - 1) * sd / n**0.5,
        "that is the whole width": 2 * right,
        "that is an end of the interval": mean + right,
        "that is the variance of the mean, without its root": t * sd**2 / n,
    }
    return first_wrong(
        (
            judge(found[0], mean, unknown=f"mean: got {found[0]!r}, expected {mean:.4g}"),
            judge(found[1], right, {f"half width: {m}": v for m, v in mistakes.items()}, rtol=1e-4, praise="right"),
        )
    )


def selective_accuracy(answer: Callable) -> Verdict:
    """``selective_accuracy(score, correct, coverage)``: accuracy among the best-scored share of the samples.

    >>> selective_accuracy(lambda score, correct, coverage: correct[: round(coverage * len(score))].mean())
    ✗ coverage 0.5: not right, and no mistake that we know: got 0.625, expected 0.875
    """
    score, correct = _samples(ties=False)
    score = score**3  # far from uniform
    order = np.argsort(-score)

    def verdicts() -> Iterator[Verdict]:
        for coverage in (0.5, 1.0, 0.25, 0.01):
            k = max(1, round(coverage * len(score)))
            right, high = correct[order[:k]].mean(), score > (1 - coverage) * score.max()
            mistakes = {
                "the lowest scores are kept: confidence is a high score": correct[order[-k:]].mean(),
                "that is the risk: accuracy is 1 minus it": 1 - right,
                "divide by the number of samples that are kept": correct[order[:k]].sum() / len(score),
                "a share of the samples is wanted, not of the range of scores": correct[high].mean()
                if high.any()
                else -1,
                "coverage is the share that is kept, not that is dropped": correct[
                    order[: max(1, len(score) - k)]
                ].mean(),
            }
            found = outcome(answer, score, correct, coverage)
            named = {
                f"coverage {coverage:g}: {message}": value for message, value in mistakes.items() if value != right
            }
            unknown = f"coverage {coverage:g}: {_unknown(found, right)}"
            yield judge(found, right, named, unknown=unknown, praise="right, at small coverages too")

    return first_wrong(verdicts())


def within_class_auroc(answer: Callable) -> Verdict:
    """``within_class_auroc(score, correct, label)``: the same probability, over pairs of one and the same class.

    >>> within_class_auroc(lambda score, correct, label: 0.4)
    ✗ not right, and no mistake that we know: got 0.4, expected 0.764706
    """
    score, correct = _samples(ties=False)
    label = np.array([2, 1, 1, 0, 0, 0, 0, 0, 0, 2, 2, 1, 1, 2, 1, 3])
    groups = [(score[label == c], correct[label == c]) for c in range(4)]
    wins, sizes = np.array([(_wins(s, g)[0], g.sum() * (~g).sum()) for s, g in groups]).T
    mixed, counts = sizes > 0, np.array([len(s) for s, _ in groups])
    right = (wins * sizes).sum() / sizes.sum()
    found = outcome(answer, score, correct, label)
    return judge(
        found,
        right,
        {
            "pairs of different classes count too": _wins(score, correct)[0],
            "classes count alike: weight each by its number of pairs of a correct with a wrong sample": wins[
                mixed
            ].mean(),
            "weight a class by its pairs of a correct with a wrong sample, not by its samples": (
                np.average(wins[mixed], weights=counts[mixed])
            ),
            "a class without wrong samples has no pairs, and must not count as 0.5": (
                np.average(np.where(mixed, wins, 0.5), weights=np.maximum(sizes, 1))
            ),
            "a class without wrong samples has no pairs, and must not count as 0": wins.mean(),
            "the other way round: correct samples are to score above": 1 - right,
        },
        praise="right: which class a sample is of no longer counts",
        unknown=_unknown(found, right),
    )


def _samples(*, ties: bool) -> tuple[np.ndarray, np.ndarray]:
    """Scores of 16 samples, and whether each is correct."""
    score = np.array([3.1, 0.4, 2.2, 1.9, 0.8, 2.7, 1.1, 0.9, 1.5, 2.9, 0.2, 1.3, 0.6, 2.4, 1.7, 2.0])
    correct = np.array([1, 0, 1, 0, 0, 1, 1, 1, 1, 1, 0, 0, 1, 1, 1, 1], dtype=bool)
    return (np.round(score), correct) if ties else (score, correct)


def _wins(score: np.ndarray, correct: np.ndarray) -> tuple[float, float]:
    """Shares of pairs of a correct with a wrong sample in which the correct one scores higher, and equal."""
    gaps = score[correct][:, None] - score[~correct][None]
    return (float((gaps > 0).mean()), float((gaps == 0).mean())) if gaps.size else (0.0, 0.0)


def _unknown(found: object, right: float) -> str:
    got = f"{float(found):.6g}" if isinstance(found, float | np.floating | np.integer) else repr(found)
    return f"not right, and no mistake that we know: got {got}, expected {right:.6g}"
