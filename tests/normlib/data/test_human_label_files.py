"""CIFAR-10H and CIFAR-10N: small files in the published formats, from a server on this machine, and the real ones."""

import hashlib
import io
import re
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from normlib import confidence, data
from normlib.data import human_label_files

SHARED = Path(__file__).parents[3].parent / "shared" / "data"
needs_files = pytest.mark.skipif(not (SHARED / "cifar10n.npz").is_file(), reason="needs CIFAR-10H and CIFAR-10N")


# --- files ---


def small_counts(seed=0):
    counts = np.random.default_rng(seed).multinomial(50, np.full(10, 0.1), size=20)
    packed = io.BytesIO()
    np.save(packed, counts)
    return counts, packed.getvalue()


def small_labels(seed=0):
    random = np.random.default_rng(seed)
    return {key: random.integers(0, 10, 20) for key in human_label_files.SETS}


def torch_file(content, *, numpy_1=False, zipped=True):
    """What ``torch.save`` writes, in its present or its first format; ``numpy_1`` with the names of numpy 1."""
    packed = io.BytesIO()
    torch.save(content, packed, _use_new_zipfile_serialization=zipped)
    if not numpy_1:
        return packed.getvalue()
    if not zipped:
        return packed.getvalue().replace(b"numpy._core", b"numpy.core")
    renamed = io.BytesIO()
    with zipfile.ZipFile(packed) as old, zipfile.ZipFile(renamed, "w") as new:
        for name in old.namelist():
            new.writestr(name, old.read(name).replace(b"numpy._core", b"numpy.core"))
    return renamed.getvalue()


def npz(content):
    packed = io.BytesIO()
    np.savez(packed, **{name: content[key].astype(np.uint8) for key, name in human_label_files.SETS.items()})
    return packed.getvalue()


@pytest.fixture
def published(server, monkeypatch):
    """Small sets take the place of the published ones; ``pages`` at /first and /second are what two addresses serve."""
    addresses = tuple(f"http://127.0.0.1:{server.server_port}/{name}" for name in ("first", "second"))
    for name, content in (("CIFAR10H", small_counts()[1]), ("CIFAR10N", npz(small_labels()))):
        source = getattr(human_label_files, name)
        small = replace(source, addresses=addresses, sha256=human_label_files.digest(content))
        monkeypatch.setattr(human_label_files, name, small)
    return server


def test_cifar10h_is_downloaded_once_and_shows_its_licence(tmp_path, published, capsys):
    counts, published.pages["/first"] = small_counts()
    found = data.cifar10h(root=tmp_path, download=True)
    assert np.array_equal(found.counts, counts)
    assert "non-commercial use only, CC BY-NC-SA 4.0" in capsys.readouterr().out
    assert np.array_equal(data.cifar10h(root=tmp_path, download=True).counts, counts)
    assert published.asked == ["/first"]
    assert capsys.readouterr().out == ""
    assert [path.name for path in tmp_path.iterdir()] == ["cifar10h-counts.npy"]


@pytest.mark.parametrize("numpy_1", [True, False])
@pytest.mark.parametrize("zipped", [True, False])
def test_cifar10n_is_read_from_each_format_of_its_file(tmp_path, published, capsys, numpy_1, zipped):
    labels = small_labels()
    published.pages["/first"] = torch_file(labels, numpy_1=numpy_1, zipped=zipped)
    found = data.cifar10n(root=tmp_path, download=True)
    assert "non-commercial use only, CC BY-NC 4.0" in capsys.readouterr().out
    assert np.array_equal(found.labels, labels["clean_label"])
    assert found.counts.sum(axis=1).tolist() == [3] * 20
    people = [labels[f"random_label{person}"] for person in (1, 2, 3)]
    assert found.counts[7, 4] == sum(person[7] == 4 for person in people)
    assert [path.name for path in tmp_path.iterdir()] == ["cifar10n.npz"]


def test_cifar10n_runs_no_code_of_its_file(tmp_path, published):
    class Evil:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "evil",))

    published.pages["/first"] = torch_file({**small_labels(), "clean_label": Evil()})
    published.pages["/second"] = torch_file(small_labels())
    data.cifar10n(root=tmp_path / "data", download=True)
    assert published.asked == ["/first", "/second"]
    assert not (tmp_path / "evil").exists()


def test_what_no_address_delivers_is_told_and_leaves_nothing(tmp_path, published):
    published.pages["/first"] = small_counts(seed=1)[1]
    with pytest.raises(
        ConnectionError, match=r"(?s)CIFAR-10H could not be .*/first: what it delivers is not.*second: 404"
    ):
        data.cifar10h(root=tmp_path, download=True)
    published.pages["/first"] = b"<html>"
    with pytest.raises(ConnectionError, match="first: it is no file of CIFAR-10N"):
        data.cifar10n(root=tmp_path, download=True)
    assert list(tmp_path.iterdir()) == []


def test_an_error_without_words_is_told_by_its_kind(tmp_path, published, monkeypatch):
    def load(*_, **__):
        raise EOFError

    published.pages["/first"] = b"cut short"
    monkeypatch.setattr(torch, "load", load)
    with pytest.raises(ConnectionError, match="first: it is no file of CIFAR-10N: EOFError"):
        data.cifar10n(root=tmp_path, download=True)


@pytest.mark.parametrize(
    "spoil", [lambda c: c[:-1], lambda c: c[::-1], lambda c: c.astype(np.int32), lambda c: np.roll(c, 1, axis=0)]
)
def test_another_length_order_or_type_is_refused(tmp_path, published, spoil):
    np.save(tmp_path / "cifar10h-counts.npy", spoil(small_counts()[0]))
    with pytest.raises(ValueError, match=r"is not the published CIFAR-10H: .*This fetches it again: python -c"):
        data.cifar10h(root=tmp_path)
    published.pages["/first"] = small_counts()[1]
    assert len(data.cifar10h(root=tmp_path, download=True)) == 20


@pytest.mark.parametrize(("function", "file"), [("cifar10h", "cifar10h-counts.npy"), ("cifar10n", "cifar10n.npz")])
def test_pickles_and_other_files_are_refused(tmp_path, published, function, file):
    for content in (b"", b"text", torch_file({})):
        (tmp_path / file).write_bytes(content)
        with pytest.raises(ValueError, match="is not the published"):
            getattr(data, function)(root=tmp_path)
    np.save(tmp_path / "objects.npy", np.array([{}], dtype=object), allow_pickle=True)
    (tmp_path / file).write_bytes((tmp_path / "objects.npy").read_bytes())
    with pytest.raises(ValueError, match="is not the published"):
        getattr(data, function)(root=tmp_path)


def test_missing_files_name_the_command_that_fetches_them(tmp_path, published, monkeypatch):
    monkeypatch.setenv("NORMLIB_DATA", str(tmp_path))
    with pytest.raises(FileNotFoundError) as caught:
        data.cifar10n()
    command = 'python -c "from normlib import data; data.cifar10n(download=True)"'
    assert str(caught.value) == f"CIFAR-10N is not in {tmp_path / 'cifar10n.npz'}. This fetches it: {command}"
    published.pages["/first"] = torch_file(small_labels())
    code = re.search('"(.*)"', command)[1]
    exec(code)
    assert len(data.cifar10n()) == 20


# --- the real ones ---


@needs_files
def test_the_published_files_are_known_whole():
    published = hashlib.sha256((SHARED / "cifar10h-counts.npy").read_bytes()).hexdigest()
    assert published == "9b36b4550349af56c79083356312eb4af856cc5fd3caf1f669d40b9d0bbb69ff"
    h, n = data.cifar10h(root=SHARED), data.cifar10n(root=SHARED)
    assert (h.counts.sum(axis=1).min(), h.counts.sum(axis=1).max()) == (47, 63)
    labels = np.load(SHARED / "cifar10-test-labels.npy")
    assert (h.counts.argmax(axis=1) == labels).mean() == pytest.approx(0.9921)
    first = np.load(SHARED / "cifar10n.npz")["random1"]
    assert (first != n.labels).mean() == pytest.approx(0.1723, abs=1e-4)
    table = pd.DataFrame({"index": np.arange(10_000), "label": labels})
    agreement = h.join(table)["human_agreement"]
    assert agreement.mean() > 0.9
    assert confidence.correlation(h.join(table), "human_entropy", {"human_agreement": +1})["value"][0] < -0.9
    with pytest.raises(ValueError, match="are these the images that CIFAR-10N is about"):
        n.join(table)
