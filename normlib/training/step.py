"""One step: embed two views, take the loss over the batches of all processes, go backward, step."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from normlib._utils import rng
from normlib.losses import info_nce

if TYPE_CHECKING:
    from lightning_fabric import Fabric

    from normlib.training.config import TrainConfig


class TwoViewStep:
    """Steps of one run.

    The loss is that of the whole batch, of all processes and all micro-batches: each embedding meets every other one
    as a negative, and statistics are those of all. Outputs are gathered from the other processes with their gradients.
    Micro-batches are embedded once without gradient; the loss of all of them gives the gradient of each output; then
    each micro-batch is embedded again, and its share of that gradient goes on to the weights. The sum over
    micro-batches is the gradient of one large batch, which the plain sum of the losses of small batches is not: these
    lack negatives.

    Args:
        fabric: Owns devices, precision and processes.
        method: What is trained; its ``loss``, if it has one, takes the place of NT-Xent.
        forward: ``method``, and ``optimizer``, as set up by ``fabric``.
        config: Settings of the run.
        unseen: Gives a context in which a tracker counts no forward pass.

    Source: gathering as in Chen et al. 2020 (SimCLR), micro-batches as in Gao et al. 2021 (GradCache).
    """

    def __init__(
        self,
        fabric: Fabric,
        method: nn.Module,
        forward: nn.Module,
        optimizer: torch.optim.Optimizer,
        config: TrainConfig,
        unseen: Callable[[], AbstractContextManager],
    ):
        self._fabric = fabric
        self._method = method
        self._forward = forward
        self._optimizer = optimizer
        self._config = config
        self._unseen = unseen
        self._loss = getattr(method, "loss", self._nt_xent)
        self._after_step = getattr(method, "after_step", None)
        self._backward = self._at_once if config.micro_batch_size is None else self._in_pieces

    def __call__(self, views: tuple[Tensor, Tensor], lr: float) -> Tensor:
        """One optimiser step; returns loss and mean norm, shape ``(2,)``, without waiting for the device."""
        for group in self._optimizer.param_groups:
            group["lr"] = lr
        self._optimizer.zero_grad(set_to_none=True)
        result = self._backward(views)
        self._optimizer.step()
        if self._after_step is not None:
            self._after_step()
        return result

    def _at_once(self, views: tuple[Tensor, Tensor]) -> Tensor:
        loss, norm = self._loss_and_norm(self._outputs(views))
        self._fabric.backward(loss)
        return torch.stack([loss.detach(), norm])

    def _in_pieces(self, views: tuple[Tensor, Tensor]) -> Tensor:
        pieces = list(zip(*(view.split(self._config.micro_batch_size) for view in views), strict=True))
        device, chances, embedded = self._fabric.device, [], []
        with torch.no_grad(), self._unseen(), _buffers_kept(self._forward):
            for piece in pieces:
                chances.append(rng.states(device))
                embedded.append(self._outputs(piece))
        outputs = [torch.cat(parts).requires_grad_() for parts in zip(*embedded, strict=True)]
        loss, norm = self._loss_and_norm(outputs)
        grads = torch.autograd.grad(loss, outputs, materialize_grads=True)  # 0 for what the loss holds constant
        pulls = zip(*(grad.split(self._config.micro_batch_size) for grad in grads), strict=True)
        for i, (piece, chance, pull) in enumerate(zip(pieces, chances, pulls, strict=True)):
            rng.restore(chance, device)  # Dropout drops the same as before
            with self._fabric.no_backward_sync(self._forward, enabled=i < len(pieces) - 1):
                terms = [(rows * grad).sum() for rows, grad in zip(self._outputs(piece), pull, strict=True)]
                self._fabric.backward(sum(terms))
        return torch.stack([loss.detach(), norm])

    def _outputs(self, views: tuple[Tensor, Tensor]) -> list[Tensor]:
        """What the loss takes, in its order: each output of the model for view 1 and for view 2."""
        x = torch.cat(views)  # one forward pass: BatchNorm sees both views together
        if self._config.channels_last:
            x = x.contiguous(memory_format=torch.channels_last)
        outputs = self._forward(x)
        outputs = outputs if isinstance(outputs, tuple) else (outputs,)
        return [view for output in outputs for view in output.chunk(2)]

    def _loss_and_norm(self, outputs: list[Tensor]) -> tuple[Tensor, Tensor]:
        if self._fabric.world_size > 1:
            # Every process computes the loss of all rows, so the gradients that come back to a row are as many times
            # too large as there are processes; averaging the weights' gradients over the processes undoes it.
            outputs = [self._fabric.all_gather(rows, sync_grads=True).flatten(0, 1) for rows in outputs]
        norm = torch.cat(outputs[:2]).detach().float().norm(dim=1).mean()
        loss = self._loss(*outputs)
        return loss, norm.to(loss.dtype)

    def _nt_xent(self, z1: Tensor, z2: Tensor) -> Tensor:
        # A diverged loss is found when the losses are read, so that a GPU never waits within an epoch.
        config = self._config
        return info_nce(z1, z2, config.temperature, denominator=config.denominator, check_finite=False)


@contextmanager
def _buffers_kept(model: nn.Module) -> Iterator[None]:
    """Running statistics of BatchNorm are as before at the end: the second pass updates them."""
    before = [buffer.clone() for buffer in model.buffers()]
    yield
    for buffer, value in zip(model.buffers(), before, strict=True):
        buffer.copy_(value)
