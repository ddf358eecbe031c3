"""Checkpoints of a run that survive whatever stops it."""

import hashlib
import io
import os
import pickle
import re
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from normlib._utils.arguments import check_count
from normlib._utils.files import UNREADABLE, replace_file

_CHECKPOINT = re.compile(r"step-(\d{8}|[1-9]\d{8,})\.pt")
_DIGEST_SIZE = hashlib.sha256().digest_size


class Checkpoints:
    """The newest checkpoints of one run, in one folder.

    A checkpoint replaces nothing until it is whole and on the disk, so a crash, a full disk or a lost connection leaves
    the earlier ones as they were. One thread writes to a folder at a time.

    Args:
        folder: Where they lie; made by the first :meth:`save`.
        keep: How many are kept, ≥ 1; the others guard against damage to the newest.

    Raises:
        ValueError: ``keep`` is not an integer ≥ 1.
        NotADirectoryError: ``folder`` is a file.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     checkpoints = Checkpoints(folder)
    ...     for step in (10, 20, 30):
    ...         path = checkpoints.save({"step": step, "model": {"weight": torch.ones(2)}}, step)
    ...     path.name, checkpoints.steps(), checkpoints.load()["step"]
    ('step-00000030.pt', [20, 30], 30)
    """

    def __init__(self, folder: str | os.PathLike, *, keep: int = 2):
        check_count("keep", keep)
        self.folder, self.keep = Path(folder), keep
        if self.folder.exists() and not self.folder.is_dir():
            raise NotADirectoryError(f"folder must be a folder or not exist yet, but {self.folder} is a file")

    def steps(self) -> list[int]:
        """Steps that have a checkpoint, from the oldest to the newest."""
        names = (_CHECKPOINT.fullmatch(path.name) for path in self.folder.glob("step-*.pt"))
        return sorted(int(name[1]) for name in names if name)

    def save(self, state: dict, step: int) -> Path:
        """Write a checkpoint, then remove all but the ``keep`` newest up to this step.

        Args:
            state: Tensors, numbers, strings and None, in dicts, lists and tuples.
            step: Steps finished, ≥ 0. Its checkpoint is replaced if it has one.

        Returns:
            The checkpoint's path.

        Raises:
            ValueError: ``step`` is not an integer ≥ 0, or ``state`` holds objects of other classes, which :meth:`load`
                would refuse. Nothing is written then.
            OSError: The file system refused, because it is full, say. The earlier checkpoints are as they were.
        """
        check_count("step", step, at_least=0)
        content = _serialized(state)
        path = self._path(step)
        self.folder.mkdir(parents=True, exist_ok=True)
        replace_file(path, lambda temporary: temporary.write_bytes(content))
        older = [s for s in self.steps() if s < step]
        for s in older[::-1][self.keep - 1 :]:
            self._path(s).unlink(missing_ok=True)
        return path

    def load(self) -> dict | None:
        """Read the newest checkpoint that is whole, to the CPU. A damaged one is passed over with a warning.

        Returns:
            What was saved, or None if there is no checkpoint.

        Raises:
            ValueError: All checkpoints are damaged, or one is whole and cannot be loaded, or holds code, which is not
                run.
            MemoryError: There is not enough memory for it.
        """
        damaged = []
        for step in reversed(self.steps()):
            try:
                state = _read(self._path(step))
            except _DamagedError as error:
                damaged.append(str(error))
            else:
                if damaged:
                    lines = "\n  ".join(damaged)
                    warnings.warn(f"went back to {self._path(step)}, because of\n  {lines}", stacklevel=2)
                return state
        if damaged:
            lines = "\n  ".join(damaged)
            raise ValueError(
                f"no checkpoint can be read; restore one, or move them away to start from the beginning:\n  {lines}"
            )
        return None

    def newest(self) -> int | None:
        """Step of the newest checkpoint that is whole, the one that :meth:`load` reads; None if there is none."""
        for step in reversed(self.steps()):
            try:
                _content(self._path(step))
            except _DamagedError:
                continue
            return step
        return None

    def _path(self, step: int) -> Path:
        return self.folder / f"step-{step:08d}.pt"


def differences(
    saved: Mapping[str, Any], now: Mapping[str, Any], where: tuple[str, str] = ("in the run directory", "now")
) -> list[str]:
    """One line for each setting that differs between a run directory and the present call.

    Args:
        saved: Settings of the run directory; mappings in them are compared key by key.
        now: Settings of the present call.
        where: What a line says of where the one and the other value stand.

    Returns:
        Lines that name the setting (``optimizer.lr`` is ``lr`` in ``optimizer``) and both values.

    >>> differences({"lr": 0.1, "data": {"name": "digits"}}, {"lr": 0.3, "data": {"name": "digits"}, "seed": 0})
    ['lr: 0.1 in the run directory, 0.3 now', 'seed: absent in the run directory, 0 now']
    """
    lines = []
    for key in {**saved, **now}:
        before, after = saved.get(key, _ABSENT), now.get(key, _ABSENT)
        if isinstance(before, Mapping) and isinstance(after, Mapping):
            lines += [f"{key}.{line}" for line in differences(before, after, where)]
        elif before != after:
            lines.append(f"{key}: {before!r} {where[0]}, {after!r} {where[1]}")
    return lines


class _Absent:
    def __repr__(self) -> str:
        return "absent"


_ABSENT = _Absent()


class _DamagedError(Exception):
    """A file that is not as it was written; the message names it."""


def _serialized(state: dict) -> memoryview:
    """The bytes of a checkpoint, made in memory: what cannot be saved is found before a file is touched.

    They are those of ``torch.save``, then their sha256: ``torch.load`` reads such a file, but would not notice damage.
    """
    buffer = io.BytesIO()
    torch.save(state, buffer)
    buffer.seek(0)
    if foreign := sorted(torch.serialization.get_unsafe_globals_in_checkpoint(buffer)):
        raise ValueError(
            f"state must hold only tensors, numbers, strings, None, dicts, lists and tuples, got {', '.join(foreign)}; "
            "convert such values before saving"
        )
    digest = hashlib.sha256(buffer.getbuffer()).digest()
    buffer.seek(0, io.SEEK_END)
    buffer.write(digest)
    return buffer.getbuffer()


def _content(path: Path) -> bytes:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise _DamagedError(str(error)) from error
    content, digest = content[:-_DIGEST_SIZE], content[-_DIGEST_SIZE:]
    if hashlib.sha256(content).digest() != digest:
        raise _DamagedError(f"{path}: its checksum is wrong")
    return content


def _read(path: Path) -> dict:
    content = _content(path)
    try:
        return torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise ValueError(
            f"{path} holds more than tensors and plain values, and to read it could run code, so it was not read; "
            "no checkpoint of a run is like that: move it away"
        ) from error
    except MemoryError:
        raise
    except UNREADABLE as error:  # nothing is damaged, so an earlier checkpoint is no way out
        raise ValueError(f"{path} is as it was written, but cannot be loaded: {error}") from error
