"""CIFAR-10: sets of 20 images a file in the real formats, from mirrors on this machine."""

import hashlib
import io
import re
import shlex
import tarfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pooch
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from normlib import data
from normlib.data import cifar10_files

TAR, TRAIN, TEST = "/cifar-10-binary.tar.gz", "/train-00000-of-00001.parquet", "/test-00000-of-00001.parquet"
ORDER_OF_PARQUET = (4, 3, 2, 5, 1)


def tar_bytes(files):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


def parquet_bytes(blocks):
    rows = []
    for record in np.concatenate([np.frombuffer(block, np.uint8).reshape(-1, 3073) for block in blocks]):
        png = io.BytesIO()
        Image.fromarray(record[1:].reshape(3, 32, 32).transpose(1, 2, 0)).save(png, "PNG")
        rows.append({"img": {"bytes": png.getvalue(), "path": None}, "label": int(record[0])})
    buffer = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows), buffer)
    return buffer.getvalue()


@pytest.fixture
def blocks(monkeypatch):
    """The bytes of six small files, which take the place of the original's."""
    rng = np.random.default_rng(0)
    records = rng.integers(0, 256, (6, 20, 3073), dtype=np.uint8)
    records[:, :, 0] %= 10
    content = dict(zip(cifar10_files.FILES, (block.tobytes() for block in records), strict=True))
    monkeypatch.setattr(cifar10_files, "FILES", {name: hashlib.sha256(b).hexdigest() for name, b in content.items()})
    monkeypatch.setattr(cifar10_files, "RECORDS_PER_FILE", 20)
    return content


def mirror(server, packing, folder, pages, sha256_of=None):
    """Serve ``pages`` under ``folder``; the mirror expects the checksums of ``sha256_of``, by default the truth."""
    expected = sha256_of or pages
    server.pages |= {folder + path: page for path, page in pages.items()}
    addresses = {server.address + folder + path: hashlib.sha256(expected[path]).hexdigest() for path in expected}
    return cifar10_files.Mirror(addresses, packing)


def original_tar(blocks):
    return {TAR: tar_bytes({f"cifar-10-batches-bin/{name}": block for name, block in blocks.items()})}


def original_parquet(blocks):
    training = [blocks[f"data_batch_{number}.bin"] for number in ORDER_OF_PARQUET]
    return {TRAIN: parquet_bytes(training), TEST: parquet_bytes([blocks["test_batch.bin"]])}


def assert_original(images, blocks, names):
    records = np.concatenate([np.frombuffer(blocks[name], np.uint8).reshape(-1, 3073) for name in names])
    assert images.labels.tolist() == records[:, 0].tolist()
    assert np.array_equal(images.images.numpy(), records[:, 1:].reshape(-1, 3, 32, 32))
    assert torch.equal(images.indices, torch.arange(len(records)))


@pytest.mark.parametrize("packing", ["tar", "parquet"])
def test_cifar10_from_either_packing_is_the_original_in_its_order(tmp_path, monkeypatch, blocks, server, packing):
    pages = {"tar": original_tar, "parquet": original_parquet}[packing](blocks)
    monkeypatch.setattr(cifar10_files, "MIRRORS", (mirror(server, packing, "/good", pages),))
    train = data.cifar10(root=tmp_path, download=True)
    assert_original(train, blocks, list(blocks)[:5])
    assert (train.name, train.classes[6]) == ("cifar10-train", "frog")
    test = data.cifar10("test", root=tmp_path)
    assert_original(test, blocks, ["test_batch.bin"])
    assert test.name == "cifar10-test"
    assert len(server.asked) == len(pages)
    data.cifar10(root=tmp_path, download=True)
    assert len(server.asked) == len(pages)  # a complete set asks nothing of the network
    found = sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*"))
    assert found == ["cifar-10-batches-bin", *(f"cifar-10-batches-bin/{name}" for name in sorted(blocks))]


def test_cifar10_goes_on_to_the_next_mirror(tmp_path, monkeypatch, blocks, server):
    good = original_tar(blocks)
    corrupt = {TAR: good[TAR][:5000] + b"\0" + good[TAR][5001:]}
    other = {TAR: tar_bytes({f"cifar-10-batches-bin/{name}": bytes(20 * 3073) for name in blocks})}
    reordered = {TRAIN: parquet_bytes([b"".join(blocks.values())[3073:] + bytes(3073)]), TEST: b"unread"}
    mirrors = (
        cifar10_files.Mirror({"http://127.0.0.1:9/dead.tar.gz": "0" * 64}, "tar"),
        mirror(server, "tar", "/gone", {}, sha256_of=good),
        mirror(server, "tar", "/corrupt", corrupt, sha256_of=good),
        mirror(server, "tar", "/other-pixels", other),
        mirror(server, "parquet", "/other-order", reordered),
        mirror(server, "parquet", "/no-test", {TRAIN: original_parquet(blocks)[TRAIN]}),
        mirror(server, "tar", "/good", good),
        mirror(server, "tar", "/never-asked", good),
    )
    monkeypatch.setattr(cifar10_files, "MIRRORS", mirrors)
    train = data.cifar10(root=tmp_path, download=True)
    assert_original(train, blocks, list(blocks)[:5])
    folders = [path.split("/")[1] for path in server.asked]
    assert folders == ["gone", "corrupt", "other-pixels", "other-order", "other-order", "no-test", "good"]


def test_cifar10_that_no_mirror_delivers_names_each_reason_and_leaves_nothing(tmp_path, monkeypatch, blocks, server):
    good = original_tar(blocks)
    mirrors = (
        mirror(server, "tar", "/gone", {}, sha256_of=good),
        mirror(server, "tar", "/corrupt", {TAR: good[TAR][:-1]}, sha256_of=good),
        mirror(server, "tar", "/other", {TAR: tar_bytes({f"cifar-10-batches-bin/{n}": b"x" for n in blocks})}),
    )
    monkeypatch.setattr(cifar10_files, "MIRRORS", mirrors)
    with pytest.raises(ConnectionError) as caught:
        data.cifar10(root=tmp_path, download=True)
    for reason in ("404", "hash", "its pixels are not CIFAR-10's", f"unpack it in {tmp_path}", "127.0.0.1:"):
        assert reason in str(caught.value)
    assert not list(tmp_path.rglob("*.bin"))
    with pytest.raises(FileNotFoundError):
        data.cifar10(root=tmp_path)


def test_transfer_that_breaks_off_leaves_no_file_that_passes_for_whole(tmp_path, monkeypatch, blocks, server):
    good = original_tar(blocks)
    server.missing_bytes = 1000  # the server promises more than it sends before it hangs up
    monkeypatch.setattr(cifar10_files, "MIRRORS", (mirror(server, "tar", "/good", good),))
    with pytest.raises(ConnectionError):
        data.cifar10(root=tmp_path, download=True)
    assert list(tmp_path.iterdir()) == []
    server.missing_bytes = 0
    assert_original(data.cifar10(root=tmp_path, download=True), blocks, list(blocks)[:5])


def test_interrupted_unpacking_goes_on_without_a_second_download(tmp_path, monkeypatch, blocks, server):
    monkeypatch.setattr(cifar10_files, "MIRRORS", (mirror(server, "tar", "/good", original_tar(blocks)),))
    write = Path.write_bytes

    def interrupted(path, content):
        if "data_batch_3" in path.name:
            write(path, content[:100])
            raise KeyboardInterrupt
        return write(path, content)

    monkeypatch.setattr(Path, "write_bytes", interrupted)
    with pytest.raises(KeyboardInterrupt):
        data.cifar10(root=tmp_path, download=True)
    folder = tmp_path / "cifar-10-batches-bin"
    assert sorted(path.name for path in folder.iterdir()) == ["data_batch_1.bin", "data_batch_2.bin"]
    monkeypatch.setattr(Path, "write_bytes", write)
    assert_original(data.cifar10(root=tmp_path, download=True), blocks, list(blocks)[:5])
    assert len(server.asked) == 1


def test_of_several_processes_one_downloads_and_the_others_wait(tmp_path, monkeypatch, blocks, server):
    monkeypatch.setattr(cifar10_files, "MIRRORS", (mirror(server, "tar", "/good", original_tar(blocks)),))
    with ThreadPoolExecutor(4) as pool:
        sets = list(pool.map(lambda _: data.cifar10(root=tmp_path, download=True), range(4)))
    for images in sets:
        assert_original(images, blocks, list(blocks)[:5])
    assert len(server.asked) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["cifar-10-batches-bin"]


def test_second_parquet_file_alone_is_fetched_after_an_interruption(tmp_path, monkeypatch, blocks, server):
    pages = original_parquet(blocks)
    monkeypatch.setattr(cifar10_files, "MIRRORS", (mirror(server, "parquet", "/good", pages),))
    del server.pages["/good" + TEST]
    with pytest.raises(ConnectionError, match="404"):
        data.cifar10(root=tmp_path, download=True)
    server.pages["/good" + TEST] = pages[TEST]
    assert_original(data.cifar10("test", root=tmp_path, download=True), blocks, ["test_batch.bin"])
    assert server.asked == ["/good" + path for path in (TRAIN, TEST, TEST)]


@pytest.mark.parametrize("damage", [lambda b: b[:-1], lambda b: b[:-1] + bytes([b[-1] ^ 1]), lambda b: b""])
def test_damaged_file_is_named_and_replaced_when_asked(tmp_path, monkeypatch, blocks, server, damage):
    monkeypatch.setattr(cifar10_files, "MIRRORS", (mirror(server, "tar", "/good", original_tar(blocks)),))
    data.cifar10(root=tmp_path, download=True)
    path = tmp_path / "cifar-10-batches-bin" / "data_batch_2.bin"
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(ValueError, match=r"data_batch_2\.bin is damaged: .* fetches it again: python -c"):
        data.cifar10(root=tmp_path)
    data.cifar10("test", root=tmp_path)  # what is whole stays usable
    assert_original(data.cifar10(root=tmp_path, download=True), blocks, list(blocks)[:5])


def test_archive_cannot_write_outside_the_folder(tmp_path, monkeypatch, blocks, server):
    files = {f"cifar-10-batches-bin/{name}": block for name, block in blocks.items()}
    files = {"../evil": b"x", "/tmp/normlib-evil": b"x", "cifar-10-batches-bin/../../evil": b"x"} | files
    monkeypatch.setattr(cifar10_files, "MIRRORS", (mirror(server, "tar", "/good", {TAR: tar_bytes(files)}),))
    data.cifar10(root=tmp_path / "root", download=True)
    assert [path.name for path in tmp_path.iterdir()] == ["root"]
    assert not Path("/tmp/normlib-evil").exists()


def test_missing_cifar10_names_the_command_that_fetches_it(tmp_path, monkeypatch, blocks, server):
    monkeypatch.setattr(cifar10_files, "MIRRORS", (mirror(server, "tar", "/good", original_tar(blocks)),))
    monkeypatch.setenv("NORMLIB_DATA", str(tmp_path))
    with pytest.raises(FileNotFoundError) as caught:
        data.cifar10()
    command = 'python -c "from normlib import data; data.cifar10(download=True)"'
    assert str(caught.value) == f"CIFAR-10 is not in {tmp_path / 'cifar-10-batches-bin'}. This fetches it: {command}"
    assert server.asked == []
    exec(shlex.split(command)[2], {})
    assert_original(data.cifar10("test"), blocks, ["test_batch.bin"])


def test_command_names_the_root_that_was_given(tmp_path, monkeypatch, blocks, server):
    monkeypatch.setattr(cifar10_files, "MIRRORS", (mirror(server, "tar", "/good", original_tar(blocks)),))
    with pytest.raises(FileNotFoundError) as caught:
        data.cifar10(root=tmp_path)
    exec(shlex.split(str(caught.value).split("fetches it: ")[1])[2], {})
    assert len(data.cifar10(root=tmp_path)) == 100


def test_folder_is_root_then_the_environment_then_the_users_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("NORMLIB_DATA", str(tmp_path / "variable"))
    for root, folder in ((tmp_path / "root", "root"), (None, "variable")):
        with pytest.raises(FileNotFoundError, match=re.escape(str(tmp_path / folder))):
            data.cifar10(root=root)
    monkeypatch.delenv("NORMLIB_DATA")
    monkeypatch.setattr(pooch, "os_cache", lambda project: tmp_path / "cache" / project)
    with pytest.raises(FileNotFoundError, match=re.escape(str(tmp_path / "cache" / "normlib"))):
        data.cifar10()


def test_cifar10_refuses_an_unknown_split(tmp_path):
    with pytest.raises(ValueError, match="split must be one of 'train', 'test', got 'all'"):
        data.cifar10("all", root=tmp_path)


def test_the_slow_original_host_comes_last():
    assert [next(iter(m.sha256)).split("/")[2] for m in cifar10_files.MIRRORS].index("www.cs.toronto.edu") == 3
