"""The training loop: what it computes, what it reports, what it refuses."""

import math

import pytest
import torch
from torch import nn

from normlib import data, losses
from normlib.augment import TwoViews
from normlib.interventions import weight_decay_groups
from normlib.models import SimCLR, digits_encoder, projection_head
from normlib.tracking import NormTracker
from normlib.training import TrainConfig, fit

TRAIN = data.digits("train")


def small_model(**options):
    return SimCLR(digits_encoder(8, 16), projection_head(16, 16, 8), **options)


def train(model=None, images=TRAIN, tracker=None, on_epoch=None, augment=None, **settings):
    config = TrainConfig(**{"epochs": 3, "batch_size": 256, "warmup_epochs": 1, "lr": 0.1} | settings)
    return fit(
        model or small_model(),
        images,
        config,
        augment=augment or TwoViews.digits(),
        tracker=tracker,
        on_epoch=on_epoch,
        accelerator="cpu",
        progress=False,
    ).steps


class SameView:
    """Two fixed views, so that nothing is drawn: the loop can be replayed by hand."""

    def __call__(self, images, generator=None):
        x = images.float() / 255
        return x, x.flip(3)


def test_equals_a_loop_written_by_hand():
    images = TRAIN.subset(torch.arange(64))
    model, by_hand = small_model(), small_model()
    history = train(model, images, augment=SameView(), batch_size=64, momentum=0.9, weight_decay=0.01, epochs=4)
    optimizer = torch.optim.SGD(weight_decay_groups(by_hand, 0.01), lr=0.1, momentum=0.9)
    generator = torch.Generator().manual_seed(0)
    expected = []
    for epoch in range(4):
        # warm-up over the first of four epochs, then half a cosine over the remaining three
        lr = 0.1 if epoch < 1 else 0.1 * 0.5 * (1 + math.cos(math.pi * (epoch - 1) / 3))
        for group in optimizer.param_groups:
            group["lr"] = lr
        batch = torch.randperm(64, generator=generator)
        x1, x2 = SameView()(images.images[batch])
        loss = losses.info_nce(by_hand(x1), by_hand(x2), 0.5)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        expected.append({"step": epoch, "epoch": epoch + 1, "lr": lr, "loss": loss.item()})
    assert history["step"].tolist() == [row["step"] for row in expected]
    for column in ("lr", "loss"):
        assert history[column].tolist() == pytest.approx([row[column] for row in expected], rel=1e-4)
    for trained, reference in zip(model.parameters(), by_hand.parameters(), strict=True):
        torch.testing.assert_close(trained, reference, rtol=1e-4, atol=1e-6)


def test_same_seed_same_run_and_another_seed_another():
    first, second, other = train(), train(), train(seed=1)
    assert first["loss"].tolist() == second["loss"].tolist()
    assert first["loss"].tolist() != other["loss"].tolist()


def test_global_generator_is_left_alone():
    torch.manual_seed(5)
    before = torch.get_rng_state()
    train(small_model())
    assert torch.equal(torch.get_rng_state(), before)


def test_learns():
    model = SimCLR(digits_encoder(64, 128), projection_head(128, 128, 64))
    history = train(model, epochs=16, lr=0.1)
    assert history["loss"].iloc[-5:].mean() < history["loss"].iloc[0] - 0.5


def test_learning_rate_warms_up_linearly_and_ends_near_zero():
    lr = train(epochs=10, warmup_epochs=2, batch_size=256, lr=0.1)["lr"]
    assert lr[:10].tolist() == pytest.approx([0.1 * (step + 1) / 10 for step in range(10)])
    assert lr.max() == pytest.approx(0.1)
    assert lr.iloc[-1] < 1e-3
    assert (lr[10:].diff().dropna() < 0).all()


@pytest.mark.parametrize("warmup", [0.01, 0.1, 0.5])
def test_a_warm_up_of_a_part_of_an_epoch_never_exceeds_the_learning_rate(warmup):
    lr = train(epochs=1, warmup_epochs=warmup, lr=0.1)["lr"]
    assert lr.max() <= 0.1
    assert (lr[2:].diff().dropna() < 0).all()


def test_tracker_sees_each_step_of_training_and_nothing_of_the_evaluation():
    model, seen = small_model(), []

    def evaluate(epoch):
        seen.append(epoch)
        model(torch.zeros(7, 1, 8, 8))

    with NormTracker(model, ["backbone.5", "projector.2"], per_class=True, gradients=True) as tracker:
        history = train(model, tracker=tracker, on_epoch=evaluate)
    frame = tracker.to_frame()
    counts = frame[(frame["statistic"] == "count") & (frame["class"] == -1)]
    assert seen == [0, 1, 2, 3]
    assert counts["step"].nunique() == len(history) == 15
    assert (counts["value"] == 512).all()
    assert set(frame["layer"]) == {"backbone.5", "projector.2"}


def test_grad_scale_in_the_model_changes_training_only_by_the_norm():
    """p = 1 multiplies the gradient of z by ‖z‖: the first loss agrees, the weights after one step do not."""
    plain, scaled = small_model(), small_model(grad_scale_power=1.0)
    losses_by_model = [train(model, epochs=1, warmup_epochs=0, batch_size=1024)["loss"][0] for model in (plain, scaled)]
    assert losses_by_model[0] == losses_by_model[1]
    start = small_model().projector[2].weight
    step, scaled_step = plain.projector[2].weight - start, scaled.projector[2].weight - start
    norm = small_model()(TRAIN.images.float() / 255).norm(dim=1).mean().item()  # all but equal before training
    assert (scaled_step.norm() / step.norm()).item() == pytest.approx(norm, rel=0.05)


def test_bfloat16_autocast_runs_and_agrees_roughly():
    single, mixed = train(epochs=2), train(epochs=2, precision="bf16-mixed")
    assert mixed["loss"].tolist() == pytest.approx(single["loss"].tolist(), abs=0.05)
    assert mixed["loss"].tolist() != single["loss"].tolist()


def test_gradient_norms_come_without_the_loss_scale(monkeypatch):
    """On the CPU, Fabric turns 16-mixed into bfloat16; this Fabric scales the loss as it does on a GPU."""
    import lightning_fabric
    from lightning_fabric.plugins import MixedPrecision

    def gradients():
        model = small_model()
        tracker = NormTracker(model, gradients=True)
        train(model, tracker=tracker, epochs=1, warmup_epochs=0)
        frame = tracker.to_frame()
        return frame[frame["statistic"] == "grad_mean"]["value"].to_numpy()

    plain, fabric = gradients(), lightning_fabric.Fabric
    plugin = MixedPrecision("16-mixed", "cpu", scaler=torch.amp.GradScaler("cpu"))
    monkeypatch.setattr(lightning_fabric, "Fabric", lambda precision, **options: fabric(plugins=[plugin], **options))
    assert gradients() == pytest.approx(plain, rel=0.1)


def test_progress_is_shown_and_can_be_turned_off(capsys):
    config = TrainConfig(epochs=1, batch_size=512, warmup_epochs=0)
    fit(small_model(), TRAIN, config, augment=TwoViews.digits(), accelerator="cpu", progress=False)
    assert capsys.readouterr().err == ""
    fit(small_model(), TRAIN, config, augment=TwoViews.digits(), accelerator="cpu")
    assert "2/2" in capsys.readouterr().err


def test_divergence_is_named_with_its_step():
    model = small_model()
    nn.init.constant_(model.projector[2].weight, math.nan)
    with pytest.raises(FloatingPointError, match=r"became nan at step 0 \(epoch 1\); lower lr"):
        train(model)


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ({"epochs": 0}, "epochs must be an integer ≥ 1, got 0"),
        ({"epochs": 1.5}, "epochs must be an integer ≥ 1, got 1.5"),
        ({"batch_size": 1}, "batch_size must be an integer ≥ 2, got 1; a contrastive loss needs negatives"),
        ({"lr": 0.0}, "lr must be a number > 0, got 0.0"),
        ({"lr": math.nan}, "lr must be a number > 0, got nan"),
        ({"lr": "0.1"}, "lr must be a number > 0, got '0.1'"),
        ({"warmup_epochs": -1}, "warmup_epochs must be a number ≥ 0, got -1"),
        ({"warmup_epochs": 60}, "warmup_epochs must be below epochs = 60, got 60"),
        ({"micro_batch_size": True}, "micro_batch_size must be an integer ≥ 1 and ≤ 256, got True"),
        ({"momentum": 1.0}, "momentum must be a number ≥ 0 and < 1, got 1.0"),
        ({"weight_decay": -1e-4}, "weight_decay must be a number ≥ 0, got -0.0001"),
        ({"optimizer": "adam"}, "optimizer must be one of 'sgd', 'lars', 'adamw', got 'adam'"),
    ],
)
def test_bad_settings_are_refused(setting, words):
    with pytest.raises(ValueError, match=words):
        TrainConfig(**setting)


def test_too_few_images_are_refused_before_training():
    model = small_model()
    before = [p.clone() for p in model.parameters()]
    with pytest.raises(ValueError, match="images holds 20 images, fewer than batch_size = 256"):
        train(model, TRAIN.subset(torch.arange(20)))
    assert all(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))
