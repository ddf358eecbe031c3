"""Recipes: the settings they stand for, the networks and images they build, what they refuse."""

import json
import re
from dataclasses import asdict, fields, replace
from functools import partial

import numpy as np
import pytest
import torch
from torch import nn

from normlib import data, losses
from normlib.interventions import GradScale
from normlib.training import TrainConfig, recipes
from normlib.training.recipes import RECIPES, Recipe

SHAPES = {
    **dict.fromkeys(("resnet18", "resnet10", "resnet10_half", "narrow_resnet"), (3, 32, 32)),
    "digits": (1, 8, 8),
}
DIGITS = RECIPES["digits"]


def test_paper_has_the_papers_settings():
    """Learning rates are those that are applied: the released 0.6 is multiplied by itself."""
    paper = RECIPES["paper"]
    train = {
        "lr": 0.6 * 0.6,
        "batch_size": 512,
        "weight_decay": 1e-6,
        "momentum": 0.9,
        "warmup_epochs": 10,
        "epochs": 512,
        "optimizer": "sgd",
        "nesterov": False,
    }
    assert {name: getattr(paper.train, name) for name in train} == pytest.approx(train)
    assert (paper.data, paper.network, paper.projector) == ("cifar10", "resnet18", (128, 128))
    assert (paper.cut, paper.grad_scale_power, paper.held_out, paper.largest) == (1, 0, (), None)
    model = paper.build_model()
    z1, z2 = torch.randn(2, 8, 128, generator=torch.Generator().manual_seed(0))
    assert model.loss(z1, z2) == losses.info_nce(z1, z2, 0.5, denominator="nt-xent")
    head = model.projector
    assert [layer.weight.shape for layer in head if isinstance(layer, nn.Linear)] == [(128, 512), (128, 128)]


def test_smaller_recipes_differ_from_the_papers_only_in_size_and_speed():
    paper = RECIPES["paper"]
    assert replace(RECIPES["colab_t4"], train=paper.train) == paper
    same = {"optimizer", "momentum", "nesterov", "weight_decay", "micro_batch_size"}
    of_the_loss = (paper.method, paper.temperature, paper.denominator)
    for name, recipe in RECIPES.items():
        assert {key: getattr(recipe.train, key) for key in same} == {key: getattr(paper.train, key) for key in same}
        assert recipe.train.lr <= paper.train.lr, name
        assert recipe.train.precision != "bf16-mixed" or name == "paper"  # a T4 has no such units
        assert (recipe.cut, recipe.grad_scale_power) == (1, 0)
        assert (recipe.method, recipe.temperature, recipe.denominator) == of_the_loss


@pytest.mark.parametrize("name", RECIPES)
def test_printed_text_names_every_setting_with_its_value(name):
    recipe = RECIPES[name].replace(cut=3.25, held_out=(4, 7), lr=0.123, temperature=0.25, denominator="decoupled")
    printed = dict(line.split(maxsplit=1) for line in str(recipe).splitlines())
    expected = {each.name for each in fields(Recipe) + fields(TrainConfig)} - {"train"}
    assert set(printed) == expected
    for setting, words in printed.items():
        value = getattr(recipe if hasattr(recipe, setting) else recipe.train, setting)
        assert words == str(value)


@pytest.mark.parametrize("name", RECIPES)
def test_model_embeds_the_recipes_images_and_has_the_layers_that_are_tracked(name):
    recipe = RECIPES[name]
    model = recipe.build_model().eval()
    seen = {}
    for layer in recipe.tracked_layers():
        model.get_submodule(layer).register_forward_hook(lambda module, x, out, layer=layer: seen.update({layer: out}))
    x1, x2 = recipe.augmentation()(
        torch.zeros(3, *SHAPES[recipe.network], dtype=torch.uint8), generator=torch.Generator()
    )
    assert x1.shape == x2.shape == (3, *SHAPES[recipe.network])
    z = model(x1)
    assert z.shape == (3, recipe.projector[1])
    assert model.features(x1).shape == (3, recipes.NETWORKS[recipe.network].features)
    assert list(seen) == list(dict.fromkeys(recipe.tracked_layers()))
    assert torch.equal(seen[recipe.tracked_layers()[-1]], z)


def test_printed_text_shows_the_temperature_that_the_method_has_by_itself():
    def printed(**changes):
        return dict(line.split(maxsplit=1) for line in str(DIGITS.replace(**changes)).splitlines())

    assert (printed()["temperature"], printed()["denominator"]) == ("0.5", "nt-xent")
    assert (printed(method="siglip")["temperature"], printed(method="siglip")["denominator"]) == ("0.1", "None")


@pytest.mark.parametrize(
    ("changes", "loss"),
    [
        ({}, partial(losses.info_nce, temperature=0.5)),
        ({"temperature": 0.2}, partial(losses.info_nce, temperature=0.2)),
        ({"denominator": "decoupled"}, partial(losses.info_nce, temperature=0.5, denominator="decoupled")),
        ({"method": "siglip"}, partial(losses.sigmoid_loss, temperature=0.1, bias=-10.0)),
        ({"method": "siglip", "temperature": 0.2}, partial(losses.sigmoid_loss, temperature=0.2, bias=-10.0)),
    ],
)
def test_settings_of_the_loss_are_in_the_model(changes, loss):
    z1, z2 = torch.randn(2, 8, 4, generator=torch.Generator().manual_seed(0))
    assert DIGITS.replace(**changes).build_model().loss(z1, z2) == loss(z1, z2)


def test_weights_come_from_the_seed_alone():
    def weights(**changes):
        return torch.cat([p.flatten() for p in DIGITS.replace(**changes).build_model().parameters()])

    state = torch.get_rng_state()
    assert torch.equal(weights(), weights(lr=1.0, epochs=7, batch_size=8))
    assert not torch.equal(weights(), weights(seed=1))
    assert torch.equal(torch.get_rng_state(), state)


def test_interventions_are_in_the_model():
    plain, cut = DIGITS.build_model(), DIGITS.replace(cut=4, grad_scale_power=0.5).build_model()
    for (name, weight), other in zip(plain.named_parameters(), cut.parameters(), strict=True):
        torch.testing.assert_close(other, weight / 4 if weight.ndim > 1 else weight, rtol=0, atol=0, msg=name)
    assert isinstance(plain.grad_scale, nn.Identity)
    assert isinstance(cut.grad_scale, GradScale)
    assert cut.grad_scale.power == 0.5


def test_sync_batchnorm_converts_all():
    def kinds(**changes):
        parts = RECIPES["cpu"].replace(**changes).build_model().modules()
        return {type(part) for part in parts if isinstance(part, nn.modules.batchnorm._BatchNorm)}

    assert kinds() == {nn.BatchNorm2d}
    assert kinds(sync_batchnorm=True) == {nn.SyncBatchNorm}


def test_images_are_those_of_the_data_functions():
    whole = data.digits("train")
    tail = {"largest": 100, "tail_ratio": 1.2, "tail_order": [3, 1, 4, 5], "seed": 2}
    expected = data.long_tailed(whole, largest=100, ratio=1.2, order=(3, 1, 4, 5), seed=2)
    assert DIGITS.images().fingerprint() == whole.fingerprint()
    assert DIGITS.replace(**tail).images().fingerprint() == expected.fingerprint()
    seen = data.hold_out(expected, (4,))[0]
    assert DIGITS.replace(**tail, held_out=[4]).images().fingerprint() == seen.fingerprint()
    assert DIGITS.replace(held_out=[4]).test_images().fingerprint() == data.digits("test").fingerprint()


def test_data_are_read_once(monkeypatch):
    recipes.load_once.cache_clear()
    read = []
    monkeypatch.setattr(data, "load", lambda name, split: read.append((name, split)))
    for _ in range(2):
        DIGITS.images(), DIGITS.test_images()
    assert read == [("digits", "train"), ("digits", "test")]
    recipes.load_once.cache_clear()


def test_changes_go_where_their_names_are_and_leave_the_recipe_alone():
    before = replace(DIGITS)
    recipe = DIGITS.replace(lr=0.5, cut=2, epochs=7)
    assert (recipe.train.lr, recipe.cut, recipe.train.epochs) == (0.5, 2, 7)
    assert replace(recipe, cut=1.0, train=replace(recipe.train, lr=0.1, epochs=100)) == DIGITS == before
    assert DIGITS.replace() == DIGITS


def test_values_of_numpy_and_lists_make_the_same_recipe():
    """As from ``--set held_out=[0,1]``, or a sweep over ``np.linspace``: a run directory keeps plain values."""
    plain = {"held_out": (0, 1), "projector": (64, 32), "cut": 0.5, "lr": 0.25, "epochs": 9, "nesterov": True}
    other = {
        "held_out": [np.int64(0), 1],
        "projector": [64, 32],
        "cut": np.float32(0.5),
        "lr": np.float64(0.25),
        "epochs": np.int64(9),
        "nesterov": np.bool_(True),
    }
    recipe = DIGITS.replace(**other)
    assert recipe == DIGITS.replace(**plain)
    assert json.dumps(asdict(recipe)) == json.dumps(asdict(DIGITS.replace(**plain)))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"epoch": 3}, "there is no setting 'epoch'; did you mean epochs? Settings are batch_size, channels_last,"),
        ({"learning": 3}, "there is no setting 'learning'; Settings are batch_size"),
        ({"train": TrainConfig()}, "there is no setting 'train'; "),
        ({"grad_scale": 1}, "did you mean grad_scale_power?"),
        ({"temperature": 0}, "temperature must be a number > 0, got 0"),
        ({"denominator": "ntxent"}, "denominator must be one of 'nt-xent', 'decoupled', 'cross-view', got 'ntxent'"),
        ({"method": "vicreg", "temperature": 0.1}, "temperature = 0.1 is no setting of the loss of method = 'vicreg'"),
        (
            {"method": "simsiam", "temperature": 0.5},
            "temperature = 0.5 is no setting of the loss of method = 'simsiam'",
        ),
        (
            {"method": "siglip", "denominator": "decoupled"},
            "denominator = 'decoupled' is no setting of the loss of method = 'siglip'; leave it None",
        ),
        (
            {"network": "resnet50"},
            "network must be one of 'resnet18', 'resnet10', 'resnet10_half', 'narrow_resnet', 'digits', "
            "'digits_batch_norm', got 'resnet50'",
        ),
        ({"data": ["digits"]}, "data must be a name, got ('digits',)"),
        ({"network": ["digits"]}, "network must be one of 'resnet18', "),
        ({"projector": 128}, "projector must be two widths in 1..1048576, such as (128, 64), got 128"),
        ({"projector": (128,)}, "projector must be two widths in 1..1048576, such as (128, 64), got (128,)"),
        ({"projector": (128, 0)}, "projector must be two widths in 1..1048576, such as (128, 64), got (128, 0)"),
        ({"projector": "ab"}, "projector must be two widths in 1..1048576, such as (128, 64), got 'ab'"),
        ({"projector": ()}, "projector must be two widths in 1..1048576, such as (128, 64), got ()"),
        ({"cut": 0}, "cut must be a number > 0, got 0"),
        ({"cut": "3x"}, "cut must be a number > 0, got '3x'"),
        ({"grad_scale_power": -1}, "grad_scale_power must be a number ≥ 0, got -1"),
        ({"tail_ratio": 0.5, "largest": 9}, "tail_ratio must be a number ≥ 1, got 0.5"),
        ({"tail_ratio": 2}, "a long tail needs largest, the images of its commonest class, got None"),
        ({"tail_order": (1, 0)}, "a long tail needs largest, the images of its commonest class, got None"),
        ({"tail_order": 3, "largest": 9}, "tail_order must be class numbers, such as (0, 1), got 3"),
        ({"held_out": 3}, "held_out must be class numbers, such as (0, 1), got 3"),
        ({"held_out": "cat"}, "held_out must be class numbers, such as (0, 1), got 'cat'"),
        ({"held_out": (True,)}, "held_out must be class numbers, such as (0, 1), got (True,)"),
        ({"held_out": None}, "held_out must be class numbers, such as (0, 1), got None"),
        ({"sync_batchnorm": "false"}, "sync_batchnorm must be True or False, got 'false'"),
        ({"channels_last": "false"}, "channels_last must be True or False, got 'false'"),
        ({"compile": 1}, "compile must be True or False, got 1"),
        ({"nesterov": None}, "nesterov must be True or False, got None"),
        ({"lr": 0}, "lr must be a number > 0, got 0"),
    ],
)
def test_wrong_settings_are_refused(change, words):
    with pytest.raises(ValueError, match=re.escape(words)):
        DIGITS.replace(**change)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"held_out": (10,)}, r"classes must be an integer ≥ 0 and ≤ 9, got 10"),
        ({"held_out": (1, 1)}, r"each once, got \[1, 1\]"),
        ({"held_out": tuple(range(10))}, "must leave a class to train on"),
        ({"largest": 10_000}, "ask for 10000 images of class 0"),
        ({"largest": "many"}, "largest must be an integer ≥ 1, got 'many'"),
        ({"largest": 20, "tail_ratio": 50}, "at least 1 is needed"),
        ({"largest": 20, "tail_order": (0, 11)}, r"order must be an integer ≥ 0 and ≤ 9, got 11"),
        ({"data": "mnist"}, "name must be one of 'digits', 'cifar10', 'cifar100', 'cifar10-jpeg', got 'mnist'"),
    ],
)
def test_what_only_the_data_can_tell_is_refused_with_them(change, words):
    with pytest.raises(ValueError, match=words):
        DIGITS.replace(**change).images()


def test_unknown_names_are_refused():
    assert recipes.get("paper") is RECIPES["paper"]
    with pytest.raises(
        ValueError, match="recipe must be one of 'paper', 'colab_t4', 'cpu', 'two_cores', 'digits', got 'papr'"
    ):
        recipes.get("papr")
