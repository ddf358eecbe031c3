"""Data sets in memory: uint8 pixels, labels, and where in the original each image stood.

A set that fits in memory as uint8 (CIFAR-10's training images: 154 MB) needs no loader: :mod:`normlib.augment` turns a
whole batch of it into views on the device. ``indices`` keep their meaning through every subset, so tables about the
original (human labels, say) can be joined on them.
"""

import hashlib
import os
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from normlib._arguments import check_choice, check_number, check_seed, check_type, path_of
from normlib._data_variants import corrupt, hold_out, long_tailed
from normlib._human_votes import HumanVotes
from normlib._rows import kind_of

__all__ = [
    "HumanVotes",
    "ImageSet",
    "cifar10",
    "cifar10_jpeg",
    "cifar10h",
    "cifar10n",
    "corrupt",
    "digits",
    "hold_out",
    "image_folder",
    "load",
    "long_tailed",
]


@dataclass(frozen=True, eq=False, repr=False)
class ImageSet:
    """Images with their labels and their places in the original data set.

    Args:
        images: Pixels, uint8, shape ``(N, C, H, W)``.
        labels: Class numbers, int64, shape ``(N,)``, each in ``0 .. len(classes) - 1``.
        indices: Positions in the original data set, int64, shape ``(N,)``.
        classes: The classes' names; a label is a place in this tuple.
        name: What the set is called in figures and records.

    Raises:
        TypeError: A tensor is of another dtype, ``classes`` no tuple, or ``name`` no word.
        ValueError: Shapes do not fit together, or a label has no class.

    >>> train = digits("train")
    >>> train
    ImageSet('digits-train': 1347 images, 1x8x8, 10 classes)
    >>> zeros = train.subset(train.labels == 0)
    >>> len(zeros), zeros.indices[:3].tolist()
    (133, [0, 10, 20])
    """

    images: Tensor
    labels: Tensor
    indices: Tensor
    classes: tuple[str, ...]
    name: str

    def __post_init__(self):
        check_type(tuple, classes=self.classes)
        check_type(str, name=self.name)
        for field, dtype in (("images", torch.uint8), ("labels", torch.int64), ("indices", torch.int64)):
            if kind_of(getattr(self, field)) != str(dtype):
                raise TypeError(f"{field} must be a tensor of {dtype}, got {kind_of(getattr(self, field))}")
        if self.images.ndim != 4:
            raise ValueError(f"images must have shape (N, C, H, W), got {tuple(self.images.shape)}")
        for field in ("labels", "indices"):
            shape = tuple(getattr(self, field).shape)
            if shape != (len(self),):
                raise ValueError(f"{field} must have shape ({len(self)},), one for each image, got {shape}")
        _check_range("labels", self.labels, len(self.classes), "there are no other classes")

    def __len__(self) -> int:
        return self.images.shape[0]

    def __repr__(self) -> str:
        size = "x".join(map(str, self.images.shape[1:]))
        return f"ImageSet({self.name!r}: {len(self)} images, {size}, {len(self.classes)} classes)"

    def subset(self, index: Tensor) -> "ImageSet":
        """Some of the images, in the order asked for; ``indices`` still point into the original.

        Args:
            index: A mask, bool, shape ``(N,)``; or positions in this set, integer, shape ``(n,)``, in ``0 .. N - 1``.

        Returns:
            A set with the same classes and name.

        Raises:
            TypeError: ``index`` is neither bool nor integer.
            ValueError: ``index`` is not one-dimensional, a mask of another length, or points outside the set.

        >>> digits("all").subset(torch.tensor([5, 3])).indices.tolist()
        [5, 3]
        """
        if not isinstance(index, Tensor) or index.is_floating_point() or index.is_complex():
            raise TypeError(f"index must be a tensor of bool (a mask) or integers (positions), got {kind_of(index)}")
        expected = (len(self),) if index.dtype == torch.bool else (index.numel(),)
        if index.shape != expected:
            raise ValueError(f"index must have shape {expected}, got {tuple(index.shape)}")
        if index.dtype != torch.bool:
            index = index.long()
            _check_range("index", index, len(self), "it counts places in this set, not in the original")
        return ImageSet(self.images[index], self.labels[index], self.indices[index], self.classes, self.name)

    def fingerprint(self) -> str:
        """Sha256 over shape, pixels and labels, the same on every machine.

        >>> digits("all").fingerprint()[:15]
        'sha256:ac221302'
        """
        digest = hashlib.sha256(repr(tuple(self.images.shape)).encode())
        digest.update(np.ascontiguousarray(self.images.cpu()).data)
        digest.update(np.ascontiguousarray(self.labels.cpu(), dtype="<i8").data)
        return f"sha256:{digest.hexdigest()}"


def digits(split: Literal["train", "test", "all"] = "train", *, test_fraction: float = 0.25, seed: int = 0) -> ImageSet:
    """1,797 real handwritten digits of 8x8 pixels, which scikit-learn ships: no download.

    Args:
        split: ``"train"``, ``"test"``, or ``"all"`` for both.
        test_fraction: Share of each class that goes to ``"test"``, strictly between 0 and 1.
        seed: Of the split. For one seed and fraction, train and test share no image and together are all of them.

    Returns:
        Images ``(N, 1, 8, 8)``, the original's values 0..16 stretched to 0..255 and rounded. ``indices`` are places in
        ``sklearn.datasets.load_digits()``, ascending.

    Raises:
        ValueError: Unknown ``split``, a ``test_fraction`` that leaves train or test without an image of each class, or
            a ``seed`` that is no integer of 0 or more.

    Source: E. Alpaydin and C. Kaynak, *Optical Recognition of Handwritten Digits*, UCI repository, 1998.

    >>> digits("test")
    ImageSet('digits-test': 450 images, 1x8x8, 10 classes)
    """
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    check_choice("split", split, ("train", "test", "all"))
    least = 0.0056  # 10 of 1,797 images
    check_number("test_fraction", test_fraction, at_least=least, at_most=1 - least, hint="10 images on either side")
    check_seed(seed)
    original = load_digits()
    chosen = np.arange(len(original.target))
    if split != "all":
        train, test = train_test_split(chosen, test_size=test_fraction, random_state=seed, stratify=original.target)
        chosen = np.sort(train if split == "train" else test)
    pixels = np.rint(original.images[chosen, None] * (255 / 16)).astype(np.uint8)
    return ImageSet(
        torch.from_numpy(pixels),
        torch.from_numpy(original.target[chosen].astype(np.int64)),
        torch.from_numpy(chosen.astype(np.int64)),
        tuple(str(digit) for digit in range(10)),
        f"digits-{split}",
    )


def cifar10(
    split: Literal["train", "test"] = "train", *, root: str | os.PathLike | None = None, download: bool = False
) -> ImageSet:
    """CIFAR-10: 50,000 training and 10,000 test photographs of 32x32 pixels, in the original's order.

    Every call verifies the pixels: the sha256 of each file must be the original's. Nothing is unpickled. A download
    (144 MB, once) tries fast mirrors before the original's own host, which now takes 40 minutes and more.

    Args:
        split: ``"train"`` or ``"test"``.
        root: Folder that holds, or will hold, ``cifar-10-batches-bin``, the original's binary version. Without it, what
            the environment variable ``NORMLIB_DATA`` says, else ``normlib`` in the user's cache directory.
        download: Fetch what is missing or damaged first. If all is there, nothing is asked of the network.

    Returns:
        Images ``(N, 3, 32, 32)``. ``indices`` are ``0 .. N - 1``, the places in the original.

    Raises:
        ValueError: Unknown ``split``, or a damaged file.
        FileNotFoundError: The set is not there; names the command that fetches it.
        ConnectionError: No mirror delivered; names each with its reason.

    Source: A. Krizhevsky, *Learning Multiple Layers of Features from Tiny Images*, 2009.

    >>> cifar10("test", root="not-there")  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    FileNotFoundError: CIFAR-10 is not in ... This fetches it: python -c "from normlib import data; ...
    """
    from normlib import _cifar10

    check_choice("split", split, _cifar10.SPLITS)
    folder = _data_folder(root)
    if download and not _cifar10.is_complete(folder):
        _cifar10.fetch(folder)
    command = _fetch_command("cifar10", root)
    try:
        images, labels = _cifar10.read_split(folder, split)
    except FileNotFoundError:
        raise FileNotFoundError(f"CIFAR-10 is not in {folder / _cifar10.FOLDER}. This fetches it: {command}") from None
    except ValueError as error:
        raise ValueError(f"{error}. This fetches it again: {command}") from None
    return ImageSet(
        torch.from_numpy(images),
        torch.from_numpy(labels),
        torch.arange(len(labels)),
        _cifar10.CLASSES,
        f"cifar10-{split}",
    )


def cifar10_jpeg(split: Literal["train", "test"] = "train", *, root: str | os.PathLike | None = None) -> ImageSet:
    """CIFAR-10 from a copy in JPEG files, ``<root>/cifar10-jpeg/<split>/<class>/<index>.jpg``, in the original's order.

    Compression has cost such a copy some detail: what is measured on it is close to, but not the same as, what
    :func:`cifar10` gives.

    Args:
        split: ``"train"`` or ``"test"``.
        root: Folder that holds ``cifar10-jpeg``; by default as in :func:`cifar10`.

    Returns:
        Images ``(N, 3, 32, 32)``. ``indices`` are ``0 .. N - 1``, the places in the original.

    Raises:
        ValueError: Unknown ``split``, or a file that cannot be read.
        FileNotFoundError: The set, or a part of it, is not there; says what was expected where.

    Source: A. Krizhevsky, *Learning Multiple Layers of Features from Tiny Images*, 2009.

    >>> cifar10_jpeg("test", root="not-there")  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    FileNotFoundError: expected 10000 images not-there/cifar10-jpeg/test/<class>/<index>.jpg, ...
    """
    from normlib import _cifar10

    check_choice("split", split, _cifar10.SPLITS)
    folder = _data_folder(root) / "cifar10-jpeg" / split
    count = len(_cifar10.SPLITS[split]) * _cifar10.RECORDS_PER_FILE
    expected = (
        f"expected {count} images {folder}/<class>/<index>.jpg, where <class> is one of {', '.join(_cifar10.CLASSES)} "
        f"and <index> the place in the original, 00000 to {count - 1:05d}"
    )
    try:
        images = image_folder(folder, index_from_name=True)
    except FileNotFoundError as error:
        raise FileNotFoundError(f"{expected}; {error}") from None
    if images.classes != _cifar10.CLASSES or not torch.equal(images.indices, torch.arange(count)):
        first, last = int(images.indices[0]), int(images.indices[-1])
        found = f"{len(images)} images, {first:05d} to {last:05d}, of {', '.join(images.classes)}"
        raise FileNotFoundError(f"{expected}; found {found}")
    return replace(images, name=f"cifar10-jpeg-{split}")


def cifar10h(*, root: str | os.PathLike | None = None, download: bool = False) -> HumanVotes:
    """CIFAR-10H: which class each of some fifty people chose for each of CIFAR-10's 10,000 test images.

    For non-commercial use only (CC BY-NC-SA 4.0): a download shows the licence. Each call verifies all values.

    Args:
        root: Folder that holds, or will hold, ``cifar10h-counts.npy``; by default as in :func:`cifar10`.
        download: Fetch the file (0.8 MB, once) if it is not there or damaged.

    Returns:
        Votes in the original's order, 47 to 63 an image.

    Raises:
        FileNotFoundError: The file is not there; names the command that fetches it.
        ValueError: The file is not the published one, as when its rows are of another number or order.
        ConnectionError: It could not be downloaded; says why.

    Source: Peterson et al. 2019.

    >>> cifar10h(root="not-there")  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    FileNotFoundError: CIFAR-10H is not in not-there/cifar10h-counts.npy. This fetches it: python -c "from normlib ...
    """
    from normlib import _human_labels

    command = _fetch_command("cifar10h", root)
    found = _human_labels.get(_human_labels.CIFAR10H, _data_folder(root), command, download=download)
    return HumanVotes("CIFAR-10H", found[""])


def cifar10n(*, root: str | os.PathLike | None = None, download: bool = False) -> HumanVotes:
    """CIFAR-10N: which class each of three people chose for each of CIFAR-10's 50,000 training images.

    For non-commercial use only (CC BY-NC 4.0): a download shows the licence. Each call verifies all values. The
    published file is a pickle; it is read by torch's restricted unpickler, which makes arrays and runs no code.

    Args:
        root: Folder that holds, or will hold, ``cifar10n.npz``; by default as in :func:`cifar10`.
        download: Fetch the published file (once) if ``cifar10n.npz`` is not there or damaged, and make it from that.

    Returns:
        Three votes an image, in the original's order, with the original labels.

    Raises:
        FileNotFoundError: The file is not there; names the command that fetches it.
        ValueError: The file does not hold the published labels, as when they are of another number or order.
        ConnectionError: It could not be downloaded; says why.

    Source: Wei et al. 2022.

    >>> cifar10n(root="not-there")  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    FileNotFoundError: CIFAR-10N is not in not-there/cifar10n.npz. This fetches it: python -c "from normlib ...
    """
    from normlib import _human_labels

    command = _fetch_command("cifar10n", root)
    found = _human_labels.get(_human_labels.CIFAR10N, _data_folder(root), command, download=download)
    people = np.stack([found[f"random{person}"] for person in (1, 2, 3)], axis=1)
    return HumanVotes("CIFAR-10N", (people[:, :, None] == np.arange(10)).sum(axis=1), found["clean"].astype(np.int64))


def load(name: Literal["digits", "cifar10", "cifar10-jpeg"], split: str = "train") -> ImageSet:
    """A data set by its name, as experiments name it.

    Args:
        name: ``"digits"``, ``"cifar10"`` (downloaded if it is not there), or ``"cifar10-jpeg"``.
        split: ``"train"`` or ``"test"``, as in :func:`digits`, :func:`cifar10` and :func:`cifar10_jpeg`.

    Returns:
        What the function of that name returns.

    Raises:
        ValueError: Unknown ``name`` or ``split``.

    >>> load("digits", "test")
    ImageSet('digits-test': 450 images, 1x8x8, 10 classes)
    """
    loaders = {"digits": digits, "cifar10": partial(cifar10, download=True), "cifar10-jpeg": cifar10_jpeg}
    check_choice("name", name, loaders)
    return loaders[name](split)


def image_folder(
    path: str | os.PathLike,
    *,
    size: int | tuple[int, int] | None = None,
    on_corrupt: Literal["error", "skip"] = "error",
    index_from_name: bool = False,
) -> ImageSet:
    """Images sorted into one sub-folder for each class, read into memory as RGB.

    Hidden files and folders, whose names begin with a dot (macOS's ``._1.png``), and files of other kinds do not count.

    Args:
        path: Folder whose sub-folders are the classes, numbered in order of their names. Where a data set has ``train``
            and ``test`` folders, give one of them.
        size: Height and width to resize to (bicubic, antialiased), one number for both. Without it all images must have
            the same size.
        on_corrupt: What to do with a file that cannot be decoded whole: ``"error"`` stops and names it, ``"skip"``
            leaves it out and names all such files in one warning.
        index_from_name: Take ``indices`` from the file names (``00042.jpg`` is 42) and put the images in that order.
            Otherwise ``indices`` count the files, class by class, in order of their names.

    Returns:
        Images ``(N, 3, H, W)``. A file that is left out leaves a gap in ``indices``; the others keep theirs.

    Raises:
        FileNotFoundError: ``path``, its class folders or a class's images are not there.
        ValueError: A corrupt file, images of several sizes without ``size``, names that are not distinct numbers, an
            image in a folder below a class folder, or a ``size`` other than positive integers.

    >>> import tempfile
    >>> from PIL import Image
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     for label in ("cat", "dog"):
    ...         Path(folder, label).mkdir()
    ...         Image.new("RGB", (12, 9)).save(Path(folder, label, "1.png"))
    ...     image_folder(folder, size=8).images.shape
    torch.Size([2, 3, 8, 8])
    """
    from normlib import _image_files

    check_choice("on_corrupt", on_corrupt, ("error", "skip"))
    height_width = None if size is None else _image_files.height_and_width(size)
    root = path_of("path", path).expanduser()
    classes, files, labels = _image_files.list_class_files(root)
    indices = np.arange(len(files), dtype=np.int64)
    if index_from_name:
        numbers = _image_files.numbers_in_names(files)
        order = np.argsort(numbers)
        files, labels, indices = [files[i] for i in order], labels[order], numbers[order]
    pixels, kept = _image_files.read_images(files, height_width, on_corrupt)
    return ImageSet(
        torch.from_numpy(pixels),
        torch.from_numpy(labels[kept]),
        torch.from_numpy(indices[kept]),
        classes,
        root.resolve().name,
    )


def _fetch_command(function: str, root: str | os.PathLike | None) -> str:
    arguments = "download=True" if root is None else f"root={str(path_of('root', root))!r}, download=True"
    return f'python -c "from normlib import data; data.{function}({arguments})"'


def _data_folder(root: str | os.PathLike | None) -> Path:
    if root is None:
        root = os.environ.get("NORMLIB_DATA")
    if not root:
        import pooch

        root = pooch.os_cache("normlib")
    return path_of("root", root).expanduser()


def _check_range(name: str, values: Tensor, count: int, reason: str) -> None:
    if values.numel() and not 0 <= int(values.min()) <= int(values.max()) < count:
        raise ValueError(f"{name} must be in 0..{count - 1}, got {int(values.min())}..{int(values.max())}: {reason}")
