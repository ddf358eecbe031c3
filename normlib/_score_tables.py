"""What a per-sample table must hold before anything is computed from it, and which way each score points."""

from __future__ import annotations

import warnings
from collections.abc import Hashable, Iterable, Mapping
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from normlib._arguments import check_type, names_of

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import ArrayLike

RUN_COLUMNS = ("condition", "lr", "seed", "epoch")  # tell the runs of an experiment apart


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
}
"""The one table of orientation: sign +1 where high means familiar, −1 where high means novel."""


def familiarity(table: pd.DataFrame, scores: str | Iterable[str] | Mapping[str, int] | None = None) -> pd.DataFrame:
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
    >>> familiarity(pd.DataFrame({"norm": [1.0, 2.0], "kth_distance": [0.5, 0.25]})).to_numpy().tolist()
    [[1.0, -0.5], [2.0, -0.25]]
    """
    check_one_run(table)
    signs = signs_of(table, scores)
    check_columns(table, signs)
    return table[list(signs)].apply(lambda column: signs[column.name] * _finite(f"scores: {column.name!r}", column))


def outcome_of(
    table: pd.DataFrame, outcome: str | ArrayLike, *, name: str = "outcome", binary: bool = False
) -> np.ndarray:
    """An outcome as float64 of shape ``(len(table),)``: a column of the table, or values row by row."""
    import pandas as pd

    if isinstance(outcome, str):
        check_columns(table, [outcome])
        name, values = f"{name} {outcome!r}", table[outcome]
    else:
        values = outcome
        if isinstance(values, pd.Series) and not values.index.equals(table.index):
            raise ValueError(f"{name} must have the index of table, else rows do not match; join or reset both first")
        if np.shape(values) != (len(table),):
            raise ValueError(f"{name} must have one value for each of {len(table)} rows, got shape {np.shape(values)}")
    numbers = _finite(name, values)
    if binary and not np.isin(numbers, (0, 1)).all():
        found = np.unique(numbers)[:5].tolist()
        raise ValueError(
            f"{name} must be true or false (1 or 0), as correct or familiar is, got values such as {found}"
        )
    return numbers


def check_one_run(table: pd.DataFrame) -> None:
    """Refuse an empty table, and one in which a sample may stand several times."""
    check_table(table)
    for column in RUN_COLUMNS:
        if column in table and table[column].nunique(dropna=False) > 1:
            some = table[column].unique()[:4].tolist()
            raise ValueError(
                f"table must hold one run, got several in column {column!r}: {some}; an image that stands in it more "
                "than once is no independent sample. Choose one, or use confidence.each_run"
            )


def check_table(table: pd.DataFrame, name: str = "table") -> None:
    """Refuse what is no table, and one without rows."""
    check_columns(table, [], name)
    if len(table) == 0:
        raise ValueError(f"{name} must have at least one row, got none")


def check_columns(table: pd.DataFrame, wanted: Iterable[str], name: str = "table") -> None:
    """Refuse what is no table, and name the columns that it lacks."""
    import pandas as pd

    check_type(pd.DataFrame, **{name: table})
    if missing := [column for column in wanted if not isinstance(column, Hashable) or column not in table]:
        raise ValueError(f"{name} has no column {', '.join(map(repr, missing))}; it has {', '.join(map(str, table))}")


def check_numbers(table: pd.DataFrame, column: str, name: str = "table") -> None:
    """Refuse a column of other things than numbers and booleans."""
    _numbers(f"{name}: {column!r}", table[column])


def tell_nan(what: str, why: str) -> float:
    """NaN, with a warning that names what cannot be told and why."""
    warnings.warn(f"{what} is NaN: {why}", stacklevel=3)
    return np.nan


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


def _numbers(name: str, values: ArrayLike) -> np.ndarray:
    try:
        return np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError):
        raise ValueError(f"{name} must be numbers or booleans, got {np.asarray(values).dtype}") from None


def _finite(name: str, values: ArrayLike) -> np.ndarray:
    numbers = _numbers(name, values)
    if wrong := int((~np.isfinite(numbers)).sum()):
        raise ValueError(
            f"{name} must be finite, got {wrong} of {len(numbers)} values NaN or infinite; drop those rows"
        )
    return numbers
