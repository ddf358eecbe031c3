"""Keep the still image beside a figure to move: myst-nb would show only the richest form of an output.

The still is what a page shows in print, without JavaScript and until the figure moves.
"""

from docutils import nodes
from sphinx.transforms.post_transforms import SphinxPostTransform

VIEW, STILL = "application/vnd.jupyter.widget-view+json", "image/png"


class KeepStill(SphinxPostTransform):
    """Put the image of an output into its moving form."""

    default_priority = 3  # just before myst-nb chooses

    def run(self, **kwargs) -> None:
        """Called by Sphinx."""
        for bundle in self.document.findall(nodes.container):
            if bundle.get("nb_element") != "mime_bundle":
                continue
            forms = {form["mime_type"]: form for form in bundle.children}
            if VIEW in forms and STILL in forms:
                forms[VIEW].insert(0, nodes.container("", *forms[STILL].children, classes=["explorable-still"]))


def setup(app) -> dict:
    """Called by Sphinx."""
    app.add_post_transform(KeepStill)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
