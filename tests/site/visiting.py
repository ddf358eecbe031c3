"""One page in the browser, and what happened while it was open."""

from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit

from playwright.sync_api import Browser, Page

DESKTOP = {"width": 1280, "height": 800}
PHONE = {"width": 360, "height": 740}
INLINE = ("data", "blob")  # schemes of addresses that stand for their content

# Formulas, fonts, and the frame in which the page takes note of their sizes: from then on nothing moves.
SETTLE = """async () => {
  await window.MathJax?.startup?.promise
  await document.fonts.ready
  await new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))
}"""
UNFOLD = """() => {
  document.querySelectorAll('.toggle-hidden > .admonition-title').forEach((title) => title.click())
  document.querySelectorAll('details').forEach((details) => { details.open = true })
}"""
# Nothing moves, and sections far from the screen are laid out too, as if somebody had scrolled there.
STILL = """
*, *::before, *::after { animation: none !important; transition: none !important }
section { content-visibility: visible !important }
"""


class Visit:
    """A page under an address of ours, with a record of its requests and of everything that went wrong."""

    def __init__(self, page: Page, home: str) -> None:
        self.page, self.home = page, home
        self.asked, self.answered, self.troubles = [], [], []
        page.on("request", lambda request: self.asked.append(request.url))
        page.on("requestfinished", lambda request: self.answered.append(request))
        page.on("requestfailed", lambda request: self.troubles.append(f"failed: {request.url}: {request.failure}"))
        page.on("response", lambda response: response.ok or self.troubles.append(f"{response.status}: {response.url}"))
        page.on("pageerror", lambda error: self.troubles.append(f"error: {error}"))
        page.on("console", self.note)

    def note(self, message) -> None:
        """Keep what the console shows in red or yellow."""
        if message.type in ("error", "warning"):
            self.troubles.append(f"console: {message.text} ({message.location['url']})")

    def open(self, name: str) -> None:
        """Load a page of the site and wait until its formulas and fonts are there."""
        self.page.goto(f"{self.home}/{name}", wait_until="load")
        self.settle()

    def settle(self) -> None:
        """Wait for formulas and fonts; from then on nothing moves."""
        self.page.add_style_tag(content=STILL)
        self.page.evaluate(SETTLE)

    def unfold(self) -> None:
        """Open what is folded: boxes and code."""
        self.page.evaluate(UNFOLD)
        self.page.evaluate(SETTLE)

    def outside(self) -> list[str]:
        """Addresses of requests that left the site."""
        return [url for url in self.asked if not url.startswith(self.home) and urlsplit(url).scheme not in INLINE]

    def transferred(self) -> dict[str, int]:
        """Bytes that came over the wire for each address, with their headers."""
        sizes = {
            request.url: request.sizes() for request in self.answered if urlsplit(request.url).scheme not in INLINE
        }
        return {url: size["responseBodySize"] + size["responseHeadersSize"] for url, size in sizes.items()}

    def theme(self, scheme: str) -> None:
        """Ask for light or dark as an operating system does."""
        self.page.emulate_media(color_scheme=scheme)
        self.page.wait_for_function("scheme => document.documentElement.dataset.theme === scheme", arg=scheme)


@contextmanager
def visiting(browser: Browser, home: str, name: str, size: dict = DESKTOP) -> Iterator[Visit]:
    """Open a page as a first visitor: nothing cached, nothing stored."""
    context = browser.new_context(viewport=size, color_scheme="light", reduced_motion="reduce")
    try:
        visit = Visit(context.new_page(), home)
        visit.open(name)
        yield visit
    finally:
        context.close()
