"""Where the radial part of a gradient is zero, and where it is not: models, layers and readings against theory."""

from functools import partial

import pytest
import torch
from torch import nn

from normlib import gradients, losses, models

ZERO, CLEARLY = 1e-6, 1e-3
METHODS = models.METHODS | {
    "barlow-twins": partial(models.JointEmbedding, loss=partial(losses.barlow_twins, eps=0.0)),
    "decoupled": partial(models.SimCLR, denominator="decoupled"),
}
# Layers of the heads: 0 and 3 are matrices, 1 is BatchNorm, 2 a ReLU. With a cosine at the end of them, what follows
# BatchNorm keeps directions for every sample: no bias, no mixing of samples.
BEHIND = ("1", "2", "3")


def network(name, seed=0):
    """In float64, and with next to no small constant in BatchNorm: zero in theory is zero up to rounding."""
    heads = [models.batch_norm_head(16, 12, 8, seed=seed)]
    if name in models.WITH_PREDICTOR:
        heads.append(models.prediction_head(8, 24, seed=seed))
    model = METHODS[name](models.digits_encoder(8, 16, batch_norm=True, seed=seed), *heads).double()
    for part in model.modules():
        if isinstance(part, nn.BatchNorm1d | nn.BatchNorm2d):
            part.eps = 1e-14
    return model


def views(seed=0):
    generator = torch.Generator().manual_seed(seed)
    x = torch.rand(24, 1, 8, 8, generator=generator, dtype=torch.float64)
    return x, (x + 0.3 * torch.rand(x.shape, generator=generator, dtype=torch.float64)).clamp(0, 1)


@pytest.fixture(scope="module")
def tables():
    return {name: gradients.radial_table(network(name), *views()).set_index("layer") for name in METHODS}


@pytest.mark.parametrize("name", ["simclr", "decoupled", "siglip"])
def test_cosines_of_embeddings_pull_sideways_from_the_last_batch_norm_on(tables, name):
    sample = tables[name]["sample"]
    behind = [f"projector.{i}" for i in BEHIND]
    assert (sample[behind] < ZERO).all()
    assert (sample.drop(behind) > CLEARLY).all()


@pytest.mark.parametrize("name", models.WITH_PREDICTOR)
def test_with_a_predictor_the_prediction_is_pulled_sideways_and_the_embedding_is_not(tables, name):
    sample = tables[name]["sample"]
    behind = [f"predictor.{i}" for i in BEHIND]
    assert (sample[behind] < ZERO).all()
    assert (sample.drop(behind) > CLEARLY).all()
    assert sample["projector.3"] > CLEARLY
    assert not [layer for layer in sample.index if layer.startswith("target")]


def test_barlow_twins_pulls_dimensions_sideways_and_samples_not(tables):
    z = tables["barlow-twins"].loc["projector.3"]
    assert z["sample"] > CLEARLY
    assert z["dimension"] < ZERO
    assert z["batch"] < ZERO


def test_vicreg_pulls_nothing_sideways(tables):
    assert (tables["vicreg"].loc["projector.3"] > CLEARLY).all()


@pytest.mark.parametrize("name", METHODS)
def test_in_front_of_batch_norm_every_dimension_is_pulled_sideways(tables, name):
    table = tables[name]
    matrices = ["backbone.0", "backbone.3", "backbone.7", "projector.0"]
    matrices += ["predictor.0"] * (name in models.WITH_PREDICTOR)
    assert (table.loc[matrices, ["dimension", "batch"]] < ZERO).all(axis=None)
    assert (table.loc[matrices, "sample"] > CLEARLY).all()


@pytest.mark.parametrize("name", METHODS)
def test_what_enters_a_matrix_before_batch_norm_is_pulled_sideways_as_a_whole_only(tables, name):
    h = tables[name].loc["backbone.9"]
    assert h["batch"] < ZERO
    assert h[["sample", "dimension"]].min() > CLEARLY


@pytest.mark.parametrize("biases", [True, False])
def test_without_batch_norm_biases_decide_how_deep_it_reaches(biases):
    """With them only z is pulled sideways; without them every layer is."""
    model = models.SimCLR(models.digits_encoder(8, 16), models.projection_head(16, 12, 8)).double()
    if not biases:
        for name, parameter in model.named_parameters():
            if name.endswith("bias"):
                nn.init.zeros_(parameter)
    sample = gradients.radial_table(model, *views(), loss=losses.info_nce).set_index("layer")["sample"]
    assert sample["projector.2"] < ZERO
    inner = sample.drop("projector.2")
    assert (inner > CLEARLY).all() if biases else (inner < ZERO).all()


def free_pull(loss, seed=0, scale=1.0, n=20, d=5):
    z = scale * torch.randn(2, n, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) + 0.3
    z1, z2 = (view.clone().requires_grad_() for view in z)
    return (z1, z2), torch.autograd.grad(loss(z1, z2), (z1, z2))


def test_free_embeddings_under_barlow_twins_grow_as_a_batch_while_some_shrink():
    """Pythagoras holds for every column, as it does for every row under a cosine."""
    (z1, _), (g1, _) = free_pull(partial(losses.barlow_twins, eps=0.0))
    after = (z1 - 0.5 * g1).detach()
    torch.testing.assert_close(after.square().sum(0), z1.detach().square().sum(0) + 0.25 * g1.square().sum(0))
    assert (after.norm(dim=1) < z1.detach().norm(dim=1)).any()
    torch.testing.assert_close(g1.sum(0), torch.zeros(5, dtype=z1.dtype), atol=1e-12, rtol=0)


@pytest.mark.parametrize("r", [0.5, 3.0])
def test_the_pull_of_barlow_twins_on_a_column_falls_with_its_length(r):
    loss = partial(losses.barlow_twins, eps=0.0)
    (_, _), (g1, _) = free_pull(loss)
    (_, _), (longer, _) = free_pull(lambda z1, z2: loss(r * z1, r * z2))
    torch.testing.assert_close(longer, g1)  # of r z by the chain rule: r times the pull at r z
    (z1, z2), _ = free_pull(loss)
    leaf = (r * z1).detach().requires_grad_()
    (at_r,) = torch.autograd.grad(loss(leaf, r * z2.detach()), leaf)
    torch.testing.assert_close(r * at_r, g1)


@pytest.mark.parametrize("scale", [0.3, 1.0, 2.0])
def test_the_radial_pull_of_vicreg_is_that_of_its_three_degrees(scale):
    """Euler: distance has degree 2, covariance 4, and the hinge pulls outwards by s² - eps over s where s < 1."""
    (z1, z2), (g1, g2) = free_pull(losses.vicreg, scale=scale)
    radial = (z1 * g1).sum() + (z2 * g2).sum()
    distance = (z1 - z2).square().mean()
    off_diagonal = ~torch.eye(5, dtype=torch.bool)
    covariance = sum(torch.cov(z.T)[off_diagonal].square().sum() / 5 for z in (z1, z2))
    hinge = 0
    for z in (z1, z2):
        variance = z.var(dim=0)
        s = (variance + 1e-4).sqrt()
        hinge += ((variance / s) * (s < 1)).mean() / 2
    torch.testing.assert_close(radial, 2 * 25 * distance + 4 * covariance - 25 * hinge, rtol=1e-10, atol=1e-10)


def test_vicreg_does_not_move_the_mean_of_both_views():
    _, (g1, g2) = free_pull(losses.vicreg)
    torch.testing.assert_close((g1 + g2).sum(0), torch.zeros(5, dtype=g1.dtype), atol=1e-10, rtol=0)


def test_grad_scale_changes_sizes_not_directions():
    def table(power):
        heads = models.batch_norm_head(16, 12, 8), models.prediction_head(8, 6)
        model = models.SimSiam(models.digits_encoder(8, 16), *heads, grad_scale_power=power).double()
        return gradients.radial_table(model, *views(), ["predictor.3"])

    torch.testing.assert_close(table(2.0)["sample"][0], table(0.0)["sample"][0], atol=1e-6, rtol=0)


def test_share_has_a_sign_and_zero_rows_have_none():
    z = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 0.0], [1.0, 1.0]])
    grad = torch.tensor([[2.0, 0.0], [0.0, 1.0], [1.0, 0.0], [0.0, 0.0]])
    assert gradients.radial_share(z, grad).tolist() == [1.0, 0.0, 0.0, 0.0]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_share_is_a_cosine_however_small_or_large_a_gradient_is(dtype):
    z, grad = torch.randn(2, 6, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64).to(dtype)
    expected = gradients.radial_share(z, grad)
    for factor in (1e-38, 1e-23, 1e37):
        torch.testing.assert_close(gradients.radial_share(z, factor * grad), expected, atol=1e-6, rtol=0)
    assert gradients.radial_share(z, 3 * z).max() <= 1


def test_one_layer_may_be_named_by_itself():
    model, images = network("siglip"), views()
    one, listed = (gradients.radial_table(model, *images, layers) for layers in ("projector.3", ["projector.3"]))
    assert one["layer"].tolist() == ["projector.3"]
    assert one.equals(listed)


class Twice(nn.Module):
    """One layer in two places; the first call's output is scaled before it enters the second."""

    def __init__(self):
        super().__init__()
        self.first, self.shared = nn.Linear(64, 8), nn.Linear(8, 8)

    def forward(self, x):
        return self.shared(2 * self.shared(self.first(x.flatten(1))))


def test_of_a_layer_that_is_called_twice_the_last_call_counts():
    model = Twice().double()
    table = gradients.radial_table(model, *views(), loss=losses.info_nce)
    assert table["layer"].tolist() == ["first", "shared"]
    assert table["sample"].iloc[1] < ZERO  # the embedding, not what enters the second call


def test_a_layer_that_gives_no_tensor_is_named():
    model = nn.Sequential(nn.Flatten(2), nn.LSTM(64, 8)).double()
    with pytest.raises(TypeError, match="layers must give one tensor each, but 1 gives tuple; name others"):
        gradients.radial_table(model, *views(), loss=losses.info_nce)
    assert not model[1]._forward_hooks


def test_wrong_input_is_refused():
    model = network("simsiam")
    with pytest.raises(ValueError, match=r"unknown submodules \['projektor'\]; those there are: .*projector"):
        gradients.radial_table(model, *views(), ["projektor"])
    with pytest.raises(ValueError, match=r"no gradient arrives at \['target.module.1'\]"):
        gradients.radial_table(network("byol"), *views(), ["target.module.1"])
    with pytest.raises(TypeError, match=r"Sequential has no loss of its own; name one"):
        gradients.radial_table(nn.Sequential(nn.Flatten(), nn.Linear(64, 8)).double(), *views())
    with pytest.raises(ValueError, match="must have the same shape"):
        gradients.radial_share(torch.ones(2, 3), torch.ones(3, 2))


def test_layers_that_work_in_place_are_read_before_they_do():
    layers = nn.Sequential(nn.Flatten(), nn.Linear(64, 32, bias=False), nn.ReLU(inplace=True))
    model = models.JointEmbedding(layers, nn.Linear(32, 4, bias=False), losses.sigmoid_loss).double()
    table = gradients.radial_table(model, *views()).set_index("layer")
    assert (table["sample"] < ZERO).all()
