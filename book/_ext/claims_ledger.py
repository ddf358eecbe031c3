"""The page of the claims ledger (```{claims-ledger}```), and under each chapter the claims that it shows.

Statements and links come from book/claims.yml, verdicts and numbers are computed from results/ while the book is built.
"""

import hashlib
import html
import json
import math
from pathlib import Path

from chapter_numbers import chapter_name, number_in
from docutils import nodes
from sphinx import addnodes
from sphinx.util.docutils import SphinxDirective

from normcourse import claims
from normcourse.claims.evidence import written
from normcourse.paths import notebook

PAGE = "book/claims"
SOURCES = {
    "paper": "Claim of Draganov et al. (2025)",
    "predecessor": "Claim of Draganov et al. (2024)",
    "course": "Claim of this course",
}
WIDTH, HEIGHT = 120, 16  # of the small figures, in pixels


class ClaimsLedger(SphinxDirective):
    """All claims with their verdicts, under the headings of the file."""

    def run(self) -> list[nodes.Node]:
        """Build the page's content."""
        verdicts = claims.judge_all()
        counts = {word: sum(one.word == word for one in verdicts) for word in claims.VERDICTS}
        words = ", ".join(f"{count} {word}" for word, count in counts.items())
        content: list[nodes.Node] = [nodes.paragraph("", f"{len(verdicts)} claims: {words}.")]
        groups: dict[str, nodes.section] = {}
        for one in verdicts:
            group = one.claim.group
            if group not in groups:
                groups[group] = nodes.section("", nodes.title("", group), ids=[nodes.make_id(group)])
                content.append(groups[group])
            groups[group] += self.claim(one)
        return content

    def claim(self, verdict: claims.Verdict) -> nodes.container:
        """One claim: verdict, statement, numbers, and where they come from."""
        claim = verdict.claim
        anchor = f"claim-{claim.id}"
        self.env.domains["std"].anonlabels[anchor] = self.env.docname, anchor
        head = nodes.paragraph("", "", badge(verdict.word), nodes.strong("", claim.statement))
        box = nodes.container("", head, ids=[anchor], classes=["claim"])
        if claim.note:
            box += nodes.paragraph("", claim.note)
        if verdict.effects:
            box += numbers(verdict.effects)
        for effects, words in ((verdict.controls, "Positive control"), (verdict.accuracies, "The networks")):
            if effects:
                box += nodes.paragraph("", f"{words}:")
                box += numbers(effects)
        box += self.origin(claim)
        return box

    def origin(self, claim: claims.Claim) -> nodes.paragraph:
        """Who claims it, where it is shown, from which record, and what it would need."""
        line = nodes.paragraph("", f"{SOURCES[claim.source]}.", classes=["origin"])
        if claim.chapter:
            docname = self.env.path2doc(str(notebook(claim.chapter)))
            name = chapter_name(number_in(docname)) + (f", cell {claim.cell}" if claim.cell else "")
            line += [nodes.Text(" Shown in "), link(cell_label(docname, claim.cell), name), nodes.Text(".")]
        for i, record in enumerate(claim.records):
            line += [nodes.Text(", " if i else " Record: "), nodes.literal("", record)]
        if claim.records:
            line += [
                nodes.Text(". Again: "),
                nodes.literal("", f"normcourse reproduce --claim {claim.id}"),
                nodes.Text("."),
            ]
        if claim.needs:
            line += nodes.Text(f" To try it in full: {claim.needs}.")
        return line


def badge(word: str) -> nodes.inline:
    """A verdict."""
    return nodes.inline("", word, classes=["verdict", word.replace(" ", "-")])


def link(label: str, text: str) -> addnodes.pending_xref:
    """A link to a label that is known when all pages have been read."""
    content = nodes.inline("", text, classes=["std", "std-ref"])
    kind = {"refdomain": "std", "reftype": "ref", "reftarget": label, "refexplicit": True, "refwarn": True}
    return addnodes.pending_xref("", content, **kind)


def cell_label(docname: str, cell: str = "") -> str:
    """The label of a notebook's cell, or of the whole notebook. Two notebooks may have cells of the same id."""
    return f"{docname}/{cell}"


def numbers(effects: tuple[claims.Effect, ...]) -> nodes.bullet_list:
    """Each number with its interval, as words and as a small figure."""
    items = nodes.bullet_list()
    for effect in effects:
        seeds = f", {effect.repetitions} seeds" if effect.repetitions > 1 else ""
        wanted = f"; expected {expected(effect.part.expect)}" if asks(effect) else ""
        text = f"{effect.part.says}: {effect.as_words()}{seeds}{wanted}{settling(effect)} ".replace(
            " · ", "\u00a0·\u00a0"
        )
        figure = nodes.raw("", picture(effect), format="html")
        items += nodes.list_item("", nodes.paragraph("", "", nodes.Text(text), figure))
    return items


def asks(effect: claims.Effect) -> bool:
    """Whether something is expected of a number, which otherwise only describes."""
    return any(math.isfinite(value) for value in effect.part.expect.values())


def settling(effect: claims.Effect) -> str:
    """Of a number that is inconclusive: how wide its interval is, and how many repetitions would settle it."""
    scale, half = effect.part.found_on(), effect.half_width
    if effect.outcome != "inconclusive" or scale is None or not math.isfinite(half):
        return ""
    needed = math.ceil(effect.repetitions * (half / scale.delta) ** 2)
    return f"; half-width {written(half)}, and some {needed} seeds would make it δ = {written(scale.delta)}"


def expected(expect: dict[str, float]) -> str:
    """What a number should be, in words."""
    if "near" in expect:
        return f"{written(expect['near'])} ± {written(expect['within'])}"
    return " and ".join(f"{word} {written(value)}" for word, value in expect.items())


def picture(effect: claims.Effect) -> str:
    """An interval beside what was expected (the shaded range), as inline SVG; empty where there is no interval."""
    if not effect.low < effect.high < float("inf"):
        return ""
    if not asks(effect):
        return ""
    expect = effect.part.expect
    near, within = expect.get("near"), expect.get("within", 0)
    least = near - within if near is not None else expect.get("above")
    most = near + within if near is not None else expect.get("below")
    ends = [end for end in (effect.low, effect.high, least, most) if end is not None]
    margin = 0.15 * (max(ends) - min(ends))
    start, scale = min(ends) - margin, WIDTH / (max(ends) - min(ends) + 2 * margin)

    def x(value: float) -> str:
        return f"{(value - start) * scale:.1f}"

    left, right = (0 if least is None else float(x(least))), (WIDTH if most is None else float(x(most)))
    words = html.escape(f"{effect.as_words()}, expected {expected(expect)}")
    return (
        f'<svg class="interval" role="img" aria-label="{words}" width="{WIDTH}" height="{HEIGHT}" '
        f'viewBox="0 0 {WIDTH} {HEIGHT}"><rect x="{left:.1f}" y="0" width="{right - left:.1f}" height="{HEIGHT}"/>'
        f'<line x1="{x(effect.low)}" x2="{x(effect.high)}" y1="{HEIGHT / 2}" y2="{HEIGHT / 2}"/>'
        f'<circle cx="{x(effect.estimate)}" cy="{HEIGHT / 2}" r="3"/></svg>'
    )


def link_chapter(app, doctree: nodes.document) -> None:
    """Give each cell of a notebook an address, and end the chapter with the claims that it shows."""
    docname = app.env.docname
    path = Path(app.env.doc2path(docname))
    if path.suffix != ".ipynb":
        return
    labels = app.env.domains["std"].anonlabels
    labels[cell_label(docname)] = docname, ""
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    for node in doctree.findall(lambda node: isinstance(node, nodes.container) and "cell_index" in node):
        name = f"cell-{cells[node['cell_index']]['id']}"
        node["ids"].append(name)
        labels[cell_label(docname, cells[node["cell_index"]]["id"])] = docname, name
    shown = [one for one in claims.judge_all() if one.claim.chapter and notebook(one.claim.chapter) == path]
    if not shown or not (sections := [node for node in doctree.children if isinstance(node, nodes.section)]):
        return
    title = nodes.title("", "In the claims ledger")
    items = nodes.bullet_list()
    for one in shown:
        words = one.claim.statement.replace("'", "’")  # too late for Sphinx to set the quotes
        line = nodes.paragraph("", "", badge(one.word), nodes.Text(" "), link(f"claim-{one.claim.id}", words))
        items += nodes.list_item("", line)
    sections[-1] += nodes.section("", title, items, ids=["in-the-claims-ledger"], names=["in the claims ledger"])


def outdated(app, env, added, changed, removed) -> list[str]:
    """Read the pages with verdicts again when these have changed."""
    now = hashlib.sha256(json.dumps([claims.as_json(one) for one in claims.judge_all()]).encode()).hexdigest()
    before, env.claims_seen = getattr(env, "claims_seen", now), now
    if before == now:
        return []
    chapters = {env.path2doc(str(notebook(claim.chapter))) for claim in claims.ledger() if claim.chapter}
    return [name for name in (PAGE, *chapters) if name in env.found_docs]


def setup(app) -> dict:
    """Called by Sphinx."""
    app.add_directive("claims-ledger", ClaimsLedger)
    app.connect("doctree-read", link_chapter, priority=100)
    app.connect("env-get-outdated", outdated)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
