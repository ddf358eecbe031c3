"""Show a chapter's figure on another page: ```{chapter-figure} fig-name``` with a caption of its own.

The figure is drawn once, by the chapter. The caption ends with a link to it there.
"""

from docutils import nodes
from sphinx.util import logging
from sphinx.util.docutils import SphinxDirective

logger = logging.getLogger(__name__)


class ChapterFigure(SphinxDirective):
    """Placeholder for the figure that its argument names; the content is the caption."""

    required_arguments = 1
    has_content = True

    def run(self) -> list[nodes.Node]:
        """Leave a placeholder that holds the caption."""
        placeholder = chapter_figure(figure=self.arguments[0])
        self.set_source_info(placeholder)
        placeholder += self.parse_content_to_nodes()
        return [placeholder]


class chapter_figure(nodes.General, nodes.Element):  # noqa: N801 - docutils finds visitors by this name
    """Stands where the figure will stand, until every chapter has been read."""


def fill_in(app, doctree, docname: str) -> None:
    """Put copies of the figures in the place of their names."""
    for placeholder in list(doctree.findall(chapter_figure)):
        name = placeholder["figure"]
        home, anchor, _ = app.env.domains["std"].labels.get(name, ("", "", ""))
        found = home and next((f for f in app.env.get_doctree(home).findall(nodes.figure) if anchor in f["ids"]), None)
        if not found:
            logger.warning("no chapter has a figure of the name %r", name, location=placeholder)
            placeholder.parent.remove(placeholder)
            continue
        number = ".".join(map(str, app.env.toc_fignumbers[home]["figure"][anchor]))
        target = f"{app.builder.get_relative_uri(docname, home)}#{anchor}"
        link = nodes.reference("", f"Figure\N{NO-BREAK SPACE}{number}", internal=True, refuri=target)
        caption = nodes.caption("", "", *placeholder[0].children, nodes.Text(" ("), link, nodes.Text(")"))
        image = next(found.findall(nodes.image)).deepcopy()
        placeholder.replace_self(nodes.figure("", image, caption, align="center", ids=[f"{name}-shown"]))


def setup(app) -> dict:
    """Called by Sphinx."""
    app.add_directive("chapter-figure", ChapterFigure)
    app.add_node(chapter_figure)
    app.connect("doctree-resolved", fill_in)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
