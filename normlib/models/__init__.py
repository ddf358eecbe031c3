"""Networks: backbones, heads, and the methods that put them together, SimCLR among them.

A method is a model that :func:`normlib.training.fit` trains: ``forward`` maps images to the tensors that the loss
compares, ``loss`` takes these tensors of both views, and ``after_step``, where there is one, is called after each step
of the optimiser. The first tensor is the one whose directions the loss turns; its gradient is what GradScale scales.
"""

from normlib.models.backbones import digits_encoder, narrow_resnet, resnet10_cifar, resnet18_cifar
from normlib.models.heads import batch_norm_head, prediction_head, projection_head
from normlib.models.methods import (
    BYOL,
    DIGITS_LAYERS,
    METHODS,
    WITH_PREDICTOR,
    JointEmbedding,
    SimCLR,
    SimSiam,
    digits_simclr,
)

__all__ = [
    "BYOL",
    "DIGITS_LAYERS",
    "METHODS",
    "WITH_PREDICTOR",
    "JointEmbedding",
    "SimCLR",
    "SimSiam",
    "batch_norm_head",
    "digits_encoder",
    "digits_simclr",
    "narrow_resnet",
    "prediction_head",
    "projection_head",
    "resnet10_cifar",
    "resnet18_cifar",
]
