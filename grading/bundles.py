"""From a master notebook and its hidden tests: the student notebook, the solution, the autograder's zip."""

import ast
import contextlib
import importlib.util
import json
import logging
import re
import shutil
import tempfile
import zipfile
import zlib
from dataclasses import asdict, dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import nbformat
import yaml

MANIFEST = "assignment.json"
RESERVED = ("test_case", "OK_FORMAT", "name", "points", "all_or_nothing")  # what otter reads from a test file
WORD = r"[\w-]+"  # names of assignments and questions, which are parts of paths
UNREADABLE = (  # what parsers raise for a file that is not what it should be
    ArithmeticError,
    AssertionError,
    AttributeError,
    EOFError,
    LookupError,
    NameError,
    RuntimeError,
    TypeError,
    ValueError,
    nbformat.ValidationError,
    yaml.YAMLError,
    zipfile.BadZipFile,
    zlib.error,
)
LEFT_OVERS = ("BEGIN SOLUTION", "END SOLUTION", "# SOLUTION", "BEGIN TESTS", "END TESTS", "# BEGIN QUESTION")


class AssignmentError(ValueError):
    """An assignment that cannot be made as it is written."""


@dataclass(frozen=True)
class Question:
    """Points of a question: in all, in hidden tests; `manual` ones are marked by a person, by its rubric."""

    points: float
    hidden: float = 0
    manual: bool = False


@dataclass(frozen=True)
class Bundle:
    """An autograder's zip, read: name, file name of the notebook, questions, and tests by question."""

    name: str
    notebook: str
    questions: dict[str, Question]
    tests: dict[str, str]

    @property
    def points(self) -> float:
        """Of all questions."""
        return sum(question.points for question in self.questions.values())


def read_bundle(path: Path) -> Bundle:
    """The autograder's zip at `path`, as `make_bundle` wrote it; nothing of it is unpacked.

    Raises:
        AssignmentError: It is not as it was written.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            manifest = json.loads(archive.read(MANIFEST))
            questions = {name: Question(**question) for name, question in manifest["questions"].items()}
            automatic = [name for name, question in questions.items() if not question.manual]
            tests = {name: archive.read(f"tests/{name}.py").decode() for name in automatic}
        bundle = Bundle(manifest["name"], manifest["notebook"], questions, tests)
        if not all(re.fullmatch(WORD, name) for name in (bundle.name, *questions)):
            raise ValueError("a name in it is no word")
        if Path(bundle.notebook).name != bundle.notebook:
            raise ValueError(f"its notebook {bundle.notebook!r} is no name of a file")
        if not all(isinstance(each.points, int | float) and each.points >= 0 for each in questions.values()):
            raise ValueError("the points of a question are no number")
    except UNREADABLE as error:
        raise AssignmentError(f"{path} is not what make assignments wrote, run it again: {error}") from error
    return bundle


def find_bundle(folder: Path, name: str) -> Path:
    """The autograder's zip that `make assignments` left for this assignment."""
    path = folder / name / f"{name}-autograder.zip"
    if not path.is_file():
        made = sorted(each.parent.name for each in folder.glob("*/*-autograder.zip"))
        raise FileNotFoundError(
            f"there is no {path}: run make assignments PRIVATE=dir first" + (f" (made are {made})" if made else "")
        )
    return path


def make_bundle(master: Path, private: Path, folder: Path) -> Bundle:
    """Write an assignment to `folder/NAME`: `student/`, `solution/` and `NAME-autograder.zip`.

    Args:
        master: A notebook in otter's format, with public tests only.
        private: The folder of hidden tests, one module for each assignment, NAME.py.
        folder: Where the folder NAME is made anew.

    Raises:
        AssignmentError: A fault of the master or of the hidden tests; nothing is written then.
    """
    cells = _cells(master)
    name = _config(cells, "# ASSIGNMENT CONFIG", master)[0].get("name")
    if not name or not str(name).isidentifier():
        raise AssignmentError(f"{master.name}: its name is {name!r}, expected a word such as A1 in ASSIGNMENT CONFIG")
    hidden = hidden_tests(private / f"{name}.py")
    described = {str(entry.get("name")): entry for entry in _config(cells, "# BEGIN QUESTION", master)}
    for question, entry in described.items():
        if not re.fullmatch(WORD, question) or (entry.get("manual") and type(entry.get("points")) not in (int, float)):
            raise AssignmentError(f"{master.name}: a question needs a word as its name, and points if manual: {entry}")
    manual = {question for question, entry in described.items() if entry.get("manual")}
    if unknown := set(hidden.TESTS) - (set(described) - manual):
        raise AssignmentError(f"{private / name}.py tests {sorted(unknown)}, which {master.name} does not ask")
    with tempfile.TemporaryDirectory() as scratch:
        made, place = Path(scratch, "made"), Path(scratch, name)
        _run_otter(master, made)
        questions, tests = {}, {}
        for question, entry in described.items():
            if question in manual:
                questions[question] = Question(entry["points"], manual=True)
            else:
                tests[question] = merged(question, made / "autograder" / "tests" / f"{question}.py", hidden)
                questions[question] = _points(question, tests[question])
        bundle = Bundle(str(name), master.name, questions, tests)
        for version, source in (("student", "student"), ("solution", "autograder")):
            (place / version).mkdir(parents=True)
            _copy_tidy(made / source / master.name, place / version / master.name)
        _refuse_left_overs(place / "student" / master.name)
        _write_zip(next((made / "autograder").glob("*.zip")), place / f"{name}-autograder.zip", bundle)
        folder.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(folder / str(name), ignore_errors=True)
        shutil.move(place, folder / str(name))
    return bundle


def hidden_tests(path: Path) -> ModuleType:
    """The module of hidden tests: `TESTS` has, for each question, pairs of a function of the names and its points."""
    if not path.is_file():
        raise AssignmentError(f"{path} is missing: hidden tests are one module for each assignment, named like it")
    spec = importlib.util.spec_from_file_location(f"hidden_tests_{path.stem}", path)
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:  # the code of whoever gives the course may raise anything
        raise AssignmentError(f"{path} does not run: {type(error).__name__}: {error}") from error
    if not _are_tests(getattr(module, "TESTS", None)):
        raise AssignmentError(f'{path} has no TESTS, expected TESTS = {{"q1": [(function, points), ...], ...}}')
    if taken := [name for name in RESERVED if hasattr(module, name)]:
        raise AssignmentError(f"{path} defines {taken}, names that otter reads from a test file: choose others")
    return module


def _are_tests(tests: Any) -> bool:
    """Whether these are pairs of a function and its points by question."""
    return isinstance(tests, dict) and all(
        isinstance(question, str) and isinstance(cases, list | tuple) and all(map(_is_test, cases))
        for question, cases in tests.items()
    )


def _is_test(case: Any) -> bool:
    pair = isinstance(case, tuple) and len(case) == 2
    return pair and callable(case[0]) and type(case[1]) in (int, float)


def merged(question: str, public: Path, hidden: ModuleType) -> str:
    """An otter test file: the public tests that otter wrote, the module of hidden tests, a case for each of these."""
    head = f'from otter.test_files import test_case\n\nOK_FORMAT = False\n\nname = "{question}"\npoints = None\n'
    parts = [public.read_text("utf-8") if public.is_file() else head]
    cases = hidden.TESTS.get(question, [])
    if cases:
        parts.append(Path(hidden.__file__).read_text("utf-8"))
    for index, (function, points) in enumerate(cases):
        what = (function.__doc__ or function.__name__).strip().splitlines()[0]
        parts.append(
            f"@test_case(name={what!r}, points={points!r}, hidden=True)\n"
            f"def hidden_{index + 1}(env):\n    TESTS[{question!r}][{index}][0](env)\n"
        )
    return "\n\n".join(parts)


def _points(question: str, source: str) -> Question:
    """Points of a merged test file; refuses tests without points, and two of one name, of which otter runs the last."""
    from otter.test_files import ExceptionTestFile

    decorators = [
        each
        for node in ast.parse(source).body
        if isinstance(node, ast.FunctionDef)
        for each in node.decorator_list
        if ast.unparse(each).startswith("test_case(")
    ]
    if not decorators:
        raise AssignmentError(f"{question} has no tests and is not manual: put some into TESTS, in the hidden tests")
    if any("points=None" in ast.unparse(each) for each in decorators):
        raise AssignmentError(f"{question}: a test has no points of its own: write points in its TEST CONFIG")
    cases = ExceptionTestFile.from_string(source).test_cases
    if len(cases) != len(decorators):
        raise AssignmentError(f"{question}: of {len(decorators)} tests two share a name: otter would run {len(cases)}")
    return Question(sum(case.points for case in cases), sum(case.points for case in cases if case.hidden))


def _cells(master: Path) -> list:
    """The cells of a master notebook."""
    try:
        notebook = nbformat.read(master, as_version=4)
        nbformat.validate(notebook)
    except UNREADABLE as error:
        raise AssignmentError(
            f"{master.name} is no notebook: {[*str(error).splitlines(), type(error).__name__][0]}"
        ) from error
    return notebook.cells


def _config(cells: list, mark: str, master: Path) -> list[dict]:
    """The YAML of raw cells that begin with this mark."""
    found = [cell.source for cell in cells if cell.cell_type == "raw" and cell.source.startswith(mark)]
    if not found:
        raise AssignmentError(f"{master.name} has no raw cell {mark!r}")
    try:
        entries = [yaml.safe_load(source) or {} for source in found]
    except UNREADABLE as error:
        raise AssignmentError(f"{master.name}: a raw cell {mark!r} is no YAML: {error}") from error
    if wrong := [entry for entry in entries if not isinstance(entry, dict)]:
        raise AssignmentError(f"{master.name}: a raw cell {mark!r} holds {wrong[0]!r}, expected keys and values")
    return entries


def _run_otter(master: Path, made: Path) -> None:
    """otter's student and autograder versions of a master notebook."""
    from otter.assign import main as assign

    logging.getLogger("otter").setLevel(logging.WARNING)
    try:
        with contextlib.redirect_stdout(None):
            assign(str(master), str(made), no_run_tests=True, no_pdfs=True)
    except Exception as error:  # otter has no class of its own for a fault of the master
        raise AssignmentError(f"{master.name}: otter says: {error}") from error


def _copy_tidy(source: Path, target: Path) -> None:
    """Copy a notebook without the comments around manual questions, by which otter would filter a PDF."""
    notebook = nbformat.read(source, as_version=4)
    for cell in notebook.cells:
        cell.source = re.sub(r"<!-- (BEGIN|END) QUESTION -->\n*", "", cell.source)
    notebook.cells = [cell for cell in notebook.cells if cell.source]
    nbformat.write(notebook, target)


def _refuse_left_overs(student: Path) -> None:
    text = student.read_text("utf-8")
    if found := [mark for mark in LEFT_OVERS if mark in text]:
        raise AssignmentError(f"the student version of {student.name} still has {found}: is a block not closed?")


def _write_zip(otters: Path, path: Path, bundle: Bundle) -> None:
    """otter's own zip with the tests merged, so that Gradescope and `otter run` take it too."""
    manifest = asdict(bundle) | {"questions": {name: asdict(each) for name, each in bundle.questions.items()}}
    del manifest["tests"]
    with zipfile.ZipFile(otters) as source, zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as target:
        for entry in source.namelist():
            if not entry.startswith("tests/"):
                target.writestr(entry, source.read(entry))
        for question, test in bundle.tests.items():
            target.writestr(f"tests/{question}.py", test)
        target.writestr(MANIFEST, json.dumps(manifest, indent=1))
