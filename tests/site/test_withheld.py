"""No solution and no hidden test of an assignment is on the site, searched by content."""

import pytest

from toc import SITE
from withheld import HIDDEN, MASTERS, hidden_tests, leaks, solutions

pytestmark = pytest.mark.skipif(not (SITE / "index.html").is_file(), reason="the site is not built: run make book")
KINDS = {".html", ".ipynb", ".md", ".txt", ".js", ".json"}


@pytest.mark.parametrize("path", [*MASTERS, *HIDDEN], ids=lambda path: path.name)
def test_the_site_has_neither_solutions_nor_hidden_tests(path):
    withheld = solutions(path) if path in MASTERS else hidden_tests(path)
    assert len(withheld) >= 3
    assert leaks((each for each in SITE.rglob("*") if each.suffix in KINDS), withheld) == []


def test_no_file_of_the_site_is_an_assignment():
    names = {path.stem for path in [*MASTERS, *HIDDEN]}
    assert [path for path in SITE.rglob("*") if path.name.split(".")[0] in names] == []
