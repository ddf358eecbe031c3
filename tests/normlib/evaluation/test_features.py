from collections import OrderedDict

import numpy as np
import pytest
import torch
from torch import nn

from normlib import data, evaluation, models


class Probed(nn.Module):
    """A network whose dropout and BatchNorm would show any step outside eval mode."""

    def __init__(self):
        super().__init__()
        self.backbone = nn.Sequential(nn.Flatten(), nn.Linear(64, 6), nn.BatchNorm1d(6), nn.Dropout(0.5))
        self.head = nn.Linear(6, 3)

    def features(self, x):
        return self.backbone(x)

    def forward(self, x):
        return self.head(self.features(x))


def test_embed_is_the_models_own_output_whatever_the_batch_size():
    torch.manual_seed(0)
    model, images = Probed().eval(), data.digits("test")
    x = images.images.float() / 255
    for batch_size in (1, 7, 450, 10_000):
        features, embeddings = evaluation.embed(model, images, batch_size=batch_size)
        torch.testing.assert_close(features, model.features(x).detach(), rtol=0, atol=1e-6)
        torch.testing.assert_close(embeddings, model(x).detach(), rtol=0, atol=1e-6)


def test_a_backbone_alone_gives_no_features():
    model = nn.Sequential(OrderedDict(backbone=nn.Flatten(), projector=nn.Linear(64, 3)))
    features, embeddings = evaluation.embed(model, data.digits("test"))
    assert torch.equal(features, embeddings)


@pytest.mark.parametrize("grad_scale", [0.0, 1.0])
def test_embed_runs_simclrs_backbone_once_and_still_gives_its_forward(grad_scale):
    model = models.SimCLR(models.digits_encoder(8, 6), models.projection_head(6, 6, 4), grad_scale_power=grad_scale)
    calls = []
    model.backbone.register_forward_hook(lambda *_: calls.append(1))
    images = data.digits("test")
    features, embeddings = evaluation.embed(model, images, batch_size=len(images))
    assert len(calls) == 1
    x = images.images.float() / 255
    assert torch.equal(features, model.features(x))
    assert torch.equal(embeddings, model(x))


def test_embed_leaves_modes_weights_and_statistics_alone():
    torch.manual_seed(0)
    model = Probed().train()
    model.backbone[2].eval()  # a frozen BatchNorm within a training model
    modes = [module.training for module in model.modules()]
    state = {name: value.clone() for name, value in model.state_dict().items()}
    features, embeddings = evaluation.embed(model, data.digits("test"))
    assert [module.training for module in model.modules()] == modes
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())
    again = evaluation.embed(model, data.digits("test"))
    assert torch.equal(features, again[0])  # no dropout
    assert not features.requires_grad
    assert not embeddings.requires_grad
    nn.Linear(3, 1)(embeddings).sum().backward()  # usable for training something on top


def test_embed_restores_modes_when_the_model_fails():
    model = Probed().train()
    with pytest.raises(RuntimeError, match="shapes"):
        evaluation.embed(model, torch.zeros(2, 1, 9, 9))
    assert all(module.training for module in model.modules())


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_embed_gives_float32_from_any_model(dtype):
    model = Probed().to(dtype)
    for output in evaluation.embed(model, data.digits("test")):
        assert (output.dtype, output.device.type) == (torch.float32, "cpu")


def test_embed_takes_bytes_and_floats_alike_and_models_without_features():
    model, images = nn.Flatten(), data.digits("test").images
    features, embeddings = evaluation.embed(model, images)
    assert torch.equal(features, embeddings)
    assert torch.equal(features, images.flatten(1) / 255)
    assert torch.equal(evaluation.embed(model, images / 255)[0], features)


@pytest.mark.parametrize(
    ("images", "options", "error", "message"),
    [
        (np.zeros((2, 1, 8, 8)), {}, TypeError, "images must be an ImageSet or a tensor .* got ndarray"),
        (torch.zeros(2, 1, 8, 8, dtype=torch.int64), {}, TypeError, "got torch.int64"),
        (torch.zeros(2, 8, 8), {}, ValueError, r"images must have shape \(N, C, H, W\) .* got \(2, 8, 8\)"),
        (torch.zeros(0, 1, 8, 8), {}, ValueError, r"N of 1 or more, got \(0, 1, 8, 8\)"),
        (torch.zeros(2, 1, 8, 8), {"batch_size": 0}, ValueError, "batch_size must be an integer ≥ 1, got 0"),
    ],
)
def test_embed_refuses(images, options, error, message):
    with pytest.raises(error, match=message):
        evaluation.embed(Probed(), images, **options)


def test_embed_refuses_outputs_that_are_not_vectors():
    with pytest.raises(ValueError, match=r"model must give features of shape \(2, ·\), got \(2, 4, 8, 8\)"):
        evaluation.embed(nn.Conv2d(1, 4, 3, padding=1), torch.zeros(2, 1, 8, 8))
