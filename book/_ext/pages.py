"""Finish every page after its template: icons are drawn, figures hold their places, slips in the markup are mended."""

import re

import figures
import icons
from sphinx.jinja2glue import BuiltinTemplateLoader

# What screen readers stumble over, in markup that other projects write into every book.
SLIPS = [
    (r' aria-label="Toggle hidden content"(?=>\s*<p)', ""),  # myst-nb: a summary has a text for its name
    (r' role="doc-biblioentry"', ' role="listitem"'),  # docutils: deprecated, and no child of a list
    (r'(?<=<div class="proof admonition") id="proof"', ""),  # sphinx-proof: the same id for every proof
    (r"<th(\b[^>]*)>(<p></p>)?</th>", r"<td\1></td>"),  # an empty cell is no heading
]


def mend(html: str) -> str:
    """The page without the slips."""
    for pattern, replacement in SLIPS:
        html = re.sub(pattern, replacement, html)
    return html


class Pages(BuiltinTemplateLoader):
    """The templates of the theme, as `template_bridge` in _config.yml."""

    def init(self, builder, theme=None, dirs=None) -> None:
        """Called by Sphinx, with the builder."""
        super().init(builder, theme, dirs)
        self.builder = builder

    def render(self, template: str, context: dict) -> str:
        """The text of one page."""
        return figures.hold_places(icons.draw(mend(super().render(template, context))), self.builder.images)
