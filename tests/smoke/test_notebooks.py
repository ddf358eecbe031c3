"""Chapters with heavy cells once more, in smoke mode: those cells really run, tiny."""

import os
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

NOTEBOOKS = sorted((Path(__file__).parents[2] / "notebooks").glob("*.ipynb"))


def is_heavy(path: Path) -> bool:
    cells = nbformat.read(path, as_version=4).cells
    return any("heavy" in cell.metadata.get("tags", []) for cell in cells)


HEAVY = [path for path in NOTEBOOKS if is_heavy(path)]


def test_there_are_chapters_with_heavy_cells():
    assert HEAVY


@pytest.mark.parametrize("path", HEAVY, ids=lambda path: path.stem)
def test_heavy_cells_run(path, monkeypatch):
    monkeypatch.setenv("NORMLIB_MODE", "smoke")
    monkeypatch.setenv("TQDM_DISABLE", "1")
    notebook = nbformat.read(path, as_version=4)
    NotebookClient(notebook, timeout=600, resources={"metadata": {"path": path.parent}}).execute(env=dict(os.environ))
    executed = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert all(cell.execution_count for cell in executed)


@pytest.mark.parametrize("path", [p for p in NOTEBOOKS if p not in HEAVY], ids=lambda path: path.stem)
def test_other_chapters_load_no_recorded_run(path):
    """A cell that loads a recorded run without the tag would escape the smoke run."""
    sources = [cell.source for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"]
    assert not any("load_or_run" in source for source in sources)
