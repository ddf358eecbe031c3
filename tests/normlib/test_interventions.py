"""What each intervention changes, and what it leaves alone."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from normlib import gradients, losses
from normlib.interventions import GradScale, cut_initialization, grad_scale, weight_decay_groups


def relu_network(bias, depth=4, width=32, dtype=torch.float64):
    torch.manual_seed(0)
    layers = []
    for _ in range(depth):
        layers += [nn.Linear(width, width, bias=bias, dtype=dtype), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


@pytest.mark.parametrize("c", [0.5, 3.0, 9.0])
def test_without_biases_a_cut_divides_the_embedding_by_c_to_the_depth(c):
    model, x = relu_network(bias=False), torch.randn(8, 32, dtype=torch.float64)
    before = model(x)
    assert cut_initialization(model, c) is model
    torch.testing.assert_close(model(x), before / c**4)


def test_biases_keep_their_size_and_pull_all_embeddings_together():
    model, x = relu_network(bias=True), torch.randn(64, 32, dtype=torch.float64)
    biases = [p.clone() for n, p in model.named_parameters() if n.endswith("bias")]
    before = model(x)
    cut_initialization(model, 3.0)
    after = model(x)
    for old, (_, new) in zip(biases, (i for i in model.named_parameters() if i[0].endswith("bias")), strict=True):
        assert torch.equal(old, new)
    shrunk = before.norm(dim=1).mean() / after.norm(dim=1).mean()
    assert 1 < shrunk < 3  # not 3**4 = 81
    assert losses.unit(after).std(dim=0).sum() < 0.2 * losses.unit(before).std(dim=0).sum()


def test_all_parameters_divides_biases_and_normalisation_as_the_released_code_does():
    model = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    cut_initialization(model, 2.0, parameters="all")
    for name, value in model.state_dict().items():
        running = name.startswith(("1.running", "1.num"))
        torch.testing.assert_close(value, before[name] if running else before[name] / 2, rtol=0, atol=0)


def test_batchnorm_undoes_a_cut_before_it_in_train_mode_only():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 4, bias=False), nn.BatchNorm1d(4, eps=1e-12)).double()
    x = torch.randn(100, 4, dtype=torch.float64)
    model(x)
    in_train, in_eval = model(x), model.eval()(x)
    cut_initialization(model, 3.0)
    torch.testing.assert_close(model.train()(x), in_train)
    assert (model.eval()(x).norm(dim=1) < 0.9 * in_eval.norm(dim=1)).float().mean() > 0.9


def test_scope_chooses_the_last_matrix_or_names_and_cuts_a_shared_tensor_once():
    def scales(**options):
        model = nn.Sequential(nn.Linear(3, 3), nn.Sequential(nn.Linear(3, 3), nn.ReLU()), nn.BatchNorm1d(3))
        nn.init.ones_(model[0].weight)
        nn.init.ones_(model[1][0].weight)
        cut_initialization(model, 2.0, **options)
        return model[0].weight[0, 0].item(), model[1][0].weight[0, 0].item(), model[2].weight[0].item()

    assert scales() == (0.5, 0.5, 1.0)
    assert scales(scope="last") == (1.0, 0.5, 1.0)
    assert scales(scope="0") == (0.5, 1.0, 1.0)
    assert scales(scope=["1"]) == (1.0, 0.5, 1.0)
    assert scales(scope=["1", "1.0"]) == (1.0, 0.5, 1.0)
    tied = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    tied[1].weight = tied[0].weight
    before = tied[0].weight.clone()
    torch.testing.assert_close(cut_initialization(tied, 2.0)[0].weight, before / 2)


MATCHED = {  # optimiser, powers of c that multiply the learning rate and divide the weight decay
    "sgd": (torch.optim.SGD, {}, 2, 2),
    "momentum": (torch.optim.SGD, {"momentum": 0.9}, 2, 2),
    "nesterov": (torch.optim.SGD, {"momentum": 0.9, "nesterov": True}, 2, 2),
    "adamw": (torch.optim.AdamW, {"eps": 1e-30}, 1, 1),
    "adam with decay in the gradient": (torch.optim.Adam, {"eps": 1e-30}, 1, 2),
}


@pytest.mark.parametrize("name", MATCHED)
def test_cutting_is_matching_the_learning_rate(name):
    """Training from θ/c at (η, λ) computes the functions of training from θ at another (η, λ), without biases."""
    make_optimizer, options, lr_power, decay_power = MATCHED[name]
    c, lr, decay = 3.0, 1e-3, 0.1

    def train(cut, lr, weight_decay):
        model = cut_initialization(relu_network(bias=False), cut)
        x1, x2 = torch.randn(2, 16, 32, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
        optimizer = make_optimizer(model.parameters(), lr, weight_decay=weight_decay, **options)
        history = []
        for _ in range(30):
            optimizer.zero_grad()
            loss = losses.info_nce(model(x1), model(x2))
            loss.backward()
            optimizer.step()
            history.append(loss.detach())
        return torch.stack(history)

    cut = train(c, lr, decay)
    torch.testing.assert_close(cut, train(1.0, c**lr_power * lr, decay / c**decay_power), rtol=1e-8, atol=0)
    assert (cut - train(1.0, lr, decay)).abs().max() > 1e-3


@settings(deadline=None, max_examples=50)
@given(st.floats(0, 4), st.integers(0, 2**31), st.lists(st.integers(1, 4), min_size=0, max_size=2))
def test_grad_scale_is_the_identity_forwards_and_a_power_of_the_norm_backwards(power, seed, axes):
    generator = torch.Generator().manual_seed(seed)
    z = torch.randn(*axes, 5, generator=generator, dtype=torch.float64, requires_grad=True)
    upstream = torch.randn(z.shape, generator=generator, dtype=torch.float64)
    for scaled in (grad_scale(z, power), GradScale(power)(z)):
        assert torch.equal(scaled, z)
        (grad,) = torch.autograd.grad(scaled, z, upstream)
        torch.testing.assert_close(grad, upstream * z.detach().norm(dim=-1, keepdim=True) ** power)


@pytest.mark.parametrize(("power", "exponent"), [(0, -2), (1, -1), (2, 0)])
def test_the_turn_of_a_step_scales_as_norm_to_the_power_minus_two(power, exponent):
    z2 = torch.tensor([[0.6, 0.8]], dtype=torch.float64)

    def turn(norm):
        z1 = torch.tensor([[norm, 0.0]], dtype=torch.float64, requires_grad=True)
        (grad,) = torch.autograd.grad(losses.cosine_loss(grad_scale(z1, power), z2), z1)
        torch.testing.assert_close(grad, gradients.cosine_loss_grad(z1.detach(), z2)[0] * norm**power)
        return (grad.norm() / norm).item()

    assert turn(10.0) / turn(1.0) == pytest.approx(10.0**exponent, rel=1e-12)


def test_grad_scale_survives_half_precision_and_zero_rows():
    z = torch.full((1, 4), 200.0, dtype=torch.float16, requires_grad=True)
    grad_scale(z, 2.0).backward(torch.full_like(z, 1e-2))  # 400² overflows float16, 1600 does not
    torch.testing.assert_close(z.grad, torch.full_like(z, 1600.0), rtol=1e-2, atol=0)
    zero = torch.zeros(2, 3, requires_grad=True)
    grad_scale(zero, 1.0).sum().backward()
    assert (zero.grad == 0).all()


def test_weight_decay_groups_reach_every_trainable_parameter_once():
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4, 2))
    model[3].bias.requires_grad_(False)
    decayed, free = weight_decay_groups(model, 0.1)
    assert decayed["weight_decay"] == 0.1
    assert free["weight_decay"] == 0.0
    assert [id(p) for p in decayed["params"]] == [id(model[0].weight), id(model[3].weight)]
    assert [id(p) for p in free["params"]] == [id(model[0].bias), id(model[1].weight), id(model[1].bias)]
    torch.optim.SGD([decayed, free], lr=0.1)


def test_normalisation_and_biases_of_any_shape_are_left_alone():
    model = nn.Sequential(nn.Linear(8, 8), nn.LayerNorm([4, 2]), nn.MultiheadAttention(8, 2, add_bias_kv=True))
    before = {name: value.clone() for name, value in model.named_parameters()}
    cut_initialization(model, 2.0)
    changed = {name for name, value in model.named_parameters() if not torch.equal(value, before[name])}
    assert changed == {"0.weight", "2.in_proj_weight", "2.out_proj.weight"}
    decayed, _ = weight_decay_groups(model, 0.1)
    assert {name for name, p in model.named_parameters() if any(p is q for q in decayed["params"])} == changed


def test_layers_that_cannot_be_cut_are_refused_before_anything_changes():
    by_parametrization = nn.utils.parametrizations.spectral_norm(nn.Linear(2, 2))
    for last in (nn.LazyLinear(3), by_parametrization, nn.utils.spectral_norm(nn.Linear(2, 2))):
        model = nn.Sequential(nn.Linear(2, 2), last)
        before = model[0].weight.clone()
        for parameters in ("weights", "all"):
            with pytest.raises(ValueError, match=r"1\.weight.* (have no values|is (parametrized|under spectral_norm))"):
                cut_initialization(model, 3.0, parameters=parameters)
        assert torch.equal(model[0].weight, before)
    with pytest.raises(ValueError, match="run one batch through the model first"):
        weight_decay_groups(nn.LazyLinear(3), 0.1)
    normed = nn.utils.parametrizations.weight_norm(nn.Linear(2, 2, bias=False))
    x = torch.ones(1, 2)
    torch.testing.assert_close(cut_initialization(normed, 3.0)(x) * 3, nn.functional.linear(x, normed.weight * 3))


def test_a_shared_module_answers_to_both_names():
    layer = nn.Linear(2, 2)
    model = nn.Sequential(layer, nn.ReLU(), layer)
    before = layer.weight.clone()
    cut_initialization(model, 2.0, scope="2")
    torch.testing.assert_close(layer.weight, before / 2)


def test_grad_scale_allows_an_in_place_layer_behind_it():
    z = torch.tensor([[3.0, -4.0]], requires_grad=True)
    nn.Sequential(GradScale(1.0), nn.ReLU(inplace=True))(z * 1).sum().backward()
    torch.testing.assert_close(z.grad, torch.tensor([[5.0, 0.0]]))


def test_bad_input_is_refused_before_anything_changes():
    model = nn.Sequential(nn.Linear(2, 2), nn.ReLU())
    before = model[0].weight.clone()
    for c in (0, -1, math.nan, math.inf, "3"):
        with pytest.raises(ValueError, match="c must be a number > 0"):
            cut_initialization(model, c)
    with pytest.raises(ValueError, match=r"unknown submodules \['projector'\].*'0', '1'"):
        cut_initialization(model, 3.0, scope=["0", "projector"])
    with pytest.raises(ValueError, match="holds no parameters to cut"):
        cut_initialization(nn.ReLU(), 3.0)
    with pytest.raises(ValueError, match="holds no parameters to cut"):
        cut_initialization(nn.BatchNorm1d(3), 3.0, scope="last")
    with pytest.raises(ValueError, match="parameters must be one of 'weights', 'all', got 'biases'"):
        cut_initialization(model, 3.0, parameters="biases")
    assert torch.equal(model[0].weight, before)
    for power in (-1, math.nan, math.inf, "1"):
        with pytest.raises(ValueError, match="power must be a number ≥ 0"):
            GradScale(power)
        with pytest.raises(ValueError, match="power must be a number ≥ 0"):
            grad_scale(torch.ones(2, 2), power)
    with pytest.raises(TypeError, match=r"floating-point tensor, got torch.int64"):
        grad_scale(torch.ones(2, 2, dtype=torch.int64), 1.0)
    for decay in (-1, math.nan, math.inf, "1"):
        with pytest.raises(ValueError, match="weight_decay must be a number ≥ 0"):
            weight_decay_groups(model, decay)
    with pytest.raises(ValueError, match="no parameter with requires_grad=True"):
        weight_decay_groups(nn.ReLU(), 0.1)
