"""What no reader of the site and no student may find: solutions and hidden tests of the assignments, by content."""

import ast
import html
import json
import re
from collections.abc import Iterable
from functools import cache
from pathlib import Path

import nbformat

ROOT = Path(__file__).parents[2]
MASTERS = sorted((ROOT / "assignments").glob("*.ipynb"))
HIDDEN = sorted((ROOT / "assignments" / "hidden_samples").glob("*.py"))


def solutions(master: Path) -> list[str]:
    """Code and texts that only the solution has; of code two lines at least, since single ones occur in chapters."""
    found, inside = [], False
    for cell in nbformat.read(master, as_version=4).cells:
        if cell.cell_type == "raw":
            inside = cell.source.startswith("# BEGIN SOLUTION") or (inside and not cell.source.startswith("# END"))
        elif cell.cell_type == "markdown" and inside:
            found.append(cell.source)
        elif cell.cell_type == "code":
            blocks = re.findall(r"(?s)# BEGIN SOLUTION[^\n]*\n(.+?)\n[^\n]*# END SOLUTION", cell.source)
            found += [block for block in blocks if block.strip().count("\n")]
            if len(lines := re.findall(r"(?m)^.+# SOLUTION$", cell.source)) > 1:
                found.append("\n".join(lines))
    return found


def hidden_tests(module: Path) -> list[str]:
    """Sources of the functions in a module of hidden tests."""
    source = module.read_text("utf-8")
    functions = [node for node in ast.parse(source).body if isinstance(node, ast.FunctionDef)]
    return [ast.get_source_segment(source, node) for node in functions]


def plain(text: str) -> str:
    """A text without its spaces and line breaks, and without otter's marks."""
    return "".join(re.sub(r"# (BEGIN |END )?SOLUTION", "", text).split())


@cache
def text_of(path: Path) -> str:
    """What a page or a notebook says, plain; of a page's markup nothing is left."""
    text = path.read_text("utf-8", errors="replace")
    if path.suffix == ".ipynb":
        return plain("\n".join("".join(cell["source"]) for cell in json.loads(text)["cells"]))
    return plain(html.unescape(re.sub(r"<[^>]*>", "", text)) if path.suffix == ".html" else text)


def leaks(paths: Iterable[Path], secrets: list[str]) -> list[tuple[str, str]]:
    """Files that have one of these texts in them, with the text."""
    wanted = {plain(secret): secret for secret in secrets}
    said = ((path, text_of(path)) for path in paths)
    return [(str(path), secret) for path, text in said for key, secret in wanted.items() if key in text]
