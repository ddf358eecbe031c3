"""The two packages as a whole: what an import costs, and that what they announce is there."""

import importlib
import pkgutil
import subprocess
import sys

import pytest

import normcourse
import normlib

HEAVY = {
    "anywidget",
    "torch",
    "torchvision",
    "pandas",
    "sklearn",
    "scipy",
    "matplotlib",
    "lightning_fabric",
    "IPython",
    "ipywidgets",
    "tqdm",
}


def modules_after(statement: str) -> set[str]:
    """Top-level modules that a new process has imported after a statement."""
    code = f"import sys; {statement}; print(' '.join({{m.split('.')[0] for m in sys.modules}}))"
    return set(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split())


def public_modules(package) -> set[str]:
    return {name for _, name, _ in pkgutil.iter_modules(package.__path__) if not name.startswith("_")}


def packages() -> list[str]:
    """Both packages and every package below them."""
    found = []
    for package in (normlib, normcourse):
        below = pkgutil.walk_packages(package.__path__, f"{package.__name__}.")
        found += [package.__name__, *(name for _, name, is_package in below if is_package)]
    return found


@pytest.mark.parametrize("package", ["normlib", "normcourse"])
def test_importing_a_package_imports_nothing_heavy(package):
    assert not modules_after(f"import {package}") & HEAVY


@pytest.mark.parametrize("package", ["normlib", "normcourse"])
def test_importing_a_package_costs_less_than_a_tenth_of_a_second(package):
    """Modules are counted, not seconds: those the package adds cannot cost that much."""
    added = modules_after(f"import {package}") - modules_after("pass")
    assert added <= {package, "importlib", "warnings", "_warnings"}


def test_modules_of_the_library_import_no_more_than_torch_at_first():
    """Together, so that one process shows it for all."""
    beside_torch = HEAVY - modules_after("import torch, numpy")
    assert not modules_after(f"import {', '.join(f'normlib.{name}' for name in normlib.__all__)}") & beside_torch


def test_modules_of_the_course_import_no_more_than_torch_at_first():
    beside_torch = HEAVY - modules_after("import torch, numpy")
    names = public_modules(normcourse)
    assert not modules_after(f"import {', '.join(f'normcourse.{name}' for name in names)}") & beside_torch


@pytest.mark.parametrize(
    "statement",
    [
        "import normcourse.claims",
        "from normcourse import claims; [claims.judge(claim) for claim in claims.ledger()]",  # reads the records
        "import normlib.confidence",
    ],
)
def test_records_claims_and_confidence_need_no_torch(statement):
    assert "torch" not in modules_after(statement)


def test_submodules_load_on_first_use_and_unknown_names_are_refused():
    assert not modules_after("import normlib") & {"torch"}
    assert "torch" in modules_after("import normlib; normlib.losses.info_nce")
    assert set(normlib.__all__) <= set(dir(normlib))
    with pytest.raises(AttributeError, match=r"no attribute 'loses'; its submodules are .*losses"):
        _ = normlib.loses


def test_public_modules_are_those_announced():
    assert public_modules(normlib) == set(normlib.__all__)


@pytest.mark.parametrize("package", packages())
def test_every_announced_name_is_there(package):
    module = importlib.import_module(package)
    assert [name for name in getattr(module, "__all__", []) if not hasattr(module, name)] == []
