"""Where a chapter runs and how much of it: the mode, the device, and what Google Colab lacks.

One environment variable, ``NORMLIB_MODE``, says how heavy cells behave:

========== ======================================================================================
recorded   They load the recorded run from ``results/``; all else computes. The default.
smoke      They really run, but tiny: this proves the code path, the numbers mean nothing.
full       They run as described in the text, for as long as that takes.
========== ======================================================================================
"""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeVar

from normcourse.paths import ROOT, RUNS
from normlib._utils.arguments import check_number, check_type
from normlib._utils.devices import best_kind, cores

if TYPE_CHECKING:
    import torch

T = TypeVar("T")
Mode = Literal["recorded", "smoke", "full"]

MODES: tuple[Mode, ...] = ("recorded", "smoke", "full")
HEAVY_CELLS = {"recorded": "load recorded runs", "smoke": "run tiny", "full": "train"}
DEVICE_CLASSES = ("cpu", "t4", "h100")

# Colab builds these against each other: another version of one of them breaks the others or forces a restart.
PROTECTED = frozenset(
    {"ipywidgets", "matplotlib", "numpy", "pandas", "pillow", "scikit-learn", "scipy", "torch", "torchvision"}
)
DRIVE = Path("/content/drive/MyDrive")  # where Colab mounts it


def mode() -> Mode:
    """The mode that ``NORMLIB_MODE`` asks for, ``"recorded"`` where it is unset or empty.

    It is read anew at each call, so a notebook may change it between two cells.

    Returns:
        ``"recorded"``, ``"smoke"`` or ``"full"``.

    Raises:
        ValueError: ``NORMLIB_MODE`` holds anything else.

    >>> mode() in ("recorded", "smoke", "full")
    True
    """
    value = os.environ.get("NORMLIB_MODE") or "recorded"
    if value not in MODES:
        raise ValueError(
            f"NORMLIB_MODE is {value!r}, expected one of {', '.join(MODES)}: set it to one of these or leave it unset"
        )
    return value


def by_mode(*, recorded: T, smoke: T, full: T) -> T:
    """The one of three values that belongs to the current mode.

    Args:
        recorded: Returned in recorded mode.
        smoke: Returned in smoke mode.
        full: Returned in full mode.

    Returns:
        One of the three, unchanged.

    Raises:
        ValueError: ``NORMLIB_MODE`` names no mode.

    >>> by_mode(recorded=20, smoke=2, full=500) in (20, 2, 500)
    True
    """
    return {"recorded": recorded, "smoke": smoke, "full": full}[mode()]


def device() -> torch.device:
    """The best device there is: a CUDA GPU, else Apple's GPU, else the CPU.

    Returns:
        A device to give to ``Tensor.to`` or ``Module.to``.

    >>> device().type in ("cuda", "mps", "cpu")
    True
    """
    import torch

    return torch.device(best_kind())


def preflight(minutes: Mapping[str, float] | None = None) -> None:
    """Print one line: the device with its memory or cores, the mode, and the minutes to expect.

    Args:
        minutes: Expected minutes in the current mode by class of device, keys out of ``"cpu"`` (two cores), ``"t4"``
            and ``"h100"`` (A100 and newer data-centre GPUs as well). Where modes differ, choose with :func:`by_mode`.

    Raises:
        TypeError: ``minutes`` is no mapping.
        ValueError: ``minutes`` has another key, or a value that is not a positive number; ``NORMLIB_MODE`` names no
            mode.

    >>> preflight(minutes={"cpu": 3, "t4": 1, "h100": 0.5})  # doctest: +ELLIPSIS
    Device: ...; mode: ..., heavy cells ...; expect ...
    """
    if minutes is None:
        minutes = {}
    check_type(Mapping, minutes=minutes)
    for key, value in minutes.items():
        if key not in DEVICE_CLASSES:
            raise ValueError(f"minutes has the key {key!r}, expected keys out of {', '.join(DEVICE_CLASSES)}")
        check_number(f"minutes[{key!r}]", value, above=0)
    name, device_class = _describe_device()
    line = f"Device: {name}; mode: {mode()}, heavy cells {HEAVY_CELLS[mode()]}"
    if minutes:
        line += (
            f"; expect {_duration(minutes[device_class])}" if device_class in minutes else "; not timed on this device"
        )
    print(line)


def run_folder(name: str) -> Path:
    """Where a notebook keeps a run: on Google Drive where it is mounted on Colab, else under ``runs/`` beside the book.

    What lies on Drive outlives a lost connection: run the notebook again, and training goes on.

    Args:
        name: Of the run, a word that file names may hold.

    Returns:
        The folder; it need not exist yet.

    Raises:
        TypeError: ``name`` is no word.
        ValueError: ``name`` is empty or would lead out of the folder.

    >>> run_folder("simclr").name
    'simclr'
    """
    check_type(str, name=name)
    if not re.fullmatch(r"[\w-][\w.-]*", name):
        raise ValueError(f"name must be a word of letters, digits, '.', '_' and '-', got {name!r}")
    root = DRIVE / "normlib" if DRIVE.is_dir() else RUNS
    return root / name


def install_missing() -> list[str]:
    """Install by pip what the chapters import and this Python does not find, and nothing else.

    The requirements are those of ``pyproject.toml`` beside the package, so this works in a checkout; an installed
    package has its requirements already. Torch, torchvision, NumPy, pandas, Matplotlib, scikit-learn, Pillow and
    ipywidgets are never installed and never changed: pip is held to the versions that are there.

    Returns:
        The requirements that were installed, for example ``["pooch>=1.8"]``; empty when nothing was missing.

    Raises:
        RuntimeError: pip failed; its message is shown.

    >>> install_missing()
    []
    """
    missing = [
        requirement
        for requirement in _requirements()
        if (name := _package_name(requirement)) not in PROTECTED
        and importlib.util.find_spec(name.replace("-", "_")) is None
    ]
    if missing:
        _pip_install(missing)
        importlib.invalidate_caches()
    return missing


def _describe_device() -> tuple[str, str | None]:
    """Name of the device for a reader, and its class in ``DEVICE_CLASSES`` (None: neither)."""
    import torch

    kind = device().type
    if kind == "cpu":
        return f"CPU, {cores()} core{'s' if cores() != 1 else ''}", "cpu"
    if kind == "mps":
        return "Apple GPU", None
    gpu = torch.cuda.get_device_properties(0)
    gib = gpu.total_memory / 2**30
    # No table of names: compute capability 8 and up with this much memory is an A100 or newer, all else is slower.
    return f"{gpu.name}, {gib:.0f} GiB", "h100" if gpu.major >= 8 and gib > 35 else "t4"


def _duration(minutes: float) -> str:
    if minutes < 1:
        return f"about {max(round(60 * minutes), 1)} s"
    return f"about {minutes:.0f} min" if minutes < 90 else f"about {minutes / 60:.1f} h"


def _requirements() -> list[str]:
    pyproject = ROOT / "pyproject.toml"
    if not pyproject.is_file():
        return []
    project = tomllib.loads(pyproject.read_text(encoding="utf-8"))["project"]
    return project["dependencies"] + project["optional-dependencies"]["train"]


def _package_name(requirement: str) -> str:
    return re.split(r"[^A-Za-z0-9._-]", requirement, maxsplit=1)[0].lower()


def _pip_install(requirements: list[str]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        constraints = Path(folder) / "constraints.txt"
        constraints.write_text("".join(f"{line}\n" for line in _installed(PROTECTED)), encoding="utf-8")
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--constraint", str(constraints), *requirements]
        pip = subprocess.run(command, capture_output=True, text=True)
    if pip.returncode:
        raise RuntimeError(
            f"pip could not install {', '.join(requirements)}:\n{pip.stderr.strip() or pip.stdout.strip()}"
        )


def _installed(names: frozenset[str]) -> list[str]:
    """``name==version`` of those of the packages that are installed."""
    found = []
    for name in sorted(names):
        try:
            found.append(f"{name}=={version(name)}")
        except PackageNotFoundError:
            continue
    return found
