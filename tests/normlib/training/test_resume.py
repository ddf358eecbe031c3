"""A run that was stopped, killed or cut off ends as the one that was not: bit for bit on a CPU."""

import errno
import os
import random
import re
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from types import FunctionType

import lightning_fabric
import pandas as pd
import pytest
import torch
from lightning_fabric.plugins import MixedPrecision
from torch import nn

from normlib import cli, data
from normlib.augment import TwoViews
from normlib.models import SimCLR, digits_encoder, projection_head
from normlib.tracking import NormTracker
from normlib.training import Stopped, TrainConfig, checkpoints, fit, recipes, run_dir
from normlib.training.checkpoints import Checkpoints

KILLS = int(os.environ.get("NORMLIB_KILLS", 3))  # NORMLIB_KILLS=20 python -m pytest tests/test_resume.py -k killed_runs
IMAGES = data.digits("train").subset(torch.arange(192))
SETTINGS = {"epochs": 3, "batch_size": 64, "warmup_epochs": 1, "lr": 0.1, "weight_decay": 0.01}
STEPS = 9
POSIX = pytest.mark.skipif(os.name == "nt", reason="signals and limits of POSIX")


class CutError(Exception):
    """Stands for whatever ends a process."""


class CutViews:
    """Two random views, until ``event`` happens in place of those for step ``at``, as counted in this process."""

    def __init__(self, at=None, event=None):
        self.left, self.event, self.views = at, event, TwoViews.digits()

    def __call__(self, images, generator=None):
        if self.left == 0:
            self.event()
        self.left = None if self.left is None else self.left - 1
        return self.views(images, generator=generator)


def cut():
    raise CutError


def small_model(*extra, seed=0, **options):
    backbone = nn.Sequential(digits_encoder(4, 16, seed=seed), *extra)
    return SimCLR(backbone, projection_head(16, 16, 8, seed=seed), **options)


def run(folder, model=None, *, at=None, event=cut, epoch=None, tracker=None, minutes=0, images=IMAGES, **settings):
    """Train until the end, or until the event in place of a step, or the end of an epoch, of this process."""
    model = small_model() if model is None else model
    tracker = NormTracker(model, per_class=True, gradients=True, every=2) if tracker is None else tracker

    def on_epoch(done):
        if done == epoch:
            event()
        return {"weight": model.projector[2].weight.detach().norm(), "drawn": torch.rand(())}

    with tracker:
        history = fit(
            model, images, TrainConfig(**SETTINGS | settings), augment=CutViews(at, event), on_epoch=on_epoch,
            tracker=tracker, checkpoints=folder, checkpoint_minutes=minutes, accelerator="cpu", progress=False,
        )  # fmt: skip
    return history, tracker.to_frame()


def cut_off(folder, *arguments, **options):
    with pytest.raises(CutError):
        run(folder, *arguments, **options)


def final_state(folder):
    """All of the last checkpoint but the tracker's part, which is grouped by times of writing, and the sessions."""
    state = Checkpoints(folder).load()
    return {name: part for name, part in state.items() if name not in ("tracker", "sessions")}


def assert_identical(one, other, place="state"):
    assert type(one) is type(other), place
    if isinstance(one, torch.Tensor):
        assert one.dtype == other.dtype, place
        assert torch.equal(one, other), place
    elif isinstance(one, dict):
        assert one.keys() == other.keys(), place
        for name in one:
            assert_identical(one[name], other[name], f"{place}[{name!r}]")
    elif isinstance(one, list | tuple):
        assert len(one) == len(other), place
        for i, pair in enumerate(zip(one, other, strict=True)):
            assert_identical(*pair, f"{place}[{i}]")
    else:
        assert one == other, place


def assert_same_end(outcome, folder, reference, reference_folder):
    (history, norms), (expected, expected_norms) = outcome, reference
    pd.testing.assert_frame_equal(history.steps, expected.steps, check_exact=True)
    pd.testing.assert_frame_equal(history.epochs, expected.epochs, check_exact=True)
    pd.testing.assert_frame_equal(norms, expected_norms, check_exact=True)
    assert_identical(final_state(folder), final_state(reference_folder))


def test_each_time_that_a_run_is_taken_up_is_a_session(tmp_path):
    cut_off(tmp_path, at=2)
    cut_off(tmp_path, at=3)
    history, _ = run(tmp_path)
    sessions = history.sessions
    assert sessions["step"].tolist() == [0, 2, 5]
    assert sessions["precision"].unique().tolist() == ["32-true"]
    assert sessions["torch"].unique().tolist() == [torch.__version__]
    assert sessions["threads"].tolist() == [torch.get_num_threads()] * 3
    assert (sessions["seconds"] >= 0).all()
    assert sessions["device"].str.contains(torch.backends.cpu.get_cpu_capability()).all()


def test_a_run_goes_on_in_the_precision_of_another_processor(tmp_path, monkeypatch):
    """Begun where bfloat16 is in hardware, taken up where it is not: the processor is asked, not the checkpoint."""
    capabilities = {"avx512_bf16": True}
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities)
    cut_off(tmp_path, at=4, precision="auto")
    capabilities["avx512_bf16"] = False
    history, _ = run(tmp_path, precision="auto")
    assert history.sessions["precision"].tolist() == ["bf16-mixed", "32-true"]
    assert history.sessions["step"].tolist() == [0, 4]
    assert len(history.steps) == STEPS


CASES = {
    "sgd": ({}, small_model),
    "nesterov": ({"nesterov": True}, small_model),
    "lars": ({"optimizer": "lars"}, small_model),
    "adamw": ({"optimizer": "adamw", "lr": 0.01}, small_model),
    "dropout": ({}, lambda **seed: small_model(nn.Dropout(0.3), **seed)),
    "BatchNorm": ({}, lambda **seed: small_model(nn.BatchNorm1d(16), **seed)),
    "bf16-mixed": ({"precision": "bf16-mixed"}, small_model),
    "GradScale": ({}, lambda **seed: small_model(grad_scale_power=1.0, **seed)),
    "micro-batches": ({"micro_batch_size": 16}, lambda **seed: small_model(nn.BatchNorm1d(16), **seed)),
    "channels last": ({"channels_last": True, "optimizer": "lars"}, small_model),
    "loss scale": ({"precision": "16-mixed"}, small_model),
}


@pytest.fixture
def loss_scale(monkeypatch):
    """On the CPU, Fabric turns 16-mixed into bfloat16; this Fabric scales the loss as it does on a GPU."""
    fabric = lightning_fabric.Fabric

    def scaling(precision, **options):
        if precision != "16-mixed":
            return fabric(precision=precision, **options)
        scaler = torch.amp.GradScaler("cpu", init_scale=1024.0, growth_interval=2)
        return fabric(plugins=[MixedPrecision("16-mixed", "cpu", scaler=scaler)], **options)

    monkeypatch.setattr(lightning_fabric, "Fabric", scaling)


@pytest.mark.usefixtures("loss_scale")
@pytest.mark.parametrize("name", CASES)
def test_run_cut_off_after_each_step_ends_as_one_that_was_not(name, tmp_path):
    """Before the first step, inside epochs and at their ends; what it goes on with are other weights and numbers."""
    settings, model = CASES[name]
    torch.manual_seed(1)
    reference = run(tmp_path / "whole", model(), minutes=1e6, **settings)
    torch.manual_seed(1)
    cut_off(tmp_path / "parts", model(), at=0, **settings)
    assert not (tmp_path / "parts").exists()
    torch.manual_seed(1)
    for step in range(1, STEPS):
        cut_off(tmp_path / "parts", model(seed=0 if step == 1 else step), at=1, **settings)
        assert Checkpoints(tmp_path / "parts").steps()[-1] == step
        torch.manual_seed(100 + step)
    outcome = run(tmp_path / "parts", model(seed=100), **settings)
    assert_same_end(outcome, tmp_path / "parts", reference, tmp_path / "whole")
    if name == "loss scale":
        assert final_state(tmp_path / "parts")["scaler"]["scale"] > 1024


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    torch.manual_seed(1)
    return run(folder, minutes=1e6), folder


@pytest.mark.parametrize("epoch", [0, 1, 3])
def test_run_cut_off_while_it_evaluates(epoch, whole, tmp_path):
    """The step before is not saved yet: it is made again."""
    torch.manual_seed(1)
    cut_off(tmp_path, epoch=epoch)
    assert Checkpoints(tmp_path).steps()[-1:] == ([3 * epoch - 1] if epoch else [])
    if epoch == 0:
        torch.manual_seed(1)
    assert_same_end(run(tmp_path), tmp_path, *whole)


def test_steps_after_the_last_checkpoint_are_made_again(whole, tmp_path):
    torch.manual_seed(1)
    cut_off(tmp_path, at=7)
    (tmp_path / "step-00000007.pt").unlink()
    assert_same_end(run(tmp_path), tmp_path, *whole)


def test_damaged_checkpoint_costs_only_its_own_steps(whole, tmp_path):
    torch.manual_seed(1)
    cut_off(tmp_path, at=5)
    os.truncate(tmp_path / "step-00000005.pt", 5000)
    with pytest.warns(UserWarning, match=r"went back to .*step-00000004"):
        assert_same_end(run(tmp_path), tmp_path, *whole)


def test_going_on_with_the_same_objects_as_in_a_notebook(whole, tmp_path):
    model = small_model()
    tracker = NormTracker(model, per_class=True, gradients=True, every=2)
    torch.manual_seed(1)
    for _ in range(4):
        cut_off(tmp_path, model, at=2, tracker=tracker)
    assert_same_end(run(tmp_path, model, tracker=tracker), tmp_path, *whole)


def test_finished_run_trains_nothing_and_returns_the_same(whole, tmp_path):
    torch.manual_seed(1)
    run(tmp_path)
    files = {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    assert_same_end(run(tmp_path, at=0, epoch=3), tmp_path, *whole)  # cut() would be met
    assert {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()} == files


def test_checkpoints_come_at_their_times_and_at_the_end(monkeypatch, tmp_path):
    saved, clock = [], iter(range(0, 10_000, 15))  # each look at the clock is 15 s after the one before
    monkeypatch.setattr(time, "monotonic", lambda: float(next(clock)))
    monkeypatch.setattr(Checkpoints, "save", lambda self, state, step: saved.append(step))
    run(tmp_path, minutes=0.5)
    assert saved == [2, 4, 6, 8, 9]


def test_run_goes_on_on_another_kind_of_device(whole, tmp_path):
    """What only a GPU has is passed over: its generator, and the loss scale, which bfloat16 on a CPU does not need."""
    torch.manual_seed(1)
    cut_off(tmp_path, at=4)
    store = Checkpoints(tmp_path)
    state = store.load()
    state["processes"][0]["rng"]["cuda"] = torch.zeros(16, dtype=torch.uint8)
    state["scaler"] = torch.amp.GradScaler("cpu").state_dict()
    store.save(state, 4)
    history, _ = run(tmp_path)
    pd.testing.assert_frame_equal(history.steps, whole[0][0].steps, check_exact=True)


def test_numbers_of_numpy_in_settings_can_be_saved(tmp_path):
    """Sweeps over ``np.linspace``: a checkpoint holds plain numbers only."""
    numpy = pytest.importorskip("numpy")
    settings = {"lr": numpy.float64(0.1), "weight_decay": numpy.float32(0.01), "epochs": numpy.int64(1)}
    cut_off(tmp_path, at=2, warmup_epochs=0, **settings)
    assert len(run(tmp_path, warmup_epochs=0, **settings)[0].steps) == 3


# --- killed processes ---


def kill_and_go_on(folder, recipe_words, kills, steps, seed=0):
    """Kill -9 the command at random steps, and somewhere within them; then let it end."""
    generator = random.Random(seed)
    words = ["train", *recipe_words, "--out", str(folder), "--accelerator", "cpu", "--checkpoint-minutes", "0"]
    env = os.environ | {"OMP_NUM_THREADS": str(torch.get_num_threads()), "TQDM_DISABLE": "1"}
    env["PYTHONPATH"] = str(Path(__file__).resolve().parents[3])
    store, codes = Checkpoints(folder / "checkpoints"), []
    for target in sorted(generator.sample(range(1, steps - 2), kills)):
        command = [sys.executable, "-m", "normlib", *words]
        process = subprocess.Popen(command, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        while process.poll() is None and not store.steps()[-1:] >= [target]:
            time.sleep(0.002)
        time.sleep(generator.uniform(0, 0.1))
        process.kill()
        error = process.communicate()[1]
        assert process.returncode in (0, -signal.SIGKILL), error.decode()
        codes.append(process.returncode)
    assert cli.main(words) == 0
    return codes


@POSIX
def test_killed_runs_end_as_one_that_was_not(monkeypatch, tmp_path):
    monkeypatch.setenv("TQDM_DISABLE", "1")
    changes = {"epochs": 2 * KILLS, "warmup_epochs": 1}
    recipe = recipes.RECIPES["digits"].replace(**changes)
    words = ["digits", "--set", *(f"{name}={value}" for name, value in changes.items())]
    codes = kill_and_go_on(tmp_path / "killed", words, KILLS, steps=10 * KILLS)
    assert codes[0] == -signal.SIGKILL
    whole = run_dir.train(recipe, tmp_path / "whole", accelerator="cpu", progress=False)
    saved, model = run_dir.load(tmp_path / "killed")
    assert saved == recipe
    assert_identical(dict(model.state_dict()), dict(whole.model.state_dict()))
    assert_identical(*(final_state(tmp_path / name / "checkpoints") | {"metrics": 0} for name in ("killed", "whole")))
    for name in ("steps", "norms"):
        killed, expected = (pd.read_parquet(tmp_path / run / f"{name}.parquet") for run in ("killed", "whole"))
        pd.testing.assert_frame_equal(killed, expected, check_exact=True)
    epochs = pd.read_parquet(tmp_path / "killed" / "epochs.parquet")
    expected = whole.history.epochs.dropna(subset="knn")
    pd.testing.assert_frame_equal(epochs[expected.columns[:2]].dropna().reset_index(drop=True),
                                  expected[expected.columns[:2]].reset_index(drop=True), check_exact=True)  # fmt: skip
    assert not list((tmp_path / "killed").rglob(".*"))


# --- Ctrl-C ---


@POSIX
@pytest.mark.usefixtures("usual_signals")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_request_to_stop_is_met_after_the_step_with_a_checkpoint(number, whole, tmp_path):
    before = [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)]
    torch.manual_seed(1)
    with pytest.raises(Stopped) as stop:
        run(tmp_path, at=4, event=lambda: signal.raise_signal(number), minutes=1e6)
    assert str(stop.value) == (
        f"stopped after step 5 of 9; the checkpoint is in {tmp_path}. Run the same call or command again to go on"
    )
    assert Checkpoints(tmp_path).steps() == [5]
    assert [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)] == before
    assert_same_end(run(tmp_path, minutes=1e6), tmp_path, *whole)


@POSIX
@pytest.mark.usefixtures("usual_signals")
@pytest.mark.parametrize("first", [signal.SIGINT, signal.SIGTERM])
def test_second_ctrl_c_stops_at_once(first, tmp_path):
    def twice():
        signal.raise_signal(first)
        signal.raise_signal(signal.SIGINT)
        pytest.fail("went on after the second")

    with pytest.raises(KeyboardInterrupt) as stop:
        run(tmp_path, at=4, event=twice, minutes=1e6)
    assert stop.type is KeyboardInterrupt
    assert Checkpoints(tmp_path).steps() == []


@POSIX
@pytest.mark.usefixtures("usual_signals")
def test_request_in_the_last_step_lets_the_run_end(whole, tmp_path):
    torch.manual_seed(1)
    try:
        outcome = run(tmp_path, at=8, event=lambda: signal.raise_signal(signal.SIGINT), minutes=1e6)
    except Stopped as stop:  # else it would stop pytest
        pytest.fail(str(stop))
    assert_same_end(outcome, tmp_path, *whole)


@POSIX
@pytest.mark.usefixtures("usual_signals")
def test_without_checkpoints_ctrl_c_is_the_usual_one():
    def interrupt():
        signal.raise_signal(signal.SIGINT)
        pytest.fail("went on")

    with pytest.raises(KeyboardInterrupt) as stop:
        run(None, at=4, event=interrupt)
    assert stop.type is KeyboardInterrupt


@POSIX
@pytest.mark.usefixtures("usual_signals")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signal_that_is_ignored_stays_ignored(number, whole, tmp_path):
    """Such as Ctrl-C in a job that a script has started in the background."""
    signal.signal(number, signal.SIG_IGN)
    torch.manual_seed(1)
    try:
        outcome = run(tmp_path, at=4, event=lambda: signal.raise_signal(number), minutes=1e6)
    except Stopped as stop:  # else it would stop pytest
        pytest.fail(str(stop))
    assert signal.getsignal(number) is signal.SIG_IGN
    assert_same_end(outcome, tmp_path, *whole)


# --- full disks ---


@POSIX
def test_full_disk_stops_the_run_and_leaves_the_checkpoint_before(whole, tmp_path):
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    torch.manual_seed(1)
    try:
        with pytest.raises(OSError, match="checkpoint of step 5 could not be written, earlier ones are whole") as full:
            run(tmp_path, at=4, event=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, hard)))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert full.value.errno == errno.EFBIG
    assert full.value.filename == str(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step-00000003.pt", "step-00000004.pt"]
    assert_same_end(run(tmp_path), tmp_path, *whole)


def test_full_disk_is_named_as_such(monkeypatch, tmp_path):
    def full(path, content):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(checkpoints.Path, "write_bytes", full)
    with pytest.raises(OSError, match=r"No space left on device; .* Make room, then run the same") as error:
        run(tmp_path)
    assert error.value.errno == errno.ENOSPC
    assert list(tmp_path.iterdir()) == []


# --- refusals ---


@pytest.fixture(scope="module")
def half_done(tmp_path_factory):
    folder = tmp_path_factory.mktemp("half done")
    cut_off(folder, at=4)
    return folder


def other_model(width=8):
    """Without the nn.Sequential around the backbone, or with embeddings of another width."""
    backbone = digits_encoder(4, 16)
    return SimCLR(backbone if width == 8 else nn.Sequential(backbone), projection_head(16, 16, width))


OTHER_RUNS = {
    "config": (
        {"lr": 0.2, "optimizer": "lars"},
        r"config\.lr: 0\.1 in the run directory, 0\.2 now\n"
        r"  config\.optimizer: 'sgd' in the run directory, 'lars' now",
    ),
    "data": (
        {"images": data.digits("train").subset(torch.arange(1, 193))},
        r"data: 'sha256:\w+' in the run directory, 'sha256:",
    ),
    "model": (
        {"model": other_model()},
        r"weights\.backbone\.0\.0\.weight: '\(2, 1, 3, 3\)' in the run directory, absent now",
    ),
    "width": (
        {"model": other_model(6)},
        r"weights\.projector\.2\.weight: '\(8, 16\)' in the run directory, '\(6, 16\)' now",
    ),
    "same shapes": (
        {"model": small_model(seed=5, grad_scale_power=1.0)},
        r"network\.grad_scale: 'Identity\(\)' in the run directory, 'GradScale\(power=1\.0\)' now",
    ),
}


@pytest.mark.parametrize("name", OTHER_RUNS)
def test_checkpoint_of_another_run_is_refused(name, half_done):
    options, words = OTHER_RUNS[name]
    model = options.get("model") or small_model(seed=5)
    assert_refused(half_done, options | {"model": model}, words)


def test_checkpoint_of_another_augmentation_is_refused(tmp_path):
    config = TrainConfig(epochs=1, batch_size=512, warmup_epochs=0, lr=0.1)
    options = {"checkpoints": tmp_path, "accelerator": "cpu", "progress": False}
    fit(small_model(), data.digits("train"), config, augment=TwoViews.digits(), **options)
    other = TwoViews.digits(rotation=30.0)
    words = r"augment: 'TwoViews\(.*rotation=15\.0.*' in the run directory, 'TwoViews\(.*rotation=30\.0"
    with pytest.raises(ValueError, match=words):
        fit(small_model(), data.digits("train"), config, augment=other, **options)


def plain_views(images, generator=None):
    return images / 255, images / 255


def mirrored_views(images, generator=None, *, axis=3):
    return images / 255, (images / 255).flip(axis)


def test_checkpoint_of_another_function_is_refused(tmp_path):
    config = TrainConfig(epochs=1, batch_size=64, warmup_epochs=0, lr=0.1)
    options = {"checkpoints": tmp_path, "accelerator": "cpu", "progress": False}
    fit(small_model(), IMAGES, config, augment=partial(mirrored_views, axis=2), **options)
    fit(small_model(), IMAGES, config, augment=partial(mirrored_views, axis=2), **options)
    namesake = FunctionType(plain_views.__code__, globals(), "mirrored_views", plain_views.__defaults__)
    namesake.__module__, namesake.__qualname__ = "elsewhere", "mirrored_views"
    others = {f"{__name__}.mirrored_views(axis=3)": partial(mirrored_views, axis=3)}
    others |= {f"{__name__}.plain_views": plain_views, "elsewhere.mirrored_views(axis=2)": partial(namesake, axis=2)}
    for name, other in others.items():
        words = f"augment: '{__name__}.mirrored_views(axis=2)' in the run directory, '{name}' now"
        with pytest.raises(ValueError, match=re.escape(words)):
            fit(small_model(), IMAGES, config, augment=other, **options)


def test_checkpoint_with_another_tracker_is_refused(half_done):
    model = small_model(seed=5)
    options = {"model": model, "tracker": NormTracker(model, ["projector.0"], gradients=True)}
    assert_refused(half_done, options, r"tracker\.series: .*'projector\.2'.* in the run directory, .*'projector\.0'")


def test_checkpoint_with_a_tracker_is_refused_without_one(half_done):
    """Its norms would be lost with the next checkpoint."""
    with pytest.raises(ValueError, match=r"tracker\.quantiles: .* in the run directory, absent now"):
        fit(
            small_model(), IMAGES, TrainConfig(**SETTINGS), augment=cut, accelerator="cpu", progress=False,
            checkpoints=half_done,
        )  # fmt: skip


def assert_refused(folder, options, words):
    """In one ValueError, and neither model nor folder are touched."""
    weights = [weight.clone() for weight in options["model"].state_dict().values()]
    files = {path: path.stat().st_mtime_ns for path in folder.iterdir()}
    with pytest.raises(ValueError, match=r"holds checkpoints of another run; take another folder") as refusal:
        run(folder, at=0, epoch=0, **options)
    assert refusal.match(words)
    assert_identical(weights, list(options["model"].state_dict().values()))
    assert {path: path.stat().st_mtime_ns for path in folder.iterdir()} == files


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"minutes": -1}, "checkpoint_minutes must be a number ≥ 0, got -1"),
        ({"minutes": float("nan")}, "checkpoint_minutes must be a number ≥ 0, got nan"),
        ({"minutes": "2"}, "checkpoint_minutes must be a number ≥ 0, got '2'"),
        ({"images": IMAGES.subset(torch.arange(63))}, "images holds 63 images, fewer than batch_size = 64"),
    ],
)
def test_wrong_arguments_are_refused_before_anything_is_written(options, words, tmp_path):
    with pytest.raises(ValueError, match=words):
        run(tmp_path / "new", at=0, epoch=0, **options)
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("accelerator", ["cuda", "mps", "tpu", "GPU", ""])
def test_device_that_is_not_there_is_refused(accelerator, monkeypatch, tmp_path):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    with pytest.raises(ValueError, match=f"accelerator='{accelerator}' is not available here; usable are auto, cpu"):
        fit(small_model(), IMAGES, TrainConfig(), augment=cut, accelerator=accelerator, checkpoints=tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_checkpoints_that_cannot_be_written_are_refused_before_training(monkeypatch, tmp_path):
    (tmp_path / "file").write_text("mine")
    for folder in (tmp_path / "file", tmp_path / "file" / "below", str(tmp_path / "file" / "far" / "below")):
        with pytest.raises(NotADirectoryError, match=r"cannot be a folder, since .*file is a file; name another"):
            run(folder, at=0, epoch=0)
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path) != tmp_path)  # root may write everywhere
    with pytest.raises(PermissionError, match=r"cannot be written, since .* is read-only or not yours; name another"):
        run(tmp_path / "new" / "folder", at=0, epoch=0)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
