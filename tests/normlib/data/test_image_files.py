"""Folders of images: one folder for each class, and the JPEG copy of CIFAR-10."""

import re
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from normlib import data
from normlib.data import cifar10_files

SHARED = Path(__file__).parents[3].parent / "shared" / "data"


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
