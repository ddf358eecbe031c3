"""Random views of a whole batch at once: each image has its own crop, flip, colours, rotation or noise.

Drawing lots and applying them are separate: :meth:`TwoViews.sample_parameters` turns a generator into
:class:`Parameters` (what happens to which image, in pixels, degrees and factors), and :func:`apply` carries them out
without randomness and without a loop over images: one ``grid_sample`` for all geometry, then a few passes for the
colours.

Given the same parameters the result is torchvision's for float tensors, to 2e-6 per pixel (its chain on 8-bit PIL
images rounds after every step and ends 1.1/255 away on average). The parameters follow torchvision's distributions,
with its rounding to pixels and its rejected crops. Differences: the colour operations run in the order brightness,
contrast, saturation, hue, as in the paper's code, where one ``ColorJitter`` of four strengths shuffles them; shifts may
be parts of pixels; nothing is smoothed before shrinking, so choose a ``size`` no smaller than the images or shrink
these first.
"""

import math
from dataclasses import dataclass, fields, replace
from typing import Any, Self

import torch
from torch import Generator, Tensor

from normlib._utils.arguments import check_count, check_number, check_type
from normlib.augment.image_ops import blend, check_form, luma, resample, turn_hue, unit_images


@dataclass(frozen=True, eq=False)
class Parameters:
    """What happens to each of N images; ``None`` leaves a step out.

    Args:
        size: Side of the square views in pixels.
        box: Crop ``(top, left, height, width)`` in pixels of the image, ``(N, 4)``.
        flip: Whether to mirror left and right, bool, ``(N,)``.
        angle: Rotation about the centre in degrees, clockwise, ``(N,)``.
        zoom: Magnification about the centre, > 0, ``(N,)``.
        shift: Shift ``(right, down)`` in pixels of the image, ``(N, 2)``.
        brightness, contrast, saturation: Factors >= 0, ``(N,)``; 1 changes nothing.
        hue: Shift of hue in turns, in [-0.5, 0.5], ``(N,)``.
        grayscale: Whether to lose the colours, bool, ``(N,)``.
        noise: What to add at last, ``(N, C, size, size)``.
    """

    size: int
    box: Tensor | None = None
    flip: Tensor | None = None
    angle: Tensor | None = None
    zoom: Tensor | None = None
    shift: Tensor | None = None
    brightness: Tensor | None = None
    contrast: Tensor | None = None
    saturation: Tensor | None = None
    hue: Tensor | None = None
    grayscale: Tensor | None = None
    noise: Tensor | None = None

    def tensors(self) -> dict[str, Tensor]:
        """The steps that are not left out, by name."""
        values = {field.name: getattr(self, field.name) for field in fields(self)[1:]}
        return {name: value for name, value in values.items() if value is not None}

    def to(self, device: torch.device | str) -> Self:
        """The same parameters on another device."""
        later = torch.device(device).type != "cpu"  # a copy on the CPU may be read before it has arrived
        moved: dict[str, Any] = {name: value.to(device, non_blocking=later) for name, value in self.tensors().items()}
        return replace(self, **moved)


@dataclass(frozen=True, kw_only=True)
class TwoViews:
    """Draws two random views of every image; start from :meth:`natural` or :meth:`digits`. The defaults change nothing.

    Steps in order: rotation, zoom and shift about the centre (black comes in from outside), crop and resize, flip,
    brightness, contrast, saturation, hue, grayscale, noise; after each step values are clamped to [0, 1], as in
    torchvision. A one-channel image has no colour to change: saturation, hue and grayscale leave it as it is.

    Args:
        size: Side of the square views in pixels.
        scale: Least and largest share of the image's area that a crop keeps.
        ratio: Least and largest width over height of a crop.
        flip: Probability of mirroring left and right.
        brightness, contrast, saturation: Factors are uniform in ``[max(0, 1 - value), 1 + value]``.
        hue: Shifts of hue are uniform in ``[-hue, hue]`` turns, at most 0.5.
        jitter: Probability of each of these four, drawn separately.
        grayscale: Probability of losing the colours.
        rotation: Angles are uniform in ``[-rotation, rotation]`` degrees.
        shift: Largest shift along each axis in pixels of the image, uniform.
        zoom: Least and largest magnification, uniform.
        noise: Standard deviation of Gaussian noise on every pixel and channel.

    Raises:
        ValueError: An option is out of its range; the message names it.

    >>> images = torch.randint(0, 256, (8, 3, 32, 32), dtype=torch.uint8)
    >>> view1, view2 = TwoViews.natural()(images, torch.Generator().manual_seed(0))
    >>> view1.shape, view1.dtype
    (torch.Size([8, 3, 32, 32]), torch.float32)
    """

    size: int
    scale: tuple[float, float] = (1.0, 1.0)
    ratio: tuple[float, float] = (1.0, 1.0)
    flip: float = 0.0
    brightness: float = 0.0
    contrast: float = 0.0
    saturation: float = 0.0
    hue: float = 0.0
    jitter: float = 1.0
    grayscale: float = 0.0
    rotation: float = 0.0
    shift: float = 0.0
    zoom: tuple[float, float] = (1.0, 1.0)
    noise: float = 0.0

    def __post_init__(self) -> None:
        check_count("size", self.size, hint="it is the side of the views in pixels")
        for name, largest in (("scale", 1.0), ("ratio", math.inf), ("zoom", math.inf)):
            pair = getattr(self, name)
            if not isinstance(pair, tuple | list) or len(pair) != 2:
                raise ValueError(f"{name} must be a pair (low, high) with 0 < low <= high <= {largest}, got {pair!r}")
            check_number(name, pair[0], above=0)
            check_number(name, pair[1], at_least=pair[0], at_most=largest, hint="the pair is (low, high)")
        limits: dict[str, float] = {"flip": 1, "jitter": 1, "grayscale": 1, "hue": 0.5}
        for name in (*limits, "brightness", "contrast", "saturation", "rotation", "shift", "noise"):
            check_number(name, getattr(self, name), at_least=0, at_most=limits.get(name))

    @classmethod
    def natural(cls, size: int = 32, **options: float | tuple[float, float]) -> Self:
        """The paper's recipe for photographs; ``options`` of :class:`TwoViews` override it.

        Crops of 20 to 100 % of the area, ratio 3/4 to 4/3; flip 0.5; brightness, contrast and saturation 0.4 and hue
        0.1, each with probability 0.8 of its own; grayscale 0.2; no blur, no normalisation by mean and standard
        deviation.

        Source: Draganov et al. 2025, released code.

        >>> TwoViews.natural(grayscale=0.0).jitter
        0.8
        """
        recipe: dict[str, Any] = {"scale": (0.2, 1.0), "ratio": (3 / 4, 4 / 3), "flip": 0.5}
        recipe |= {"brightness": 0.4, "contrast": 0.4, "saturation": 0.4, "hue": 0.1, "jitter": 0.8, "grayscale": 0.2}
        return cls(size=size, **recipe | options)

    @classmethod
    def digits(cls, size: int = 8, **options: float | tuple[float, float]) -> Self:
        """Small changes that leave an 8x8 digit its class, so no flip; ``options`` of :class:`TwoViews` override them.

        Shift up to 1 pixel, rotation up to 15 degrees, zoom 0.85 to 1.15, noise of standard deviation 0.1.

        >>> TwoViews.digits().flip
        0.0
        """
        recipe: dict[str, Any] = {"rotation": 15.0, "shift": 1.0, "zoom": (0.85, 1.15), "noise": 0.1}
        return cls(size=size, **recipe | options)

    def __call__(
        self, images: Tensor, generator: Generator | None = None, *, check: bool | None = None
    ) -> tuple[Tensor, Tensor]:
        """Two views of each image, drawn independently.

        Args:
            images: ``(N, C, H, W)``, uint8, or float in [0, 1].
            generator: Source of all randomness, on the CPU (then the draws are the same whatever the images' device) or
                on the images' device (then nothing waits for it). ``None``: torch's global one of the images' device.
            check: Whether float images are searched for values outside [0, 1]; ``None``: on the CPU only, for on a
                GPU the search would wait for all work in flight.

        Returns:
            Two tensors ``(N, C, size, size)`` on the images' device, float32 in [0, 1], contiguous, without gradient.

        Raises:
            TypeError: ``images`` is not a uint8 or float tensor, or ``generator`` is no torch generator.
            ValueError: Wrong number of dimensions or channels, or values outside [0, 1].
        """
        images = unit_images(images, check=check)
        first = apply(images, self.sample_parameters(images, generator), check=False)
        return first, apply(images, self.sample_parameters(images, generator), check=False)

    def sample_parameters(self, images: Tensor, generator: Generator | None = None) -> Parameters:
        """Draw one view's parameters; of ``images``, ``(N, C, H, W)``, only shape and device matter.

        >>> TwoViews.digits().sample_parameters(torch.zeros(2, 1, 8, 8), torch.Generator().manual_seed(0)).angle.shape
        torch.Size([2])
        """
        check_form(images)
        if not (generator is None or isinstance(generator, Generator)):
            raise TypeError(
                f"generator must be a torch.Generator or None, got {generator!r}; "
                "pass torch.Generator().manual_seed(...) for draws of a given seed"
            )
        n, channels, height, width = images.shape
        device = images.device if generator is None else generator.device
        source: dict[str, Any] = {"generator": generator, "device": device}
        drawing = source | {"dtype": torch.float32}  # whatever the default dtype is

        def uniform(low: float, high: float, *shape: int) -> Tensor:
            return low + (high - low) * torch.rand(n, *shape, **drawing)

        def coin(probability: float) -> Tensor | None:
            return torch.rand(n, **drawing) < probability if probability else None

        def jitter(strength: float, low: float, neutral: float) -> Tensor | None:
            happens = coin(self.jitter if strength else 0)
            return None if happens is None else torch.where(happens, uniform(low, neutral + strength), neutral)

        def factor(strength: float) -> Tensor | None:
            return jitter(strength, max(0.0, 1 - strength), 1.0)

        size, pixels = self.size, (n, channels, self.size, self.size)
        whole = self.scale == self.ratio == (1, 1) and height == width
        return Parameters(
            size=size,
            box=None if whole else random_boxes(n, height, width, self.scale, self.ratio, **source),
            flip=coin(self.flip),
            angle=uniform(-self.rotation, self.rotation) if self.rotation else None,
            zoom=uniform(*self.zoom) if self.zoom != (1, 1) else None,
            shift=uniform(-self.shift, self.shift, 2) if self.shift else None,
            brightness=factor(self.brightness),
            contrast=factor(self.contrast),
            saturation=factor(self.saturation),
            hue=jitter(self.hue, -self.hue, 0.0),
            grayscale=coin(self.grayscale),
            noise=torch.randn(pixels, **drawing).mul_(self.noise) if self.noise else None,
        ).to(images.device)


def random_boxes(
    n: int,
    height: int,
    width: int,
    scale: tuple[float, float],
    ratio: tuple[float, float],
    *,
    generator: Generator | None = None,
    device: torch.device | str | None = None,
) -> Tensor:
    """Crop boxes ``(top, left, height, width)`` in whole pixels, distributed as in torchvision's ``RandomResizedCrop``.

    Share of the area uniform, logarithm of the ratio uniform, sides rounded to pixels, position uniform. The first of
    ten tries that fits counts; where none does, the largest central box of an allowed ratio, at least one pixel wide.

    Args:
        n: Number of boxes.
        height, width: Of the images, in pixels.
        scale, ratio: As in :class:`TwoViews`.
        generator: Source of randomness.
        device: Of the generator and of the result.

    Returns:
        float32 whole numbers, ``(n, 4)``.

    >>> random_boxes(1, 32, 32, scale=(1.0, 1.0), ratio=(1.0, 1.0))
    tensor([[ 0.,  0., 32., 32.]])
    """
    drawing: dict[str, Any] = {"generator": generator, "device": device, "dtype": torch.float32}
    share, tilt = torch.rand(2, n, 10, **drawing)
    target = height * width * (scale[0] + (scale[1] - scale[0]) * share)
    shape = ratio[0] * (ratio[1] / ratio[0]) ** tilt
    h, w = (target / shape).sqrt_().round_(), (target * shape).sqrt_().round_()
    fits = (h > 0) & (h <= height) & (w > 0) & (w <= width)
    first = fits.int().argmax(1, keepdim=True)  # of equals, argmax takes the first
    h, w = h.gather(1, first)[:, 0], w.gather(1, first)[:, 0]
    down, across = torch.rand(2, n, **drawing)
    drawn = (down * (height - h + 1)).floor_(), (across * (width - w + 1)).floor_(), h, w
    central_h = min(height, max(1, round(width / ratio[0])))
    central_w = min(width, max(1, round(height * ratio[1])))
    central = (height - central_h) // 2, (width - central_w) // 2, central_h, central_w
    return torch.stack([torch.where(fits.any(1), d, c) for d, c in zip(drawn, central, strict=True)], 1)


@torch.no_grad()
def apply(images: Tensor, parameters: Parameters, *, check: bool | None = None) -> Tensor:
    """One view of each image under given parameters; nothing random, the images stay as they are.

    Interpolation is bilinear and sees no pixel outside a crop, as ``torchvision.transforms.functional.resized_crop``.

    Args:
        images: ``(N, C, H, W)``, uint8, or float in [0, 1].
        parameters: For N images, on their device. Shapes are checked; values are not, for a GPU would have to wait.
        check: As in :meth:`TwoViews.__call__`.

    Returns:
        Views ``(N, C, size, size)``, float32 in [0, 1].

    Raises:
        TypeError: ``images`` is not a uint8 or float tensor, ``parameters`` is none, or holds what is no tensor.
        ValueError: As in :meth:`TwoViews.__call__`, or the parameters have other shapes or are for other images.

    >>> apply(torch.full((1, 1, 2, 2), 0.5), Parameters(size=2, brightness=torch.tensor([1.5]))).unique()
    tensor([0.7500])
    """
    check_type(Parameters, parameters=parameters)
    check_count("parameters.size", parameters.size)
    images = unit_images(images, check=check)
    given, (n, channels) = parameters.tensors(), images.shape[:2]
    shapes = {"box": (n, 4), "shift": (n, 2), "noise": (n, channels, parameters.size, parameters.size)}
    for name, value in given.items():
        check_type(Tensor, **{f"parameters.{name}": value})
        if value.shape != (shape := shapes.get(name, (n,))):
            raise ValueError(
                f"parameters.{name} must be for the {n} images, of shape {shape}, got {tuple(value.shape)}"
            )
    colour = {"brightness", "contrast", "saturation", "hue", "grayscale"} & given.keys()
    if colour and channels not in (1, 3):
        raise ValueError(
            f"images must have 1 or 3 channels for {', '.join(sorted(colour))}, got shape {tuple(images.shape)}; "
            "channels come second: permute, or switch these options off"
        )
    geometry = {name: given[name].float() for name in given.keys() & {"box", "flip", "angle", "zoom", "shift"}}
    view = resample(images, parameters.size, **geometry)
    factor = {name: given[name].view(-1, 1, 1, 1).float() for name in colour}
    if "brightness" in factor:
        view.mul_(factor["brightness"]).clamp_(0, 1)
    if "contrast" in factor:
        blend(view, luma(view).mean((1, 2, 3), keepdim=True), factor["contrast"])
    if "saturation" in factor and channels == 3:
        blend(view, luma(view), factor["saturation"])
    if "hue" in factor and channels == 3:
        turn_hue(view, factor["hue"])
    if "grayscale" in factor and channels == 3:
        blend(view, luma(view), 1 - factor["grayscale"])
    return view if parameters.noise is None else view.add_(parameters.noise).clamp_(0, 1)
