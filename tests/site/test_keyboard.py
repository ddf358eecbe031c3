"""Everything can be reached and used without a mouse."""

import pytest

from toc import chapter_page, entries
from visiting import PHONE, visiting

# Notes what takes the focus and how it is marked. Afterwards `missed` compares with what can be seen.
WATCH = """() => {
  const ring = (element, pseudo) => {
    const {outlineStyle, outlineWidth, outlineColor, boxShadow, stroke} = getComputedStyle(element, pseudo)
    return [outlineStyle === 'none' ? '' : `${outlineWidth} ${outlineColor}`, boxShadow, stroke].join(' | ')
  }
  // The ring may lie around the element, around the area that it makes clickable, or be drawn within it.
  const rings = (element) =>
    [ring(element), ring(element, '::after'), ...[...element.children].map((child) => ring(child))].join()
  const focused = new Map()
  document.addEventListener('focusin', ({target}) => focused.set(target, rings(target)))
  const seen = (element) => element.checkVisibility({visibilityProperty: true})
    && element.getBoundingClientRect().width > 0
  const scrolls = (element) => {
    const {overflowX, overflowY} = getComputedStyle(element)
    return (/auto|scroll/.test(overflowX) && element.scrollWidth > element.clientWidth + 1)
      || (/auto|scroll/.test(overflowY) && element.scrollHeight > element.clientHeight + 1)
  }
  const every = (selector) => [...document.querySelectorAll(selector)].filter(seen)
  const controls = 'a[href], button:enabled, summary, input:enabled, select:enabled, textarea:enabled, [tabindex="0"]'
  const named = (element) => element.outerHTML.slice(0, 160)
  window.targets = () => every(controls).length + every('*').filter(scrolls).length
  window.missed = () => ({
    // The button back to the top shows itself when one goes up, so when the round begins again.
    controls: every(controls).filter((element) => !focused.has(element) && element.id !== 'pst-back-to-top').map(named),
    regions: every('*').filter(scrolls)
      .filter((region) => ![...focused.keys()].some((element) => region.contains(element))).map(named),
    unmarked: [...focused].filter(([element, mark]) => element !== document.activeElement && rings(element) === mark)
      .map(([element]) => named(element)),
  })
}"""


def tab_through(page):
    """Press Tab until everything had its turn; what was not reached, or does not show that it has the focus."""
    page.evaluate(WATCH)
    for _ in range(page.evaluate("targets()") + 5):
        page.keyboard.press("Tab")
    return page.evaluate("missed()")


@pytest.mark.parametrize("entry", entries())
def test_tab_visits_everything_and_shows_where_it_is(browser, site, entry):
    with visiting(browser, site, f"{entry}.html") as visit:
        assert tab_through(visit.page) == {"controls": [], "regions": [], "unmarked": []}


def test_tab_visits_everything_on_a_phone(browser, site):
    with visiting(browser, site, chapter_page("gradient-derivation"), PHONE) as visit:
        assert tab_through(visit.page) == {"controls": [], "regions": [], "unmarked": []}
