"""Every page in the browser, on a desktop and on a phone, light and dark. Each is loaded once per size."""

from urllib.request import Request, urlopen

import pytest
from axe_playwright_python.sync_playwright import Axe

from toc import pages
from visiting import DESKTOP, PHONE, visiting

FIRST_LOAD, FIGURE = 600_000, 40_000  # bytes

# The document is the same in both themes: in the dark only colours are looked at again.
RULES = {"light": {}, "dark": {"runOnly": ["color-contrast", "link-in-text-block"]}}

FORMULAS = """() => {
  const every = (selector) => [...document.querySelectorAll(selector)]
  const formulas = every('.math')
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT)
  const raw = []
  while (walker.nextNode()) {
    const text = walker.currentNode
    if (/\\$\\$|\\\\[(\\[]/.test(text.data) && !text.parentElement.closest('pre, code, script, style, mjx-container'))
      raw.push(text.data.trim())
  }
  return {
    formulas: formulas.length,
    typeset: every('mjx-container').length,
    left: formulas.filter((formula) => !formula.querySelector('mjx-container')).map((formula) => formula.textContent),
    faults: every('mjx-merror, [data-mjx-error]').map((node) => node.dataset.mjxError ?? node.textContent),
    raw,
  }
}"""

# An element that reaches beyond the screen, and that no box of its own scrolls or cuts.
TOO_WIDE = """() => {
  const cut = (element) => getComputedStyle(element).overflowX !== 'visible'
  const within = (element) => element !== document.body && (cut(element) || within(element.parentElement))
  const beyond = (element) => element.getBoundingClientRect().right > innerWidth + 1
  const seen = (element) => element.checkVisibility({visibilityProperty: true})
  const wide = [...document.querySelectorAll('main *')].filter(
    (element) => seen(element) && beyond(element) && !within(element.parentElement))
  return {
    document: document.documentElement.scrollWidth - innerWidth,
    elements: wide.slice(0, 5).map((element) => element.outerHTML.slice(0, 160)),
  }
}"""

# Code, output and formulas that reach beyond the box that shows them.
CUT_OFF = """(selector) => [...document.querySelectorAll(selector)]
  .filter((element) => element.checkVisibility() && element.clientWidth)
  .filter((element) => element.scrollWidth > element.clientWidth + 1)
  .map((element) => element.textContent.trim().slice(0, 160))"""

# Lines that begin with the stop of a formula which ends the line above.
LONELY = """() => [...document.querySelectorAll('.unbroken')]
  .filter((element) => element.checkVisibility() && element.getClientRects().length > 1)
  .map((element) => element.parentElement.textContent.trim().slice(0, 160))"""


@pytest.fixture(scope="class", params=pages())
def visit(request, browser, site):
    with visiting(browser, site, f"{request.param}.html", request.cls.SIZE) as opened:
        opened.name, opened.weights = request.param, opened.transferred()
        yield opened


class Checks:
    """What holds on every page at every size."""

    def test_nothing_fails(self, visit):
        assert visit.troubles == []

    def test_nothing_is_asked_of_another_host(self, visit):
        assert visit.outside() == []

    def test_every_formula_is_typeset(self, visit):
        found = visit.page.evaluate(FORMULAS)
        assert (found["left"], found["faults"], found["raw"]) == ([], [], [])
        assert found["typeset"] == found["formulas"]
        assert found["formulas"] or not visit.name.startswith("notebooks/")

    def test_no_line_begins_with_the_stop_of_a_formula(self, visit):
        assert visit.page.evaluate(LONELY) == []

    @pytest.mark.parametrize("theme", ["light", "dark"])
    def test_axe_finds_no_barrier(self, visit, theme):
        visit.theme(theme)
        results = Axe().run(visit.page, options={"resultTypes": ["violations"], **RULES[theme]})
        assert results.violations_count == 0, results.generate_report()


class TestDesktop(Checks):
    SIZE = DESKTOP

    def test_the_first_load_is_light(self, visit):
        heaviest = sorted(visit.weights.items(), key=lambda entry: -entry[1])[:10]
        assert sum(visit.weights.values()) <= FIRST_LOAD, "\n".join(f"{weight:8} {url}" for url, weight in heaviest)

    def test_figures_are_light_and_wait_until_they_are_near(self, visit):
        figures = "article img[src*='/_images/']"
        images = visit.page.eval_on_selector_all(figures, "found => found.map((img) => [img.src, img.loading])")
        assert [source for source, loading in images if loading != "lazy"] == []
        weights = {source: transferred(source) for source, _ in images}
        assert {source: weight for source, weight in weights.items() if weight > FIGURE} == {}

    def test_code_and_what_it_prints_are_shown_whole(self, visit):
        visit.unfold()
        assert visit.page.evaluate(CUT_OFF, "article pre") == []


class TestPhone(Checks):
    SIZE = PHONE

    def test_the_page_does_not_scroll_sideways(self, visit):
        assert visit.page.evaluate(TOO_WIDE) == {"document": 0, "elements": []}

    def test_formulas_fit(self, visit):
        visit.unfold()
        assert visit.page.evaluate(CUT_OFF, "article mjx-container[display='true']") == []


def transferred(address):
    """Bytes of a file as the server sends it."""
    with urlopen(Request(address, headers={"Accept-Encoding": "gzip"})) as response:
        return len(response.read())
