"""pyproject.toml is the one source of versions: everything that repeats one of them is held to it here."""

import re
import tomllib
from pathlib import Path

import pytest
import yaml

import normlib

ROOT = Path(__file__).parents[1]
PYPROJECT = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
PROJECT = tomllib.loads(PYPROJECT)["project"]
EXTRAS = PROJECT["optional-dependencies"]
CONDA_NAMES = {"torch": "pytorch"}
ONLY_FOR_CONDA = {"pip"}  # installs normlib itself
FROM_OTHER_EXTRAS = {"jupyterlab"}  # to open the notebooks with


def bounds(requirements):
    """Bounds by conda's name of the package, for example {"pytorch": ">=2.6"}."""
    split = [
        re.fullmatch(r"([A-Za-z0-9._-]+)(.*)", requirement.replace(" ", "")).groups() for requirement in requirements
    ]
    return {CONDA_NAMES.get(name, name): bound for name, bound in split}


@pytest.fixture(scope="module")
def environment():
    return yaml.safe_load((ROOT / "environment.yml").read_text(encoding="utf-8"))["dependencies"]


def test_environment_has_the_same_packages_and_bounds(environment):
    conda = bounds(entry for entry in environment if isinstance(entry, str))
    assert conda.pop("python") == PROJECT["requires-python"]
    for name in ONLY_FOR_CONDA:
        assert conda.pop(name) == ""
    everything = bounds(requirement for extra in EXTRAS.values() for requirement in extra if "[" not in requirement)
    expected = bounds(PROJECT["dependencies"] + EXTRAS["book"])
    expected |= {name: everything[name] for name in FROM_OTHER_EXTRAS}
    assert conda == expected


def test_environment_installs_normlib_and_its_training_loop_from_the_checkout(environment):
    assert [entry for entry in environment if not isinstance(entry, str)] == [{"pip": ["-e .[train]"]}]


def test_every_upper_bound_has_its_reason_beside_it():
    requirements = [line.strip() for line in PYPROJECT.splitlines() if re.match(r'\s*("|\w+ = \[").*[<~=!]', line)]
    assert any("<2" in line for line in requirements)
    without = [
        line for line in requirements if re.search(r'".*(<|==|~=|!=).*"', line) and not re.search("# .{10}", line)
    ]
    assert without == []


def test_the_version_is_the_same_everywhere():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    changelog = re.findall(r"(?m)^## \[(.+?)\]", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"))
    assert {normlib.__version__, citation["version"], changelog[0]} == {PROJECT["version"]}


def test_the_public_workflow_starts_at_the_lowest_python():
    workflow = yaml.safe_load((ROOT / ".github/workflows/tests.yml").read_text(encoding="utf-8"))
    pythons = workflow["jobs"]["test"]["strategy"]["matrix"]["python"]
    assert f">={pythons[0]}" == PROJECT["requires-python"]
    assert len(pythons) >= 3
