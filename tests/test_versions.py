"""The two pyproject.toml are the one source of versions: everything that repeats one of them is held to it here."""

import re
import tomllib
from pathlib import Path

import pytest
import yaml

import normlib

ROOT = Path(__file__).parents[1]
LIBRARY_TOML, COURSE_TOML = (
    (folder / "pyproject.toml").read_text(encoding="utf-8") for folder in (ROOT, ROOT / "normcourse")
)
LIBRARY, COURSE = (tomllib.loads(text)["project"] for text in (LIBRARY_TOML, COURSE_TOML))
EXTRAS = COURSE["optional-dependencies"]
CONDA_NAMES = {"torch": "pytorch"}
ONLY_FOR_CONDA = {"pip"}  # installs normlib itself
FROM_OTHER_EXTRAS = {"jupyterlab"}  # to open the notebooks with


def bounds(requirements):
    """Bounds by conda's name of the package, for example {"pytorch": ">=2.6"}."""
    split = [
        re.fullmatch(r"([A-Za-z0-9._-]+)(.*)", requirement.replace(" ", "")).groups() for requirement in requirements
    ]
    return {CONDA_NAMES.get(name, name): bound for name, bound in split}


def others(requirements):
    """Those that are not on the library or the course itself."""
    return [requirement for requirement in requirements if not requirement.startswith("embedding-norms")]


@pytest.fixture(scope="module")
def environment():
    return yaml.safe_load((ROOT / "environment.yml").read_text(encoding="utf-8"))["dependencies"]


def test_environment_has_the_same_packages_and_bounds(environment):
    conda = bounds(entry for entry in environment if isinstance(entry, str))
    assert conda.pop("python") == LIBRARY["requires-python"] == COURSE["requires-python"]
    for name in ONLY_FOR_CONDA:
        assert conda.pop(name) == ""
    everything = bounds(requirement for extra in EXTRAS.values() for requirement in others(extra))
    expected = bounds(LIBRARY["dependencies"] + others(COURSE["dependencies"]) + EXTRAS["book"])
    expected |= {name: everything[name] for name in FROM_OTHER_EXTRAS}
    assert conda == expected


def test_environment_installs_the_library_its_training_loop_and_the_course_from_the_checkout(environment):
    pip = [entry for entry in environment if not isinstance(entry, str)]
    assert pip == [{"pip": ["-e .[train]", "-e ./normcourse"]}]


def test_what_the_two_projects_both_need_has_one_bound():
    library = bounds([*LIBRARY["dependencies"], *LIBRARY["optional-dependencies"]["train"]])
    course = bounds(others(COURSE["dependencies"]) + [line for extra in EXTRAS.values() for line in others(extra)])
    assert {name: course[name] for name in library.keys() & course} == {
        name: library[name] for name in library.keys() & course
    }


def test_every_upper_bound_has_its_reason_beside_it():
    lines = (LIBRARY_TOML + COURSE_TOML).splitlines()
    requirements = [line.strip() for line in lines if re.match(r'\s*("|\w+ = \[").*[<~=!]', line)]
    assert any("<2" in line for line in requirements)
    without = [
        line for line in requirements if re.search(r'".*(<|==|~=|!=).*"', line) and not re.search("# .{10}", line)
    ]
    assert without == []


def test_the_version_is_the_same_everywhere():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    changelog = re.findall(r"(?m)^## \[(.+?)\]", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"))
    assert {normlib.__version__, citation["version"], changelog[0], COURSE["version"]} == {LIBRARY["version"]}


def test_the_public_workflow_starts_at_the_lowest_python():
    workflow = yaml.safe_load((ROOT / ".github/workflows/tests.yml").read_text(encoding="utf-8"))
    pythons = workflow["jobs"]["test"]["strategy"]["matrix"]["python"]
    assert f">={pythons[0]}" == LIBRARY["requires-python"]
    assert len(pythons) >= 3
