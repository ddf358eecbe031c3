"""What a reader does: search, change the theme, copy, unfold, open the files without a server, print."""

import pytest
from playwright.sync_api import expect

from toc import SITE, chapter_page
from visiting import visiting

DERIVATION = chapter_page("gradient-derivation")
THREE = ["book/welcome.html", DERIVATION, chapter_page("simclr-training")]
A4 = {"width": 640, "height": 970}  # CSS pixels within margins of 2 cm

# What paper would cut off: it reaches beyond the edge, or a box that scrolls on the screen holds more than it shows.
CUT = """() => {
  document.querySelectorAll('mjx-assistive-mml').forEach((element) => element.remove())  // read aloud, never shown
  return [...document.querySelectorAll('article *')]
    .filter((element) => element.checkVisibility() && !element.parentElement.closest('mjx-container, svg'))
    .filter((element) => element.getBoundingClientRect().right > innerWidth + 1
      || (element.clientWidth && element.scrollWidth > element.clientWidth + 1))
    .map((element) => element.outerHTML.slice(0, 160))
}"""


def test_the_first_tab_offers_to_skip_to_the_text(browser, site):
    with visiting(browser, site, DERIVATION) as visit:
        visit.page.keyboard.press("Tab")
        link = visit.page.locator(":focus")
        assert link.inner_text() == "Skip to main content"
        assert link.is_visible()
        visit.page.keyboard.press("Enter")
        visit.page.keyboard.press("Tab")
        assert visit.page.evaluate("document.activeElement.closest('main') !== null")


def test_search_finds_a_term_and_its_result_leads_to_the_page(browser, site):
    with visiting(browser, site, "book/welcome.html") as visit:
        page = visit.page
        page.keyboard.press("Control+k")
        expect(page.locator("input[type=search]:focus")).to_be_visible()
        page.keyboard.type("GradScale")
        page.keyboard.press("Enter")
        page.wait_for_url("**/search.html?*")
        result = page.locator("#search-results li a", has_text="GradScale").first
        address = result.evaluate("link => link.href")
        page.wait_for_load_state("networkidle")  # the search asks for the pages that it shows parts of
        result.click()
        page.wait_for_url(address)
        visit.settle()
        assert "GradScale" in page.locator("article").inner_text()
        assert page.evaluate("location.hash === '' || document.querySelector(':target') !== null")
        assert visit.troubles == []


def test_the_theme_switch_works_and_is_remembered(browser, site):
    theme = "document.documentElement.dataset.theme"
    with visiting(browser, site, "book/welcome.html") as visit:
        ground = "getComputedStyle(document.body).backgroundColor"
        light = visit.page.evaluate(ground)
        switch = visit.page.locator(".theme-switch-button:visible").first
        for _ in range(3):  # system, light, dark
            if visit.page.evaluate(theme) != "dark":
                switch.click()
        expect(visit.page.locator("html")).to_have_attribute("data-theme", "dark")
        assert visit.page.evaluate(ground) != light
        visit.open(DERIVATION)
        assert visit.page.evaluate(theme) == "dark"


def test_the_copy_button_copies_the_code(browser, site):
    with visiting(browser, site, DERIVATION) as visit:
        visit.page.context.grant_permissions(["clipboard-read", "clipboard-write"])
        button = visit.page.locator("button.copybtn:visible").first
        code = button.locator("xpath=preceding-sibling::pre | ../pre").first
        code.hover()
        button.click()
        expect(visit.page.locator("button.copybtn.success")).to_be_visible()
        copied = visit.page.evaluate("navigator.clipboard.readText()")
        assert copied.strip() == code.inner_text().strip() != ""


@pytest.mark.parametrize("key", ["Enter", "Space"])
def test_a_folded_solution_opens_by_key(browser, site, key):
    with visiting(browser, site, DERIVATION) as visit:
        solution = visit.page.locator(".solution").first
        expect(solution.locator("p").last).to_be_hidden()
        solution.locator("button, summary").first.press(key)
        expect(solution.locator("p").last).to_be_visible()


@pytest.mark.parametrize("name", THREE)
def test_the_site_opens_from_disk(browser, site, name):
    with visiting(browser, SITE.as_uri(), name) as visit:
        assert visit.troubles == []
        assert visit.outside() == []
        formulas = visit.page.locator(".math").count()
        assert visit.page.locator("mjx-container").count() == formulas


@pytest.mark.parametrize("name", THREE)
def test_nothing_is_cut_off_on_paper(browser, site, name):
    with visiting(browser, site, name, A4) as visit:
        visit.page.emulate_media(media="print")
        visit.page.evaluate("dispatchEvent(new Event('beforeprint'))")  # unfolds what is folded
        assert visit.page.evaluate(CUT) == []
