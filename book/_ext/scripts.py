"""Let the page be shown before its scripts are fetched: they all wait for it, in their order."""

AT_ONCE = "documentation_options.js"  # settings, to which a line in the page adds


def wait(app, pagename: str, templatename: str, context: dict, doctree) -> None:
    """Defer each script that has a file."""
    for script in context["script_files"]:
        if script.filename and not str(script.filename).endswith(AT_ONCE):
            script.attributes["defer"] = "defer"


def setup(app) -> dict:
    """Called by Sphinx."""
    app.connect("html-page-context", wait, priority=900)  # after each extension has named its scripts
    return {"parallel_read_safe": True, "parallel_write_safe": True}
