"""The chapters: their order, their numbers, and everything that refers to them.

    python tools/chapters.py list                                  numbers, slugs and titles, in order
    python tools/chapters.py check                                 exit 1 and name what is wrong (make lint runs it)
    python tools/chapters.py insert SLUG --after SLUG              an empty chapter
    python tools/chapters.py move SLUG --after SLUG                another place
    python tools/chapters.py split SLUG NEW_SLUG --at CELL_ID      this cell and all below it become a chapter
    python tools/chapters.py rename SLUG NEW_SLUG                  another name

`--before SLUG` does as well as `--after SLUG`, and appendices are chapters here. A chapter goes by its *slug*: the name
of its notebook without number and with hyphens, norm-growth for notebooks/NN_norm_growth.ipynb. Its number stands in
the name of its file, so that a folder shows the order, and `_toc.yml` lists the files. Nothing else repeats it:

- notebooks, which people also read in JupyterLab and Colab, link to the file with words: [chapter on norm growth](…);
- pages of book/ do the same, or have the number put in when they are built: {chapter}`norm-growth`;
- book/claims.yml and book/colab-check.json name the slug, and Python code calls notebook("norm-growth");
- everywhere else the chapter is named in words.

The commands rewrite file names, `_toc.yml`, links and slugs together. They change nothing unless all is in order before
and afterwards. Words in the prose are left to the author, and each command says what there is left to do.
"""

import argparse
import json
import posixpath
import re
import shutil
import string
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import repository
from atomic_write import write_whole

ROOT = Path(__file__).resolve().parents[1]
TOC, LEDGER, COLAB, SETUP = "_toc.yml", "book/claims.yml", "book/colab-check.json", "book/setup_cell.py"
APPENDICES = "Appendices"  # the part whose chapters have letters

# Where something could refer to a chapter.
FOLDERS = (
    *(".github", "assignments", "benchmarks", "book", "grading"),
    *("normcourse", "normlib", "notebooks", "tests", "tools"),
)
TEXTS = {".cff", ".css", ".ipynb", ".js", ".json", ".md", ".mjs", ".py", ".toml", ".txt", ".yaml", ".yml"}
OTHERS = {"__pycache__", ".ipynb_checkpoints", "node_modules", "vendor"}  # folders of what is not ours

SLUG = r"[a-z][a-z0-9]*(?:-[a-z0-9]+)*"
ENTRY = re.compile(r"(?m)^ *- file: notebooks/(?P<stem>\S+).*\n")
LINK = re.compile(r"\]\((?P<target>[^)\s#:]+\.ipynb)(?:#[^)]*)?\)")
ROLE = re.compile(r"\{chapter\}`(?:[^`<]*<)?(?P<slug>[^`<>]+)>?`")
CALL = re.compile(rf"\b(?:notebook|chapter_page)\((?P<quote>[\"'])(?P<slug>{SLUG})(?P=quote)\)")
CLAIM = re.compile(r"(?m)^ +chapter: (?P<slug>\S+)(?:\n +cell: (?P<cell>\S+))?$")
CHECKED = re.compile(r'(?m)^  "(?P<slug>[^"]+)": \{$')
BETWEEN = r"(?:[\s~_#-]|&nbsp;)+"
TYPED = re.compile(rf"(?:[Cc]h(?:apters?|\.)|[Aa]ppendi(?:x|ces)){BETWEEN}\d+\b|[Aa]ppendi(?:x|ces){BETWEEN}[A-HJ-Z]\b")

Tree = dict[str, str]  # the text of every file that could refer to a chapter, by its path from the root


class Chapter(NamedTuple):
    """A chapter in its place."""

    slug: str
    number: str  # as in the file name: "03", "A"

    @property
    def stem(self) -> str:
        """The name that its file must have, without ending."""
        return f"{self.number}_{self.slug.replace('-', '_')}"

    @property
    def path(self) -> str:
        """The file that it must be in."""
        return path_of(self.stem)


class Change(NamedTuple):
    """What a command makes of a tree, and which files moved."""

    tree: Tree
    moved: dict[str, str]  # new paths by old ones


def slug_of(stem: str) -> str:
    """The slug of a notebook's file name without ending.

    >>> slug_of("17_two_words")
    'two-words'
    """
    return stem.partition("_")[2].replace("_", "-")


def path_of(stem: str) -> str:
    """The file of a notebook."""
    return f"notebooks/{stem}.ipynb"


def read_tree(root: Path) -> Tree:
    """All files below `root` that could refer to a chapter."""
    files = [path for path in root.iterdir() if path.suffix in TEXTS or path.name == "Makefile"]
    files += [path for folder in FOLDERS for path in (root / folder).rglob("*") if path.suffix in TEXTS]
    wanted = sorted(path for path in files if path.is_file() and not OTHERS & set(path.relative_to(root).parts))
    return {path.relative_to(root).as_posix(): path.read_text(encoding="utf-8") for path in wanted}


def listed(tree: Tree) -> dict[str, Chapter]:
    """The chapters in the order of _toc.yml, by the names that their files have there."""
    import yaml  # here, because tools/colab_check.py takes `slug_of` from this module where PyYAML may be missing

    digits, letters = iter(range(1, 100)), iter(string.ascii_uppercase)
    found = {}
    try:
        for part in yaml.safe_load(tree[TOC])["parts"]:
            if not part["chapters"]:
                raise ValueError(f"the part {part['caption']!r} has no page")
            for entry in part["chapters"]:
                if not entry["file"].startswith("notebooks/"):
                    continue
                if entry.keys() != {"file"}:
                    raise ValueError(f"the entry of {entry['file']} must be one line, - file: {entry['file']}")
                number = next(letters) if part["caption"] == APPENDICES else f"{next(digits):02}"
                stem = entry["file"].removeprefix("notebooks/")
                found[stem] = Chapter(slug_of(stem), number)
    except (yaml.YAMLError, LookupError, TypeError, AttributeError, ValueError) as error:
        raise ValueError(f"{TOC} has another shape than expected: {type(error).__name__}: {error}") from error
    except StopIteration:
        raise ValueError(f"{TOC} lists more chapters than there are numbers, 01 to 99, or letters, A to Z") from None
    if [match["stem"] for match in ENTRY.finditer(tree[TOC])] != list(found):
        raise ValueError(f"{TOC} must list each notebook once, in a line of its own: - file: notebooks/NN_name")
    return found


def cells_of(path: str, text: str) -> list[dict]:
    """The cells of a notebook."""
    try:
        cells = json.loads(text)["cells"]
        return [{**cell, "id": cell["id"], "source": "".join(cell["source"])} for cell in cells]
    except (ValueError, LookupError, TypeError, RecursionError) as error:
        raise ValueError(f"{path} is no notebook: {type(error).__name__}: {error}") from error


# What is wrong


def faults(tree: Tree) -> list[str]:
    """All that is not in order, a line each."""
    chapters = listed(tree)
    slugs = {chapter.slug for chapter in chapters.values()}
    counts = Counter(chapter.slug for chapter in chapters.values())
    found = [f"{TOC}: {slug} is the name of {count} chapters" for slug, count in counts.items() if count > 1]
    for stem, chapter in chapters.items():
        if not re.fullmatch(SLUG, chapter.slug):
            found.append(f"{TOC}: the name {stem} must be a number, '_', and words in small letters joined by '_'")
        elif stem != chapter.stem:
            found.append(f"{TOC}: {stem} stands in the place of {chapter.stem}")
    there = {path for path in tree if path.startswith("notebooks/") and path.endswith(".ipynb")}
    found += [f"{path} is not listed in {TOC}" for path in sorted(there - set(map(path_of, chapters)))]
    found += [f"{TOC} lists {stem}, but {path_of(stem)} is missing" for stem in chapters if path_of(stem) not in there]
    for path, text in tree.items():
        found += [f"{place}: {fault}" for place, fault in faults_in(path, text, tree, set(chapters), slugs)]
    return found


def faults_in(path: str, text: str, tree: Tree, stems: set[str], slugs: set[str]) -> Iterator[tuple[str, str]]:
    """Where and how a file speaks of chapters as it should not."""
    page = path.endswith((".md", ".ipynb"))
    names = "|".join(re.escape(slug.replace("-", "_")) for slug in slugs)
    with_number = re.compile(rf"(?<![\w-])(?:\d+|[A-Z])_(?:{names})(?!\w)")
    for place, piece in pieces(path, text):

        def at(match: re.Match, place: str = place, piece: str = piece) -> str:
            return place or f"{path}:{piece.count(chr(10), 0, match.start()) + 1}"

        for match in TYPED.finditer(piece):
            words = " ".join(match[0].split())
            yield at(match), f"the number in {words!r} may change; name the chapter in words, or link to it"
        for match in with_number.finditer(piece) if path != TOC else ():
            if not page:
                yield at(match), f'{match[0]} has a number; in code call notebook("{slug_of(match[0])}")'
            elif match[0] not in stems:
                yield at(match), f"there is no notebook {match[0]} any more"
        for match in LINK.finditer(piece) if page else ():
            target = posixpath.normpath(posixpath.join(posixpath.dirname(path), match["target"]))
            if target not in tree:
                yield at(match), f"links to {match['target']}, which is missing"
        if path.endswith(".ipynb"):
            for match in ROLE.finditer(piece):
                yield at(match), f"JupyterLab does not show {match[0]}; link to the notebook instead"
            continue
        for match in references(path, piece):
            if match["slug"] not in slugs:
                yield at(match), f"no chapter is called {match['slug']!r}; there are {', '.join(sorted(slugs))}"
    if path == LEDGER:
        yield from faults_of_claims(text, tree)


def pieces(path: str, text: str) -> Iterator[tuple[str, str]]:
    """The texts of a file, each with its place; without one, the text is the whole file."""
    if not path.endswith(".ipynb"):
        yield "", text
        return
    for cell in cells_of(path, text):
        yield f"{path}, cell {cell['id']}", cell["source"]
        for output in cell.get("outputs", ()):
            data = output.get("data", {})
            shown = (output.get("text", ""), data.get("text/plain", ""), data.get("text/html", ""))
            yield f"{path}, output of cell {cell['id']}", "\n".join("".join(lines) for lines in shown)


def patterns(path: str) -> list[re.Pattern]:
    """How a file refers to a slug."""
    if path in (LEDGER, COLAB):
        return [CLAIM if path == LEDGER else CHECKED]
    return {".md": [ROLE], ".py": [CALL]}.get(posixpath.splitext(path)[1], [])


def references(path: str, text: str) -> Iterator[re.Match]:
    """The places of a file that refer to a slug."""
    for pattern in patterns(path):
        yield from pattern.finditer(text)


def faults_of_claims(text: str, tree: Tree) -> Iterator[tuple[str, str]]:
    """Claims that name a cell which their chapter does not have."""
    paths = {chapter.slug: path_of(stem) for stem, chapter in listed(tree).items()}
    ids = {slug: {cell["id"] for cell in cells_of(path, tree[path])} for slug, path in paths.items() if path in tree}
    claims = list(CLAIM.finditer(text))
    for claim in claims:
        if claim["cell"] and claim["cell"] not in ids.get(claim["slug"], ()):
            yield LEDGER, f"{claim['slug']} has no cell {claim['cell']}"
    if len(re.findall(r"(?m)^ +cell: ", text)) != sum(bool(claim["cell"]) for claim in claims):
        yield LEDGER, "the line 'cell: …' of a claim must follow its line 'chapter: …'"


# The commands, each from a tree to another


def insert(tree: Tree, slug: str, anchor: str, *, after: bool) -> Change:
    """An empty chapter beside another one."""
    refuse_taken(tree, slug)
    stem, anchor_stem = f"00_{slug.replace('-', '_')}", stem_of(tree, anchor)
    beside = json.loads(tree[path_of(anchor_stem)])
    metadata = {key: value for key, value in beside["metadata"].items() if key != "widgets"}
    kind = "chapter" if listed(tree)[anchor_stem].number.isdigit() else "appendix"
    notebook = written(beside | {"cells": [title(slug, kind)], "metadata": metadata})
    content = repository.fill_notebook(notebook, tree[SETUP])
    return renumbered(tree | {path_of(stem): content, TOC: with_line(tree, stem, anchor_stem, after)})


def move(tree: Tree, slug: str, anchor: str, *, after: bool) -> Change:
    """A chapter at another place."""
    stem, anchor_stem = stem_of(tree, slug), stem_of(tree, anchor)
    if slug == anchor:
        raise ValueError(f"{slug} cannot be moved beside itself; name another chapter")
    (line,) = (match[0] for match in ENTRY.finditer(tree[TOC]) if match["stem"] == stem)
    without = tree | {TOC: tree[TOC].replace(line, "")}
    return renumbered(tree | {TOC: with_line(without, stem, anchor_stem, after)})


def split(tree: Tree, slug: str, new: str, cell: str) -> Change:
    """The cells of a chapter from `cell` on as a chapter of their own, after it."""
    refuse_taken(tree, new)
    stem, new_stem = stem_of(tree, slug), f"00_{new.replace('-', '_')}"
    notebook = json.loads(tree[path_of(stem)])
    cells = notebook["cells"]
    ids = [each["id"] for each in cells]
    if ids.count(cell) != 1:
        raise ValueError(f"{slug} has {ids.count(cell)} cells {cell!r}, expected one; its cells: {', '.join(ids)}")
    set_up = [i for i, each in enumerate(cells) if repository.SETUP_TAG in each["metadata"].get("tags", [])]
    if ids.index(cell) <= max([0, *set_up]):
        raise ValueError(f"{cell!r} is in the head of {slug}: title and set-up cell stay, cut at a cell below them")
    first, second = cells[: ids.index(cell)], cells[ids.index(cell) :]
    head = title(new, "chapter" if listed(tree)[stem].number.isdigit() else "appendix")
    changed = {
        path_of(stem): written(notebook | {"cells": first}),
        path_of(new_stem): repository.fill_notebook(written(notebook | {"cells": [head, *second]}), tree[SETUP]),
        TOC: with_line(tree, new_stem, stem, after=True),
    }
    moved_cells = {each["id"] for each in second}

    def follow(claim: re.Match) -> str:
        here = claim["slug"] == slug and claim["cell"] in moved_cells
        return claim[0].replace(f"chapter: {slug}", f"chapter: {new}") if here else claim[0]

    return renumbered(tree | changed | {LEDGER: CLAIM.sub(follow, tree[LEDGER])})


def rename(tree: Tree, slug: str, new: str) -> Change:
    """A chapter under another slug."""
    refuse_taken(tree, new)
    stem = stem_of(tree, slug)

    def with_new_slug(match: re.Match) -> str:
        start, end = match.start("slug") - match.start(), match.end("slug") - match.start()
        return match[0][:start] + new + match[0][end:] if match["slug"] == slug else match[0]

    changed = dict(tree)
    for path in tree:
        for pattern in patterns(path):
            changed[path] = pattern.sub(with_new_slug, changed[path])
    return with_stems(changed, {stem: Chapter(new, stem.partition("_")[0]).stem})


def renumbered(tree: Tree) -> Change:
    """Every chapter with the number of its place in _toc.yml."""
    return with_stems(tree, {stem: chapter.stem for stem, chapter in listed(tree).items() if stem != chapter.stem})


def with_stems(tree: Tree, stems: dict[str, str]) -> Change:
    """The tree with other names of notebooks, given by the old ones, in all places that name them."""
    if not stems:
        return Change(tree, {})
    pattern = re.compile(rf"(?<![\w-])(?:{'|'.join(map(re.escape, stems))})(?!\w)")
    moved = {path_of(old): path_of(new) for old, new in stems.items()}
    texts = {
        path: pattern.sub(lambda match: stems[match[0]], text) if any(stem in text for stem in stems) else text
        for path, text in tree.items()
    }
    return Change({moved.get(path, path): text for path, text in texts.items()}, moved)


def refuse_taken(tree: Tree, slug: str) -> None:
    """Raise a ValueError unless a new chapter can have this slug."""
    if not re.fullmatch(SLUG, slug):
        raise ValueError(f"the new slug is {slug!r}, expected small letters and digits in words joined by '-'")
    if slug in {chapter.slug for chapter in listed(tree).values()}:
        raise ValueError(f"the new slug is {slug!r}, which is the name of a chapter already")


def stem_of(tree: Tree, slug: str) -> str:
    """The file name, without ending, of the chapter with this slug."""
    stems = {chapter.slug: stem for stem, chapter in listed(tree).items()}
    if slug not in stems:
        raise ValueError(f"no chapter is called {slug!r}; there are {', '.join(stems)}")
    return stems[slug]


def with_line(tree: Tree, stem: str, anchor: str, after: bool) -> str:
    """The text of _toc.yml with a line for a notebook beside the line of another."""
    (line,) = (match for match in ENTRY.finditer(tree[TOC]) if match["stem"] == anchor)
    place = line.end() if after else line.start()
    indent = line[0].partition("-")[0]
    return f"{tree[TOC][:place]}{indent}- file: notebooks/{stem}\n{tree[TOC][place:]}"


def title(slug: str, kind: str) -> dict:
    """The first cell of a new chapter or appendix."""
    lines = [
        f"# {slug.replace('-', ' ').capitalize()}",
        "",
        "*The question that is answered here?*",
        "",
        f"```{{admonition}} This {kind}",
        ":class: note",
        "",
        "**Objectives**",
        "- What the reader will be able to do.",
        "",
        "**Prerequisites** What the reader needs.",
        "",
        "**Minutes** How long it takes on a CPU, a T4 and an H100-class GPU.",
        "```",
    ]
    source = "\n".join(lines).splitlines(keepends=True)
    return {"cell_type": "markdown", "id": "title", "metadata": {}, "source": source}


def written(notebook: dict) -> str:
    """A notebook as Jupyter writes it."""
    return json.dumps(notebook, indent=1, ensure_ascii=False) + "\n"


# From a tree to files


def apply(root: Path, before: Tree, change: Change) -> None:
    """Move and write the files; what cannot be finished is undone."""
    was = {new: old for old, new in change.moved.items()}
    texts = {path: text for path, text in change.tree.items() if text != before.get(was.get(path, path))}
    known = {old: new for old, new in change.moved.items() if old in before}
    done: list[Callable[[], None]] = []
    try:
        for old, new in known.items():
            rename_file(root, old, new)
            done.append(lambda old=old, new=new: rename_file(root, new, old))
        for path, text in texts.items():
            earlier = before.get(was.get(path, path))
            write_whole(root / path, text, mode=0o644 if earlier is None else None)
            if earlier is None:
                done.append((root / path).unlink)
            else:
                done.append(lambda path=path, earlier=earlier: write_whole(root / path, earlier))
    except (OSError, KeyboardInterrupt):
        for undo in reversed(done):
            undo()
        raise


def rename_file(root: Path, old: str, new: str) -> None:
    """Rename a file, for git too where git knows it."""
    git = ["git", "-C", str(root)]
    in_git = (root / ".git").exists() and shutil.which("git")
    if in_git and not subprocess.run([*git, "ls-files", "--error-unmatch", old], capture_output=True).returncode:
        run = subprocess.run([*git, "mv", old, new], capture_output=True, text=True)
        if run.returncode:
            raise OSError(f"git mv {old} {new}: {run.stderr.strip()}")
    else:
        (root / old).rename(root / new)


def titles(tree: Tree) -> Iterator[str]:
    """A line for each chapter."""
    for stem, chapter in listed(tree).items():
        first = cells_of(path_of(stem), tree[path_of(stem)])[0]["source"]
        yield f"{chapter.number.lstrip('0'):>2}  {chapter.slug:26}  {first.partition(chr(10))[0].removeprefix('# ')}"


def mentions(tree: Tree, slug: str) -> str:
    """The files that refer to a chapter, its own left out."""
    stem = stem_of(tree, slug)
    link = re.compile(rf"(?<![\w-]){stem}(?!\w)")
    found = (
        path
        for path, text in tree.items()
        if link.search(text) or any(match["slug"] == slug for match in references(path, text))
    )
    return ", ".join(path for path in found if path not in (TOC, path_of(stem))) or "none"


def left_to_do(chosen: argparse.Namespace, tree: Tree) -> Iterator[str]:
    """What the author must still do after a command."""
    if chosen.command in ("insert", "split"):
        new = chosen.slug if chosen.command == "insert" else chosen.new
        yield f"write the head of {path_of(stem_of(tree, new))}: title, question, objectives, prerequisites, minutes"
        yield "give the chapter its place on the map in book/welcome.md and its page in book/summaries.md"
    if chosen.command == "split":
        yield "give the second notebook its imports, and both of them warm-ups, exercises and a summary"
        yield f"see who refers to {chosen.slug} and means {chosen.new} now: {mentions(tree, chosen.slug)}"
    if chosen.command == "rename":
        yield f"see what others call the chapter in words: {mentions(tree, chosen.new)}"
    if chosen.command == "move":
        yield f"read again what {chosen.slug} takes as known, and who refers to it: {mentions(tree, chosen.slug)}"
        yield "put the map in book/welcome.md and the pages of book/summaries.md into the new order"
    if chosen.command in ("insert", "split"):
        yield "make outputs, then make check"


def parsed(arguments: list[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("list")
    commands.add_parser("check")
    for name in ("insert", "move"):
        command = commands.add_parser(name)
        command.add_argument("slug", metavar="SLUG")
        place = command.add_mutually_exclusive_group(required=True)
        place.add_argument("--after", metavar="SLUG")
        place.add_argument("--before", metavar="SLUG")
    for name in ("split", "rename"):
        command = commands.add_parser(name)
        command.add_argument("slug", metavar="SLUG")
        command.add_argument("new", metavar="NEW_SLUG")
        if name == "split":
            command.add_argument("--at", required=True, metavar="CELL_ID")
    return parser.parse_args(arguments)


def changed_by(chosen: argparse.Namespace, tree: Tree) -> Change:
    """What the chosen command makes of the tree, which must be in order before and afterwards.

    README.md links to the first chapter, whichever that is.
    """
    if wrong := faults(tree):
        raise ValueError("first put in order what tools/chapters.py check names:\n" + "\n".join(wrong))
    if chosen.command in ("insert", "move"):
        command = {"insert": insert, "move": move}[chosen.command]
        change = command(tree, chosen.slug, chosen.after or chosen.before, after=bool(chosen.after))
    elif chosen.command == "split":
        change = split(tree, chosen.slug, chosen.new, chosen.at)
    else:
        change = rename(tree, chosen.slug, chosen.new)
    first, *_ = (chapter for chapter in listed(change.tree).values() if chapter.number.isdigit())
    address = repository.read_address(tree["pyproject.toml"])
    readme = repository.fill_readme(change.tree["README.md"], address, f"{first.stem}.ipynb")
    change = Change(change.tree | {"README.md": readme}, change.moved)
    if wrong := faults(change.tree):
        raise ValueError("the result would not be in order:\n" + "\n".join(wrong))
    return change


def main(arguments: list[str] | None = None) -> int:
    """Run one of the commands; returns the exit status."""
    chosen = parsed(arguments)
    try:
        tree = read_tree(ROOT)
        if chosen.command == "list":
            print("\n".join(titles(tree)))
            return 0
        if chosen.command == "check":
            wrong = faults(tree)
            print("\n".join(wrong), end="\n" if wrong else "")
            return int(bool(wrong))
        change = changed_by(chosen, tree)
        apply(ROOT, tree, change)
    except (OSError, ValueError, LookupError) as error:
        print(f"Nothing was changed: {error}", file=sys.stderr)
        return 2
    for old, new in change.moved.items():
        print(f"{old} -> {new}" if old in tree else f"new: {new}")
    print("\n".join(f"Left to do: {what}." for what in left_to_do(chosen, change.tree)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
