"""Files that are written whole or not at all."""

import os
import shutil
import tempfile
from pathlib import Path


def write_whole(path: Path, content: str | bytes, mode: int | None = None) -> None:
    """Write a file beside its place, then put it there: a stopped writer leaves an earlier one as it was.

    Args:
        path: Of the file, in a folder that is there.
        content: Text is written in UTF-8, with the line ends that it has.
        mode: Who may do what with it; None: as with the earlier file, and without one all is its owner's alone.

    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_whole(Path(folder, "a.txt"), "é")
    ...     Path(folder, "a.txt").read_bytes()
    b'\\xc3\\xa9'
    """
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content.encode() if isinstance(content, str) else content)
        if mode is not None:
            os.chmod(temporary, mode)
        elif path.exists():
            shutil.copymode(path, temporary)
        os.replace(temporary, path)
    finally:
        Path(temporary).unlink(missing_ok=True)
