"""The built site on localhost, and the browser that looks at it."""

import os

import pytest
from playwright.sync_api import sync_playwright

import chromium
from serving import serving
from toc import SITE


@pytest.fixture(scope="session")
def site():
    """Address of the built site."""
    if not (SITE / "index.html").is_file():
        pytest.skip("the site is not built: run make book")
    with serving(SITE) as address:
        yield address


@pytest.fixture(scope="session")
def browser():
    """One Chromium for all tests, for which no host but this one exists."""
    executable = chromium.find()
    if not executable:
        if os.environ.get("NORMLIB_REQUIRE_BROWSER"):
            pytest.fail(chromium.MISSING)
        pytest.skip(chromium.MISSING)
    alone = "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"
    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=executable, args=[*chromium.FLAGS, alone])
        yield launched
        launched.close()
