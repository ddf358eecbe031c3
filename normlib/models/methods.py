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

from normlib._utils.arguments import check_callable, check_flags, check_number, check_type
from normlib._utils.callables import described
from normlib._utils.tensors import Denominator, check_contrast
from normlib.interventions import GradScale
from normlib.losses import barlow_twins, info_nce, negative_cosine, sigmoid_loss, vicreg
from normlib.models.backbones import digits_encoder
from normlib.models.heads import projection_head


class JointEmbedding(nn.Module):
    """Backbone and projector, ``x → h → z``, trained under a loss of the embeddings of two views.

    Args:
        backbone: Maps images ``(N, C, H, W)`` to features ``h`` of shape ``(N, F)``, which evaluation uses.
        projector: Maps ``h`` to embeddings ``z`` of shape ``(N, D)``, which the loss compares.
        loss: Called as ``loss(z1, z2)`` with the embeddings of both views, returns a scalar: a function of
            :mod:`normlib.losses`, with its settings bound by :func:`functools.partial`, or a module, such as those of
            lightly. A module becomes a part of the model: its own parameters are trained, moved and saved with it.
        grad_scale_power: GradScale power p behind the projector; 0 adds no layer.

    Raises:
        TypeError: ``backbone`` or ``projector`` is no module, or ``loss`` cannot be called.
        ValueError: ``grad_scale_power`` is negative or not a number.

    >>> from normlib import losses, models
    >>> loss = partial(losses.vicreg, covariance=2.0)
    >>> model = JointEmbedding(models.digits_encoder(16, 8), models.projection_head(8, 8, 4), loss)
    >>> z = model(torch.rand(6, 1, 8, 8))
    >>> z.shape, model.loss(*z.chunk(2)).shape
    (torch.Size([6, 4]), torch.Size([]))
    """

    def __init__(
        self,
        backbone: nn.Module,
        projector: nn.Module,
        loss: Callable[[Tensor, Tensor], Tensor],
        *,
        grad_scale_power: float = 0.0,
    ):
        super().__init__()
        check_type(nn.Module, backbone=backbone, projector=projector)
        check_callable(loss=loss)
        self.backbone = backbone
        self.projector = projector
        self.grad_scale = grad_scale_layer(grad_scale_power)
        self.loss = loss

    def features(self, x: Tensor) -> Tensor:
        """Backbone output ``h``, shape ``(N, F)``."""
        return self.backbone(x)

    def forward(self, x: Tensor) -> Tensor:
        """Embeddings ``z``, shape ``(N, D)``, not normalised."""
        return self.grad_scale(self.projector(self.features(x)))

    def extra_repr(self) -> str:
        """Show the loss and its settings in ``print(model)``."""
        return f"loss={described(self.loss)}"


class SimCLR(JointEmbedding):  # a class, so that printed and recorded architectures name the method
    """The joint embedding under InfoNCE: the loss sees only the direction of ``z``.

    Args:
        backbone: Maps images ``(N, C, H, W)`` to features ``h`` of shape ``(N, F)``.
        projector: Maps ``h`` to embeddings ``z`` of shape ``(N, D)``.
        temperature: τ > 0.
        denominator: As in :func:`normlib.losses.info_nce`; ``"nt-xent"`` is the loss of the paper.
        check_finite: Look for NaN in the embeddings at every step, which makes a GPU wait each time. False leaves that
            to :func:`normlib.training.fit`, which looks at the losses once an epoch.
        grad_scale_power: GradScale power p behind the projector; 0 adds no layer.

    Raises:
        TypeError: A part is no module.
        ValueError: ``temperature`` is not positive, an unknown ``denominator``, ``check_finite`` is neither True nor
            False, or ``grad_scale_power`` is negative or not a number.

    Source: Chen et al. 2020 (SimCLR).

    >>> model = SimCLR(digits_encoder(width=16, out_features=8), projection_head(8, 8, 4))
    >>> model(torch.zeros(2, 1, 8, 8)).shape, model.features(torch.zeros(2, 1, 8, 8)).shape
    (torch.Size([2, 4]), torch.Size([2, 8]))
    >>> model.extra_repr()
    "loss=info_nce(temperature=0.5, denominator='nt-xent', check_finite=False)"
    """

    def __init__(
        self,
        backbone: nn.Module,
        projector: nn.Module,
        *,
        temperature: float = 0.5,
        denominator: Denominator = "nt-xent",
        check_finite: bool = False,
        grad_scale_power: float = 0.0,
    ):
        check_contrast(temperature, denominator)
        check_flags(check_finite=check_finite)
        loss = partial(info_nce, temperature=temperature, denominator=denominator, check_finite=check_finite)
        super().__init__(backbone, projector, loss, grad_scale_power=grad_scale_power)


def grad_scale_layer(power: float) -> nn.Module:
    """The layer behind a head for a GradScale power p ≥ 0; none does anything for 0."""
    check_number("grad_scale_power", power, at_least=0)
    return GradScale(power) if power else nn.Identity()


class SimSiam(nn.Module):
    """A predictor of the other view's embedding, which is held constant: ``x → h → z → p``.

    The loss turns ``p``: the norm that sets the speed is that of the *prediction*. ``z`` is reached through the
    predictor only.

    Args:
        backbone: Maps images ``(N, C, H, W)`` to features ``h`` of shape ``(N, F)``.
        projector: Maps ``h`` to embeddings ``z`` of shape ``(N, D)``.
        predictor: Maps ``z`` to predictions ``p`` of shape ``(N, D)``.
        check_finite: Look for NaN at every step, as in :class:`SimCLR`.
        grad_scale_power: GradScale power p behind the predictor; 0 adds no layer.

    Raises:
        TypeError: A part is no module.
        ValueError: ``check_finite`` is neither True nor False, or ``grad_scale_power`` is negative or not a number.

    Source: Chen & He 2021 (SimSiam), algorithm 1.

    >>> from normlib import models
    >>> heads = models.batch_norm_head(8, 8, 4), models.prediction_head(4, 2)
    >>> p, z = SimSiam(models.digits_encoder(16, 8), *heads)(torch.rand(6, 1, 8, 8))
    >>> p.shape, z.requires_grad
    (torch.Size([6, 4]), False)
    """

    def __init__(
        self,
        backbone: nn.Module,
        projector: nn.Module,
        predictor: nn.Module,
        *,
        check_finite: bool = False,
        grad_scale_power: float = 0.0,
    ):
        super().__init__()
        check_type(nn.Module, backbone=backbone, projector=projector, predictor=predictor)
        check_flags(check_finite=check_finite)
        self.backbone = backbone
        self.projector = projector
        self.predictor = predictor
        self.grad_scale = grad_scale_layer(grad_scale_power)
        self.check_finite = check_finite

    def features(self, x: Tensor) -> Tensor:
        """Backbone output ``h``, shape ``(N, F)``."""
        return self.backbone(x)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Predictions ``p`` and, as constants, embeddings ``z``; both ``(N, D)``."""
        z = self.projector(self.features(x))
        return self.grad_scale(self.predictor(z)), z.detach()

    def loss(self, p1: Tensor, p2: Tensor, z1: Tensor, z2: Tensor) -> Tensor:
        """Mean of ``-cos`` between each prediction and the other view's embedding."""
        return _of_both(p1, p2, z1, z2, self.check_finite)

    def extra_repr(self) -> str:
        """Show in ``print(model)`` whether the loss looks for NaN."""
        return f"check_finite={self.check_finite}"


class BYOL(nn.Module):
    """SimSiam whose constants come from a slow copy of backbone and projector: an average over past weights.

    Args:
        backbone: Maps images ``(N, C, H, W)`` to features ``h`` of shape ``(N, F)``.
        projector: Maps ``h`` to embeddings ``z`` of shape ``(N, D)``.
        predictor: Maps ``z`` to predictions ``p`` of shape ``(N, D)``.
        ema: Rate m of the average, in [0, 1): the copy is ``m · copy + (1 - m) · present`` after each step, weights and
            running statistics of BatchNorm alike. 0 copies, which is SimSiam one step late.
        check_finite: Look for NaN at every step, as in :class:`SimCLR`.
        grad_scale_power: GradScale power p behind the predictor; 0 adds no layer.

    Raises:
        TypeError: A part is no module.
        ValueError: ``ema`` is outside [0, 1), ``check_finite`` neither True nor False, or ``grad_scale_power`` negative
            or not a number.

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
        check_finite: bool = False,
        grad_scale_power: float = 0.0,
    ):
        check_type(nn.Module, backbone=backbone, projector=projector, predictor=predictor)
        check_number("ema", ema, at_least=0, below=1, hint="at 1 the copy would never move")
        check_flags(check_finite=check_finite)
        super().__init__()
        self.backbone = backbone
        self.projector = projector
        self.predictor = predictor
        self.grad_scale = grad_scale_layer(grad_scale_power)
        self.ema = ema
        self.check_finite = check_finite
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
        return _of_both(p1, p2, z1, z2, self.check_finite)

    def after_step(self) -> None:
        """Let the slow copy follow."""
        self.target.update_parameters(nn.Sequential(self.backbone, self.projector))

    def extra_repr(self) -> str:
        """Show the rate in ``print(model)``, and whether the loss looks for NaN."""
        return f"ema={self.ema}, check_finite={self.check_finite}"


def _of_both(p1: Tensor, p2: Tensor, z1: Tensor, z2: Tensor, check_finite: bool) -> Tensor:
    one = negative_cosine(p1, z2, check_finite=check_finite)
    other = negative_cosine(p2, z1, check_finite=check_finite)
    return (one + other) / 2


def _siglip(
    backbone: nn.Module, projector: nn.Module, *, temperature: float = 0.1, grad_scale_power: float = 0.0
) -> JointEmbedding:
    loss = partial(sigmoid_loss, temperature=temperature, bias=-10.0, check_finite=False)
    return JointEmbedding(backbone, projector, loss, grad_scale_power=grad_scale_power)


# Each is called with a backbone, its heads and ``grad_scale_power=``. ``check_finite=False``, as SimCLR explains it.
METHODS: dict[str, Callable[..., nn.Module]] = {
    "simclr": SimCLR,
    "siglip": _siglip,
    "barlow-twins": partial(JointEmbedding, loss=partial(barlow_twins, redundancy=5e-3, check_finite=False)),
    "vicreg": partial(JointEmbedding, loss=partial(vicreg, check_finite=False)),
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
