"""What an argument must be, and the error that names it: types, numbers, counts, seeds, names, paths."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable
from numbers import Integral, Real
from pathlib import Path
from typing import Any


def check_type(kind: type | tuple[type, ...], **values: Any) -> None:
    """Refuse what is not of a type.

    >>> check_type(str, name=3)
    Traceback (most recent call last):
    TypeError: name must be a str, got int
    """
    for name, value in values.items():
        if not isinstance(value, kind):
            kinds = " or ".join(each.__name__ for each in (kind if isinstance(kind, tuple) else (kind,)))
            raise TypeError(f"{name} must be a {kinds}, got {type(value).__name__}")


def check_callable(**values: Any) -> None:
    """Refuse what cannot be called."""
    for name, value in values.items():
        if not callable(value):
            raise TypeError(f"{name} must be a function, got {type(value).__name__}")


def check_number(
    name: str,
    value: Any,
    *,
    above: float | None = None,
    at_least: float | None = None,
    below: float | None = None,
    at_most: float | None = None,
    hint: str = "",
) -> None:
    """Refuse what is not a finite number within its bounds; NumPy's scalars are numbers, a bool is none.

    >>> check_number("momentum", 1, at_least=0, below=1)
    Traceback (most recent call last):
    ValueError: momentum must be a number ≥ 0 and < 1, got 1
    """
    number = isinstance(value, Real) and not isinstance(value, bool) and _is_finite(value)
    if not (
        number
        and (above is None or value > above)
        and (at_least is None or value >= at_least)
        and (below is None or value < below)
        and (at_most is None or value <= at_most)
    ):
        bounds = _bounds({">": above, "≥": at_least, "<": below, "≤": at_most})
        raise ValueError(f"{name} must be a number{bounds}, got {value!r}{'; ' * bool(hint)}{hint}")


def check_count(name: str, value: Any, *, at_least: int = 1, at_most: int | None = None, hint: str = "") -> None:
    """Refuse what is not an integer within its bounds; NumPy's integers are integers, a bool is none.

    >>> check_count("draws", 2.5)
    Traceback (most recent call last):
    ValueError: draws must be an integer ≥ 1, got 2.5
    """
    integer = isinstance(value, Integral) and not isinstance(value, bool)
    if not (integer and value >= at_least and (at_most is None or value <= at_most)):
        bounds = _bounds({"≥": at_least, "≤": at_most})
        raise ValueError(f"{name} must be an integer{bounds}, got {value!r}{'; ' * bool(hint)}{hint}")


def check_seed(seed: Any) -> None:
    """Refuse what cannot seed every generator: NumPy takes no negative number, torch none of more than 64 bits."""
    check_count("seed", seed, at_least=0, at_most=2**63 - 1)


def check_choice(name: str, value: Any, choices: Iterable[str]) -> None:
    """Refuse all but some words.

    >>> check_choice("by", "size", ("count", "width"))
    Traceback (most recent call last):
    ValueError: by must be one of 'count', 'width', got 'size'
    """
    choices = list(choices)
    if not isinstance(value, str) or value not in choices:
        raise ValueError(f"{name} must be one of {', '.join(map(repr, choices))}, got {value!r}")


def check_flags(**values: Any) -> None:
    """Refuse what is neither True nor False: the word ``"false"`` would count as true."""
    for name, value in values.items():
        if not isinstance(value, bool):
            raise ValueError(f"{name} must be True or False, got {value!r}")


def listed(name: str, values: Any) -> list:
    """The entries of an argument that holds several.

    >>> listed("seeds", 3)
    Traceback (most recent call last):
    TypeError: seeds must hold several values, as a list does; got 3
    """
    values = values.tolist() if hasattr(values, "tolist") else values  # arrays and tensors hold plain numbers
    if not isinstance(values, Iterable):
        raise TypeError(f"{name} must hold several values, as a list does; got {values!r}")
    return list(values)


def names_of(name: str, values: Any) -> list[str]:
    """The names in an argument that is one or holds several.

    >>> names_of("layers", "encoder"), names_of("layers", ("encoder", "head"))
    (['encoder'], ['encoder', 'head'])
    """
    names = [values] if isinstance(values, str) else listed(name, values)
    for each in names:
        if not isinstance(each, str):
            raise TypeError(f"{name} must be a name or several, got {each!r}")
    return names


def path_of(name: str, path: Any) -> Path:
    """An argument that is a path, as a word or a ``Path``."""
    check_type((str, os.PathLike), **{name: path})
    return Path(path)


def _is_finite(value: Real) -> bool:
    """Whether a float can hold a number."""
    try:
        return math.isfinite(value)
    except OverflowError:
        return False


def _bounds(limits: dict[str, float | None]) -> str:
    given = [f"{sign} {limit}" for sign, limit in limits.items() if limit is not None]
    return f" {' and '.join(given)}" if given else ""
