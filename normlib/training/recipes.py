"""Complete, named runs: data, method, network, interventions and training settings in one printed value."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, fields, replace
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any, get_args

from torch import nn

from normlib import augment, data, models
from normlib._utils.arguments import check_choice, check_count, check_flags, check_number, check_type
from normlib._utils.tensors import Denominator
from normlib.interventions import cut_initialization
from normlib.models import METHODS, WITH_PREDICTOR
from normlib.training.config import TrainConfig, make_plain

if TYPE_CHECKING:
    from normlib.data import ImageSet


@dataclass(frozen=True)
class Network:
    """A backbone that recipes can name once it is in ``NETWORKS``.

    Args:
        build: Called as ``build(seed=0)``, returns the untrained backbone, from images to features ``(N, features)``.
        features: Width of the features.
        image_shape: Shape of an image, ``(C, H, W)``.
        augmentation: Called as ``augmentation(size=32)``, returns what draws the two views of a batch.
        layers: Names of the layers in the whole model that a tracker watches, those of a plain projector included; the
            last puts out the embedding.
        any_size: Whether it takes images of other sizes too, as one that averages over positions does.
    """

    build: Callable[..., nn.Module]
    features: int
    image_shape: tuple[int, int, int]
    augmentation: Callable[..., augment.TwoViews]
    layers: tuple[str, ...]
    any_size: bool = False


_STAGES = tuple(f"backbone.layer{i}" for i in range(1, 5))
_HEAD = ("backbone", "projector.0", "projector.2")


def _residual(build: Callable[..., nn.Module], features: int) -> Network:
    """A residual network for photographs of 32×32 pixels."""
    return Network(build, features, (3, 32, 32), augment.TwoViews.natural, _STAGES + _HEAD, any_size=True)


NETWORKS = {
    "resnet18": _residual(models.resnet18_cifar, 512),
    "resnet10": _residual(models.resnet10_cifar, 512),
    "resnet10_half": _residual(partial(models.resnet10_cifar, 32), 256),
    "narrow_resnet": _residual(models.narrow_resnet, 128),
    "digits": Network(
        lambda seed: models.digits_encoder(64, 128, seed=seed),
        128,
        (1, 8, 8),
        augment.TwoViews.digits,
        models.DIGITS_LAYERS,
    ),
    "digits_batch_norm": Network(
        lambda seed: models.digits_encoder(16, 128, batch_norm=True, seed=seed),
        128,
        (1, 8, 8),
        augment.TwoViews.digits,
        ("backbone.0", "backbone.3", "backbone.7", "projector.0", "projector.2"),
    ),
}
WIDEST = 2**20  # layer of a projector
_OF_THE_LOSS = ("temperature", "denominator")
HEADS: dict[str, Callable[..., nn.Module]] = {"plain": models.projection_head, "batch_norm": models.batch_norm_head}


@dataclass(frozen=True)
class Recipe:
    """One run. ``print`` shows all of it; equal recipes make equal runs on a CPU.

    Args:
        data: A name for :func:`normlib.data.load`.
        method: A key of ``normlib.models.METHODS``.
        temperature: τ > 0 of the loss of ``"simclr"`` or ``"siglip"``; None is the method's own, 0.5 or 0.1.
        denominator: Of the loss of ``"simclr"``, as in :func:`normlib.losses.info_nce`; None is ``"nt-xent"``.
        network: A key of ``NETWORKS``.
        head: ``"plain"`` for :func:`normlib.models.projection_head`, ``"batch_norm"`` for
            :func:`normlib.models.batch_norm_head`. A predictor always has BatchNorm, and a quarter of D between layers.
        projector: Width between the projector's two layers, and D, the dimension of the embeddings.
        view_size: Side of the square views in pixels; None is that of the images. A network that averages over
            positions, as a ResNet does, learns faster from smaller ones, and is applied to whole images afterwards.
        cut: Cut-initialization's c > 0: all weights are divided by it before training; 1 changes nothing.
        grad_scale_power: GradScale power p ≥ 0; 0 changes nothing.
        held_out: Classes that are not trained on.
        largest: Images of the commonest class; None keeps all images of all classes.
        tail_ratio: With ``largest``, each class has this many times fewer images than the one before it, ≥ 1.
        tail_order: Classes from the commonest to the rarest; None is the order of their numbers.
        sync_batchnorm: With several GPUs, let BatchNorm use the statistics of all of them.
        train: Settings of the training loop; its seed is also that of the initial weights.

    Raises:
        TypeError: ``train`` is no :class:`~normlib.training.TrainConfig`.
        ValueError: A value is out of its range, or is a setting that the method's loss does not have; the message names
            it.

    >>> RECIPES["paper"].train.lr
    0.36
    """

    data: str = "cifar10"
    method: str = "simclr"
    temperature: float | None = None
    denominator: Denominator | None = None
    network: str = "resnet18"
    head: str = "plain"
    projector: tuple[int, int] = (128, 128)
    view_size: int | None = None
    cut: float = 1.0
    grad_scale_power: float = 0.0
    held_out: tuple[int, ...] = ()
    largest: int | None = None
    tail_ratio: float = 1.0
    tail_order: tuple[int, ...] | None = None
    sync_batchnorm: bool = False
    train: TrainConfig = field(default_factory=TrainConfig)

    def __post_init__(self) -> None:
        make_plain(self)
        if not isinstance(self.data, str):
            raise ValueError(f"data must be a name, got {self.data!r}")
        check_choice("method", self.method, METHODS)
        check_choice("network", self.network, NETWORKS)
        check_choice("head", self.head, HEADS)
        self._check_loss_settings()
        check_type(TrainConfig, train=self.train)
        widths = self.projector
        if not _are_integers(widths) or len(widths) != 2 or not 1 <= min(widths) <= max(widths) <= WIDEST:
            raise ValueError(f"projector must be two widths in 1..{WIDEST}, such as (128, 64), got {widths!r}")
        if self.view_size is not None:
            check_count("view_size", self.view_size)
            network = NETWORKS[self.network]
            if not network.any_size and self.view_size != network.image_shape[1]:
                raise ValueError(
                    f"view_size = {self.view_size} does not fit network = {self.network!r}, which takes only "
                    f"{network.image_shape[1]} pixels; leave it None"
                )
        check_number("cut", self.cut, above=0)
        check_number("grad_scale_power", self.grad_scale_power, at_least=0)
        check_number("tail_ratio", self.tail_ratio, at_least=1)
        for name, classes in {"held_out": self.held_out, "tail_order": self.tail_order or ()}.items():
            if not _are_integers(classes):
                raise ValueError(f"{name} must be class numbers, such as (0, 1), got {classes!r}")
        check_flags(sync_batchnorm=self.sync_batchnorm)
        if self.largest is not None:
            check_count("largest", self.largest)
        if self.largest is None and (self.tail_ratio > 1 or self.tail_order is not None):
            raise ValueError("a long tail needs largest, the images of its commonest class, got None")

    def __str__(self) -> str:
        settings = asdict(self) | self._loss_settings()
        train = settings.pop("train")
        width = max(map(len, settings | train))
        return "\n".join(f"{name:{width}}  {value}" for name, value in (settings | train).items())

    def replace(self, **changes: Any) -> Recipe:
        """This recipe with some settings changed, those of ``train`` by their own names.

        Args:
            changes: New values by name, for example ``lr=0.1, cut=3``.

        Raises:
            ValueError: A name that is no setting; the nearest one is named. Or a value that is out of range.

        >>> RECIPES["cpu"].replace(lr=0.1, cut=3).train.lr
        0.1
        """
        own = {each.name for each in fields(Recipe)} - {"train"}
        inner = {each.name for each in fields(TrainConfig)}
        for name in changes:
            if name not in own | inner:
                near = difflib.get_close_matches(name, own | inner, n=1, cutoff=0.7)
                hint = f"did you mean {near[0]}? " if near else ""
                raise ValueError(f"there is no setting {name!r}; {hint}Settings are {', '.join(sorted(own | inner))}")
        train = replace(self.train, **{name: value for name, value in changes.items() if name in inner})
        return replace(self, train=train, **{name: value for name, value in changes.items() if name in own})

    def _loss_settings(self) -> dict[str, Any]:
        """The settings that the method's loss takes; None leaves one as the method has it."""
        taken = inspect.signature(METHODS[self.method]).parameters
        settings = {}
        for name in _OF_THE_LOSS:
            if name in taken:
                value = getattr(self, name)
                settings[name] = taken[name].default if value is None else value
        return settings

    def _check_loss_settings(self) -> None:
        taken = self._loss_settings()
        for name in _OF_THE_LOSS:
            value = getattr(self, name)
            if value is not None and name not in taken:
                raise ValueError(
                    f"{name} = {value!r} is no setting of the loss of method = {self.method!r}; leave it None"
                )
        if self.temperature is not None:
            check_number("temperature", self.temperature, above=0)
        if self.denominator is not None:
            check_choice("denominator", self.denominator, get_args(Denominator))

    def build_model(self) -> nn.Module:
        """The untrained network of the method, with its interventions.

        >>> RECIPES["digits"].build_model().grad_scale
        Identity()
        """
        network, seed = NETWORKS[self.network], self.train.seed
        heads = [HEADS[self.head](network.features, *self.projector, seed=seed)]
        if self.method in WITH_PREDICTOR:
            dimensions = self.projector[1]
            heads.append(models.prediction_head(dimensions, max(1, dimensions // 4), seed=seed))
        options = {"grad_scale_power": self.grad_scale_power, **self._loss_settings()}
        model = METHODS[self.method](network.build(seed=seed), *heads, **options)
        model = model if self.cut == 1 else cut_initialization(model, self.cut)
        return nn.SyncBatchNorm.convert_sync_batchnorm(model) if self.sync_batchnorm else model

    def augmentation(self) -> augment.TwoViews:
        """What draws the two views of a batch."""
        network = NETWORKS[self.network]
        return network.augmentation(size=network.image_shape[1] if self.view_size is None else self.view_size)

    def tracked_layers(self) -> tuple[str, ...]:
        """The layers that a norm tracker watches; the last puts out the embedding, or the prediction of it.

        >>> RECIPES["digits"].replace(method="byol", head="batch_norm").tracked_layers()[-3:]
        ('projector.3', 'predictor.0', 'predictor.3')
        """
        heads: tuple[str, ...] = ("projector.2",) if self.head == "plain" else ("projector.3",)
        if self.method in WITH_PREDICTOR:
            heads += ("predictor.0", "predictor.3")
        return tuple(name for name in NETWORKS[self.network].layers if name != "projector.2") + heads

    def images(self) -> ImageSet:
        """The training images: of the seen classes, and with the long tail, if that is asked for.

        >>> len(RECIPES["digits"].replace(held_out=(0, 1)).images())
        1078
        """
        images = load_once(self.data, "train")
        if self.largest is not None:
            images = data.long_tailed(
                images, largest=self.largest, ratio=self.tail_ratio, order=self.tail_order, seed=self.train.seed
            )
        return data.hold_out(images, self.held_out)[0] if self.held_out else images

    def test_images(self) -> ImageSet:
        """The test images of all classes."""
        return load_once(self.data, "test")

    def test_sets(self) -> dict[str, ImageSet]:
        """The test images of the classes that are trained on, ``"test"``, and of the others, ``"held out"``.

        >>> list(RECIPES["digits"].replace(held_out=(0, 1)).test_sets())
        ['test', 'held out']
        """
        if not self.held_out:
            return {"test": self.test_images()}
        return dict(zip(("test", "held out"), data.hold_out(self.test_images(), self.held_out), strict=True))


def _are_integers(values: Any) -> bool:
    return isinstance(values, tuple) and all(type(value) is int for value in values)


RECIPES = {
    # As released with the paper; its rate of 0.6 is applied as 0.36, since the code multiplies the rate by itself.
    "paper": Recipe(
        train=TrainConfig(
            epochs=512, batch_size=512, lr=0.36, warmup_epochs=10, precision="bf16-mixed", channels_last=True
        ),
    ),
    # fp16: a T4 has no bfloat16 units.
    "colab_t4": Recipe(
        train=TrainConfig(
            epochs=20, batch_size=512, lr=0.36, warmup_epochs=2, precision="16-mixed", channels_last=True
        ),
    ),
    "cpu": Recipe(
        network="narrow_resnet",
        train=TrainConfig(epochs=16, batch_size=256, lr=0.2, warmup_epochs=1, channels_last=True),
    ),
    # The paper's settings on a network that two cores can train; results/cifar10-pilot is where it was chosen.
    "two_cores": Recipe(
        network="resnet10_half",
        train=TrainConfig(epochs=100, batch_size=512, lr=0.36, warmup_epochs=2, precision="auto", channels_last=True),
    ),
    "digits": Recipe(
        data="digits",
        network="digits",
        projector=(128, 64),
        train=TrainConfig(epochs=100, batch_size=256, lr=0.1),
    ),
}


@lru_cache(maxsize=2)
def load_once(name: str, split: str) -> ImageSet:
    """:func:`normlib.data.load`, which for the last train and test set is not repeated."""
    return data.load(name, split)


def get(name: str) -> Recipe:
    """The recipe of that name.

    Raises:
        ValueError: There is none; those that are there are listed.

    >>> get("cpu").network
    'narrow_resnet'
    """
    check_choice("recipe", name, RECIPES)
    return RECIPES[name]
