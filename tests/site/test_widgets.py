"""Figures to move, in a browser: their mathematics, the built pages without a network, and JupyterLab.

The pages are opened as files, as by a reader who keeps a copy of the book.
"""

import json
import math
import os
import re
import subprocess
import sys
import time
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

import nbformat
import numpy as np
import pytest
import torch
from axe_playwright_python.sync_playwright import Axe
from scipy.spatial.transform import Rotation

from normcourse import experiments, widgets
from normcourse.paths import notebook
from normcourse.widgets.base import module
from normlib import data, dynamics, gradients, interventions, losses, simulations
from toc import ROOT, SITE
from visiting import SETTLE

# Where each is shown, and its name to a screen reader.
PLACES = [
    ("drag_embedding", notebook("hypersphere-paradox").stem),
    ("race", notebook("convergence-simulations").stem),
    ("sphere", notebook("structure-simulations").stem),
    ("cut_and_scale", notebook("interventions").stem),
    ("race", notebook("interventions").stem),
    ("confidence_dial", notebook("confidence").stem),
]
LABELS = {
    "drag_embedding": "Drag an embedding",
    "race": "Race of four norms",
    "sphere": "Embeddings of an encoder in training",
    "cut_and_scale": "Cut and scale",
    "confidence_dial": "Confidence dial",
}
SIZES = {"desktop": {"width": 1280, "height": 900}, "narrow": {"width": 320, "height": 700}}
LEAST_TARGET = 24  # pixels
FRAME = 1000 / 60  # milliseconds

# The exported functions of a module on many inputs, given as [name, arguments].
COMPUTE = """async ([source, calls]) => {
  const module = await import(URL.createObjectURL(new Blob([source], { type: "text/javascript" })))
  return calls.map(([name, ...given]) => module[name](...given))
}"""


class Opened:
    """A page from the built site as a file, with the network cut, and what went wrong on it."""

    def __init__(self, context, name, address):
        self.page, self.troubles, self.asked = context.new_page(), [], []
        self.page.on("pageerror", lambda error: self.troubles.append(str(error)))
        self.page.on("console", lambda message: message.type == "error" and self.troubles.append(message.text))
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.page.goto(address.as_uri(), wait_until="load")
        self.figure = self.page.get_by_role("group", name=LABELS[name], exact=True)

    def start(self):
        self.figure.wait_for()
        for _ in range(2):  # sections are laid out when they come near the screen, and then have other heights
            self.figure.scroll_into_view_if_needed()
            self.page.evaluate(SETTLE)  # formulas that are set later move what stands below them
        return self

    def hold_time(self):
        """From here on time passes only in `wait`, so that a busy machine counts as many steps as an idle one."""
        self.page.clock.install(time=0)
        self.page.clock.pause_at(1)

    def wait(self, milliseconds):
        self.page.clock.run_for(milliseconds)

    def number(self, name):
        """A number of the list beside the plane."""
        text = self.figure.locator("dl > div", has_text=name).locator("dd").inner_text()
        return float(text.replace("−", "-").rstrip("°"))

    def rows(self):
        """What the table of the figure says: of a race norm, norm now, angle, steps and law of each pair."""
        rows = self.figure.locator("tbody tr").all()
        return [
            [re.sub(r"(?<=\d),(?=\d)", "", cell.inner_text()) for cell in row.locator("th, td").all()] for row in rows
        ]

    def button(self, name):
        return self.figure.get_by_role("button", name=name, exact=True)

    def choose(self, group, name):
        self.figure.get_by_role("group", name=group, exact=True).get_by_role("button", name=name, exact=True).click()

    def slider(self, name):
        return self.figure.get_by_role("slider", name=name)

    def spot(self, x, y):
        """Pixels of a point of the plane."""
        box = self.figure.locator("svg").bounding_box()
        unit = box["width"] / 214 * 92 / 3.2
        return box["x"] + box["width"] / 2 + unit * x, box["y"] + box["height"] / 2 - unit * y


@contextmanager
def opened(browser, name, size="desktop", scheme="light", motion="no-preference", chapter=None, **options):
    """A figure on the page of a chapter, the first that has it; or on the page of a path."""
    if not (SITE / "index.html").is_file() and not isinstance(chapter, Path):
        pytest.skip("the site is not built: run make book")
    context = browser.new_context(
        viewport=SIZES[size], color_scheme=scheme, reduced_motion=motion, offline=True, **options
    )
    address = SITE / "notebooks" / f"{chapter or dict(reversed(PLACES))[name]}.html"
    try:
        yield Opened(context, name, chapter if isinstance(chapter, Path) else address)
    finally:
        context.close()


PAGE = """<!doctype html><html lang="en"><meta name="viewport" content="width=device-width"><title>Figure</title>
<main><h1>Figure</h1><div><script type="application/vnd.jupyter.widget-state+json">{state}</script>
<script type="application/vnd.jupyter.widget-view+json">{{"model_id": "one"}}</script></div></main>
<script>{host}</script></html>"""


def page_with(figure, path: Path) -> Path:
    """A page of nothing but a figure and its host script."""
    state = {name: getattr(figure, name) for name in figure.keys if name not in ("layout", "tabbable", "tooltip")}
    host = (ROOT / "book" / "public" / "widgets.js").read_text(encoding="utf-8")
    saved = json.dumps({"state": {"one": {"state": state}}})
    path.write_text(PAGE.format(state=saved, host=host), encoding="utf-8")
    return path


@pytest.fixture
def drag(browser):
    with opened(browser, "drag_embedding") as page:
        yield page.start()


@pytest.fixture
def race(browser):
    with opened(browser, "race") as page:
        yield page.start()


@pytest.fixture
def sphere(browser):
    with opened(browser, "sphere") as page:
        yield page.start()


@pytest.fixture
def cut(browser):
    with opened(browser, "cut_and_scale") as page:
        yield page.start()


@pytest.fixture(scope="module")
def compute(browser):
    """Runs functions of a module in the browser, on an empty page."""
    page = browser.new_page()
    yield lambda name, calls: page.evaluate(COMPUTE, [module(name), calls])
    page.close()


def test_gradient_field_is_that_of_normlib(compute):
    rng = np.random.default_rng(0)
    z = rng.standard_normal((500, 2)) * 10 ** rng.uniform(-1, 2, (500, 1))
    angles, eta = rng.uniform(-np.pi, np.pi, 500), rng.uniform(0.05, 1, 500)
    points, targets = torch.as_tensor(z), torch.as_tensor(np.stack([np.cos(angles), np.sin(angles)], axis=1))
    pairs = [(point[None], target[None]) for point, target in zip(points, targets, strict=True)]
    grads = torch.cat([gradients.cosine_loss_grad(*pair)[0] for pair in pairs])
    stepped = points - torch.as_tensor(eta)[:, None] * grads
    cosine = (stepped * points).sum(1) / stepped.norm(dim=1) / points.norm(dim=1)
    for function, expected in {
        "cosineLoss": torch.stack([losses.cosine_loss(*pair) for pair in pairs]),
        "gradient": grads,
        "step": stepped,
    }.items():
        given = zip(z.tolist(), angles.tolist(), eta.tolist(), strict=True)
        found = compute("drag_embedding", [[function, *arguments] for arguments in given])
        torch.testing.assert_close(torch.tensor(found, dtype=torch.float64), expected, rtol=1e-9, atol=1e-12)
    states = zip(z.tolist(), angles.tolist(), eta.tolist(), strict=True)
    turned = compute("drag_embedding", [["turn", *state] for state in states])
    np.testing.assert_allclose(np.cos(turned), cosine, rtol=0, atol=1e-12)


def random_races(count=300):
    rng = np.random.default_rng(1)
    angles, norms = rng.uniform(0.06, 3.12, count), 10 ** rng.uniform(-1.3, 0.6, count)
    hows = [
        {"lr": lr, "power": power, "decay": decay}
        for lr, power, decay in zip(
            10 ** rng.uniform(-2.3, -0.3, count), rng.uniform(0, 2, count), rng.uniform(0, 0.2, count), strict=True
        )
    ]
    return list(zip(angles.tolist(), norms.tolist(), hows, strict=True))


def test_step_of_the_race_is_that_of_normlib(compute):
    """Without decay; tests/normcourse/widgets shows of the same formula that decay goes with it as in torch."""
    states, expected = [], []
    for angle, norm, how in random_races():
        for decay in (0.0, how["decay"]):
            keep = 1 - how["lr"] * decay
            pair = {"cosine": math.cos(angle), "sine": math.sin(angle), "norm": norm}
            states.append(["step", pair, how | {"decay": decay}])
            cosine, sine, grown, _ = dynamics.cosine_step(
                pair["cosine"], pair["sine"], norm, norm, how["lr"] / keep, how["power"]
            )
            expected.append([cosine, sine, keep * grown])
    found = [[pair[key] for key in ("cosine", "sine", "norm")] for pair in compute("race", states)]
    np.testing.assert_allclose(found, expected, rtol=1e-10, atol=1e-12)


def test_law_of_the_race_is_that_of_normlib(compute):
    races = random_races()
    expected = [widgets.Race(angle=max(angle, math.pi / 36), **how).law(norm) for angle, norm, how in races]
    calls = [["law", max(angle, math.pi / 36), norm, how] for angle, norm, how in races]
    np.testing.assert_allclose(compute("race", calls), expected, rtol=1e-9)


def test_curves_of_the_cut_are_those_of_the_record(compute):
    """Every network, cut and step size, to the two bytes that a number has."""
    figure = widgets.CutAndScale(experiments.load("digits-cuts")["steps"])
    record = figure.record
    places = list(np.ndindex(figure._curves.shape[:-1]))
    calls = []
    for depth, biases, batch_norm, cut, uncut in places:
        network = {"depth": record["depths"][depth], "biases": bool(biases), "batch_norm": bool(batch_norm)}
        calls.append(["run", figure.curves, record, network | {"cut": record["cuts"][cut]}, uncut])
    for place, run in zip(places, compute("cut_and_scale", calls), strict=True):
        found = [*run["loss"], *run["lossHalf"], *run["norm"], *run["normHalf"], math.log10(run["spread"])]
        np.testing.assert_allclose(found, figure._curves[place], rtol=0, atol=0.51 / record["scale"])


def test_law_of_the_cut_is_what_it_does_to_a_network(compute):
    model = torch.nn.Sequential(*(torch.nn.Linear(5, 5, bias=False, dtype=torch.float64) for _ in range(4)))
    x = torch.ones(1, 5, dtype=torch.float64)
    before = model(x).norm().item()
    shorter = before / interventions.cut_initialization(model, 3.0)(x).norm().item()
    assert compute("cut_and_scale", [["law", 3, 4]]) == pytest.approx([shorter])


@pytest.fixture(scope="module")
def trained_sphere():
    return widgets.Sphere()


def test_points_of_the_sphere_are_embeddings(compute, trained_sphere):
    record = trained_sphere.measured
    places = [(film, frame) for film in range(3) for frame in (0, 7, 15)]
    found = compute("sphere", [["points", trained_sphere.films, record, *place] for place in places])
    for (film, frame), points in zip(places, found, strict=True):
        off = np.abs(np.array(points) - trained_sphere._frames[film][frame].numpy())
        assert off.max() <= 0.51 * record["scales"][film][frame] / 127


def test_lengths_of_the_classes_are_those_of_normlib(compute, trained_sphere):
    mixture = simulations.spherical_mixture((8, 4, 2, 1), seeds=[0])
    encoders = simulations.train_encoder(mixture, dim=3, lr=0.1, epochs=3, progress=False)
    norms = simulations.norm_table(mixture, norm=encoders).groupby("label")["norm"].mean().to_numpy()
    needles = trained_sphere.measured["needles"][1][trained_sphere.measured["epochs"].index(3)]
    (found,) = compute("sphere", [["lengths", needles]])
    np.testing.assert_allclose(found, np.stack([norms, norms / norms.mean()], axis=1), rtol=1e-3)


def test_turned_embeddings_keep_their_lengths(compute):
    rng = np.random.default_rng(2)
    z, turns, tilts = rng.standard_normal((100, 3)), rng.uniform(-3, 3, 100), rng.uniform(-1.5, 1.5, 100)
    found = compute("sphere", [["rotate", *given] for given in zip(z.tolist(), turns, tilts, strict=True)])
    turn = Rotation.from_euler("yx", np.stack([turns, tilts], axis=1))  # about the axes that stay in place
    np.testing.assert_allclose(found, turn.apply(z), rtol=0, atol=1e-12)


@pytest.fixture(scope="module")
def dial():
    samples = experiments.load("digits-simclr")["samples"].query("lr == 0.1")
    return widgets.ConfidenceDial(samples, data.digits("test"))


@pytest.fixture
def digits(browser, dial, tmp_path):
    """The page of the dial, until a chapter shows it."""
    with opened(browser, "confidence_dial", chapter=page_with(dial, tmp_path / "dial.html")) as page:
        page.figure.wait_for()
        yield page


def test_dial_reads_its_table_and_counts_as_normlib_does(compute, dial):
    networks = compute("confidence_dial", [["network", dial.table, dial.record, index] for index in range(8)])
    for table, (norm, untrained, correct), curves in zip(networks, dial._networks, dial.curves(), strict=True):
        np.testing.assert_allclose(table["norm"], norm, rtol=0, atol=norm.max() / 65535)
        np.testing.assert_allclose(table["untrained"], untrained, rtol=0, atol=untrained.max() / 65535)
        assert table["correct"] == correct.tolist()
        found = compute("confidence_dial", [["curve", table[by], table["correct"]] for by in ("norm", "untrained")])
        # Norms that differ by less than the table can hold may change places.
        np.testing.assert_allclose(np.array(found)[:, :-20], curves[:2, :-20], rtol=0, atol=1 / 20)
        assert np.mean(np.abs(np.array(found) - curves[:2]) > 1e-12) < 0.02


def test_accuracy_is_that_of_the_longest(compute):
    rng = np.random.default_rng(3)
    norms, correct = rng.uniform(0, 5, 200), rng.integers(0, 2, 200)
    kept = [correct[norms >= threshold].mean() for threshold in (0.0, 1.0, 3.0)]
    dropped = compute("confidence_dial", [["dropped", norms.tolist(), threshold] for threshold in (0.0, 1.0, 3.0)])
    assert dropped == [(norms < threshold).sum() for threshold in (0.0, 1.0, 3.0)]
    (curve,) = compute("confidence_dial", [["curve", norms.tolist(), correct.tolist()]])
    assert [curve[count] for count in dropped] == pytest.approx(kept)


@pytest.mark.parametrize(("name", "chapter"), PLACES)
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", SIZES)
def test_figure_starts_without_a_network_and_without_barriers(browser, name, chapter, size, scheme):
    with opened(browser, name, size, scheme, chapter=chapter) as page:
        page.start()
        assert page.troubles == []
        assert {url.split(":")[0] for url in page.asked} <= {"file", "blob", "data"}
        results = Axe().run(page.page, context=".explorable")
        assert results.violations_count == 0, results.generate_report()
        beyond = page.page.evaluate(
            """() => [...document.querySelectorAll(".explorable *")].filter(
              (element) => element.getBoundingClientRect().right > innerWidth && !element.closest("svg"))
              .map((element) => element.outerHTML.slice(0, 120))"""
        )
        assert beyond == []
        for target in page.figure.locator("button, input, .hit").all():
            box = target.bounding_box()
            assert min(box["width"], box["height"]) >= LEAST_TARGET, target.evaluate("it => it.outerHTML")


@pytest.mark.parametrize("name", dict(PLACES))
def test_still_stands_for_the_figure_where_nothing_moves(browser, name):
    with opened(browser, name, java_script_enabled=False) as page:
        stills = page.page.locator(".explorable-still img").all()
        assert stills
        for still in stills:
            assert still.is_visible()
            assert len(still.get_attribute("alt")) >= 40
    with opened(browser, name) as page:
        stills = page.start().page.locator(".explorable-still img").all()
        assert not any(still.is_visible() for still in stills)
        page.page.emulate_media(media="print")
        assert all(still.is_visible() for still in stills)
        assert not page.figure.is_visible()


def test_only_pages_with_a_figure_to_move_load_its_host():
    if not (SITE / "index.html").is_file():
        pytest.skip("the site is not built: run make book")
    loading = [path.stem for path in SITE.rglob("*.html") if "widgets.js" in path.read_text(encoding="utf-8")]
    assert sorted(loading) == sorted({chapter for _, chapter in PLACES})


def test_pointer_puts_z_anywhere_and_the_loss_is_the_same_along_a_ray(drag):
    drag.page.mouse.click(*drag.spot(0, 2))
    assert (drag.number("length"), drag.number("angle φ"), drag.number("loss")) == (2, 90, 0)
    drag.page.mouse.move(*drag.spot(0, 2))
    drag.page.mouse.down()
    drag.page.mouse.move(*drag.spot(-1, 1), steps=5)
    drag.page.mouse.up()
    drag.page.keyboard.press("ArrowUp")  # goes on from where the pointer let go
    assert drag.number("length") == pytest.approx(1.1 * 2**0.5, abs=0.01)
    drag.page.keyboard.press("ArrowDown")
    loss, size, turn = (drag.number(name) for name in ("loss", "gradient", "turn"))
    assert (drag.number("length"), drag.number("angle φ"), loss) == (1.41, 135, 0.71)
    drag.button("Double the length of z").click()
    assert drag.number("loss") == loss
    assert drag.number("gradient") == pytest.approx(size / 2, abs=0.01)
    assert math.tan(math.radians(drag.number("turn"))) == pytest.approx(math.tan(math.radians(turn)) / 4, abs=0.002)
    assert drag.troubles == []


def swing(drag, seconds=2.5, tick=0.04):
    """Swing the target by 90° to either side; gives the length before and after and the steps. Time is held."""
    before = drag.number("length")
    drag.page.mouse.move(*drag.spot(3.2, 0))
    drag.page.mouse.down()
    for passed in np.arange(0, seconds, tick):
        angle = math.pi / 2 * math.sin(4 * passed)
        drag.page.mouse.move(*drag.spot(3.2 * math.cos(angle), 3.2 * math.sin(angle)))
        drag.wait(1000 * tick)
    drag.page.mouse.up()
    return before, drag.number("length"), drag.number("steps")


def test_pulled_along_z_gets_heavier(drag):
    """The same swings move a long embedding less, and lengthen it less."""
    drag.hold_time()
    growth = {}
    for length in (0.5, 1, 2):
        drag.page.mouse.click(*drag.spot(0, length))
        before, after, steps = swing(drag)
        assert steps == pytest.approx(30 * 2.5, abs=2)
        growth[before] = after / before
    assert growth[0.5] > growth[1] > growth[2] >= 1
    assert growth[1] > 1.05
    assert drag.troubles == []


def test_keys_move_z_and_the_target(drag):
    drag.page.get_by_role("slider", name="Embedding z").focus()
    drag.page.keyboard.press("ArrowUp")
    assert (drag.number("length"), drag.number("loss")) == (1.1, 0.8)
    for _ in range(3):
        drag.page.keyboard.press("ArrowRight")  # clockwise: towards the target from above
    assert drag.number("angle φ") == pytest.approx(math.degrees(math.acos(-0.8)) - 15, abs=0.6)
    drag.page.get_by_role("slider", name="Target").focus()
    drag.page.keyboard.press("ArrowLeft")
    assert drag.number("steps") == 1
    assert drag.page.get_by_role("slider", name="Target").get_attribute("aria-valuenow") == "5"


def test_steps_are_those_of_the_chapter(drag):
    z, target = torch.tensor([[-0.8, 0.6]]).double(), torch.tensor([[1.0, 0.0]]).double()
    for _ in range(25):
        drag.button("Step").click()
        z = z - 0.2 * gradients.cosine_loss_grad(z, target)[0]
    assert drag.number("length") == pytest.approx(z.norm().item(), abs=0.006)
    assert drag.number("angle φ") == pytest.approx(math.degrees(math.atan2(z[0, 1], z[0, 0])), abs=0.6)
    assert drag.number("steps") == 25


def test_run_goes_on_until_z_has_arrived_or_is_paused(drag):
    drag.hold_time()
    drag.button("Run").click()
    drag.wait(300)
    drag.button("Pause").click()
    steps = drag.number("steps")
    drag.wait(300)
    assert drag.number("steps") == steps > 0
    drag.button("Run").click()
    drag.wait(10_000)
    drag.button("Run").wait_for()  # its name again when z has arrived
    assert drag.number("angle φ") == 0
    drag.button("Reset").click()
    assert (drag.number("length"), drag.number("steps")) == (1, 0)


def test_without_motion_figures_jump(browser):
    with opened(browser, "drag_embedding", motion="reduce") as drag:
        drag.start().hold_time()
        drag.button("Run").click()
        assert drag.number("steps") == 30
        drag.wait(300)
        assert drag.number("steps") == 30
    with opened(browser, "race", motion="reduce") as race:
        race.start().button("Race").click()
        assert [row[3] for row in race.rows()] == ["95", "380", "855", "1520"]
    with opened(browser, "sphere", motion="reduce") as sphere:
        sphere.start().button("Play").click()
        assert sphere.slider("epoch").get_attribute("aria-valuetext") == "100"


def test_values_are_announced_now_and_then(drag):
    drag.page.evaluate(
        """() => {
          window.spoken = []
          new MutationObserver(() => spoken.push(document.querySelector(".explorable-aloud").textContent))
            .observe(document.querySelector(".explorable-aloud"), { childList: true })
        }"""
    )
    drag.hold_time()
    swing(drag)
    drag.wait(1700)
    spoken = drag.page.evaluate("spoken")
    assert 1 <= len(spoken) <= 4  # in about four seconds
    assert spoken[-1].startswith(f"length {drag.number('length'):.2f}, angle {drag.number('angle φ'):.0f}°")


def test_race_counts_what_normlib_counts(race):
    assert [row[3] for row in race.rows()] == ["0"] * 4
    race.button("To the end").click()
    counted = simulations.steps_to_align([1, 2, 3, 4], [math.pi / 2], n_pairs=1, lr=0.02, max_steps=20_000)
    assert [row[3] for row in race.rows()] == [str(steps) for steps in counted.steps]
    assert [row[4] for row in race.rows()] == ["95", "380", "855", "1520"]


def test_race_runs_and_is_paused(race):
    race.hold_time()
    race.button("Race").click()
    race.wait(500)
    race.button("Pause").click()
    steps = [row[3] for row in race.rows()]
    assert 0 < int(steps[-1]) < 1520
    race.button("Back to the start").click()
    assert [row[3] for row in race.rows()] == ["0"] * 4


def test_sliders_of_the_race_answer_to_keys_and_pointer(race):
    race.button("To the end").click()
    power = race.page.get_by_role("slider", name="GradScale p")
    power.focus()
    race.page.keyboard.press("End")
    assert {row[3] for row in race.rows()} == {"94"}
    assert power.get_attribute("aria-valuetext") == "2.0"
    race.page.keyboard.press("Home")
    decay = race.page.get_by_role("slider", name="weight decay")
    box = decay.bounding_box()
    decay.click(position={"x": box["width"] - 3, "y": box["height"] / 2})
    assert float(decay.input_value()) > 0.19
    assert [int(row[3]) for row in race.rows()] < [95, 380, 855, 1520]
    assert race.troubles == []


def test_shortest_pair_can_lose(race):
    for name, key in (("step size", "End"), ("shortest norm", "Home")):
        race.page.get_by_role("slider", name=name).focus()
        race.page.keyboard.press(key)
    race.button("To the end").click()
    steps = [int(row[3]) for row in race.rows()]
    assert steps == sorted(steps, reverse=True)
    assert [row[4] for row in race.rows()] == ["0"] * 4


def test_choices_show_the_record_of_the_network(cut):
    table = experiments.load("digits-cuts")["steps"].query("depth == 4 and biases and not batch_norm")
    cut.choose("layers L", "4")
    cut.choose("biases", "with")
    last = table[table["step"] == 100].groupby(["cut", "lr"])["loss"].mean().round(2)
    start = table[table["step"] == 0].groupby(["cut", "lr"])["norm"].mean().round(2)
    lines = {"uncut, η 0.02": (1.0, 0.02), "cut 3, η 0.02": (3.0, 0.02), "uncut, η 0.18": (1.0, 0.18)}
    rows = {row[0]: row[1:] for row in cut.rows()}
    assert list(rows) == ["uncut, η 0.02", "cut 3, η 0.02", "uncut, η 0.18"]
    for name, place in lines.items():
        norm, _, loss = (float(text) if "·" not in text else None for text in rows[name])
        assert norm == pytest.approx(start[place], abs=0.011)
        assert loss == pytest.approx(last[place], abs=0.011)
    assert rows["cut 3, η 0.02"][1].endswith("·10⁻⁶")
    assert cut.figure.get_by_text("made z 1.1 times shorter").count() == 1
    cut.choose("biases", "without")
    assert cut.figure.get_by_text("made z 81 times shorter; the law cL says 81").count() == 1
    assert cut.troubles == []


def test_choices_answer_to_keys_and_say_what_is_chosen(cut):
    four = cut.figure.get_by_role("group", name="cut c").get_by_role("button", name="4")
    four.focus()
    assert four.get_attribute("aria-pressed") == "false"
    cut.page.keyboard.press("Enter")
    assert four.get_attribute("aria-pressed") == "true"
    assert [row[0] for row in cut.rows()][1:] == ["cut 4, η 0.02", "uncut, η 0.32"]


def test_sphere_is_scrubbed_by_keys_and_by_buttons(sphere):
    record = widgets.Sphere().measured
    epoch = sphere.slider("epoch")
    epoch.focus()
    sphere.page.keyboard.press("End")
    assert epoch.get_attribute("aria-valuetext") == "100"
    for _ in range(6):  # to epoch 20, up to which all machines train alike
        sphere.page.keyboard.press("ArrowLeft")
    assert epoch.get_attribute("aria-valuetext") == "20"
    means = [float(row[2]) for row in sphere.rows()]
    assert means == pytest.approx(np.linalg.norm(record["needles"][0][9], axis=1), rel=0.02)
    sphere.choose("weights", "8:4:2:1")
    assert [row[1] for row in sphere.rows()] == ["8", "4", "2", "1"]
    assert float(sphere.rows()[3][3]) == pytest.approx(0.82, abs=0.02)  # D, rare
    sphere.button("Earlier").click()
    assert epoch.get_attribute("aria-valuetext") == "15"
    sphere.button("Later").click()
    assert epoch.get_attribute("aria-valuetext") == "20"
    assert sphere.troubles == []


def test_sphere_turns_under_pointer_and_keys_and_plays(sphere):
    place = "svg => [...svg.querySelectorAll('.dot')].map((dot) => dot.getAttribute('cx')).join()"
    svg = sphere.figure.locator("svg")
    before = svg.evaluate(place)
    svg.drag_to(svg, source_position={"x": 100, "y": 100}, target_position={"x": 160, "y": 130})
    assert svg.evaluate(place) != before
    assert sphere.slider("turn").get_attribute("aria-valuetext") == f"{round(math.degrees(0.6 + 0.6))}°"
    assert sphere.slider("tilt").get_attribute("aria-valuetext") == f"{round(math.degrees(0.4 + 0.3))}°"
    sphere.slider("tilt").focus()
    sphere.page.keyboard.press("Home")
    assert sphere.slider("tilt").get_attribute("aria-valuetext") == "−90°"
    colour = "svg => svg.querySelector('.dot').style.fill"
    by_norm = svg.evaluate(colour)
    sphere.choose("colour", "class")
    assert svg.evaluate(colour) != by_norm
    sphere.button("Play").click()
    sphere.button("Pause").click()
    assert sphere.slider("epoch").get_attribute("aria-valuetext") != "0"


def test_dial_drops_the_shortest(digits, dial):
    norm, _, correct = dial._networks[0]
    assert digits.figure.get_by_text("450 of 450 kept").count() == 1
    least = digits.slider("least norm")
    least.focus()
    for key in (*["PageUp"] * 5, "ArrowRight"):
        digits.page.keyboard.press(key)
    kept = norm >= float(least.input_value())
    assert 0 < kept.sum() < 450
    assert digits.figure.get_by_text(f"{kept.sum()} of 450 kept").count() == 1
    accuracy = f"{100 * correct[kept].mean():.1f} %"
    assert digits.rows()[0][:2] == ["norm", accuracy]
    assert digits.rows()[2][:2] == ["chance", f"{100 * correct.mean():.1f} %"]
    assert digits.troubles == []


def test_dial_is_turned_by_a_press_on_a_digit_and_by_buttons(digits, dial):
    picture = digits.figure.locator("canvas")
    box = picture.bounding_box()
    picture.click(position={"x": 2, "y": 4.5 * box["height"] / 18})  # the first of the fifth row of 25
    assert digits.figure.get_by_text("350 of 450 kept").count() == 1
    digits.button("Drop 5 % less").click()
    assert digits.figure.get_by_text("373 of 450 kept").count() == 1
    digits.button("Keep all").click()
    assert digits.figure.get_by_text("450 of 450 kept").count() == 1
    digits.choose("network", "8")
    assert digits.rows()[2][1] == f"{100 * dial._networks[7][2].mean():.1f} %"
    digits.slider("least norm").focus()
    digits.page.keyboard.press("End")  # one is always kept
    assert digits.figure.get_by_text("1 of 450 kept").count() == 1


# Handlers run within the dispatch, then layout is forced: what a frame costs before it is painted.
COST = """([selector, kind]) => {
  const element = document.querySelector(selector), { left, top, width, height } = element.getBoundingClientRect()
  const costs = []
  const event = (name, x, y) => new PointerEvent(name, { clientX: x, clientY: y, pointerId: 1, button: 0 })
  element.setPointerCapture = () => {}
  for (let i = 0; i < 200; i++) {
    const angle = i / 9, start = performance.now()
    if (kind === "pointer")
      element.dispatchEvent(event(i ? "pointermove" : "pointerdown",
        left + width * (0.5 + 0.2 * Math.cos(angle)), top + height * (0.5 + 0.2 * Math.sin(angle))))
    else {
      element.value = element.min * 1 + (element.max - element.min) * (0.5 + 0.5 * Math.sin(angle))
      element.dispatchEvent(new Event("input"))
    }
    document.body.getBoundingClientRect()
    costs.push(performance.now() - start)
  }
  return costs
}"""


def test_a_move_leaves_most_of_a_frame_free(drag, race):
    race.button("To the end").click()  # from here on each move of a slider runs four races
    for page, selector, kind in ((drag, ".explorable svg", "pointer"), (race, ".explorable input", "slider")):
        costs = page.page.evaluate(COST, [selector, kind])
        assert np.median(costs) < FRAME / 2


KERNEL_READY = """async () => {
  const { context, sessionContext } = jupyterapp.shell.currentWidget
  await context.ready
  await sessionContext.ready
  await sessionContext.session.kernel.info
}"""


@contextmanager
def jupyterlab(folder: Path, settings: Path):
    """JupyterLab on a notebook folder; gives its address."""
    command = [sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root", "--ip=127.0.0.1", "--port=0"]
    command += ["--IdentityProvider.token=", f"--ServerApp.root_dir={folder}", f"--LabApp.user_settings_dir={settings}"]
    command += ["--LabApp.expose_app_in_browser=True"]
    runtime = folder / "runtime"
    environment = os.environ | {"PYTHONPATH": str(ROOT), "JUPYTER_RUNTIME_DIR": str(runtime)}
    server = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        for _ in range(300):
            found = list(runtime.glob("jpserver-*.json")) if runtime.is_dir() else []
            if found:
                address = json.loads(found[0].read_text())["url"]
                try:
                    urlopen(f"{address}api/status")
                    break
                except URLError:
                    pass
            time.sleep(0.2)
        yield address
    finally:
        server.terminate()
        server.wait(20)


def test_in_jupyterlab_figures_move_and_python_and_the_saved_notebook_follow(browser, tmp_path):
    pytest.importorskip("jupyterlab")
    notebook = nbformat.v4.new_notebook(
        cells=[
            nbformat.v4.new_code_cell("from normcourse import widgets\nfigure = widgets.DragEmbedding()\nfigure"),
            nbformat.v4.new_code_cell("race = widgets.Race()\nrace"),
            nbformat.v4.new_code_cell("print('read back', [round(x, 3) for x in figure.z], figure.steps, race.power)"),
            nbformat.v4.new_code_cell("sphere = widgets.Sphere()\nsphere"),
            nbformat.v4.new_code_cell(
                "from normcourse import experiments\nfrom normlib import data\n"
                "widgets.CutAndScale(experiments.load('digits-cuts')['steps'])"
            ),
            nbformat.v4.new_code_cell(
                "samples = experiments.load('digits-simclr')['samples'].query('lr == 0.1')\n"
                "widgets.ConfidenceDial(samples, data.digits('test'))"
            ),
        ],
        metadata={"kernelspec": {"name": "python3", "display_name": "Python 3"}},
    )
    nbformat.write(notebook, tmp_path / "figures.ipynb")
    settings = tmp_path / "settings" / "@jupyter-widgets" / "jupyterlab-manager"
    settings.mkdir(parents=True)
    (settings / "plugin.jupyterlab-settings").write_text('{"saveState": true}')
    with jupyterlab(tmp_path, tmp_path / "settings") as address:
        context = browser.new_context(viewport={"width": 1280, "height": 4000})
        page, troubles = context.new_page(), []
        page.on("pageerror", lambda error: troubles.append(str(error)))
        page.on("console", lambda message: message.type == "error" and troubles.append(message.text))
        page.goto(f"{address}lab/tree/figures.ipynb")
        page.locator(".jp-CodeCell").first.wait_for(timeout=60_000)
        page.evaluate(KERNEL_READY)
        do = partial(page.evaluate, "command => jupyterapp.commands.execute(command)")
        do("notebook:run-all-cells")
        page.locator(".explorable").nth(4).wait_for(timeout=120_000)
        assert page.locator(".jp-OutputArea-output img").count() == 0  # the figure, not its still
        tip = page.get_by_role("slider", name="Embedding z")
        tip.click()
        page.get_by_role("button", name="Reset").click()
        tip.focus()
        for key in ("ArrowDown", "ArrowUp", "ArrowUp", "ArrowUp"):
            page.keyboard.press(key)
        assert tip.evaluate("tip => tip === document.activeElement")  # the keys have not moved to another cell
        page.get_by_role("button", name="Step", exact=True).click()
        power = page.get_by_role("slider", name="GradScale p")
        power.focus()
        page.keyboard.press("End")
        page.get_by_role("slider", name="epoch").focus()
        page.keyboard.press("End")
        page.get_by_role("group", name="layers L").get_by_role("button", name="6").click()
        page.get_by_role("button", name="Drop 5 % more").click()
        z, target = 1.21 * torch.tensor([[-0.8, 0.6]]).double(), torch.tensor([[1.0, 0.0]]).double()
        z = z - 0.2 * gradients.cosine_loss_grad(z, target)[0]
        page.locator(".jp-CodeCell").nth(2).locator(".jp-InputArea").click()
        do("notebook:run-cell")
        printed = f"read back {[round(part, 3) for part in z[0].tolist()]} 1 2.0"
        page.locator(".jp-OutputArea-output", has_text=printed).wait_for()
        do("docmanager:save")
        context.close()
    assert troubles == []
    saved = nbformat.read(tmp_path / "figures.ipynb", as_version=4)
    states = saved.metadata.widgets["application/vnd.jupyter.widget-state+json"]["state"].values()
    kept = {
        state["state"]["_anywidget_id"].rsplit(".")[-1]: state["state"] for state in states if "_esm" in state["state"]
    }
    assert kept["DragEmbedding"]["z"] == pytest.approx(z[0].tolist())
    assert kept["Race"]["power"] == 2
    assert kept["Sphere"]["frame"] == 15
    assert kept["CutAndScale"]["depth"] == 6
    assert kept["ConfidenceDial"]["threshold"] > 0
