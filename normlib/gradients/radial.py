"""The radial share of a gradient: how much of it lies along what it pulls at, at every layer of a network."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from normlib._utils.arguments import check_callable, check_type, names_of
from normlib._utils.tensors import check_alike, directions_and_inverse_norms, kind_of

if TYPE_CHECKING:
    import pandas as pd


def radial_share(z: Tensor, grad: Tensor) -> Tensor:
    """Cosine between each row and its gradient: 0 for a pull at right angles, positive if a step shortens the row.

    Args:
        z: Rows, shape ``(N, ...)``; other axes count as one.
        grad: Gradient of the loss with respect to ``z``, same shape.

    Returns:
        Numbers in [-1, 1], shape ``(N,)``, float32 or float64; 0 where a row or its gradient is zero.

    Raises:
        TypeError: An argument is not a floating-point tensor.
        ValueError: The shapes differ.

    Source: ours; put to use in the chapter beyond SimCLR.

    >>> radial_share(torch.tensor([[2.0, 0.0], [1.0, 1.0]]), torch.tensor([[0.0, 3.0], [-1.0, -1.0]]))
    tensor([ 0.0000, -1.0000])
    """
    check_alike(z=z, grad=grad)
    (u, _), (pull, _) = (directions_and_inverse_norms(rows.flatten(1)) for rows in (z, grad))
    return (u * pull).sum(dim=1).clamp(-1, 1)


def radial_table(
    model: nn.Module,
    x1: Tensor,
    x2: Tensor,
    layers: str | Iterable[str] | None = None,
    *,
    loss: Callable[..., Tensor] | None = None,
) -> pd.DataFrame:
    """Radial share of a method's gradient at the output of each layer, in three readings.

    - ``sample``: of each row, the mean size over the rows. 0: no row is lengthened by its own pull in the first order.
    - ``dimension``: of each column, the mean size over the columns; in a convolution a channel is a column. 0 in front
      of BatchNorm, which undoes the length of a column.
    - ``batch``: of the whole tensor as one vector. 0 where the loss is blind to a factor that all rows share.

    Args:
        model: A method of :mod:`normlib.models`, or any network with a ``loss``, in the mode to be judged.
        x1: Images of view 1, shape ``(N, C, H, W)``.
        x2: Images of view 2, same shape.
        layers: Name or names of submodules; ``None``: all that hold no others, do something, and lie on the way of a
            gradient. Of one that is called several times, the last call counts.
        loss: Takes the outputs for view 1 and for view 2, such as :func:`normlib.losses.info_nce`; ``None``: the
            model's own.

    Returns:
        One row for each layer, in the order of the forward pass.

    Raises:
        TypeError: No ``loss``, and the model has none; ``model`` is no module, a view no floating-point tensor; a layer
            gives something else than one tensor.
        ValueError: The views differ in shape, a name is not a submodule, or no gradient arrives there.

    Source: ours; put to use in the chapter beyond SimCLR.

    >>> from normlib import losses, models
    >>> model = models.JointEmbedding(
    ...     models.digits_encoder(16, 8), models.projection_head(8, 8, 4), losses.sigmoid_loss).double()
    >>> table = radial_table(model, *torch.rand(2, 6, 1, 8, 8, dtype=torch.float64))
    >>> table["layer"].iloc[-1], bool(table["sample"].iloc[-1] < 1e-6)
    ('projector.2', True)
    """
    import pandas as pd

    check_type(nn.Module, model=model)
    check_alike(x1=x1, x2=x2)
    loss = loss or getattr(model, "loss", None)
    if loss is None:
        raise TypeError(f"{type(model).__name__} has no loss of its own; name one, such as loss=losses.info_nce")
    check_callable(loss=loss)
    known = dict(model.named_modules())
    parts = {name: part for name, part in known.items() if name and not isinstance(part, nn.Identity)}
    leaves = [name for name, part in parts.items() if next(part.children(), None) is None]
    names = leaves if layers is None else names_of("layers", layers)
    if unknown := [name for name in names if name not in known]:
        raise ValueError(f"layers names unknown submodules {unknown}; those there are: {', '.join(known)}")
    with _watched_outputs({name: known[name] for name in names}) as seen:
        outputs = model(torch.cat([x1, x2]))
    outputs = outputs if isinstance(outputs, tuple) else (outputs,)
    value = loss(*(view for output in outputs for view in output.chunk(2)))
    grads = torch.autograd.grad(value, list(seen.values()), allow_unused=True) if seen else ()
    reached = [(name, z, grad) for (name, z), grad in zip(seen.items(), grads, strict=True) if grad is not None]
    if layers is not None and (dry := set(names) - {name for name, _, _ in reached}):
        raise ValueError(f"layers: no gradient arrives at {sorted(dry)}")
    return pd.DataFrame([{"layer": name, **_three_readings(z.detach(), grad)} for name, z, grad in reached])


@contextmanager
def _watched_outputs(layers: dict[str, nn.Module]) -> Iterator[dict[str, Tensor]]:
    """The outputs of layers on the way of a gradient, by name in the order of their calls, as they come."""
    seen: dict[str, Tensor] = {}

    def watch(name: str, layer: nn.Module) -> RemovableHandle:
        def hook(module: nn.Module, inputs: tuple, output: Tensor) -> Tensor:
            if not isinstance(output, Tensor):
                raise TypeError(f"layers must give one tensor each, but {name} gives {kind_of(output)}; name others")
            if output.requires_grad:
                seen.pop(name, None)
                seen[name] = output
            return output.clone()  # a layer that works in place must not reach what is kept

        return layer.register_forward_hook(hook)

    handles = [watch(name, layer) for name, layer in layers.items()]
    try:
        yield seen
    finally:
        for handle in handles:
            handle.remove()


def _three_readings(z: Tensor, grad: Tensor) -> dict[str, float]:
    columns = radial_share(z.transpose(0, 1).contiguous(), grad.transpose(0, 1).contiguous())
    return {
        "sample": radial_share(z, grad).abs().mean().item(),
        "dimension": columns.abs().mean().item(),
        "batch": radial_share(z[None], grad[None]).abs().item(),
    }
