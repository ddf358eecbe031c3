"""Finish every page after its template: icons are drawn, figures hold their places."""

import figures
import icons
from sphinx.jinja2glue import BuiltinTemplateLoader


class Pages(BuiltinTemplateLoader):
    """The templates of the theme, as `template_bridge` in _config.yml."""

    def init(self, builder, theme=None, dirs=None) -> None:
        """Called by Sphinx, with the builder."""
        super().init(builder, theme, dirs)
        self.builder = builder

    def render(self, template: str, context: dict) -> str:
        """The text of one page."""
        return figures.hold_places(icons.draw(super().render(template, context)), self.builder.images)
