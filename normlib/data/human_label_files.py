"""CIFAR-10H and CIFAR-10N: where they come from, under which licence, and the checksums that tell them from others.

Both are kept as they are used: ``cifar10h-counts.npy`` as published, and ``cifar10n.npz`` with the six label arrays of
the published ``CIFAR-10_human.pt``. What is read is checked whole, so a file of another length or order is refused.
"""

import hashlib
import io
import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from normlib._utils.files import UNREADABLE, replace_file

# Names in CIFAR-10N's file, and here.
SETS = {
    "clean_label": "clean",
    "aggre_label": "aggregate",
    "worse_label": "worst",
    "random_label1": "random1",
    "random_label2": "random2",
    "random_label3": "random3",
}


@dataclass(frozen=True)
class Source:
    """A published set of human labels.

    Args:
        name: What it is called.
        file: Its name on this machine.
        addresses: Where it is downloaded from, tried in order; the first is fixed to a commit.
        read: Takes a downloaded file and gives the bytes of ``file``.
        sha256: Of :func:`digest` of ``file``.
        licence: What is shown when it is downloaded.
    """

    name: str
    file: str
    addresses: tuple[str, ...]
    read: Callable[[Path], bytes]
    sha256: str
    licence: str


def arrays(content: bytes) -> dict[str, np.ndarray]:
    """The arrays of a file, by name; a single array is named ``""``. Nothing is unpickled."""
    loaded = np.load(io.BytesIO(content), allow_pickle=False)
    found = {"": loaded} if isinstance(loaded, np.ndarray) else dict(loaded)
    if not all(isinstance(values, np.ndarray) for values in found.values()):
        raise ValueError("an archive of other things than arrays")
    return found


def digest(content: bytes) -> str:
    """Sha256 over shapes, types and values of the arrays of a file, however they are packed."""
    found = hashlib.sha256()
    for name, values in sorted(arrays(content).items()):
        found.update(repr((name, values.shape, values.dtype.str)).encode())
        found.update(np.ascontiguousarray(values).data)
    return found.hexdigest()


def read(source: Source, root: Path) -> dict[str, np.ndarray]:
    """The verified arrays.

    Raises:
        FileNotFoundError: The file is not there.
        ValueError: It is not the published one.
    """
    path = root / source.file
    content = path.read_bytes()
    if not is_published(content, source):
        raise ValueError(f"{path} is not the published {source.name}: its values, their number or their order differ")
    return arrays(content)


def get(source: Source, root: Path, command: str, *, download: bool) -> dict[str, np.ndarray]:
    """The verified arrays, fetched first if they are not there or damaged and ``download``; else errors name a command.

    Raises:
        FileNotFoundError, ValueError: As :func:`read`.
        ConnectionError: As :func:`fetch`.
    """
    try:
        return read(source, root)
    except (FileNotFoundError, ValueError) as error:
        if not download:
            again = "" if isinstance(error, FileNotFoundError) else " again"
            reason = error if again else f"{source.name} is not in {root / source.file}"
            raise type(error)(f"{reason}. This fetches it{again}: {command}") from None
    fetch(source, root)
    return read(source, root)


def is_published(content: bytes, source: Source) -> bool:
    """Whether a file holds exactly the published values."""
    try:
        return digest(content) == source.sha256
    except (OSError, *UNREADABLE):  # no numpy file, or a pickled one
        return False


def fetch(source: Source, root: Path) -> None:
    """Download to ``root`` from the first address that delivers the published values, in one step; shows the licence.

    Raises:
        ConnectionError: None did; names each with its reason.
    """
    import pooch

    print(f"{source.name}: {source.licence}")
    failures = []
    for address in source.addresses:
        path = None
        try:
            downloader = pooch.HTTPDownloader(timeout=30)
            path = Path(pooch.retrieve(address, None, f".{source.file}.{os.getpid()}", root, downloader=downloader))
            content = source.read(path)
            if not is_published(content, source):
                raise ValueError("what it delivers is not the published set")
            replace_file(root / source.file, partial(Path.write_bytes, data=content))
        except (OSError, ValueError) as error:
            failures.append(f"{address}: {error}")
        else:
            return
        finally:
            if path is not None:
                path.unlink(missing_ok=True)
    raise ConnectionError(f"{source.name} could not be downloaded. What each address said:\n  " + "\n  ".join(failures))


def from_torch_file(path: Path) -> bytes:
    """CIFAR-10N's file, a pickled dictionary of arrays, as an ``.npz``.

    The unpickler is torch's restricted one. It may make arrays of numbers and nothing else, so no code can run.
    """
    import pickle

    import torch

    make_array = np.empty(0).__reduce__()[0]
    allowed: list[Any] = [
        (make_array, "numpy.core.multiarray._reconstruct"),  # as numpy 1 wrote it
        (make_array, "numpy._core.multiarray._reconstruct"),
        np.ndarray,
        np.dtype,
        type(np.dtype(np.int64)),
    ]
    try:
        with torch.serialization.safe_globals(allowed):
            labels = torch.load(path, weights_only=True)
        named: dict[str, Any] = {name: np.asarray(labels[key]).astype(np.uint8) for key, name in SETS.items()}
    except (pickle.UnpicklingError, *UNREADABLE) as error:
        raise ValueError(f"it is no file of CIFAR-10N: {str(error) or type(error).__name__}") from None
    packed = io.BytesIO()
    np.savez_compressed(packed, **named)
    return packed.getvalue()


_H = "https://raw.githubusercontent.com/jcpeterson/cifar-10h"
_N = "https://raw.githubusercontent.com/UCSC-REAL/cifar-10-100n"

CIFAR10H = Source(
    "CIFAR-10H",
    "cifar10h-counts.npy",
    (
        f"{_H}/597cbc5f07266c9405b830ee4a53463539124c4f/data/cifar10h-counts.npy",
        f"{_H}/master/data/cifar10h-counts.npy",
    ),
    Path.read_bytes,
    "fdd257df5d6bbce1607c168c103aac45333acec3e30ef3f4f002da4e22aca6d9",
    "for non-commercial use only, CC BY-NC-SA 4.0 (https://creativecommons.org/licenses/by-nc-sa/4.0/). "
    "Cite Peterson, Battleday, Griffiths, Russakovsky: Human uncertainty makes classification more robust, ICCV 2019.",
)
CIFAR10N = Source(
    "CIFAR-10N",
    "cifar10n.npz",
    (f"{_N}/49df7d8/data/CIFAR-10_human.pt", f"{_N}/main/data/CIFAR-10_human.pt"),
    from_torch_file,
    "dc191164c24bebf69e46b00d0b0affa1dab11b9ec7ddb1b38e91ea183407af2f",
    "for non-commercial use only, CC BY-NC 4.0 (https://creativecommons.org/licenses/by-nc/4.0/). "
    "Cite Wei, Zhu, Cheng, Liu, Niu, Liu: Learning with Noisy Labels Revisited, ICLR 2022.",
)
