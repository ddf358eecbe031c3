"""Finish every page after its template: icons are drawn, figures hold their places, lines break where they may."""

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

BLOCK = re.compile(r"(?<=<pre><span></span>)(.*?)(?=</pre>)", re.DOTALL)  # code or output, as Pygments writes it
PERCENT = re.compile(r"<(pre|script)\b.*?</\1>|(?<=\d) %", re.DOTALL)  # what a block holds stays as it is
FORMULA = re.compile(r'([(\[“]*)(<span class="math notranslate nohighlight">[^<]*</span>)([^\s<]*)')


def mark_lines(block: re.Match) -> str:
    """The lines of a block as elements, so that a style sheet can say how one that is too long goes on."""
    lines = block[1].rstrip("\n").split("\n")
    gaps = [len(re.findall(r"\S {2,}(?=\S)", re.sub(r"<[^>]*>", "", line))) for line in lines]
    columns = [n > 1 or (n == 1 and max(gaps[max(i - 1, 0) : i + 2]) > 1) for i, n in enumerate(gaps)]
    return "\n".join(map(mark_line, lines, columns)) + "\n"


def mark_line(line: str, columns: bool) -> str:
    """A line that goes on a little further in than it begins, and says whether it is the row of a table."""
    text = re.sub(r"<[^>]*>", "", line)
    indent = len(text) - len(text.lstrip())
    classes = "line columns" if columns else "line"
    style = f' style="--hang: {indent + 2}ch"' if indent else ""
    line = re.sub(r"^((?:<[^>]*>)*)( +)", r'\1<span class="indent">\2</span>', line)
    return f'<span class="{classes}"{style}>{line}</span>'


def hold_together(formula: re.Match) -> str:
    """A formula within a sentence, and the brackets and stops that touch it: browsers would break a line there."""
    before, math, after = formula.groups()
    return f'<span class="unbroken">{formula[0]}</span>' if before or after else math


def mend(html: str) -> str:
    """The page without the slips, and with lines that break well."""
    for pattern, replacement in SLIPS:
        html = re.sub(pattern, replacement, html)
    html = PERCENT.sub(lambda match: match[0] if match[1] else "\u00a0%", html)
    return FORMULA.sub(hold_together, BLOCK.sub(mark_lines, html))


class Pages(BuiltinTemplateLoader):
    """The templates of the theme, as `template_bridge` in _config.yml."""

    def init(self, builder, theme=None, dirs=None) -> None:
        """Called by Sphinx, with the builder."""
        super().init(builder, theme, dirs)
        self.builder = builder

    def render(self, template: str, context: dict) -> str:
        """The text of one page."""
        return figures.hold_places(icons.draw(mend(super().render(template, context))), self.builder.images)
