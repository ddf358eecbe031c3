"""Make figures light: lossless WebP, loaded when they come near the screen, in a place of their size."""

import re
from functools import cache
from html import unescape
from pathlib import Path
from urllib.parse import unquote

from docutils import nodes
from PIL import Image


def shrink(source: Path, target: Path) -> None:
    """Write an image as lossless WebP, unless that was done before."""
    if target.is_file() and target.stat().st_mtime >= source.stat().st_mtime:
        return
    with Image.open(source) as image:
        flat = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image.convert("RGBA")).convert("RGB")
    part = target.with_suffix(".part")
    flat.save(part, "WEBP", lossless=True, quality=75, method=4)
    part.replace(target)


def shrink_all(app, doctree, docname: str) -> None:
    """Let a page show light copies of its PNG images."""
    if app.builder.format != "html":
        return
    folder = Path(app.doctreedir, "figures")
    folder.mkdir(parents=True, exist_ok=True)
    for image in doctree.findall(nodes.image):
        if not image["uri"].endswith(".png") or "://" in image["uri"]:
            continue
        source = Path(app.srcdir, image["uri"])
        target = folder / f"{source.stem}.webp"
        shrink(source, target)
        image["uri"], image["candidates"] = str(target), {"*": str(target)}
        app.env.images.add_file(docname, str(target))


@cache
def size(path: Path) -> tuple[int, int]:
    """Width and height in pixels."""
    with Image.open(path) as image:
        return image.size


def hold_places(html: str, images: dict[str, str]) -> str:
    """The page with lazy images; those of `images` (file names in _images/ and their sources) get their size."""
    sources = {name: Path(source) for source, name in images.items()}

    def complete(match: re.Match) -> str:
        source = sources.get(Path(unquote(unescape(match["src"]))).name)
        known = source and source.suffix == ".webp"
        measures = 'width="{0}" height="{1}" style="--width: {0}px" '.format(*size(source)) if known else ""
        return f'<img {measures}loading="lazy" decoding="async" {match["rest"]}'

    return re.sub(r'<img (?P<rest>[^>]*\bsrc="(?P<src>[^"]*/_images/[^"]*)")', complete, html)


def setup(app) -> dict:
    """Called by Sphinx."""
    app.connect("doctree-resolved", shrink_all, priority=900)  # after figures were copied to other pages
    return {"parallel_read_safe": True}
