"""Images that are of none of CIFAR-10's kinds: other photographs, textures, drawings, noise, all of 32×32 pixels.

CIFAR-100 comes from :func:`normlib.data.cifar100`, and noise is made here. The others are read from one file each,
``other-images/NAME.npz`` in normlib's cache, with uint8 ``images`` of shape ``(N, H, W)`` or ``(N, H, W, 3)``:

``flowers``
    3,670 photographs of five kinds of flowers (CC BY 2.0), ``flower_photos.tgz`` of the TensorFlow tutorials. Of each
    file the largest central square, scaled to 32×32 by area averaging.
``textures``
    1,481 painted and photographed surfaces of two games (GPL-2 or later), from the Debian packages
    ``nexuiz-textures`` 2.5.2-12 and ``openarena-081-textures`` 0.8.5split-14, cropped and scaled in the same way.
``fashion-mnist``, ``mnist``
    10,000 test images each, 28×28 in grey, as ``torchvision.datasets`` downloads them. Here they are scaled to 32×32
    (bilinear), and the grey becomes the three colours.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
import torch

from normlib import data
from normlib._utils.arguments import check_choice

if TYPE_CHECKING:
    from normlib.data import ImageSet

FILES = ("flowers", "textures", "fashion-mnist", "mnist")
NOISE = ("uniform noise", "gaussian noise")
PHOTOGRAPHS = {"cifar10": "test", "cifar100": "test"}
NAMES = (*PHOTOGRAPHS, *FILES, *NOISE)
NOISE_IMAGES = 2000


def image_set(name: str, like: ImageSet) -> ImageSet:
    """Other images of that name, in the shape of those of ``like``.

    Raises:
        ValueError: There is no such set, or its images have another shape.
        FileNotFoundError: It is not on this machine; the message says where its file belongs.
    """
    check_choice("name", name, NAMES)
    if name in NOISE:
        return _noise(name, tuple(like.images.shape[1:]))
    found = data.load(name, PHOTOGRAPHS[name]) if name in PHOTOGRAPHS else _from_file(name)
    if found.images.shape[1:] != like.images.shape[1:]:
        raise ValueError(f"{name} has images of shape {tuple(found.images.shape[1:])}, unlike those of {like.name}")
    return found


@lru_cache(maxsize=len(FILES))
def _from_file(name: str) -> ImageSet:
    import pooch

    path = pooch.os_cache("normlib") / "other-images" / f"{name}.npz"
    if not path.is_file():
        raise FileNotFoundError(f"expected the images of {name!r} in {path}; {__name__} says how the file is made")
    with np.load(path, allow_pickle=False) as arrays:
        pixels = arrays["images"]
    if pixels.ndim == 3:
        pixels = np.repeat(pixels[..., None], 3, axis=3)
    images = torch.from_numpy(np.ascontiguousarray(pixels)).permute(0, 3, 1, 2)
    if images.shape[2:] != (32, 32):
        scaled = torch.nn.functional.interpolate(images.float(), (32, 32), mode="bilinear", antialias=True)
        images = scaled.round().clamp(0, 255).to(torch.uint8)
    return _unlabelled(images.contiguous(), name)


def _noise(name: str, shape: tuple[int, ...]) -> ImageSet:
    """Pixels that know nothing of each other: uniform, or Gaussian with the mean and spread of photographs."""
    generator = torch.Generator().manual_seed(NOISE.index(name))
    size = (NOISE_IMAGES, *shape)
    if name == "uniform noise":
        return _unlabelled(torch.randint(0, 256, size, generator=generator, dtype=torch.uint8), name)
    values = 120 + 63 * torch.randn(size, generator=generator)
    return _unlabelled(values.round().clamp(0, 255).to(torch.uint8), name)


def _unlabelled(images: torch.Tensor, name: str) -> ImageSet:
    count = len(images)
    return data.ImageSet(images, torch.zeros(count, dtype=torch.int64), torch.arange(count), ("any",), name)
