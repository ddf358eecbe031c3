"""From a score to a probability of being right: an isotonic map, and how far it can be trusted."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from normlib._utils.arguments import check_count, check_seed, check_type
from normlib._utils.tables import outcome_of
from normlib.confidence.bootstrap import interval
from normlib.confidence.curves import bin_places, curve
from normlib.confidence.scores import oriented_scores, signs_of

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import ArrayLike
    from sklearn.isotonic import IsotonicRegression

CHANCE_DRAWS = 200  # outcomes drawn as if the probabilities were exact


@dataclass(frozen=True)
class Calibration:
    """A map from a score to the chance of being right, fitted on one half of the samples and judged on the other.

    Args:
        score: The column that was mapped.
        model: The map; ``model.predict(values)`` turns values of the column into probabilities.
        reliability: The other half, in bins of predicted probability: the columns of :func:`curve`, whose ``value`` is
            the share that was right, and ``predicted``, the mean probability.
        ece: Expected calibration error on the other half: gap between ``predicted`` and ``value``, mean over samples.
        chance_low, chance_high: Where 95 % of these errors would lie if the probabilities were exactly right; not at
            0, for bins are noisy.
        brier: Mean squared difference between probability and outcome on the other half, low is good.
        brier_constant: The same for a map that always says the first half's share of right ones. It is calibrated,
            and knows nothing: the score is worth as much as ``brier`` is below.
    """

    score: str
    model: IsotonicRegression
    reliability: pd.DataFrame
    ece: float
    chance_low: float
    chance_high: float
    brier: float
    brier_constant: float


def calibrate(
    table: pd.DataFrame, correct: str | ArrayLike, score: str = "norm_projector", *, bins: int = 10, seed: int = 0
) -> Calibration:
    """Map a score to the chance of being right, by isotonic regression on a random half; judge it on the other half.

    Args:
        table: One row for each sample of one run.
        correct: True or false: a column such as ``"knn_correct"``, or values row by row.
        score: One of ``SCORES``, so that it is known which way it points; the map rises with familiarity.
        bins: Bins of about equal numbers of samples in which predicted and right are compared, 2 or more.
        seed: Of the halves and the resamples.

    Returns:
        Map, reliability and errors, see :class:`Calibration`.

    Raises:
        ValueError: As :func:`oriented_scores`; ``correct`` does not match the table or is not true or false; score or
            outcome is constant in the half that is fitted; ``bins`` is below 2.

    Source: Zadrozny & Elkan 2002 (isotonic map), Naeini et al. 2015 (calibration error).

    >>> import pandas as pd
    >>> table = pd.DataFrame({"norm": range(400), "knn_correct": [i % 10 < 4 + i // 100 for i in range(400)]})
    >>> found = calibrate(table, "knn_correct", "norm", bins=4)
    >>> found.ece < found.chance_high, found.brier < found.brier_constant
    (True, True)
    """
    from sklearn.isotonic import IsotonicRegression

    check_type(str, score=score)
    check_count("bins", bins, at_least=2)
    check_seed(seed)
    sign = signs_of(table, score)[score]
    x = sign * oriented_scores(table, score)[score].to_numpy()
    y = outcome_of(table, correct, name="correct", binary=True)
    random = np.random.default_rng(seed)
    first, second = np.array_split(random.permutation(len(table)), 2)
    for name, values in ((f"score {score!r}", x[first]), ("correct", y[first])):
        if len(values) == 0 or values.min() == values.max():
            raise ValueError(f"{name} must differ between the {len(values)} samples of table that the map is fitted on")
    model = IsotonicRegression(y_min=0, y_max=1, increasing=sign > 0, out_of_bounds="clip").fit(x[first], y[first])
    predicted, right = model.predict(x[second]), y[second]
    reliability, ece = _reliability(predicted, right, bins, seed)
    if_exact = random.random((CHANCE_DRAWS, len(predicted))) < predicted
    low, high = interval(_gaps(predicted, if_exact, bins))
    brier = ((predicted - right) ** 2).mean(), ((y[first].mean() - right) ** 2).mean()
    return Calibration(score, model, reliability, ece, float(low), float(high), *map(float, brier))


def _reliability(predicted: np.ndarray, right: np.ndarray, bins: int, seed: int) -> tuple[pd.DataFrame, float]:
    import pandas as pd

    table = pd.DataFrame({"probability": predicted, "right": right})
    drawn = curve(table, "right", "probability", bins=bins, seed=seed)
    places, _ = bin_places(predicted, bins, "count")
    means = np.bincount(places, weights=predicted, minlength=len(drawn)) / drawn["count"]
    return drawn.assign(predicted=means), float(_gaps(predicted, right[None], bins)[0])


def _gaps(predicted: np.ndarray, right: np.ndarray, bins: int) -> np.ndarray:
    """Expected calibration error of each row of outcomes, shape ``(rows, len(predicted))``."""
    places, _ = bin_places(predicted, bins, "count")
    members = places == np.arange(places.max() + 1)[:, None]
    return np.abs((right - predicted) @ members.T).sum(axis=1) / len(predicted)
