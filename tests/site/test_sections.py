"""What a reader meets who scrolls: sections are laid out when they come near, and nothing in them is missed."""

from test_pages import CUT_OFF
from toc import chapter_page
from visiting import PHONE

PAGE = chapter_page("convergence-simulations")
NEAR = """() => [...document.querySelectorAll('.bd-article > section > section')].map(
  (section) => section.lastElementChild.checkVisibility({ contentVisibilityAuto: true }))"""
WIDE = """() => [...document.querySelectorAll('article pre, article figure, article .cell_output')].filter(
  (box) => box.scrollWidth > box.clientWidth && box.tabIndex !== 0).map((box) => box.outerHTML.slice(0, 80))"""
STYLED = """() => new MutationObserver((changes) => changes.forEach((change) => {
  if (document.body && change.oldValue !== document.documentElement.dataset.theme) window.restyled = change.oldValue
})).observe(document, { subtree: true, attributeFilter: ['data-theme'], attributeOldValue: true })"""


def opened(browser, site, **options):
    """The page as a first visitor sees it, unlike in other tests with sections that wait."""
    page = browser.new_context(viewport=PHONE, **options).new_page()
    page.add_init_script(f"({STYLED})()")
    page.goto(f"{site}/{PAGE}", wait_until="load")
    page.evaluate("() => MathJax.startup.promise")
    return page


def test_far_sections_wait_and_are_whole_when_one_scrolls_to_them(browser, site):
    page = opened(browser, site)
    near = page.evaluate(NEAR)
    assert near[0]
    assert not any(near[3:])
    for _ in range(200):
        page.mouse.wheel(0, PHONE["height"])
        page.wait_for_timeout(30)
        if page.evaluate("() => scrollY + innerHeight >= document.documentElement.scrollHeight - 1"):
            break
    assert page.evaluate(NEAR)[-1]
    page.wait_for_timeout(200)
    assert page.evaluate(CUT_OFF, "article mjx-container[display='true']") == []
    assert page.evaluate(WIDE) == []
    page.context.close()


def test_a_first_visit_is_styled_once_in_light_and_in_dark(browser, site):
    for scheme in ("light", "dark"):
        page = opened(browser, site, color_scheme=scheme)
        assert page.evaluate("() => document.documentElement.dataset.theme") == scheme
        assert page.evaluate("() => window.restyled") is None
        page.context.close()
