"""The master notebooks: reference solution 100 %, untouched version 0, and typical wrong answers lose what they should.

Cells and tests run here in one process, without otter's grading; tests of ``grading`` run whole submissions.
"""

import ast
import hashlib
import importlib.util
import os
import re
from functools import cache
from pathlib import Path

import nbformat
import pytest

from normcourse import exercises
from normcourse.exercises import _variants

ROOT = Path(__file__).parents[2]
MASTERS = sorted((ROOT / "assignments").glob("A*.ipynb"))
WRONG = [  # (assignment, title, rest of the section)
    (path.stem, *section.split("\n", 1))
    for path in sorted(Path(__file__).parent.glob("wrong/*.md"))
    for section in path.read_text(encoding="utf-8").split("\n## ")[1:]
]
OTHER_STUDENT = "another-student"
FAILURE_MODES_OF_RUNS = cache(exercises.failure_modes)

pytestmark = pytest.mark.filterwarnings("ignore:FigureCanvasAgg is non-interactive")


@cache
def master(name: str) -> nbformat.NotebookNode:
    (path,) = (path for path in MASTERS if path.stem.startswith(name))
    return nbformat.read(path, as_version=4)


@cache
def hidden_module(name: str):
    path = ROOT / "assignments/hidden_samples" / f"{name}.py"
    spec = importlib.util.spec_from_file_location(f"hidden_{name}", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def hidden(name: str) -> dict:
    """Question to hidden tests with their points."""
    return hidden_module(name).TESTS


def blocks(name: str) -> list[tuple[str, str, nbformat.NotebookNode]]:
    """Each cell that is no boundary, with its question ("" outside) and the kind of block it stands in."""
    question, kind, found = "", "", []
    for cell in master(name).cells:
        boundary = re.match(r"# (BEGIN|END) (QUESTION|SOLUTION|TESTS)", cell.source)
        if cell.cell_type != "raw":
            found.append((question, kind, cell))
        elif boundary and boundary[2] == "QUESTION":
            question = re.search(r"name: (\w+)", cell.source)[1] if boundary[1] == "BEGIN" else ""
        elif boundary:
            kind = boundary[2] if boundary[1] == "BEGIN" else ""
    return found


def public(name: str) -> dict:
    """Question to public tests with their points."""
    tests = {}
    for question, kind, cell in blocks(name):
        if kind == "TESTS":
            scope = {}
            exec(cell.source, scope)
            (test,) = (value for key, value in scope.items() if key.startswith("test_"))
            tests.setdefault(question, []).append((test, float(re.search(r"points: ([\d.]+)", cell.source)[1])))
    return tests


def manual(name: str) -> dict:
    """Question to points that a person gives."""
    configs = [cell.source for cell in master(name).cells if cell.source.startswith("# BEGIN QUESTION")]
    return {
        re.search(r"name: (\w+)", text)[1]: float(re.search(r"points: ([\d.]+)", text)[1])
        for text in configs
        if "manual: true" in text
    }


def run(sources: list[str]) -> dict:
    """Variables after the cells; as in grading, a cell that fails does not stop the next."""
    import matplotlib.pyplot as plt

    scope = {"__name__": "__main__"}
    for source in sources:
        try:
            exec(compile(source, "cell", "exec"), scope)
        except Exception as error:
            scope.setdefault("errors", []).append(f"{type(error).__name__}: {error} in {source[:60]!r}")
    plt.close("all")
    return scope


def sources(name: str, kinds: tuple[str, ...] = ("", "SOLUTION")) -> list[str]:
    return [cell.source for _, kind, cell in blocks(name) if cell.cell_type == "code" and kind in kinds]


def scores(name: str, scope: dict) -> dict[str, float]:
    """Points of each question for code."""
    points = {}
    for tests in (public(name), hidden(name)):
        for question, cases in tests.items():
            points.setdefault(question, 0.0)
            for test, worth in cases:
                try:
                    test(scope)
                except Exception:
                    continue
                points[question] += worth
    return points


def possible(name: str) -> dict[str, float]:
    points = {}
    for tests in (public(name), hidden(name)):
        for question, cases in tests.items():
            points[question] = points.get(question, 0.0) + sum(worth for _, worth in cases)
    return points


def as_student(source: list[str], student: str) -> list[str]:
    return [text.replace('"sample-student"  # SOLUTION', f'"{student}"') for text in source]


@pytest.fixture(autouse=True)
def _train_once_for_each_student(monkeypatch):
    monkeypatch.setattr(exercises, "failure_modes", FAILURE_MODES_OF_RUNS)


@pytest.fixture(params=[path.stem[:2] for path in MASTERS])
def name(request, monkeypatch):
    monkeypatch.delenv("ASSIGNMENT_STUDENT_ID", raising=False)
    monkeypatch.chdir(ROOT / "assignments")
    return request.param


@pytest.mark.parametrize("student", ["sample-student", OTHER_STUDENT])
def test_reference_solution_gets_all_points_whoever_hands_it_in(name, student, monkeypatch):
    scope = run(as_student(sources(name), student))
    monkeypatch.setenv("ASSIGNMENT_STUDENT_ID", student.upper())
    assert scores(name, scope) == possible(name)
    assert "errors" not in scope


def test_solution_of_another_student_loses_the_points_of_the_own_numbers(name, monkeypatch):
    scope = run(sources(name))
    monkeypatch.setenv("ASSIGNMENT_STUDENT_ID", OTHER_STUDENT)
    found, most = scores(name, scope), possible(name)
    lost = sum(most.values()) - sum(found.values())
    assert lost >= 0.1 * sum(most.values()), lost


def test_untouched_version_gets_no_points(name):
    solutions = pytest.importorskip("otter.assign.solutions")
    stripped = ["\n".join(solutions.replace_solutions(source.splitlines(), "python")) for source in sources(name)]
    assert all(ast.parse(source) for source in stripped)
    for text in (
        stripped,
        [source.replace("STUDENT_ID = ...", f'STUDENT_ID = "{OTHER_STUDENT}"') for source in stripped],
    ):
        assert not any(scores(name, run(text)).values())


def test_points_are_those_in_the_headings_and_half_of_the_code_points_are_hidden(name):
    code, by_hand = possible(name), manual(name)
    headings = {}
    for question, _, cell in blocks(name):
        if question and (worth := re.search(r"^### Question \d+: .* \((\d+) points?\)$", cell.source, re.MULTILINE)):
            headings[question] = float(worth[1])
    assert headings == code | by_hand
    concealed = sum(worth for cases in hidden(name).values() for _, worth in cases)
    assert concealed >= sum(code.values()) / 2
    intro = master(name).cells[1].source
    total = f"**Points** {sum(headings.values()):g}: {sum(code.values()):g} for code, {sum(by_hand.values()):g} for"
    assert total in intro


def test_hidden_tests_use_no_function_of_the_library_and_say_what_they_test(name):
    source = (ROOT / "assignments/hidden_samples" / f"{name}.py").read_text(encoding="utf-8")
    assert "normlib" not in source
    drawn = hidden_module(name).CHOICES
    assert drawn == {key: _variants.CHOICES[name][key] for key in drawn}
    assert all(test.__doc__ for tests in hidden(name).values() for test, _ in tests)


def test_texts_have_a_rubric_and_questions_a_hint_or_a_purpose(name):
    texts = {
        question: cell.source
        for question, kind, cell in blocks(name)
        if kind == "SOLUTION" and cell.cell_type == "markdown"
    }
    assert set(texts) == set(manual(name))
    assert all("**Rubric**" in text for text in texts.values())
    prompts = {q: cell.source for q, kind, cell in blocks(name) if q and not kind and cell.source.startswith("###")}
    for question in possible(name):
        assert re.search(r"\*(Hint|Purpose)\*|make your own", prompts[question]), question


@pytest.mark.parametrize(("name", "title", "text"), WRONG, ids=[f"{name}: {title}" for name, title, _ in WRONG])
def test_wrong_answers_lose_exactly_what_they_should(name, title, text, monkeypatch):
    """Each block of code replaces the solution cell that defines the same names."""
    monkeypatch.delenv("ASSIGNMENT_STUDENT_ID", raising=False)
    monkeypatch.chdir(ROOT / "assignments")
    losses = {question: float(points) for question, points in re.findall(r"(q\d+): ([\d.]+)", text.split("```")[0])}
    cells = sources(name)
    for replacement in re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL):
        first = names_bound(replacement)[0]
        (place,) = (i for i, source in enumerate(cells) if "SOLUTION" in source and first in names_bound(source))
        cells[place] = replacement
    found, most = scores(name, run(cells)), possible(name)
    assert losses
    assert {q: most[q] - found[q] for q in most if found[q] < most[q]} == losses


def names_bound(source: str) -> list[str]:
    """Names that a cell defines at its top level, in order."""
    found = []
    for node in ast.parse(source).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            found.append(node.name)
        elif isinstance(node, ast.Assign):
            found += [n.id for target in node.targets for n in ast.walk(target) if isinstance(n, ast.Name)]
    return found


def test_every_assignment_has_three_wrong_solutions():
    assert len(MASTERS) >= 1
    for path in MASTERS:
        assert sum(name == path.stem[:2] for name, _, _ in WRONG) >= 3, path.stem


def test_a_students_numbers_are_drawn_as_documented():
    for assignment, numbers in _variants.CHOICES.items():
        drawn = vars(exercises.variant(" Some-One", assignment))
        for key, choices in numbers.items():
            digest = hashlib.sha256(f"some-one/{assignment}/{key}".encode()).hexdigest()
            assert drawn[key] == choices[int(digest, 16) % len(choices)]
    assert os.environ.get("ASSIGNMENT_STUDENT_ID") is None


def test_the_overview_has_the_points_of_every_assignment(name):
    overview = (ROOT / "assignments/README.md").read_text(encoding="utf-8")
    concealed = sum(worth for cases in hidden(name).values() for _, worth in cases)
    code, text = sum(possible(name).values()), sum(manual(name).values())
    (minutes,) = re.findall(r"\*\*Time\*\* about (\d+) minutes", master(name).cells[1].source)
    row = rf"^\| {name} [\w ]+\| [\w, ]+ \| {minutes} \| {code:g} \+ {text:g} \| {concealed:g} \|$"
    assert re.search(row, overview, re.MULTILINE), row
