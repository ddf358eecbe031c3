import hashlib
import http.server
import io
import re
import shlex
import subprocess
import sys
import tarfile
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pooch
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from sklearn.datasets import load_digits

from normlib import data
from normlib.data import cifar10_files, variants

SHARED = Path(__file__).parents[3].parent / "shared" / "data"


def image_set(count=6, classes=3, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return data.ImageSet(
        torch.randint(0, 256, (count, 3, 4, 5), generator=generator, dtype=torch.uint8),
        torch.arange(count) % classes,
        torch.arange(count) * 10,
        tuple("abcdefgh"[:classes]),
        "test",
    )


# --- ImageSet ---


@settings(deadline=None, max_examples=50)
@given(st.lists(st.integers(0, 5), max_size=8))
def test_subset_by_positions_takes_rows_in_the_order_asked_for(positions):
    whole = image_set()
    part = whole.subset(torch.tensor(positions, dtype=torch.int32))
    assert len(part) == len(positions)
    for row, position in enumerate(positions):
        assert torch.equal(part.images[row], whole.images[position])
        assert part.labels[row] == whole.labels[position]
        assert part.indices[row] == 10 * position
    assert (part.classes, part.name) == (whole.classes, whole.name)


def test_subset_by_mask_equals_subset_by_positions_and_indices_survive_a_chain():
    whole = image_set()
    by_mask = whole.subset(whole.labels == 1)
    assert by_mask.fingerprint() == whole.subset(torch.tensor([1, 4])).fingerprint()
    assert by_mask.subset(torch.tensor([1])).indices.tolist() == [40]


@pytest.mark.parametrize(
    ("index", "error", "message"),
    [
        ([0, 1], TypeError, "index must be a tensor of bool .* got list"),
        (torch.tensor([0.0]), TypeError, "torch.float32"),
        (torch.tensor([[0]]), ValueError, r"index must have shape \(1,\), got \(1, 1\)"),
        (torch.tensor([True]), ValueError, r"index must have shape \(6,\), got \(1,\)"),
        (torch.tensor([0, 6]), ValueError, r"index must be in 0\.\.5, got 0\.\.6"),
        (torch.tensor([-1]), ValueError, r"index must be in 0\.\.5, got -1\.\.-1"),
    ],
)
def test_subset_refuses(index, error, message):
    with pytest.raises(error, match=message):
        image_set().subset(index)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"images": torch.zeros(6, 3, 4, 5)}, TypeError, "images must be a tensor of torch.uint8, got torch.float32"),
        ({"labels": np.zeros(6, int)}, TypeError, "labels must be a tensor of torch.int64, got ndarray"),
        ({"images": torch.zeros(6, 4, 5, dtype=torch.uint8)}, ValueError, r"images must have shape \(N, C, H, W\)"),
        ({"indices": torch.arange(5)}, ValueError, r"indices must have shape \(6,\).* got \(5,\)"),
        ({"labels": torch.full((6,), 3)}, ValueError, r"labels must be in 0\.\.2, got 3\.\.3"),
        ({"labels": torch.full((6,), -1)}, ValueError, r"labels must be in 0\.\.2, got -1\.\.-1"),
    ],
)
def test_image_set_refuses(change, error, message):
    with pytest.raises(error, match=message):
        data.ImageSet(**(vars(image_set()) | change))


def test_fingerprint_sees_every_pixel_label_and_the_shape_but_not_the_memory_layout():
    original = image_set()
    same = vars(image_set()) | {"images": original.images.permute(0, 2, 3, 1).contiguous().permute(0, 3, 1, 2)}
    assert data.ImageSet(**same).fingerprint() == original.fingerprint()

    one_pixel = original.images.clone()
    one_pixel[5, 2, 3, 4] ^= 1
    one_label = original.labels.clone()
    one_label[0] = 2
    changes = [{"images": one_pixel}, {"labels": one_label}, {"images": original.images.reshape(6, 3, 5, 4)}]
    prints = {data.ImageSet(**(vars(original) | change)).fingerprint() for change in changes}
    assert len(prints | {original.fingerprint()}) == 4


def test_fingerprint_is_the_sha256_it_says():
    one = image_set()
    expected = hashlib.sha256(b"(6, 3, 4, 5)" + one.images.numpy().tobytes() + one.labels.numpy().tobytes())
    assert one.fingerprint() == "sha256:" + expected.hexdigest()


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


# --- image_folder ---


def write_images(root, names, size=(5, 4), mode="RGB", seed=0):
    """Random PNG images; returns the pixels (N, 3, H, W) that they should be read as."""
    rng = np.random.default_rng(seed)
    read = []
    for name in names:
        image = Image.fromarray(rng.integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)).convert(mode)
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        image.save(root / name)
        read.append(np.asarray(image.convert("RGB")).transpose(2, 0, 1))
    return torch.from_numpy(np.stack(read))


def test_image_folder_reads_pixels_exactly_in_sorted_order(tmp_path):
    pixels = write_images(tmp_path, ["dog/b.png", "cat/9.png", "dog/a.PNG", "cat/10.png", "ant/x.png"])
    (tmp_path / ".git").mkdir()
    (tmp_path / "cat" / "notes.txt").write_text("not an image")
    read = data.image_folder(tmp_path)
    assert read.classes == ("ant", "cat", "dog")
    assert read.labels.tolist() == [0, 1, 1, 2, 2]
    assert read.indices.tolist() == [0, 1, 2, 3, 4]
    assert torch.equal(read.images, pixels[[4, 3, 1, 2, 0]])  # "10" sorts before "9"
    assert read.name == tmp_path.name


def test_image_folder_passes_over_hidden_files_and_folders(tmp_path):
    pixels = write_images(tmp_path, ["a/x.png", "a/.thumbnails/x.png", ".cache/y.png"])
    (tmp_path / "a" / "._x.png").write_bytes(b"\0\5\x16\7")  # what macOS keeps beside a file on a foreign disk
    for folder in (tmp_path, tmp_path / "a"):
        (folder / ".DS_Store").write_bytes(b"\0\0\0\1Bud1")
    read = data.image_folder(tmp_path)
    assert read.classes == ("a",)
    assert torch.equal(read.images, pixels[:1])


@pytest.mark.parametrize("nested", ["cat/more/2.png", "cat/more/still/2.JPG"])
def test_image_folder_refuses_images_below_the_class_folders(tmp_path, nested):
    write_images(tmp_path, ["ant/1.png", "cat/1.png"])
    (tmp_path / "ant" / "empty").mkdir()
    assert len(data.image_folder(tmp_path)) == 2
    write_images(tmp_path, [nested])
    with pytest.raises(ValueError, match=rf"path: {re.escape(str(tmp_path / nested))} lies deeper .* move it"):
        data.image_folder(tmp_path)


def test_a_folder_named_like_an_image_is_none(tmp_path):
    write_images(tmp_path, ["a/1.png"])
    (tmp_path / "a" / "2.png").mkdir()
    assert len(data.image_folder(tmp_path)) == 1


@pytest.mark.parametrize("mode", ["L", "RGBA", "P", "1", "LA"])
def test_image_folder_turns_every_mode_into_rgb(tmp_path, mode):
    pixels = write_images(tmp_path, ["a/1.png", "a/2.png"], mode=mode)
    assert torch.equal(data.image_folder(tmp_path).images, pixels)


@pytest.mark.parametrize(("size", "shape"), [(3, (3, 3)), ((7, 2), (7, 2)), (np.int64(3), (3, 3)), ([7, 2], (7, 2))])
def test_image_folder_resizes_as_pillow_does(tmp_path, size, shape):
    pixels = write_images(tmp_path, ["a/1.png"])
    write_images(tmp_path, ["b/1.png"], size=(20, 10))
    read = data.image_folder(tmp_path, size=size)
    assert read.images.shape == (2, 3, *shape)
    expected = Image.fromarray(pixels[0].permute(1, 2, 0).numpy()).resize(shape[::-1], Image.Resampling.BICUBIC)
    assert np.array_equal(read.images[0].permute(1, 2, 0).numpy(), np.asarray(expected))


def test_image_folder_size_that_fits_changes_nothing(tmp_path):
    pixels = write_images(tmp_path, ["a/1.png"])
    assert torch.equal(data.image_folder(tmp_path, size=(4, 5)).images, pixels)


def test_image_folder_refuses_several_sizes_naming_two_files(tmp_path):
    write_images(tmp_path, ["a/1.png"])
    write_images(tmp_path, ["a/2.png"], size=(9, 4))
    with pytest.raises(ValueError, match=r"1\.png is 4x5 \(height x width\), .*2\.png is 4x9\. Pass size="):
        data.image_folder(tmp_path)


def spoil(tmp_path, kind):
    """Four images, the second (sorted) of which is not whole; returns its path."""
    write_images(tmp_path, ["a/1.png", "a/2.png", "b/3.png", "b/4.png"], size=(64, 64))
    bad = tmp_path / "a" / "2.png"
    content = {
        "truncated": bad.read_bytes()[:3000],
        "empty": b"",
        "text": b"<html>not found</html>",
        "header only": bad.read_bytes()[:33],
        "bits flipped": bad.read_bytes()[:2000] + bytes(500) + bad.read_bytes()[2500:],
    }[kind]
    bad.write_bytes(content)
    return bad


@pytest.mark.parametrize("kind", ["truncated", "empty", "text", "header only", "bits flipped"])
def test_corrupt_image_is_named_or_left_out_as_asked(tmp_path, kind):
    bad = spoil(tmp_path, kind)
    with pytest.raises(ValueError, match=rf"{re.escape(str(bad))} cannot be read: .*on_corrupt='skip'"):
        data.image_folder(tmp_path)
    with pytest.warns(UserWarning, match=rf"left out 1 of 4 images: {re.escape(str(bad))}$") as warned:
        read = data.image_folder(tmp_path, on_corrupt="skip")
    assert len(warned) == 1
    assert warned[0].filename == __file__  # the line of the caller
    assert read.indices.tolist() == [0, 2, 3]
    assert read.labels.tolist() == [0, 1, 1]
    assert read.classes == ("a", "b")


def test_truncated_jpeg_is_corrupt(tmp_path):
    write_images(tmp_path, ["a/1.jpg"], size=(64, 64))
    whole = (tmp_path / "a" / "1.jpg").read_bytes()
    (tmp_path / "a" / "1.jpg").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match=r"1\.jpg cannot be read: .*truncated"):
        data.image_folder(tmp_path)


def test_image_of_16_bits_is_refused_rather_than_clipped(tmp_path):
    (tmp_path / "a").mkdir()
    Image.fromarray(np.full((4, 4), 3000, np.uint16)).save(tmp_path / "a" / "1.png")
    with pytest.raises(ValueError, match="8 bits a channel"):
        data.image_folder(tmp_path)


@pytest.mark.filterwarnings("ignore:left out")
def test_skipping_everything_is_an_error(tmp_path):
    write_images(tmp_path, ["a/1.png"])
    (tmp_path / "a" / "1.png").write_bytes(b"")
    with pytest.raises(ValueError, match="none of the 1 images can be read"):
        data.image_folder(tmp_path, on_corrupt="skip")


def test_image_folder_names_what_is_missing(tmp_path):
    with pytest.raises(FileNotFoundError, match=re.escape(f"there is no folder {tmp_path / 'none'}")):
        data.image_folder(tmp_path / "none")
    with pytest.raises(FileNotFoundError, match=re.escape(f"{tmp_path} has no sub-folders; expected one")):
        data.image_folder(tmp_path)
    write_images(tmp_path, ["train/a/1.png", "test/a/1.png"])
    folder = re.escape(str(tmp_path / "test"))
    with pytest.raises(FileNotFoundError, match=rf"{folder} holds no images .* give this folder instead"):
        data.image_folder(tmp_path)
    assert len(data.image_folder(tmp_path / "test")) == 1


def test_image_folder_refuses_arguments_before_it_looks_at_files(tmp_path):
    for size in (0, (4, 0), (4,), (1, 2, 3), True, (True, True), 2.5, (4.0, 4), "ab"):
        with pytest.raises(ValueError, match="size must be a positive integer or two of them"):
            data.image_folder(tmp_path / "none", size=size)
    with pytest.raises(ValueError, match="on_corrupt must be one of 'error', 'skip', got 'ignore'"):
        data.image_folder(tmp_path / "none", on_corrupt="ignore")


def test_index_from_name_restores_the_original_order(tmp_path):
    pixels = write_images(tmp_path, ["b/00007.png", "a/00010.png", "a/00002.png"])
    read = data.image_folder(tmp_path, index_from_name=True)
    assert read.indices.tolist() == [2, 7, 10]
    assert read.labels.tolist() == [0, 1, 0]
    assert torch.equal(read.images, pixels[[2, 0, 1]])


@pytest.mark.parametrize(
    ("names", "message"),
    [(["a/1.png", "a/two.png"], r"names that are numbers, .*two\.png"), (["a/1.png", "b/01.png"], "distinct numbers")],
)
def test_index_from_name_refuses(tmp_path, names, message):
    write_images(tmp_path, names)
    with pytest.raises(ValueError, match=message):
        data.image_folder(tmp_path, index_from_name=True)


@pytest.mark.skipif(not (SHARED / "cifar10-jpeg.tar.xz").is_file(), reason="needs the CIFAR-10 JPEG bundle")
def test_image_folder_on_real_jpegs(tmp_path):
    (tmp_path / "airplane").mkdir()
    with tarfile.open(SHARED / "cifar10-jpeg.tar.xz", "r|xz") as archive:
        members = (member for member in archive if member.name.startswith("train/airplane/"))
        for _ in range(300):
            member = next(members)
            (tmp_path / "airplane" / Path(member.name).name).write_bytes(archive.extractfile(member).read())
    read = data.image_folder(tmp_path, index_from_name=True)
    assert read.images.shape == (300, 3, 32, 32)
    assert (np.load(SHARED / "cifar10n.npz")["clean"][read.indices] == 0).all()  # airplanes, by the original's labels
    assert 100 < read.images.float().mean() < 160


# --- CIFAR-10: sets of 20 images a file in the real formats, from mirrors on this machine ---

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


@pytest.fixture
def server():
    """An HTTP server on this machine: ``pages`` are what it serves, ``asked`` what it was asked for."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            served.asked.append(self.path)
            page = served.pages.get(self.path)
            if page is None:
                self.send_error(404)
                return
            self.send_response(200)
            self.send_header("Content-Length", str(len(page) + served.missing_bytes))
            self.end_headers()
            self.wfile.write(page)

        def log_message(self, *args):
            pass

    served = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    served.pages, served.asked, served.missing_bytes = {}, [], 0
    served.address = f"http://127.0.0.1:{served.server_port}"
    thread = threading.Thread(target=served.serve_forever, args=(0.02,))
    thread.start()
    yield served
    served.shutdown()
    thread.join()
    served.server_close()


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


# --- CIFAR-10 in JPEG files ---


def write_jpeg_copy(root, count):
    """A small set in the layout of the JPEG copy; class ``index * 7 % 10`` for each index, its colour the index."""
    for index in range(count):
        path = root / "cifar10-jpeg" / "test" / cifar10_files.CLASSES[index * 7 % 10] / f"{index:05d}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (32, 32), (10 * index,) * 3).save(path)


@pytest.fixture
def small_cifar10(monkeypatch):
    monkeypatch.setattr(cifar10_files, "RECORDS_PER_FILE", 20)


def test_cifar10_jpeg_stands_in_the_originals_order(tmp_path, monkeypatch, small_cifar10):
    write_jpeg_copy(tmp_path, 20)
    read = data.cifar10_jpeg("test", root=tmp_path)
    assert read.indices.tolist() == list(range(20))
    assert read.labels.tolist() == [index * 7 % 10 for index in range(20)]
    assert read.images[:, 0, 0, 0].tolist() == [10 * index for index in range(20)]
    assert (read.name, read.classes) == ("cifar10-jpeg-test", cifar10_files.CLASSES)
    monkeypatch.setenv("NORMLIB_DATA", str(tmp_path))
    assert data.load("cifar10-jpeg", "test").fingerprint() == read.fingerprint()


def test_cifar10_jpeg_says_what_it_expected_where(tmp_path, small_cifar10):
    folder = re.escape(str(tmp_path / "cifar10-jpeg" / "test"))
    expected = rf"expected 20 images {folder}/<class>/<index>\.jpg, where <class> is one of airplane, .*, truck and .* "
    with pytest.raises(FileNotFoundError, match=expected + rf"00000 to 00019; path: there is no folder {folder}"):
        data.cifar10_jpeg("test", root=tmp_path)
    write_jpeg_copy(tmp_path, 21)
    with pytest.raises(FileNotFoundError, match=expected + "00000 to 00019; found 21 images, 00000 to 00020, of"):
        data.cifar10_jpeg("test", root=tmp_path)
    (tmp_path / "cifar10-jpeg/test/airplane/00020.jpg").rename(tmp_path / "cifar10-jpeg/test/airplane/00000.jpg")
    assert len(data.cifar10_jpeg("test", root=tmp_path)) == 20
    (tmp_path / "cifar10-jpeg/test/frog/00008.jpg").unlink()
    with pytest.raises(FileNotFoundError, match="found 19 images, 00000 to 00019"):
        data.cifar10_jpeg("test", root=tmp_path)
    (tmp_path / "cifar10-jpeg/test/frog/00018.jpg").unlink()
    with pytest.raises(FileNotFoundError, match=r"frog holds no images"):
        data.cifar10_jpeg("test", root=tmp_path)
    with pytest.raises(ValueError, match="split must be one of 'train', 'test', got 'all'"):
        data.cifar10_jpeg("all", root=tmp_path)


def test_cifar10_jpeg_refuses_other_classes(tmp_path, small_cifar10):
    write_jpeg_copy(tmp_path, 20)
    (tmp_path / "cifar10-jpeg/test/cat").rename(tmp_path / "cifar10-jpeg/test/chat")
    with pytest.raises(FileNotFoundError, match=r"found 20 images, .* chat, deer"):
        data.cifar10_jpeg("test", root=tmp_path)


@pytest.fixture(scope="module")
def real_jpegs(tmp_path_factory):
    """Folder that holds the test images of the real copy: 2 s to unpack."""
    if not (SHARED / "cifar10-jpeg.tar.xz").is_file():
        pytest.skip("needs the CIFAR-10 JPEG bundle")
    root = tmp_path_factory.mktemp("data")
    for name in cifar10_files.CLASSES:
        (root / "cifar10-jpeg" / "test" / name).mkdir(parents=True)
    with tarfile.open(SHARED / "cifar10-jpeg.tar.xz", "r|xz") as archive:
        for member in archive:
            if member.name.startswith("test/"):
                (root / "cifar10-jpeg" / member.name).write_bytes(archive.extractfile(member).read())
    return root


def test_real_jpegs_have_the_originals_labels(real_jpegs):
    test = data.cifar10_jpeg("test", root=real_jpegs)
    assert test.images.shape == (10_000, 3, 32, 32)
    assert np.array_equal(test.labels, np.load(SHARED / "cifar10-test-labels.npy"))
    assert test.images[::10].float().mean((0, 2, 3)).sub(torch.tensor([125.0, 123.0, 114.0])).abs().max() < 4


# --- load ---


def test_load_gives_what_the_functions_give(monkeypatch):
    assert data.load("digits").fingerprint() == data.digits("train").fingerprint()
    monkeypatch.setattr(data, "cifar10", lambda split, download: (split, download))
    assert data.load("cifar10", "test") == ("test", True)


def test_load_refuses():
    with pytest.raises(ValueError, match="name must be one of 'digits', 'cifar10', 'cifar10-jpeg', got 'mnist'"):
        data.load("mnist", "train")
    with pytest.raises(ValueError, match="split must be one of"):
        data.load("digits", "val")


# --- hold_out ---


def same_images(part, whole, positions):
    """Whether ``part`` is ``whole`` at these places, labels, indices and class names unchanged."""
    expected = whole.subset(positions)
    fields = ("images", "labels", "indices")
    return part.classes == whole.classes and all(torch.equal(getattr(part, f), getattr(expected, f)) for f in fields)


@settings(deadline=None, max_examples=30)
@given(st.sets(st.integers(0, 9), min_size=1, max_size=9))
def test_hold_out_splits_by_label_and_changes_nothing_else(chosen):
    whole = data.digits("test")
    seen, held_out = data.hold_out(whole, sorted(chosen))
    inside = torch.tensor([label in chosen for label in whole.labels.tolist()])
    assert same_images(seen, whole, ~inside)
    assert same_images(held_out, whole, inside)


def test_hold_out_names_its_parts():
    names = [part.name for part in data.hold_out(image_set(), [2, 0])]
    assert names == ["test without c, a", "test, only c, a"]


@pytest.mark.parametrize(
    ("classes", "message"),
    [
        ([], "classes must hold one class or more, each once"),
        ([1, 1], r"classes must hold .* each once, got \[1, 1\]"),
        ([3], r"classes must be an integer ≥ 0 and ≤ 2, got 3"),
        (["a"], r"classes must be an integer ≥ 0 and ≤ 2, got 'a'"),
        ([True], r"classes must be an integer ≥ 0 and ≤ 2, got True"),
        ([0, 1, 2], "classes must leave a class to train on"),
    ],
)
def test_hold_out_refuses(classes, message):
    with pytest.raises(ValueError, match=message):
        data.hold_out(image_set(), classes)


# --- long_tailed ---


@settings(deadline=None, max_examples=30)
@given(st.permutations(range(10)), st.integers(20, 130), st.floats(1, 1.3), st.integers(0, 2**32))
def test_long_tailed_gives_the_class_at_each_rank_its_share(order, largest, ratio, seed):
    whole = data.digits("train")
    tailed = data.long_tailed(whole, largest=largest, ratio=ratio, order=order, seed=seed)
    assert tailed.labels.bincount()[order].tolist() == [round(largest / ratio**rank) for rank in range(10)]
    assert (tailed.indices.diff() > 0).all()  # each image once, in the original's order
    assert same_images(tailed, whole, torch.isin(whole.indices, tailed.indices))


def test_long_tailed_with_the_papers_numbers():
    labels = torch.arange(10).repeat(5000)
    blank = torch.zeros(50_000, 1, 1, 1, dtype=torch.uint8)
    whole = data.ImageSet(blank, labels, torch.arange(50_000), cifar10_files.CLASSES, "blank")
    tailed = data.long_tailed(whole, largest=5000, ratio=1.5)
    assert tailed.labels.bincount().tolist() == [5000, 3333, 2222, 1481, 988, 658, 439, 293, 195, 130]
    control = data.long_tailed(whole, largest=round(len(tailed) / 10), ratio=1)
    assert set(control.labels.bincount().tolist()) == {1474}
    assert abs(len(control) - len(tailed)) <= 5
    assert (tailed.name, control.name) == ("blank, 5000 to 130 of a class", "blank, 1474 of a class")


def test_long_tailed_is_random_by_its_seed_only():
    def draw(**options):
        return data.long_tailed(data.digits("train"), largest=100, ratio=1.2, **options)

    state = torch.get_rng_state()
    assert torch.equal(draw(seed=1).indices, draw(seed=1).indices)
    assert not torch.equal(draw(seed=1).indices, draw(seed=2).indices)
    assert torch.equal(torch.get_rng_state(), state)


def test_a_class_of_lower_rank_keeps_some_of_the_same_images():
    whole = data.digits("train")
    first = data.long_tailed(whole, largest=100, ratio=1.3)
    last = data.long_tailed(whole, largest=100, ratio=1.3, order=range(9, -1, -1))
    few, many = (set(tailed.indices[tailed.labels == 0].tolist()) for tailed in (last, first))
    assert len(few) < len(many) == 100
    assert few < many


def test_classes_that_the_order_does_not_name_are_left_out():
    tailed = data.long_tailed(data.digits("train"), largest=50, ratio=2, order=[7, 2])
    assert tailed.labels.bincount(minlength=10).tolist() == [0, 0, 25, 0, 0, 0, 0, 50, 0, 0]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"largest": 3}, "largest=3 and ratio=1 ask for 3 images of class 0, which has 2"),
        ({"largest": 2, "ratio": 9}, "ask for 0 images of class 1, which has 2; at least 1 is needed"),
        ({"largest": 0}, "largest must be an integer ≥ 1, got 0"),
        ({"largest": 1.5}, "largest must be an integer ≥ 1, got 1.5"),
        ({"ratio": 0.5}, "ratio must be a number ≥ 1, got 0.5"),
        ({"ratio": float("nan")}, "ratio must be a number ≥ 1, got nan"),
        ({"order": [0, 0, 1]}, "order must hold one class or more, each once"),
        ({"order": [0, 1, 3]}, r"order must be an integer ≥ 0 and ≤ 2, got 3"),
    ],
)
def test_long_tailed_refuses(change, message):
    with pytest.raises(ValueError, match=message):
        data.long_tailed(image_set(), **({"largest": 2, "ratio": 1} | change))


# --- corrupt ---

KINDS = sorted(variants.CORRUPTIONS)


def photographs(count=24, size=32):
    """Smooth colour images, which a blur changes as it changes photographs."""
    noise = torch.rand(count, 3, size, size, generator=torch.Generator().manual_seed(0))
    smooth = torch.nn.functional.avg_pool2d(noise, 5, 1, 2)
    pixels = ((smooth - 0.5) * 900 + 128).clamp(0, 255).to(torch.uint8)
    return data.ImageSet(pixels, torch.arange(count) % 10, torch.arange(count), cifar10_files.CLASSES, "smooth")


@pytest.fixture(scope="module", params=["digits", "photographs"])
def original(request):
    return data.digits("test").subset(torch.arange(60)) if request.param == "digits" else photographs()


def distances(one, other):
    return (one.images.double() - other.images.double()).flatten(1).norm(dim=1)


@pytest.mark.parametrize("kind", KINDS)
def test_corruption_grows_with_severity(original, kind):
    before = original.fingerprint()
    corrupted = [data.corrupt(original, kind, severity) for severity in range(1, 6)]
    steps = torch.stack([distances(one, original) for one in corrupted]).diff(dim=0)
    assert distances(corrupted[0], original).mean() > 20
    assert (steps >= -1).all()  # of each image, but for rounding
    assert (steps.mean(1) > 0).all()
    assert original.fingerprint() == before


@pytest.mark.parametrize("kind", KINDS)
def test_corruption_keeps_labels_and_indices_and_names_itself(original, kind):
    corrupted = data.corrupt(original, kind, np.int64(2))
    assert corrupted.images.shape == original.images.shape
    assert torch.equal(corrupted.labels, original.labels)
    assert torch.equal(corrupted.indices, original.indices)
    assert corrupted.name == f"{original.name}, {kind.replace('_', ' ')} 2"


@pytest.mark.parametrize("kind", KINDS)
def test_corruption_is_random_by_its_seed_only(original, kind):
    state = torch.get_rng_state()
    first = data.corrupt(original, kind, 5, seed=1).fingerprint()
    assert first == data.corrupt(original, kind, 5, seed=1).fingerprint()
    random = kind in ("gaussian_noise", "impulse_noise", "occlusion")
    assert (first != data.corrupt(original, kind, 5, seed=2).fingerprint()) == random
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("kind", KINDS)
def test_images_beyond_the_first_block_are_corrupted_too(kind, monkeypatch):
    monkeypatch.setattr(variants, "BLOCK", 10)
    original = photographs()
    assert (distances(data.corrupt(original, kind, 5), original) > 100).all()


def grey(value=100, count=200, channels=3):
    pixels = torch.full((count, channels, 32, 32), value, dtype=torch.uint8)
    labels = torch.zeros(count, dtype=torch.int64)
    return data.ImageSet(pixels, labels, torch.arange(count), ("grey",), "grey")


@pytest.mark.parametrize("severity", [1, 5])
def test_noise_has_the_stated_strength(severity):
    noisy = data.corrupt(grey(128), "gaussian_noise", severity).images.double()
    assert noisy.std().item() / 255 == pytest.approx((0.04, 0.10)[severity == 5], rel=0.02)
    assert noisy.mean().item() == pytest.approx(128, abs=0.2)
    struck = data.corrupt(grey(128), "impulse_noise", severity).images
    share = (0.01, 0.07)[severity == 5]
    assert (struck == 0).double().mean().item() == pytest.approx(share / 2, rel=0.1)
    assert (struck == 255).double().mean().item() == pytest.approx(share / 2, rel=0.1)
    assert ((struck == 128) | (struck == 0) | (struck == 255)).all()


def test_blur_spreads_a_point_as_a_gaussian_and_keeps_its_light():
    pixels = torch.zeros(1, 1, 33, 33, dtype=torch.uint8)
    pixels[0, 0, 16, 16] = 255
    point = data.ImageSet(pixels, torch.tensor([0]), torch.tensor([0]), ("point",), "point")
    blurred = data.corrupt(point, "blur", 5).images[0, 0].double() / 255
    offsets = torch.arange(-16.0, 17, dtype=torch.float64)
    gaussian = torch.exp(-(offsets[:, None] ** 2 + offsets**2) / 2) / (2 * np.pi)
    assert (blurred - gaussian).abs().max() < 0.003


def test_contrast_scales_differences_about_the_mean():
    original = photographs()
    weak = data.corrupt(original, "contrast", 5).images.double()
    assert (weak.std((1, 2, 3)) / original.images.double().std((1, 2, 3)) - 0.15).abs().max() < 0.03


@pytest.mark.parametrize("severity", range(1, 6))
def test_occlusion_covers_one_square_anywhere(severity):
    half = grey()
    half.images[:, :, :, 16:] = 200
    covered = data.corrupt(half, "occlusion", severity).images
    square = (covered == 150).all(1)  # the mean colour
    side = 8 + 4 * (severity - 1)
    assert (square.sum((1, 2)) == side**2).all()
    for axis in (1, 2):
        lines = square.any(axis)
        assert (lines.sum(1) == side).all()
        places = lines.double().argmax(1)
        assert (places.min(), places.max()) == (0, 32 - side)
        assert torch.equal(places + side - 1, 31 - lines.flip(1).double().argmax(1))


@pytest.mark.parametrize(
    ("kind", "severity", "message"),
    [
        ("fog", 1, "kind must be one of 'gaussian_noise', 'impulse_noise', .* got 'fog'"),
        ("blur", 0, r"severity must be an integer ≥ 1 and ≤ 5, got 0"),
        ("blur", 6, r"severity must be an integer ≥ 1 and ≤ 5, got 6"),
        ("blur", 1.0, r"severity must be an integer ≥ 1 and ≤ 5, got 1\.0"),
        ("blur", True, r"severity must be an integer ≥ 1 and ≤ 5, got True"),
    ],
)
def test_corrupt_refuses(kind, severity, message):
    with pytest.raises(ValueError, match=message):
        data.corrupt(grey(), kind, severity)


def test_corrupt_refuses_images_that_torchvision_cannot_change():
    with pytest.raises(ValueError, match=r"1 or 3 channels and at least 5x5 pixels, got shape \(6, 3, 4, 5\)"):
        data.corrupt(image_set(), "blur", 1)
    with pytest.raises(ValueError, match=r"got shape \(200, 2, 32, 32\)"):
        data.corrupt(grey(channels=2), "blur", 1)
