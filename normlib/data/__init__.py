"""Data sets in memory: uint8 pixels, labels, and where in the original each image stood.

A set that fits in memory as uint8 (CIFAR-10's training images: 154 MB) needs no loader: :mod:`normlib.augment` turns a
whole batch of it into views on the device. ``indices`` keep their meaning through every subset, so tables about the
original (human labels, say) can be joined on them.
"""

from normlib.data.datasets import cifar10, cifar10_jpeg, cifar10h, cifar10n, cifar100, digits, image_folder, load
from normlib.data.human_votes import HumanVotes
from normlib.data.image_set import ImageSet
from normlib.data.variants import corrupt, hold_out, long_tailed

__all__ = [
    "HumanVotes",
    "ImageSet",
    "cifar10",
    "cifar10_jpeg",
    "cifar10h",
    "cifar10n",
    "cifar100",
    "corrupt",
    "digits",
    "hold_out",
    "image_folder",
    "load",
    "long_tailed",
]
