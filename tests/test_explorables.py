"""Figures to move, as Python sees them; tests/site/test_explorables.py moves them in a browser."""

import base64
import gzip
import io
import json
import re
from pathlib import Path

import ipywidgets
import pytest
import torch
import traitlets
from PIL import Image

from normlib import explorables, losses
from normlib.interventions import grad_scale

NOTEBOOKS = Path(__file__).parents[1] / "notebooks"
VIEW, STATE = "application/vnd.jupyter.widget-view+json", "application/vnd.jupyter.widget-state+json"
SHOWN = {"DragEmbedding": "01_hypersphere_paradox", "Race": "04_convergence_simulations"}
LARGEST = 15_000  # bytes, compressed


@pytest.fixture(params=explorables.__all__)
def figure(request):
    return getattr(explorables, request.param)()


def test_each_is_shown_in_a_chapter():
    assert set(SHOWN) == set(explorables.__all__)


def test_unknown_figures_are_refused():
    with pytest.raises(AttributeError, match=r"no attribute 'Globe'; its figures are DragEmbedding, Race"):
        _ = explorables.Globe


def test_module_and_style_are_small(figure):
    assert len(gzip.compress((figure._esm + figure._css).encode())) <= LARGEST


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
    pictures = [figure._repr_mimebundle_()[0]["image/png"] for figure in (explorables.Race(), explorables.Race(lr=0.1))]
    assert pictures[0] != pictures[1]


@pytest.mark.parametrize("name", SHOWN)
def test_saved_notebook_holds_the_state_of_todays_module(name):
    """`make outputs` writes it."""
    notebook = json.loads((NOTEBOOKS / f"{SHOWN[name]}.ipynb").read_text(encoding="utf-8"))
    states = notebook["metadata"]["widgets"][STATE]["state"].values()
    (saved,) = [model["state"] for model in states if model["model_module"] == "anywidget"]
    figure = getattr(explorables, name)()
    assert saved["_anywidget_id"].endswith(name)
    assert (saved["_esm"], saved["_css"]) == (figure._esm, figure._css)
    assert set(figure.keys) <= set(saved)


@pytest.mark.parametrize(
    "settings", [{"z": [0.0, 0.0]}, {"z": [1.0]}, {"z": [float("inf"), 0.0]}, {"eta": 0.0}, {"eta": 2.0}, {"steps": -1}]
)
def test_states_that_cannot_be_shown_are_refused(settings):
    with pytest.raises(traitlets.TraitError):
        explorables.DragEmbedding(**settings)


@pytest.mark.parametrize("settings", [{"lr": 0.0}, {"norm": 2.0}, {"angle": 0.0}, {"power": 3.0}, {"decay": -0.1}])
def test_races_that_cannot_be_run_are_refused(settings):
    with pytest.raises(traitlets.TraitError):
        explorables.Race(**settings)


@pytest.mark.parametrize(("power", "decay"), [(0.0, 0.0), (1.0, 0.0), (0.0, 0.2), (0.7, 0.1)])
def test_race_is_sgd_with_weight_decay_on_both_embeddings(power, decay):
    race = explorables.Race(lr=0.3, angle=2.0, power=power, decay=decay)
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
    race = explorables.Race(lr=0.005, norm=1.0, angle=2.5, power=power, decay=decay)
    for norm in (1.0, 2.0, 3.0):
        assert len(race._path(norm)) - 1 == pytest.approx(race.law(norm), rel=0.02)
