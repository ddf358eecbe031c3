"""Several runs: a function of one run's table for each of them, and intervals over seeds."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

import numpy as np

from normlib._utils.arguments import check_callable, names_of
from normlib._utils.intervals import half_width
from normlib._utils.tables import RUN_COLUMNS, check_columns, check_numbers, check_table, tell_nan

if TYPE_CHECKING:
    import pandas as pd


def per_run(
    table: pd.DataFrame,
    function: Callable[..., pd.DataFrame],
    *arguments: Any,
    by: str | Iterable[str] | None = None,
    **options: Any,
) -> pd.DataFrame:
    """A function of a per-sample table, such as :func:`detection`, for each run in a table of many.

    Args:
        table: Per-sample table of several runs.
        function: Takes the table of one run; gives a table.
        arguments: Passed on, after the table. Outcomes must be columns: values row by row would not be divided.
        by: Column or columns that tell the runs apart; by default those of ``condition``, ``lr``, ``seed`` and
            ``epoch`` that the table has. Further ones, such as ``label``, divide each run. NaN is a value as others.
        options: Passed on.

    Returns:
        The results one below the other, with the columns ``by`` in front.

    Raises:
        TypeError: ``table`` is no DataFrame, ``function`` no function, or ``by`` no name or names.
        ValueError: ``table`` is empty, lacks a column, or has none that tells runs apart; or as ``function``.

    >>> import pandas as pd
    >>> from normlib import confidence
    >>> table = pd.DataFrame({"seed": [0] * 3 + [1] * 3, "norm": [3, 2, 1] * 2, "knn_correct": [1, 1, 0, 0, 1, 1]})
    >>> per_run(table, confidence.detection, "knn_correct")[["seed", "auroc"]].to_numpy().tolist()
    [[0.0, 1.0], [1.0, 0.0]]
    """
    import pandas as pd

    check_table(table)
    check_callable(function=function)
    columns = [name for name in RUN_COLUMNS if name in table] if by is None else names_of("by", by)
    check_columns(table, columns)
    if not columns:
        raise ValueError(
            f"table has none of the columns {', '.join(RUN_COLUMNS)}; name those that tell runs apart in by="
        )
    parts = []
    for values, run in table.groupby(columns, sort=False, dropna=False):
        found = function(run, *arguments, **options)
        parts.append(pd.DataFrame(dict(zip(columns, values, strict=True)), index=found.index).join(found))
    return pd.concat(parts, ignore_index=True)


def mean_over_seeds(
    frame: pd.DataFrame, value: str, by: str | Iterable[str] = (), *, seed: str = "seed"
) -> pd.DataFrame:
    """Mean of a number over repeated runs, with the 95 % interval of that mean (Student's t).

    This is the interval that speaks of other trainings. One within a run, such as that of :func:`curve`, speaks of
    other samples under the same network.

    Args:
        frame: One row for each group and seed, such as :func:`per_run` gives.
        value: Column to average.
        by: Column or columns of the groups, such as ``"score"``; NaN is a value as others.
        seed: Column that numbers the repetitions.

    Returns:
        One row for each group, the columns of ``by``, ``value`` (the mean), ``low``, ``high``, ``seeds``. Groups keep
        their order.

    Raises:
        TypeError: ``frame`` is no DataFrame, or ``by`` no name or names.
        ValueError: ``frame`` is empty, lacks a column, ``value`` is not one of numbers, or a seed stands twice in a
            group: name more columns in ``by``.

    Warns:
        A group has one seed only, or a value is NaN: its interval is NaN.

    >>> import pandas as pd
    >>> runs = pd.DataFrame({"seed": [0, 1, 2], "auroc": [0.6, 0.7, 0.8]})
    >>> mean_over_seeds(runs, "auroc").round(3).to_numpy().tolist()
    [[0.7, 0.452, 0.948, 3.0]]
    """
    import pandas as pd

    columns = names_of("by", by)
    check_table(frame, "frame")
    check_columns(frame, [value, seed, *columns], "frame")
    check_numbers(frame, value, "frame")
    if (twice := frame.duplicated([*columns, seed])).any():
        first = frame.loc[twice, [*columns, seed]].iloc[0].to_dict()
        raise ValueError(f"frame must have one row for each group and {seed!r}, got several for {first}; see by=")
    groups = frame.groupby(columns, sort=False, dropna=False) if columns else [((), frame)]
    rows = []
    for names, group in groups:
        values, half = group[value].to_numpy(np.float64), np.nan
        if len(values) < 2 or not np.isfinite(values).all():
            tell_nan(f"interval of {value!r} {names}", f"it has the {len(values)} values {values.tolist()[:5]}")
        else:
            half = half_width(values.std(ddof=1), len(values))
        mean = values.mean()
        rows.append([*names, mean, mean - half, mean + half, len(values)])
    return pd.DataFrame(rows, columns=[*columns, "value", "low", "high", "seeds"])
