"""Chapters go by the number in their file name, and pages refer to them by name."""

import re

import chapter_numbers
import pytest
from sphinx.application import Sphinx
from sphinx.util.docutils import docutils_namespace

INDEX = """# Front

```{toctree}
:numbered: 1

notebooks/07_two_words
notebooks/B_proofs
```

See {chapter}`two-words`, {chapter}`proofs` and {chapter}`No. {number}, or so <two-words>`.
"""


@pytest.fixture
def build(tmp_path, monkeypatch):
    """Builds a small book with this text as its first page; gives that page and the warnings."""
    source = tmp_path / "source"
    (source / "notebooks").mkdir(parents=True)
    (source / "conf.py").write_text("extensions = ['myst_parser', 'chapter_numbers']\n", "utf-8")
    for stem in ("07_two_words", "B_proofs"):
        (source / f"notebooks/{stem}.md").write_text(f"# Title of {stem}\n", "utf-8")

    def notebook(slug):
        for path in source.glob("notebooks/*.md"):
            if path.stem.partition("_")[2].replace("_", "-") == slug:
                return path
        raise ValueError(f"no {slug}")

    monkeypatch.setattr(chapter_numbers, "notebook", notebook)
    # Sphinx is left as it was found: the extension puts its own step into a class of Sphinx's.
    collector = chapter_numbers.TocTreeCollector
    monkeypatch.setattr(collector, "assign_figure_numbers", collector.assign_figure_numbers)

    def build(text):
        (source / "index.md").write_text(text, "utf-8")
        warnings = tmp_path / "warnings"
        with docutils_namespace(), warnings.open("w") as stream:
            folders = (source, source, tmp_path / "out", tmp_path / "doctrees")
            Sphinx(*map(str, folders), "html", status=None, warning=stream).build()
        return (tmp_path / "out/index.html").read_text("utf-8"), warnings.read_text("utf-8")

    return build


def test_a_page_refers_to_a_chapter_by_name_and_shows_its_number(build):
    page, warnings = build(INDEX)
    links = re.findall(r'href="(notebooks/[^"]*)">(?:<span[^>]*>)?([^<]*)', page)
    assert warnings == ""
    assert ("notebooks/07_two_words.html", f"chapter {7}") in links
    assert ("notebooks/07_two_words.html", "No. 7, or so") in links
    assert ("notebooks/B_proofs.html", f"appendix {'B'}") in links
    assert ("notebooks/B_proofs.html", "B. Title of B_proofs") in links


def test_an_unknown_chapter_is_a_warning(build):
    _, warnings = build(f"{INDEX}\nSee {{chapter}}`nowhere`.\n")
    assert "index.md:12: ERROR: no nowhere" in warnings
