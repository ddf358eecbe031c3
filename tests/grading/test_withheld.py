"""Student notebooks have neither solutions nor hidden tests in them; the search finds what is there."""

import nbformat
import pytest

pytest.importorskip("otter", reason="otter-grader is not there: install the extra 'grade'")

from grading.bundles import make_bundle
from withheld import HIDDEN, MASTERS, hidden_tests, leaks, solutions


@pytest.fixture(scope="module", params=MASTERS, ids=lambda path: path.stem)
def made(request, tmp_path_factory):
    """An assignment as it is made: its master, what it withholds, its folder."""
    folder = tmp_path_factory.mktemp("made")
    bundle = make_bundle(request.param, HIDDEN[0].parent, folder)
    withheld = [*solutions(request.param), *hidden_tests(HIDDEN[0].parent / f"{bundle.name}.py")]
    return bundle, withheld, folder / bundle.name


def test_student_notebooks_have_neither_solutions_nor_hidden_tests(made):
    _, withheld, folder = made
    assert len(withheld) >= 6
    assert leaks((folder / "student").iterdir(), withheld) == []


def test_solutions_are_found_where_they_are(made):
    bundle, withheld, folder = made
    texts = len(withheld) - len(hidden_tests(HIDDEN[0].parent / f"{bundle.name}.py"))
    assert len(leaks([folder / "solution" / bundle.notebook], withheld)) == texts


def test_at_least_half_of_the_points_for_code_are_for_hidden_tests(made):
    bundle, _, _ = made
    code = [question for question in bundle.questions.values() if not question.manual]
    assert sum(question.hidden for question in code) >= sum(question.points for question in code) / 2


def test_student_notebooks_run_nothing_of_otter_s(made):
    bundle, _, folder = made
    cells = nbformat.read(folder / "student" / bundle.notebook, as_version=4).cells
    assert not any("import otter" in cell.source or "grader" in cell.source for cell in cells)


def test_a_page_is_searched_without_its_markup(tmp_path):
    page = tmp_path / "page.html"
    page.write_text('<pre><span class="k">def</span> f(x):\n    <span>return</span> x &lt; 2</pre>')
    assert leaks([page], ["def f(x):\n  return x < 2"]) == [(str(page), "def f(x):\n  return x < 2")]
    assert leaks([page], ["def f(x):\n  return x < 3"]) == []
