"""What only a GPU shows: precisions, compilation, data that stream from the host, and going on after a stop."""

import pytest
import torch

from normlib import data, models, training
from normlib.augment import TwoViews
from normlib.tracking import NormTracker
from normlib.training import TrainConfig, run_dir
from normlib.training.checkpoint_schedule import CheckpointSchedule
from normlib.training.recipes import RECIPES

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
IMAGES = data.digits("train")


def fit(epochs=4, **settings):
    """Loss by step, and the tracker's gradient norms, of a small run on the GPU."""
    options = {name: settings.pop(name) for name in ("checkpoints", "checkpoint_minutes") if name in settings}
    model = models.SimCLR(models.digits_encoder(32, 64), models.projection_head(64, 64, 32))
    config = TrainConfig(epochs=epochs, batch_size=256, lr=0.1, warmup_epochs=1, **settings)
    tracker = NormTracker(model, gradients=True)
    history = training.fit(
        model, IMAGES, config, augment=TwoViews.digits(), tracker=tracker, accelerator="cuda", progress=False, **options
    )
    frame = tracker.to_frame()
    return history.steps["loss"].tolist(), frame[frame["statistic"] == "grad_mean"]["value"].tolist(), model


@pytest.fixture(scope="module")
def plain():
    return fit()


@pytest.mark.parametrize("precision", ["16-mixed", "bf16-mixed"])
def test_half_precision_follows_single_precision(plain, precision):
    losses, gradients, _ = fit(precision=precision)
    assert losses == pytest.approx(plain[0], abs=0.05)
    assert gradients == pytest.approx(plain[1], rel=0.2)  # not times the loss scale


@pytest.mark.parametrize("settings", [{"channels_last": True}, {"compile": True}, {"micro_batch_size": 64}])
def test_faster_and_smaller_ways_follow_the_plain_one(plain, settings):
    assert fit(**settings)[0] == pytest.approx(plain[0], abs=1e-3)


def test_data_that_do_not_fit_stream_from_the_host(plain, monkeypatch):
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (0, 0))
    assert fit()[0] == pytest.approx(plain[0], abs=1e-4)


def test_a_run_goes_on_with_its_loss_scale(tmp_path):
    whole = fit(precision="16-mixed")[0]
    folder = {"checkpoints": tmp_path, "checkpoint_minutes": 0}
    kept = CheckpointSchedule.after_step

    def stop_at_eight(schedule, run, stop):
        stop.asked = stop.asked or run.step == 8
        kept(schedule, run, stop)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(CheckpointSchedule, "after_step", stop_at_eight)
        with pytest.raises(training.Stopped):
            fit(precision="16-mixed", **folder)
    assert fit(precision="16-mixed", **folder)[0] == pytest.approx(whole, abs=1e-2)


@pytest.mark.parametrize("name", ["paper", "colab_t4"])
def test_recipes_for_gpus_train(name, tmp_path, monkeypatch):
    pixels = torch.randint(0, 256, (1024, 3, 32, 32), dtype=torch.uint8)
    labels = torch.arange(1024) % 10
    images = data.ImageSet(pixels, labels, torch.arange(1024), tuple("abcdefghij"), "noise")
    monkeypatch.setattr("normlib.training.recipes.load_once", lambda data, split: images)
    recipe = RECIPES[name].replace(epochs=2, warmup_epochs=1)
    trained = run_dir.train(recipe, tmp_path / "run", accelerator="cuda", progress=False)
    assert trained.history.steps["loss"].notna().all()
    assert trained.history.epochs["pairs_per_second"].dropna().gt(0).all()
