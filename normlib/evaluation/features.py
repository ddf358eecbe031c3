"""Features and embeddings of a whole image set."""

import torch
from torch import Tensor, nn

from normlib._utils.arguments import check_count, check_type
from normlib._utils.tensors import kind_of
from normlib.augment.image_ops import check_values
from normlib.data import ImageSet


@torch.no_grad()
def embed(model: nn.Module, images: ImageSet | Tensor, *, batch_size: int = 256) -> tuple[Tensor, Tensor]:
    """Features and embeddings of all images, in eval mode; the model is left in the modes it was in.

    Args:
        model: Network with ``features(x)`` and ``model(x)``, such as :class:`normlib.models.SimCLR`. A network without
            ``features`` gives its output twice. If it has a ``backbone`` too, ``features(x)`` must be what that puts
            out: both are then had in one pass. Of several outputs, as SimSiam has them, the first is the embedding.
        images: An :class:`~normlib.data.ImageSet`, or a tensor ``(N, C, H, W)``, uint8 or float in [0, 1].
        batch_size: Images at a time, on the model's device.

    Returns:
        Features ``h``, shape ``(N, F)``, and embeddings ``z``, shape ``(N, D)``; float32, on the CPU, not normalised.

    Raises:
        TypeError: ``model`` is no module, or ``images`` neither an image set nor a tensor of uint8 or floats.
        ValueError: ``images`` is empty, not four-dimensional or (checked on the CPU) outside [0, 1], ``batch_size`` is
            no integer of 1 or more, or an output is no matrix.

    >>> from normlib import data, models
    >>> model = models.SimCLR(models.digits_encoder(16, 8), models.projection_head(8, 8, 4))
    >>> [tuple(out.shape) for out in embed(model, data.digits("test"))]
    [(450, 8), (450, 4)]
    """
    check_type(nn.Module, model=model)
    pixels = images.images if isinstance(images, ImageSet) else images
    if not isinstance(pixels, Tensor) or not (pixels.dtype == torch.uint8 or pixels.is_floating_point()):
        got = kind_of(pixels)
        raise TypeError(f"images must be an ImageSet or a tensor of uint8 or floats in [0, 1], got {got}")
    if pixels.ndim != 4 or len(pixels) == 0:
        raise ValueError(f"images must have shape (N, C, H, W) with N of 1 or more, got {tuple(pixels.shape)}")
    check_values(pixels)
    check_count("batch_size", batch_size)
    like = next((p for p in model.parameters() if p.is_floating_point()), torch.empty(0))
    modes = {module: module.training for module in model.modules()}
    model.eval()
    try:
        outputs = [_outputs(model, batch, like) for batch in pixels.split(batch_size)]
    finally:
        for module, training in modes.items():  # one by one: a frozen part may be in eval mode within a training model
            module.training = training
    features, embeddings = zip(*outputs, strict=True)
    return torch.cat(features), torch.cat(embeddings)


def _outputs(model: nn.Module, batch: Tensor, like: Tensor) -> tuple[Tensor, Tensor]:
    scale = 255 if batch.dtype == torch.uint8 else 1
    x = batch.to(like.device).to(like.dtype) / scale
    features_of, backbone = getattr(model, "features", None), getattr(model, "backbone", None)
    if features_of is not None and backbone is not None:
        outputs: list[Tensor] = []
        with backbone.register_forward_hook(lambda module, inputs, output: outputs.append(output)):
            embeddings = model(x)  # one pass for both, whatever stands behind the backbone
        features = outputs[-1]
    else:
        embeddings = model(x)
        features = embeddings if features_of is None else features_of(x)
    embeddings = embeddings[0] if isinstance(embeddings, tuple) else embeddings
    for name, output in (("features", features), ("embeddings", embeddings)):
        if output.ndim != 2 or len(output) != len(x):
            raise ValueError(f"model must give {name} of shape ({len(x)}, ·), got {tuple(output.shape)}")
    return features.float().cpu(), embeddings.float().cpu()
