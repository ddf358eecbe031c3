"""Losses, norm trackers and interventions for embedding norms in self-supervised learning.

Submodules load on first use, so ``import normlib`` is instant; ``normlib.losses`` imports torch when first touched.

>>> import normlib
>>> normlib.losses.info_nce.__name__
'info_nce'
"""

import importlib
from types import ModuleType

__version__ = "0.1.0"

__all__ = [
    "augment",
    "cli",
    "confidence",
    "data",
    "dynamics",
    "evaluation",
    "gradients",
    "interventions",
    "losses",
    "models",
    "plotting",
    "simulations",
    "tracking",
    "training",
]


def __getattr__(name: str) -> ModuleType:
    if name in __all__:
        return importlib.import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}; its submodules are {', '.join(__all__)}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
