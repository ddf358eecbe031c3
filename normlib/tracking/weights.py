"""How long each weight matrix is, and how far it has turned: the sum of the angles of all steps."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    import pandas as pd

# Sums over the steps so far: of their angles, and of the squared lengths of their two parts.
SUMS = ("weight_turned", "weight_radial", "weight_tangential")
STATISTICS = ("weight_norm", *SUMS)


class WeightPaths:
    """Norm, and path so far, of every weight matrix and kernel of a model; nothing waits for the device.

    A step moves a matrix ``w`` by ``Δ``, which has a radial part ``r``, along ``w``, and a tangential part ``t``. The
    matrix turns by the angle ``atan2(t, ‖w‖ + r)``. Biases and the scales of normalisation layers are left out.

    Args:
        model: Its parameters with two dimensions or more, and with ``requires_grad``, are followed.
    """

    def __init__(self, model: nn.Module):
        followed = {name: p for name, p in model.named_parameters() if p.requires_grad and p.ndim >= 2}
        self.names = tuple(followed)
        self._weights: list[Tensor] = list(followed.values())
        self._before: list[Tensor] = []
        self._sums: Tensor | None = None
        self._steps: list[int] = []
        self._rows: list[Tensor] = []

    @torch.no_grad()
    def start(self) -> None:
        """Take the present weights as those that the next step begins at."""
        self._before = [weight.detach().clone() for weight in self._weights]

    @torch.no_grad()
    def step(self, step: int, *, measured: bool) -> None:
        """Add the way from the weights before a step to those after it, and measure those before it where wanted."""
        norms = _column(torch._foreach_norm(self._before))
        sums = norms.new_zeros(len(norms), len(SUMS)) if self._sums is None else self._sums.to(norms.device)
        if measured:
            self._steps.append(step)
            self._rows.append(torch.cat([norms[:, None], sums], dim=1))
        moves = torch._foreach_sub(self._weights, self._before)
        squared = _column(torch._foreach_norm(moves)).square()
        along = _column([product.sum() for product in torch._foreach_mul(moves, self._before)])
        radial = torch.where(norms > 0, along / norms, 0.0)
        tangential = (squared - radial.square()).clamp(min=0).sqrt()
        angle = torch.where(norms > 0, torch.atan2(tangential, norms + radial), 0.0)
        self._sums = sums + torch.stack([angle, radial.square(), tangential.square()], dim=1)
        torch._foreach_copy_(self._before, self._weights)

    def to_frame(self) -> "pd.DataFrame":
        """What was measured, in the columns of ``NormTracker.to_frame``, sorted by step."""
        import pandas as pd

        values = torch.stack(self._rows).cpu().numpy() if self._rows else torch.zeros(0, len(self.names), 4).numpy()
        index = pd.MultiIndex.from_product([self._steps, self.names, STATISTICS], names=["step", "layer", "statistic"])
        frame = pd.DataFrame({"value": values.reshape(-1).astype(float)}, index=index).reset_index()
        return frame.assign(**{"class": -1})[["step", "layer", "class", "statistic", "value"]]

    def state_dict(self) -> dict[str, Any]:
        """What was measured, as plain values and tensors."""
        return {"weights": list(self.names), "weight_path": [self._sums, list(self._steps), list(self._rows)]}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Replace what was measured by what ``state_dict`` gave."""
        if state["weights"] != list(self.names):
            raise ValueError(f"state: weights are {state['weights']}, this tracker's are {list(self.names)}")
        sums, steps, rows = state["weight_path"]
        self._sums, self._steps, self._rows = sums, list(steps), list(rows)


def _column(values: "list[Tensor] | tuple[Tensor, ...]") -> Tensor:
    """One number for each weight, in the widest floats that the device has."""
    column = torch.stack(list(values))
    return column.float() if column.device.type == "mps" else column.double()
