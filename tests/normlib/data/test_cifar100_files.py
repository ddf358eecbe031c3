"""CIFAR-100: any copy comes out in one order; what is not CIFAR-100 is refused."""

import hashlib
import io
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch

from normlib import data
from normlib.data import cifar100_files

SHARED = Path(__file__).parents[4] / "shared" / "data"


def some_records(count, seed):
    random = np.random.default_rng(seed)
    rows = random.integers(0, 256, (count, cifar100_files.RECORD_BYTES), dtype=np.uint8)
    rows[:, :2] = random.integers(0, 100, (count, 2))
    return rows


@pytest.fixture
def small(monkeypatch):
    """A set of few records in place of CIFAR-100's, by split."""
    rows = {"train": some_records(30, 0), "test": some_records(10, 1)}
    digests = {
        split: hashlib.sha256(b"".join(sorted(row.tobytes() for row in each))).hexdigest()
        for split, each in rows.items()
    }
    monkeypatch.setattr(cifar100_files, "SORTED", digests)
    return rows


def put(root, rows):
    folder = root / cifar100_files.FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    for split, each in rows.items():
        (folder / f"{split}.bin").write_bytes(each.tobytes())


def test_copies_in_any_order_come_out_in_one(tmp_path, small):
    found = []
    for seed in range(3):
        order = np.random.default_rng(seed).permutation(30)
        put(tmp_path / str(seed), small | {"train": small["train"][order]})
        found.append(data.cifar100("train", root=tmp_path / str(seed)))
    for one in found[1:]:
        assert torch.equal(one.images, found[0].images)
        assert torch.equal(one.labels, found[0].labels)
    rows = sorted(row.tobytes() for row in small["train"])
    assert found[0].labels.tolist() == [row[1] for row in rows]  # the fine label is the second byte
    assert found[0].images.flatten(1).numpy().tobytes() == b"".join(row[2:] for row in rows)
    assert found[0].indices.tolist() == list(range(30))
    assert (found[0].name, len(found[0].classes), found[0].classes[99]) == ("cifar100-train", 100, "worm")


@pytest.mark.parametrize("damage", ["pixel", "short", "twice"])
def test_a_file_of_other_records_is_refused_and_the_command_named(tmp_path, small, damage):
    rows = small["train"].copy()
    if damage == "pixel":
        rows[7, 100] ^= 1
    rows = {"pixel": rows, "short": rows[:-1], "twice": np.concatenate([rows, rows[:1]])}[damage]
    put(tmp_path, small | {"train": rows})
    with pytest.raises(ValueError, match=r"train\.bin is damaged.*data\.cifar100\(root=.*download=True"):
        data.cifar100("train", root=tmp_path)
    (tmp_path / cifar100_files.FOLDER / "train.bin").write_bytes(b"abc")
    with pytest.raises(ValueError, match=r"train\.bin is damaged"):
        data.cifar100("train", root=tmp_path)


def archive(rows):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        for split, each in rows.items():
            content = each.tobytes()
            info = tarfile.TarInfo(f"{cifar100_files.FOLDER}/{split}.bin")
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def test_the_first_address_that_delivers_is_taken(tmp_path, small, server, monkeypatch):
    good, other = archive(small), archive(small | {"test": some_records(10, 9)})
    server.pages.update({"/other": other, "/good": good})
    monkeypatch.setattr(
        cifar100_files, "ADDRESSES", tuple(f"{server.address}/{page}" for page in ("gone", "other", "good"))
    )
    monkeypatch.setattr(cifar100_files, "ARCHIVE", hashlib.sha256(good).hexdigest())
    images = data.cifar100("test", root=tmp_path, download=True)
    assert len(images) == 10
    assert sorted(path.name for path in tmp_path.iterdir()) == [cifar100_files.FOLDER]
    server.pages.clear()
    assert len(data.cifar100("train", root=tmp_path, download=True)) == 30  # nothing is asked of the network


def test_an_archive_of_other_records_is_refused_with_each_reason(tmp_path, small, server, monkeypatch):
    wrong = archive(small | {"test": some_records(10, 9)})
    server.pages["/wrong"] = wrong
    monkeypatch.setattr(cifar100_files, "ADDRESSES", (f"{server.address}/wrong",))
    monkeypatch.setattr(cifar100_files, "ARCHIVE", hashlib.sha256(wrong).hexdigest())
    with pytest.raises(ConnectionError, match=r"test\.bin does not hold CIFAR-100's records"):
        data.cifar100("test", root=tmp_path, download=True)


@pytest.mark.skipif(not (SHARED / "cifar100").is_dir(), reason="needs the shared copy of CIFAR-100")
def test_the_real_images_are_the_published_ones(tmp_path):
    import importlib.util

    spec = importlib.util.spec_from_file_location("restore", SHARED / "restore.py")
    restore = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(restore)
    pixels, fine, coarse = restore.cifar100("test")
    rows = np.concatenate([coarse[:, None], fine[:, None], pixels.transpose(0, 3, 1, 2).reshape(10_000, -1)], axis=1)
    put(tmp_path, {"test": rows.astype(np.uint8)})
    images = data.cifar100("test", root=tmp_path)
    assert images.labels.bincount().tolist() == [100] * 100
    names = np.load(SHARED / "cifar100-index.npz")["fine_names"]
    assert images.classes == tuple(name.decode() for name in names)
