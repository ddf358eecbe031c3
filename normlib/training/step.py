"""One step: embed two views, take the loss over the batches of all processes, go backward, step."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor, nn

from normlib._utils import rng
from normlib._utils.callables import described

if TYPE_CHECKING:
    from lightning_fabric import Fabric
    from lightning_fabric.wrappers import _FabricModule

    from normlib.training.config import TrainConfig


class WithLoss(nn.Module):
    """A model under a loss that takes the place of its own.

    Both are parts of one model, so that the parameters of a loss that has any are trained, moved and saved.

    Args:
        model: What is trained.
        loss: Called with what the model puts out for view 1 and for view 2.
    """

    def __init__(self, model: nn.Module, loss: Callable[..., Tensor]):
        super().__init__()
        self.model = model
        self.loss = loss

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, ...]:
        """What the model puts out."""
        return self.model(x)

    def after_step(self) -> None:
        """What the model does after a step of the optimiser, such as letting a slow copy follow."""
        after_step: Callable[[], None] | None = getattr(self.model, "after_step", None)
        if after_step is not None:
            after_step()

    def extra_repr(self) -> str:
        """Name the loss and its settings, by which checkpoints are compared."""
        return f"loss={described(self.loss)}"


class TwoViewStep:
    """Steps of one run.

    The loss is that of the whole batch, of all processes and all micro-batches: each embedding meets every other one
    as a negative, and statistics are those of all. Outputs are gathered from the other processes with their gradients.
    Micro-batches are embedded once without gradient; the loss of all of them gives the gradient of each output; then
    each micro-batch is embedded again, and its share of that gradient goes on to the weights. The sum over
    micro-batches is the gradient of one large batch, which the plain sum of the losses of small batches is not: these
    lack negatives. Parameters that the loss itself has get their gradient along with the last micro-batch.

    Args:
        fabric: Owns devices, precision and processes.
        method: What is trained; its ``loss`` is called with what it puts out for view 1 and for view 2.
        forward: ``method``, and ``optimizer``, as set up by ``fabric``.
        config: Settings of the run.
        unseen: Gives a context in which a tracker counts no forward pass.

    Source: gathering as in Chen et al. 2020 (SimCLR), micro-batches as in Gao et al. 2021 (GradCache).
    """

    def __init__(
        self,
        fabric: Fabric,
        method: nn.Module,
        forward: _FabricModule,
        optimizer: torch.optim.Optimizer,
        config: TrainConfig,
        unseen: Callable[[], AbstractContextManager],
    ):
        self._fabric = fabric
        self._loss = cast(Callable[..., Tensor], method.loss)
        self._forward = forward
        self._optimizer = optimizer
        self._config = config
        self._unseen = unseen
        self._trained = [parameter for parameter in method.parameters() if parameter.requires_grad]
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
        device, states, embedded = self._fabric.device, [], []
        with torch.no_grad(), self._unseen(), _buffers_kept(self._forward):
            for piece in pieces:
                states.append(rng.states(device))
                embedded.append(self._outputs(piece))
        outputs = [torch.cat(parts).requires_grad_() for parts in zip(*embedded, strict=True)]
        loss, norm = self._loss_and_norm(outputs)
        pulls, own_terms = self._pulls(loss, outputs)
        for i, (piece, state, pull) in enumerate(zip(pieces, states, pulls, strict=True)):
            rng.restore(state, device)  # Dropout drops the same as before
            last = i == len(pieces) - 1
            with self._fabric.no_backward_sync(self._forward, enabled=not last):
                terms = [(rows * grad).sum() for rows, grad in zip(self._outputs(piece), pull, strict=True)]
                if last:
                    terms += own_terms
                self._fabric.backward(sum(terms[1:], start=terms[0]))
        return torch.stack([loss.detach(), norm])

    def _pulls(self, loss: Tensor, outputs: list[Tensor]) -> tuple[list[tuple[Tensor, ...]], list[Tensor]]:
        """The loss's gradient of each micro-batch's outputs, and terms with its gradient of parameters of its own."""
        grads = torch.autograd.grad(loss, [*outputs, *self._trained], allow_unused=True)
        of_outputs = []
        for rows, grad in zip(outputs, grads[: len(outputs)], strict=True):
            grad = torch.zeros_like(rows) if grad is None else grad  # None for what the loss holds constant
            of_outputs.append(grad.split(self._config.micro_batch_size))
        own_terms = []
        for weight, grad in zip(self._trained, grads[len(outputs) :], strict=True):
            if grad is not None:  # None for the network's weights, which the loss reaches through the outputs only
                own_terms.append((weight * grad).sum())
        return list(zip(*of_outputs, strict=True)), own_terms

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
            gathered = [cast(Tensor, self._fabric.all_gather(rows, sync_grads=True)) for rows in outputs]
            outputs = [rows.flatten(0, 1) for rows in gathered]
        norm = torch.cat(outputs[:2]).detach().float().norm(dim=1).mean()
        loss = self._loss(*outputs)
        _check_scalar(loss)
        return loss, norm.to(loss.dtype)


def _check_scalar(loss: object) -> None:
    """Refuse what no backward pass can start from; only type and shape are looked at, so no device is waited for."""
    if not isinstance(loss, Tensor):
        raise TypeError(f"loss must return a scalar tensor, got {type(loss).__name__}")
    if loss.ndim:
        raise ValueError(f"loss must return a scalar, got a tensor of shape {tuple(loss.shape)}; take its mean")


@contextmanager
def _buffers_kept(model: nn.Module) -> Iterator[None]:
    """Running statistics of BatchNorm are as before at the end: the second pass updates them."""
    before = [buffer.clone() for buffer in model.buffers()]
    yield
    for buffer, value in zip(model.buffers(), before, strict=True):
        buffer.copy_(value)
