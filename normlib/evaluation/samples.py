"""One row for each image: how long its embedding is, and what a bank of labelled features makes of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from normlib._utils.arguments import check_callable, check_count, check_flags, check_seed, check_type
from normlib._utils.tensors import directions_and_inverse_norms
from normlib.data import ImageSet
from normlib.evaluation._checks import check_vote
from normlib.evaluation.features import embed
from normlib.evaluation.neighbours import NeighbourScores, neighbour_scores
from normlib.evaluation.probes import mahalanobis, probe_logits

if TYPE_CHECKING:
    import pandas as pd

BANK = "train"  # the bank's own rows
VIEW_BATCH = 1024  # images of which views are drawn at a time


def sample_table(
    model: nn.Module,
    bank: ImageSet,
    sets: dict[str, ImageSet],
    *,
    k: int = 200,
    temperature: float = 0.1,
    with_bank: bool = False,
    probes: bool = True,
    augment: Callable[..., tuple[Tensor, Tensor]] | None = None,
    views: int = 8,
    folds: int = 5,
    seed: int = 0,
) -> pd.DataFrame:
    """Norms, correctness and confidence of every image, judged by the features of a labelled bank.

    No image has a part in its own score. The images of ``sets`` must not be in the bank. The bank's own are scored by
    all others among their K nearest neighbours (leave-one-out), and by a probe and a covariance that were fitted on
    ``folds - 1`` of ``folds`` parts of the bank, each with its share of every class, of which they are not in
    (cross-fitting). So the probe and the Mahalanobis distance of the bank's rows come from a slightly smaller bank than
    those of other rows.

    =====================  =================================================================================
    column                 what it is
    =====================  =================================================================================
    ``split``              the key in ``sets``, or ``"train"`` for the bank's own images
    ``index``              place in the original data set
    ``label``              class number
    ``norm_backbone``      ‖h‖, of the features before the projector
    ``norm_projector``     ‖z‖, of the projector's output; ‖p‖ where a method has a predictor behind it
    ``knn_correct``        whether the neighbours' vote is the label
    ``knn_margin``         share of the vote for the winner less that for the runner-up
    ``kth_distance``       1 - cos φ to the K-th neighbour: high = novel
    ``probe_correct``      whether the linear probe's class is the label
    ``probe_max_softmax``  the probe's largest probability: high = familiar
    ``probe_energy``       logsumexp of the probe's logits, the negative free energy: high = familiar
    ``mahalanobis``        distance to the nearest class mean: high = novel
    ``view_spread``        mean of 1 - cos φ between the embeddings z of random views of the image: high = unsure
    =====================  =================================================================================

    Without ``probes`` the table lacks the four columns of probe and covariance; without ``augment``, and in the bank's
    own rows, it lacks ``view_spread``. Neighbours, probe and distance use h. A label that the bank lacks is never
    predicted, so ``*_correct`` is false. Numbers are float32, rounded to four significant digits, which makes small
    files.

    Args:
        model: Network that :func:`normlib.evaluation.embed` takes.
        bank: Labelled images that neighbours, probe and distances are taken from.
        sets: Image sets to score, by the name that they get in ``split``.
        k: K, the neighbours that vote.
        temperature: τ of their vote.
        with_bank: Score the bank's own images too, in the first rows.
        probes: Fit the linear probe and the covariance.
        augment: Draws two views of a batch of images, as :class:`normlib.augment.TwoViews` does.
        views: Random views of each image, an even number of 2 or more.
        folds: Parts that the bank is cut into when its own images are scored.
        seed: Of the cut, and of the views.

    Returns:
        One row for each image, set after set.

    Raises:
        TypeError: ``model`` is no module, or ``bank`` or one of ``sets`` no image set.
        ValueError: ``k`` exceeds what the bank offers, ``temperature`` is not positive, there is nothing to score, a
            set has no images, is named ``"train"`` beside the bank or shares images with it, an index is too large, or
            a class has fewer than ``folds`` images.

    >>> from normlib import data, models
    >>> model = models.SimCLR(models.digits_encoder(16, 8), models.projection_head(8, 8, 4))
    >>> table = sample_table(model, data.digits("train"), {"test": data.digits("test")}, with_bank=True)
    >>> table.groupby("split").size().to_dict()
    {'test': 450, 'train': 1347}
    """
    import pandas as pd

    check_type(nn.Module, model=model)
    check_type(ImageSet, bank=bank)
    check_vote(k, temperature, len(bank) - bool(with_bank))
    check_seed(seed)
    check_flags(with_bank=with_bank, probes=probes)
    if augment is not None:
        check_callable(augment=augment)
    check_count("views", views, at_least=2)
    if views % 2:
        raise ValueError(f"views must be even, since they are drawn in pairs, got {views}")
    _check_sets(bank, sets, with_bank)
    if with_bank:
        _check_folds(bank.labels, folds)
    device = next((parameter.device for parameter in model.parameters()), torch.device("cpu"))
    h, z = embed(model, bank)
    vote = partial(neighbour_scores, k=k, temperature=temperature)
    frames = []
    if with_bank:
        nearest = vote(h.to(device), bank.labels, h.to(device), exclude_self=True)
        fitted = _cross_fitted(h, bank.labels, folds, seed) if probes else None
        frames.append(_frame({BANK: bank}, h, z, nearest, fitted))
    if sets:
        outputs = [embed(model, images) for images in sets.values()]
        features, embeddings = (torch.cat(parts) for parts in zip(*outputs, strict=True))
        nearest = vote(h.to(device), bank.labels, features.to(device))
        fitted = None
        if probes:
            fitted = probe_logits(h, bank.labels, features), mahalanobis(h, bank.labels, features)
        frame = _frame(sets, features, embeddings, nearest, fitted)
        if augment is not None:
            generator = torch.Generator().manual_seed(seed)
            spreads = [view_spread(model, images, augment, views, generator) for images in sets.values()]
            frame["view_spread"] = _rounded(torch.cat(spreads))
        frames.append(frame)
    return pd.concat(frames, ignore_index=True)


def view_spread(
    model: nn.Module,
    images: ImageSet,
    augment: Callable[..., tuple[Tensor, Tensor]],
    views: int,
    generator: torch.Generator,
) -> Tensor:
    """Mean of 1 - cos φ between the embeddings of different views of each image, shape ``(N,)``."""
    sums: Tensor | float = 0.0
    for _ in range(views // 2):
        pairs = [augment(batch, generator=generator) for batch in images.images.split(VIEW_BATCH)]
        for side in range(2):
            z = embed(model, torch.cat([pair[side] for pair in pairs]))[1]
            sums = sums + directions_and_inverse_norms(z.double())[0]
    lengths = torch.as_tensor(sums).square().sum(dim=1)  # the views' cosines with each other, and with themselves
    return (views**2 - lengths) / (views * (views - 1))


def _cross_fitted(h: Tensor, labels: Tensor, folds: int, seed: int) -> tuple[Tensor, Tensor]:
    """Probe logits and Mahalanobis distances of each row, from fits on the folds that it is not in."""
    from sklearn.model_selection import StratifiedKFold

    logits = torch.empty(len(h), int(labels.max()) + 1)
    distances = torch.empty(len(h), dtype=torch.float64)
    for fitted_on, scored in StratifiedKFold(folds, shuffle=True, random_state=seed).split(h, labels):
        logits[scored] = probe_logits(h[fitted_on], labels[fitted_on], h[scored])
        distances[scored] = mahalanobis(h[fitted_on], labels[fitted_on], h[scored])
    return logits, distances


def _frame(
    sets: dict[str, ImageSet],
    h: Tensor,
    z: Tensor,
    nearest: NeighbourScores,
    fitted: tuple[Tensor, Tensor] | None,
) -> pd.DataFrame:
    import pandas as pd

    labels = torch.cat([images.labels for images in sets.values()])
    frame = pd.DataFrame(
        {
            "split": np.repeat(list(sets), [len(images) for images in sets.values()]),
            "index": torch.cat([images.indices for images in sets.values()]).numpy().astype(np.int32),
            "label": labels.numpy().astype(np.int16),
            "norm_backbone": _rounded(h.norm(dim=1)),
            "norm_projector": _rounded(z.norm(dim=1)),
            "knn_correct": (nearest.predicted.cpu() == labels).numpy(),
            "knn_margin": _rounded(nearest.margin),
            "kth_distance": _rounded(nearest.kth_distance),
        }
    )
    if fitted is None:
        return frame
    logits, distances = fitted
    return frame.assign(
        probe_correct=(logits.argmax(1) == labels).numpy(),
        probe_max_softmax=_rounded(logits.softmax(1).amax(1)),
        probe_energy=_rounded(logits.logsumexp(1)),
        mahalanobis=_rounded(distances),
    )


def _rounded(values: Tensor) -> np.ndarray:
    """Float32 of four significant digits: few distinct values, which a parquet file holds in some two bytes each."""
    x = values.double().cpu().numpy()
    exponents = np.log10(np.abs(x), where=np.isfinite(x) & (x != 0), out=np.zeros_like(x))
    scale = 10.0 ** (3 - np.floor(exponents))
    return (np.rint(x * scale) / scale).astype(np.float32)


def _check_sets(bank: ImageSet, sets: dict[str, ImageSet], with_bank: bool) -> None:
    check_type(Mapping, sets=sets)
    check_type(ImageSet, **{f"sets[{name!r}]": images for name, images in sets.items()})
    if not sets and not with_bank:
        raise ValueError("sets must name an image set to score, or with_bank must be True; got neither")
    if BANK in sets and with_bank:
        raise ValueError(f"sets must not use the name {BANK!r}, which the bank's own rows have with with_bank=True")
    largest = int(torch.cat([images.indices for images in (bank, *sets.values())]).max())
    if largest >= 2**31:
        raise ValueError(f"bank and sets must have indices below 2**31, which the table holds, got {largest}")
    for name, images in sets.items():
        if len(images) == 0:
            raise ValueError(f"sets[{name!r}] must hold one image or more, got none")
        if shared := _shared(bank, images):
            raise ValueError(
                f"sets[{name!r}] must not hold images of the bank, but shares {shared}; leave them out, or pass "
                "with_bank=True to score the bank's own images without their own labels"
            )


def _shared(one: ImageSet, other: ImageSet) -> int:
    """Images of the same place and the same pixels in both sets."""
    if one.images.shape[1:] != other.images.shape[1:]:
        return 0
    _, first, second = np.intersect1d(one.indices.numpy(), other.indices.numpy(), return_indices=True)
    return int((one.images[first] == other.images[second]).flatten(1).all(1).sum())


def _check_folds(labels: Tensor, folds: int) -> None:
    counts = labels.bincount()
    fewest = int(counts[counts > 0].min())
    check_count("folds", folds, at_least=2, at_most=fewest, hint=f"a class of the bank has {fewest} images")
