"""Cut and scale: what a cut does to the norms and to the first steps, by depth, biases and BatchNorm."""

from __future__ import annotations

from base64 import b64encode
from typing import TYPE_CHECKING, Any

import numpy as np
import traitlets

from normcourse.widgets.base import InteractiveFigure, module
from normlib._utils.intervals import half_width
from normlib._utils.tables import check_columns, check_table
from normlib.plotting import PALETTE

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

NETWORK = ["depth", "biases", "batch_norm"]
SCALE = 3000  # of the numbers that are kept as integers of two bytes
LARGEST = np.iinfo("<i2").max / SCALE


class CutAndScale(InteractiveFigure):
    """Recorded networks that were cut by c, beside uncut ones at c² times the step size.

    Args:
        table: Table ``steps`` of the experiment ``digits-cuts``: loss, norm and spread by step, for each network, cut,
            step size and seed.
        depth: Layers of the network that is shown.
        cut: Cut c.
        biases: Whether its layers have biases.
        batch_norm: Whether BatchNorm stands behind every layer but the last.

    Raises:
        TypeError: ``table`` is no DataFrame.
        ValueError: ``table`` is empty, lacks a column, holds no cut, one seed only, or numbers that are too large to
            draw or not finite, as those of a run that diverged.
        traitlets.TraitError: A network or a cut that is not in the table.

    >>> from normcourse import experiments
    >>> CutAndScale(experiments.load("digits-cuts")["steps"], depth=3, biases=True)
    CutAndScale(depth=3, cut=3.0, biases=True, batch_norm=False)
    """

    _esm = module("cut_and_scale")

    record = traitlets.Dict().tag(sync=True)
    curves = traitlets.Unicode().tag(sync=True)
    depth = traitlets.Int(3).tag(sync=True)
    cut = traitlets.CFloat(3.0).tag(sync=True)
    biases = traitlets.Bool(False).tag(sync=True)
    batch_norm = traitlets.Bool(False).tag(sync=True)

    def __init__(self, table: pd.DataFrame, **shown: Any) -> None:
        check_table(table)
        check_columns(table, [*NETWORK, "cut", "step", "lr", "seed", "loss", "norm", "spread"])
        if (table["cut"] == 1).all():
            raise ValueError("table must hold networks that were cut, got none but of cut 1")
        kept = {f"{name}s": sorted(table[name].unique().tolist()) for name in ("depth", "cut", "step")}
        lr = float(table.loc[table["cut"] != 1, "lr"].iloc[0])  # only uncut networks have other ones
        self._curves = summary(table, kept["cuts"], lr)
        if not (np.abs(self._curves) <= LARGEST).all():  # nor is NaN
            raise ValueError(
                f"table must give means and intervals of at most {LARGEST:.1f} for the loss, log10 of the norm and of "
                "the spread, got larger ones or NaN; leave out runs that diverged, and take two seeds or more"
            )
        packed = np.rint(SCALE * self._curves).astype("<i2").tobytes()
        super().__init__(record=kept | {"lr": lr, "scale": SCALE}, curves=b64encode(packed).decode(), **shown)

    @traitlets.validate("depth", "cut")
    def _is_recorded(self, proposal: dict) -> float:
        name, value = proposal["trait"].name, proposal["value"]
        if value not in (recorded := self.record[f"{name}s"]):
            raise traitlets.TraitError(f"{name} must be one of {recorded}, got {value}; the table holds no other")
        return value

    def __repr__(self) -> str:
        shown = ("depth", "cut", "biases", "batch_norm")
        return f"CutAndScale({', '.join(f'{name}={getattr(self, name)}' for name in shown)})"

    def still(self) -> Figure:
        """Loss and norm by step of the network as it stands: uncut, cut, and uncut at the larger step size."""
        from matplotlib.figure import Figure

        figure = Figure(figsize=(6.8, 3), layout="constrained")
        axes = figure.subplots(1, 2)
        steps, lr = np.array(self.record["steps"]), self.record["lr"]
        for cut, uncut, name, style in (
            (1.0, 0, f"uncut, η = {lr:g}", {"color": PALETTE["grey"]}),
            (self.cut, 0, f"cut by {self.cut:g}, η = {lr:g}", {"color": PALETTE["blue"]}),
            (self.cut, 1, f"uncut, η = {lr * self.cut**2:g}", {"color": PALETTE["orange"], "ls": "--"}),
        ):
            index = [self.record["depths"].index(self.depth), int(self.biases), int(self.batch_norm)]
            loss, _, norm, _ = self._curves[*index, self.record["cuts"].index(cut), uncut][:-1].reshape(4, -1)
            axes[0].plot(steps, loss, label=name, **style)
            axes[1].plot(steps, 10**norm, **style)
        axes[0].set(xlabel="step", ylabel="loss")
        axes[1].set(xlabel="step", ylabel="mean ‖z‖", yscale="log")
        axes[0].legend(fontsize="small")
        return figure


def summary(table: pd.DataFrame, cuts: list[float], lr: float) -> np.ndarray:
    """Means and 95 % intervals over the seeds, by depth, biases, BatchNorm, cut, and uncut or not.

    Along the last axis: loss by step, half of its interval, log10 of the norm by step, half of its interval, and log10
    of the spread at the start.
    """
    logs = table.assign(norm=np.log10(table["norm"]), spread=np.log10(table["spread"]))
    seeds = table["seed"].nunique()
    found = []
    for cut in cuts:
        for rows in (
            logs[(logs["cut"] == cut) & np.isclose(logs["lr"], lr)],
            logs[(logs["cut"] == 1) & np.isclose(logs["lr"], lr * cut**2)],
        ):
            groups = rows.groupby([*NETWORK, "step"])[["loss", "norm", "spread"]]
            mean, half = groups.mean().unstack(), half_width(groups.std(ddof=1).unstack(), seeds)
            parts = [mean["loss"], half["loss"], mean["norm"], half["norm"], mean["spread"].to_numpy()[:, :1]]
            found.append(np.concatenate(parts, axis=1))
    shape = [table[name].nunique() for name in NETWORK]
    return np.stack(found, axis=1).reshape(*shape, len(cuts), 2, -1)
