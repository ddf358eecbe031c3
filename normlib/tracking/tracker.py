"""``NormTracker``: watches the length of embeddings, and of their gradients, while any PyTorch model trains.

Three concepts stand under it: ``hooks`` turns a layer's forwards and backwards into norms of rows, ``row_labels`` says
which label a row has, ``statistics`` turns rows into statistics. This module is what a user sees: it closes steps and
reads.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import compress
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from normlib._utils.arguments import check_choice, check_count, check_flags, check_number, check_type, listed, names_of
from normlib.tracking.hooks import LayerHook, check_hookable, find_layers
from normlib.tracking.row_labels import check_labels, labels_of_rows
from normlib.tracking.statistics import Rows, SeriesStatistics
from normlib.tracking.weights import STATISTICS, WeightPaths

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

WEIGHT_LABELS = {
    "weight_norm": "norm of the weights ‖W‖",
    "weight_turned": "angle that the weights have turned (radians)",
    "weight_radial": "squared length of all steps, radial part",
    "weight_tangential": "squared length of all steps, tangential part",
}


class NormTracker:
    """Statistics of ‖z‖, and of ‖∂ℒ/∂z‖, per optimiser step, layer and class, of any ``nn.Module``.

    ``with NormTracker(model) as tracker:`` (or ``attach()`` and ``detach()``) hooks the layers; ``tracker.step()``
    after each optimiser step closes that step over all views and micro-batches since the last one; ``to_frame()``,
    ``plot()`` and ``state_dict()`` read, also after ``detach()``. Steps count from 0: step s was computed with weights
    updated s times. Nothing waits for the device before it is read.

    What a row's embedding z is, by a layer's output: ``(N, D)`` itself; ``(N, T, D)`` the mean over the T positions,
    padding included; ``(N, C, H, W)``, or with any number of dimensions after C, the mean over those. Norms are taken
    in float32 (float64 of float64), under autocast too; squares below 1e-38 vanish in float32. Last states of an LSTM,
    ``(layers, N, D)``, are no such shape: pass ``h_n[-1]`` through an ``nn.Identity`` of the model and name that.

    Gradients: of a mean over positions, the gradient is the sum over them. Each norm is divided by the scale of
    ``grad_scaler`` and, as losses are means, multiplied by the number of rows in the step's forwards that a gradient
    reached: the gradient of the row's own term if the loss is the mean over these rows (with k micro-batches, of
    ``loss / k``), and twice the pair's if it is the mean over pairs of two rows. Forwards that no gradient reaches
    (stop-gradient, ``no_grad``) are left out; rows of a reached forward that the loss does not use count, with 0 and
    in the number of rows. At a layer in front of ``GradScale`` the scaled gradient arrives: track the ``GradScale``
    module itself (``"grad_scale"`` in ``SimCLR``) for the unscaled. One backward pass per forward; call ``step()``
    after it.

    Which forwards count: all, in training and eval mode, with or without grad, except inside ``paused()``, in steps
    that ``every`` skips, recomputed by activation checkpointing (both kinds), or made by copies of the model. So
    evaluation belongs in ``with tracker.paused():``; a step that mixes training and eval mode is an error.

    Memory: ``8 * (5 + Q)`` bytes per measured step and layer for Q quantiles (80 by default); with C classes ``2 + C``
    times that; with gradients twice; and the raw norms of the last 64 measured steps.

    ``torch.compile``: attach first, then compile. Each tracked layer breaks the graph, so ``fullgraph=True`` refuses;
    an ``nn.Sequential`` with one directly in it may run uncompiled.
    ``torch.save(model)`` and pickling need ``detach()`` first; ``model.state_dict()`` does not.

    Args:
        model: Any ``nn.Module``, in ``DistributedDataParallel`` or not.
        layers: Names of submodules, as in ``model.named_modules()`` (``""`` is the model); an element of a tuple or
            dict output follows a colon: ``"encoder:0"``, ``"encoder:last_hidden_state"``. None: the last
            ``nn.Linear``.
        every: Only steps 0, every, 2 every, ... are measured; the others cost nothing.
        per_class: Also statistics per class; ``step`` then needs labels.
        gradients: Also statistics of ‖∂ℒ/∂z‖, with the prefix ``grad_``.
        weights: Also the norm of every weight matrix and kernel of the model, ``weight_norm``, and its path over all
            steps before: ``weight_turned``, the sum of the angles in radians, and ``weight_radial`` and
            ``weight_tangential``, the sums of the squared parts of the steps along the matrix and across it. Their
            ``layer`` is the name of the parameter. This keeps a copy of the weights, and looks at every step.
        num_classes: Number of classes C. None: as many as labels on the CPU show; labels on a GPU need it.
        quantiles: Levels in [0, 1]; the statistics are named ``q05``, ``q25``, ...
        batch_first: False if outputs with three dimensions are ``(T, N, D)``.
        loss_reduction: ``"mean"``; or ``"sum"``, where gradients are not multiplied by the number of rows.
        grad_scaler: The ``torch.amp.GradScaler`` that scales the loss; also an attribute to set before backward.
        check_finite: ``step`` raises on NaN and infinite norms (waits for the device). False records them as they are.

    Raises:
        ValueError: A layer that is not there (close and all names are listed), compiled, scripted or replicated by
            ``DataParallel`` (each with the reason); no layer; ``every``, ``quantiles``, ``num_classes`` or
            ``loss_reduction`` out of range, or a flag neither True nor False.
        TypeError: ``model`` is no ``nn.Module``, a layer no string, ``grad_scaler`` no ``GradScaler``.

    >>> model = nn.Sequential(nn.Linear(2, 2, bias=False))
    >>> _ = nn.init.eye_(model[0].weight)
    >>> with NormTracker(model, per_class=True, quantiles=[0.5]) as tracker:
    ...     _ = model(torch.tensor([[3.0, 4.0], [0.0, 1.0]]))
    ...     tracker.step(labels=torch.tensor([1, 0]))
    >>> frame = tracker.to_frame()
    >>> frame[frame["statistic"] == "mean"]
        step layer  class statistic  value
    1      0     0     -1      mean    3.0
    7      0     0      0      mean    1.0
    13     0     0      1      mean    5.0
    """

    def __init__(
        self,
        model: nn.Module,
        layers: str | Iterable[str] | None = None,
        *,
        every: int = 1,
        per_class: bool = False,
        gradients: bool = False,
        weights: bool = False,
        num_classes: int | None = None,
        quantiles: Sequence[float] = (0.05, 0.25, 0.5, 0.75, 0.95),
        batch_first: bool = True,
        loss_reduction: str = "mean",
        grad_scaler: Any = None,
        check_finite: bool = False,
    ):
        check_type(nn.Module, model=model)
        check_count("every", every)
        check_count("num_classes", 1 if num_classes is None else num_classes)
        quantiles = listed("quantiles", quantiles)
        for level in quantiles:
            check_number("quantiles", level, at_least=0, at_most=1)
        check_choice("loss_reduction", loss_reduction, ("mean", "sum"))
        check_flags(
            per_class=per_class,
            gradients=gradients,
            weights=weights,
            batch_first=batch_first,
            check_finite=check_finite,
        )
        found = find_layers(model, layers)
        check_hookable(model, [module for module, _ in found.values()])
        self.layers = tuple(found)
        self.every = int(every)
        self.per_class = per_class
        self.gradients = gradients
        self.num_classes = None if num_classes is None else int(num_classes)
        self.loss_reduction = loss_reduction
        self.check_finite = check_finite
        self._model = model
        self._hooks = [LayerHook(name, *place, gradients, batch_first) for name, place in found.items()]
        self.grad_scaler = grad_scaler
        series = [(layer, prefix) for layer in self.layers for prefix in ("", "grad_")[: 1 + gradients]]
        self._statistics = SeriesStatistics(series, sorted(set(map(float, quantiles))), self.num_classes or 0)
        self._weights = WeightPaths(model) if weights else None
        self._handles: list[RemovableHandle] = []
        self._paused = False
        self._step = 0

    @property
    def grad_scaler(self) -> torch.amp.GradScaler | None:
        """The ``torch.amp.GradScaler`` whose scale gradients are divided by; None divides by nothing.

        Set it before the first backward where the scaler exists only after the tracker (as when Lightning Fabric owns
        it).

        Raises:
            TypeError: Set to something else.

        >>> tracker = NormTracker(nn.Linear(3, 2), gradients=True)
        >>> tracker.grad_scaler = torch.amp.GradScaler("cpu")
        >>> tracker.grad_scaler.get_scale()
        65536.0
        """
        return self._hooks[0].grad_scaler

    @grad_scaler.setter
    def grad_scaler(self, scaler: torch.amp.GradScaler | None) -> None:
        if scaler is not None:
            check_type(torch.amp.GradScaler, grad_scaler=scaler)
        for hook in self._hooks:
            hook.grad_scaler = scaler

    def __repr__(self) -> str:
        state = "attached" if self._handles else "detached"
        return f"NormTracker(layers={list(self.layers)}, step={self._step}, {state})"

    def __enter__(self) -> "NormTracker":
        return self.attach()

    def __exit__(self, *exception: object) -> None:
        self.detach()

    def attach(self) -> "NormTracker":
        """Hooks the layers; no effect when attached. Before ``torch.compile(model)``, not after.

        Returns:
            The tracker itself.

        Raises:
            ValueError: The model was compiled meanwhile.

        >>> tracker = NormTracker(nn.Linear(3, 2)).attach()
        >>> tracker
        NormTracker(layers=[''], step=0, attached)
        """
        if not self._handles:
            check_hookable(self._model, [hook.module for hook in self._hooks])
            self._handles = [hook.register() for hook in self._hooks]
            self._start_step()
        return self

    def detach(self) -> None:
        """Removes the hooks and drops the step that is not closed; what was measured stays. No effect when detached.

        >>> NormTracker(nn.Linear(3, 2)).detach()
        """
        for handle in self._handles:
            handle.remove()
        self._handles = []
        self._start_step()

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Forwards inside this context do not count: for evaluation between steps.

        >>> model = nn.Linear(3, 2)
        >>> with NormTracker(model) as tracker:
        ...     with tracker.paused():
        ...         _ = model(torch.ones(100, 3))
        ...     _ = model(torch.ones(4, 3))
        ...     tracker.step()
        >>> tracker.to_frame().query("statistic == 'count'")["value"].tolist()
        [4.0]
        """
        before, self._paused = self._paused, True
        self._record()
        try:
            yield
        finally:
            self._paused = before
            self._record()

    def step(self, labels: Tensor | Sequence[Tensor] | None = None) -> None:
        """Closes one optimiser step: call it once after ``optimizer.step()``.

        With ``per_class``, ``labels`` say the class of each row that a layer saw since the last step, in the order the
        rows came in. One tensor of length n for V·n rows is one batch in V views, one view after the other: in one
        forward over the concatenated views, or one forward per view. For micro-batches give a list with one such tensor
        each, in order: the views of the first micro-batch, then those of the second, ... Do so above all where each
        micro-batch is one forward over concatenated views: one flat tensor for them all cannot be told apart from one
        batch in separate views, so it is not refused and puts labels on the wrong rows.

        Args:
            labels: Integers, shape ``(n,)``, or a list of such. Ignored without ``per_class`` and in skipped steps.

        Raises:
            ValueError: Labels are missing, do not divide the rows seen, do not line up with the forwards, or (on the
                CPU; of a GPU's, reading tells) are out of range; with ``check_finite``, a norm is NaN or infinite.
            TypeError: Labels are no integer tensors of shape ``(n,)``.
            RuntimeError: The tracker is not attached; a layer saw no rows since the last step, or both training and
                eval mode, or no gradient, or more than one backward. The step's rows are dropped, and it can be redone.

        >>> model = nn.Linear(3, 2)
        >>> with NormTracker(model, per_class=True) as tracker:
        ...     for images, classes in [(torch.ones(4, 3), torch.tensor([0, 1, 1, 2]))]:
        ...         _ = model(torch.cat([images, images]))
        ...         tracker.step(classes)
        >>> tracker.to_frame().query("statistic == 'count'").set_index("class")["value"].to_dict()
        {-1: 8.0, 0: 2.0, 1: 4.0, 2: 2.0}
        """
        if not self._handles:
            raise RuntimeError("step: the tracker is not attached; use `with tracker:` or tracker.attach()")
        measured = self._step % self.every == 0
        if measured:
            try:
                self._statistics.add(self._rows(labels))
            finally:
                for hook in self._hooks:
                    hook.start()
        if self._weights is not None:
            self._weights.step(self._step, measured=measured)
        self._step += 1
        self._record()

    def to_frame(self, *, drop_invalid: bool = False) -> "pd.DataFrame":
        """All statistics so far, as a tidy table; copies to the CPU.

        Args:
            drop_invalid: Read although labels on a GPU were out of range; their rows are in no class.

        Returns:
            ``pandas.DataFrame`` with columns ``step`` (int), ``layer`` (str), ``class`` (int; −1 is all samples),
            ``statistic`` (``count``, ``mean``, ``std``, ``min``, ``max``, quantiles, the same with ``grad_``, and those
            of weights) and ``value`` (float64); sorted by step and layer. ``std`` is the population's (``ddof=0``),
            quantiles interpolate linearly. Classes that a step did not show have no row.

        Raises:
            ValueError: Labels on a GPU were out of range (the first step is named).

        >>> NormTracker(nn.Linear(3, 2)).to_frame().columns.tolist()
        ['step', 'layer', 'class', 'statistic', 'value']
        """
        frame = self._statistics.to_frame(drop_invalid=drop_invalid)
        if self._weights is None:
            return frame
        import pandas as pd

        both = pd.concat([frame, self._weights.to_frame()], ignore_index=True)
        return both.sort_values("step", kind="stable", ignore_index=True)

    def plot(
        self,
        statistic: str = "mean",
        *,
        layers: Iterable[str] | None = None,
        per_class: bool = False,
        ax: "Axes | None" = None,
    ) -> "Axes":
        """Draws one statistic over steps: a line per layer, in a band from the lowest to the highest quantile.

        Args:
            statistic: A name in ``to_frame()["statistic"]``.
            layers: Layers to draw; None draws all.
            per_class: A line per class instead of one for all samples, without bands.
            ax: Matplotlib axes to draw on; None makes some.

        Returns:
            The axes.

        Raises:
            TypeError: ``layers`` holds what is no name, or ``ax`` is no axes.
            ValueError: Nothing was measured under ``statistic`` or ``layers`` (those there are are listed).

        >>> model = nn.Linear(3, 2)
        >>> with NormTracker(model) as tracker:
        ...     _ = model(torch.ones(4, 3))
        ...     tracker.step()
        >>> tracker.plot("max").get_xlabel()
        'optimiser step'
        """
        import matplotlib.pyplot as plt
        from matplotlib.axes import Axes

        frame = self.to_frame()
        frame = frame[(frame["class"] >= 0) if per_class else (frame["class"] == -1)]
        of_weights = self._weights is not None and statistic in STATISTICS
        known = self._weights.names if self._weights is not None and of_weights else self.layers
        wanted = list(known) if layers is None else names_of("layers", layers)
        chosen = frame[frame["layer"].isin(wanted) & (frame["statistic"] == statistic)]
        if chosen.empty or not set(wanted) <= set(chosen["layer"]):
            raise ValueError(
                f"plot: no {statistic!r} of {wanted}; statistics are {frame['statistic'].unique().tolist()}, "
                f"layers {frame['layer'].unique().tolist()}"
            )
        ax = plt.subplots()[1] if ax is None else ax
        check_type(Axes, ax=ax)
        prefix = "grad_" * statistic.startswith("grad_")
        for (layer, label), line in chosen.groupby(["layer", "class"], sort=False):
            name = layer or "model"
            (drawn,) = ax.plot(line["step"], line["value"], label=f"{name}, class {label}" if per_class else name)
            around = frame[(frame["layer"] == layer) & frame["statistic"].str.match(rf"{prefix}q\d")]
            if not per_class and not of_weights and not around.empty:
                band = around.groupby("step")["value"].agg(["min", "max"])
                ax.fill_between(band.index, band["min"], band["max"], color=drawn.get_color(), alpha=0.2, linewidth=0)
        ax.set_xlabel("optimiser step")
        if of_weights:
            ax.set_ylabel(WEIGHT_LABELS[statistic])
        else:
            ax.set_ylabel(f"{statistic} of " + ("gradient norm ‖∂ℒ/∂z‖" if prefix else "embedding norm ‖z‖"))
        ax.legend()
        return ax

    def reduce(self, group: Any = None) -> "NormTracker":
        """Merges the ranks of ``torch.distributed``, in place: every rank then holds the statistics of all ranks' rows.

        Call it on all ranks. Count, mean, std, min and max are exact. Quantiles of the merged steps are dropped: those
        of the parts do not determine those of the whole. Steps already merged are left alone, so it may be called
        again. One process alone keeps everything as it is.

        Args:
            group: Process group; None is the default one.

        Returns:
            The tracker itself.

        Raises:
            ValueError: Ranks measured different layers or steps.

        >>> NormTracker(nn.Linear(3, 2)).reduce().to_frame().empty
        True
        """
        self._statistics.reduce(group)
        return self

    def state_dict(self) -> dict[str, Any]:
        """What was measured and the step count, for a checkpoint; the step that is not closed is not in it.

        Returns:
            Tensors and plain Python values only, so ``torch.load(..., weights_only=True)`` reads it.

        >>> NormTracker(nn.Linear(3, 2)).state_dict()["step"]
        0
        """
        of_weights = {} if self._weights is None else self._weights.state_dict()
        return {"step": self._step, **self._statistics.state_dict(), **of_weights}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continues from ``state_dict()``; what was measured here before is replaced.

        Args:
            state: From a tracker of the same layers, quantiles, ``gradients`` and ``weights``; on any device.

        Raises:
            TypeError: ``state`` is no mapping.
            ValueError: Entries are missing, or layers, quantiles, ``gradients`` or ``weights`` differ.

        >>> tracker = NormTracker(nn.Linear(3, 2))
        >>> tracker.load_state_dict({**tracker.state_dict(), "step": 7})
        >>> tracker
        NormTracker(layers=[''], step=7, detached)
        """
        check_type(Mapping, state=state)
        missing = sorted(self.state_dict().keys() - state.keys())
        if missing:
            raise ValueError(
                f"state lacks {missing}, got keys {list(state)}; give what NormTracker.state_dict() returned"
            )
        if self._weights is not None:
            self._weights.load_state_dict(state)
        self._statistics.load_state_dict(state)
        self._step = state["step"]
        self._start_step()

    def _start_step(self) -> None:
        if self._weights is not None:
            self._weights.start()
        for hook in self._hooks:
            hook.start()
        self._record()

    def _record(self) -> None:
        recording = bool(self._handles) and not self._paused and self._step % self.every == 0
        for hook in self._hooks:
            hook.recording = recording

    def _rows(self, labels: Tensor | Sequence[Tensor] | None) -> list[Rows]:
        """The open step's rows: one entry per series, in the order of the statistics' series."""
        if self.per_class:
            parts, shown = check_labels(labels, self.num_classes)
            self._statistics.num_classes = max(self._statistics.num_classes, shown)
        rows: list[Rows] = []
        for hook in self._hooks:
            lengths, norms = hook.norms()
            classes = labels_of_rows(parts, lengths, hook.name) if self.per_class else None
            rows.append(Rows(self._step, len(rows), norms, classes))
            if self.gradients:
                reached, norms = hook.gradient_norms()
                if classes is not None and not all(reached):
                    classes = torch.cat(list(compress(classes.split(lengths), reached)))
                factor = len(norms) if self.loss_reduction == "mean" else 1
                rows.append(Rows(self._step, len(rows), norms, classes, factor))
        if self.check_finite:
            for (layer, prefix), row in zip(self._statistics.series, rows, strict=True):
                if not row.values.isfinite().all():
                    raise ValueError(f"layer {layer!r}: a {prefix}norm is NaN or infinite in step {self._step}")
        return rows
