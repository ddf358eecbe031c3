"""Number a chapter by its file name: notebooks/07_….ipynb is chapter 7, its equations are (7.1), (7.2), …; appendices
(notebooks/A_….ipynb) go by their letter.

Sphinx counts the chapters that are there, so that a chapter's number, and every reference to it, would change with each
one that is added before it.
"""

import re

from docutils import nodes
from sphinx.environment.collectors.toctree import TocTreeCollector

assign_figure_numbers = TocTreeCollector.assign_figure_numbers


def number_by_file_name(env) -> None:
    """Put the file name's number in place of the first part of each section number."""
    for docname, numbers in env.toc_secnumbers.items():
        match = re.match(r"notebooks/0*(\d+|[A-Z])_", docname)
        if not match:
            continue
        chapter = match[1]
        for anchor, number in numbers.items():
            numbers[anchor] = (chapter, *number[1:]) if number else number
        for node in [env.titles[docname], *env.tocs[docname].findall(nodes.reference)]:
            if node.get("secnumber"):
                node["secnumber"] = [chapter, *node["secnumber"][1:]]


def renumber_then_assign(self, env) -> list[str]:
    """Stand in for Sphinx's step between numbering sections and using their numbers for figures and equations."""
    number_by_file_name(env)
    return assign_figure_numbers(self, env)


def setup(app) -> dict:
    """Called by Sphinx."""
    TocTreeCollector.assign_figure_numbers = renumber_then_assign
    return {"parallel_read_safe": True}
