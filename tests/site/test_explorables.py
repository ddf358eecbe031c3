"""Figures to move, in a browser: their mathematics, the built pages without a network, and JupyterLab.

The pages are opened as files, as by a reader who keeps a copy of the book.
"""

import json
import math
import os
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

from normlib import explorables, gradients, losses, simulations
from normlib.explorables._explorable import module
from toc import ROOT, SITE
from visiting import SETTLE

PAGES = {"drag_embedding": "01_hypersphere_paradox", "race": "04_convergence_simulations"}
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

    def __init__(self, context, name):
        self.page, self.troubles, self.asked = context.new_page(), [], []
        self.page.on("pageerror", lambda error: self.troubles.append(str(error)))
        self.page.on("console", lambda message: message.type == "error" and self.troubles.append(message.text))
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.page.goto((SITE / "notebooks" / f"{PAGES[name]}.html").as_uri(), wait_until="load")
        self.figure = self.page.locator(".explorable")

    def start(self):
        self.figure.wait_for()
        self.page.evaluate(SETTLE)  # formulas that are set later move what stands below them
        self.figure.scroll_into_view_if_needed()
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
        """Norm, norm now, angle, steps and law of each pair of the race."""
        rows = self.figure.locator("tbody tr").all()
        return [[cell.inner_text().replace(",", "") for cell in row.locator("th, td").all()] for row in rows]

    def button(self, name):
        return self.figure.get_by_role("button", name=name, exact=True)

    def spot(self, x, y):
        """Pixels of a point of the plane."""
        box = self.figure.locator("svg").bounding_box()
        unit = box["width"] / 214 * 92 / 3.2
        return box["x"] + box["width"] / 2 + unit * x, box["y"] + box["height"] / 2 - unit * y


@contextmanager
def opened(browser, name, size="desktop", scheme="light", motion="no-preference", **options):
    if not (SITE / "index.html").is_file():
        pytest.skip("the site is not built: run make book")
    context = browser.new_context(
        viewport=SIZES[size], color_scheme=scheme, reduced_motion=motion, offline=True, **options
    )
    try:
        yield Opened(context, name)
    finally:
        context.close()


@pytest.fixture
def drag(browser):
    with opened(browser, "drag_embedding") as page:
        yield page.start()


@pytest.fixture
def race(browser):
    with opened(browser, "race") as page:
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
    grads = torch.cat([gradients.cosine_similarity_grad(*pair)[0] for pair in pairs])
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
    """Without decay; that decay goes with it as in torch, tests/test_explorables.py shows of the same formula."""
    states, expected = [], []
    for angle, norm, how in random_races():
        for decay in (0.0, how["decay"]):
            keep = 1 - how["lr"] * decay
            pair = {"cosine": math.cos(angle), "sine": math.sin(angle), "norm": norm}
            states.append(["step", pair, how | {"decay": decay}])
            cosine, sine, grown, _ = gradients.cosine_step(
                pair["cosine"], pair["sine"], norm, norm, how["lr"] / keep, how["power"]
            )
            expected.append([cosine, sine, keep * grown])
    found = [[pair[key] for key in ("cosine", "sine", "norm")] for pair in compute("race", states)]
    np.testing.assert_allclose(found, expected, rtol=1e-10, atol=1e-12)


def test_law_of_the_race_is_that_of_normlib(compute):
    races = random_races()
    expected = [explorables.Race(angle=max(angle, math.pi / 36), **how).law(norm) for angle, norm, how in races]
    calls = [["law", max(angle, math.pi / 36), norm, how] for angle, norm, how in races]
    np.testing.assert_allclose(compute("race", calls), expected, rtol=1e-9)


@pytest.mark.parametrize("name", PAGES)
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", SIZES)
def test_figure_starts_without_a_network_and_without_barriers(browser, name, size, scheme):
    with opened(browser, name, size, scheme) as page:
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


@pytest.mark.parametrize("name", PAGES)
def test_still_stands_for_the_figure_where_nothing_moves(browser, name):
    with opened(browser, name, java_script_enabled=False) as page:
        still = page.page.locator(".explorable-still img")
        assert still.is_visible()
        assert len(still.get_attribute("alt")) >= 40
    with opened(browser, name) as page:
        still = page.start().page.locator(".explorable-still img")
        assert not still.is_visible()
        page.page.emulate_media(media="print")
        assert still.is_visible()
        assert not page.figure.is_visible()


def test_only_pages_with_a_figure_to_move_load_its_host():
    if not (SITE / "index.html").is_file():
        pytest.skip("the site is not built: run make book")
    loading = [path.stem for path in SITE.rglob("*.html") if "explorables.js" in path.read_text(encoding="utf-8")]
    assert sorted(loading) == sorted(PAGES.values())


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
        z = z - 0.2 * gradients.cosine_similarity_grad(z, target)[0]
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
            nbformat.v4.new_code_cell("from normlib import explorables\nfigure = explorables.DragEmbedding()\nfigure"),
            nbformat.v4.new_code_cell("race = explorables.Race()\nrace"),
            nbformat.v4.new_code_cell("print('read back', [round(x, 3) for x in figure.z], figure.steps, race.power)"),
        ],
        metadata={"kernelspec": {"name": "python3", "display_name": "Python 3"}},
    )
    nbformat.write(notebook, tmp_path / "figures.ipynb")
    settings = tmp_path / "settings" / "@jupyter-widgets" / "jupyterlab-manager"
    settings.mkdir(parents=True)
    (settings / "plugin.jupyterlab-settings").write_text('{"saveState": true}')
    with jupyterlab(tmp_path, tmp_path / "settings") as address:
        context = browser.new_context(viewport={"width": 1280, "height": 1600})
        page, troubles = context.new_page(), []
        page.on("pageerror", lambda error: troubles.append(str(error)))
        page.on("console", lambda message: message.type == "error" and troubles.append(message.text))
        page.goto(f"{address}lab/tree/figures.ipynb")
        page.locator(".jp-CodeCell").first.wait_for(timeout=60_000)
        page.evaluate(KERNEL_READY)
        do = partial(page.evaluate, "command => jupyterapp.commands.execute(command)")
        do("notebook:run-all-cells")
        page.locator(".explorable").nth(1).wait_for(timeout=60_000)
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
        z, target = 1.21 * torch.tensor([[-0.8, 0.6]]).double(), torch.tensor([[1.0, 0.0]]).double()
        z = z - 0.2 * gradients.cosine_similarity_grad(z, target)[0]
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
