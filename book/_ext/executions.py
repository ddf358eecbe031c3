"""The table of ```{executions}```: when each notebook was last executed, and how long it took, here and for Colab."""

import json
from datetime import datetime
from pathlib import Path

from docutils import nodes
from sphinx.util.docutils import SphinxDirective

from normcourse.paths import notebook

COLAB = "colab-check.json"  # beside the page; written by tools/colab_check.py
HEAD = ("Notebook", "Executed", "Minutes", "Minutes on Colab’s packages")


class Executions(SphinxDirective):
    """Placeholder for the table."""

    def run(self) -> list[nodes.Node]:
        """Leave a placeholder, which is filled when every notebook has been executed."""
        return [executions()]


class executions(nodes.General, nodes.Element):  # noqa: N801 - docutils finds visitors by this name
    """Stands where the table will stand."""


def minutes(seconds: float | None) -> str:
    """A duration as it is shown."""
    return "–" if seconds is None else f"{seconds / 60:.1f}"


def rows(app, docname: str) -> list[list[nodes.Node]]:
    """Cells of each notebook that was executed."""
    record = json.loads((Path(app.srcdir) / Path(docname).parent / COLAB).read_text(encoding="utf-8"))["notebooks"]
    colab = {app.env.path2doc(str(notebook(slug))): result["seconds"] for slug, result in record.items()}
    found = []
    for name, metadata in sorted(app.env.nb_metadata.items()):
        if not (data := metadata.get("exec_data")):
            continue
        number = ".".join(map(str, app.env.toc_secnumbers.get(name, {}).get("", ())))
        title = f"{number}. {app.env.titles[name].astext()}" if number else app.env.titles[name].astext()
        link = nodes.reference("", title, internal=True, refuri=app.builder.get_relative_uri(docname, name))
        day = datetime.fromtimestamp(data["mtime"]).strftime("%d\N{NO-BREAK SPACE}%b\N{NO-BREAK SPACE}%Y")
        found.append([link, *map(nodes.Text, (day, minutes(data["runtime"]), minutes(colab.get(name))))])
    return found


def row(cells: list[nodes.Node]) -> nodes.row:
    """A row of a table."""
    return nodes.row("", *[nodes.entry("", nodes.paragraph("", "", cell)) for cell in cells])


def fill_in(app, doctree, docname: str) -> None:
    """Put the table in its place."""
    for placeholder in list(doctree.findall(executions)):
        columns = [nodes.colspec(colwidth=1) for _ in HEAD]
        head = nodes.thead("", row([nodes.Text(name) for name in HEAD]))
        body = nodes.tbody("", *map(row, rows(app, docname)))
        group = nodes.tgroup("", *columns, head, body, cols=len(HEAD))
        placeholder.replace_self(nodes.table("", group, classes=["colwidths-auto"]))


def setup(app) -> dict:
    """Called by Sphinx."""
    app.add_directive("executions", Executions)
    app.add_node(executions)
    app.connect("doctree-resolved", fill_in)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
