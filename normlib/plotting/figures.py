"""The house style of the figures: one palette, one look, and the figures that recur."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from normlib._utils.arguments import check_number, check_type, listed, names_of
from normlib._utils.intervals import half_width
from normlib._utils.tables import check_columns, check_numbers, check_table
from normlib.plotting.confidence import (
    check_axes,
)
from normlib.plotting.palette import PALETTE

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes


def use_style() -> None:
    """Make matplotlib draw in the style of the course, for this session.

    >>> use_style()
    >>> import matplotlib
    >>> matplotlib.rcParams["axes.spines.top"]
    False
    """
    import matplotlib as mpl
    from cycler import cycler

    mpl.rcParams.update(
        {
            "figure.figsize": (6.4, 3.6),
            "figure.dpi": 100,
            "figure.constrained_layout.use": True,
            "figure.facecolor": "white",
            "axes.prop_cycle": cycler(color=[colour for name, colour in PALETTE.items() if name != "grey"]),
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.grid": True,
            "axes.titlesize": "medium",
            "axes.titlelocation": "left",
            "grid.color": "#E5E7EB",
            "grid.linewidth": 0.6,
            "legend.frameon": False,
            "lines.linewidth": 1.8,
            "font.size": 10,
            "image.cmap": "viridis",
        }
    )


def band(ax: Axes, frame: pd.DataFrame, x: str, y: str, *, over: str = "seed", label: str = "", **line: Any) -> Axes:
    """Mean of ``y`` over repetitions with a 95 % interval of that mean (Student's t), against ``x``.

    Args:
        ax: Axes to draw on.
        frame: Tidy table with the columns ``x``, ``y`` and ``over``; one row per repetition and value of ``x``.
        x: Column of the horizontal axis.
        y: Column of the vertical axis.
        over: Column that numbers the repetitions; at least two are needed for an interval.
        label: Legend entry.
        line: Passed on to ``Axes.plot``.

    Returns:
        ``ax``.

    Raises:
        TypeError: ``ax`` is no axes, or ``frame`` no DataFrame.
        ValueError: ``frame`` is empty, a column is missing, ``y`` is not one of numbers, a repetition stands
            twice, or some ``x`` has only one.

    >>> import matplotlib.pyplot as plt, pandas as pd
    >>> frame = pd.DataFrame({"step": [0, 0, 1, 1], "seed": [0, 1, 0, 1], "loss": [2.0, 4.0, 1.0, 1.0]})
    >>> ax = band(plt.figure().subplots(), frame, "step", "loss")
    >>> ax.lines[0].get_ydata().tolist()
    [3.0, 1.0]
    """

    check_axes(ax)
    check_table(frame, "frame")
    check_columns(frame, [x, y, over], "frame")
    check_numbers(frame, y, "frame")
    twice = frame.duplicated([x, over])
    if twice.any():
        raise ValueError(f"frame has several rows for one {x!r} and {over!r}, first {frame[twice].iloc[0].to_dict()}")
    groups = frame.groupby(x)[y]
    mean, repetitions = groups.mean(), groups.count()
    if repetitions.min() < 2:
        raise ValueError(f"an interval needs at least 2 repetitions in {over!r}, got {repetitions.min()}")
    half = half_width(groups.std(ddof=1), repetitions)
    (drawn,) = ax.plot(mean.index.to_numpy(), mean.to_numpy(), label=label, **line)
    ax.fill_between(mean.index, mean - half, mean + half, color=drawn.get_color(), alpha=0.2, linewidth=0)
    return ax


def image_grid(rows: list, *, labels: list[str] | None = None, scale: float = 0.7) -> Axes:
    """Show a few images per row, for example originals above their views.

    Args:
        rows: One tensor per row, shape ``(M, C, H, W)``, C of 1 or 3, uint8 or float in [0, 1]; the same M in all.
        labels: One name per row.
        scale: Inches per image.

    Returns:
        Axes that hold the whole grid.

    Raises:
        TypeError: ``rows`` holds what is no tensor, or ``labels`` what is no name.
        ValueError: The rows differ in shape or are no images, ``labels`` differ in number, or ``scale`` is not above 0.

    >>> import torch
    >>> image_grid([torch.zeros(5, 1, 8, 8)], labels=["black"]).images[0].get_array().shape
    (8, 44)
    """
    import matplotlib.pyplot as plt
    import torch

    rows = listed("rows", rows)
    check_type(torch.Tensor, **{f"rows[{i}]": row for i, row in enumerate(rows)})
    check_number("scale", scale, above=0)
    shapes = {tuple(row.shape) for row in rows}
    if len(shapes) != 1 or len(shape := next(iter(shapes))) != 4 or shape[1] not in (1, 3) or 0 in shape:
        raise ValueError(f"rows must share one shape (M, C, H, W) with C of 1 or 3, got {sorted(shapes)}")
    labels = [""] * len(rows) if labels is None else names_of("labels", labels)
    if len(labels) != len(rows):
        raise ValueError(f"labels must name each of the {len(rows)} rows, got {len(labels)} names")
    m, channels, height, width = rows[0].shape
    gap = max(1, width // 8)
    canvas = torch.ones(channels, len(rows) * (height + gap) - gap, m * (width + gap) - gap)
    for i, row in enumerate(rows):
        pixels = row.float() / 255 if row.dtype == torch.uint8 else row
        for j, image in enumerate(pixels.cpu()):
            top, left = i * (height + gap), j * (width + gap)
            canvas[:, top : top + height, left : left + width] = image
    ax = plt.figure(figsize=(scale * m, scale * len(rows))).subplots()
    ax.imshow(canvas.permute(1, 2, 0).squeeze(2).numpy(), cmap="gray", vmin=0, vmax=1, interpolation="nearest")
    ax.set_yticks([i * (height + gap) + height / 2 for i in range(len(rows))], labels)
    ax.set_xticks([])
    ax.tick_params(length=0)
    ax.grid(False)
    for spine in ax.spines.values():
        spine.set_visible(False)
    return ax
