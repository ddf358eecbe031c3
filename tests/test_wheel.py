"""The wheel that is published: it holds the library alone, and works where there is no checkout and no course."""

import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from email.parser import HeaderParser
from importlib.metadata import distribution
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
OF_THE_COURSE = ("anywidget", "ipywidgets", "yaml", "IPython", "nbformat", "pytest", "grading", "normcourse")


def run(*words, cwd, **variables):
    """A command with nothing of this process's environment but the path to programs, and what is given here."""
    environment = {"PATH": os.environ["PATH"], "OMP_NUM_THREADS": "1", "MPLBACKEND": "agg"} | variables
    return subprocess.run(words, cwd=cwd, env=environment, capture_output=True, text=True, timeout=540)


def succeed(*words, cwd, **variables):
    """What a command prints; it must succeed."""
    done = run(*words, cwd=cwd, **variables)
    assert done.returncode == 0, f"{' '.join(map(str, words))}\n{done.stdout[-2000:]}\n{done.stderr[-3000:]}"
    return done.stdout


# --- what the wheel holds ---


@pytest.fixture(scope="module")
def python(tmp_path_factory):
    """The Python of a new environment, with pip and nothing else."""
    folder = tmp_path_factory.mktemp("environment")
    subprocess.run([sys.executable, "-m", "venv", folder], check=True)
    return folder / "bin" / "python"


@pytest.fixture(scope="module")
def wheel(python, tmp_path_factory):
    """The wheel, built from a copy, because building writes beside the sources."""
    folder = tmp_path_factory.mktemp("wheel")
    copy, tools = folder / "copy", folder / "tools"
    copy.mkdir()
    for name in ("pyproject.toml", "README.md", "LICENSE", "LICENSE-TEXT"):
        shutil.copy(ROOT / name, copy)
    for package in ("normlib", "normcourse", "grading"):  # as in the checkout: what does not belong in it must stay out
        shutil.copytree(ROOT / package, copy / package, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
    link_distributions({"setuptools"}, tools)  # of this environment, so that nothing is downloaded
    build = ["-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "--no-index", "--wheel-dir", folder, copy]
    succeed(python, *build, cwd=folder, PYTHONPATH=str(tools))
    (built,) = folder.glob("*.whl")
    return built


def test_it_holds_the_library_and_nothing_else(wheel):
    assert wheel.name == f"embedding_norms-{PROJECT['version']}-py3-none-any.whl"
    names = set(zipfile.ZipFile(wheel).namelist())
    code = {path.relative_to(ROOT).as_posix() for path in (ROOT / "normlib").rglob("*.py")}
    assert {name for name in names if ".dist-info/" not in name} == code | {"normlib/py.typed"}
    licences = {Path(name).name for name in names if "/licenses/" in name}
    assert licences == {"LICENSE", "LICENSE-TEXT"}


def test_it_requires_what_pyproject_says_and_nothing_of_the_course(wheel):
    metadata = metadata_of(wheel)
    assert (metadata["Name"], metadata["Version"]) == ("embedding-norms", PROJECT["version"])
    extras = PROJECT["optional-dependencies"]
    expected = {str(Requirement(line)) for line in PROJECT["dependencies"]}
    expected |= {str(Requirement(f'{line}; extra == "{extra}"')) for extra in extras for line in extras[extra]}
    assert {str(Requirement(line)) for line in metadata.get_all("Requires-Dist")} == expected
    names = {Requirement(line).name for line in metadata.get_all("Requires-Dist")}
    assert not names & {"anywidget", "ipywidgets", "pyyaml"}


def metadata_of(wheel):
    archive = zipfile.ZipFile(wheel)
    (name,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
    return HeaderParser().parsestr(archive.read(name).decode())


# --- the wheel, installed where nothing else is ---


def required(wheel, extra):
    """Names of all distributions that the wheel needs with this extra, and that those need in turn."""
    found, left = set(), [(Requirement(line), {extra}) for line in metadata_of(wheel).get_all("Requires-Dist")]
    while left:
        requirement, extras = left.pop()
        wanted = requirement.marker is None or any(requirement.marker.evaluate({"extra": one}) for one in extras | {""})
        name = (canonicalize_name(requirement.name), frozenset(requirement.extras))
        if not wanted or name in found:
            continue
        found.add(name)
        left += [(Requirement(line), set(requirement.extras)) for line in distribution(name[0]).requires or []]
    return {name for name, _ in found}


def link_distributions(names, folder):
    """Make what these distributions of this environment installed, and nothing else, stand in a folder."""
    folder.mkdir(exist_ok=True)
    for name in names:
        files = distribution(name).files
        assert files, f"{name} does not say which files it installed"
        tops = {file.parts[0] for file in files} - {"..", "__pycache__"}
        for top in tops:
            if not top.endswith(".pth") and not (folder / top).exists():
                (folder / top).symlink_to(distribution(name).locate_file(top))


class Place:
    """An environment that has the wheel and what it requires, an empty folder to work in, and an empty home."""

    def __init__(self, python, folder):
        self.python, self.folder = python, folder
        self.work, self.home, self.temporary = (folder / name for name in ("work", "home", "temporary"))
        for each in (self.work, self.home, self.temporary):
            each.mkdir()
        self.packages = Path(self.do(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))").strip())

    def variables(self):
        # What torch and Matplotlib keep for themselves, such as a list of fonts, is not what is looked at here.
        return {"HOME": str(self.home), "TMPDIR": str(self.temporary), "MPLCONFIGDIR": str(self.temporary)}

    def do(self, *words):
        return succeed(*words, cwd=self.work, **self.variables())

    def try_to(self, *words):
        return run(*words, cwd=self.work, **self.variables())

    def normlib(self, *words):
        return self.do(self.python.with_name("normlib"), *words)

    def listing(self):
        """All files where the library might write, links not followed."""
        places = (self.work, self.home, self.packages)
        found = {path for place in places for path in place.rglob("*") if "__pycache__" not in path.parts}
        return {path.relative_to(self.folder if path.is_relative_to(self.folder) else "/") for path in found}


IMPORT_ALL = """
import importlib, pkgutil, normlib
names = [found.name for found in pkgutil.walk_packages(normlib.__path__, "normlib.")]
for name in names:
    if not name.endswith("__main__"):  # importing it is running the command
        importlib.import_module(name)
print(len(names), normlib.__file__)
"""


@pytest.fixture(scope="module")
def installed(wheel, python, tmp_path_factory):
    """The wheel installed with its extra ``train``, and what importing and training said while it had no extra."""
    place = Place(python, tmp_path_factory.mktemp("elsewhere"))
    place.do(python, "-m", "pip", "install", "--no-deps", "--no-index", wheel)
    place.do(python, "-m", "pip", "uninstall", "--yes", "setuptools", "pip")
    link_distributions(required(wheel, ""), place.packages)
    before = place.listing()
    place.imported = place.do(python, "-c", IMPORT_ALL)
    place.without_train = place.try_to(python.with_name("normlib"), "train", "digits", "--out", "run")
    assert place.listing() == before
    link_distributions(required(wheel, "train"), place.packages)
    return place


def test_every_module_can_be_imported_without_the_extra(installed):
    modules, place = installed.imported.split()
    assert int(modules) == len([*(ROOT / "normlib").rglob("*.py")]) - 1  # normlib itself is not below itself
    assert Path(place).is_relative_to(installed.packages)


def test_training_without_the_extra_says_what_to_install(installed):
    assert installed.without_train.returncode == 2
    assert re.fullmatch(r"normlib: training needs .*pip install .*\n", installed.without_train.stderr)


def test_what_is_only_the_courses_is_not_there(installed):
    """The fence of this file stands: what the tests below use, the wheel has asked for."""
    code = f"import importlib.util as u; print([n for n in {OF_THE_COURSE} if u.find_spec(n)])"
    assert installed.do(installed.python, "-c", code).strip() == "[]"


def test_the_ten_lines_of_the_readme_run(installed):
    (code,) = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text("utf-8"), re.S)
    before = installed.listing()
    installed.do(installed.python, "-c", code.replace("epochs=20", "epochs=3"))
    assert installed.listing() == before


def test_the_commands_run_and_write_where_they_are_told(installed):
    before = installed.listing()
    said = installed.normlib("train", "digits", "--out", "run", "--set", "epochs=1", "warmup_epochs=0")
    assert "run directory: run" in said
    assert "scores of each image: run/samples.parquet" in installed.normlib("evaluate", "run")
    assert "digits" in installed.normlib("info", "--seconds", "0.2")
    new = installed.listing() - before
    assert Path("work/run/samples.parquet") in new
    assert {path.parts[:2] for path in new} == {("work", "run")}


# --- the course, without its checkout ---


def test_the_course_outside_a_checkout_says_in_one_line_what_it_needs(tmp_path):
    shutil.copytree(ROOT / "normcourse", tmp_path / "normcourse", ignore=shutil.ignore_patterns("__pycache__"))
    for verb in ("claims", "record", "info"):
        said = run(sys.executable, "-m", "normcourse", verb, cwd=tmp_path, PYTHONPATH=str(tmp_path))
        assert said.returncode == 2
        assert said.stdout == ""
        assert re.fullmatch(r"normcourse: .*checkout.*pip install -e \. -e \./normcourse.*\n", said.stderr)
