"""Figures to move, as Python sees them; tests/site/test_widgets.py moves them in a browser."""

import base64
import gzip
import io
import json
import math
import re
from functools import cache

import ipywidgets
import numpy as np
import pytest
import torch
import traitlets
from PIL import Image
from scipy import stats

from normcourse import experiments, widgets
from normcourse.paths import notebook
from normcourse.widgets.sphere import WEIGHTS
from normlib import data, losses, simulations
from normlib.interventions import grad_scale

VIEW, STATE = "application/vnd.jupyter.widget-view+json", "application/vnd.jupyter.widget-state+json"
SHOWN = [
    ("DragEmbedding", notebook("hypersphere-paradox")),
    ("Race", notebook("convergence-simulations")),
    ("Sphere", notebook("structure-simulations")),
    ("CutAndScale", notebook("interventions")),
    ("Race", notebook("interventions")),
    ("ConfidenceDial", notebook("confidence")),
]
LARGEST = 15_000  # bytes, compressed
LARGEST_DATA = 64_000  # bytes, as text


@cache
def made(name):
    """A figure with what a chapter gives to it."""
    given = {
        "CutAndScale": lambda: [experiments.load("digits-cuts")["steps"]],
        "ConfidenceDial": lambda: [digit_samples(), data.digits("test")],
    }
    return getattr(widgets, name)(*given.get(name, list)())


@cache
def digit_samples():
    return experiments.load("digits-simclr")["samples"].query("lr == 0.1")


@pytest.fixture(params=widgets.__all__)
def figure(request):
    return made(request.param)


def test_each_is_shown_in_a_chapter():
    assert {name for name, _ in SHOWN} == set(widgets.__all__)


def test_unknown_figures_are_refused():
    with pytest.raises(AttributeError, match=r"no attribute 'Globe'; its figures are ConfidenceDial, .*Sphere"):
        _ = widgets.Globe


def test_module_and_style_are_small(figure):
    assert len(gzip.compress((figure._esm + figure._css).encode())) <= LARGEST


def test_what_a_figure_carries_along_is_small(figure):
    carried = [getattr(figure, key) for key in figure.keys if not key.startswith("_")]
    assert len(json.dumps([value for value in carried if isinstance(value, str | dict)])) <= LARGEST_DATA


def test_module_stands_alone(figure):
    assert "export default { render }" in figure._esm
    addresses = set(re.findall(r"https?://[\w./-]+", figure._esm + figure._css))
    assert addresses <= {"http://www.w3.org/1999/xhtml", "http://www.w3.org/2000/svg"}
    assert not re.search(r"\bimport\b|\bfetch\(|XMLHttpRequest|@import|url\(", figure._esm + figure._css)


needs_ipywidgets_8 = pytest.mark.skipif(
    not hasattr(ipywidgets.DOMWidget, "_repr_mimebundle_"), reason="ipywidgets 7 shows the figure without its still"
)


@needs_ipywidgets_8
def test_output_holds_the_figure_and_its_still(figure):
    bundle, _ = figure._repr_mimebundle_()
    assert bundle[VIEW]["model_id"] == figure.model_id
    assert bundle["text/plain"].startswith(f"{type(figure).__name__}(")
    with Image.open(io.BytesIO(base64.b64decode(bundle["image/png"]))) as image:
        assert min(image.size) >= 300


@needs_ipywidgets_8
def test_still_shows_the_state():
    """Another state, another picture."""
    pictures = [figure._repr_mimebundle_()[0]["image/png"] for figure in (widgets.Race(), widgets.Race(lr=0.1))]
    assert pictures[0] != pictures[1]


@pytest.mark.parametrize(("name", "path"), SHOWN)
def test_saved_notebook_holds_the_state_of_todays_module(name, path):
    """`make outputs` writes it."""
    metadata = json.loads(path.read_text(encoding="utf-8"))["metadata"]
    states = [model["state"] for model in metadata["widgets"][STATE]["state"].values()]
    (saved,) = [state for state in states if state.get("_anywidget_id", "").endswith(f".{name}")]
    figure = made(name)
    assert (saved["_esm"], saved["_css"]) == (figure._esm, figure._css)
    assert set(figure.keys) <= set(saved)


@pytest.mark.parametrize(
    "settings", [{"z": [0.0, 0.0]}, {"z": [1.0]}, {"z": [float("inf"), 0.0]}, {"eta": 0.0}, {"eta": 2.0}, {"steps": -1}]
)
def test_states_that_cannot_be_shown_are_refused(settings):
    with pytest.raises(traitlets.TraitError):
        widgets.DragEmbedding(**settings)


@pytest.mark.parametrize("settings", [{"lr": 0.0}, {"norm": 2.0}, {"angle": 0.0}, {"power": 3.0}, {"decay": -0.1}])
def test_races_that_cannot_be_run_are_refused(settings):
    with pytest.raises(traitlets.TraitError):
        widgets.Race(**settings)


@pytest.mark.parametrize(("power", "decay"), [(0.0, 0.0), (1.0, 0.0), (0.0, 0.2), (0.7, 0.1)])
def test_race_is_sgd_with_weight_decay_on_both_embeddings(power, decay):
    race = widgets.Race(lr=0.3, angle=2.0, power=power, decay=decay)
    angle = torch.tensor(2.0, dtype=torch.float64)
    pair = [1.5 * torch.tensor([[1.0, 0.0]]).double(), 1.5 * torch.stack([angle.cos(), angle.sin()])[None]]
    parameters = [torch.nn.Parameter(z) for z in pair]
    optimizer = torch.optim.SGD(parameters, lr=0.3, weight_decay=decay)
    found = []
    for _ in range(6):
        found.append(torch.nn.functional.cosine_similarity(*parameters).acos().rad2deg().item())
        optimizer.zero_grad()
        losses.cosine_loss(*(grad_scale(z, power) for z in parameters)).backward()
        optimizer.step()
    assert race._path(1.5)[:6] == pytest.approx(found)


@pytest.mark.parametrize("power", [0.0, 1.0, 2.0])
@pytest.mark.parametrize("decay", [0.0, 0.1, 0.2])
def test_law_of_the_race_holds_for_small_steps(power, decay):
    race = widgets.Race(lr=0.005, norm=1.0, angle=2.5, power=power, decay=decay)
    for norm in (1.0, 2.0, 3.0):
        assert len(race._path(norm)) - 1 == pytest.approx(race.law(norm), rel=0.02)


@pytest.mark.parametrize("settings", [{"film": 3}, {"frame": 16}, {"tilt": 2.0}, {"colour": "loss"}])
def test_films_that_there_are_not_are_refused(settings, monkeypatch):
    monkeypatch.setattr("normcourse.widgets.sphere.EPOCHS", (0, 1))
    with pytest.raises(traitlets.TraitError):
        widgets.Sphere(**settings)


def test_sphere_shows_encoders_of_normlib_in_training():
    sphere = made("Sphere")
    mixture = simulations.spherical_mixture((8, 4, 2, 1), seeds=[0])
    for epoch in (0, 4):
        encoders = simulations.train_encoder(mixture, dim=3, lr=0.1, epochs=epoch, progress=False)
        frame = sphere.measured["epochs"].index(epoch)
        z = encoders(mixture.x)[0]
        torch.testing.assert_close(sphere._frames[1][frame], z[:150], rtol=1e-4, atol=1e-4)
        table = simulations.norm_table(mixture, norm=encoders)
        needles = np.linalg.norm(sphere.measured["needles"][1][frame], axis=1)
        assert needles == pytest.approx(table.groupby("label")["norm"].mean().to_numpy(), abs=0.002)
    assert sphere.measured["labels"][1] == mixture.labels[0, :150].tolist()


TWENTY = 9  # the frame of epoch 20: up to there rounding moves no mean norm by more than half a percent


def interval(values):
    """Mean over the seeds, and half width of its 95 % interval."""
    return values.mean(), stats.t.ppf(0.975, len(values) - 1) * stats.sem(values)


def test_sphere_shows_what_the_answers_in_its_chapter_say_of_one_seed():
    sphere = made("Sphere")
    assert sphere.measured["epochs"][TWENTY] == 20
    common, rare = np.linalg.norm(np.array(sphere.measured["needles"]), axis=3)[:2]
    before, now, swapped = (norms / norms.mean() for norms in (common[0], common[TWENTY], rare[TWENTY]))
    assert before.argmin() == 3  # D, the commonest
    assert (now.argmax(), now.argmin()) == (0, 3)
    assert [now[0], now[3], swapped[3]] == pytest.approx([1.13, 0.90, 0.82], abs=0.02)
    assert swapped[0] == pytest.approx(now[0], abs=0.02)  # A hardly moves
    mean = common.mean(axis=1)
    assert [mean[2] / mean[0], mean[TWENTY] / mean[2]] == pytest.approx([1.83, 1.32], abs=0.03)


@pytest.fixture(scope="module")
def ten_seeds():
    """Mean norm of each class by seed at epochs 0, 2 and 20: where D is common, and where it is rare."""

    def means(weights):
        mixture, found = simulations.spherical_mixture(weights, seeds=range(10)), {}

        def see(epoch, encoders):
            if epoch in (0, 2, 20):
                table = simulations.norm_table(mixture, norm=encoders)
                found[epoch] = table.groupby(["seed", "label"])["norm"].mean().unstack().to_numpy()

        simulations.train_encoder(mixture, dim=3, lr=0.1, epochs=20, on_epoch=see, progress=False)
        return [found[epoch] for epoch in (0, 2, 20)]

    return [means(weights) for weights in WEIGHTS[:2]]


def test_the_answers_in_its_chapter_hold_over_ten_seeds(ten_seeds):
    common, rare = (norms[-1] / norms[-1].mean(axis=1, keepdims=True) for norms in ten_seeds)
    gap, half = interval(common[:, 3] - common[:, 0])
    assert (gap, half) == (pytest.approx(0.04, abs=0.02), pytest.approx(0.10, abs=0.02))  # may be nothing
    gains = common[:, 3] - rare[:, 3], rare[:, 0] - common[:, 0]  # of D and of A, where they are common
    for gain in gains:
        mean, half = interval(gain)
        assert mean > half
        assert mean == pytest.approx(0.09, abs=0.02)
    assert gains[0].min() > 0
    mean, half = interval(sum(gains) / 2)  # half the difference of both gaps
    assert (mean, half) == (pytest.approx(0.09, abs=0.015), pytest.approx(0.04, abs=0.015))
    start, second, twentieth = (norms.mean(axis=1) for norms in ten_seeds[0])
    early, late = second / start, twentieth / second
    assert [early.min(), early.max(), late.min(), late.max()] == pytest.approx([1.6, 2.8, 1.2, 1.5], abs=0.06)


def test_cut_and_scale_shows_means_and_intervals_of_the_record():
    table, figure = experiments.load("digits-cuts")["steps"], made("CutAndScale")
    chosen = table.query("depth == 4 and biases and not batch_norm and cut == 1 and lr > 0.17 and lr < 0.19")
    assert chosen["seed"].nunique() == 8
    loss, half, norm, _ = figure._curves[2, 1, 0, figure.record["cuts"].index(3), 1][:-1].reshape(4, -1)
    by_step = chosen.groupby("step")
    assert loss == pytest.approx(by_step["loss"].mean().to_numpy())
    assert half == pytest.approx(2.3646 * by_step["loss"].sem().to_numpy(), rel=1e-4)  # Student's t, 7 degrees
    assert norm == pytest.approx(np.log10(chosen["norm"]).groupby(chosen["step"]).mean().to_numpy())


@pytest.mark.parametrize("settings", [{"depth": 5}, {"cut": 2.5}])
def test_networks_that_are_not_recorded_are_refused(settings):
    with pytest.raises(traitlets.TraitError, match=r"must be one of \[.*the table holds no other"):
        widgets.CutAndScale(experiments.load("digits-cuts")["steps"], **settings)


@pytest.mark.parametrize("value", [math.nan, math.inf, 12.0])
def test_a_loss_that_cannot_be_drawn_is_refused(value):
    table = experiments.load("digits-cuts")["steps"].copy()
    rows = table.eval("depth == 4 and biases and cut == 1 and step == 0")
    table.loc[rows, "loss"] = value
    with pytest.raises(ValueError, match=r"at most 10\.9 for the loss.* got larger ones or NaN; leave out runs"):
        widgets.CutAndScale(table)


def test_one_seed_has_no_interval_to_draw():
    with pytest.raises(ValueError, match="take two seeds or more"):
        widgets.CutAndScale(experiments.load("digits-cuts")["steps"].query("seed == 0"))


def test_dial_counts_as_by_hand():
    dial, samples = made("ConfidenceDial"), digit_samples()
    trained = samples.query("seed == 3 and epoch == 200").sort_values("norm")
    untrained = samples.query("seed == 3 and epoch == 0").set_index("index").loc[trained["index"], "norm"]
    shortest, before, random = dial.curves()[3]
    for dropped in (0, 45, 225):
        assert shortest[dropped] == trained["correct"].iloc[dropped:].mean()
        kept = untrained.rank(method="first").to_numpy() > dropped
        assert before[dropped] == pytest.approx(trained["correct"][kept].mean())
        assert random[dropped] == trained["correct"].mean()


def test_dial_says_what_its_table_lacks():
    samples, images = digit_samples(), data.digits("test")
    with pytest.raises(ValueError, match=r"epoch 0 and one other, got \[200\]"):
        widgets.ConfidenceDial(samples.query("epoch == 200"), images)
    with pytest.raises(ValueError, match=r"one row for each of 450 images in each of 8 networks .* got 7199 rows"):
        widgets.ConfidenceDial(samples.iloc[1:], images)
    with pytest.raises(ValueError, match="choose one learning rate"):
        widgets.ConfidenceDial(experiments.load("digits-simclr")["samples"], images)
    other = samples.replace({"index": {int(images.indices[3]): 9999}})
    with pytest.raises(ValueError, match=r"of images with an index in images, got \[9999\] besides"):
        widgets.ConfidenceDial(other, images)
    for value in (math.nan, math.inf, -1.0):
        norm = samples["norm"].where(samples["index"] != images.indices[3].item(), value)
        with pytest.raises(ValueError, match="norm must be finite, ≥ 0 and not 0 throughout a network"):
            widgets.ConfidenceDial(samples.assign(norm=norm), images)
    with pytest.raises(ValueError, match="not 0 throughout a network"):
        widgets.ConfidenceDial(samples.assign(norm=samples["norm"] * (samples["epoch"] > 0)), images)
    with pytest.raises(traitlets.TraitError, match="network must be below 8"):
        widgets.ConfidenceDial(samples, images, network=8)


def test_norms_choose_better_than_chance_and_untrained_norms_do_not():
    """Over the eight networks, at every coverage that a reader would dial."""
    curves = made("ConfidenceDial").curves()
    for dropped in (45, 90, 135, 225):
        for way, helps in ((0, True), (1, False)):
            gain = curves[:, way, dropped] - curves[:, 2, dropped]
            half = stats.t.ppf(0.975, len(gain) - 1) * stats.sem(gain)
            assert (gain.mean() > half) == helps
            assert gain.mean() + half > 0
