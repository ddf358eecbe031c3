"""Views against torchvision: the same distributions of parameters, and the same pixels given the parameters."""

import numpy as np
import pytest
import torch
import torchvision.transforms.functional as TF
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest, fisher_exact, ks_2samp, norm
from sklearn.datasets import load_sample_image
from torchvision.transforms import ColorJitter, RandomResizedCrop

from normlib.augment import Parameters, TwoViews, apply
from normlib.augment.two_views import random_boxes

TOLERANCE = 2e-6  # of values in [0, 1]: a few float32 roundings
DRAWS = 4000


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def random_images(*shape, seed=0):
    return torch.rand(shape, generator=seeded(seed))


@pytest.fixture(scope="module")
def photographs():
    """180 tiles of 32x32 pixels from two photographs, uint8."""
    pixels = [torch.tensor(load_sample_image(name)) for name in ("china.jpg", "flower.jpg")]
    tiles = [image.unfold(0, 32, 64).unfold(1, 32, 64).flatten(0, 1) for image in pixels]
    return torch.cat(tiles)[:180]


@pytest.fixture(scope="module")
def drawn():
    """One view's parameters for many images."""
    return TwoViews.natural().sample_parameters(torch.empty(DRAWS, 3, 32, 32), seeded(1))


def largest_difference(a, b):
    return (a - b).abs().max().item()


# ---------------------------------------------------------------------------------------------------- distributions


@pytest.mark.parametrize(
    ("height", "width", "area", "ratio"),
    [
        (32, 32, (0.2, 1.0), (3 / 4, 4 / 3)),
        (32, 32, (0.08, 1.0), (3 / 4, 4 / 3)),
        (24, 40, (0.3, 0.9), (0.5, 1.0)),
        (32, 32, (0.8, 1.0), (0.3, 3.0)),  # most tries do not fit: later tries and the fallback count
        (96, 96, (0.95, 1.0), (1.1, 4.0)),  # hardly any fits, and the fallback is no whole image
    ],
)
def test_crops_are_distributed_as_torchvisions(height, width, area, ratio):
    torch.manual_seed(0)
    image = torch.empty(3, height, width)
    theirs = torch.tensor([RandomResizedCrop.get_params(image, area, ratio) for _ in range(DRAWS)]).double()
    ours = random_boxes(DRAWS, height, width, area, ratio, generator=seeded()).double()
    measures = {
        "area": lambda b: b[:, 2] * b[:, 3],
        "ratio": lambda b: b[:, 3] / b[:, 2],
        "top": lambda b: b[:, 0],
        "left": lambda b: b[:, 1],
        "relative top": lambda b: (b[:, 0] + 0.5) / (height - b[:, 2] + 1),
        "relative left": lambda b: (b[:, 1] + 0.5) / (width - b[:, 3] + 1),
    }
    for name, measure in measures.items():
        assert ks_2samp(measure(ours).numpy(), measure(theirs).numpy()).pvalue > 0.01, name


def test_a_crop_gets_ten_tries():
    torch.manual_seed(0)
    area, ratio, n = (0.8, 0.9), (0.8, 15.0), 10_000
    image = torch.empty(3, 32, 32)
    theirs = sum(RandomResizedCrop.get_params(image, area, ratio)[2:] == (32, 32) for _ in range(n))
    ours = (random_boxes(n, 32, 32, area, ratio, generator=seeded())[:, 2:] == 32).all(1).sum().item()
    assert 0.2 * n < theirs < 0.5 * n  # none fitted
    assert fisher_exact([[ours, theirs], [n - ours, n - theirs]]).pvalue > 0.01


@pytest.mark.parametrize(("height", "width"), [(60, 10), (10, 60), (7, 8)])
def test_where_no_crop_fits_the_box_is_torchvisions_central_one(height, width):
    area, ratio = ((0.99, 1.0), (0.9, 0.95)) if (height, width) == (7, 8) else ((0.5, 1.0), (3 / 4, 4 / 3))
    theirs = RandomResizedCrop.get_params(torch.empty(3, height, width), area, ratio)
    assert random_boxes(5, height, width, area, ratio, generator=seeded()).tolist() == [list(theirs)] * 5


@given(
    height=st.integers(1, 40),
    width=st.integers(1, 40),
    low=st.floats(0.01, 1),
    narrow=st.floats(0.2, 5),
    stretch=st.floats(1, 4),
    seed=st.integers(0, 2**31),
)
@settings(deadline=None, max_examples=100)
def test_crops_are_whole_pixels_inside_the_image(height, width, low, narrow, stretch, seed):
    boxes = random_boxes(50, height, width, (low, 1.0), (narrow, narrow * stretch), generator=seeded(seed))
    top, left, h, w = boxes.unbind(1)
    assert torch.equal(boxes, boxes.round())
    assert (top >= 0).all()
    assert (left >= 0).all()
    assert (h >= 1).all()
    assert (w >= 1).all()
    assert (top + h <= height).all()
    assert (left + w <= width).all()


@pytest.mark.parametrize("name", ["brightness", "contrast", "saturation", "hue"])
def test_colour_factors_are_distributed_as_torchvisions(drawn, name):
    torch.manual_seed(0)
    jitter = ColorJitter(0.4, 0.4, 0.4, 0.1)
    place = ["brightness", "contrast", "saturation", "hue"].index(name)
    ranges = jitter.brightness, jitter.contrast, jitter.saturation, jitter.hue
    theirs = [ColorJitter.get_params(*ranges)[1 + place] for _ in range(DRAWS)]
    ours = getattr(drawn, name)
    changed = ours != (0 if name == "hue" else 1)
    assert ks_2samp(ours[changed].numpy(), theirs).pvalue > 0.01
    assert binomtest(int(changed.sum()), DRAWS, 0.8).pvalue > 0.01


def test_strong_jitter_is_cut_at_zero_as_torchvisions():
    ours = TwoViews(size=4, brightness=1.5).sample_parameters(torch.empty(DRAWS, 3, 4, 4), seeded()).brightness
    low, high = ColorJitter(brightness=1.5).brightness
    assert (low, high) == (0, 2.5)
    assert ks_2samp(ours.numpy(), torch.linspace(low, high, DRAWS).numpy()).pvalue > 0.01
    assert ours.min() >= 0


def test_flips_and_grey_come_as_often_as_asked(drawn):
    assert binomtest(int(drawn.flip.sum()), DRAWS, 0.5).pvalue > 0.01
    assert binomtest(int(drawn.grayscale.sum()), DRAWS, 0.2).pvalue > 0.01


def test_all_draws_are_independent_across_steps_and_views(drawn):
    images = torch.empty(DRAWS, 3, 32, 32)
    generator = seeded(2)
    first, second = (TwoViews.natural().sample_parameters(images, generator).tensors() for _ in range(2))
    columns = [
        (f"{name} {part}", value.float().view(DRAWS, -1).T)
        for part, view in (("1", first), ("2", second))
        for name, value in view.items()
        if name != "box"
    ]
    columns += [(f"top {part}", view["box"][:, :1].T) for part, view in (("1", first), ("2", second))]
    columns += [(f"coin of {n}", (first[n] == 1).float().view(1, -1)) for n in ("brightness", "contrast", "saturation")]
    names, values = zip(*columns, strict=True)
    correlation = torch.corrcoef(torch.cat(values)) - torch.eye(len(names))
    own_coin = {(f"coin of {n}", f"{n} 1") for n in ("brightness", "contrast", "saturation")}
    for i, a in enumerate(names):
        for j, b in enumerate(names):
            if (a, b) not in own_coin and (b, a) not in own_coin:
                assert abs(correlation[i, j]) < 4.5 / DRAWS**0.5, (a, b)


def test_digit_changes_are_uniform_and_noise_is_normal():
    p = TwoViews.digits().sample_parameters(torch.empty(DRAWS, 1, 8, 8), seeded())
    spread = {"angle": (p.angle, -15, 15), "zoom": (p.zoom, 0.85, 1.15), "shift": (p.shift.flatten(), -1, 1)}
    for name, (values, low, high) in spread.items():
        assert ks_2samp(values.numpy(), torch.linspace(low, high, DRAWS).numpy()).pvalue > 0.01, name
    noise = p.noise[:500].flatten().numpy()
    assert ks_2samp(noise, norm.rvs(0, 0.1, size=noise.size, random_state=0)).pvalue > 0.01
    assert p.flip is None


# ----------------------------------------------------------------------------------------------------------- pixels


def with_torchvision(image, p, i, antialias=True):
    """The paper's chain of torchvision operations, one image, given parameters."""
    top, left, height, width = (int(side) for side in p.box[i])
    view = TF.resized_crop(image, top, left, height, width, [p.size, p.size], antialias=antialias)
    view = TF.hflip(view) if p.flip[i] else view
    view = TF.adjust_brightness(view, p.brightness[i].item())
    view = TF.adjust_contrast(view, p.contrast[i].item())
    view = TF.adjust_saturation(view, p.saturation[i].item())
    view = TF.adjust_hue(view, p.hue[i].item())
    return TF.rgb_to_grayscale(view, 3) if p.grayscale[i] else view


def test_the_whole_recipe_is_torchvisions(photographs):
    p = TwoViews.natural().sample_parameters(photographs, seeded())
    expected = torch.stack([with_torchvision(image / 255, p, i) for i, image in enumerate(photographs)])
    assert largest_difference(apply(photographs, p), expected) <= TOLERANCE


@given(data=st.data(), height=st.integers(2, 24), width=st.integers(2, 24), size=st.integers(1, 40))
@settings(deadline=None, max_examples=80)
def test_crop_resize_and_flip_are_torchvisions(data, height, width, size):
    boxes = []
    for _ in range(3):
        h, w = data.draw(st.integers(1, height)), data.draw(st.integers(1, width))
        boxes.append((data.draw(st.integers(0, height - h)), data.draw(st.integers(0, width - w)), h, w))
    images, flip = random_images(3, 2, height, width), torch.tensor([True, False, True])
    views = apply(images, Parameters(size=size, box=torch.tensor(boxes), flip=flip))
    for image, box, mirrored, view in zip(images, boxes, flip, views, strict=True):
        grows = max(box[2:]) <= size
        expected = TF.resized_crop(image, *box, [size, size], antialias=grows)  # smoothing matters in shrinking only
        assert largest_difference(view, TF.hflip(expected) if mirrored else expected) <= 1e-5


@pytest.mark.parametrize(
    ("name", "theirs", "low", "high"),
    [
        ("brightness", TF.adjust_brightness, 0, 3),
        ("contrast", TF.adjust_contrast, 0, 3),
        ("saturation", TF.adjust_saturation, 0, 3),
        ("hue", TF.adjust_hue, -0.5, 0.5),
    ],
)
@pytest.mark.parametrize("channels", [1, 3])
def test_each_colour_operation_is_torchvisions(photographs, name, theirs, low, high, channels):
    images = (photographs / 255)[:, :channels]
    images[0] = images[0, :1]  # grey pixels have no hue
    images[1] = (images[1] > 0.5).float()  # corners of the colour cube
    amounts = torch.linspace(low, high, len(images))
    expected = torch.stack([theirs(image, amount) for image, amount in zip(images, amounts.tolist(), strict=True)])
    assert largest_difference(apply(images, Parameters(size=32, **{name: amounts})), expected) <= TOLERANCE


def test_grey_is_torchvisions_and_leaves_one_channel_alone(photographs):
    images = photographs / 255
    grey = torch.arange(len(images)) % 2 == 0
    views = apply(images, Parameters(size=32, grayscale=grey))
    assert largest_difference(views[grey], TF.rgb_to_grayscale(images[grey], 3)) <= TOLERANCE
    assert largest_difference(views[~grey], images[~grey]) <= TOLERANCE
    assert torch.equal(apply(images[:, :1], Parameters(size=32, grayscale=grey)), images[:, :1])


def test_rotation_zoom_and_shift_are_torchvisions():
    images = random_images(40, 1, 8, 12)
    p = TwoViews.digits(rotation=180.0, shift=3.0, zoom=(0.5, 2.0)).sample_parameters(images, seeded())
    shift = p.shift.round()  # torchvision's are whole pixels
    whole = Parameters(size=8, angle=p.angle, zoom=p.zoom, shift=shift, box=torch.tensor([[0, 2, 8, 8]] * 40))
    expected = [
        TF.affine(image, angle, move, zoom, [0.0, 0.0], TF.InterpolationMode.BILINEAR)
        for image, angle, move, zoom in zip(images, p.angle.tolist(), shift.tolist(), p.zoom.tolist(), strict=True)
    ]
    assert largest_difference(apply(images, whole), torch.stack(expected)[..., 2:10]) <= 1e-5


def test_noise_comes_last_and_is_clamped():
    images = random_images(4, 1, 8, 8)
    noise = torch.randn(images.shape, generator=seeded())
    views = apply(images, Parameters(size=8, brightness=torch.full((4,), 0.5), noise=noise))
    assert torch.equal(views, (images * 0.5 + noise).clamp(0, 1))


# --------------------------------------------------------------------------------------------------------- behaviour


def test_views_follow_the_generator_and_nothing_else(photographs):
    before = torch.get_rng_state()
    views = TwoViews.natural()
    first, second = views(photographs, seeded())
    torch.rand(3)
    again, again_second = views(photographs, seeded())
    torch.set_rng_state(before)
    assert torch.equal(first, again)
    assert torch.equal(second, again_second)
    assert not torch.equal(first, second)
    assert not torch.equal(first, views(photographs, seeded(1))[0])
    views(photographs, seeded())
    assert torch.equal(torch.get_rng_state(), before)


def test_parameters_that_go_to_the_cpu_have_arrived(photographs, monkeypatch):
    parameters, move, early = TwoViews.digits().sample_parameters(photographs, seeded()), torch.Tensor.to, []

    def seen(tensor, device, *, non_blocking=False):
        early.append(non_blocking)
        return move(tensor, device, non_blocking=non_blocking)

    monkeypatch.setattr(torch.Tensor, "to", seen)
    parameters.to(torch.device("cpu"))
    assert early
    assert not any(early)
    parameters.to("meta")
    assert early[-1]


def test_without_a_generator_torchs_global_one_counts():
    images = random_images(4, 1, 8, 8)
    torch.manual_seed(3)
    first = TwoViews.digits()(images)[0]
    torch.manual_seed(3)
    assert torch.equal(TwoViews.digits()(images)[0], first)


@pytest.mark.parametrize("views", [TwoViews.natural(), TwoViews.natural(size=16), TwoViews.digits(size=32)])
def test_an_images_view_does_not_depend_on_its_neighbours(photographs, views):
    p = views.sample_parameters(photographs, seeded())
    others = photographs.flip(0)
    others[7] = photographs[7]
    assert torch.equal(apply(photographs, p)[7], apply(others, p)[7])


@pytest.mark.parametrize("views", [TwoViews.natural(), TwoViews.digits(size=32), TwoViews(size=32, contrast=0.5)])
def test_images_stay_as_they_are_and_views_have_the_promised_form(photographs, views):
    for images in (photographs, photographs / 255):
        copy = images.clone()
        for view in views(images, seeded()):
            assert view.dtype == torch.float32
            assert view.shape == photographs.shape
            assert view.is_contiguous()
            assert view.data_ptr() != images.data_ptr()
            assert view.min() >= 0
            assert view.max() <= 1
        assert torch.equal(images, copy)


def test_the_default_options_change_nothing(photographs):
    for view in TwoViews(size=32)(photographs):
        assert torch.equal(view, photographs / 255)


@pytest.mark.parametrize("convert", [torch.Tensor.float, torch.Tensor.double])
def test_uint8_and_float_images_give_the_same_views(photographs, convert):
    views = TwoViews.natural()
    for a, b in zip(views(photographs, seeded()), views(convert(photographs) / 255, seeded()), strict=True):
        assert largest_difference(a, b) <= TOLERANCE


def test_half_precision_images_give_float32_views(photographs):
    images = (photographs / 255).half()
    for a, b in zip(TwoViews.natural()(images, seeded()), TwoViews.natural()(images.float(), seeded()), strict=True):
        assert torch.equal(a, b)


def test_memory_layout_and_autocast_change_nothing(photographs):
    views = TwoViews.natural()
    expected = views(photographs, seeded())[0]
    channels_last = photographs.contiguous(memory_format=torch.channels_last)
    assert torch.equal(views(channels_last, seeded())[0], expected)
    assert TwoViews(size=32)(channels_last)[0].is_contiguous()
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(views(photographs, seeded())[0], expected)


@pytest.fixture
def float64_by_default():
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


@pytest.mark.parametrize("views", [TwoViews.natural(), TwoViews.digits(size=24), TwoViews(size=8)])
def test_the_default_dtype_changes_nothing(photographs, request, views):
    expected = views(photographs, seeded())
    request.getfixturevalue("float64_by_default")
    for a, b in zip(expected, views(photographs, seeded()), strict=True):
        assert b.dtype == torch.float32
        assert torch.equal(a, b)


def test_parameters_may_be_of_any_dtype(photographs, float64_by_default):
    boxes, angles = [[1, 2, 20, 16]], [30]
    whole, single, double = (
        Parameters(size=16, box=torch.tensor(boxes, dtype=dtype), angle=torch.tensor(angles, dtype=dtype))
        for dtype in (torch.int64, torch.float32, torch.float64)
    )
    expected = apply(photographs[:1], single)
    assert torch.equal(apply(photographs[:1], whole), expected)
    assert torch.equal(apply(photographs[:1], double), expected)


def test_a_numpy_integer_is_a_size():
    images = random_images(2, 1, 8, 8)
    for a, b in zip(TwoViews.digits(np.int64(6))(images, seeded()), TwoViews.digits(6)(images, seeded()), strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize("n", [0, 1])
@pytest.mark.parametrize(("views", "channels"), [(TwoViews.natural(), 3), (TwoViews.digits(size=32), 5)])
def test_smallest_batches(views, channels, n):
    for view in views(torch.zeros(n, channels, 32, 32), seeded()):
        assert view.shape == (n, channels, 32, 32)


def test_no_gradient_is_kept():
    assert not TwoViews.digits()(random_images(2, 1, 8, 8).requires_grad_(), seeded())[0].requires_grad


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_on_a_gpu_a_cpu_generator_gives_the_same_views_and_a_gpu_generator_never_waits(photographs):
    for views in (TwoViews.natural(), TwoViews.digits(size=32)):
        expected = views(photographs, seeded())
        for a, b in zip(expected, views(photographs.cuda(), seeded()), strict=True):
            assert b.is_cuda
            assert largest_difference(a, b.cpu()) <= 1e-5
        images, generator = photographs.cuda() / 255, torch.Generator("cuda").manual_seed(0)
        torch.cuda.set_sync_debug_mode("error")
        try:
            first = views(images, generator)[0]
        finally:
            torch.cuda.set_sync_debug_mode("default")
        assert torch.equal(first, views(images, torch.Generator("cuda").manual_seed(0))[0])


# --------------------------------------------------------------------------------------------------------- bad input


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"size": 0}, "size must be .* got 0"),
        ({"size": 32.0}, "size must be .* got 32.0"),
        ({"size": True}, "size must be .* got True"),
        ({"scale": (0.0, 1.0)}, "scale must be a number > 0, got 0.0"),
        ({"scale": (0.2, 1.5)}, "scale must be a number ≥ 0.2 and ≤ 1.0, got 1.5"),
        ({"scale": 0.2}, "scale must be a pair .* got 0.2"),
        ({"ratio": (2.0, 1.0)}, "ratio must be a number ≥ 2.0"),
        ({"zoom": (1.0, float("inf"))}, "zoom must be a number ≥ 1.0"),
        ({"zoom": (1.0, float("nan"))}, "zoom must be a number ≥ 1.0"),
        ({"flip": 1.2}, r"flip must be a number ≥ 0 and ≤ 1, got 1.2"),
        ({"jitter": -0.1}, "jitter must be"),
        ({"grayscale": float("nan")}, "grayscale must be .* got nan"),
        ({"hue": 0.6}, r"hue must be a number ≥ 0 and ≤ 0.5, got 0.6"),
        ({"brightness": -1.0}, "brightness must be"),
        ({"contrast": float("inf")}, "contrast must be a number ≥ 0, got inf"),
        ({"noise": -0.1}, "noise must be"),
    ],
)
def test_options_out_of_range_are_refused_by_name(options, message):
    with pytest.raises(ValueError, match=message):
        TwoViews(**{"size": 32, **options})


def test_unknown_options_are_refused_by_name():
    with pytest.raises(TypeError, match="blur"):
        TwoViews.natural(blur=0.5)


@pytest.mark.parametrize(
    ("images", "error", "message"),
    [
        (torch.zeros(2, 3, 32, 32, dtype=torch.int64), TypeError, "uint8 or float tensor, got torch.int64"),
        (torch.zeros(2, 3, 32, 32).numpy(), TypeError, "uint8 or float tensor, got float32"),
        ([[0.0]], TypeError, "uint8 or float tensor, got list"),
        (torch.zeros(3, 32, 32), ValueError, r"shape \(N, C, H, W\), .* got \(3, 32, 32\)"),
        (torch.zeros(2, 3, 0, 32), ValueError, r"none of C, H, W zero, got \(2, 3, 0, 32\)"),
        (torch.zeros(2, 32, 32, 3), ValueError, r"1 or 3 channels .* got shape \(2, 32, 32, 3\).*permute"),
        (torch.full((2, 3, 4, 4), 255.0), ValueError, r"in \[0, 1\], got 255 to 255; divide by 255"),
        (torch.full((2, 3, 4, 4), -0.5), ValueError, r"got -0.5 to -0.5"),
        (torch.full((2, 3, 4, 4), float("nan")), ValueError, "got nan"),
    ],
)
def test_images_that_are_none_are_refused(images, error, message):
    with pytest.raises(error, match=message):
        TwoViews.natural()(images, seeded())


@pytest.mark.parametrize(
    ("generator", "got"), [(0, "0"), ("cpu", "'cpu'"), (np.random.default_rng(0), r"Generator\(PCG64\)")]
)
def test_what_is_no_generator_is_refused(generator, got):
    with pytest.raises(TypeError, match=rf"generator must be a torch\.Generator or None, got {got}.*; pass torch\."):
        TwoViews.natural()(torch.zeros(2, 3, 32, 32), generator)


def test_the_range_check_can_be_switched_off():
    TwoViews.digits()(torch.full((2, 1, 8, 8), 2.0), seeded(), check=False)


def test_parameters_for_another_batch_are_refused():
    p = TwoViews.digits().sample_parameters(torch.zeros(3, 1, 8, 8), seeded())
    with pytest.raises(ValueError, match=r"parameters.angle must be for the 4 images, of shape \(4,\), got \(3,\)"):
        apply(torch.zeros(4, 1, 8, 8), p)
