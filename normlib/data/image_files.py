"""Finding image files in class folders, and decoding them into one array."""

import os
import stat
import warnings
from numbers import Integral
from pathlib import Path

import numpy as np

from normlib._utils.files import UNREADABLE

LARGEST = np.iinfo(np.int64).max
SUFFIXES = (".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp")


def height_and_width(size: int | tuple[int, int]) -> tuple[int, int]:
    """Both sides that a ``size`` argument asks for.

    Raises:
        ValueError: It is neither a positive integer nor two of them.
    """
    sides = size if isinstance(size, tuple | list) else (size, size)
    integers = all(isinstance(side, Integral) and not isinstance(side, bool) for side in sides)
    if not integers or len(sides) != 2 or min(sides) < 1:
        raise ValueError(f"size must be a positive integer or two of them (height, width), got {size!r}")
    return int(sides[0]), int(sides[1])


def list_class_files(root: Path) -> tuple[tuple[str, ...], list[str], np.ndarray]:
    """Class names, the image files class by class, and the label of each; all in order of the names.

    Raises:
        FileNotFoundError: The folder, its class folders or a class's images are not there.
        ValueError: An image lies in a folder below a class folder.
    """
    if not root.is_dir():
        raise FileNotFoundError(f"path: there is no folder {root}")
    classes = _folders(root)
    if not classes:
        raise FileNotFoundError(f"path: {root} has no sub-folders; expected one sub-folder of images for each class")
    files, labels = [], []
    for label, name in enumerate(classes):
        images = _images(root / name)
        if not images:
            raise FileNotFoundError(
                f"path: class folder {root / name} holds no images ({' '.join(SUFFIXES)}); "
                "if its sub-folders are the classes, give this folder instead"
            )
        if deeper := _image_below(root / name):
            raise ValueError(
                f"path: {deeper} lies deeper than its class folder {root / name}, which holds images too; "
                "move it into a class folder or out of the data set"
            )
        files += [os.path.join(root, name, image) for image in images]
        labels += [label] * len(images)
    return tuple(classes), files, np.array(labels, dtype=np.int64)


def _folders(folder: Path) -> list[str]:
    return sorted(entry.name for entry in os.scandir(folder) if entry.is_dir() and not entry.name.startswith("."))


def _images(folder: Path) -> list[str]:
    return sorted(
        entry.name
        for entry in os.scandir(folder)
        if entry.name.lower().endswith(SUFFIXES) and not entry.name.startswith(".") and not entry.is_dir()
    )


def _image_below(folder: Path) -> Path | None:
    """Some image in a folder below this one."""
    for below in (folder / name for name in _folders(folder)):
        if images := _images(below):
            return below / images[0]
        if deeper := _image_below(below):
            return deeper
    return None


def numbers_in_names(files: list[str]) -> np.ndarray:
    """The number that each file is named by.

    Raises:
        ValueError: A name is not a number or too large a one, or two share one.
    """
    seen: dict[int, str] = {}
    for file in files:
        stem = Path(file).stem
        if not (stem.isascii() and stem.isdigit()):
            raise ValueError(f"index_from_name=True needs file names that are numbers, such as 00042.jpg; got {file}")
        if int(stem) > LARGEST:
            raise ValueError(f"index_from_name=True needs numbers up to {LARGEST}; got {file}")
        if int(stem) in seen:
            raise ValueError(f"index_from_name=True needs distinct numbers; {seen[int(stem)]} and {file} share one")
        seen[int(stem)] = file
    return np.array(list(seen), dtype=np.int64)


def read_images(files: list[str], size: tuple[int, int] | None, on_corrupt: str) -> tuple[np.ndarray, np.ndarray]:
    """Pixels, uint8 ``(n, 3, H, W)``, of the files that could be read, and the positions of those files.

    Raises:
        ValueError: A file cannot be read while ``on_corrupt`` is ``"error"``, none can, or sizes differ.
    """
    from tqdm import tqdm

    pixels: np.ndarray | None = None
    kept: list[int] = []
    corrupt: list[str] = []
    for position, file in enumerate(tqdm(files, "reading", leave=False, delay=2, mininterval=0.5)):
        image = _decode(file, size)  # one at a time: Pillow holds the interpreter's lock, threads only slow it down
        if isinstance(image, Exception):
            if on_corrupt == "error":
                raise ValueError(f"{file} cannot be read: {image}. Repair it, or pass on_corrupt='skip'")
            corrupt.append(file)
            continue
        if pixels is None:
            pixels = np.empty((len(files), 3, *image.shape[:2]), np.uint8)
        if image.shape[:2] != pixels.shape[2:]:
            raise ValueError(
                f"images must have one size: {files[kept[0]]} is {pixels.shape[2]}x{pixels.shape[3]} (height x width), "
                f"{file} is {image.shape[0]}x{image.shape[1]}. Pass size= to resize them all"
            )
        pixels[len(kept)] = image.transpose(2, 0, 1)
        kept.append(position)
    if pixels is None:
        raise ValueError(f"none of the {len(files)} images can be read; the first is {files[0]}")
    if corrupt:
        warnings.warn(f"left out {len(corrupt)} of {len(files)} images: {', '.join(corrupt)}", stacklevel=3)
    return pixels[: len(kept)], np.array(kept)


def _decode(file: str, size: tuple[int, int] | None) -> np.ndarray | Exception:
    """RGB pixels ``(H, W, 3)``, or the error that the file caused."""
    from PIL import Image

    try:
        if not stat.S_ISREG(os.stat(file).st_mode):
            raise ValueError("it is a device or a pipe")
        with Image.open(file) as opened:
            if opened.mode.startswith(("I", "F")):
                raise ValueError(f"its mode is {opened.mode}, and only images of 8 bits a channel are supported")
            image = opened.convert("RGB")
            if size is not None and image.size != size[::-1]:
                image = image.resize(size[::-1], Image.Resampling.BICUBIC)
            return np.asarray(image)
    except (OSError, Image.DecompressionBombError, *UNREADABLE) as error:
        return error
