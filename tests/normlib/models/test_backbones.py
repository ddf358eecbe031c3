"""Networks: shapes, seeds, and the settings that the paper's experiments rest on."""

import pytest
import torch
from torch import nn

from normlib import models


def test_same_seed_same_weights_and_the_global_generator_is_left_alone():
    torch.manual_seed(3)
    before = torch.get_rng_state()
    first, second, other = (models.digits_encoder(8, 8, seed=seed) for seed in (0, 0, 1))
    head = models.projection_head(8, 8, 4, seed=0)
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(first[0].weight, second[0].weight)
    assert not torch.equal(first[0].weight, other[0].weight)
    assert torch.equal(head[0].weight, models.projection_head(8, 8, 4, seed=0)[0].weight)


def test_encoder_and_head_of_one_seed_draw_different_numbers():
    first = models.digits_encoder(8, 8, seed=0)[0].weight.flatten()
    second = models.projection_head(8, 8, 4, seed=0)[0].weight.flatten()[: len(first)]
    assert abs(torch.corrcoef(torch.stack([first, second]))[0, 1]) < 0.5


def test_seeding_leaves_the_generators_of_other_devices_alone(monkeypatch):
    monkeypatch.setattr(torch.cuda, "manual_seed_all", lambda seed: pytest.fail("seeded the GPUs"))
    models.digits_encoder(8, 8, seed=3)


def test_digits_encoder_has_no_normalisation_layer():
    assert not [m for m in models.digits_encoder(8, 8).modules() if "Norm" in type(m).__name__]


def test_resnet18_cifar_keeps_the_resolution_and_starts_residual_branches_at_zero():
    model = models.resnet18_cifar()
    assert model.conv1.kernel_size == (3, 3)
    assert model.conv1.stride == (1, 1)
    assert isinstance(model.maxpool, nn.Identity)
    assert model.layer1(model.relu(model.bn1(model.conv1(torch.zeros(1, 3, 32, 32))))).shape == (1, 64, 32, 32)
    assert all((block.bn2.weight == 0).all() for layer in (model.layer1, model.layer4) for block in layer)
    assert torch.equal(models.resnet18_cifar(seed=1).conv1.weight, models.resnet18_cifar(seed=1).conv1.weight)


def test_simclr_passes_features_through_the_projector_and_scales_gradients():
    def build(power):
        return models.SimCLR(nn.Flatten(), nn.Linear(4, 3, bias=False), grad_scale_power=power)

    x = torch.randn(5, 1, 2, 2, generator=torch.Generator().manual_seed(0))
    plain, scaled = build(0.0), build(2.0)
    scaled.load_state_dict(plain.state_dict())
    assert torch.equal(plain.features(x), x.flatten(1))
    assert torch.equal(plain(x), plain.projector(x.flatten(1)))
    assert torch.equal(plain(x), scaled(x))
    z, h = plain(x).detach(), x.flatten(1)
    scaled(x).sum().backward()
    torch.testing.assert_close(scaled.projector.weight.grad, torch.ones(3, 1) * (z.norm(dim=1).square() @ h))


def test_too_narrow_an_encoder_is_refused():
    with pytest.raises(ValueError, match="width must be an integer ≥ 2, got 1"):
        models.digits_encoder(1, 8)


def test_narrow_resnet_is_a_residual_network_as_described():
    backbone = models.narrow_resnet(width=4, seed=3)
    x = torch.rand(2, 3, 32, 32)
    shapes = []
    for name, layer in backbone.named_children():
        x = layer(x)
        if name.startswith("layer"):
            shapes.append(tuple(x.shape[1:]))
            assert not layer.bn2.weight.any()  # residual branches start at zero
    assert shapes == [(4, 8, 8), (8, 4, 4), (16, 2, 2), (32, 1, 1)]
    assert x.shape == (2, 32)
    assert torch.equal(models.narrow_resnet(width=4, seed=3).conv1.weight, backbone.conv1.weight)
    assert not torch.equal(models.narrow_resnet(width=4, seed=4).conv1.weight, backbone.conv1.weight)
    with pytest.raises(ValueError, match="width must be an integer ≥ 1, got 0"):
        models.narrow_resnet(0)
