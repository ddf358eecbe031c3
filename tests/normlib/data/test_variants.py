"""Variants of a data set: classes held out, a long tail, corrupted images."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from normlib import data
from normlib.data import cifar10_files, variants


def image_set(count=6, classes=3, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return data.ImageSet(
        torch.randint(0, 256, (count, 3, 4, 5), generator=generator, dtype=torch.uint8),
        torch.arange(count) % classes,
        torch.arange(count) * 10,
        tuple("abcdefgh"[:classes]),
        "test",
    )


# --- hold_out ---


def same_images(part, whole, positions):
    """Whether ``part`` is ``whole`` at these places, labels, indices and class names unchanged."""
    expected = whole.subset(positions)
    fields = ("images", "labels", "indices")
    return part.classes == whole.classes and all(torch.equal(getattr(part, f), getattr(expected, f)) for f in fields)


@settings(deadline=None, max_examples=30)
@given(st.sets(st.integers(0, 9), min_size=1, max_size=9))
def test_hold_out_splits_by_label_and_changes_nothing_else(chosen):
    whole = data.digits("test")
    seen, held_out = data.hold_out(whole, sorted(chosen))
    inside = torch.tensor([label in chosen for label in whole.labels.tolist()])
    assert same_images(seen, whole, ~inside)
    assert same_images(held_out, whole, inside)


def test_hold_out_names_its_parts():
    names = [part.name for part in data.hold_out(image_set(), [2, 0])]
    assert names == ["test without c, a", "test, only c, a"]


@pytest.mark.parametrize(
    ("classes", "message"),
    [
        ([], "classes must hold one class or more, each once"),
        ([1, 1], r"classes must hold .* each once, got \[1, 1\]"),
        ([3], r"classes must be an integer ≥ 0 and ≤ 2, got 3"),
        (["a"], r"classes must be an integer ≥ 0 and ≤ 2, got 'a'"),
        ([True], r"classes must be an integer ≥ 0 and ≤ 2, got True"),
        ([0, 1, 2], "classes must leave a class to train on"),
    ],
)
def test_hold_out_refuses(classes, message):
    with pytest.raises(ValueError, match=message):
        data.hold_out(image_set(), classes)


# --- long_tailed ---


@settings(deadline=None, max_examples=30)
@given(st.permutations(range(10)), st.integers(20, 130), st.floats(1, 1.3), st.integers(0, 2**32))
def test_long_tailed_gives_the_class_at_each_rank_its_share(order, largest, ratio, seed):
    whole = data.digits("train")
    tailed = data.long_tailed(whole, largest=largest, ratio=ratio, order=order, seed=seed)
    assert tailed.labels.bincount()[order].tolist() == [round(largest / ratio**rank) for rank in range(10)]
    assert (tailed.indices.diff() > 0).all()  # each image once, in the original's order
    assert same_images(tailed, whole, torch.isin(whole.indices, tailed.indices))


def test_long_tailed_with_the_papers_numbers():
    labels = torch.arange(10).repeat(5000)
    blank = torch.zeros(50_000, 1, 1, 1, dtype=torch.uint8)
    whole = data.ImageSet(blank, labels, torch.arange(50_000), cifar10_files.CLASSES, "blank")
    tailed = data.long_tailed(whole, largest=5000, ratio=1.5)
    assert tailed.labels.bincount().tolist() == [5000, 3333, 2222, 1481, 988, 658, 439, 293, 195, 130]
    control = data.long_tailed(whole, largest=round(len(tailed) / 10), ratio=1)
    assert set(control.labels.bincount().tolist()) == {1474}
    assert abs(len(control) - len(tailed)) <= 5
    assert (tailed.name, control.name) == ("blank, 5000 to 130 of a class", "blank, 1474 of a class")


def test_long_tailed_is_random_by_its_seed_only():
    def draw(**options):
        return data.long_tailed(data.digits("train"), largest=100, ratio=1.2, **options)

    state = torch.get_rng_state()
    assert torch.equal(draw(seed=1).indices, draw(seed=1).indices)
    assert not torch.equal(draw(seed=1).indices, draw(seed=2).indices)
    assert torch.equal(torch.get_rng_state(), state)


def test_a_class_of_lower_rank_keeps_some_of_the_same_images():
    whole = data.digits("train")
    first = data.long_tailed(whole, largest=100, ratio=1.3)
    last = data.long_tailed(whole, largest=100, ratio=1.3, order=range(9, -1, -1))
    few, many = (set(tailed.indices[tailed.labels == 0].tolist()) for tailed in (last, first))
    assert len(few) < len(many) == 100
    assert few < many


def test_classes_that_the_order_does_not_name_are_left_out():
    tailed = data.long_tailed(data.digits("train"), largest=50, ratio=2, order=[7, 2])
    assert tailed.labels.bincount(minlength=10).tolist() == [0, 0, 25, 0, 0, 0, 0, 50, 0, 0]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"largest": 3}, "largest=3 and ratio=1 ask for 3 images of class 0, which has 2"),
        ({"largest": 2, "ratio": 9}, "ask for 0 images of class 1, which has 2; at least 1 is needed"),
        ({"largest": 0}, "largest must be an integer ≥ 1, got 0"),
        ({"largest": 1.5}, "largest must be an integer ≥ 1, got 1.5"),
        ({"ratio": 0.5}, "ratio must be a number ≥ 1, got 0.5"),
        ({"ratio": float("nan")}, "ratio must be a number ≥ 1, got nan"),
        ({"order": [0, 0, 1]}, "order must hold one class or more, each once"),
        ({"order": [0, 1, 3]}, r"order must be an integer ≥ 0 and ≤ 2, got 3"),
    ],
)
def test_long_tailed_refuses(change, message):
    with pytest.raises(ValueError, match=message):
        data.long_tailed(image_set(), **({"largest": 2, "ratio": 1} | change))


# --- corrupt ---


KINDS = sorted(variants.CORRUPTIONS)


def photographs(count=24, size=32):
    """Smooth colour images, which a blur changes as it changes photographs."""
    noise = torch.rand(count, 3, size, size, generator=torch.Generator().manual_seed(0))
    smooth = torch.nn.functional.avg_pool2d(noise, 5, 1, 2)
    pixels = ((smooth - 0.5) * 900 + 128).clamp(0, 255).to(torch.uint8)
    return data.ImageSet(pixels, torch.arange(count) % 10, torch.arange(count), cifar10_files.CLASSES, "smooth")


@pytest.fixture(scope="module", params=["digits", "photographs"])
def original(request):
    return data.digits("test").subset(torch.arange(60)) if request.param == "digits" else photographs()


def distances(one, other):
    return (one.images.double() - other.images.double()).flatten(1).norm(dim=1)


@pytest.mark.parametrize("kind", KINDS)
def test_corruption_grows_with_severity(original, kind):
    before = original.fingerprint()
    corrupted = [data.corrupt(original, kind, severity) for severity in range(1, 6)]
    steps = torch.stack([distances(one, original) for one in corrupted]).diff(dim=0)
    assert distances(corrupted[0], original).mean() > 20
    assert (steps >= -1).all()  # of each image, but for rounding
    assert (steps.mean(1) > 0).all()
    assert original.fingerprint() == before


@pytest.mark.parametrize("kind", KINDS)
def test_corruption_keeps_labels_and_indices_and_names_itself(original, kind):
    corrupted = data.corrupt(original, kind, np.int64(2))
    assert corrupted.images.shape == original.images.shape
    assert torch.equal(corrupted.labels, original.labels)
    assert torch.equal(corrupted.indices, original.indices)
    assert corrupted.name == f"{original.name}, {kind.replace('_', ' ')} 2"


@pytest.mark.parametrize("kind", KINDS)
def test_corruption_is_random_by_its_seed_only(original, kind):
    state = torch.get_rng_state()
    first = data.corrupt(original, kind, 5, seed=1).fingerprint()
    assert first == data.corrupt(original, kind, 5, seed=1).fingerprint()
    random = kind in ("gaussian_noise", "impulse_noise", "occlusion")
    assert (first != data.corrupt(original, kind, 5, seed=2).fingerprint()) == random
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("kind", KINDS)
def test_images_beyond_the_first_block_are_corrupted_too(kind, monkeypatch):
    monkeypatch.setattr(variants, "BLOCK", 10)
    original = photographs()
    assert (distances(data.corrupt(original, kind, 5), original) > 100).all()


def grey(value=100, count=200, channels=3):
    pixels = torch.full((count, channels, 32, 32), value, dtype=torch.uint8)
    labels = torch.zeros(count, dtype=torch.int64)
    return data.ImageSet(pixels, labels, torch.arange(count), ("grey",), "grey")


@pytest.mark.parametrize("severity", [1, 5])
def test_noise_has_the_stated_strength(severity):
    noisy = data.corrupt(grey(128), "gaussian_noise", severity).images.double()
    assert noisy.std().item() / 255 == pytest.approx((0.04, 0.10)[severity == 5], rel=0.02)
    assert noisy.mean().item() == pytest.approx(128, abs=0.2)
    struck = data.corrupt(grey(128), "impulse_noise", severity).images
    share = (0.01, 0.07)[severity == 5]
    assert (struck == 0).double().mean().item() == pytest.approx(share / 2, rel=0.1)
    assert (struck == 255).double().mean().item() == pytest.approx(share / 2, rel=0.1)
    assert ((struck == 128) | (struck == 0) | (struck == 255)).all()


def test_blur_spreads_a_point_as_a_gaussian_and_keeps_its_light():
    pixels = torch.zeros(1, 1, 33, 33, dtype=torch.uint8)
    pixels[0, 0, 16, 16] = 255
    point = data.ImageSet(pixels, torch.tensor([0]), torch.tensor([0]), ("point",), "point")
    blurred = data.corrupt(point, "blur", 5).images[0, 0].double() / 255
    offsets = torch.arange(-16.0, 17, dtype=torch.float64)
    gaussian = torch.exp(-(offsets[:, None] ** 2 + offsets**2) / 2) / (2 * np.pi)
    assert (blurred - gaussian).abs().max() < 0.003


def test_contrast_scales_differences_about_the_mean():
    original = photographs()
    weak = data.corrupt(original, "contrast", 5).images.double()
    assert (weak.std((1, 2, 3)) / original.images.double().std((1, 2, 3)) - 0.15).abs().max() < 0.03


@pytest.mark.parametrize("severity", range(1, 6))
def test_occlusion_covers_one_square_anywhere(severity):
    half = grey()
    half.images[:, :, :, 16:] = 200
    covered = data.corrupt(half, "occlusion", severity).images
    square = (covered == 150).all(1)  # the mean colour
    side = 8 + 4 * (severity - 1)
    assert (square.sum((1, 2)) == side**2).all()
    for axis in (1, 2):
        lines = square.any(axis)
        assert (lines.sum(1) == side).all()
        places = lines.double().argmax(1)
        assert (places.min(), places.max()) == (0, 32 - side)
        assert torch.equal(places + side - 1, 31 - lines.flip(1).double().argmax(1))


@pytest.mark.parametrize(
    ("kind", "severity", "message"),
    [
        ("fog", 1, "kind must be one of 'gaussian_noise', 'impulse_noise', .* got 'fog'"),
        ("blur", 0, r"severity must be an integer ≥ 1 and ≤ 5, got 0"),
        ("blur", 6, r"severity must be an integer ≥ 1 and ≤ 5, got 6"),
        ("blur", 1.0, r"severity must be an integer ≥ 1 and ≤ 5, got 1\.0"),
        ("blur", True, r"severity must be an integer ≥ 1 and ≤ 5, got True"),
    ],
)
def test_corrupt_refuses(kind, severity, message):
    with pytest.raises(ValueError, match=message):
        data.corrupt(grey(), kind, severity)


def test_corrupt_refuses_images_that_torchvision_cannot_change():
    with pytest.raises(ValueError, match=r"1 or 3 channels and at least 5x5 pixels, got shape \(6, 3, 4, 5\)"):
        data.corrupt(image_set(), "blur", 1)
    with pytest.raises(ValueError, match=r"got shape \(200, 2, 32, 32\)"):
        data.corrupt(grey(channels=2), "blur", 1)
