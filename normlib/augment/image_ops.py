"""Operations on a batch of images with one parameter per image: what :mod:`normlib.augment` applies."""

import torch
import torch.nn.functional as F
from torch import Tensor


def check_form(images: Tensor) -> None:
    """Refuse what is not a batch of images by type or shape, whatever its values."""
    if not isinstance(images, Tensor) or not (images.dtype == torch.uint8 or images.is_floating_point()):
        got = getattr(images, "dtype", type(images).__name__)
        raise TypeError(f"images must be a uint8 or float tensor, got {got}; convert with torch.as_tensor or .to")
    if images.ndim != 4 or 0 in images.shape[1:]:
        raise ValueError(f"images must have shape (N, C, H, W), none of C, H, W zero, got {tuple(images.shape)}")


def check_values(images: Tensor, *, anywhere: bool = False) -> None:
    """Refuse float images outside [0, 1]; unless ``anywhere``, on the CPU only, since a GPU would have to wait."""
    if images.dtype != torch.uint8 and len(images) and (anywhere or images.device.type == "cpu"):
        low, high = (value.item() for value in images.aminmax())
        if not (low >= 0 and high <= 1):  # in this form NaN fails too
            raise ValueError(f"float images must lie in [0, 1], got {low:g} to {high:g}; divide by 255 or pass uint8")


def unit_images(images: Tensor, *, check: bool | None = None) -> Tensor:
    """Images as contiguous float32 in [0, 1]: uint8 is divided by 255. Arguments and errors as in ``TwoViews``.

    >>> unit_images(torch.tensor([0, 255], dtype=torch.uint8).view(2, 1, 1, 1)).flatten()
    tensor([0., 1.])
    """
    check_form(images)
    if check is None or check:
        check_values(images, anywhere=check is not None)
    unit = images.to(torch.float32, memory_format=torch.contiguous_format)  # channels-last makes grid_sample slower
    return unit.div_(255) if images.dtype == torch.uint8 else unit


def resample(
    images: Tensor,
    size: int,
    *,
    box: Tensor | None = None,
    flip: Tensor | None = None,
    angle: Tensor | None = None,
    zoom: Tensor | None = None,
    shift: Tensor | None = None,
) -> Tensor:
    """Rotate, zoom, shift, crop, resize and flip in one ``grid_sample``, into memory of its own.

    Arguments as in :class:`normlib.augment.Parameters`, but all float32, ``flip`` too.
    """
    n, _, height, width = images.shape
    if height == width == size and all(step is None for step in (box, flip, angle, zoom, shift)):
        return images.clone()
    none, whole = images.new_zeros(n, 1), images.new_ones(n, 1)
    top, left, h, w = (none, none, whole * height, whole * width) if box is None else box[:, :, None].unbind(1)
    steps = torch.arange(size, device=images.device, dtype=images.dtype)
    centres = (2 * steps + 1) / size - 1  # of the view's pixels, in [-1, 1]
    mirror = 1 if flip is None else 1 - 2 * flip[:, None]
    # in pixels from the image's centre, but never past the centre of a crop's outermost pixel: no light from outside
    x = left + (w - width) / 2 + mirror * w / 2 * centres.clamp(1 / w - 1, 1 - 1 / w)
    y = top + (h - height) / 2 + h / 2 * centres.clamp(1 / h - 1, 1 - 1 / h)
    if shift is not None:
        x, y = x - shift[:, :1], y - shift[:, 1:]
    turn = none if angle is None else angle[:, None].deg2rad()
    scale = 2 if zoom is None else 2 / zoom[:, None]
    cos, sin = turn.cos() * scale, turn.sin() * scale
    across = torch.stack((cos * x / width, -sin * x / height), 1)
    down = torch.stack((sin * y / width, cos * y / height), 1)
    grid = across[:, :, None, :] + down[:, :, :, None]  # (N, 2, size, size); affine_grid's matrix product is slower
    return F.grid_sample(images, grid.permute(0, 2, 3, 1), align_corners=False)


def luma(images: Tensor) -> Tensor:
    """Grey values with torchvision's weights, ``(N, 1, H, W)``."""
    if images.shape[1] == 1:
        return images.clone()
    red, green, blue = images.split(1, 1)  # no matrix product, which autocast would take in half precision
    return (0.2989 * red).add_(green, alpha=0.587).add_(blue, alpha=0.114)


def blend(images: Tensor, other: Tensor, share: Tensor) -> None:
    """Mix into ``images``, in place: their ``share``, the rest from ``other``."""
    images.mul_(share).add_(other.mul_(1 - share)).clamp_(0, 1)


def turn_hue(images: Tensor, turns: Tensor) -> None:
    """Shift hue on the HSV hexagon in place: exact, with no case for each of its six sides.

    A channel is at the pixel's highest value up to one sixth of a turn from its pure colour, falls over the next sixth
    and is lowest beyond. Backwards, hue lies ``1 + red + blue - green`` sixths (in shares of the chroma) from green,
    towards blue or towards red, whichever is larger.
    """
    red, green, blue = images.split(1, 1)
    low = torch.minimum(torch.minimum(red, green), blue)
    high = torch.maximum(torch.maximum(red, green), blue)
    chroma = high - low
    from_green = (red + blue).sub_(green).sub_(low).div_(chroma.clamp_min(1e-12)).add_(1)
    hue = from_green.copysign_(blue - red).add_(6 * turns)
    pure = torch.arange(-2, 4, 2, device=images.device).view(3, 1, 1)
    distance = torch.sub(hue, pure, out=images).abs_()
    distance.sub_(3).abs_().sub_(3).abs_()  # the shorter way round
    distance.sub_(1).clamp_(0, 1).mul_(chroma.neg_()).add_(high)
