"""Where a chapter runs and how much of it: the mode, the device, and what Google Colab lacks.

One environment variable, ``NORMLIB_MODE``, says how heavy cells behave:

========== ======================================================================================
recorded   They load the recorded run from ``results/``; all else computes. The default.
smoke      They really run, but tiny: this proves the code path, the numbers mean nothing.
full       They run as described in the text, for as long as that takes.
========== ======================================================================================
"""

from __future__ import annotations

import importlib
import os
import re
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterable, Mapping
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
        expected = None if device_class is None else minutes.get(device_class)
        line += "; not timed on this device" if expected is None else f"; expect {_duration(expected)}"
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
    """Install by pip what the chapters need and this Python lacks, and nothing else.

    The requirements are those of the library, of its extra ``train`` and of the course, as the two files
    ``pyproject.toml`` of the checkout name them. A distribution counts as present when it is installed in any version.
    Torch, torchvision, NumPy, SciPy, pandas, Matplotlib, scikit-learn, Pillow and ipywidgets are never installed and
    never changed: pip is held to the versions that are there.

    Returns:
        The requirements that were installed, for example ``["pooch>=1.8"]``; empty when nothing was missing.

    Raises:
        RuntimeError: pip failed; its message is shown.

    >>> install_missing()
    []
    """
    missing = []
    for requirement in _requirements():
        name = _distribution_name(requirement)
        if name not in PROTECTED and not _installed([name]):
            missing.append(requirement)
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
    library, course = (
        tomllib.loads((folder / "pyproject.toml").read_text(encoding="utf-8"))["project"]
        for folder in (ROOT, ROOT / "normcourse")
    )
    needed = library["dependencies"] + library["optional-dependencies"]["train"] + course["dependencies"]
    # The library itself lies in the checkout, which is on the path.
    return [requirement for requirement in needed if _distribution_name(requirement) != library["name"]]


def _distribution_name(requirement: str) -> str:
    """The name before the bounds and extras of a requirement; a module may be called otherwise (pyyaml: yaml)."""
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


def _installed(names: Iterable[str]) -> list[str]:
    """``name==version`` of those of the packages that are installed."""
    found = []
    for name in sorted(names):
        try:
            found.append(f"{name}=={version(name)}")
        except PackageNotFoundError:
            continue
    return found
