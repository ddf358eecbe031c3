"""The data sets by name: digits, CIFAR-10 in two forms, its human labels, CIFAR-100, and folders of images."""

import os
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Literal

import numpy as np
import torch

from normlib._utils.arguments import check_choice, check_number, check_seed, path_of
from normlib.data.human_votes import HumanVotes
from normlib.data.image_set import ImageSet


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
    from normlib.data import cifar10_files

    check_choice("split", split, cifar10_files.SPLITS)
    return _verified("CIFAR-10", cifar10_files, split, root, download=download)


def cifar100(
    split: Literal["train", "test"] = "train", *, root: str | os.PathLike | None = None, download: bool = False
) -> ImageSet:
    """CIFAR-100: 50,000 training and 10,000 test photographs of 32x32 pixels, none of CIFAR-10's classes.

    The images come in an order of our own, sorted by their bytes, in which every copy can be put: copies differ in
    theirs, and scores of single images can be compared only in a common one. Every call verifies all records.

    Args:
        split: ``"train"`` or ``"test"``.
        root: Folder that holds, or will hold, ``cifar-100-binary``, the original's binary version, its records in any
            order; by default as in :func:`cifar10`.
        download: Fetch what is missing or damaged first (169 MB, once).

    Returns:
        Images ``(N, 3, 32, 32)``, labelled with the 100 fine classes. ``indices`` are ``0 .. N - 1``, the places in the
        sorted order.

    Raises:
        ValueError: Unknown ``split``, or a damaged file.
        FileNotFoundError: The set is not there; names the command that fetches it.
        ConnectionError: No mirror delivered; names each with its reason.

    Source: A. Krizhevsky, *Learning Multiple Layers of Features from Tiny Images*, 2009.

    >>> cifar100("test", root="not-there")  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    FileNotFoundError: CIFAR-100 is not in ... This fetches it: python -c "from normlib import data; ...
    """
    from normlib.data import cifar100_files

    check_choice("split", split, cifar100_files.SORTED)
    return _verified("CIFAR-100", cifar100_files, split, root, download=download)


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
    from normlib.data import cifar10_files

    check_choice("split", split, cifar10_files.SPLITS)
    folder = _data_folder(root) / "cifar10-jpeg" / split
    count = len(cifar10_files.SPLITS[split]) * cifar10_files.RECORDS_PER_FILE
    expected = (
        f"expected {count} images {folder}/<class>/<index>.jpg, where <class> is one of "
        f"{', '.join(cifar10_files.CLASSES)} and <index> the place in the original, 00000 to {count - 1:05d}"
    )
    try:
        images = image_folder(folder, index_from_name=True)
    except FileNotFoundError as error:
        raise FileNotFoundError(f"{expected}; {error}") from None
    if images.classes != cifar10_files.CLASSES or not torch.equal(images.indices, torch.arange(count)):
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
    from normlib.data import human_label_files

    command = _fetch_command("cifar10h", root)
    found = human_label_files.get(human_label_files.CIFAR10H, _data_folder(root), command, download=download)
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
    from normlib.data import human_label_files

    command = _fetch_command("cifar10n", root)
    found = human_label_files.get(human_label_files.CIFAR10N, _data_folder(root), command, download=download)
    people = np.stack([found[f"random{person}"] for person in (1, 2, 3)], axis=1)
    return HumanVotes("CIFAR-10N", (people[:, :, None] == np.arange(10)).sum(axis=1), found["clean"].astype(np.int64))


def load(name: str, split: str = "train") -> ImageSet:
    """A data set by its name, as experiments name it.

    Args:
        name: ``"digits"``, ``"cifar10"`` or ``"cifar100"`` (downloaded if they are not there), or ``"cifar10-jpeg"``.
        split: ``"train"`` or ``"test"``, as in the function of that name.

    Returns:
        What the function of that name returns.

    Raises:
        ValueError: Unknown ``name`` or ``split``.

    >>> load("digits", "test")
    ImageSet('digits-test': 450 images, 1x8x8, 10 classes)
    """
    loaders: dict[str, Callable[..., ImageSet]] = {
        "digits": digits,
        "cifar10": partial(cifar10, download=True),
        "cifar100": partial(cifar100, download=True),
        "cifar10-jpeg": cifar10_jpeg,
    }
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
    from normlib.data import image_files

    check_choice("on_corrupt", on_corrupt, ("error", "skip"))
    height_width = None if size is None else image_files.height_and_width(size)
    root = path_of("path", path).expanduser()
    classes, files, labels = image_files.list_class_files(root)
    indices = np.arange(len(files), dtype=np.int64)
    if index_from_name:
        numbers = image_files.numbers_in_names(files)
        order = np.argsort(numbers)
        files, labels, indices = [files[i] for i in order], labels[order], numbers[order]
    pixels, kept = image_files.read_images(files, height_width, on_corrupt)
    return ImageSet(
        torch.from_numpy(pixels),
        torch.from_numpy(labels[kept]),
        torch.from_numpy(indices[kept]),
        classes,
        root.resolve().name,
    )


def _verified(title: str, files: ModuleType, split: str, root: str | os.PathLike | None, *, download: bool) -> ImageSet:
    """One split of a set whose files are known by their checksums; ``files`` knows them, reads and fetches them."""
    folder, name = _data_folder(root), title.replace("-", "").lower()
    if download and not files.is_complete(folder):
        files.fetch(folder)
    command = _fetch_command(name, root)
    try:
        images, labels = files.read_split(folder, split)
    except FileNotFoundError:
        raise FileNotFoundError(f"{title} is not in {folder / files.FOLDER}. This fetches it: {command}") from None
    except ValueError as error:
        raise ValueError(f"{error}. This fetches it again: {command}") from None
    places = torch.arange(len(labels))
    return ImageSet(torch.from_numpy(images), torch.from_numpy(labels), places, files.CLASSES, f"{name}-{split}")


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
