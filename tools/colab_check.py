"""Run the notebooks as Google Colab would: its packages, an empty folder, and the set-up cell that clones the course.

    python tools/colab_check.py                             what `make colab-check` runs: all notebooks, as recorded
    python tools/colab_check.py notebooks/*_growth.ipynb    some of them
    python tools/colab_check.py --mode smoke notebooks/*_training.ipynb

The packages are those of tools/colab-requirements.txt, in .venv-colab. Each notebook starts from exactly these, with an
empty folder in place of Colab's /content, in a fresh kernel that has `google.colab` loaded. Its set-up cell clones this
checkout, uncommitted changes included, from the address that the notebooks name: git is told to take it from here.

A notebook fails for an exception, for any text on the error stream that is no progress bar (a warning on the reader's
page), for a package of Colab's that pip changed (Colab would ask for a restart), and for a claim that prints another
output than the committed one: claims are rounded so that they hold on every admitted version, Colab's included. In the
other modes numbers mean something else, and claims are not compared.

The executed notebooks are left in _build/colab. A run of all of them, as recorded, is written to book/colab-check.json,
where each chapter goes by its name without number.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from datetime import date
from pathlib import Path
from typing import NamedTuple

import repository
from atomic_write import write_whole
from chapters import slug_of
from page_errors import page_errors
from repository import ROOT

PYTHON = "3.13"  # Colab's
REQUIREMENTS = ROOT / "tools" / "colab-requirements.txt"
ENVIRONMENT = ROOT / ".venv-colab"
EXECUTED = ROOT / "_build" / "colab"
RECORD = ROOT / "book" / "colab-check.json"
EXAMPLE = "https://github.com/example/embedding-norms"  # stands in while the course has no address
CELL_TIMEOUT = 1200  # seconds
NOT_ON_COLAB = {"MPLBACKEND", "NORMLIB_MODE", "PYTHONPATH", "TQDM_DISABLE", "VIRTUAL_ENV"}

# As on Colab: the kernel loads google.colab as an extension, and figures are drawn inline.
STAND_IN = '''\
"""Stands in for Colab's own package."""


def load_ipython_extension(ipython):
    """Called by IPython."""
'''
IPYTHON_CONFIG = """\
c.InteractiveShellApp.extensions = ["google.colab"]
c.InteractiveShellApp.matplotlib = "inline"
"""


class Result(NamedTuple):
    """What became of one notebook."""

    seconds: float
    installed: list[str]
    faults: list[str]


def make_environment(python: str) -> Path:
    """Colab's packages in .venv-colab, made anew where the requirements have changed; returns its Python."""
    try:
        found = _run(python, "-c", "import sys; print('%d.%d' % sys.version_info[:2])").strip()
    except (OSError, RuntimeError):
        found = "not to be run"
    if found != PYTHON:
        raise SystemExit(f"Colab has Python {PYTHON}, but {python} is {found}: name one with --python PATH")
    executable, stamp, wanted = (
        ENVIRONMENT / "bin" / "python",
        ENVIRONMENT / ".complete",
        REQUIREMENTS.read_text("utf-8"),
    )
    if not stamp.is_file() or stamp.read_text("utf-8") != wanted:
        print("Installing Colab's packages in .venv-colab (about 5 GB) ...", flush=True)
        _run(python, "-m", "venv", "--clear", ENVIRONMENT)
        uv = shutil.which("uv")
        install = [uv, "pip", "install", "--python", executable] if uv else [executable, "-m", "pip", "install"]
        subprocess.run([*install, "--quiet", "--requirement", REQUIREMENTS], check=True)
        stamp.write_text(wanted, "utf-8")
    return executable


def publish(folder: Path, content: Path, mode: str) -> repository.Address:
    """This checkout as a repository with the tag that the set-up cell clones; `content` takes the place of /content."""
    listed = _run("git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", cwd=ROOT).split("\0")
    for name in filter(None, listed):
        if (ROOT / name).is_file():  # a deleted file is listed until the deletion is committed
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / name)
    cell = folder / "book" / "setup_cell.py"
    text = cell.read_text("utf-8")
    for old, new in [('"/content/"', f'"{content}/"'), ('COLAB_MODE = "recorded"', f'COLAB_MODE = "{mode}"')]:
        if text.count(old) != 1:
            raise SystemExit(f"book/setup_cell.py: expected {old} once, found it {text.count(old)} times")
        text = text.replace(old, new)
    cell.write_text(text, "utf-8")
    pyproject = (folder / "pyproject.toml").read_text("utf-8")
    if not repository.read_address(pyproject).url:
        pyproject = repository.write_address(pyproject, EXAMPLE)
    repository.write(repository.plan(folder, pyproject))
    address = repository.read_address(pyproject)
    git = ["git", "-c", "user.name=check", "-c", "user.email=check@example.org", "-c", "commit.gpgsign=false"]
    for command in (
        ["init", "--quiet"],
        ["add", "--all"],
        ["commit", "--quiet", "-m", "published"],
        ["tag", address.tag],
    ):
        _run(*git, *command, cwd=folder)
    return address


def kernel_variables(folder: Path, published: Path, url: str) -> dict[str, str]:
    """What makes a kernel Colab's: the stand-in for google.colab, and git's instruction to clone `url` from here."""
    package, profile = folder / "stand-in" / "google" / "colab", folder / "ipython" / "profile_default"
    package.mkdir(parents=True)
    profile.mkdir(parents=True)
    (package / "__init__.py").write_text(STAND_IN, "utf-8")
    (profile / "ipython_config.py").write_text(IPYTHON_CONFIG, "utf-8")
    return {
        "PYTHONPATH": str(folder / "stand-in"),
        "IPYTHONDIR": str(folder / "ipython"),
        "GIT_CONFIG_COUNT": "1",
        "GIT_CONFIG_KEY_0": f"url.{published.as_uri()}.insteadOf",
        "GIT_CONFIG_VALUE_0": url,
    }


def layer(base: Path, folder: Path) -> Path:
    """A Python with the packages of `base` below its own, so that what a notebook installs is gone with `folder`."""
    _run(base, "-m", "venv", "--without-pip", folder)
    python = folder / "bin" / "python"
    below, own = (
        _run(each, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))").strip() for each in (base, python)
    )
    Path(own, "below.pth").write_text(f"import site; site.addsitedir({below!r})\n", "utf-8")
    return python


def packages(python: Path) -> dict[str, str]:
    """Versions of the packages that this Python finds, by name in small letters with hyphens."""
    listed = _run(python, "-m", "pip", "list", "--format=json", "--disable-pip-version-check")
    return {entry["name"].lower().replace("_", "-"): entry["version"] for entry in json.loads(listed)}


def execute(notebook: Path, base: Path, python: Path, variables: dict[str, str], scratch: Path) -> str:
    """Execute a notebook beside itself in a kernel of `python`, errors included; returns why it stopped, if it did."""
    kernel = scratch / "kernels" / "colab" / "kernel.json"
    kernel.parent.mkdir(parents=True)
    start = [str(python), "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    kernel.write_text(json.dumps({"argv": start, "display_name": "Colab", "language": "python", "env": variables}))
    command = [base, "-m", "nbconvert", "--log-level=ERROR", "--to=notebook", "--execute", "--allow-errors"]
    command += ["--ExecutePreprocessor.kernel_name=colab", f"--ExecutePreprocessor.timeout={CELL_TIMEOUT}"]
    command += [f"--output-dir={EXECUTED}", notebook]
    environment = {name: value for name, value in os.environ.items() if name not in NOT_ON_COLAB}
    environment["JUPYTER_PATH"] = str(scratch)
    run = subprocess.run(command, env=environment, stderr=subprocess.PIPE, text=True)
    return run.stderr.strip() if run.returncode else ""


def check(path: Path, base: Path, content: Path, variables: dict[str, str], *, claims: bool = True) -> Result:
    """One notebook from the start, on a layer of packages and in a folder of its own; `claims`: compare them too."""
    shutil.rmtree(content, ignore_errors=True)
    content.mkdir()
    with tempfile.TemporaryDirectory() as scratch:
        python = layer(base, Path(scratch, "python"))
        before, began = packages(python), time.monotonic()
        stopped = execute(Path(shutil.copy(path, content)), base, python, variables, Path(scratch))
        seconds, after = time.monotonic() - began, packages(python)
    changed = [name for name in before if after.get(name) != before[name]]
    faults = [f"pip changed {name} from {before[name]} to {after.get(name, 'nothing')}" for name in changed]
    faults += [stopped] if stopped else page_errors(_code_cells(EXECUTED / path.name), _code_cells(path), claims=claims)
    installed = [f"{name} {version}" for name, version in after.items() if name not in before]
    return Result(round(seconds, 1), installed, faults)


def write_record(base: Path, results: dict[str, Result]) -> None:
    """Date, versions and results of a run of all notebooks."""
    pinned = [line.split("==")[0] for line in REQUIREMENTS.read_text("utf-8").splitlines() if "==" in line]
    found = packages(base)
    record = {
        "date": date.today().isoformat(),
        "course": _run("git", "describe", "--always", "--dirty", cwd=ROOT).strip(),
        "python": _run(base, "-c", "import platform; print(platform.python_version())").strip(),
        "cores": os.cpu_count(),
        "packages": {name: found[name] for name in pinned},
        "notebooks": {slug: result._asdict() for slug, result in results.items()},
    }
    write_whole(RECORD, json.dumps(record, indent=1, ensure_ascii=False) + "\n")


def _code_cells(notebook: Path) -> list[dict]:
    try:
        return [cell for cell in json.loads(notebook.read_text("utf-8"))["cells"] if cell["cell_type"] == "code"]
    except (ValueError, LookupError, TypeError, RecursionError) as error:
        raise ValueError(f"{notebook} is no notebook: {type(error).__name__}: {error}") from error


def _run(*command: str | Path, cwd: Path | None = None) -> str:
    run = subprocess.run(command, cwd=cwd, capture_output=True, text=True)
    if run.returncode:
        raise RuntimeError(f"{' '.join(map(str, command))} failed:\n{run.stderr}")
    return run.stdout


def main() -> int:
    """Check the notebooks that are named, or all; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("notebooks", nargs="*", type=Path, metavar="NOTEBOOK")
    parser.add_argument("--python", default=f"python{PYTHON}", metavar="PATH", help=f"a Python {PYTHON}")
    parser.add_argument("--mode", default="recorded", choices=["recorded", "smoke", "full"])
    chosen = parser.parse_args()
    everything = sorted(ROOT.glob("notebooks/*.ipynb"))
    notebooks = chosen.notebooks or everything
    if unknown := [str(path) for path in notebooks if path.name not in {each.name for each in everything}]:
        parser.error(f"{', '.join(unknown)}: expected files of notebooks/")
    try:
        return check_all(notebooks, chosen.python, chosen.mode, record=notebooks == everything)
    except (OSError, RuntimeError, ValueError, subprocess.SubprocessError) as error:
        print(f"The check was not finished: {error}", file=sys.stderr)
        return 2


def check_all(notebooks: list[Path], python: str, mode: str, *, record: bool) -> int:
    """Check these notebooks, and `record` what came out if they are checked as recorded; returns the exit status."""
    recorded = mode == "recorded"
    base = make_environment(python)
    EXECUTED.mkdir(parents=True, exist_ok=True)
    results = {}
    with tempfile.TemporaryDirectory() as folder:
        content, published = Path(folder, "content"), Path(folder, "published")
        address = publish(published, content, mode)
        variables = kernel_variables(Path(folder), published, address.url)
        for path in notebooks:
            source = published / "notebooks" / path.name
            results[slug_of(path.stem)] = result = check(source, base, content, variables, claims=recorded)
            verdict, installed = "FAILED" if result.faults else "passed", ", ".join(result.installed) or "nothing"
            print(f"{path.stem:28} {result.seconds:6.1f} s  {verdict}  installed: {installed}", flush=True)
            for fault in result.faults:
                print(f"    {fault}", flush=True)
    if recorded and record:
        write_record(base, results)
    return int(any(result.faults for result in results.values()))


if __name__ == "__main__":
    sys.exit(main())
