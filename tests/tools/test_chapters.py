"""The tool that keeps the numbers of chapters: its commands on a copy of the course, its checks on a small one."""

import json
import os
import re
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import chapters
import repository

ROOT = Path(__file__).parents[2]


def without_outputs(text):
    """A notebook, much lighter."""
    notebook = json.loads(text)
    kept = [{**cell, "outputs": []} if "outputs" in cell else cell for cell in notebook["cells"]]
    return chapters.written({**notebook, "cells": kept, "metadata": {}})


@cache
def course():
    """All that the tool reads, the outputs of notebooks left out."""
    tree = chapters.read_tree(ROOT)
    return {path: without_outputs(text) if path.endswith(".ipynb") else text for path, text in tree.items()}


@pytest.fixture
def copy(tmp_path, monkeypatch):
    """A copy of the course."""
    for path, text in course().items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(text, "utf-8")
    monkeypatch.setattr(chapters, "ROOT", tmp_path)
    return tmp_path


def run(*arguments):
    assert chapters.main(list(arguments)) == 0
    assert chapters.main(["check"]) == 0


def slugs(root):
    return [chapter.slug for chapter in chapters.listed(chapters.read_tree(root)).values()]


def cells(root, slug):
    tree = chapters.read_tree(root)
    return json.loads(tree[chapters.path_of(chapters.stem_of(tree, slug))])["cells"]


def set_up_cells(root, slug):
    return ["".join(each["source"]) for each in cells(root, slug) if "setup" in each["metadata"].get("tags", [])]


def file(number, slug):
    """The name of a chapter's file, put together because code must not hold it."""
    return f"{number}_{slug.replace('-', '_')}.ipynb"


def names(root):
    return sorted(path.name for path in (root / "notebooks").iterdir())


def test_the_course_is_in_order():
    assert chapters.faults(chapters.read_tree(ROOT)) == []


def test_the_list_gives_numbers_slugs_and_titles(capsys):
    assert chapters.main(["list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == len(list(ROOT.glob("notebooks/*.ipynb")))
    assert lines[0].split() == ["1", "hypersphere-paradox", "The", "hypersphere", "paradox"]
    assert lines[-1].split()[:2] == ["C", "von-mises-fisher"]


# The commands, on a copy of the course


def test_an_inserted_chapter_has_its_place_and_its_set_up_cell(copy, capsys):
    before = slugs(copy)
    run("insert", "new-ideas", "--after", "norm-growth")
    place = before.index("norm-growth") + 1
    assert slugs(copy) == [*before[:place], "new-ideas", *before[place:]]
    assert file(f"{place + 1:02}", "new-ideas") in names(copy)
    assert file(f"{place + 2:02}", before[place]) in names(copy)
    assert set_up_cells(copy, "new-ideas") == [(copy / "book/setup_cell.py").read_text("utf-8").removesuffix("\n")]
    assert "".join(cells(copy, "new-ideas")[0]["source"]).startswith("# New ideas\n")
    assert "Left to do: write the head of notebooks/" in capsys.readouterr().out


def test_a_chapter_may_come_first_and_an_appendix_is_lettered(copy):
    run("insert", "new-ideas", "--before", "hypersphere-paradox")
    assert file("01", "new-ideas") in names(copy)
    run("insert", "more-proofs", "--after", "optimizers-and-decay")
    assert file("B", "more-proofs") in names(copy)
    assert "This appendix" in "".join(cells(copy, "more-proofs")[0]["source"])


def test_all_that_refers_to_a_moved_chapter_follows(copy):
    run("move", "interventions", "--before", "gradient-derivation")
    assert slugs(copy)[:3] == ["hypersphere-paradox", "interventions", "gradient-derivation"]
    training = json.dumps(cells(copy, "simclr-training"))
    assert f"]({file('02', 'interventions')})" in training
    assert f"]({file('03', 'gradient-derivation')})" in training


def test_a_chapter_moved_there_and_back_leaves_no_trace(copy):
    before = chapters.read_tree(copy)
    run("move", "confidence", "--after", "hypersphere-paradox")
    assert chapters.read_tree(copy) != before
    run("move", "confidence", "--after", "beyond-simclr")
    assert chapters.read_tree(copy) == before


def test_a_chapter_renamed_there_and_back_leaves_no_trace(copy):
    before = chapters.read_tree(copy)
    run("rename", "confidence", "trust")
    assert "confidence" not in slugs(copy)
    assert "chapter: trust\n" in (copy / "book/claims.yml").read_text("utf-8")
    run("rename", "trust", "confidence")
    assert chapters.read_tree(copy) == before


def test_a_split_chapter_keeps_every_cell_and_its_claims(copy, capsys):
    claims = list(chapters.CLAIM.finditer((copy / "book/claims.yml").read_text("utf-8")))
    order = [each["id"] for each in cells(copy, "norm-growth")]
    cut = max(order.index(claim["cell"]) for claim in claims if claim["slug"] == "norm-growth" and claim["cell"])
    run("split", "norm-growth", "balance", "--at", order[cut])
    assert [each["id"] for each in cells(copy, "norm-growth")] == order[:cut]
    head, set_up, *rest = cells(copy, "balance")
    assert "".join(head["source"]).startswith("# Balance\n")
    assert "setup" in set_up["metadata"]["tags"]
    assert [each["id"] for each in rest] == order[cut:]
    assert set_up_cells(copy, "norm-growth") == set_up_cells(copy, "balance")
    assert f"chapter: balance\n  cell: {order[cut]}\n" in (copy / "book/claims.yml").read_text("utf-8")
    said = capsys.readouterr().out
    assert "Left to do: give the second notebook its imports" in said
    assert "who refers to norm-growth and means balance now: " in said


def test_the_readme_links_to_the_first_chapter(copy):
    project = (copy / "pyproject.toml").read_text("utf-8")
    address = repository.write_address(project, "https://github.com/owner/course")
    repository.write(repository.plan(copy, address))
    run("move", "norm-growth", "--before", "hypersphere-paradox")
    assert f"notebooks/{file('01', 'norm-growth')})" in (copy / "README.md").read_text("utf-8")
    assert repository.differing(repository.plan(copy, address)) == []


@pytest.mark.skipif(not shutil.which("git"), reason="git is not installed")
def test_git_sees_renames(copy):
    def git(*arguments):
        named = ("-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "commit.gpgsign=false")
        command = ["git", "-C", str(copy), *named, *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout

    git("init", "--quiet")
    git("add", ".")
    git("commit", "--quiet", "-m", "course")
    run("move", "interventions", "--after", "norm-growth")
    renamed = [line for line in git("status", "--porcelain").splitlines() if line.startswith("R")]
    assert len(renamed) == 3
    old, new = file("06", "interventions"), file("04", "interventions")
    assert any(line.endswith(f"notebooks/{old} -> notebooks/{new}") for line in renamed)


TAKEN = "which is the name of a chapter already"


@pytest.mark.parametrize(
    ("command", "said"),
    [
        (["insert", "New_Ideas", "--after", "norm-growth"], "the new slug is 'New_Ideas', expected small letters"),
        (["insert", "../out", "--after", "norm-growth"], "the new slug is '../out', expected small letters"),
        (["insert", "1st-steps", "--after", "norm-growth"], "the new slug is '1st-steps', expected small letters"),
        (["insert", "confidence", "--after", "norm-growth"], TAKEN),
        (
            ["insert", "new-ideas", "--after", "nowhere"],
            "no chapter is called 'nowhere'; there are hyper",
        ),
        (["move", "nowhere", "--after", "norm-growth"], "no chapter is called 'nowhere'"),
        (["move", "norm-growth", "--after", "norm-growth"], "norm-growth cannot be moved beside itself"),
        (["split", "norm-growth", "confidence", "--at", "c03-06"], TAKEN),
        (
            ["split", "norm-growth", "balance", "--at", "c99"],
            "norm-growth has 0 cells 'c99', expected one; its cells",
        ),
        (["split", "norm-growth", "balance", "--at", "c03-02"], "'c03-02' is in the head of norm-growth"),
        (["rename", "norm-growth", "confidence"], TAKEN),
        (["rename", "norm-growth", ""], "the new slug is '', expected small letters"),
        (["rename", "nowhere", "somewhere"], "no chapter is called 'nowhere'"),
    ],
)
def test_bad_input_is_refused(command, said):
    with pytest.raises(ValueError, match=re.escape(said)):
        chapters.changed_by(chapters.parsed(command), course())


def test_what_is_refused_changes_nothing(copy, capsys):
    assert chapters.main(["rename", "norm-growth", "confidence"]) == 2
    assert capsys.readouterr().err == f"Nothing was changed: the new slug is 'confidence', {TAKEN}\n"
    assert chapters.read_tree(copy) == course()


def test_a_tree_that_is_not_in_order_is_not_worked_on(copy, capsys):
    (copy / "notebooks/11_stray.ipynb").write_text('{"cells": []}', "utf-8")
    assert chapters.main(["check"]) == 1
    assert "notebooks/11_stray.ipynb is not listed in _toc.yml" in capsys.readouterr().out
    assert chapters.main(["move", "norm-growth", "--after", "confidence"]) == 2
    assert "notebooks/11_stray.ipynb is not listed" in capsys.readouterr().err


@pytest.mark.parametrize("allowed", [0, 1, 3])
def test_what_cannot_be_written_is_undone(copy, capsys, monkeypatch, allowed):
    left = [allowed]

    def write(path, text, mode=None, whole=chapters.write_whole):
        left[0] -= 1
        if left[0] == -1:
            raise OSError(28, os.strerror(28))
        whole(path, text, mode)

    monkeypatch.setattr(chapters, "write_whole", write)
    assert chapters.main(["insert", "new-ideas", "--after", "norm-growth"]) == 2
    assert "Nothing was changed: " in capsys.readouterr().err
    assert chapters.read_tree(copy) == course()


def test_the_command_works_from_any_folder(copy):
    command = [sys.executable, str(copy / "tools/chapters.py"), "rename", "norm-growth", "growing"]
    assert subprocess.run(command, cwd=copy.parent, capture_output=True).returncode == 0
    assert file("03", "growing") in names(copy)


# What is checked, on a small course


def notebook_of(*sources):
    kind = {"cell_type": "markdown", "metadata": {}}
    made = [{**kind, "id": f"c{i}", "source": [text]} for i, text in enumerate(sources)]
    return chapters.written({"cells": made, "metadata": {}, "nbformat": 4, "nbformat_minor": 5})


def small():
    """Two chapters and an appendix, referred to in all ways."""
    parts = {"Chapters": ["01_one", "02_two_words"], "Appendices": ["A_proofs"]}
    lines = [
        line
        for caption, stems in parts.items()
        for line in (f"  - caption: {caption}", "    chapters:", *(f"      - file: notebooks/{stem}" for stem in stems))
    ]
    two = "two-words"
    return {
        "_toc.yml": "\n".join(["format: jb-book", "root: book/welcome", "parts:", *lines, ""]),
        "notebooks/01_one.ipynb": notebook_of("# One", "See the [chapter on two words](02_two_words.ipynb#part)."),
        "notebooks/02_two_words.ipynb": notebook_of("# Two", "The [appendix](A_proofs.ipynb) proves it."),
        "notebooks/A_proofs.ipynb": notebook_of("# Proofs", "See [this](../book/page.md)."),
        "book/page.md": f"[One](../notebooks/01_one.ipynb), {{chapter}}`{two}`, {{chapter}}`No. {{number}} <{two}>`.\n",
        "book/claims.yml": f"Group:\n- id: a\n  chapter: {two}\n  cell: c1\n- id: b\n  chapter: one\n",
        "book/colab-check.json": f'{{\n "notebooks": {{\n  "{two}": {{}}\n }}\n}}\n'.replace("{}", "{\n  }"),
        "book/setup_cell.py": "import os\n",
        "tests/test_it.py": f'path = notebook("{two}")\n',
    }


def test_the_small_course_is_in_order():
    assert chapters.faults(small()) == []


def edited(path, old, new):
    tree = small()
    assert old in tree[path]
    return tree | {path: tree[path].replace(old, new)}


WORDS = ["chapter", "Chapters", "appendix", "Ch.", "chapter\n", "chapter\n#", "chapter_", "chapter-"]


@pytest.mark.parametrize("word", WORDS)
@pytest.mark.parametrize("path", ["book/page.md", "book/claims.yml", "tests/test_it.py", "notebooks/01_one.ipynb"])
def test_a_typed_number_is_found(path, word):
    text = f"see {word} {3} there" if word[-1] not in "_-" else f"see {word}{3}"
    tree = small()
    tree[path] = notebook_of(text) if path.endswith(".ipynb") else f"{tree[path]}\n# {text}\n"
    (fault,) = [fault for fault in chapters.faults(tree) if "may change" in fault]
    assert fault.startswith(path)


@pytest.mark.parametrize(
    "text", ["this chapter has 3 parts", "chapters: 10 minutes", "Appendix As", "an appendix I like"]
)
def test_other_numbers_are_not(text):
    assert chapters.faults(small() | {"README.md": text}) == []


@pytest.mark.parametrize(
    ("path", "old", "new", "fault"),
    [
        ("_toc.yml", "02_two_words", "03_two_words", "03_two_words stands in the place of 02_two_words"),
        ("_toc.yml", "A_proofs", "B_proofs", "B_proofs stands in the place of A_proofs"),
        ("_toc.yml", "02_two_words", "02_Two", "the name 02_Two must be a number"),
        ("_toc.yml", "A_proofs", "A_one", "one is the name of 2 chapters"),
        ("_toc.yml", "02_two_words", "02_three", "_toc.yml lists 02_three, but notebooks/02_three.ipynb is missing"),
        ("_toc.yml", "02_two_words", "02_three", "notebooks/02_two_words.ipynb is not listed in _toc.yml"),
        (
            "notebooks/01_one.ipynb",
            "02_two_words",
            "03_two_words",
            "no notebook 03_two_words any more",
        ),
        ("notebooks/01_one.ipynb", "02_two_words", "02_none", "cell c1: links to 02_none.ipynb, which is missing"),
        ("notebooks/01_one.ipynb", "See", f"See {{chapter}}`{'proofs'}`", "cell c1: JupyterLab does not show"),
        (
            "book/page.md",
            "../notebooks",
            "notebooks",
            "page.md:1: links to notebooks/01_one.ipynb, which is missing",
        ),
        ("book/page.md", "`two-words`", "`two`", "book/page.md:1: no chapter is called 'two'"),
        ("book/page.md", "<two-words>", "<two>", "book/page.md:1: no chapter is called 'two'"),
        ("book/claims.yml", "chapter: one", "chapter: none", "book/claims.yml:6: no chapter is called 'none'"),
        ("book/claims.yml", "c1", "c9", "two-words has no cell c9"),
        ("book/claims.yml", "  chapter: two-words\n  cell: c1", "  cell: c1\n  chapter: one", "must follow its line"),
        ("book/colab-check.json", "two-words", "three", "no chapter is called 'three'"),
        ("tests/test_it.py", "two-words", "three", "tests/test_it.py:1: no chapter is called 'three'"),
        ("tests/test_it.py", "path", "02_two_words", "02_two_words has a number; in code call notebook("),
    ],
)
def test_each_fault_is_named_with_its_place(path, old, new, fault):
    assert any(fault in found for found in chapters.faults(edited(path, old, new)))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("parts:", "parts: ["),
        ("parts:", "things:"),
        ("- file: notebooks/01_one", "- file: notebooks/01_one\n        title: One"),
        ("- file: notebooks/01_one", '- "file": notebooks/01_one'),
        ("- file: notebooks/01_one", "- file: 5"),
    ],
)
def test_another_table_of_contents_is_refused(old, new):
    with pytest.raises(ValueError, match=r"_toc\.yml (has another shape than expected|must list each notebook once)"):
        chapters.faults(edited("_toc.yml", old, new))


def test_the_last_page_of_a_part_is_not_moved_away():
    with pytest.raises(ValueError, match="the part 'Appendices' has no page"):
        chapters.move(small(), "proofs", "one", after=True)


def test_a_broken_notebook_is_named():
    with pytest.raises(ValueError, match=r"notebooks/01_one\.ipynb is no notebook"):
        chapters.faults(small() | {"notebooks/01_one.ipynb": "{"})


places = st.tuples(st.sampled_from(["one", "two-words", "proofs"]), st.booleans())


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(["one", "two-words", "proofs"]), places), max_size=4))
def test_any_moves_leave_the_course_in_order(moves):
    tree = small()
    for slug, (anchor, after) in moves:
        if slug not in (anchor, "proofs") and anchor != "proofs":  # a part keeps its only page
            tree = chapters.move(tree, slug, anchor, after=after).tree
            assert chapters.faults(tree) == []
    assert len(chapters.listed(tree)) == 3


@settings(max_examples=50, deadline=None)
@given(st.sampled_from(["one", "two-words", "proofs"]), st.from_regex(chapters.SLUG, fullmatch=True))
def test_any_new_name_can_be_taken_back(slug, new):
    if new in ("one", "two-words", "proofs"):
        return
    renamed = chapters.rename(small(), slug, new).tree
    assert chapters.faults(renamed) == []
    assert chapters.rename(renamed, new, slug).tree == small()
