"""Files that are not what they should be: damaged bytes, hostile archives, disks that refuse, and nothing unpickled."""

import ast
import hashlib
import io
import json
import os
import re
import tarfile
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pooch
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from normcourse import claims
from normcourse.experiments.store import Store
from normlib import cli, data
from normlib._utils.files import read_json
from normlib.data import cifar10_files, human_label_files
from normlib.evaluation import samples
from normlib.training import run_dir
from normlib.training.checkpoints import Checkpoints
from normlib.training.recipes import RECIPES

ROOT = Path(__file__).parents[1]
SHORT = RECIPES["digits"].replace(epochs=1, warmup_epochs=0, batch_size=1024)


def damaged(content: bytes):
    """Strategy: the bytes cut off, some of them changed, or others in their place."""
    place = st.integers(0, len(content) - 1)
    cut = place.map(lambda end: content[:end])
    pieces = st.lists(st.tuples(place, st.binary(min_size=1, max_size=8)), min_size=1, max_size=4)
    return st.one_of(cut, pieces.map(lambda found: _changed(content, found)), st.binary(max_size=64))


def _changed(content: bytes, pieces) -> bytes:
    new = bytearray(content)
    for place, piece in pieces:
        new[place : place + len(piece)] = piece
    return bytes(new)


def refusal(call):
    """The error that a call ends in, of the two kinds that a reader may have; None if it ends well."""
    try:
        call()
    except (ValueError, OSError) as error:
        return error
    return None


def files_below(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if not path.is_dir()}


# --- label files ---


def saved(write, *arguments, **options) -> bytes:
    packed = io.BytesIO()
    write(packed, *arguments, **options)
    return packed.getvalue()


def torch_file(content, **options) -> bytes:
    return saved(lambda file: torch.save(content, file, **options))


def huge(shape, kind="<i8") -> bytes:
    """A file of NumPy that says it holds more than it does."""
    header = repr({"descr": kind, "fortran_order": False, "shape": shape}).encode()
    header += b" " * (-(len(header) + 11) % 64) + b"\n"
    return b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + bytes(80)


def archive(**members) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as made:
        for name, content in members.items():
            made.writestr(name, content)
    return packed.getvalue()


COUNTS = np.random.default_rng(0).multinomial(50, np.full(10, 0.1), size=20)
LABELS = {name: np.arange(20) % 10 for name in human_label_files.SETS}
ARRAYS = [saved(np.save, COUNTS), saved(np.savez, a=COUNTS), saved(np.savez_compressed, a=COUNTS)]


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(ARRAYS).flatmap(damaged))
def test_a_damaged_label_file_is_not_the_published_one(content):
    assert not human_label_files.is_published(content, human_label_files.CIFAR10H)


@pytest.mark.parametrize(
    "content",
    [
        huge((10**12,)),
        huge((10**18, 10**18)),
        huge((-1,)),
        huge((1,), "V10000000000"),
        huge((1,), [("a", "O")]),
        archive(**{"../a.npy": ARRAYS[0], "a.npy": b"x"}),
        archive(**{"a.txt": b"x"}),
    ],
)
def test_a_label_file_of_another_size_or_kind_is_not_the_published_one(content):
    assert not human_label_files.is_published(content, human_label_files.CIFAR10H)


@settings(max_examples=150, deadline=None)
@given(
    st.one_of(
        st.sampled_from([torch_file(LABELS), torch_file(LABELS, _use_new_zipfile_serialization=False)]).flatmap(
            damaged
        ),
        st.sampled_from([1, [], "x", [1, "x"], {}, 10**30, float("nan"), torch.ones(3).to_sparse()]).map(
            lambda value: torch_file(dict.fromkeys(human_label_files.SETS, value))
        ),
    )
)
def test_a_damaged_file_of_cifar10n_is_refused(tmp_path_factory, content):
    path = tmp_path_factory.getbasetemp() / "labels.pt"
    path.write_bytes(content)
    error = refusal(lambda: human_label_files.arrays(human_label_files.from_torch_file(path)))
    assert error is None or isinstance(error, OSError) or "it is no file of CIFAR-10N" in str(error)


@pytest.mark.parametrize("failing", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_a_download_of_labels_that_is_cut_off_leaves_nothing(tmp_path, monkeypatch, failing):
    def retrieve(address, known_hash, name, folder, **options):
        (tmp_path / name).write_bytes(b"downloaded")
        return str(tmp_path / name)

    def read(path):
        raise failing

    monkeypatch.setattr(pooch, "retrieve", retrieve)
    with pytest.raises((ConnectionError, KeyboardInterrupt)):
        human_label_files.fetch(replace(human_label_files.CIFAR10H, read=read), tmp_path)
    assert files_below(tmp_path) == set()


# --- archives of CIFAR-10 ---


def tar(files, mode="w", **member):
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode=mode) as made:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            for key, value in member.items():
                setattr(entry, key, value)
            made.addfile(entry, io.BytesIO(content))
    return packed.getvalue()


def parquet(image, label) -> bytes:
    return pd.DataFrame({"img": [image] * 2, "label": [label] * 2}).to_parquet()


BLOCK = bytes(2 * cifar10_files.RECORD_BYTES)
NAMES = [f"{cifar10_files.FOLDER}/{name}" for name in cifar10_files.FILES]
PNG = saved(lambda file: Image.new("RGB", (32, 32)).save(file, "PNG"))
TARS = [tar(dict.fromkeys(NAMES, BLOCK), mode) for mode in ("w", "w:gz", "w:xz", "w:bz2")]
LINKS = [
    tar(dict.fromkeys(NAMES, b""), type=kind, linkname=target)
    for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE, tarfile.DIRTYPE)
    for target in ("/etc/passwd", "../../evil", NAMES[0])
]
STRANGE_TARS = [
    tar({"../evil": BLOCK, "/evil": BLOCK, f"{cifar10_files.FOLDER}/../../evil": BLOCK}),
    tar(dict.fromkeys(NAMES, b"x")) + tar(dict.fromkeys(NAMES, b"y")),
    tar(dict.fromkeys(NAMES, b""), size=0)[:512].replace(b"00000000000", b"77777777777"),  # 8 GiB, it says
    *LINKS,
]
STRANGE_TABLES = [
    parquet({"bytes": PNG}, 300),
    parquet({"bytes": PNG}, None),
    parquet({"bytes": PNG}, "x"),
    parquet({"bytes": b"x"}, 1),
    parquet({"bytes": None}, 1),
    parquet({"path": "x"}, 1),
    parquet(None, 1),
    parquet("x", 1),
    pd.DataFrame({"a": [1]}).to_parquet(),
]


def fetched(folder: Path, packing: str, content: bytes) -> None:
    """Unpack what a mirror gave, whose checksum somebody recorded wrongly."""
    file = folder / "downloaded"
    file.write_bytes(content)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pooch, "retrieve", lambda *arguments, **options: str(file))
        patch.setattr(cifar10_files, "RECORDS_PER_FILE", 2)
        with pytest.raises((ValueError, OSError)):
            cifar10_files._fetch_from(
                cifar10_files.Mirror({"https://example.org/file": "0" * 64}, packing), folder / "data"
            )
    assert files_below(folder) == {"downloaded"}
    assert not (folder.parent / "evil").exists()


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(TARS).flatmap(damaged))
def test_a_damaged_archive_is_refused_and_leaves_nothing(tmp_path_factory, content):
    fetched(tmp_path_factory.mktemp("tar"), "tar", content)


@settings(max_examples=60, deadline=None)
@given(damaged(parquet({"bytes": PNG}, 1)))
def test_a_damaged_table_of_images_is_refused_and_leaves_nothing(tmp_path_factory, content):
    fetched(tmp_path_factory.mktemp("parquet"), "parquet", content)


@pytest.mark.parametrize(
    ("packing", "content"), [("tar", one) for one in STRANGE_TARS] + [("parquet", one) for one in STRANGE_TABLES]
)
def test_links_devices_names_outside_and_other_sizes_are_refused(tmp_path, packing, content):
    fetched(tmp_path, packing, content)


# --- images ---


@pytest.fixture(scope="module")
def encoded():
    pixels = Image.fromarray(np.random.default_rng(0).integers(0, 256, (12, 10, 3), dtype=np.uint8))
    return [saved(lambda file, kind=kind: pixels.save(file, kind)) for kind in ("PNG", "JPEG", "GIF", "BMP", "TIFF")]


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_a_damaged_image_is_read_or_named(tmp_path_factory, encoded, draw):
    content = draw.draw(st.sampled_from(encoded).flatmap(damaged))
    root = tmp_path_factory.getbasetemp() / "images"
    path = root / "a" / "1.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    error = refusal(lambda: data.image_folder(root, size=4))
    assert error is None or str(error).startswith(f"{path} cannot be read: ")


def test_pipes_and_links_to_nowhere_are_refused_and_not_waited_for(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "1.png").symlink_to(tmp_path / "none")
    with pytest.raises(ValueError, match=r"1\.png cannot be read: .*No such file"):
        data.image_folder(tmp_path)
    (tmp_path / "a" / "1.png").unlink()
    os.mkfifo(tmp_path / "a" / "1.png")
    with pytest.raises(ValueError, match=r"1\.png cannot be read: it is a device or a pipe"):
        data.image_folder(tmp_path)


def test_a_number_in_a_name_that_is_too_large_is_refused(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / f"{2**63}.png").write_bytes(PNG)
    with pytest.raises(ValueError, match=r"needs numbers up to 9223372036854775807; got .*\.png"):
        data.image_folder(tmp_path, index_from_name=True)


# --- checkpoints ---


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run directory and the state in its checkpoint."""
    folder = tmp_path_factory.mktemp("trained") / "run"
    run_dir.train(SHORT, folder, accelerator="cpu", knn=False, progress=False)
    return folder, Checkpoints(folder / "checkpoints").load()


def checkpoint(folder: Path) -> Path:
    (path,) = (folder / "checkpoints").iterdir()
    return path


def sealed(content: bytes) -> bytes:
    """With the checksum that a checkpoint ends in."""
    return content + hashlib.sha256(content).digest()


SMALL = [torch_file({"a": torch.ones(2)}), torch_file([1], _use_new_zipfile_serialization=False)]


@settings(max_examples=100, deadline=None)
@given(st.sampled_from(SMALL).flatmap(damaged).map(sealed))
def test_a_checkpoint_of_other_bytes_is_refused_though_its_checksum_is_right(tmp_path_factory, content):
    folder = tmp_path_factory.getbasetemp() / "sealed"
    folder.mkdir(exist_ok=True)
    (folder / "step-00000001.pt").write_bytes(content)
    error = refusal(lambda: Checkpoints(folder).load())
    assert error is None or "step-00000001.pt" in str(error)


KEYS = ["settings", "model", "optimizer", "tracker", "processes", "read", "metrics"]


@pytest.mark.parametrize("key", KEYS)
@pytest.mark.parametrize("other", [None, 5, [5]])
def test_a_checkpoint_without_a_part_or_with_another_is_named(trained, key, other):
    folder, state = trained
    path = checkpoint(folder)
    whole = path.read_bytes()
    changed_state = {name: other if name == key else value for name, value in state.items()}
    if other is None:
        del changed_state[key]
    path.write_bytes(sealed(torch_file(changed_state)))
    try:
        error = refusal(lambda: run_dir.train(SHORT, folder, accelerator="cpu", knn=False, progress=False))
        assert str(folder) in str(error)
        if key == "model":
            assert "of another model" in str(refusal(lambda: run_dir.load(folder)))
    finally:
        path.write_bytes(whole)


# --- records and other text ---

DEEP = "[" * 100_000
JOB = {"job": {}, "settings": {}, "other_training_settings": {}}  # the least that a finished job says of itself


@pytest.mark.parametrize("text", [b"", b"{", b"\xff", DEEP.encode(), b'{"a": }'])
def test_what_is_no_json_is_named(tmp_path, text):
    path = tmp_path / "settings.json"
    path.write_bytes(text)
    with pytest.raises(ValueError, match=r"settings\.json is not JSON: "):
        read_json(path)


@settings(max_examples=150, deadline=None)
@given(damaged(pd.DataFrame({"seed": [0, 1], "x": [1.0, 2.0], "kind": ["a", "b"]}).to_parquet()))
def test_a_damaged_table_is_read_or_named(tmp_path_factory, content):
    folder = tmp_path_factory.getbasetemp() / "damaged"
    folder.mkdir(exist_ok=True)
    (folder / "provenance.json").write_text(json.dumps({"jobs": [JOB]}))
    (folder / "numbers.parquet").write_bytes(content)
    error = refusal(lambda: Store(folder.parent).table("damaged", "numbers", ["seed", "x"]))
    assert error is None or "numbers.parquet cannot give the columns" in str(error)


@pytest.mark.parametrize("place", ["tiny", "tiny/jobs/only"])
@pytest.mark.parametrize(
    "text",
    [
        *("[]", "5", "null", '{"job": []}', '{"settings": 5}', '{"other_training_settings": ""}'),
        *('{"jobs": 5}', '{"jobs": [5]}', '{"jobs": [{"job": {}, "settings": 5}]}'),
    ],
)
def test_a_provenance_of_another_shape_is_named(tmp_path, place, text):
    (tmp_path / place).mkdir(parents=True)
    (tmp_path / place / "provenance.json").write_text(text)
    with pytest.raises(ValueError, match=r"provenance\.json is no provenance of a(n experiment| job)"):
        Store(tmp_path).entries("tiny")


LEDGER = (ROOT / "book" / "claims.yml").read_bytes()


@settings(max_examples=25, deadline=None)
@given(damaged(LEDGER[:3000]))
def test_a_damaged_ledger_is_read_or_named(tmp_path_factory, content):
    path = tmp_path_factory.getbasetemp() / "claims.yml"
    path.write_bytes(content)
    error = refusal(lambda: claims.ledger(path))
    assert error is None or "claims.yml" in str(error)


ENTRY = "id: a, statement: s, source: course"
PART = "says: n, record: laws, table: laws, value: value, expect: {above: 0}"


@pytest.mark.parametrize(
    "text",
    [
        *("", "[", DEEP, "- 1", "G: 5", "G: [5]", "5: []", "!!bool x", "!!timestamp x", "!!int ''", "a: 2001-99-99"),
        "!!python/object/apply:os.system ['true']",
        f"G: [{{{ENTRY}, 5: 6, x: 7, needs: x}}]",
        f"G: [{{{ENTRY}, parts: 5}}]",
        f"G: [{{{ENTRY}, chapter: 5, needs: x}}]",
        *(
            f"G: [{{{ENTRY}, parts: [{{{PART}, {key}: {value}}}]}}]"
            for key, value in [("where", 5), ("minus", []), ("over", []), ("interval", "[x]"), ("estimator", "[]")]
        ),
    ],
)
def test_a_ledger_of_another_shape_is_named(tmp_path, text):
    path = tmp_path / "claims.yml"
    path.write_text(text)
    with pytest.raises(ValueError, match=r"claims\.yml"):
        claims.ledger(path)


@pytest.mark.parametrize(
    ("column", "values"),
    [
        ("value", ["x", "y"]),
        ("value", [[1], [2]]),
        ("seed", [[0], [1]]),
        ("value", [b"a", b"b"]),
        ("seed", [{"a": 1}, {"a": 2}]),
    ],
)
def test_a_record_of_other_things_than_numbers_is_named(tmp_path, column, values):
    claim = claims.ledger()[0]
    part = replace(claim.parts[0], record="odd", table="odd", value="value", where={}, minus=None, over="seed")
    frame = pd.DataFrame({"seed": [0, 1], "value": [1.0, 2.0]}).assign(**{column: values})
    Store(tmp_path).write("odd", {"odd": frame}, JOB)
    with pytest.raises(ValueError, match=f"claim '{claim.id}': "):
        claims.judge(replace(claim, parts=(part,)), results=tmp_path)


# --- writing ---


def full(*arguments, **options):
    raise OSError(28, "No space left on device")


@pytest.mark.parametrize("owner", [os, Path])
def test_verdicts_that_cannot_be_written_leave_the_earlier_ones_and_nothing_else(tmp_path, monkeypatch, owner):
    path = tmp_path / "verdicts.json"
    path.write_text("{}")
    monkeypatch.setattr(owner, "replace" if owner is os else "write_text", full)
    with pytest.raises(OSError, match="No space"):
        claims.accept([], path)
    assert (path.read_bytes(), files_below(tmp_path)) == (b"{}", {"verdicts.json"})


@pytest.mark.parametrize(
    "command", ["evaluate {}", "train digits --out {} --set epochs=1 warmup_epochs=0 batch_size=1024"]
)
def test_tables_that_cannot_be_written_leave_the_earlier_ones_and_nothing_else(trained, monkeypatch, capsys, command):
    folder, _ = trained
    before = {name: (folder / name).read_bytes() for name in files_below(folder)}

    def half(frame, path, **options):
        Path(path).write_bytes(b"half")
        full()

    monkeypatch.setattr(pd.DataFrame, "to_parquet", half)
    monkeypatch.setattr(samples, "sample_table", lambda *arguments, **options: pd.DataFrame({"x": [1]}))
    assert cli.main([*command.format(folder).split(), "--accelerator", "cpu"]) == 2
    assert capsys.readouterr().err.endswith("normlib: [Errno 28] No space left on device\n")
    assert {name: (folder / name).read_bytes() for name in files_below(folder)} == before


def test_a_run_whose_recipe_cannot_be_written_leaves_no_file(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(OSError, match="No space"):
        run_dir.train(SHORT, tmp_path / "run", accelerator="cpu", knn=False, progress=False)
    assert files_below(tmp_path) == set()


def test_a_record_that_is_cut_off_while_it_changes_places_is_put_back(tmp_path, monkeypatch):
    store = Store(tmp_path)
    store.write("tiny", {"table": pd.DataFrame({"x": [1]})}, JOB | {"seconds": 1})
    before = files_below(tmp_path)
    rename = Path.rename

    def cut_off_afterwards(path, target):
        rename(path, target)
        if target.name == "old":
            raise KeyboardInterrupt

    monkeypatch.setattr(Path, "rename", cut_off_afterwards)
    with pytest.raises(KeyboardInterrupt):
        store.write("tiny", {"other": pd.DataFrame({"x": [2]})}, JOB | {"seconds": 2})
    assert files_below(tmp_path) == before == {"tiny/jobs/only/table.parquet", "tiny/jobs/only/provenance.json"}


# --- nothing is unpickled ---

PYTHON = [
    path
    for name in ("normlib", "normcourse", "grading", "tools", "book", "assignments", "benchmarks")
    for path in (ROOT / name).rglob("*.py")
]
RISKY_MODULES = {"pickle", "cPickle", "_pickle", "marshal", "shelve", "dill", "cloudpickle", "joblib", "jsonpickle"}
EXTRACTS = {"extractall", "extract", "unpack_archive"}


def dangers(path: Path):
    """What in a file could run the code of another, or write where an archive says."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = (
                {alias.name.split(".")[0] for alias in node.names} if isinstance(node, ast.Import) else {node.module}
            )
            if found := names & RISKY_MODULES:
                yield f"{path.name} imports {', '.join(found)}"
        if not isinstance(node, ast.Call):
            continue
        called = ast.unparse(node.func)
        options = {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}
        last = called.rpartition(".")[2]
        if called == "torch.load" and options.get("weights_only") != "True":
            yield f"{path.name} lets torch.load unpickle"
        if called in ("np.load", "numpy.load") and options.get("allow_pickle") != "False":
            yield f"{path.name} lets np.load unpickle"
        if called == "yaml.load" and "SafeLoader" not in options.get("Loader", ""):
            yield f"{path.name} lets YAML make objects"
        if last in {"read_pickle", "unsafe_load", "full_load", *EXTRACTS}:
            yield f"{path.name} calls {called}"


def test_no_code_unpickles_or_unpacks():
    assert len(PYTHON) > 100
    found = {one for path in PYTHON for one in dangers(path)}
    # Both import it for the error that torch's restricted unpickler raises.
    assert found == {"checkpoints.py imports pickle", "human_label_files.py imports pickle"}
    for name in ("training/checkpoints.py", "data/human_label_files.py"):
        code = (ROOT / "normlib" / name).read_text(encoding="utf-8")
        assert set(re.findall(r"\bpickle\.\w+", code)) == {"pickle.UnpicklingError"}


@pytest.mark.parametrize(
    "code",
    [
        *(
            "import pickle",
            "from joblib import load",
            "torch.load(f)",
            "torch.load(f, weights_only=False)",
            "np.load(f)",
        ),
        *("np.load(f, allow_pickle=True)", "yaml.load(f)", "yaml.load(f, Loader=yaml.Loader)", "yaml.unsafe_load(f)"),
        *("pd.read_pickle(f)", "tar.extractall()", "archive.extract(name)", "shutil.unpack_archive(f)"),
    ],
)
def test_what_unpickles_or_unpacks_is_found(tmp_path, code):
    (tmp_path / "code.py").write_text(code)
    assert len([*dangers(tmp_path / "code.py")]) == 1
