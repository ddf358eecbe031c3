"""Figures that the reader can move: live in Jupyter and Colab, and without a kernel on the pages of the book.

Each is a widget with one small ES module beside it. Show it as the last expression of a cell::

    from normcourse import widgets

    widgets.DragEmbedding(eta=0.2)

What the reader moves can be read back: ``widget.z``.

>>> from normcourse import widgets
>>> widgets.DragEmbedding(z=[3.0, 4.0]).z
[3.0, 4.0]
"""

import importlib
from typing import Any

__all__ = ["ConfidenceDial", "CutAndScale", "DragEmbedding", "Race", "Sphere"]

_HOMES = {
    "ConfidenceDial": "confidence_dial",
    "CutAndScale": "cut_and_scale",
    "DragEmbedding": "drag_embedding",
    "Race": "race",
    "Sphere": "sphere",
}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}; its figures are {', '.join(__all__)}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
