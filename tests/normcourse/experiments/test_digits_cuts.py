"""The runs behind *Cut and scale*: what the networks share, and what their record must show."""

import numpy as np
import pytest
import torch
from torch import nn

from normcourse import experiments
from normcourse.experiments import digits_cuts

SETTINGS = {"cuts": [1.0, 2.0], "lr": 0.02, "steps": 12, "record_every": 3, "batch_size": 32}
PLAIN = {"depth": 3, "biases": False, "batch_norm": False, "seed": 1}


def matrices(**network):
    return [layer.weight for layer in digits_cuts.perceptron(**network) if isinstance(layer, nn.Linear)]


def test_weights_are_those_of_the_seed_whatever_stands_beside_them():
    plain = matrices(**PLAIN)
    for biases, batch_norm in ((True, False), (False, True), (True, True)):
        others = matrices(depth=3, biases=biases, batch_norm=batch_norm, seed=1)
        assert all(torch.equal(*pair) for pair in zip(plain, others, strict=True))
    assert not torch.equal(plain[0], matrices(**PLAIN | {"seed": 2})[0])


def test_networks_have_what_they_are_said_to_have():
    model = digits_cuts.perceptron(4, biases=True, batch_norm=True, seed=0)
    kinds = [type(layer).__name__ for layer in model]
    assert kinds == ["Flatten", *["Linear", "BatchNorm1d", "ReLU"] * 3, "Linear"]
    assert all(layer.bias is not None for layer in model if isinstance(layer, nn.Linear))
    plain = digits_cuts.perceptron(**PLAIN)
    assert [name for name, _ in plain.named_parameters()] == ["1.weight", "3.weight", "5.weight"]


def test_global_generator_is_left_as_it_was():
    torch.manual_seed(0)
    expected = torch.rand(1)
    torch.manual_seed(0)
    digits_cuts.perceptron(**PLAIN)
    assert torch.rand(1) == expected


def test_a_cut_without_biases_is_a_larger_step_size(tmp_path):
    """By a factor that floats hold exactly, so that both runs round alike."""
    steps = digits_cuts.run(SETTINGS, PLAIN, tmp_path)["steps"]
    cut = steps.query("cut == 2")
    uncut = steps.query("cut == 1 and lr == 0.08")
    assert cut["step"].tolist() == [0, 3, 6, 9, 12]
    np.testing.assert_allclose(uncut["loss"], cut["loss"], rtol=1e-6)
    np.testing.assert_allclose(uncut["norm"], 8 * cut["norm"], rtol=1e-5)
    np.testing.assert_allclose(uncut["spread"], cut["spread"], rtol=1e-4)


def test_spread_is_one_minus_the_mean_cosine_between_different_rows():
    z = torch.randn(9, 5, generator=torch.Generator().manual_seed(0)).double() + 1
    cosines = nn.functional.cosine_similarity(z[:, None], z[None], dim=2)
    different = cosines[~torch.eye(9, dtype=torch.bool)]
    found = digits_cuts._shape(z)
    assert found["spread"] == pytest.approx(1 - different.mean().item())
    assert found["norm"] == pytest.approx(z.norm(dim=1).mean().item())


def test_record_holds_every_network_cut_and_step_size():
    table = experiments.load("digits-cuts")["steps"]
    names = ["depth", "biases", "batch_norm", "cut", "lr", "seed"]
    assert len(table[names].drop_duplicates()) == 4 * 4 * 9 * 8
    assert set(table.groupby(names).size()) == {26}


def test_record_shows_the_law_of_the_cut_and_how_biases_break_it():
    """Without biases c**L; with them next to nothing; with BatchNorm c."""
    table = experiments.load("digits-cuts")["steps"]
    start = table.query("step == 0 and lr == 0.02").groupby(["biases", "batch_norm", "depth", "cut"])["norm"].mean()
    for depth in (2, 3, 4, 6):
        for cut in (0.5, 2.0, 3.0, 4.0):
            shorter = start[False, False, depth, 1.0] / start[False, False, depth, cut]
            assert shorter == pytest.approx(cut**depth, rel=1e-4)
            with_norm = start[False, True, depth, 1.0] / start[False, True, depth, cut]
            assert with_norm == pytest.approx(cut, rel=0.01)
    assert start[True, False, 6, 1.0] / start[True, False, 6, 3.0] < 1.2
