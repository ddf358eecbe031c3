"""Number a chapter by its file name: the equations of notebooks/07_….ipynb are (7.1), (7.2), …, and appendices, such as
notebooks/A_….ipynb, go by their letter. tools/chapters.py keeps the file names in the order of _toc.yml.

Sphinx would count the chapters that are there, and a number in the book could differ from the one in the folder.

Pages of book/ refer to a chapter by its name without number, and get the number of today:

    {chapter}`norm-growth`                           a link: "chapter" or "appendix", and its number
    {chapter}`Chapter {number} <norm-growth>`        a link in words of one's own
"""

import re

from docutils import nodes
from sphinx import addnodes
from sphinx.environment.collectors.toctree import TocTreeCollector
from sphinx.util.docutils import ReferenceRole

from normcourse.paths import ROOT, notebook

assign_figure_numbers = TocTreeCollector.assign_figure_numbers


def number_in(docname: str) -> str:
    """``"7"`` for notebooks/07_…, ``"A"`` for notebooks/A_…; empty for any other page."""
    match = re.match(r"notebooks/0*(\d+|[A-Z])_", docname)
    return match[1] if match else ""


def chapter_name(number: str) -> str:
    """A chapter or an appendix as the text calls it."""
    return f"{'chapter' if number.isdigit() else 'appendix'} {number}"


def number_by_file_name(env) -> None:
    """Put the file name's number in place of the first part of each section number."""
    for docname, numbers in env.toc_secnumbers.items():
        chapter = number_in(docname)
        if not chapter:
            continue
        for anchor, number in numbers.items():
            numbers[anchor] = (chapter, *number[1:]) if number else number
        for node in [env.titles[docname], *env.tocs[docname].findall(nodes.reference)]:
            if node.get("secnumber"):
                node["secnumber"] = [chapter, *node["secnumber"][1:]]


def renumber_then_assign(self, env) -> list[str]:
    """Stand in for Sphinx's step between numbering sections and using their numbers for figures and equations."""
    number_by_file_name(env)
    return assign_figure_numbers(self, env)


class ChapterRole(ReferenceRole):
    """A link to a chapter, by its name without number."""

    def run(self) -> tuple[list[nodes.Node], list[nodes.system_message]]:
        """Build the link."""
        self.env.note_dependency(str(ROOT / "_toc.yml"))  # numbers change with it
        try:
            docname = self.env.path2doc(str(notebook(self.target)))
        except ValueError as error:
            message = self.inliner.reporter.error(str(error), line=self.lineno)
            return [self.inliner.problematic(self.rawtext, self.rawtext, message)], [message]
        number = number_in(docname)
        words = self.title.replace("{number}", number) if self.has_explicit_title else chapter_name(number)
        content = nodes.inline("", words, classes=["xref", "std", "std-doc"])
        kind = {"refdomain": "std", "reftype": "doc", "refdoc": self.env.docname, "refexplicit": True, "refwarn": True}
        return [addnodes.pending_xref("", content, reftarget=f"/{docname}", **kind)], []


def setup(app) -> dict:
    """Called by Sphinx."""
    TocTreeCollector.assign_figure_numbers = renumber_then_assign
    app.add_role("chapter", ChapterRole())
    return {"parallel_read_safe": True}
