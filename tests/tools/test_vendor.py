"""The files that the site takes from npm: held to their checksums, fetched wholly or not at all."""

import importlib.util
import io
import json
import os
import shutil
import tarfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
spec = importlib.util.spec_from_file_location("vendor", ROOT / "tools" / "vendor.py")
vendor = importlib.util.module_from_spec(spec)
spec.loader.exec_module(vendor)


@pytest.fixture
def folder(tmp_path):
    return Path(shutil.copytree(vendor.FOLDER, tmp_path / "vendor"))


def archive(**files):
    """A package as npm packs it."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as members:
        for name, text in files.items():
            entry = tarfile.TarInfo(f"package/{name}")
            entry.size = len(text)
            members.addfile(entry, io.BytesIO(text.encode()))
    return buffer.getvalue()


def manifest(folder, **package):
    """A folder with a manifest of one package, which takes the file `a` as `b`."""
    folder.mkdir()
    files = {"b": {"from": "a", "sha256": ""}}
    entry = {"name": "p", "version": "1.0.0", "folder": "p", "integrity": "", "files": files, **package}
    (folder / vendor.MANIFEST).write_text(json.dumps({"packages": [entry]}))
    return folder


def test_the_vendored_files_are_as_recorded():
    assert vendor.differences(vendor.FOLDER) == []


def test_every_package_says_what_it_is_and_has_its_licence():
    for package in json.loads((vendor.FOLDER / vendor.MANIFEST).read_text())["packages"]:
        assert all(package[key] for key in ("name", "version", "licence", "source", "integrity"))
        assert any(name.startswith("LICENSE") for name in package["files"])


def test_a_changed_byte_a_missing_file_and_a_stray_one_are_found(folder):
    sun = folder / "icons" / "sun.svg"
    sun.write_bytes(sun.read_bytes().replace(b"361.5", b"361.6"))
    (folder / "icons" / "moon.svg").unlink()
    (folder / "icons" / "stray.svg").touch()
    assert vendor.differences(folder) == [
        "icons/moon.svg is missing",
        "icons/stray.svg is not in vendor.json",
        "icons/sun.svg was changed",
    ]


def test_refresh_replaces_the_folder_and_records_checksums(tmp_path, monkeypatch):
    folder = manifest(tmp_path / "vendor")
    (folder / "stray").touch()
    monkeypatch.setattr(vendor, "pack", lambda wanted, scratch: archive(a="text"))
    vendor.refresh(folder)
    assert vendor.differences(folder) == []
    assert (folder / "p" / "b").read_text() == "text"
    assert [path.name for path in tmp_path.iterdir()] == ["vendor"]


@pytest.mark.parametrize("moves", [1, 2])
def test_a_refresh_that_is_cut_off_between_its_two_moves_leaves_the_folder(tmp_path, monkeypatch, moves):
    """After the first move, and in place of the second."""
    folder = manifest(tmp_path / "vendor")
    before = (folder / vendor.MANIFEST).read_text()
    replace, made = os.replace, []

    def move(source, target):
        made.append(target)
        cut_off = len(made) == moves
        if not cut_off or moves == 1:
            replace(source, target)
        if cut_off:
            raise KeyboardInterrupt

    monkeypatch.setattr(vendor, "pack", lambda wanted, scratch: archive(a="text"))
    monkeypatch.setattr(os, "replace", move)
    with pytest.raises(KeyboardInterrupt):
        vendor.refresh(folder)
    assert (folder / vendor.MANIFEST).read_text() == before
    assert [path.name for path in tmp_path.iterdir()] == ["vendor"]


@pytest.mark.parametrize(
    ("package", "message"),
    [
        ({"integrity": "sha512-other"}, r"p@1\.0\.0 has the checksum sha512-.*, expected sha512-other"),
        ({"files": {"b": {"from": "c", "sha256": ""}}}, "p has no file 'c'"),
    ],
)
def test_another_archive_than_expected_changes_nothing(tmp_path, monkeypatch, package, message):
    folder = manifest(tmp_path / "vendor", **package)
    before = (folder / vendor.MANIFEST).read_text()
    monkeypatch.setattr(vendor, "pack", lambda wanted, scratch: archive(a="text"))
    with pytest.raises(vendor.VendorError, match=message):
        vendor.refresh(folder)
    assert [path.name for path in folder.iterdir()] == [vendor.MANIFEST]
    assert (folder / vendor.MANIFEST).read_text() == before
