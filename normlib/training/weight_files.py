"""Weights alone, without optimiser and history, as safetensors files: small, and reading one runs no code."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import torch
from torch import nn

from normlib._utils.arguments import check_type, path_of
from normlib._utils.files import UNREADABLE, replace_file
from normlib.training.recipes import Recipe


def save(model: nn.Module, path: str | Path, *, dtype: torch.dtype | None = None) -> None:
    """Write a model's weights and buffers to a safetensors file, which reading cannot make run code.

    Args:
        model: Any module.
        path: The file; one that is there is replaced in one move.
        dtype: What floats are stored in; None leaves them as they are. ``torch.bfloat16`` halves the file.

    Raises:
        TypeError: ``model`` is no module, ``path`` no path, or ``dtype`` no dtype.
        ModuleNotFoundError: safetensors is not installed.
    """
    from safetensors.torch import save_file

    check_type(nn.Module, model=model)
    path = path_of("path", path)
    if dtype is not None:
        check_type(torch.dtype, dtype=dtype)
    state = {}
    for name, value in model.state_dict().items():
        stored = value if dtype is None or not value.is_floating_point() else value.to(dtype)
        state[name] = stored.detach().cpu().contiguous()
    path.parent.mkdir(parents=True, exist_ok=True)
    replace_file(path, partial(save_file, state))


def load(recipe: Recipe, path: str | Path) -> nn.Module:
    """The network of a recipe with the weights of a safetensors file, on the CPU in eval mode.

    Raises:
        TypeError: ``recipe`` is no recipe, or ``path`` no path.
        FileNotFoundError: There is no such file.
        ValueError: It is damaged, or of another network.
        ModuleNotFoundError: safetensors is not installed.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    check_type(Recipe, recipe=recipe)
    path = path_of("path", path)
    model = recipe.build_model()
    try:
        model.load_state_dict(load_file(path))
    except (SafetensorError, *UNREADABLE) as error:
        raise ValueError(f"{path} holds no weights of this recipe's network: {error}") from error
    return model.eval()
