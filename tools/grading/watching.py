"""Keeps the processes of a submission to their limits while they run, and ends those that are left."""

import contextlib
import os
import subprocess
import threading
import time
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
        threads, memory, cpu = 0, 0, 0.0
        with contextlib.suppress(psutil.Error):
            for each in (root, *root.children(recursive=True)):
                with contextlib.suppress(psutil.Error):
                    threads += each.num_threads()
                    memory += each.memory_info().rss
                    cpu += sum(each.cpu_times()[:2])
        cpu_seconds = max(cpu_seconds, cpu)
        if threads >= 0.9 * limits.processes:
            return ("too many processes", f"{limits.processes} processes and threads are allowed"), cpu_seconds
        if memory > limits.memory_gib * GIB:
            return ("out of memory", f"{limits.memory_gib:g} GiB are allowed"), cpu_seconds
        if time.monotonic() - began > limits.wall_seconds:
            return ("timed out", f"{limits.wall_seconds:g} s are allowed"), cpu_seconds
        if stopped.is_set():
            return ("stopped", "grading was interrupted"), cpu_seconds
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(SAMPLED_EVERY)
    return None, cpu_seconds


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
    count = 0
    for each in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            count += each.num_threads() if each.uids().real == os.getuid() else 0
    return count
