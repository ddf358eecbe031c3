"""From rows of numbers to statistics: per step, series and class, on the rows' device, never waiting for it.

``NormTracker`` hands over one tensor of norms per step and layer. They are buffered raw for ``FLUSH_STEPS`` steps,
then one pass of vectorised operations turns the buffer into one small tensor of statistics. Only reading copies to the
CPU.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor

if TYPE_CHECKING:
    import pandas as pd

FLUSH_STEPS = 64
MOMENTS = ("count", "mean", "std", "min", "max")
# Groups of a block: all rows, rows whose label is out of range, class 0, class 1, ...
ALL, INVALID, FIRST_CLASS = 0, 1, 2


class Rows(NamedTuple):
    """Norms ``(n,)`` of one series in one step, still raw, and the factor they are to be multiplied by."""

    step: int
    series: int
    values: Tensor
    labels: Tensor | None
    factor: int = 1


class Block(NamedTuple):
    """Statistics ``(M, G, K)`` of M measurements; their steps, series and "are the ranks merged?" are on the CPU."""

    steps: Tensor
    series: Tensor
    reduced: Tensor
    statistics: Tensor


def quantile_name(level: float) -> str:
    """Name of a quantile's column: per cent with at least two digits, so that names sort.

    >>> [quantile_name(level) for level in (0.05, 0.5, 0.975, 0.001)]
    ['q05', 'q50', 'q97.5', 'q00.1']
    """
    percent = f"{100 * level:.6g}"  # as many digits as a level that came in float32 has right
    return "q" + (percent if 100 * level >= 10 else "0" + percent)


def group_statistics(
    values: Tensor, levels: Sequence[float], groups: Tensor | None = None, num_groups: int = 1
) -> Tensor:
    """Count, mean, population standard deviation, minimum, maximum and quantiles of each group of each row.

    Two sorts lay each group out as one run of ascending values, so cost and memory do not grow with rows times groups,
    and nothing waits for the device. Quantiles interpolate linearly, as NumPy's default. A NaN makes its group's
    statistics NaN; empty groups have count 0 and NaN elsewhere.

    Args:
        values: Numbers, shape ``(M, n)``.
        levels: Q quantile levels in [0, 1].
        groups: Group of each value, integers in ``[0, num_groups)``, shape ``(M, n)``; None for one group.
        num_groups: Number of groups G.

    Returns:
        Shape ``(M, G, 5 + Q)``, float64 (float32 on MPS, which has no float64).

    >>> group_statistics(torch.tensor([[1.0, 3.0, 2.0]]), [0.5])[0, 0].tolist()
    [3.0, 2.0, 0.816496580927726, 1.0, 3.0, 2.0]
    """
    M, n = values.shape
    dtype = torch.float32 if values.device.type == "mps" else torch.float64
    order = _argsort(values)
    if groups is not None:
        groups = groups.to(torch.int16 if num_groups < 2**15 else torch.int64).gather(1, order)  # short ones sort fast
        by_group = _argsort(groups, stable=True)
        groups, order = groups.gather(1, by_group), order.gather(1, by_group)
        run = (groups + torch.arange(M, device=values.device)[:, None] * num_groups).flatten()
    values = values.gather(1, order).to(dtype)

    def total(x: Tensor) -> Tensor:
        if groups is None:
            return x.sum(dim=1, keepdim=True)
        return x.new_zeros(M * num_groups).index_add(0, run, x.flatten()).view(M, num_groups)

    def spread(per_group: Tensor) -> Tensor:
        return per_group if groups is None else per_group.flatten().index_select(0, run).view(M, n)

    count = total(torch.ones_like(values))
    mean = total(values) / count
    std = (total((values - spread(mean)).square()) / count).sqrt()

    level = torch.tensor([0.0, 1.0, *levels], dtype=dtype)
    level = level.to(values.device, non_blocking=True)  # device= above would wait
    last = (count - 1).clamp(min=0)[..., None]
    start = (count.long().cumsum(dim=1) - count)[..., None]
    position = level * last
    below = position.floor()

    def at(rank: Tensor) -> Tensor:
        index = (start + rank).clamp(max=n - 1).long()
        return values.gather(1, index.flatten(1)).view_as(index)

    low, high = at(below), at(torch.minimum(below + 1, last))
    between = low + (high - low) * (position - below)
    ordered = torch.where((position == below) | (low == high), low, between)  # inf - inf and inf * 0 would be NaN
    ordered = torch.where(mean.isnan()[..., None], torch.nan, ordered)
    return torch.cat([count[..., None], mean[..., None], std[..., None], ordered], dim=-1)


def _argsort(x: Tensor, stable: bool = False) -> Tensor:
    if (
        x.device.type == "cpu"
    ):  # NumPy's vectorised sorts take a sixth of the time of torch's, and most of a flush is this
        return torch.from_numpy(np.argsort(x.numpy(), axis=1, kind="stable" if stable else "quicksort"))
    return x.argsort(dim=1, stable=stable)


class SeriesStatistics:
    """Statistics of several series over steps, in memory bounded by the steps measured.

    The buffer holds the raw rows of at most ``FLUSH_STEPS`` steps. Each measured step then keeps ``8 * (5 + Q)`` bytes
    per series for Q quantiles, and with labels of C classes ``2 + C`` times that.

    Args:
        series: Layer and prefix of each series' statistics.
        levels: Quantile levels in [0, 1].
        num_classes: Number of classes so far; may grow.
    """

    def __init__(self, series: Sequence[tuple[str, str]], levels: Sequence[float], num_classes: int = 0):
        self.series = tuple(series)
        self.levels = tuple(levels)
        self.num_classes = num_classes
        self.names = (*MOMENTS, *map(quantile_name, self.levels))
        self.blocks: list[Block] = []
        self._buffer: list[Rows] = []

    def add(self, rows: list[Rows]) -> None:
        """Takes the rows of one step, all series at once."""
        self._buffer.extend(rows)
        if len(self._buffer) >= FLUSH_STEPS * len(self.series):
            self.flush()

    @torch.no_grad()
    def flush(self) -> None:
        """Turns the buffered rows into statistics, stacking those of equal length."""
        alike: dict[Any, list[Rows]] = defaultdict(list)
        for rows in self._buffer:
            label_device = None if rows.labels is None else rows.labels.device
            alike[rows.values.shape, rows.values.device, rows.values.dtype, rows.factor, label_device].append(rows)
        self._buffer = []
        for batch in alike.values():
            values = torch.stack([rows.values for rows in batch]) * batch[0].factor
            statistics = group_statistics(values, self.levels)
            if batch[0].labels is not None:
                labels = torch.stack([rows.labels for rows in batch if rows.labels is not None])  # all have them
                labels = labels.to(values.device, non_blocking=values.device.type != "cpu")
                groups = torch.where((labels >= 0) & (labels < self.num_classes), labels + 1, 0)
                by_class = group_statistics(values, self.levels, groups, 1 + self.num_classes)
                statistics = torch.cat([statistics, by_class], dim=1)
            steps, series = torch.tensor([(rows.step, rows.series) for rows in batch]).T
            self.blocks.append(Block(steps, series, torch.zeros(len(batch), dtype=torch.bool), statistics))

    def read(self, blocks: Sequence[Block], device: torch.device | str = "cpu", num_groups: int = 1) -> Block:
        """Joins blocks on ``device``, sorted by step and series; classes that a block did not know have count 0."""
        num_groups = max([num_groups, *(block.statistics.shape[1] for block in blocks)])
        padded = [torch.zeros(0, num_groups, len(self.names), dtype=torch.float64, device=device)]
        for block in blocks:
            filled = block.statistics.new_full((len(block.steps), num_groups, len(self.names)), torch.nan)
            filled[..., 0] = 0
            filled[:, : block.statistics.shape[1]] = block.statistics
            padded.append(filled.to(device))
        none = torch.zeros(0, dtype=torch.long)
        steps = torch.cat([none, *(block.steps for block in blocks)])
        series = torch.cat([none, *(block.series for block in blocks)])
        reduced = torch.cat([none.bool(), *(block.reduced for block in blocks)])
        order = torch.argsort(steps * len(self.series) + series)
        return Block(steps[order], series[order], reduced[order], torch.cat(padded)[order.to(device)])

    def to_frame(self, *, drop_invalid: bool = False) -> "pd.DataFrame":
        """Everything so far as a tidy DataFrame; see ``NormTracker.to_frame``."""
        import pandas as pd

        self.flush()
        block = self.read(self.blocks)
        values = block.statistics.numpy()
        counts = values[..., 0]
        misplaced = counts[:, INVALID] > 0 if counts.shape[1] > 1 else np.zeros(len(counts), dtype=bool)
        if misplaced.any() and not drop_invalid:
            raise ValueError(
                f"labels: {int(misplaced.sum())} measurements, the first at step {int(block.steps[misplaced][0])}, had "
                f"labels outside 0..{self.num_classes - 1}; correct labels or num_classes. Rows so labelled count "
                "in all samples and in no class: to_frame(drop_invalid=True) gives the statistics as they are"
            )
        keep = np.repeat(counts[..., None] > 0, len(self.names), axis=2)
        keep[:, INVALID:FIRST_CLASS] = False
        keep[block.reduced.numpy(), :, len(MOMENTS) :] = False  # of parts' quantiles, the whole's do not follow
        row, group, column = np.nonzero(keep)
        series = block.series.numpy()[row]
        layers = np.array([layer for layer, _ in self.series], dtype=object)
        names = np.array([[prefix + name for name in self.names] for _, prefix in self.series], dtype=object)
        return pd.DataFrame(
            {
                "step": block.steps.numpy()[row],
                "layer": layers[series],
                "class": np.where(group == ALL, -1, group - FIRST_CLASS),
                "statistic": names[series, column],
                "value": values[keep],
            }
        )

    def reduce(self, group: "dist.ProcessGroup | None" = None) -> None:
        """Merges what the ranks measured since the last call; see ``NormTracker.reduce``."""
        if not (dist.is_available() and dist.is_initialized()) or dist.get_world_size(group) == 1:
            return
        self.flush()
        mine = [block for block in self.blocks if not block.reduced.all()]
        local = self.read(mine, mine[0].statistics.device if mine else "cpu")
        outline = (self.series, local.steps.tolist(), local.series.tolist())
        outlines: list[Any] = [None] * dist.get_world_size(group)
        dist.all_gather_object(outlines, (outline, local.statistics.shape[1]), group)
        if any(other != outline for other, _ in outlines):
            measured = {rank: len(other[1]) for rank, (other, _) in enumerate(outlines)}
            raise ValueError(
                f"reduce: the ranks measured different steps or layers (measurements by rank: {measured}); give every "
                "rank the same layers, every= and number of steps (DistributedSampler pads to equal length)"
            )
        if not mine:  # on all ranks alike, as the outlines are
            return
        local = self.read([local], local.statistics.device, max(num_groups for _, num_groups in outlines))
        merged = _merge(local.statistics[..., : len(MOMENTS)], group)
        statistics = torch.full_like(local.statistics, torch.nan)
        statistics[..., : len(MOMENTS)] = merged
        done = [block for block in self.blocks if block.reduced.all()]
        self.blocks = [*done, local._replace(reduced=torch.ones_like(local.reduced), statistics=statistics)]

    def state_dict(self) -> dict[str, Any]:
        """Everything measured, as plain values and tensors."""
        self.flush()
        return {
            "series": [list(pair) for pair in self.series],
            "quantiles": list(self.levels),
            "num_classes": self.num_classes,
            "blocks": [block._asdict() for block in self.blocks],
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Replaces what was measured by what ``state_dict`` gave."""
        own = self.state_dict()
        for name in ("series", "quantiles"):
            if state[name] != own[name]:
                raise ValueError(f"state: {name} are {state[name]}, this tracker's are {own[name]}; make them equal")
        self.num_classes = max(self.num_classes, state["num_classes"])
        blocks = [Block(**block) for block in state["blocks"]]
        # torch.load(map_location=...) moves all tensors alike
        self.blocks = [Block(b.steps.cpu(), b.series.cpu(), b.reduced.cpu(), b.statistics) for b in blocks]


def _merge(moments: Tensor, group: "dist.ProcessGroup | None") -> Tensor:
    """Moments ``(..., 5)`` of the ranks' rows together; the groups' squares add up around the common mean."""

    def over_ranks(x: Tensor, operation: "dist.ReduceOp.RedOpType") -> Tensor:
        dist.all_reduce(x, operation, group)
        return x

    count, mean, std, low, high = moments.unbind(-1)
    empty = count == 0
    total = over_ranks(count.clone(), dist.ReduceOp.SUM)
    common = over_ranks(torch.where(empty, 0.0, count * mean), dist.ReduceOp.SUM) / total
    square = torch.where(empty, 0.0, count * (std.square() + (mean - common).square()))
    std = (over_ranks(square, dist.ReduceOp.SUM) / total).sqrt()
    low = over_ranks(torch.where(empty, torch.inf, low), dist.ReduceOp.MIN)
    high = over_ranks(torch.where(empty, -torch.inf, high), dist.ReduceOp.MAX)
    ordered = torch.where(common.isnan()[..., None], torch.nan, torch.stack([low, high], dim=-1))
    return torch.cat([torch.stack([total, common, std], dim=-1), ordered], dim=-1)
