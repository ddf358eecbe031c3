"""Numbers with intervals from recorded tables, and whether they are what a claim expects.

A part of a claim names a table, chooses rows, and reduces them to one value for each repetition (a seed, say). The mean
of these values has a 95 % interval (Student's t). Of four outcomes the first that applies is the part's: it is
*reproduced* if the whole interval is as expected; there is *no effect* if the interval lies within ±δ of none; the part
is *contradicted* if none of the interval is as expected; else it is *inconclusive*.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from normcourse.experiments.store import Job, Store
from normlib._utils.intervals import LEVEL, half_width, holm_levels, p_value
from normlib.confidence.binary_metrics import auroc_of
from normlib.confidence.rank_correlation import spearman

if TYPE_CHECKING:
    import pandas as pd

REPRODUCED, NO_EFFECT, CONTRADICTED, INCONCLUSIVE = "reproduced", "no effect", "contradicted", "inconclusive"
MISSING = "no record"
POWERS = str.maketrans("−0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
KINDS = {  # of the values that a part may have in the ledger
    **dict.fromkeys(("says", "record", "table", "value", "over", "estimator", "other", "scale", "because"), str),
    "delta": int | float,
    **dict.fromkeys(("expect", "where", "minus"), dict),
    "interval": list,
    "positive": str | dict,
}
EXTREMES = {"largest": np.max, "smallest": np.min}
ESTIMATORS = ("mean", *EXTREMES, "auroc", "spearman")


class Scale(NamedTuple):
    """What no effect is on a scale, how small an effect counts as none, and between what the values lie."""

    none: float
    delta: float
    low: float
    high: float


SCALES = {
    "auroc": Scale(0.5, 0.02, 0.0, 1.0),
    "rank correlation": Scale(0.0, 0.05, -1.0, 1.0),
    "relative": Scale(0.0, 0.02, -math.inf, math.inf),
}
SCALE_OF = {"auroc": "auroc", "spearman": "rank correlation"}  # of an estimator


@dataclass(frozen=True)
class Part:
    """What one recorded number would have to be.

    Args:
        says: What the number is, a few words.
        record: Name of the recorded experiment.
        table: Its table.
        value: Column of the values.
        expect: ``{"above": x}``, ``{"below": x}``, both, or ``{"near": x, "within": tolerance}``.
        where: Rows that count: column and value, or list of values.
        minus: Changes to ``where`` that give the rows to be subtracted, repetition by repetition.
        over: Column that tells the repetitions apart.
        estimator: How the rows of one repetition become a number: ``"mean"``; ``"auroc"`` of ``value`` for the rows
            whose column ``positive`` is true (or has the value that it names); ``"spearman"``, the rank correlation of
            ``value`` with the column ``with``. ``"largest"`` and ``"smallest"`` take the extreme over all repetitions
            and have no interval: for errors and counts. They are NaN, and open, where any value is.
        interval: Columns of an interval that was recorded with the value (over images, say), used if there is only one
            repetition.
        positive: Column, or column and value, of the positive class of ``"auroc"``.
        other: Second column of ``"spearman"``; ``with`` in the file.
        scale: What the numbers are: a key of ``SCALES``, which says what no effect is. ``"relative"`` divides what is
            left after ``minus`` by the size of what was subtracted. ``""``: that there is no effect cannot be found.
        delta: δ, how far from none an effect may be that counts as none, where it is not that of the scale.
        because: The reason for another δ.
    """

    says: str
    record: str
    table: str
    value: str
    expect: dict[str, float]
    where: dict[str, Any] = field(default_factory=dict)
    minus: dict[str, Any] | None = None
    over: str = "seed"
    estimator: str = "mean"
    interval: tuple[str, str] | tuple[()] = ()
    positive: str | dict[str, Any] = ""
    other: str = ""
    scale: str = ""
    delta: float | None = None
    because: str = ""

    def found_on(self) -> Scale | None:
        """The scale of the numbers, with this part's own δ, and as it is for differences."""
        if not self.scale:
            return None
        scale = SCALES[self.scale]
        if self.minus is not None:
            scale = scale._replace(none=0.0, low=scale.low - scale.high, high=scale.high - scale.low)
            scale = SCALES[self.scale] if self.scale == "relative" else scale
        return scale if self.delta is None else scale._replace(delta=float(self.delta))


@dataclass(frozen=True)
class Effect:
    """A number with its interval, and whether it is as expected.

    Args:
        part: What was asked.
        estimate: The mean over repetitions, or their extreme; NaN without a record.
        low: Lower end of the 95 % interval, or of the wider one that a family of comparisons asks for.
        high: Upper end.
        repetitions: How many values it comes from.
        outcome: ``"reproduced"``, ``"no effect"``, ``"contradicted"``, ``"inconclusive"`` or ``"no record"``.
    """

    part: Part
    estimate: float
    low: float
    high: float
    repetitions: int
    outcome: str

    def numbers(self) -> dict[str, float]:
        """The estimate and its interval."""
        return {"estimate": self.estimate, "low": self.low, "high": self.high}

    @property
    def half_width(self) -> float:
        """Half the interval."""
        return (self.high - self.low) / 2

    def as_words(self) -> str:
        """Four significant digits, for people and for comparison."""
        if self.outcome == MISSING:
            return MISSING
        no_interval = self.low == self.high or math.isnan(self.estimate)
        ends = "" if no_interval else f" ({written(self.low)} to {written(self.high)})"
        asked = any(math.isfinite(value) for value in self.part.expect.values())
        return f"{written(self.estimate)}{ends}" + (f", {self.outcome}" if asked else "")


def written(value: float) -> str:
    """Four significant digits, with a power of ten where the number is tiny or huge.

    >>> written(0.123456), written(-7.681e-16), written(1e-10), written(float("inf"))
    ('0.1235', '−7.681 · 10⁻¹⁶', '10⁻¹⁰', 'inf')
    """
    text = f"{value:.4g}".replace("-", "−")
    factor, letter, exponent = text.partition("e")
    if not letter:
        return text
    power = f"10{str(int(exponent.replace('−', '-'))).replace('-', '−').translate(POWERS)}"
    return power if factor == "1" else f"{factor} · {power}"


def part(where: str, entry: Any, *, expects: bool = True) -> Part:
    """A part from its entry in the ledger.

    Args:
        where: What begins the message of an error.
        entry: The entry.
        expects: Whether it must say what is expected; a number that only describes does not.
    """
    if not isinstance(entry, dict):
        raise ValueError(f"{where} has a part that is no mapping: {entry!r}")
    if "quantity" in entry:  # short for one quantity of the theory's verification
        record = {"record": "theory-verification", "table": "quantities", "value": "value"}
        entry = record | {"where": {"quantity": entry["quantity"]}} | entry
        del entry["quantity"]
    given = {("other" if key == "with" else key): value for key, value in entry.items()}
    if unknown := sorted(map(str, given.keys() - KINDS)):
        raise ValueError(f"{where} has a part with unknown keys {unknown}")
    if not expects:
        given.setdefault("expect", {"above": -math.inf})
    if missing := sorted({"says", "record", "table", "value", "expect"} - set(given)):
        raise ValueError(f"{where} has a part that lacks {missing}")
    for name, value in given.items():
        if not isinstance(value, KINDS[name]):
            raise ValueError(f"{where}: {name} cannot be {value!r}")
    if given.get("estimator", "mean") not in ESTIMATORS:
        raise ValueError(f"{where}: estimator must be one of {', '.join(ESTIMATORS)}, got {given['estimator']!r}")
    expect = given["expect"]
    numbers = isinstance(expect, dict) and all(type(value) in (int, float) for value in expect.values())
    if not numbers or set(expect) not in ({"near", "within"}, {"above"}, {"below"}, {"above", "below"}):
        raise ValueError(
            f"{where}: expect must be above and/or below, or near and within, with numbers; got {expect!r}"
        )
    given["interval"] = tuple(map(str, given.get("interval", ())))
    if len(given["interval"]) not in (0, 2):
        raise ValueError(f"{where}: interval must be two columns, got {given['interval']!r}")
    given.setdefault("scale", SCALE_OF.get(given.get("estimator", ""), ""))
    if given["scale"] not in ("", *SCALES):
        raise ValueError(f"{where}: scale must be one of {', '.join(SCALES)}, got {given['scale']!r}")
    made = Part(**given)
    for wrong, words in (
        (made.estimator == "spearman" and not made.other, "spearman needs a second column, with"),
        (made.estimator == "auroc" and not made.positive, "auroc needs the class to find, positive"),
        (made.scale == "relative" and made.minus is None, "a relative difference needs what is subtracted, minus"),
        (
            made.delta is not None and not (made.scale and made.because),
            "another delta needs a scale and a reason, because",
        ),
        (made.interval and made.minus is not None, "interval is that of a value, not of a difference: leave out minus"),
    ):
        if wrong:
            raise ValueError(f"{where}: {words}")
    return made


class RecordedTables:
    """Columns of recorded tables, each read once.

    Args:
        results: Folder of the recorded experiments.
    """

    def __init__(self, results: Path):
        self._store = Store(results)
        self._jobs: dict[str, list[Job]] = {}
        self._read: dict[tuple, pd.DataFrame | None] = {}

    def jobs(self, record: str, where: dict[str, Any]) -> list[Job]:
        """The recorded jobs of an experiment that can have such rows, each by what tells it from the others."""
        if record not in self._jobs:
            self._jobs[record] = self._store.jobs(record)
        return [job for job in self._jobs[record] if all(job[key] in _listed(where[key]) for key in where.keys() & job)]

    def rows(self, record: str, table: str, columns: set[str], where: dict[str, Any]) -> pd.DataFrame:
        """Rows of a table of all jobs that can have such rows; no rows if none has the table."""
        import pandas as pd

        key = record, table, *sorted(columns)
        if key not in self._read:
            self._read[key] = self._store.table(record, table, sorted(columns))
        found = self._read[key]
        if found is None or not self.jobs(record, where):
            return pd.DataFrame(columns=sorted(columns))
        return found


def measure(part: Part, tables: RecordedTables) -> Effect:
    """The number of a part; without a record, or without rows in it that the part asks for, there is none.

    Raises:
        ValueError: The record has the table, but not the columns, or only NaN.
    """
    return _effect(part, _numbers(part, tables), tables, LEVEL)


def measure_family(parts: Sequence[Part], tables: RecordedTables) -> list[Effect]:
    """The numbers of several parts that are looked at together, with the intervals that Holm's procedure asks for.

    Raises:
        ValueError: As :func:`measure`.
    """
    numbers = [_numbers(part, tables) for part in parts]
    tested = [i for i, values in enumerate(numbers) if len(values) > 1 and parts[i].found_on() is not None]
    levels = dict(zip(tested, holm_levels([_p_value(parts[i], numbers[i]) for i in tested]), strict=True))
    return [
        _effect(part, values, tables, levels.get(i, LEVEL))
        for i, (part, values) in enumerate(zip(parts, numbers, strict=True))
    ]


def _numbers(part: Part, tables: RecordedTables) -> np.ndarray:
    """One number for each repetition, those that are NaN left out unless the worst is asked for."""
    values = _values(part, part.where, tables)
    if part.minus is not None:
        less = _values(part, part.where | part.minus, tables)
        shared = [key for key in values if key in less]
        values = {key: values[key] - less[key] for key in shared}
        if part.scale == "relative":
            values = {key: values[key] / abs(less[key]) for key in shared}
    numbers = np.array([*values.values()], dtype=float)
    if len(numbers) and np.isnan(numbers).all():
        raise ValueError(f"{part.says!r} has no number in the record {part.record}")
    return numbers if part.estimator in EXTREMES else numbers[~np.isnan(numbers)]


def _p_value(part: Part, numbers: np.ndarray) -> float:
    scale = part.found_on()
    none = 0.0 if scale is None else scale.none
    return p_value(float(numbers.mean()) - none, float(numbers.std(ddof=1)), len(numbers))


def _effect(part: Part, numbers: np.ndarray, tables: RecordedTables, level: float) -> Effect:
    if not len(numbers):
        return Effect(part, math.nan, math.nan, math.nan, 0, MISSING)
    estimate, low, high = _summary(numbers, part.estimator, level)
    if part.interval and len(numbers) == 1:
        low, high = _chosen(part, part.where, tables)[list(part.interval)].iloc[0]
    scale = part.found_on()
    if scale is not None:
        low, high = (min(max(end, scale.low), scale.high) for end in (low, high))
    return Effect(part, estimate, float(low), float(high), len(numbers), _outcome(low, high, part.expect, scale))


def _summary(numbers: np.ndarray, estimator: str, level: float) -> tuple[float, float, float]:
    if estimator in EXTREMES:
        extreme = float(EXTREMES[estimator](numbers))  # NaN, if there is one
        return extreme, extreme, extreme
    mean = float(numbers.mean())
    if len(numbers) == 1:  # one run has no interval of its own: anything is possible
        return mean, -math.inf, math.inf
    half = float(half_width(numbers.std(ddof=1), len(numbers), level))
    return mean, mean - half, mean + half


def _outcome(low: float, high: float, expect: dict[str, float], scale: Scale | None) -> str:
    least, most = expect.get("above", -math.inf), expect.get("below", math.inf)
    if "near" in expect:
        least, most = expect["near"] - expect["within"], expect["near"] + expect["within"]
    if least < low and high < most:
        return REPRODUCED
    if scale is not None and scale.none - scale.delta <= low and high <= scale.none + scale.delta:
        return NO_EFFECT
    return CONTRADICTED if high <= least or low >= most else INCONCLUSIVE


def jobs(part: Part, where: dict[str, Any], tables: RecordedTables) -> list[Job]:
    """The recorded runs whose table has rows that a part asks for."""
    rows = _chosen(part, where, tables)
    return [
        job
        for job in tables.jobs(part.record, where)
        if np.logical_and.reduce([rows[key] == job[key] for key in job] or [np.ones(len(rows), dtype=bool)]).any()
    ]


def _chosen(part: Part, where: dict[str, Any], tables: RecordedTables) -> pd.DataFrame:
    positive = _positive(part)
    columns = {part.value, part.over, *where, *positive, *part.interval} | ({part.other} if part.other else set())
    rows = tables.rows(part.record, part.table, columns, where)
    for column, wanted in where.items():
        rows = rows[rows[column].isin(_listed(wanted))]
    return rows


def _positive(part: Part) -> dict[str, Any]:
    """Columns and values of the positive class."""
    return part.positive if isinstance(part.positive, dict) else {part.positive: True} if part.positive else {}


def _values(part: Part, where: dict[str, Any], tables: RecordedTables) -> dict[Any, float]:
    """One number for each repetition."""
    rows = _chosen(part, where, tables)
    return {repetition: _reduced(part, group) for repetition, group in rows.groupby(part.over)}


def _reduced(part: Part, rows: pd.DataFrame) -> float:
    if part.estimator == "auroc":
        chosen = np.logical_and.reduce(
            [rows[column].isin(_listed(wanted)) for column, wanted in _positive(part).items()]
        )
        return _auroc(rows[part.value].to_numpy(), chosen)
    if part.estimator == "spearman":
        return _spearman(rows[part.value].to_numpy(), rows[part.other].to_numpy())
    if part.estimator in EXTREMES:
        return float(EXTREMES[part.estimator](rows[part.value].to_numpy()))
    return float(rows[part.value].mean())


def _listed(wanted: Any) -> list[Any]:
    return wanted if isinstance(wanted, list) else [wanted]


def _auroc(scores: np.ndarray, positive: np.ndarray) -> float:
    """Chance that a positive scores above another; NaN if there is only one class, or a score is NaN."""
    return math.nan if np.isnan(scores).any() else auroc_of(scores, positive)


def _spearman(x: np.ndarray, y: np.ndarray) -> float:
    """Rank correlation; NaN if a value is NaN, or all values of one side are equal."""
    if np.isnan(x).any() or np.isnan(y).any() or np.ptp(x) == 0 or np.ptp(y) == 0:
        return math.nan
    return spearman(x, y).value
