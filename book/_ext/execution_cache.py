"""Forget cached executions that today's inputs might not give, and execute what is missing, two notebooks at a time.

The execution cache knows a notebook by the code in its cells alone. Outputs depend on more: on normlib and normcourse,
on recorded runs, on the mode, on the versions of packages. When one of these changed since the last build, everything
is executed anew. And a cached copy brings its cells' old metadata along (alt texts, tags), so a notebook whose metadata
changed is executed anew.
"""

import hashlib
import os
import platform
import shutil
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import distributions
from pathlib import Path

import nbformat
from jupyter_cache import get_cache
from jupyter_cache.base import CacheBundleIn, JupyterCacheAbstract
from jupyter_cache.executors.utils import ExecutionResult, single_nb_execution
from nbconvert.preprocessors import CoalesceStreamsPreprocessor
from sphinx.util import logging

logger = logging.getLogger(__name__)

AT_ONCE = 2
FINGERPRINT = "inputs.sha256"
READ_BY_NOTEBOOKS = ("normlib", "normcourse", "results")


def fingerprint(root: Path) -> str:
    """Hash of everything besides its own code that a chapter's outputs may depend on."""
    versions = sorted({f"{package.name}=={package.version}" for package in distributions()})
    digest = hashlib.sha256(
        "\n".join([platform.python_version(), os.environ.get("NORMLIB_MODE", ""), *versions]).encode()
    )
    for path in sorted(path for folder in READ_BY_NOTEBOOKS for path in root.glob(f"{folder}/**/*")):
        if path.is_file() and path.suffix != ".pyc" and not path.parent.name.endswith(".egg-info"):
            digest.update(f"\n{path.relative_to(root).as_posix()}\n".encode())
            digest.update(path.read_bytes())
    return digest.hexdigest()


def code_metadata(notebook: nbformat.NotebookNode) -> list[dict]:
    """What the cache stores but does not compare."""
    return [cell.metadata for cell in notebook.cells if cell.cell_type == "code"]


def cache_folder(app) -> Path:
    """Where Jupyter Book keeps executed notebooks."""
    return Path(app.outdir).parent / ".jupyter_cache"


def forget_outdated(app) -> None:
    """Empty the cache, or drop single notebooks from it."""
    root, folder = Path(app.srcdir), cache_folder(app)
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


def is_cached(cache: JupyterCacheAbstract, notebook: nbformat.NotebookNode) -> bool:
    """Whether the cache has a notebook with this code."""
    try:
        return bool(cache.match_cache_notebook(notebook))
    except KeyError:
        return False


def execute_missing(app) -> None:
    """Fill the cache; a notebook that fails is left out, so that it fails again where its page is made."""
    if app.config.nb_execution_mode != "cache":
        return
    cache = get_cache(cache_folder(app))
    notebooks = {path: nbformat.read(path, as_version=4) for path in sorted(Path(app.srcdir).glob("notebooks/*.ipynb"))}
    missing = [path for path, notebook in notebooks.items() if not is_cached(cache, notebook)]

    def execute(path: Path) -> ExecutionResult:
        return single_nb_execution(notebooks[path], str(path.parent), app.config.nb_execution_timeout, False)

    with ThreadPoolExecutor(AT_ONCE) as pool:
        for path, result in zip(missing, pool.map(execute, missing), strict=True):
            logger.info("executed %s in %.1f seconds%s", path.name, result.time, ", and it failed" * bool(result.err))
            if not result.err:
                CoalesceStreamsPreprocessor().preprocess(result.nb, {})  # MyST-NB joins pieces by line breaks
                bundle = CacheBundleIn(result.nb, str(path), data={"execution_seconds": result.time})
                cache.cache_notebook_bundle(bundle, check_validity=False, overwrite=True)


def setup(app) -> dict:
    """Called by Sphinx."""
    app.connect("builder-inited", forget_outdated, priority=100)  # before the notebooks are read
    app.connect("builder-inited", execute_missing, priority=200)
    return {"parallel_read_safe": True}
