"""Variants of an image set: classes held out, classes made rare, pixels corrupted.

Every variant is a new set whose labels, class names and indices mean what they meant before.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Generator, Tensor

from normlib._utils.arguments import check_choice, check_count, check_number, check_seed, check_type, listed

if TYPE_CHECKING:
    from normlib.data.image_set import ImageSet

BLOCK = 1000  # images that are corrupted at a time: 12 MB in float32 at 3x32x32


def hold_out(images: ImageSet, classes: Sequence[int]) -> tuple[ImageSet, ImageSet]:
    """Split off some classes, to train without them and meet them later as something new.

    Args:
        images: The set to split.
        classes: Numbers of the classes to hold out, each once, and not all of them.

    Returns:
        The images of the other classes and those of the held-out ones, both in the order they were in. Labels keep
        their numbers, so no image of the first set has the label of a held-out class.

    Raises:
        TypeError: ``images`` is no image set, or ``classes`` no sequence.
        ValueError: ``classes`` is empty, repeats a class, names one that the set does not have, or names them all.

    >>> from normlib import data
    >>> hold_out(data.digits("test"), [3, 8])  # doctest: +NORMALIZE_WHITESPACE
    (ImageSet('digits-test without 3, 8': 361 images, 1x8x8, 10 classes),
     ImageSet('digits-test, only 3, 8': 89 images, 1x8x8, 10 classes))
    """
    _check_images(images)
    chosen = _class_numbers("classes", classes, images)
    if len(chosen) == len(images.classes):
        raise ValueError(f"classes must leave a class to train on, got all {len(chosen)}")
    held_out = torch.isin(images.labels, torch.tensor(chosen, device=images.labels.device))
    names = ", ".join(images.classes[label] for label in chosen)
    return (
        dataclasses.replace(images.subset(~held_out), name=f"{images.name} without {names}"),
        dataclasses.replace(images.subset(held_out), name=f"{images.name}, only {names}"),
    )


def long_tailed(
    images: ImageSet, *, largest: int, ratio: float, order: Sequence[int] | None = None, seed: int = 0
) -> ImageSet:
    """Frequent and rare classes: ``round(largest * ratio**-i)`` random images of the class at rank i.

    Train on more than one ``order`` to tell what frequency does from what the classes themselves do: for one seed, a
    class that comes later keeps some of the images that it keeps where it comes earlier. The balanced control of the
    same size is ``long_tailed(images, largest=round(len(tailed) / C), ratio=1)``; its size differs by at most C / 2
    images.

    Args:
        images: The set to choose from.
        largest: Images of the most frequent class.
        ratio: How many times more frequent a class is than the next, 1 or more; 1 makes all classes equal.
        order: Class numbers, the most frequent first. Classes that are not named are left out. By default
            ``0 .. C - 1``.
        seed: Of the choice of images within each class.

    Returns:
        The chosen images, in the order they were in.

    Raises:
        TypeError: ``images`` is no image set, or ``order`` no sequence.
        ValueError: A class has too few images or would keep none, ``largest`` is no integer of 1 or more, ``ratio`` is
            below 1, ``order`` repeats a class or names one that the set does not have, or ``seed`` is no integer of 0
            or more.

    Source: Draganov et al. 2025, long-tailed CIFAR-10 with ``largest=5000, ratio=1.5``.

    >>> from normlib import data
    >>> tailed = long_tailed(data.digits("train"), largest=120, ratio=1.5)
    >>> tailed.labels.bincount().tolist()
    [120, 80, 53, 36, 24, 16, 11, 7, 5, 3]
    >>> long_tailed(data.digits("train"), largest=round(len(tailed) / 10), ratio=1).labels.bincount().tolist()
    [36, 36, 36, 36, 36, 36, 36, 36, 36, 36]
    """
    _check_images(images)
    check_count("largest", largest)
    check_number("ratio", ratio, at_least=1)
    check_seed(seed)
    ranking = _class_numbers("order", range(len(images.classes)) if order is None else order, images)
    sizes = {label: round(largest * ratio**-rank) for rank, label in enumerate(ranking)}
    available = images.labels.bincount(minlength=len(images.classes)).tolist()
    for label, size in sizes.items():
        if not 1 <= size <= available[label]:
            raise ValueError(
                f"largest={largest} and ratio={ratio} ask for {size} images of class {label}, "
                f"which has {available[label]}; at least 1 is needed"
            )
    generator = Generator().manual_seed(seed)
    shuffled = torch.randperm(len(images), generator=generator)  # of all, so that no choice depends on the order
    labels = images.labels.cpu()[shuffled]
    kept = [shuffled[labels == label][:size] for label, size in sizes.items()]
    counts = " to ".join(dict.fromkeys(str(sizes[label]) for label in (ranking[0], ranking[-1])))
    name = f"{images.name}, {counts} of a class"
    return dataclasses.replace(images.subset(torch.cat(kept).sort().values), name=name)


def corrupt(images: ImageSet, kind: str, severity: int, *, seed: int = 0) -> ImageSet:
    """The same images made harder to recognise, in one of five degrees.

    For one seed a higher severity does more of the same: the same noise louder, the same square larger.

    ==================  =============================================  ==============================  ============
    kind                what it does                                   strength at severity 1 to 5     strengths
    ==================  =============================================  ==============================  ============
    ``gaussian_noise``  adds noise of this standard deviation          .04, .06, .08, .09, .10         CIFAR-10-C
    ``impulse_noise``   sets this share of values to black or white    .01, .02, .03, .05, .07         CIFAR-10-C
    ``blur``            Gaussian blur with this σ in pixels            .4, .6, .7, .8, 1               CIFAR-10-C
    ``contrast``        scales the distance to the mean grey by this   .75, .5, .4, .3, .15            CIFAR-10-C
    ``occlusion``       covers a random square with the mean colour;   .25, .375, .5, .625, .75        ours
                        this is its side in sides of the image
    ==================  =============================================  ==============================  ============

    Pixels count as 0..1. The strengths are meant for 32x32 photographs. On 8x8 digits blur is stronger, as a pixel is a
    larger part of the image, and noise is weaker: impulse noise 1 leaves every second digit as it was.

    Args:
        images: The set to corrupt, at least 5 pixels high and wide, with 1 or 3 channels.
        kind: A kind of the table.
        severity: 1 (weak) to 5 (strong).
        seed: Of the noise and of the places of the squares.

    Returns:
        A set with corrupted pixels; labels and indices are the same.

    Raises:
        TypeError: ``images`` is no image set.
        ValueError: Unknown ``kind``, another ``severity`` or ``seed``, or images of another form.

    Source: Hendrycks & Dietterich 2019 (CIFAR-10-C's constants); occlusion after DeVries & Taylor 2017 (Cutout).

    >>> from normlib import data
    >>> corrupt(data.digits("test"), "blur", 3)
    ImageSet('digits-test, blur 3': 450 images, 1x8x8, 10 classes)
    """
    _check_images(images)
    check_choice("kind", kind, CORRUPTIONS)
    check_count("severity", severity, at_most=5)
    check_seed(seed)
    channels, height, width = images.images.shape[1:]
    if channels not in (1, 3) or min(height, width) < 5:
        raise ValueError(
            f"images must have 1 or 3 channels and at least 5x5 pixels, got shape {tuple(images.images.shape)}"
        )
    change, strengths = CORRUPTIONS[kind]
    generator = Generator().manual_seed(seed)
    pixels = torch.empty_like(images.images)
    for start in range(0, len(images), BLOCK):
        block = change(images.images[start : start + BLOCK].float() / 255, strengths[severity - 1], generator)
        pixels[start : start + BLOCK] = (block.clamp(0, 1) * 255).round()
    return dataclasses.replace(images, images=pixels, name=f"{images.name}, {kind.replace('_', ' ')} {severity}")


def _gaussian_noise(x: Tensor, deviation: float, generator: Generator) -> Tensor:
    return x + deviation * torch.randn(x.shape, generator=generator).to(x.device)


def _impulse_noise(x: Tensor, share: float, generator: Generator) -> Tensor:
    drawn = torch.rand(x.shape, generator=generator).to(x.device)
    return x.masked_fill(drawn < share / 2, 0).masked_fill(drawn > 1 - share / 2, 1)


def _blur(x: Tensor, sigma: float, generator: Generator) -> Tensor:
    from torchvision.transforms.v2 import functional

    return functional.gaussian_blur(x, kernel_size=9, sigma=sigma)  # cut at 4σ or more


def _contrast(x: Tensor, factor: float, generator: Generator) -> Tensor:
    from torchvision.transforms.v2 import functional

    return functional.adjust_contrast(x, factor)


def _occlusion(x: Tensor, side: float, generator: Generator) -> Tensor:
    height, width = x.shape[-2:]
    side = round(side * min(height, width))
    drawn = torch.rand(len(x), 2, generator=generator).to(x.device)
    corners = (drawn * (torch.tensor([height, width], device=x.device) - side + 1)).long()[..., None]
    rows, columns = (torch.arange(size, device=x.device) - corners[:, axis] for axis, size in enumerate(x.shape[-2:]))
    inside = ((rows >= 0) & (rows < side))[:, :, None] & ((columns >= 0) & (columns < side))[:, None]
    return torch.where(inside[:, None], x.mean((2, 3), keepdim=True), x)


CORRUPTIONS: dict[str, tuple[Callable[[Tensor, float, Generator], Tensor], tuple[float, ...]]] = {
    "gaussian_noise": (_gaussian_noise, (0.04, 0.06, 0.08, 0.09, 0.10)),
    "impulse_noise": (_impulse_noise, (0.01, 0.02, 0.03, 0.05, 0.07)),
    "blur": (_blur, (0.4, 0.6, 0.7, 0.8, 1.0)),
    "contrast": (_contrast, (0.75, 0.5, 0.4, 0.3, 0.15)),
    "occlusion": (_occlusion, (0.25, 0.375, 0.5, 0.625, 0.75)),
}


def _class_numbers(name: str, classes: Sequence[int], images: ImageSet) -> list[int]:
    chosen = listed(name, classes)
    for label in chosen:
        check_count(name, label, at_least=0, at_most=len(images.classes) - 1, hint="it holds class numbers")
    if not chosen or len(set(chosen)) < len(chosen):
        raise ValueError(f"{name} must hold one class or more, each once, got {chosen}")
    return [int(label) for label in chosen]


def _check_images(images: ImageSet) -> None:
    from normlib.data.image_set import ImageSet

    check_type(ImageSet, images=images)
