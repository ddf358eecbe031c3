"""A limit of time for work that is done job by job: what is not finished by then is stopped, as by a signal."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class Deadline:
    """Some minutes from when it is entered.

    At the end of the time it sends this process a SIGTERM, as the scheduler of a cluster does. A training that keeps
    checkpoints writes one first; any other work is given up.

    Args:
        minutes: The time there is; None for no limit.
    """

    def __init__(self, minutes: float | None):
        self._seconds = None if minutes is None else 60 * minutes
        self._end = float("inf")
        self._timer: threading.Timer | None = None
        self._working = False
        self._over = False

    def __enter__(self) -> Deadline:
        if self._seconds is not None:
            self._end = time.monotonic() + self._seconds
            self._before = signal.signal(signal.SIGTERM, self._stop)
            self._timer = threading.Timer(self._seconds, self._expire)
            self._timer.daemon = True
            self._timer.start()
        return self

    def __exit__(self, *exception: object) -> None:
        if self._timer is not None:
            self._timer.cancel()
            signal.signal(signal.SIGTERM, self._before)

    def allows(self, seconds: float) -> bool:
        """Whether work that takes so many seconds would come to an end in time."""
        return not self._over and time.monotonic() + seconds < self._end

    @contextmanager
    def stopping_work(self) -> Iterator[None]:
        """Work in here ends, without an error, when the time is over."""
        self._working = True
        try:
            yield
        except KeyboardInterrupt:
            if not self._over:  # somebody else stopped it
                raise
        finally:
            self._working = False

    def _expire(self) -> None:
        self._over = True
        if not self._working:
            return
        if hasattr(signal, "pthread_kill"):  # sent to the main thread, it wakes one that sleeps
            signal.pthread_kill(threading.main_thread().ident, signal.SIGTERM)
        else:  # Windows
            signal.raise_signal(signal.SIGTERM)

    def _stop(self, number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt("stopped by SIGTERM")
