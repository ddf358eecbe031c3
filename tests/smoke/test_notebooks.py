"""Chapters with heavy cells once more, in smoke mode: those cells really run, tiny."""

import os
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

NOTEBOOKS = sorted((Path(__file__).parents[2] / "notebooks").glob("*.ipynb"))

# CIFAR-10 cannot be downloaded in a test: patches of the two photographs that scikit-learn ships stand in for it.
STAND_IN = """
import torch
from sklearn.datasets import load_sample_images
from normlib import data
from normlib.data import datasets

def photographs(split, **options):
    photos = torch.stack([torch.as_tensor(photo.copy()) for photo in load_sample_images().images]).permute(0, 3, 1, 2)
    patches = photos.unfold(2, 32, 32).unfold(3, 32, 32).permute(0, 2, 3, 1, 4, 5).flatten(1, 2)
    half = slice(None, 150) if split == "train" else slice(150, 200)
    chosen = patches[:, half].flatten(0, 1).contiguous()
    labels = torch.arange(2).repeat_interleave(len(chosen) // 2)
    return data.ImageSet(chosen, labels, torch.arange(len(chosen)), ("temple", "flower"), f"photographs-{split}")

datasets.cifar10 = data.cifar10 = photographs
"""


def is_heavy(path: Path) -> bool:
    cells = nbformat.read(path, as_version=4).cells
    return any("heavy" in cell.metadata.get("tags", []) for cell in cells)


HEAVY = [path for path in NOTEBOOKS if is_heavy(path)]
WITH_CIFAR = [path for path in NOTEBOOKS if 'DATASET = \\"auto\\"' in path.read_text(encoding="utf-8")]


def execute(notebook: nbformat.NotebookNode, folder: Path) -> None:
    environment = os.environ | {"NORMLIB_MODE": "smoke", "TQDM_DISABLE": "1"}
    NotebookClient(notebook, timeout=600, resources={"metadata": {"path": folder}}).execute(env=environment)
    executed = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert all(cell.execution_count for cell in executed)


def test_there_are_chapters_with_heavy_cells_and_with_cifar():
    assert HEAVY
    assert WITH_CIFAR


@pytest.mark.parametrize("path", HEAVY, ids=lambda path: path.stem)
def test_heavy_cells_run(path):
    execute(nbformat.read(path, as_version=4), path.parent)


@pytest.mark.parametrize("path", WITH_CIFAR, ids=lambda path: path.stem)
def test_runs_on_colour_images_of_cifar_size(path):
    notebook = nbformat.read(path, as_version=4)
    notebook.cells.insert(0, nbformat.v4.new_code_cell(STAND_IN))
    for cell in notebook.cells:
        cell.source = cell.source.replace('DATASET = "auto"', 'DATASET = "cifar10"')
    execute(notebook, path.parent)
    assert "photographs-train" in str([cell.get("outputs") for cell in notebook.cells])


@pytest.mark.parametrize("path", [p for p in NOTEBOOKS if p not in HEAVY], ids=lambda path: path.stem)
def test_other_chapters_load_no_recorded_run(path):
    """A cell that loads a recorded run without the tag would escape the smoke run."""
    sources = [cell.source for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"]
    assert not any("load_or_run" in source for source in sources)
