"""Files: written whole or not at all, and read with an error that names the file."""

from __future__ import annotations

import errno
import json
import lzma
import os
import re
import struct
import tarfile
import tokenize
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

# What the parsers of other libraries raise, besides OSError, for bytes that are not what they should be.
UNREADABLE = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    EOFError,
    LookupError,
    MemoryError,
    RuntimeError,
    SyntaxError,
    TypeError,
    ValueError,
    lzma.LZMAError,
    struct.error,
    tarfile.TarError,
    tokenize.TokenError,
    zipfile.BadZipFile,
    zlib.error,
)
_TEMPORARY = re.compile(r"\..+\.(\d+)\.normlib-tmp")  # the number is that of the process that writes it


def replace_file(path: Path, write: Callable[[Path], object]) -> None:
    """Write a file whole or not at all: beside its place first, onto the disk, then into its place in one move.

    What processes that were killed in the middle of this left behind in the folder is removed.

    Args:
        path: The file; its folder exists.
        write: Writes the content to the path that it is given, in the same folder.

    Raises:
        OSError: The file system refused. Then, and after anything that ``write`` raises, ``path`` is as it was, or
            whole and new.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder, "table.csv")
    ...     replace_file(path, lambda temporary: temporary.write_text("a,b"))
    ...     path.read_text()
    'a,b'
    """
    _remove_abandoned(path.parent)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.normlib-tmp")
    try:
        write(temporary)
        _flush(temporary, os.O_RDWR)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    _flush_folder(path.parent)


def read_json(path: Path) -> Any:
    """What a JSON file holds.

    Raises:
        FileNotFoundError: It is not there.
        ValueError: It is not JSON; the message names it.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder, "settings.json")
    ...     replace_file(path, lambda temporary: temporary.write_text('{"lr": 0.1}'))
    ...     read_json(path)
    {'lr': 0.1}
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is not JSON: {error}") from None


def _flush(path: Path, flags: int) -> None:
    descriptor = os.open(path, flags)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _flush_folder(folder: Path) -> None:
    """Make a move within a folder last, where the system can: Windows and some network drives flush no folders."""
    if os.name == "nt":
        return
    try:
        _flush(folder, os.O_RDONLY)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP, errno.ENOSYS):
            raise


def _remove_abandoned(folder: Path) -> None:
    for path in folder.glob(".*.normlib-tmp"):
        name = _TEMPORARY.fullmatch(path.name)
        if name and not _is_running(int(name[1])):
            path.unlink(missing_ok=True)


def _is_running(pid: int) -> bool:
    """Whether another process writes under this number; one's own number on an old file is that of a dead process."""
    if pid == os.getpid():
        return False
    if os.name == "nt":
        return True  # asking with os.kill would end the process there
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
