"""Keeps the processes of a submission to their limits while they run, and ends those that are left."""

import contextlib
import os
import subprocess
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

import psutil

GIB = 2**30
SAMPLED_EVERY = 0.2  # seconds
TOKEN = "GRADING_TOKEN"  # the variable that a submission's processes inherit, also those that leave their session


@dataclass(frozen=True)
class Limits:
    """What one submission may use.

    Args:
        cell_seconds: For a cell, which is then interrupted.
        test_seconds: For a test, which then fails.
        cpu_seconds: For a process.
        wall_seconds: For the whole submission, which is then ended.
        memory_gib: For all processes together.
        processes: Processes and threads.
    """

    cell_seconds: float = 60
    test_seconds: float = 20
    cpu_seconds: int = 120
    wall_seconds: float = 240
    memory_gib: float = 4
    processes: int = 120


def watch(process: subprocess.Popen, limits: Limits, stopped: threading.Event) -> tuple[tuple[str, str] | None, float]:
    """Wait for the end, the submission's or that of a limit's patience; returns which limit it was, and CPU seconds."""
    began, cpu_seconds, root = time.monotonic(), 0.0, psutil.Process(process.pid)
    while process.poll() is None:
        running = _with_children(root)
        cpu_seconds = max(cpu_seconds, sum(_read(each, lambda of: sum(of.cpu_times()[:2])) for each in running))
        if broken := _broken(running, limits, time.monotonic() - began):
            return broken, cpu_seconds
        if stopped.is_set():
            return ("stopped", "grading was interrupted"), cpu_seconds
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(SAMPLED_EVERY)
    return None, cpu_seconds


def _broken(running: list[psutil.Process], limits: Limits, seconds: float) -> tuple[str, str] | None:
    """The limit that these processes are beyond, if any: the name of the result, and what is allowed."""
    if sum(_read(each, psutil.Process.num_threads) for each in running) >= 0.9 * limits.processes:
        return "too many processes", f"{limits.processes} processes and threads are allowed"
    most = limits.memory_gib * GIB
    if sum(map(_resident, running)) > most and sum(map(_proportional, running)) > most:
        return "out of memory", f"{limits.memory_gib:g} GiB are allowed"
    if seconds > limits.wall_seconds:
        return "timed out", f"{limits.wall_seconds:g} s are allowed"
    return None


def _with_children(root: psutil.Process) -> list[psutil.Process]:
    try:
        return [root, *root.children(recursive=True)]
    except psutil.Error:
        return []


def _read(process: psutil.Process, number: Callable[[psutil.Process], float]) -> float:
    """A number of a process; 0 where it has ended meanwhile."""
    try:
        return number(process)
    except psutil.Error:
        return 0


def _resident(process: psutil.Process) -> float:
    """Bytes in memory; those that forks share are counted for each."""
    return _read(process, lambda of: of.memory_info().rss)


def _proportional(process: psutil.Process) -> float:
    """Bytes in memory, those that forks share in parts; slow to find, and not known on every system."""
    try:
        return process.memory_full_info().pss
    except (psutil.Error, AttributeError):
        return _resident(process)


def end(process: subprocess.Popen, token: str) -> None:
    """End a submission and whatever it has started: its children, its session, and all that carry its token."""
    for _ in range(10):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, 9)
        left = [each for each in psutil.process_iter() if _carries(each, token)]
        if not left and process.poll() is not None:
            return
        for each in left:
            with contextlib.suppress(psutil.Error):
                each.kill()
        time.sleep(0.05)


def _carries(process: psutil.Process, token: str) -> bool:
    try:
        return process.environ().get(TOKEN) == token
    except (psutil.Error, OSError):
        return False


def threads_of_this_user() -> int:
    """Processes and threads that count against this user's limit before a submission has started."""

    def threads(process: psutil.Process) -> int:
        return process.num_threads() if process.uids().real == os.getuid() else 0

    return sum(_read(each, threads) for each in psutil.process_iter())
