"""Scores of confidence: which way each points, and all of them turned the same way."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, NamedTuple

from normlib._utils.arguments import names_of
from normlib._utils.tables import check_columns, check_one_run, finite

if TYPE_CHECKING:
    import pandas as pd


class Score(NamedTuple):
    """Which way a score points, and what a legend calls it."""

    sign: int
    label: str


SCORES = {
    "norm": Score(+1, "norm ‖z‖"),
    "norm_projector": Score(+1, "norm ‖z‖"),
    "norm_predictor": Score(+1, "norm behind the predictor"),
    "norm_backbone": Score(+1, "norm ‖h‖"),
    "knn_margin": Score(+1, "kNN margin"),
    "kth_distance": Score(-1, "distance to neighbour K"),
    "probe_max_softmax": Score(+1, "largest softmax"),
    "probe_energy": Score(+1, "energy of the probe"),
    "mahalanobis": Score(-1, "Mahalanobis distance"),
    "view_spread": Score(-1, "spread of views"),
}
"""The one table of orientation: sign +1 where high means familiar, −1 where high means novel."""


def oriented_scores(table: pd.DataFrame, scores: str | Iterable[str] | Mapping[str, int] | None = None) -> pd.DataFrame:
    """Scores turned so that high always means familiar: distances change their sign.

    Args:
        table: One row for each sample of one run.
        scores: One column or several, of those in ``SCORES``; for columns of your own a mapping from name to +1 (high
            = familiar) or −1 (high = novel). By default all of ``SCORES`` that the table has.

    Returns:
        One float64 column for each score, with the table's index.

    Raises:
        TypeError: ``table`` is no DataFrame, or ``scores`` holds what is no name.
        ValueError: ``scores`` names none, ``table`` is empty or holds several runs, whose rows are not independent; a
            column is missing, is not known which way it points, or is not finite.

    >>> import pandas as pd
    >>> oriented_scores(pd.DataFrame({"norm": [1.0, 2.0], "kth_distance": [0.5, 0.25]})).to_numpy().tolist()
    [[1.0, -0.5], [2.0, -0.25]]
    """
    check_one_run(table)
    signs = signs_of(table, scores)
    check_columns(table, signs)
    return table[list(signs)].apply(lambda column: signs[column.name] * finite(f"scores: {column.name!r}", column))


def signs_of(table: pd.DataFrame, scores: str | Iterable[str] | Mapping[str, int] | None) -> dict[str, int]:
    """Which way each of the chosen scores points."""
    if scores is None:
        if not (found := [name for name in SCORES if name in table]):
            raise ValueError(f"table has none of the columns {', '.join(SCORES)}; name its scores with scores=")
        scores = found
    if isinstance(scores, Mapping):
        if wrong := {name: sign for name, sign in scores.items() if sign not in (-1, 1)}:
            raise ValueError(f"scores must map a column to +1 (high = familiar) or -1 (high = novel), got {wrong}")
        scores = dict(scores)
        if not scores:
            raise ValueError("scores must name one column or more, got none")
        return scores
    names = names_of("scores", scores)
    if not names:
        raise ValueError("scores must name one column or more, got none")
    if unknown := [name for name in names if name not in SCORES]:
        raise ValueError(
            f"scores: which way {', '.join(map(repr, unknown))} points is not known; known are {', '.join(SCORES)}. "
            f"For a column of your own pass a mapping, {{{unknown[0]!r}: +1}} where high means familiar, else -1"
        )
    return {name: SCORES[name].sign for name in names}
