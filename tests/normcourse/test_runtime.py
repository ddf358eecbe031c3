import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tomllib
import zipfile
from importlib.metadata import PackageNotFoundError
from pathlib import Path

import numpy as np
import pytest
import torch
from packaging.requirements import Requirement

from normcourse import runtime

ROOT = Path(__file__).parents[2]
SETUP_CELL = (ROOT / "book" / "setup_cell.py").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("value", "expected"),
    [(None, "recorded"), ("", "recorded"), ("recorded", "recorded"), ("smoke", "smoke"), ("full", "full")],
)
def test_mode_follows_the_environment_variable(monkeypatch, value, expected):
    if value is None:
        monkeypatch.delenv("NORMLIB_MODE", raising=False)
    else:
        monkeypatch.setenv("NORMLIB_MODE", value)
    assert runtime.mode() == expected
    assert runtime.by_mode(recorded="recorded", smoke="smoke", full="full") == expected


@pytest.mark.parametrize(
    "call", [runtime.mode, lambda: runtime.by_mode(recorded=1, smoke=2, full=3), runtime.preflight]
)
def test_an_unknown_mode_is_named(monkeypatch, call):
    monkeypatch.setenv("NORMLIB_MODE", "Smoke ")
    with pytest.raises(ValueError, match=r"NORMLIB_MODE is 'Smoke ', expected one of recorded, smoke, full"):
        call()


def test_preflight_names_cores_mode_and_minutes_on_a_cpu(monkeypatch, capsys):
    monkeypatch.setenv("NORMLIB_MODE", "smoke")
    monkeypatch.setattr(runtime, "device", lambda: torch.device("cpu"))
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1}, raising=False)
    runtime.preflight(minutes={"cpu": np.int64(3), "t4": 1})
    assert capsys.readouterr().out == "Device: CPU, 2 cores; mode: smoke, heavy cells run tiny; expect about 3 min\n"


@pytest.mark.parametrize(
    ("name", "major", "gib", "expected"),
    [
        ("Tesla T4", 7, 14.75, "about 20 min"),
        ("NVIDIA L4", 8, 22.5, "about 20 min"),
        ("NVIDIA A100-SXM4-40GB", 8, 39.6, "about 30 s"),
        ("NVIDIA H100 80GB HBM3", 9, 79.2, "about 30 s"),
    ],
)
def test_preflight_names_the_gpu_and_its_memory(monkeypatch, capsys, name, major, gib, expected):
    class Properties:
        total_memory = int(gib * 2**30)

    Properties.name, Properties.major = name, major
    monkeypatch.setenv("NORMLIB_MODE", "full")
    monkeypatch.setattr(runtime, "device", lambda: torch.device("cuda"))
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: Properties)
    runtime.preflight(minutes={"cpu": 600, "t4": 20, "h100": 0.5})
    assert (
        capsys.readouterr().out == f"Device: {name}, {gib:.0f} GiB; mode: full, heavy cells train; expect {expected}\n"
    )


def test_preflight_says_when_a_device_was_not_timed(monkeypatch, capsys):
    monkeypatch.setenv("NORMLIB_MODE", "full")
    monkeypatch.setattr(runtime, "device", lambda: torch.device("mps"))
    runtime.preflight(minutes={"cpu": 600})
    assert capsys.readouterr().out == "Device: Apple GPU; mode: full, heavy cells train; not timed on this device\n"


@pytest.mark.parametrize(
    ("minutes", "message"),
    [
        ({"H100": 3}, "key 'H100', expected keys out of cpu, t4, h100"),
        ({"cpu": 0}, r"minutes\['cpu'\] must be a number > 0, got 0"),
        ({"cpu": "3"}, "> 0, got '3'"),
        ({"cpu": True}, "> 0, got True"),
    ],
)
def test_preflight_refuses_bad_minutes(capsys, minutes, message):
    with pytest.raises(ValueError, match=message):
        runtime.preflight(minutes=minutes)
    assert capsys.readouterr().out == ""


def test_durations_have_a_fitting_unit():
    assert [runtime._duration(minutes) for minutes in (0.001, 0.5, 1, 89, 90, 1500)] == [
        "about 1 s",
        "about 30 s",
        "about 1 min",
        "about 89 min",
        "about 1.5 h",
        "about 25.0 h",
    ]


def test_requirements_are_those_of_both_projects_without_the_library_itself():
    library, course = (
        tomllib.loads((folder / "pyproject.toml").read_text("utf-8"))["project"]
        for folder in (ROOT, ROOT / "normcourse")
    )
    needed = library["dependencies"] + library["optional-dependencies"]["train"] + course["dependencies"]
    assert set(needed) - set(runtime._requirements()) == {"embedding-norms[train]"}
    assert {"pyyaml>=6.0", "lightning-fabric>=2.5", "pooch>=1.8"} <= set(runtime._requirements())


@pytest.fixture
def nothing_installed(monkeypatch):
    """As if no distribution at all were installed, though modules can still be imported."""

    def version(name):
        raise PackageNotFoundError(name)

    monkeypatch.setattr(runtime, "version", version)


def test_install_missing_asks_pip_for_what_is_not_installed_and_never_for_the_protected(monkeypatch, nothing_installed):
    asked = []
    monkeypatch.setattr(runtime, "_pip_install", asked.append)
    installed = runtime.install_missing()
    assert asked == [installed]
    names = {Requirement(requirement).name for requirement in installed}
    assert {"pooch", "pyarrow", "tqdm", "anywidget", "pyyaml", "lightning-fabric", "filelock", "rich"} <= names
    assert not names & {"torch", "torchvision", "numpy", "pandas", "matplotlib", "ipywidgets", "embedding-norms"}


def test_a_distribution_is_looked_for_by_its_own_name_and_not_by_that_of_a_module(monkeypatch):
    monkeypatch.setattr(runtime, "_pip_install", lambda _: pytest.fail("pip was called"))
    monkeypatch.setattr(runtime, "_requirements", lambda: ["PyYAML>=6.0", "scikit_learn>=1.4", "typing-extensions"])
    assert runtime.install_missing() == []
    asked = []
    monkeypatch.setattr(runtime, "_pip_install", asked.append)
    monkeypatch.setattr(runtime, "_requirements", lambda: ["yaml>=6.0"])  # a module of that name can be imported
    assert runtime.install_missing() == ["yaml>=6.0"]
    assert asked == [["yaml>=6.0"]]


def test_install_missing_does_not_call_pip_when_nothing_is_missing(monkeypatch):
    monkeypatch.setattr(runtime, "_pip_install", lambda _: pytest.fail("pip was called"))
    assert runtime.install_missing() == []


@pytest.fixture
def wheels(tmp_path, monkeypatch):
    """Let pip see nothing but two tiny wheels; the second one wants another NumPy than the one installed."""
    pytest.importorskip("pip", reason="this environment was made without pip")
    for name, wants in [("tinypackage", ""), ("wantsnumpy", "Requires-Dist: numpy<1\n")]:
        with zipfile.ZipFile(tmp_path / f"{name}-1.0-py3-none-any.whl", "w") as wheel:
            info = f"{name}-1.0.dist-info"
            wheel.writestr(f"{name}.py", "")
            wheel.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n{wants}")
            wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
            wheel.writestr(f"{info}/RECORD", "")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", tmp_path.as_uri())
    monkeypatch.setenv("PIP_TARGET", str(tmp_path / "target"))
    monkeypatch.syspath_prepend(tmp_path / "target")
    return tmp_path


def test_pip_really_installs_what_is_missing(wheels, monkeypatch):
    monkeypatch.setattr(runtime, "_requirements", lambda: ["tinypackage>=1.0", "numpy>=1.26"])
    assert runtime.install_missing() == ["tinypackage>=1.0"]
    assert (wheels / "target" / "tinypackage.py").is_file()
    assert runtime.install_missing() == []


def test_pip_refuses_what_would_change_numpy(wheels, monkeypatch):
    monkeypatch.setattr(runtime, "_requirements", lambda: ["wantsnumpy"])
    with pytest.raises(RuntimeError, match=r"(?s)pip could not install wantsnumpy:.*numpy"):
        runtime.install_missing()
    assert not (wheels / "target").exists()


# The set-up cell, executed as Colab would: in a fresh Python where google.colab is loaded and no course is installed.

RUN_CELLS = """
import importlib.util, json, sys, types
assert not importlib.util.find_spec("normlib") and not importlib.util.find_spec("normcourse")
if sys.argv[1] == "colab":
    sys.modules["google.colab"] = types.ModuleType("google.colab")
before = set(sys.modules), list(sys.path)
cells = json.load(sys.stdin)
for cell in cells:
    exec(compile(cell, "cell", "exec"), {})
if sys.argv[1] != "colab":
    assert sys.path == before[1]
    assert not [name for name in set(sys.modules) - before[0] if name.startswith(("normlib", "normcourse", "torch"))]
else:
    import normcourse, normlib, os
    print("normlib from", normlib.__file__, "and normcourse from", normcourse.__file__)
    print("mode", os.environ["NORMLIB_MODE"], "entries", sum("course" in entry for entry in sys.path))
"""


def run_cells(cells, cwd, colab=True):
    env = {key: value for key, value in os.environ.items() if key != "NORMLIB_MODE"}
    # Without the module site (-S), Python does not read the files that lead to this checkout, where it is installed.
    env["PYTHONPATH"] = os.pathsep.join({sysconfig.get_path("purelib"), sysconfig.get_path("platlib")})
    command = [sys.executable, "-S", "-c", RUN_CELLS, "colab" if colab else "elsewhere"]
    return subprocess.run(command, cwd=cwd, env=env, input=json.dumps(cells), capture_output=True, text=True)


def cell(repository, content, mode="recorded", tag="v0.1.0"):
    """The set-up cell of a book at another address, with another folder than /content and another mode chosen."""
    text = SETUP_CELL
    for pattern, value in [
        (r'(?m)^REPOSITORY = ".*"$', f"REPOSITORY = {repository!r}"),
        (r'(?m)^TAG = ".*"$', f"TAG = {tag!r}"),
        (r'"/content/"', repr(f"{content}/")),
        (r'(?m)^COLAB_MODE = "recorded"', f"COLAB_MODE = {mode!r}"),
    ]:
        text, count = re.subn(pattern, lambda _, value=value: value, text)
        assert count == 1, pattern
    return text


@pytest.fixture(scope="module")
def repository(tmp_path_factory):
    """A published course: what the set-up cell needs of it at a tag, and one commit after it."""
    folder = tmp_path_factory.mktemp("published") / "course"
    for name in ("pyproject.toml", "normcourse/pyproject.toml", "book/claims.yml"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, folder / name)
    for package in ("normlib", "normcourse"):
        ignored = shutil.ignore_patterns("__pycache__", "*.egg-info")
        shutil.copytree(ROOT / package, folder / package, ignore=ignored, dirs_exist_ok=True)

    def git(*arguments):
        identity = ["-c", "user.name=test", "-c", "user.email=test@example.org", "-c", "commit.gpgsign=false"]
        subprocess.run(["git", *identity, *arguments], cwd=folder, check=True, capture_output=True)

    git("init", "--quiet")
    git("add", ".")
    git("commit", "--quiet", "-m", "tagged")
    git("tag", "v0.1.0")
    git("commit", "--quiet", "--allow-empty", "-m", "later")
    return folder.as_uri()


def test_setup_cell_does_nothing_outside_colab(tmp_path):
    run = run_cells([SETUP_CELL, SETUP_CELL], tmp_path, colab=False)
    assert (run.returncode, run.stdout, run.stderr) == (0, "", "")
    assert not list(tmp_path.iterdir())


def test_setup_cell_clones_once_and_follows_the_mode(repository, tmp_path):
    cells = [cell(repository, tmp_path, mode) for mode in ("smoke", "smoke", "full")]
    run = run_cells(cells, tmp_path)
    assert run.returncode == 0, run.stderr
    lines = run.stdout.splitlines()
    assert [line.split("; ")[1] for line in lines[:3]] == ["mode: smoke, heavy cells run tiny"] * 2 + [
        "mode: full, heavy cells train"
    ]
    course = tmp_path / "course"
    assert lines[3] == f"normlib from {course}/normlib/__init__.py and normcourse from {course}/normcourse/__init__.py"
    assert lines[4] == "mode full entries 1"
    assert [path.name for path in tmp_path.iterdir()] == ["course"]
    log = subprocess.run(["git", "log", "--format=%s"], cwd=tmp_path / "course", capture_output=True, text=True)
    assert log.stdout == "tagged\n"  # the commit of the tag, and no history


def test_setup_cell_recovers_from_an_interrupted_clone(repository, tmp_path):
    (tmp_path / "course.partial" / ".git").mkdir(parents=True)
    run = run_cells([cell(repository, tmp_path)], tmp_path)
    assert run.returncode == 0, run.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["course"]


def test_setup_cell_shows_gits_message_when_the_tag_is_missing(repository, tmp_path):
    run = run_cells([cell(repository, tmp_path, tag="v9.9.9")], tmp_path)
    assert run.returncode == 1
    assert "failed:" in run.stderr
    assert "Remote branch v9.9.9 not found" in run.stderr
    assert not (tmp_path / "course").exists()


def test_setup_cell_without_an_address_names_the_command(tmp_path):
    run = run_cells([cell("", tmp_path)], tmp_path)
    assert run.returncode == 1
    assert run.stderr.rstrip().endswith("make set-repository URL=https://github.com/OWNER/NAME")


def test_runs_are_kept_on_drive_where_it_is_mounted(monkeypatch, tmp_path):
    monkeypatch.setattr(runtime, "DRIVE", tmp_path / "absent")
    assert runtime.run_folder("simclr") == ROOT / "runs" / "simclr"
    monkeypatch.setattr(runtime, "DRIVE", tmp_path)
    assert runtime.run_folder("simclr") == tmp_path / "normlib" / "simclr"
    assert list(tmp_path.iterdir()) == []  # nothing is made by asking


@pytest.mark.parametrize("name", ["", "../simclr", "a/b", ".hidden", " "])
def test_names_that_lead_out_of_the_folder_are_refused(name):
    with pytest.raises(ValueError, match="name must be a word"):
        runtime.run_folder(name)
