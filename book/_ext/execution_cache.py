"""Forget cached executions that today's inputs might not give.

The execution cache knows a notebook by the code in its cells alone. Outputs depend on more: on normlib, on recorded
runs, on the mode, on the versions of packages. When one of these changed since the last build, everything is executed
anew. And a cached copy brings its cells' old metadata along (alt texts, tags), so a notebook whose metadata changed is
executed anew.
"""

import hashlib
import os
import platform
import shutil
from importlib.metadata import distributions
from pathlib import Path

import nbformat
from jupyter_cache import get_cache

FINGERPRINT = "inputs.sha256"


def fingerprint(root: Path) -> str:
    """Hash of everything besides its own code that a chapter's outputs may depend on."""
    versions = sorted({f"{package.name}=={package.version}" for package in distributions()})
    digest = hashlib.sha256(
        "\n".join([platform.python_version(), os.environ.get("NORMLIB_MODE", ""), *versions]).encode()
    )
    for path in sorted([*root.glob("normlib/**/*"), *root.glob("results/**/*")]):
        if path.is_file() and path.suffix != ".pyc":
            digest.update(f"\n{path.relative_to(root).as_posix()}\n".encode())
            digest.update(path.read_bytes())
    return digest.hexdigest()


def code_metadata(notebook: nbformat.NotebookNode) -> list[dict]:
    """What the cache stores but does not compare."""
    return [cell.metadata for cell in notebook.cells if cell.cell_type == "code"]


def forget_outdated(app) -> None:
    """Empty the cache, or drop single notebooks from it."""
    root = Path(app.srcdir)
    folder = Path(app.outdir).parent / ".jupyter_cache"
    stamp, current = folder / FINGERPRINT, fingerprint(root)
    if not stamp.is_file() or stamp.read_text() != current:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        stamp.write_text(current)  # last, so that an interruption leaves a cache that is emptied next time
        return
    cache = get_cache(folder)
    for path in root.glob("notebooks/*.ipynb"):
        notebook = nbformat.read(path, as_version=4)
        try:
            record = cache.match_cache_notebook(notebook)
        except KeyError:
            continue
        if code_metadata(cache.get_cache_bundle(record.pk).nb) != code_metadata(notebook):
            cache.remove_cache(record.pk)


def setup(app) -> dict:
    """Called by Sphinx."""
    app.connect("builder-inited", forget_outdated, priority=100)  # before the notebooks are read
    return {"parallel_read_safe": True}
