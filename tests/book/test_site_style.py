"""The look of the site: its colours are those of the plots."""

import re
from pathlib import Path

from normlib.plotting import PALETTE

STYLE = Path(__file__).parents[2] / "book" / "_static" / "custom.css"


def test_the_site_has_the_colours_of_the_plots():
    declared = dict(re.findall(r"(?m)^  --(\w+): (#[0-9a-f]{6});$", STYLE.read_text(encoding="utf-8").split("}")[0]))
    assert declared == {name: colour.lower() for name, colour in PALETTE.items()}
