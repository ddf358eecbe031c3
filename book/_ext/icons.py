"""Draw icons as inline SVG, in place of the theme's script and fonts (0.5 MB for a dozen icons).

The theme and its extensions write `<i class="fa-solid fa-sun"></i>`; each such element becomes the drawing of that name
in book/public/vendor/icons. Style sheets use some drawings as `var(--icon-NAME)`, for `mask-image`.
"""

import re
from functools import cache
from pathlib import Path
from urllib.parse import quote

FOLDER = Path(__file__).resolve().parents[1] / "public" / "vendor" / "icons"
PLACE = re.compile(r'<(?P<tag>i|span) class="(?P<classes>[^"]*\bfa-[^"]*)"(?P<rest>[^>]*)></(?P=tag)>')
MODIFIERS = {"fa-solid", "fa-regular", "fa-brands", "fa-lg", "fa-fw"}
IN_STYLE_SHEETS = ("circle-info", "lightbulb", "pencil", "triangle-exclamation")


@cache
def drawing(name: str) -> str:
    """The SVG of this name, without the comment on its licence: LICENSE.txt beside it says the same."""
    path = FOLDER / f"{name}.svg"
    if not path.is_file():
        raise FileNotFoundError(
            f"a page shows the icon {name!r}, which is not in {FOLDER}: "
            "add it to vendor.json and run python tools/vendor.py refresh"
        )
    return re.sub(r"<!--.*?-->", "", path.read_text(encoding="utf-8"))


def draw(html: str) -> str:
    """The page with each icon's element replaced by its drawing."""

    def inline(match: re.Match) -> str:
        names = [word for word in match["classes"].split() if word.startswith("fa-") and word not in MODIFIERS]
        attributes = f'class="svg-icon {match["classes"]}" aria-hidden="true"{match["rest"]}'
        return drawing(names[0].removeprefix("fa-")).replace("<svg", f"<svg {attributes}", 1)

    return PLACE.sub(inline, html)


def write_style_sheet(app) -> None:
    """Give style sheets their drawings."""
    properties = [f'--icon-{name}: url("data:image/svg+xml,{quote(drawing(name))}");\n' for name in IN_STYLE_SHEETS]
    path = Path(app.outdir, "_static", "icons.css")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f":root {{\n{''.join(properties)}}}\n", encoding="utf-8")


def setup(app) -> dict:
    """Called by Sphinx."""
    app.add_css_file("icons.css")
    app.connect("builder-inited", write_style_sheet)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
