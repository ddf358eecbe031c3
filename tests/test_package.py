"""The package as a whole: what an import costs, which module may import which."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import normlib

PACKAGE = Path(normlib.__file__).parent
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

# The table of the design: a module imports from normlib only what stands beside it here, and all import _arguments.
ALLOWED = {
    "augment": {"_image_batches"},
    "checks": {"_rows", "data", "gradients", "interventions", "losses"},
    "claims": {"_effects", "_files", "_ranked_outcomes", "_recorded"},
    "cli": {
        "_checkpoints",
        "_devices",
        "_files",
        "_launch",
        "_probe",
        "_rows",
        "_samples",
        "_speed",
        "claims",
        "data",
        "evaluation",
        "recipes",
        "records",
        "runs",
        "training",
    },
    "confidence": {
        "_agreement",
        "_calibration",
        "_confidence_curves",
        "_over_runs",
        "_rank_correlation",
        "_ranked_outcomes",
        "_resampling",
        "_score_tables",
        "_selective",
    },
    "data": {
        "_cifar10",
        "_data_variants",
        "_files",
        "_human_labels",
        "_human_votes",
        "_image_files",
        "_rows",
        "_score_tables",
    },
    "evaluation": {"_collapse", "_image_batches", "_rows", "data"},
    "explorables": {"_score_tables", "data", "gradients", "plotting", "simulations"},
    "gradients": {"_growth", "_radial", "_rows", "_steps"},
    "interventions": {"_rows"},
    "losses": {"_log_sum_exp", "_rows", "_statistics_losses"},
    "methods": {"_rows", "interventions", "losses", "models"},
    "models": {"_global_random", "interventions", "losses"},
    "plotting": {
        "_agreement",
        "_calibration",
        "_confidence_curves",
        "_confidence_figures",
        "_palette",
        "_rank_correlation",
        "_ranked_outcomes",
        "_resampling",
        "_score_tables",
        "_selective",
    },
    "recipes": {
        "_optimizers",
        "_rows",
        "_train_config",
        "augment",
        "data",
        "interventions",
        "losses",
        "methods",
        "models",
    },
    "records": {
        "_batches",
        "_cifar_runs",
        "_confidence_runs",
        "_cut_runs",
        "_devices",
        "_digits_runs",
        "_experiments",
        "_files",
        "_global_random",
        "_human_runs",
        "_human_votes",
        "_law_faults",
        "_law_networks",
        "_law_runs",
        "_method_runs",
        "_recorded",
        "_rows",
        "_samples",
        "_score_tables",
        "_sick_runs",
        "augment",
        "confidence",
        "data",
        "evaluation",
        "gradients",
        "interventions",
        "losses",
        "models",
        "recipes",
        "runs",
        "runtime",
        "simulations",
        "tracking",
        "training",
    },
    "runs": {
        "_checkpoints",
        "_devices",
        "_files",
        "_launch",
        "_rows",
        "_speed",
        "data",
        "evaluation",
        "models",
        "recipes",
        "tracking",
        "training",
    },
    "runtime": {"_devices"},
    "simulations": {"_mixtures", "_rows", "gradients", "losses"},
    "tracking": {"_row_labels", "_streams", "_taps"},
    "training": {
        "_batches",
        "_checkpoints",
        "_devices",
        "_files",
        "_global_random",
        "_interrupts",
        "_launch",
        "_optimizers",
        "_progress",
        "_rows",
        "_saving",
        "_train_config",
        "_training_run",
        "_two_view_step",
        "data",
        "interventions",
        "losses",
        "tracking",
    },
}


def modules_after(statement: str) -> set[str]:
    code = f"import sys; {statement}; print(' '.join({{m.split('.')[0] for m in sys.modules}}))"
    return set(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split())


def imports_of(path: Path) -> set[str]:
    """Modules of normlib that a file imports, at its top or inside a function; those for annotations do not count."""
    found, tree = set(), ast.parse(path.read_text(encoding="utf-8"))
    tree.body = [
        node for node in tree.body if not (isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING")
    ]
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module == "normlib":
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("normlib."):
            found.add(node.module.split(".")[1])
        elif isinstance(node, ast.Import):
            found |= {alias.name.split(".")[1] for alias in node.names if alias.name.startswith("normlib.")}
    return found


def test_importing_the_package_imports_nothing_heavy():
    assert not modules_after("import normlib") & HEAVY


def test_importing_the_package_costs_less_than_a_tenth_of_a_second():
    """Modules are counted, not seconds: those the package adds cannot cost that much."""
    added = modules_after("import normlib") - modules_after("pass")
    assert added <= {"normlib", "importlib", "warnings", "_warnings"}


def test_modules_import_no_more_than_torch_at_first():
    """Together, so that one process shows it for all; records is what the others are put together in."""
    beside_torch = HEAVY - modules_after("import torch, numpy")
    names = sorted(set(normlib.__all__) - {"records"})
    assert not modules_after(f"import {', '.join(f'normlib.{name}' for name in names)}") & beside_torch


def test_submodules_load_on_first_use_and_unknown_names_are_refused():
    assert not modules_after("import normlib") & {"torch"}
    assert "torch" in modules_after("import normlib; normlib.losses.info_nce")
    assert set(normlib.__all__) <= set(dir(normlib))
    with pytest.raises(AttributeError, match=r"no attribute 'loses'; its submodules are .*losses"):
        _ = normlib.loses


def files_of(module: str) -> list[Path]:
    """The file of a module, or those of a package."""
    return [*PACKAGE.glob(f"{module}.py"), *PACKAGE.glob(f"{module}/*.py")]


def test_public_modules_are_those_announced():
    modules = [*PACKAGE.glob("*.py"), *(path.parent for path in PACKAGE.glob("*/__init__.py"))]
    public = {path.stem for path in modules if not path.stem.startswith("_")}
    assert public == set(normlib.__all__) == set(ALLOWED)


@pytest.mark.parametrize("name", sorted(ALLOWED))
def test_modules_import_only_what_the_design_allows(name):
    private = {helper for helper in ALLOWED[name] if helper.startswith("_")}
    seen = set().union(*(imports_of(path) for module in {name} | private for path in files_of(module)))
    assert seen - {name, "_arguments"} <= ALLOWED[name]
