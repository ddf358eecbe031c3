"""Weights in safetensors files: what is written is read again, and what is not theirs is refused."""

import json

import pytest
import torch
from safetensors import safe_open

from normlib import data
from normlib.training import recipes, run_dir, weight_files


def short(**changes):
    return recipes.get("digits").replace(epochs=2, warmup_epochs=0, projector=(8, 4), **changes)


def test_what_is_written_is_read(tmp_path):
    model = short(network="digits_batch_norm", seed=3).build_model()
    weight_files.save(model, tmp_path / "new" / "w.safetensors")
    again = weight_files.load(short(network="digits_batch_norm"), tmp_path / "new" / "w.safetensors")
    assert not again.training
    assert model.state_dict().keys() == again.state_dict().keys()
    assert all(torch.equal(value, again.state_dict()[name]) for name, value in model.state_dict().items())


def test_channels_last_weights_are_written_whole(tmp_path):
    model = short().build_model().to(memory_format=torch.channels_last)
    weight_files.save(model, tmp_path / "w.safetensors")
    again = weight_files.load(short(), tmp_path / "w.safetensors")
    assert all(torch.equal(value, again.state_dict()[name]) for name, value in model.state_dict().items())


def test_bfloat16_halves_the_file_and_embeds_nearly_the_same(tmp_path):
    model = short().build_model()
    for name, dtype in (("whole", None), ("half", torch.bfloat16)):
        weight_files.save(model, tmp_path / name, dtype=dtype)
    sizes = {name: (tmp_path / name).stat().st_size for name in ("whole", "half")}
    assert sizes["half"] < 0.51 * sizes["whole"]
    x = torch.rand(20, 1, 8, 8)
    with torch.no_grad():
        z, rounded = model.eval()(x), weight_files.load(short(), tmp_path / "half")(x)
    assert (z.norm(dim=1) / rounded.norm(dim=1) - 1).abs().max() < 0.02
    with safe_open(tmp_path / "half", "pt") as file:
        assert {file.get_tensor(name).dtype for name in file.keys()} == {torch.bfloat16}  # noqa: SIM118


def test_files_that_are_not_the_recipes_are_refused(tmp_path):
    path = tmp_path / "w.safetensors"
    with pytest.raises(FileNotFoundError):
        weight_files.load(short(), path)
    weight_files.save(short().build_model(), path)
    with pytest.raises(ValueError, match="holds no weights of this recipe's network"):
        weight_files.load(short(head="batch_norm"), path)
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(ValueError, match="holds no weights of this recipe's network"):
        weight_files.load(short(), path)


def test_a_run_keeps_the_weights_that_it_is_asked_for(tmp_path):
    recipe = short()
    trained = run_dir.train(
        recipe, tmp_path / "run", images=data.digits("train"), keep_weights=(0, 2), knn=False, accelerator="cpu",
        progress=False,
    )  # fmt: skip
    kept = sorted((tmp_path / "run" / "weights").iterdir())
    assert kept == [run_dir.weights_file(tmp_path / "run", epoch) for epoch in (0, 2)]
    before, after = (weight_files.load(recipe, path).state_dict() for path in kept)
    untrained = recipe.build_model().state_dict()
    for name, value in trained.model.state_dict().items():
        assert torch.equal(after[name], value)
        assert torch.equal(before[name], untrained[name])


def test_an_interrupted_write_leaves_the_earlier_file(tmp_path, monkeypatch):
    path = tmp_path / "w.safetensors"
    weight_files.save(short().build_model(), path)
    before = path.read_bytes()

    def broken(tensors, temporary):
        temporary.write_bytes(b"half")
        raise OSError("disk full")

    monkeypatch.setattr("safetensors.torch.save_file", broken)
    with pytest.raises(OSError, match="disk full"):
        weight_files.save(short(seed=1).build_model(), path)
    assert path.read_bytes() == before
    assert json.dumps([each.name for each in tmp_path.iterdir()]) == '["w.safetensors"]'
