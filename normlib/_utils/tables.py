"""What a table of samples must hold before anything is computed from it."""

from __future__ import annotations

import warnings
from collections.abc import Hashable, Iterable
from typing import TYPE_CHECKING

import numpy as np

from normlib._utils.arguments import check_type

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import ArrayLike


RUN_COLUMNS = ("condition", "lr", "seed", "epoch")  # tell the runs of an experiment apart


def outcome_of(
    table: pd.DataFrame, outcome: str | ArrayLike, *, name: str = "outcome", binary: bool = False
) -> np.ndarray:
    """An outcome as float64 of shape ``(len(table),)``: a column of the table, or values row by row."""
    import pandas as pd

    values: ArrayLike
    if isinstance(outcome, str):
        check_columns(table, [outcome])
        name, values = f"{name} {outcome!r}", table[outcome]
    else:
        values = outcome
        if isinstance(values, pd.Series) and not values.index.equals(table.index):
            raise ValueError(f"{name} must have the index of table, else rows do not match; join or reset both first")
        if np.shape(values) != (len(table),):
            raise ValueError(f"{name} must have one value for each of {len(table)} rows, got shape {np.shape(values)}")
    numbers = finite(name, values)
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
                "than once is no independent sample. Choose one, or use confidence.per_run"
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
    numbers_of(f"{name}: {column!r}", table[column])


def tell_nan(what: str, why: str) -> float:
    """NaN, with a warning that names what cannot be told and why."""
    warnings.warn(f"{what} is NaN: {why}", stacklevel=3)
    return np.nan


def numbers_of(name: str, values: ArrayLike) -> np.ndarray:
    try:
        return np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError):
        raise ValueError(f"{name} must be numbers or booleans, got {np.asarray(values).dtype}") from None


def finite(name: str, values: ArrayLike) -> np.ndarray:
    numbers = numbers_of(name, values)
    if wrong := int((~np.isfinite(numbers)).sum()):
        raise ValueError(
            f"{name} must be finite, got {wrong} of {len(numbers)} values NaN or infinite; drop those rows"
        )
    return numbers
