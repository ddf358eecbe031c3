"""Hooks on layers of any model, found by name: forwards leave the norms of their rows, and of their gradients."""

import difflib
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.linear import NonDynamicallyQuantizableLinear
from torch.utils.hooks import RemovableHandle

from normlib._utils.arguments import listed


def find_layers(model: nn.Module, layers: str | Iterable[str] | None) -> dict[str, tuple[nn.Module, tuple[str, ...]]]:
    """Module and path of keys into its output, for names like ``"encoder"`` and ``"encoder:0"``; see ``NormTracker``.

    >>> find_layers(nn.Sequential(nn.Flatten(), nn.Linear(3, 2)), None)
    {'1': (Linear(in_features=3, out_features=2, bias=True), ())}
    """
    modules = dict(model.named_modules(remove_duplicate=False))
    there = ", ".join(repr(name) for name in modules)
    if layers is None:
        # Attention reads the weight of its output Linear without calling it: no hook would ever run.
        called = (nn.Linear, NonDynamicallyQuantizableLinear)
        linear = [name for name, m in modules.items() if isinstance(m, called[0]) and not isinstance(m, called[1])]
        if not linear:
            raise ValueError(f"layers: the model has no nn.Linear to take as default; name some of {there}")
        layers = linear[-1:]
    names = [layers] if isinstance(layers, str) else listed("layers", layers)
    if not names or len(set(names)) < len(names):
        raise ValueError(f"layers must be one or more different names, got {names}")
    found = {}
    for name in names:
        if not isinstance(name, str):
            raise TypeError(f"layers must be names of submodules, got {type(name).__name__}; those there are: {there}")
        head, *path = [name] if name in modules else name.split(":")
        if head not in modules:
            close = difflib.get_close_matches(head, [other for other in modules if other], cutoff=0.5)
            hint = f"did you mean {' or '.join(map(repr, close))}? " if close else ""
            raise ValueError(f"layers: {head!r} is not in the model; {hint}Those there are: {there}")
        found[name] = modules[head], tuple(path)
    return found


def check_hookable(model: nn.Module, modules: Iterable[nn.Module]) -> None:
    """Refuses, with the reason, modules on or below which a forward hook would not be run in eager Python.

    >>> check_hookable(model := nn.Linear(3, 2), [model])
    """
    watched = set(modules)
    for name, outer in model.named_modules():
        if hasattr(outer, "_orig_mod") or getattr(outer, "_compiled_call_impl", None) is not None:
            reason = "is compiled, and compiled code does not run hooks added later: attach first, then torch.compile"
        elif isinstance(outer, nn.DataParallel):
            reason = "is nn.DataParallel, which runs short-lived copies: use DistributedDataParallel"
        elif isinstance(outer, torch.jit.ScriptModule):
            reason = "is TorchScript, which does not run Python hooks: attach to the eager module"
        else:
            continue
        if any(module in watched for module in outer.modules()):
            raise ValueError(f"model: {name or type(outer).__name__!r} {reason}")


def select(output: Any, path: tuple[str, ...], layer: str) -> Tensor:
    """The tensor at ``path`` in a layer's output, checked to hold rows of embeddings.

    >>> select((torch.zeros(2, 3), {"h": torch.ones(1, 1)}), ("1", "h"), "encoder:1:h")
    tensor([[1.]])
    """
    for depth, key in enumerate(path):
        if isinstance(output, Mapping) and key in output:
            output = output[key]
        elif isinstance(output, tuple | list) and key.isdecimal() and int(key) < len(output):
            output = output[int(key)]
        elif key in getattr(output, "_fields", ()):
            output = getattr(output, key)
        else:
            raise ValueError(f"layer {layer!r}: key {key!r} is not in {_outline(output)}; path so far {path[:depth]}")
    if not isinstance(output, Tensor):
        raise TypeError(f"layer {layer!r} gives {_outline(output)}: choose an element as '{layer}:KEY'")
    if output.ndim < 2 or not output.is_floating_point():
        raise TypeError(
            f"layer {layer!r} gives {output.dtype} of shape {tuple(output.shape)}; expected real floating-point rows: "
            "(N, D), (N, T, D) or (N, C, H, W)"
        )
    return output


def _outline(output: Any) -> str:
    if isinstance(output, Mapping):
        return f"a {type(output).__name__} with keys {', '.join(map(repr, output))}"
    if isinstance(output, tuple | list):
        names = f" or {', '.join(output._fields)}" if hasattr(output, "_fields") else ""
        return f"a {type(output).__name__} with keys 0..{len(output) - 1}{names}"
    return f"a {type(output).__name__}, which has no keys"


class Call:
    """One counted forward: its rows' norms ``(n,)`` and, once backward has come by, their gradients'."""

    __slots__ = ("gradients", "norms", "requires_grad", "training")

    def __init__(self, norms: Tensor, training: bool, requires_grad: bool):
        self.norms = norms
        self.training = training
        self.requires_grad = requires_grad
        self.gradients: list[Tensor] = []


class Replay:
    """Forwards that reentrant checkpointing repeats before one backward, and the calls they repeat.

    Segments are repeated last first, the forwards within one in their order: these are the last calls still without
    a gradient. Forwards that non-reentrant checkpointing repeated just before have come in too, at the front, so
    both line up at the end. (Those it repeats inside the segment come in another backward, nested in this one.)
    """

    def __init__(self, backward: int) -> None:
        self.backward = backward
        self.length = 0
        self.waiting: list[Call] | None = None

    def original(self, position: int, calls: list[Call]) -> Call | None:
        """The counted forward of the one repeated at ``position``; the first gradient to arrive asks first."""
        if self.waiting is None:
            self.waiting = [call for call in calls if not call.requires_grad and not call.gradients]
        from_end = self.length - position
        return self.waiting[-from_end] if from_end <= len(self.waiting) else None


class LayerHook:
    """Hook on one layer; ``calls`` holds what it saw since ``start``.

    Args:
        name: The layer's name, for errors.
        module: Where to hook.
        path: Keys into its output.
        gradients: Whether to take the norms of gradients too.
        batch_first: Whether rows are the first dimension of outputs with three.
    """

    def __init__(self, name: str, module: nn.Module, path: tuple[str, ...], gradients: bool, batch_first: bool):
        self.name = name
        self.module = module
        self.path = path
        self.gradients = gradients
        self.batch_first = batch_first
        self.grad_scaler: torch.amp.GradScaler | None = None
        self.recording = False
        self.start()

    def start(self) -> None:
        """Begins a step with no calls."""
        self.calls: list[Call] = []
        self._replay: Replay | None = None

    def register(self) -> RemovableHandle:
        """Puts the hook on its layer; under ``torch.compile`` it runs in eager Python, between two graphs."""

        def observe(module: nn.Module, output: Any) -> None:
            if self.recording and module is self.module:  # a deep copy of the model has the hook too
                self._observe(select(output, self.path, self.name))

        in_eager_python = torch.compiler.disable(observe)

        def forward_hook(module: nn.Module, args: Any, output: Any) -> None:
            if torch.compiler.is_compiling():
                in_eager_python(module, output)
            else:
                observe(module, output)

        return self.module.register_forward_hook(forward_hook)

    def norms(self) -> tuple[list[int], Tensor]:
        """Rows of each forward in the step, and their norms joined."""
        if not any(len(call.norms) for call in self.calls):
            raise RuntimeError(
                f"layer {self.name!r} saw no rows since the last step(): it was not called (or only by a copy of the "
                "model, in paused(), or in code compiled before the tracker was attached)"
            )
        if len({call.training for call in self.calls}) > 1:
            raise RuntimeError(
                f"layer {self.name!r} ran in training and in eval mode since the last step(); put evaluation into "
                "`with tracker.paused():`"
            )
        return [len(call.norms) for call in self.calls], _join([call.norms for call in self.calls])

    def gradient_norms(self) -> tuple[list[bool], Tensor]:
        """Which forwards of the step a gradient reached, and those rows' gradient norms joined."""
        reached = [len(call.gradients) for call in self.calls]
        if not any(reached):
            raise RuntimeError(
                f"layer {self.name!r}: no gradient arrived since the last step(); call step() after loss.backward(), "
                "or track with gradients=False"
            )
        if max(reached) > 1:
            raise RuntimeError(
                f"layer {self.name!r}: more than one backward pass came through one forward, and norms of parts do not "
                "add up: sum the losses and call backward once"
            )
        return list(map(bool, reached)), _join([call.gradients[0] for call in self.calls if call.gradients])

    def _observe(self, z: Tensor) -> None:
        watch_gradient = self.gradients and z.requires_grad
        backward = torch._C._current_graph_task_id()  # torch.utils.checkpoint asks this too
        if backward == -1:
            call = Call(self._norms(z.detach(), torch.mean), self.module.training, z.requires_grad)
            self.calls.append(call)
            if watch_gradient:
                z.register_hook(lambda gradient: self._observe_gradient(call, gradient))
        elif self.gradients:
            # Inside backward: a forward repeated by checkpointing. With use_reentrant=True the counted one ran without
            # grad and its gradient comes here; with use_reentrant=False none ever comes here.
            if self._replay is None or self._replay.backward != backward:
                self._replay = Replay(backward)
            replay, position, calls = self._replay, self._replay.length, self.calls
            replay.length += 1
            if watch_gradient:
                z.register_hook(lambda gradient: self._observe_replayed(replay, position, calls, gradient))

    def _observe_replayed(self, replay: Replay, position: int, calls: list[Call], gradient: Tensor) -> None:
        if self._replay is replay:
            self._replay = None
        call = replay.original(position, calls)
        if call is not None:
            self._observe_gradient(call, gradient)

    def _observe_gradient(self, call: Call, gradient: Tensor) -> None:
        norms = self._norms(gradient.detach(), torch.sum)
        if self.grad_scaler is not None:
            norms = norms / self.grad_scaler.scale(torch.ones((), device=norms.device))  # get_scale() would wait
        call.gradients.append(norms)

    def _norms(self, x: Tensor, pool: Any) -> Tensor:
        dtype = torch.float64 if x.dtype == torch.float64 else torch.float32
        if x.ndim == 3:
            x = pool(x, dim=1 if self.batch_first else 0, dtype=dtype)
        elif x.ndim > 3:
            x = pool(x, dim=tuple(range(2, x.ndim)), dtype=dtype)
        return torch.linalg.vector_norm(x, dim=1, dtype=dtype)


def _join(parts: list[Tensor]) -> Tensor:
    return parts[0] if len(parts) == 1 else torch.cat(parts)
