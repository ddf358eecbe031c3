"""Backbones: small encoders for digits, and residual networks for CIFAR-10."""

from collections import OrderedDict

from torch import nn

from normlib._utils.arguments import check_count
from normlib._utils.rng import seeded


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

    >>> import torch
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

    >>> import torch
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


def resnet10_cifar(width: int = 64, *, seed: int = 0) -> nn.Module:
    """ResNet-10 for 32×32 images, which two CPU cores can train: four stages of one block each, no pooling in front.

    The 3×3 stem has stride 2, so the stages, of ``width``, 2, 4 and 8 times ``width`` channels, see 16×16 to 2×2
    positions of a 32×32 image. Residual branches start at zero, as in :func:`resnet18_cifar`, and layers have the same
    names. Half of the usual width, 32, makes 16 million multiplications for an image, and 1.2 million weights.

    Args:
        width: Channels of the stem and of the first stage, ≥ 1.
        seed: Seed of the initial weights; torch's global generator is left as it was.

    Returns:
        Module from ``(N, 3, H, W)`` to ``(N, 8 * width)``.

    Raises:
        ValueError: ``width`` is no integer of 1 or more, or ``seed`` none of 0 or more.

    >>> import torch
    >>> resnet10_cifar(width=32)(torch.zeros(2, 3, 32, 32)).shape
    torch.Size([2, 256])
    """
    check_count("width", width)
    stages = [(width, width), (width, 2 * width), (2 * width, 4 * width), (4 * width, 8 * width)]
    with seeded(seed):
        stem = nn.Conv2d(3, width, 3, stride=2, padding=1, bias=False)
        nn.init.kaiming_normal_(stem.weight, mode="fan_out", nonlinearity="relu")
        layers: OrderedDict[str, nn.Module] = OrderedDict(conv1=stem, bn1=nn.BatchNorm2d(width))
        layers["relu"] = nn.ReLU(inplace=True)
        layers |= {f"layer{i}": _residual_block(*channels) for i, channels in enumerate(stages, start=1)}
        return nn.Sequential(layers | {"avgpool": nn.AdaptiveAvgPool2d(1), "flatten": nn.Flatten()})


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

    >>> import torch
    >>> narrow_resnet()(torch.zeros(2, 3, 32, 32)).shape
    torch.Size([2, 128])
    """
    check_count("width", width)
    stages = [(width, width), (width, 2 * width), (2 * width, 4 * width), (4 * width, 8 * width)]
    with seeded(seed):
        layers: OrderedDict[str, nn.Module] = OrderedDict(conv1=nn.Conv2d(3, width, 3, stride=2, padding=1, bias=False))
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
