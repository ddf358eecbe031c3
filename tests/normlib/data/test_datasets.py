import subprocess
import sys

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.datasets import load_digits

from normlib import data
from normlib.data import datasets


def test_import_loads_nothing_that_digits_and_folders_alone_need():
    code = "import sys, normlib.data; print([m for m in ('sklearn','PIL','pooch','pandas') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


# --- digits ---


def test_digits_are_scikit_learns():
    original, every = load_digits(), data.digits("all")
    assert torch.equal(every.indices, torch.arange(1797))
    assert every.labels.tolist() == original.target.tolist()
    assert every.images.shape == (1797, 1, 8, 8)
    exact = torch.from_numpy(original.images) * 255 / 16
    assert (every.images[:, 0] - exact).abs().max() <= 0.5
    assert (every.images.min(), every.images.max()) == (0, 255)


@settings(deadline=None, max_examples=10)
@given(st.floats(0.01, 0.99), st.integers(0, 2**32 - 1))
def test_digits_split_is_a_stratified_partition(fraction, seed):
    train, test = (data.digits(split, test_fraction=fraction, seed=seed) for split in ("train", "test"))
    assert sorted(train.indices.tolist() + test.indices.tolist()) == list(range(1797))
    every = data.digits("all")
    for part in (train, test):
        assert part.fingerprint() == every.subset(part.indices).fingerprint()
        assert (part.indices.diff() > 0).all()
    per_class = torch.bincount(test.labels, minlength=10) - fraction * torch.bincount(every.labels)
    assert per_class.abs().max() < 2


def test_digits_split_depends_on_the_seed_only():
    assert torch.equal(data.digits("test", seed=3).indices, data.digits("test", seed=3).indices)
    assert not torch.equal(data.digits("test", seed=3).indices, data.digits("test", seed=4).indices)


def test_digits_refuse():
    with pytest.raises(ValueError, match="split must be one of 'train', 'test', 'all', got 'val'"):
        data.digits("val")
    for fraction in (0, 1, 0.001, 0.999, float("nan")):
        with pytest.raises(ValueError, match=r"test_fraction must be a number .* 10 images on either side"):
            data.digits(test_fraction=fraction)


# --- load ---


def test_load_gives_what_the_functions_give(monkeypatch):
    assert data.load("digits").fingerprint() == data.digits("train").fingerprint()
    monkeypatch.setattr(datasets, "cifar10", lambda split, download: (split, download))
    assert data.load("cifar10", "test") == ("test", True)


def test_load_refuses():
    with pytest.raises(
        ValueError, match="name must be one of 'digits', 'cifar10', 'cifar100', 'cifar10-jpeg', got 'mnist'"
    ):
        data.load("mnist", "train")
    with pytest.raises(ValueError, match="split must be one of"):
        data.load("digits", "val")
