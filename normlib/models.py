"""Networks of the course: small encoders, the CIFAR ResNet, projection heads, and SimCLR over them."""

from collections import OrderedDict

import torch
from torch import nn

from normlib._arguments import check_count, check_number, check_type
from normlib._global_random import seeded
from normlib.interventions import GradScale

__all__ = [
    "SimCLR",
    "batch_norm_head",
    "digits_encoder",
    "narrow_resnet",
    "prediction_head",
    "projection_head",
    "resnet18_cifar",
]

# Added to a head's seed: parts of the same seed must not draw the same numbers.
_HEAD = 2**31
_PREDICTOR = 2**32


class SimCLR(nn.Module):
    """Backbone and projector: ``x → h → z``. The loss sees only the direction of ``z``; evaluation uses ``h``.

    Args:
        backbone: Maps images ``(N, C, H, W)`` to features ``h`` of shape ``(N, F)``.
        projector: Maps ``h`` to embeddings ``z`` of shape ``(N, D)``.
        grad_scale: GradScale power p behind the projector; 0 adds no layer.

    Raises:
        TypeError: A part is no module.
        ValueError: ``grad_scale`` is negative or not a number.

    Source: Chen et al. 2020 (SimCLR).

    >>> model = SimCLR(digits_encoder(width=16, out_features=8), projection_head(8, 8, 4))
    >>> model(torch.zeros(2, 1, 8, 8)).shape, model.features(torch.zeros(2, 1, 8, 8)).shape
    (torch.Size([2, 4]), torch.Size([2, 8]))
    """

    def __init__(self, backbone: nn.Module, projector: nn.Module, *, grad_scale: float = 0.0):
        super().__init__()
        check_type(nn.Module, backbone=backbone, projector=projector)
        self.backbone = backbone
        self.projector = projector
        self.grad_scale = grad_scale_layer(grad_scale)

    def features(self, x: torch.Tensor) -> torch.Tensor:
        """Backbone output ``h``, shape ``(N, F)``."""
        return self.backbone(x)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Embeddings ``z``, shape ``(N, D)``, not normalised."""
        return self.grad_scale(self.projector(self.features(x)))


def grad_scale_layer(grad_scale: float) -> nn.Module:
    """The layer behind a head for a GradScale power p ≥ 0; none does anything for 0."""
    check_number("grad_scale", grad_scale, at_least=0)
    return GradScale(grad_scale) if grad_scale else nn.Identity()


def digits_encoder(width: int = 128, out_features: int = 128, *, batch_norm: bool = False, seed: int = 0) -> nn.Module:
    """Small convolutional encoder for ``(N, 1, 8, 8)`` images: two 3×3 convolutions, then one linear layer.

    By default it has no normalisation layer, so that the lengths of its embeddings are its weights' own doing.

    Args:
        width: Channels of the second convolution (half of it in the first).
        out_features: F, the width of the features.
        batch_norm: Put BatchNorm behind each of the three layers, which then have no biases, as in a ResNet.
        seed: Seed of the initial weights; torch's global generator is left as it was.

    Returns:
        Module from ``(N, 1, 8, 8)`` to ``(N, F)``.

    Raises:
        ValueError: A width is no integer of 2 or more, or ``seed`` none of 0 or more.

    >>> digits_encoder(width=16, out_features=8)(torch.zeros(3, 1, 8, 8)).shape
    torch.Size([3, 8])
    """
    check_count("width", width, at_least=2)
    check_count("out_features", out_features, at_least=2)
    with seeded(seed):
        layers = [
            nn.Conv2d(1, width // 2, 3, padding=1, bias=not batch_norm),
            nn.BatchNorm2d(width // 2),
            nn.ReLU(),
            nn.Conv2d(width // 2, width, 3, stride=2, padding=1, bias=not batch_norm),
            nn.BatchNorm2d(width),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(width * 16, out_features, bias=not batch_norm),
            nn.BatchNorm1d(out_features),
            nn.ReLU(),
        ]
    return nn.Sequential(*(layer for layer in layers if batch_norm or "Norm" not in type(layer).__name__))


def resnet18_cifar(*, seed: int = 0) -> nn.Module:
    """ResNet-18 for 32×32 images: 3×3 stem, no max-pooling, zero-initialised residual branches; 512 features.

    Args:
        seed: Seed of the initial weights; torch's global generator is left as it was.

    Returns:
        Module from ``(N, 3, H, W)`` to ``(N, 512)``.

    Raises:
        ValueError: ``seed`` is no integer of 0 or more.

    Source: Chen et al. 2020 (SimCLR), appendix on CIFAR-10; the settings released with Draganov et al. 2025.

    >>> resnet18_cifar()(torch.zeros(2, 3, 32, 32)).shape
    torch.Size([2, 512])
    """
    from torchvision.models import resnet18

    with seeded(seed):
        model = resnet18(zero_init_residual=True)
        model.conv1 = nn.Conv2d(3, 64, 3, padding=1, bias=False)
    model.maxpool = nn.Identity()
    model.fc = nn.Identity()
    return model


def narrow_resnet(width: int = 16, *, seed: int = 0) -> nn.Module:
    """A residual network that two CPU cores train in minutes: 3×3 stem of stride 2, pooling, four stages of one block.

    Stages have ``width``, 2, 4 and 8 times ``width`` channels, at 8×8 to 1×1 positions of a 32×32 image; residual
    branches start at zero, as in :func:`resnet18_cifar`, and layers have the same names.

    Args:
        width: Channels of the stem and of the first stage, ≥ 1.
        seed: Seed of the initial weights; torch's global generator is left as it was.

    Returns:
        Module from ``(N, 3, H, W)`` to ``(N, 8 * width)``.

    Raises:
        ValueError: ``width`` is no integer of 1 or more, or ``seed`` none of 0 or more.

    >>> narrow_resnet()(torch.zeros(2, 3, 32, 32)).shape
    torch.Size([2, 128])
    """
    check_count("width", width)
    stages = [(width, width), (width, 2 * width), (2 * width, 4 * width), (4 * width, 8 * width)]
    with seeded(seed):
        layers = OrderedDict(conv1=nn.Conv2d(3, width, 3, stride=2, padding=1, bias=False))
        layers |= {"bn1": nn.BatchNorm2d(width), "relu": nn.ReLU(inplace=True), "maxpool": nn.MaxPool2d(2)}
        layers |= {f"layer{i}": _residual_block(*channels) for i, channels in enumerate(stages, start=1)}
        return nn.Sequential(layers | {"avgpool": nn.AdaptiveAvgPool2d(1), "flatten": nn.Flatten()})


def _residual_block(channels_in: int, channels_out: int) -> nn.Module:
    """torchvision's block of two convolutions, initialised as in its ResNet; more channels come with stride 2."""
    from torchvision.models.resnet import BasicBlock

    shortcut = None
    if channels_in != channels_out:
        convolution = nn.Conv2d(channels_in, channels_out, 1, stride=2, bias=False)
        shortcut = nn.Sequential(convolution, nn.BatchNorm2d(channels_out))
    block = BasicBlock(channels_in, channels_out, 1 if shortcut is None else 2, shortcut)
    for module in block.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
    nn.init.zeros_(block.bn2.weight)
    return block


def projection_head(in_features: int, hidden: int, out_features: int, *, seed: int = 0) -> nn.Module:
    """Two linear layers with a ReLU between, no BatchNorm: the projector of the paper's SimCLR.

    Args:
        in_features: F, width of the backbone's features.
        hidden: Width between the layers.
        out_features: D, dimension of the embeddings.
        seed: Seed of the initial weights; torch's global generator is left as it was.

    Returns:
        Module from ``(N, F)`` to ``(N, D)``.

    Raises:
        ValueError: A width is no integer of 1 or more, or ``seed`` none of 0 or more.

    Source: the settings released with Draganov et al. 2025 (128-128).

    >>> projection_head(512, 128, 128)(torch.zeros(2, 512)).shape
    torch.Size([2, 128])
    """
    _check_widths(in_features=in_features, hidden=hidden, out_features=out_features)
    with seeded(seed, _HEAD):
        return nn.Sequential(nn.Linear(in_features, hidden), nn.ReLU(), nn.Linear(hidden, out_features))


def batch_norm_head(in_features: int, hidden: int, out_features: int, *, seed: int = 0) -> nn.Module:
    """Two linear layers without biases, BatchNorm and a ReLU between them: a projector that all methods can share.

    Behind BatchNorm nothing is added any more: ``c`` times the last matrix is ``c`` times every embedding.

    Args:
        in_features: F, width of the backbone's features.
        hidden: Width between the layers.
        out_features: D, dimension of the embeddings.
        seed: Seed of the initial weights; torch's global generator is left as it was.

    Returns:
        Module from ``(N, F)`` to ``(N, D)``.

    Raises:
        ValueError: As :func:`projection_head`.

    Source: Grill et al. 2020 (BYOL), whose heads have biases; SimSiam and others add layers or BatchNorm at the end.

    >>> batch_norm_head(512, 128, 64)(torch.zeros(2, 512)).shape
    torch.Size([2, 64])
    """
    _check_widths(in_features=in_features, hidden=hidden, out_features=out_features)
    return _batch_norm_mlp(in_features, hidden, out_features, seed, _HEAD)


def prediction_head(features: int, hidden: int, *, seed: int = 0) -> nn.Module:
    """:func:`batch_norm_head` from embeddings to embeddings: the predictor of SimSiam and BYOL.

    Args:
        features: D, dimension of embeddings and predictions.
        hidden: Width between the layers; SimSiam takes a quarter of D.
        seed: Seed of the initial weights; torch's global generator is left as it was.

    Returns:
        Module from ``(N, D)`` to ``(N, D)``.

    Raises:
        ValueError: As :func:`projection_head`.

    Source: as :func:`batch_norm_head`.

    >>> prediction_head(64, 16)(torch.zeros(2, 64)).shape
    torch.Size([2, 64])
    """
    _check_widths(features=features, hidden=hidden)
    return _batch_norm_mlp(features, hidden, features, seed, _PREDICTOR)


def _batch_norm_mlp(in_features: int, hidden: int, out_features: int, seed: int, part: int) -> nn.Module:
    with seeded(seed, part):
        first, last = nn.Linear(in_features, hidden, bias=False), nn.Linear(hidden, out_features, bias=False)
    return nn.Sequential(first, nn.BatchNorm1d(hidden), nn.ReLU(), last)


def _check_widths(**widths: int) -> None:
    for name, width in widths.items():
        check_count(name, width)
