"""What tests of several files need."""

import signal

import pytest


@pytest.fixture
def usual_signals():
    """SIGINT and SIGTERM as Python has them by default, here and in the processes that a test starts.

    Whoever runs the tests may ignore them: a script that starts ``make test`` in the background ignores SIGINT, and
    every process inherits that.
    """
    usual = {signal.SIGINT: signal.default_int_handler, signal.SIGTERM: signal.SIG_DFL}
    before = {number: signal.signal(number, handler) for number, handler in usual.items()}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)
