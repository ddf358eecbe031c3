"""Run directories: what they hold, that nothing in them is lost, and which calls are refused."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest
import torch
from filelock import FileLock
from lightning_fabric.loggers import tensorboard

from normlib import cli, data, evaluation
from normlib.augment import TwoViews
from normlib.training import recipes, run_dir
from normlib.training.checkpoints import Checkpoints
from normlib.training.recipes import Recipe

POSIX = pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")
SHORT = recipes.RECIPES["digits"].replace(epochs=5, warmup_epochs=1, batch_size=512, projector=(16, 8))
TABLES = ["steps.parquet", "epochs.parquet", "norms.parquet", "sessions.parquet"]


def train(folder, recipe=SHORT, **options):
    return run_dir.train(recipe, folder, **{"accelerator": "cpu", "progress": False} | options)


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def contents(folder):
    return {path: path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def same_weights(one, other):
    pairs = zip(one.state_dict().items(), other.state_dict().items(), strict=True)
    return all(a[0] == b[0] and torch.equal(a[1], b[1]) for a, b in pairs)


def on_draw(monkeypatch, event):
    """Call the event with the number of each batch of views, from 0, before they are drawn."""
    draw, count = TwoViews.__call__, iter(range(10**6))

    def drawn(self, images, generator=None):
        event(next(count))
        return draw(self, images, generator=generator)

    monkeypatch.setattr(TwoViews, "__call__", drawn)


def signal_at(step, number):
    return lambda drawn: signal.raise_signal(number) if drawn == step else None


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "made" / "by train"
    return folder, train(folder)


@pytest.fixture
def no_work(monkeypatch):
    """Whatever is refused now is refused before images are read."""

    def read(*names):
        pytest.fail("images were read")

    monkeypatch.setattr(recipes, "load_once", read)


# --- what a run leaves ---


def test_directory_holds_recipe_checkpoints_and_tables(finished):
    folder, trained = finished
    assert names(folder) == sorted(["checkpoints", "recipe.json", *TABLES])
    assert json.loads((folder / "recipe.json").read_text()) == json.loads(json.dumps(asdict(SHORT)))
    assert Checkpoints(folder / "checkpoints").steps() == [10]
    tables = {"steps": trained.history.steps, "epochs": trained.history.epochs, "norms": trained.norms}
    for name, table in tables.items():
        pd.testing.assert_frame_equal(pd.read_parquet(folder / f"{name}.parquet"), table, check_exact=True)
    assert trained.history.steps["step"].tolist() == list(range(10))
    assert set(trained.norms["layer"]) == set(SHORT.tracked_layers())
    assert set(trained.norms["step"]) == {0}  # every tenth


def test_metrics_come_after_epoch_0_powers_of_two_and_the_last(finished):
    epochs = finished[1].history.epochs
    assert epochs["epoch"].tolist() == [0, 1, 2, 3, 4, 5]
    assert epochs["epoch"][epochs["knn"].notna()].tolist() == [0, 1, 2, 4, 5]
    assert epochs["epoch"][epochs["pairs_per_second"].notna()].tolist() == [1, 2, 3, 4, 5]


def test_nearest_neighbours_are_those_of_the_weights_at_that_time(finished):
    epochs = finished[1].history.epochs.set_index("epoch")
    bank, test = data.digits("train"), data.digits("test")
    for epoch, model in {0: SHORT.build_model(), 5: finished[1].model}.items():
        (features, _), (queries, _) = (evaluation.embed(model, images) for images in (bank, test))
        right = evaluation.knn(features, bank.labels, queries, k=200) == test.labels
        assert epochs["knn"][epoch] == pytest.approx(right.double().mean().item(), abs=1e-12)
    assert epochs["knn"][0] != epochs["knn"][5]


def test_pairs_per_second_count_training_only(monkeypatch, tmp_path):
    now = [0.0]

    def pass_time(seconds):
        now[0] += seconds

    on_draw(monkeypatch, lambda drawn: pass_time(0.5 + drawn))  # steps of 0.5, 1.5, 2.5 and 3.5 seconds
    monkeypatch.setattr(time, "perf_counter", lambda: now[0])
    monkeypatch.setattr(run_dir, "_knn_accuracy", lambda *arguments: pass_time(1000) or 0.25)
    epochs = train(tmp_path, SHORT.replace(epochs=2)).history.epochs
    assert epochs["pairs_per_second"].tolist()[1:] == [1024 / 2, 1024 / 6]
    assert epochs["knn"].tolist() == [0.25, 0.25, 0.25]


def test_labelling_of_test_images_can_be_left_out(monkeypatch, tmp_path):
    monkeypatch.setattr(run_dir, "_knn_accuracy", None)
    epochs = train(tmp_path, SHORT.replace(epochs=2), knn=False).history.epochs
    assert epochs.columns.tolist() == ["epoch", "pairs_per_second"]
    assert epochs["epoch"].tolist() == [1, 2]


def test_load_gives_recipe_and_trained_weights(finished):
    folder, trained = finished
    recipe, model = run_dir.load(str(folder))
    assert recipe == SHORT
    assert not model.training
    assert same_weights(model, trained.model)
    assert not same_weights(model, SHORT.build_model())


def test_load_refuses(finished, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"nowhere holds no run"):
        run_dir.load(tmp_path / "nowhere")
    folder = copy_of(finished[0], tmp_path)
    (folder / "recipe.json").write_text(json.dumps(asdict(SHORT.replace(projector=(16, 4)))))
    with pytest.raises(ValueError, match=r"checkpoint in .* is of another model: "):
        run_dir.load(folder)
    for path in (folder / "checkpoints").iterdir():
        path.unlink()
    with pytest.raises(FileNotFoundError, match="holds no checkpoint yet"):
        run_dir.load(folder)


# --- stopping and going on ---


def test_finished_run_is_not_trained_again_and_gives_the_same(finished, monkeypatch):
    folder, trained = finished
    before = contents(folder)
    on_draw(monkeypatch, lambda drawn: pytest.fail("trained"))
    monkeypatch.setattr(run_dir, "_knn_accuracy", lambda *arguments: pytest.fail("evaluated"))
    again = train(folder)
    assert same_weights(again.model, trained.model)
    for one, other in (
        (again.norms, trained.norms),
        (again.history.steps, trained.history.steps),
        (again.history.epochs, trained.history.epochs),
    ):
        pd.testing.assert_frame_equal(one, other, check_exact=True)
    assert contents(folder) == before


@POSIX
@pytest.mark.usefixtures("usual_signals")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_command_that_is_asked_to_stop_says_how_to_go_on(number, finished, monkeypatch, tmp_path, capsys):
    """Exit code 130; given again it ends as the run that was not stopped, but for the epoch's speed."""
    monkeypatch.setenv("TQDM_DISABLE", "1")
    changes = ["epochs=5", "warmup_epochs=1", "batch_size=512", "projector=[16,8]"]
    words = ["train", "digits", "--out", str(tmp_path / "run"), "--accelerator", "cpu", "--set", *changes]
    with monkeypatch.context() as patch:
        on_draw(patch, signal_at(4, number))
        assert cli.main(words) == 130
    said = capsys.readouterr().err
    assert f"stopped after step 5 of 10; the checkpoint is in {tmp_path / 'run' / 'checkpoints'}" in said
    assert "Run the same call or command again to go on" in said
    assert names(tmp_path / "run") == ["checkpoints", "recipe.json"]
    assert cli.main(words) == 0
    whole, model = finished[1].history, run_dir.load(tmp_path / "run")[1]
    assert same_weights(model, finished[1].model)
    epochs = pd.read_parquet(tmp_path / "run" / "epochs.parquet")
    expected = whole.epochs[["epoch", "knn"]].dropna().reset_index(drop=True)
    pd.testing.assert_frame_equal(epochs[["epoch", "knn"]], expected, check_exact=True)  # epoch 3 had no speed either
    assert epochs["epoch"][epochs["pairs_per_second"].notna()].tolist() == [1, 2, 4, 5]
    assert names(tmp_path / "run") == names(finished[0])


@POSIX
@pytest.mark.usefixtures("usual_signals")
def test_process_that_gets_ctrl_c_ends_with_130(tmp_path):
    words = ["train", "digits", "--out", str(tmp_path), "--accelerator", "cpu", "--checkpoint-minutes", "0"]
    env = os.environ | {"PYTHONPATH": str(Path(__file__).resolve().parents[3])}
    process = subprocess.Popen(
        [sys.executable, "-m", "normlib", *words], env=env, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
    store = Checkpoints(tmp_path / "checkpoints")
    while process.poll() is None and not store.steps():
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    said = process.communicate(timeout=60)[1]
    assert process.returncode == 130, said
    assert re.search(r"stopped after step \d+ of 500; the checkpoint is in .*Run the same call or command", said)
    assert "Traceback" not in said
    assert f"step {store.steps()[-1]} of" in said


def test_run_killed_before_its_first_checkpoint_starts_again(finished, tmp_path):
    """Also where a part of its recipe is all that there is."""
    (tmp_path / ".recipe.json.999999999.normlib-tmp").write_text('{"data": "dig')
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(run_dir, "_knn_accuracy", lambda *arguments: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            train(tmp_path)
    assert names(tmp_path) == ["recipe.json"]
    assert same_weights(train(tmp_path).model, finished[1].model)
    assert names(tmp_path) == names(finished[0])


def test_full_disk_at_the_end_costs_only_the_tables(finished, monkeypatch, tmp_path):
    def full(*arguments, **options):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(pd.DataFrame, "to_parquet", full)
        with pytest.raises(OSError, match="No space left"):
            train(tmp_path)
    assert names(tmp_path) == ["checkpoints", "recipe.json"]
    on_draw(monkeypatch, lambda drawn: pytest.fail("trained"))
    train(tmp_path)
    assert names(tmp_path) == names(finished[0])


def test_checkpoint_minutes_are_passed_on(monkeypatch, tmp_path):
    saved = []
    save = Checkpoints.save
    monkeypatch.setattr(Checkpoints, "save", lambda self, state, step: saved.append(step) or save(self, state, step))
    recipe = SHORT.replace(epochs=2)
    train(tmp_path / "often", recipe, checkpoint_minutes=0, knn=False)
    train(tmp_path / "seldom", recipe, knn=False)
    assert saved == [1, 2, 3, 4, 4]


# --- refusals ---


def copy_of(folder, place):
    """A copy of a run directory, which a test may damage."""
    target = place / "copy"
    for path, content in contents(folder).items():
        (target / path.relative_to(folder)).parent.mkdir(parents=True, exist_ok=True)
        (target / path.relative_to(folder)).write_bytes(content)
    return target


@pytest.mark.usefixtures("no_work")
def test_directory_of_another_recipe_is_refused_with_the_differences(finished, tmp_path):
    folder = copy_of(finished[0], tmp_path)
    before = contents(folder)
    other = SHORT.replace(lr=0.2, cut=3, held_out=(1,))
    with pytest.raises(ValueError, match=r"holds a run of another recipe; name a new folder\. What differs:") as error:
        train(folder, other)
    lines = [line.strip() for line in str(error.value).splitlines()[1:]]
    assert lines == [
        "cut: 1.0 in the run directory, 3 now",
        "held_out: () in the run directory, (1,) now",
        "train.lr: 0.1 in the run directory, 0.2 now",
    ]
    assert contents(folder) == before


@pytest.mark.usefixtures("no_work")
@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", "7", "null", "{}", '{"train": 3}', '{"train": {"speed": 1}}', '{"train": {}, "net": 1}', "\xff"],
)
def test_damaged_recipe_is_refused(text, tmp_path):
    (tmp_path / "recipe.json").write_text(text, encoding="latin-1")
    with pytest.raises(ValueError, match=r"recipe\.json is not a recipe of this version: "):
        train(tmp_path)
    with pytest.raises(ValueError, match=r"recipe\.json is not a recipe of this version: "):
        run_dir.load(tmp_path)
    assert names(tmp_path) == ["recipe.json"]


@pytest.mark.usefixtures("no_work")
@pytest.mark.parametrize("name", ["notes.txt", ".hidden", "checkpoints", "steps.parquet", ".notes.1.normlib-tmp"])
def test_directory_with_other_files_is_refused(name, tmp_path):
    (tmp_path / name).write_text("mine")
    with pytest.raises(ValueError, match="is not empty and holds no run; name a new folder"):
        train(tmp_path)
    assert names(tmp_path) == [name]
    assert (tmp_path / name).read_text() == "mine"


@pytest.mark.usefixtures("no_work")
def test_directory_that_cannot_be_written_is_refused(monkeypatch, tmp_path):
    (tmp_path / "file").write_text("mine")
    for folder in (tmp_path / "file", tmp_path / "file" / "below" / "it"):
        with pytest.raises(NotADirectoryError, match=r"cannot be a folder, since .*file is a file; name another"):
            train(folder)
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path) != tmp_path)  # root may write everywhere
    with pytest.raises(PermissionError, match="is read-only or not yours; name another"):
        train(tmp_path / "new" / "run")
    assert names(tmp_path) == ["file"]


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="root may write everywhere")
def test_directory_of_somebody_else_is_refused(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(PermissionError, match="is read-only or not yours; name another"):
        train(tmp_path / "run")
    tmp_path.chmod(0o700)


@pytest.mark.usefixtures("no_work")
@pytest.mark.parametrize("accelerator", ["cuda", "gpu", "tpu", ""])
def test_device_that_is_not_there_is_refused(accelerator, monkeypatch, tmp_path):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    with pytest.raises(ValueError, match=f"accelerator='{accelerator}' is not available here; usable are auto, cpu"):
        train(tmp_path / "run", accelerator=accelerator)
    assert names(tmp_path) == []


@pytest.mark.usefixtures("no_work")
def test_tensorboard_that_is_not_installed_is_refused(monkeypatch, tmp_path):
    for name in ("_TENSORBOARD_AVAILABLE", "_TENSORBOARDX_AVAILABLE"):
        monkeypatch.setattr(tensorboard, name, False)
    with pytest.raises(ModuleNotFoundError, match=r"tensorboard.*pip install"):
        train(tmp_path / "run", tensorboard=True)
    assert names(tmp_path) == []


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"data": "mnist"}, "name must be one of 'digits', 'cifar10', 'cifar100', 'cifar10-jpeg', got 'mnist'"),
        ({"batch_size": 5000}, "images holds 1347 images, fewer than batch_size = 5000"),
        ({"held_out": (10,)}, r"classes must be an integer ≥ 0 and ≤ 9, got 10"),
        ({"largest": 10_000}, "ask for 10000 images of class 0"),
        ({"micro_batch_size": 100}, "micro_batch_size = 100 must divide the 512 images"),
        ({"precision": "8-bit"}, "8-bit"),
    ],
)
def test_settings_that_do_not_fit_are_refused_before_anything_is_written(changes, words, tmp_path):
    with pytest.raises(ValueError, match=words):
        train(tmp_path / "run", SHORT.replace(**changes))
    assert names(tmp_path) == []


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"track_every": 0}, "track_every must be an integer ≥ 1, got 0"),
        ({"checkpoint_minutes": -1}, "checkpoint_minutes must be a number ≥ 0, got -1"),
        ({"checkpoint_minutes": float("inf")}, "checkpoint_minutes must be a number ≥ 0, got inf"),
    ],
)
def test_arguments_out_of_range_are_refused_before_anything_is_written(options, words, tmp_path):
    with pytest.raises(ValueError, match=words):
        train(tmp_path / "run", **options)
    assert names(tmp_path) == []


def test_other_images_are_refused(finished, tmp_path):
    folder = copy_of(finished[0], tmp_path)
    before = contents(folder)
    images = data.digits("train").subset(torch.arange(1346, -1, -1))
    with pytest.raises(ValueError, match=r"holds checkpoints of another run.*\n.*data: 'sha256:"):
        train(folder, images=images)
    assert contents(folder) == before


@pytest.mark.parametrize(
    ("running", "words"),
    [(True, "another process is training in .*; wait for it"), (False, "holds a run of another recipe; name a new")],
)
def test_folder_that_another_run_takes_meanwhile_is_left_to_it(running, words, monkeypatch, tmp_path):
    """It begins between the look into the folder and the first step here."""
    folder, fit, others = tmp_path / "run", run_dir.fit, FileLock(tmp_path / "run" / run_dir.LOCK)

    def begin(*arguments, **options):
        folder.mkdir()
        if running:
            others.acquire()
        (folder / "recipe.json").write_text(json.dumps(asdict(SHORT)))
        return fit(*arguments, **options)

    monkeypatch.setattr(run_dir, "fit", begin)
    with pytest.raises(ValueError, match=words):
        train(folder, SHORT.replace(lr=0.2))
    assert json.loads((folder / "recipe.json").read_text())["train"]["lr"] == SHORT.train.lr
    assert names(folder) == ([run_dir.LOCK] if running else []) + ["recipe.json"]
    others.release()


@pytest.mark.parametrize(("speed", "takes"), [(86, "0.26"), (0.0187, "1200")])
def test_a_budget_below_one_epoch_is_refused_with_what_that_takes(speed, takes, monkeypatch, tmp_path):
    monkeypatch.setattr(run_dir, "pairs_per_second", lambda *arguments: speed)
    with pytest.raises(ValueError, match=rf"one epoch takes {takes} minutes here, more than minutes = 0\.2; use a GPU"):
        run_dir.fit_to_budget(SHORT, 0.2, tmp_path / "new", accelerator="cpu")


def test_tables_are_written_while_the_folder_is_held(monkeypatch, tmp_path):
    replace, held = run_dir.replace_file, {}

    def seen(path, write):
        held[path.name] = (path.parent / run_dir.LOCK).exists()
        replace(path, write)

    monkeypatch.setattr(run_dir, "replace_file", seen)
    train(tmp_path / "run", SHORT.replace(epochs=1, warmup_epochs=0), knn=False)
    assert held == dict.fromkeys([*TABLES, "recipe.json"], True)
    assert run_dir.LOCK not in names(tmp_path / "run")


def test_windows_keeps_the_lock_file_and_the_folder_can_be_trained_in_again(monkeypatch, tmp_path):
    monkeypatch.setattr(run_dir, "os", SimpleNamespace(name="nt"))
    recipe = SHORT.replace(epochs=1, warmup_epochs=0)
    first = train(tmp_path, recipe, knn=False)
    assert run_dir.LOCK in names(tmp_path)
    assert same_weights(train(tmp_path, recipe, knn=False).model, first.model)


def test_two_processes_do_not_train_in_one_folder(finished, tmp_path):
    folder = copy_of(finished[0], tmp_path)
    with FileLock(folder / run_dir.LOCK), pytest.raises(ValueError, match=r"another process is training in .*; wait"):
        train(folder)


def test_recipe_with_lists_goes_on_as_the_same(tmp_path):
    """``--set held_out=[0,1]`` is a list each time; recipe.json has no tuples."""
    recipe = Recipe(**{each: getattr(SHORT, each) for each in ("data", "network")}, projector=[16, 8], held_out=[0, 1])
    recipe = recipe.replace(epochs=1, warmup_epochs=0)
    first = train(tmp_path, recipe, knn=False)
    assert same_weights(train(tmp_path, recipe, knn=False).model, first.model)


def test_tensorboard_gets_each_step_and_each_evaluation(tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    trained = train(tmp_path / "run", tensorboard=True)
    events = EventAccumulator(str(tmp_path / "run" / "tensorboard")).Reload()
    steps, epochs = trained.history.steps, trained.history.epochs
    for name in ("loss", "norm", "lr"):
        assert [event.step for event in events.Scalars(name)] == steps["step"].tolist()
        assert [event.value for event in events.Scalars(name)] == pytest.approx(steps[name].tolist(), rel=1e-6)
    assert [event.value for event in events.Scalars("knn")] == pytest.approx(epochs["knn"].dropna().tolist(), rel=1e-6)
