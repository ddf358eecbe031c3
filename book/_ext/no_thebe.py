"""Keep sphinx-thebe out of the pages.

Jupyter Book always loads it. Nothing here uses it, and its script is emitted twice, which is an error on every page.
"""


def disconnect_thebe(app, config) -> None:
    """Remove all that the extension hooked into the build."""
    for listeners in app.events.listeners.values():
        for listener in list(listeners):
            if listener.handler.__module__.split(".")[0] == "sphinx_thebe":
                app.disconnect(listener.id)
    app.registry.css_files[:] = [entry for entry in app.registry.css_files if entry[0] != "sphinx-thebe.css"]


def setup(app) -> dict:
    """Called by Sphinx."""
    app.connect("config-inited", disconnect_thebe)
    return {"parallel_read_safe": True}
