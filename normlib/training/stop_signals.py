"""Ctrl-C and SIGTERM as requests to stop at the next step boundary, where a checkpoint is whole."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any


class StopRequest:
    """Whether somebody asked to stop; false until then."""

    def __init__(self) -> None:
        self.asked = False

    def __bool__(self) -> bool:
        return self.asked


@contextmanager
def stop_requests() -> Iterator[StopRequest]:
    """Within this context the first Ctrl-C or SIGTERM is only noted; the second acts as it did before.

    A signal that is ignored stays ignored: a script that starts a job in the background has it ignore Ctrl-C, which is
    meant for what runs in front. Handlers that Python did not set could not be set again, so they are left alone too.
    Elsewhere than in the main thread Python delivers no signals, and nothing is changed.
    """
    request = StopRequest()
    if threading.current_thread() is not threading.main_thread():
        yield request
        return
    before: dict[signal.Signals, Any] = {}

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    def note(number: int, frame: FrameType | None) -> None:
        request.asked = True
        restore()

    for number in (signal.SIGINT, signal.SIGTERM):
        if signal.getsignal(number) not in (signal.SIG_IGN, None):
            before[number] = signal.signal(number, note)
    try:
        yield request
    finally:
        restore()
