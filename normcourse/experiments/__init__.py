"""Named experiments and their recorded runs: small tables under ``results/``, each with its provenance.

What is offered here loads when it is first used, so that the claims ledger, which reads the store, needs no PyTorch.
"""

import importlib
from typing import Any

_HOMES = {
    "EXPERIMENTS": "registry",
    "Experiment": "base",
    "Tables": "store",
    **dict.fromkeys(("load", "load_or_run", "missing", "provenance", "record", "smoke"), "runner"),
    "reproduce": "reproduction",
}
__all__ = [
    "EXPERIMENTS",
    "Experiment",
    "Tables",
    "load",
    "load_or_run",
    "missing",
    "provenance",
    "record",
    "reproduce",
    "smoke",
]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}; it has {', '.join(__all__)}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
