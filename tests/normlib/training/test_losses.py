"""Any callable ``loss(z1, z2)`` trains a model: functions, partials, lightly's modules, losses with own parameters."""

import math
from functools import partial

import pytest
import torch
from lightly.loss import BarlowTwinsLoss, DCLLoss, NTXentLoss, VICRegLoss
from torch import nn

from normlib import data, losses
from normlib.models import (
    BYOL,
    JointEmbedding,
    SimCLR,
    SimSiam,
    batch_norm_head,
    digits_encoder,
    prediction_head,
    projection_head,
)
from normlib.training import DivergenceError, TrainConfig, fit

IMAGES = data.digits("train").subset(torch.arange(128))


class TwoFixedViews:
    """Nothing is drawn, so that runs differ by their losses only."""

    def __call__(self, images, generator=None):
        x = images.float() / 255
        return x, x.flip(3)


class LearnedTemperature(nn.Module):
    """SigLIP's loss as in its paper: temperature and bias are learned."""

    def __init__(self, start=0.0):
        super().__init__()
        self.log_scale = nn.Parameter(torch.tensor(start))
        self.bias = nn.Parameter(torch.tensor(-1.0))

    def forward(self, z1, z2):
        similarities = losses.unit(z1) @ losses.unit(z2).T * self.log_scale.exp() + self.bias
        signs = 2 * torch.eye(len(z1)) - 1
        return -nn.functional.logsigmoid(signs * similarities).sum() / len(z1)


def parts(seed=0):
    return digits_encoder(8, 16, seed=seed), projection_head(16, 16, 8, seed=seed)


def train(model, loss=None, images=IMAGES, checkpoints=None, on_epoch=None, **settings):
    config = TrainConfig(**{"epochs": 3, "batch_size": 64, "warmup_epochs": 0, "lr": 0.05} | settings)
    return fit(
        model, images, config, augment=TwoFixedViews(), loss=loss, accelerator="cpu", progress=False,
        checkpoints=checkpoints, checkpoint_minutes=0, on_epoch=on_epoch,
    ).steps["loss"].tolist()  # fmt: skip


def same_weights(one, other, tolerance=0.0):
    for (name, a), (_, b) in zip(one.state_dict().items(), other.state_dict().items(), strict=True):
        torch.testing.assert_close(a, b, rtol=tolerance, atol=tolerance, msg=lambda text, name=name: f"{name}: {text}")


PEERS = {  # the same formula, ours and lightly's
    "nt-xent": (partial(losses.info_nce, temperature=0.2), NTXentLoss(temperature=0.2), 0.05),
    "decoupled": (partial(losses.info_nce, temperature=0.2, denominator="decoupled"), DCLLoss(temperature=0.2), 0.05),
    "vicreg": (losses.vicreg, VICRegLoss(), 0.005),
}


@pytest.mark.parametrize("name", PEERS)
def test_lightlys_losses_train_as_ours_of_the_same_formula(name):
    """Six steps under the one and under the other, given to ``fit`` and to the model."""
    ours, theirs, lr = PEERS[name]
    models = [nn.Sequential(*parts()), nn.Sequential(*parts())]
    models += [JointEmbedding(*parts(), ours), JointEmbedding(*parts(), theirs)]
    given = [train(model, loss, lr=lr) for model, loss in zip(models[:2], (ours, theirs), strict=True)]
    own = [train(model, lr=lr) for model in models[2:]]
    assert given == own
    assert given[0] == pytest.approx(given[1], rel=1e-4)
    assert given[0][-1] < given[0][0]
    for one, other in (models[:2], models[2:]):
        for a, b in zip(one.parameters(), other.parameters(), strict=True):
            torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-4)


def test_a_loss_of_lightly_without_a_peer_of_ours_trains():
    given = train(nn.Sequential(*parts()), BarlowTwinsLoss(), lr=0.01)
    assert given == train(JointEmbedding(*parts(), BarlowTwinsLoss()), lr=0.01)
    assert given[-1] < given[0]


def test_a_loss_that_is_given_takes_the_place_of_the_models_own():
    given, own = SimCLR(*parts()), SimCLR(*parts(), temperature=0.1)
    before = given.loss
    assert train(given, partial(losses.info_nce, temperature=0.1)) == train(own)
    same_weights(given, own)
    assert given.loss is before
    assert train(SimCLR(*parts())) != train(SimCLR(*parts(), temperature=0.1))


def test_of_several_outputs_the_loss_takes_both_views_of_each():
    def attraction(p1, p2, z1, z2):
        return losses.negative_cosine(p1, z2) + losses.negative_cosine(p2, z1)

    heads = batch_norm_head(16, 16, 8), prediction_head(8, 4)
    twice = train(SimSiam(digits_encoder(8, 16), *heads), attraction, epochs=1, lr=1e-9)
    once = train(SimSiam(digits_encoder(8, 16), *heads), epochs=1, lr=1e-9)
    assert twice == pytest.approx([2 * value for value in once], rel=1e-5)


def test_a_slow_copy_follows_under_another_loss():
    def attraction(p1, p2, z1, z2):
        return losses.negative_cosine(p1, z2)

    model = BYOL(digits_encoder(8, 16), batch_norm_head(16, 16, 8), prediction_head(8, 4), ema=0.5)
    before = model.target.module[0][0].weight.clone()
    train(model, attraction)
    assert not torch.equal(model.target.module[0][0].weight, before)


# --- losses with parameters of their own ---


def test_parameters_of_a_loss_are_trained_as_in_a_loop_by_hand():
    model, by_hand = nn.Sequential(*parts()), nn.Sequential(*parts())
    loss, copy = LearnedTemperature(), LearnedTemperature()
    found = train(model, loss, IMAGES.subset(torch.arange(64)), epochs=5, momentum=0.0, weight_decay=0.0)
    optimizer, expected = torch.optim.SGD([*by_hand.parameters(), *copy.parameters()]), []
    generator = torch.Generator().manual_seed(0)
    for step in range(5):
        optimizer.param_groups[0]["lr"] = 0.05 * 0.5 * (1 + math.cos(math.pi * step / 5))
        x1, x2 = TwoFixedViews()(IMAGES.images[torch.randperm(64, generator=generator)])
        value = copy(by_hand(x1), by_hand(x2))
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        expected.append(value.item())
    assert found == pytest.approx(expected, rel=1e-5)
    same_weights(model, by_hand, 1e-4)
    same_weights(loss, copy, 1e-4)
    assert loss.log_scale != LearnedTemperature().log_scale


def test_a_loss_with_parameters_is_a_part_of_the_model_that_is_given_it():
    loss = LearnedTemperature()
    model = JointEmbedding(*parts(), loss)
    found = train(model)
    assert {"loss.log_scale", "loss.bias"} < set(model.state_dict())
    assert loss.log_scale != LearnedTemperature().log_scale
    given, other = nn.Sequential(*parts()), LearnedTemperature()
    assert train(given, other) == found
    same_weights(loss, other)
    assert model.double().loss.bias.dtype == torch.float64


@pytest.mark.parametrize("in_model", [True, False])
@pytest.mark.parametrize("micro", [8, 64])
def test_micro_batches_train_the_parameters_of_a_loss_as_the_whole_batch_does(in_model, micro):
    whole, pieces = LearnedTemperature(), LearnedTemperature()
    for loss, size in {whole: None, pieces: micro}.items():
        model = JointEmbedding(*parts(), loss) if in_model else SimCLR(*parts())
        train(model, None if in_model else loss, micro_batch_size=size)
    same_weights(whole, pieces, 1e-5)
    assert whole.log_scale != LearnedTemperature().log_scale


def test_a_stopped_run_goes_on_with_the_parameters_of_its_loss(tmp_path):
    def stop(epoch):
        if epoch == 2:
            raise KeyboardInterrupt

    whole, loss = nn.Sequential(*parts()), LearnedTemperature()
    expected = train(whole, loss)
    with pytest.raises(KeyboardInterrupt):
        train(nn.Sequential(*parts()), LearnedTemperature(), checkpoints=tmp_path, on_epoch=stop)
    again, other = nn.Sequential(*parts(seed=3)), LearnedTemperature(start=5.0)  # all must come from the checkpoint
    assert train(again, other, checkpoints=tmp_path) == expected
    same_weights(again, whole)
    same_weights(other, loss)


# --- what is refused ---


@pytest.mark.parametrize(
    ("before", "after", "words"),
    [
        (losses.vicreg, losses.barlow_twins, r"loss=vicreg.* in the run directory, .*loss=barlow_twins"),
        (None, losses.vicreg, r"SimCLR\(loss=info_nce.* in the run directory, .*loss=vicreg"),
        (
            partial(losses.vicreg, covariance=2.0),
            partial(losses.vicreg, covariance=3.0),
            r"loss=vicreg\(covariance=2\.0\).* in the run directory, .*loss=vicreg\(covariance=3\.0\)",
        ),
        (
            NTXentLoss(temperature=0.2),
            NTXentLoss(temperature=0.3),
            r"NTXentLoss\(.*temperature=0\.2.* in the run directory, .*NTXentLoss\(.*temperature=0\.3",
        ),
    ],
)
def test_a_checkpoint_under_another_loss_is_refused(tmp_path, before, after, words):
    train(SimCLR(*parts()), before, lr=0.001, checkpoints=tmp_path)
    with pytest.raises(ValueError, match=words):
        train(SimCLR(*parts()), after, lr=0.001, checkpoints=tmp_path)


def test_a_run_under_the_same_loss_is_not_another(tmp_path):
    for _ in range(2):
        train(SimCLR(*parts()), NTXentLoss(temperature=0.2), checkpoints=tmp_path)


@pytest.mark.parametrize(
    ("model", "loss", "error", "words"),
    [
        (nn.Sequential(*parts()), None, TypeError, "Sequential has no loss of its own; name one, such as"),
        (nn.Sequential(*parts()), 0.5, TypeError, "loss must be a function, got float"),
        (SimCLR(*parts()), "nt-xent", TypeError, "loss must be a function, got str"),
    ],
)
def test_what_is_no_loss_is_refused_before_work_begins(model, loss, error, words, tmp_path):
    with pytest.raises(error, match=words):
        train(model, loss, checkpoints=tmp_path / "new", on_epoch=lambda epoch: pytest.fail("work began"))
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    ("loss", "error", "words"),
    [
        (lambda z1, z2: 0.5, TypeError, "loss must return a scalar tensor, got float"),
        (lambda z1, z2: None, TypeError, "loss must return a scalar tensor, got NoneType"),
        (
            lambda z1, z2: (z1 - z2).square().sum(1),
            ValueError,
            r"a scalar, got a tensor of shape \(64,\); take its mean",
        ),
    ],
)
@pytest.mark.parametrize("micro", [None, 16])
def test_a_loss_that_returns_no_scalar_is_refused(loss, error, words, micro):
    with pytest.raises(error, match=words):
        train(SimCLR(*parts()), loss, micro_batch_size=micro)


def broken():
    model = SimCLR(*parts())
    nn.init.constant_(model.projector[2].weight, math.nan)
    return model


def test_a_loss_that_is_given_keeps_its_checks():
    """On a CPU they are on unless they are switched off, and then the losses are read once an epoch."""
    with pytest.raises(ValueError, match="z1 holds NaN or infinity in 64 of 64 rows"):
        train(broken(), losses.info_nce)
    with pytest.raises(DivergenceError, match="the loss became nan at step 0"):
        train(broken(), partial(losses.info_nce, check_finite=False))
    with pytest.raises(DivergenceError, match="the loss became nan at step 0"):
        train(broken())
