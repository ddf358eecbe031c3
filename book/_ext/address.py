"""Tell search engines and other sites what a page is: description and title always, addresses once html.baseurl is set.

Without an address, pages name none, and there is no sitemap and no 404 page, whose links must be absolute.
"""

import re
from pathlib import Path
from urllib.parse import urlsplit

NOT_FOUND = {
    "title": "Page not found",
    "body": "<h1>Page not found</h1><p>There is no page at this address. The contents and the search will help.</p>",
}
WITHOUT_TEXT = ["404.html", "genindex.html", "prf-prf.html", "py-modindex.html", "search.html", "_modules/*"]


def use_address(app, config) -> None:
    """Give the extensions the one address, each in its own terms."""
    config.ogp_site_url = config.html_baseurl
    config.notfound_urls_prefix = urlsplit(config.html_baseurl).path
    config.notfound_context = NOT_FOUND
    config.sitemap_url_scheme = "{link}"  # one language, one version
    config.sitemap_excludes = WITHOUT_TEXT


def drop_address(app, pagename: str, templatename: str, context: dict, doctree) -> None:
    """Take the page's relative address from its metadata: it would mean nothing elsewhere."""
    if doctree:
        context["metatags"] = re.sub(r'<meta property="og:url"[^>]*>\n?', "", context["metatags"])


def write_robots(app, exception) -> None:
    """Let everything be read, and say where the sitemap is."""
    if exception is None and app.builder.format == "html":
        sitemap = f"Sitemap: {app.config.html_baseurl}sitemap.xml\n" if app.config.html_baseurl else ""
        Path(app.outdir, "robots.txt").write_text(f"User-agent: *\nAllow: /\n{sitemap}", encoding="utf-8")


def setup(app) -> dict:
    """Called by Sphinx."""
    app.setup_extension("sphinxext.opengraph")
    if app.config.html_baseurl:
        app.setup_extension("sphinx_sitemap")
        app.setup_extension("notfound.extension")
        app.connect("config-inited", use_address, priority=100)
    else:
        app.connect("html-page-context", drop_address, priority=900)
    app.connect("build-finished", write_robots)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
