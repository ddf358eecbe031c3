"""Progress of long work with the time left: rich in a terminal, plain text in a notebook or a log."""

from __future__ import annotations

import importlib.util
import math
import os
import sys
import time
from typing import Any

REFRESH_SECONDS = 2.0


class Progress:
    """A bar of ``total`` steps; the words beside it are renewed every two seconds only, for which a GPU is waited for.

    Args:
        total: Steps of the whole run.
        done: Steps that an earlier part of the run made.
        shown: Whether to show anything at all; the environment variable ``TQDM_DISABLE``, if it is set, says no.
    """

    def __init__(self, total: int, *, done: int = 0, shown: bool = True):
        shown = shown and not os.environ.get("TQDM_DISABLE")
        self._bar = _Silent() if not shown else _Rich(total, done) if _in_terminal() else _Plain(total, done)
        self._silent = not shown
        self._last = -math.inf

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *exception: object) -> None:
        self._bar.close()

    def due(self) -> bool:
        """Whether the words beside the bar are old enough to be renewed."""
        return not self._silent and time.monotonic() - self._last > REFRESH_SECONDS

    def advance(self, words: str | None = None) -> None:
        """One more step; ``words`` replace those beside the bar."""
        if words is not None:
            self._last = time.monotonic()
        self._bar.advance(words)


class _Silent:
    def advance(self, words: str | None) -> None:
        pass

    def close(self) -> None:
        pass


class _Plain:
    """tqdm as text: its widget would leave something behind in a saved notebook."""

    def __init__(self, total: int, done: int):
        from tqdm import tqdm

        self._bar = tqdm(total=total, initial=done, unit="step", leave=False, mininterval=REFRESH_SECONDS)

    def advance(self, words: str | None) -> None:
        self._bar.update()
        if words is not None:
            self._bar.set_postfix_str(words)

    def close(self) -> None:
        self._bar.refresh()
        self._bar.close()


class _Rich:
    def __init__(self, total: int, done: int):
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
        from rich.progress import Progress as Bar

        columns = (BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[words]}"), TimeElapsedColumn())
        left = (TextColumn("left"), TimeRemainingColumn())
        self._bar = Bar(*columns, *left, console=Console(stderr=True), transient=True)
        self._bar.start()
        self._task = self._bar.add_task("", total=total, completed=done, words="")

    def advance(self, words: str | None) -> None:
        fields: dict[str, Any] = {} if words is None else {"words": words}
        self._bar.update(self._task, advance=1, **fields)

    def close(self) -> None:
        self._bar.stop()


def _in_terminal() -> bool:
    return sys.stderr.isatty() and importlib.util.find_spec("rich") is not None
