"""The pace, the look and the notation that every chapter keeps, and the examples of page 0.

The budgets are those of the best courses; the notation page is read as data, so a new symbol is added there first.
"""

import base64
import doctest
import re
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

import nbformat
import pytest

ROOT = Path(__file__).parents[2]
BOOK = ROOT / "book"
CHAPTERS = sorted((ROOT / "notebooks").glob("[0-9]*.ipynb"))
APPENDICES = sorted((ROOT / "notebooks").glob("[A-Z]_*.ipynb"))

MEDIAN_LINES, MAX_LINES = 8, 30
MAX_PNG_BYTES = 60_000


@dataclass(frozen=True)
class Pace:
    """How much a reader is given: words outside folded blocks, and numbers of code cells, figures and exercises.

    A figure to move is counted neither as a figure nor as a code cell: its cell is one call.
    """

    words: range
    code_cells: range
    figures: range
    exercises: range
    explorables: range = range(0, 3)


CHAPTER = Pace(words=range(2000, 3001), code_cells=range(20, 26), figures=range(5, 9), exercises=range(2, 4))
APPENDIX = Pace(words=range(700, 2001), code_cells=range(5, 16), figures=range(1, 5), exercises=range(0, 4))

FENCE = re.compile(r"^\s*(?P<mark>`{3,}|:{3,})(?P<directive>\{[\w:-]+\})?")
MATH = re.compile(r"\$\$(.+?)\$\$|(?<!\\)\$(?!\s)([^$]+?)(?<!\s)\$", re.DOTALL)
GREEK = (
    "alpha|beta|gamma|delta|epsilon|varepsilon|zeta|eta|theta|vartheta|iota|kappa|lambda|mu|nu|xi|pi|rho|sigma|tau|"
    "upsilon|phi|varphi|chi|psi|omega|Gamma|Delta|Theta|Lambda|Xi|Pi|Sigma|Phi|Psi|Omega|ell"
)


@dataclass
class Block:
    """A fenced block of MyST: a directive with its options and body, or a plain code fence (directive is empty)."""

    directive: str
    argument: str
    body: str
    options: dict[str, str] = field(default_factory=dict)

    @property
    def folded(self) -> bool:
        return "dropdown" in self.options.get("class", "")


def split_blocks(markdown: str) -> tuple[str, list[Block]]:
    """Text outside fences, and the outermost fenced blocks."""
    outside, blocks, lines = [], [], iter(markdown.splitlines())
    for line in lines:
        opened = FENCE.match(line)
        if not opened:
            outside.append(line)
            continue
        mark, body = opened["mark"], []
        for inner in lines:
            if inner.strip() == mark:
                break
            body.append(inner)
        options = {}
        while body and (option := re.match(r":([\w-]+):\s*(.*)", body[0])):
            options[option[1]] = option[2]
            body.pop(0)
        directive = (opened["directive"] or "").strip("{}")
        argument = line[opened.end() :].strip()
        blocks.append(Block(directive, argument, "\n".join(body), options))
    return "\n".join(outside), blocks


def all_blocks(markdown: str) -> list[Block]:
    """Fenced blocks at every depth."""
    _, blocks = split_blocks(markdown)
    return [found for block in blocks for found in (block, *all_blocks(block.body))]


def main_line(markdown: str) -> str:
    """What a reader reads who unfolds nothing: no folded blocks, no code."""
    outside, blocks = split_blocks(markdown)
    return "\n".join(
        [outside, *(main_line(b.argument + "\n" + b.body) for b in blocks if b.directive and not b.folded)]
    )


def word_count(markdown: str) -> int:
    """Words of prose; a formula in a line or a reference counts as one word, a displayed formula as none."""
    text = re.sub(r"\$\$.+?\$\$(\s*\([\w-]+\))?", " ", markdown, flags=re.DOTALL)
    text = re.sub(r"(?<!\\)\$[^$]+\$", " formula ", text)
    text = re.sub(r"\{[\w:]+\}`[^`]*`|\[[^\]]*\]\([^)]*\.ipynb\)", " reference ", text)
    return sum(bool(re.search(r"\w", word)) for word in text.split())


def formulas(markdown: str) -> list[str]:
    """The maths of a text, code left out."""
    outside, blocks = split_blocks(markdown)
    text = re.sub(r"(?<!`)`[^`\n]+`(?!`)", " ", outside)
    found = [display or inline for display, inline in MATH.findall(text)]
    for block in blocks:
        if block.directive == "math":
            found.append(block.body)
        elif block.directive:
            found += formulas(block.argument + "\n\n" + block.body)
    return found


def symbols(formula: str) -> set[str]:
    """Greek letters, Latin letters and decorated letters of a formula."""
    text = re.sub(r"\\(text|mathrm|operatorname|textbf|textit)\*?\s*\{[^{}]*\}", " ", formula)
    text = re.sub(r"\\(begin|end|label|tag)\s*\{[^{}]*\}(\{[^{}]*\})?", " ", text)
    decorated = set(re.findall(r"\\math(?:cal|bb|bf|scr)\s*\{\w\}", text))
    text = re.sub(r"\\math(?:cal|bb|bf|scr)\s*\{\w\}", " ", text)
    greek = set(re.findall(rf"\\(?:{GREEK})(?![A-Za-z])", text))
    text = re.sub(r"\\[A-Za-z]+", " ", text)
    return decorated | greek | set(re.findall(r"[A-Za-z]|[Α-ωϑϕ]", text))


def notation_tables() -> dict[str, list[list[str]]]:
    """Rows of each table of the notation page, under its heading; escaped bars stay in their cell."""
    tables, heading = {}, ""
    for line in (BOOK / "notation.md").read_text(encoding="utf-8").splitlines():
        if line.startswith("## "):
            heading = line.removeprefix("## ").strip()
        elif line.startswith("|"):
            tables.setdefault(heading, []).append([cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]])
    return {heading: rows[2:] for heading, rows in tables.items()}  # without the head and the rule under it


def known_symbols() -> set[str]:
    tables = notation_tables()
    cells = [row[0] for heading in SYMBOL_TABLES for row in tables[heading]]
    return {symbol for cell in cells for formula in formulas(cell) for symbol in symbols(formula)}


def forbidden() -> list[str]:
    """Letters that others use, and second spellings in LaTeX of what has one here."""
    listed = [formula for row in notation_tables()[ELSEWHERE] for formula in formulas(row[0])]
    return [*listed, r"\|", r"\operatorname{sim}"]


def occurs(latex: str, formula: str) -> bool:
    """A command must end where a letter does not follow: ``\\phi`` is not in ``\\phiX``."""
    ends_in_letter = latex[-1].isalpha()
    return bool(re.search(re.escape(latex) + ("(?![A-Za-z])" if ends_in_letter else ""), formula))


ELSEWHERE = "Written differently elsewhere"
SYMBOL_TABLES = ("Embeddings and directions", "Losses", "Training and interventions", "Sizes and indices")


@pytest.fixture(scope="module", params=CHAPTERS + APPENDICES, ids=lambda path: path.stem)
def path(request):
    return request.param


@pytest.fixture(scope="module")
def chapter(path):
    return nbformat.read(path, as_version=4)


@pytest.fixture(scope="module")
def pace(path):
    return CHAPTER if path in CHAPTERS else APPENDIX


def markdown_of(chapter) -> list[str]:
    return [cell.source for cell in chapter.cells if cell.cell_type == "markdown"]


def code_cells(chapter):
    """Code cells of the chapter, the shared set-up cell left out."""
    return [c for c in chapter.cells if c.cell_type == "code" and "setup" not in c.metadata.get("tags", [])]


def figures_of(cell) -> list[str]:
    return [o["data"]["image/png"] for o in cell.outputs if "image/png" in o.get("data", {})]


def moves(cell) -> bool:
    """Whether a cell shows a figure to move; its image is the still beside it."""
    return any("application/vnd.jupyter.widget-view+json" in o.get("data", {}) for o in cell.outputs)


def exercises_and_solutions(chapter) -> tuple[list[Block], list[Block]]:
    found = [block for text in markdown_of(chapter) for block in all_blocks(text)]
    return [b for b in found if b.directive == "exercise"], [b for b in found if b.directive == "solution"]


def test_every_notebook_is_a_chapter_or_an_appendix():
    assert CHAPTERS
    assert sorted((ROOT / "notebooks").glob("*.ipynb")) == CHAPTERS + APPENDICES


def test_set_up_comes_first(chapter):
    first = next(cell for cell in chapter.cells if cell.cell_type == "code")
    assert {"setup", "hide-input"} <= set(first.metadata.get("tags", []))


def test_main_line_keeps_its_length(chapter, pace):
    captions = [cell.metadata.get("mystnb", {}).get("figure", {}).get("caption", "") for cell in code_cells(chapter)]
    words = word_count(main_line("\n\n".join([*markdown_of(chapter), *captions])))
    assert words in pace.words, f"{words} words outside folded blocks; the pace asks for {pace.words}"


def test_code_cells_are_few_and_short(chapter, pace):
    cells = code_cells(chapter)
    lengths = [sum(bool(line.strip()) for line in cell.source.splitlines()) for cell in cells]
    count = sum(not moves(cell) for cell in cells)
    assert count in pace.code_cells, f"{count} code cells"
    assert median(lengths) <= MEDIAN_LINES, f"median of {median(lengths)} lines"
    assert max(lengths) <= MAX_LINES, (
        f"cell of {max(lengths)} lines: {cells[lengths.index(max(lengths))].source[:80]!r}"
    )


def test_text_stands_between_code(chapter):
    kinds = "".join("c" if cell.cell_type == "code" else "m" for cell in chapter.cells)
    assert "ccc" not in kinds, f"three code cells in a row, from cell {kinds.find('ccc')}"


def test_figures_have_caption_name_and_alt_text(chapter, pace):
    cells = [cell for cell in code_cells(chapter) if figures_of(cell)]
    names, explorables = [], [cell for cell in code_cells(chapter) if moves(cell)]
    assert all(figures_of(cell) for cell in explorables), "a figure to move has no still image"
    lines = [sum(bool(line.strip()) for line in cell.source.splitlines()) for cell in explorables]
    assert all(count <= 2 for count in lines), "a figure to move comes with more code"
    for cell in cells:
        options = cell.metadata.get("mystnb", {})
        alt, figure = options.get("image", {}).get("alt", ""), options.get("figure", {})
        assert len(alt) >= 40, f"alt text missing or too short under metadata.mystnb.image.alt: {cell.source[:60]!r}"
        assert len(figure.get("caption", "")) >= 40, f"no caption under metadata.mystnb.figure: {cell.source[:60]!r}"
        assert figure.get("name", "").startswith("fig-"), f"no name 'fig-...' for the figure of {cell.source[:60]!r}"
        assert alt != figure["caption"], "the alt text says what is seen, the caption what it means"
        assert len(figures_of(cell)) == 1, "one figure a cell: caption and alt text belong to one image"
        names.append(figure["name"])
    assert len(explorables) in pace.explorables, f"{len(explorables)} figures to move"
    assert len(names) - len(explorables) in pace.figures, f"{len(names) - len(explorables)} figures"
    assert len(set(names)) == len(names), f"a figure name is used twice: {names}"


def test_a_figure_to_move_follows_a_question_and_precedes_its_folded_answer(chapter):
    for i, cell in enumerate(chapter.cells):
        if cell.cell_type == "code" and moves(cell):
            assert "?" in chapter.cells[i - 1].source, f"no question before {cell.source[:60]!r}"
            answer = all_blocks(chapter.cells[i + 1].source)[0]
            assert answer.argument.startswith("Answer"), f"no answer after {cell.source[:60]!r}"
            assert answer.folded, f"the answer after {cell.source[:60]!r} is not folded (:class: dropdown)"


def test_figures_are_light(chapter):
    sizes = [len(base64.b64decode(png)) for cell in chapter.cells if "outputs" in cell for png in figures_of(cell)]
    assert max(sizes) <= MAX_PNG_BYTES, f"figures of {sizes} bytes"


def test_header_says_what_it_takes(chapter):
    header = chapter.cells[0].source
    assert header.startswith("# ")
    for word in ("**Objectives**", "**Prerequisites**", "**Minutes**", "CPU", "T4", "H100"):
        assert word in header, f"the first cell lacks {word}"


def test_summary_says_what_was_and_was_not_shown(chapter):
    summary = next((text for text in markdown_of(chapter) if re.search(r"^## Summary", text, re.MULTILINE)), "")
    for word in ("**Shown**", "**Not shown**", "**In the paper**"):
        assert word in summary, f"the section '## Summary' lacks {word}"


def test_exercises_have_folded_solutions(chapter, pace):
    exercises, solutions = exercises_and_solutions(chapter)
    labels = [exercise.options.get("label") for exercise in exercises]
    assert len(exercises) in pace.exercises
    assert labels == [solution.argument for solution in solutions]
    assert all(solution.folded for solution in solutions), "a solution is not folded (:class: dropdown)"
    assert all("predict" in exercise.body.lower() for exercise in exercises), "an exercise asks for no prediction"


def test_symbols_are_on_the_notation_page(chapter):
    known = known_symbols()
    for text in markdown_of(chapter):
        for formula in formulas(text):
            unknown = symbols(formula) - known
            assert not unknown, f"{sorted(unknown)} in ${formula}$: not in a table of book/notation.md"


def test_no_synonym_is_used(chapter):
    for text in markdown_of(chapter):
        for formula in formulas(text):
            used = [latex for latex in forbidden() if occurs(latex, formula)]
            assert not used, f"{used} in ${formula}$: see 'Written differently elsewhere' in book/notation.md"


def test_chapter_was_executed_from_top_to_bottom(chapter):
    counts = [cell.execution_count for cell in chapter.cells if cell.cell_type == "code" and cell.source.strip()]
    assert counts == list(range(1, len(counts) + 1))


def test_outputs_are_clean(chapter):
    for cell in code_cells(chapter):
        for output in cell.outputs:
            assert output.output_type != "error"
            assert output.get("name") != "stderr", f"warnings or progress bars: {output.get('text', '')[:200]!r}"
            text = output.get("text", "") or output.get("data", {}).get("text/plain", "")
            assert not re.search(r"(?<![\w.:/])/(?:[\w.-]+/){2,}|[A-Z]:\\", text), f"absolute path in {text[:200]!r}"
            assert not re.search(r"<[\w.]+ at 0x[0-9a-f]+>|\[<", text), f"bare object in {text[:200]!r}"


def test_claims_print_something(chapter):
    claims = [cell for cell in code_cells(chapter) if "# NBVAL_CHECK_OUTPUT" in cell.source]
    assert claims, "no cell is marked # NBVAL_CHECK_OUTPUT"
    for cell in claims:
        assert cell.source.startswith("# NBVAL_CHECK_OUTPUT")
        assert any("text" in output or "data" in output for output in cell.outputs)


def test_forms_of_the_page_are_read():
    known = known_symbols()
    assert {
        r"\eta",
        r"\tau",
        r"\varphi",
        r"\mathcal{L}",
        r"\mathcal{B}",
        r"\mathbb{R}",
        "z",
        "u",
        "w",
        "P",
        "N",
    } <= known
    assert r"\gamma" not in known
    assert {r"\gamma", r"\phi", r"\|", "p_{ab}"} <= set(forbidden())


def test_a_symbol_has_one_meaning():
    rows = [row for heading in SYMBOL_TABLES for row in notation_tables()[heading]]
    names = [re.split(r"\s*[,=]\s*", formula)[0] for row in rows for formula in formulas(row[0])]
    twice = {name for name in names if names.count(name) > 1}
    # Subscripts a and b, and channels and width in shapes, are told apart by where they stand.
    assert twice <= {"a", "W"}, f"{twice} is explained twice on the notation page"


@pytest.mark.parametrize(
    ("formula", "expected"),
    [
        (r"\nabla_z \mathcal{L} = -\frac{1}{\lVert z \rVert} P_z u^+", {"z", r"\mathcal{L}", "P", "u"}),
        (r"\text{pull of } a^+ \cdot \varphi_{ab}", {"a", "b", r"\varphi"}),
        (r"\begin{aligned} \arctan(a \sin\varphi) \end{aligned}", {"a", r"\varphi"}),
        (r"\etaη", {r"\eta", "η"}),
    ],
)
def test_symbols_of_a_formula(formula, expected):
    assert symbols(formula) == expected


def test_reading_of_markdown():
    text = "One $z$.\n\n````{solution} ex-1\n:class: dropdown\nHidden $\\gamma$.\n```python\n$x$\n```\n````\nTwo `$q$`."
    assert word_count(main_line(text)) == 4
    assert formulas(text) == ["z", r"\gamma"]
    (solution,) = split_blocks(text)[1]
    assert (solution.directive, solution.argument, solution.folded) == ("solution", "ex-1", True)


@pytest.mark.parametrize("page", ["prerequisites.md", "notation.md", "argument.md", "summaries.md"])
def test_pages_use_known_symbols_only(page):
    known, banned = known_symbols(), forbidden()
    ours = (BOOK / page).read_text(encoding="utf-8").split(f"## {ELSEWHERE}")[0]
    for formula in formulas(ours):
        assert symbols(formula) <= known, formula
        assert not any(occurs(latex, formula) for latex in banned), formula


def test_page_0_asks_six_questions_with_folded_answers():
    text = (BOOK / "prerequisites.md").read_text(encoding="utf-8").split("## Six questions")[1]
    answers = [block for block in all_blocks(text) if block.argument == "Answer"]
    assert len(re.findall(r"^\*\*\d\.\*\*", text, re.MULTILINE)) == len(answers) == 6
    assert all(answer.folded for answer in answers)


def test_examples_of_page_0_run():
    pytest.importorskip("torch")
    text = (BOOK / "prerequisites.md").read_text(encoding="utf-8").replace("```", "")  # a fence is no expected output
    page = doctest.DocTestParser().get_doctest(text, {}, "page 0", None, 0)
    result = doctest.DocTestRunner().run(page)
    assert result.attempted > 10
    assert result.failed == 0
