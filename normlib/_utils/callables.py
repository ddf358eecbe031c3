"""A function, or an object that is called like one, in words: its name and how it is set."""

from collections.abc import Callable
from dataclasses import is_dataclass
from functools import partial
from typing import Any

from torch import nn

_PLAIN = (bool, int, float, str, tuple, type(None))


def described(function: Callable, *, with_module: bool = False) -> str:
    """Name and settings, in words that are the same in another process, so that two runs can be compared by them.

    A dataclass shows its fields, a ``partial`` what it binds, a network module the numbers and words among its
    attributes; another object is known by its class alone. ``with_module`` tells functions and classes of one name in
    two Python modules apart.

    >>> described(partial(sorted, reverse=True)), described(nn.HuberLoss(delta=2.0))
    ('sorted(reverse=True)', "HuberLoss(reduction='mean', delta=2.0)")
    """
    if isinstance(function, partial):
        bound = [*map(_word, function.args), *(f"{name}={_word(value)}" for name, value in function.keywords.items())]
        return f"{described(function.func, with_module=with_module)}({', '.join(bound)})"
    if is_dataclass(function):
        return repr(function)
    if isinstance(function, nn.Module):
        attributes = {name: value for name, value in vars(function).items() if isinstance(value, _PLAIN)}
        settings = [f"{name}={value!r}" for name, value in attributes.items() if not _is_torchs(name)]
        return f"{type(function).__qualname__}({', '.join(settings)})"
    named = function if hasattr(function, "__qualname__") else type(function)
    return f"{named.__module__}.{named.__qualname__}" if with_module else named.__qualname__


def _word(value: Any) -> str:
    """What a ``partial`` binds: an address in memory, as in many a ``repr``, would differ in another process."""
    if isinstance(value, _PLAIN):
        return repr(value)
    return described(value) if callable(value) else type(value).__qualname__


def _is_torchs(attribute: str) -> bool:
    return attribute.startswith("_") or attribute == "training"
