"""Progress: plain text in logs and notebooks, rich in a terminal, and nothing where nothing is wanted."""

import importlib.util
import os
import select
import sys
import time
from contextlib import contextmanager

import pytest
import torch

from normlib import data
from normlib.augment import TwoViews
from normlib.models import SimCLR, digits_encoder, projection_head
from normlib.training import TrainConfig, fit, progress
from normlib.training.progress import Progress

RICH = pytest.mark.skipif(importlib.util.find_spec("rich") is None, reason="needs rich")
POSIX = pytest.mark.skipif(os.name == "nt", reason="needs a pseudo-terminal")


@pytest.fixture(autouse=True)
def shown(monkeypatch):
    monkeypatch.delenv("TQDM_DISABLE", raising=False)


class Screen:
    """Reads what was written to a pseudo-terminal."""

    def __init__(self, descriptor):
        self._descriptor = descriptor

    def read(self):
        sys.stderr.flush()
        said = b""
        while select.select([self._descriptor], [], [], 0.3)[0]:  # it arrives in pieces, a moment later
            said += os.read(self._descriptor, 100_000)
        return said.decode()


@contextmanager
def terminal():
    """A pseudo-terminal in place of sys.stderr, which pytest replaces between fixtures and tests."""
    termios = pytest.importorskip("termios")
    own, other = os.openpty()
    termios.tcsetwinsize(other, (40, 120))
    with pytest.MonkeyPatch.context() as patch, os.fdopen(other, "w", encoding="utf-8") as stderr:
        patch.setattr(sys, "stderr", stderr)
        patch.setenv("TERM", "xterm")
        for name in ("COLUMNS", "NO_COLOR", "FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE"):
            patch.delenv(name, raising=False)
        yield Screen(own)
    os.close(own)


def train(**options):
    model = SimCLR(digits_encoder(4, 16), projection_head(16, 16, 8))
    images = data.digits("train").subset(torch.arange(192))
    config = TrainConfig(epochs=1, batch_size=64, warmup_epochs=0)
    fit(model, images, config, augment=TwoViews.digits(), accelerator="cpu", **options)


def test_log_shows_plain_text(capsys):
    train()
    said = capsys.readouterr().err
    for words in ("3/3", "loss ", "‖z‖ ", " pairs/s"):
        assert words in said
    assert "\x1b" not in said


@POSIX
@RICH
def test_terminal_shows_rich():
    with terminal() as screen:
        train()
        said = screen.read()
    for words in ("3/3", "loss ", "‖z‖ ", " pairs/s", "left"):
        assert words in said
    assert said.rindex("\x1b[?25h") > said.rindex("\x1b[?25l")  # the cursor is back


@POSIX
def test_terminal_shows_plain_text_without_rich(monkeypatch):
    monkeypatch.setattr(progress.importlib.util, "find_spec", lambda name: None)
    with terminal() as screen:
        train()
        said = screen.read()
    assert "3/3" in said
    assert " pairs/s" in said
    assert "\x1b[?25l" not in said


@POSIX
def test_silence_in_a_terminal(monkeypatch):
    with terminal() as screen:
        train(progress=False)
        monkeypatch.setenv("TQDM_DISABLE", "1")
        train()
        assert screen.read() == ""
        monkeypatch.delenv("TQDM_DISABLE")
        train()
        assert screen.read() != ""


def test_silence_in_a_log(monkeypatch, capsys):
    train(progress=False)
    monkeypatch.setenv("TQDM_DISABLE", "1")
    train()
    assert capsys.readouterr() == ("", "")


def test_run_taken_up_again_starts_where_it_was_in_a_log(capsys):
    with Progress(10, done=6) as bar:
        bar.advance("loss 2.000")
    said = capsys.readouterr().err
    assert "7/10" in said
    assert "loss 2.000" in said


@POSIX
@RICH
def test_run_taken_up_again_starts_where_it_was_in_a_terminal():
    with terminal() as screen:
        with Progress(10, done=6) as bar:
            bar.advance("loss 2.000")
        said = screen.read()
    assert "7/10" in said
    assert "loss 2.000" in said


@POSIX
@RICH
def test_terminal_gets_its_cursor_back_after_ctrl_c():
    def interrupted():
        with Progress(10) as bar:
            bar.advance("loss 2.000")
            raise KeyboardInterrupt

    with terminal() as screen:
        with pytest.raises(KeyboardInterrupt):
            interrupted()
        said = screen.read()
    assert said.rindex("\x1b[?25h") > said.rindex("\x1b[?25l")


def test_words_are_due_every_two_seconds_only(monkeypatch, capsys):
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    with Progress(10) as bar:
        assert bar.due()
        bar.advance()
        assert bar.due()
        bar.advance("loss 2.000")
        due = []
        for now[0] in (100.1, 101.9, 102.1):
            due.append(bar.due())
            bar.advance()
    assert due == [False, False, True]
    with Progress(10, shown=False) as bar:
        assert not bar.due()


def test_log_of_a_long_run_stays_small(monkeypatch, capsys):
    """One line every two seconds, not ten a second."""
    now = [100.0]
    monkeypatch.setattr("tqdm.std.time", lambda: now[0])
    with Progress(400) as bar:
        for _ in range(400):
            now[0] += 0.05
            bar.advance()
    assert 8 <= capsys.readouterr().err.count("step/s") <= 13
