"""Methods over backbones and heads, SimCLR among them: what each puts out for an image, and its loss.

A method is a model that :func:`normlib.training.fit` trains: ``forward`` maps images to the tensors that the loss
compares, ``loss`` takes these tensors of both views, and ``after_step``, where there is one, is called after each step
of the optimiser. The first tensor is the one whose directions the loss turns; its gradient is what GradScale scales.
"""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from normlib._utils.arguments import check_callable, check_number, check_type
from normlib.interventions import GradScale
from normlib.losses import barlow_twins, negative_cosine, sigmoid_loss, vicreg
from normlib.models.backbones import digits_encoder
from normlib.models.heads import projection_head


class SimCLR(nn.Module):
    """Backbone and projector: ``x → h → z``. The loss sees only the direction of ``z``; evaluation uses ``h``.

    Args:
        backbone: Maps images ``(N, C, H, W)`` to features ``h`` of shape ``(N, F)``.
        projector: Maps ``h`` to embeddings ``z`` of shape ``(N, D)``.
        grad_scale_power: GradScale power p behind the projector; 0 adds no layer.

    Raises:
        TypeError: A part is no module.
        ValueError: ``grad_scale_power`` is negative or not a number.

    Source: Chen et al. 2020 (SimCLR).

    >>> model = SimCLR(digits_encoder(width=16, out_features=8), projection_head(8, 8, 4))
    >>> model(torch.zeros(2, 1, 8, 8)).shape, model.features(torch.zeros(2, 1, 8, 8)).shape
    (torch.Size([2, 4]), torch.Size([2, 8]))
    """

    def __init__(self, backbone: nn.Module, projector: nn.Module, *, grad_scale_power: float = 0.0):
        super().__init__()
        check_type(nn.Module, backbone=backbone, projector=projector)
        self.backbone = backbone
        self.projector = projector
        self.grad_scale = grad_scale_layer(grad_scale_power)

    def features(self, x: torch.Tensor) -> torch.Tensor:
        """Backbone output ``h``, shape ``(N, F)``."""
        return self.backbone(x)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Embeddings ``z``, shape ``(N, D)``, not normalised."""
        return self.grad_scale(self.projector(self.features(x)))


def grad_scale_layer(power: float) -> nn.Module:
    """The layer behind a head for a GradScale power p ≥ 0; none does anything for 0."""
    check_number("grad_scale_power", power, at_least=0)
    return GradScale(power) if power else nn.Identity()


class JointEmbedding(nn.Module):
    """Backbone and projector, ``x → h → z``, as in SimCLR, under any loss of two views.

    Args:
        backbone: Maps images ``(N, C, H, W)`` to features ``h`` of shape ``(N, F)``.
        projector: Maps ``h`` to embeddings ``z`` of shape ``(N, D)``.
        loss: Called as ``loss(z1, z2, check_finite=False, **options)``: :func:`normlib.losses.sigmoid_loss` (SigLIP),
            :func:`normlib.losses.barlow_twins`, :func:`normlib.losses.vicreg`.
        grad_scale_power: GradScale power p behind the projector; 0 adds no layer.
        options: Settings of the loss.

    Raises:
        TypeError: A part is no module, or ``loss`` no function.
        ValueError: ``grad_scale_power`` is negative or not a number.

    >>> from normlib import losses, models
    >>> model = JointEmbedding(models.digits_encoder(16, 8), models.projection_head(8, 8, 4), losses.vicreg)
    >>> z = model(torch.rand(6, 1, 8, 8))
    >>> z.shape, model.loss(*z.chunk(2)).shape
    (torch.Size([6, 4]), torch.Size([]))
    """

    def __init__(
        self,
        backbone: nn.Module,
        projector: nn.Module,
        loss: Callable[..., Tensor],
        *,
        grad_scale_power: float = 0.0,
        **options: float,
    ):
        super().__init__()
        check_type(nn.Module, backbone=backbone, projector=projector)
        check_callable(loss=loss)
        self.backbone = backbone
        self.projector = projector
        self.grad_scale = grad_scale_layer(grad_scale_power)
        self._loss, self._options = loss, options

    def features(self, x: Tensor) -> Tensor:
        """Backbone output ``h``, shape ``(N, F)``."""
        return self.backbone(x)

    def forward(self, x: Tensor) -> Tensor:
        """Embeddings ``z``, shape ``(N, D)``, not normalised."""
        return self.grad_scale(self.projector(self.features(x)))

    def loss(self, z1: Tensor, z2: Tensor) -> Tensor:
        """Loss of the embeddings of both views, each ``(N, D)``."""
        return self._loss(z1, z2, check_finite=False, **self._options)

    def extra_repr(self) -> str:
        """Show the loss and its settings in ``print(model)``."""
        return ", ".join([_name(self._loss), *(f"{name}={value}" for name, value in self._options.items())])


class SimSiam(nn.Module):
    """A predictor of the other view's embedding, which is held constant: ``x → h → z → p``.

    The loss turns ``p``: the norm that sets the speed is that of the *prediction*. ``z`` is reached through the
    predictor only.

    Args:
        backbone: Maps images ``(N, C, H, W)`` to features ``h`` of shape ``(N, F)``.
        projector: Maps ``h`` to embeddings ``z`` of shape ``(N, D)``.
        predictor: Maps ``z`` to predictions ``p`` of shape ``(N, D)``.
        grad_scale_power: GradScale power p behind the predictor; 0 adds no layer.

    Raises:
        TypeError: A part is no module.
        ValueError: ``grad_scale_power`` is negative or not a number.

    Source: Chen & He 2021 (SimSiam), algorithm 1.

    >>> from normlib import models
    >>> heads = models.batch_norm_head(8, 8, 4), models.prediction_head(4, 2)
    >>> p, z = SimSiam(models.digits_encoder(16, 8), *heads)(torch.rand(6, 1, 8, 8))
    >>> p.shape, z.requires_grad
    (torch.Size([6, 4]), False)
    """

    def __init__(
        self, backbone: nn.Module, projector: nn.Module, predictor: nn.Module, *, grad_scale_power: float = 0.0
    ):
        super().__init__()
        check_type(nn.Module, backbone=backbone, projector=projector, predictor=predictor)
        self.backbone = backbone
        self.projector = projector
        self.predictor = predictor
        self.grad_scale = grad_scale_layer(grad_scale_power)

    def features(self, x: Tensor) -> Tensor:
        """Backbone output ``h``, shape ``(N, F)``."""
        return self.backbone(x)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Predictions ``p`` and, as constants, embeddings ``z``; both ``(N, D)``."""
        z = self.projector(self.features(x))
        return self.grad_scale(self.predictor(z)), z.detach()

    def loss(self, p1: Tensor, p2: Tensor, z1: Tensor, z2: Tensor) -> Tensor:
        """Mean of ``-cos`` between each prediction and the other view's embedding."""
        return _of_both(p1, p2, z1, z2)


class BYOL(nn.Module):
    """SimSiam whose constants come from a slow copy of backbone and projector: an average over past weights.

    Args:
        backbone: Maps images ``(N, C, H, W)`` to features ``h`` of shape ``(N, F)``.
        projector: Maps ``h`` to embeddings ``z`` of shape ``(N, D)``.
        predictor: Maps ``z`` to predictions ``p`` of shape ``(N, D)``.
        ema: Rate m of the average, in [0, 1): the copy is ``m · copy + (1 - m) · present`` after each step, weights and
            running statistics of BatchNorm alike. 0 copies, which is SimSiam one step late.
        grad_scale_power: GradScale power p behind the predictor; 0 adds no layer.

    Raises:
        TypeError: A part is no module.
        ValueError: ``ema`` is outside [0, 1), or ``grad_scale_power`` negative or not a number.

    Source: Grill et al. 2020 (BYOL), equations (1) and (2); half their loss, less 1, and a constant m.

    >>> from normlib import models
    >>> heads = models.batch_norm_head(8, 8, 4), models.prediction_head(4, 2)
    >>> p, z = BYOL(models.digits_encoder(16, 8), *heads)(torch.rand(6, 1, 8, 8))
    >>> p.requires_grad, z.requires_grad
    (True, False)
    """

    def __init__(
        self,
        backbone: nn.Module,
        projector: nn.Module,
        predictor: nn.Module,
        *,
        ema: float = 0.99,
        grad_scale_power: float = 0.0,
    ):
        check_type(nn.Module, backbone=backbone, projector=projector, predictor=predictor)
        check_number("ema", ema, at_least=0, below=1, hint="at 1 the copy would never move")
        super().__init__()
        self.backbone = backbone
        self.projector = projector
        self.predictor = predictor
        self.grad_scale = grad_scale_layer(grad_scale_power)
        self.ema = ema
        online = nn.Sequential(backbone, projector)
        self.target = AveragedModel(online, multi_avg_fn=get_ema_multi_avg_fn(ema), use_buffers=True)
        self.target.requires_grad_(False)
        self.after_step()  # the first update copies, all others average

    def features(self, x: Tensor) -> Tensor:
        """Backbone output ``h``, shape ``(N, F)``."""
        return self.backbone(x)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Predictions ``p`` and, as constants, embeddings ``z`` of the slow copy; both ``(N, D)``."""
        with torch.no_grad():
            z = self.target(x)
        return self.grad_scale(self.predictor(self.projector(self.features(x)))), z

    def loss(self, p1: Tensor, p2: Tensor, z1: Tensor, z2: Tensor) -> Tensor:
        """Mean of ``-cos`` between each prediction and the slow copy's embedding of the other view."""
        return _of_both(p1, p2, z1, z2)

    def after_step(self) -> None:
        """Let the slow copy follow."""
        self.target.update_parameters(nn.Sequential(self.backbone, self.projector))

    def extra_repr(self) -> str:
        """Show the rate in ``print(model)``."""
        return f"ema={self.ema}"


def _name(loss: Callable) -> str:
    return getattr(loss, "__name__", type(loss).__name__)  # a partial has none of its own


def _of_both(p1: Tensor, p2: Tensor, z1: Tensor, z2: Tensor) -> Tensor:
    one, other = negative_cosine(p1, z2, check_finite=False), negative_cosine(p2, z1, check_finite=False)
    return (one + other) / 2


METHODS = {
    "simclr": SimCLR,
    "siglip": partial(JointEmbedding, loss=sigmoid_loss, temperature=0.1, bias=-10.0),
    "barlow-twins": partial(JointEmbedding, loss=barlow_twins, redundancy=5e-3),
    "vicreg": partial(JointEmbedding, loss=vicreg),
    "simsiam": SimSiam,
    "byol": BYOL,
}
WITH_PREDICTOR = ("simsiam", "byol")

DIGITS_LAYERS = ("backbone.0", "backbone.2", "backbone.5", "projector.0", "projector.2")


def digits_simclr(*, width: int = 64, seed: int = 0, grad_scale_power: float = 0.0) -> SimCLR:
    """The SimCLR network that the course trains on digits: three layers, then a projector of two.

    Args:
        width: Channels of the second convolution.
        seed: Seed of the initial weights.
        grad_scale_power: GradScale power p behind the projector; 0 adds no layer.

    Returns:
        Untrained model with 64-dimensional embeddings.

    >>> digits_simclr()(torch.zeros(2, 1, 8, 8)).shape
    torch.Size([2, 64])
    """
    backbone, projector = digits_encoder(width, 128, seed=seed), projection_head(128, 128, 64, seed=seed)
    return SimCLR(backbone, projector, grad_scale_power=grad_scale_power)
