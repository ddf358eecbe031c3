"""SimCLR on photographs and what it is measured against: small runs of each kind on digits, and their plans."""

import numpy as np
import pandas as pd
import pytest
import torch

from normcourse import experiments
from normcourse.experiments import cifar10_confidence, cifar10_controls, cifar10_simclr, other_images
from normcourse.experiments.store import Store
from normcourse.paths import RESULTS
from normlib import data, evaluation
from normlib.training import recipes, run_dir, weight_files

RECORDED = Store(RESULTS)


@pytest.fixture(autouse=True)
def silent(monkeypatch):
    monkeypatch.setenv("TQDM_DISABLE", "1")


def tiny(name, **changes):
    experiment = experiments.EXPERIMENTS[name]
    settings = experiment.settings | experiment.smoke | changes
    return experiment, settings, experiment.jobs(settings, RECORDED)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A small run, with its folder."""
    folder = tmp_path_factory.mktemp("run")
    experiment, settings, jobs = tiny("cifar10-simclr")
    return experiment.run(settings, jobs[0], folder), folder, settings, jobs[0]


def test_the_network_is_scored_as_it_was_at_each_kept_epoch(finished):
    tables, folder, *_ = finished
    assert tables["trajectory"]["epoch"].unique().tolist() == [0, 2]
    recipe = recipes.get("digits").replace(epochs=2, warmup_epochs=1, lr=0.1, seed=0)
    for epoch, rows in tables["trajectory"].groupby("epoch"):
        model = weight_files.load(recipe, run_dir.weights_file(folder, epoch))
        norms = evaluation.embed(model, data.digits("test"))[1].norm(dim=1)
        np.testing.assert_allclose(rows["norm_projector"], norms, rtol=6e-4)
    untrained = recipe.build_model()
    first = tables["trajectory"].query("epoch == 0")
    norms = evaluation.embed(untrained, data.digits("test"))[1].norm(dim=1)
    np.testing.assert_allclose(first["norm_projector"], norms, rtol=6e-4)


def test_the_last_state_has_all_scores_of_test_and_training_images(finished):
    tables, *_ = finished
    samples = tables["samples"]
    assert samples["split"].value_counts().to_dict() == {"train": 1347, "test": 450}
    assert samples.loc[samples["split"] == "test", "view_spread"].between(0, 2).all()
    assert samples["mahalanobis"].notna().all()
    last = tables["trajectory"].query("epoch == 2").reset_index(drop=True)
    test = samples[samples["split"] == "test"].reset_index(drop=True)
    assert last[["index", "norm_projector", "knn_margin"]].equals(test[["index", "norm_projector", "knn_margin"]])


def test_accuracy_by_epoch_is_that_of_the_scored_images(finished):
    tables, *_ = finished
    knn = tables["epochs"].set_index("epoch")["knn"]
    expected = tables["trajectory"].groupby("epoch")["knn_correct"].mean()
    assert knn.dropna().to_dict() == expected.to_dict()


def test_weights_are_followed_and_the_last_ones_kept(finished):
    tables, folder, *_ = finished
    assert {"weight_norm", "weight_turned"} <= set(tables["norms"]["statistic"])
    model = weight_files.load(recipes.get("digits"), folder / "kept" / "seed-0.safetensors")
    exact = weight_files.load(recipes.get("digits"), run_dir.weights_file(folder, 2))
    for name, value in exact.state_dict().items():
        torch.testing.assert_close(model.state_dict()[name], value.bfloat16().float())


def test_labels_of_other_data_mean_nothing_and_are_not_kept(finished):
    tables, *_ = finished
    assert tables["other"]["split"].unique().tolist() == ["uniform noise", "blur 3"]
    assert not {"label", "knn_correct", "probe_correct"} & set(tables["other"])


def test_weights_lie_beside_the_record(tmp_path):
    experiment, settings, jobs = tiny("cifar10-simclr", other=[], corrupt={})
    from normcourse.experiments.runner import run_job

    store = Store(tmp_path)
    run_job(experiment, settings, jobs[0], store)
    before = store.file("cifar10-simclr", "seed-0.safetensors").read_bytes()
    store.gather("cifar10-simclr", jobs)
    assert (tmp_path / "cifar10-simclr" / "seed-0.safetensors").read_bytes() == before
    assert store.file("cifar10-simclr", "seed-0.safetensors").parent.name == "cifar10-simclr"
    with pytest.raises(FileNotFoundError, match=r"no job of cifar10-simclr has left a file seed-1\.safetensors"):
        store.file("cifar10-simclr", "seed-1.safetensors")


def test_every_class_is_held_out_once():
    settings = experiments.EXPERIMENTS["cifar10-held-out"].settings
    pairs = [changes["held_out"] for changes in settings["by_seed"]]
    assert sorted(label for pair in pairs for label in pair) == list(range(10))
    assert len(experiments.EXPERIMENTS["cifar10-held-out"].jobs(settings, RECORDED)) == len(pairs)


def test_epochs_that_are_kept_end_with_the_last():
    for name in ("cifar10-simclr", "cifar10-held-out", "cifar100-simclr"):
        settings = experiments.EXPERIMENTS[name].settings
        assert settings["keep_weights"][-1] == settings["change"]["epochs"]
        assert settings["keep_weights"] == sorted(set(settings["keep_weights"]))


# Controls


def test_untrained_networks_are_those_that_training_begins_with():
    experiment, settings, jobs = tiny("cifar10-untrained")
    tables = experiment.run(settings, jobs[0], None)
    norms = evaluation.embed(recipes.get("digits").build_model(), data.digits("test"))[1].norm(dim=1)
    rows = tables["samples"].query("split == 'test'")
    np.testing.assert_allclose(rows["norm_projector"], norms, rtol=6e-4)


def test_raw_pixels_are_centred_on_the_training_images():
    experiment, settings, jobs = tiny("cifar10-pixels")
    tables = experiment.run(settings, jobs[0], None)
    train, test = data.digits("train"), data.digits("test")
    x, queries = (each.images.flatten(1).double() / 255 for each in (train, test))
    lengths = (queries - x.mean(0)).norm(dim=1)
    np.testing.assert_allclose(tables["samples"]["norm_backbone"], lengths, rtol=6e-4)
    correct = evaluation.knn(x - x.mean(0), train.labels, queries - x.mean(0), k=20) == test.labels
    accuracy = tables["accuracy"].set_index("k")["knn"]
    assert accuracy[20] == pytest.approx(correct.double().mean().item(), abs=0.005)


def test_properties_of_images_whose_properties_are_known():
    flat, steps = torch.full((1, 3, 4, 4), 51), torch.zeros(1, 3, 4, 4)
    steps[..., 2:] = 255  # black on the left, white on the right
    red = torch.zeros(1, 3, 4, 4)
    red[:, 0] = 255
    pixels = torch.cat([flat, steps, red]).to(torch.uint8)
    images = data.ImageSet(pixels, torch.zeros(3, dtype=torch.int64), torch.arange(3), ("any",), "three")
    found = cifar10_controls.properties_of(images).set_index("index")
    assert found["brightness"].tolist() == pytest.approx([0.2, 0.5, 0.2989], abs=1e-3)
    assert found["contrast"].tolist() == pytest.approx([0, 0.5, 0], abs=1e-3)
    assert found["saturation"].tolist() == pytest.approx([0, 0, 1], abs=1e-3)
    assert found["gradient_energy"].tolist() == pytest.approx([0, 1 / 3, 0], abs=1e-3)  # one of three steps across


def test_networks_trained_with_labels_know_the_digits_and_lack_held_out_ones():
    experiment, settings, jobs = tiny("cifar10-supervised", epochs=6)
    tables = {job["held_out"]: experiment.run(settings, job, None) for job in jobs}
    assert tables[""]["samples"]["correct"].mean() > 0.9
    lacking = tables["0 5"]["samples"]
    held_out = lacking["split"] == "held out"
    assert sorted(lacking.loc[held_out, "label"].unique()) == [0, 5]
    assert not lacking.loc[held_out, "correct"].any()
    assert lacking.loc[~held_out, "max_softmax"].mean() > lacking.loc[held_out, "max_softmax"].mean() + 0.1
    assert lacking["max_softmax"].between(1 / 8 - 1e-6, 1).all()


# Other images


def test_other_images_come_in_the_shape_of_the_networks_own():
    noise = other_images.image_set("gaussian noise", data.digits("test"))
    assert tuple(noise.images.shape[1:]) == (1, 8, 8)
    assert noise.images.double().mean().item() == pytest.approx(121, abs=2)


def test_grey_images_of_another_size_become_colour_of_32_pixels(tmp_path, monkeypatch):
    import pooch

    monkeypatch.setattr(pooch, "os_cache", lambda project: tmp_path / project)
    other_images._from_file.cache_clear()
    like = data.ImageSet(
        torch.zeros(1, 3, 32, 32, dtype=torch.uint8), torch.tensor([0]), torch.tensor([0]), ("any",), "photographs"
    )
    with pytest.raises(FileNotFoundError, match=r"expected the images of 'mnist' in .*mnist\.npz"):
        other_images.image_set("mnist", like)
    folder = tmp_path / "normlib" / "other-images"
    folder.mkdir(parents=True)
    grey = np.random.default_rng(0).integers(0, 256, (5, 28, 28), dtype=np.uint8)
    np.savez(folder / "mnist.npz", images=grey)
    images = other_images.image_set("mnist", like)
    assert tuple(images.images.shape) == (5, 3, 32, 32)
    assert torch.equal(images.images[:, 0], images.images[:, 2])
    means = images.images.double().mean((1, 2, 3)).numpy()
    np.testing.assert_allclose(means, grey.mean((1, 2)), atol=1.5)
    other_images._from_file.cache_clear()


# Effects


@pytest.fixture(scope="module")
def effects():
    return experiments.smoke("cifar10-confidence")["effects"]


def test_every_claim_on_the_record_asks_for_rows_that_it_has():
    """By the columns that tell rows apart, of the made-up networks; the numbers mean nothing."""
    from normcourse import claims

    made = experiments.smoke("cifar10-confidence")["effects"]
    keys = ["network", "outcome", "score", "control", "measure"]
    there = set(made[keys].itertuples(index=False, name=None))
    other_data = {"cifar100", *other_images.FILES, *other_images.NOISE}
    asked = 0
    for claim in claims.ledger():
        for part in (*claim.parts, *claim.control):
            if part.record != "cifar10-confidence":
                continue
            for where in (part.where, part.where | (part.minus or {})):
                wanted = where | ({"outcome": "uniform noise"} if where["outcome"] in other_data else {})
                if where["network"] != "untrained" or where["outcome"] not in other_data:
                    assert tuple(wanted[key] for key in keys) in there, (claim.id, wanted)
                asked += 1
    assert asked > 20


def made_up_networks(pairs, lengths, *, lengthened=0.0, seed=0):
    """Test images under networks that lack two classes each; held-out classes get shorter by ``lengthened``."""
    random, frames = np.random.default_rng(seed), []
    for network, pair in enumerate(pairs):
        labels = np.repeat(range(10), 100)
        norms = np.array(lengths)[labels] + random.normal(size=1000) - lengthened * np.isin(labels, pair)
        frames.append(pd.DataFrame({"label": labels, "norm_projector": norms, "seed": network}))
    return pd.concat(frames, ignore_index=True)


@pytest.mark.parametrize("lengthened", [0.0, 2.0])
def test_classes_that_are_short_by_themselves_are_no_novelty(lengthened):
    pairs = cifar10_simclr.HELD_OUT
    table = made_up_networks(pairs, lengths=np.linspace(-3, 3, 10), lengthened=lengthened)

    class Sources:
        held_out, pairs = staticmethod(lambda: table), staticmethod(lambda: cifar10_simclr.HELD_OUT)

    found = pd.concat(cifar10_confidence.of_held_out(Sources()))
    by = found.pivot(index="seed", columns="control", values="value")
    assert by[""].std() > 0.1  # the classes' own lengths
    difference = (by[""] - by["seen by the others"]).mean()
    assert difference == pytest.approx(0, abs=0.02) if lengthened == 0 else difference > 0.2
