"""Checkpoints through kills, full disks, damage and hostile files."""

import errno
import hashlib
import io
import os
import pickle
import stat
import subprocess
import sys
import textwrap
import types
from pathlib import Path

import pytest
import torch

from normlib._utils import files
from normlib._utils.files import replace_file
from normlib.training.checkpoints import Checkpoints, differences

POSIX = pytest.mark.skipif(os.name == "nt", reason="signals and limits of POSIX")


def state(step, size=5000):
    return {"step": step, "weights": {"a": torch.full((size,), float(step))}, "note": [None, "é", (1, 2.5)]}


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def assert_is(loaded, step):
    expected = state(step)
    assert torch.equal(loaded["weights"].pop("a"), expected["weights"].pop("a"))
    assert loaded == expected


@pytest.fixture
def checkpoints(tmp_path):
    """A folder with the checkpoints of steps 1 and 2."""
    made = Checkpoints(tmp_path / "run")
    for step in (1, 2):
        made.save(state(step), step)
    return made


# --- what is kept and what is read ---


def test_newest_checkpoint_comes_back_as_it_was_saved(tmp_path):
    checkpoints = Checkpoints(str(tmp_path / "new" / "folder"))
    assert (checkpoints.steps(), checkpoints.load()) == ([], None)
    assert not checkpoints.folder.exists()
    path = checkpoints.save(state(3), 3)
    assert path == tmp_path / "new" / "folder" / "step-00000003.pt"
    assert_is(checkpoints.load(), 3)
    checkpoints.save(state(3) | {"step": "again"}, 3)
    assert checkpoints.load()["step"] == "again"


@pytest.mark.parametrize("keep", [1, 2, 3])
def test_older_checkpoints_beyond_keep_are_removed(tmp_path, keep):
    checkpoints = Checkpoints(tmp_path, keep=keep)
    (tmp_path / "step-notes.pt").write_text("mine")
    steps = [0, 5, 99_999_999, 100_000_000, 2_000_000_000]  # more digits than names are padded to
    for count, step in enumerate(steps, start=1):
        checkpoints.save(state(step), step)
        assert checkpoints.steps() == steps[max(0, count - keep) : count]
        assert_is(checkpoints.load(), step)
    assert len(names(tmp_path)) == keep + 1
    assert (tmp_path / "step-notes.pt").read_text() == "mine"


def test_checkpoint_just_saved_stays_although_a_later_step_has_one(tmp_path):
    checkpoints = Checkpoints(tmp_path, keep=1)
    checkpoints.save(state(30), 30)
    damage(tmp_path / "step-00000030.pt")
    checkpoints.save(state(25), 25)
    assert checkpoints.steps() == [25, 30]
    with pytest.warns(UserWarning, match="step-00000030"):
        assert_is(checkpoints.load(), 25)
    checkpoints.save(state(35), 35)
    assert checkpoints.steps() == [35]


def test_arguments_out_of_range_are_named(tmp_path):
    for keep in (0, 1.5):
        with pytest.raises(ValueError, match=f"keep must be an integer ≥ 1, got {keep}"):
            Checkpoints(tmp_path, keep=keep)
    for step in (-1, 2.0):
        with pytest.raises(ValueError, match=f"step must be an integer ≥ 0, got {step}"):
            Checkpoints(tmp_path).save({}, step)


# --- damage ---


def damage(path):
    """Flip one bit in the middle of the tensor."""
    content = bytearray(path.read_bytes())
    step = int(path.stem.split("-")[1])
    content[content.index(state(step)["weights"]["a"].numpy().tobytes()) + 10_000] ^= 4
    path.write_bytes(content)


def test_flipped_bit_that_torch_reads_is_found(checkpoints):
    newest = checkpoints.folder / "step-00000002.pt"
    damage(newest)
    assert torch.load(newest)["weights"]["a"].unique().numel() == 2  # two values in a constant tensor
    with pytest.warns(UserWarning, match=r"went back to .*step-00000001\.pt.*\n.*step-00000002\.pt: its checksum"):
        assert_is(checkpoints.load(), 1)


def test_the_newest_is_the_one_that_is_loaded(checkpoints):
    assert checkpoints.newest() == 2
    damage(checkpoints.folder / "step-00000002.pt")
    assert checkpoints.newest() == 1
    damage(checkpoints.folder / "step-00000001.pt")
    assert checkpoints.newest() is None


@pytest.mark.parametrize("length", [0, 1, 1000, 20_000, -1])
def test_truncated_checkpoint_gives_way_to_the_one_before(checkpoints, length):
    newest = checkpoints.folder / "step-00000002.pt"
    newest.write_bytes(newest.read_bytes()[:length])
    with pytest.warns(UserWarning, match=r"step-00000002\.pt"):
        assert_is(checkpoints.load(), 1)
    assert checkpoints.steps() == [1, 2]


def test_no_flipped_bit_anywhere_goes_unnoticed(tmp_path):
    checkpoints = Checkpoints(tmp_path)
    path = checkpoints.save({"weights": torch.arange(7.0)}, 1)
    content = path.read_bytes()
    for position in range(0, len(content), 7):
        damaged = bytearray(content)
        damaged[position] ^= 1 << position % 8
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match="checksum"):
            checkpoints.load()


def test_if_all_are_damaged_the_error_names_them_and_nothing_is_deleted(checkpoints):
    for path in checkpoints.folder.iterdir():
        damage(path)
    before = {path: path.read_bytes() for path in checkpoints.folder.iterdir()}
    with pytest.raises(ValueError, match=r"(?s)no checkpoint can be read.*step-00000002\.pt.*step-00000001\.pt"):
        checkpoints.load()
    assert {path: path.read_bytes() for path in checkpoints.folder.iterdir()} == before


def test_checkpoint_without_checksum_counts_as_damaged(checkpoints):
    torch.save(state(3), checkpoints.folder / "step-00000003.pt")
    with pytest.warns(UserWarning, match=r"step-00000003\.pt: its checksum is wrong"):
        assert_is(checkpoints.load(), 2)


def test_checkpoint_that_cannot_be_read_gives_way_to_the_one_before(checkpoints):
    (checkpoints.folder / "step-00000003.pt").mkdir()
    with pytest.warns(UserWarning, match=r"directory: .*step-00000003\.pt"):
        assert_is(checkpoints.load(), 2)


@pytest.mark.parametrize(("raised", "told"), [(MemoryError("too large"), MemoryError), (RuntimeError("x"), ValueError)])
def test_a_whole_checkpoint_that_cannot_be_loaded_does_not_give_way(checkpoints, monkeypatch, raised, told):
    def load(*_, **__):
        raise raised

    monkeypatch.setattr(torch, "load", load)
    with pytest.raises(told, match=r"too large|step-00000002\.pt is as it was written, but cannot be loaded: x"):
        checkpoints.load()


def test_torch_reads_a_checkpoint_without_this_library(checkpoints):
    assert_is(torch.load(checkpoints.folder / "step-00000002.pt"), 2)


# --- code ---


class Malicious:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def as_archive(value, file):
    torch.save(value, file)


def as_bare_pickle(value, file):
    pickle.dump(value, file, protocol=2)


def as_old_format(value, file):
    torch.save(value, file, _use_new_zipfile_serialization=False)


@pytest.mark.parametrize("write", [as_archive, as_old_format, as_bare_pickle])
@pytest.mark.parametrize("sealed", [True, False])
def test_checkpoint_that_would_run_code_is_refused_and_not_run(tmp_path, write, sealed):
    trap, path = tmp_path / "executed", tmp_path / "step-00000003.pt"
    buffer = io.BytesIO()
    write({"step": Malicious(trap)}, buffer)
    digest = hashlib.sha256(buffer.getvalue()).digest() if sealed else b""
    path.write_bytes(buffer.getvalue() + digest)
    reason = "holds more than tensors .* could run code" if sealed else "checksum is wrong"
    with pytest.raises(ValueError, match=rf"step-00000003\.pt:? .*{reason}"):
        Checkpoints(tmp_path).load()
    assert not trap.exists()
    if write is not as_bare_pickle:
        torch.load(path, weights_only=False)
        assert trap.exists()  # so the trap was set


def test_code_is_refused_although_an_earlier_checkpoint_is_whole(checkpoints, tmp_path, monkeypatch):
    monkeypatch.setattr(torch.serialization, "get_unsafe_globals_in_checkpoint", lambda file: [])
    checkpoints.save({"step": Malicious(tmp_path / "executed")}, 3)
    with pytest.raises(ValueError, match="could run code"):
        checkpoints.load()
    assert not (tmp_path / "executed").exists()


def test_state_that_load_would_refuse_is_not_saved(checkpoints):
    before = names(checkpoints.folder)
    for value in (torch.nn.Linear(1, 1), types.SimpleNamespace(), Path("x")):
        with pytest.raises(ValueError, match=f"state must hold only tensors.* got .*{type(value).__name__}"):
            checkpoints.save({"value": [value]}, 3)
    assert names(checkpoints.folder) == before


# --- disks that refuse ---


def refuse(*_, **__):
    raise OSError(errno.ENOSPC, "No space left on device")


def half(path, content):
    with open(path, "wb") as file:
        file.write(content[: len(content) // 2])
    refuse()


@pytest.mark.parametrize(
    ("owner", "name", "failing"),
    [
        (torch, "save", refuse),
        (Path, "write_bytes", half),
        (os, "fsync", refuse),
        (os, "replace", refuse),
        (Path, "mkdir", refuse),
    ],
)
def test_full_disk_leaves_earlier_checkpoints_and_nothing_else(checkpoints, monkeypatch, owner, name, failing):
    before = {path: path.read_bytes() for path in checkpoints.folder.iterdir()}
    with monkeypatch.context() as patch:
        patch.setattr(owner, name, failing)
        with pytest.raises(OSError, match="No space left"):
            checkpoints.save(state(3), 3)
    assert {path: path.read_bytes() for path in checkpoints.folder.iterdir()} == before
    checkpoints.save(state(3), 3)
    assert_is(checkpoints.load(), 3)


@POSIX
def test_write_that_the_system_cuts_off_leaves_earlier_checkpoints(checkpoints):
    import resource

    before = names(checkpoints.folder)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, limits[1]))  # half of what a checkpoint needs
    try:
        with pytest.raises(OSError, match="File too large"):
            checkpoints.save(state(3), 3)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert names(checkpoints.folder) == before
    assert_is(checkpoints.load(), 2)


def test_older_checkpoints_are_removed_only_when_the_new_one_is_on_the_disk(checkpoints, monkeypatch):
    fsync, existing = os.fsync, []
    monkeypatch.setattr(os, "fsync", lambda fd: (fsync(fd), existing.append(checkpoints.steps())))
    checkpoints.save(state(3), 3)
    assert existing == [[1, 2], [1, 2, 3]] if os.name != "nt" else [[1, 2]]  # the file's, then the folder's
    assert checkpoints.steps() == [2, 3]


@POSIX
@pytest.mark.parametrize(("reason", "passes"), [(errno.EINVAL, True), (errno.ENOTSUP, True), (errno.EIO, False)])
def test_network_drives_that_flush_no_folders_hold_checkpoints(checkpoints, monkeypatch, reason, passes):
    fsync = os.fsync

    def flush_files_only(descriptor):
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(reason, os.strerror(reason))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", flush_files_only)
    if passes:
        checkpoints.save(state(3), 3)
    else:
        with pytest.raises(OSError, match="error"):
            checkpoints.save(state(3), 3)
    assert_is(checkpoints.load(), 3)


def test_folder_that_cannot_be_one_is_an_error(tmp_path):
    file = tmp_path / "file"
    file.write_text("x")
    with pytest.raises(NotADirectoryError, match="file is a file"):
        Checkpoints(file)
    with pytest.raises(OSError, match="file"):
        Checkpoints(file / "run").save(state(1), 1)
    assert file.read_text() == "x"


def test_read_only_folder_still_gives_its_checkpoints(checkpoints, monkeypatch):
    def read_only(path, *_, **__):
        raise OSError(errno.EROFS, "Read-only file system", str(path))

    for owner, name in ((Path, "write_bytes"), (Path, "unlink"), (os, "replace"), (Path, "mkdir")):
        monkeypatch.setattr(owner, name, read_only)
    assert_is(checkpoints.load(), 2)
    with pytest.raises(OSError, match="Read-only file system"):
        checkpoints.save(state(3), 3)
    assert checkpoints.steps() == [1, 2]


# --- kills ---

FORKED = """
    import os, random, signal, sys, time, traceback, warnings
    from pathlib import Path
    import torch
    from normlib.training.checkpoints import Checkpoints

    torch.set_num_threads(1)  # a fork takes along no threads

    def forked(run):
        "A child process, and the pipe through which it reports."
        reading, writing = os.pipe()
        child = os.fork()
        if child == 0:
            try:
                run(lambda step: os.write(writing, b"%d\\n" % step))
                os._exit(0)
            except BaseException:
                traceback.print_exc()
                os._exit(1)
        os.close(writing)
        return child, reading

    def wait(child, reading, expected):
        "What it reported before it ended as expected: by this signal, or by itself."
        status = os.waitpid(child, 0)[1]
        assert os.waitstatus_to_exitcode(status) == -expected, status
        with os.fdopen(reading) as lines:
            return [int(line) for line in lines]
"""

KILLS = """
    checkpoints = Checkpoints(sys.argv[1])

    def state(step):
        weights = torch.randn(50_000, generator=torch.Generator().manual_seed(step))
        return {"step": step, "weights": weights, "sum": weights.double().sum().item()}

    def save_without_end(report):
        for step in range(newest + 1, 10**6):
            checkpoints.save(state(step), step)
            report(step)

    def check(child, reading):
        "The newest step, which must be whole and no older than what was reported."
        reported = max(wait(child, reading, signal.SIGKILL), default=newest)
        with warnings.catch_warnings(action="error"):
            loaded = checkpoints.load()
        assert loaded["weights"].double().sum().item() == loaded["sum"]
        assert loaded["step"] in (reported, reported + 1), (loaded["step"], reported)
        return loaded["step"]

    # At moments drawn at random.
    random.seed(0)
    checkpoints.save(state(0), 0)
    newest = 0
    for _ in range(12):
        child, reading = forked(save_without_end)
        time.sleep(random.uniform(0.02, 0.2))
        os.kill(child, signal.SIGKILL)
        newest = check(child, reading)
    assert newest > 12, newest

    # Within each of the calls that make a save.
    def kill(*_, **__):
        os.kill(os.getpid(), signal.SIGKILL)

    def write_half(path, content):
        with open(path, "wb") as file:
            file.write(content[: len(content) // 2])
        kill()

    def kill_at(owner, name, replacement, call):
        original, calls = getattr(owner, name), []

        def patched(*arguments, **options):
            calls.append(arguments)
            return (replacement if len(calls) == call else original)(*arguments, **options)

        def run(report):
            setattr(owner, name, patched)
            save_without_end(report)

        return run

    points = [(Path, "unlink", kill), (os, "fsync", kill), (os, "replace", kill), (Path, "write_bytes", write_half)]
    for owner, name, replacement in points:
        for call in (1, 2, 3):
            newest = check(*forked(kill_at(owner, name, replacement, call)))

    assert len(list(checkpoints.folder.glob(".*"))) == 1, os.listdir(checkpoints.folder)
    checkpoints.save(state(newest + 1), newest + 1)
    assert checkpoints.steps() == [newest, newest + 1]
    assert len(list(checkpoints.folder.iterdir())) == 2, os.listdir(checkpoints.folder)
"""

RIVALS = """
    checkpoints = Checkpoints(sys.argv[1], keep=100)

    def save_every_second(first):
        def run(report):
            for step in range(first, 60, 2):
                for owned in (step, 1000):  # a file of one's own, and one that both write
                    checkpoints.save({"weights": torch.full((20_000,), float(owned))}, owned)
                report(step)

        return run

    children = [forked(save_every_second(first)) for first in (0, 1)]
    assert [wait(*child, 0) for child in children] == [[*range(0, 60, 2)], [*range(1, 60, 2)]]
"""


def run_script(script, folder):
    # Python warns of a fork beside threads; NumPy starts some.
    command = [sys.executable, "-W", "ignore::DeprecationWarning", "-c", textwrap.dedent(FORKED + script), str(folder)]
    result = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert (result.returncode, result.stderr) == (0, "")


@POSIX
def test_a_kill_at_any_moment_leaves_a_whole_checkpoint_and_the_next_save_cleans_up(tmp_path):
    run_script(KILLS, tmp_path)


@POSIX
def test_two_processes_that_save_at_the_same_time_do_not_spoil_each_other(tmp_path):
    run_script(RIVALS, tmp_path)
    checkpoints = Checkpoints(tmp_path)
    assert checkpoints.steps() == [*range(60), 1000]
    assert len(names(tmp_path)) == 61
    for step in checkpoints.steps():
        assert torch.load(tmp_path / f"step-{step:08d}.pt")["weights"].eq(step).all()


def abandoned(folder):
    """A temporary file of a process that was killed."""
    script = "import os, sys; open(sys.argv[1] % os.getpid(), 'w').write('half'); os.abort()"
    subprocess.run([sys.executable, "-S", "-c", script, str(folder / ".table.csv.%d.normlib-tmp")], check=False)
    (path,) = folder.glob(".table.csv.*")
    return path


@POSIX
def test_temporary_files_of_dead_processes_are_removed_and_no_others(tmp_path):
    dead = abandoned(tmp_path)
    running = tmp_path / f".table.csv.{os.getppid()}.normlib-tmp"
    earlier_life = tmp_path / f".table.csv.{os.getpid()}.normlib-tmp"  # numbers start again with a container
    others = tmp_path / ".hidden", tmp_path / ".x.1.tmp", tmp_path / ".table.csv.x.normlib-tmp"
    for path in (running, earlier_life, *others):
        path.write_text("x")
    replace_file(tmp_path / "other.csv", lambda path: path.write_text("a,b"))
    assert not dead.exists()
    assert not earlier_life.exists()
    assert names(tmp_path) == sorted(path.name for path in (running, *others, tmp_path / "other.csv"))


@POSIX
def test_process_of_another_user_counts_as_running(monkeypatch):
    def not_allowed(pid, signal):
        raise PermissionError

    monkeypatch.setattr(os, "kill", not_allowed)
    assert files._is_running(1)


# --- replace_file ---


def test_replace_file_keeps_the_old_content_whatever_write_raises(tmp_path):
    path = tmp_path / "table.csv"
    path.write_text("old")

    def interrupted(temporary):
        assert temporary.parent == tmp_path
        temporary.write_text("ne")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        replace_file(path, interrupted)
    assert (path.read_text(), names(tmp_path)) == ("old", ["table.csv"])
    replace_file(path, lambda temporary: temporary.write_text("new"))
    assert (path.read_text(), names(tmp_path)) == ("new", ["table.csv"])


def test_replace_file_serves_writers_of_other_libraries(tmp_path):
    import pandas as pd

    frame = pd.DataFrame({"loss": [1.0, 0.5]})
    replace_file(tmp_path / "history.parquet", frame.to_parquet)
    pd.testing.assert_frame_equal(pd.read_parquet(tmp_path / "history.parquet"), frame)
    assert names(tmp_path) == ["history.parquet"]


# --- differences ---


def test_differences_name_changed_missing_and_extra_settings_with_dots():
    saved = {"lr": 0.1, "optimizer": {"name": "sgd", "more": {"momentum": 0.9}}, "old": "x", "same": [1, None]}
    now = {"lr": 0.3, "optimizer": {"name": "lars", "more": {"momentum": 0.9}}, "new": None, "same": [1, None]}
    assert differences(saved, now) == [
        "lr: 0.1 in the run directory, 0.3 now",
        "optimizer.name: 'sgd' in the run directory, 'lars' now",
        "old: 'x' in the run directory, absent now",
        "new: absent in the run directory, None now",
    ]


def test_differences_say_where_each_value_stands():
    where = ("in process 0", "in 1")
    assert differences({"known": {"now": 1}}, {"known": {"now": 2}}, where) == ["known.now: 1 in process 0, 2 in 1"]


def test_equal_settings_have_no_differences():
    settings = {"a": 1, "b": {"c": [1, 2], "d": {}}}
    assert differences(settings, {"b": {"d": {}, "c": [1, 2]}, "a": 1.0}) == []


def test_differences_compare_a_mapping_with_a_value_as_wholes():
    assert differences({"a": {"b": 1}}, {"a": 2}) == ["a: {'b': 1} in the run directory, 2 now"]
